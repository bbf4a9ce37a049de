"""The chosen network as a diagram: a U of its stages, with the modules of the proposal marked.

The layout is a list of shapes in points of a page of 160 mm, y downwards, and is pure; matplotlib
paints it. What is drawn is the graph of `agent/module_graph.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.formats import large
from agent.module_graph import Graph, Part, Place, module_graph, title_of
from agent.plotting import (
    BLUE,
    GREY,
    INK,
    SIMULATED,
    SMALL_PT,
    TEXT_PT,
    VERMILION,
    WIDE_IN,
    Data,
    Drawing,
    new_figure,
    safe_label,
    text_width,
)
from agent.report_rows import Rows
from memory.records import Module

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = WIDE_IN * 72
_COLUMNS = {
    "encoder": (4.0, 152.0),
    "skip": (182.0, 90.0),
    "bottleneck": (151.0, 152.0),
    "decoder": (298.0, 152.0),
}
_LINE, _PAD, _GAP, _TOP, _HATCH_W = 13.0, 5.0, 24.0, 44.0, 9.0
_MOST_PARTS = 6
_LONGEST = 64
TRACED = (
    "The chosen network as its dry run traced it: each box is a stage of the encoder (left), the "
    "bottleneck or the decoder (right) with the shape of its output, its modules and their "
    "parameters. "
)
PLANNED = (
    "The chosen network as its proposal describes it: the U-Net that nnU-Net planned, with the "
    "modules of the proposal; no trace of its code was kept. "
)
MARKED = "A hatched bar marks what the proposal adds. Stage numbers count from the finest one."


class Box(NamedTuple):
    """A rectangle; `is_new` marks, with a hatched bar, what the proposal adds."""

    x: float
    y: float
    width: float
    height: float
    is_new: bool = False


class Line(NamedTuple):
    """A line through points; with an arrow at its end where `arrow` is true."""

    points: tuple[tuple[float, float], ...]
    arrow: bool = True
    dashed: bool = False


class Label(NamedTuple):
    """A text whose first line's middle is at y; `anchor` is left, center or right."""

    x: float
    y: float
    text: str
    anchor: str = "left"
    size: float = SMALL_PT
    colour: str = INK
    bold: bool = False


Shape = Box | Line | Label


def diagram_drawing(rows: Rows, proposal_id: str) -> Drawing | None:
    """Return the diagram of a proposal's network; None where the proposal is unknown."""
    proposal = rows.proposals.get(proposal_id)
    if proposal is None:
        return None
    arm = next((arm for arm in rows.arms if arm.key == proposal_id), None)
    graph = module_graph(rows, proposal, arm.trials[0].commit if arm else None)
    return Drawing(
        name="network",
        data=graph_data(graph) | {"simulated": rows.simulated},
        sources=("protocol", f"proposal:{proposal_id}"),
        alt="Diagram of the network: its stages in the form of a U, with each module of the "
        "proposal at its stage; the list of modules says the same.",
        caption=(TRACED if graph.is_traced else PLANNED) + MARKED,
        draw=draw_diagram,
    )


def component_title(module: Module) -> str:
    """Return what a module is called: its card's title, else its own name."""
    return title_of(module.component)


def graph_data(graph: Graph) -> Data:
    """Return a graph as plain values, from which it is drawn."""
    places = [
        [p.side, p.level, list(p.shape), [list(part) for part in p.parts]] for p in graph.places
    ]
    edges = [[*one, *other] for one, other in graph.edges]
    return {"places": places, "edges": edges, "heads": list(graph.heads)}


def draw_diagram(data: Data) -> "Figure":
    """Draw the shapes of the layout in one figure without axes."""
    shapes, height = layout(data)
    figure = new_figure(WIDE_IN, height / 72)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    for order, shape in enumerate(sorted(shapes, key=lambda s: not isinstance(s, Line))):
        _draw(axes, shape, order)
    return figure


def layout(data: Data) -> tuple[list[Shape], float]:
    """Return the shapes of the diagram and its height, in points."""
    places = [
        Place(s, n, tuple(shape), tuple(Part(*p) for p in ps)) for s, n, shape, ps in data["places"]
    ]
    levels = sorted({place.level for place in places})
    heads = _head_lines(data["heads"])
    top = _TOP + sum(_LINE * len(lines) + 6.0 for lines in heads)
    top += 22.0 if heads or data["simulated"] else 0.0
    tops: dict[int, float] = {}
    for level in levels:
        tops[level] = top
        top += max(_height(place) for place in places if place.level == level) + _GAP
    boxes = {(p.side, p.level): _box(p, tops[p.level]) for p in places}
    edges = [((a, b), (c, d)) for a, b, c, d in data["edges"]]
    shapes: list[Shape] = [line for one, other in edges for line in _edge(boxes, one, other)]
    for place in places:
        shapes += _contents(place, boxes[place.side, place.level])
    shapes += _ends(data["heads"], boxes)
    shapes += _legend(
        top - _GAP + 16.0, has_dashes=any(isinstance(s, Line) and s.dashed for s in shapes)
    )
    if data["simulated"]:
        shapes.append(Label(WIDTH - 6, 10, SIMULATED, "right", TEXT_PT, VERMILION, bold=True))
    return shapes, top - _GAP + 30.0


def fitted(text: str, width: float, *, bold: bool = False, lines: int = 3) -> list[str]:
    """Return hostile text in lines that are no wider than `width` points; a long word is broken."""
    found = [""]
    for word in safe_label(" ".join(text.split()), _LONGEST).split(" "):
        for piece in _pieces(word, width, bold=bold):
            joined = f"{found[-1]} {piece}".strip()
            if text_width(joined, SMALL_PT, bold=bold) <= width:
                found[-1] = joined
            else:
                found.append(piece)
    kept = [line for line in found if line]
    return [*kept[: lines - 1], kept[lines - 1][:-2] + "..."] if len(kept) > lines else kept


def _pieces(word: str, width: float, *, bold: bool) -> list[str]:
    pieces = [""]
    for letter in word:
        if text_width(pieces[-1] + letter, SMALL_PT, bold=bold) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _name(place: Place) -> str:
    return place.side if place.side == "bottleneck" else f"{place.side} {place.level}"


def _head(place: Place) -> list[str]:
    """Return the lines under a box's name: the shape of its output."""
    if not place.shape:
        return []
    if len(place.shape) == 1:
        return [f"{place.shape[0]} channels"]
    return [" \N{MULTIPLICATION SIGN} ".join(map(str, place.shape))]


def _parts(place: Place) -> list[tuple[list[str], bool]]:
    """Return each part's lines and whether it is new; what is too much is counted."""
    width = _COLUMNS[place.side][1] - 2 * _PAD
    shown = place.parts
    if len(shown) > _MOST_PARTS:
        new = [part for part in shown if part.is_new]
        plain = [part for part in shown if not part.is_new]
        kept = {*new[:_MOST_PARTS], *plain[: max(_MOST_PARTS - len(new), 0)]}
        shown = tuple(part for part in shown if part in kept)[:_MOST_PARTS]
    found = []
    for part in shown:
        inner = width - (_HATCH_W + _PAD if part.is_new else 0.0)
        found.append((fitted(_told(part), inner, bold=part.is_new), part.is_new))
    if left := len(place.parts) - len(shown):
        found.append(([f"and {left} more"], False))
    return found


def _told(part: Part) -> str:
    times = f" \N{MULTIPLICATION SIGN}{part.calls}" if part.calls > 1 else ""
    size = "" if not part.parameters else f", {large(part.parameters).replace(' ', '')}"
    return safe_label(part.title, 44) + times + size


def _height(place: Place) -> float:
    inner = sum(_LINE * len(lines) + (6.0 if new else 0.0) for lines, new in _parts(place))
    return _LINE * (1 + len(_head(place))) + inner + 2 * _PAD


def _box(place: Place, top: float) -> Box:
    x, width = _COLUMNS[place.side]
    return Box(x, top, width, _height(place))


def _contents(place: Place, box: Box) -> list[Shape]:
    shapes: list[Shape] = [box]
    y = box.y + _PAD + _LINE / 2
    shapes.append(Label(box.x + _PAD, y, _name(place), bold=True))
    for line in _head(place):
        y += _LINE
        shapes.append(Label(box.x + _PAD, y, line, colour=INK))
    y += _LINE / 2
    for lines, is_new in _parts(place):
        height = _LINE * len(lines)
        if is_new:
            y += 3.0
            shapes.append(Box(box.x + 2, y - 1.0, box.width - 4, height + 2, is_new=True))
        x = box.x + _PAD + (_HATCH_W + 3.0 if is_new else 0.0)
        for place_, line in enumerate(lines):
            shapes.append(Label(x, y + _LINE * (place_ + 0.5), line, bold=is_new))
        y += height + (3.0 if is_new else 0.0)
    return shapes


def _edge(boxes: dict[Any, Box], one: Any, other: Any) -> list[Line]:
    """Return the line from one box to another: along the U, across it, or dashed."""
    source, target = boxes[one], boxes[other]
    (side, level), (to, at) = one, other
    middle, into = source.x + source.width / 2, target.x + target.width / 2
    if side == to and abs(level - at) == 1:
        ends = (source.y + source.height, target.y)
        return [Line(((middle, ends[0]), (into, ends[1])))] if at > level else [_up(source, target)]
    if side == "encoder" and to == "bottleneck" and at - level == 1:
        y = target.y + target.height / 2
        return [Line(((middle, source.y + source.height), (middle, y), (target.x, y)))]
    if side == "bottleneck" and to == "decoder" and level - at == 1:
        y = source.y + source.height / 2
        return [Line(((source.x + source.width, y), (into, y), (into, target.y + target.height)))]
    if level == at and source.x < target.x:
        y = source.y + _PAD + _LINE / 2
        return [Line(((source.x + source.width, y), (target.x, y)))]
    return [_dashed(source, target)]


def _up(source: Box, target: Box) -> Line:
    x = source.x + source.width / 2
    return Line(((x, source.y), (x, target.y + target.height)))


def _dashed(source: Box, target: Box) -> Line:
    """Return a straight line between the edges of two boxes that face each other."""
    is_right = target.x > source.x
    x = source.x + (source.width if is_right else 0.0)
    start = (x, source.y + min(source.height, 2 * _LINE))
    if source.y > target.y:
        end = (target.x + target.width * (0.3 if is_right else 0.7), target.y + target.height)
    else:
        end = (target.x if is_right else target.x + target.width, target.y + 2 * _LINE)
    return Line((start, end), dashed=True)


def _head_lines(heads: Sequence[str]) -> list[list[str]]:
    width = _COLUMNS["decoder"][1] - _HATCH_W - 3 * _PAD
    return [fitted(name, width, bold=True) for name in heads]


def _ends(heads: Sequence[str], boxes: dict[Any, Box]) -> list[Shape]:
    """Return image and class scores, with what the proposal sets at the heads, above the U."""
    shapes: list[Shape] = []
    for side, text in (("encoder", "image"), ("decoder", "class scores")):
        own = [box for (name, _), box in boxes.items() if name == side]
        if not own:
            continue
        first = min(own, key=lambda box: box.y)
        x, y = first.x + first.width / 2, first.y - 32
        shapes.append(Label(x, y, text, "center", SMALL_PT))
        ends = ((x, y + 8), (x, first.y))
        shapes.append(Line(ends if side == "encoder" else ends[::-1]))
    y = 24.0
    for lines in _head_lines(heads):
        x, width = _COLUMNS["decoder"]
        shapes.append(Box(x + 2, y - 1, width - 4, _LINE * len(lines) + 2, is_new=True))
        for place, line in enumerate(lines):
            shapes.append(
                Label(x + 2 * _PAD + _HATCH_W, y + _LINE * (place + 0.5), line, bold=True)
            )
        y += _LINE * len(lines) + 6
    return shapes


def _legend(y: float, *, has_dashes: bool) -> list[Shape]:
    shapes: list[Shape] = [Box(4.0, y - 6.0, 22.0, 12.0, is_new=True)]
    shapes.append(Label(32.0, y, "module that the proposal adds"))
    if has_dashes:
        shapes.append(Line(((230.0, y), (258.0, y)), dashed=True))
        shapes.append(Label(264.0, y, "other connection"))
    return shapes


def _draw(axes: "Axes", shape: Shape, order: int) -> None:
    from matplotlib.patches import Rectangle

    match shape:
        case Box(x, y, width, height, is_new):
            edge: dict[str, Any] = {
                "edgecolor": BLUE if is_new else INK,
                "linewidth": 1.5 if is_new else 1.0,
            }
            fill = "#FFFFFF" if is_new else "#F4F6F7"
            axes.add_patch(Rectangle((x, y), width, height, facecolor=fill, zorder=order, **edge))
            if is_new:
                bar: dict[str, Any] = {
                    "facecolor": "#FFFFFF",
                    "hatch": "//////",
                    "edgecolor": BLUE,
                    "linewidth": 0,
                }
                axes.add_patch(Rectangle((x, y), _HATCH_W, height, zorder=order, **bar))
        case Line(points, arrow, dashed):
            _draw_line(axes, points, order, arrow=arrow, dashed=dashed)
        case Label(x, y, text, anchor, size, colour, bold):
            weight = "bold" if bold else "normal"
            look: dict[str, Any] = {"ha": anchor, "va": "center", "fontsize": size, "color": colour}
            axes.text(x, y, text, zorder=order, weight=weight, **look)


def _draw_line(axes: "Axes", points: Any, order: int, *, arrow: bool, dashed: bool) -> None:
    style, width = ("--", 0.9) if dashed else ("-", 1.1)
    xs, ys = zip(*points[:-1], strict=True)
    axes.plot(xs, ys, color=GREY, linewidth=width, linestyle=style, zorder=order)
    look = {"arrowstyle": "-|>" if arrow else "-", "color": GREY, "linewidth": width}
    look |= {"shrinkA": 0, "shrinkB": 0, "linestyle": style}
    axes.annotate("", points[-1], points[-2], arrowprops=look, zorder=order)
