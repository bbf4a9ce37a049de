"""Isolation of a campaign: chosen once, weakened by the user's word alone, and never forgotten."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent import containment
from agent.binding import unbound_numbers
from agent.check import check_campaign
from agent.cli import main
from agent.containment import contain_campaign, level_of
from agent.facts import derive_facts
from agent.report import write_report
from agent.run import drive
from agent.run_facts import is_let_be
from agent.trials import write_job
from agent.view import status, status_lines
from memory.errors import IsolationUnavailable
from memory.records import Event, Kind
from memory.store import Store
from sandbox.isolation import Isolation, unsafe
from tests.campaigns import HOSTILE, build_campaign
from tests.scripted import ScriptedExecutor, new_campaign, session_of
from tests.test_campaign import quiet

HERE = Isolation("B", "sandlock", Path("/bin/true"), "0.9.0")


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine offer level B."""
    monkeypatch.setattr(containment, "choose", lambda: HERE)


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine offer no isolation."""

    def refuse() -> Isolation:
        raise IsolationUnavailable("no isolation for generated code on this machine")

    monkeypatch.setattr(containment, "choose", refuse)


def begun(folder: Path, isolation: str) -> Path:
    """Return a new campaign whose protocol names an isolation."""
    made = new_campaign(folder, cases=12)
    with Store.open(made / "campaign.db") as store:
        store.set_protocol({"isolation": isolation, "device": "cpu"})
    return made


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("level A: bubblewrap 0.11.0", "A"),
        ("A bubblewrap 0.8.0", "A"),
        ("level D: none", "D"),
        ("scripted", None),
        (None, None),
    ],
)
def test_the_level_is_read_from_what_rows_say(text: str | None, level: str | None) -> None:
    assert level_of(text) == level


@pytest.mark.usefixtures("offered")
def test_a_weaker_isolation_is_refused_and_with_a_word_recorded(tmp_path: Path) -> None:
    folder = begun(tmp_path, "level A: bubblewrap 0.11.0")
    with Store.open(folder / "campaign.db") as store:
        with pytest.raises(IsolationUnavailable, match="began with level A") as caught:
            contain_campaign(store, unsafe_reason="", may_weaken=False)
        assert caught.value.exit_code == 78
        assert "\n" not in str(caught.value)
        assert contain_campaign(store, unsafe_reason="", may_weaken=True) == HERE
        [event] = store.events(kind="weaker_isolation")
        assert event.figures["now"] == "level B: sandlock 0.9.0"


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    "before", ["level B: sandlock 0.9.0", "level C: podman 5", "level D: none"]
)
def test_the_same_or_a_stronger_isolation_needs_no_word(tmp_path: Path, before: str) -> None:
    with Store.open(begun(tmp_path, before) / "campaign.db") as store:
        assert contain_campaign(store, unsafe_reason="", may_weaken=False) == HERE
        assert store.events(kind="weaker_isolation") == []


@pytest.mark.usefixtures("offered")
def test_going_without_is_honoured_and_kept_where_there_is_isolation(tmp_path: Path) -> None:
    with Store.open(begun(tmp_path, "level B: sandlock 0.9.0") / "campaign.db") as store:
        chosen = contain_campaign(store, unsafe_reason=" a lab machine ", may_weaken=False)
        assert (chosen.level, chosen.reason) == ("D", "a lab machine")
        [event] = store.events(kind="unsafe")
        assert event.figures == {"reason": "a lab machine", "offered": "level B: sandlock 0.9.0"}


@pytest.mark.usefixtures("nothing")
def test_without_isolation_run_ends_with_one_line_and_78(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path, cases=12)
    result = CliRunner().invoke(main, ["run", str(folder)])
    assert result.exit_code == 78
    assert result.stderr.strip() == "segwright: no isolation for generated code on this machine"


@pytest.mark.parametrize("reason", ["", "  ", "--hours"])
def test_a_reason_must_be_written(tmp_path: Path, reason: str) -> None:
    folder = new_campaign(tmp_path, cases=12)
    result = CliRunner().invoke(main, ["run", str(folder), "--unsafe-no-sandbox", reason])
    assert result.exit_code == 2
    assert "is no reason" in result.output


def test_neither_settings_nor_environment_can_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGWRIGHT_UNSAFE_NO_SANDBOX", "yes please")
    monkeypatch.setenv("SEGWRIGHT_RUN_UNSAFE_NO_SANDBOX", "yes please")
    [option] = [p for p in main.commands["run"].params if p.name == "unsafe_reason"]
    assert not option.envvar
    made = ["init", str(tmp_path / "c"), "--data", str(tmp_path)]
    for key in ("sandbox.unsafe_reason", "sandbox.unsafe"):
        refused = CliRunner().invoke(main, [*made, "--set", f"{key}=yes"])
        assert "unknown setting" in refused.output


def test_a_campaign_that_once_ran_without_says_so_for_good(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path)
    session = session_of(folder, ScriptedExecutor(folder))
    reason = "CI container 7 offers <b>nothing</b>"
    with session.store() as store:
        store.add_event(Event("unsafe", "goes without", {"reason": reason}, at=session.now))
    assert drive(session, quiet) == "done"
    with session.store() as store:
        store.set_state("done")
    write_report(folder)
    page = (folder / "report" / "report.html").read_text()
    assert '<div class="unsafe" role="note"' in page
    assert "CI container 7 offers &lt;b&gt;nothing&lt;/b&gt;" in page
    assert "without isolation" in (folder / "report" / "manuscript.tex").read_text()
    with session.store() as store:
        assert {f.key: f for f in derive_facts(store)}["unsafe.0.reason"].value == reason
        assert unbound_numbers(folder, store.facts()) == []
        shown = status(store)
        assert shown["unsafe"] == [reason]
        assert f"WARNING: generated code ran without isolation: {reason}" in "\n".join(
            status_lines(shown, store.events())
        )
    assert check_campaign(folder) == []


def test_a_contained_campaign_has_no_warning(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "c")
    write_report(folder)
    assert 'class="unsafe"' not in (folder / "report" / "report.html").read_text()
    with Store.open(folder / "campaign.db", read_only=True) as store:
        facts = store.facts()
        assert facts["containment.0.isolation"].value == "A bubblewrap"
        begun = [t for t in store.trials() if not is_let_be(t)]
        assert facts["containment.0.trials"].value == len(begun) > 0
        assert status(store)["unsafe"] == []


def test_a_hostile_reason_stays_text(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "c")
    with Store.open(folder / "campaign.db") as store:
        store.add_event(Event("unsafe", HOSTILE, {"reason": HOSTILE}, at=1_790_000_100.0))
    write_report(folder)
    assert "<script>" not in (folder / "report" / "report.html").read_text()
    with Store.open(folder / "campaign.db", read_only=True) as store:
        assert unbound_numbers(folder, store.facts()) == []


def test_the_job_says_under_what_it_runs(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path)
    session = session_of(folder, ScriptedExecutor(folder))
    assert drive(session, quiet) == "done"
    with session.store() as store:
        trial = store.trials(kind=Kind.DRAFT)[0]
        modules = store.proposal(str(trial.proposal)).modules
    job = json.loads((write_job(session, trial, step_s=10.0) / "job.json").read_text())
    wanted = {"batch_size": 4, "planned_batch_size": 4, "start": "warm", "unsafe_reason": ""}
    assert wanted.items() <= job.items()
    assert (job["isolation_level"], job["iteration_limit_s"]) == ("A", 500.0)
    assert job["allow_checkpointing"] is True
    assert len(job["named_modules"]) <= len(modules)
    source = session.networks().source(str(trial.commit))
    assert all(f"class {name}(" in source for name in job["named_modules"])
    without = replace(session, isolation=unsafe("said so"), unsafe_reason="said so")
    smaller = replace(trial, batch_size=2)
    job = json.loads((write_job(without, smaller, step_s=0.1) / "job.json").read_text())
    assert (job["batch_size"], job["planned_batch_size"]) == (2, 4)
    assert (job["isolation_level"], job["unsafe_reason"]) == ("D", "said so")
    assert job["iteration_limit_s"] == 120.0
