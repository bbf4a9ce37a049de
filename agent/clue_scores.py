"""Clues from score rows: where, in which class and in which metric a trial differs.

Paired with the baseline's repeats of the same rung and batch size, case by case on search-val;
standard errors hold the spread over cases and the seeds of both sides (`agent/evidence.py`).
Differences are the trial minus the baseline: in Dice and NSD above 0 favours the trial, in HD95
below 0. A case that is undefined in one run is left out of all and counted.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from agent.clue_text import label_name, points
from agent.evidence import CaseMeans, Evidence, Runs, SeedSpread, measure, seed_spread
from agent.standings import OWN_SPREAD, Setup, Standings, is_scored, setup_of
from agent.suggestions import Clue
from memory.errors import ExploreError
from memory.records import CaseScore, Kind, Metric, SplitCase, SplitName, Status, Trial
from memory.store import Store
from sandbox.means import case_mean
from sandbox.scoring import MISSED

MEAN = ""
WORST = 10  # percent
THIRDS = ("small", "middle", "large")
DIGITS = 6
MOST_CLASSES = 8

Series = Mapping[tuple[Metric, str], CaseMeans]
"""Metric and class (MEAN: the mean over classes) -> case -> value, None where undefined."""


class Scores(NamedTuple):
    """One training on search-val: its values, and how many cases of each class it missed whole."""

    series: Series
    missed: Counter[str]


class Table(NamedTuple):
    """A trial, the baseline's repeats of its setup, and of all setups for the spread of seeds."""

    seed: int
    own: Scores
    base: dict[int, Scores]
    setups: tuple[dict[int, Scores], ...]

    def effect(
        self, metric: Metric, label: str, cases: Sequence[str] | None = None
    ) -> Evidence | None:
        """Return the paired difference in one metric and class; None where nothing is compared."""
        own = picked(self.own, metric, label, cases)
        base = {seed: picked(one, metric, label, cases) for seed, one in self.base.items()}
        others = [
            {seed: picked(one, metric, label, cases) for seed, one in runs.items()}
            for runs in self.setups
        ]
        try:
            spread = seed_spread([base] if len(base) >= OWN_SPREAD else others)
            return measure({self.seed: own}, base, spread=spread)
        except ExploreError:
            return None


def picked(
    scores: Scores, metric: Metric, label: str, cases: Sequence[str] | None
) -> dict[str, float | None]:
    """Return one series of a training, of some cases or of all."""
    found = scores.series.get((metric, label), {})
    return {case: found.get(case) for case in (found if cases is None else cases)}


def read_table(store: Store, trial: Trial) -> Table:
    """Read the search-val scores of a trial and of the baseline's repeats."""
    runs: dict[Setup, dict[int, Scores]] = {}
    for one in baselines(store):
        runs.setdefault(setup_of(one), {})[one.seed] = read_scores(store, one)
    own = read_scores(store, trial)
    return Table(trial.seed, own, runs.get(setup_of(trial), {}), tuple(runs.values()))


def baselines(store: Store) -> list[Trial]:
    """Return the baseline's trainings that are scored on search-val."""
    found = store.trials(kind=Kind.BASELINE, status=Status.OK)
    return [one for one in found if one.split is SplitName.SEARCH_VAL and not one.fold]


def read_scores(store: Store, trial: Trial) -> Scores:
    """Read one training's scores of the cases of search-val."""
    cases = [case.case for case in store.split(SplitName.SEARCH_VAL)]
    nothing: dict[str, float | None] = dict.fromkeys(cases)
    rows = [row for row in store.case_scores(trial.id) if row.case in nothing]
    series: dict[tuple[Metric, str], dict[str, float | None]] = {
        (metric, MEAN): {**nothing, **case_mean(rows, metric)} for metric in Metric
    }
    for row in rows:
        series.setdefault((row.metric, row.label), dict(nothing))[row.case] = row.value
    return Scores(series, _missed(rows))


def _missed(rows: Sequence[CaseScore]) -> Counter[str]:
    whole = [r.label for r in rows if r.metric is Metric.DICE and r.reason == MISSED]
    return Counter(whole)


def score_clues(
    store: Store, trial: Trial, table: Table, standings: Standings, keys: Mapping[str, str]
) -> Iterator[Clue]:
    """Yield what the scores of a trial say; `keys` has a short key for each class."""
    yield from overall_clues(trial, table, standings)
    yield from parent_clues(store, trial, standings)
    yield from case_clues(table, store.split(SplitName.SEARCH_VAL))
    for label in worst_labels(table, list(keys)):
        yield from class_clues(table, label, keys[label])


def overall_clues(trial: Trial, table: Table, standings: Standings) -> Iterator[Clue]:
    """Yield the effect over all classes: Dice, its probability, NSD and HD95."""
    try:
        found = standings.evidence(trial)
    except ExploreError:
        found = None
    if found is not None:
        runs = len(table.base)
        start = f"mean Dice differs from the baseline's by {points(found.delta)} points"
        told = (
            f"{start} ({told_error(found, 100)}; {found.n_cases} cases, {runs} baseline trainings)"
        )
        yield measured("overall.delta", told, found, "Dice")
        text = f"the network is better than the baseline with probability {found.p_better:.2f}"
        yield Clue("overall.p_better", text, round(found.p_better, 4), "probability")
    yield from metric_clues(table, MEAN, "overall", "the mean over classes")


def metric_clues(table: Table, label: str, key: str, name: str) -> Iterator[Clue]:
    """Yield the differences of a class in NSD and HD95."""
    if found := table.effect(Metric.NSD, label):
        text = f"NSD of {name} differs by {points(found.delta)} points ({told_error(found, 100)})"
        yield measured(f"{key}.nsd", text + _left_out(found), found, "NSD")
    if found := table.effect(Metric.HD95, label):
        text = f"HD95 of {name} differs by {found.delta:+.2f} mm ({told_error(found, 1)})"
        yield measured(f"{key}.hd95", text + _left_out(found), found, "mm")


def told_error(found: Evidence, factor: float) -> str:
    """Return a standard error in words, in the unit of the difference beside it."""
    return f"SE {factor * found.se:.{1 if factor > 1 else 2}f}"


def _left_out(found: Evidence) -> str:
    return f"; undefined cases: {found.n_dropped}" if found.n_dropped else ""


def measured(key: str, text: str, found: Evidence, unit: str) -> Clue:
    """Return a paired difference as a clue."""
    return Clue(key, text, round(found.delta, DIGITS), unit, round(found.se, DIGITS), found.n_cases)


def parent_clues(store: Store, trial: Trial, standings: Standings) -> Iterator[Clue]:
    """Yield the parent's own effect at the same setup, and the change against the parent."""
    runs = parent_runs(store, trial, standings)
    spread = spread_of(standings, setup_of(trial))
    if not runs or spread is None:
        return
    base = standings.baseline[setup_of(trial)]
    for key, own, other, words in (
        ("parent.delta", runs, base, "mean Dice of the parent differs from the baseline's by"),
        (
            "parent.change",
            {trial.seed: standings.case_means(trial)},
            runs,
            "mean Dice differs from the parent's by",
        ),
    ):
        if found := measured_or_none(own, other, spread):
            told = f"{words} {points(found.delta)} points ({told_error(found, 100)})"
            yield measured(key, told, found, "Dice")


def parent_runs(store: Store, trial: Trial, standings: Standings) -> Runs:
    """Return the case means by seed of the parent proposal's trials with the same setup."""
    proposal = store.proposal(trial.proposal) if trial.proposal else None
    if proposal is None or proposal.parent is None:
        return {}
    peers = store.trials(rung=trial.rung, status=Status.OK)
    own = [t for t in peers if t.proposal == proposal.parent and setup_of(t) == setup_of(trial)]
    return {t.seed: standings.case_means(t) for t in own if is_scored(t)}


def spread_of(standings: Standings, setup: Setup) -> SeedSpread | None:
    """Return the seed SD of the baseline in a setup; None where there is none to see."""
    try:
        return standings.spread(setup) if setup in standings.baseline else None
    except ExploreError:
        return None


def measured_or_none(own: Runs, other: Runs, spread: SeedSpread) -> Evidence | None:
    """Return the paired difference of two networks; None where too few cases are defined."""
    try:
        return measure(own, other, spread=spread)
    except ExploreError:
        return None


def case_clues(table: Table, split: Sequence[SplitCase]) -> Iterator[Clue]:
    """Yield where a difference sits: in the worst cases, in small or large ones."""
    yield from worst_clues(table)
    ordered = [c.case for c in sorted(split, key=lambda c: (c.foreground_mm3, c.case))]
    third = len(ordered) // len(THIRDS)
    ends = (third, len(ordered) - third)
    parts = (ordered[: ends[0]], ordered[ends[0] : ends[1]], ordered[ends[1] :])
    seen = {
        name: found
        for name, cases in zip(THIRDS, parts, strict=True)
        if (found := table.effect(Metric.DICE, MEAN, cases))
    }
    for name, found in seen.items():
        where = f"the third of cases with {name} foreground volume"
        told = f"in {where}, Dice differs by {points(found.delta)} points"
        yield measured(f"case.{name}", f"{told} ({told_error(found, 100)})", found, "Dice")
    if "small" in seen and "large" in seen:
        yield contrast_clue(seen["small"], seen["large"])


def contrast_clue(small: Evidence, large: Evidence) -> Clue:
    """Return the effect in small cases minus that in large ones; the seeds are in both."""
    apart, error = small.delta - large.delta, math.hypot(small.se_cases, large.se_cases)
    text = (
        f"the difference in small cases minus that in large ones is {points(apart)} points "
        f"(SE {100 * error:.1f})"
    )
    count = small.n_cases + large.n_cases
    return Clue("case.contrast", text, round(apart, DIGITS), "Dice", round(error, DIGITS), count)


def worst_clues(table: Table) -> Iterator[Clue]:
    """Yield the mean difference of the worst tenth of cases beside a repeat's, and of the rest."""
    base = [picked(one, Metric.DICE, MEAN, None) for one in table.base.values()]
    found = sorted(differences(picked(table.own, Metric.DICE, MEAN, None), base))
    count = math.ceil(len(found) * WORST / 100)
    if len(found) <= count:
        return
    worst, rest = fmean(found[:count]), fmean(found[count:])
    text = f"the worst {WORST} % of cases ({count}) differ by {points(worst)} points on average"
    if usual := [fmean(one[:count]) for one in repeats(base) if one]:
        text += f"; those of a repeat of the baseline by {points(fmean(usual))} points"
    yield Clue("case.worst", text, round(worst, DIGITS), "Dice", count=count)
    told = f"all other cases differ by {points(rest)} points on average"
    yield Clue("case.rest", told, round(rest, DIGITS), "Dice", count=len(found) - count)


def differences(own: CaseMeans, base: Sequence[CaseMeans]) -> list[float]:
    """Return the difference of each case to the mean of some runs; undefined ones are left out."""
    found = []
    for case, value in own.items():
        others = [one.get(case) for one in base]
        defined = [other for other in others if other is not None]
        if value is not None and defined and len(defined) == len(others):
            found.append(value - fmean(defined))
    return found


def repeats(base: Sequence[CaseMeans]) -> list[list[float]]:
    """Return, for each of two runs or more, its sorted differences to the others."""
    if len(base) < 2:
        return []
    rest = [[*base[:place], *base[place + 1 :]] for place in range(len(base))]
    return [sorted(differences(one, others)) for one, others in zip(base, rest, strict=True)]


def worst_labels(table: Table, labels: Sequence[str]) -> list[str]:
    """Return the classes whose Dice differs most, in standard errors; at most eight."""

    def order(label: str) -> tuple[float, int]:
        found = table.effect(Metric.DICE, label)
        far = abs(found.delta) / found.se if found and found.se else 0.0
        return -round(far, DIGITS), labels.index(label)

    return sorted(labels, key=order)[:MOST_CLASSES]


def class_clues(table: Table, label: str, key: str) -> Iterator[Clue]:
    """Yield what one class shows: Dice, NSD, HD95, and cases where it was missed whole."""
    name, prefix = label_name(label), f"class.{key}"
    if found := table.effect(Metric.DICE, label):
        start = f"Dice of {name} differs from the baseline's by {points(found.delta)} points"
        told = f"{start} ({told_error(found, 100)}){_left_out(found)}"
        yield measured(f"{prefix}.delta", told, found, "Dice")
    yield from metric_clues(table, label, prefix, name)
    own, base = table.own.missed[label], [one.missed[label] for one in table.base.values()]
    if base and (own or any(base)):
        usual = fmean(base)
        told = f"{name} is missed whole in {own} cases, by the baseline in {usual:.1f}"
        yield Clue(f"{prefix}.missed_whole", told, round(own - usual, DIGITS), "cases", count=own)
