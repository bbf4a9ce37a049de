"""Wall and CPU seconds of work that many processes share, none of them left out.

CPU seconds are user and system time, as the kernel counts it, of this process and of all that
descends from it: what ended is in the count of the parent that waited for it, what lives is
read from /proc with what it has waited for itself, and a process whose parent ends first (a
detached supervisor, the first process of a bubblewrap sandbox) falls to this one. Trees that
somebody else started, such as a warm parent, are counted beside it. The difference of two
readings is the cost of what lay between them.

Not counted: a process that its parent did not wait for and that fell to nobody, and what the
kernel's own threads do. Both are left out on all sides alike.
"""

import os
import resource
import time
from collections.abc import Callable
from typing import NamedTuple

from sandbox.processes import cpu_seconds, descendants


class Cost(NamedTuple):
    """Seconds that a piece of work took: on the clock, and of all processors together."""

    wall_s: float
    cpu_s: float


def total(*costs: Cost) -> Cost:
    """Return the cost of one piece of work after another."""
    return Cost(sum(cost.wall_s for cost in costs), sum(cost.cpu_s for cost in costs))


def cpu_clock(*others: int) -> float:
    """Return the CPU seconds used so far by this process, all below it, and other trees."""
    counted = {pid for root in (os.getpid(), *others) for pid in descendants(root)}
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + reaped.ru_utime + reaped.ru_stime
    return own + cpu_seconds(sorted(counted - {os.getpid()}))


def measured(work: Callable[[], object], *others: int) -> Cost:
    """Do a piece of work and return what it cost; `others` are roots of trees to count too.

    `sandbox.processes.adopt_orphans` must have been called before.
    """
    wall, cpu = time.monotonic(), cpu_clock(*others)
    work()
    return Cost(time.monotonic() - wall, cpu_clock(*others) - cpu)


def reap() -> None:
    """Wait for every child that has ended; call it while no thread waits for one of its own."""
    pid = 1
    while pid:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
