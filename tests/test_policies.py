"""What must hold of every policy: order, budgets, replay, no work done twice, crashes."""

import json
import math
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.branches import Branch, Network, Node, grown
from agent.policies import POLICIES, decide
from agent.search_tree import Decision, Tree
from bench.worlds import SCENARIOS
from memory.errors import ExploreError
from memory.records import Status, canonical
from tests.trees import (
    CONFIRM_S,
    SETTINGS,
    STARTS,
    Step,
    choose,
    node,
    nodes_of,
    scaled,
    seen,
    story,
    tree,
    trees,
)

NAMES = sorted(POLICIES)
ON_BELIEFS = ["nested_thompson", "qwbe"]
AGAIN = ("promote", "repeat", "repair", "smaller_batch")

every = pytest.mark.parametrize("policy", NAMES)


def decision(it: Tree, policy: str, seed: int) -> Decision:
    """Return a policy's decision."""
    return decide(it, Random(seed), policy=policy, settings=SETTINGS)


def network_of(it: Tree, name: str) -> Network:
    """Return the network of a trial."""
    branch = next(b for b in it.branches.values() if name in b.by_id)
    return branch.network_of(name)


@every
@hypothesis_settings(max_examples=40)
@given(it=trees(), seed=st.integers(0, 9), data=st.data())
def test_the_order_of_rows_does_not_matter_and_the_figures_are_json(
    policy: str, it: Tree, seed: int, data: st.DataObject
) -> None:
    moved = grown(data.draw(st.permutations(nodes_of(it))), it.branches)
    here, there = (decision(t, policy, seed) for t in (it, replace(it, branches=moved)))
    assert here == there
    assert json.loads(canonical(here.figures)) == here.figures
    assert here.text


@hypothesis_settings(max_examples=400, phases=[Phase.explicit, Phase.generate])
@given(policy=st.sampled_from(NAMES), it=trees(), seed=st.integers(0, 9), data=st.data())
def test_the_order_of_branches_does_not_matter(
    policy: str, it: Tree, seed: int, data: st.DataObject
) -> None:
    names = data.draw(st.permutations(list(it.branches)))
    moved = replace(it, branches={name: it.branches[name] for name in names})
    assert decision(moved, policy, seed) == decision(it, policy, seed)


@pytest.mark.parametrize("policy", ON_BELIEFS)
@hypothesis_settings(max_examples=60)
@given(it=trees(), seed=st.integers(0, 9), factor=st.sampled_from([0.5, 2.0, 4.0]))
def test_effects_in_other_units_give_the_same_decision(
    policy: str, it: Tree, seed: int, factor: float
) -> None:
    one, two = decision(it, policy, seed), decision(scaled(it, factor), policy, seed)
    assert (one.action, one.branch, one.node, one.partner) == (
        two.action,
        two.branch,
        two.node,
        two.partner,
    )


@every
@hypothesis_settings(max_examples=60)
@given(it=trees(), seed=st.integers(0, 9))
def test_a_decision_on_any_tree_is_one_that_can_be_carried_out(
    policy: str, it: Tree, seed: int
) -> None:
    check(Step(it, seed, decision(it, policy, seed)))


def check(step: Step) -> None:
    """Assert what must hold of every decision."""
    it, _, made = step
    if made.action in STARTS:
        assert made.rung is not None
        assert it.cost_s[made.rung] <= it.seconds_left - it.confirm_s
        assert it.trials_left >= 1
        assert len(it.pending) < it.slots
    if made.action == "wait":
        assert it.pending
    if made.node is not None:
        check_node(it, made)
    if made.partner is not None:
        partner = network_of(it, made.partner)
        assert made.action == "crossover"
        assert partner.readings
        assert partner is not network_of(it, made.node or "")


def check_node(it: Tree, made: Decision) -> None:
    """Assert what must hold of a decision about a trial."""
    assert made.node is not None
    assert made.branch is not None
    acted = it.branches[made.branch].by_id[made.node]
    network = network_of(it, made.node)
    if made.action in ("improve", "crossover", "promote", "repeat", "confirm"):
        assert acted.is_ok  # what crashed leads nowhere
    if made.action in ("improve", "crossover"):
        assert acted.depth < it.max_depth
    if made.action in ("repair", "smaller_batch"):
        assert acted.is_failed
        assert not acted.is_cut
        assert not it.branches[made.branch].children[acted.id]
    if made.action == "repair":
        assert it.branches[made.branch].repairs_done(acted) < it.repairs
    if made.action == "promote":
        assert made.rung == acted.rung + 1
        assert not any(one.is_pending for one in network.trials if one.rung > acted.rung)
        assert made.figures.get("returns", network.is_cut) == network.is_cut
    if made.action == "cut":
        assert not network.is_cut or acted.is_failed


def test_a_policy_without_name_is_refused() -> None:
    with pytest.raises(
        ExploreError, match="unknown policy 'best'; allowed: ab_mcts, asha, best_first"
    ):
        decide(tree(), Random(1), policy="best", settings=SETTINGS)


# Whole campaigns.


@every
@pytest.mark.parametrize("slots", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(2))
def test_a_whole_campaign_keeps_its_rules(policy: str, slots: int, seed: int) -> None:
    told = story(policy, seed=seed, slots=slots)
    for step in told.steps:
        check(step)
    assert told.made()[-1].action == "confirm"
    assert not told.play.running  # the search ends after its last trial
    assert told.play.now <= told.play.budget - CONFIRM_S
    assert any(made.action == "open" for made in told.made())


@every
@hypothesis_settings(max_examples=10)
@given(
    seed=st.integers(0, 999),
    slots=st.integers(1, 4),
    budget=st.floats(0.5, 9.0),
    trials=st.integers(0, 30),
)
def test_no_budget_is_ever_exceeded(
    policy: str, seed: int, slots: int, budget: float, trials: int
) -> None:
    told = story(policy, seed=seed, slots=slots, budget=budget, trials=trials)
    assert told.play.now <= max(0.0, budget - CONFIRM_S)
    assert sum(made.action in STARTS for made in told.made()) <= trials
    for step in told.steps:
        check(step)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_every_scenario_is_played_by_the_rules(scenario: str) -> None:
    for policy in ON_BELIEFS:
        told = story(policy, seed=1, slots=2, scenario=scenario)
        for step in told.steps:
            check(step)
        assert told.play.now <= told.play.budget - CONFIRM_S


@every
@pytest.mark.parametrize("slots", [1, 3])
def test_a_campaign_can_be_decided_again_from_its_rows(policy: str, slots: int) -> None:
    told = story(policy, seed=5, slots=slots)
    for it, number, made in told.steps:
        nodes = nodes_of(it)
        Random(number).shuffle(nodes)
        fresh = replace(it, branches=grown(nodes, it.branches))
        assert decision(fresh, policy, number) == made


@every
@pytest.mark.parametrize("slots", [2, 4])
def test_what_runs_is_not_asked_for_again(policy: str, slots: int) -> None:
    for seed in range(2):
        for it, _, made in story(policy, seed=seed, slots=slots, budget=16.0).steps:
            running = [n for n in it.pending if n.parent == made.node and n.rung == made.rung]
            if made.action in ("promote", "repair", "smaller_batch"):
                assert not running
            if made.action == "repeat":
                assert made.node is not None
                assert network_of(it, made.node).seeds_at(made.rung or 0) < 3 or not running


def test_one_litter_of_a_network_runs_at_a_time() -> None:
    counts: Counter[int] = Counter()
    for seed in range(5):
        for it, _, made in story("qwbe", seed=seed, slots=4, budget=16.0).steps:
            if made.action in ("improve", "crossover") and made.node:
                kids = it.branches[made.branch or ""].children_of(network_of(it, made.node))
                counts[sum(kid.is_pending for kid in kids)] += 1
    assert max(counts) < SETTINGS.siblings


def test_a_repeat_ends_before_the_next_of_the_same_network_in_qwbe() -> None:
    for seed in range(5):
        for it, _, made in story("qwbe", seed=seed, slots=2, budget=16.0).steps:
            if made.action == "repeat":
                assert not network_of(it, made.node or "").is_pending


# Crashes.


@every
@hypothesis_settings(max_examples=60)
@given(it=trees(may_run=False), seed=st.integers(0, 9))
def test_a_network_that_crashed_is_never_reported_or_built_on(
    policy: str, it: Tree, seed: int
) -> None:
    for seconds in (0.0, math.inf):
        free = replace(it, slots=4, confirm_s=0.0, seconds_left=seconds, trials_left=1000)
        made = decision(free, policy, seed)
        if made.node and made.action in ("confirm", "improve", "promote", "repeat", "crossover"):
            assert network_of(it, made.node).readings
        if made.action == "confirm" and made.node is None:
            assert not any(n.is_ok and not n.is_cut for n in nodes_of(it))


@pytest.mark.parametrize("policy", [name for name in NAMES if name != "asha"])
def test_of_two_networks_the_one_that_works_is_built_on(policy: str) -> None:
    works = replace(node("a0", rung=1, commit="x"), evidence=seen(-0.05))
    crash = node("b0", status=Status.FAILED, rung=1, commit="y", is_cut=True)
    made = choose(tree(works, crash, seconds_left=0.0), policy)
    assert (made.action, made.node) == ("confirm", "a0")


@every
def test_repairs_are_three_at_most(policy: str) -> None:
    failed = [node("a0", status=Status.FAILED, commit="0")]
    for number in range(1, 5):
        more: dict[str, Any] = {"parent": failed[-1].id, "commit": f"{number}"}
        failed.append(node(f"a{number}", status=Status.REJECTED, **more))
    others = [node(f"b{i}", -0.01, commit=f"b{i}", rung=1, branch=f"b{i}") for i in range(8)]
    for count in range(1, 5):
        it = tree(*failed[:count], *others, drafts=20)
        acted = {
            (made.node, made.figures["repairs_done"])
            for made in (decision(it, policy, seed) for seed in range(30))
            if made.action == "repair"
        }
        assert acted == ({(failed[count - 1].id, count - 1)} if count <= 3 else set())


@every
def test_cancelled_trials_count_for_nothing(policy: str) -> None:
    kept = [node("a0", 0.02, rung=1, commit="x"), node("b0", 0.01, rung=1, commit="y")]
    stopped = node("a1", parent="a0", rung=1, commit="z", status=Status.CANCELLED, depth=1)
    for seed in range(10):
        assert decision(tree(*kept, stopped), policy, seed) == decision(tree(*kept), policy, seed)


@every
def test_a_smaller_batch_is_tried_before_a_repair_and_must_fit(policy: str) -> None:
    full = node("a0", status=Status.OUT_OF_MEMORY, commit="x", rung=1)
    it = tree(full, batch_size=8, trials_left=9, drafts=1)
    made = choose(it, policy)
    assert (made.action, made.node, made.figures["batch_size"]) == ("smaller_batch", "a0", 4)
    # 40 s to train it, and three baselines of 40 s each to compare it with.
    assert choose(replace(it, seconds_left=159.0), policy).action != "smaller_batch"
    assert choose(replace(it, seconds_left=160.0), policy).action == "smaller_batch"
    assert choose(replace(it, trials_left=0), policy).action == "confirm"


def test_an_empty_branch_is_one_that_waits_for_its_draft() -> None:
    it = replace(tree(drafts=1), branches={"a": Branch("a", [])})
    for policy in NAMES:
        assert decision(it, policy, 1).action in ("open", "confirm", "improve")


def pending(name: str) -> Node:
    """Return a trial that runs."""
    return node(name, status=Status.RUNNING, rung=1, commit=name)


@every
def test_no_slot_means_waiting(policy: str) -> None:
    it = tree(pending("a0"), pending("b0"), slots=2)
    assert choose(it, policy).action == "wait"
    assert choose(replace(it, slots=3, seconds_left=1.0), policy).action == "wait"
