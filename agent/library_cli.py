"""`segwright library`: what carries over from campaign to campaign, and its way to other labs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.options import JSON
from agent.wording import counted

if TYPE_CHECKING:
    from agent.library import Library

AT = click.option(
    "--at", type=click.Path(path_type=Path), metavar="FILE", help="Another library than yours."
)


@click.group()
def library() -> None:
    """Share what campaigns learnt: figures alone, no text, name or path of a dataset."""


@library.command(name="list")
@AT
@JSON
def list_campaigns(at: Path | None, as_json: bool) -> None:
    """List the campaigns in the library, and on what each was run.

    \b
    Example: segwright library list
    """  # noqa: D301
    from agent.cli import output
    from agent.library import Library
    from agent.library_lessons import words

    path = chosen(at)
    rows = summary(Library.read(path))
    lines = [
        f"{row['campaign']}  {words(row['conditions'])}: {counted(row['networks'], 'network')}, "
        f"{counted(row['lessons'], 'lesson')}"
        for row in rows
    ]
    found = {"path": str(path), "campaigns": rows}
    output(found, lines or [f"no campaign in {path}"], as_json=as_json)


@library.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@AT
def export(file: Path, force: bool, at: Path | None) -> None:
    """Write the library to a file for another lab.

    \b
    Example: segwright library export ours.json
    """  # noqa: D301
    from agent.library import Library
    from memory.errors import ConfigError

    path = chosen(at)
    found = Library.read(path)
    if not found.campaigns:
        raise ConfigError(f"{path} has no campaign to export")
    if file.exists() and not force:
        raise ConfigError(f"{file} exists already; --force writes over it")
    found.write(file)
    click.echo(f"wrote {counted(len(found.campaigns), 'campaign')} to {file}")


@library.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@AT
@JSON
def import_file(file: Path, at: Path | None, as_json: bool) -> None:
    """Add the campaigns of another library; one that is there is replaced.

    All of the file is checked first; where anything in it is not as it must be, nothing is added.

    \b
    Example: segwright library import theirs.json
    """  # noqa: D301
    from agent.cli import output
    from agent.library import Library, change
    from memory.errors import ConfigError

    if not file.is_file():
        raise ConfigError(f"{file} is no file; `segwright library export` writes one")
    other = Library.read(file)
    told: dict[str, list[str]] = {}

    def merged(own: Library) -> Library:
        told.update(compared(own, other))
        return own.merged(other)

    change(chosen(at), merged)
    lines = [f"{what}: {', '.join(names)}" for what, names in told.items() if names]
    output(told, lines or [f"no campaign in {file}"], as_json=as_json)


@library.command()
@click.argument("campaign_id")
@click.option(
    "--from",
    "campaign",
    type=click.Path(path_type=Path),
    metavar="CAMPAIGN",
    help="Also remove what this campaign was told of it.",
)
@AT
@JSON
def purge(campaign_id: str, campaign: Path | None, at: Path | None, as_json: bool) -> None:
    """Remove what one campaign learnt from the library.

    \b
    Example: segwright library purge 3f2a9c01d4e7
    Example: segwright library purge 3f2a9c01d4e7 --from liver
    """  # noqa: D301
    from agent.cli import output
    from agent.library import Library, change, forget
    from agent.opening import open_store

    removed: dict[str, Any] = {"campaign": campaign_id, "networks": 0, "lessons": 0, "told": 0}

    def without(own: Library) -> Library:
        if campaign is not None and campaign_id not in own.campaigns:
            return own
        left = own.without(campaign_id)
        removed.update(summary(Library({campaign_id: own.campaigns[campaign_id]}))[0])
        return left

    if campaign is not None:
        open_store(campaign).close()
    change(chosen(at), without)
    if campaign is not None:
        with open_store(campaign) as store:
            removed["told"] = forget(store, campaign_id)
    output(removed, removed_lines(removed, campaign), as_json=as_json)


def removed_lines(removed: dict[str, Any], campaign: Path | None) -> list[str]:
    """Return what `purge` removed as lines."""
    networks, lessons = (
        counted(removed["networks"], "network"),
        counted(removed["lessons"], "lesson"),
    )
    lines = [f"{removed['campaign']}: removed {networks} and {lessons} from the library"]
    if campaign is not None:
        told = counted(removed["told"], "lesson")
        lines.append(f"{removed['campaign']}: removed {told} from {campaign}")
    return lines


def chosen(at: Path | None) -> Path:
    """Return the file of the library that a command is to use.

    Raises:
        ConfigError: none was named, and the user has no home.
    """
    from agent.library import library_path
    from memory.errors import ConfigError

    path = at or library_path()
    if path is None:
        raise ConfigError("there is no home for a library; name one with --at FILE")
    return path


def summary(found: "Library") -> list[dict[str, Any]]:
    """Return a row for each campaign: its id, conditions, and how much it gave."""
    return [
        {
            "campaign": key,
            "conditions": entry.conditions,
            "networks": len(entry.knowledge.networks),
            "lessons": len(entry.findings),
        }
        for key, entry in sorted(found.campaigns.items())
    ]


def compared(own: "Library", other: "Library") -> dict[str, list[str]]:
    """Return which campaigns of another library are new, replace one, or are there as they are."""
    told: dict[str, list[str]] = {"added": [], "replaced": [], "unchanged": []}
    for key, entry in sorted(other.campaigns.items()):
        before = own.campaigns.get(key)
        is_same = before is not None and before.plain() == entry.plain()
        told["unchanged" if is_same else "replaced" if before else "added"].append(key)
    return told
