"""Ablations: planned before the locked test is opened, trained for what was confirmed alone."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import ablate as carrying_out
from agent import confirm as confirmation
from agent.ablation import ablations, drafted, named, without
from agent.budget import spent
from agent.campaign import Campaign
from agent.check import check_campaign
from agent.claims import compare
from agent.config import AblationConfig, BudgetConfig
from agent.growth import Growth
from agent.locked import open_labels
from agent.network_source import network_source
from agent.planners import make_planner
from agent.run import drive
from agent.standings import SEARCH, Standings
from agent.told import Names
from agent.trials import named_modules
from agent.why import explain
from agent.why_view import names_of
from memory.networks import Networks
from memory.records import Event, Fact, Kind, Metric, Module, Proposal, SplitName, Status, Trial
from memory.store import Store
from sandbox.components import COMPONENTS
from sandbox.means import case_mean
from sandbox.static_check import static_check
from tests import ablations as campaigns
from tests.ablations import Killed, ablated, quiet, run, store_of, trained
from tests.scripted import ScriptedExecutor, session_of

LOCKED, VAL = SplitName.LOCKED_TEST, SplitName.SEARCH_VAL


@pytest.fixture(scope="module", autouse=True)
def few_are_enough() -> Iterator[None]:
    """Let a claim rest on seven locked cases, as many as a quick campaign has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.claims.MIN_CASES", 7)
        yield


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return campaigns.unused_campaign(tmp_path_factory.mktemp("unused"), cases=24)


@pytest.fixture(scope="module")
def ready(unused: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign in which everything is trained for the locked test, and it is still shut."""
    return trained(unused, tmp_path_factory.mktemp("ready") / "campaign")


@pytest.fixture(scope="module")
def done(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(ready, tmp_path_factory.mktemp("done") / "campaign"))
    run(folder)
    return folder


@pytest.fixture
def shut(ready: Path, tmp_path: Path) -> Path:
    """Return a copy of one's own of the campaign that is ready."""
    return Path(shutil.copytree(ready, tmp_path / "campaign"))


def finalist_of(store: Store) -> Trial:
    known = store.effect("confirm/finalists")
    assert known is not None
    return store.trial(known["trials"][0])


def proposal_of(store: Store) -> Proposal:
    return store.proposal(str(finalist_of(store).proposal))


def test_the_finalist_has_several_modules_and_is_confirmed(done: Path) -> None:
    with store_of(done) as store:
        assert len(proposal_of(store).modules) >= 2
        [claim] = store.claims()
        assert claim.verdict in ("better", "better_by_margin")


def test_there_is_one_network_without_each_module(done: Path) -> None:
    networks = Networks.open(done / "networks")
    with store_of(done) as store:
        proposal, finalist = proposal_of(store), finalist_of(store)
        commits = {t.commit for t in ablated(store)} - {finalist.commit}
        assert len(commits) == len(proposal.modules)
        expected = {network_source(without(proposal, module)) for module in proposal.modules}
        assert {networks.source(str(commit)) for commit in commits} == expected
        titles = {t.title for t in ablated(store) if t.commit in commits}
        assert titles == {f"without {named(module)}" for module in proposal.modules}
        assert named(Module("dense_skip", "skip", (1,))) == "nested skips (skip 1)"


def test_each_is_trained_with_every_seed_on_both_parts(done: Path) -> None:
    with store_of(done) as store:
        finalist, count = finalist_of(store), len(proposal_of(store).modules)
        trials = ablated(store)
        assert {t.status for t in trials} == {Status.OK}
        per_part = Counter((t.split, t.commit == finalist.commit) for t in trials)
        assert per_part == {(LOCKED, False): 3 * count, (VAL, False): 3 * count, (VAL, True): 3}
        assert {(t.rung, t.batch_size) for t in trials} == {(1, finalist.batch_size)}
        others = {t.seed for t in store.trials() if t.kind is not Kind.ABLATE}
        assert not {t.seed for t in trials} & others


def test_the_opening_named_them_before_any_was_trained(done: Path) -> None:
    with store_of(done) as store:
        [access] = store.test_accesses()
        locked = {t.id for t in store.trials() if t.split is LOCKED}
        assert set(access.trials) == locked
        events = store.events()
        scored = [e for e in events if e.kind == "trial_result" and e.trial in locked]
        first = next(e.id for e in events if e.kind == "ablating")
        confirmed = {t.id for t in store.trials(kind=Kind.CONFIRM)}
        assert max(e.id for e in scored if e.trial in confirmed) < first
        assert store.claims()
        assert all(started(store, t).id >= first for t in ablated(store))


def started(store: Store, trial: Trial) -> Event:
    begun = store.effect(f"begun/{trial.id}")
    assert begun is not None
    return store.event(begun["event"])


def test_trainings_on_the_locked_test_come_first(done: Path) -> None:
    with store_of(done) as store:
        order = [started(store, t).id for t in ablated(store, LOCKED)]
        later = [started(store, t).id for t in ablated(store, VAL)]
        assert max(order) < min(later)


def test_what_each_module_is_worth_is_told_with_an_interval(done: Path) -> None:
    with store_of(done) as store:
        rows = ablations(store.events())
        modules = proposal_of(store).modules
        assert len(rows) == 2 * len(modules)
        assert {(r["component"], r["position"]) for r in rows} == {
            (m.component, m.position) for m in modules
        }
        for row in rows:
            assert row["low"] < row["delta"] < row["high"]
            assert (row["n_seeds"], row["undefined"]) == (3, 0)
            assert row["n_cases"] == len(store.split(SplitName(row["split"])))
            assert "secondary, no verdict" in store.event(row["event"]).text


def test_a_difference_is_the_whole_network_minus_the_ablated_one(done: Path) -> None:
    with store_of(done) as store:
        [row, *_] = [r for r in ablations(store.events()) if r["split"] == LOCKED]
        cases = [c.case for c in store.split(LOCKED)]
        whole, own = (
            np.array(
                [[case_mean(store.case_scores(t), Metric.DICE)[c] for c in cases] for t in side]
            )
            for side in (row["whole_trials"], row["trials"])
        )
        expected = compare(whole, own, alpha=0.05)
        assert (row["delta"], row["low"], row["high"]) == pytest.approx(
            (expected.delta, expected.low, expected.high)
        )
        kinds = {store.trial(t).kind for t in row["whole_trials"]}
        assert kinds == {Kind.CONFIRM}
        assert row["delta"] > 0


def test_no_claim_rests_on_an_ablation(done: Path, ready: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ready, tmp_path / "none"))
    session = session_of(folder, ScriptedExecutor(folder, gain=campaigns.better))
    bare = replace(session, config=replace(session.config, ablation=AblationConfig(seeds=0)))
    assert drive(bare, quiet) == "done"
    with store_of(folder) as store, store_of(done) as whole:
        assert not ablated(store)
        assert store.claims() == whole.claims()
        assert ablations(store.events()) == []


def test_the_search_knows_nothing_of_them(done: Path) -> None:
    with store_of(done) as store:
        names = {t.id for t in ablated(store)}
        standings, growth = Standings(store), Growth(store)
        standings.refresh()
        growth.refresh()
        assert all(standings.evidence(store.trial(name)) is None for name in names)
        nodes = {node.id for branch in growth.branches.values() for node in branch.nodes}
        assert not names & nodes
        searched = [t for t in store.trials() if t.kind in SEARCH]
        assert growth.searched == len(searched)
        assert spent(store.events(), store.trials(), [], now=0.0).trials == len(searched)
        assert not any(set(lesson.evidence) & names for lesson in store.lessons())


def test_their_seconds_on_a_gpu_count(done: Path) -> None:
    with store_of(done) as store:
        on_gpu = [replace(t, gpu_seconds=2.0) for t in store.trials()]
        used = spent(store.events(), on_gpu, [], now=0.0)
        assert used.gpu_seconds == 2.0 * len(on_gpu)


def test_an_ablated_network_need_not_use_what_was_taken_out(done: Path) -> None:
    session = session_of(done, ScriptedExecutor(done))
    networks = session.networks()
    with session.store() as store:
        whole = set(named_modules(session, finalist_of(store)))
        for trial in ablated(store, LOCKED):
            wanted = named_modules(session, trial)
            assert static_check(networks.source(str(trial.commit)), named=wanted) == []
            assert set(wanted) <= whole
            assert len(wanted) <= len(whole)


def test_check_agrees_and_a_second_run_trains_nothing(done: Path) -> None:
    derive: Callable[[Store], list[Fact]] = lambda store: list(store.facts().values())  # noqa: E731
    assert check_campaign(done, derive=derive, unbound=lambda folder, facts: []) == []
    with store_of(done) as store:
        before = [store.trials(), store.claims(), store.test_accesses(), ablations(store.events())]
    assert run(done).submitted == []
    with store_of(done) as store:
        after = [store.trials(), store.claims(), store.test_accesses(), ablations(store.events())]
    assert after == before


@pytest.mark.parametrize("gain", [campaigns.worse, lambda source: 0.0], ids=["worse", "level"])
def test_what_is_not_confirmed_is_not_taken_apart(
    unused: Path, tmp_path: Path, gain: Callable[[str], float]
) -> None:
    folder = trained(unused, tmp_path / "campaign", gain)
    executor = run(folder, gain)
    assert executor.submitted == []
    with store_of(folder) as store:
        [claim] = store.claims()
        assert claim.verdict not in ("better", "better_by_margin")
        assert {t.status for t in ablated(store)} == {Status.CANCELLED}
        assert all(not store.case_scores(t.id) for t in ablated(store))
        [left] = store.events(kind="ablation_left_out")
        assert left.figures["reason"] == "unconfirmed"
        assert left.figures["verdict"] == claim.verdict
        assert set(left.figures["trials"]) == {t.id for t in ablated(store)}
        [access] = store.test_accesses()
        assert {t.id for t in ablated(store, LOCKED)} < set(access.trials)
        assert ablations(store.events()) == []
    assert run(folder, gain).submitted == []


def test_a_network_that_is_higher_without_a_module_is_never_promoted(
    shut: Path, done: Path
) -> None:
    run(shut, campaigns.luckier)
    with store_of(shut) as store, store_of(done) as whole:
        rows = ablations(store.events())
        assert rows
        assert all(row["is_higher_without"] and row["delta"] < 0 for row in rows)
        texts = [store.event(row["event"]).text for row in rows]
        assert all("is reported so, and is not promoted" in text for text in texts)
        assert store.claims() == whole.claims()
        assert store.effect("confirm/finalists") == whole.effect("confirm/finalists")


class Slow(ScriptedExecutor):
    """Says of every training for the locked test that it took so many seconds."""

    took_s = 1000.0

    def submit(self, folder: Path) -> None:
        super().submit(folder)
        job, path = json.loads((folder / "job.json").read_text()), folder / "result.json"
        if job["part"] == LOCKED:
            path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": self.took_s}))


def slowed(folder: Path, took_s: float) -> Slow:
    """Return an executor of slow trainings; those that were trained before were slow as well."""
    made = Slow(folder, gain=campaigns.better)
    made.took_s = took_s
    with store_of(folder) as store:
        names = [t.id for t in store.trials(kind=Kind.CONFIRM)]
    for name in names:
        path = folder / "trials" / name / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": took_s}))
    return made


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_the_budget_does_not_hold_is_left_out(shut: Path, device: str) -> None:
    executor = slowed(shut, 1e6)
    hours = {"hours": 100.0} if device == "cpu" else {"gpu_hours": 100.0}
    session = session_of(shut, executor, budget=BudgetConfig(trials=8, **hours))
    assert drive(replace(session, device=device), quiet) == "done"
    assert executor.submitted == []
    with store_of(shut) as store:
        assert {t.status for t in ablated(store)} == {Status.CANCELLED}
        events = store.events(kind="ablation_left_out")
        assert [e.figures["split"] for e in events] == [LOCKED, VAL]
        for event in events:
            assert event.figures["reason"] == "budget"
            assert event.figures["expected_s"] == 1e6
            left = {"cpu": "seconds_left", "cuda": "gpu_seconds_left"}[device]
            assert event.figures[left] < 1e8
    assert run(shut).submitted == []


def test_the_locked_test_comes_before_search_val_where_time_is_short(shut: Path) -> None:
    with store_of(shut) as store:
        count = len(proposal_of(store).modules)
    rounds = -(-(2 * count + 1) // 2)  # two slots; one training may still run
    executor = slowed(shut, 1e5)
    budget = BudgetConfig(trials=8, hours=(rounds * 1e5 + 5e4) / 3600)
    run(shut, executor=executor, budget=budget)
    with store_of(shut) as store:
        assert {t.status for t in ablated(store, LOCKED)} == {Status.OK}
        assert {t.status for t in ablated(store, VAL)} == {Status.CANCELLED}
        assert {row["split"] for row in ablations(store.events())} == {LOCKED}
        [left] = store.events(kind="ablation_left_out")
        assert left.figures["split"] == VAL
        assert left.figures["seconds_left"] < budget.hours * 3600


def test_failed_trainings_leave_no_comparison_and_no_lesson(shut: Path) -> None:
    run(shut, executor=ScriptedExecutor(shut, fails=lambda n: True))
    with store_of(shut) as store:
        assert {t.status for t in ablated(store)} == {Status.FAILED}
        rows = ablations(store.events())
        assert rows
        assert {(row["delta"], row["n_seeds"]) for row in rows} == {(None, 0)}
        names = {t.id for t in ablated(store)}
        assert not any(set(lesson.evidence) & names for lesson in store.lessons())


STEPS = (
    (confirmation, "open_labels", "before"),
    (confirmation, "open_labels", "after"),
    (confirmation, "score_locked", "after"),
    (confirmation, "claims_of", "after"),
    (confirmation, "add_claims", "after"),
    (carrying_out, "verdicts_of", "after"),
    (carrying_out, "train_part", "after"),
    (carrying_out, "score_locked", "before"),
    (carrying_out, "score_locked", "after"),
    (carrying_out, "tell", "after"),
)


def kill_at(patch: pytest.MonkeyPatch, module: Any, name: str, when: str) -> None:
    """Die before or after the first call of a step."""
    real = getattr(module, name)

    def step(*args: Any, **named: Any) -> None:
        if when == "after":
            real(*args, **named)
        raise Killed

    patch.setattr(module, name, step)


def same_end(folder: Path, done: Path) -> None:
    """Check that a campaign ended as the one that was never killed did."""
    with store_of(folder) as store, store_of(done) as whole:
        assert {t.id for t in ablated(store)} == {t.id for t in ablated(whole)}
        assert all(t.status is Status.OK for t in ablated(store))
        assert len(store.test_accesses()) == 1
        assert store.test_accesses()[0].trials == whole.test_accesses()[0].trials
        assert store.claims() == whole.claims()
        told = [{k: v for k, v in r.items() if k != "event"} for r in ablations(store.events())]
        expected = [{k: v for k, v in r.items() if k != "event"} for r in ablations(whole.events())]
        assert told == expected
        begun = [e.figures["trial"] for e in store.events(kind="ablating")]
        assert len(begun) == len(set(begun))
        assert store.events(kind="refused") == []


@pytest.mark.parametrize(("module", "name", "when"), STEPS)
def test_killed_at_any_step_it_goes_on_and_ends_the_same(
    shut: Path, done: Path, module: Any, name: str, when: str
) -> None:
    first = ScriptedExecutor(shut, gain=campaigns.better)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, module, name, when)
        with pytest.raises(Killed):
            run(shut, executor=first)
    second = run(shut)
    assert not set(first.submitted) & set(second.submitted)
    same_end(shut, done)


@pytest.mark.parametrize("at", [2, 9])
def test_killed_while_ablations_train_none_is_trained_twice(
    shut: Path, done: Path, at: int
) -> None:
    def kill(count: int) -> None:
        if count == at:
            raise Killed

    with pytest.raises(Killed):
        run(shut, executor=ScriptedExecutor(shut, gain=campaigns.better, before=kill))
    finished = {path.parent.name for path in shut.glob("trials/*/result.json")}
    second = run(shut)
    assert not finished & set(second.submitted)
    same_end(shut, done)


def test_an_opening_of_an_older_version_gets_no_ablations_later(shut: Path) -> None:
    session = session_of(shut, ScriptedExecutor(shut))
    with session.store() as store:
        open_labels(session, store, store.trials(kind=Kind.CONFIRM))
    assert run(shut).submitted == []
    with store_of(shut) as store:
        assert store.claims()
        assert ablated(store) == []


def test_other_settings_after_the_plan_change_no_plan(shut: Path, done: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, confirmation, "open_labels", "after")
        with pytest.raises(Killed):
            run(shut)
    session = session_of(shut, ScriptedExecutor(shut, gain=campaigns.better))
    more = replace(session, config=replace(session.config, ablation=AblationConfig(seeds=5)))
    assert drive(more, quiet) == "done"
    same_end(shut, done)


@pytest.fixture
def campaign(done: Path) -> Any:
    session = session_of(done, ScriptedExecutor(done))
    made = Campaign(session, make_planner(session), quiet)
    yield made
    made.close()


def lost(campaign: Campaign, *modules: Module) -> list[tuple[str, str]]:
    """Return what cannot be taken out of a network of these modules, and why."""
    finalist = finalist_of(campaign.store)
    whole = proposal_of(campaign.store)
    made = replace(whole, id="odd", modules=modules, title="odd")
    campaign.store.add_proposal(made)
    drafts, gone = drafted(campaign, replace(finalist, proposal="odd"))
    assert drafts == []
    return [(one.module.component, one.why) for one in gone]


def test_a_module_without_which_the_others_are_impossible_stays(campaign: Campaign) -> None:
    commit = finalist_of(campaign.store).commit or ""
    source = campaign.session.networks().source(commit)
    places = {"blur_pool": "downsample", "mednext": "decoder", "large_kernel": "encoder"}
    name = next(one for one in places if COMPONENTS[one].class_name not in source)
    here, nowhere = Module("dense_skip", "skip", (1,)), Module(name, places[name], (9,))
    (first, why), *others = lost(campaign, here, nowhere)
    assert first == "dense_skip"
    assert [one for one, _ in others] == [name]
    assert "class was not found" in others[0][1]
    assert f"{name} has stages (9,); allowed" in why


def test_whatever_follows_is_told_in_three_lines(done: Path) -> None:
    with store_of(done) as store:
        for kind in ("ablating", "ablation"):
            event = store.events(kind=kind)[0]
            lines = explain(event, names_of(store, event))
            assert all(0 < len(line) < 160 for line in lines)
            assert not any(line.startswith(("Stored", "This version")) for line in lines)
    odd = Event("ablation_left_out", "leaves out", {"reason": "budget", "trials": []})
    assert "leaves out" in explain(odd, Names())[1]
