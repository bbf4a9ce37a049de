"""Running one command inside the boundary, and ending all of it when it must end.

The caller's main thread must call `contain`: bubblewrap dies with the thread that
started it. Processes are counted here as well, as the kernel does not hold root to its
own limit on them.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from memory.errors import SandboxError
from sandbox.isolation import Isolation, Limits, Mount, command

TICK_S = 0.25
MEMORY_EVERY = 4
DISK_EVERY = 20


class Ended(NamedTuple):
    """How a run ended.

    `cause` is exited, timed_out, out_of_memory, out_of_disk, out_of_processes or stopped.
    """

    cause: str
    code: int
    seconds: float
    peak_memory_mib: float


def contain(
    isolation: Isolation,
    *,
    argv: Sequence[str],
    mounts: Sequence[Mount],
    env: Mapping[str, str],
    limits: Limits,
    log: Path,
    gpu: bool = False,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run `argv` inside; return only when none of its processes is left.

    Raises:
        SandboxError: the boundary could not be set up; the run never started.
    """
    line = command(isolation, argv=argv, mounts=mounts, env=env, limits=limits, gpu=gpu)
    status_read, status_write = os.pipe()
    line[1:1] = ["--json-status-fd", str(status_write)]
    with log.open("ab") as sink, os.fdopen(status_read) as status:
        process = subprocess.Popen(
            line,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            close_fds=True,
            pass_fds=(status_write,),
            start_new_session=True,
        )
        os.close(status_write)
        ended = follow(process, mounts=mounts, limits=limits, log=log, is_stopped=is_stopped)
        said = status.read()
    if ended.cause == "exited" and '"exit-code"' not in said:
        raise SandboxError(f"the sandbox could not be set up: {tail(log, 500)}")
    prove_gone(said)
    return ended


def follow(
    process: "subprocess.Popen[bytes]",
    *,
    mounts: Sequence[Mount],
    limits: Limits,
    log: Path,
    is_stopped: Callable[[], bool],
) -> Ended:
    """Wait for the end of a run, measuring it; end it at the first limit it passes."""
    start, ticks, peak, cause = time.monotonic(), 0, 0.0, ""
    writable = [mount.source for mount in mounts if mount.is_writable]
    while process.poll() is None:
        ticks += 1
        inside = descendants(process.pid)
        if ticks % MEMORY_EVERY == 1:
            peak = max(peak, memory_mib(inside))
        cause = passed(start, peak, limits, log) or ("stopped" if is_stopped() else "")
        if not cause and len(inside) > limits.processes:
            cause = "out_of_processes"
        if not cause and ticks % DISK_EVERY == 0 and too_large(writable, limits):
            cause = "out_of_disk"
        if cause:
            end(process)
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TICK_S)
    seconds = time.monotonic() - start
    return Ended(cause or "exited", process.wait(), seconds, peak)


def passed(start: float, memory: float, limits: Limits, log: Path) -> str:
    """Return which cheap limit is passed; empty for none."""
    if time.monotonic() - start > limits.wall_s:
        return "timed_out"
    if memory > limits.memory_mib:
        return "out_of_memory"
    return "out_of_disk" if log.stat().st_size > limits.log_mib << 20 else ""


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill bubblewrap; the kernel then ends every process of its namespace."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def prove_gone(said: str) -> None:
    """Wait until the first process inside is dead, and with it its whole namespace.

    The kernel ends every process of a namespace before its first one becomes a zombie, so a
    zombie that the system has not yet collected is gone.

    Raises:
        SandboxError: it is still alive after ten seconds.
    """
    for line in said.splitlines():
        pid = json.loads(line).get("child-pid")
        if not isinstance(pid, int):
            continue
        deadline = time.monotonic() + 10
        while is_alive(pid):
            if time.monotonic() > deadline:
                raise SandboxError(f"process {pid} of a sandbox is still running after SIGKILL")
            time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Return True when a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def memory_mib(pids: Sequence[int]) -> float:
    """Return the proportional memory (PSS) of processes together, in MiB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def descendants(root: int) -> list[int]:
    """Return a process and everything that it started, by parent."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def too_large(folders: Sequence[Path], limits: Limits) -> bool:
    """Return True when the writable folders hold more bytes or files than allowed."""
    size = count = 0
    for folder in folders:
        for base, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    size += os.lstat(os.path.join(base, name)).st_blocks * 512
                    count += 1
    return size > limits.disk_mib << 20 or count > limits.files


def tail(path: Path, size: int) -> str:
    """Return the last bytes of a log as one line of printable text."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        text = file.read().decode(errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
