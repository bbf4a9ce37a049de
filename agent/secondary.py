"""Declared secondary metrics of a confirmation: intervals that describe, and no verdict.

Dice of one class, NSD, and HD95 in mm, where lower is better. A positive difference always favours
the candidate, in the metric's own unit. Cases that are undefined on either side (no reference, no
prediction) are left out by the caller, who counts them.

One interval warns: where that of NSD lies wholly below -0.5 point, a gain in Dice was paid for at
the surface. Not covered: tests, adjustment, verdicts (`agent/claims.py`).
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike

from agent.paired import ALPHA, arms, compare
from memory.errors import ClaimError
from memory.records import Metric

NSD_GUARD = 0.005


class Secondary(NamedTuple):
    """One secondary metric of a finalist against its baseline, in the metric's unit.

    `label` is the class, empty for the mean over classes. `candidate` and `baseline` are means
    over cases and trainings; `delta` favours the candidate where positive; `low` and `high` are
    its two-sided interval of level 1 - `alpha`. `n_undefined` counts the cases left out.
    `is_flagged` is the warning of NSD.
    """

    metric: Metric
    label: str
    candidate: float
    baseline: float
    delta: float
    low: float
    high: float
    alpha: float
    n_cases: int
    n_undefined: int
    is_flagged: bool


def describe(
    metric: Metric,
    candidate: ArrayLike,
    baseline: ArrayLike,
    *,
    n_undefined: int,
    label: str = "",
    alpha: float = ALPHA,
    patients: Sequence[Hashable] | None = None,
) -> Secondary:
    """Describe the difference of two arms in one secondary metric.

    Args:
        metric: gives unit, range and direction.
        candidate: float (seeds, cases): Dice or NSD in [0, 1], HD95 in mm, 0 or more.
        baseline: float (seeds, cases), the same cases.
        n_undefined: cases left out because they are undefined on either side, 0 or more.
        label: the class, empty for the mean over classes.
        alpha: level of the interval, in (0, 1).
        patients: the patient of each column, where columns are not patients.

    Raises:
        ClaimError: see `agent.paired.compare`; or a number of undefined cases below 0.
    """
    if n_undefined < 0:
        raise ClaimError(f"undefined cases {n_undefined!r}: allowed are 0 or more")
    is_distance = metric is Metric.HD95
    most = math.inf if is_distance else 1.0
    a, b = arms(candidate, baseline, patients=patients, most=most)
    found = compare(a, b, alpha=alpha, most=most, lower_is_better=is_distance)
    return Secondary(
        metric=metric,
        label=label,
        candidate=float(a.mean()),
        baseline=float(b.mean()),
        delta=found.delta,
        low=found.low,
        high=found.high,
        alpha=alpha,
        n_cases=found.n_cases,
        n_undefined=n_undefined,
        is_flagged=metric is Metric.NSD and found.high < -NSD_GUARD,
    )
