"""An edited campaign.toml: refused by name, or kept for good with the user's reason."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.amendments import amend, amendments, in_force, low_power, permitted
from agent.cli import main
from agent.config import BudgetConfig, Config, load_config
from agent.protocol import declared
from agent.run import run
from agent.session import Session
from agent.view import status, status_lines
from memory import records
from memory.errors import ConfigError
from memory.records import Event
from memory.store import Store
from tests.scripted import ScriptedExecutor, new_campaign, session_of
from tests.test_margins import SHORT
from tests.test_protocol import sql


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_campaign(tmp_path_factory.mktemp("unused"), **SHORT)


@pytest.fixture
def new(unused: Path, tmp_path: Path) -> Path:
    """Return a campaign of the test's own that has not begun."""
    return Path(shutil.copytree(unused, tmp_path / "campaign"))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run` drive a scripted campaign, without a dataset to prepare or a report to write."""

    def session(folder: Path, config: Config, *_: object, **__: object) -> Session:
        budget = BudgetConfig(trials=4)
        return session_of(folder, ScriptedExecutor(folder), config=config, budget=budget)

    monkeypatch.setattr("agent.run.make_session", session)
    monkeypatch.setattr("agent.run.write_reports", lambda folder: [])


def quiet(what: str, detail: dict[str, Any]) -> None:
    """Show nothing."""


def edit(folder: Path, **settings: object) -> None:
    """Change settings in campaign.toml; a name is SECTION_KEY, first match of the section on."""
    path = folder / "campaign.toml"
    text = path.read_text()
    for name, value in settings.items():
        section, _, key = name.partition("__")
        head, mark, rest = text.partition(f"[{section}]")
        assert mark
        rest, count = re.subn(rf"(?m)^{key} = \S+", f"{key} = {value}", rest, count=1)
        assert count == 1
        text = head + mark + rest
    path.write_text(text)
    load_config(path)


def store_of(folder: Path) -> Store:
    return Store.open(folder / "campaign.db")


def refused(folder: Path, **options: Any) -> str:
    """Return the one line with which `run` refuses; nothing is written."""
    with store_of(folder) as store:
        before = (store.events(), store.campaign())
    with pytest.raises(ConfigError) as caught:
        run(folder, None, notify=quiet, **options)
    with store_of(folder) as store:
        assert (store.events(), store.campaign()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_edited_setting_is_refused_by_name_with_both_values(new: Path) -> None:
    edit(new, confirm__alpha=0.1)
    line = refused(new)
    assert "confirm.alpha is 0.1, declared is 0.05" in line
    assert "put it back, or go on with `run --amend-protocol REASON`" in line


def test_all_edited_settings_are_named_at_once(new: Path) -> None:
    edit(new, confirm__seeds=5, scoring__tolerance_mm=1.0, ablation__seeds=2)
    line = refused(new)
    for name in ("confirm.seeds is 5", "scoring.tolerance_mm is 1.0", "ablation.seeds is 2"):
        assert name in line


@pytest.mark.usefixtures("scripted")
def test_what_is_not_declared_may_be_edited(new: Path) -> None:
    edit(new, engine__slots=2, explore__c=0.5, selection__share=0.3, budget__trials=3)
    assert run(new, None, notify=quiet).state == "done"
    with store_of(new) as store:
        assert amendments(store.events()) == []


@pytest.mark.usefixtures("scripted")
def test_with_a_reason_the_run_goes_on_and_says_so_for_good(new: Path) -> None:
    edit(new, confirm__seeds=4, confirm__finalists=2)
    told: list[str] = []
    ended = run(
        new,
        None,
        notify=lambda what, detail: told.append(detail["text"]) if what == "note" else None,
        amend_reason="seeds scatter more than thought",
    )
    assert ended.state == "done"
    with store_of(new) as store:
        events = store.events()
        made = amendments(events)
        assert [(one.setting, one.before, one.after) for one in made] == [
            ("confirm.finalists", 1, 2),
            ("confirm.seeds", 3, 4),
        ]
        assert {one.reason for one in made} == {"seeds scatter more than thought"}
        assert [event.text in told for event in events if event.kind == "amended"] == [True, True]
        kinds = [event.kind for event in events]
        assert kinds.index("started") < kinds.index("amended") < kinds.index("baseline")
        assert len({t.seed for t in store.trials() if t.kind == "confirm"}) == 4
        shown = status(store)
        assert json.loads(json.dumps(shown))["amendments"][1]["after"] == 4
        text = "\n".join(status_lines(shown, events))
        assert "WARNING: confirm.seeds was changed from 3 to 4 after it was declared" in text


@pytest.mark.usefixtures("scripted")
def test_an_amendment_is_kept_once_and_needs_its_word_once(new: Path) -> None:
    edit(new, confirm__seeds=4)
    run(new, None, notify=quiet, amend_reason="why not")
    run(new, None, notify=quiet, amend_reason="why not")
    run(new, None, notify=quiet)
    with store_of(new) as store:
        assert len(amendments(store.events())) == 1


def test_a_value_put_back_after_an_amendment_is_an_amendment_too(new: Path) -> None:
    edit(new, confirm__seeds=4)
    with store_of(new) as store:
        config = load_config(new / "campaign.toml")
        amend(store, permitted(store, config, reason="more"), "more")
        assert permitted(store, config) == []
    edit(new, confirm__seeds=3)
    assert "confirm.seeds is 3, declared is 4" in refused(new)
    with store_of(new) as store:
        config = load_config(new / "campaign.toml")
        amend(store, permitted(store, config, reason="too slow"), "too slow")
        made = amendments(store.events())
        origin = declared(store.events())
    assert [(one.before, one.after, one.reason) for one in made] == [
        (3, 4, "more"),
        (4, 3, "too slow"),
    ]
    assert origin is not None
    assert in_force(origin.figures["record"], made) == origin.figures["record"]


def test_what_init_made_cannot_be_amended(new: Path) -> None:
    edit(new, split__seed=5, confirm__seeds=4)
    line = refused(new, amend_reason="a better split")
    assert "`init` fixed for good: split.seed is 5, declared is 20260101" in line
    assert "start a new campaign" in line


def test_what_the_first_run_fixed_can_be_amended_before_it_only(new: Path) -> None:
    edit(new, rungs__count=3, rungs__checkpoint=0.0)
    with store_of(new) as store:
        config = load_config(new / "campaign.toml")
        found = permitted(store, config, reason="a longer ladder")
        assert {one.setting for one in found} == {"rungs.count", "rungs.checkpoint"}
        store.set_protocol({"rung_iterations": [10, 40]})
    line = refused(new, amend_reason="a longer ladder")
    assert "the first `run` fixed for good: rungs.count is 3, declared is 2; put it back" in line


def test_nothing_is_amended_once_the_locked_test_is_open(new: Path) -> None:
    with store_of(new) as store:
        store.add_test_access(records.TestAccess("confirmation", "scores", ("a",)))
    edit(new, confirm__alpha=0.2)
    for options in ({}, {"amend_reason": "it was so close"}):
        line = refused(new, **options)
        assert "after the locked test was opened: confirm.alpha is 0.2, declared is 0.05" in line
        assert "--amend-protocol" not in line


@pytest.mark.usefixtures("scripted")
def test_a_campaign_from_before_is_held_to_nothing(new: Path) -> None:
    sql(new, "DELETE FROM event WHERE kind = 'protocol'")
    edit(new, confirm__alpha=0.1, confirm__margin=0.005)
    assert run(new, None, notify=quiet).state == "done"
    with store_of(new) as store:
        kinds = {event.kind for event in store.events()}
        assert not kinds & {"amended", "noise", "low_power"}


def test_the_command_line_refuses_in_one_line_and_wants_a_reason(new: Path) -> None:
    edit(new, confirm__alpha=0.1)
    result = CliRunner().invoke(main, ["run", str(new)])
    assert result.exit_code == 1
    assert result.stderr.startswith("segwright: campaign.toml changes the declared protocol: ")
    assert result.stderr.count("\n") == 1
    for reason in ("", "  ", "--hours"):
        result = CliRunner().invoke(main, ["run", str(new), "--amend-protocol", reason])
        assert result.exit_code == 2
        assert "is no reason" in result.output


@pytest.mark.usefixtures("scripted")
def test_the_command_line_takes_the_reason(new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.view.verdict_lines", lambda folder: [])
    edit(new, confirm__alpha=0.1)
    result = CliRunner().invoke(main, ["run", str(new), "--amend-protocol", " a pilot\x1b[2J "])
    assert result.exit_code == 0, result.output
    assert "confirm.alpha is 0.1, declared is 0.05: a pilot" in result.stderr
    assert "\x1b[2J" not in result.stderr
    with store_of(new) as store:
        [one] = amendments(store.events())
        assert one.reason == "a pilot\x1b[2J"


@pytest.mark.parametrize("read", [amendments, low_power])
def test_other_events_are_neither(read: Callable[[list[Event]], list[object]]) -> None:
    assert read([Event("cut", "cuts", {}), Event("started", "started", {})]) == []
