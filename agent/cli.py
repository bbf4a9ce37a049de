"""The command line: verbs, their help, and how an error reads."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from agent.export_cli import export
from agent.library_cli import library
from agent.memory_cli import memory
from agent.options import CAMPAIGN, JSON, budget_options, word_options
from memory.errors import SegwrightError

if TYPE_CHECKING:
    from agent.campaign import Notify
    from agent.config import BudgetConfig
    from agent.run import Ended

VERBS = "segwright.verbs"


class Verbs(click.Group):
    """A group whose expected errors are one line on stderr, without a traceback.

    Verbs of higher layers (`bench`) register as entry points and are loaded when called.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all verbs, registered ones first."""
        from importlib.metadata import entry_points

        found = entry_points(group=VERBS)
        return [*sorted(found.names), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb, loading a registered one."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        from importlib.metadata import entry_points

        for found in entry_points(group=VERBS, name=cmd_name):
            command = found.load()
            assert isinstance(command, click.Command)
            return command
        return None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; turn expected errors into their exit code."""
        try:
            return super().invoke(ctx)
        except SegwrightError as error:
            fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on where it stood", 130)


def fail(text: str, code: int) -> NoReturn:
    """Print one error and end."""
    print(f"segwright: {text}", file=sys.stderr)
    sys.exit(code)


def output(value: Any, lines: list[str], *, as_json: bool) -> None:
    """Print JSON, or lines of text."""
    print(json.dumps(value, indent=1) if as_json else "\n".join(lines))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="segwright")
def main() -> None:
    """Unattended research campaigns on a medical-image-segmentation dataset.

    \b
    segwright demo                                  a whole campaign on simulated subjects
    segwright init CAMPAIGN --data DATASET          a campaign on your own dataset
    segwright run CAMPAIGN --hours 48
    segwright tree CAMPAIGN
    """


@main.command()
@CAMPAIGN
@click.option("--data", required=True, type=click.Path(path_type=Path), help="nnU-Net raw dataset.")
@click.option("--patients", type=click.Path(path_type=Path), help="CSV: case, patient.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings of another campaign.toml."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="engine.threads=2")
@JSON
def init(
    campaign: Path,
    data: Path,
    patients: Path | None,
    config: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Audit a dataset, lock its split and make the campaign's folder.

    \b
    Example: segwright init liver --data nnUNet_raw/Dataset003_Liver --set engine.threads=4
    """
    from agent.config import as_dict, load_config, parse_config
    from agent.new_campaign import create, opened_json, opened_lines
    from agent.settings_text import merged, parse_settings

    given = as_dict(load_config(config)) if config else {}
    given = merged(given, {"name": campaign.name}, parse_settings(settings))
    given["dataset"] = {
        "path": str(data.resolve()),
        "patients": str(patients.resolve()) if patients else "",
    }
    chosen = parse_config(given, "--set")
    opened = create(campaign, chosen)
    output(opened_json(opened, chosen), opened_lines(opened, chosen), as_json=as_json)


@main.command()
@CAMPAIGN
@budget_options
@word_options
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    metavar="CAMPAIGN",
    help="Use the language model's replies of this campaign again, and no endpoint.",
)
def run(
    campaign: Path,
    hours: float | None,
    gpu_hours: float | None,
    usd: float | None,
    trials: int | None,
    replay: Path | None,
    **word: Any,
) -> None:
    """Start a campaign, or go on with it: the same command after any crash.

    \b
    Example: segwright run liver --hours 48
    """
    from agent.config import load_config
    from agent.opening import open_store
    from agent.run import run as run_campaign

    open_store(campaign).close()
    flags = {"hours": hours, "gpu_hours": gpu_hours, "usd": usd, "trials": trials}
    budget = given_budget(load_config(campaign / "campaign.toml").budget, flags)

    def work(notify: Notify) -> Ended:
        earlier = replay / "campaign.db" if replay is not None and replay.is_dir() else replay
        return run_campaign(campaign, budget, notify=notify, replay=earlier, **word)

    finish(campaign, work)


def given_budget(budget: BudgetConfig, flags: dict[str, float | int | None]) -> BudgetConfig:
    """Return the budget of campaign.toml with the flags that were given in its place."""
    from agent.config import parse_config

    given = {name: value for name, value in flags.items() if value is not None}
    return parse_config({"budget": {**asdict(budget), **given}}, "run").budget


def finish(campaign: Path, work: Any) -> None:
    """Do a run's work with progress in the terminal, then say where to look."""
    from rich.console import Console

    from agent.progress import Display, following
    from agent.view import verdict_lines

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    display = Display(Console(stderr=True))
    with following(display):
        ended = work(display.notify)
    shown = [path for path in ended.report if path.suffix in (".html", ".tex")]
    print("\n".join([*verdict_lines(campaign), *(f"  {path}" for path in shown)]))
    if ended.state == "spent":
        fail("the budget ended before the confirmation; the report says what was found", 3)
    if ended.state == "unplanned":
        fail("nobody proposed a network; the report says why, and the same command goes on", 1)


@main.command()
@CAMPAIGN
@JSON
def status(campaign: Path, as_json: bool) -> None:
    """Say where a campaign stands, what it spent, and what it found.

    \b
    Example: segwright status liver --json
    """
    from agent import view
    from agent.opening import open_store

    with open_store(campaign, read_only=True) as store:
        shown = view.status(store)
        output(shown, view.status_lines(shown, store.events()), as_json=as_json)


@main.command()
@CAMPAIGN
@JSON
def tree(campaign: Path, as_json: bool) -> None:
    """Print the tree of trials with each one's gain over the baseline.

    \b
    Example: segwright tree liver
    """
    from agent.opening import open_store
    from agent.tree_view import tree_json, tree_lines

    with open_store(campaign, read_only=True) as store:
        print(tree_json(store) if as_json else "\n".join(tree_lines(store)))


@main.command()
@CAMPAIGN
@click.argument("trial")
@JSON
def show(campaign: Path, trial: str, as_json: bool) -> None:
    """Show one trial: idea, evidence, decisions, files. TRIAL may be the start of an id.

    \b
    Example: segwright show liver 3f2a
    """
    from agent import trial_view, view
    from agent.opening import open_store

    with open_store(campaign, read_only=True) as store:
        shown = trial_view.show(store, campaign, view.find_trial(store, trial))
        output(shown, trial_view.show_lines(shown), as_json=as_json)


@main.command()
@CAMPAIGN
@click.argument("event", required=False)
@JSON
def why(campaign: Path, event: str | None, as_json: bool) -> None:
    """Explain a decision in three lines. EVENT: its number, or a trial; none for the last.

    \b
    Example: segwright why liver 42
    """
    from agent import why_view
    from agent.opening import open_store

    with open_store(campaign, read_only=True) as store:
        shown = why_view.why(store, event)
        output(shown, shown["lines"], as_json=as_json)


main.add_command(memory)
main.add_command(library)
main.add_command(export)


@main.command()
@CAMPAIGN
@click.argument("trial")
@JSON
def reproduce(campaign: Path, trial: str, as_json: bool) -> None:
    """Train a trial again from its commit and seed, and compare; exit 1 where they differ.

    On a CPU label maps and scores must be the same to the bit. On a GPU the mean Dice may
    differ by the SD over the baseline's seeds. TRIAL may be the start of an id.

    \b
    Example: segwright reproduce liver 3f2a
    """
    from agent.opening import open_store
    from agent.reproduce import reproduce as train_again
    from agent.reproduce import reproduced_lines

    open_store(campaign, read_only=True).close()
    found = train_again(campaign, trial)
    output(found, reproduced_lines(found), as_json=as_json)
    if not found["is_same"]:
        sys.exit(1)


@main.command()
@CAMPAIGN
@JSON
def check(campaign: Path, as_json: bool) -> None:
    """Re-derive every id, hash, score and fact; exit 1 and name what does not agree.

    \b
    Example: segwright check liver
    """
    from agent.check import check_campaign
    from agent.opening import open_store

    open_store(campaign, read_only=True).close()
    problems = check_campaign(campaign)
    output({"problems": problems}, problems or ["everything agrees"], as_json=as_json)
    if problems:
        sys.exit(1)


@main.command()
@click.option(
    "--escape-suite", "attack", is_flag=True, help="Attack every sandbox here; takes minutes."
)
@JSON
def doctor(attack: bool, as_json: bool) -> None:
    """Say what this machine offers, with one fix for each thing missing.

    \b
    Example: segwright doctor
    Example: segwright doctor --escape-suite
    """
    from agent.doctor import examine

    if attack:
        attack_sandboxes(as_json=as_json)
        return
    lines = examine()
    text = [f"{'ok ' if x.is_ok else '-- '} {x.name}: {x.text}" for x in lines]
    text += [f"fix: {x.name}: {x.fix}" for x in lines if x.fix and not x.is_ok]
    output([x._asdict() for x in lines], text, as_json=as_json)
    if any(x.is_needed and not x.is_ok for x in lines):
        sys.exit(1)


def attack_sandboxes(*, as_json: bool) -> None:
    """Run the escape suite, progress on stderr; exit 1 if the chosen boundary did not hold."""
    from agent.view import suite_lines
    from sandbox.escape import Finding, run_suite

    def progress(target: str, found: Finding) -> None:
        text = f": {found.text}" if found.text else ""
        print(f"{target}: {found.probe}: {found.verdict}{text}", file=sys.stderr)

    suite = run_suite(progress)
    output(suite.report, suite_lines(suite.report), as_json=as_json)
    if suite.exit_code:
        sys.exit(suite.exit_code)


@main.group()
def data() -> None:
    """Look at datasets."""


@data.command(name="check")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--patients", type=click.Path(path_type=Path), help="CSV: case, patient.")
@JSON
def data_check(path: Path, patients: Path | None, as_json: bool) -> None:
    """Audit a dataset in nnU-Net's raw layout; writes nothing.

    \b
    Example: segwright data check nnUNet_raw/Dataset003_Liver
    """
    from sandbox.audit import audit
    from sandbox.dataset import read_dataset

    found = audit(read_dataset(path), patients_csv=patients)
    rows = [
        {"level": f.level, "code": f.code, "file": f.file, "text": f.text} for f in found.findings
    ]
    lines = [str(f) for f in found.findings]
    lines.append(f"{len(found.cases)} cases, {len(found.blocking)} blocking findings")
    output({"findings": rows, "cases": len(found.cases)}, lines, as_json=as_json)
    if found.blocking:
        sys.exit(1)
