"""Figures of the locked test: pairs of cases, differences by class, and what selection promised.

Each figure is plain data derived from rows, and a function that paints it. Beside the files
stands a JSON with the digest of the data and of the files, which `segwright check` compares.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.case_figure import cases_drawing
from agent.diagram import diagram_drawing
from agent.intervals import Interval
from agent.locked_facts import arm_sources, locked_gain, selection
from agent.plotting import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    Data,
    Drawing,
    mark_simulated,
    new_figure,
    safe_label,
    saved,
    style,
    zero_line,
)
from agent.report_rows import MEAN_LABEL, Arm, Rows, seed_mean
from agent.tree_figure import tree_drawing
from memory.records import Metric, digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METRIC_NAMES = {Metric.DICE: "Dice", Metric.NSD: "NSD", Metric.HD95: "HD95 [mm]"}
_DIGITS = 8
LEAST_SPAN = 1e-3  # of an axis, in Dice, NSD or mm: less is rounding


def drawings(rows: Rows, report: Path) -> list[Drawing]:
    """Return the figures that the rows and the stored case slices allow, in the report's order.

    Args:
        rows: what the store holds.
        report: the report folder; its `cases/` holds the slices that confirmation kept.
    """
    found = [tree_drawing(rows)]
    if rows.finalists:
        chosen = rows.finalists[0]
        found += [diagram_drawing(rows, chosen.key), paired_drawing(rows, chosen)]
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
        painted = {f"{drawing.name}.{end}": raw for end, raw in drawing.paint(drawing.data).items()}
        files |= painted
        files[f"{drawing.name}.json"] = sidecar(drawing, painted)
    return files


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


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, _DIGITS)


def _span(value: Interval) -> list[float | None]:
    return [_rounded(value.mean), _rounded(value.low), _rounded(value.high)]


def _title(rows: Rows, arm: Arm) -> str:
    proposal = rows.proposals.get(arm.key)
    return safe_label(proposal.title if proposal else arm.key, 44)


def paired_drawing(rows: Rows, arm: Arm) -> Drawing | None:
    """Return the paired plot of a finalist: every locked case, sorted by its difference."""
    reference = seed_mean(rows, rows.reference(arm).trials, Metric.DICE, MEAN_LABEL)
    candidate = seed_mean(rows, arm.trials, Metric.DICE, MEAN_LABEL)
    pairs = [
        [round(reference[case], _DIGITS), round(candidate[case], _DIGITS)]
        for case in candidate
        if case in reference and not math.isnan(candidate[case] + reference[case])
    ]
    if not pairs:
        return None
    data: Data = {
        "pairs": sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair)),
        "delta": _span(locked_gain(rows, arm, Metric.DICE, MEAN_LABEL)),
        "candidate": _title(rows, arm),
        "simulated": rows.simulated,
    }
    return Drawing(
        name="paired",
        data=data,
        sources=(*arm_sources(rows.reference(arm)), *arm_sources(arm)),
        alt="Left, Dice of the candidate against Dice of the baseline for every locked case; "
        "right, the sorted differences. The table of cases holds the same values.",
        caption="Every case of the locked test, each side averaged over its seeds. Left: the "
        "candidate against the baseline, equal on the diagonal. Right: the differences, sorted, "
        "with their mean and its interval.",
        paint=paint_paired,
    )


def paint_paired(data: Data) -> dict[str, bytes]:
    """Paint the scatter of pairs and the sorted differences."""
    with style():
        figure = new_figure(7.6, 3.5)
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.35))
        _scatter(left, data)
        _sorted_bars(right, data)
        mark_simulated(figure, data)
        return saved(figure)


def _scatter(axes: "Axes", data: Data) -> None:
    for higher, shape, colour in ((True, "o", BLUE), (False, "v", ORANGE)):
        chosen = [pair for pair in data["pairs"] if (pair[1] > pair[0]) == higher]
        axes.scatter(
            [p[0] for p in chosen],
            [p[1] for p in chosen],
            s=18,
            marker=shape,
            color=colour,
            edgecolors="white",
            linewidths=0.4,
            zorder=3,
            label="candidate higher" if higher else "candidate not higher",
        )
    values = [value for pair in data["pairs"] for value in pair]
    pad = 0.04 * (max(values) - min(values)) + 0.005
    limits = (min(values) - pad, max(values) + pad)
    axes.plot(limits, limits, color=GREY, linewidth=0.8, linestyle="--")
    axes.set(xlim=limits, ylim=limits, xlabel="baseline, Dice", ylabel="candidate, Dice")
    axes.set_aspect("equal")
    axes.locator_params(nbins=5)
    axes.legend(fontsize=7, loc="best", handletextpad=0.2)


def _sorted_bars(axes: "Axes", data: Data) -> None:
    deltas = [pair[1] - pair[0] for pair in data["pairs"]]
    colours = [BLUE if value > 0 else ORANGE for value in deltas]
    axes.bar(range(len(deltas)), deltas, color=colours, width=0.85)
    mean, low, high = data["delta"]
    if low is not None:
        axes.axhspan(low, high, color=INK, alpha=0.15, linewidth=0)
    axes.axhline(mean, color=INK, linewidth=1.2, linestyle="--", label="mean and interval")
    zero_line(axes)
    axes.set(xlabel="locked cases, sorted", ylabel="candidate minus baseline, Dice", xticks=[])
    axes.set_title(data["candidate"], fontsize=9, loc="left")
    axes.legend(fontsize=7, loc="lower left" if mean < 0 else "upper left")


def forest_drawing(rows: Rows, arm: Arm) -> Drawing:
    """Return the forest of differences: every class and every metric of a finalist."""
    labels = (MEAN_LABEL, *rows.labels) if len(rows.labels) > 1 else rows.labels
    measured = {
        str(metric): [
            [safe_label("mean over classes" if label == MEAN_LABEL else label, 24)]
            + _span(locked_gain(rows, arm, metric, label))
            for label in labels
        ]
        for metric in Metric
    }
    return Drawing(
        name="forest",
        data={"rows": measured, "candidate": _title(rows, arm), "simulated": rows.simulated},
        sources=(*arm_sources(rows.reference(arm)), *arm_sources(arm)),
        alt="Mean difference and interval for each class in Dice, NSD and HD95; the table of "
        "classes holds the same values.",
        caption="Candidate minus baseline on the locked test for each class and metric: mean over "
        "cases and its interval. For HD95 lower is better.",
        paint=paint_forest,
    )


def paint_forest(data: Data) -> dict[str, bytes]:
    """Paint one panel for each metric, the classes below each other."""
    with style():
        count = max(len(entries) for entries in data["rows"].values())
        figure = new_figure(7.6, 1.9 + 0.32 * count)
        panels = figure.subplots(1, len(data["rows"]), sharey=True)
        for axes, metric in zip(panels, Metric, strict=True):
            _forest_panel(axes, data["rows"][str(metric)], metric)
        mark_simulated(figure, data)
        return saved(figure)


def _forest_panel(axes: "Axes", entries: list[list[Any]], metric: Metric) -> None:
    for place, (_, mean, low, high) in enumerate(entries):
        if mean is None:
            axes.annotate("undefined", (0.0, place), fontsize=7, color=GREY, va="center")
            continue
        worse = mean > 0 if metric is Metric.HD95 else mean < 0
        colour, shape = (ORANGE, "v") if worse else (BLUE, "o")
        if low is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=1.6, zorder=2)
        axes.scatter([mean], [place], marker=shape, color=colour, s=32, zorder=3)
    zero_line(axes, vertical=True)
    axes.set_yticks(range(len(entries)), [entry[0] for entry in entries])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    low, high = axes.get_xlim()
    if high - low < LEAST_SPAN:
        axes.set_xlim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(_METRIC_NAMES[metric], fontsize=9, loc="left")
    better = "lower is better" if metric is Metric.HD95 else "higher is better"
    axes.set_xlabel(f"difference ({better})", fontsize=7.5)


def selection_drawing(rows: Rows) -> Drawing | None:
    """Return what selection saw beside what the locked test saw, for each finalist."""
    entries = []
    for arm in rows.finalists:
        seen = selection(rows, arm.key)
        if seen is not None:
            locked = locked_gain(rows, arm, Metric.DICE, MEAN_LABEL)
            spans = [_span(seen[0]), _span(locked)]
            entries.append([_title(rows, arm), *spans])
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
        paint=paint_selection,
    )


def paint_selection(data: Data) -> dict[str, bytes]:
    """Paint one line from selection to locked test for each finalist."""
    shapes = ("o", "s", "^", "D", "v", "P")
    with style():
        figure = new_figure(5.2, 3.2)
        axes = figure.subplots()
        zero_line(axes)
        for place, (title, *spans) in enumerate(data["finalists"]):
            shift = 0.05 * (place - (len(data["finalists"]) - 1) / 2)
            xs = [shift, 1 + shift]
            colour = (BLUE, ORANGE, GREY)[min(place, 2)]
            for x, (mean, low, high) in zip(xs, spans, strict=True):
                if low is not None and mean is not None:
                    axes.plot([x, x], [low, high], color=colour, linewidth=1.6)
            means = [math.nan if span[0] is None else span[0] for span in spans]
            shape = shapes[place % len(shapes)]
            axes.plot(xs, means, color=colour, marker=shape, linestyle="--", label=title)
        axes.set_xticks([0, 1], ["selection (search-val)", "locked test"])
        axes.set_xlim(-0.4, 1.4)
        axes.set_ylabel("Dice minus baseline")
        axes.legend(fontsize=7.5, loc="best")
        mark_simulated(figure, data)
        return saved(figure)
