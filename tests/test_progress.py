"""What the terminal shows of a run, and what a trial's own words may do there: nothing."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from agent.fallback import BACK, FELL_BACK, LOST
from agent.progress import LONGEST, Display, following
from memory.records import Event, Kind, SplitName, Status, Trial
from tests.scripted import ScriptedExecutor, new_campaign, session_of


def display(*, terminal: bool) -> tuple[Display, io.StringIO]:
    out = io.StringIO()
    return Display(Console(file=out, force_terminal=terminal, width=120)), out


@pytest.fixture
def running(tmp_path: Path) -> Any:
    folder = new_campaign(tmp_path)
    session = session_of(folder, ScriptedExecutor(folder))
    with session.store() as store:
        store.add_trial(
            Trial(
                "0123456789ab",
                None,
                None,
                None,
                None,
                Kind.BASELINE,
                1,
                5,
                SplitName.SEARCH_VAL,
                title="evil \x1b[2J title",
                iterations=40,
            )
        )
        store.update_trial("0123456789ab", status=Status.RUNNING)
    return session


def claims(session: Any, text: str) -> None:
    """Let the trial say something about its progress."""
    out = session.trial_folder("0123456789ab") / "train" / "out"
    out.mkdir(parents=True)
    (out / "progress.json").write_text(text)


def test_going_without_isolation_is_said_everywhere() -> None:
    for terminal in (True, False):
        made, out = display(terminal=terminal)
        made.notify("unsafe", {"text": "runs WITHOUT isolation: a [b]lab[/b]\x1b[2J"})
        assert "WITHOUT isolation: a [b]lab[/b]" in out.getvalue()
        assert "\x1b[2J" not in out.getvalue()


def test_a_note_is_said_everywhere_and_stays_text() -> None:
    for terminal in (True, False):
        made, out = display(terminal=terminal)
        made.notify("note", {"text": "amends the protocol: a [b]pilot[/b]\x1b[2J"})
        assert "amends the protocol: a [b]pilot[/b]" in out.getvalue()
        assert "\x1b[2J" not in out.getvalue()


def test_a_running_trial_has_a_bar_with_its_rung(running: Any) -> None:
    claims(running, json.dumps({"iteration": 10}))
    made, out = display(terminal=True)
    made.notify("ready", {"session": running})
    made.console.print(made)
    shown = out.getvalue()
    assert "012345 baseline rung 1" in shown
    assert "10/40" in shown
    assert "no time limit" in shown
    assert "best: -" in shown
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize(
    "text",
    ['{"iteration": 1e99}', '{"iteration": -3}', '{"iteration": "x"}', "[", '{"iteration": 41}'],
)
def test_nonsense_from_a_trial_counts_as_nothing(running: Any, text: str) -> None:
    claims(running, text)
    made, out = display(terminal=True)
    made.notify("ready", {"session": running})
    made.console.print(made)
    assert "0/40" in out.getvalue()


def test_a_finished_trial_loses_its_bar(running: Any) -> None:
    made, _ = display(terminal=True)
    made.notify("ready", {"session": running})
    made.render()
    assert len(made.tasks) == 1
    with running.store() as store:
        store.record_result("0123456789ab", changes={"status": Status.FAILED}, scores=[])
    made.render()
    assert made.tasks == {}


def test_while_nothing_trains_it_says_so(running: Any) -> None:
    made, _ = display(terminal=True)
    made.notify("ready", {"session": running})
    with running.store() as store:
        made.render()
        assert made.line(store).startswith("training | best")
        store.record_result("0123456789ab", changes={"status": Status.FAILED}, scores=[])
        made.render()
        assert made.line(store).startswith("planning the next training | best")
        made.notify("confirming", {})
        assert made.line(store).startswith("confirming on the locked test | best")


def test_a_lost_language_model_is_shown_until_it_is_back(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/v1"
    own = new_campaign(
        tmp_path, planner="llm", endpoints={"local": {"url": url, "model": "scripted"}}
    )
    session = session_of(own, ScriptedExecutor(own))
    made, _ = display(terminal=True)
    made.notify("ready", {"session": session})
    with session.store() as store:
        for kind, shown in ((FELL_BACK, False), (LOST, True), (FELL_BACK, True), (BACK, False)):
            store.add_event(Event(kind, "\x1b[2J", {}))
            assert ("| the language model is lost |" in made.line(store)) == shown


@pytest.mark.parametrize("kind", ["rival", "improve", "of another version"])
def test_a_decision_is_one_bounded_line_of_plain_text(kind: str) -> None:
    made, out = display(terminal=True)
    text = "a second coder writes the idea of c0ffee: [b]x[/b]\x1b[2J\nbest: +0.9999" + 9 * "y" * 99
    made.notify("resumed", {"event": 7, "text": text})
    assert out.getvalue() == ""
    made.notify("started", {"event": 7, "kind": kind, "text": text})
    said = Text.from_ansi(out.getvalue()).plain
    assert "[b]x[/b] best: +0.9999" in " ".join(said.split())
    assert "\x1b[2J" not in out.getvalue()
    assert len(said.replace("\n", "")) <= LONGEST


def test_elsewhere_than_in_a_terminal_it_is_quiet(running: Any) -> None:
    made, out = display(terminal=False)
    with following(made):
        made.notify("ready", {"session": running})
        made.notify("cut", {"text": "cuts something"})
    assert out.getvalue() == ""
