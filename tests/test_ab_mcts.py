"""AB-MCTS-A by its package: its tree is ours, its draws are ours, and its choice is carried out."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import treequest

from agent.ab_mcts import asked, read, score, seeded
from agent.branches import Node
from agent.search_tree import Tree
from memory.records import Status
from tests.trees import choose, node, tree


def trained(name: str, delta: float, at: float, **more: Any) -> Node:
    """Return a trial of the last rung."""
    return node(name, delta, rung=1, commit=name, planned_at=at, **more)


def grown_tree() -> Tree:
    """Return three drafts, a refinement of the first, and one of that; ids against the time."""
    return tree(
        trained("a9", 0.02, 1.0),
        trained("b0", -0.01, 2.0),
        trained("a1", 0.03, 3.0, parent="a9", depth=1),
        trained("c0", 0.0, 4.0),
        trained("a0", 0.01, 5.0, parent="a1", depth=2),
    )


def test_trials_are_told_in_the_order_of_their_time_each_network_once() -> None:
    again = trained("b1", 0.05, 6.0, parent="b0")
    failed = node("d0", status=Status.FAILED, rung=1)
    low = node("e0", 0.04, rung=0, commit="e0")
    it = grown_tree()
    more = tree(*read(it), replace(again, commit="b0"), failed, low)
    assert [one.id for one in read(more)] == ["a9", "b0", "a1", "c0", "a0"]


def test_the_packages_tree_is_the_one_that_it_would_have_grown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = []
    plain = treequest.ABMCTSA.ask_batch

    def watched(self, state, batch_size, actions):  # type: ignore[no-untyped-def]
        states.append(state)
        return plain(self, state, batch_size, actions)

    monkeypatch.setattr(treequest.ABMCTSA, "ask_batch", watched)
    it = grown_tree()
    asked(it, Random(1))
    found = states[0].tree.get_nodes()[1:]
    assert [one.state for one in found] == ["a9", "b0", "a1", "c0", "a0"]
    assert [one.parent.state for one in found] == [None, None, "a9", None, "a1"]
    assert [one.score for one in found] == [score(it, one) for one in read(it)]
    # What a refinement scores counts for every network above it, and for going on there.
    root = states[0].thompson_states.get(states[0].tree.root)
    new, below = (len(root.gen_vs_cont_probas["shared"][k].all_obs) for k in ("GEN", "CONT"))
    assert (new, below) == (3, 2)
    assert [len(one.all_obs) for one in root.node_probas["shared"].values()] == [3, 1, 1]


def test_scores_fill_the_range_that_the_package_expects() -> None:
    it = tree(prior_sd=0.02)
    found = [score(it, trained("a0", delta, 0.0)) for delta in (-0.8, -0.04, 0.0, 0.04, 0.8)]
    assert found == pytest.approx([0.0, 0.1587, 0.5, 0.8413, 1.0], abs=1e-4)


def test_the_draws_follow_the_seed_and_numpy_is_left_as_it_was() -> None:
    it = grown_tree()
    np.random.seed(7)  # noqa: NPY002 (the package draws from it)
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    found = [asked(it, Random(seed)) for seed in range(30)]
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]  # noqa: NPY002
    assert found == [asked(it, Random(seed)) for seed in range(30)]
    assert len({one.id if one else "" for one in found}) > 3
    with pytest.raises(ZeroDivisionError), seeded(Random(1)):
        raise ZeroDivisionError
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]  # noqa: NPY002


def test_an_empty_tree_gets_a_branch_and_a_good_one_more_refinements() -> None:
    assert choose(tree(), "ab_mcts").action == "open"
    it = tree(*(trained(f"{name}0", 0.06 if name == "a" else -0.06, 0.0) for name in "abcd"))
    made = Counter(choose(it, "ab_mcts", seed=seed).node for seed in range(60))
    assert made["a0"] > max(made[f"{name}0"] for name in "bcd")
    assert made[None] > 0
    assert {choose(it, "ab_mcts", seed=seed).rung for seed in range(9)} == {1}


def test_what_may_not_be_refined_leads_to_what_is_above_it() -> None:
    it = grown_tree()
    seed = next(s for s in range(99) if (one := asked(it, Random(s))) and one.id == "a0")
    assert choose(it, "ab_mcts", seed=seed).node == "a0"
    deep = replace(it, max_depth=2)
    assert choose(deep, "ab_mcts", seed=seed).node == "a1"
    made = choose(replace(it, max_depth=0), "ab_mcts", seed=seed)
    assert (made.action, made.node) == ("open", None)
    assert "are refined no further" in made.text
