"""Shapes of classes in one label file, against masks counted by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import skimage.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from memory.errors import DatasetError
from sandbox.label_map import LabelMap
from sandbox.label_shapes import (
    ABSENT,
    LabelShape,
    label_shape,
    object_sizes,
    read_label_shape,
    typical_size,
)
from sandbox.scoring import Labels

UNIT = (1.0, 1.0, 1.0)
ONE: Labels = {"one": 1}


def volume_of(shape: tuple[int, ...]) -> LabelMap:
    return np.zeros(shape, np.uint8)


def write(path: Path, array: Any, spacing: tuple[float, ...]) -> Path:
    image: Any = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    sitk.WriteImage(image, str(path))
    return path


def test_a_block_of_anisotropic_voxels() -> None:
    array = volume_of((5, 6, 6))
    array[1:4, 1:4, 1:4] = 1
    found = label_shape(array, (3.0, 1.0, 0.5), ONE)
    assert (found.shape, found.spacing_mm) == ((5, 6, 6), (3.0, 1.0, 0.5))
    assert (found.voxels, found.foreground) == (27, 27 / 180)
    (own,) = found.classes
    assert (own.voxels, own.volume_mm3, own.objects, own.smallest) == (27, 40.5, 1, 27)
    assert own.object_mm == pytest.approx(40.5 ** (1 / 3))
    assert own.border == 26 / 27  # all but the middle voxel


def test_objects_touch_by_a_corner_too() -> None:
    array = volume_of((4, 6, 6))
    array[0, 0, 0] = array[1, 1, 1] = 1
    assert label_shape(array, UNIT, ONE).classes[0].objects == 1
    array[3, 5, 5] = 1
    (own,) = label_shape(array, UNIT, ONE).classes
    assert (own.objects, own.smallest, own.voxels) == (2, 1, 3)


def test_a_class_that_is_absent() -> None:
    array = volume_of((3, 3, 3))
    array[1, 1, 1] = 2
    absent, there = label_shape(array, UNIT, {"one": 1, "two": 2}).classes
    assert absent == ABSENT
    assert (there.voxels, there.border) == (1, 1.0)


def test_a_label_without_any_class() -> None:
    found = label_shape(volume_of((3, 3, 3)), UNIT, ONE)
    assert (found.voxels, found.foreground, found.classes) == (0, 0.0, (ABSENT,))


def test_a_single_slice_has_an_outline() -> None:
    array = volume_of((1, 6, 6))
    array[0, 1:5, 1:5] = 1
    (own,) = label_shape(array, (5.0, 1.0, 1.0), ONE).classes
    assert own.border == 12 / 16
    assert own.volume_mm3 == 80.0
    assert own.object_mm == 4.0  # the side of a square, not the edge of a cube


def test_a_single_voxel_is_an_image_too() -> None:
    (own,) = label_shape(np.ones((1, 1, 1), np.uint8), (2.0, 2.0, 2.0), ONE).classes
    assert (own.voxels, own.volume_mm3, own.object_mm, own.border) == (1, 8.0, 2.0, 1.0)


def test_regions_overlap_and_the_ignore_label_counts_for_nobody() -> None:
    array = volume_of((1, 4, 8))
    array[0, :, 0:2], array[0, :, 2:4], array[0, :, 6:8] = 1, 2, 3
    found = label_shape(array, UNIT, {"whole": [1, 2], "core": [2]})
    whole, core = found.classes
    assert (whole.voxels, whole.objects, core.voxels) == (16, 1, 8)
    assert (found.voxels, found.foreground) == (16, 0.5)


def test_specks_do_not_move_the_typical_object() -> None:
    assert typical_size(np.array([1, 1, 1, 1, 100])) == 100
    assert typical_size(np.array([10, 10, 10])) == 10
    assert typical_size(np.array([1, 2, 3])) == 2
    mask = np.zeros((3, 12), bool)
    mask[0, 0] = mask[2, 3] = True
    mask[:, 6:9] = True
    assert object_sizes(mask).tolist() == [1, 1, 9]


@given(
    arrays(np.uint8, (3, 4, 4), elements=st.integers(0, 2)),
    st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 3),
)
def test_background_around_an_image_changes_no_class(
    array: LabelMap, widths: tuple[tuple[int, int], ...]
) -> None:
    labels: Labels = {"one": 1, "two": 2, "both": [1, 2]}
    plain = label_shape(array, (2.0, 1.0, 0.5), labels)
    padded = label_shape(np.pad(array, widths), (2.0, 1.0, 0.5), labels)
    assert padded.classes == plain.classes
    assert plain.voxels == plain.classes[2].voxels == np.count_nonzero(array)


def test_files_of_two_and_three_dimensions(tmp_path: Path) -> None:
    flat = np.zeros((6, 8), np.uint8)
    flat[1:4, 2:6] = 1
    skimage.io.imsave(tmp_path / "a.png", flat, check_contrast=False)
    write(tmp_path / "a.nii.gz", flat, (0.5, 2.0))
    write(tmp_path / "b.nii.gz", np.stack([flat] * 3), (4.0, 0.5, 2.0))
    picture = read_label_shape(tmp_path / "a.png", ONE)
    assert (picture.shape, picture.spacing_mm) == ((1, 6, 8), UNIT)
    assert picture.classes[0].volume_mm3 == 12.0
    two = read_label_shape(tmp_path / "a.nii.gz", ONE)
    assert (two.spacing_mm, two.classes[0].volume_mm3) == ((1.0, 0.5, 2.0), 12.0)
    assert two.classes[0].border == picture.classes[0].border == 10 / 12
    three = read_label_shape(tmp_path / "b.nii.gz", ONE)
    assert three.spacing_mm == (4.0, 0.5, 2.0)
    assert three.classes[0].volume_mm3 == 36 * 4.0


def test_labels_above_255(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", np.full((2, 2, 2), 300, np.uint16), UNIT)
    found: LabelShape = read_label_shape(path, {"one": 300})
    assert found.classes[0].voxels == 8


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((2, 2, 2), 1.5, np.float32), "whole numbers"),
        (np.full((2, 2, 2), -1.0, np.float32), "from -1 to -1"),
        (np.full((2, 2, 2), 1e6, np.float32), "0 to 65535"),
        (np.full((2, 2, 2), np.nan, np.float32), "from nan"),
    ],
)
def test_values_that_are_no_labels_are_refused(tmp_path: Path, array: Any, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        read_label_shape(write(tmp_path / "a.nii.gz", array, UNIT), ONE)


def test_colours_and_missing_files_are_refused(tmp_path: Path) -> None:
    skimage.io.imsave(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8), check_contrast=False)
    with pytest.raises(DatasetError, match="one channel"):
        read_label_shape(tmp_path / "a.png", ONE)
    with pytest.raises(DatasetError, match="no such file"):
        read_label_shape(tmp_path / "b.png", ONE)
