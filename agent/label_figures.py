"""What the labels of search-train show, over cases: quantiles, counts and shares.

No label of another part is opened, and no figure is of a single named case. The files are
measured once a campaign, one in memory at a time; the result is kept in the store.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from agent.session import Session
from memory.errors import DatasetError
from memory.records import Figures, SplitName
from memory.store import Store
from sandbox.images import PICTURES
from sandbox.label_shapes import ClassShape, LabelShape, read_label_shape

LABELS = "dataset_card/labels"
MOST_CASES = 200  # quartiles move little with more, and large volumes take seconds each
SAMPLE_SEED = 0
DIGITS = 6

Three = tuple[float, float, float]


class ClassFigures(NamedTuple):
    """One class over the measured cases, in the order of the dataset's labels.

    share: of all foreground voxels, in [0, 1]; absent: share of cases without the class. The
    others are over the cases that have it, None where none has: volume (quartiles, mm3, or as
    `LabelFigures.unit` says), objects a case (median, most), smallest object in voxels (least of
    all cases, median over cases), object_mm (median of `ClassShape.object_mm`), border (median
    share of voxels on the border).
    """

    share: float
    absent: float
    volume: Three | None
    objects: tuple[float, float] | None
    smallest: tuple[float, float] | None
    object_mm: float | None
    border: float | None


class LabelFigures(NamedTuple):
    """The labels of search-train, `measured` of `cases` files (a fixed sample, if fewer).

    size, spacing_mm: least, median and most of each axis, (z, y, x). unit: mm3, mm2 or px.
    foreground: quartiles of the share of an image's voxels that belong to any class.
    imbalance: voxels of the largest class over those of the smallest, over all cases; None with
    fewer than two classes that occur.
    """

    cases: int
    measured: int
    unit: str
    size: tuple[Three, Three, Three]
    spacing_mm: tuple[Three, Three, Three]
    foreground: Three
    imbalance: float | None
    classes: tuple[ClassFigures, ...]


def labels_folder(session: Session) -> Path | None:
    """Return where the labels of search-train lie; None in campaigns that did not keep them."""
    staged = session.folder / "staging" / session.dataset["folder"] / "labelsTr"
    places = (session.folder / "labels" / SplitName.SEARCH_TRAIN, staged)
    return next((place for place in places if place.is_dir()), None)


def measure_labels(session: Session) -> Figures:
    """Measure the labels of search-train, of a fixed sample where there are many; once.

    Returns:
        `LabelFigures` as plain values. It is kept as the store's effect `dataset_card/labels`;
        a second call reads it there. Empty, and not kept, where the labels were not kept.

    Raises:
        DatasetError: a label file is missing or damaged.
    """
    with session.store() as store:
        return kept_labels(store, session)


def kept_labels(store: Store, session: Session) -> Figures:
    """Return what `measure_labels` returns, through a store that is open already."""
    kept = store.effect(LABELS)
    folder = labels_folder(session)
    if kept is not None or folder is None:
        return kept or {}
    cases = session.cases(SplitName.SEARCH_TRAIN)
    return store.set_effect(LABELS, plain(measure(folder, cases, session.dataset)))


def measure(folder: Path, cases: Sequence[str], dataset: Figures) -> LabelFigures:
    """Measure the labels of some cases; `dataset` has `labels` and `file_ending`.

    Raises:
        DatasetError: there is no case, or a file is missing or damaged.
    """
    if not cases:
        raise DatasetError("no case of search-train: there is no label to measure")
    ending, labels = str(dataset["file_ending"]), dict(dataset["labels"])
    chosen = sample(cases)
    shapes = [read_label_shape(folder / f"{case}{ending}", labels) for case in chosen]
    return label_figures(shapes, cases=len(cases), unit=unit_of(shapes, ending))


def sample(cases: Sequence[str]) -> list[str]:
    """Return at most `MOST_CASES` of the cases, the same ones each time, sorted."""
    if len(cases) <= MOST_CASES:
        return sorted(cases)
    return sorted(Random(SAMPLE_SEED).sample(sorted(cases), MOST_CASES))


def unit_of(shapes: Iterable[LabelShape], ending: str) -> str:
    """Return the unit of a volume: px for pictures, mm2 where every image is flat, else mm3."""
    if ending.lower() in PICTURES:
        return "px"
    return "mm2" if all(shape.shape[0] == 1 for shape in shapes) else "mm3"


def label_figures(shapes: Sequence[LabelShape], *, cases: int, unit: str) -> LabelFigures:
    """Return the figures of measured label files, of which there are `cases` in all."""
    foreground = sum(shape.voxels for shape in shapes)
    columns = list(zip(*(shape.classes for shape in shapes), strict=True))
    totals = [sum(one.voxels for one in column) for column in columns]
    present = [total for total in totals if total]
    return LabelFigures(
        cases=cases,
        measured=len(shapes),
        unit=unit,
        size=_range([shape.shape for shape in shapes]),
        spacing_mm=_range([shape.spacing_mm for shape in shapes]),
        foreground=_quartiles([shape.foreground for shape in shapes]),
        imbalance=rounded(max(present) / min(present)) if len(present) > 1 else None,
        classes=tuple(_class_figures(column, foreground) for column in columns),
    )


def _class_figures(column: Sequence[ClassShape], foreground: int) -> ClassFigures:
    own = [one for one in column if one.voxels]
    absent = rounded(1 - len(own) / len(column))
    if not own:
        return ClassFigures(0.0, absent, None, None, None, None, None)
    objects, smallest = [one.objects for one in own], [one.smallest for one in own]
    return ClassFigures(
        share=rounded(sum(one.voxels for one in own) / foreground),
        absent=absent,
        volume=_quartiles([one.volume_mm3 for one in own]),
        objects=(_median(objects), float(max(objects))),
        smallest=(float(min(smallest)), _median(smallest)),
        object_mm=_median([one.object_mm for one in own]),
        border=_median([one.border for one in own]),
    )


def rounded(value: float) -> float:
    """Return a number to six significant digits, so that no machine's last bit shows."""
    return float(f"{value:.{DIGITS}g}")


def _median(values: Sequence[float]) -> float:
    return rounded(float(np.median(values)))


def _quartiles(values: Sequence[float]) -> Three:
    low, middle, high = (rounded(float(v)) for v in np.percentile(values, [25, 50, 75]))
    return low, middle, high


def _range(rows: Sequence[Sequence[float]]) -> tuple[Three, Three, Three]:
    """Return least, median and most of each column of (N, 3)."""
    array = np.asarray(rows, dtype=np.float64)
    least, middle, most = (_row(f(array, axis=0)) for f in (np.min, np.median, np.max))
    return least, middle, most


def _row(values: Iterable[float]) -> Three:
    z, y, x = (rounded(float(value)) for value in values)
    return z, y, x


def plain(figures: LabelFigures) -> Figures:
    """Return the figures as the store keeps them."""
    return figures._asdict() | {"classes": [one._asdict() for one in figures.classes]}


def restored(kept: Figures) -> LabelFigures | None:
    """Return what `plain` was given; None for the empty one."""
    if not kept:
        return None
    classes = tuple(ClassFigures(**_tuples(one)) for one in kept["classes"])
    return LabelFigures(**_tuples(kept) | {"classes": classes})


def _tuples(kept: Figures) -> Figures:
    """Return a dictionary with tuples where JSON made lists of numbers, or of such lists."""
    return {key: _tuple(value) for key, value in kept.items()}


def _tuple(value: object) -> object:
    return tuple(map(_tuple, value)) if isinstance(value, list | tuple) else value
