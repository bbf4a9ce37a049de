"""The robustness line against scipy's own bootstrap and tests, and its mirror."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agent.claims import compare
from agent.robustness import hierarchical, permutation, robustness
from memory.errors import ClaimError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sides(seed: int, *, gain: float, noise: float = 0.02, run: float = 0.0) -> list[np.ndarray]:
    """Return two arms (3, 60), alike in all trainings unless `run` is given."""
    source = rng(seed)
    b = source.uniform(0.5, 0.7, 60)
    a = b + gain + source.normal(0, noise, 60)
    return [side + source.normal(0, 1, (3, 1)) * run for side in (a, b)]


def test_with_trainings_all_alike_it_is_the_bootstrap_over_cases() -> None:
    a, b = sides(1, gain=0.004)
    low, high = hierarchical(a, b, rng=rng(), alpha=0.05, draws=20_000)
    theirs = stats.bootstrap(
        (a[0] - b[0],), np.mean, n_resamples=20_000, method="percentile", rng=rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=2e-4)


def test_the_luck_of_trainings_widens_it() -> None:
    narrow = hierarchical(*sides(2, gain=0.0), rng=rng(), alpha=0.05, draws=4000)
    wide = hierarchical(*sides(2, gain=0.0, run=0.02), rng=rng(), alpha=0.05, draws=4000)
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


@pytest.mark.parametrize("gain", [0.0, 0.003, 0.006])
def test_exchanged_labels_agree_with_the_tests_over_cases(gain: float) -> None:
    # Normal differences and trainings all alike: the t test and Wilcoxon's see the same.
    a, b = sides(3, gain=gain)
    p = permutation(a, b, rng=rng(), draws=20_000)
    assert p == pytest.approx(stats.ttest_rel(a[0], b[0]).pvalue, abs=0.02)
    assert p == pytest.approx(stats.wilcoxon(a[0], b[0]).pvalue, abs=0.12)
    found = compare(a, b)
    assert p == pytest.approx(2 * min(found.p_t, 1 - found.p_t), abs=0.02)


def test_few_cases_are_exchanged_in_every_way() -> None:
    b = np.full((2, 6), 0.5)
    difference = np.array([0.01, 0.02, -0.03, 0.04, 0.05, 0.06])
    sums = [sum(s * d for s, d in zip(signs, difference, strict=True))
            for signs in product((1, -1), repeat=6)]  # fmt: skip
    share = sum(one >= difference.sum() - 1e-12 for one in sums) / 64
    assert permutation(b + difference, b, rng=rng(), draws=100) == pytest.approx(2 * share)


def test_exchanging_labels_of_ranks_is_the_exact_signed_rank_test() -> None:
    difference = sides(4, gain=0.005)
    values = (difference[0][0] - difference[1][0])[:12]
    ranks = np.sign(values) * stats.rankdata(abs(values)) / 100
    b = np.full((2, 12), 0.5)
    exact = stats.wilcoxon(values, method="exact").pvalue
    assert permutation(b + ranks, b, rng=rng(), draws=5000) == pytest.approx(exact)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(-0.01, 0.01))
def test_exchanged_arms_mirror_it_exactly(seed: int, gain: float) -> None:
    a, b = sides(seed, gain=gain, run=0.005)
    there = robustness(a, b, rng=rng(seed), draws=200)
    back = robustness(b, a, rng=rng(seed), draws=200)
    assert (there.low, there.high) == (-back.high, -back.low)
    assert there.p_permutation == back.p_permutation


def test_no_difference_at_all() -> None:
    same = sides(5, gain=0.0, run=0.01)[0]
    told = robustness(same, same, rng=rng(), draws=400)
    assert told.low == -told.high
    assert told.p_permutation == 1


def test_the_same_generator_gives_the_same_line() -> None:
    a, b = sides(6, gain=0.004, run=0.004)
    assert robustness(a, b, rng=rng(7)) == robustness(a, b, rng=rng(7))
    assert robustness(a, b, rng=rng(7)) != robustness(a, b, rng=rng(8))
    assert robustness(a, b, rng=rng(7)).draws == 4000


def test_slices_of_a_patient_move_together() -> None:
    a, b = sides(7, gain=0.004)
    slices = [np.repeat(side, 4, axis=1) for side in (a, b)]
    patients = [column // 4 for column in range(240)]
    known = robustness(*slices, rng=rng(), patients=patients)
    assert known == pytest.approx(robustness(a, b, rng=rng()))


@pytest.mark.parametrize("bad", [{"draws": 99}, {"alpha": 0.0}])
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    a, b = sides(8, gain=0.0)
    with pytest.raises(ClaimError, match="allowed are"):
        robustness(a, b, rng=rng(), **bad)  # type: ignore[arg-type]


def test_undefined_cases_are_refused() -> None:
    a, b = sides(8, gain=0.0)
    a[0, 0] = np.nan
    with pytest.raises(ClaimError, match="leave undefined cases out"):
        robustness(a, b, rng=rng())
