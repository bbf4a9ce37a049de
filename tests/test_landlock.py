"""Level B: what sandlock and the run's own filter hold, without namespaces."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from memory.errors import SandboxError
from sandbox import landlock, seccomp
from sandbox.boundary import Isolation, Limits, Mount, Run
from sandbox.landlock import Landlock, no_changes
from sandbox.processes import is_alive
from tests.boxes import Box

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def boundary() -> Isolation:
    found = Landlock().find()
    if not found:
        pytest.skip("sandlock is not installed, or the kernel's Landlock is older than ABI 6")
    return found[0]


@pytest.fixture
def box(boundary: Isolation, tmp_path: Path) -> Box:
    return Box(boundary, tmp_path)


def test_an_old_kernel_or_no_package_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 5)
    assert Landlock().find() == []
    monkeypatch.setattr(landlock, "abi", lambda: 6)
    monkeypatch.setattr(landlock, "DISTRIBUTION", "a_package_that_is_not_there")
    assert Landlock().find() == []


def test_sandlock_is_loaded_only_where_a_run_starts() -> None:
    code = "import sandbox.isolation, sys; print('sandlock' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


@pytest.mark.parametrize("machine", sorted(seccomp.TABLES))
def test_every_processor_of_the_first_filter_has_a_second(machine: str) -> None:
    steps = no_changes(machine)
    assert len(steps) % 8 == 0
    assert steps[-8:] == b"\x06\x00\x00\x00\x00\x00\xff\x7f"


def test_a_run_sees_its_places_and_named_variables_alone(box: Box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "case").write_text("image")
    ended = box.run(
        """
        import json, os
        places = json.loads(os.environ.pop("SEGWRIGHT_PLACES"))
        print(open(places["/data"] + "/case").read())
        open(places["/out"] + "/made", "w").write("x")
        open(os.environ["TMPDIR"] + "/made", "w").write("x")
        print(os.getcwd() == os.environ["HOME"] == places["/tmp"], os.environ["GIVEN"])
        print(sorted(os.environ))
        """,
        mounts=(Mount(tmp_path / "data", "/data"),),
        env={"GIVEN": "/data/case"},
    )
    content, same, names = box.said().splitlines()
    assert (ended.cause, ended.code, ended.start) == ("exited", 0, "cold")
    assert content == "image"
    assert same == f"True {tmp_path}/data/case"
    assert "PATH" in names
    assert not {n for n in os.environ if n.startswith("PYTEST")} & set(names.split("'"))
    assert (box.out / "made").exists()
    assert 0 < ended.cpu_seconds < 10


def test_nothing_else_can_be_read_or_written(box: Box, tmp_path: Path) -> None:
    (tmp_path / "label").write_text("the secret")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "case").write_text("image")
    box.run(
        f"""
        import os
        data = "{tmp_path}/data"
        for act in (
            lambda: print(open("{tmp_path}/label").read()),
            lambda: print(os.listdir("{tmp_path}")),
            lambda: print(os.listdir(os.path.expanduser("~root"))),
            lambda: print(open("/proc/{os.getpid()}/cmdline").read()),
            lambda: open(data + "/case", "a").write("x"),
            lambda: os.rename(data + "/case", data + "/other"),
            lambda: open("/tmp/left-by-a-run", "w"),
            lambda: os.kill({os.getpid()}, 0),
        ):
            try:
                act()
                print("DONE")
            except OSError:
                print("denied")
        """,
        mounts=(Mount(tmp_path / "data", "/data"),),
    )
    assert box.said().split() == ["denied"] * 8


def test_modes_and_times_stay_and_programs_that_set_them_go_on(box: Box, tmp_path: Path) -> None:
    case = tmp_path / "case"
    case.write_text("image")
    case.chmod(0o644)
    before = case.stat()
    ended = box.run(
        f"""
        import os, shutil
        os.chmod("{case}", 0o777)
        os.utime("{case}", (1, 1))
        shutil.copy2("{case}", "{box.out}/copy")
        try:
            os.setxattr("{case}", "user.mark", b"x")
        except OSError:
            print("refused")
        """,
        mounts=(Mount(case, "/case"),),
    )
    after = case.stat()
    assert ended.code == 0, box.said()
    assert "refused" in box.said()
    assert stat.S_IMODE(after.st_mode) == 0o644
    assert after.st_mtime_ns == before.st_mtime_ns
    assert (box.out / "copy").read_text() == "image"


def test_shared_memory_is_the_runs_own(box: Box) -> None:
    theirs = SHARED_MEMORY / "of-another-program"
    theirs.write_text("theirs")
    before = {path.name for path in SHARED_MEMORY.iterdir()}
    try:
        box.run(
            """
            import multiprocessing, os
            from multiprocessing.shared_memory import SharedMemory
            one = SharedMemory("mine", create=True, size=100)
            other = SharedMemory("mine")
            one.buf[0] = 7
            print(other.buf[0], multiprocessing.Lock().acquire())
            open("/dev/shm/left", "w").write("x")
            for path in ("/dev/shm/of-another-program", "/dev/shm/../shm/of-another-program"):
                try:
                    print(open(path).read())
                except OSError:
                    print("denied")
            for act in (lambda: os.listdir("/dev/shm"),
                        lambda: os.symlink("/etc/passwd", "/dev/shm/link"),
                        lambda: os.link("/dev/shm/left", os.environ["TMPDIR"] + "/out")):
                try:
                    print("DONE", act())
                except OSError:
                    print("denied")
            other.close()
            one.close()
            one.unlink()
            """
        )
    finally:
        theirs.unlink()
    assert box.said().split() == ["7", "True", *["denied"] * 5]
    assert {path.name for path in SHARED_MEMORY.iterdir()} <= before


def test_a_run_cannot_take_back_what_it_printed(box: Box) -> None:
    box.run(
        """
        import os
        print("said", flush=True)
        for path in ("/proc/self/fd/1", "/proc/self/fd/2", "/dev/shm/ the log"):
            try:
                os.open(path, os.O_WRONLY | os.O_TRUNC)
                print("OPENED", path)
            except OSError:
                pass
        """
    )
    assert box.said() == "said\n"


def test_privileges_and_limits(box: Box) -> None:
    box.run(
        """
        import resource
        fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print({int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")}
              if __import__("os").getuid() == 0 else {0})
        print(fields["NoNewPrivs"].strip(), fields["Seccomp"].strip())
        for name in ("CORE", "NOFILE", "FSIZE", "CPU"):
            print(resource.getrlimit(getattr(resource, "RLIMIT_" + name)))
        """,
        limits=Limits(wall_s=20, cpu_s=5, open_files=99, file_mib=1),
    )
    assert box.said().splitlines() == [
        *("{0}", "1 2", "(0, 0)", "(99, 99)", f"({1 << 20}, {1 << 20})", "(5, 5)")
    ]


def test_two_runs_at_once(boundary: Isolation, tmp_path: Path) -> None:
    runs = []
    for name in ("one", "other"):
        log = tmp_path / name
        log.touch()
        argv = [sys.executable, "-I", "-c", f"import time; time.sleep(1); print({name!r})"]
        runs.append((Landlock().start(boundary, Run(argv, [], log)), log))
    for run, log in runs:
        assert run.poll(20) == 0, run.fault()
        run.end()
        assert log.read_text() == f"{log.name}\n"


def test_a_signal_and_an_exit_code_are_told(box: Box) -> None:
    assert box.run("import os; os.kill(os.getpid(), 11)").code == -signal.SIGSEGV
    assert box.run("raise SystemExit(41)").code == 41


def test_a_boundary_that_cannot_be_built_is_no_failure_of_the_run(box: Box, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="could not be set up"):
        box.run("print('here')", mounts=(Mount(tmp_path / "missing", "/data"),))
    assert "here" not in box.said()


def test_the_end_of_the_supervisor_is_the_end_of_the_run(
    boundary: Isolation, tmp_path: Path
) -> None:
    inside = textwrap.dedent(
        """
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            os.fork()
            print("up", flush=True)
        time.sleep(60)
        """
    )
    program = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from sandbox.boundary import Run
        from sandbox.landlock import Landlock
        run = Run([sys.executable, "-I", "-c", {inside!r}], [], Path({str(tmp_path / "log")!r}))
        started = Landlock().start(Landlock().find()[0], run)
        while started.poll(0.1) is None:
            print(*started.pids(), started.scratch, flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        deadline = time.monotonic() + 20
        words: list[str] = []
        while len(words) < 5 and time.monotonic() < deadline:
            words = supervisor.stdout.readline().split()
        supervisor.kill()
    pids, scratch = [int(word) for word in words[:-1]], Path(words[-1])
    assert len(pids) == 4, words  # the keeper, the run and two that it started
    deadline = time.monotonic() + 5
    while (any(map(is_alive, pids)) or scratch.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if is_alive(pid)]
    assert not scratch.exists()


@pytest.mark.slow
def test_workers_of_a_data_loader_share_memory(box: Box) -> None:
    ended = box.run(
        """
        import torch, torch.multiprocessing
        import nnunetv2.training.nnUNetTrainer.nnUNetTrainer
        from torch.utils.data import DataLoader, TensorDataset
        data = TensorDataset(torch.ones(32, 8))
        for how in ("file_descriptor", "file_system"):
            torch.multiprocessing.set_sharing_strategy(how)
            batches = DataLoader(data, batch_size=4, num_workers=2)
            print(how, sum(float(batch.sum()) for batch, in batches))
        """,
        limits=Limits(wall_s=180),
    )
    assert ended.code == 0, box.said()
    assert "file_descriptor 256.0\nfile_system 256.0" in box.said()
