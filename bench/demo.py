"""`segwright demo`: a whole campaign on simulated subjects, from nothing to a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli import finish

if TYPE_CHECKING:
    from agent.campaign import Notify
    from agent.run import Ended

HOURS = 0.185
# Batches of two and many iterations: with fewer, the rare class is learnt by some seeds only.
SETTINGS = {
    "name": "demo",
    "split": {"val_fraction": 0.4},
    "engine": {"configuration": "2d", "device": "cpu", "base_features": 16, "batch_size": 2},
    "rungs": {"count": 2, "ratio": 4, "min_iterations": 100, "max_iterations": 1600},
    "explore": {"drafts": 6},
    "confirm": {"finalists": 1, "seeds": 3},
}


def run_demo(out: Path, *, hours: float, notify: Notify, settings: tuple[str, ...] = ()) -> Ended:
    """Build the demo dataset, make a campaign on it and run it; goes on where it stood.

    `settings` are texts such as planner=llm, in the place of the demo's own.
    """
    from agent.config import load_config, parse_config
    from agent.new_campaign import create
    from agent.run import run
    from agent.settings_text import merged, parse_settings
    from bench.demo_data import build_demo

    folder = out / "campaign"
    if not (folder / "campaign.db").exists():
        # Simulated subjects teach nothing about others: what is learnt here stays here.
        here = {"memory": {"library": str(out.resolve() / "library.json")}}
        given = merged(SETTINGS, here, parse_settings(settings))
        parse_config(given, "--set")  # before anything is written
        out.mkdir(parents=True, exist_ok=True)
        data = build_demo(out)
        create(folder, parse_config({**given, "dataset": {"path": str(data)}}, "the demo"))
    own = load_config(folder / "campaign.toml").budget
    return run(folder, replace(own, hours=hours), notify=notify)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("segwright-demo"))
@click.option(
    "--hours", type=click.FloatRange(0.02, 24), default=HOURS, help="Wall hours of the run."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="planner=llm")
def demo(out: Path, hours: float, settings: tuple[str, ...]) -> None:
    """Run a whole campaign on simulated subjects: no key, no GPU, no download.

    \b
    Example: segwright demo --out my-demo
    """

    def work(notify: Notify) -> Ended:
        return run_demo(out, hours=hours, notify=notify, settings=settings)

    finish(out / "campaign", work)
