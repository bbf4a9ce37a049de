"""The staged selection in a whole campaign: which networks, which cases, killed, out of time."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import claim_checks, selection_scores
from agent.check import check_campaign
from agent.config import BudgetConfig
from agent.fold_data import prepare_fold
from agent.run import drive
from agent.session import Session
from agent.stage import BASELINE_SEEDS, FINALISTS, PLAN
from agent.trials import write_job
from bench.demo_data import build_demo
from memory.errors import SegwrightError
from memory.records import Kind, SplitName, Status, Trial, canonical
from memory.store import Store
from sandbox.executor import wait
from tests.engines import prepared
from tests.scripted import ScriptedExecutor, new_campaign, session_of
from tests.test_campaign import better, quiet


def store_of(folder: Path) -> Store:
    return Store.open(folder / "campaign.db", read_only=True)


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    explore = {"cut_below": 0.0}  # all of its networks may be chosen
    return new_campaign(tmp_path_factory.mktemp("unused"), explore=explore, selection={})


@pytest.fixture
def new(unused: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unused, tmp_path / "campaign"))


@pytest.fixture(scope="module")
def done(unused: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(unused, tmp_path_factory.mktemp("whole") / "campaign"))
    assert drive(session_of(folder, ScriptedExecutor(folder, gain=better)), quiet) == "done"
    return folder


def changed(session: Session, **settings: Any) -> Session:
    selection = replace(session.config.selection, **settings)
    return replace(session, config=replace(session.config, selection=selection))


def test_the_leaders_are_trained_on_every_further_fold(done: Path) -> None:
    with store_of(done) as store:
        plan = store.effect(PLAN)
        chosen = store.trials(kind=Kind.SELECT)
        own = [t for t in chosen if t.commit]
        assert plan is not None
        assert len(plan["candidates"]) >= 2
        assert {t.parent for t in own} == set(plan["candidates"])
        assert {t.fold for t in own} == set(range(1, 1 + plan["folds"]))
        base = [t for t in chosen if t.commit is None]
        assert len(base) == BASELINE_SEEDS * plan["folds"]
        assert {t.rung for t in chosen} == {1}
        first = [t for t in own if t.seed == 500]
        assert len(first) == len(plan["candidates"]) * plan["folds"]
        again = [t for t in own if t.seed != 500]
        assert len(again) == plan["again"] * plan["seeds"] * plan["folds"] > 0


def test_a_fold_is_scored_on_cases_that_its_training_did_not_see(done: Path) -> None:
    session = session_of(done, None)
    with store_of(done) as store:
        part = {case.case: case.split for case in store.split()}
        for trial in store.trials(kind=Kind.SELECT, status=Status.OK):
            cases = {score.case for score in store.case_scores(trial.id)}
            fold = session.fold(trial.fold)
            data = done / "preprocessed" / f"fold-{trial.fold}"
            seen = {file.name.partition(".")[0] for file in data.rglob("*.pkl")}
            assert cases == set(fold.val)
            assert seen == set(fold.train)
            assert not seen & cases
            assert {part[case] for case in cases} == {SplitName.SEARCH_TRAIN}
            assert SplitName.LOCKED_TEST not in {part[case] for case in seen}


def test_the_search_learns_nothing_from_the_selection(done: Path) -> None:
    with store_of(done) as store:
        chosen = {t.id for t in store.trials(kind=Kind.SELECT)}
        assert not chosen & {t for lesson in store.lessons() for t in lesson.evidence}
        assert not store.events(kind="checkpoint")
        last = max(e.id for e in store.events() if e.kind in ("open", "improve", "promote"))
        assert all(e.id > last for e in store.events(kind="selecting"))


def test_the_finalist_is_chosen_by_what_is_stored(done: Path) -> None:
    with store_of(done) as store:
        (event,) = store.events(kind="finalists")
        scores = {one["trial"]: one for one in event.figures["scores"]}
        best = max(scores.values(), key=lambda one: one["mean"])
        (name,) = event.figures["finalists"]
        assert scores[name]["mean"] >= best["mean"] - best["sd"]
        assert all(one["sd"] < one["prior"]["sd"] for one in scores.values())
        assert {len(one["folds"]) for one in scores.values()} == {3}
        assert {t.proposal for t in store.trials(kind=Kind.CONFIRM) if t.proposal} == {
            store.trial(name).proposal
        }


def changed_row(folder: Path, table: str, where: str, change: Callable[[Any], None]) -> None:
    """Change the figures of a row that nothing may change."""
    with closing(sqlite3.connect(folder / "campaign.db")) as conn:
        guard = conn.execute(
            "SELECT sql FROM sqlite_schema WHERE name = ?", (f"{table}_forbids_update",)
        ).fetchone()[0]
        conn.execute(f"DROP TRIGGER {table}_forbids_update")
        rows = conn.execute(f"SELECT id, figures FROM {table} WHERE {where}").fetchall()
        for name, text in rows:
            figures = json.loads(text)
            change(figures)
            told = canonical(figures)
            conn.execute(f"UPDATE {table} SET figures = ? WHERE id = ?", (told, name))
        conn.execute(guard)
        conn.commit()


def test_the_choice_follows_from_the_scores(done: Path) -> None:
    with store_of(done) as store:
        assert list(selection_scores.problems(store, seed=20260101)) == []
        assert list(claim_checks.problems(store)) == []


def test_a_changed_selection_score_is_found(done: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "campaign"))

    def change(figures: Any) -> None:
        figures["scores"][0]["mean"] += 0.001

    changed_row(folder, "event", "kind = 'finalists'", change)
    with store_of(done) as store:
        name = store.events(kind="finalists")[0].figures["scores"][0]["trial"]
    assert [p for p in check_campaign(folder) if f"selection: {name}: mean is not" in p]


def test_another_finalist_is_found(done: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "campaign"))

    def change(figures: Any) -> None:
        names = [one["trial"] for one in figures["scores"]]
        figures["finalists"] = [name for name in names if name not in figures["finalists"]][:1]

    changed_row(folder, "event", "kind = 'finalists'", change)
    assert [p for p in check_campaign(folder) if p.startswith("selection: its scores choose")]


@pytest.mark.parametrize("name", ["delta", "low", "p_wilcoxon", "p_holm", "n_cases"])
def test_a_changed_claim_is_found(done: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "campaign"))

    def change(figures: Any) -> None:
        figures[name] += 1 if name == "n_cases" else 0.01 - 0.02 * (figures[name] > 0.5)

    changed_row(folder, "claim", "1", change)
    assert [p for p in check_campaign(folder) if f": {name} is " in p]


def test_without_folds_the_leader_is_confirmed(new: Path) -> None:
    session = changed(session_of(new, ScriptedExecutor(new, gain=better)), folds=0)
    assert drive(session, quiet) == "done"
    with store_of(new) as store:
        assert not store.trials(kind=Kind.SELECT)
        assert "straight to confirmation" in store.events(kind="selection")[0].text
        assert store.effect(FINALISTS) == {
            "trials": store.events(kind="finalists")[0].figures["finalists"]
        }


def test_a_time_budget_keeps_time_for_the_confirmation(new: Path) -> None:
    budget = BudgetConfig(hours=0.014)
    session = session_of(new, ScriptedExecutor(new, gain=better), budget=budget)
    assert drive(session, quiet) == "done"
    with store_of(new) as store:
        (event,) = store.events(kind="selection")
        assert event.figures["seconds"] <= 50.4
        assert store.trials(kind=Kind.CONFIRM, status=Status.OK)


@pytest.mark.parametrize("count", [1, 4, 9, 20])
def test_a_kill_in_the_selection_changes_nothing(
    unused: Path, done: Path, tmp_path: Path, count: int
) -> None:
    class Killed(BaseException):
        pass

    folder = Path(shutil.copytree(unused, tmp_path / "campaign"))
    with store_of(done) as store:
        before = len(store.trials()) - len(
            [t for t in store.trials() if t.kind in (Kind.SELECT, Kind.CONFIRM, Kind.ABLATE)]
        )

    def die(submitted: int) -> None:
        if submitted == before + count:
            raise Killed

    with pytest.raises(Killed):
        drive(session_of(folder, ScriptedExecutor(folder, gain=better, before=die)), quiet)
    again = ScriptedExecutor(folder, gain=better)
    assert drive(session_of(folder, again), quiet) == "done"
    with store_of(folder) as store, store_of(done) as whole:
        assert len(store.events(kind="selection")) == len(store.events(kind="finalists")) == 1
        keys = [(t.parent, t.fold, t.seed) for t in store.trials(kind=Kind.SELECT)]
        assert len(keys) == len(set(keys)) == len(whole.trials(kind=Kind.SELECT))
        assert len(again.submitted) == len(set(again.submitted))


def test_failures_on_a_fold_leave_the_others(new: Path) -> None:
    def fails(submitted: int) -> bool:
        return submitted > 24 and submitted % 5 == 0

    drive(session_of(new, ScriptedExecutor(new, gain=better, fails=fails)), quiet)
    with store_of(new) as store:
        (event,) = store.events(kind="finalists")
        counts = {len(one["folds"]) for one in event.figures["scores"]}
        assert store.trials(kind=Kind.SELECT, status=Status.FAILED)
        assert max(counts) >= 1


def test_a_campaign_without_raw_files_has_no_folds(new: Path) -> None:
    shutil.rmtree(new / "staging")
    session = session_of(new, ScriptedExecutor(new, gain=better))
    with pytest.raises(SegwrightError, match="keeps no raw files of search-train"):
        prepare_fold(session, 1)
    assert drive(session, quiet) == "done"
    with store_of(new) as store:
        assert not store.trials(kind=Kind.SELECT)


def test_a_fold_that_is_not_there_is_refused(new: Path) -> None:
    session = session_of(new, None)
    with pytest.raises(SegwrightError, match="fold 9 was asked for; search-train allows 3"):
        session.fold(9)


@pytest.mark.slow
def test_a_real_training_of_a_further_fold(
    tmp_path_factory: pytest.TempPathFactory, parent: Path
) -> None:
    folder = tmp_path_factory.mktemp("folds")
    session = prepared(folder / "c", build_demo(folder, subjects=20))
    prepare_fold(session, 1)
    prepare_fold(session, 2)
    fold = session.fold(2)
    trial = Trial(
        *("f" * 12, None, None, None, None, Kind.SELECT, 0, 1, SplitName.SEARCH_TRAIN),
        iterations=4,
        fold=2,
    )
    result = wait(session.executor, write_job(session, trial, step_s=1.0))
    assert result["status"] == "ok", result
    assert {row[0] for row in result["scores"]} == set(fold.val)
    data = session.folder / "preprocessed" / "fold-2" / session.plan.dataset
    seen = {file.stem.removesuffix("_seg") for file in data.rglob("*.b2nd")}
    assert seen == set(fold.train)
    named = {
        path.name.partition(".")[0] for path in (session.folder / "locked" / "labels").iterdir()
    }
    assert not seen & named
