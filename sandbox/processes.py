"""What /proc tells about processes: trees, life, memory, CPU time; and a log's last words."""

import contextlib
import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Have processes below this one, when their parent dies, become its children; see prctl(2)."""
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stat_fields(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat after the name; the first is the state.

    Raises:
        OSError: there is no such process.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_alive(pid: int) -> bool:
    """Return True when a process exists and is no zombie."""
    try:
        return stat_fields(pid)[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def descendants(root: int) -> list[int]:
    """Return a process and everything that it started, by parent."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                children.setdefault(int(stat_fields(entry.name)[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def memory_mib(pids: Sequence[int]) -> float:
    """Return the memory of processes together, in MiB: pages that several share count once.

    Where a process's own account may not be read, all pages that it holds are counted.
    """
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += proportional_kib(pid)
    return total / 1024


def proportional_kib(pid: int) -> float:
    """Return a process's proportional set size in KiB, else its resident one."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1])
    except PermissionError:
        pass
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1024


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the user and system seconds of processes and of their children that ended."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += sum(int(ticks) for ticks in stat_fields(pid)[11:15])
    return total / TICKS_A_SECOND


def tail(path: Path, size: int) -> str:
    """Return the last bytes of a log as one line of printable text."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        text = file.read().decode(errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
