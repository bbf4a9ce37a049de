"""Joining a boundary that bubblewrap has built, from a process that is already running.

A boundary is its namespaces. Joining them gives a forked process the same mounts, network and
processes to see as one that bubblewrap starts; what bubblewrap does to its own child besides
(capabilities, privileges, limits, the filter of system calls) is done here again, in the same
order: `join`, fork, `confine`. Facts: setns(2), user_namespaces(7), capabilities(7), ioctl_ns(2).

Covered: a joined process has no capability, gains none, and holds no descriptor but the three
it is given. Not covered: where things lie in its memory is that of its parent, so that two
joined processes share one layout.
"""

import ctypes
import fcntl
import os
import platform
import resource
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from memory.errors import SandboxError

NAMESPACES = ("cgroup", "ipc", "uts", "net", "pid", "mnt")
OWNER_OF = 0xB701
SET_DUMPABLE, DROP_BOUNDING, SET_SECCOMP, SET_SECUREBITS = 4, 24, 22, 28
NO_NEW_PRIVILEGES, FILTER = 38, 2
CAPSET = {"x86_64": 126, "aarch64": 91}
CAPABILITY_VERSION_3 = 0x20080522
ROOT_IS_NOBODY = 0xEF  # noroot, no setuid fixup, none kept, none ambient; all locked
LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")


def open_namespaces(pid: int, expected: Mapping[str, int]) -> list[int]:
    """Return descriptors of a process's namespaces, in the order in which `join` takes them.

    The first is the user namespace that owns the others, the last the process's own. `expected`
    are inode numbers by name, as bubblewrap told them: a process that took over the number of a
    dead one is not joined.

    Raises:
        SandboxError: the process is gone, or it is another one.
    """
    found: list[int] = []
    try:
        for name in NAMESPACES:
            found.append(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
            wanted = expected.get(name)
            if wanted is not None and os.fstat(found[-1]).st_ino != wanted:
                raise SandboxError(f"process {pid} is not in the namespace {name} of the sandbox")
        own = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        return [fcntl.ioctl(found[-1], OWNER_OF), *found, own]
    except OSError as error:
        close(found)
        raise SandboxError(f"the sandbox of process {pid} cannot be joined: {error}") from error
    except SandboxError:
        close(found)
        raise


def close(descriptors: Sequence[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


def join(namespaces: Sequence[int]) -> None:
    """Move this process, which must have one thread, into namespaces; its next fork is inside.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for descriptor in namespaces:
        if libc.setns(descriptor, 0):
            number = ctypes.get_errno()
            raise OSError(number, f"setns: {os.strerror(number)}")


def confine(limits: Mapping[str, int], program: bytes) -> None:
    """Give up every privilege for good, then install the filter of system calls.

    `limits` are RLIMIT_ names, lower case, with one value for soft and hard.

    Raises:
        OSError: the kernel refused; the caller must end the process.
    """
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))
    for capability in range(int(LAST_CAPABILITY.read_text()) + 1):
        prctl(DROP_BOUNDING, capability)
    prctl(SET_SECUREBITS, ROOT_IS_NOBODY)
    drop_capabilities()
    prctl(NO_NEW_PRIVILEGES, 1)
    # Else whoever watches the run's memory could not read its account in /proc.
    prctl(SET_DUMPABLE, 1)
    install(program)


def drop_capabilities() -> None:
    """Empty the permitted, effective and inheritable capabilities."""
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(CAPSET[platform.machine()], header, bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")


def prctl(option: int, value: int) -> None:
    """Set one option of this process by a number, or raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def install(program: bytes) -> None:
    """Install a filter of system calls, an array of sock_filter of 8 bytes each."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(SET_SECCOMP, FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")
