"""The search as a picture: when each trial ended, what it gained, and what it came from."""

import math
from typing import TYPE_CHECKING, Any

from agent.formats import plain_text
from agent.plotting import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    VERMILION,
    Data,
    Drawing,
    mark_simulated,
    new_figure,
    safe_label,
    saved,
    style,
    zero_line,
)
from agent.report_rows import (
    SEARCH_KINDS,
    Rows,
    branch_letters,
    cut_trials,
    search_delta,
    seed_means,
    seed_sd,
)
from memory.records import Kind, Metric, Status, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHAPES = ("o", "s", "^", "D", "v", "P")
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, INK)
_HOUR_S = 3600.0


def tree_drawing(rows: Rows) -> Drawing | None:
    """Return the tree, or None where no trial of the search or baseline has ended."""
    data = tree_data(rows)
    if not data["nodes"]:
        return None
    shown = tuple(f"trial:{node['id']}" for node in data["nodes"])
    return Drawing(
        name="tree",
        data=data,
        sources=shown,
        alt="Scatter of all trials by time and by their paired Dice difference from the baseline "
        "of the same rung, with lines from parent to child; the table of ideas says the same.",
        caption="The search. Each mark is a training; letters name the ideas of the table. "
        "Selection scores: paired differences on search-val from the baseline of the same rung, "
        "one seed each. A line leads from a trial to the trial that grew out of it.",
        paint=paint_tree,
    )


def tree_data(rows: Rows) -> Data:
    """Return the nodes and seed bands of the tree as plain values."""
    trials = [
        t
        for t in rows.trials
        if t.kind in (Kind.BASELINE, *SEARCH_KINDS) and t.status.is_final and _time(t) is not None
    ]
    start = min((_time(t) or 0.0 for t in trials), default=0.0)
    cut = cut_trials(rows)
    finalists = {t.proposal for t in rows.of(Kind.CONFIRM, ok=False) if t.proposal}
    letters = branch_letters(rows)
    nodes = [
        {
            "id": t.id,
            "parent": t.parent,
            "rung": t.rung,
            "hours": round(((_time(t) or 0.0) - start) / _HOUR_S, 6),
            "delta": _delta(rows, t),
            "baseline": t.kind is Kind.BASELINE,
            "cut": t.id in cut,
            "finalist": t.proposal in finalists,
            "letter": letters.get(t.branch or "", ""),
        }
        for t in trials
    ]
    spreads = {rung: seed_sd(rows, rows.baselines(rung), Metric.DICE) for rung in rows.rungs()}
    bands = {str(rung): round(sd, 8) for rung, sd in spreads.items() if not math.isnan(sd)}
    return {"nodes": nodes, "seed_sd": bands, "simulated": rows.simulated, "name": _name(rows)}


def _name(rows: Rows) -> str:
    return plain_text(rows.campaign.dataset.get("name", rows.campaign.name))


def _time(trial: Trial) -> float | None:
    return next((t for t in (trial.ended_at, trial.started_at, trial.planned_at) if t), None)


def _delta(rows: Rows, trial: Trial) -> float | None:
    if trial.status is not Status.OK:
        return None
    if trial.kind is Kind.BASELINE:
        own = seed_means(rows, [trial], Metric.DICE)[0]
        others = seed_means(rows, rows.baselines(trial.rung, trial.batch_size), Metric.DICE)
        value = own - math.fsum(others) / len(others)
    else:
        value = search_delta(rows, trial).mean
    return None if math.isnan(value) else round(value, 8)


def paint_tree(data: Data) -> dict[str, bytes]:
    """Paint the tree; trials without scores stand on a line of their own below the others."""
    nodes = data["nodes"]
    with style():
        figure = new_figure(7.6, 4.6)
        axes = figure.subplots()
        low, high = _range(nodes)
        floor = low - 0.14 * (high - low)
        places = {n["id"]: (n["hours"], floor if n["delta"] is None else n["delta"]) for n in nodes}
        _bands(axes, data)
        zero_line(axes)
        _edges(axes, nodes, places)
        for node in nodes:
            _mark(axes, node, places[node["id"]])
        _letters(axes, nodes, places)
        axes.set_ylim(floor - 0.06 * (high - low), high + 0.12 * (high - low))
        axes.margins(x=0.06)
        axes.set_xlabel("hours since the first trial")
        axes.set_ylabel("selection score: Dice minus baseline, same rung")
        axes.set_title(safe_label(data["name"], 60), fontsize=9, loc="left")
        _legend(axes, data)
        mark_simulated(figure, data)
        return saved(figure)


def _range(nodes: list[dict[str, Any]]) -> tuple[float, float]:
    values = [node["delta"] for node in nodes if node["delta"] is not None] + [0.0]
    low, high = min(values), max(values)
    return (low, high) if high - low > 1e-6 else (low - 0.01, high + 0.01)


def _bands(axes: "Axes", data: Data) -> None:
    for spread in data["seed_sd"].values():
        axes.axhspan(-spread, spread, color=PALE, alpha=0.45, linewidth=0, zorder=0)


def _edges(
    axes: "Axes", nodes: list[dict[str, Any]], places: dict[str, tuple[float, float]]
) -> None:
    for node in nodes:
        if node["parent"] in places:
            (x0, y0), (x1, y1) = places[node["parent"]], places[node["id"]]
            line, width = ("-", 1.6) if node["finalist"] else ("-", 0.8)
            axes.plot([x0, x1], [y0, y1], line, color=GREY, linewidth=width, zorder=2)


def _mark(axes: "Axes", node: dict[str, Any], place: tuple[float, float]) -> None:
    shape = _SHAPES[node["rung"] % len(_SHAPES)]
    colour = _COLOURS[node["rung"] % len(_COLOURS)]
    x, y = [place[0]], [place[1]]
    if node["delta"] is None:
        axes.scatter(x, y, marker="x", s=36, color=VERMILION, zorder=4)
    elif node["baseline"]:
        axes.scatter(x, y, marker=shape, s=20, color=GREY, zorder=3)
    else:
        face = "white" if node["cut"] else colour
        axes.scatter(x, y, marker=shape, s=46, color=face, edgecolors=colour, zorder=4)
        if node["cut"]:
            axes.scatter(x, y, marker="_", s=90, color=colour, linewidths=1.4, zorder=5)
        if node["finalist"]:
            axes.scatter(x, y, marker="o", s=150, facecolors="none", edgecolors=INK, zorder=3)


def _letters(
    axes: "Axes", nodes: list[dict[str, Any]], places: dict[str, tuple[float, float]]
) -> None:
    for node in nodes:
        if node["letter"]:
            axes.annotate(
                node["letter"],
                places[node["id"]],
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=8,
                color=INK,
                zorder=6,
            )


def _legend(axes: "Axes", data: Data) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def entry(shape: str, colour: str, label: str, *, face: str = "", size: float = 6) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="none",
            marker=shape,
            markersize=size,
            color=colour,
            markerfacecolor=face or colour,
            label=label,
        )

    rungs = sorted({node["rung"] for node in data["nodes"]})
    entries = [
        entry(_SHAPES[r % len(_SHAPES)], _COLOURS[r % len(_COLOURS)], f"rung {r}") for r in rungs
    ]
    handles: list[Line2D | Patch] = [
        *entries,
        entry("s", GREY, "baseline seed (grey)", size=4),
        entry("o", BLUE, "cut: hollow, barred", face="white"),
        entry("o", INK, "finalist: ringed", face="white", size=10),
        entry("x", VERMILION, "no score: failed or stopped"),
    ]
    if data["seed_sd"]:
        handles.append(Patch(color=PALE, label="SD over baseline seeds"))
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, fontsize=7.5
    )
