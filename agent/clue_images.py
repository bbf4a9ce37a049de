"""Clues from label maps on disk: parts that were missed or invented, and volumes.

A part is a connected piece of one class of the reference, neighbours by face, edge or corner. It
is missed where no predicted voxel of the class lies in it; a predicted part without a voxel of
the reference is spurious. Thirds are by volume within a class, over all cases of search-val.
Volume bias is the mean over cases of 2 (P - R) / (P + R), P predicted and R reference voxels,
in [-2, 2], above 0 where too much is predicted.

Covered: search-val alone, our own files as the scorer read them. Where a file is gone or cannot be
read, that side is left out. Not covered: parts that are found and split, or merged.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from agent.clue_text import label_name
from agent.suggestions import Clue
from memory.errors import ScoringError
from memory.records import Figures, SplitName
from sandbox.label_map import LabelMap, Volume, check_same_grid, read_label_map

BASELINES = 2
SIZES = ("small", "middle", "large")
DIGITS = 4
Mask = NDArray[np.bool_]


class Seen(NamedTuple):
    """One class of one case in one prediction.

    `parts` holds the volume in mm3 of each part of the reference and whether it was missed.
    """

    parts: tuple[tuple[float, bool], ...]
    spurious: int
    predicted: int
    reference: int


class Parts(NamedTuple):
    """The parts of a mask: the box around all, their numbers from 1 in it, their voxel counts."""

    box: tuple[slice, ...]
    numbered: NDArray[Any]
    voxels: NDArray[Any]

    def met(self, other: Mask) -> set[int]:
        """Return the numbers of the parts in which another mask has a voxel."""
        return {int(number) for number in np.unique(self.numbered[other[self.box]]) if number}


class Maps(NamedTuple):
    """Where the label maps of search-val are, and what their values mean."""

    folder: Path
    ending: str
    labels: Mapping[str, Any]
    ignored: int | None
    cases: tuple[str, ...]


Case = dict[str, Seen]
"""Class -> what was seen of it."""


def maps_of(folder: Path, dataset: Figures, cases: Sequence[str]) -> Maps | None:
    """Return where a campaign keeps its label maps; None where its records do not say."""
    ending, labels = dataset.get("file_ending"), dataset.get("labels")
    if not ending or not isinstance(labels, dict):
        return None
    return Maps(folder, str(ending), labels, dataset.get("ignore_label"), tuple(cases))


def image_clues(
    maps: Maps, trial: str, baselines: Sequence[str], keys: Mapping[str, str]
) -> Iterator[Clue]:
    """Yield what the label maps of a trial say; nothing where one is gone.

    Args:
        maps: where they are.
        trial: whose predictions are looked at.
        baselines: trainings of the baseline; the first two that are whole are looked at.
        keys: the classes to look at, each with its short key.
    """
    own = read_side(maps, trial, list(keys))
    if not own:
        return
    sides = (read_side(maps, one, list(keys)) for one in baselines)
    base = [side for side in sides if side][:BASELINES]
    yield from missed_clues(own, base, list(keys))
    yield from part_clues(own, base, "objects", "of all classes", list(keys))
    for label, key in keys.items():
        yield from part_clues(own, base, f"class.{key}", f"of {label_name(label)}", [label])
        yield from volume_clues(own, base, label, key)


def read_side(maps: Maps, trial: str, labels: Sequence[str]) -> list[Case]:
    """Return what one training's predictions show, case by case; empty where one is gone."""
    try:
        return [read_case(maps, trial, case, labels) for case in maps.cases]
    except ScoringError:
        return []


def read_case(maps: Maps, trial: str, case: str, labels: Sequence[str]) -> Case:
    """Return what one case shows of each class.

    Raises:
        ScoringError: a file is missing, unreadable, or on another grid.
    """
    name = f"{case}{maps.ending}"
    reference = read_label_map(maps.folder / "labels" / SplitName.SEARCH_VAL / name)
    prediction = read_label_map(maps.folder / "trials" / trial / "predictions" / name)
    check_same_grid(case, prediction, reference)
    return {label: of_class(maps, label, prediction, reference) for label in labels}


def of_class(maps: Maps, label: str, prediction: Volume, reference: Volume) -> Seen:
    """Return what one class of a case shows; voxels with the ignored label count for nobody."""
    masks = [mask(side.array, maps.labels[label]) for side in (prediction, reference)]
    if maps.ignored is not None:
        masks = [one & (reference.array != maps.ignored) for one in masks]
    return compare(*masks, voxel_mm3=math.prod(reference.spacing_mm))


def mask(array: LabelMap, label: int | Sequence[int]) -> Mask:
    """Return where an array holds a class: one label, or several that make a region."""
    values = [label] if isinstance(label, int) else list(label)
    return np.isin(array, values)


def compare(prediction: Mask, reference: Mask, *, voxel_mm3: float) -> Seen:
    """Return what two masks of one shape, (z, y, x) or (y, x), show of each other."""
    there, found = parts(reference), parts(prediction)
    hit = there.met(prediction)
    sized = enumerate(there.voxels, start=1)
    volumes = tuple((int(size) * voxel_mm3, number not in hit) for number, size in sized)
    spurious = len(found.voxels) - len(found.met(reference))
    return Seen(volumes, spurious, int(sum(found.voxels)), int(sum(there.voxels)))


def parts(whole: Mask) -> Parts:
    """Return the parts of a mask."""
    boxes = ndimage.find_objects(whole.astype(np.uint8))
    box = tuple(boxes[0]) if boxes else (slice(0, 0),) * whole.ndim
    numbered, count = ndimage.label(whole[box], np.ones((3,) * whole.ndim))
    return Parts(box, numbered, np.bincount(numbered.ravel(), minlength=count + 1)[1:])


def missed_clues(own: list[Case], base: list[list[Case]], labels: Sequence[str]) -> Iterator[Clue]:
    """Yield how many parts of the reference were missed, by third of volume."""
    thirds = thirds_of(own, labels)
    for third, name in enumerate(SIZES):
        total = sum(value == third for value in thirds.values())
        if not total:
            continue
        seen = [missed_by_case(side, thirds, third) for side in (own, *base)]
        size = {"small": "smallest", "middle": "middle", "large": "largest"}[name]
        text = f"{{own}} of {total} parts of the reference in the {size} third of their class are missed"
        yield counted(f"objects.missed.{name}", text, seen, total=total)


def thirds_of(cases: list[Case], labels: Sequence[str]) -> dict[tuple[str, int, int], int]:
    """Return the third of volume, 0 to 2, of each part by class, case and number."""
    found = {}
    for label in labels:
        sized = sorted(
            (volume, place, number)
            for place, case in enumerate(cases)
            for number, (volume, _) in enumerate(case[label].parts)
        )
        for rank, (_, place, number) in enumerate(sized):
            found[label, place, number] = rank * len(SIZES) // len(sized)
    return found


def missed_by_case(
    cases: list[Case], thirds: Mapping[tuple[str, int, int], int], third: int
) -> list[int]:
    """Return how many parts of one third each case lacks."""
    found = [0] * len(cases)
    for (label, place, number), value in thirds.items():
        found[place] += value == third and cases[place][label].parts[number][1]
    return found


def part_clues(
    own: list[Case], base: list[list[Case]], key: str, of: str, labels: Sequence[str]
) -> Iterator[Clue]:
    """Yield parts missed (for one class) and parts without a reference."""
    sides = (own, *base)
    total = sum(len(case[label].parts) for case in own for label in labels)
    if key != "objects" and total:
        seen = [
            [sum(gone for label in labels for _, gone in case[label].parts) for case in side]
            for side in sides
        ]
        if any(map(sum, seen)):
            text = f"{{own}} of {total} parts {of} are missed"
            yield counted(f"{key}.missed", text, seen, total=total)
    spurious = [[sum(case[label].spurious for label in labels) for case in side] for side in sides]
    if key == "objects" or any(map(sum, spurious)):
        text = f"{{own}} predicted parts {of} meet no reference"
        yield counted(f"{key}.spurious", text, spurious)


def counted(key: str, text: str, sides: list[list[int]], *, total: int | None = None) -> Clue:
    """Return the count of a trial, and how much more it is than the baseline's, as a clue.

    Args:
        key: of the clue.
        text: with {own} where the trial's count goes; nothing else in braces.
        sides: the trial's count in each case, then those of the baseline's trainings.
        total: how many there could be; by default the trial's own count.
    """
    own, *base = sides
    text = text.replace("{own}", str(sum(own)))
    count = sum(own) if total is None else total
    if not base:
        return Clue(key, text, None, "parts", count=count)
    usual = [fmean(values) for values in zip(*base, strict=True)]
    more = [mine - other for mine, other in zip(own, usual, strict=True)]
    error = stdev(more) * math.sqrt(len(more)) if len(more) > 1 else None
    told = f"{text}; by the baseline {sum(usual):.1f}"
    told += "" if error is None else f" (SE of the difference {error:.1f})"
    se = None if error is None else round(error, DIGITS)
    return Clue(key, told, round(sum(more), DIGITS), "parts", se, count)


def volume_clues(own: list[Case], base: list[list[Case]], label: str, key: str) -> Iterator[Clue]:
    """Yield the volume bias of a class, and how it differs from the baseline's."""
    name, biases = label_name(label), volume_biases(own, label)
    if len(biases) > 1:
        bias, error = mean_and_error(list(biases.values()))
        side = "more" if bias > 0 else "less"
        text = (
            f"the volume predicted of {name} is {abs(100 * bias):.1f} % {side} than the "
            f"reference's (SE {100 * error:.1f})"
        )
        yield Clue(f"class.{key}.volume", text, bias, "share", error, len(biases))
    usual = [volume_biases(side_, label) for side_ in base]
    pairs = [
        value - fmean(one[place] for one in usual)
        for place, value in biases.items()
        if usual and all(place in one for one in usual)
    ]
    if len(pairs) > 1:
        bias, error = mean_and_error(pairs)
        text = f"the volume bias of {name} differs from the baseline's by {100 * bias:+.1f} %"
        text += f" (SE {100 * error:.1f})"
        yield Clue(f"class.{key}.volume_change", text, bias, "share", error, len(pairs))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return a mean and its standard error over cases; two values or more."""
    error = stdev(values) / math.sqrt(len(values))
    return round(fmean(values), DIGITS) + 0.0, round(error, DIGITS)


def volume_biases(cases: list[Case], label: str) -> dict[int, float]:
    """Return 2 (P - R) / (P + R) by place of each case where the class is there or predicted."""
    seen = enumerate(case[label] for case in cases)
    return {
        place: 2 * (one.predicted - one.reference) / (one.predicted + one.reference)
        for place, one in seen
        if one.predicted + one.reference
    }
