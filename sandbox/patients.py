"""Which case belongs to which patient, and whether a declared split respects it.

The table is the key `patients` of `dataset.json` ({case: patient}) or a CSV with the columns
`case` and `patient`; where both name a case they must agree. Splits that the dataset declares
(splits_final.json, imagesTs, a CSV column `split`) are never used: ours is made afresh. They
are only checked, because a patient on both sides means that they or the table are wrong.
"""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from memory.errors import DatasetError
from sandbox.dataset import Dataset, case_of_image, visible_files
from sandbox.dataset_json import load_json
from sandbox.findings import Finding, blocking, warning


class Row(NamedTuple):
    """One line of the patient table; `split` is None without such a column."""

    case: str
    patient: str
    split: str | None


class PatientTable(NamedTuple):
    """The rows of a CSV and the file they came from."""

    file: str
    rows: tuple[Row, ...]


NO_TABLE = PatientTable("dataset.json", ())


class Grouping(NamedTuple):
    """{case: patient} for every case of the dataset, and what was wrong with the table.

    `is_given` is False when no table was found and each case counts as its own patient.
    """

    patient_of: dict[str, str]
    is_given: bool
    findings: tuple[Finding, ...]


class DeclaredSplit(NamedTuple):
    """A split that the dataset brings along: {part: cases}."""

    file: str
    title: str
    parts: dict[str, list[str]]


def read_patients_csv(path: Path) -> PatientTable:
    """Read a table with the columns `case`, `patient` and perhaps `split`; others are ignored.

    Columns are separated by comma, semicolon or tab, whichever the first line has most of.

    Raises:
        DatasetError: the file cannot be read, lacks a column or has an empty field.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    separator = max(",;\t", key=(lines[0] if lines else "").count)
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    columns = [column.strip() for column in reader.fieldnames or []]
    if not {"case", "patient"} <= set(columns):
        raise DatasetError(f"{path}: has the columns {columns}; needed: case, patient")
    reader.fieldnames = columns
    rows = tuple(_row(path, reader.line_num, line) for line in reader)
    return PatientTable(str(path), rows)


def group_by_patient(dataset: Dataset, csv_table: PatientTable = NO_TABLE) -> Grouping:
    """Join the dataset's own table with the rows of a CSV, if one was given."""
    findings: list[Finding] = []
    table = dict(dataset.patients)
    for row in csv_table.rows:
        known = table.setdefault(row.case, row.patient)
        if known != row.patient:
            text = f"case {row.case!r} has two patients, {known!r} and {row.patient!r}"
            findings.append(blocking("patient_conflict", csv_table.file, text))
    cases = [case.id for case in dataset.cases]
    if not table:
        text = "no patient table: each case counts as its own patient"
        unknown = warning("patients_not_given", "dataset.json", text)
        return Grouping({case: case for case in cases}, False, (unknown,))
    for case in sorted(set(cases) - set(table)):
        text = f"case {case!r} has no patient; add it to the table"
        findings.append(blocking("patient_unknown", csv_table.file, text))
    for case in sorted(set(table) - set(cases) - set(_test_cases(dataset))):
        text = f"case {case!r} is not in the dataset"
        findings.append(warning("case_unknown", csv_table.file, text))
    patient_of = {case: table.get(case, case) for case in cases}
    return Grouping(patient_of | table, True, tuple(findings))


def check_declared_splits(
    dataset: Dataset, grouping: Grouping, csv_table: PatientTable = NO_TABLE
) -> list[Finding]:
    """Return a finding for each patient on two sides of a split that the dataset declares."""
    splits, findings = _fold_splits(dataset)
    tests = _test_cases(dataset)
    if tests:
        train = [case.id for case in dataset.cases]
        splits.append(
            DeclaredSplit("imagesTs", "the dataset", {"imagesTr": train, "imagesTs": tests})
        )
    parts: dict[str, list[str]] = defaultdict(list)
    for row in csv_table.rows:
        if row.split:
            parts[row.split].append(row.case)
    splits.append(DeclaredSplit(csv_table.file, "the column 'split'", parts))
    for split in splits:
        findings += _torn_patients(split, grouping)
    return findings


def _torn_patients(split: DeclaredSplit, grouping: Grouping) -> list[Finding]:
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for part, cases in split.parts.items():
        for case in cases:
            sides[grouping.patient_of.get(case, case)].setdefault(part, case)
    # Many datasets number imagesTr and imagesTs alike: without a table that proves nothing.
    sure = grouping.is_given or split.file != "imagesTs"
    finding = blocking if sure else warning
    return [
        finding(
            "patient_in_two_splits",
            split.file,
            f"patient {patient!r} is in {_listed(parts)} of {split.title}; correct the patient "
            "table, or remove the declared split (the campaign makes its own)",
        )
        for patient, parts in sorted(sides.items())
        if len(parts) > 1
    ]


def _listed(parts: dict[str, str]) -> str:
    return " and ".join(f"{part} (case {case!r})" for part, case in sorted(parts.items()))


def _fold_splits(dataset: Dataset) -> tuple[list[DeclaredSplit], list[Finding]]:
    path = dataset.root / "splits_final.json"
    if not path.is_file():
        return [], []
    try:
        folds = load_json(path)
    except DatasetError as error:
        return [], [warning("bad_split", path.name, str(error).removeprefix(f"{path}: "))]
    if not (isinstance(folds, list) and all(_is_fold(fold) for fold in folds)):
        text = 'is not a list of {"train": [case, ...], "val": [case, ...]}; it was not checked'
        return [], [warning("bad_split", path.name, text)]
    return [DeclaredSplit(path.name, f"fold {n}", fold) for n, fold in enumerate(folds)], []


def _is_fold(fold: Any) -> bool:
    if not isinstance(fold, dict) or not all(isinstance(part, list) for part in fold.values()):
        return False
    return all(isinstance(case, str) for part in fold.values() for case in part)


def _test_cases(dataset: Dataset) -> list[str]:
    names = (file.name for file in visible_files(dataset.root / "imagesTs"))
    cases = {case_of_image(name, dataset.file_ending) for name in names}
    return sorted(case for case in cases if case is not None)


def _row(path: Path, number: int, line: dict[str, str | None]) -> Row:
    case, patient = ((line[key] or "").strip() for key in ("case", "patient"))
    if not case or not patient:
        raise DatasetError(f"{path}: line {number} has an empty case or patient; fill it in")
    return Row(case, patient, (line.get("split") or "").strip() or None)
