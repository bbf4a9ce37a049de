"""Watching one run inside a boundary, and ending all of it when it must end.

The thread that calls `contain` must live until it returns: bubblewrap dies with the
thread that started it. Covered: wall and CPU time, memory of all processes together, their count, bytes
and files of the writable folders, the log's size, whatever the backend. Not covered: what
is used and given back between two looks (a quarter of a second; folders: five seconds).
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from memory.errors import SandboxError
from sandbox.boundary import Contained, Isolation, Limits, Mount, Run
from sandbox.gpus import Gpu
from sandbox.isolation import backend_of
from sandbox.processes import cpu_seconds, memory_mib
from sandbox.usage import too_large

TICK_S = 0.25
MEMORY_EVERY = 2
DISK_EVERY = 20
SHOT_FIRST = "1000"
LOG_MODE = 0o600


class Ended(NamedTuple):
    """How a run ended.

    `cause` is exited, timed_out, out_of_memory, out_of_disk, out_of_processes or stopped;
    `code` is negative for a signal; `start` is cold or warm.
    """

    cause: str
    code: int
    seconds: float
    peak_memory_mib: float
    cpu_seconds: float = 0.0
    start: str = "cold"


def contain(
    isolation: Isolation,
    *,
    argv: Sequence[str],
    mounts: Sequence[Mount],
    env: Mapping[str, str],
    limits: Limits,
    log: Path,
    gpu: Gpu | None = None,
    warm: Path | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run `argv` inside; return only when none of its processes is left.

    Raises:
        SandboxError: the boundary could not be set up; the run never started.
    """
    run = Run(argv, mounts, log, env, limits, gpu, warm)
    start = time.monotonic()
    contained = backend_of(isolation).start(isolation, run)
    try:
        cause, peak = follow(contained, run, start=start, is_stopped=is_stopped)
    finally:
        contained.end()
        log.chmod(LOG_MODE)  # a run may change the mode of what it prints to
    seconds = time.monotonic() - start
    if not cause and (fault := contained.fault()):
        raise SandboxError(fault)
    code = contained.poll(0.0)
    code = -9 if code is None else code
    return Ended(cause or "exited", code, seconds, peak, contained.cpu_seconds, contained.start)


def follow(
    contained: Contained, run: Run, *, start: float, is_stopped: Callable[[], bool]
) -> tuple[str, float]:
    """Wait for the end of a run or the first limit that it passes; return that and the peak.

    The cause is empty for a run that ended by itself; the peak is in MiB.
    """
    ticks, peak = 0, 0.0
    writable = [mount.source for mount in run.mounts if mount.is_writable]
    writable += contained.folders
    while contained.poll(TICK_S if ticks else TICK_S / 10) is None:
        ticks += 1
        inside = contained.pids()
        if ticks % MEMORY_EVERY == 1:
            shoot_first(inside)
            peak = max(peak, memory_mib(inside))
        cause = passed(start, peak, run) or ("stopped" if is_stopped() else "")
        if not cause and len(inside) > run.limits.processes:
            cause = "out_of_processes"
        if not cause and run.limits.cpu_s and cpu_seconds(inside) > run.limits.cpu_s:
            cause = "timed_out"
        if not cause and ticks % DISK_EVERY == 0 and too_large(writable, run.limits, inside):
            cause = "out_of_disk"
        if cause:
            return cause, peak
    return ("out_of_disk" if too_large(writable, run.limits) else ""), peak


def shoot_first(pids: Sequence[int]) -> None:
    """Have the kernel, short of memory, end these processes before any other."""
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text(SHOT_FIRST)


def passed(start: float, memory: float, run: Run) -> str:
    """Return which cheap limit is passed; empty for none."""
    if time.monotonic() - start > run.limits.wall_s:
        return "timed_out"
    if memory > run.limits.memory_mib:
        return "out_of_memory"
    return "out_of_disk" if run.log.stat().st_size > run.limits.log_mib << 20 else ""
