"""Level D: no boundary, yet clean variables, limits, and nothing left behind."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from memory.errors import SandboxError
from sandbox.boundary import Limits, Mount
from sandbox.isolation import unsafe
from sandbox.processes import is_alive
from sandbox.uncontained import Uncontained
from sandbox.watch import contain
from tests.boxes import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(unsafe("to test what is left without a boundary"), tmp_path)


def test_it_is_never_found() -> None:
    assert Uncontained().find() == []


def test_named_variables_and_closed_descriptors(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "hunter2")
    secret = os.open(tmp_path / "log.txt", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        ended = box.run(
            """
            import json, os, resource
            print(os.environ.get("API_KEY"), os.environ["GIVEN"], sorted(os.listdir("/proc/self/fd")))
            print(json.loads(os.environ["SEGWRIGHT_PLACES"])["/tmp"] == os.getcwd(), os.getsid(0) == os.getpid())
            print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE))
            """,
            env={"GIVEN": "yes"},
            limits=Limits(wall_s=20, open_files=77),
        )
    finally:
        os.close(secret)
    assert (ended.cause, ended.code) == ("exited", 0)
    # The fourth is that of the listing itself.
    assert box.said().splitlines() == [
        "None yes ['0', '1', '2', '3']",
        "True True",
        "(77, 77) (0, 0)",
    ]


def test_targets_are_real_paths(box: Box, tmp_path: Path) -> None:
    program = tmp_path / "child"
    program.mkdir()
    (program / "__main__.py").write_text("import sys; print(sys.argv)")
    contain(
        box.boundary,
        argv=[sys.executable, "-I", "/child", "/out/x", "train"],
        mounts=[Mount(program, "/child"), Mount(box.out, "/out", True)],
        env={},
        limits=Limits(wall_s=20),
        log=box.log,
    )
    assert box.said().strip() == str([str(program), f"{box.out}/x", "train"])


def test_orphans_that_ignore_signals_are_gone_and_so_is_the_scratch_folder(box: Box) -> None:
    code = """
        import os, signal, sys, time
        print(os.getcwd(), flush=True)
        for _ in range(2):
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                if os.fork():
                    os._exit(0)
                print(os.getpid(), flush=True)
                time.sleep(60)
                os._exit(0)
        time.sleep({last})
    """
    for last, cause in ((0.5, "exited"), (60, "timed_out")):
        box.log.write_bytes(b"")
        ended = box.run(code.format(last=last), limits=Limits(wall_s=2.5))
        scratch, *pids = box.said().split()
        assert ended.cause == cause
        assert len(pids) == 2
        assert not [pid for pid in pids if is_alive(int(pid))]
        assert not Path(scratch).parent.exists()


def test_the_memory_of_orphans_is_counted(box: Box) -> None:
    ended = box.run(
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            x = bytearray(400 << 20)
            time.sleep(60)
        time.sleep(60)
        """,
        limits=Limits(wall_s=30, memory_mib=200),
    )
    assert ended.cause == "out_of_memory"
    assert ended.seconds < 15


def test_the_time_of_orphans_is_counted(box: Box) -> None:
    ended = box.run(
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            while time.process_time() < 1.0: pass
            os._exit(0)
        time.sleep(3)
        """
    )
    assert ended.code == 0
    assert ended.cpu_seconds > 1.0


def test_a_signal_is_told_and_a_missing_program_is_no_failure_of_the_run(box: Box) -> None:
    assert box.run("import os; os.abort()").code == -signal.SIGABRT
    with pytest.raises(SandboxError, match="could not be set up"):
        contain(
            box.boundary,
            argv=["/no/such/program"],
            mounts=[],
            env={},
            limits=Limits(wall_s=20),
            log=box.log,
        )


def test_a_keeper_that_was_killed_takes_no_process_with_it(box: Box, tmp_path: Path) -> None:
    """The run itself can kill its keeper here; what was seen before is found nonetheless."""
    start = time.monotonic()
    box.run(
        """
        import os, signal, time
        child = os.fork()
        if child == 0:
            os.setsid()
            print(os.getpid(), flush=True)
            time.sleep(60)
        time.sleep(1.5)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
        """,
        limits=Limits(wall_s=30),
    )
    assert time.monotonic() - start < 20
    assert not is_alive(int(box.said()))
