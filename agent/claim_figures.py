"""What is stored with a claim beside its test: secondary scores, power, robustness, counts.

Nothing here decides a verdict. Secondary differences are declared as such: an interval each, no
adjustment for their number, and how many cases had no score.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from agent.claims import Comparison, Cost, components, power_at, shrinkage
from agent.robustness import robustness
from agent.score_table import Scores, Table, columns, is_comparable, table
from agent.secondary import describe
from agent.selection_scores import CHOSEN
from agent.standings import SEARCH, Standings, setup_of
from memory.errors import ExploreError
from memory.records import Figures, Metric, Trial
from memory.store import Store

MEAN_LABEL = "mean"
COMPARED = ("candidate", "baseline", "delta", "low", "high", "n_cases", "is_flagged")


def secondary(
    candidate: Scores, baseline: Scores, *, patients: Mapping[str, str], alpha: float
) -> list[Figures]:
    """Return the paired differences of every metric and class but the primary endpoint.

    Args:
        candidate: scores of each training of the finalist.
        baseline: of its baseline.
        patients: patient of each case of the locked test.
        alpha: level of the intervals.

    Returns:
        Rows of metric, label ("mean": over classes), undefined and the figures of
        `agent.secondary.Secondary`; a positive delta favours the candidate, of HD95 (in mm) as
        well. `n_cases` counts patients that are compared, `undefined` cases without a score in
        some training. Where nothing can be compared there are no more than those two.
    """
    arms = (candidate, baseline)
    labels = dict.fromkeys(row.label for arm in arms for rows in arm.values() for row in rows)
    wanted = [(metric, label) for metric in Metric for label in (None, *labels)]
    return [
        _row(arms, patients, metric=metric, label=label, alpha=alpha)
        for metric, label in wanted
        if (metric, label) != (Metric.DICE, None)
    ]


def _row(
    arms: tuple[Scores, Scores],
    patients: Mapping[str, str],
    *,
    metric: Metric,
    label: str | None,
    alpha: float,
) -> Figures:
    found = table(*arms, cases=list(patients), metric=metric, label=label)
    row = {"metric": str(metric), "label": label or MEAN_LABEL, "undefined": found.undefined}
    if not is_comparable(found, patients):
        return {**row, "n_cases": 0}
    told = describe(
        metric,
        found.candidate,
        found.baseline,
        n_undefined=found.undefined,
        alpha=alpha,
        patients=columns(found, patients),
    )
    return {**row, **{name: getattr(told, name) for name in COMPARED}}


def cost(candidate: Sequence[Trial], baseline: Sequence[Trial], *, needed: float) -> Cost | None:
    """Return what a training of both arms took in wall seconds; None where it is not known.

    Args:
        candidate: trainings of the finalist.
        baseline: of its baseline.
        needed: share of the baseline's seconds that must be saved to count.
    """
    sides = [[t.seconds for t in arm if t.seconds] for arm in (candidate, baseline)]
    if not all(sides):
        return None
    own, base = map(fmean, sides)
    return Cost(own, base, needed=needed)


def power(result: Comparison, *, margin: float) -> Figures:
    """Return how likely this test was to find a true gain as large as the margin."""
    seeds = min(result.seeds_candidate, result.seeds_baseline)
    found = power_at(
        components(result), gain=margin, cases=result.n_cases, seeds=seeds, alpha=result.alpha
    )
    return {"power_at_margin": found}


def resampled(found: Table, patients: Mapping[str, str], *, alpha: float, seed: int) -> Figures:
    """Return the bootstrap interval over patients and trainings, and the permutation p."""
    told = robustness(
        found.candidate,
        found.baseline,
        rng=np.random.default_rng(seed),
        alpha=alpha,
        patients=columns(found, patients),
    )
    return {
        "bootstrap_low": told.low,
        "bootstrap_high": told.high,
        "p_permutation": told.p_permutation,
        "draws": told.draws,
    }


def selection(store: Store, finalist: Trial, result: Comparison) -> Figures:
    """Return what the gain of a finalist was while it was chosen, and what is left of it.

    `shrunken` is the locked gain drawn towards 0, `shrunken_weight` how much of it that kept.
    """
    gain = selection_gain(store, finalist)
    if gain is None:
        return {}
    found = shrinkage(result, selection_gain=gain)
    return {
        "selection_gain": gain,
        "selection_lost": found.lost,
        "shrunken": found.shrunken,
        "shrunken_weight": found.weight,
    }


def selection_gain(store: Store, finalist: Trial) -> float | None:
    """Return the mean paired gain in Dice that a finalist was chosen on; None where none is known.

    That on the further folds of a staged selection, where it had one, else that on search-val.
    """
    gains = fold_gains(store, finalist) or search_gains(store, finalist)
    return fmean(gains) if gains else None


def fold_gains(store: Store, finalist: Trial) -> list[float]:
    """Return the gain of a finalist on each further fold, as its choice was made on."""
    chosen = store.last_event((CHOSEN,))
    rows = chosen.figures["scores"] if chosen else []
    return [fold["delta"] for row in rows if row["trial"] == finalist.id for fold in row["folds"]]


def search_gains(store: Store, finalist: Trial) -> list[float]:
    """Return the gain that each training of a finalist's network in its setup read on search-val."""
    standings = Standings(store)
    own = [
        trial
        for trial in store.trials(rung=finalist.rung, branch=finalist.branch)
        if trial.kind in SEARCH
        and (trial.commit, setup_of(trial)) == (finalist.commit, setup_of(finalist))
    ]
    try:
        found = [standings.evidence(trial) for trial in own]
    except ExploreError:
        return []
    return [one.delta for one in found if one is not None]


def counts(store: Store) -> Figures:
    """Return how many networks the search tried, and how often the locked test was opened."""
    tried = {trial.commit for trial in store.trials() if trial.kind in SEARCH} - {None}
    return {"candidates": len(tried), "openings": len(store.test_accesses())}
