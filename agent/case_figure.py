"""Worst, most improved and most harmed case, with the outlines of both networks.

Which cases these are is decided by rows; the slices were kept by the confirmation step in
report/cases/, because label maps are not in the store. They are read as data only.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.lesson_text import joined
from agent.locked_facts import arm_sources, locked_difference
from agent.plotting import (
    ORANGE,
    SKY,
    SMALL_PT,
    WIDE_IN,
    Data,
    Drawing,
    mark_simulated,
    new_figure,
    wrapped,
)
from agent.report_rows import MEAN_LABEL, Rows, seed_mean
from memory.errors import ReportError
from memory.records import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

CASES_FOLDER = "cases"
ROLES = ("worst", "most improved", "most harmed")
_ARRAYS = ("image", "label", "baseline", "candidate")
_MARGIN_PX = 12
_PANEL_IN, _TALLEST_IN = 2.0, 2.2
REFERENCE_WIDTH, PREDICTED_WIDTH = 1.5, 0.7


class NotableCase(NamedTuple):
    """A locked case and why it is shown."""

    role: str
    case: str


class Slice(NamedTuple):
    """One slice of a case: image float (y, x); label, baseline, candidate int (y, x)."""

    image: NDArray[Any]
    label: NDArray[Any]
    baseline: NDArray[Any]
    candidate: NDArray[Any]


def notable_cases(rows: Rows) -> list[NotableCase]:
    """Return the worst, most improved and most harmed case of the best finalist, by the rows.

    Worst is the candidate's lowest Dice. A case whose difference is
    not above (below) zero is not called improved (harmed).
    """
    if not rows.finalists:
        return []
    arm = rows.finalists[0]
    own = seed_mean(rows, arm.trials, Metric.DICE, MEAN_LABEL)
    deltas = locked_difference(rows, arm, Metric.DICE, MEAN_LABEL)
    own = {case: value for case, value in own.items() if not math.isnan(value)}
    deltas = {case: value for case, value in deltas.items() if not math.isnan(value)}
    found = []
    if own:
        found.append(NotableCase("worst", min(own, key=lambda c: (own[c], c))))
    if deltas and max(deltas.values()) > 0:
        found.append(NotableCase("most improved", max(deltas, key=lambda c: (deltas[c], c))))
    if deltas and min(deltas.values()) < 0:
        found.append(NotableCase("most harmed", min(deltas, key=lambda c: (deltas[c], c))))
    return found


def cases_drawing(rows: Rows, report: Path) -> Drawing | None:
    """Return the overlays, or None where confirmation kept no slice of the notable cases."""
    folder = report / CASES_FOLDER
    chosen = rows.finalists[0] if rows.finalists else None
    kept = _kept_cases(folder, chosen.key) if chosen else {}
    notable = [one for one in notable_cases(rows) if one.case in kept]
    shown = [
        [role, case, kept[case], hashlib.sha256((folder / kept[case]).read_bytes()).hexdigest()]
        for case, role in _roles(notable).items()
    ]
    if not shown or chosen is None:
        return None
    roles = joined([one.role for one in notable])
    return Drawing(
        name="cases",
        data={"cases": shown, "simulated": rows.simulated},
        sources=(*arm_sources(rows.reference(chosen)), *arm_sources(chosen)),
        alt=f"Slices of the {roles} case with the outlines of the reference, the baseline and the "
        "candidate; their scores are in the table.",
        caption=f"The {roles} case of the locked test, chosen by rule: "
        "the outlines of the reference (thick) and of the prediction (thin), one seed of each "
        "side. Of a volume the slice where the two differ most is shown.",
        draw=lambda data: draw_cases(data, folder),
        from_files=True,
    )


def _roles(notable: list[NotableCase]) -> dict[str, str]:
    """Return {case: its roles}; one case may have several."""
    roles: dict[str, list[str]] = {}
    for role, case in notable:
        roles.setdefault(case, []).append(role)
    return {case: " and ".join(own) for case, own in roles.items()}


def _kept_cases(folder: Path, finalist: str) -> dict[str, str]:
    """Return {case: file name} of the slices that were kept for a finalist."""
    path = folder / "cases.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        entries = [
            (e["case"], e.get("file", f"{e['case']}.npz"), e.get("finalist")) for e in listed
        ]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReportError(f"{path} is not a list of cases: {error!r}; confirm again") from None
    own = {str(case): str(file) for case, file, of in entries if of in (None, finalist)}
    inside = {case: file for case, file in own.items() if Path(file).name == file}
    return {case: file for case, file in inside.items() if (folder / file).is_file()}


def read_slice(path: Path) -> Slice:
    """Read the slice of a case; nothing in it is unpickled.

    Raises:
        ReportError: an array is missing, is not two-dimensional, or differs in shape.
    """
    try:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = Slice(*(loaded[name] for name in _ARRAYS))
    except (KeyError, ValueError, OSError) as error:
        raise ReportError(f"{path} is not a slice of a case: {error}; needed: {_ARRAYS}") from None
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or arrays.image.ndim != 2:
        raise ReportError(f"{path} has the shapes {sorted(shapes)}; needed: one shape (y, x)")
    return arrays


def draw_cases(data: Data, folder: Path) -> "Figure":
    """Draw a row of three panels for each case, as high as its slices need."""
    entries = data["cases"]
    slices = [cropped(read_slice(folder / file)) for _, _, file, _ in entries]
    shapes = [one.image.shape for one in slices]
    heights = [min(0.75 + _PANEL_IN * y / x, _TALLEST_IN) for y, x in shapes]
    figure = new_figure(WIDE_IN, 0.4 + sum(heights))
    parts = figure.subfigures(len(entries), 1, squeeze=False, height_ratios=heights).flat
    for part, (role, case, *_), arrays in zip(parts, entries, slices, strict=True):
        title = wrapped(f"{role}: {case}", 66)
        part.suptitle(title, x=0.01, ha="left", fontsize=SMALL_PT, fontweight="bold")
        _row(part, arrays)
    figure.legend(handles=_handles(), loc="outside lower center", ncols=2)
    mark_simulated(figure, data)
    return figure


def _handles() -> list["Line2D"]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=SKY, linewidth=REFERENCE_WIDTH, label="reference (thick)"),
        Line2D([], [], color=ORANGE, linewidth=PREDICTED_WIDTH, label="prediction (thin)"),
    ]


def _row(part: "SubFigure", arrays: Slice) -> None:
    drawn: tuple[tuple[str, NDArray[Any] | None], ...] = (
        ("reference", None),
        ("baseline", arrays.baseline),
        ("candidate", arrays.candidate),
    )
    for axes, (side, prediction) in zip(part.subplots(1, 3), drawn, strict=True):
        _panel(axes, arrays, prediction)
        axes.set_xlabel(side, fontsize=SMALL_PT)


def _panel(axes: "Axes", arrays: Slice, prediction: NDArray[Any] | None) -> None:
    low, high = np.percentile(arrays.image, (1, 99))
    top = high if high > low else low + 1.0
    axes.imshow(arrays.image, cmap="gray", vmin=low, vmax=top, interpolation="nearest")
    _outline(axes, arrays.label, SKY, REFERENCE_WIDTH)
    if prediction is not None:
        _outline(axes, prediction, ORANGE, PREDICTED_WIDTH)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _outline(axes: "Axes", classes: NDArray[Any], colour: str, width: float) -> None:
    for value in np.unique(classes):
        inside = (classes == value).astype(np.float64)
        if value > 0 and inside.min() < inside.max():
            axes.contour(inside, levels=[0.5], colors=[colour], linewidths=[width])


def cropped(arrays: Slice) -> Slice:
    """Return the part of a slice around everything outlined, with a margin."""
    outlined = (arrays.label > 0) | (arrays.baseline > 0) | (arrays.candidate > 0)
    if not outlined.any():
        return arrays
    spans = []
    for axis in (1, 0):
        hits = np.flatnonzero(outlined.any(axis=axis))
        spans.append(slice(max(0, int(hits[0]) - _MARGIN_PX), int(hits[-1]) + _MARGIN_PX + 1))
    return Slice(*(array[spans[0], spans[1]] for array in arrays))
