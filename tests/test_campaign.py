"""The loop: baselines, search, confirmation; killed, failing, out of budget."""

import json
import shutil
import sqlite3
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from agent.campaign import Campaign
from agent.check import check_campaign
from agent.config import BudgetConfig
from agent.cuts import cut_trials
from agent.graph import replace_id
from agent.planners import make_planner
from agent.run import drive
from agent.session import Session
from agent.standings import SEARCH
from agent.tree_view import tree, tree_lines
from agent.view import status, status_lines, verdict_lines
from memory.errors import SegwrightError
from memory.records import Event, Kind, SplitName, Status
from memory.store import Store
from sandbox.dry_run import Dry
from tests.scripted import ScriptedExecutor, dry, new_campaign, session_of


def quiet(what: str, detail: dict[str, Any]) -> None:
    """Show nothing."""


def better(source: str) -> float:
    """Make some networks better than the baseline and others far worse, by their source."""
    return 0.06 if "Squeeze" in source else -0.2 if len(source) % 2 else 0.0


def store_of(folder: Path) -> Store:
    return Store.open(folder / "campaign.db", read_only=True)


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_campaign(tmp_path_factory.mktemp("unused"))


@pytest.fixture
def new(unused: Path, tmp_path: Path) -> Path:
    """Return a campaign of the test's own that has not begun."""
    return Path(shutil.copytree(unused, tmp_path / "campaign"))


@pytest.fixture(scope="module")
def done(unused: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(unused, tmp_path_factory.mktemp("whole") / "campaign"))
    executor = ScriptedExecutor(folder, gain=better)
    assert drive(session_of(folder, executor), quiet) == "done"
    return folder


def test_a_campaign_goes_through_every_station(done: Path) -> None:
    with store_of(done) as store:
        kinds = Counter(t.kind for t in store.trials(status=Status.OK))
        assert kinds[Kind.BASELINE] == 6
        assert len(store.proposals()) >= 6
        searched = [t for t in store.trials() if t.kind in (Kind.DRAFT, Kind.IMPROVE)]
        assert len(searched) >= 8
        assert {t.rung for t in searched} == {0, 1}
        assert kinds[Kind.CONFIRM] == 6
        assert cut_trials(store)
        assert len(store.claims()) == 1
        assert len(store.lessons("trial")) == len(searched)


def test_decisions_are_stored_with_their_figures(done: Path) -> None:
    with store_of(done) as store:
        for event in store.events():
            if event.kind in ("open", "promote", "cut", "improve"):
                assert "trials_left" in event.figures
                assert event.text


def test_search_never_touches_a_locked_case(done: Path) -> None:
    with store_of(done) as store:
        locked = {case.case for case in store.split(SplitName.LOCKED_TEST)}
        for trial in store.trials():
            cases = {score.case for score in store.case_scores(trial.id)}
            assert (cases == locked) == (trial.kind is Kind.CONFIRM)
            assert trial.kind is Kind.CONFIRM or not cases & locked


def test_the_locked_test_is_opened_once_and_before_its_scores(done: Path) -> None:
    with store_of(done) as store:
        (access,) = store.test_accesses()
        locked = [t for t in store.trials() if t.split is SplitName.LOCKED_TEST]
        assert {t.kind for t in locked} == {Kind.CONFIRM}
        assert set(access.trials) == {t.id for t in locked}
        started = {e.trial: e.id for e in store.events(kind="trial_result")}
        assert all(t.id in started for t in locked)


def test_finalists_are_trained_with_fresh_seeds(done: Path) -> None:
    with store_of(done) as store:
        search = {t.seed for t in store.trials() if t.kind is not Kind.CONFIRM}
        fresh = {t.seed for t in store.trials(kind=Kind.CONFIRM)}
        assert not search & fresh
        assert len(fresh) == 3


def test_overlays_are_chosen_by_rule(done: Path) -> None:
    rows = json.loads((done / "report" / "cases" / "cases.json").read_text())
    assert [row["role"] for row in rows] == ["worst", "most improved", "most harmed"]
    assert rows[1]["delta"] >= rows[2]["delta"]
    assert all((done / "report" / "cases" / row["file"]).exists() for row in rows)


def test_the_views_tell_the_same_campaign(done: Path) -> None:
    with store_of(done) as store:
        shown, standing = tree(store), status(store)
        assert len(shown["nodes"]) == len(store.trials())
        assert standing["incumbent"] == shown["incumbent"]
        assert sum(standing["trials"].values()) == len(shown["nodes"])
        text = "\n".join([*tree_lines(store), *status_lines(standing, store.events())])
        assert all(n["id"] in text for n in shown["nodes"] if n["kind"] == "draft")
        json.dumps([shown, standing], allow_nan=False)
    assert "exploratory" in verdict_lines(done)[0]


def test_a_second_drive_changes_nothing(done: Path) -> None:
    with store_of(done) as store:
        before = [store.trials(), store.claims(), len(store.test_accesses())]
    executor = ScriptedExecutor(done)
    assert drive(session_of(done, executor), quiet) == "done"
    assert executor.submitted == []
    with store_of(done) as store:
        assert [store.trials(), store.claims(), len(store.test_accesses())] == before


class Killed(BaseException):
    """Stands for the death of the process at this instant."""


@pytest.mark.parametrize("at", [1, 4, 8, 12, 16, 21])
def test_killed_at_any_trial_it_goes_on_without_losing_one(
    new: Path, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    def kill(count: int) -> None:
        if count == at:
            raise Killed

    first = ScriptedExecutor(new, gain=better, before=kill)
    with pytest.raises(Killed):
        drive(session_of(new, first), quiet)
    with store_of(new) as store:
        finished = [t for t in store.trials() if t.status is Status.OK]
    second = ScriptedExecutor(new, gain=better)
    assert drive(session_of(new, second), quiet) == "done"
    assert not set(second.submitted) & {t.id for t in finished}
    assert caplog.text == ""
    with store_of(new) as store:
        after = {t.id: t for t in store.trials()}
        assert all(after[t.id] == t for t in finished)
        assert all(t.status.is_final for t in after.values())
        assert len(store.claims()) == 1
        assert len(store.test_accesses()) == 1


def test_trials_that_outlived_a_killed_run_are_attached_to(new: Path) -> None:
    def kill(count: int) -> None:
        if count == 9:
            raise Killed

    first = ScriptedExecutor(new, before=kill)
    with pytest.raises(Killed):
        drive(session_of(new, first), quiet)
    with store_of(new) as store:
        running = [t.id for t in store.trials(status=Status.RUNNING)]
    assert running
    second = ScriptedExecutor(new)
    second.polls = dict.fromkeys(running, 3)  # their supervisors are still at work
    assert drive(session_of(new, second), quiet) == "done"
    assert not set(second.submitted) & set(running)
    with store_of(new) as store:
        assert {store.trial(t).status for t in running} == {Status.OK}


def test_a_network_that_fails_its_dry_run_is_kept_and_repaired(new: Path) -> None:
    executor = ScriptedExecutor(new)
    session = session_of(new, executor, budget=BudgetConfig(trials=6))
    count = {"dry": 0}

    def sometimes(_: Any, code: Path | None, **__: Any) -> Dry:
        count["dry"] += code is not None  # two baselines may begin at once
        if code is not None and count["dry"] <= 2:
            return Dry("contract", "a head has the wrong shape", None, None, None, None)
        return dry()

    assert drive(replaced(session, dry_run=sometimes), quiet) == "done"
    with store_of(new) as store:
        rejected = store.trials(status=Status.REJECTED)
        assert len(rejected) == 2
        assert all(t.failure_excerpt == "a head has the wrong shape" for t in rejected)
        assert {t.parent for t in store.trials(kind=Kind.REPAIR)} >= {rejected[0].id}
        assert all(store.case_scores(t.id) == [] for t in rejected)


def replaced(session: Session, **changes: Any) -> Session:
    """Return a session with other parts."""
    return replace(session, **changes)


def test_failed_trainings_are_data(new: Path) -> None:
    executor = ScriptedExecutor(new, fails=lambda n: n in (8, 10))
    session = session_of(new, executor, budget=BudgetConfig(trials=6))
    assert drive(session, quiet) == "done"
    with store_of(new) as store:
        failed = store.trials(status=Status.FAILED)
        assert len(failed) == 2
        assert "\x1b" not in "\n".join(tree_lines(store))


def test_a_baseline_that_cannot_be_trained_ends_the_run(new: Path) -> None:
    executor = ScriptedExecutor(new, fails=lambda n: n <= 6)
    with pytest.raises(SegwrightError, match="baseline trainings finished at rung 0"):
        drive(session_of(new, executor), quiet)


def test_the_trial_budget_holds(new: Path) -> None:
    executor = ScriptedExecutor(new)
    session = session_of(new, executor, budget=BudgetConfig(trials=5))
    assert drive(session, quiet) == "done"
    with store_of(new) as store:
        search = [t for t in store.trials() if t.kind in SEARCH]
        assert 1 <= len(search) <= 5


def test_no_time_left_ends_in_spent(new: Path) -> None:
    session = session_of(new, ScriptedExecutor(new), budget=BudgetConfig(hours=1e-6))
    assert drive(session, quiet) == "spent"
    with store_of(new) as store:
        assert store.test_accesses() == []


def test_checks_pass_and_a_changed_network_is_named(done: Path) -> None:
    check = partial(
        check_campaign,
        derive=lambda store: list(store.facts().values()),
        unbound=lambda folder, facts: [],
    )
    assert check(done) == []
    with store_of(done) as store:
        trial = next(t for t in store.trials(kind=Kind.DRAFT) if t.status is Status.OK)
    path = done / "trials" / trial.id / "code" / "network.py"
    text = path.read_text()
    path.write_text(text.replace("3", "5", 1))
    try:
        (problem,) = check(done)
        assert trial.id in problem
    finally:
        path.write_text(text)


def test_the_graph_leaves_no_thread_behind(done: Path) -> None:
    with sqlite3.connect(done / "graph.db") as connection:
        assert connection.execute("select count(*) from checkpoints").fetchone() == (0,)


def test_a_trial_that_is_written_while_the_tree_is_read_is_seen(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its decision would be taken a second time."""
    folder = Path(shutil.copytree(done, tmp_path / "campaign"))
    session = session_of(folder, ScriptedExecutor(folder))
    campaign = Campaign(session, make_planner(session), quiet)
    source = next(t for t in campaign.store.trials(kind=Kind.DRAFT) if t.status is Status.OK)
    figures = {"node": source.id, "rung": 1}
    number = campaign.store.add_event(
        Event("promote", "promotes", figures, source.id, source.branch, session.now)
    )
    campaign.running[Future()] = campaign.store.event(number)
    late = replace_id(
        replace(
            source,
            id="",
            parent=source.id,
            seed=999,
            rung=1,
            status=Status.PLANNED,
            scores_hash=None,
        )
    )

    def write() -> None:
        with session.store() as store:
            store.add_trial(late)
            store.set_effect(f"decision/{number}/trial", {"trial": late.id})

    writer, read = Thread(target=write), campaign.growth.refresh

    def interrupted() -> None:
        read()
        writer.start()
        writer.join(0.5)

    monkeypatch.setattr(campaign.growth, "refresh", interrupted)
    tree, _ = campaign.tree()
    nodes = [node for branch in tree.branches.values() for node in branch.nodes]
    writer.join()
    campaign.close()
    assert sum(n.id in (late.id, f"decision-{number}") for n in nodes) == 1
