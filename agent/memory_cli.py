"""`segwright memory`: what a campaign has learnt, and what a role would be told of it now."""

from pathlib import Path

import click

from agent.options import JSON


@click.command()
@click.argument("campaign", required=False, type=click.Path(path_type=Path))
@click.argument("query", required=False, default="")
@click.option("--prompt", "role", metavar="ROLE", help="Print what this role would be told now.")
@click.option("--library", "is_library", is_flag=True, help="Search what all campaigns learnt.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=8, show_default=True, help="Lessons at most."
)
@JSON
def memory(
    campaign: Path | None,
    query: str,
    role: str | None,
    is_library: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Search a campaign's lessons, or print a role's prompts with their sizes.

    Without QUERY: the latest lessons. Roles: generator, assessor, coder, diagnostician. With
    --library, and no CAMPAIGN: what the library carries from each campaign to the next.

    \b
    Example: segwright memory liver "small objects"
    Example: segwright memory liver --prompt coder
    Example: segwright memory --library "attention gate"
    """  # noqa: D301
    if is_library:
        _library(campaign, query, role, limit, as_json=as_json)
    elif campaign is None:
        raise click.UsageError("Missing argument 'CAMPAIGN'; or give --library")
    elif role is None:
        _lessons(campaign, query, limit, as_json=as_json)
    elif query:
        raise click.UsageError("QUERY searches lessons, --prompt prints prompts: give one of them")
    else:
        _prompts(campaign, role, as_json=as_json)


def _library(first: Path | None, rest: str, role: str | None, limit: int, *, as_json: bool) -> None:
    from agent.cli import output
    from agent.lesson_view import carried, lesson_lines
    from agent.library import Library, library_path

    if role is not None or (first is not None and (first / "campaign.db").exists()):
        raise click.UsageError("--library shows what all campaigns learnt: give QUERY alone")
    query = " ".join(part for part in (str(first or ""), rest) if part)
    path = library_path()
    found = carried(Library.read(path) if path else Library(), query, limit)
    output(found, lesson_lines(found), as_json=as_json)


def _lessons(campaign: Path, query: str, limit: int, *, as_json: bool) -> None:
    from agent.cli import output
    from agent.lesson_view import lesson_lines, lessons
    from agent.opening import open_store

    with open_store(campaign, read_only=True) as store:
        found = lessons(store, query, limit)
    output(found, lesson_lines(found), as_json=as_json)


def _prompts(campaign: Path, role: str, *, as_json: bool) -> None:
    from agent.cli import output
    from agent.memory_view import prompt_lines, prompts
    from agent.opening import open_store

    open_store(campaign, read_only=True).close()
    shown = prompts(campaign, role)
    output(shown, prompt_lines(shown), as_json=as_json)
