"""What this machine offers a campaign, one line each, with one fix for each thing missing."""

import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from memory.errors import SegwrightError
from sandbox.engine import find_device
from sandbox.isolation import candidates, probe, version

OURS = ("agent", "bench", "memory", "sandbox", "templates")
MIN_FREE_GIB = 5


class Line(NamedTuple):
    """One thing that was looked at; `is_needed` things that are not ok stop a campaign."""

    name: str
    is_ok: bool
    is_needed: bool
    text: str
    fix: str = ""


def examine() -> list[Line]:
    """Look at everything and return a line each; nothing is changed."""
    return [python(), *packages(), *isolation(), device(), disk(), *optional()]


def python() -> Line:
    """Tell the Python version."""
    is_ok = sys.version_info >= (3, 11)
    return Line("python", is_ok, True, platform.python_version(), "install Python 3.11 or later")


def packages() -> Iterator[Line]:
    """Refuse packages of the same names that are not ours."""
    root = Path(__file__).resolve().parent.parent
    for name in OURS:
        found = importlib.util.find_spec(name)
        where = Path(found.origin).resolve().parent if found and found.origin else None
        if where != root / name:
            fix = "use a virtual environment of its own for segwright"
            yield Line(f"package {name}", False, True, f"resolves to {where}", fix)


def isolation() -> Iterator[Line]:
    """Try each bubblewrap; one that works is enough."""
    reasons = {path: probe(path) for path in candidates()}
    works = [path for path, reason in reasons.items() if not reason]
    for path, reason in reasons.items():
        text = f"{path}: " + (reason.splitlines()[0] if reason else f"works, {version(path)}")
        yield Line("bubblewrap", not reason, not works, text, "allow user namespaces")
    if not reasons:
        yield Line("bubblewrap", False, True, "not found", "apt install bubblewrap")
    level = "A: bubblewrap" if works else "none: generated code will not be run"
    yield Line("isolation level", bool(works), True, level, "see the lines above")


def device() -> Line:
    """Tell where networks would be trained."""
    try:
        return Line("device", True, True, find_device("auto"))
    except SegwrightError as error:
        return Line("device", False, True, str(error), "reinstall torch in this environment")


def disk() -> Line:
    """Tell the free space of the working folder."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    fix = f"free at least {MIN_FREE_GIB} GiB"
    return Line("disk", free >= MIN_FREE_GIB, False, f"{free:.0f} GiB free here", fix)


def optional() -> Iterator[Line]:
    """Tell which optional programs are there."""
    wanted = {
        "git": ("git", "apt install git", True),
        "pdflatex": ("pdflatex", "apt install texlive-latex-recommended, for a PDF", False),
        "chromium": ("chromium", "apt install chromium, for the page's tests", False),
    }
    for name, (program, fix, is_needed) in wanted.items():
        path = shutil.which(program)
        yield Line(name, path is not None, is_needed, path or "not found", fix)
