"""Further folds of what the search may see, for a look at networks on other cases.

The split's own search-val is fold 0. Fold n is a part of search-train of about the same size: a
training of fold n learns from search-train without it, and from search-val, and is scored on it.
Folds are disjoint, made of whole patients, stratified by volume as the split is, and follow from
the split and its seed alone. No case of the locked test is in any.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from memory.errors import DatasetError
from memory.records import SplitCase, SplitName
from sandbox.split import Patient, divide


class Fold(NamedTuple):
    """The cases, sorted, that one training learns from, and those that it is scored on."""

    train: tuple[str, ...]
    val: tuple[str, ...]


def make_folds(cases: Sequence[SplitCase], *, seed: int, count: int) -> tuple[Fold, ...]:
    """Return fold 0 and at most `count` further ones, fewer where search-train is too small.

    Raises:
        DatasetError: `count` is negative.
    """
    if count < 0:
        raise DatasetError(f"{count} further folds; allowed: 0 or more")
    train, val = (
        sorted(case.case for case in cases if case.split == part)
        for part in (SplitName.SEARCH_TRAIN, SplitName.SEARCH_VAL)
    )
    found = [Fold(tuple(train), tuple(val))]
    left = patients_of([case for case in cases if case.split == SplitName.SEARCH_TRAIN])
    for number in range(1, count + 1):
        if sum(patient.size for patient in left) < max(1, len(val)):
            break
        picked, left = divide(left, len(val), seed=seed, keep=0, salt=f"fold {number}")
        own = {case for patient in picked for case in patient.cases}
        found.append(Fold(tuple(sorted({*train, *val} - own)), tuple(sorted(own))))
    return tuple(found)


def patients_of(cases: Sequence[SplitCase]) -> list[Patient]:
    """Return the patients of placed cases, in the order of their names."""
    by_name = defaultdict[str, list[SplitCase]](list)
    for case in sorted(cases, key=lambda case: case.case):
        by_name[case.patient].append(case)
    return [
        Patient(fmean(c.foreground_mm3 for c in own), name, tuple(c.case for c in own))
        for name, own in sorted(by_name.items())
    ]
