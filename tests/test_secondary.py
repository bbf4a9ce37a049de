"""Secondary metrics: unit, direction, the warning of NSD, and what is refused."""

import math

import numpy as np
import pytest

from agent.claims import compare
from agent.secondary import describe
from memory.errors import ClaimError
from memory.records import Metric

WAVE = np.resize([0.01, -0.01], 60)


def test_dice_of_a_class_is_the_comparison_without_a_verdict() -> None:
    b = np.tile(np.linspace(0.5, 0.7, 60), (3, 1))
    told = describe(Metric.DICE, b + 0.01 + WAVE, b, n_undefined=4, label="2")
    found = compare(b + 0.01 + WAVE, b)
    assert (told.delta, told.low, told.high) == (found.delta, found.low, found.high)
    assert (told.label, told.n_cases, told.n_undefined, told.is_flagged) == ("2", 60, 4, False)
    assert (told.candidate, told.baseline) == pytest.approx((0.61, 0.6))


def test_a_shorter_distance_is_a_gain_in_mm() -> None:
    b = np.tile(np.linspace(3.0, 30.0, 60), (3, 1))
    told = describe(Metric.HD95, b - 1.5 + 10 * WAVE, b, n_undefined=0)
    assert told.delta == pytest.approx(1.5)
    assert 0 < told.low < told.delta < told.high
    assert told.candidate == pytest.approx(told.baseline - 1.5)
    back = describe(Metric.HD95, b, b - 1.5 + 10 * WAVE, n_undefined=0)
    assert (back.delta, back.low, back.high) == (-told.delta, -told.high, -told.low)


@pytest.mark.parametrize(
    ("metric", "loss", "is_flagged"),
    [
        (Metric.NSD, 0.02, True),
        (Metric.NSD, 0.006, False),  # the interval reaches above -0.5 point
        (Metric.NSD, -0.02, False),
        (Metric.DICE, 0.02, False),
        (Metric.HD95, 0.02, False),
    ],
)
def test_a_certain_loss_of_nsd_is_flagged(metric: Metric, loss: float, is_flagged: bool) -> None:
    b = np.tile(np.linspace(0.5, 0.7, 60), (3, 1))
    assert describe(metric, b - loss + WAVE, b, n_undefined=0).is_flagged is is_flagged


def test_patients_are_counted_not_slices() -> None:
    b = np.tile(np.linspace(0.5, 0.7, 60), (3, 1))
    told = describe(Metric.NSD, b + WAVE, b, n_undefined=0, patients=[i // 3 for i in range(60)])
    assert told.n_cases == 20


@pytest.mark.parametrize(
    ("metric", "value", "says"),
    [
        (Metric.HD95, -1.0, r"not in \[0, inf\)"),
        (Metric.HD95, math.inf, r"not in \[0, inf\)"),
        (Metric.HD95, math.nan, "leave undefined cases out"),
        (Metric.NSD, 1.5, r"not in \[0, 1\]"),
    ],
)
def test_impossible_scores_are_refused(metric: Metric, value: float, says: str) -> None:
    b = np.tile(np.linspace(0.5, 0.7, 60), (3, 1))
    bad = b.copy()
    bad[0, 0] = value
    with pytest.raises(ClaimError, match=says):
        describe(metric, bad, b, n_undefined=0)


def test_undefined_cases_are_counted_by_the_caller() -> None:
    b = np.tile(np.linspace(0.5, 0.7, 60), (3, 1))
    with pytest.raises(ClaimError, match="undefined cases -1"):
        describe(Metric.DICE, b, b, n_undefined=-1)
