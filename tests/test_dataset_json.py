"""dataset.json: what is allowed, and messages that name the key and what is allowed."""

import json
from pathlib import Path
from typing import Any

import pytest

from memory.errors import DatasetError
from sandbox.dataset_json import (
    check_count,
    load_dataset_json,
    parse_channels,
    parse_ending,
    parse_labels,
    parse_listed,
    parse_patients,
)

HERE = Path("dataset.json")


def labels(**table: Any) -> dict[str, Any]:
    return {"labels": {"background": 0, **table}}


def test_plain_labels() -> None:
    table = parse_labels(HERE, labels(liver=1, tumour=[2]))
    assert table.labels == {"liver": 1, "tumour": 2}
    assert not table.regions
    assert table.region_order == ()
    assert table.ignore_label is None


def test_regions_with_ignore() -> None:
    declared = labels(whole=[3, 1, 2], core=[2, 3], active=3, ignore=4)
    table = parse_labels(HERE, {**declared, "regions_class_order": [1, 2, 3]})
    assert table.labels == {"whole": (1, 2, 3), "core": (2, 3), "active": 3}
    assert table.regions
    assert table.region_order == (1, 2, 3)
    assert table.ignore_label == 4


@pytest.mark.parametrize(
    ("declared", "key"),
    [
        ({}, "labels"),
        ({"labels": ["background"]}, "labels"),
        ({"labels": {"liver": 1}}, "labels.background"),
        ({"labels": {"background": False, "liver": 1}}, "labels.background"),
        ({"labels": {"0": "background", "1": "liver"}}, "labels.background"),
        (labels(), "labels"),
        (labels(liver="1"), "labels.liver"),
        (labels(liver=1.0), "labels.liver"),
        (labels(liver=True), "labels.liver"),
        (labels(liver=0), "labels.liver"),
        (labels(liver=[]), "labels.liver"),
        (labels(whole=[0, 1]), "labels.whole"),
        (labels(liver=1, tumour=1), "labels.tumour"),
        (labels(liver=1, tumour=3), "labels"),
        (labels(liver=1, ignore=1), "labels.ignore"),
        (labels(liver=1, ignore=3), "labels.ignore"),
        (labels(liver=1, ignore=[2]), "labels.ignore"),
        (labels(whole=[1, 2], core=2), "regions_class_order"),
        ({**labels(whole=[1, 2], core=2), "regions_class_order": [1]}, "regions_class_order"),
        ({**labels(whole=[1, 2], core=2), "regions_class_order": [1, 3]}, "regions_class_order"),
        ({**labels(whole=[1, 2], core=2), "regions_class_order": [1, 1]}, "regions_class_order"),
    ],
)
def test_broken_labels_are_refused_by_key(declared: dict[str, Any], key: str) -> None:
    with pytest.raises(DatasetError, match=f"dataset.json: key '{key}' .*; allowed: ") as refused:
        parse_labels(HERE, declared)
    assert "\n" not in str(refused.value)


def test_channels_are_in_number_order() -> None:
    names = {str(n): f"c{n}" for n in reversed(range(11))}
    assert parse_channels(HERE, {"channel_names": names}) == tuple(f"c{n}" for n in range(11))
    assert parse_channels(HERE, {"modality": {"0": "CT"}}) == ("CT",)


@pytest.mark.parametrize("names", [None, {}, ["T1"], {"1": "T1"}, {"0": 1}, {"0": "a", "2": "b"}])
def test_broken_channels_are_refused(names: Any) -> None:
    with pytest.raises(DatasetError, match="'channel_names'.*allowed"):
        parse_channels(HERE, {"channel_names": names})


@pytest.mark.parametrize("ending", [None, 3, "nii.gz", ".jpg"])
def test_broken_ending_is_refused(ending: Any) -> None:
    with pytest.raises(DatasetError, match=r"'file_ending'.*allowed: \.nii\.gz, "):
        parse_ending(HERE, {"file_ending": ending})


def test_patients_are_names() -> None:
    assert parse_patients(HERE, {"patients": {"a": " P1 ", "b": 7}}) == {"a": "P1", "b": "7"}
    assert parse_patients(HERE, {}) == {}


@pytest.mark.parametrize("patients", [["a"], {"a": ""}, {"a": None}, {"a": ["P1"]}, {"a": True}])
def test_broken_patients_are_refused(patients: Any) -> None:
    with pytest.raises(DatasetError, match="key 'patients.*allowed"):
        parse_patients(HERE, {"patients": patients})


@pytest.mark.parametrize(
    "listed", [[], {"a": []}, {"a": {"images": "x", "label": "y"}}, {"a": {"images": ["x"]}}]
)
def test_broken_listed_files_are_refused(listed: Any) -> None:
    with pytest.raises(DatasetError, match="key 'dataset.*allowed"):
        parse_listed(HERE, {"dataset": listed})


def test_count_is_a_whole_number() -> None:
    check_count(HERE, {})
    with pytest.raises(DatasetError, match="'numTraining' is '3'"):
        check_count(HERE, {"numTraining": "3"})


def test_file_is_json_with_keys(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    with pytest.raises(DatasetError, match="cannot be read"):
        load_dataset_json(path)
    path.write_text('{"labels": ')
    with pytest.raises(DatasetError, match="is not JSON .*line 1"):
        load_dataset_json(path)
    path.write_text("[]")
    with pytest.raises(DatasetError, match="an object with keys"):
        load_dataset_json(path)
    path.write_text("\ufeff" + json.dumps({"numTraining": 1}))
    assert load_dataset_json(path) == {"numTraining": 1}
