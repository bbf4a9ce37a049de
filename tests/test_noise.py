"""What a locked test detects: known tables, simulated repeats, and what more seeds would do."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.noise import (
    USUAL,
    detectable,
    exploratory,
    is_low,
    margin_of,
    measured,
    planned,
    remembered,
    with_more_seeds,
)
from memory.errors import ClaimError

# Smallest detectable effects in points under the usual noise with normal quantiles, by seeds and
# locked patients; those of the t test are larger, most with few seeds.
NORMAL = {3: {30: 1.49, 60: 1.16, 120: 0.95, 250: 0.82}, 5: {30: 1.32, 60: 1.01, 120: 0.81}}
COUNTS = st.integers(2, 300)
SEEDS = st.integers(2, 30)


def repeats(
    seeds: int, patients: int, *, run: float, resid: float, seed: int
) -> NDArray[np.float64]:
    """Return simulated Dice of one network, float64 (seeds, patients)."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0.6, 0.05, patients)
    luck = rng.normal(0, run, (seeds, 1))
    return np.asarray(hard + luck + rng.normal(0, resid, (seeds, patients)))


@pytest.mark.parametrize(
    ("seeds", "cases", "points"), [(s, n, p) for s, row in NORMAL.items() for n, p in row.items()]
)
def test_the_planned_effect_is_that_of_the_table(seeds: int, cases: int, points: float) -> None:
    found = 100 * planned(cases=cases, seeds=seeds, alpha=0.05).detectable
    assert points <= found <= 1.25 * points


def test_a_planned_test_was_not_measured() -> None:
    noise = planned(cases=60, seeds=3, alpha=0.05)
    assert (noise.parts, noise.seen_seeds, noise.seen_cases) == (USUAL, 0, 0)
    assert noise.figures["run_sd"] == pytest.approx(0.003)
    assert noise.figures["resid_sd"] == pytest.approx(0.02)


def test_the_noise_of_many_repeats_is_found_again() -> None:
    scores = repeats(400, 60, run=0.004, resid=0.015, seed=1)
    noise = measured(scores, cases=60, seeds=3, alpha=0.05)
    assert math.sqrt(noise.parts.run) == pytest.approx(0.004, rel=0.1)
    assert math.sqrt(noise.parts.resid) == pytest.approx(0.015, rel=0.03)
    assert noise.parts.case == noise.parts.resid
    assert (noise.seen_seeds, noise.seen_cases) == (400, 60)


def test_three_repeats_are_right_on_average() -> None:
    found = [
        measured(repeats(3, 30, run=0.01, resid=0.02, seed=s), cases=60, seeds=3, alpha=0.05).parts
        for s in range(400)
    ]
    assert np.mean([parts.run for parts in found]) == pytest.approx(0.01**2, rel=0.2)
    assert np.mean([parts.resid for parts in found]) == pytest.approx(0.02**2, rel=0.05)


def test_the_network_by_case_variance_is_no_part_of_the_repeats() -> None:
    """Cases of other difficulty, the same in every repeat, change nothing."""
    scores = repeats(3, 20, run=0.01, resid=0.02, seed=4)
    shifted = scores + np.linspace(-0.3, 0.3, 20)
    one, two = (measured(s, cases=60, seeds=3, alpha=0.05) for s in (scores, shifted))
    assert two.detectable == pytest.approx(one.detectable)


def test_repeats_without_noise_detect_everything() -> None:
    noise = measured(np.full((3, 10), 0.5), cases=60, seeds=3, alpha=0.05)
    assert noise.detectable == 0.0
    assert margin_of(0.0, noise.detectable) == 0.005


@pytest.mark.parametrize(
    "scores", [[[0.5, 0.6]], [[0.5], [0.6]], [0.5, 0.6], [[0.5, 0.6], [0.5, math.nan]], []]
)
def test_too_few_scores_are_refused(scores: Any) -> None:
    with pytest.raises(ClaimError, match="at least 2 of each"):
        measured(scores, cases=60, seeds=3, alpha=0.05)


@given(cases=COUNTS, seeds=st.integers(3, 30), alpha=st.floats(0.01, 0.2))
def test_more_patients_more_seeds_and_a_larger_alpha_do_not_detect_less(
    cases: int, seeds: int, alpha: float
) -> None:
    own = detectable(USUAL, cases=cases, seeds=seeds, alpha=alpha)
    assert 0 < own <= 1
    # With a smaller share of the cases in the variance its degrees of freedom fall a little.
    most = 1.02 * own
    assert detectable(USUAL, cases=cases + 20, seeds=seeds, alpha=alpha) <= most
    assert detectable(USUAL, cases=cases, seeds=seeds + 1, alpha=alpha) <= most
    assert detectable(USUAL, cases=cases, seeds=seeds, alpha=min(0.3, 1.5 * alpha)) <= own


def test_one_locked_patient_detects_nothing() -> None:
    assert planned(cases=1, seeds=3, alpha=0.05).detectable == 1.0
    assert planned(cases=0, seeds=3, alpha=0.05).detectable == 1.0


@given(wanted=st.floats(0, 0.5), effect=st.floats(0, 1))
def test_a_wanted_margin_stays_and_none_becomes_what_is_detectable(
    wanted: float, effect: float
) -> None:
    found = margin_of(wanted, effect)
    assert found == wanted if wanted > 0 else found == max(0.005, effect)
    assert found > 0


def test_low_is_what_the_user_wants_below_what_is_detected() -> None:
    noise = planned(cases=60, seeds=3, alpha=0.05)
    assert is_low(0.005, noise)
    assert not is_low(0.0, noise)
    assert not is_low(noise.detectable, noise)


def test_more_seeds_detect_less() -> None:
    more = with_more_seeds(planned(cases=60, seeds=5, alpha=0.05))
    assert [seeds for seeds, _ in more] == [10, 20]
    assert more[0][1] > more[1][1]
    assert with_more_seeds(planned(cases=60, seeds=20, alpha=0.05)) == []


@given(cases=COUNTS, seeds=SEEDS)
def test_stored_noise_is_read_back(cases: int, seeds: int) -> None:
    noise = planned(cases=cases, seeds=seeds, alpha=0.05)
    again = remembered(json.loads(json.dumps(noise.figures)))
    assert again[1:] == noise[1:]
    assert again.parts == pytest.approx(noise.parts)


@pytest.mark.parametrize(
    ("cases", "seeds", "said"),
    [
        (50, 3, ""),
        (49, 3, "49 locked subjects (a claim needs 50)"),
        (50, 2, "confirm.seeds of 2 (a claim needs 3)"),
        (
            6,
            2,
            "6 locked subjects (a claim needs 50) and confirm.seeds of 2 (a claim needs 3)",
        ),
    ],
)
def test_what_makes_a_campaign_exploratory(cases: int, seeds: int, said: str) -> None:
    assert exploratory(cases=cases, seeds=seeds) == said
