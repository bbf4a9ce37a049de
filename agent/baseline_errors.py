"""How nnU-Net's default network fails on search-val, class by class. Pure: rows in, figures out.

All runs count alike: a case's score is its mean over the runs (seeds) in which it is defined.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import StatisticsError, correlation, fmean, median, stdev
from typing import NamedTuple

from agent.label_figures import rounded
from memory.records import CaseScore, Metric
from sandbox.scoring import MISSED

POOR = 0.5  # Dice below which more of both masks is wrong than right
TAIL = 0.1
FEWEST = 8  # cases; with fewer, a rank correlation says nothing (|r| = 0.7 is due to chance)


class ClassErrors(NamedTuple):
    """The baseline on one class of search-val; None where no case, or too few, define it.

    dice, nsd: mean over cases, [0, 1], higher is better; hd95: median in mm (px for pictures),
    lower is better; missed and falsely found objects are in, at the worst value. dice_sd: over
    cases. poor: share of cases with a Dice below 0.5. tail: mean Dice of the worst tenth of
    cases, of one at least. undefined: cases with neither reference nor prediction; missed: cases
    in which a run predicted nothing of what is there. by_volume: Spearman's correlation, over
    cases, of Dice with the volume of all classes together; positive where small cases are worse.
    """

    cases: int
    dice: float | None
    dice_sd: float | None
    hd95: float | None
    nsd: float | None
    poor: float | None
    tail: float | None
    undefined: int
    missed: int
    by_volume: float | None


class BaselineErrors(NamedTuple):
    """The baseline at one rung: how many runs, on how many cases, and each class in order."""

    rung: int
    runs: int
    cases: int
    classes: tuple[ClassErrors, ...]


def baseline_errors(
    scores: Iterable[CaseScore], *, labels: Sequence[str], volumes: Mapping[str, float], rung: int
) -> BaselineErrors:
    """Return the errors of the baseline's runs at a rung.

    Args:
        scores: rows of these runs; rows of cases without a volume are passed over.
        labels: the classes, in the dataset's order.
        volumes: each case of search-val and the volume of its foreground, mm3.
        rung: where the runs were trained.
    """
    own = [score for score in scores if score.case in volumes]
    grouped = defaultdict[str, list[CaseScore]](list)
    for score in own:
        grouped[score.label].append(score)
    return BaselineErrors(
        rung=rung,
        runs=len({score.trial for score in own}),
        cases=len({score.case for score in own}),
        classes=tuple(class_errors(grouped[label], volumes) for label in labels),
    )


def class_errors(scores: Sequence[CaseScore], volumes: Mapping[str, float]) -> ClassErrors:
    """Return the errors on one class from its rows."""
    dice, hd95, nsd = (_by_case(scores, m) for m in (Metric.DICE, Metric.HD95, Metric.NSD))
    cases = {score.case for score in scores}
    values = sorted(dice.values())
    worst = values[: math.ceil(TAIL * len(values))]
    return ClassErrors(
        cases=len(cases),
        dice=_of(fmean, values),
        dice_sd=_of(stdev, values, fewest=2),
        hd95=_of(median, list(hd95.values())),
        nsd=_of(fmean, list(nsd.values())),
        poor=_of(fmean, [float(value < POOR) for value in values]),
        tail=_of(fmean, worst),
        undefined=len(cases - dice.keys()),
        missed=len({score.case for score in scores if score.reason == MISSED}),
        by_volume=spearman([(volumes[case], value) for case, value in sorted(dice.items())]),
    )


def _by_case(scores: Sequence[CaseScore], metric: Metric) -> dict[str, float]:
    grouped = defaultdict[str, list[float]](list)
    for score in scores:
        if score.metric == metric and score.value is not None:
            grouped[score.case].append(score.value)
    return {case: fmean(values) for case, values in sorted(grouped.items())}


def _of(
    statistic: Callable[[Sequence[float]], float], values: Sequence[float], *, fewest: int = 1
) -> float | None:
    return rounded(statistic(values)) if len(values) >= fewest else None


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's rank correlation in [-1, 1], ties by mean rank.

    None with fewer than `FEWEST` pairs, or where one side is constant.
    """
    if len(pairs) < FEWEST:
        return None
    first, second = (_ranks(side) for side in zip(*pairs, strict=True))
    try:
        return rounded(correlation(first, second))
    except StatisticsError:  # a constant side
        return None


def _ranks(values: Sequence[float]) -> list[float]:
    places = defaultdict[float, list[int]](list)
    for place, value in enumerate(sorted(values)):
        places[value].append(place)
    return [fmean(places[value]) for value in values]
