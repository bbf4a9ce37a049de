"""The robustness line of a claim: what bootstrap and permutation say of the same difference.

Printed beside the interval and the p of `agent/paired.py`, never in their place: nothing is decided
on them. All random draws come from the generator passed in; the same generator state gives the
same numbers, and exchanged arms give exactly mirrored ones.

Covered: the luck of cases and trainings (bootstrap), that of cases alone (permutation).
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from agent.paired import ALPHA, Scores, arms
from memory.errors import ClaimError

DRAWS = 4000


class Robustness(NamedTuple):
    """Percentile interval of level 1 - alpha in the score's unit, and a two-sided p."""

    low: float
    high: float
    p_permutation: float
    draws: int


def robustness(
    candidate: ArrayLike,
    baseline: ArrayLike,
    *,
    rng: np.random.Generator,
    alpha: float = ALPHA,
    draws: int = DRAWS,
    patients: Sequence[Hashable] | None = None,
) -> Robustness:
    """Return the robustness line of one comparison.

    Args:
        candidate: float (seeds, cases), in [0, 1]; at least 2 seeds.
        baseline: float (seeds, cases), the same cases.
        rng: source of all draws.
        alpha: level of the interval, in (0, 1).
        draws: resamples of each of the two, at least 100.
        patients: the patient of each column, where columns are not patients.

    Raises:
        ClaimError: see `agent.paired.compare`; or too few draws.
    """
    if draws < 100 or not 0 < alpha < 1:
        raise ClaimError(f"draws {draws!r}, alpha {alpha!r}: allowed are 100 or more and (0, 1)")
    a, b = arms(candidate, baseline, patients=patients)
    low, high = hierarchical(a, b, rng=rng, alpha=alpha, draws=draws)
    return Robustness(low, high, permutation(a, b, rng=rng, draws=draws), draws)


def hierarchical(
    a: Scores, b: Scores, *, rng: np.random.Generator, alpha: float, draws: int
) -> tuple[float, float]:
    """Return the percentile interval of the mean difference over cases and seeds, both redrawn.

    Each draw takes as many cases with replacement, the same for both arms, and as many
    trainings of each arm. `a` and `b`: float64 (seeds, cases).
    """
    if a.tobytes() > b.tobytes():  # one order of the arms, so that exchanging them mirrors
        low, high = hierarchical(b, a, rng=rng, alpha=alpha, draws=draws)
        return -high, -low
    cases = _weights(rng, a.shape[1], draws)
    means = [((_weights(rng, len(side), draws) @ side) * cases).sum(axis=1) for side in (a, b)]
    found = means[0] - means[1]
    if a.tobytes() == b.tobytes():
        found = np.concatenate([found, -found])
    # The upper end as a mirrored lower one, so that rounding mirrors as well.
    return float(np.quantile(found, alpha / 2)), -float(np.quantile(-found, alpha / 2))


def permutation(a: Scores, b: Scores, *, rng: np.random.Generator, draws: int) -> float:
    """Return the two-sided p of the mean difference when labels are exchanged case by case.

    The labels "candidate" and "baseline" of a case's seed-averaged scores are exchanged at
    random. Every exchange is tried where there are fewer than `draws` (scipy's permutation test).
    """
    difference = a.mean(axis=0) - b.mean(axis=0)
    found = stats.permutation_test(
        (np.round(difference, 12),),
        _mean,
        permutation_type="samples",
        n_resamples=draws,
        vectorized=True,
        rng=rng,
    )
    return float(found.pvalue)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(values.mean(axis=axis))


def _weights(rng: np.random.Generator, count: int, draws: int) -> NDArray[np.float64]:
    """Return float64 (draws, count): how often each was drawn with replacement, as shares."""
    return rng.multinomial(count, np.full(count, 1 / count), size=draws) / count
