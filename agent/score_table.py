"""Scores of two arms on the cases that every training of both has a score for. Pure.

A case counts where all trainings of both sides have a defined score of it; the others are
counted, and are in no comparison. A label of None is the mean over the classes that are defined
in a case, which is how the primary endpoint is made.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.records import CaseScore, Metric
from sandbox.means import case_mean

Scores = Mapping[str, Sequence[CaseScore]]
"""Trial -> its scores, as the store has them."""

CaseValues = dict[str, float]


class Table(NamedTuple):
    """Two arms side by side: float64 (trainings, cases), the same cases in the same order.

    `undefined` counts the cases that some training has no score for.
    """

    candidate: NDArray[np.float64]
    baseline: NDArray[np.float64]
    cases: tuple[str, ...]
    undefined: int


def table(
    candidate: Scores,
    baseline: Scores,
    *,
    cases: Sequence[str],
    metric: Metric = Metric.DICE,
    label: str | None = None,
) -> Table:
    """Return two arms on the cases that both have.

    Args:
        candidate: scores of each training of one side.
        baseline: of the other.
        cases: all cases that were predicted.
        metric: the score.
        label: a class; None for the mean over classes.
    """
    sides = [
        [values(rows, metric, label) for rows in arm.values()] for arm in (candidate, baseline)
    ]
    shared = [case for case in sorted(cases) if all(case in v for arm in sides for v in arm)]
    own, base = (np.array([[v[c] for c in shared] for v in arm], float) for arm in sides)
    return Table(own, base, tuple(shared), len(cases) - len(shared))


def values(rows: Sequence[CaseScore], metric: Metric, label: str | None) -> CaseValues:
    """Return the defined scores of one training by case."""
    if label is None:
        return case_mean(rows, metric)
    return {
        row.case: row.value
        for row in rows
        if row.metric is metric and row.label == label and row.value is not None
    }


def is_comparable(found: Table, patients: Mapping[str, str]) -> bool:
    """Tell whether there are two trainings a side and two patients, without which nothing is said."""
    trainings = min(len(found.candidate), len(found.baseline))
    return trainings > 1 and len(set(columns(found, patients))) > 1


def columns(found: Table, patients: Mapping[str, str]) -> list[str]:
    """Return the patient of each case of a table."""
    return [patients[case] for case in found.cases]
