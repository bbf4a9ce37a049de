"""A network without room in memory: checkpointing, then smaller batches for both sides."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from agent.binding import unbound_numbers
from agent.check import check_campaign
from agent.config import BudgetConfig
from agent.confirm import CONFIRM_SEED, compared, group
from agent.confirm import planned as planned_trials
from agent.grammar import GrammarPlanner
from agent.memory_ladder import LADDER
from agent.planner import Case
from agent.report import write_report
from agent.report_rows import read_rows
from agent.run import drive
from agent.standings import Standings
from agent.trial_view import show, show_lines
from bench.demo_data import build_demo
from memory.errors import SegwrightError
from memory.records import Event, Kind, Metric, Proposal, Status, Trial
from memory.store import Store
from sandbox.means import case_mean
from tests.engines import prepared
from tests.scripted import ScriptedExecutor, dry, new_campaign, session_of
from tests.test_campaign import Killed, quiet


class Sizes:
    """Tells which networks need memory, and win: the first one, and every second after it."""

    def __init__(self) -> None:
        self.known: dict[str, bool] = {}

    def is_large(self, source: str) -> bool:
        """Tell whether a network is a large one; the baseline is not."""
        return bool(source) and self.known.setdefault(source, len(self.known) % 2 == 0)


def executor(folder: Path, sizes: Sizes | None = None, **more: Any) -> ScriptedExecutor:
    """Return an executor on which large networks fit with half the planned batch of 4."""
    large = (sizes or Sizes()).is_large
    settings: dict[str, Any] = {"needs": lambda s: int(large(s)), "memory": 1}
    settings["gain"] = lambda s: 0.08 if large(s) else 0.0
    return ScriptedExecutor(folder, **settings | more)


def store_of(folder: Path) -> Store:
    return Store.open(folder / "campaign.db", read_only=True)


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_campaign(tmp_path_factory.mktemp("unused"))


@pytest.fixture
def new(unused: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unused, tmp_path / "campaign"))


@pytest.fixture(scope="module")
def done(unused: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(unused, tmp_path_factory.mktemp("ladder") / "campaign"))
    assert drive(session_of(folder, executor(folder)), quiet) == "done"
    with Store.open(folder / "campaign.db") as store:
        store.set_state("done")
    write_report(folder)
    return folder


def searched(store: Store) -> list[Trial]:
    return [t for t in store.trials() if t.kind in (Kind.DRAFT, Kind.IMPROVE, Kind.REPAIR)]


def test_the_same_network_is_trained_again_with_half_the_batch(done: Path) -> None:
    with store_of(done) as store:
        full = [t for t in searched(store) if t.status is Status.OUT_OF_MEMORY]
        followed = [(t, a) for t in full for a in searched(store) if a.parent == t.id]
        assert len(followed) >= len(full) - 1 >= 1  # the last one may find no time left
        for trial, again in followed:
            assert trial.batch_size is None
            assert (again.batch_size, again.status) == (2, Status.OK)
            assert again.checkpointing is True
            kept = ("commit", "kind", "rung", "seed", "branch", "proposal", "network_hash")
            assert all(getattr(again, name) == getattr(trial, name) for name in kept)


def test_every_rung_of_the_ladder_is_an_event_with_its_figures(done: Path) -> None:
    with store_of(done) as store:
        trial = next(t for t in searched(store) if t.status is Status.OUT_OF_MEMORY)
        rungs = [e.figures for e in store.events(kind=LADDER) if e.trial == trial.id]
        assert [r.get("checkpointing") for r in rungs] == [False, True, None]
        assert [r["batch_size"] for r in rungs] == [4, 4, 4]
        assert rungs[-1]["next_batch"] == 2
        [chosen] = [e for e in store.events(kind="smaller_batch") if e.trial == trial.id]
        assert chosen.figures["batch_size"] == 2
        assert {"seconds_left", "trials_left", "expected_s"} <= chosen.figures.keys()


def test_it_is_compared_with_baselines_of_its_batch_alone(done: Path) -> None:
    with store_of(done) as store:
        again = next(t for t in searched(store) if t.batch_size == 2)
        base = [
            t
            for t in store.trials(kind=Kind.BASELINE, rung=again.rung, status=Status.OK)
            if t.batch_size == 2
        ]
        assert len({t.seed for t in base}) == 3
        own = case_mean(store.case_scores(again.id), Metric.DICE)
        others = [case_mean(store.case_scores(t.id), Metric.DICE) for t in base]
        by_hand = fmean(own[case] - fmean(other[case] for other in others) for case in own)
        evidence = Standings(store).evidence(again)
        assert evidence is not None
        assert evidence.delta == pytest.approx(by_hand)
        planned = next(t for t in searched(store) if t.status is Status.OK and not t.batch_size)
        assert Standings(store).evidence(planned) is not None


def test_each_has_its_lesson_once(done: Path) -> None:
    with store_of(done) as store:
        assert len(store.lessons("trial")) == len(searched(store))


def test_both_arms_of_the_finalist_have_its_batch(done: Path) -> None:
    with store_of(done) as store:
        arms = store.trials(kind=Kind.CONFIRM, status=Status.OK)
        assert {t.batch_size for t in arms} == {2}
        assert sum(t.proposal is None for t in arms) == len(arms) / 2 == 3
        [claim] = store.claims()
        assert claim.figures["delta"] > 0.02


def test_the_report_holds_and_check_agrees(done: Path) -> None:
    assert check_campaign(done) == []
    with store_of(done) as store:
        facts = store.facts()
        assert unbound_numbers(done, facts) == []
        assert facts["confirm.baseline.batch_size"].value == 2
        assert facts["baseline.rung0.batch2.batch_size"].value == 2
        assert facts["baseline.rung0.batch_size"].value == 4
        full = [t for t in store.trials() if t.failure_class == "out_of_memory"]
        assert facts["failure.out_of_memory.trials"].value == len(full) > 0
    page = (done / "report" / "report.html").read_text()
    assert "found no room in memory" in page
    assert "Failures by class" in page


def test_show_tells_how_a_trial_was_run(done: Path) -> None:
    with store_of(done) as store:
        trial = next(t for t in searched(store) if t.batch_size == 2)
        shown = show(store, done, trial)
        text = "\n".join(show_lines(shown))
    assert "batch 2" in text
    assert "contained by level A: scripted 0, warm start, activation checkpointing" in text
    assert "tried as it is: out_of_memory: no room" in text


def test_a_changed_measurement_is_named(done: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "copy"))
    with store_of(folder) as store:
        trial = next(t for t in searched(store) if t.batch_size == 2)
    path = folder / "trials" / trial.id / "result.json"
    path.write_text(path.read_text().replace('"batch_size": 2', '"batch_size": 3'))
    [problem] = check_campaign(folder)
    assert "batch_size is 2" in problem


def test_where_no_batch_fits_the_trial_stays_out_of_memory(new: Path) -> None:
    session = session_of(new, executor(new, memory=0), budget=BudgetConfig(trials=10))
    assert drive(session, quiet) == "done"
    with store_of(new) as store:
        smallest = [t for t in searched(store) if t.batch_size == 2]
        assert smallest
        assert {t.status for t in smallest} == {Status.OUT_OF_MEMORY}
        ends = [e for e in store.events(kind=LADDER) if e.trial == smallest[0].id]
        assert "stays out of memory: 2 is the smallest" in ends[-1].text
        assert all(t.batch_size is None for t in store.trials(kind=Kind.BASELINE))


def test_no_admission_leads_to_a_smaller_batch_as_well(new: Path) -> None:
    sizes = Sizes()

    def refuse(plan: Any, network: Path | None, **_: Any) -> Any:
        if network and sizes.is_large(network.read_text()) and plan.batch_size == 4:
            return dry()._replace(failure="admission", text="needs 9 of 8 GiB")
        return dry()

    session = replace(session_of(new, executor(new, sizes, memory=9)), dry_run=refuse)
    assert drive(session, quiet) == "done"
    with store_of(new) as store:
        full = [t for t in searched(store) if t.status is Status.OUT_OF_MEMORY]
        assert {t.failure_class for t in full} == {"admission"}
        assert {t.status for t in searched(store) if t.batch_size == 2} == {Status.OK}


@pytest.mark.parametrize("at", [7, 9, 11, 13, 15])
def test_killed_on_the_ladder_it_goes_on_and_ends_the_same(new: Path, done: Path, at: int) -> None:
    def kill(count: int) -> None:
        if count == at:
            raise Killed

    sizes = Sizes()
    with pytest.raises(Killed):
        drive(session_of(new, executor(new, sizes, before=kill)), quiet)
    assert drive(session_of(new, executor(new, sizes)), quiet) == "done"
    with store_of(new) as store, store_of(done) as whole:
        smaller = {t.batch_size for t in store.trials(kind=Kind.BASELINE)}
        assert smaller == {None, 2}
        assert {t.batch_size for t in store.trials(kind=Kind.CONFIRM)} == {2}
        assert all(t.status.is_final for t in store.trials())
        assert len(store.lessons("trial")) == len(searched(store))
        assert len(store.claims()) == len(whole.claims())


def test_baselines_that_cannot_be_trained_with_it_end_the_run(new: Path) -> None:
    class Fails(ScriptedExecutor):
        def submit(self, folder: Path) -> None:
            job = (folder / "job.json").read_text()
            broken: Callable[[int], bool] = lambda _: '"has_network": false' in job  # noqa: E731
            self.fails = broken if '"batch_size": 2' in job else lambda _: False
            super().submit(folder)

    made = Fails(new, needs=lambda s: int(bool(s)), memory=1)
    with pytest.raises(SegwrightError, match="rung 0 with batches of 2"):
        drive(session_of(new, made), quiet)


def test_finalists_of_two_batch_sizes_have_a_baseline_each(done: Path) -> None:
    session = session_of(done, executor(done))
    with store_of(done) as store:
        rows = read_rows(store)
        small, planned = (
            next(t for t in searched(store) if t.status is Status.OK and t.batch_size == size)
            for size in (2, None)
        )
    arms = [t for t in planned_trials(session, [small, planned]) if t.seed == CONFIRM_SEED]
    found = [(t.proposal, t.batch_size) for t in arms]
    assert found == [(None, 2), (None, None), (small.proposal, 2), (planned.proposal, None)]
    pairs = compared(group(arms))
    assert [(arm.trials[0].proposal, base.trials[0].batch_size) for arm, base in pairs] == [
        (small.proposal, 2),
        (planned.proposal, None),
    ]
    ended = tuple(replace(t, status=Status.OK) for t in arms)
    both = replace(rows, trials=ended, claims=())
    keys = [arm.key for arm in both.arms]
    assert keys[:2] in (["baseline", "baseline-planned"], ["baseline", "baseline-2"])
    assert {a.key for a in both.finalists} == {small.proposal, planned.proposal}
    assert all(both.reference(a).batch_size == a.batch_size for a in both.finalists)
    assert both.reference(both.finalists[0]).key == "baseline"
    alone = replace(rows, trials=ended[1:], claims=())
    assert {a.key for a in alone.finalists} == {planned.proposal}


HUNGRY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(i, 8, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(8, k, 1)
        self.passes = 0

    def forward(self, x):
        self.passes += self.training
        if self.passes > 8 and x.shape[0] > 2:
            torch.zeros(10**13)
        return self.out(self.stage(x))

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""


class Hungry(GrammarPlanner):
    """Writes a network that has no room for batches of more than two, once it trains."""

    def write(self, proposal: Proposal, *, case: Case | None = None) -> str:
        """Return the same network, whatever the proposal."""
        return HUNGRY


@pytest.mark.slow
def test_a_real_network_goes_down_the_ladder(
    tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = prepared(
        tmp_path / "c",
        build_demo(tmp_path, subjects=16),
        engine={"batch_size": 4},
        rungs={"iterations": 24, "count": 1},
        baseline={"seeds": 2},
        explore={"drafts": 1},
        confirm={"seeds": 2},
        budget={"trials": 2},
    )
    monkeypatch.setattr(
        "agent.run.make_planner",
        lambda s, model=None: Hungry(len(s.plan.spec["features"]), {"dims": 2, "val_cases": 4}),
    )
    monkeypatch.setattr("agent.graph.named_modules", lambda *_: [])
    with session.store() as store:
        store.add_event(Event("started", "started", {"budget": {"trials": 2}}, at=session.now))
    assert drive(session, quiet) == "done"
    with session.store() as store:
        full = next(t for t in searched(store) if t.status is Status.OUT_OF_MEMORY)
        assert "allocate" in (full.failure_excerpt or "")
        rungs = [e.figures for e in store.events(kind=LADDER) if e.trial == full.id]
        assert [r.get("checkpointing") for r in rungs] == [False, True, None]
        [again] = [t for t in searched(store) if t.parent == full.id]
        assert (again.batch_size, again.status, again.checkpointing) == (2, Status.OK, False)
        base = [t for t in store.trials(kind=Kind.BASELINE) if t.batch_size == 2]
        assert [t.status for t in base] == [Status.OK] * 2
        assert Standings(store).evidence(again) is not None
        confirmed = store.trials(kind=Kind.CONFIRM)
        assert {t.batch_size for t in confirmed} == {2}
    assert check_campaign(session.folder) == []
