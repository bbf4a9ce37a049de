"""One look for all figures, and files with the same bytes for the same rows.

matplotlib is imported where it is used, so that importing this module costs nothing. The
palette is Okabe and Ito's (2008), which stays apart for colour-blind readers; every meaning
is carried by a shape, a line style, a hatch or a word as well.

A figure is made for a page of 160 mm. On the narrowest one, of 122 mm (LNCS) with figures over
0.96 of it, its smallest text of 9.6 pt is printed in 7 pt. A figure that is 100 mm wide keeps
that size at 0.62 of the page, and in a column of 88 mm (IEEE).
"""

import io
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, INK, GREY, PALE = "#56B4E9", "#CC79A7", "#222222", "#767676", "#D9D9D9"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, INK, GREY, PALE)
SHAPES = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":")
WIDE_IN, SMALL_IN = 160 / 25.4, 100 / 25.4
PRINTED = 0.96 * 122 / 160
LEAST_PT = 7.0
SMALL_PT, TEXT_PT = 9.6, 10.0
SIMULATED = "simulated subjects"
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "axes.labelsize": TEXT_PT,
    "axes.titlelocation": "left",
    "axes.titlesize": TEXT_PT,
    "font.size": TEXT_PT,
    "hatch.linewidth": 0.7,
    "legend.fontsize": SMALL_PT,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "segwright",
    "text.parse_math": False,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "xtick.labelsize": SMALL_PT,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "ytick.labelsize": SMALL_PT,
}
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}

Data = dict[str, Any]


class Drawing(NamedTuple):
    """A figure before it is painted.

    `data` is all that is drawn, as plain JSON values derived from rows; its digest is what
    `segwright check` compares. `alt` and `caption` hold no digit. `from_files` says that images
    which `data` only names are drawn too: such a figure is a PNG on the page.
    """

    name: str
    data: Data
    sources: tuple[str, ...]
    alt: str
    caption: str
    draw: "Callable[[Data], Figure]"
    from_files: bool = False


@contextmanager
def style() -> Iterator[None]:
    """Draw with the style of the reports; nothing of it remains afterwards."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width_in: float, height_in: float) -> "Figure":
    """Return an empty figure of a size in inches, known to no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def painted(
    draw: Callable[[Data], "Figure"], data: Data, *, raster: bool = False
) -> dict[str, bytes]:
    """Return {file ending: bytes} of a figure that a function draws from its data."""
    with style():
        return saved(draw(data), raster=raster)


def saved(figure: "Figure", *, raster: bool = False) -> dict[str, bytes]:
    """Return {file ending: bytes}: a PDF for print, and an SVG or PNG for the page."""
    files = {}
    for ending in ("png" if raster else "svg", "pdf"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending, metadata=_METADATA[ending], dpi=160)
        files[ending] = buffer.getvalue()
    return files


def mark_simulated(figure: "Figure", data: Data) -> None:
    """Write "simulated subjects" above a figure wherever that is what was measured."""
    if data.get("simulated"):
        figure.suptitle(
            SIMULATED, fontsize=TEXT_PT, color=VERMILION, fontweight="bold", x=0.99, ha="right"
        )


def safe_label(text: str, longest: int = 32) -> str:
    """Return hostile text as a short label in letters that the figures' font has."""
    kept = "".join(c if " " <= c <= "~" or "\u00a1" <= c <= "\u017f" else "?" for c in text)
    kept = kept.replace("\u00ad", "?").lstrip("_")
    return kept if len(kept) <= longest else kept[: longest - 3].rstrip() + "..."


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """Return hostile text as a label of at most that many lines of at most `width` letters."""
    kept = safe_label(" ".join(text.split()), width * lines * 2)
    found = textwrap.wrap(kept, width) or [""]
    if len(found) > lines:
        found = [*found[: lines - 1], safe_label(" ".join(found[lines - 1 :]), width)]
    return "\n".join(found)


@cache
def text_width(text: str, size: float = SMALL_PT, *, bold: bool = False) -> float:
    """Return the width of a text in points, in the figures' font."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def zero_line(axes: "Axes", *, vertical: bool = False) -> None:
    """Draw the line of no difference."""
    draw = axes.axvline if vertical else axes.axhline
    draw(0.0, color=INK, linewidth=0.9, zorder=1)
