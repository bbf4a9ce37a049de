"""Trusted scores: Dice, HD95 and NSD per case and class, from label maps on disk.

Runs in a process that never loads trial code. One definition for every method:

Dice        2|P and R| / (|P| + |R|) over voxels.
surface     the voxels of a mask with a face neighbour outside it; beyond the image is outside
            (`binary_erosion` with a cross, XOR the mask), as in MONAI 1.6 `get_mask_edges`.
HD95        the larger of the two directed 95th percentiles of surface-to-surface Euclidean
            distances, percentile by linear interpolation: MONAI `compute_hausdorff_distance`
            with percentile=95. MedPy pools both directions and surface-distance weighs by
            surface area: both print other numbers for the same masks.
NSD         the share of both surfaces' voxels that lie within the tolerance of the other
            surface (Nikolov et al. 2021, doi:10.2196/26151, with voxels in place of
            areas): MONAI `compute_surface_dice` with use_subvoxels=False.

Empty masks, after voxels with the reference's ignore label have left both masks:

reference   prediction   Dice    HD95             NSD     reason
empty       empty        NULL    NULL             NULL    both empty
empty       some         0       image diagonal   0       empty reference
some        empty        0       image diagonal   0       missed

Arrays are (z, y, x) or (y, x), spacing in mm in the same order. Files without a physical size
(png and the like) have a spacing of 1 px, and "mm" then reads "px". An axis of length 1 is
dropped before scoring: a single slice has an outline, not a surface on all of its voxels.

Covered: missing, extra, unreadable and mismatching predictions, values outside the label set.
Not covered: a prediction folder that a trial can still write to; `sandbox.collect` copies
predictions out of its reach first.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from memory.errors import ScoringError
from memory.records import CaseScore, Metric
from sandbox.label_map import LabelMap, check_same_grid, read_label_map

Mask = NDArray[np.bool_]
Labels = Mapping[str, int | Sequence[int]]

DEFAULT_TOLERANCE_MM = 2.0
BOTH_EMPTY = "both empty"
EMPTY_REFERENCE = "empty reference"
MISSED = "missed"


class ClassScore(NamedTuple):
    """One metric of one class of one case; a value of None has its reason."""

    label: str
    metric: Metric
    value: float | None
    reason: str | None


def dice(prediction: Mask, reference: Mask) -> float | None:
    """Return the Dice coefficient of two masks, in [0, 1]; None when both are empty."""
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    if total == 0:
        return None
    return 2.0 * int(np.count_nonzero(prediction & reference)) / total


def surface(mask: Mask) -> Mask:
    """Return the voxels of a mask that have a face neighbour outside it."""
    return np.asarray(ndimage.binary_erosion(mask) ^ mask, dtype=np.bool_)


def surface_distances(
    prediction: Mask, reference: Mask, *, spacing_mm: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how far each surface voxel of one mask is from the other mask's surface.

    Both masks are cropped to their joint bounding box, which changes no distance.

    Args:
        prediction: non-empty mask, (z, y, x) or (y, x).
        reference: non-empty mask of the same shape.
        spacing_mm: voxel size in mm, in the order of the axes.

    Returns:
        Distances in mm, prediction to reference and reference to prediction. float32, as MONAI
        has them, so that three voxels of 0.7 mm are within a tolerance of 2.1 mm.
    """
    box = _bounding_box(prediction | reference)
    first, second = surface(prediction[box]), surface(reference[box])
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    return _directed(first, second, spacing), _directed(second, first, spacing)


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    axes = range(mask.ndim)
    lines = (np.flatnonzero(mask.any(axis=tuple(b for b in axes if b != a))) for a in axes)
    return tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)


def _directed(start: Mask, target: Mask, spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    # Asking for the nearest voxels, not for the distance map, saves most of scipy's memory.
    nearest = ndimage.distance_transform_edt(
        ~target, sampling=spacing, return_distances=False, return_indices=True
    )
    steps = nearest[:, start].T - np.argwhere(start)
    return np.asarray(np.sqrt(((steps * spacing) ** 2).sum(axis=1)), dtype=np.float32)


def hd95(prediction: Mask, reference: Mask, *, spacing_mm: Sequence[float]) -> float:
    """Return the 95th-percentile Hausdorff distance of two non-empty masks, in mm (0 is best)."""
    return _hd95(surface_distances(prediction, reference, spacing_mm=spacing_mm))


def nsd(
    prediction: Mask,
    reference: Mask,
    *,
    spacing_mm: Sequence[float],
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
) -> float:
    """Return the normalised surface Dice of two non-empty masks, in [0, 1] (1 is best)."""
    distances = surface_distances(prediction, reference, spacing_mm=spacing_mm)
    return _nsd(distances, tolerance_mm=tolerance_mm)


def _hd95(distances: tuple[NDArray[np.float32], NDArray[np.float32]]) -> float:
    return max(float(np.percentile(directed, 95)) for directed in distances)


def _nsd(
    distances: tuple[NDArray[np.float32], NDArray[np.float32]], *, tolerance_mm: float
) -> float:
    within = sum(int(np.count_nonzero(d <= np.float32(tolerance_mm))) for d in distances)
    return within / sum(len(d) for d in distances)


def image_diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Return the length of an image's diagonal, outer corner to outer corner, in mm."""
    return float(np.linalg.norm(np.multiply(shape, spacing_mm)))


def score_case(
    prediction: LabelMap,
    reference: LabelMap,
    *,
    spacing_mm: Sequence[float],
    labels: Labels,
    ignore_label: int | None = None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
) -> list[ClassScore]:
    """Score one label map against its reference, class by class.

    Args:
        prediction: integer label map, (z, y, x) or (y, x).
        reference: integer label map of the same shape.
        spacing_mm: voxel size in mm, in the order of the axes.
        labels: class name to its label, or to the labels whose union is a region.
        ignore_label: label of reference voxels that count for nobody.
        tolerance_mm: how far a surface voxel may be off and still count for NSD.

    Returns:
        Dice, HD95 and NSD of each class, in the order of `labels`.

    Raises:
        ScoringError: shapes, spacing or tolerance make no sense.
    """
    _check_arguments(prediction, reference, spacing_mm, tolerance_mm)
    single = tuple(a for a, length in enumerate(reference.shape) if length == 1)
    axes = single[: reference.ndim - 1]
    spacing = [s for a, s in enumerate(spacing_mm) if a not in axes]
    prediction, reference = prediction.squeeze(axes), reference.squeeze(axes)
    counts = None if ignore_label is None else reference != ignore_label
    scores = []
    for name, label in labels.items():
        masks = _mask(prediction, label, counts), _mask(reference, label, counts)
        scores += _score_class(name, *masks, spacing_mm=spacing, tolerance_mm=tolerance_mm)
    return scores


def _check_arguments(
    prediction: LabelMap, reference: LabelMap, spacing_mm: Sequence[float], tolerance_mm: float
) -> None:
    if prediction.shape != reference.shape:
        raise ScoringError(
            f"prediction has shape {prediction.shape}, its label {reference.shape}; "
            "they must be equal: predict on the image's own grid"
        )
    if len(spacing_mm) != reference.ndim or not all(0 < s < np.inf for s in spacing_mm):
        raise ScoringError(
            f"spacing {tuple(spacing_mm)!r} does not fit an image of {reference.ndim} axes; "
            "give one positive length in mm per axis"
        )
    if not 0 <= tolerance_mm < np.inf:
        raise ScoringError(f"NSD tolerance is {tolerance_mm!r}; it must be 0 mm or more")


def _mask(array: LabelMap, label: int | Sequence[int], counts: Mask | None) -> Mask:
    values = [label] if isinstance(label, int) else list(label)
    mask = np.isin(array, values)
    return mask if counts is None else mask & counts


def _score_class(
    name: str,
    prediction: Mask,
    reference: Mask,
    *,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> list[ClassScore]:
    some_predicted, some_there = bool(prediction.any()), bool(reference.any())
    values: list[float | None]
    reason: str | None = None
    if some_predicted and some_there:
        distances = surface_distances(prediction, reference, spacing_mm=spacing_mm)
        overlap = dice(prediction, reference)
        values = [overlap, _hd95(distances), _nsd(distances, tolerance_mm=tolerance_mm)]
    elif some_predicted or some_there:
        values = [0.0, image_diagonal_mm(reference.shape, spacing_mm), 0.0]
        reason = MISSED if some_there else EMPTY_REFERENCE
    else:
        values, reason = [None, None, None], BOTH_EMPTY
    metrics = (Metric.DICE, Metric.HD95, Metric.NSD)
    return [ClassScore(name, m, v, reason) for m, v in zip(metrics, values, strict=True)]


def score_cases(
    predictions_dir: Path,
    labels_dir: Path,
    cases: Iterable[str],
    *,
    file_ending: str,
    labels: Labels,
    trial: str,
    ignore_label: int | None = None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
) -> list[CaseScore]:
    """Score a folder of predictions against a folder of labels.

    Args:
        predictions_dir: holds `<case><file_ending>` for exactly the given cases.
        labels_dir: holds the same for at least the given cases.
        cases: what to score; the order does not matter.
        file_ending: ending of both, `.nii.gz` for instance.
        labels: class name to its label, or to the labels of a region.
        trial: id to put into the rows.
        ignore_label: label of reference voxels that count for nobody.
        tolerance_mm: NSD tolerance in mm, in px for files without a physical size.

    Returns:
        One row per case, class and metric: cases sorted, classes in the order of `labels`.

    Raises:
        ScoringError: the predictions are not exactly those of `cases`, or one of them is
            unreadable or differs from its label in geometry or label set; the case is named.
    """
    wanted = _check_case_set(predictions_dir, cases, file_ending)
    allowed = _allowed_values(labels)
    rows = []
    for case in wanted:
        label_path = labels_dir / f"{case}{file_ending}"
        reference = read_label_map(label_path)
        prediction = read_label_map(predictions_dir / f"{case}{file_ending}")
        check_same_grid(case, prediction, reference)
        _check_values(f"prediction of case {case!r}", prediction.array, allowed)
        _check_values(f"label of case {case!r}", reference.array, allowed, ignore_label)
        scores = score_case(
            prediction.array,
            reference.array,
            spacing_mm=reference.spacing_mm,
            labels=labels,
            ignore_label=ignore_label,
            tolerance_mm=tolerance_mm,
        )
        rows += [CaseScore(trial, case, *score) for score in scores]
    return rows


def _check_case_set(folder: Path, cases: Iterable[str], file_ending: str) -> list[str]:
    listed = list(cases)
    wanted = sorted(set(listed))
    if not wanted or len(wanted) != len(listed):
        raise ScoringError(f"{len(listed)} cases to score, {len(wanted)} different; give each once")
    if not folder.is_dir():
        raise ScoringError(f"no prediction folder {folder}; predict before scoring")
    there = {p.name for p in folder.iterdir() if not p.name.startswith(".")}
    expected = {f"{case}{file_ending}" for case in wanted}
    if missing := sorted(expected - there):
        case = missing[0].removesuffix(file_ending)
        raise ScoringError(
            f"no prediction for case {case!r} ({len(missing)} of {len(wanted)} missing) in "
            f"{folder}; every case of the split must be predicted"
        )
    if extra := sorted(there - expected):
        raise ScoringError(
            f"{folder} holds {extra[0]!r} ({len(extra)} such), which is no case of the split; "
            "only the predictions to score may lie there"
        )
    return wanted


def _allowed_values(labels: Labels) -> set[int]:
    allowed = {0}
    for label in labels.values():
        allowed |= {label} if isinstance(label, int) else set(label)
    return allowed


def _check_values(
    what: str, array: LabelMap, allowed: set[int], ignore_label: int | None = None
) -> None:
    accepted = allowed if ignore_label is None else allowed | {ignore_label}
    if found := sorted({int(v) for v in np.unique(array)} - accepted):
        raise ScoringError(f"{what} holds the values {found[:5]}; allowed are {sorted(accepted)}")
