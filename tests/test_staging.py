"""Staging: self-contained, locked labels apart, all or nothing, repeatable."""

import json
from pathlib import Path

import pytest

from memory.errors import DatasetError
from memory.records import SplitCase, SplitName
from sandbox.dataset import Dataset, read_dataset
from sandbox.staging import stage, staged_paths

PARTS = {
    "a": SplitName.SEARCH_TRAIN,
    "b": SplitName.SEARCH_VAL,
    "c": SplitName.LOCKED_TEST,
    "d": SplitName.SEARCH_TRAIN,
}


def placed(case: str, split: SplitName) -> SplitCase:
    return SplitCase(case, case, split, 1.0, "image", "label")


SPLIT = [placed(case, split) for case, split in PARTS.items()]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    root = tmp_path / "Dataset003_Toy"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for case in PARTS:
        for channel in (0, 1):
            (root / "imagesTr" / f"{case}_000{channel}.mha").write_text(f"{case} {channel}")
        (root / "labelsTr" / f"{case}.mha").write_text(f"label {case}")
    declared = {
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "x": 1, "ignore": 2},
        "numTraining": 4,
        "file_ending": ".mha",
        "patients": {case: case for case in PARTS},
        "licence": "CC0",
        "test": ["imagesTr/c_0000.mha"],
    }
    (root / "dataset.json").write_text(json.dumps(declared))
    return read_dataset(root)


def names(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def test_every_file_is_where_its_part_belongs(dataset: Dataset, tmp_path: Path) -> None:
    campaign = tmp_path / "campaign"
    staged = stage(dataset, SPLIT, campaign)
    assert staged == staged_paths(campaign, "Dataset003_Toy")
    assert names(campaign) == [
        "labels/search-val/b.mha",
        "locked/labels/c.mha",
        "staging/Dataset003_Toy/dataset.json",
        "staging/Dataset003_Toy/imagesTr/a_0000.mha",
        "staging/Dataset003_Toy/imagesTr/a_0001.mha",
        "staging/Dataset003_Toy/imagesTr/d_0000.mha",
        "staging/Dataset003_Toy/imagesTr/d_0001.mha",
        "staging/Dataset003_Toy/labelsTr/a.mha",
        "staging/Dataset003_Toy/labelsTr/d.mha",
        "staging/images/locked-test/c_0000.mha",
        "staging/images/locked-test/c_0001.mha",
        "staging/images/search-val/b_0000.mha",
        "staging/images/search-val/b_0001.mha",
    ]
    assert (staged.test_labels / "c.mha").read_text() == "label c"
    assert (staged.val_images / "b_0001.mha").read_text() == "b 1"


def test_locked_labels_are_for_the_owner_only(dataset: Dataset, tmp_path: Path) -> None:
    staged = stage(dataset, SPLIT, tmp_path / "campaign")
    assert staged.test_labels.stat().st_mode & 0o777 == 0o700
    assert staged.test_labels.parent.stat().st_mode & 0o777 == 0o700


def test_training_side_is_told_nothing_of_other_cases(dataset: Dataset, tmp_path: Path) -> None:
    staged = stage(dataset, SPLIT, tmp_path / "campaign")
    assert json.loads((staged.train / "dataset.json").read_text()) == {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "x": 1, "ignore": 2},
        "numTraining": 2,
        "file_ending": ".mha",
        "licence": "CC0",
    }
    assert len(read_dataset(staged.train).cases) == 2


def test_copies_do_not_depend_on_the_source(dataset: Dataset, tmp_path: Path) -> None:
    source = dataset.root / "labelsTr" / "a.mha"
    source.rename(tmp_path / "elsewhere.mha")
    source.symlink_to(tmp_path / "elsewhere.mha")
    staged = stage(dataset, SPLIT, tmp_path / "campaign")
    assert not (staged.train / "labelsTr" / "a.mha").is_symlink()
    assert (staged.train / "labelsTr" / "a.mha").read_text() == "label a"


def test_second_call_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    campaign = tmp_path / "campaign"
    stage(dataset, SPLIT, campaign)
    before = {file: file.stat().st_mtime_ns for file in campaign.rglob("*")}
    stage(dataset, SPLIT[::-1], campaign)
    assert {file: file.stat().st_mtime_ns for file in campaign.rglob("*")} == before


def test_killed_call_is_finished_by_the_next(dataset: Dataset, tmp_path: Path) -> None:
    campaign = tmp_path / "campaign"
    missing = dataset.root / "imagesTr" / "d_0001.mha"
    missing.rename(tmp_path / "away")
    with pytest.raises(DatasetError, match="d_0001.mha: cannot be copied"):
        stage(dataset, SPLIT, campaign)
    assert not staged_paths(campaign, "Dataset003_Toy").train.exists()
    (tmp_path / "away").rename(missing)
    stage(dataset, SPLIT, campaign)
    assert len(names(campaign)) == 13
    assert not [file for file in campaign.rglob("*") if file.name.startswith(".")]


def test_another_split_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    campaign = tmp_path / "campaign"
    stage(dataset, SPLIT, campaign)
    swapped = [placed("c", SplitName.SEARCH_VAL), placed("b", SplitName.LOCKED_TEST)]
    with pytest.raises(DatasetError, match="locked/labels: holds another split .*'b.mha'"):
        stage(dataset, [SPLIT[0], SPLIT[3], *swapped], campaign)
    assert names(campaign / "locked") == ["labels/c.mha"]


def test_case_that_the_dataset_lacks_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'z' of the split is not in"):
        stage(dataset, [*SPLIT, placed("z", SplitName.SEARCH_VAL)], tmp_path / "campaign")
    assert not (tmp_path / "campaign").exists()
