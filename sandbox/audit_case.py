"""The audit of one case: its files, their geometry, and what the label holds."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.errors import DatasetError
from memory.records import digest
from sandbox.dataset import Dataset, RawCase
from sandbox.findings import Finding, blocking, warning
from sandbox.images import PICTURES, Volume, placed_hash, read_volume, voxel_hash

# nnU-Net's own tolerance for spacing (np.allclose); origins may differ by rounding only.
_SPACING_RTOL = 1e-5
_ORIGIN_VOXELS = 0.01
_DIRECTION_ATOL = 1e-3
_SHOWN = 5
_COUNTABLE = 1 << 16


@dataclass(frozen=True, slots=True)
class AuditedCase:
    """A case that was read in full.

    shape, spacing_mm: (z, y, x); z is 1 for a 2D image, and a picture has spacing 1 (pixels).
    foreground_mm3: volume of all classes together, without ignore, to 3 decimals; for 2D
        files an area in mm2, for pictures a number of pixels.
    image_hash, label_hash: `images.hash_images` and `images.hash_label`.
    """

    id: str
    patient: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    foreground_mm3: float
    image_hash: str
    label_hash: str


class ImageFile(NamedTuple):
    """What is kept of an image file for the comparison with other cases."""

    name: str
    voxel_hash: str
    is_constant: bool


class CaseReport(NamedTuple):
    """The audit of one case; `audited` is None when a file could not be read.

    values: the label values found, ignore and background included.
    """

    case: str
    findings: tuple[Finding, ...]
    files: tuple[ImageFile, ...]
    values: frozenset[int]
    audited: AuditedCase | None


class _Images(NamedTuple):
    files: tuple[ImageFile, ...]
    first: Volume
    image_hash: str


class _Label(NamedTuple):
    values: frozenset[int]
    foreground: int
    label_hash: str


def inspect_case(dataset: Dataset, raw: RawCase, patient: str) -> CaseReport:
    """Read every file of a case and report all that is wrong with it; writes nothing."""
    findings = missing_files(dataset, raw)
    images = _inspect_images(dataset, raw, findings)
    label = _inspect_label(dataset, raw, images, findings)
    audited = None
    if images and label:
        audited = AuditedCase(
            id=raw.id,
            patient=patient,
            shape=_grid(images.first),
            spacing_mm=images.first.spacing_mm,
            foreground_mm3=round(label.foreground * math.prod(images.first.spacing_mm), 3),
            image_hash=images.image_hash,
            label_hash=label.label_hash,
        )
    files = images.files if images else ()
    values = label.values if label else frozenset()
    return CaseReport(raw.id, tuple(findings), files, values, audited)


def missing_files(dataset: Dataset, raw: RawCase) -> list[Finding]:
    """Return the findings on files of a case that should be there, or should not."""
    found = [] if dataset.lists_files else _numbering(dataset, raw)
    if not raw.images:
        text = f"case {raw.id!r} has no image; expected imagesTr/{raw.id}_0000{dataset.file_ending}"
        found = [blocking("missing_image", dataset.relative(raw.label), text)]
    for file in raw.images:
        if not file.is_file():
            found.append(blocking("missing_image", dataset.relative(file), "no such file"))
    if not raw.label.is_file():
        text = f"no such file; case {raw.id!r} has no label"
        found.append(blocking("missing_label", dataset.relative(raw.label), text))
    return found


def _numbering(dataset: Dataset, raw: RawCase) -> list[Finding]:
    """Compare the channel numbers in the file names with the channels of dataset.json."""
    ending, wanted = dataset.file_ending, len(dataset.channels)
    numbers = {int(file.name.removesuffix(ending)[-4:]): file for file in raw.images}
    if ending.lower() in PICTURES and set(numbers) == {0}:
        return []  # one RGB file holds several channels: counted after reading
    found = [
        blocking("extra_channel", dataset.relative(file), f"channel {n}; allowed: below {wanted}")
        for n, file in numbers.items()
        if n >= wanted
    ]
    for n in sorted(set(range(wanted)) - set(numbers)):
        text = f"no such file; channel {n} ({dataset.channels[n]}) of case {raw.id!r} is missing"
        found.append(blocking("missing_channel", f"imagesTr/{raw.id}_{n:04d}{ending}", text))
    return found


def _inspect_images(dataset: Dataset, raw: RawCase, findings: list[Finding]) -> _Images | None:
    first: Volume | None = None
    files: list[ImageFile] = []
    hashes, channels, whole = [], 0, bool(raw.images)
    for path in raw.images:
        volume = _read(dataset, path, findings)
        if volume is None:
            whole = False
            continue
        name, hashed = dataset.relative(path), voxel_hash(volume)
        files.append(_image_file(name, volume, hashed, findings))
        hashes.append(placed_hash(volume, hashed))
        channels += len(volume.voxels)
        if first is None:
            first = volume
        else:
            findings += compare_geometry(name, volume, files[0].name, first)
    if first is None or not whole:
        return None
    findings += _channel_count(dataset, raw, channels)
    return _Images(tuple(files), first, digest(hashes))


def _image_file(name: str, volume: Volume, hashed: str, findings: list[Finding]) -> ImageFile:
    bad = int(volume.voxels.size - np.isfinite(volume.voxels).sum())
    if bad:
        text = f"{bad} voxels are NaN or infinite; give them a finite value"
        findings.append(blocking("non_finite", name, text))
    is_constant = bool(volume.voxels.min() == volume.voxels.max())
    if is_constant:
        text = f"every voxel is {volume.voxels.flat[0]:g}; is this channel missing?"
        findings.append(warning("constant_image", name, text))
    return ImageFile(name, hashed, is_constant)


def _channel_count(dataset: Dataset, raw: RawCase, channels: int) -> list[Finding]:
    wanted = len(dataset.channels)
    # Gaps in numbered files were named one by one before anything was read.
    if channels == wanted or (not dataset.lists_files and len(raw.images) > 1):
        return []
    code = "missing_channel" if channels < wanted else "extra_channel"
    if not dataset.lists_files and dataset.file_ending.lower() not in PICTURES:
        return []
    text = f"case {raw.id!r} has {channels} channels; dataset.json names {wanted}"
    return [blocking(code, dataset.relative(raw.images[0]), text)]


def _inspect_label(
    dataset: Dataset, raw: RawCase, images: _Images | None, findings: list[Finding]
) -> _Label | None:
    volume = _read(dataset, raw.label, findings)
    if volume is None:
        return None
    name = dataset.relative(raw.label)
    if len(volume.voxels) != 1:
        text = f"{len(volume.voxels)} values a pixel; allowed: one (save as grey, not as colour)"
        findings.append(blocking("unreadable", name, text))
        return None
    if images:
        findings += compare_geometry(name, volume, images.files[0].name, images.first)
    voxels = volume.voxels[0]
    values, counts = _distinct(voxels)
    findings += check_values(dataset, name, values, counts)
    classes = np.isin(values, dataset.label_values)
    foreground = int(counts[classes].sum())
    if not foreground:
        findings.append(warning("empty_label", name, "no voxel of any class"))
    known = frozenset(int(value) for value in values[classes])
    return _Label(known, foreground, digest(placed_hash(volume, voxel_hash(volume))))


def _distinct(voxels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the distinct values (N,) and their voxel counts (N,), ascending."""
    low, high = voxels.min(), voxels.max()
    if not (0 <= low and high < _COUNTABLE and np.array_equal(voxels, np.floor(voxels))):
        return np.unique(voxels, return_counts=True)
    # Counting is ten times faster than sorting, and every sound label comes this way.
    counts = np.bincount(voxels.ravel().astype(np.intp))
    values = np.flatnonzero(counts)
    return values.astype(np.float32), counts[values]


def check_values(
    dataset: Dataset, name: str, values: NDArray[np.float32], counts: NDArray[np.int64]
) -> list[Finding]:
    """Return the findings on a label's distinct values (N,) and their voxel counts (N,)."""
    found = []
    finite = np.isfinite(values)
    if not finite.all():
        text = f"{counts[~finite].sum()} voxels are NaN or infinite; allowed: label values"
        found.append(blocking("non_finite", name, text))
    whole = finite & (values == np.floor(values))
    broken = finite & ~whole
    if broken.any():
        text = (
            f"{_shown(values[broken], counts[broken])}; allowed: whole numbers (was it resampled?)"
        )
        found.append(blocking("non_integer_label", name, text))
    allowed = [0, *dataset.label_values]
    if dataset.ignore_label is not None:
        allowed.append(dataset.ignore_label)
    unknown = whole & ~np.isin(values, allowed)
    if unknown.any():
        text = f"{_shown(values[unknown], counts[unknown])}; dataset.json allows {allowed}"
        found.append(blocking("unknown_label", name, text))
    return found


def compare_geometry(name: str, volume: Volume, other: str, reference: Volume) -> list[Finding]:
    """Return the findings where a file's grid differs from that of the case's first image."""
    here, there = _grid(volume), _grid(reference)
    axes = len(volume.origin_mm), len(reference.origin_mm)
    if here != there or axes[0] != axes[1]:
        text = f"shape {here} in {axes[0]}D, but {other} has {there} in {axes[1]}D"
        return [blocking("shape_mismatch", name, f"{text}; (z, y, x) must agree")]
    found = []
    if not np.allclose(volume.spacing_mm, reference.spacing_mm, rtol=_SPACING_RTOL, atol=1e-8):
        text = f"{_mm(volume.spacing_mm)}, but {other} has {_mm(reference.spacing_mm)}"
        found.append(blocking("spacing_mismatch", name, f"spacing (z, y, x) {text}"))
    slack = _ORIGIN_VOXELS * min(reference.spacing_mm)
    if not np.allclose(volume.origin_mm, reference.origin_mm, rtol=0, atol=slack):
        text = f"{_mm(volume.origin_mm)}, but {other} has {_mm(reference.origin_mm)}"
        found.append(blocking("origin_mismatch", name, f"origin (x, y, z) {text}"))
    if not np.allclose(volume.direction, reference.direction, rtol=0, atol=_DIRECTION_ATOL):
        text = f"direction {_row(volume.direction)}, but {other} has {_row(reference.direction)}"
        found.append(blocking("direction_mismatch", name, text))
    return found


def _read(dataset: Dataset, path: Path, findings: list[Finding]) -> Volume | None:
    if not path.is_file():
        return None  # already reported as missing
    try:
        volume = read_volume(path)
    except DatasetError as error:
        text = str(error).removeprefix(f"{path}: ")
        findings.append(blocking("unreadable", dataset.relative(path), text))
        return None
    if not volume.voxels.size:
        findings.append(blocking("unreadable", dataset.relative(path), "holds no voxel"))
        return None
    return volume


def _grid(volume: Volume) -> tuple[int, int, int]:
    _, z, y, x = volume.voxels.shape
    return z, y, x


def _shown(values: NDArray[np.float32], counts: NDArray[np.int64]) -> str:
    pairs = list(zip(values, counts, strict=True))
    listed = ", ".join(f"{value:g} in {count} voxels" for value, count in pairs[:_SHOWN])
    more = f" and {len(pairs) - _SHOWN} other values" if len(pairs) > _SHOWN else ""
    return f"holds {listed}{more}"


def _mm(lengths: tuple[float, ...]) -> str:
    return f"{_row(lengths)} mm"


def _row(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{number + 0.0:g}" for number in numbers) + ")"
