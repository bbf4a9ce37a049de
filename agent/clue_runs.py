"""Clues from how a trial ran: its curve, its cost, its dry run, its failure, its ablations.

The curve and the dry run's evidence were reported by the process of the trial: they inform, and no
score rests on them. No time is told, and memory only as a coarse ratio, so that a training that
is repeated gives the same text. There is no validation loss: the child reports none.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np

from agent.clue_scores import measured, measured_or_none, spread_of
from agent.clue_text import points, scrubbed
from agent.evidence import CaseMeans
from agent.standings import SEARCH, Setup, Standings, setup_of
from agent.suggestions import FAILURE, Clue
from agent.trial_view import curve, verdicts
from agent.trials import ABLATED
from memory.records import Figures, Kind, SplitName, Status, Trial
from memory.store import Store
from sandbox.failures import CLASSES

FEWEST_EPOCHS = 8
DIGITS = 4
MEMORY_STEPS = 4  # a ratio of memory is told in quarters
NAMES = 3
SOURCE_BYTES = 1 << 18
IDENTIFIER = re.compile(r"[A-Za-z_][\w.]{0,59}", re.ASCII)
PARTS = 12  # a hostile report may name thousands
IDLE = re.compile(r"(?:CheckError: )?(?:the proposal names )?(\w{1,60})(?: is built, and|; the)")
LINE = re.compile(r"network\.py line (\d{1,6})|(?:^|; |\()line (\d{1,6})")
HEAD_WEIGHTS = "deep_supervision_weights"


class Loss(NamedTuple):
    """One training's loss at its end: last tenth, fall over the last quarter with SE, noise."""

    final: float
    change: float
    change_se: float
    noise: float


def run_clues(
    store: Store,
    folder: Path,
    trial: Trial,
    *,
    baselines: Sequence[Trial],
    names: Sequence[str],
    standings: Standings,
) -> Iterator[Clue]:
    """Yield what is known of a trial beyond its scores.

    Args:
        store: the campaign's.
        folder: the campaign's.
        trial: one of the search.
        baselines: the baseline's trainings with scores, of all setups.
        names: the cases, which no text may tell.
        standings: of the same store.
    """
    peers = [one for one in baselines if setup_of(one) == setup_of(trial)]
    source = source_of(folder, trial)
    yield from failure_clues(trial, source, names)
    yield from dry_clues(verdicts(store, trial), names)
    yield from cost_clues(trial, peers or baselines)
    yield from curve_clues(folder, trial, peers, is_comparable=HEAD_WEIGHTS not in source)
    yield from ablation_clues(store, trial, standings)


def source_of(folder: Path, trial: Trial) -> str:
    """Return the network.py that a trial was given; empty where the file is gone."""
    path = folder / "trials" / trial.id / "code" / "network.py"
    if not path.is_file() or path.stat().st_size > SOURCE_BYTES:
        return ""
    return path.read_text(errors="replace")


def failure_clues(trial: Trial, source: str, names: Sequence[str]) -> Iterator[Clue]:
    """Yield how a trial failed, what it said, and the line of network.py."""
    if trial.status is Status.OK:
        return
    kind = trial.failure_class or "unknown"
    meaning = CLASSES.get(kind, "no further meaning is known")
    text = f"the trial ended {trial.status} ({scrubbed(kind, most=40)}): {meaning}"
    yield Clue(f"{FAILURE}{kind if IDENTIFIER.fullmatch(kind) else 'unknown'}", text, None, "")
    said = trial.failure_excerpt or ""
    if excerpt := scrubbed(said, names=names):
        yield Clue("failure.excerpt", f"it said: {excerpt}", None, "")
    if found := LINE.search(said):
        yield line_clue(int(found[1] or found[2]), source, names)


def line_clue(number: int, source: str, names: Sequence[str]) -> Clue:
    """Return a line of network.py as a clue, with its text where the file is there."""
    lines = source.splitlines()
    shown = scrubbed(lines[number - 1], names=names, most=160) if 0 < number <= len(lines) else ""
    text = f"it failed at line {number} of network.py" + (f": {shown}" if shown else "")
    return Clue("failure.line", text, float(number), "line")


def dry_clues(found: Sequence[Figures], names: Sequence[str]) -> Iterator[Clue]:
    """Yield what the dry run showed of a network and its parts."""
    for verdict in found:
        evidence = verdict.get("evidence")
        step, shown = str(verdict.get("step")), evidence if isinstance(evidence, dict) else {}
        if not verdict.get("passed"):
            yield from failed_step(step, str(verdict.get("text") or ""), names)
        if step == "planned" or (step == "small" and len(found) < 5):
            yield from unused_clues(shown.get("unused"))
        if step == "parts":
            yield from part_clues(shown)
        if step == "admission":
            yield from memory_clues(shown)


def failed_step(step: str, said: str, names: Sequence[str]) -> Iterator[Clue]:
    """Yield the step of the dry run that failed, and the idle part it named."""
    told = scrubbed(said, names=names)
    yield Clue("dry.failed", f"the dry run failed at its step {step}: {told}"[:700], None, "")
    if found := IDLE.match(said) if step == "parts" else None:
        text = f"{found[1]} is not built, or changing its output changes no logit"
        yield Clue(f"dry.idle.{found[1]}", text, 0.0, "places")


def unused_clues(unused: object) -> Iterator[Clue]:
    """Yield how many parameters got no gradient, and the names of some."""
    if not isinstance(unused, list):
        return
    listed = [n for n in unused if isinstance(n, str) and IDENTIFIER.fullmatch(n)][:NAMES]
    told = f", among them {', '.join(listed)}" if listed else ""
    most = "at least " if len(unused) >= 20 else ""
    text = f"{most}{len(unused)} parameters of the network get no gradient{told}"
    yield Clue("dry.unused", text, float(len(unused)), "parameters")


def part_clues(shown: Mapping[str, Any]) -> Iterator[Clue]:
    """Yield how often each named part is built; the step passed, so each changes the logits.

    Where the child also reports `effect` (change of the logits by class, relative to their SD) or
    `gradient` (norm at the class's parameters, relative to that of all), those are told too.
    """
    for name, count in pairs(shown.get("instances")):
        text = f"{name} is built {count:.0f} times, and changing its output changes the logits"
        yield Clue(f"dry.instances.{name}", text, count, "places")
    for key, words in (
        ("effect", "disturbing {name} changes the logits by {value:.2g} of their SD"),
        ("gradient", "the gradient at {name} has {value:.2g} of the whole gradient's norm"),
    ):
        for name, value in pairs(shown.get(key)):
            yield Clue(f"dry.{key}.{name}", words.format(name=name, value=value), value, "share")


def pairs(said: object) -> list[tuple[str, float]]:
    """Return the names and finite numbers of a reported dictionary, by name."""
    if not isinstance(said, dict):
        return []
    return sorted(
        (name, float(f"{value:.3g}"))
        for name, value in said.items()
        if isinstance(name, str) and IDENTIFIER.fullmatch(name) and is_number(value)
    )[:PARTS]


def is_number(value: object) -> bool:
    """Tell whether a reported value is a finite number of a sane size."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return fits and math.isfinite(value) and abs(value) < 1e15  # type: ignore[arg-type]


def memory_clues(shown: Mapping[str, Any]) -> Iterator[Clue]:
    """Yield how the memory that a training needs compares with what is free."""
    needed, free = shown.get("needed_mib"), shown.get("free_mib")
    if is_number(needed) and is_number(free) and free:
        ratio = coarse(float(needed) / float(free))  # type: ignore[arg-type]
        text = f"a training would need about {ratio:g} times the memory that is free"
        yield Clue("dry.memory", text, ratio, "ratio")


def coarse(ratio: float) -> float:
    """Return a ratio of memory in quarters."""
    return round(ratio * MEMORY_STEPS) / MEMORY_STEPS


def cost_clues(trial: Trial, baselines: Sequence[Trial]) -> Iterator[Clue]:
    """Yield parameters, FLOPs and peak memory as ratios to the baseline's."""
    for key, field, words in (
        ("parameters", "parameters", "the network has {ratio:.2f} times the baseline's parameters"),
        ("flops", "flops", "a forward pass takes {ratio:.2f} times the baseline's FLOPs"),
        ("memory", "peak_memory_mib", "its peak memory is about {ratio:g} times the baseline's"),
    ):
        own = getattr(trial, field)
        others = [value for one in baselines if (value := getattr(one, field))]
        if own and others:
            ratio = own / fmean(others)
            told = coarse(ratio) if key == "memory" else round(ratio, 2)
            yield Clue(f"cost.{key}", words.format(ratio=told), told, "ratio")


def curve_clues(
    folder: Path, trial: Trial, baselines: Sequence[Trial], *, is_comparable: bool
) -> Iterator[Clue]:
    """Yield the training loss at its end: level, fall and noise, beside the baseline's.

    A loss whose heads are weighted in another way has another level, which is not compared.
    """
    own = loss_of(folder, trial)
    if own is None:
        return
    base = [loss for one in baselines if (loss := loss_of(folder, one))]
    if base and is_comparable:
        yield final_clue(own, base)
    falls = "still falls" if own.change < -2 * own.change_se else "does not fall clearly any more"
    text = (
        f"the training loss {falls} at the end: {own.change:+.4f} over the last quarter "
        f"(SE {own.change_se:.4f})"
    )
    yield Clue("curve.slope", text, round(own.change, DIGITS), "loss", round(own.change_se, DIGITS))
    if base and is_comparable:
        yield steeper_clue(own, base)
    usual = fmean(b.noise for b in base) if base else 0.0
    if usual and is_comparable:
        ratio = round(own.noise / usual, 2)
        text = f"the loss scatters {ratio:g} times as much as the baseline's in the last quarter"
        yield Clue("curve.noise", text, ratio, "ratio")


def steeper_clue(own: Loss, base: Sequence[Loss]) -> Clue:
    """Return how much more a loss falls over the last quarter than the baseline's."""
    apart = own.change - fmean(one.change for one in base)
    error = math.hypot(own.change_se, *(one.change_se / len(base) for one in base))
    text = (
        f"over the last quarter the loss moves by {apart:+.4f} beyond the baseline's "
        f"(SE {error:.4f}); below zero it falls more"
    )
    return Clue("curve.steeper", text, round(apart, DIGITS), "loss", round(error, DIGITS))


def final_clue(own: Loss, base: Sequence[Loss]) -> Clue:
    """Return the final loss beside the baseline's; its SE holds the seeds where there are two."""
    finals = [one.final for one in base]
    apart = own.final - fmean(finals)
    error = stdev(finals) * math.sqrt(1 + 1 / len(finals)) if len(finals) > 1 else None
    side = "above" if apart > 0 else "below"
    text = f"the final training loss ends {abs(apart):.4f} {side} the baseline's"
    text += "" if error is None else f" (SE {error:.4f}; {len(finals)} baseline trainings)"
    se = None if error is None else round(error, DIGITS)
    return Clue("curve.final", text, round(apart, DIGITS), "loss", se, len(finals))


def loss_of(folder: Path, trial: Trial) -> Loss | None:
    """Return how a training's loss ended, as it reported it; None where it is gone or too short."""
    losses = curve(folder / "trials" / trial.id)
    if losses is None or len(losses) < FEWEST_EPOCHS or not np.isfinite(losses).all():
        return None
    last = np.asarray(losses[-max(4, len(losses) // 4) :])
    places = np.arange(len(last)) - (len(last) - 1) / 2
    squares = float((places**2).sum())
    slope = float((places * last).sum()) / squares
    rest = last - last.mean() - slope * places
    noise = math.sqrt(float((rest**2).sum()) / (len(last) - 2))
    length = len(last) - 1
    tenth = losses[-max(2, len(losses) // 10) :]
    return Loss(fmean(tenth), slope * length, noise / math.sqrt(squares) * length, noise)


def ablation_clues(store: Store, trial: Trial, standings: Standings) -> Iterator[Clue]:
    """Yield what each module brings: the network minus the one without it, at the lowest rung.

    Trainings of the whole network that were made for the ablation are taken where there are any,
    for the search's own chose the network by their luck as well.
    """
    found: dict[tuple[Setup, str], list[Trial]] = {}
    for one in store.trials(kind=Kind.ABLATE, status=Status.OK):
        gone = store.effect(f"{ABLATED}/{one.commit}")
        is_own = one.proposal == trial.proposal and one.split is SplitName.SEARCH_VAL
        if is_own and gone and not one.fold:
            key = setup_of(one), str(gone["component"])
            found.setdefault(key, []).append(one)
    told: set[str] = set()
    for (setup, component), own in sorted(found.items(), key=lambda row: order(row[0])):
        if component not in told and (
            clue := ablation_clue(store, trial, own, setup, component, standings)
        ):
            told.add(component)
            yield clue


def order(key: tuple[Setup, str]) -> tuple[int, int, str]:
    """Return the place of an ablation: the lowest rung first, then the planned batch."""
    setup, component = key
    return setup.rung, -(setup.batch_size or 1 << 30), component


def ablation_clue(
    store: Store,
    trial: Trial,
    own: Sequence[Trial],
    setup: Setup,
    component: str,
    standings: Standings,
) -> Clue | None:
    """Return what one module brings in one setup; None where nothing is compared."""
    spread, whole = spread_of(standings, setup), whole_runs(store, trial, setup, standings)
    if spread is None or not whole:
        return None
    without = {one.seed: standings.case_means(one) for one in own}
    found = measured_or_none(whole, without, spread)
    if found is None:
        return None
    name = scrubbed(component, most=60)
    text = (
        f"with {name} the network scores {points(found.delta)} points against the same without "
        f"it (SE {100 * found.se:.1f})"
    )
    key = re.sub(r"\W+", "_", component)[:60]
    return measured(f"ablation.{key}", text, found, "Dice")


def whole_runs(
    store: Store, trial: Trial, setup: Setup, standings: Standings
) -> dict[int, CaseMeans]:
    """Return the case means by seed of the whole network in a setup."""
    peers = [
        one
        for one in store.trials(rung=setup.rung, status=Status.OK)
        if one.commit == trial.commit and setup_of(one) == setup
        if one.split is SplitName.SEARCH_VAL and not one.fold
    ]
    again = [one for one in peers if one.kind is Kind.ABLATE]
    chosen = again or [one for one in peers if one.kind in SEARCH]
    return {one.seed: standings.case_means(one) for one in chosen}
