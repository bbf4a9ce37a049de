"""The dataset: nnU-Net v2's raw layout, read without opening an image.

Either `imagesTr/CASE_0000.nii.gz` (one file a channel) and `labelsTr/CASE.nii.gz`, or the
files that `dataset.json` lists under `dataset`. What the files hold is `sandbox.audit`'s.
"""

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from memory.errors import DatasetError
from memory.records import Figures
from sandbox.dataset_json import (
    Label,
    check_count,
    label_values,
    load_dataset_json,
    parse_channels,
    parse_ending,
    parse_labels,
    parse_listed,
    parse_patients,
)

_NNUNET_FOLDER = re.compile(r"Dataset\d{3}_[\w.-]+")
_CASE = re.compile(r"[\w+-][\w .+@=,()-]*")
_INFO = ("description", "reference", "release", "licence")


@dataclass(frozen=True, slots=True)
class RawCase:
    """One case as found: image files in channel order (gaps closed up) and its label file.

    The label, and listed images, may be missing on disk: the audit says so.
    """

    id: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset in nnU-Net v2's raw layout.

    labels: class to label value, or to several values for a region; without background (0)
        and the ignore label.
    regions: True when a class is a region; `region_order` is then `regions_class_order`.
    cases: sorted by id.
    info: description, reference, release, licence; empty text where not given.
    patients: {case: patient} of the key `patients`, empty without one.
    declared: `dataset.json` as it stands.
    """

    root: Path
    name: str
    channels: tuple[str, ...]
    labels: dict[str, Label]
    regions: bool
    region_order: tuple[int, ...]
    ignore_label: int | None
    file_ending: str
    cases: tuple[RawCase, ...]
    info: dict[str, str]
    patients: dict[str, str]
    declared: Figures

    @property
    def folder(self) -> str:
        """The name nnU-Net wants for the folder: Dataset004_Hippocampus."""
        if _NNUNET_FOLDER.fullmatch(self.root.name):
            return self.root.name
        return "Dataset001_" + (re.sub(r"[^A-Za-z0-9]+", "", self.name) or "Data")

    @property
    def label_values(self) -> tuple[int, ...]:
        """The sorted label values of all classes, without background and ignore."""
        return label_values(self.labels)

    @property
    def lists_files(self) -> bool:
        """True when `dataset.json` lists the files itself under `dataset`."""
        return "dataset" in self.declared

    def relative(self, path: Path) -> str:
        """Return a file's name for a message: relative to the dataset where it lies inside."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)


def read_dataset(path: Path) -> Dataset:
    """Read `dataset.json` and list the cases.

    Raises:
        DatasetError: the folder is not in nnU-Net v2's raw layout, or `dataset.json` breaks
            a rule; the message names the key and what is allowed.
    """
    root = Path(path).resolve()
    source = root / "dataset.json"
    if not source.is_file():
        layout = "a folder with dataset.json, imagesTr and labelsTr (nnU-Net v2's raw layout)"
        raise DatasetError(f"{root}: holds no dataset.json; allowed: {layout}")
    declared = load_dataset_json(source)
    check_count(source, declared)
    ending, table = parse_ending(source, declared), parse_labels(source, declared)
    cases = _listed(root, declared, ending) if "dataset" in declared else _found(root, ending)
    if not cases:
        where = "imagesTr/CASE_0000" + ending
        raise DatasetError(f"{root}: holds no case; expected files named {where}")
    return Dataset(
        root=root,
        name=_name(root, declared),
        channels=parse_channels(source, declared),
        labels=table.labels,
        regions=table.regions,
        region_order=table.region_order,
        ignore_label=table.ignore_label,
        file_ending=ending,
        cases=cases,
        info=_info(declared),
        patients=parse_patients(source, declared),
        declared=declared,
    )


def visible_files(folder: Path) -> list[Path]:
    """Return the files of a folder, sorted, without hidden ones; empty without a folder."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and f.is_file())


def case_of_image(name: str, ending: str) -> str | None:
    """Return the case that an image file name CASE_0000 + ending belongs to, None for another."""
    match = re.fullmatch(rf"(.+)_\d{{4}}{re.escape(ending)}", name)
    return match[1] if match else None


def _found(root: Path, ending: str) -> tuple[RawCase, ...]:
    for folder in (root / "imagesTr", root / "labelsTr"):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; nnU-Net's raw layout needs it")
    images: dict[str, list[Path]] = defaultdict(list)
    for file in visible_files(root / "imagesTr"):
        case = case_of_image(file.name, ending)
        if case is not None:
            images[case].append(file)
    labels = {
        file.name.removesuffix(ending): file
        for file in visible_files(root / "labelsTr")
        if file.name.endswith(ending)
    }
    expected = {case: root / "labelsTr" / (case + ending) for case in images}
    return tuple(
        RawCase(_safe(case), tuple(images.get(case, ())), label)
        for case, label in sorted((expected | labels).items())
    )


def _listed(root: Path, declared: Figures, ending: str) -> tuple[RawCase, ...]:
    listed = parse_listed(root / "dataset.json", declared)
    cases = []
    for case, (images, label) in sorted(listed.items()):
        for file in (*images, label):
            if not file.endswith(ending):
                key = f"{root / 'dataset.json'}: key 'dataset.{case}'"
                raise DatasetError(f"{key} lists {file!r}; allowed: files ending in {ending}")
        paths = tuple(_located(root, file) for file in images)
        cases.append(RawCase(_safe(case), paths, _located(root, label)))
    return tuple(cases)


def _located(root: Path, file: str) -> Path:
    # nnU-Net expands variables in listed names, so a dataset that it reads is read here too.
    return root / os.path.expandvars(file)


def _safe(case: str) -> str:
    if not _CASE.fullmatch(case):
        allowed = "letters, digits and _ . + - = @ , ( ) space, not beginning with a dot or space"
        raise DatasetError(f"case {case!r} cannot name a file; allowed: {allowed}")
    return case


def _name(root: Path, declared: Figures) -> str:
    name = declared.get("name")
    if isinstance(name, str) and name.strip():
        return name.strip()
    return re.sub(r"^Dataset\d{3}_", "", root.name)


def _info(declared: Figures) -> dict[str, str]:
    given = {**declared, "licence": declared.get("licence", declared.get("license", ""))}
    return {key: str(given.get(key, "")) for key in _INFO}
