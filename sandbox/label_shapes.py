"""What one label file shows of its classes: volumes, objects, borders. One file at a time.

An object is a set of voxels of one class that touch by a face, an edge or a corner (26
neighbours in 3D, 8 in 2D): with faces alone, a thin diagonal vessel would count as many. The
border of a class is its voxels with a face neighbour outside it, as `sandbox.scoring.surface` has
it. As there, an axis of length 1 is dropped first, and voxels of the ignore label count for
nobody; unlike there, a file is read as the audit reads it (`sandbox.images`).

Memory: the file as float32 and as integers, and one class's bounding box at a time.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from memory.errors import DatasetError
from sandbox.images import read_volume
from sandbox.label_map import LabelMap
from sandbox.scoring import Labels, Mask, surface


class ClassShape(NamedTuple):
    """One class in one case; `voxels` is 0 and all else 0 where the class is absent.

    volume_mm3: voxels times the voxel's volume; mm2 for 2D files, pixels for pictures.
    objects: how many. smallest: voxels of the smallest. object_mm: edge of the cube (in 2D the
    square) that is as large as the typical object, which half of the class's voxels lie in
    objects no larger than. border: share of voxels on the border, in [0, 1].
    """

    voxels: int
    volume_mm3: float
    objects: int
    smallest: int
    object_mm: float
    border: float


class LabelShape(NamedTuple):
    """One label file: its grid, and its classes in the order that was asked for.

    shape, spacing_mm: (z, y, x), z of shape is 1 for 2D files; foreground: share of the image's
    voxels that belong to any class, in [0, 1]; voxels: how many these are.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    foreground: float
    voxels: int
    classes: tuple[ClassShape, ...]


ABSENT = ClassShape(0, 0.0, 0, 0, 0.0, 0.0)


def read_label_shape(path: Path, labels: Labels) -> LabelShape:
    """Measure one label file.

    Args:
        path: a file that `sandbox.images` reads, one value a voxel.
        labels: class name to its label, or to the labels whose union is a region.

    Raises:
        DatasetError: unreadable, several channels, or values that are no labels.
    """
    volume = read_volume(path)
    if len(volume.voxels) != 1 or not volume.voxels.size:
        raise DatasetError(f"{path}: {volume.voxels.shape} is no label map; allowed: one channel")
    return label_shape(whole(volume.voxels[0], path), volume.spacing_mm, labels)


def whole(voxels: NDArray[np.float32], path: Path) -> LabelMap:
    """Return float32 labels (Z, Y, X) as the smallest integers that hold them.

    Raises:
        DatasetError: a value is negative, not whole or too large.
    """
    low, high = float(voxels.min()), float(voxels.max())
    if not (low >= 0 and high < 1 << 16):  # NaN is neither
        raise DatasetError(f"{path}: labels from {low:g} to {high:g}; allowed: 0 to 65535")
    found: LabelMap = voxels.astype(np.min_scalar_type(int(high)))
    if not np.array_equal(found, voxels):
        raise DatasetError(f"{path}: labels that are not whole numbers (was it resampled?)")
    return found


def label_shape(
    array: LabelMap, spacing_mm: tuple[float, float, float], labels: Labels
) -> LabelShape:
    """Measure a label map, unsigned integers (Z, Y, X); spacing in mm, in that order."""
    z, y, x = array.shape
    kept = [axis for axis, length in enumerate(array.shape) if length > 1] or [2]
    flat = array.reshape([array.shape[axis] for axis in kept])
    spacing = [spacing_mm[axis] for axis in kept]
    voxel = math.prod(spacing_mm)
    found = _boxes(flat)
    classes = tuple(
        _class_shape(flat, values_of(label), found, spacing=spacing, voxel=voxel)
        for label in labels.values()
    )
    everything = sorted({value for label in labels.values() for value in values_of(label)})
    count = int(np.count_nonzero(np.isin(flat, everything)))
    return LabelShape((z, y, x), spacing_mm, count / flat.size, count, classes)


def values_of(label: int | Sequence[int]) -> tuple[int, ...]:
    """Return the values of a class, several for a region."""
    return (label,) if isinstance(label, int) else tuple(label)


def _boxes(array: LabelMap) -> Mapping[int, tuple[slice, ...]]:
    """Return each value's bounding box."""
    found = ndimage.find_objects(array)
    return {value: box for value, box in enumerate(found, start=1) if box is not None}


def _class_shape(
    array: LabelMap,
    values: tuple[int, ...],
    boxes: Mapping[int, tuple[slice, ...]],
    *,
    spacing: Sequence[float],
    voxel: float,
) -> ClassShape:
    own = [boxes[value] for value in values if value in boxes]
    if not own:
        return ABSENT
    mask: Mask = np.isin(array[_union(own)], values)
    sizes = object_sizes(mask)
    voxels = int(sizes.sum())
    edge = (typical_size(sizes) * math.prod(spacing)) ** (1 / array.ndim)
    border = int(np.count_nonzero(surface(mask))) / voxels
    return ClassShape(voxels, voxels * voxel, len(sizes), int(sizes[0]), edge, border)


def _union(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    axes = zip(*boxes, strict=True)
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)


def object_sizes(mask: Mask) -> NDArray[np.int64]:
    """Return the voxels of each object of a mask, ascending (N,)."""
    numbered, _ = ndimage.label(mask, structure=np.ones([3] * mask.ndim))
    return np.sort(np.bincount(numbered.ravel())[1:])


def typical_size(sizes: NDArray[np.int64]) -> int:
    """Return the size that half of all voxels lie in objects no larger than; sizes ascending.

    Unlike the median over objects, it is not moved by specks of a few voxels.
    """
    total = np.cumsum(sizes)
    return int(sizes[np.searchsorted(total, total[-1] / 2)])
