"""Training curves: the loss that candidate and baseline reported of themselves, with seed bands."""

import math
from typing import TYPE_CHECKING, Any

from agent.paired_figure import arm_title
from agent.plotting import (
    BLUE,
    INK,
    ORANGE,
    SMALL_PT,
    WIDE_IN,
    Data,
    Drawing,
    mark_simulated,
    new_figure,
    wrapped,
)
from agent.report_rows import SEARCH_KINDS, Arm, Rows, branch_letters
from memory.records import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 6
LOCKED = (
    "Training loss at the last rung, of the trainings that met the locked test: mean over seeds "
    "(line) and smallest to largest seed (band)."
)
SEARCHED = (
    "Training loss at the last rung, of the search: the baseline's mean over seeds (line) with "
    "its smallest to largest seed (band), and each training of an idea."
)
MEANING = (
    " It is what the trainings reported of themselves, and decides nothing; where a network "
    "weights its outputs in its own way, the levels of the two do not compare."
)


def curves_drawing(rows: Rows) -> Drawing | None:
    """Return the curves of the last rung; None where no training of an idea has one kept.

    A panel for each finalist beside its baseline; before a confirmation, one panel with the
    baseline and the trainings of the search.
    """
    panels = _confirmed(rows) if rows.finalists else _searched(rows)
    shown = [panel for panel in panels if len(panel["sides"]) > 1]
    if not shown:
        return None
    trials = sorted(
        {trial for panel in shown for side in panel["sides"] for trial in side["trials"]}
    )
    return Drawing(
        name="curves",
        data={"panels": shown, "simulated": rows.simulated},
        sources=tuple(f"trial:{trial}" for trial in trials),
        alt="Training loss over iterations of the candidate and of the baseline, with bands over "
        "their seeds; a report of the trainings on themselves.",
        caption=(LOCKED if rows.finalists else SEARCHED) + MEANING,
        draw=draw_curves,
    )


def _confirmed(rows: Rows) -> list[Data]:
    return [_panel(rows, arm) for arm in rows.finalists[:MOST_PANELS]]


def _panel(rows: Rows, arm: Arm) -> Data:
    both = (("baseline", rows.reference(arm).trials), ("candidate", arm.trials))
    sides = [side for name, trials in both if (side := _side(rows, name, trials))]
    return {"title": arm_title(rows, arm), "sides": sides}


def _searched(rows: Rows) -> list[Data]:
    if not rows.rungs():
        return []
    last, letters = rows.rungs()[-1], branch_letters(rows)
    tried = [t for kind in SEARCH_KINDS for t in rows.of(kind, rung=last) if t.batch_size is None]
    named = [(f"idea {letters.get(t.branch or '', '')}".strip(), (t,)) for t in tried]
    both = [("baseline", rows.baselines(last)), *named[: MOST_PANELS - 1]]
    return [{"title": "", "sides": [s for name, own in both if (s := _side(rows, name, own))]}]


def _side(rows: Rows, name: str, trials: tuple[Trial, ...]) -> Data | None:
    kept = [t for t in trials if t.id in rows.curves]
    length = max((len(rows.curves[t.id]) for t in kept), default=0)
    own = [t for t in kept if len(rows.curves[t.id]) == length]
    if not own:
        return None
    return {
        "name": name,
        "trials": [t.id for t in own],
        "iterations": own[0].iterations or length,
        "losses": [list(rows.curves[t.id]) for t in own],
    }


def draw_curves(data: Data) -> "Figure":
    """Draw the mean and the band of each side."""
    panels = data["panels"]
    lines = math.ceil(len(panels) / 2)
    figure = new_figure(WIDE_IN, 0.6 + 2.5 * lines)
    grid = figure.subplots(lines, min(len(panels), 2), squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, 30 if len(panels) > 1 else 66)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    mark_simulated(figure, data)
    return figure


def _draw_panel(axes: "Axes", panel: Data, width: int) -> None:
    for place, side in enumerate(panel["sides"]):
        _draw_side(axes, side, place)
    axes.set(xlabel="iterations", ylabel="training loss")
    axes.set_title(wrapped(panel["title"], width), fontsize=SMALL_PT)
    axes.locator_params(nbins=5)
    axes.legend(loc="upper right", handlelength=3.2)


def _draw_side(axes: "Axes", side: Data, place: int) -> None:
    colours, lines = (INK, BLUE, ORANGE), ("--", "-", "-.", ":")
    columns = [[value for value in column if value is not None] for column in _columns(side)]
    whole = [column if len(column) == len(side["losses"]) else [] for column in columns]
    mean = [math.fsum(c) / len(c) if c else math.nan for c in whole]
    low, high = ([f(c) if c else math.nan for c in whole] for f in (min, max))
    xs = [(step + 1) * side["iterations"] / len(mean) for step in range(len(mean))]
    colour, several = colours[min(place, len(colours) - 1)], len(side["losses"])
    if several > 1:
        axes.fill_between(xs, low, high, color=colour, alpha=0.22, linewidth=0)
    label = f"{side['name']}, {several} seeds" if several > 1 else side["name"]
    line = lines[place % len(lines)]
    axes.plot(xs, mean, color=colour, linestyle=line, linewidth=1.4, label=label)


def _columns(side: Data) -> list[tuple[Any, ...]]:
    return list(zip(*side["losses"], strict=True))
