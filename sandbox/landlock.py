"""Level B: Landlock and filters of system calls, by sandlock, where user namespaces are off.

A keeper (`sandbox/keeper.py`) starts the run under sandlock, inside a few trusted lines that
set limits and a second filter before the run's own command. A run sees real paths.

Covered, by the kernel: no file but the allow-list, writing in the writable mounts and a scratch
folder only, no TCP, UDP or raw socket, no signal to or look into other processes, no privilege,
no system call of `sandbox/seccomp.py`; changes of mode, owner and time do nothing, those of
attributes fail. By sandlock's notifier: no unix socket of others, no process or connection of
others in /proc, the count of processes. By ours: /dev/shm is a folder of the run's own.
Not covered: `GAPS`; kernel faults; the GPU driver's own interface. sandlock's emulated mounts
would hide more, but there its notifier, not the kernel, decides on every path.
"""

import ctypes
import errno
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memory.errors import SandboxError
from sandbox import enter, keeper, seccomp
from sandbox.boundary import Contained, Isolation, Run

HERE = "sandbox.landlock"
DISTRIBUTION = "sandlock"
LEAST_ABI = 6
CREATE_RULESET, ASK_VERSION = 444, 1
SHARED = "/dev/shm/"
LOG = " the log"
DENY_ON_FAULT = 1
PATH_BYTES = 4096

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"),
    *("/etc/localtime", "/proc", "/sys/devices/system/cpu"),
    *("/dev/zero", "/dev/random", "/dev/urandom"),
)
SINK = "/dev/null"

GAPS: Mapping[str, str] = {
    "sizes_of_others": "Landlock does not hide that a file exists, nor its size and times",
    "memory_in_tmp": "the scratch folder is on the disk; it is looked at, and has no set size",
    "memory_in_dev_shm": "the scratch folder is on the disk; it is looked at, and has no set size",
}

# Calls that change what a file is, though not what is in it; Landlock has no right for these.
IGNORED: dict[str, tuple[int, ...]] = {
    "x86_64": (90, 91, 92, 93, 94, 132, 235, 260, 261, 268, 280, 452),
    "aarch64": (52, 53, 54, 55, 88, 452),
}
REFUSED: dict[str, tuple[int, ...]] = {
    "x86_64": (188, 189, 190, 197, 198, 199, 463, 466, 469),
    "aarch64": (5, 6, 7, 14, 15, 16, 463, 466, 469),
}
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_OF_IOCTL = 0, 24
SET_FLAGS = (0x40086602, 0x401C5820)  # FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR
DONE = 0x00050000  # SECCOMP_RET_ERRNO with 0: the call returns 0 and does nothing


class Landlock:
    """The backend of level B."""

    name = "sandlock"
    level = "B"
    gaps = GAPS

    def find(self) -> list[Isolation]:
        """Return sandlock where it is installed and the kernel's Landlock is new enough."""
        spec = importlib.util.find_spec(DISTRIBUTION)
        if spec is None or not spec.origin or abi() < LEAST_ABI:
            return []
        version = importlib.metadata.version(DISTRIBUTION)
        return [Isolation(self.level, self.name, Path(spec.origin).parent, version)]

    def start(self, isolation: Isolation, run: Run) -> Contained:
        """Start a run below a keeper; a warm parent cannot be confined, and is not asked."""
        scratch = keeper.make_scratch()
        return keeper.Kept(run, scratch, keeper.orders(run, scratch), HERE)


def abi() -> int:
    """Return the version of this kernel's Landlock; -1 where it has none."""
    return int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, 0, ASK_VERSION))


def no_changes(machine: str | None = None) -> bytes:
    """Return a filter under which a file's mode, owner, times and attributes stay.

    It is installed after the one of `sandbox/seccomp.py`, which ends calls of other processors.

    Raises:
        KeyError: no table for the processor.
    """
    machine = machine or platform.machine()
    ioctl = seccomp.TABLES[machine].calls["ioctl"]
    steps = [(LOAD, 0, 0, NUMBER)]
    for numbers, answer in ((IGNORED, DONE), (REFUSED, seccomp.EPERM)):
        for number in numbers[machine]:
            steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, answer)]
    steps += [(EQUAL, 0, 2 * len(SET_FLAGS) + 1, ioctl), (LOAD, 0, 0, FIRST_OF_IOCTL)]
    for request in SET_FLAGS:
        steps += [(EQUAL, 0, 1, request), (RETURN, 0, 0, seccomp.EPERM)]
    steps.append((RETURN, 0, 0, seccomp.ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def carry_out(given: keeper.Orders) -> int:
    """Run the command under sandlock, and wait for it.

    Raises:
        SandboxError: sandlock could not build the boundary.
    """
    give_up_privileges()
    sandlock = importlib.import_module(DISTRIBUTION)
    log = os.dup(sys.stderr.fileno())
    memory = SharedMemory(sandlock.NotifAction, Path(given.scratch, "shm"), log)
    filters = (seccomp.program(), no_changes())
    inside = keeper.first(given.argv, given.env, given.limits, filters=filters, log=SHARED + LOG)
    try:
        box = sandlock.Sandbox(**policy(given))
        ended = box.run_with_handlers(inside, memory.handlers())
    except (sandlock.SandlockError, RuntimeError, ValueError) as error:
        raise SandboxError(str(error)) from error
    if memory.log is not None:
        said = (ended.stderr or b"").decode(errors="replace").strip()
        raise SandboxError(ended.error or said or "sandlock did not start the run")
    return -int(ended.signal) if ended.signal and ended.signal > 0 else int(ended.exit_code)


def give_up_privileges() -> None:
    """Drop root's privileges for good, in this process and all below; nobody else has any."""
    if os.geteuid() == 0:
        for capability in range(int(enter.LAST_CAPABILITY.read_text()) + 1):
            enter.prctl(enter.DROP_BOUNDING, capability)
        enter.prctl(enter.SET_SECUREBITS, enter.ROOT_IS_NOBODY)
        enter.drop_capabilities()


def policy(given: keeper.Orders) -> dict[str, Any]:
    """Return what sandlock is asked for."""
    system = [path for path in SYSTEM if Path(path).exists()]
    prefixes = dict.fromkeys((sys.base_prefix, sys.prefix))
    temporary = f"{given.scratch}/tmp"
    return {
        "fs_readable": [*system, *prefixes, *given.readable],
        "fs_writable": [*given.writable, temporary, SINK],
        "max_processes": given.processes,
        "gpu_devices": None if given.gpu is None else [given.gpu],
        "clean_env": True,
        "env": {"LANG": "C.UTF-8"},
        "cwd": temporary,
        "name": Path(given.scratch).name,  # two of one name cannot run at once
    }


class SharedMemory:
    """Serves /dev/shm from a folder of the run's own; sandlock's threads call it.

    Landlock gives the run no right on /dev/shm, so that a name which changes after it was read
    here leads nowhere. Each file is opened here, without following links, and handed over.
    """

    def __init__(self, actions: Any, folder: Path, log: int) -> None:
        """Take sandlock's actions, the folder, and the log, which is handed over once."""
        self.actions = actions
        self.log: int | None = log
        self.folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def handlers(self) -> list[tuple[str, "Answer"]]:
        """Return what answers which system call, and where its paths are."""
        found = [
            ("openat", Answer(self.actions, self.open, 1)),
            ("unlinkat", Answer(self.actions, self.unlink, 1)),
            ("linkat", Answer(self.actions, self.link, 1, 3)),
        ]
        if platform.machine() == "x86_64":
            found.append(("unlink", Answer(self.actions, self.unlink, 0)))
            found.append(("link", Answer(self.actions, self.link, 0, 1)))
        return found

    def open(self, arguments: Sequence[int], name: str) -> Any:
        """Open a file; the first that is asked for is the log, by a name that no file has."""
        flags, mode = arguments[2] & 0xFFFFFFFF, arguments[3] & 0o777
        if name == LOG and self.log is not None:
            descriptor, self.log = self.log, None
            return self.actions.inject_fd_send(descriptor)
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, mode, dir_fd=self.folder)
        return self.actions.inject_fd_send(descriptor, os.O_CLOEXEC)

    def unlink(self, arguments: Sequence[int], name: str) -> Any:
        """Remove a file."""
        os.unlink(name, dir_fd=self.folder)
        return self.actions.returns(0)

    def link(self, arguments: Sequence[int], name: str, second: str) -> Any:
        """Give a file a second name, as glibc does for a new semaphore."""
        at = {"src_dir_fd": self.folder, "dst_dir_fd": self.folder}
        os.link(name, second, follow_symlinks=False, **at)
        return self.actions.returns(0)


class Answer:
    """What sandlock asks about one system call: all paths in /dev/shm, or it is none of ours."""

    on_exception = DENY_ON_FAULT

    def __init__(self, actions: Any, act: Callable[..., Any], *paths: int) -> None:
        """Take what to do, and the arguments that are paths."""
        self.actions, self.act, self.paths = actions, act, paths

    def handle(self, context: Any) -> Any:
        """Return sandlock's action for one call."""
        found = [context.read_cstr(context.args[n], PATH_BYTES) or "" for n in self.paths]
        names = [path.removeprefix(SHARED) for path in found if path.startswith(SHARED)]
        if len(names) < len(found):
            return self.actions.continue_()
        if any("/" in name or name in ("", ".", "..") for name in names):
            return self.actions.errno(errno.EACCES)
        try:
            return self.act(context.args, *names)
        except OSError as error:
            return self.actions.errno(error.errno or errno.EIO)


if __name__ == "__main__":
    sys.exit(keeper.keep(carry_out))
