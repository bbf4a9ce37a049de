"""The boundary holds: what runs inside sees, reaches and keeps nothing that it was not given."""

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from memory.errors import IsolationUnavailable, SandboxError
from sandbox import isolation
from sandbox.boundary import Isolation, Limits, Mount
from sandbox.isolation import available, choose, probe, unsafe
from sandbox.processes import descendants, tail
from tests.boxes import Box


@pytest.fixture(scope="module")
def boundary() -> Isolation:
    return choose()


@pytest.fixture(params=["cold", pytest.param("warm", marks=pytest.mark.slow)])
def box(boundary: Isolation, tmp_path: Path, request: pytest.FixtureRequest) -> Box:
    """Every test of the boundary holds for both ways to start."""
    is_warm = request.param == "warm"
    return Box(boundary, tmp_path, request.getfixturevalue("parent") if is_warm else None)


def test_a_program_runs_and_leaves_files(box: Box) -> None:
    ended = box.run("open('/out/x', 'w').write('left'); print('said')")
    assert (ended.cause, ended.code) == ("exited", 0)
    assert (box.out / "x").read_text() == "left"
    assert "said" in box.said()


def test_its_exit_status_is_told(box: Box) -> None:
    assert box.run("raise SystemExit(7)").code == 7


def test_home_and_other_folders_are_not_there(box: Box, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    home = Path.home()
    # An environment that lies in /tmp is mounted there; nothing else may be.
    ours = [Path(p).relative_to("/tmp").parts[0] for p in (sys.prefix,) if p.startswith("/tmp/")]
    box.run(
        f"""
        import os
        print(os.path.exists({str(tmp_path / "secret")!r}), os.listdir('/tmp') == {ours!r})
        print([p for p in ('.ssh', '.bashrc', '.config') if os.path.exists({str(home)!r} + '/' + p)])
        """
    )
    assert box.said().splitlines()[:2] == ["False True", "[]"]


def test_environment_holds_named_variables_only(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    box.run(
        """
        import os
        print(dict(os.environ))
        print(open('/proc/1/environ').read())
        """,
        env={"WANTED": "yes"},
    )
    assert "'WANTED': 'yes'" in box.said()
    assert "sk-secret" not in box.said()


def test_no_open_descriptor_of_ours_is_handed_on(box: Box, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    with (tmp_path / "secret").open() as held:
        os.set_inheritable(held.fileno(), True)
        box.run("import os; print(sorted(os.listdir('/proc/self/fd')))")
    assert box.said().strip() == "['0', '1', '2', '3']"  # 3 is the listing itself


def test_no_network(box: Box) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        box.run(
            f"""
            import socket
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                s = socket.socket(socket.AF_INET, kind)
                try:
                    s.connect(('127.0.0.1', {port}))
                    s.connect(('10.0.0.1', 53))
                    print('reached')
                except OSError as error:
                    print('refused')
            """
        )
    assert box.said().split() == ["refused", "refused"]


def test_abstract_sockets_of_the_host_are_out_of_reach(box: Box) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0segwright-test-abstract")
        server.listen()
        box.run(
            """
            import socket
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect('\\0segwright-test-abstract')
                print('reached')
            except OSError:
                print('refused')
            """
        )
    assert box.said().strip() == "refused"


def test_data_are_read_only(box: Box, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "case").write_text("1")
    box.run(
        """
        import os
        for what in (lambda: open('/data/case', 'w'), lambda: os.remove('/data/case'),
                     lambda: os.chmod('/data/case', 0o777), lambda: open('/usr/x', 'w'),
                     lambda: open('/new', 'w')):
            try:
                what()
                print('changed')
            except OSError:
                print('refused')
        """,
        mounts=(Mount(data, "/data"),),
    )
    assert box.said().split() == ["refused"] * 5
    assert (data / "case").read_text() == "1"


def test_other_processes_are_not_seen(box: Box) -> None:
    box.run("import os; print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))")
    # The warm start has bubblewrap and a process that waits, besides its own.
    assert box.said().strip() in ("[1, 2]", "[1, 2, 3]")


def test_no_privilege_and_no_nested_namespace(box: Box) -> None:
    box.run(
        """
        import ctypes, os
        print(os.getuid() != 0)
        caps = [l.split()[1] for l in open('/proc/self/status') if l.startswith('Cap')]
        print(set(caps) == {'0' * 16})
        print(ctypes.CDLL(None).unshare(0x10000000))
        print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('NoNew', 'Seccomp:'))])
        """
    )
    assert box.said().splitlines() == ["True", "True", "-1", "['1', '2']"]


def test_the_deadline_ends_everything(box: Box) -> None:
    mark = f"segwright-orphan-{os.getpid()}"
    ended = box.run(
        f"""
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv(sys.executable, [{mark!r}, '-c', 'import time; time.sleep(60)'])
        time.sleep(60)
        """,
        limits=Limits(wall_s=1.5),
    )
    assert ended.cause == "timed_out"
    assert ended.seconds < 10
    assert not running(mark)


def test_nothing_survives_a_normal_end(box: Box) -> None:
    mark = f"segwright-left-{os.getpid()}"
    ended = box.run(
        f"""
        import os, sys
        if os.fork() == 0:
            os.setsid()
            os.execv(sys.executable, [{mark!r}, '-c', 'import time; time.sleep(60)'])
        """
    )
    assert ended.cause == "exited"
    time.sleep(0.2)
    assert not running(mark)


def running(mark: str) -> bool:
    """Return True when a process of this machine has the mark in its command line."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in entry.read_bytes().split(b"\0")[0]:
                return True
        except OSError:
            continue
    return False


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("x = [b'x' * 10**6 for _ in range(10**6)]", "out_of_memory"),
        ("while True: print('x' * 10**5)", "out_of_disk"),
        (
            "import time\nfor i in range(400): open(f'/out/{i}', 'wb').write(b'x' * 2**20)\n"
            "time.sleep(30)",
            "out_of_disk",
        ),
    ],
)
def test_limits_end_a_run(box: Box, code: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Looks at the disk each second; each five would only make the test wait.
    monkeypatch.setattr("sandbox.watch.DISK_EVERY", 4)
    limits = Limits(wall_s=30, memory_mib=400, disk_mib=100, log_mib=1)
    assert box.run(code, limits=limits).cause == cause


def test_a_fork_bomb_is_ended(box: Box) -> None:
    ended = box.run(
        """
        import os, time
        try:
            while True:
                if os.fork() == 0:
                    time.sleep(30)
        except OSError:
            time.sleep(1)
        """,
        limits=Limits(wall_s=20, processes=50),
    )
    assert ended.cause in ("out_of_processes", "exited")
    assert ended.seconds < 10


def test_shared_memory_has_a_size(box: Box) -> None:
    box.run(
        """
        import os
        for folder in ('/dev/shm', '/tmp'):
            size = os.statvfs(folder)
            print(size.f_blocks * size.f_frsize >> 20)
        """,
        limits=Limits(wall_s=20, shm_mib=32, tmp_mib=64),
    )
    assert box.said().split() == ["32", "64"]


def test_a_sandbox_that_cannot_be_set_up_is_no_failure_of_the_trial(
    box: Box, tmp_path: Path
) -> None:
    with pytest.raises(SandboxError, match="could not be set up"):
        box.run("pass", mounts=(Mount(tmp_path / "missing", "/data"),))


def test_no_isolation_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "candidates", list)
    with pytest.raises(IsolationUnavailable, match="install bubblewrap") as caught:
        choose()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_binary_that_does_not_contain_is_told_with_its_reason(tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho no user namespaces >&2\nexit 1\n")
    fake.chmod(0o755)
    assert "no user namespaces" in probe(Isolation("A", "bubblewrap", fake, "0"))


def test_the_strongest_comes_first(boundary: Isolation) -> None:
    levels = [one.level for one in available()]
    assert levels == sorted(levels)
    assert levels[0] == boundary.level == "A"


def test_a_level_that_is_not_here_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "candidates", list)
    with pytest.raises(IsolationUnavailable, match="level C"):
        choose("C")


def test_no_isolation_needs_a_reason() -> None:
    assert unsafe(" my own code ").reason == "my own code"
    with pytest.raises(IsolationUnavailable, match="needs a reason"):
        unsafe(" ")


def test_descendants_are_found() -> None:
    assert os.getpid() in descendants(os.getppid())


def test_the_tail_of_a_log_is_one_printable_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"start " * 100 + b"\x1b[2Jlast\nline\n")
    assert tail(path, 14) == "[2Jlast line"
