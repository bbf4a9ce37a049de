"""Scores: hand-computed masks, empty masks, folders that do not fit, and other libraries."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from memory.errors import ScoringError
from memory.records import CaseScore, Metric
from sandbox import scoring
from sandbox.label_map import read_label_map
from sandbox.means import case_mean, class_mean, foreground_mean

Mask = np.ndarray


def grid(*rows: str) -> Mask:
    """Return a 2D mask from its picture: # is inside."""
    return np.array([[c == "#" for c in row] for row in rows])


def blobs(rng: np.random.Generator, shape: tuple[int, ...], level: float = 0.1) -> Mask:
    """Return smooth random blobs, never empty, reaching the image's border."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    return np.asarray(field > level * field.max())


# Rows are 3 mm apart, columns 1 mm. Both masks are bars one voxel thick: all surface.
BAR = grid(
    ".......",
    ".####..",
    ".......",
)
LONGER_BAR = grid(
    ".......",
    ".######",
    ".......",
)
LOWER_BAR = grid(
    ".......",
    ".......",
    ".####..",
)
# A ring of 8 surface voxels around one inner voxel, and the same with its right column gone.
SQUARE = grid(
    ".....",
    ".###.",
    ".###.",
    ".###.",
    ".....",
)
NARROW = grid(
    ".....",
    ".##..",
    ".##..",
    ".##..",
    ".....",
)


def test_dice_by_hand() -> None:
    assert scoring.dice(BAR, LONGER_BAR) == pytest.approx(2 * 4 / (4 + 6))
    assert scoring.dice(BAR, LOWER_BAR) == 0.0
    assert scoring.dice(np.zeros(3, bool), np.zeros(3, bool)) is None


def test_surface_is_the_voxels_with_a_face_outside() -> None:
    expected = SQUARE.copy()
    expected[2, 2] = False
    np.testing.assert_array_equal(scoring.surface(SQUARE), expected)
    full = np.ones((3, 3), dtype=bool)
    assert scoring.surface(full).sum() == 8


def test_anisotropic_bars_by_hand() -> None:
    # Prediction to reference: six voxels, 0 0 0 0 1 2 mm. Position 0.95 * 5 = 4.75: 1.75 mm.
    # Reference to prediction: four zeros.
    spacing = (3.0, 1.0)
    assert scoring.hd95(LONGER_BAR, BAR, spacing_mm=spacing) == pytest.approx(1.75)
    # Within 1 mm: 5 of 6 and 4 of 4.
    assert scoring.nsd(LONGER_BAR, BAR, spacing_mm=spacing, tolerance_mm=1.0) == 9 / 10
    assert scoring.nsd(LONGER_BAR, BAR, spacing_mm=spacing, tolerance_mm=2.0) == 1.0
    # One row lower: all 3 mm off.
    assert scoring.hd95(LOWER_BAR, BAR, spacing_mm=spacing) == pytest.approx(3.0)
    assert scoring.nsd(LOWER_BAR, BAR, spacing_mm=spacing, tolerance_mm=2.9) == 0.0
    assert scoring.nsd(LOWER_BAR, BAR, spacing_mm=spacing, tolerance_mm=3.0) == 1.0


def test_anisotropic_squares_by_hand() -> None:
    # Columns are 2 mm apart, rows 1 mm. NARROW has 6 surface voxels, all of its own; the
    # middle one of its right column, the square's inner voxel, is 1 mm from the ring (up or down).
    # The square's right column is 2 mm from NARROW.
    # Prediction to reference: 0 0 0 0 0 1 mm: position 4.75: 0.75.
    # Reference to prediction: 0 0 0 0 0 2 2 2 mm: position 0.95 * 7 = 6.65: 2.
    spacing = (1.0, 2.0)
    assert scoring.hd95(NARROW, SQUARE, spacing_mm=spacing) == pytest.approx(2.0)
    assert scoring.nsd(NARROW, SQUARE, spacing_mm=spacing, tolerance_mm=1.0) == (6 + 5) / 14
    assert scoring.nsd(NARROW, SQUARE, spacing_mm=spacing, tolerance_mm=0.5) == (5 + 5) / 14
    assert scoring.dice(NARROW, SQUARE) == pytest.approx(12 / 15)


def test_hd95_in_3d_by_hand() -> None:
    # Two single voxels, one step apart on each axis: sqrt(5^2 + 2^2 + 1^2).
    a, b = np.zeros((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    a[0, 0, 0] = b[1, 1, 1] = True
    assert scoring.hd95(a, b, spacing_mm=(5, 2, 1)) == pytest.approx(math.sqrt(30))


def test_tolerance_is_not_missed_by_a_rounding_error() -> None:
    a, b = np.zeros(8, bool), np.zeros(8, bool)
    a[0], b[3] = True, True
    # 3 * 0.1 is above 0.3 in float64.
    assert scoring.nsd(a, b, spacing_mm=(0.1,), tolerance_mm=0.3) == 1.0


def test_uncropped_distances_are_the_same() -> None:
    rng = np.random.default_rng(0)
    small = [blobs(rng, (6, 9, 7)) for _ in range(2)]
    large = [np.pad(m, ((3, 20), (0, 8), (11, 1))) for m in small]
    spacing = (2.5, 0.7, 1.3)
    # The padding takes voxels off the image's border, where they were surface already.
    for ours, theirs in zip(
        scoring.surface_distances(*small, spacing_mm=spacing),
        scoring.surface_distances(*large, spacing_mm=spacing),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    whole = ndimage.distance_transform_edt(~scoring.surface(large[1]), sampling=spacing)
    direct = whole[scoring.surface(large[0])]
    cropped = scoring.surface_distances(*large, spacing_mm=spacing)[0]
    np.testing.assert_allclose(cropped, direct, rtol=1e-6)


def one_class(prediction: Mask, reference: Mask, **more: Any) -> dict[str, Any]:
    scores = scoring.score_case(
        prediction.astype(np.uint8),
        reference.astype(np.uint8),
        labels={"organ": 1},
        **{"spacing_mm": (3.0, 1.0), **more},
    )
    assert [s.label for s in scores] == ["organ"] * 3
    return {s.metric.value: (s.value, s.reason) for s in scores}


def test_empty_masks() -> None:
    nothing = np.zeros_like(BAR)
    diagonal = math.sqrt((3 * 3) ** 2 + (7 * 1) ** 2)
    none = (None, "both empty")
    assert one_class(nothing, nothing) == {"dice": none, "hd95": none, "nsd": none}
    for prediction, reference, why in (
        (BAR, nothing, "empty reference"),
        (nothing, BAR, "missed"),
    ):
        expected = {"dice": (0.0, why), "hd95": (diagonal, why), "nsd": (0.0, why)}
        assert one_class(prediction, reference) == expected


def test_diagonal_is_above_any_distance() -> None:
    a, b = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    a[0, 0], b[-1, -1] = True, True
    farthest = scoring.hd95(a, b, spacing_mm=(3, 1))
    assert scoring.image_diagonal_mm((4, 5), (3, 1)) == pytest.approx(math.hypot(12, 5))
    assert farthest < scoring.image_diagonal_mm((4, 5), (3, 1))


def test_ignored_voxels_leave_both_masks() -> None:
    reference = np.array([[0, 1, 1, 9, 9, 0]], dtype=np.uint8)
    prediction = np.array([[0, 1, 1, 1, 1, 0]], dtype=np.uint8)
    scores = scoring.score_case(
        prediction, reference, spacing_mm=(1, 1), labels={"organ": 1}, ignore_label=9
    )
    assert [s.value for s in scores] == [1.0, 0.0, 1.0]
    only = scoring.score_case(
        prediction * 0 + 1, reference * 0 + 9, spacing_mm=(1, 1), labels={"o": 1}, ignore_label=9
    )
    assert {(s.value, s.reason) for s in only} == {(None, "both empty")}


def test_regions_are_unions() -> None:
    reference = np.array([[1, 1, 2, 2, 0, 0]], dtype=np.uint8)
    prediction = np.array([[1, 2, 2, 2, 0, 0]], dtype=np.uint8)
    scores = scoring.score_case(
        prediction, reference, spacing_mm=(1, 1), labels={"whole": (1, 2), "core": [2], "rim": 1}
    )
    found = {s.label: s.value for s in scores if s.metric is Metric.DICE}
    assert found == {"whole": 1.0, "core": pytest.approx(4 / 5), "rim": pytest.approx(2 / 3)}


def test_a_single_slice_is_scored_as_an_image() -> None:
    flat = one_class(NARROW, SQUARE, spacing_mm=(1.0, 2.0), tolerance_mm=1.0)
    for axis in range(3):
        spacing = np.insert([1.0, 2.0], axis, 40.0)
        slices = [np.expand_dims(m, axis) for m in (NARROW, SQUARE)]
        assert one_class(*slices, spacing_mm=tuple(spacing), tolerance_mm=1.0) == flat
    pixel = np.ones((1, 1, 1), dtype=bool)
    assert one_class(pixel, pixel, spacing_mm=(1, 1, 1))["dice"] == (1.0, None)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"spacing_mm": (1.0,)}, "does not fit an image of 2 axes"),
        ({"spacing_mm": (1.0, 0.0)}, "does not fit"),
        ({"spacing_mm": (1.0, math.nan)}, "does not fit"),
        ({"tolerance_mm": -1.0}, "tolerance is -1.0"),
        ({"tolerance_mm": math.nan}, "tolerance is nan"),
    ],
)
def test_arguments_that_make_no_sense(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(ScoringError, match=fault):
        one_class(BAR, BAR, **change)
    with pytest.raises(ScoringError, match="they must be equal"):
        one_class(BAR, SQUARE)


SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (3.0, 0.8, 0.8), (0.5, 2.0, 1.25)])


@given(st.integers(0, 2**32 - 1), SPACINGS)
def test_symmetric_bounded_and_perfect_on_itself(seed: int, spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(seed)
    a, b = blobs(rng, (5, 8, 7)), blobs(rng, (5, 8, 7))
    assert scoring.dice(a, b) == scoring.dice(b, a)
    assert scoring.hd95(a, b, spacing_mm=spacing) == scoring.hd95(b, a, spacing_mm=spacing)
    there = scoring.nsd(a, b, spacing_mm=spacing, tolerance_mm=1.0)
    assert there == scoring.nsd(b, a, spacing_mm=spacing, tolerance_mm=1.0)
    assert 0 <= there <= scoring.nsd(a, b, spacing_mm=spacing, tolerance_mm=2.0) <= 1
    assert scoring.dice(a, a) == 1.0
    assert scoring.hd95(a, a, spacing_mm=spacing) == 0.0
    assert scoring.nsd(a, a, spacing_mm=spacing, tolerance_mm=0.0) == 1.0


@given(st.integers(1, 6), st.integers(0, 2), SPACINGS)
def test_translation_moves_by_steps_of_the_spacing(
    steps: int, axis: int, spacing: tuple[float, ...]
) -> None:
    # A plane across the axis: every voxel of it is k steps off.
    a, b = np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8), bool)
    np.moveaxis(a, axis, 0)[0] = True
    np.moveaxis(b, axis, 0)[steps] = True
    distance = steps * spacing[axis]
    assert scoring.hd95(a, b, spacing_mm=spacing) == pytest.approx(distance)
    assert scoring.nsd(a, b, spacing_mm=spacing, tolerance_mm=distance) == 1.0
    assert scoring.nsd(a, b, spacing_mm=spacing, tolerance_mm=0.99 * distance) == 0.0


def write(path: Path, array: np.ndarray, **geometry: tuple[float, ...]) -> None:
    image = sitk.GetImageFromArray(array)
    if path.suffix != ".png":
        image.SetSpacing(geometry.get("spacing", (0.8, 1.0, 3.0)))
        image.SetOrigin(geometry.get("origin", (-90.3, 126.7, -72.1)))
        image.SetDirection(geometry.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(path))


CASES = ("b", "a")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Return a folder with predictions and labels of two cases, one class missed in one."""
    reference = np.zeros((4, 6, 8), dtype=np.uint8)
    reference[1:3, 1:4, 1:5] = 1
    prediction = reference.copy()
    prediction[1:3, 1:4, 5] = 1
    reference[3, 5, 5:7] = 2
    for case in CASES:
        write(tmp_path / "labels" / f"{case}.nii.gz", reference)
        write(tmp_path / "predictions" / f"{case}.nii.gz", prediction)
    write(tmp_path / "labels" / "other.nii.gz", reference)
    return tmp_path


def score(folder: Path, cases: tuple[str, ...] = CASES, **more: Any) -> list[CaseScore]:
    keywords: dict[str, Any] = {"file_ending": ".nii.gz", "labels": {"organ": 1, "tumour": 2}}
    return scoring.score_cases(
        folder / "predictions", folder / "labels", cases, trial="t1", **(keywords | more)
    )


def test_folders_are_scored_in_a_fixed_order(folders: Path) -> None:
    rows = score(folders)
    keys = [(r.case, r.label, r.metric.value) for r in rows]
    metrics = ("dice", "hd95", "nsd")
    expected = [(c, k, m) for c in ("a", "b") for k in ("organ", "tumour") for m in metrics]
    assert keys == expected
    assert rows == score(folders, ("a", "b"))
    assert {r.trial for r in rows} == {"t1"}
    # 24 of 30 voxels; the far column is one step of 0.8 mm along x off.
    assert rows[0].value == pytest.approx(2 * 24 / (24 + 30))
    assert rows[1].value == pytest.approx(0.8, rel=1e-5)
    assert rows[2].value == 1.0
    diagonal = math.sqrt((4 * 3.0) ** 2 + (6 * 1.0) ** 2 + (8 * 0.8) ** 2)
    assert [r.value for r in rows[3:6]] == [0.0, pytest.approx(diagonal, rel=1e-6), 0.0]
    assert {r.reason for r in rows[3:6]} == {"missed"}


def test_pixel_images_have_a_spacing_of_one_pixel(tmp_path: Path) -> None:
    for folder, mask in (("labels", BAR), ("predictions", LONGER_BAR)):
        write(tmp_path / folder / "a.png", mask.astype(np.uint8))
    rows = score(tmp_path, ("a",), file_ending=".png", labels={"bar": 1}, tolerance_mm=1.0)
    assert [r.value for r in rows] == [pytest.approx(0.8), pytest.approx(1.75), 0.9]


def test_missing_prediction_is_named(folders: Path) -> None:
    (folders / "predictions" / "b.nii.gz").unlink()
    with pytest.raises(ScoringError, match=r"no prediction for case 'b' \(1 of 2 missing\)"):
        score(folders)


@pytest.mark.parametrize("name", ["c.nii.gz", "a.json", "a"])
def test_extra_prediction_is_named(folders: Path, name: str) -> None:
    (folders / "predictions" / name).write_text("")
    with pytest.raises(ScoringError, match=f"holds '{name}'"):
        score(folders)


def test_cases_must_be_given_once_and_exist(folders: Path) -> None:
    with pytest.raises(ScoringError, match="3 cases to score, 2 different"):
        score(folders, ("a", "b", "a"))
    with pytest.raises(ScoringError, match="0 cases"):
        score(folders, ())
    (folders / "labels" / "a.nii.gz").unlink()
    with pytest.raises(ScoringError, match=r"no label map .*labels/a.nii.gz"):
        score(folders)
    with pytest.raises(ScoringError, match="no prediction folder"):
        score(folders / "nowhere")


TURNED = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


@pytest.mark.parametrize(
    ("geometry", "what"),
    [
        ({"spacing": (1.0, 1.0, 3.0)}, "spacing_mm"),
        ({"origin": (-90.3, 126.7, -71.1)}, "origin_mm"),
        ({"direction": TURNED}, "direction"),
    ],
)
def test_prediction_on_another_grid(folders: Path, geometry: dict[str, Any], what: str) -> None:
    write(folders / "predictions" / "b.nii.gz", np.ones((4, 6, 8), np.uint8), **geometry)
    with pytest.raises(ScoringError, match=f"prediction of case 'b' has {what}"):
        score(folders)


def test_prediction_of_another_shape(folders: Path) -> None:
    write(folders / "predictions" / "b.nii.gz", np.ones((4, 8, 6), np.uint8))
    with pytest.raises(
        ScoringError, match=r"case 'b' has shape \(4, 8, 6\), its label \(4, 6, 8\)"
    ):
        score(folders)


@pytest.mark.parametrize("folder", ["predictions", "labels"])
def test_values_outside_the_label_set(folders: Path, folder: str) -> None:
    array = np.zeros((4, 6, 8), np.uint8)
    array[0, 0, 0] = 7
    write(folders / folder / "a.nii.gz", array)
    with pytest.raises(ScoringError, match=r"of case 'a' holds the values \[7\]; .* \[0, 1, 2\]"):
        score(folders)


def test_ignore_label_is_for_references_only(folders: Path) -> None:
    array = np.full((4, 6, 8), 7, np.uint8)
    write(folders / "labels" / "a.nii.gz", array)
    assert {r.reason for r in score(folders, ignore_label=7) if r.case == "a"} == {"both empty"}
    write(folders / "predictions" / "a.nii.gz", array)
    with pytest.raises(ScoringError, match="prediction of case 'a' holds the values"):
        score(folders, ignore_label=7)


@pytest.mark.parametrize(
    ("value", "fault"), [(0.5, "holds 0.5"), (math.nan, "holds NaN"), (1e30, "huge values")]
)
def test_labels_are_whole_numbers(tmp_path: Path, value: float, fault: str) -> None:
    # Not NIfTI, whose reader turns NaN into 0.
    array = np.zeros((4, 6, 8), np.float32)
    write(tmp_path / "a.mha", array)
    assert read_label_map(tmp_path / "a.mha").array.dtype == np.int32
    array[1, 1, 1] = value
    write(tmp_path / "a.mha", array)
    with pytest.raises(ScoringError, match=rf"label map .*a\.mha .*{fault}"):
        read_label_map(tmp_path / "a.mha")


def test_unreadable_and_coloured_label_maps(folders: Path) -> None:
    (folders / "predictions" / "a.nii.gz").write_text("nothing")
    with pytest.raises(ScoringError, match="cannot read label map .*a.nii.gz"):
        score(folders)
    colour = sitk.GetImageFromArray(np.zeros((4, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(colour, str(folders / "labels" / "c.png"))
    sitk.WriteImage(colour, str(folders / "c.png"))
    with pytest.raises(ScoringError, match="2 axes and 3 channels"):
        read_label_map(folders / "c.png")


def row(case: str, label: str, value: float | None, metric: Metric = Metric.DICE) -> CaseScore:
    return CaseScore("t", case, label, metric, value, None if value is not None else "both empty")


def test_means_leave_out_what_is_undefined() -> None:
    rows = [
        row("b", "x", 0.5),
        row("b", "y", 1.0),
        row("a", "x", 0.25),
        row("a", "y", None),
        row("c", "x", None),
        row("a", "x", 99.0, Metric.HD95),
    ]
    assert case_mean(rows, Metric.DICE) == {"a": 0.25, "b": 0.75}
    assert list(case_mean(rows, Metric.DICE)) == ["a", "b"]
    assert class_mean(rows, Metric.DICE) == {"x": 0.375, "y": 1.0}
    assert foreground_mean(rows, Metric.DICE) == pytest.approx((0.375 + 1.0) / 2)
    with pytest.raises(ScoringError, match="no nsd is defined"):
        foreground_mean(rows, Metric.NSD)


PAIRS = [
    ((24, 31), (1.0, 1.0)),
    ((40, 17), (0.4, 2.3)),
    ((12, 20, 16), (1.0, 1.0, 1.0)),
    ((9, 22, 18), (5.0, 0.78125, 0.78125)),
    ((16, 8, 21), (0.3, 1.7, 0.9)),
]


# The other libraries warn of their own deprecations.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("shape", "spacing"), PAIRS)
@pytest.mark.parametrize("seed", range(4))
def test_same_as_monai(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    import torch
    from monai import metrics

    rng = np.random.default_rng(seed)
    a, b = blobs(rng, shape), blobs(rng, shape, level=0.3)
    pair = [torch.from_numpy(m[None, None].astype(np.float32)) for m in (a, b)]
    about = {"include_background": True, "spacing": spacing}
    theirs = metrics.compute_hausdorff_distance(*pair, percentile=95, **about)
    ours = scoring.hd95(a, b, spacing_mm=spacing)
    assert ours == pytest.approx(float(theirs), rel=1e-5)
    for tolerance in (0.0, 0.9, 2.0, 2.3):
        surface = metrics.compute_surface_dice(*pair, [tolerance], use_subvoxels=False, **about)
        ours = scoring.nsd(a, b, spacing_mm=spacing, tolerance_mm=tolerance)
        assert ours == pytest.approx(float(surface), rel=1e-5)
    overlap = metrics.compute_dice(*pair, include_background=True)
    assert scoring.dice(a, b) == pytest.approx(float(overlap), rel=1e-6)


# The other libraries warn of their own deprecations.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_beside_surface_distance(seed: int) -> None:
    # surface-distance 0.1 weighs each surface element, on a grid half a voxel off, by its area:
    # Dice agrees; NSD and HD95 are near but of another definition, as both must be on blobs
    # far larger than a voxel.
    import surface_distance as other

    rng = np.random.default_rng(seed)
    shape, spacing = (24, 32, 32), (2.0, 1.0, 1.0)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 5)
    a, b = field > 0, field > 0.15 * field.max()
    assert scoring.dice(a, b) == pytest.approx(other.compute_dice_coefficient(b, a))
    distances = other.compute_surface_distances(b, a, spacing)
    theirs = other.compute_surface_dice_at_tolerance(distances, 2.0)
    ours = scoring.nsd(a, b, spacing_mm=spacing, tolerance_mm=2.0)
    assert ours != theirs
    assert ours == pytest.approx(theirs, abs=0.15)
    theirs = other.compute_robust_hausdorff(distances, 95)
    ours = scoring.hd95(a, b, spacing_mm=spacing)
    assert ours != theirs
    assert ours == pytest.approx(theirs, abs=max(spacing))
    apart = other.compute_surface_distances(a, a, spacing)
    assert other.compute_surface_dice_at_tolerance(apart, 0.0) == 1.0
