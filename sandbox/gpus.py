"""The NVIDIA GPUs of this machine, and the lease of one to one trial.

A lease is a lock on a file that the kernel lets go of when its holder dies. Covered: two
trials of one user never share a card. Not covered: other users, and programs that ask
nobody. CUDA_VISIBLE_DEVICES of this process is obeyed: a scheduler's word is not widened.
"""

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from memory.errors import SandboxError

DRIVER = Path("/proc/driver/nvidia/gpus")
POLL_S = 0.5


class Gpu(NamedTuple):
    """One card: its UUID, and the minor number N of its node /dev/nvidiaN."""

    uuid: str
    minor: int


def gpus(driver: Path = DRIVER) -> list[Gpu]:
    """Return the cards that the driver lists, by minor number; none where there is no driver."""
    found = []
    for path in sorted(driver.glob("*/information")):
        text = path.read_text(errors="replace")
        uuid = re.search(r"GPU UUID:\s*(\S+)", text)
        minor = re.search(r"Device Minor:\s*(\d+)", text)
        if uuid and minor:
            found.append(Gpu(uuid[1], int(minor[1])))
    return sorted(found, key=lambda gpu: gpu.minor)


def granted(found: list[Gpu], visible: str | None) -> list[Gpu]:
    """Return the cards that CUDA_VISIBLE_DEVICES leaves: all when it is not set.

    Numbers count the cards by minor number, as CUDA does with CUDA_DEVICE_ORDER=PCI_BUS_ID
    on machines that number nodes by bus.
    """
    if visible is None:
        return found
    names = [name.strip() for name in visible.split(",") if name.strip()]
    kept = []
    for name in names:
        if name.isdigit():
            kept += found[int(name) : int(name) + 1]
        else:
            kept += [gpu for gpu in found if gpu.uuid.startswith(name)]
    return kept


def granted_gpus() -> list[Gpu]:
    """Return the cards that this process may use."""
    return granted(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))


@contextlib.contextmanager
def lease(is_stopped: Callable[[], bool], *, folder: Path | None = None) -> Iterator[Gpu]:
    """Hold one granted card for the block; waits while all are leased.

    Raises:
        SandboxError: no card is granted, or `is_stopped` said so while waiting.
    """
    cards = granted_gpus()
    if not cards:
        raise SandboxError("no GPU is granted to this process; see `segwright doctor`")
    place = folder or Path(tempfile.gettempdir(), f"segwright-gpus-{os.getuid()}")
    place.mkdir(mode=0o700, exist_ok=True)
    while not is_stopped():
        for card in cards:
            with (place / card.uuid).open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield card
                return
        time.sleep(POLL_S)
    raise SandboxError("stopped while waiting for a GPU")
