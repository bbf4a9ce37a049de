"""What a benchmark hands over: figures under fixed keys, as JSON and as a table.

`{"bench", "commit", "figures": {KEY: {"value", "low", "high", "unit"}}}`. The table of
RESULTS.md is drawn from that JSON alone.
"""

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from agent.new_campaign import cpu_name
from memory.errors import SegwrightError

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = """\
# Results

Written by `segwright bench NAME --write`, never by hand. `value` is the median of the repeats,
`low` and `high` are the smallest and the largest of them. For `policies` and `claims`, `value` is
the mean or the share over campaigns, `low` and `high` its 95 % interval; for `claims_real`, those of
single networks; for `planted`, the interval of the claim.
"""


class Figure(NamedTuple):
    """One measured quantity: the median of its repeats, the smallest and the largest."""

    value: float
    low: float
    high: float
    unit: str


def figure(values: Sequence[float], unit: str) -> Figure:
    """Return the figure of a quantity that was measured at least once."""
    return Figure(median(values), min(values), max(values), unit)


def commit(folder: Path = Path(__file__).parent) -> str:
    """Return the commit of this program, with a + when files differ from it."""

    def git(*words: str) -> str:
        ran = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
        return ran.stdout.strip() if ran.returncode == 0 else ""

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("+" if changed else "") or "unknown"


def document(bench: str, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Return the one JSON object that a benchmark prints."""
    shown = {key: {**one._asdict(), **rounded(one)} for key, one in figures.items()}
    return {"bench": bench, "commit": commit(), "figures": shown}


def rounded(one: Figure) -> dict[str, float]:
    """Return the numbers of a figure to four significant digits."""
    return {name: float(f"{getattr(one, name):.4g}") for name in ("value", "low", "high")}


def machine() -> str:
    """Return the machine in words: processor, cores that may be used, system, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.release()}"
    return f"{cpu_name()}, {cores} cores, {system}, Python {platform.python_version()}"


def section(found: Mapping[str, Any], *, command: str, date: str) -> str:
    """Return a benchmark's part of RESULTS.md."""
    lines = [
        f"## {found['bench']}",
        "",
        f"- command: `{command}`",
        f"- commit: `{found['commit']}`",
        f"- date: {date}",
        f"- machine: {machine()}",
        "",
        "| key | value | low | high | unit |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for key, one in found["figures"].items():
        numbers = " | ".join(f"{one[name]:.4g}" for name in ("value", "low", "high"))
        lines.append(f"| `{key}` | {numbers} | {one['unit']} |")
    return "\n".join(lines) + "\n"


def replaced(text: str, bench: str, part: str) -> str:
    """Return the text of RESULTS.md with one benchmark's part exchanged, or put at its end."""
    pattern = re.compile(rf"^## {re.escape(bench)}\n.*?(?=^## |\Z)", re.M | re.S)
    if pattern.search(text):
        return pattern.sub(lambda _: part + "\n", text).rstrip("\n") + "\n"
    return f"{(text or HEADER).rstrip()}\n\n{part}"


def write(found: Mapping[str, Any], *, command: str, date: str, path: Path = RESULTS) -> None:
    """Put a benchmark's figures into RESULTS.md.

    Raises:
        SegwrightError: the file cannot be written, as in an installation of somebody else's.
    """
    before = path.read_text() if path.exists() else ""
    try:
        path.write_text(
            replaced(before, found["bench"], section(found, command=command, date=date))
        )
    except OSError as error:
        raise SegwrightError(f"{path} cannot be written: {error}") from error
