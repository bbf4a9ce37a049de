"""How long a boundary takes to stand: from the call to the end of a program that does nothing."""

import sys
import time
from pathlib import Path

from bench.figures import Figure, figure
from memory.errors import SegwrightError
from sandbox import warm
from sandbox.isolation import Isolation, Limits, available
from sandbox.watch import contain

NOTHING = ["/usr/bin/true"]
# What a trial's process imports first, and the longest.
IMPORTS = [
    *(sys.executable, "-I", "-c"),
    "import nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
]
LIMITS = Limits(wall_s=120)


def start_figures(work: Path, *, repeats: int) -> dict[str, Figure]:
    """Return the start of every boundary that works here, and of imports cold and warm.

    `sandbox_start_ms` is that of the one that campaigns use, without any import;
    `import_ms_...` is a start with torch and nnU-Net imported, in that boundary.
    """
    found = available()
    if not found:
        raise SegwrightError("no isolation works here; see `segwright doctor`")
    figures = {}
    for isolation in found:
        values = [start_ms(isolation, NOTHING, work) for _ in range(repeats)]
        figures[f"sandbox_start_ms_{isolation.name}"] = figure(values, "ms")
    figures["sandbox_start_ms"] = figures[f"sandbox_start_ms_{found[0].name}"]
    for name, address in (("cold", None), ("warm", warm.address())):
        values = [start_ms(found[0], IMPORTS, work, address) for _ in range(3)]
        figures[f"import_ms_{name}"] = figure(values, "ms")
    return figures


def start_ms(
    isolation: Isolation, argv: list[str], work: Path, address: Path | None = None
) -> float:
    """Return the milliseconds that a program takes inside a boundary, warm with an address.

    Raises:
        SegwrightError: the program failed.
    """
    log = work / "start.log"
    log.write_bytes(b"")
    begin = time.perf_counter()
    ended = contain(isolation, argv=argv, mounts=[], env={}, limits=LIMITS, log=log, warm=address)
    milliseconds = (time.perf_counter() - begin) * 1000
    if ended.cause != "exited" or ended.code:
        raise SegwrightError(f"{argv[0]} failed in {isolation} ({ended.cause}, {ended.code})")
    return milliseconds
