"""The chosen network as a diagram: the planned U-Net with the proposal's modules in place.

The layout is a list of shapes, painted twice: as SVG by the small writer here, and as PDF by
matplotlib. Positions are those of the proposal; the network's code is not read.
"""

from html import escape
from typing import Any, NamedTuple

from agent.plotting import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SIMULATED,
    SKY,
    VERMILION,
    Data,
    Drawing,
    new_figure,
    safe_label,
    saved,
    style,
)
from agent.report_rows import Rows
from memory.records import Module
from sandbox.components import COMPONENTS

WIDTH = 860.0
_BOX_W, _BOX_H = 118.0, 34.0
_ENCODER_X, _DECODER_X = 206.0, 536.0
_CHIP_W, _CHIP_H = 176.0, 22.0
_TOP, _GAP = 64.0, 74.0
_MARKS = {
    "encoder": BLUE,
    "skip": GREEN,
    "bottleneck": PURPLE,
    "decoder": VERMILION,
    "downsample": SKY,
    "heads": ORANGE,
}


class Box(NamedTuple):
    """A rectangle; `dashed` marks the modules that the proposal adds."""

    x: float
    y: float
    width: float
    height: float
    stroke: str
    fill: str = "#FFFFFF"
    dashed: bool = False


class Line(NamedTuple):
    """A line; with an arrow at its end where `arrow` is true."""

    x0: float
    y0: float
    x1: float
    y1: float
    arrow: bool = True
    dashed: bool = False


class Label(NamedTuple):
    """A text around a point; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "middle"
    size: float = 12.0
    colour: str = INK
    bold: bool = False


Shape = Box | Line | Label


def diagram_drawing(rows: Rows, proposal_id: str) -> Drawing | None:
    """Return the diagram of a proposal's network; None where the proposal is unknown."""
    proposal = rows.proposals.get(proposal_id)
    if proposal is None:
        return None
    plan = rows.campaign.protocol.get("plan", {})
    features = plan.get("features") or plan.get("features_per_stage") or []
    data: Data = {
        "features": [int(f) for f in features],
        "modules": [[component_title(m), m.position, list(m.stages)] for m in proposal.modules],
        "simulated": rows.simulated,
    }
    return Drawing(
        name="network",
        data=data,
        sources=("protocol", f"proposal:{proposal_id}"),
        alt="Diagram of the network: the planned U-Net with each module of the proposal at its "
        "stage; the list of modules says the same.",
        caption="The chosen network: the U-Net that nnU-Net planned, with the modules of the "
        "proposal in dashed frames. Stage numbers count from the finest resolution.",
        paint=paint_diagram,
    )


def component_title(module: Module) -> str:
    """Return what a module is called: its card's title, else its own name."""
    card = COMPONENTS.get(module.component)
    return card.title if card else module.component.replace("_", " ")


def paint_diagram(data: Data) -> dict[str, bytes]:
    """Paint the diagram as SVG and PDF."""
    shapes, height = layout(data)
    return {"svg": to_svg(shapes, height).encode(), "pdf": _to_pdf(shapes, height)}


def layout(data: Data) -> tuple[list[Shape], float]:
    """Return the shapes of the diagram and its height, in pixels."""
    used = [stage for _, _, stages in data["modules"] for stage in stages]
    features = data["features"] or [0] * (max(used, default=3) + 1)
    chips = _chips(data["modules"], len(features))
    heights = [max(_GAP, 46.0 + (_CHIP_H + 4) * _tallest(chips, s)) for s in range(len(features))]
    tops = [_TOP + sum(heights[:stage]) for stage in range(len(features))]
    shapes: list[Shape] = []
    for stage, top in enumerate(tops):
        shapes += _stage(stage, top, features, last=stage == len(features) - 1)
        if stage:
            shapes += _steps(tops[stage - 1], top, bottleneck=stage == len(features) - 1)
    shapes += _ends(tops[0])
    for (position, stage), names in sorted(chips.items()):
        shapes += _chip_shapes(position, tops[stage], names)
    height = tops[-1] + heights[-1] + 10
    if data["simulated"]:
        shapes.append(Label(WIDTH - 8, 18, SIMULATED, "end", 12.0, VERMILION, bold=True))
    return shapes, height


def _chips(modules: list[Any], stages: int) -> dict[tuple[str, int], list[str]]:
    chips: dict[tuple[str, int], list[str]] = {}
    for component, position, places in modules:
        everywhere = {"bottleneck": [stages - 1], "heads": [0]}.get(
            position, list(range(stages - 1))
        )
        inside = [stage for stage in places if 0 <= stage < stages]
        chosen = everywhere if position in ("bottleneck", "heads") or not inside else inside
        for stage in chosen:
            # The deepest stage of the encoder is drawn as the bottleneck.
            is_deepest = position == "encoder" and stage == stages - 1
            place = "bottleneck" if is_deepest else position
            name = safe_label(str(component), 27)
            chips.setdefault((place, stage), []).append(name)
    return chips


def _tallest(chips: dict[tuple[str, int], list[str]], stage: int) -> int:
    below = len(chips.get(("downsample", stage + 1), ()))
    left = len(chips.get(("encoder", stage), ())) + below
    right = sum(len(chips.get((p, stage), ())) for p in ("decoder", "heads"))
    middle = max(len(chips.get((p, stage), ())) for p in ("skip", "bottleneck"))
    return max(left, right, middle)


def _stage(stage: int, top: float, features: list[int], *, last: bool) -> list[Shape]:
    name = "bottleneck" if last else f"encoder {stage}"
    x = (_ENCODER_X + _DECODER_X) / 2 if last else _ENCODER_X
    shapes = _box(x, top, name, features[stage])
    if not last:
        shapes += _box(_DECODER_X, top, f"decoder {stage}", features[stage])
        middle = top + _BOX_H / 2
        shapes.append(Line(_ENCODER_X + _BOX_W, middle, _DECODER_X, middle))
    return shapes


def _box(x: float, top: float, name: str, channels: int) -> list[Shape]:
    middle = x + _BOX_W / 2
    shapes: list[Shape] = [Box(x, top, _BOX_W, _BOX_H, INK, "#F2F5F7")]
    shapes.append(Label(middle, top + (15 if channels else 21), name, size=12.0, bold=True))
    if channels:
        shapes.append(Label(middle, top + 28, f"{channels} channels", size=10.5, colour=GREY))
    return shapes


def _steps(above: float, top: float, *, bottleneck: bool) -> list[Shape]:
    left, right = _ENCODER_X + _BOX_W / 2, _DECODER_X + _BOX_W / 2
    start = above + _BOX_H
    if not bottleneck:
        return [Line(left, start, left, top), Line(right, top, right, start)]
    centre, middle = (_ENCODER_X + _DECODER_X) / 2, top + _BOX_H / 2
    return [
        Line(left, start, left, middle, arrow=False),
        Line(left, middle, centre, middle),
        Line(centre + _BOX_W, middle, right, middle, arrow=False),
        Line(right, middle, right, start),
    ]


def _ends(top: float) -> list[Shape]:
    left, right = _ENCODER_X + _BOX_W / 2, _DECODER_X + _BOX_W / 2
    return [
        Label(left, top - 34, "image", size=11.0),
        Line(left, top - 29, left, top),
        Label(right, top - 34, "class scores", size=11.0),
        Line(right, top, right, top - 29),
    ]


def _chip_shapes(position: str, top: float, names: list[str]) -> list[Shape]:
    centre = (_ENCODER_X + _DECODER_X + _BOX_W) / 2 - _CHIP_W / 2
    x, y = {
        "encoder": (_ENCODER_X - _CHIP_W - 14, top + 6),
        "downsample": (_ENCODER_X - _CHIP_W - 14, top - (_CHIP_H + 4) * len(names) - 5),
        "skip": (centre, top + 6),
        "bottleneck": (centre, top + _BOX_H + 8),
        "heads": (_DECODER_X + _BOX_W + 14, top - 40),
    }.get(position, (_DECODER_X + _BOX_W + 14, top + 6))
    colour = _MARKS.get(position, INK)
    shapes: list[Shape] = []
    for place, name in enumerate(names):
        line = y + place * (_CHIP_H + 4)
        shapes.append(Box(x, line, _CHIP_W, _CHIP_H, colour, dashed=True))
        shapes.append(Label(x + _CHIP_W / 2, line + 15, name, size=11.0))
    return shapes


def to_svg(shapes: list[Shape], height: float) -> str:
    """Return the shapes as an SVG document; every text in it is escaped."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" '
        f'width="{WIDTH:g}" height="{height:g}" font-family="Helvetica, Arial, sans-serif">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8Z" fill="{GREY}"/></marker></defs>',
        f'<rect width="{WIDTH:g}" height="{height:g}" fill="#FFFFFF"/>',
    ]
    lines_first = sorted(shapes, key=lambda shape: not isinstance(shape, Line))
    parts += [_svg(shape) for shape in lines_first]
    return "\n".join([*parts, "</svg>\n"])


def _svg(shape: Shape) -> str:
    match shape:
        case Box(x, y, width, height, stroke, fill, dashed):
            dash = ' stroke-dasharray="5 3" stroke-width="2"' if dashed else ""
            return (
                f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" '
                f'fill="{fill}" stroke="{stroke}"{dash}/>'
            )
        case Line(x0, y0, x1, y1, arrow, dashed):
            head = ' marker-end="url(#head)"' if arrow else ""
            dash = ' stroke-dasharray="4 3"' if dashed else ""
            ends = f'x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}"'
            return f'<line {ends} stroke="{GREY}" stroke-width="1.4"{dash}{head}/>'
        case Label(x, y, text, anchor, size, colour, bold):
            weight = ' font-weight="600"' if bold else ""
            return (
                f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size:g}" '
                f'fill="{colour}"{weight}>{escape(text)}</text>'
            )


def _to_pdf(shapes: list[Shape], height: float) -> bytes:
    with style():
        figure = new_figure(WIDTH / 96, height / 96)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(height, 0)
        for order, shape in enumerate(sorted(shapes, key=lambda s: not isinstance(s, Line))):
            _draw(axes, shape, order)
        return saved(figure)["pdf"]


def _draw(axes: Any, shape: Shape, order: int) -> None:
    from matplotlib.patches import Rectangle

    match shape:
        case Box(x, y, width, height, stroke, fill, dashed):
            patch = Rectangle((x, y), width, height, facecolor=fill, edgecolor=stroke)
            patch.set(linestyle="--" if dashed else "-", linewidth=1.2, zorder=order)
            axes.add_patch(patch)
        case Line(x0, y0, x1, y1, arrow, dashed):
            look = {"arrowstyle": "-|>" if arrow else "-", "color": GREY, "linewidth": 1.0}
            look |= {"shrinkA": 0, "shrinkB": 0, "linestyle": "--" if dashed else "-"}
            axes.annotate("", (x1, y1), (x0, y0), arrowprops=look, zorder=order)
        case Label(x, y, text, anchor, size, colour, bold):
            side = {"start": "left", "middle": "center", "end": "right"}[anchor]
            weight = "bold" if bold else "normal"
            axes.text(
                x, y, text, ha=side, fontsize=size * 0.68, color=colour, zorder=order, weight=weight
            )
