"""The demo dataset: repeatable, honest about its origin, and neither trivial nor noise."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import demo_data, simulate
from bench.demo_data import build_demo, mean_dice, trivial_dice
from bench.simulate import LABELS, Simulation, Template, read_template
from memory.errors import DatasetError

FEW = 6


@pytest.fixture(scope="module")
def template() -> Template:
    return read_template(pixel_mm=Simulation().pixel_mm)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_demo(tmp_path_factory.mktemp("raw"), subjects=FEW)


def hashes(dataset: Path) -> dict[str, str]:
    """Return the SHA-256 of every file under a dataset, by relative name."""
    return {
        str(file.relative_to(dataset)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(dataset.rglob("*"))
        if file.is_file()
    }


def test_layout_is_nnunet_raw(dataset: Path) -> None:
    info = json.loads((dataset / "dataset.json").read_text())
    images = sorted(file.name for file in (dataset / "imagesTr").iterdir())
    labels = sorted(file.name for file in (dataset / "labelsTr").iterdir())
    assert dataset.name == "Dataset901_SimulatedBrain"
    assert info["channel_names"] == {"0": "T1"}
    assert info["labels"] == LABELS
    assert info["numTraining"] == FEW == len(labels)
    assert images == [name.replace(".nii.gz", "_0000.nii.gz") for name in labels]


def test_origin_is_told(dataset: Path) -> None:
    info = json.loads((dataset / "dataset.json").read_text())
    assert "simulated subjects" in info["description"]
    assert info["simulated"] is True
    assert "Copyright (C) 1993-2009 Louis Collins" in info["licence"]
    assert "10.1016/j.neuroimage.2010.07.033" in info["reference"]
    assert set(info["origin"]["files"]) == set(simulate.TEMPLATE_FILES.values())
    assert info["origin"]["seed"] == demo_data.SEED


def test_same_seed_same_bytes(dataset: Path, tmp_path: Path) -> None:
    assert hashes(build_demo(tmp_path, subjects=FEW)) == hashes(dataset)


def test_no_two_subjects_alike(dataset: Path, tmp_path: Path) -> None:
    other = build_demo(tmp_path, subjects=2, seed=demo_data.SEED + 1)
    found = list(hashes(dataset / "imagesTr").values()) + list(hashes(other / "imagesTr").values())
    assert len(set(found)) == FEW + 2


def test_image_and_label_share_their_grid(dataset: Path) -> None:
    size = Simulation()
    for label_file in (dataset / "labelsTr").iterdir():
        image_file = dataset / "imagesTr" / label_file.name.replace(".nii.gz", "_0000.nii.gz")
        image: Any = sitk.ReadImage(str(image_file))
        label: Any = sitk.ReadImage(str(label_file))
        assert image.GetSize() == label.GetSize() == (size.columns, size.rows, size.slices)
        assert image.GetSpacing() == (size.pixel_mm, size.pixel_mm, size.slice_mm)
        assert image.GetOrigin() == label.GetOrigin()
        assert image.GetDirection() == label.GetDirection()
        values = np.unique(sitk.GetArrayFromImage(label))
        assert values.tolist() == sorted(LABELS.values())


def test_world_position_is_the_templates(template: Template) -> None:
    """Without any random change, a subject's voxel lies where the template's lies."""
    still = Simulation(
        rows=65,
        columns=57,
        scale=(1.0, 1.0),
        anisotropy_sd=0.0,
        rotation_deg_sd=0.0,
        shift_mm_sd=0.0,
        displacement_mm_sd=0.0,
        ventricles=(0.0, 0.0),
        subslices=1,
    )
    subject = simulate.simulate(template, seed=(0, 0), simulation=still)
    file = simulate.template_folder() / simulate.TEMPLATE_FILES["t1"]
    image: Any = sitk.ReadImage(str(file))
    first = image.TransformPhysicalPointToIndex(subject.origin_xyz_mm)
    planes, rows, columns = (
        range(start, start + size * step, step)
        for start, size, step in zip(first[::-1], subject.label.shape, (5, 3, 3), strict=True)
    )
    assert np.array_equal(template.label[np.ix_(planes, rows, columns)], subject.label)


@pytest.mark.parametrize("artefact", simulate.ARTEFACTS)
def test_artefact_changes_the_image(artefact: str) -> None:
    image = np.zeros((2, 32, 32))
    image[:, 8:20, 8:24] = 1.0
    rng = np.random.default_rng(0)
    spoilt = np.abs(simulate.spoil(image, artefact, Simulation(), rng=rng))
    assert np.allclose(spoilt, image) == (artefact == "none")


def test_every_artefact_occurs(template: Template) -> None:
    drawn = {simulate.simulate(template, seed=(0, number)).artefact for number in range(20)}
    assert drawn == set(simulate.ARTEFACTS)


def test_smooth_field_has_unit_variance() -> None:
    axis = np.array([-1.0, 0.0, 1.0])
    rng = np.random.default_rng(0)
    fields = simulate.smooth_field((axis, axis, axis), knot_mm=1000.0, components=4000, rng=rng)
    assert fields[:, 1, 1, 1].std() == pytest.approx(1.0, abs=0.25)
    assert np.abs(fields[:, 1, 1, 1] - fields[:, 2, 2, 2]).max() < 0.05


@given(share=st.floats(0.0, 0.95), reach=st.floats(5.0, 50.0))
@settings(max_examples=25, deadline=None)
def test_swell_keeps_the_order_of_points(share: float, reach: float) -> None:
    """Along a ray from the ventricles, points never pass one another: no fold."""
    steps = np.linspace(0.0, 80.0, 400)
    ray = np.array(simulate.VENTRICLES)[:, None] + np.array([[0.6], [0.8], [0.0]]) * steps
    still = Simulation(ventricles=(share, share), ventricle_reach_mm=reach)
    moved = simulate.swell(ray[:, :, None, None], still, rng=np.random.default_rng(0))
    away = np.linalg.norm(moved[:, :, 0, 0] - np.array(simulate.VENTRICLES)[:, None], axis=0)
    assert (np.diff(away) > 0.0).all()
    assert (away <= steps + 1e-9).all()


def test_majority_takes_the_lower_of_equals() -> None:
    labels = np.array([3, 3, 1, 2, 1, 2, 0, 0], dtype=np.uint8).reshape(8, 1, 1)
    assert simulate.majority(labels, 4).ravel().tolist() == [3, 0]


def test_thick_is_the_mean() -> None:
    stack = np.arange(6.0).reshape(6, 1, 1)
    assert simulate.thick(stack, 3).ravel().tolist() == [1.0, 4.0]


def test_trivial_baselines_leave_room(dataset: Path) -> None:
    """Neither intensity nor position alone solves it, and neither is useless."""
    trivial = trivial_dice(dataset)
    assert 0.45 < trivial.intensity < 0.70
    assert 0.40 < trivial.copying < 0.65


def test_mean_dice_by_hand() -> None:
    reference = np.array([0, 1, 1, 2], dtype=np.uint8)
    predicted = np.array([0, 1, 0, 2], dtype=np.uint8)
    # CSF 2 * 1 / (1 + 2), grey matter 1; white matter is in neither and does not count.
    assert mean_dice(predicted, reference) == pytest.approx((2 / 3 + 1) / 2)


def test_second_build_is_the_first(dataset: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in dataset.rglob("*")}
    assert build_demo(dataset.parent, subjects=FEW) == dataset
    assert {file: file.stat().st_mtime_ns for file in dataset.rglob("*")} == before


def test_different_dataset_is_not_taken(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="holds a different dataset"):
        build_demo(dataset.parent, subjects=FEW + 1)


def test_remains_of_a_killed_build_are_replaced(tmp_path: Path) -> None:
    stale = tmp_path / f".{demo_data.NAME}.part" / "imagesTr" / "old_0000.nii.gz"
    stale.parent.mkdir(parents=True)
    stale.write_text("half a file")
    built = build_demo(tmp_path, subjects=2)
    assert len(list((built / "imagesTr").iterdir())) == 2
    assert [file.name for file in tmp_path.iterdir()] == [demo_data.NAME]


@pytest.mark.parametrize(
    ("subjects", "simulation", "text"),
    [
        (1, Simulation(), "cannot simulate 1 subjects"),
        (4, Simulation(slices=0), "0 slices"),
        (4, Simulation(rows=8), "8 x 56 pixels"),
    ],
)
def test_impossible_sizes_are_refused(
    subjects: int, simulation: Simulation, text: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=text):
        build_demo(tmp_path, subjects=subjects, simulation=simulation)
    assert list(tmp_path.iterdir()) == []


def test_missing_template_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nilearn").mkdir()
    (tmp_path / "nilearn" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DatasetError, match="mni_icbm152_t1"):
        simulate.template_folder()
