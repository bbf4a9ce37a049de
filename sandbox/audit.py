"""The audit of a dataset before anything is made of it: reads everything, writes nothing.

Covered: every file opened in full, geometry, label values, equal images by voxels, patients.
Not covered: images that are equal only after flipping, resampling or a change of intensity,
and whether a label is right.
"""

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import cpu_count
from pathlib import Path
from typing import NamedTuple

from memory.errors import DatasetError
from memory.records import digest
from sandbox.audit_case import AuditedCase, CaseReport, inspect_case
from sandbox.dataset import Dataset, RawCase, case_of_image, visible_files
from sandbox.findings import Finding, blocking, warning
from sandbox.patients import NO_TABLE, check_declared_splits, group_by_patient, read_patients_csv

# Each thread holds a whole case in memory, so there are never many.
_MOST_THREADS = 4


class Audit(NamedTuple):
    """The findings, blocking ones first, and the cases that could be read in full.

    patients_given: False when each case counts as its own patient for want of a table.
    """

    findings: tuple[Finding, ...]
    cases: tuple[AuditedCase, ...]
    patients_given: bool = False

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The findings that stop a campaign from being made."""
        return tuple(finding for finding in self.findings if finding.level == "blocking")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are shown and kept, no more."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def require_passed(self) -> None:
        """Refuse a dataset with a blocking finding.

        Raises:
            DatasetError: there is one; the message quotes the first and counts the others.
        """
        if self.blocking:
            more = len(self.blocking) - 1
            rest = f" (and {more} more: see `segwright data check`)" if more else ""
            raise DatasetError(f"dataset refused: {self.blocking[0]}{rest}")


def audit(
    dataset: Dataset,
    *,
    patients_csv: Path | None = None,
    on_case: Callable[[str], None] | None = None,
) -> Audit:
    """Check a dataset; `on_case` is called with each case's id as it is done, in one thread.

    Raises:
        DatasetError: the patient table cannot be read. All other faults are findings.
    """
    table = NO_TABLE if patients_csv is None else read_patients_csv(patients_csv)
    grouping = group_by_patient(dataset, table)
    findings = [*grouping.findings, *check_declared_splits(dataset, grouping, table)]
    reports = []
    look = partial(_inspect, dataset, grouping.patient_of)
    with ThreadPoolExecutor(min(_MOST_THREADS, cpu_count() or 1)) as pool:
        for report in pool.map(look, dataset.cases):
            reports.append(report)
            findings += report.findings
            if on_case:
                on_case(report.case)
    findings += _stray_files(dataset) + _counted(dataset)
    findings += duplicates(reports, grouping.patient_of) + _absent_classes(dataset, reports)
    cases = tuple(report.audited for report in reports if report.audited)
    return Audit(tuple(sorted(findings)), cases, grouping.is_given)


def dataset_hash(dataset: Dataset, cases: tuple[AuditedCase, ...]) -> str:
    """Return the SHA-256 of what a dataset is: channels, labels and every case's hashes."""
    hashes = sorted([case.id, case.image_hash, case.label_hash] for case in cases)
    table = [dataset.labels, dataset.region_order, dataset.ignore_label]
    return digest([dataset.channels, table, hashes])


def duplicates(reports: list[CaseReport], patient_of: dict[str, str]) -> list[Finding]:
    """Return a finding for each image file whose voxels were already seen in an earlier one.

    Between patients it blocks: the two could fall on both sides of the split. Within one
    patient they always fall on one side. Constant images are left out: they stand for a
    missing channel and are reported as such.
    """
    seen: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for report in sorted(reports, key=lambda report: report.case):
        for file in report.files:
            if not file.is_constant:
                seen[file.voxel_hash].append((report.case, file.name))
    return [
        _duplicate(first, later, patient_of) for first, *more in seen.values() for later in more
    ]


def _duplicate(
    first: tuple[str, str], later: tuple[str, str], patient_of: dict[str, str]
) -> Finding:
    (case, name), (other_case, other) = later, first
    if case == other_case:
        return warning("duplicate_channel", name, f"has the same voxels as {other}")
    patient, other_patient = patient_of[case], patient_of[other_case]
    if patient == other_patient:
        text = f"has the same voxels as {other}, of the same patient {patient!r}"
        return warning("duplicate_image", name, text)
    text = f"has the same voxels as {other} of patient {other_patient!r}, not {patient!r}"
    return blocking("duplicate_image", name, f"{text}; remove one, or give both one patient")


def _inspect(dataset: Dataset, patient_of: dict[str, str], raw: RawCase) -> CaseReport:
    return inspect_case(dataset, raw, patient_of[raw.id])


def _stray_files(dataset: Dataset) -> list[Finding]:
    if dataset.lists_files:
        return []
    ending, found = dataset.file_ending, []
    for folder in ("imagesTr", "labelsTr"):
        others = [
            f.name for f in visible_files(dataset.root / folder) if not f.name.endswith(ending)
        ]
        if others:
            text = f"{len(others)} files here do not end in {ending} and are not read"
            found.append(warning("other_file", f"{folder}/{others[0]}", text))
    for file in visible_files(dataset.root / "imagesTr"):
        if file.name.endswith(ending) and case_of_image(file.name, ending) is None:
            text = f"nnU-Net cannot name its case; expected CASE_0000{ending}"
            found.append(blocking("bad_name", dataset.relative(file), text))
    return found


def _counted(dataset: Dataset) -> list[Finding]:
    count, cases = dataset.declared.get("numTraining"), len(dataset.cases)
    if count == cases:
        return []
    said = "is missing" if count is None else f"is {count}"
    return [warning("num_training", "dataset.json", f"numTraining {said}; found {cases} cases")]


def _absent_classes(dataset: Dataset, reports: list[CaseReport]) -> list[Finding]:
    seen: frozenset[int] = frozenset().union(*(report.values for report in reports))
    return [
        warning("class_absent", "dataset.json", f"no label holds the class {name!r} ({value})")
        for name, value in dataset.labels.items()
        if seen.isdisjoint(value if isinstance(value, tuple) else (value,))
    ]
