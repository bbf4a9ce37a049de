"""Further folds: disjoint, of whole patients, never a locked case, and the same every time."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import DatasetError
from memory.records import SplitCase, SplitName
from sandbox.folds import make_folds

TEST, VAL, TRAIN = SplitName.LOCKED_TEST, SplitName.SEARCH_VAL, SplitName.SEARCH_TRAIN


def placed(name: str, split: SplitName, *, patient: str = "", volume: float = 1.0) -> SplitCase:
    return SplitCase(name, patient or name, split, volume, f"image {name}", f"label {name}")


def singles(train: int, val: int, test: int = 5) -> list[SplitCase]:
    rng = random.Random(3)
    names = [*[TRAIN] * train, *[VAL] * val, *[TEST] * test]
    return [
        placed(f"c{n:03d}", split, volume=rng.lognormvariate(3, 1)) for n, split in enumerate(names)
    ]


@st.composite
def grouped(draw: st.DrawFn) -> list[SplitCase]:
    found = []
    for split, most in ((TRAIN, 20), (VAL, 6), (TEST, 6)):
        for n, size in enumerate(draw(st.lists(st.integers(1, 4), min_size=1, max_size=most))):
            volume = draw(st.floats(0, 1e6, allow_nan=False))
            found += [
                placed(f"{split}{n}_{k}", split, patient=f"{split}{n}", volume=volume)
                for k in range(size)
            ]
    return found


def test_three_further_folds_of_the_usual_split() -> None:
    folds = make_folds(singles(75, 25), seed=1, count=3)
    assert [len(fold.val) for fold in folds] == [25] * 4
    assert [len(fold.train) for fold in folds] == [75] * 4


def test_fold_0_is_the_split() -> None:
    cases = singles(10, 4)
    [fold] = make_folds(cases, seed=1, count=0)
    assert fold.train == tuple(c.case for c in cases if c.split == TRAIN)
    assert fold.val == tuple(c.case for c in cases if c.split == VAL)


def test_a_small_dataset_has_fewer_folds() -> None:
    assert len(make_folds(singles(10, 4), seed=1, count=3)) == 3
    assert len(make_folds(singles(3, 4), seed=1, count=3)) == 1


def test_a_count_below_0_is_refused() -> None:
    with pytest.raises(DatasetError, match="-1 further folds; allowed: 0 or more"):
        make_folds(singles(10, 4), seed=1, count=-1)


@settings(max_examples=60, deadline=None)
@given(cases=grouped(), seed=st.integers(0, 99), count=st.integers(0, 5))
def test_folds_hold(cases: list[SplitCase], seed: int, count: int) -> None:
    folds = make_folds(cases, seed=seed, count=count)
    assert folds == make_folds(cases[::-1], seed=seed, count=count)
    part = {case.case: case.split for case in cases}
    patient = {case.case: case.patient for case in cases}
    seen = {name for name, split in part.items() if split != TEST}
    for number, fold in enumerate(folds):
        assert {*fold.train} | {*fold.val} == seen
        assert not {*fold.train} & {*fold.val}
        assert fold.train
        assert fold.val
        assert not {patient[c] for c in fold.train} & {patient[c] for c in fold.val}
        assert number == 0 or all(part[c] == TRAIN for c in fold.val)
    held = [case for fold in folds for case in fold.val]
    assert len(held) == len(set(held))


@settings(max_examples=30, deadline=None)
@given(cases=grouped(), seed=st.integers(0, 99))
def test_more_folds_leave_the_first_as_they_are(cases: list[SplitCase], seed: int) -> None:
    most = make_folds(cases, seed=seed, count=4)
    for count in range(4):
        assert make_folds(cases, seed=seed, count=count) == most[: count + 1]
