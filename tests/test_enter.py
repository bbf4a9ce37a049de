"""Joining a boundary: only the one that was meant, and only while it stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memory.errors import SandboxError
from sandbox import enter, seccomp
from sandbox.enter import NAMESPACES, open_namespaces


def inode(name: str) -> int:
    """Return the number of one of our own namespaces."""
    return os.stat(f"/proc/self/ns/{name}").st_ino


def test_namespaces_come_with_their_owner_first_and_the_processes_own_last() -> None:
    found = open_namespaces(os.getpid(), {name: inode(name) for name in NAMESPACES})
    numbers = [os.fstat(descriptor).st_ino for descriptor in found]
    enter.close(found)
    assert numbers[1:-1] == [inode(name) for name in NAMESPACES]
    assert numbers[0] == numbers[-1] == inode("user")


def test_another_process_of_the_same_number_is_not_joined() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SandboxError, match="is not in the namespace net"):
        open_namespaces(os.getpid(), {"net": 1})
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_is_gone_is_not_joined() -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    with pytest.raises(SandboxError, match="cannot be joined"):
        open_namespaces(process.pid, {})


def confined(body: str, tmp_path: Path) -> str:
    """Return what a program prints after it confined itself."""
    limits = {"nproc": 4096, "core": 0, "fsize": 1 << 20, "nofile": 64}
    program = (
        "import os, sys\nfrom sandbox import enter, seccomp\n"
        f"enter.confine({limits!r}, seccomp.program())\n{body}\n"
    )
    root = Path(__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="outside a user namespace only root may confine")
class TestConfined:
    def test_no_capability_is_left_and_none_comes_back(self, tmp_path: Path) -> None:
        said = confined("print(open('/proc/self/status').read())", tmp_path)
        values = dict(line.split(":\t") for line in said.splitlines() if line.count(":\t") == 1)
        kinds = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        assert {values[kind] for kind in kinds} == {"0" * 16}
        assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")

    def test_limits_hold_for_good(self, tmp_path: Path) -> None:
        body = (
            "import resource\nprint(resource.getrlimit(resource.RLIMIT_FSIZE))\n"
            "try:\n    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))\n"
            "except (OSError, ValueError):\n    print('refused')"
        )
        assert confined(body, tmp_path).splitlines() == [f"({1 << 20}, {1 << 20})", "refused"]

    def test_the_filter_answers(self, tmp_path: Path) -> None:
        body = (
            "import socket\n"
            "for family in (socket.AF_NETLINK, socket.AF_UNIX):\n"
            "    try:\n        socket.socket(family, socket.SOCK_DGRAM).close()\n"
            "        print('made')\n"
            "    except PermissionError:\n        print('refused')"
        )
        assert confined(body, tmp_path).split() == ["refused", "made"]


def test_every_processor_with_a_filter_can_drop_capabilities() -> None:
    assert set(enter.CAPSET) == set(seccomp.TABLES)
