"""The warm parent: one a user, nothing of a campaign in it, gone when its socket is."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memory.errors import SandboxError
from sandbox import warm
from sandbox.boundary import Limits
from sandbox.isolation import choose
from sandbox.processes import descendants, is_alive
from tests.boxes import Box


def test_the_folder_of_the_socket_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "RUNTIME", tmp_path)
    folder = warm.home()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert warm.offered("warm") == warm.address()
    folder.chmod(0o755)
    with pytest.raises(SandboxError, match="mode 700"):
        warm.home()
    assert warm.offered("warm") is None
    assert warm.offered("cold") is None


def test_a_socket_that_nobody_serves_is_no_connection(tmp_path: Path) -> None:
    assert warm.connect(tmp_path / "none") is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "dead"))
    assert warm.connect(tmp_path / "dead") is None


def test_without_a_parent_a_run_starts_cold(tmp_path: Path) -> None:
    box = Box(choose(), tmp_path, tmp_path / "none")
    assert box.run("print('here')").start == "cold"
    assert "here" in box.said()


@pytest.mark.slow
class TestParent:
    def test_imports_are_there_already(self, tmp_path: Path, parent: Path) -> None:
        box = Box(choose(), tmp_path, parent)
        ended = box.run(
            "import sys; print('torch' in sys.modules); import torch; print(torch.ones(2).sum())"
        )
        assert (ended.start, ended.code) == ("warm", 0)
        assert box.said().splitlines() == ["True", "tensor(2.)"]
        assert 0 < ended.cpu_seconds < 5

    def test_nothing_but_standard_channels_and_named_variables(
        self, tmp_path: Path, parent: Path
    ) -> None:
        box = Box(choose(), tmp_path, parent)
        box.run(
            "import os; print(sorted(os.listdir('/proc/self/fd'))); print(os.environ.get('HOME'))\n"
            "print([v for v in os.environ if 'KEY' in v], os.getcwd(), os.getsid(0) == os.getpid())"
        )
        assert box.said().splitlines() == ["['0', '1', '2', '3']", "/tmp", "[] /tmp True"]

    def test_an_exit_status_and_an_error_are_told(self, tmp_path: Path, parent: Path) -> None:
        box = Box(choose(), tmp_path, parent)
        assert box.run("raise SystemExit(7)").code == 7
        assert box.run("raise ValueError('why')").code == 1
        assert "ValueError: why" in box.said()
        assert box.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").code == -9

    def test_a_deadline_ends_it(self, tmp_path: Path, parent: Path) -> None:
        box = Box(choose(), tmp_path, parent)
        ended = box.run("import time; time.sleep(60)", limits=Limits(wall_s=1))
        assert ended.cause == "timed_out"
        assert ended.seconds < 10

    def test_killing_whoever_started_it_ends_it(self, tmp_path: Path, parent: Path) -> None:
        program = (
            "import sys; from pathlib import Path; from tests.boxes import Box\n"
            "from sandbox.isolation import choose\n"
            f"Box(choose(), Path({str(tmp_path)!r}), Path({str(parent)!r})).run("
            '\'open("/out/started", "w"); import time; time.sleep(60)\')\n'
        )
        root = Path(__file__).parent.parent
        process = subprocess.Popen([sys.executable, "-c", program], cwd=root)
        deadline = time.monotonic() + 30
        while not (tmp_path / "out" / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        tree = [pid for pid in descendants(process.pid) if pid != process.pid]
        inside = sleeping(tmp_path)
        assert inside
        process.kill()
        process.wait()
        deadline = time.monotonic() + 5
        while any(is_alive(pid) for pid in [*tree, *inside]):
            assert time.monotonic() < deadline, "a process outlived its supervisor by 5 s"
            time.sleep(0.05)

    def test_a_second_start_finds_the_first(self, parent: Path) -> None:
        assert warm.is_held(parent)
        assert warm.ensure() == parent

    def test_a_run_outlives_the_parent(self, tmp_path: Path) -> None:
        """A trial that is under way needs the warm parent no more."""
        folder = tmp_path / "home"
        folder.mkdir(mode=0o700)
        path = folder / "warm-own"
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", OWN_PARENT], cwd=folder, env=dict(warm.ONE_THREAD)
        )
        assert warm.await_ready(path)
        box = Box(choose(), tmp_path, path)
        program = (
            "import os, time\nopen('/out/started', 'w')\n"
            "for _ in range(100):\n    time.sleep(0.1)\n"
            "    if os.path.exists('/out/go'):\n        raise SystemExit(5)\n"
        )
        killer = subprocess.Popen(
            [sys.executable, "-I", "-c", KILLER, str(box.out), str(process.pid)]
        )
        ended = box.run(program)
        assert killer.wait(20) == 0
        process.wait()
        assert (ended.start, ended.code) == ("warm", 5)


OWN_PARENT = """
import socket
from pathlib import Path
from sandbox import warm
path = Path.cwd() / "warm-own"
with socket.socket(socket.AF_UNIX) as server:
    server.bind(path.name)
    server.listen()
    warm.serve(server, path)
"""
KILLER = """
import os, signal, sys, time
from pathlib import Path
out, pid = Path(sys.argv[1]), int(sys.argv[2])
while not (out / "started").exists():
    time.sleep(0.05)
os.kill(pid, signal.SIGKILL)
time.sleep(0.3)
(out / "go").touch()
"""


def sleeping(folder: Path) -> list[int]:
    """Return the processes that hold a folder's log open, as the children inside do."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            names = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
        except OSError:
            continue
        if str(folder / "log.txt") in names and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found
