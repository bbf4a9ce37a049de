"""The locked test stays locked: who asks for it outside the one opening gets an error and an event."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config import BudgetConfig
from agent.diagnosed import DiagnosedPlanner
from agent.locked import labels_folder, locked_label, open_labels, score_locked
from agent.planners import make_planner
from agent.run import drive
from agent.session import Session
from agent.trials import job_values
from agent.why import explain
from agent.why_view import names_of
from memory.errors import SandboxError, ScoringError
from memory.records import Event, Kind, SplitName, Status, Trial
from memory.store import Store
from sandbox import supervisor
from tests.ablations import killing, quiet, store_of, unused_campaign
from tests.scripted import ScriptedExecutor, session_of

LOCKED = SplitName.LOCKED_TEST
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unused_campaign(tmp_path_factory.mktemp("unused"), cases=24, ablation={"seeds": 0})


@pytest.fixture(scope="module")
def done(unused: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(unused, tmp_path_factory.mktemp("done") / "campaign"))
    session = session_of(folder, ScriptedExecutor(folder), budget=BudgetConfig(trials=6))
    assert drive(session, quiet) == "done"
    return folder


@pytest.fixture
def new(unused: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unused, tmp_path / "campaign"))


@pytest.fixture
def ended(done: Path, tmp_path: Path) -> Path:
    """Return a copy of one's own of a campaign that is done."""
    return Path(shutil.copytree(done, tmp_path / "campaign"))


def session_in(folder: Path) -> Session:
    return session_of(folder, ScriptedExecutor(folder))


def refusals(folder: Path) -> list[Event]:
    with store_of(folder) as store:
        return store.events(kind="refused")


def searched(store: Store) -> Trial:
    return next(t for t in store.trials(status=Status.OK) if t.kind is Kind.DRAFT)


def planned(store: Store, **changes: Any) -> Trial:
    """Return a trial for the locked test that no opening names."""
    made = Trial("stranger", None, None, None, None, Kind.CONFIRM, 1, 7, LOCKED)
    made = replace(made, **changes)
    store.add_trial(made)
    return made


def test_no_label_is_read_before_the_opening_and_who_asks_is_written_down(new: Path) -> None:
    session = session_in(new)
    case = session.cases(LOCKED)[0]
    with session.store() as store, pytest.raises(ScoringError, match="not open before") as caught:
        locked_label(session, store, case)
    [event] = refusals(new)
    assert event.text == str(caught.value)
    assert "\n" not in event.text
    assert event.figures["case"] == case
    assert event.figures["asked_by"] == (
        "tests.test_locked.test_no_label_is_read_before_the_opening_and_who_asks_is_written_down"
    )


def test_no_folder_of_labels_is_given_before_the_opening(new: Path) -> None:
    session = session_in(new)
    with session.store() as store:
        for trials in (["a"], []):
            with pytest.raises(ScoringError, match="not open before"):
                labels_folder(session, store, trials)
    assert [e.figures["trials"] for e in refusals(new)] == [["a"], []]


def test_who_may_only_read_is_written_down_as_well(new: Path) -> None:
    session = session_in(new)
    with store_of(new) as store, pytest.raises(ScoringError, match="not open before"):
        labels_folder(session, store, ["a"])
    assert [e.figures["trials"] for e in refusals(new)] == [["a"]]


def test_only_cases_of_the_locked_test_have_a_locked_label(ended: Path) -> None:
    session = session_in(ended)
    odd = [session.cases(SplitName.SEARCH_VAL)[0], "../../labels/search-val/case_001", ""]
    with session.store() as store:
        for case in odd:
            with pytest.raises(ScoringError, match="none of its cases"):
                locked_label(session, store, case)
        assert locked_label(session, store, session.cases(LOCKED)[0]).any()
    assert len(refusals(ended)) == len(odd)


def test_a_second_opening_for_others_is_refused(ended: Path) -> None:
    session = session_in(ended)
    with session.store() as store:
        before = store.test_accesses()
        confirmed = store.trials(kind=Kind.CONFIRM)
        open_labels(session, store, confirmed)  # goes on after a crash
        with pytest.raises(ScoringError, match="opened once, for other trials"):
            open_labels(session, store, [*confirmed, planned(store)])
        assert store.test_accesses() == before
    [event] = refusals(ended)
    assert event.figures["trials"] == ["stranger"]


def test_a_folder_is_given_for_named_trials_alone(ended: Path) -> None:
    session = session_in(ended)
    with session.store() as store:
        names = [t.id for t in store.trials(kind=Kind.CONFIRM)]
        assert labels_folder(session, store, names) == ended / "locked" / "labels"
        for trials in ([*names, "another"], [searched(store).id], []):
            with pytest.raises(ScoringError, match="second opening"):
                labels_folder(session, store, trials)
    assert len(refusals(ended)) == 3


@pytest.mark.parametrize(
    "changes", [{"kind": Kind.DRAFT}, {"kind": Kind.SELECT}, {"split": SplitName.SEARCH_VAL}]
)
def test_a_trial_of_the_search_opens_nothing(new: Path, changes: dict[str, Any]) -> None:
    session = session_in(new)
    with session.store() as store:
        stranger = planned(store, **changes)
        for ask in (open_labels, score_locked):
            with pytest.raises(ScoringError, match="never scored there"):
                ask(session, store, [stranger])
        assert store.test_accesses() == []
    assert [e.figures["trials"] for e in refusals(new)] == [["stranger"]] * 2


def test_search_code_that_scores_its_trial_there_gets_no_score(ended: Path) -> None:
    session = session_in(ended)
    with session.store() as store:
        trial = searched(store)
        before = store.case_scores(trial.id)
        with pytest.raises(ScoringError, match="never scored there"):
            score_locked(session, store, [trial])
        disguised = replace(trial, kind=Kind.CONFIRM, split=LOCKED, status=Status.PLANNED)
        with pytest.raises(ScoringError, match="for other trials"):
            score_locked(session, store, [disguised])
        assert store.case_scores(trial.id) == before
        assert not (session.trial_folder(trial.id) / "locked_scores.json").exists()
    assert len(refusals(ended)) == 2


def test_a_trial_that_nothing_named_gets_no_score(ended: Path) -> None:
    session = session_in(ended)
    with session.store() as store:
        stranger = planned(store)
        named = store.trials(kind=Kind.CONFIRM)[0]
        source = session.trial_folder(named.id)
        shutil.copytree(source, session.trial_folder(stranger.id))
        with pytest.raises(ScoringError, match="for other trials"):
            score_locked(session, store, [stranger])
        assert store.case_scores(stranger.id) == []
        assert store.trial(stranger.id).status is Status.PLANNED


def test_scores_that_a_result_brings_of_the_locked_test_are_not_believed(
    unused: Path, done: Path, tmp_path: Path
) -> None:
    class Forging(ScriptedExecutor):
        """Says that every confirmation is perfect."""

        def submit(self, folder: Path) -> None:
            super().submit(folder)
            job, path = json.loads((folder / "job.json").read_text()), folder / "result.json"
            if job["part"] == LOCKED:
                forged = [[case, "block", "dice", 1.0, None] for case in job["shapes"]]
                path.write_text(json.dumps({**json.loads(path.read_text()), "scores": forged}))

    folder = Path(shutil.copytree(unused, tmp_path / "forged"))
    session = session_of(folder, Forging(folder), budget=BudgetConfig(trials=6))
    assert drive(session, quiet) == "done"
    with store_of(folder) as store, store_of(done) as honest:
        for mine in store.trials(kind=Kind.CONFIRM):
            scores = store.case_scores(mine.id)
            assert {s.metric.value for s in scores} == {"dice", "hd95", "nsd"}
            assert any(s.value != 1.0 for s in scores if s.metric == "dice")
        assert len(store.claims()) == len(honest.claims())


def test_a_job_that_asks_for_locked_labels_is_refused_before_anything_runs(
    new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_in(new)
    trial = Trial("asks", None, None, None, None, Kind.DRAFT, 0, 1, LOCKED, iterations=10)
    folder = session.trial_folder(trial.id)
    job = job_values(session, trial, step_s=0.01)
    job |= {"has_labels": True, "unsafe_reason": "no code is run here"}
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(job))
    (new / "preprocessed").mkdir()
    (new / "preprocessed" / "plan.json").write_text(json.dumps(asdict(session.plan)))

    def ran(*_: Any) -> None:
        raise AssertionError("nothing may run")

    for name in ("train", "weigh", "predict", "score"):
        monkeypatch.setattr(supervisor, name, ran)
    stop: Any = SimpleNamespace(is_set=False)
    with pytest.raises(SandboxError, match="asks for scores on the locked test"):
        supervisor.run(folder, supervisor.read_job(folder), stop)
    assert not (folder / "predictions").exists()


def test_the_views_of_the_search_show_no_locked_score(done: Path) -> None:
    with closing(sqlite3.connect(done / "campaign.db")) as connection:
        seen = {case for (case,) in connection.execute('SELECT "case" FROM search_score')}
        parts = {part for (part,) in connection.execute("SELECT split FROM search_trial")}
        kinds = {kind for (kind,) in connection.execute("SELECT kind FROM search_trial")}
    with store_of(done) as store:
        assert store.trials(kind=Kind.CONFIRM, status=Status.OK)
        assert seen == {case.case for case in store.split(SplitName.SEARCH_VAL)}
    assert LOCKED not in parts
    assert Kind.CONFIRM not in kinds


def test_the_planner_is_told_numbers_and_no_case(done: Path) -> None:
    made = make_planner(session_in(done))
    assert isinstance(made, DiagnosedPlanner)
    assert {type(value) for value in made.grammar.traits.values()} <= {int, bool, float}


def test_the_folder_of_locked_labels_is_its_owners_alone(new: Path, done: Path) -> None:
    for folder in (new, done):
        for place in (folder / "locked", folder / "locked" / "labels"):
            assert place.stat().st_mode & 0o777 == 0o700
        assert not (folder / "labels" / LOCKED).exists()


def test_one_module_reads_the_folder_and_one_fills_it() -> None:
    naming = re.compile(r"""/ ["']locked["']|locked/labels""")
    files = [f for name in ("agent", "sandbox", "memory") for f in (ROOT / name).rglob("*.py")]
    found = {str(f.relative_to(ROOT)) for f in files if naming.search(f.read_text())}
    assert found == {"agent/locked.py", "sandbox/staging.py"}


def test_where_nothing_ended_well_the_test_stays_shut(new: Path) -> None:
    class Fails(ScriptedExecutor):
        """Fails every training for the locked test."""

        def submit(self, folder: Path) -> None:
            self.fails = lambda _: json.loads((folder / "job.json").read_text())["part"] == LOCKED
            super().submit(folder)

    session = session_of(new, Fails(new), budget=BudgetConfig(trials=6))
    assert drive(session, quiet) == "done"
    with store_of(new) as store:
        assert store.test_accesses() == []
        assert store.claims() == []
        [event] = store.events(kind="no_claim")
        assert event.figures["undefined"] == len(store.split(LOCKED))
        assert not any(t.kind is Kind.CONFIRM and t.status is Status.OK for t in store.trials())
    assert drive(session_in(new), quiet) == "done"
    with store_of(new) as store:
        assert len(store.events(kind="no_claim")) == 1


def test_a_resumed_run_reads_no_label_again(ended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.locked.read_label_map", killing)
    assert drive(session_in(ended), quiet) == "done"


def test_a_refusal_is_told_in_three_lines(new: Path) -> None:
    session = session_in(new)
    with session.store() as store:
        with pytest.raises(ScoringError):
            locked_label(session, store, session.cases(LOCKED)[0])
        [event] = store.events(kind="refused")
        lines = explain(event, names_of(store, event))
    assert "tests.test_locked" in lines[0]
    assert session.cases(LOCKED)[0] in lines[1]
    assert lines[2].startswith("No label was read.")
