"""Patient tables, and declared splits that tear a patient apart."""

import json
from pathlib import Path

import pytest

from memory.errors import DatasetError
from sandbox.dataset import Dataset, read_dataset
from sandbox.patients import check_declared_splits, group_by_patient, read_patients_csv

CASES = ("a", "b", "c")


def make(root: Path, patients: dict[str, str] | None = None) -> Dataset:
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for case in CASES:
        (root / "imagesTr" / f"{case}_0000.png").touch()
        (root / "labelsTr" / f"{case}.png").touch()
    declared = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "cell": 1},
        "numTraining": 3,
        "file_ending": ".png",
    }
    given = {} if patients is None else {"patients": patients}
    (root / "dataset.json").write_text(json.dumps(declared | given))
    return read_dataset(root)


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(tmp_path: Path, separator: str) -> None:
    text = "\ufeffage,patient, case,x\n7,P1,a,\n8, P 2 ,b,\n".replace(",", separator)
    found = read_patients_csv(table(tmp_path / "p.csv", text))
    assert [(row.case, row.patient, row.split) for row in found.rows] == [
        ("a", "P1", None),
        ("b", "P 2", None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needed: case, patient"),
        ("case,subject\na,P1\n", r"\['case', 'subject'\]; needed: case, patient"),
        ("case,patient\na,\n", "line 2 has an empty case or patient"),
        ("case,patient\na\n", "line 2 has an empty case or patient"),
    ],
)
def test_broken_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_patients_csv(table(tmp_path / "p.csv", text))


def test_missing_and_binary_csv_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_patients_csv(tmp_path / "none.csv")
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="cannot be read as UTF-8"):
        read_patients_csv(tmp_path / "p.csv")


def test_without_a_table_each_case_is_a_patient(tmp_path: Path) -> None:
    grouping = group_by_patient(make(tmp_path))
    assert grouping.patient_of == {"a": "a", "b": "b", "c": "c"}
    assert not grouping.is_given
    assert [finding.code for finding in grouping.findings] == ["patients_not_given"]


def test_tables_are_joined_and_gaps_named(tmp_path: Path) -> None:
    dataset = make(tmp_path / "d", {"a": "P1", "zz": "P9"})
    rows = read_patients_csv(table(tmp_path / "p.csv", "case,patient\na,P2\nb,P1\n"))
    grouping = group_by_patient(dataset, rows)
    assert grouping.patient_of["a"] == grouping.patient_of["b"] == "P1"
    codes = {(finding.level, finding.code) for finding in grouping.findings}
    assert codes == {
        ("blocking", "patient_conflict"),
        ("blocking", "patient_unknown"),
        ("warning", "case_unknown"),
    }
    assert all(finding.file == str(tmp_path / "p.csv") for finding in grouping.findings)
    assert "'a' has two patients, 'P1' and 'P2'" in str(sorted(grouping.findings))


def test_folds_with_a_torn_patient(tmp_path: Path) -> None:
    dataset = make(tmp_path, {"a": "P1", "b": "P1", "c": "P2"})
    folds = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["a", "c"], "val": ["b"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    (finding,) = check_declared_splits(dataset, group_by_patient(dataset))
    assert (finding.level, finding.code) == ("blocking", "patient_in_two_splits")
    assert finding.file == "splits_final.json"
    assert "patient 'P1' is in train (case 'a') and val (case 'b') of fold 1" in finding.text


@pytest.mark.parametrize("text", ["{", "{}", '[{"train": "a"}]', '[{"train": [1]}]'])
def test_folds_that_cannot_be_read_are_a_warning(tmp_path: Path, text: str) -> None:
    dataset = make(tmp_path)
    (tmp_path / "splits_final.json").write_text(text)
    (finding,) = check_declared_splits(dataset, group_by_patient(dataset))
    assert (finding.level, finding.code) == ("warning", "bad_split")


@pytest.mark.parametrize(("patients", "level"), [(None, "warning"), ("P", "blocking")])
def test_patient_in_the_test_images(tmp_path: Path, patients: str | None, level: str) -> None:
    dataset = make(tmp_path, {case: f"P{case}" for case in CASES} if patients else None)
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "imagesTs" / "b_0000.png").touch()
    (finding,) = check_declared_splits(dataset, group_by_patient(dataset))
    assert (finding.level, finding.file) == (level, "imagesTs")
    assert "imagesTr (case 'b') and imagesTs (case 'b')" in finding.text


def test_test_case_of_the_table_is_known(tmp_path: Path) -> None:
    dataset = make(tmp_path, {"a": "P1", "b": "P2", "c": "P3", "t": "P1"})
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "imagesTs" / "t_0000.png").touch()
    grouping = group_by_patient(dataset)
    assert grouping.findings == ()
    (finding,) = check_declared_splits(dataset, grouping)
    assert "patient 'P1' is in imagesTr (case 'a') and imagesTs (case 't')" in finding.text


def test_csv_with_a_split_column(tmp_path: Path) -> None:
    dataset = make(tmp_path / "d")
    text = "case,patient,split\na,P1,train\nb,P1,test\nc,P2,test\n"
    rows = read_patients_csv(table(tmp_path / "p.csv", text))
    (finding,) = check_declared_splits(dataset, group_by_patient(dataset, rows), rows)
    assert finding.level == "blocking"
    assert "patient 'P1' is in test (case 'b') and train (case 'a')" in finding.text
