"""Intervals of a mean over cases, of one network or of a difference; pure arithmetic.

Two random factors are crossed, cases and trainings (seeds), as for a claim: the variance of
the mean is max(V_case + V_run - V_resid, V_case, V_run) with Satterthwaite's degrees of freedom
(see agent/claims.py, whose interval this equals for two sides of two seeds or more). A side
with one seed says nothing about seeds; it borrows the other side's variance, as the search
does. Where no side has two seeds the interval holds the cases alone.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
Scores = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over cases with its 95 % interval; NaN where too few values define it."""

    mean: float
    low: float
    high: float
    n: int


def crossed_interval(sides: Sequence[Scores]) -> Interval:
    """Return the mean of one side, or of the first minus the second, with its interval.

    Args:
        sides: one or two arrays float (seeds, cases), the same cases in the same order; cases
            with a NaN anywhere are left out.
    """
    defined = np.all([~np.isnan(side).any(axis=0) for side in sides], axis=0)
    kept = [side[:, defined] for side in sides]
    count = int(defined.sum())
    if count == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    values = kept[0].mean(axis=0) - (kept[1].mean(axis=0) if len(kept) > 1 else 0.0)
    mean = float(values.mean())
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    variance, degrees = _variance(kept, float(values.var(ddof=1)) / count)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, degrees)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half, count)


def _variance(sides: Sequence[Scores], of_cases: float) -> tuple[float, float]:
    """Return the variance of the mean and its degrees of freedom."""
    cases = sides[0].shape[1]
    repeated = [side for side in sides if len(side) > 1]
    if not repeated:
        return of_cases, float(cases - 1)
    spreads = [float(side.mean(axis=1).var(ddof=1)) for side in repeated]
    squares = [_residual(side) for side in repeated]
    each = [1 / len(side) for side in sides]
    run, square = _weighted(sides, spreads, each), _weighted(sides, squares, each)
    total = max(of_cases + run - square / cases, of_cases, run)
    seeds = sum(len(side) - 1 for side in repeated)
    doubt = of_cases**2 / (cases - 1) + run**2 / seeds
    free = total**2 / doubt if doubt > 0 else float(cases - 1)
    return total, float(min(max(free, seeds), cases - 1))


def _weighted(sides: Sequence[Scores], known: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted sum over sides; a side of one seed gets the mean of the known."""
    left, total = list(known), 0.0
    for side, weight in zip(sides, weights, strict=True):
        value = left.pop(0) if len(side) > 1 else math.fsum(known) / len(known)
        total += value * weight
    return total


def _residual(side: Scores) -> float:
    rest = side - side.mean(axis=0) - side.mean(axis=1, keepdims=True) + side.mean()
    return float((rest**2).sum() / ((len(side) - 1) * (side.shape[1] - 1)))
