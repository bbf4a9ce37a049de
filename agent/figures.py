"""All figures of a report, and two of the locked test: differences by class, what selection promised.

Each figure is plain data derived from rows, and a function that paints it. Beside the files
stands a JSON with the digest of the data and of the files, which `segwright check` compares.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.budget_figure import budget_drawing
from agent.case_figure import cases_drawing
from agent.curve_figure import curves_drawing
from agent.diagram import diagram_drawing
from agent.locked_facts import arm_sources, locked_gain, selection
from agent.paired_figure import arm_title, paired_drawing, span
from agent.plotting import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LINES,
    ORANGE,
    PURPLE,
    SHAPES,
    SMALL_IN,
    SMALL_PT,
    VERMILION,
    WIDE_IN,
    Data,
    Drawing,
    mark_simulated,
    new_figure,
    painted,
    wrapped,
    zero_line,
)
from agent.report_rows import MEAN_LABEL, Arm, Rows
from agent.tree_figure import tree_drawing
from memory.records import Metric, digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRIC_NAMES = {Metric.DICE: "Dice", Metric.NSD: "NSD", Metric.HD95: "HD95 [mm]"}
_MOST_FINALISTS = 8
MOST_PAINTED = 64
PAINTED: dict[tuple[str, str], dict[str, bytes]] = {}
"""Figures of this process by name and digest of their data: a report is often written again."""
LEAST_SPAN = 1e-3  # of an axis, in Dice, NSD or mm: less is rounding


def drawings(rows: Rows, report: Path) -> list[Drawing]:
    """Return the figures that the rows and the stored case slices allow, in the report's order.

    Args:
        rows: what the store holds.
        report: the report folder; its `cases/` holds the slices that confirmation kept.
    """
    found = [tree_drawing(rows), budget_drawing(rows), curves_drawing(rows)]
    if rows.finalists:
        chosen = rows.finalists[0]
        found += [diagram_drawing(rows, chosen.key), paired_drawing(rows)]
        found += [
            forest_drawing(rows, chosen),
            selection_drawing(rows),
            cases_drawing(rows, report),
        ]
    return [drawing for drawing in found if drawing is not None]


def paint_all(chosen: list[Drawing]) -> dict[str, bytes]:
    """Return {file name: bytes} of all figures, each with its JSON."""
    files: dict[str, bytes] = {}
    for drawing in chosen:
        own = {f"{drawing.name}.{end}": raw for end, raw in painted_once(drawing).items()}
        files |= own | {f"{drawing.name}.json": sidecar(drawing, own)}
    return files


def painted_once(drawing: Drawing) -> dict[str, bytes]:
    """Return a figure's files by their endings; the same data are painted once a process."""
    if drawing.from_files:
        return painted(drawing.draw, drawing.data, raster=True)
    key = drawing.name, digest(drawing.data)
    if key not in PAINTED:
        for oldest in [*PAINTED][: len(PAINTED) - MOST_PAINTED + 1]:
            del PAINTED[oldest]
        PAINTED[key] = painted(drawing.draw, drawing.data)
    return PAINTED[key]


def sidecar(drawing: Drawing, painted: Mapping[str, bytes]) -> bytes:
    """Return the JSON that binds a figure's files to the rows that they were drawn from."""
    import hashlib

    record = {
        "figure": drawing.name,
        "rows_sha256": digest(drawing.data),
        "sources": list(drawing.sources),
        "files": {name: hashlib.sha256(painted[name]).hexdigest() for name in sorted(painted)},
    }
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def forest_drawing(rows: Rows, arm: Arm) -> Drawing:
    """Return the forest of differences: every class and every metric of a finalist."""
    labels = (MEAN_LABEL, *rows.labels) if len(rows.labels) > 1 else rows.labels
    measured = {
        str(metric): [
            ["mean over classes" if label == MEAN_LABEL else label]
            + span(locked_gain(rows, arm, metric, label))
            for label in labels
        ]
        for metric in Metric
    }
    return Drawing(
        name="forest",
        data={"rows": measured, "candidate": arm_title(rows, arm), "simulated": rows.simulated},
        sources=(*arm_sources(rows.reference(arm)), *arm_sources(arm)),
        alt="Mean difference and interval for each class in Dice, NSD and HD95; the table of "
        "classes holds the same values.",
        caption="Candidate minus baseline on the locked test for each class and metric: mean over "
        "cases and its interval. A triangle marks a mean that is worse. For HD95 lower is better.",
        draw=draw_forest,
    )


def draw_forest(data: Data) -> "Figure":
    """Draw one panel for each metric, the classes below each other."""
    names = [wrapped(entry[0], 20) for entry in data["rows"][str(Metric.DICE)]]
    lines = sum(1.3 * name.count("\n") + 2 for name in names)
    figure = new_figure(WIDE_IN, 1.2 + 0.16 * lines)
    panels = figure.subplots(1, len(data["rows"]), sharey=True)
    for axes, metric in zip(panels, Metric, strict=True):
        _forest_panel(axes, data["rows"][str(metric)], metric)
    panels[0].set_yticks(range(len(names)), names)
    mark_simulated(figure, data)
    return figure


def _forest_panel(axes: "Axes", entries: list[list[Any]], metric: Metric) -> None:
    for place, (_, mean, low, high) in enumerate(entries):
        if mean is None:
            look: dict[str, Any] = {"fontsize": SMALL_PT, "color": INK, "va": "center"}
            where = axes.get_yaxis_transform()
            axes.text(0.5, place, "undefined", transform=where, ha="center", **look)
            continue
        worse = mean > 0 if metric is Metric.HD95 else mean < 0
        colour, shape = (ORANGE, "v") if worse else (BLUE, "o")
        if low is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=1.6, zorder=2)
        axes.scatter([mean], [place], marker=shape, color=colour, s=36, zorder=3)
    zero_line(axes, vertical=True)
    axes.set_ylim(len(entries) - 0.5, -0.5)
    low, high = axes.get_xlim()
    if high - low < LEAST_SPAN:
        axes.set_xlim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)
    axes.locator_params(axis="x", nbins=3)
    axes.set_title(_METRIC_NAMES[metric])
    axes.set_xlabel("lower is better" if metric is Metric.HD95 else "higher is better")


def selection_drawing(rows: Rows) -> Drawing | None:
    """Return what selection saw beside what the locked test saw, for each finalist."""
    entries = []
    for arm in rows.finalists[:_MOST_FINALISTS]:
        seen = selection(rows, arm.key)
        if seen is not None:
            locked = locked_gain(rows, arm, Metric.DICE, MEAN_LABEL)
            entries.append([arm_title(rows, arm), span(seen[0]), span(locked)])
    if not entries:
        return None
    sources = {s for arm in rows.arms for s in arm_sources(arm)}
    return Drawing(
        name="selection",
        data={"finalists": entries, "simulated": rows.simulated},
        sources=tuple(sorted(sources)),
        alt="For each finalist the paired Dice difference during selection and on the locked "
        "test, joined by a line; the table of finalists holds the same values.",
        caption="What the search promised and what the locked test found: paired Dice differences "
        "from the baseline, with intervals. Selection scores are optimistic, because "
        "the best were chosen by them.",
        draw=draw_selection,
    )


def draw_selection(data: Data) -> "Figure":
    """Draw one line from selection to locked test for each finalist, the names below."""
    finalists = data["finalists"]
    names = [wrapped(title, 40) for title, *_ in finalists]
    lines = sum(name.count("\n") + 1 for name in names)
    figure = new_figure(SMALL_IN, 2.7 + 0.18 * lines)
    axes = figure.subplots()
    zero_line(axes)
    for place, (_, *spans) in enumerate(finalists):
        shift = 0.06 * (place - (len(finalists) - 1) / 2)
        _slope(axes, place, shift, spans, names[place])
    axes.set_xticks([0, 1], ["selection (search-val)", "locked test"])
    axes.set_xlim(-0.55, 1.45)
    axes.set_ylabel("Dice minus baseline")
    axes.locator_params(axis="y", nbins=6)
    figure.legend(loc="outside lower left", ncols=1, labelspacing=0.35)
    mark_simulated(figure, data)
    return figure


def _slope(axes: "Axes", place: int, shift: float, spans: list[Any], name: str) -> None:
    colours = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY)
    colour, xs = colours[place % len(colours)], [shift, 1 + shift]
    for x, (mean, low, high) in zip(xs, spans, strict=True):
        if mean is None:
            where: dict[str, Any] = {
                "xytext": (0, 3 + 12 * place),
                "textcoords": "offset points",
                "ha": "center",
            }
            axes.annotate("undefined", (x, 0.0), fontsize=SMALL_PT, color=colour, **where)
        elif low is not None:
            axes.plot([x, x], [low, high], color=colour, linewidth=1.6)
    means = [math.nan if mean is None else mean for mean, *_ in spans]
    shape, line = SHAPES[place % len(SHAPES)], LINES[1 + place % (len(LINES) - 1)]
    axes.plot(xs, means, color=colour, marker=shape, linestyle=line, label=name)
