"""What a boundary around generated code is: its protocol, and what it is asked for.

A backend is one way to contain a run, of one level: A is bubblewrap, B is Landlock with a
seccomp notifier, C is a site's container runtime, D is none, by the user's own word. Every
backend passes the same escape suite (`sandbox/escape.py`), or names the probe as a gap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from sandbox.gpus import Gpu

LEVELS = {
    "A": "bubblewrap: own namespaces, allow-listed mounts, a filter of system calls",
    "B": "Landlock and a filter of system calls, without namespaces",
    "C": "a container runtime of the site",
    "D": "none; by the user's own word",
}


class Mount(NamedTuple):
    """A host path shown inside at `target`; read-only unless said otherwise."""

    source: Path
    target: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; 0 CPU seconds means as many as the wall limit allows.

    Wall time, CPU time, memory, disk, log and the count of processes are watched from outside
    (`sandbox/watch.py`); size of files, core dumps and open files are set inside.
    """

    wall_s: float = 3600.0
    cpu_s: float = 0.0
    memory_mib: int = 8192
    disk_mib: int = 4096
    files: int = 20_000
    file_mib: int = 4096
    processes: int = 512
    open_files: int = 4096
    log_mib: int = 8
    shm_mib: int = 512
    tmp_mib: int = 512


@dataclass(frozen=True, slots=True)
class Run:
    """One command to contain; `log` takes all that it prints.

    `warm` is the socket of a parent that holds the imports already (`sandbox/warm.py`); a
    backend that cannot use one starts the command anew.
    """

    argv: Sequence[str]
    mounts: Sequence[Mount]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    gpu: Gpu | None = None
    warm: Path | None = None


@dataclass(frozen=True, slots=True)
class Isolation:
    """A way to contain a run on this machine; `path` is its program, `reason` the user's (D)."""

    level: str
    name: str
    path: Path
    version: str
    reason: str = ""

    def __str__(self) -> str:
        """Return what a report says about it."""
        return f"level {self.level}: {self.name} {self.version}".rstrip()


class Contained(Protocol):
    """A run that was started. One thread owns it; every method may be called after the end."""

    start: str
    """cold, or warm where the imports were there before."""

    @property
    def folders(self) -> Sequence[Path]:
        """Folders of this machine that the run may fill besides its writable mounts."""

    cpu_seconds: float
    """User and system seconds of the whole run, known after `poll` told its end."""

    def poll(self, timeout_s: float) -> int | None:
        """Wait up to `timeout_s` for the end; return the exit status, negative for a signal."""

    def pids(self) -> list[int]:
        """Return the processes of the run that live now, as this machine numbers them."""

    def end(self) -> None:
        """Kill every process of the run and return when none is left; harmless when repeated.

        Raises:
            SandboxError: a process is still alive ten seconds after it was killed.
        """

    def fault(self) -> str:
        """Return why the run never started; empty when it did."""


class Backend(Protocol):
    """One way to contain runs. Threads may share a backend: it keeps no state."""

    name: str
    level: str
    gaps: Mapping[str, str]
    """Probe of the escape suite -> why this backend does not stop it."""

    def find(self) -> list[Isolation]:
        """Return what of it is installed here, the best first; nothing is run."""

    def start(self, isolation: Isolation, run: Run) -> Contained:
        """Start a run.

        Raises:
            SandboxError: the boundary could not be built; nothing of the run was started.
        """


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
"""All variables of a run, before those that it names itself."""
