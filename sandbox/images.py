"""Reading one image or label file as nnU-Net reads it, and refusing a damaged one.

Volumes go through SimpleITK and flat pictures through scikit-image, the readers of
nnU-Net v2, so that a value seen here is the value a trial sees (SimpleITK alone turns the
1 of a one-bit PNG into 255). The voxels of NIfTI files come from nibabel, which is stricter.

Covered: .nii.gz, .nii, .nrrd, .mha with 2 or 3 axes and one value a voxel; .png, .bmp, .tif
with 2 axes and grey, RGB or RGBA values. Not covered: 4D volumes, vector voxels, stacked TIF.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.errors import DatasetError
from memory.records import digest

PICTURES = (".png", ".bmp", ".tif")
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")
_CHUNK_BYTES = 1 << 20


class Volume(NamedTuple):
    """One file: voxels and where they lie.

    voxels: float32 (C, Z, Y, X); Z is 1 for a 2D file, C is 1 except for RGB(A) pictures.
    spacing_mm: (z, y, x); z is 1 for a 2D file, and a picture has 1 everywhere (pixels).
    origin_mm, direction: as SimpleITK gives them, x first; their length tells 2D from 3D.
    """

    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]


def read_volume(path: Path) -> Volume:
    """Read one image or label file in full.

    Raises:
        DatasetError: the file is missing, damaged, truncated or of a kind not covered.
    """
    return _read_picture(path) if path.name.lower().endswith(PICTURES) else _read_itk(path)


def voxel_hash(volume: Volume) -> str:
    """Return the SHA-256 of shape and voxels, whatever the file format, type or geometry."""
    # Adding zero turns -0.0 into 0.0, so that equal voxels have equal bytes.
    values = np.ascontiguousarray(volume.voxels, dtype="<f4") + np.float32(0)
    hasher = hashlib.sha256(str(values.shape).encode())
    hasher.update(values.data)
    return hasher.hexdigest()


def hash_label(path: Path) -> str:
    """Return `AuditedCase.label_hash` of a label file: voxels and geometry.

    Raises:
        DatasetError: the file cannot be read.
    """
    volume = read_volume(path)
    return digest(placed_hash(volume, voxel_hash(volume)))


def hash_images(paths: Sequence[Path]) -> str:
    """Return `AuditedCase.image_hash` of a case's image files, in channel order.

    Raises:
        DatasetError: a file cannot be read.
    """
    volumes = (read_volume(path) for path in paths)
    return digest([placed_hash(volume, voxel_hash(volume)) for volume in volumes])


def placed_hash(volume: Volume, voxels: str) -> list[Any]:
    """Return what a case hash is taken over: the voxel hash and the rounded geometry."""
    places = (volume.spacing_mm, volume.origin_mm, volume.direction)
    return [voxels, *([round(x, 6) + 0.0 for x in place] for place in places)]


def _read_picture(path: Path) -> Volume:
    import skimage.io
    from PIL.Image import DecompressionBombError

    try:
        pixels = np.asarray(skimage.io.imread(path))
    except (OSError, ValueError, RuntimeError, SyntaxError, DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        planes = pixels.transpose(2, 0, 1)
    elif pixels.ndim == 2:
        planes = pixels[None]
    else:
        allowed = "(rows, columns) or (rows, columns, 3 or 4); store a stack as .nii.gz"
        raise DatasetError(f"{path}: shape {pixels.shape} is not a 2D picture; allowed: {allowed}")
    return Volume(
        _float32(path, planes[:, None]), (1.0, 1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0)
    )


def _read_itk(path: Path) -> Volume:
    import SimpleITK as sitk

    new_reader: Callable[[], Any] = sitk.ImageFileReader
    try:
        reader = new_reader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        axes, values = reader.GetDimension(), reader.GetNumberOfComponents()
        if axes not in (2, 3) or values != 1:
            found, allowed = f"{axes} axes and {values} values a voxel", "2 or 3 axes and 1 value"
            raise DatasetError(f"{path}: {found}; allowed: {allowed}; store one file a channel")
        is_nifti = path.name.lower().endswith((".nii", ".nii.gz"))
        array = _nifti_array(path) if is_nifti else sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    x, y, *z = (abs(float(s)) for s in reader.GetSpacing())
    size = (*reader.GetSize(), 1)[:3]
    return Volume(
        _float32(path, array).reshape(1, *reversed(size)),
        (z[0] if z else 1.0, y, x),
        tuple(map(float, reader.GetOrigin())),
        tuple(map(float, reader.GetDirection())),
    )


def _nifti_array(path: Path) -> NDArray[Any]:
    """Return the voxels, z first. ITK fills up truncated files and turns NaN into 0, unasked."""
    import nibabel as nib

    try:
        if path.name.lower().endswith(".gz"):
            _check_gzip(path)
        image: Any = nib.load(path, mmap=False)
        return np.asarray(image.dataobj).T
    except (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise _unreadable(path, error) from error


def _check_gzip(path: Path) -> None:
    # The checksum stands at the end, where nobody who wants the voxels alone would read.
    with gzip.open(path) as file:
        while file.read(_CHUNK_BYTES):
            pass


def _float32(path: Path, values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype.kind not in "biuf":
        raise DatasetError(f"{path}: values of type {values.dtype}; allowed: real numbers")
    # A value beyond float32 becomes infinite, which the audit then reports: nnU-Net has no other.
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float32)


def _unreadable(path: Path, error: BaseException) -> DatasetError:
    if not path.is_file():
        return DatasetError(f"{path}: no such file")
    last = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
    reason = last or type(error).__name__
    return DatasetError(f"{path}: cannot be read ({reason}); copy or export the file afresh")
