"""What all policies share: cuts with their figures, come-backs, repairs, batches, budgets."""

import math
from dataclasses import replace
from typing import Any

import pytest

from agent.board import Board
from agent.branches import Node, grown
from agent.ladder import budget
from agent.search_tree import Decision, Tree
from memory.records import Kind, Status, canonical
from tests.trees import choose, node, nodes_of, story, tree

FAILED, OUT = Status.FAILED, Status.OUT_OF_MEMORY


def both(name: str, delta: float, **more: Any) -> list[Node]:
    """Return a network with the same reading at both rungs."""
    low = node(f"{name}0", delta, commit=name, **more)
    return [low, node(f"{name}1", delta, parent=low.id, rung=1, commit=name, **more)]


def marked(it: Tree, made: Decision) -> Tree:
    """Return the tree after a cut."""
    nodes = [replace(n, is_cut=True) if n.id == made.node else n for n in nodes_of(it)]
    return replace(it, branches=grown(nodes, it.branches))


# Cuts.


def test_what_can_hardly_pass_the_incumbent_is_cut_with_its_figures() -> None:
    it = tree(*both("a", 0.06), *both("b", -0.06), seconds_left=60.0)
    made = choose(it)
    assert (made.action, made.node, made.figures["reason"]) == ("cut", "b1", "chance")
    assert made.figures["closes_branch"]
    assert made.figures["against"] == "a1"
    board = Board(it)
    chance = board.chance(board.view(it.branches["b"]).open[0])
    assert made.figures["p_ever"] == chance.ever < it.cut_below
    assert made.figures["bar"] == board.bar
    assert f"{chance.ever:.0%} likely ever to pass a1" in made.text
    assert [row["rung"] for row in made.figures["readings"]] == [0, 1]
    canonical(made.figures)
    assert choose(replace(it, cut_below=0.0)).action != "cut"


def test_one_network_after_the_other_is_cut_and_never_the_incumbent() -> None:
    it = tree(*both("a", -0.06), *both("b", -0.062), *both("c", -0.09), cut_below=0.99)
    found = []
    while (made := choose(it)).action == "cut":
        assert made.figures["against"] == "baseline"
        found.append(made.node)
        it = marked(it, made)
    assert found == ["b1", "c1"]
    assert made.branch in ("a", None)


def test_a_cut_leaves_the_rest_of_its_branch() -> None:
    kid = node("a2", -0.08, parent="a1", rung=1, commit="new", depth=1)
    it = tree(*both("a", 0.05), kid, *both("b", 0.05), cut_below=0.5, seconds_left=1.0)
    made = choose(it)
    assert (made.action, made.node, made.figures["closes_branch"]) == ("cut", "a2", False)
    assert "branch is closed" not in made.text


def test_what_runs_is_not_cut() -> None:
    climbs = node("b1", parent="b0", rung=1, commit="b", status=Status.RUNNING)
    it = tree(*both("a", 0.06), node("b0", -0.06, commit="b"), climbs, slots=2, cut_below=0.9)
    assert choose(it).action != "cut"


def test_the_incumbent_is_never_cut_in_a_whole_campaign() -> None:
    for policy in ("qwbe", "nested_thompson"):
        cuts = 0
        for it, _, made in story(policy, seed=2, slots=2, budget=16.0).steps:
            if made.action == "cut":
                cuts += 1
                lead = Board(it).incumbent
                assert lead is None or made.node not in [n.id for n in lead.network.trials]
        assert cuts > 0


def test_a_failed_repeat_does_not_cut_the_incumbent() -> None:
    crash = node("a2", parent="a1", rung=1, commit="a", status=FAILED)
    it = tree(*both("a", 0.06), crash, *both("b", 0.05), repairs=0, seconds_left=60.0)
    while (made := choose(it)).action == "cut":
        it = marked(it, made)
    lead = Board(it).finalists(1)
    assert [one.network.id for one in lead] == ["a0"]


# Coming back.


def fallen(**more: Any) -> Tree:
    """Return a tree whose cut network b is as good as any since its rival fell."""
    return tree(*both("a", 0.01), *both("b", 0.012, is_cut=True), drafts=2, **more)


@pytest.mark.parametrize("policy", ["qwbe", "nested_thompson"])
def test_a_cut_network_comes_back_when_its_chance_does(policy: str) -> None:
    found = [choose(fallen(), policy, seed=seed) for seed in range(40)]
    back = [made for made in found if made.node == "b1"]
    assert back
    for made in back:
        assert made.figures["returns"]
        assert "it comes back after a cut" in made.text


def test_a_cut_network_stays_away_while_its_chance_is_low() -> None:
    it = tree(*both("a", 0.06), *both("b", -0.06, is_cut=True), drafts=2, seconds_left=400.0)
    found = {choose(it, seed=seed).branch for seed in range(40)}
    assert "b" not in found
    board = Board(it)
    assert not board.may_return(board.view(it.branches["b"]).shelved[0])


def test_a_network_comes_back_at_twice_the_chance_that_it_is_cut_at() -> None:
    it = fallen()
    board = Board(it)
    ever = board.chance(board.view(it.branches["b"]).shelved[0]).ever
    for level, returns in ((0.49 * ever, True), (0.51 * ever, False)):
        there = Board(replace(it, cut_below=level))
        assert there.may_return(there.view(it.branches["b"]).shelved[0]) == returns


def test_what_failed_or_was_stopped_in_training_does_not_come_back() -> None:
    for status in (FAILED, Status.CANCELLED):
        ended = node("b1", parent="b0", rung=1, commit="b", status=status, is_cut=True)
        it = tree(*both("a", 0.01), node("b0", 0.05, commit="b"), ended, drafts=2)
        assert "b" not in {choose(it, seed=seed).branch for seed in range(40)}


# Repairs and batches.


def test_a_network_is_repaired_three_times_at_most_and_then_cut() -> None:
    failed = [node("a0", status=FAILED, commit="0")]
    for number in range(1, 4):
        made = choose(tree(*failed))
        assert (made.action, made.node) == ("repair", failed[-1].id)
        assert made.figures["repairs_done"] == number - 1
        assert f"repair {number} of 3" in made.text
        more: dict[str, Any] = {"parent": failed[-1].id, "commit": f"{number}", "kind": Kind.REPAIR}
        failed.append(node(f"a{number}", status=Status.REJECTED, **more))
    made = choose(tree(*failed))
    assert (made.action, made.node, made.figures["reason"]) == ("cut", "a3", "repairs_spent")
    assert made.figures["closes_branch"]
    assert choose(marked(tree(*failed), made)).action == "open"


def full(name: str, **more: Any) -> Node:
    """Return a trial that found no room in memory."""
    return node(name, status=OUT, **({"commit": "x"} | more))


def test_half_the_batch_and_then_a_quarter_are_tried_before_a_repair() -> None:
    others = (node("b0", 0.01), node("c0", 0.01))
    first = choose(tree(full("a0"), *others, batch_size=8))
    assert (first.action, first.node, first.rung) == ("smaller_batch", "a0", 0)
    assert first.figures["batch_size"] == 4
    assert first.figures["batch_before"] == first.figures["batch_planned"] == 8
    half = full("a1", parent="a0", batch_size=4)
    second = choose(tree(full("a0"), half, *others, batch_size=8))
    assert (second.action, second.node, second.figures["batch_size"]) == ("smaller_batch", "a1", 2)
    quarter = full("a2", parent="a1", batch_size=2)
    third = choose(tree(full("a0"), half, quarter, *others, batch_size=8))
    assert (third.action, third.node) == ("repair", "a2")
    assert third.figures["repairs_done"] == 0


def test_a_smaller_batch_must_fit_the_budget() -> None:
    it = tree(full("a0"), node("b0", 0.01), node("c0", 0.01), batch_size=8, trials_left=0)
    assert choose(it).action != "smaller_batch"
    late = replace(it, trials_left=9, seconds_left=79.0)  # 50 to climb, 30 for the baselines
    assert choose(late).action != "smaller_batch"
    assert choose(replace(late, seconds_left=80.0)).action == "smaller_batch"


def test_nobody_is_cut_for_a_lack_of_memory_while_a_smaller_batch_is_due() -> None:
    it = tree(full("a0"), node("b0", 0.01), repairs=0, batch_size=8)
    assert choose(it).action == "smaller_batch"
    made = choose(replace(it, batch_size=0))
    assert (made.action, made.node) == ("cut", "a0")


# Budgets.


def test_a_trial_that_eats_into_confirmation_is_never_chosen() -> None:
    it = tree(seconds_left=100.0, confirm_s=50.0, drafts=1)
    assert choose(it).action == "open"  # 10 s, then 40 s for its climb, 50 s left to confirm
    assert choose(replace(it, confirm_s=51.0)).action == "confirm"
    assert choose(replace(it, confirm_s=0.0, trials_left=1)).action == "confirm"


def test_drafts_leave_time_for_those_that_climb() -> None:
    it = tree(node("a0", 0.01), node("b0", 0.01), drafts=6, seconds_left=85.0)
    made = choose(it)  # a third draft and two climbs need 90 s
    assert (made.action, made.node) == ("promote", "a0")
    assert choose(replace(it, seconds_left=90.0)).action == "open"
    assert choose(replace(it, seconds_left=85.0, slots=2)).action == "open"  # side by side


def test_a_slow_network_climbs_only_where_it_fits() -> None:
    it = tree(node("a0", 0.02, cost_s=20.0), node("b0", 0.018), seconds_left=79.0)
    made = choose(it)  # 80 s for a0, twice as slow as expected
    assert (made.action, made.node, made.figures["expected_s"]) == ("promote", "b0", 40.0)
    assert choose(replace(it, seconds_left=80.0)).node == "a0"


def test_the_search_waits_for_what_runs_before_it_confirms() -> None:
    runs = node("a1", parent="a0", rung=1, status=Status.RUNNING)
    it = tree(node("a0", 0.02), runs, slots=2, seconds_left=45.0)
    made = choose(it)
    assert made.action == "wait"
    assert made.figures["pending"] == ["a1"]
    ended = tree(node("a0", 0.02), node("a1", 0.03, parent="a0", rung=1), seconds_left=45.0)
    done = choose(ended)
    assert (done.action, done.node, done.rung) == ("confirm", "a1", 1)


def test_a_decision_records_the_bar_of_the_last_rung() -> None:
    low = tree(node("a0", 0.06, commit="a"), node("b0", -0.06, commit="b"))
    assert budget(Board(low))["bar"] == 0.0
    high = Board(tree(*both("a", 0.06), *both("b", -0.06)))
    assert budget(high)["bar"] == high.bar > 0.0


def test_no_limit_is_told_as_none() -> None:
    made = choose(tree(drafts=1, seconds_left=math.inf))
    assert made.figures["seconds_left"] is None
    assert choose(tree(drafts=1, seconds_left=900.0)).figures["seconds_left"] == 900.0
