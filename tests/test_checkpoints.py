"""Checkpoints in the store, what follows from them, and real trainings that they stop."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.checkpoints import bar, checkpoint_figures, listener, take
from agent.config import parse_config
from agent.graph import TrialGraph, replace_id
from agent.planners import make_planner
from agent.session import Session
from agent.trials import checkpoint_of, job_values, write_code, write_job
from bench.demo_data import build_demo
from memory.records import CaseScore, Event, Kind, Metric, SplitName, Status, Trial
from memory.store import Store
from sandbox.executor import wait
from tests.engines import prepared, written
from tests.scripted import ScriptedExecutor, new_campaign, session_of

LAST = 1
ITERATIONS = 120


@pytest.fixture
def scripted(tmp_path: Path) -> Session:
    """Return a session whose last rung is looked at half way."""
    folder = new_campaign(tmp_path, rungs={"checkpoint_from": 40})
    return session_of(folder, ScriptedExecutor(folder))


@pytest.fixture
def store(scripted: Session) -> Iterator[Store]:
    with scripted.store() as opened:
        yield opened


def planned(session: Session, kind: Kind, seed: int = 1, **changes: Any) -> Trial:
    commit = None if kind is Kind.BASELINE else f"{seed:040x}"
    trial = Trial(
        "", None, None, None, commit, kind, LAST, seed, SplitName.SEARCH_VAL, iterations=40
    )
    return replace_id(replace(trial, **changes))


def seen(session: Session, dice: float, iteration: int = 20) -> dict[str, Any]:
    """Return a checkpoint with about the same Dice in every case."""
    cases = session.cases(SplitName.SEARCH_VAL)
    rows = [[c, "block", "dice", dice + 0.01 * (i % 3), None] for i, c in enumerate(cases)]
    return {"iteration": iteration, "scores": rows, "seconds": 1.0}


def finished(session: Session, store: Store, trial: Trial, dice: float) -> None:
    """Store a trial with about the same Dice in every case."""
    cases = session.cases(SplitName.SEARCH_VAL)
    scores = [
        CaseScore(trial.id, case, "block", Metric.DICE, dice + 0.01 * (i % 3), None)
        for i, case in enumerate(cases)
    ]
    store.add_trial(trial)
    store.record_result(trial.id, changes={"status": Status.OK}, scores=scores)


def baselines(session: Session, store: Store, *, count: int = 3, **changes: Any) -> None:
    """Store baselines with a Dice of about 0.7 half way, 0.8 in the end."""
    for i in range(count):
        trial = planned(session, Kind.BASELINE, 100 + i, **changes)
        finished(session, store, trial, 0.8 + 0.002 * i)
        assert take(session, store, trial, seen(session, 0.7 + 0.002 * i)) is None


def taken(session: Session, store: Store, dice: float, **changes: Any) -> str | None:
    """Return the answer to a search trial that has this Dice half way."""
    trial = planned(session, Kind.DRAFT, **changes)
    store.add_trial(trial)
    return take(session, store, trial, seen(session, dice))


def test_a_baseline_is_kept_and_never_judged(scripted: Session, store: Store) -> None:
    baselines(scripted, store)
    assert len(store.events(kind="checkpoint")) == 3
    assert store.events(kind="cut") == []
    figures = checkpoint_figures(store, store.trials(kind=Kind.BASELINE)[0])
    assert figures["verdict"] is None
    assert (figures["iteration"], figures["iterations"]) == (20, 40)
    assert set(figures["case_means"]) == set(scripted.cases(SplitName.SEARCH_VAL))


def test_a_poor_network_is_cut_once(scripted: Session, store: Store) -> None:
    baselines(scripted, store)
    text = taken(scripted, store, 0.4)
    assert text is not None
    assert "at iteration 20 of 40: 0.3020 Dice below the baseline" in text
    (cut,) = store.events(kind="cut")
    assert (cut.text, cut.trial) == (text, planned(scripted, Kind.DRAFT).id)
    assert cut.figures["reason"] == "checkpoint"
    assert cut.figures["p_passes"] < cut.figures["cut_below"]
    looked = store.events(kind="checkpoint")[-1]
    assert (looked.trial, looked.id) == (cut.trial, cut.id - 1)
    before = store.events()
    assert taken(scripted, store, 0.4) == text
    assert store.events() == before


def test_a_good_network_goes_on_whatever_comes_later(scripted: Session, store: Store) -> None:
    baselines(scripted, store)
    assert taken(scripted, store, 0.71) is None
    assert store.events(kind="checkpoint")[-1].figures["verdict"]["p_passes"] > 0.1
    finished(scripted, store, planned(scripted, Kind.DRAFT, 7), 0.95)
    assert taken(scripted, store, 0.71) is None


def test_the_best_network_raises_the_bar(scripted: Session, store: Store) -> None:
    baselines(scripted, store)
    store.add_event(Event("promote", "a decision", {"bar": 0.1}))
    assert taken(scripted, store, 0.71) is not None
    (cut,) = store.events(kind="cut")
    assert cut.figures["bar"] == 0.1


def test_the_bar_is_that_of_the_last_decision(scripted: Session, store: Store) -> None:
    assert bar(store) == 0.0
    store.add_event(Event("promote", "a decision", {"bar": 0.1}))
    store.add_event(Event("open", "the next one", {"bar": 0.04}))
    store.add_event(Event("checkpoint", "no decision", {"bar": 0.3}))
    assert bar(store) == 0.04


@pytest.mark.parametrize(
    "changes",
    [{"count": 1}, {"batch_size": 2}, {"rung": 0}],
    ids=["too few", "another batch", "another rung"],
)
def test_without_baselines_nothing_is_judged(
    scripted: Session, store: Store, changes: dict[str, Any]
) -> None:
    baselines(scripted, store, **changes)
    assert taken(scripted, store, 0.1) is None
    assert store.events(kind="checkpoint")[-1].figures["verdict"] is None


def test_another_iteration_is_no_comparison(scripted: Session, store: Store) -> None:
    baselines(scripted, store)
    trial = planned(scripted, Kind.DRAFT)
    store.add_trial(trial)
    assert take(scripted, store, trial, seen(scripted, 0.1, iteration=30)) is None


def test_a_network_that_is_measured_again_is_not_judged(scripted: Session, store: Store) -> None:
    baselines(scripted, store)
    finished(scripted, store, planned(scripted, Kind.DRAFT, 7), 0.9)
    assert taken(scripted, store, 0.1, commit=f"{7:040x}") is None
    assert taken(scripted, store, 0.1, seed=8, commit=f"{8:040x}") is not None


def test_a_trial_that_is_done_is_kept_and_not_judged(scripted: Session, store: Store) -> None:
    baselines(scripted, store)
    folder = scripted.trial_folder(planned(scripted, Kind.DRAFT).id)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    assert taken(scripted, store, 0.1) is None
    assert "case_means" in store.events(kind="checkpoint")[-1].figures


def test_a_look_that_failed_is_kept_and_not_judged(scripted: Session, store: Store) -> None:
    baselines(scripted, store)
    trial = planned(scripted, Kind.DRAFT)
    store.add_trial(trial)
    said = {"iteration": 20, "failed": "out_of_memory: no room", "seconds": 1.0}
    assert take(scripted, store, trial, said) is None
    assert store.events(kind="checkpoint")[-1].text.endswith("of 40: out_of_memory: no room")


@pytest.mark.parametrize(
    ("kind", "changes", "at"),
    [
        (Kind.DRAFT, {}, 0.5),
        (Kind.BASELINE, {}, 0.5),
        (Kind.IMPROVE, {"batch_size": 2}, 0.5),
        (Kind.CONFIRM, {"split": SplitName.LOCKED_TEST}, 0.0),
        (Kind.DRAFT, {"rung": 0}, 0.0),
        (Kind.DRAFT, {"iterations": 39}, 0.0),
    ],
)
def test_only_long_trainings_of_the_last_rung_are_looked_at(
    scripted: Session, store: Store, kind: Kind, changes: dict[str, Any], at: float
) -> None:
    trial = planned(scripted, kind, **changes)
    assert checkpoint_of(scripted, trial) == at
    assert (listener(scripted, store, trial) is not None) == (at > 0)
    assert job_values(scripted, trial, step_s=1.0)["checkpoint"] == at


def test_the_setting_switches_it_off(scripted: Session, store: Store) -> None:
    config = parse_config({"rungs": {"checkpoint": 0, "checkpoint_from": 40}})
    off = replace(scripted, config=config)
    assert listener(off, store, planned(off, Kind.DRAFT)) is None


SLEEPY = """
import time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.conv = nn.Conv2d(i, k, 3, padding=1)
        self.passes = 0

    def forward(self, x):
        self.passes += self.training
        if self.passes > 60:
            time.sleep(1)
        return self.conv(x * 0)

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""
"""A network that learns nothing of the image, and waits after half of its iterations."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> Session:
    """Return a campaign with two baselines at its last rung, looked at half way."""
    folder = tmp_path_factory.mktemp("checkpoints")
    rungs = {"iterations": ITERATIONS, "checkpoint_from": ITERATIONS}
    made = prepared(folder / "c", build_demo(folder, subjects=16), rungs=rungs)
    for seed in (100, 101):
        assert carried_out(made, trial_of(made, None, seed)).status is Status.OK
    return made


def trial_of(session: Session, source: str | None, seed: int) -> Trial:
    """Return a stored trial of the last rung; no source is the baseline."""
    commit = source and session.networks().commit(
        source, branch="abcd", message="test", trailers={}
    )
    kind = Kind.DRAFT if source else Kind.BASELINE
    trial = planned(session, kind, seed, commit=commit, iterations=ITERATIONS)
    with session.store() as store:
        store.add_trial(trial)
    return trial


def carried_out(session: Session, trial: Trial) -> Trial:
    """Train a trial as the graph does; return what the store then says."""
    nodes = TrialGraph(session, make_planner(session))
    try:
        for step in (nodes.train, nodes.score):
            step({"decision": 1, "trial": trial.id, "step_s": 1.0})
        return nodes.store.trial(trial.id)
    finally:
        nodes.close()


def events_of(session: Session, trial: Trial) -> list[Event]:
    with session.store() as store:
        return [event for event in store.events() if event.trial == trial.id]


@pytest.mark.slow
def test_a_hopeless_training_is_stopped(session: Session) -> None:
    trial = carried_out(session, trial_of(session, SLEEPY, 1))
    looked, cut, ended = events_of(session, trial)
    assert (looked.kind, cut.kind, ended.kind) == ("checkpoint", "cut", "trial_result")
    assert (trial.status, trial.failure_class) == (Status.CANCELLED, "stopped")
    assert trial.failure_excerpt == cut.text
    assert cut.figures["reason"] == "checkpoint"
    assert (cut.figures["iteration"], cut.figures["baselines"]) == (60, 2)
    assert cut.figures["delta"] < -0.3
    assert not (session.trial_folder(trial.id) / "curve.json").exists()


@pytest.mark.slow
def test_a_network_like_the_baseline_is_not_stopped(session: Session) -> None:
    trial = carried_out(session, trial_of(session, written(session), 2))
    assert trial.status is Status.OK, trial
    looked, ended = events_of(session, trial)
    assert (looked.kind, ended.kind) == ("checkpoint", "trial_result")
    assert looked.figures["verdict"]["p_passes"] >= 0.1


@pytest.mark.slow
def test_a_stop_outlives_who_decided_it(session: Session) -> None:
    """The cut is stored, and the process dies before it tells; the next one tells."""
    trial = trial_of(session, SLEEPY, 3)
    write_code(session, trial)
    folder = write_job(session, trial, step_s=1.0)

    class Killed(Exception):
        pass

    def die(said: dict[str, Any]) -> str | None:
        with session.store() as store:
            assert take(session, store, trial, said) is not None
        raise Killed

    with pytest.raises(Killed):
        wait(session.executor, folder, on_checkpoint=die)
    assert session.executor.state(folder) == "running"
    ended = carried_out(session, trial)
    assert (ended.status, ended.failure_class) == (Status.CANCELLED, "stopped")
    assert [event.kind for event in events_of(session, trial)] == [
        "checkpoint",
        "cut",
        "trial_result",
    ]
