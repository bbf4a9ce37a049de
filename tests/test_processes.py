"""What /proc tells, compared with what this process knows of itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

from sandbox.processes import cpu_seconds, descendants, is_alive, memory_mib, proportional_kib

WAITS = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]


def test_a_tree_holds_children_of_children() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while len(descendants(process.pid)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert set(descendants(process.pid)) < set(descendants(os.getpid()))
    process.communicate(b"\n")
    assert descendants(process.pid) == [process.pid]


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen(WAITS, stdin=subprocess.PIPE)
    assert is_alive(process.pid)
    process.kill()
    deadline = time.monotonic() + 10
    while is_alive(process.pid):
        assert time.monotonic() < deadline
    assert Path(f"/proc/{process.pid}").exists()
    process.communicate()
    assert not is_alive(process.pid)


def test_memory_is_counted_and_a_process_that_is_gone_is_nothing() -> None:
    before = memory_mib([os.getpid()])
    held = bytearray(os.urandom(1 << 20) * 64)
    assert 48 < memory_mib([os.getpid()]) - before < 96
    assert len(held) == 64 << 20
    assert memory_mib([1 << 22]) == 0.0


def test_memory_of_shared_pages_counts_once() -> None:
    held = bytearray(os.urandom(1 << 20) * 128)
    alone = proportional_kib(os.getpid())
    pid = os.fork()
    if not pid:
        time.sleep(30)
        os._exit(0)
    both = memory_mib([os.getpid(), pid]) * 1024
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert len(held) == 128 << 20
    assert 0.8 * alone < both < alone + 64 * 1024


def test_cpu_seconds_grow_with_work() -> None:
    before, deadline = cpu_seconds([os.getpid()]), time.process_time() + 0.2
    while time.process_time() < deadline:
        pass
    assert 0.1 < cpu_seconds([os.getpid()]) - before < 5
