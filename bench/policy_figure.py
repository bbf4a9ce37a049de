"""The figure of `segwright bench policies`: regret and bias of each policy in each scenario."""

from collections.abc import Mapping
from pathlib import Path

from agent.plotting import BLUE, GREY, INK, VERMILION, new_figure, saved, style
from agent.policies import POLICIES
from bench.figures import Figure
from bench.worlds import SCENARIOS

FILE = Path(__file__).with_name("policies.svg")
PANELS = (
    ("regret", "regret (points of Dice)"),
    ("bias", "estimate less truth (points of Dice)"),
    ("false_lead", "false leads (share of campaigns)"),
)


def draw(figures: Mapping[str, Figure], path: Path = FILE) -> Path:
    """Draw regret, bias and false leads with their 95 % intervals; return the file (SVG)."""
    policies = list(POLICIES)
    with style():
        figure = new_figure(10.0, 1.2 + 1.9 * len(SCENARIOS))
        axes = figure.subplots(len(SCENARIOS), len(PANELS), sharey=True, squeeze=False)
        for row, scenario in enumerate(SCENARIOS):
            for column, (name, label) in enumerate(PANELS):
                axis = axes[row][column]
                for place, policy in enumerate(policies):
                    one = figures[f"{name}.{scenario}.{policy}"]
                    colour = VERMILION if policy == "qwbe" else BLUE
                    axis.plot([one.low, one.high], [place, place], color=colour, linewidth=1.5)
                    marker = "D" if policy == "qwbe" else "o"
                    axis.plot([one.value], [place], marker, color=colour, markersize=4)
                axis.axvline(0.0, color=GREY, linewidth=0.6)
                axis.set_yticks(range(len(policies)), policies)
                axis.set_title(scenario.replace("_", " ") if column == 0 else "", loc="left")
                axis.set_xlabel(label if row == len(SCENARIOS) - 1 else "", color=INK)
                axis.set_ylim(len(policies) - 0.5, -0.5)
        path.write_bytes(saved(figure)["svg"])
    return path
