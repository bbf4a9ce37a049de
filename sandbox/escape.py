"""The escape suite: one attack a threat, run against every boundary that works on this machine.

Each attack is a short program that runs as a trial would, and is judged from outside wherever
something can be seen there (`sandbox/probes/scene.py`). The path through the warm parent is a
target of its own. Call it from the main thread, as `sandbox.watch.contain` asks.

Covered: what the attacks do, each by its name in `PROBES`. Not covered: faults of the kernel
and of GPU drivers, timing between trials, and attacks that nobody thought of: a suite that
passes shows that these attacks fail, and no more.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memory.errors import SandboxError
from sandbox import warm
from sandbox.boundary import Isolation
from sandbox.isolation import available, backend_of, choose
from sandbox.probes import kernel, network, parents, planted, reading, resources, writing
from sandbox.probes.scene import (
    OVER,
    Attempt,
    Probe,
    Scene,
    UnsuitableError,
    fingerprint,
    scene,
    seen,
)
from sandbox.processes import tail
from sandbox.watch import contain

GROUPS = {
    "reading": reading.PROBES,
    "network": network.PROBES,
    "writing": writing.PROBES,
    "planted output": planted.PROBES,
    "resources": resources.PROBES,
    "kernel": kernel.PROBES,
    "warm parent": parents.PROBES,
}
PROBES: dict[str, Probe] = {p.name: p for group in GROUPS.values() for p in group}
GOES_S = 3 * warm.TICK_S
HELD, ESCAPED, SKIPPED, BROKEN = "held", "escaped", "skipped", "broken"


class Target(NamedTuple):
    """A boundary, entered cold or through the warm parent that listens on a socket.

    `fault` says why it cannot be attacked at all.
    """

    isolation: Isolation
    warm: Path | None = None
    fault: str = ""

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"{self.isolation.name} (warm)" if self.warm else self.isolation.name

    def probes(self, names: Collection[str] = ()) -> list[Probe]:
        """Return the attacks, of these names if there are any, that make sense against it."""
        chosen = [probe for name, probe in PROBES.items() if not names or name in names]
        return [probe for probe in chosen if is_fitting(probe, self.isolation.level)]


def is_fitting(probe: Probe, level: str) -> bool:
    """Return True when an attack makes sense on a level, and does no harm where none holds it."""
    return level in probe.levels and (level != "D" or probe.gets_out_uncontained)


class Finding(NamedTuple):
    """What one attack showed.

    `verdict` is held, escaped, skipped (a known gap, or this machine cannot show it) or broken
    (it did not run to its end, which shows nothing); `text` is the evidence.
    """

    probe: str
    verdict: str
    text: str
    seconds: float


class Suite(NamedTuple):
    """A whole run: the report for `--json`, and the exit status that goes with it."""

    report: dict[str, dict[str, dict[str, Any]]]
    exit_code: int


Progress = Callable[[str, Finding], None]


def quiet(_: str, __: Finding) -> None:
    """Show no progress."""


def run_suite(progress: Progress = quiet, *, names: Collection[str] = ()) -> Suite:
    """Attack every boundary of this machine; takes a minute or two for each.

    Args:
        progress: is told the name of the boundary and each finding as it comes.
        names: the attacks to make; all when it is empty.

    Returns:
        `{"backends": {name: {"probes": n, "escaped": [names], "skipped": {name: reason}}}}`, the
        strongest first, and 1 if an attack on the strongest escaped or did not run to its end.
        `probes` counts those that were made; what is skipped names its reason.

    Raises:
        IsolationUnavailable: no boundary works here.
    """
    isolations = available() or [choose()]
    report: dict[str, dict[str, Any]] = {}
    is_open = False
    with targets(isolations) as found:
        for target in found:
            findings = [examine(one, target, progress) for one in target.probes(names)]
            report[target.name] = summary(findings)
            if target.isolation == isolations[0]:
                is_open |= any(one.verdict in (ESCAPED, BROKEN) for one in findings)
    return Suite({"backends": report}, int(is_open))


@contextlib.contextmanager
def targets(isolations: Sequence[Isolation]) -> Iterator[list[Target]]:
    """Give the boundaries, and the warm path of each that has one.

    A warm parent that was not there before is told to end.
    """
    found = [Target(isolation) for isolation in isolations]
    if not any(isolation.level == "A" for isolation in isolations):
        yield found
        return
    path = warm.address()
    was_there = warm.is_listening(path) or warm.is_held(path)
    warm.ensure()
    fault = (
        "" if warm.await_ready(path) else f"no warm parent: {tail(path.with_suffix('.log'), 200)}"
    )
    for n in reversed(range(len(found))):
        if found[n].isolation.level == "A":
            found.insert(n + 1, Target(found[n].isolation, path, fault))
    try:
        yield found
    finally:
        if not was_there:
            dismiss(path)


def dismiss(path: Path) -> None:
    """End a warm parent, which goes when its socket has gone, and wait until it has."""
    path.unlink(missing_ok=True)
    start = time.monotonic()
    while warm.is_held(path) and time.monotonic() - start < GOES_S:
        time.sleep(0.1)


def examine(probe: Probe, target: Target, progress: Progress) -> Finding:
    """Make one attack unless it is a known gap, and tell what came of it."""
    gap = backend_of(target.isolation).gaps.get(probe.name)
    why = target.fault or (f"known gap: {gap}" if gap else "")
    finding = Finding(probe.name, SKIPPED, why, 0.0) if why else attack(probe, target)
    progress(target.name, finding)
    return finding


def attack(probe: Probe, target: Target) -> Finding:
    """Make one attack, gap or not, and judge it from outside."""
    start = time.monotonic()
    if not is_fitting(probe, target.isolation.level):
        return Finding(probe.name, SKIPPED, f"not for level {target.isolation.level}", 0.0)
    with scene(target.isolation, target.warm) as built:
        try:
            probe.plant(built)
            made = attempt(probe, built)
        except UnsuitableError as error:
            verdict, text = SKIPPED, str(error)
        except SandboxError as error:
            verdict, text = BROKEN, str(error)
        except Exception as error:  # noqa: BLE001 -- what makes our own code fail has got through
            verdict, text = ESCAPED, f"the watch failed: {type(error).__name__}: {error}"
        else:
            verdict, text = verdict_of(probe, made)
    return Finding(probe.name, verdict, text, time.monotonic() - start)


def attempt(probe: Probe, built: Scene) -> Attempt:
    """Run the attack's program as a trial is run."""
    before = fingerprint(built)
    built.facts["start"] = time.monotonic()
    ended = contain(
        built.isolation,
        argv=built.argv(probe.code),
        mounts=built.mounts,
        env=built.env,
        limits=probe.limits,
        log=built.log,
        warm=built.warm,
    )
    log_mode = built.log.stat().st_mode & 0o7777
    built.log.chmod(0o600)
    return Attempt(built, ended, before, probe.limits, log_mode)


def verdict_of(probe: Probe, made: Attempt) -> tuple[str, str]:
    """Return what an attack showed; one that did not run as it should shows nothing."""
    if made.scene.warm and made.ended.start != "warm":
        return BROKEN, "the warm parent did not answer: it was started cold"
    text = seen(made) or probe.judge(made)
    if text:
        return ESCAPED, text
    cause, code = made.ended.cause, made.ended.code
    is_over = made.said.endswith(f"{OVER}\n") or not probe.is_whole or cause != "exited"
    if cause in probe.ends and is_over:
        return HELD, ""
    return BROKEN, f"{cause}, exit {code}: {tail(made.scene.log, 300)}"


def summary(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return a boundary's part of the report."""
    made = [one for one in findings if one.verdict in (HELD, ESCAPED)]
    return {
        "probes": len(made),
        "escaped": [one.probe for one in made if one.verdict == ESCAPED],
        "skipped": {
            one.probe: one.text if one.verdict == SKIPPED else f"it did not run: {one.text}"
            for one in findings
            if one.verdict in (SKIPPED, BROKEN)
        },
    }
