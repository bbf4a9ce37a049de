"""Reading label maps from our own folders: whole numbers and their geometry, or a reason why not.

Files of a format without a physical size (png and the like) get a spacing of 1 px, whatever
resolution their header claims. Files that a trial wrote are never read here: `sandbox.collect`
turns them into files of ours first.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from memory.errors import ScoringError

LabelMap = NDArray[np.integer[Any]]

PIXEL_ENDINGS = frozenset({".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff"})


class Volume(NamedTuple):
    """A label map and its geometry.

    Array, spacing and origin are in (z, y, x) or (y, x) order; direction is SimpleITK's flat
    matrix, in its own order (x first).
    """

    array: LabelMap
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]


def read_label_map(path: Path) -> Volume:
    """Read a label map with its geometry.

    Raises:
        ScoringError: missing, unreadable, not 2D or 3D, several channels, or not whole numbers.
    """
    if not path.is_file():
        raise ScoringError(f"no label map {path}; every case needs a label and a prediction")
    try:
        image: Any = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ScoringError(f"cannot read label map {path}: {_last_line(error)}") from error
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() not in (2, 3):
        raise ScoringError(
            f"label map {path} has {image.GetDimension()} axes and "
            f"{image.GetNumberOfComponentsPerPixel()} channels; allowed are 2 or 3 axes, 1 channel"
        )
    array = _whole_numbers(sitk.GetArrayFromImage(image), path)
    if path.suffix.lower() in PIXEL_ENDINGS:
        return _in_pixels(array, path)
    return Volume(
        array,
        spacing_mm=tuple(float(v) for v in reversed(image.GetSpacing())),
        origin_mm=tuple(float(v) for v in reversed(image.GetOrigin())),
        direction=tuple(float(v) for v in image.GetDirection()),
    )


def _in_pixels(array: LabelMap, path: Path) -> Volume:
    if array.ndim != 2:
        raise ScoringError(
            f"label map {path} is a {array.ndim}D {path.suffix}, which has no voxel size; "
            "convert it to .nii.gz"
        )
    return Volume(array, (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))


def _whole_numbers(array: NDArray[Any], path: Path) -> LabelMap:
    if np.issubdtype(array.dtype, np.integer):
        return array
    if not np.isfinite(array).all() or (np.abs(array) >= 2**31).any():
        raise ScoringError(f"label map {path} holds NaN or huge values; labels are whole numbers")
    whole = array.astype(np.int32)
    if (whole != array).any():
        value = array[whole != array].flat[0]
        raise ScoringError(f"label map {path} holds {float(value)!r}; labels are whole numbers")
    return whole


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


def check_same_grid(case: str, prediction: Volume, reference: Volume) -> None:
    """Check that a prediction lies on its label's grid.

    Raises:
        ScoringError: shape, spacing, origin or direction differ; the case is named.
    """
    # NIfTI keeps float32: a hundredth of a voxel is far above its rounding and below any resampling.
    finest = min(reference.spacing_mm)
    allowed = {"spacing_mm": 1e-3 * finest, "origin_mm": 1e-2 * finest, "direction": 1e-3}
    pairs: list[tuple[str, tuple[float, ...], tuple[float, ...], float]] = [
        ("shape", prediction.array.shape, reference.array.shape, 0.0)
    ]
    for name, slack in allowed.items():
        pairs.append((name, getattr(prediction, name), getattr(reference, name), slack))
    for name, ours, theirs, slack in pairs:
        if len(ours) != len(theirs) or not np.allclose(ours, theirs, rtol=0.0, atol=slack):
            raise ScoringError(
                f"prediction of case {case!r} has {name} {ours}, its label {theirs}; "
                "a prediction must lie on its label's grid"
            )
