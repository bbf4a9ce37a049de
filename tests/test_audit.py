"""Every planted fault is found, named with its file, and nothing is written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from memory.errors import DatasetError
from sandbox.audit import Audit, audit, dataset_hash
from sandbox.dataset import read_dataset
from sandbox.images import hash_images, hash_label

REAL = Path(__file__).parents[2] / "shared" / "data" / "Dataset004_Hippocampus"
SHAPE = (3, 6, 8)
PATIENTS = {"a": "P1", "b": "P2", "c": "P3"}
Change = Callable[[Path], object]


def write(path: Path, voxels: np.ndarray, **geometry: Any) -> None:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(geometry.get("spacing", (1.0, 1.0, 2.0)))
    image.SetOrigin(geometry.get("origin", (5.0, 6.0, 7.0)))
    if "direction" in geometry:
        image.SetDirection(geometry["direction"])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, path)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)


def mask() -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1, 1:3, 1:5] = 1
    voxels[1, 3, 1:3] = 2
    return voxels


def declare(root: Path, **changes: Any) -> None:
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "core": 1, "rim": 2, "ignore": 3},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "patients": PATIENTS,
        **changes,
    }
    (root / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound dataset: three cases, two channels, two classes and an ignore label."""
    root = tmp_path / "Dataset009_Tiny"
    for number, case in enumerate(PATIENTS):
        write(root / "imagesTr" / f"{case}_0000.nii.gz", picture(number))
        write(root / "imagesTr" / f"{case}_0001.nii.gz", picture(number + 10))
        write(root / "labelsTr" / f"{case}.nii.gz", mask())
    declare(root)
    return root


def look(root: Path, **options: Any) -> Audit:
    return audit(read_dataset(root), **options)


def codes(result: Audit) -> list[tuple[str, str, str]]:
    return [(finding.level, finding.code, finding.file) for finding in result.findings]


def label(root: Path) -> Path:
    return root / "labelsTr" / "b.nii.gz"


def image(root: Path) -> Path:
    return root / "imagesTr" / "b_0000.nii.gz"


def test_sound_dataset_has_no_finding(root: Path) -> None:
    result = look(root)
    assert result.findings == ()
    assert result.patients_given
    result.require_passed()
    case = result.cases[0]
    assert (case.id, case.patient, case.shape) == ("a", "P1", SHAPE)
    assert case.spacing_mm == (2.0, 1.0, 1.0)
    assert case.foreground_mm3 == 20.0
    assert case.label_hash == hash_label(root / "labelsTr" / "a.nii.gz")
    files = [root / "imagesTr" / f"a_000{n}.nii.gz" for n in (0, 1)]
    assert case.image_hash == hash_images(files)


def test_audit_writes_nothing(root: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        found = sorted(root.parent.rglob("*"))
        return [(str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in found]

    before = state()
    look(root)
    assert state() == before


def relabel(value: float, kind: type = np.uint8) -> Change:
    def change(root: Path) -> None:
        voxels: np.ndarray = mask().astype(kind)
        voxels[0, 0, :2] = value
        write(label(root), voxels)

    return change


def reimage(**geometry: Any) -> Change:
    return lambda root: write(image(root), picture(1), **geometry)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def copy(source: str, target: str) -> Change:
    def change(root: Path) -> None:
        (root / target).write_bytes((root / source).read_bytes())

    return change


TURNED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
LABEL, IMAGE, SECOND = "labelsTr/b.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz"
FAULTS: list[tuple[Change, str, str, str, str]] = [
    (lambda r: cut(image(r)), "blocking", "unreadable", IMAGE, "cannot be read|truncated"),
    (lambda r: cut(label(r)), "blocking", "unreadable", LABEL, "cannot be read|truncated"),
    (
        lambda r: label(r).write_text("x"),
        "blocking",
        "unreadable",
        LABEL,
        "copy or export",
    ),
    (lambda r: label(r).unlink(), "blocking", "missing_label", LABEL, "case 'b' has no label"),
    (lambda r: (r / SECOND).unlink(), "blocking", "missing_channel", SECOND, r"channel 1 \(T2\)"),
    (lambda r: image(r).unlink(), "blocking", "missing_channel", IMAGE, r"channel 0 \(T1\)"),
    (
        lambda r: write(r / "imagesTr/b_0002.nii.gz", picture(7)),
        *("blocking", "extra_channel", "imagesTr/b_0002.nii.gz", "channel 2; allowed: below 2"),
    ),
    (
        lambda r: write(r / "labelsTr/d.nii.gz", mask()),
        *("blocking", "missing_image", "labelsTr/d.nii.gz", "imagesTr/d_0000.nii.gz"),
    ),
    (
        lambda r: write(r / "imagesTr/d.nii.gz", picture(7)),
        *("blocking", "bad_name", "imagesTr/d.nii.gz", "expected CASE_0000"),
    ),
    (
        lambda r: write(label(r), mask()[:2]),
        *("blocking", "shape_mismatch", LABEL, r"shape \(2, 6, 8\) in 3D, but .*\(3, 6, 8\)"),
    ),
    (reimage(spacing=(1.0, 1.0, 2.1)), "blocking", "spacing_mismatch", LABEL, r"2.1, 1, 1\) mm"),
    (reimage(spacing=(1.0, 1.0, 2.1)), "blocking", "spacing_mismatch", SECOND, "2, 1, 1"),
    (reimage(origin=(5.0, 6.5, 7.0)), "blocking", "origin_mismatch", LABEL, r"\(5, 6.5, 7\) mm"),
    (reimage(direction=TURNED), "blocking", "direction_mismatch", LABEL, "1, 0, 0, 0, -1, 0"),
    (relabel(9), "blocking", "unknown_label", LABEL, r"9 in 2 voxels; .*\[0, 1, 2, 3\]"),
    (relabel(-1, np.int16), "blocking", "unknown_label", LABEL, "-1 in 2 voxels"),
    (relabel(1.5, np.float32), "blocking", "non_integer_label", LABEL, "1.5 in 2 voxels"),
    (relabel(np.nan, np.float32), "blocking", "non_finite", LABEL, "2 voxels are NaN"),
    (
        lambda r: write(image(r), np.where(picture(1) < 50, np.inf, picture(1))),
        *("blocking", "non_finite", IMAGE, "NaN or infinite"),
    ),
    (
        lambda r: write(label(r), np.zeros(SHAPE, np.uint8)),
        *("warning", "empty_label", LABEL, "no voxel of any class"),
    ),
    (
        lambda r: write(label(r), np.full(SHAPE, 3, np.uint8)),
        *("warning", "empty_label", LABEL, "no voxel of any class"),
    ),
    (
        copy("imagesTr/a_0000.nii.gz", IMAGE),
        *("blocking", "duplicate_image", IMAGE, "imagesTr/a_0000.nii.gz of patient 'P1', not 'P2'"),
    ),
    (
        copy("imagesTr/a_0000.nii.gz", SECOND),
        *("blocking", "duplicate_image", SECOND, "imagesTr/a_0000.nii.gz of patient 'P1'"),
    ),
    (copy(IMAGE, SECOND), "warning", "duplicate_channel", SECOND, IMAGE),
    (
        lambda r: write(image(r), np.zeros(SHAPE, np.int16)),
        *("warning", "constant_image", IMAGE, "every voxel is 0"),
    ),
    (
        lambda r: (r / "labelsTr/notes.txt").touch(),
        *("warning", "other_file", "labelsTr/notes.txt", "1 files here"),
    ),
    (
        lambda r: declare(r, numTraining=4),
        *("warning", "num_training", "dataset.json", "is 4; found 3 cases"),
    ),
    (
        lambda r: declare(r, numTraining=None),
        *("warning", "num_training", "dataset.json", "is missing; found 3"),
    ),
    (
        lambda r: declare(r, labels={"background": 0, "core": 1, "rim": 2, "edge": 3}),
        *("warning", "class_absent", "dataset.json", r"'edge' \(3\)"),
    ),
    (
        lambda r: declare(r, patients={"a": "P1", "b": "P2"}),
        *("blocking", "patient_unknown", "dataset.json", "case 'c' has no patient"),
    ),
    (
        lambda r: (r / "splits_final.json").write_text('[{"train": ["a"], "val": ["a"]}]'),
        *("blocking", "patient_in_two_splits", "splits_final.json", "train .* and val"),
    ),
]


@pytest.mark.parametrize(
    ("plant", "level", "code", "file", "text"), FAULTS, ids=[f"{f[2]}-{f[3]}" for f in FAULTS]
)
def test_planted_fault(
    root: Path, plant: Change, level: str, code: str, file: str, text: str
) -> None:
    plant(root)
    result = look(root)
    assert (level, code, file) in codes(result)
    (line,) = [str(f) for f in result.findings if (f.code, f.file) == (code, file)]
    assert "\n" not in line
    assert line.startswith(f"{level}: {file}: ")
    assert line.endswith(f"[{code}]")
    assert re.search(text, line), line
    if level == "warning":
        result.require_passed()
    else:
        with pytest.raises(DatasetError, match="dataset refused: blocking: "):
            result.require_passed()


def test_one_fault_gives_one_finding(root: Path) -> None:
    relabel(9)(root)
    assert codes(look(root)) == [("blocking", "unknown_label", LABEL)]


def test_rounded_geometry_is_no_fault(root: Path) -> None:
    reimage(spacing=(1.0, 1.0, 2.0 + 1e-6), origin=(5.0, 6.0 + 1e-4, 7.0))(root)
    assert look(root).findings == ()


def test_blocking_findings_come_first(root: Path) -> None:
    declare(root, numTraining=7)
    relabel(9)(root)
    result = look(root)
    assert [finding.level for finding in result.findings] == ["blocking", "warning"]
    assert len(result.blocking) == len(result.warnings) == 1


def test_damaged_case_is_left_out_and_the_rest_is_audited(root: Path) -> None:
    cut(image(root))
    relabel(9)(root)
    result = look(root)
    assert [case.id for case in result.cases] == ["a", "c"]
    assert {finding.code for finding in result.findings} == {"unreadable", "unknown_label"}
    with pytest.raises(DatasetError, match="and 1 more"):
        result.require_passed()


def test_same_image_of_one_patient_is_a_warning(root: Path, tmp_path: Path) -> None:
    copy("imagesTr/a_0000.nii.gz", IMAGE)(root)
    declare(root, patients={})
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\na,P1\nb,P1\nc,P2\n")
    result = look(root, patients_csv=table)
    assert codes(result) == [("warning", "duplicate_image", IMAGE)]
    assert [case.patient for case in result.cases] == ["P1", "P1", "P2"]
    alone = look(root)
    assert ("blocking", "duplicate_image", IMAGE) in codes(alone)
    assert ("warning", "patients_not_given", "dataset.json") in codes(alone)
    assert not alone.patients_given


def test_duplicate_is_found_across_formats_of_number(root: Path) -> None:
    write(image(root), picture(0).astype(np.float64), spacing=(3.0, 3.0, 3.0))
    assert ("blocking", "duplicate_image", IMAGE) in codes(look(root))


def test_missing_channel_filled_with_zeros_is_no_duplicate(root: Path) -> None:
    for case in ("a", "b"):
        write(root / "imagesTr" / f"{case}_0001.nii.gz", np.zeros(SHAPE, np.int16))
    assert {finding.code for finding in look(root).findings} == {"constant_image"}


def test_foreground_counts_regions_once_and_ignored_voxels_never(root: Path) -> None:
    relabel(3)(root)
    labels = {"background": 0, "whole": [1, 2], "rim": 2, "ignore": 3}
    declare(root, labels=labels, regions_class_order=[1, 2])
    result = look(root)
    assert result.findings == ()
    assert [case.foreground_mm3 for case in result.cases] == [20.0] * 3


def test_listed_files(root: Path) -> None:
    listed = {
        case: {
            "images": [f"imagesTr/{case}_000{n}.nii.gz" for n in (0, 1)],
            "label": f"labelsTr/{case}.nii.gz",
        }
        for case in PATIENTS
    }
    declare(root, dataset=listed)
    assert look(root).findings == ()
    listed["b"]["images"] = [IMAGE]
    listed["c"]["images"] = ["imagesTr/c_0000.nii.gz", "imagesTr/none.nii.gz"]
    declare(root, dataset=listed)
    assert codes(look(root)) == [
        ("blocking", "missing_channel", IMAGE),
        ("blocking", "missing_image", "imagesTr/none.nii.gz"),
    ]


def test_progress_names_every_case_once(root: Path) -> None:
    done: list[str] = []
    look(root, on_case=done.append)
    assert done == ["a", "b", "c"]


def test_dataset_hash_follows_content(root: Path) -> None:
    dataset, result = read_dataset(root), look(root)
    before = dataset_hash(dataset, result.cases)
    assert before == dataset_hash(dataset, result.cases[::-1])
    relabel(1)(root)
    assert before != dataset_hash(dataset, look(root).cases)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A 2D dataset of RGB pictures with grey labels."""
    rng = np.random.default_rng(0)
    for case in PATIENTS:
        save(tmp_path / "imagesTr" / f"{case}_0000.png", rng.integers(0, 255, (6, 8, 3), np.uint8))
        save(tmp_path / "labelsTr" / f"{case}.png", mask()[1])
    declare(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, file_ending=".png")
    return tmp_path


def test_colour_pictures(flat: Path) -> None:
    result = look(flat)
    assert result.findings == ()
    assert result.cases[0].shape == (1, 6, 8)
    assert result.cases[0].foreground_mm3 == 10.0


def test_grey_picture_among_colours(flat: Path) -> None:
    save(flat / "imagesTr" / "b_0000.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    result = look(flat)
    assert codes(result) == [("blocking", "missing_channel", "imagesTr/b_0000.png")]
    assert "has 1 channels; dataset.json names 3" in str(result.findings[0])


def test_colour_label(flat: Path) -> None:
    save(flat / "labelsTr" / "b.png", np.zeros((6, 8, 3), np.uint8))
    (finding,) = look(flat).findings
    assert str(finding).startswith("blocking: labelsTr/b.png: 3 values a pixel; allowed: one")


def test_picture_with_255_for_foreground(flat: Path) -> None:
    save(flat / "labelsTr" / "b.png", (mask()[1] > 0).astype(np.uint8) * 255)
    assert ("blocking", "unknown_label", "labelsTr/b.png") in codes(look(flat))


def test_flat_label_of_a_one_slice_volume(root: Path) -> None:
    write(label(root), mask()[1:2])
    for channel in (0, 1):
        voxels = sitk.GetImageFromArray(picture(channel + 30)[0])
        sitk.WriteImage(voxels, root / "imagesTr" / f"b_000{channel}.nii.gz")
    result = look(root)
    assert codes(result) == [("blocking", "shape_mismatch", LABEL)]
    assert "in 3D, but" in str(result.findings[0])


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing")
def test_real_dataset() -> None:
    result = look(REAL)
    assert codes(result) == [("warning", "patients_not_given", "dataset.json")]
    assert len(result.cases) == 160
    assert len({case.image_hash for case in result.cases}) == 160
    volumes = [case.foreground_mm3 for case in result.cases]
    assert 1000 < min(volumes) < max(volumes) < 6000
