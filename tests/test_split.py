"""The split: no patient torn, the same for the same seed, in any order, and balanced."""

import random
from collections import Counter
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import DatasetError
from memory.records import SplitName
from sandbox.audit_case import AuditedCase
from sandbox.split import Split, make_split, split_hash

TEST, VAL, TRAIN = SplitName.LOCKED_TEST, SplitName.SEARCH_VAL, SplitName.SEARCH_TRAIN


def case(name: str, *, patient: str = "", volume: float = 1.0) -> AuditedCase:
    return AuditedCase(
        id=name,
        patient=patient or name,
        shape=(3, 4, 5),
        spacing_mm=(1.0, 1.0, 1.0),
        foreground_mm3=volume,
        image_hash=f"image of {name}",
        label_hash=f"label of {name}",
    )


def singles(count: int) -> list[AuditedCase]:
    rng = random.Random(5)
    return [case(f"c{n:03d}", volume=rng.lognormvariate(3.0, 1.0)) for n in range(count)]


def sizes(split: Split) -> tuple[int, int, int]:
    counts = Counter(placed.split for placed in split.cases)
    return counts[TEST], counts[VAL], counts[TRAIN]


@st.composite
def grouped(draw: st.DrawFn) -> list[AuditedCase]:
    owners = draw(st.lists(st.integers(1, 6), min_size=5, max_size=40))
    volumes = st.floats(0, 1e6, allow_nan=False)
    return [
        case(f"p{n}_{k}", patient=f"p{n}", volume=draw(volumes))
        for n, own in enumerate(owners)
        for k in range(own)
    ]


@pytest.mark.parametrize(
    ("count", "expected", "noted"),
    [
        (5, (2, 1, 2), True),
        (20, (6, 4, 10), True),
        (70, (30, 10, 30), True),
        (100, (60, 10, 30), False),
        (160, (60, 25, 75), False),
        (200, (60, 35, 105), False),
        (300, (90, 53, 157), False),
    ],
)
def test_sizes_of_single_cases(count: int, expected: tuple[int, int, int], noted: bool) -> None:
    split = make_split(singles(count), seed=3)
    assert sizes(split) == expected
    assert bool(split.notes) == noted


def test_note_says_what_was_missed_and_why() -> None:
    (note,) = make_split(singles(70), seed=3).notes
    assert "has 30 cases, not the 60 asked for: the search keeps 40 of the dataset's 70" in note


def test_sizes_follow_the_settings() -> None:
    halved = make_split(singles(40), seed=3, test_fraction=0.5, min_test=1, val_fraction=0.5)
    assert sizes(halved) == (20, 10, 10)
    assert sizes(make_split(singles(40), seed=3, min_test=20, min_search=20)) == (20, 5, 15)


@settings(max_examples=100, deadline=None)
@given(grouped(), st.integers(0, 2**64))
def test_every_case_once_and_no_patient_in_two_parts(cases: list[AuditedCase], seed: int) -> None:
    split = make_split(cases, seed=seed)
    assert [placed.case for placed in split.cases] == sorted(c.id for c in cases)
    parts: dict[str, set[SplitName]] = {}
    for placed in split.cases:
        parts.setdefault(placed.patient, set()).add(placed.split)
    assert all(len(where) == 1 for where in parts.values())
    assert set.union(*parts.values()) == set(SplitName)


@settings(max_examples=100, deadline=None)
@given(grouped(), st.integers(0, 99), st.randoms(use_true_random=False))
def test_order_of_cases_is_without_effect(
    cases: list[AuditedCase], seed: int, rng: random.Random
) -> None:
    shuffled = rng.sample(cases, len(cases))
    split = make_split(cases, seed=seed)
    assert make_split(shuffled, seed=seed) == split
    assert split_hash(split.cases) == split_hash(split.cases[::-1])


@settings(max_examples=100, deadline=None)
@given(grouped(), st.integers(0, 99))
def test_test_part_is_large_enough_within_one_patient(cases: list[AuditedCase], seed: int) -> None:
    test, _, _ = sizes(make_split(cases, seed=seed, min_test=1))
    fair = max(1, int(0.3 * len(cases) + 0.5))
    largest = max(Counter(c.patient for c in cases).values())
    patients = len({c.patient for c in cases})
    assert test < fair + largest
    if patients >= 10:
        assert test >= fair


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 200), st.integers(0, 10_000))
def test_volumes_are_alike_in_all_parts(count: int, seed: int) -> None:
    cases = [case(f"c{n}", volume=float(n)) for n in range(count)]
    split = make_split(cases, seed=seed)
    for part in SplitName:
        mean = fmean(placed.foreground_mm3 for placed in split.cases if placed.split is part)
        # The worst case, all small ones in one part, is off by a quarter of the range or more.
        assert abs(mean - (count - 1) / 2) < 0.18 * count


def test_volumes_are_closer_than_by_chance() -> None:
    cases = [case(f"c{n}", volume=float(n)) for n in range(100)]
    gaps: dict[str, list[float]] = {"ours": [], "blind": []}
    for seed in range(40):
        split = make_split(cases, seed=seed)
        ours = [placed.foreground_mm3 for placed in split.cases if placed.split is VAL]
        blind = [c.foreground_mm3 for c in random.Random(seed).sample(cases, len(ours))]
        gaps["ours"].append(abs(fmean(ours) - 49.5))
        gaps["blind"].append(abs(fmean(blind) - 49.5))
    assert fmean(gaps["ours"]) < 0.25 * fmean(gaps["blind"])


def test_seed_changes_the_split() -> None:
    cases = singles(60)
    hashes = {split_hash(make_split(cases, seed=seed).cases) for seed in range(20)}
    assert len(hashes) == 20


def test_split_is_the_same_in_every_release() -> None:
    split = make_split(singles(12), seed=1)
    chosen = "".join(placed.split[-1] for placed in split.cases)  # n train, l val, t test
    assert chosen == "nttlnntnltnn"


def test_hash_knows_every_field() -> None:
    split = make_split([case(f"c{n}") for n in range(10)], seed=1)
    assert len(split_hash(split.cases)) == 64
    other = make_split([case(f"c{n}", volume=2.0) for n in range(10)], seed=1)
    assert split_hash(split.cases) != split_hash(other.cases)


def test_one_huge_patient_does_not_empty_a_part() -> None:
    cases = [case(f"big{n}", patient="big") for n in range(90)]
    cases += [case(f"c{n}") for n in range(4)]
    for seed in range(20):
        split = make_split(cases, seed=seed)
        assert min(sizes(split)) >= 1


def test_too_few_patients_are_refused() -> None:
    cases = [case(f"c{n}", patient=f"p{n % 4}") for n in range(40)]
    with pytest.raises(DatasetError, match="4 patients with 40 cases .*allowed: 5 or more"):
        make_split(cases, seed=1)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_shares_out_of_range_are_refused(share: float) -> None:
    with pytest.raises(DatasetError, match="test_fraction is"):
        make_split(singles(10), seed=1, test_fraction=share)
    with pytest.raises(DatasetError, match="val_fraction is"):
        make_split(singles(10), seed=1, val_fraction=share)


def test_case_given_twice_is_refused() -> None:
    with pytest.raises(DatasetError, match="'c003' is given twice"):
        make_split([*singles(10), case("c003")], seed=1)
