"""Pairs of locked cases: each finalist against its baseline, and the differences, sorted.

A finalist is compared with the baseline of its own batch size, so that each pair of arms has a row
of two panels.
"""

import math
from typing import TYPE_CHECKING, Any

from agent.formats import plain_text
from agent.intervals import Interval
from agent.locked_facts import arm_sources, locked_gain
from agent.plotting import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    SMALL_PT,
    WIDE_IN,
    Data,
    Drawing,
    mark_simulated,
    new_figure,
    wrapped,
    zero_line,
)
from agent.report_rows import MEAN_LABEL, Arm, Rows, seed_mean, trial_batch
from memory.records import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIGITS = 8
MOST = 6
_MANY = 120
_TITLE_WIDTH = 66


def rounded(value: float) -> float | None:
    """Return a value as figures keep it: eight decimals, None where undefined."""
    return None if math.isnan(value) else round(value, DIGITS)


def span(value: Interval) -> list[float | None]:
    """Return a mean with the ends of its interval as figures keep them."""
    return [rounded(value.mean), rounded(value.low), rounded(value.high)]


def arm_title(rows: Rows, arm: Arm) -> str:
    """Return what a finalist is called: the title of its proposal, on one line."""
    proposal = rows.proposals.get(arm.key)
    return plain_text(proposal.title if proposal else arm.key)


def paired_drawing(rows: Rows) -> Drawing | None:
    """Return the paired plot: for each finalist every locked case, sorted by its difference."""
    panels = [found for arm in rows.finalists[:MOST] if (found := _pairs(rows, arm))["pairs"]]
    if not panels:
        return None
    sources = {s for arm in rows.arms for s in arm_sources(arm)}
    return Drawing(
        name="paired",
        data={"panels": panels, "simulated": rows.simulated},
        sources=tuple(sorted(sources)),
        alt="For each finalist: left, its Dice against that of its baseline for every locked case; "
        "right, the sorted differences. The table of cases holds the values of the best finalist.",
        caption="Every case of the locked test, each side averaged over its seeds. Left: the "
        "candidate against the baseline of the same batch size, equal on the diagonal. Right: the "
        "differences, sorted, with their mean (dashed) and the ends of its interval (dotted). A case that is "
        "undefined in a seed of either side is left out.",
        draw=draw_paired,
    )


def _pairs(rows: Rows, arm: Arm) -> Data:
    base = rows.reference(arm)
    reference = seed_mean(rows, base.trials, Metric.DICE, MEAN_LABEL)
    candidate = seed_mean(rows, arm.trials, Metric.DICE, MEAN_LABEL)
    both = [(reference[case], candidate[case]) for case in candidate if case in reference]
    pairs = [[round(a, DIGITS), round(b, DIGITS)] for a, b in both if not math.isnan(a + b)]
    several = len({a.batch_size for a in rows.arms if a.is_baseline}) > 1
    return {
        "pairs": sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair)),
        "undefined": len(both) - len(pairs),
        "delta": span(locked_gain(rows, arm, Metric.DICE, MEAN_LABEL)),
        "candidate": arm_title(rows, arm),
        "batch_size": trial_batch(rows, base.trials[0]) if several else None,
    }


def draw_paired(data: Data) -> "Figure":
    """Draw the scatter of pairs and the sorted differences, a row for each finalist."""
    rows = data["panels"]
    figure = new_figure(WIDE_IN, 0.2 + 3.35 * len(rows))
    for part, row in zip(figure.subfigures(len(rows), 1, squeeze=False).flat, rows, strict=True):
        left, right = part.subplots(1, 2, width_ratios=(1.0, 1.3))
        part.suptitle(_title(row), x=0.01, ha="left", fontsize=SMALL_PT)
        _scatter(left, row)
        _sorted_bars(right, row)
    mark_simulated(figure, data)
    return figure


def _title(row: Data) -> str:
    batch = f" (batches of {row['batch_size']})" if row["batch_size"] else ""
    return wrapped(f"{row['candidate']} against the baseline{batch}", _TITLE_WIDTH)


def _scatter(axes: "Axes", row: Data) -> None:
    size = 20 if len(row["pairs"]) <= _MANY else 8
    for is_higher, shape, colour in ((True, "o", BLUE), (False, "v", ORANGE)):
        chosen = [pair for pair in row["pairs"] if (pair[1] > pair[0]) == is_higher]
        axes.scatter(
            [p[0] for p in chosen],
            [p[1] for p in chosen],
            s=size,
            marker=shape,
            color=colour,
            edgecolors="white",
            linewidths=0.4,
            zorder=3,
            label=f"candidate {'higher' if is_higher else 'not higher'}: {len(chosen)}",
        )
    values = [value for pair in row["pairs"] for value in pair]
    pad = 0.04 * (max(values) - min(values)) + 0.005
    limits = (min(values) - pad, max(values) + pad)
    axes.plot(limits, limits, color=GREY, linewidth=0.8, linestyle="--")
    axes.set(xlim=limits, ylim=limits, xlabel="baseline, Dice", ylabel="candidate, Dice")
    axes.set_aspect("equal")
    axes.locator_params(nbins=4)
    # Above the axes, where no point can lie under it.
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.05, 1.0), "borderpad": 0.1}
    axes.legend(**above, handletextpad=0.2, labelspacing=0.25)


def _sorted_bars(axes: "Axes", row: Data) -> None:
    deltas = [pair[1] - pair[0] for pair in row["pairs"]]
    for is_higher, colour, hatch in ((True, BLUE, ""), (False, ORANGE, "////")):
        own = [(x, value) for x, value in enumerate(deltas) if (value > 0) == is_higher]
        width, edge = (
            (0.85, "white" if hatch else colour) if len(deltas) <= _MANY else (1.0, "none")
        )
        drawn = axes.bar([x for x, _ in own], [v for _, v in own], color=colour, width=width)
        for bar in drawn:
            bar.set(hatch=hatch, edgecolor=edge, linewidth=0)
    mean, low, high = row["delta"]
    if low is not None:
        axes.axhspan(low, high, color=PALE, alpha=0.6, linewidth=0, zorder=0)
        for end in (low, high):
            axes.axhline(end, color=INK, linewidth=1.0, linestyle=":")
    axes.axhline(mean, color=INK, linewidth=1.2, linestyle="--")
    zero_line(axes)
    gone = f"; {row['undefined']} undefined" if row["undefined"] else ""
    axes.set(xlabel=f"{len(deltas)} locked cases, sorted{gone}", xticks=[])
    axes.set_ylabel("candidate minus baseline")
    axes.margins(x=0.02)
