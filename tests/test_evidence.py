"""Evidence: hand-computed numbers, and properties that must hold for any scores."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evidence import Evidence, SeedSpread, measure, normal_tail, seed_spread
from memory.errors import ExploreError

BASELINE = {
    1: {"a": 0.80, "b": 0.70, "c": 0.60, "d": 0.90},
    2: {"a": 0.82, "b": 0.72, "c": 0.62, "d": 0.92},
    3: {"a": 0.84, "b": 0.74, "c": 0.64, "d": 0.94},
}
CASES = tuple("abcdef")
dice = st.floats(0, 1, allow_nan=False)
run = st.fixed_dictionaries({case: dice for case in CASES})
runs = st.lists(run, min_size=2, max_size=4).map(lambda found: dict(enumerate(found)))


def test_seed_spread_by_hand() -> None:
    # Run means 0.75, 0.77, 0.79: SD 0.02; c4(3) = 0.886227 for 2 degrees of freedom.
    spread = seed_spread([BASELINE])
    assert spread.df == 2
    assert spread.sd == pytest.approx(0.02 / 0.886227, rel=1e-5)


def test_seed_spread_pools_squares_over_rungs() -> None:
    other = {1: {"a": 0.5, "b": 0.5}, 2: {"a": 0.56, "b": 0.56}}  # SD 0.06 / sqrt(2), df 1
    spread = seed_spread([BASELINE, other, {7: {"a": 0.1}}])
    pooled = math.sqrt((2 * 0.02**2 + 0.06**2 / 2) / 3)
    assert spread.df == 3
    assert spread.sd == pytest.approx(pooled / 0.921318, rel=1e-5)  # c4(4)


def test_measure_by_hand() -> None:
    candidate = {9: {"a": 0.84, "b": 0.74, "c": 0.62, "d": 0.96}}
    found = measure(candidate, BASELINE, spread=SeedSpread(0.03, 2))
    # Differences to the seed means (0.82, 0.72, 0.62, 0.92): 0.02, 0.02, 0, 0.04; variance 8e-4/3.
    assert found.delta == pytest.approx(0.02)
    assert found.se_cases == pytest.approx(math.sqrt(8e-4 / 3 / 4))
    assert found.se_seed == pytest.approx(0.03 * math.sqrt(1 + 1 / 3))
    assert found.se == pytest.approx(math.hypot(found.se_cases, found.se_seed))
    assert found.p_better == pytest.approx(NormalDist().cdf(found.delta / found.se))
    assert (found.n_cases, found.n_dropped, found.n_seeds) == (4, 0, 1)


def test_seed_spread_defaults_to_the_rung_itself() -> None:
    candidate = {9: dict(BASELINE[1])}
    found = measure(candidate, BASELINE)
    assert found.seed_sd == seed_spread([BASELINE]).sd


def test_more_seeds_of_the_candidate_narrow_the_seed_part() -> None:
    one = measure({1: BASELINE[2]}, BASELINE)
    two = measure({1: BASELINE[2], 2: BASELINE[2]}, BASELINE)
    assert two.se_seed**2 / one.se_seed**2 == pytest.approx((1 / 2 + 1 / 3) / (1 + 1 / 3))


def test_undefined_cases_are_dropped_on_both_sides_and_counted() -> None:
    candidate = {9: {"a": 0.84, "b": None, "c": 0.62, "d": 0.96}}
    found = measure(candidate, BASELINE, spread=SeedSpread(0.0, 2))
    assert (found.n_cases, found.n_dropped) == (3, 1)
    assert found.delta == pytest.approx(0.02)  # 0.02, 0, 0.04


@pytest.mark.parametrize(
    ("candidate", "baseline", "says"),
    [
        ({1: {"a": 0.5, "b": 0.5}}, {1: {"a": 0.5, "b": 0.5}}, "no rung has 2 runs"),
        ({1: {"a": 0.5}}, BASELINE, "is scored in some runs only"),
        ({1: {"a": math.nan, "b": 0.1, "c": 0.1, "d": 0.1}}, BASELINE, "finite or None"),
        ({1: {"a": None, "b": None, "c": None, "d": 0.1}}, BASELINE, "on 1 of 4 cases"),
        ({}, BASELINE, "has no run"),
    ],
)
def test_impossible_scores_are_refused(
    candidate: dict[int, dict[str, float | None]],
    baseline: dict[int, dict[str, float | None]],
    says: str,
) -> None:
    with pytest.raises(ExploreError, match=says):
        measure(candidate, baseline)


def test_p_beats_lets_the_shared_baseline_cancel() -> None:
    one = Evidence(0.03, 0.003, 0.02, 0.0202, 0.93, 20, seed_sd=0.012)
    two = Evidence(0.01, 0.004, 0.02, 0.0204, 0.69, 20, seed_sd=0.012)
    spread = math.sqrt(2 * 0.012**2 + 0.003**2 + 0.004**2)
    assert one.p_beats(two, 0.005) == pytest.approx(NormalDist().cdf(0.015 / spread))
    assert one.p_beats(two) + two.p_beats(one) == pytest.approx(1)
    assert 0.5 < one.p_beats(two, 0.005, extra_sd=0.05) < one.p_beats(two, 0.005)


def test_posterior_by_hand() -> None:
    found = Evidence(0.03, 0.01, 0.0, 0.01, 0.99, 20).posterior(0.02)
    assert found.mean == pytest.approx(0.024)  # weight 4e-4 / (4e-4 + 1e-4) = 0.8
    assert found.sd == pytest.approx(math.sqrt(0.8) * 0.01)


def test_no_noise_gives_certainty() -> None:
    assert [normal_tail(x, 0.0) for x in (-0.1, 0.0, 0.1)] == [0.0, 0.5, 1.0]


@given(runs, runs)
def test_swapping_the_sides_mirrors_the_evidence(
    a: dict[int, dict[str, float]], b: dict[int, dict[str, float]]
) -> None:
    there, back = (measure(x, y, spread=SeedSpread(0.01, 2)) for x, y in ((a, b), (b, a)))
    assert there.delta == pytest.approx(-back.delta)
    assert there.se == pytest.approx(back.se)
    assert there.p_better == pytest.approx(1 - back.p_better)


@given(runs, st.permutations(CASES))
def test_the_order_of_cases_does_not_matter(
    baseline: dict[int, dict[str, float]], order: list[str]
) -> None:
    shuffled = {seed: {case: scores[case] for case in order} for seed, scores in baseline.items()}
    candidate = {0: dict.fromkeys(CASES, 0.5)}
    assert measure(candidate, baseline) == measure(candidate, shuffled)
