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
from sandbox.escape import BROKEN, ESCAPED, HELD, PROBES, Target, attack
from sandbox.gpus import granted_gpus
from sandbox.isolation import Isolation, backend_of, candidates, probe

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
    return [python(), *packages(), *isolation(), device(), *cards(), disk(), *optional()]


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
    """Try every boundary; one that works is enough. Then ask the strongest what it holds."""
    reasons = {found: probe(found) for found in candidates()}
    works = [found for found, reason in reasons.items() if not reason]
    for found, reason in reasons.items():
        text = f"level {found.level}, {found.path}: {reason.splitlines()[0] if reason else 'works'}"
        fix = FIXES[found.level] if reason else ""
        yield Line(f"{found.name} {found.version}", not reason, False, text, fix)
    if not works:
        yield Line("isolation level", False, True, "none: generated code is not run", FIXES["A"])
        return
    yield Line("isolation level", True, True, f"{works[0]}, of levels A to D")
    yield from guarantees(works[0])
    yield warm_start(works[0])


FIXES = {
    "A": "apt install bubblewrap, or allow user namespaces",
    "B": "a kernel from 6.12 with Landlock",
    "C": "mend the container runtime; without need where level A or B works",
}


GUARANTEES = {
    "no network": ("tcp_to_the_host", "udp_to_the_host", "dns", "unix_socket", "abstract_socket"),
    "named variables only": ("own_environment", "environment_of_the_first_process"),
    "no home": ("home_secret",),
    "no hidden label, no other trial": ("labels_by_path", "other_trials"),
    "no other processes": ("environment_of_others", "kill_others"),
    "read-only data and code": ("write_data", "write_code"),
    "write quota": ("disk",),
    "memory limit": ("memory",),
    "process limit": ("fork_bomb",),
    "file-size limit": ("one_large_file",),
    "CPU-time and wall limits": ("processor_time", "endless_loop"),
    "no privileges to gain": ("capabilities", "new_privileges"),
    "no tracing": ("trace_others",),
    "no devices": ("devices",),
    "/dev/shm of a set size": ("memory_in_dev_shm",),
    "no survivors": ("left_after_the_end",),
}
"""What is in force for each trial, and the attacks that would show that it is not."""


def guarantees(isolation: Isolation) -> Iterator[Line]:
    """Attack the boundary once for each thing that it promises; yes or no, with the reason."""
    known = backend_of(isolation).gaps
    for name, probes in GUARANTEES.items():
        findings = [attack(PROBES[probe], Target(isolation)) for probe in probes]
        failed = [one for one in findings if one.verdict in (ESCAPED, BROKEN)]
        if not failed:
            held = sum(one.verdict == HELD for one in findings)
            yield Line(
                name, True, True, f"yes: {held} of {len(findings)} attacks made, none got out"
            )
            continue
        text = f"no: {known.get(failed[0].probe, failed[0].text)}"
        is_gap = all(one.probe in known for one in failed)
        yield Line(name, is_gap, not is_gap, text, "" if is_gap else "do not run a campaign here")


def warm_start(isolation: Isolation) -> Line:
    """Tell whether trials start from imports that are already there."""
    is_ok = isolation.level == "A"
    text = "trials start from a parent that holds the imports" if is_ok else "each trial imports"
    return Line("warm start", is_ok, False, text, "" if is_ok else "needs isolation of level A")


def device() -> Line:
    """Tell where networks would be trained."""
    try:
        return Line("device", True, True, find_device("auto"))
    except SegwrightError as error:
        return Line("device", False, True, str(error), "reinstall torch in this environment")


def cards() -> Iterator[Line]:
    """Tell which GPUs a trial may be given; each trial leases one."""
    for gpu in granted_gpus():
        node = Path(f"/dev/nvidia{gpu.minor}")
        fix = "run `nvidia-modprobe -u -c=0` once on this machine"
        is_ok = node.exists() and Path("/dev/nvidia-uvm").exists()
        yield Line("GPU", is_ok, False, f"{gpu.uuid} at {node}", "" if is_ok else fix)


def disk() -> Line:
    """Tell the free space of the working folder."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    fix = f"free at least {MIN_FREE_GIB} GiB"
    return Line("disk", free >= MIN_FREE_GIB, False, f"{free:.0f} GiB free here", fix)


EXTRAS = {
    "PDF": ("typst", "a PDF then needs pdflatex", "pdf"),
    "recall by meaning": ("wordllama", "lessons are found by their words", "embed"),
    "prices of models": ("genai_prices", "set usd_in and usd_out of an endpoint", "prices"),
}
"""Extras: what each is for, its package, what holds without it, and its name."""


def optional() -> Iterator[Line]:
    """Tell which optional programs are there."""
    wanted = {
        "git": ("git", "apt install git", True),
        "pdflatex": (
            "pdflatex",
            "apt install texlive-latex-recommended, for a PDF by LaTeX",
            False,
        ),
        "chromium": ("chromium", "apt install chromium, for the page's tests", False),
    }
    for name, (program, fix, is_needed) in wanted.items():
        path = shutil.which(program)
        yield Line(name, path is not None, is_needed, path or "not found", fix)
    for name, (package, without, extra) in EXTRAS.items():
        is_there = importlib.util.find_spec(package) is not None
        text = package if is_there else f"not found; {without}"
        yield Line(name, is_there, False, text, f"pip install 'segwright[{extra}]'")
