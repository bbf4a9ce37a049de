"""What a figure shows once it is drawn: its texts with their boxes, and its colours."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from agent.plotting import PRINTED, Data, style

TOUCH_PX = 1.0


def drawn(draw: Any, data: Data) -> Figure:
    """Return a figure after its layout, in the reports' style."""
    with style():
        figure: Figure = draw(data)
        figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> list[Text]:
    """Return every text that is painted; the labels of ticks outside of the view are none."""
    ticks = {id(label) for axis in _axes(figure) for label in _tick_labels(axis)}
    shown = {id(label) for axis in _axes(figure) for label in _shown_labels(axis)}
    found = (t for t in figure.findobj(Text) if id(t) not in ticks or id(t) in shown)
    return [t for t in found if t.get_text().strip() and t.get_visible() and _is_on(t)]


def _axes(figure: Figure) -> Iterator[Axis]:
    for axes in figure.get_axes():
        yield from (axes.xaxis, axes.yaxis)


def _is_on(text: Text) -> bool:
    axes = text.axes
    return not isinstance(axes, Axes) or axes.axison or text in axes.texts


def _tick_labels(axis: Axis) -> list[Text]:
    return [one for tick in axis.get_major_ticks() for one in (tick.label1, tick.label2)]


def _shown_labels(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    return [tick.label1 for tick in ticks] + [axis.offsetText]


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Return each text with its box in pixels."""
    return [(t.get_text(), t.get_window_extent()) for t in texts(figure)]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of texts that cover each other by more than a pixel."""
    return [
        (one, other)
        for (one, a), (other, b) in combinations(boxes(figure), 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > TOUCH_PX
        and min(a.y1, b.y1) - max(a.y0, b.y0) > TOUCH_PX
    ]


def outside(figure: Figure) -> list[str]:
    """Return the texts that leave the figure."""
    page = figure.bbox
    return [
        text
        for text, box in boxes(figure)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > page.width + 1 or box.y1 > page.height + 1
    ]


def printed_pt(figure: Figure) -> float:
    """Return the size of the smallest text on the narrowest page."""
    return PRINTED * min(float(text.get_fontsize()) for text in texts(figure))


def colours(figure: Figure) -> set[str]:
    """Return the colours of marks, lines, bars and texts."""
    found: set[str] = set()
    for artist in figure.findobj(lambda one: one.get_visible()):
        for name in ("get_facecolor", "get_edgecolor", "get_color"):
            if not hasattr(artist, name) or isinstance(artist, Figure | Axes):
                continue
            value = getattr(artist, name)()
            rows = [value] if isinstance(value, str | tuple) else list(value)
            found |= {to_hex(one) for one in rows if _is_seen(one)}
    return found


def _is_seen(colour: Any) -> bool:
    return not isinstance(colour, str) and len(colour) == 4 and colour[3] > 0 or _is_name(colour)


def _is_name(colour: Any) -> bool:
    return isinstance(colour, str) and colour != "none"
