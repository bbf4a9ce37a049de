"""Other systems' rules: AIDE, The AI Scientist v2, successive halving against Optuna's, chance."""

import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna.pruners import SuccessiveHalvingPruner

from agent.branches import Node
from agent.policies import decide
from agent.search_tree import Tree
from memory.records import Status
from tests.trees import SETTINGS, choose, node, story, tree

FAILED = Status.FAILED


def at_top(name: str, delta: float = 0.0, **more: Any) -> Node:
    """Return a trial at the last rung of the branch that its first letter names."""
    return node(name, delta, rung=1, **more)


def drafts(count: int, delta: float = -0.01) -> list[Node]:
    """Return working drafts at the last rung, named a0, b0, and so on."""
    return [at_top(f"{'abcdefghij'[i]}0", delta - 0.001 * i, commit=str(i)) for i in range(count)]


# Successive halving.


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let Optuna tell of no study that it begins."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def promoted(it: Tree) -> list[str]:
    """Return the trials that our rule promotes, one after the other, until it opens a draft."""
    found: list[str] = []
    nodes = [one for branch in it.branches.values() for one in branch.nodes]
    while (made := choose(tree(*nodes), "asha")).action == "promote":
        assert made.node is not None
        assert made.rung == 1
        found.append(made.node)
        above = node(f"{made.node[0]}9{len(found):02}", parent=made.node, rung=1)
        nodes.append(replace(above, branch=made.branch or ""))
    assert (made.action, made.rung) == ("open", 0)
    return found


def kept_by_optuna(values: list[float]) -> set[int]:
    """Return the trials that Optuna's rule lets go on when all results are in.

    It decides once, when a trial reports; so each is asked last, after all others.
    """
    kept = set()
    for last in range(len(values)):
        pruner = SuccessiveHalvingPruner(
            min_resource=1, reduction_factor=3, min_early_stopping_rate=0
        )
        study = optuna.create_study(direction="maximize", pruner=pruner)
        order = [place for place in range(len(values)) if place != last] + [last]
        for place in order:
            trial = study.ask()
            trial.report(values[place], step=1)
            is_pruned = trial.should_prune()
        if not is_pruned:
            kept.add(last)
    return kept


@hypothesis_settings(max_examples=50)
@given(st.lists(st.integers(-50, 50), min_size=3, max_size=10, unique=True))
def test_halving_promotes_what_optuna_lets_go_on(thousandths: list[int]) -> None:
    # Two details differ, and are left out: of fewer than three results Optuna lets the best go
    # on, as it cannot come back to a trial; and of equal results it lets all go on, we one.
    values = [0.001 * value for value in thousandths]
    nodes = [node(f"{'abcdefghij'[i]}0", value, commit=str(i)) for i, value in enumerate(values)]
    ours = {"abcdefghij".index(name[0]) for name in promoted(tree(*nodes))}
    assert ours == kept_by_optuna(values)
    assert len(ours) == len(values) // 3


def test_halving_of_two_results_differs_from_optunas() -> None:
    assert promoted(tree(node("a0", 0.01), node("b0", 0.02))) == []
    assert kept_by_optuna([0.01, 0.02]) == {1}


def test_halving_of_equal_results_promotes_as_many_as_there_are_places() -> None:
    assert promoted(tree(*[node(f"{name}0", 0.01) for name in "abcdef"])) == ["a0", "b0"]
    assert kept_by_optuna([0.01] * 6) == set(range(6))


def test_the_best_climb_first_and_failures_hold_no_place() -> None:
    nodes = [node("a0", 0.01), node("b0", 0.03), node("c0", 0.02), node("d0", 0.0)]
    failed = node("e0", status=FAILED, is_cut=True)
    made = choose(tree(*nodes, failed), "asha")
    assert (made.action, made.node) == ("promote", "b0")
    assert made.figures["ranked"] == 4
    assert made.figures["places"] == 1


def test_halving_refines_nothing() -> None:
    for made in story("asha", seed=1, slots=2).made():
        assert made.action in ("open", "promote", "repair", "wait", "confirm")


# AIDE.


def test_greedy_drafts_five_and_then_improves_the_best() -> None:
    for count in range(5):
        assert choose(tree(*drafts(count)), "greedy").action == "open"
    made = choose(tree(*drafts(5)), "greedy")
    assert (made.action, made.node) == ("improve", "a0")
    better = at_top("c1", 0.05, parent="c0", commit="new", depth=1)
    assert choose(tree(*drafts(5), better), "greedy").node == "c1"


@pytest.mark.parametrize("policy", ["greedy", "best_first"])
def test_a_crash_is_debugged_half_of_the_time(policy: str) -> None:
    failed = at_top("a1", status=FAILED, parent="a0", commit="new", depth=1)
    it = tree(*drafts(5), failed)
    actions = [decide(it, Random(i), policy=policy, settings=SETTINGS).action for i in range(200)]
    assert set(actions) == {"improve", "repair"}
    assert 70 <= actions.count("repair") <= 130


def test_greedy_repairs_or_drafts_while_nothing_works() -> None:
    failed = [at_top(f"{name}0", status=FAILED, commit=name) for name in "abcde"]
    assert choose(tree(*failed), "greedy").action == "repair"
    spent = [replace(one, is_cut=True) for one in failed]
    assert choose(tree(*spent), "greedy").action == "open"


# The AI Scientist v2.


def test_best_first_drafts_three_and_keeps_time_for_its_repeats() -> None:
    assert choose(tree(*drafts(2)), "best_first").action == "open"
    assert choose(tree(*drafts(3)), "best_first").action == "improve"
    # 40 s for one more and 240 s for the repeats.
    it = tree(*drafts(4), seconds_left=280.0)
    assert choose(it, "best_first").action == "improve"
    made = choose(replace(it, seconds_left=279.0), "best_first")
    assert (made.action, made.node, made.rung) == ("repeat", "a0", 1)
    assert choose(replace(it, trials_left=6), "best_first").action == "repeat"


def test_best_first_gives_the_best_three_two_more_seeds_and_takes_the_best_mean() -> None:
    nodes, repeats = drafts(4), []
    while (made := choose(tree(*nodes, seconds_left=270.0), "best_first")).action == "repeat":
        assert made.node is not None
        repeats.append(made.node)
        first = next(one for one in nodes if one.id == made.node)
        again = 0.05 if first.id == "c0" else -0.05
        number = len(repeats)
        nodes.append(at_top(f"{first.id[0]}{number}", again, parent=first.id, commit=first.commit))
    assert repeats == ["a0", "a0", "b0", "b0", "c0", "c0"]
    ended = choose(tree(*nodes, seconds_left=1.0), "best_first")
    assert (ended.action, ended.node) == ("confirm", "c0")
    assert ended.figures["estimate"] == pytest.approx((-0.012 + 0.05 + 0.05) / 3)
    assert ended.figures["is_lead"]


# Chance.


def test_random_takes_any_branch_a_new_one_and_any_network() -> None:
    it = tree(*drafts(2), at_top("a1", -0.3, parent="a0", commit="new", depth=1))
    found = [choose(it, "random", seed=seed).node for seed in range(300)]
    assert set(found) == {None, "a0", "a1", "b0"}
    assert 70 <= found.count("b0") <= 130
    assert 70 <= found.count(None) <= 130


def test_random_goes_no_deeper_than_allowed() -> None:
    it = tree(at_top("a0", depth=8), seconds_left=math.inf)
    assert {choose(it, "random", seed=seed).action for seed in range(20)} == {"open"}
