"""`segwright memory`: what a campaign has learnt, and what a role would be told of it now."""

from pathlib import Path

import click

from agent.options import CAMPAIGN, JSON


@click.command()
@CAMPAIGN
@click.argument("query", required=False, default="")
@click.option("--prompt", "role", metavar="ROLE", help="Print what this role would be told now.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=8, show_default=True, help="Lessons at most."
)
@JSON
def memory(campaign: Path, query: str, role: str | None, limit: int, as_json: bool) -> None:
    """Search a campaign's lessons, or print a role's prompts with their sizes.

    Without QUERY: the latest lessons. Roles: generator, assessor, coder, diagnostician.

    \b
    Example: segwright memory liver "small objects"
    Example: segwright memory liver --prompt coder
    """  # noqa: D301
    from agent import memory_view
    from agent.cli import output
    from agent.opening import open_store

    if query and role is not None:
        raise click.UsageError("QUERY searches lessons, --prompt prints prompts: give one of them")
    with open_store(campaign, read_only=True) as store:
        if role is None:
            found = memory_view.lessons(store, query, limit)
            output(found, memory_view.lesson_lines(found), as_json=as_json)
            return
    shown = memory_view.prompts(campaign, role)
    output(shown, memory_view.prompt_lines(shown), as_json=as_json)
