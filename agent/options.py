"""Options of the command line that several verbs share, or that belong together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

CAMPAIGN = click.argument("campaign", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def typed_reason(_: click.Context, __: click.Parameter, value: str | None) -> str:
    """Return a reason for doing less than was promised; one that says nothing is wrong usage."""
    if value is None:
        return ""
    if not value.strip() or value.startswith("-"):
        raise click.BadParameter(f"{value!r} is no reason; write one, every report repeats it")
    return value.strip()


BUDGET = (
    click.option(
        "--hours", type=click.FloatRange(0, 1e5), help="Wall hours of the whole campaign."
    ),
    click.option("--gpu-hours", type=click.FloatRange(0, 1e6)),
    click.option("--usd", type=click.FloatRange(0, 1e6)),
    click.option("--trials", type=click.IntRange(0, 10**6), help="Trials of the search."),
)
WORD = (
    click.option(
        "--allow-weaker-isolation",
        "may_weaken",
        is_flag=True,
        help="Go on where this machine's isolation is weaker than the campaign's.",
    ),
    click.option(
        "--unsafe-no-sandbox",
        "unsafe_reason",
        metavar="REASON",
        callback=typed_reason,
        help="Run generated code WITHOUT isolation; every report carries the reason.",
    ),
    click.option(
        "--amend-protocol",
        "amend_reason",
        metavar="REASON",
        callback=typed_reason,
        help="Go on with a campaign.toml that is not as declared; every report carries the reason.",
    ),
    click.option(
        "--accept-low-power",
        "accepts_low_power",
        is_flag=True,
        help="Go on with a margin below what can be detected; every report says so.",
    ),
)


def budget_options(verb: F) -> F:
    """Add the flags that replace the budget of campaign.toml."""
    return together(verb, BUDGET)


def word_options(verb: F) -> F:
    """Add the flags by which the user gives a promise away; each is kept for good."""
    return together(verb, WORD)


def together(verb: F, options: tuple[Callable[[F], F], ...]) -> F:
    """Add options to a verb, in their order in its help."""
    for option in reversed(options):
        verb = option(verb)
    return verb
