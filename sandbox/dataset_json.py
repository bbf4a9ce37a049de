"""The rules of `dataset.json`: what nnU-Net v2 allows in it, and our optional `patients` key."""

import json
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from memory.errors import DatasetError
from memory.records import Figures
from sandbox.images import PICTURES, VOLUMES

ENDINGS = VOLUMES + PICTURES
Label = int | tuple[int, ...]


class LabelTable(NamedTuple):
    """The label values of a dataset; see `sandbox.dataset.Dataset` for the fields."""

    labels: dict[str, Label]
    regions: bool
    region_order: tuple[int, ...]
    ignore_label: int | None


def load_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DatasetError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON ({error}); correct it there") from error


def load_dataset_json(path: Path) -> Figures:
    """Return `dataset.json` as it stands.

    Raises:
        DatasetError: the file is missing, is not JSON or is not an object.
    """
    declared = load_json(path)
    if not isinstance(declared, dict):
        raise DatasetError(f"{path}: holds {declared!r:.60}; allowed: an object with keys")
    return declared


def parse_channels(path: Path, declared: Figures) -> tuple[str, ...]:
    """Return the channel names in file order.

    Raises:
        DatasetError: `channel_names` (or `modality`, its old name) is not {"0": name, ...}.
    """
    key = "channel_names" if "channel_names" in declared else "modality"
    names = declared.get(key)
    allowed = 'an object {"0": "T1", "1": "T2", ...} numbered from "0" without gaps'
    if not isinstance(names, dict) or not names:
        _refuse(path, "channel_names" if names is None else key, names, allowed)
    if set(names) != {str(number) for number in range(len(names))}:
        _refuse(path, key, names, allowed)
    if not all(isinstance(name, str) and name for name in names.values()):
        _refuse(path, key, names, allowed)
    return tuple(names[str(number)] for number in range(len(names)))


def parse_labels(path: Path, declared: Figures) -> LabelTable:
    """Return the label table, checked against the rules of nnU-Net.

    Raises:
        DatasetError: `labels` or `regions_class_order` breaks a rule; the message names it.
    """
    table = declared.get("labels")
    if not isinstance(table, dict):
        _refuse(path, "labels", table, 'an object {"background": 0, "tumour": 1, ...}')
    if not _is_int(table.get("background")) or table["background"] != 0:
        _refuse(path, "labels.background", table.get("background"), "0, and it must be there")
    labels = {
        name: _label(path, name, value)
        for name, value in table.items()
        if name not in ("background", "ignore")
    }
    if not labels:
        _refuse(path, "labels", table, "at least one class beside the background")
    _check_values(path, labels)
    regions = any(isinstance(value, tuple) for value in labels.values())
    order = _region_order(path, declared, labels) if regions else ()
    return LabelTable(labels, regions, order, _ignore(path, table, label_values(labels)))


def label_values(labels: dict[str, Label]) -> tuple[int, ...]:
    """Return the sorted label values of all classes, without background and ignore."""
    listed = (value if isinstance(value, tuple) else (value,) for value in labels.values())
    return tuple(sorted({number for values in listed for number in values}))


def parse_ending(path: Path, declared: Figures) -> str:
    """Return the file ending.

    Raises:
        DatasetError: `file_ending` is not one that can be read.
    """
    ending = declared.get("file_ending")
    if not isinstance(ending, str) or ending.lower() not in ENDINGS:
        _refuse(path, "file_ending", ending, ", ".join(ENDINGS))
    return ending


def parse_patients(path: Path, declared: Figures) -> dict[str, str]:
    """Return {case: patient} of the optional key `patients`; empty without one.

    Raises:
        DatasetError: `patients` is not an object of names.
    """
    patients = declared.get("patients", {})
    allowed = 'an object {"CASE": "PATIENT", ...}'
    if not isinstance(patients, dict):
        _refuse(path, "patients", patients, allowed)
    for case, patient in patients.items():
        if not (_is_int(patient) or (isinstance(patient, str) and patient.strip())):
            _refuse(path, f"patients.{case}", patient, "a name that is not empty, or a number")
    return {case: str(patient).strip() for case, patient in patients.items()}


def parse_listed(path: Path, declared: Figures) -> dict[str, tuple[list[str], str]]:
    """Return {case: (image files, label file)} of the optional key `dataset`.

    Raises:
        DatasetError: `dataset` is not an object of image lists and labels.
    """
    listed = declared["dataset"]
    allowed = 'an object {"CASE": {"images": [file, ...], "label": file}, ...}'
    if not isinstance(listed, dict):
        _refuse(path, "dataset", listed, allowed)
    for case, entry in listed.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        files = [*images, entry.get("label")] if isinstance(images, list) else [None]
        if not all(isinstance(file, str) for file in files):
            _refuse(path, f"dataset.{case}", entry, allowed)
    return {case: (list(entry["images"]), entry["label"]) for case, entry in listed.items()}


def check_count(path: Path, declared: Figures) -> None:
    """Check the type of `numTraining`; the audit compares its value.

    Raises:
        DatasetError: it is there and not a whole number.
    """
    count = declared.get("numTraining")
    if count is not None and not _is_int(count):
        _refuse(path, "numTraining", count, "the number of training cases, a whole number")


def _label(path: Path, name: str, value: Any) -> Label:
    values = value if isinstance(value, list) else [value]
    if not values or not all(_is_int(number) and number > 0 for number in values):
        _refuse(path, f"labels.{name}", value, "a whole number above 0, or a list of such")
    distinct = tuple(sorted(set(values)))
    return distinct if len(distinct) > 1 else int(distinct[0])


def _check_values(path: Path, labels: dict[str, Label]) -> None:
    taken: dict[Label, str] = {}
    for name, value in labels.items():
        if value in taken:
            _refuse(path, f"labels.{name}", value, f"a value not yet taken by {taken[value]!r}")
        taken[value] = name
    values = label_values(labels)
    if values != tuple(range(1, len(values) + 1)):
        _refuse(path, "labels", list(values), "consecutive values 1, 2, 3, ... beside background 0")


def _region_order(path: Path, declared: Figures, labels: dict[str, Label]) -> tuple[int, ...]:
    order, values = declared.get("regions_class_order"), label_values(labels)
    allowed = f"a list of {len(labels)} values out of {list(values)}, one a region, none twice"
    if not isinstance(order, list) or len(order) != len(labels):
        _refuse(path, "regions_class_order", order, allowed)
    if not all(_is_int(v) and v in values for v in order) or len(set(order)) != len(order):
        _refuse(path, "regions_class_order", order, allowed)
    return tuple(order)


def _ignore(path: Path, table: Figures, values: tuple[int, ...]) -> int | None:
    if "ignore" not in table:
        return None
    ignore = table["ignore"]
    if not _is_int(ignore) or ignore != values[-1] + 1:
        _refuse(path, "labels.ignore", ignore, f"{values[-1] + 1}, one above the highest label")
    return int(ignore)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse(path: Path, key: str, value: Any, allowed: str) -> NoReturn:
    found = "is missing" if value is None else f"is {value!r:.120}"
    raise DatasetError(f"{path}: key {key!r} {found}; allowed: {allowed}")
