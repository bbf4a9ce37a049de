"""What the trainings took, by rung and by what they were for; the failed part is hatched."""

import math
from typing import TYPE_CHECKING, Any

from agent.formats import duration
from agent.plotting import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    SMALL_PT,
    WIDE_IN,
    Data,
    Drawing,
    mark_simulated,
    new_figure,
    text_width,
)
from agent.report_rows import SEARCH_KINDS, Rows
from agent.run_facts import ended
from memory.records import Kind, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PURPOSES = (
    ("search", SEARCH_KINDS, BLUE),
    ("baseline", (Kind.BASELINE,), SKY),
    ("staged selection", (Kind.SELECT,), GREEN),
    ("confirmation", (Kind.CONFIRM,), ORANGE),
    ("ablation", (Kind.ABLATE,), PURPLE),
)
_UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
_LINE_IN, _GAP = 0.235, 0.8


def budget_drawing(rows: Rows) -> Drawing | None:
    """Return the bars of time; None where no training has ended with a time."""
    trials = [t for t in ended(rows) if t.seconds is not None]
    bars = []
    for rung in sorted({t.rung for t in trials}):
        for purpose, kinds, _ in PURPOSES:
            own = [t for t in trials if t.rung == rung and t.kind in kinds]
            lost = math.fsum(t.seconds or 0.0 for t in own if t.status is not Status.OK)
            total = math.fsum(t.seconds or 0.0 for t in own)
            if total > 0:
                bars.append([rung, purpose, round(total - lost, 3), round(lost, 3), len(own)])
    if not bars:
        return None
    return Drawing(
        name="budget",
        data={"bars": bars, "simulated": rows.simulated},
        sources=tuple(f"trial:{t.id}" for t in trials),
        alt="Bars of the time that trainings took, by rung and by purpose; the table of budget "
        "and compute holds the sums over rungs.",
        caption="The time of all trainings by rung and by what they were for, as a clock on the "
        "wall measures it, with prediction; in brackets their number. Hatched: what ended without "
        "scores. "
        "Trainings ran beside each other where the settings allow it, so that their sum may "
        "exceed the time of the campaign.",
        draw=draw_budget,
    )


def draw_budget(data: Data) -> "Figure":
    """Draw a bar for each purpose of each rung, with its time beside it."""
    bars = data["bars"]
    rungs = sorted({bar[0] for bar in bars})
    figure = new_figure(WIDE_IN, 0.9 + _LINE_IN * (len(bars) + _GAP * len(rungs)))
    axes = figure.subplots()
    longest = max(good + lost for _, _, good, lost, _ in bars)
    unit_s, unit = next((size, name) for least, size, name in _UNITS if longest >= least)
    places = [place + _GAP * rungs.index(bar[0]) for place, bar in enumerate(bars)]
    for place, bar in zip(places, bars, strict=True):
        _bar(axes, place, bar, unit_s)
    firsts = [next(p for p, b in zip(places, bars, strict=True) if b[0] == rung) for rung in rungs]
    names = [
        f"rung {rung}: {name} ({n})" if place in firsts else f"{name} ({n})"
        for place, (rung, name, _, _, n) in zip(places, bars, strict=True)
    ]
    axes.set_yticks(places, names)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    room = 72 * WIDE_IN - max(map(text_width, names)) - 40.0
    axes.set_xlim(0, max(_needed(bar, room) for bar in bars) / unit_s)
    axes.set_xlabel(f"{unit} of training")
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=6)
    mark_simulated(figure, data)
    return figure


def _label(bar: list[Any]) -> str:
    _, _, good, lost, _ = bar
    return duration(good + lost) + (f", {duration(lost)} of it failed" if lost else "")


def _needed(bar: list[Any], room: float) -> float:
    """Return the seconds that an axis of `room` points must show to hold a bar and its label."""
    _, _, good, lost, _ = bar
    return float(good + lost) * room / max(room - text_width(_label(bar)) - 8.0, 0.1 * room)


def _bar(axes: "Axes", place: float, bar: list[Any], unit_s: float) -> None:
    _, purpose, good, lost, _ = bar
    colour = next(colour for name, _, colour in PURPOSES if name == purpose)
    axes.barh([place], [good / unit_s], color=colour, height=0.72)
    if lost:
        axes.barh(
            [place],
            [lost / unit_s],
            left=[good / unit_s],
            height=0.72,
            facecolor="white",
            edgecolor=colour,
            hatch="////",
        )
    axes.annotate(
        _label(bar),
        ((good + lost) / unit_s, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL_PT,
        color=INK,
    )
    axes.axvline(0.0, color=GREY, linewidth=0.8)
