"""Reading the raw layout: which cases there are, and which files belong to them."""

import json
from pathlib import Path
from typing import Any

import pytest

from memory.errors import DatasetError
from sandbox.dataset import read_dataset

REAL = Path(__file__).parents[2] / "shared" / "data" / "Dataset004_Hippocampus"


def make(root: Path, files: list[str], **declared: Any) -> Path:
    """Write dataset.json and empty files: reading a dataset opens no image."""
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **declared,
    }
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def test_cases_and_channels(tmp_path: Path) -> None:
    files = [f"imagesTr/{case}_000{n}.nii.gz" for case in ("b", "a_1") for n in (1, 0)]
    root = make(tmp_path / "Dataset007_Brain", [*files, "labelsTr/a_1.nii.gz", "labelsTr/b.nii.gz"])
    dataset = read_dataset(root)
    assert [case.id for case in dataset.cases] == ["a_1", "b"]
    assert [f.name for f in dataset.cases[1].images] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert dataset.cases[1].label == root / "labelsTr" / "b.nii.gz"
    assert dataset.channels == ("T1", "T2")
    assert (dataset.name, dataset.folder) == ("Brain", "Dataset007_Brain")
    assert dataset.label_values == (1,)
    assert not dataset.lists_files


def test_cases_with_one_half_are_kept_for_the_audit(tmp_path: Path) -> None:
    root = make(tmp_path, ["imagesTr/a_0000.nii.gz", "labelsTr/b.nii.gz"])
    cases = {case.id: case for case in read_dataset(root).cases}
    assert set(cases) == {"a", "b"}
    assert cases["b"].images == ()
    assert cases["a"].label == root / "labelsTr" / "a.nii.gz"


def test_other_and_hidden_files_are_no_cases(tmp_path: Path) -> None:
    odd = ["imagesTr/._a_0000.nii.gz", "imagesTr/a_0000.nii", "labelsTr/notes.txt"]
    root = make(tmp_path, [*odd, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"])
    assert [case.id for case in read_dataset(root).cases] == ["a"]


def test_listed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGWRIGHT_TEST_DATA", str(tmp_path / "far"))
    listed = {
        "b": {"images": ["x/b.nii.gz"], "label": "y/b.nii.gz"},
        "a": {"images": ["$SEGWRIGHT_TEST_DATA/a.nii.gz"], "label": "/abs/a.nii.gz"},
    }
    dataset = read_dataset(make(tmp_path / "near", [], dataset=listed))
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert dataset.cases[0].images == (tmp_path / "far" / "a.nii.gz",)
    assert dataset.cases[0].label == Path("/abs/a.nii.gz")
    assert dataset.cases[1].images == (tmp_path / "near" / "x" / "b.nii.gz",)
    assert dataset.lists_files


@pytest.mark.parametrize("case", ["../a", "a/b", ".a", "", "a\nb", "-rf\0"])
def test_case_that_cannot_name_a_file_is_refused(tmp_path: Path, case: str) -> None:
    listed = {case: {"images": ["a.nii.gz"], "label": "a.nii.gz"}}
    with pytest.raises(DatasetError, match="cannot name a file; allowed"):
        read_dataset(make(tmp_path, [], dataset=listed))


def test_listed_file_with_another_ending_is_refused(tmp_path: Path) -> None:
    listed = {"a": {"images": ["a.mha"], "label": "a.nii.gz"}}
    with pytest.raises(DatasetError, match=r"'dataset.a' lists 'a.mha'; allowed: .*\.nii\.gz"):
        read_dataset(make(tmp_path, [], dataset=listed))


def test_folders_that_are_no_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset.json; allowed"):
        read_dataset(tmp_path)
    root = make(tmp_path / "a", [])
    with pytest.raises(DatasetError, match="holds no case; expected"):
        read_dataset(root)
    (root / "labelsTr").rmdir()
    with pytest.raises(DatasetError, match="labelsTr: no such folder"):
        read_dataset(root)


def test_name_and_info(tmp_path: Path) -> None:
    given = {"name": " My Set ", "license": "CC0", "description": "d"}
    dataset = read_dataset(make(tmp_path / "x", ["labelsTr/a.nii.gz"], **given))
    assert (dataset.name, dataset.folder) == ("My Set", "Dataset001_MySet")
    assert dataset.info["licence"] == "CC0"
    assert dataset.info["description"] == "d"
    assert dataset.info["reference"] == ""


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing")
def test_real_dataset() -> None:
    dataset = read_dataset(REAL)
    assert len(dataset.cases) == 160
    assert dataset.labels == {"anterior": 1, "posterior": 2}
    assert dataset.folder == "Dataset004_Hippocampus"
    assert dataset.info["licence"] == "CC-BY-SA 4.0"
    assert dataset.patients == {}
