"""The split: search-train, search-val and locked test, made once.

Sizes, in cases. The locked test gets the larger of `test_fraction` of all cases and
`min_test`, but leaves at least `min_search` cases to the search; for that it gives up
`min_test`, never `test_fraction`. Search-val gets `val_fraction` of what is left. So 200
cases give 60 + 35 + 105, 100 give 60 + 10 + 30, 70 give 30 + 10 + 30, 20 give 6 + 4 + 10.
A patient is never torn apart, so a part may differ from its size by less than one patient.

Stratification: patients in the order of their mean foreground volume are cut into blocks;
in each block the order is drawn from the seed, and each block gives its share to each part.
Random numbers come from SHA-256, so that no library version and no order of the input
changes a split.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from memory.errors import DatasetError
from memory.records import SplitCase, SplitName, digest, plain
from sandbox.audit_case import AuditedCase

MIN_PATIENTS = 5


class Split(NamedTuple):
    """The cases, sorted by id, and one line for each wish that the dataset could not meet."""

    cases: tuple[SplitCase, ...]
    notes: tuple[str, ...]


class Patient(NamedTuple):
    """A patient: mean foreground volume in mm3, name, ids of the cases."""

    volume_mm3: float
    name: str
    cases: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of cases."""
        return len(self.cases)


def make_split(
    cases: Sequence[AuditedCase],
    *,
    seed: int,
    test_fraction: float = 0.3,
    min_test: int = 60,
    val_fraction: float = 0.25,
    min_search: int = 40,
) -> Split:
    """Split cases by patient; equal cases, seed and sizes give an equal split.

    Raises:
        DatasetError: fewer than 5 patients, a case twice, or a fraction outside (0, 1).
    """
    _check_arguments(cases, test_fraction=test_fraction, val_fraction=val_fraction)
    patients = _patients(cases)
    if len(patients) < MIN_PATIENTS:
        count = f"{len(patients)} patients with {len(cases)} cases"
        raise DatasetError(f"{count} cannot be split in three; allowed: {MIN_PATIENTS} or more")
    total = len(cases)
    fair = max(1, _rounded(test_fraction * total))
    test_size = max(fair, min(min_test, total - min_search))
    test, search = divide(patients, test_size, seed=seed, keep=2, salt="test")
    val_size = max(1, _rounded(val_fraction * sum(p.size for p in search)))
    val, train = divide(search, val_size, seed=seed, keep=1, salt="val")
    parts = {SplitName.LOCKED_TEST: test, SplitName.SEARCH_VAL: val, SplitName.SEARCH_TRAIN: train}
    known = {case.id: case for case in cases}
    placed = [
        _placed(known[c], p, name) for name, part in parts.items() for p in part for c in p.cases
    ]
    notes = _notes(test, max(fair, min_test), test_size=test_size, total=total)
    return Split(tuple(sorted(placed, key=lambda case: case.case)), notes)


def split_hash(cases: Sequence[SplitCase]) -> str:
    """Return the SHA-256 of a split, whatever the order of its cases."""
    return digest(sorted((plain(case) for case in cases), key=lambda row: str(row["case"])))


def _check_arguments(
    cases: Sequence[AuditedCase], *, test_fraction: float, val_fraction: float
) -> None:
    for name, share in (("test_fraction", test_fraction), ("val_fraction", val_fraction)):
        if not 0 < share < 1:
            raise DatasetError(f"{name} is {share!r}; allowed: above 0 and below 1")
    twice = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise DatasetError(f"case {min(twice)!r} is given twice; each case may be split once")


def _patients(cases: Sequence[AuditedCase]) -> list[Patient]:
    by_name: dict[str, list[AuditedCase]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.id):
        by_name[case.patient].append(case)
    return [
        Patient(fmean(case.foreground_mm3 for case in own), name, tuple(case.id for case in own))
        for name, own in by_name.items()
    ]


def divide(
    patients: list[Patient], wanted: int, *, seed: int, keep: int, salt: str
) -> tuple[list[Patient], list[Patient]]:
    """Pick patients with at least `wanted` cases together, leaving `keep` patients or more.

    Returns:
        The patients that were picked, and those that were left.
    """
    total = sum(patient.size for patient in patients)
    picked: list[Patient] = []
    left: list[Patient] = []
    walked = held = 0
    for patient in _blockwise(patients, wanted / total, f"{seed}:{salt}"):
        walked += patient.size
        # Nearest whole patient to the share of the cases walked past so far.
        if 2 * (wanted * walked - held * total) >= patient.size * total:
            picked.append(patient)
            held += patient.size
        else:
            left.append(patient)
    _top_up(picked, left, wanted=wanted, keep=keep)
    while len(left) < keep:
        left.append(_move_smallest(picked))
    return picked, left


def _top_up(picked: list[Patient], left: list[Patient], *, wanted: int, keep: int) -> None:
    """Move patients over until `wanted` cases are picked, overshooting as little as possible."""
    while len(left) > keep and (missing := wanted - sum(p.size for p in picked)) > 0:
        best = min(left, key=lambda p: (p.size < missing, abs(p.size - missing)))
        left.remove(best)
        picked.append(best)
    if not picked:
        picked.append(_move_smallest(left))


def _move_smallest(patients: list[Patient]) -> Patient:
    smallest = min(patients, key=lambda patient: patient.size)
    patients.remove(smallest)
    return smallest


def _blockwise(patients: list[Patient], share: float, salt: str) -> list[Patient]:
    """Order patients by volume block, and within a block by chance."""
    ordered = sorted(patients, key=lambda p: (p.volume_mm3, p.name))
    size = max(2, math.ceil(1 / share))
    blocks = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return [p for block in blocks for p in sorted(block, key=lambda p: _chance(salt, p.name))]


def _chance(salt: str, name: str) -> bytes:
    return hashlib.sha256(f"{salt}:{name}".encode()).digest()


def _placed(case: AuditedCase, patient: Patient, split: SplitName) -> SplitCase:
    return SplitCase(
        case=case.id,
        patient=patient.name,
        split=split,
        foreground_mm3=case.foreground_mm3,
        image_hash=case.image_hash,
        label_hash=case.label_hash,
    )


def _notes(test: list[Patient], wished: int, *, test_size: int, total: int) -> tuple[str, ...]:
    held = sum(patient.size for patient in test)
    if held >= wished:
        return ()
    why = f"the search keeps {total - held} of the dataset's {total} cases"
    if held < test_size:
        why = f"{len(test)} patients could not be chosen to hold more"
    return (f"the locked test has {held} cases, not the {wished} asked for: {why}",)


def _rounded(number: float) -> int:
    return math.floor(number + 0.5)
