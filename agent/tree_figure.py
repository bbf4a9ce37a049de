"""The search as a picture: when each trial ended, what it gained, and what it came from.

Letters name branches and never cover each other: a branch gets one where there is room, those of
finalists and of the largest gains first.
"""

import math
from collections.abc import Iterator
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
    SHAPES,
    SMALL_PT,
    VERMILION,
    WIDE_IN,
    Data,
    Drawing,
    mark_simulated,
    new_figure,
    wrapped,
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
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

Node = dict[str, Any]
Place = tuple[float, float]
Rectangle = tuple[float, float, float, float]

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, INK)
_HOUR_S = 3600.0
_MANY = 60
_LETTER_PT, _LINE_PT = 8.2, 11.5
_SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1))


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
        caption="The search. Each mark is a training; letters name the ideas of the table, where "
        "there is room. "
        "Selection scores: paired differences on search-val from the baseline of the same rung, "
        "one seed each. A line leads from a trial to the trial that grew out of it.",
        draw=draw_tree,
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


def draw_tree(data: Data) -> "Figure":
    """Draw bands of seeds, lines from parent to child, marks, and letters where there is room."""
    nodes = data["nodes"]
    figure = new_figure(WIDE_IN, 4.9 if len(nodes) <= _MANY else 6.0)
    axes = figure.subplots()
    low, high = _range(nodes)
    floor = low - 0.14 * (high - low)
    places = {n["id"]: (n["hours"], floor if n["delta"] is None else n["delta"]) for n in nodes}
    for spread in data["seed_sd"].values():
        axes.axhspan(-spread, spread, color=PALE, alpha=0.45, linewidth=0, zorder=0)
    zero_line(axes)
    _edges(axes, nodes, places)
    _marks(axes, nodes, places)
    axes.set_ylim(floor - 0.08 * (high - low), high + 0.12 * (high - low))
    axes.margins(x=0.06)
    axes.set_xlabel("hours since the first trial")
    axes.set_ylabel("Dice minus baseline of the same rung")
    axes.set_title(wrapped(data["name"], 60))
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=3)
    mark_simulated(figure, data)
    _letters(figure, axes, nodes, places)
    return figure


def _range(nodes: list[Node]) -> tuple[float, float]:
    values = [node["delta"] for node in nodes if node["delta"] is not None] + [0.0]
    low, high = min(values), max(values)
    return (low, high) if high - low > 1e-6 else (low - 0.01, high + 0.01)


def _edges(axes: "Axes", nodes: list[Node], places: dict[str, Place]) -> None:
    from matplotlib.collections import LineCollection

    for is_finalist, width in ((False, 0.8), (True, 1.6)):
        own = [n for n in nodes if n["parent"] in places and n["finalist"] == is_finalist]
        lines = [[places[n["parent"]], places[n["id"]]] for n in own]
        axes.add_collection(LineCollection(lines, colors=GREY, linewidths=width, zorder=2))


def _marks(axes: "Axes", nodes: list[Node], places: dict[str, Place]) -> None:
    """Draw all marks of one look together; many are drawn smaller."""
    scale = 1.0 if len(nodes) <= _MANY else 0.5
    for look, own in _looks(nodes).items():
        rung, kind = look
        shape, colour = SHAPES[rung % len(SHAPES)], _COLOURS[rung % len(_COLOURS)]
        xs, ys = zip(*(places[node["id"]] for node in own), strict=True)
        if kind == "none":
            axes.scatter(xs, ys, marker="x", s=36 * scale, color=VERMILION, zorder=4)
        elif kind == "baseline":
            axes.scatter(xs, ys, marker=shape, s=20 * scale, color=GREY, zorder=3)
        else:
            face = "white" if kind == "cut" else colour
            axes.scatter(
                *(xs, ys), marker=shape, s=46 * scale, color=face, edgecolors=colour, zorder=4
            )
        if kind == "cut":
            axes.scatter(xs, ys, marker="_", s=80 * scale, color=colour, linewidths=1.3, zorder=5)
    rings = [places[node["id"]] for node in nodes if node["finalist"] and not node["baseline"]]
    if rings:
        xs, ys = zip(*rings, strict=True)
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": INK}
        axes.scatter(xs, ys, marker="o", s=150 * scale, zorder=3, **ring)


def _looks(nodes: list[Node]) -> dict[tuple[int, str], list[Node]]:
    looks: dict[tuple[int, str], list[Node]] = {}
    for node in nodes:
        kind = "baseline" if node["baseline"] else "cut" if node["cut"] else "tried"
        kind = "none" if node["delta"] is None else kind
        looks.setdefault((node["rung"], kind), []).append(node)
    return looks


def _letters(figure: "Figure", axes: "Axes", nodes: list[Node], places: dict[str, Place]) -> None:
    """Write each letter beside its mark where it covers no other one, the best first."""
    figure.draw_without_rendering()
    points = 72 / figure.dpi
    at = {name: axes.transData.transform(place) * points for name, place in places.items()}
    named = [node for node in nodes if node["letter"]]
    named.sort(key=lambda n: (not n["finalist"], -(n["delta"] or -math.inf), n["id"]))
    bounds = axes.get_window_extent()
    inside = tuple(edge * points for edge in (bounds.x0, bounds.y0, bounds.x1, bounds.y1))
    marks = [(x - 3.0, y - 3.0, x + 3.0, y + 3.0) for x, y in at.values()]
    taken: list[Rectangle] = []
    for node in named:
        x, y = (float(value) for value in at[node["id"]])
        size = (_LETTER_PT * len(node["letter"]), _LINE_PT)
        sides = list(_boxes(x, y, size))
        free = [s for s in sides if _is_free(s[1], [*taken, *marks], inside)]
        if node["finalist"]:  # named in any case: rather over a mark than not at all
            free += [s for s in sides if _is_free(s[1], taken, inside)]
        if found := next(iter(free), None):
            (dx, dy), box = found
            taken.append(box)
            _letter(axes, node["letter"], places[node["id"]], (dx, dy))


def _boxes(x: float, y: float, size: tuple[float, float]) -> Iterator[tuple[Place, Rectangle]]:
    """Yield the offset of a text's lower left corner and its box, beside a point, in points."""
    width, height = size
    for right, up in _SIDES:
        dx = 5.0 if right > 0 else -5.0 - width
        dy = 1.0 if up > 0 else -1.0 - height
        yield (dx, dy), (x + dx, y + dy, x + dx + width, y + dy + height)


def _is_free(box: Rectangle, others: list[Rectangle], inside: tuple[float, ...]) -> bool:
    left, low, right, high = box
    if left < inside[0] or low < inside[1] or right > inside[2] or high > inside[3]:
        return False
    return all(left >= o[2] or right <= o[0] or low >= o[3] or high <= o[1] for o in others)


def _letter(axes: "Axes", letter: str, place: Place, offset: Place) -> None:
    look: dict[str, Any] = {
        "xytext": offset,
        "textcoords": "offset points",
        "fontsize": SMALL_PT,
        "color": INK,
    }
    axes.annotate(letter, place, ha="left", va="bottom", zorder=6, **look)


def _entry(shape: str, colour: str, label: str, *, face: str = "", size: float = 6) -> "Line2D":
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"markersize": size, "color": colour, "markerfacecolor": face or colour}
    return Line2D([], [], linestyle="none", marker=shape, label=label, **look)


def _legend(data: Data) -> list["Line2D | Patch"]:
    from matplotlib.patches import Patch

    nodes = data["nodes"]
    rungs = sorted({node["rung"] for node in nodes})
    looks = [(SHAPES[r % len(SHAPES)], _COLOURS[r % len(_COLOURS)], f"rung {r}") for r in rungs]
    handles: list[Line2D | Patch] = [_entry(*look) for look in looks]
    shown = (
        (any(n["baseline"] for n in nodes), _entry("s", GREY, "baseline seed (grey)", size=4)),
        (any(n["cut"] for n in nodes), _entry("o", BLUE, "cut: hollow, barred", face="white")),
        (
            any(n["finalist"] for n in nodes),
            _entry("o", INK, "finalist: ringed", face="white", size=10),
        ),
        (any(n["delta"] is None for n in nodes), _entry("x", VERMILION, "no score: on the floor")),
        (bool(data["seed_sd"]), Patch(color=PALE, label="SD over baseline seeds")),
    )
    return handles + [handle for is_shown, handle in shown if is_shown]
