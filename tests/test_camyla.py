"""The published rule and the released one, by hand: qualities, scores, the greedy phase."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.branches import Node
from agent.camyla import STEPS, qualities, score, trial_quality
from agent.search_tree import Decision, Tree
from memory.records import Kind, Status
from tests.trees import choose, node, tree

FAILED = Status.FAILED


def at_top(name: str, delta: float = 0.0, **more: Any) -> Node:
    """Return a trial at the last rung, whose baseline has a mean Dice of 0.8."""
    return node(name, delta, rung=1, **more)


def grove(*nodes: Node, **more: Any) -> Tree:
    """Return a tree of networks that were trained at the last rung."""
    return tree(*nodes, baseline_mean=(0.4, 0.8), **more)


def scores(made: Decision) -> dict[str | None, float]:
    """Return each arm's score by the trial that it would improve; None for a new branch."""
    return {row["node"]: row["score"] for row in made.figures["arms"]}


def test_quality_by_hand() -> None:
    assert trial_quality(0.05, 0.8) == pytest.approx(0.25)
    assert trial_quality(-0.2, 0.8) == pytest.approx(-0.25)
    assert trial_quality(-0.2, 0.8, e=0.5) == pytest.approx(-0.5)  # the released code
    assert trial_quality(-0.9, 0.8) == -1.0
    assert trial_quality(-0.1, 0.0) == -1.0
    assert trial_quality(0.0, 1.0) == 0.0
    assert trial_quality(0.5, 1.0) == 1.0


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1), st.sampled_from([0.5, 1.0]))
def test_quality_grows_with_the_effect(one: float, two: float, mean: float, e: float) -> None:
    low, high = (trial_quality(d, mean, e=e) for d in sorted((one, two)))
    assert -1 <= low <= high <= 1


def test_score_by_hand() -> None:
    # 0.1 + 1.5 * 1.1^3 * sqrt(9) / (1 + 2)
    assert score(0.1, 2, total=9) == pytest.approx(0.1 + 1.5 * 1.331)
    assert score(-1.0, 2, total=9) == -1.0


@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 50))
def test_a_higher_quality_never_scores_lower(one: float, two: float, visits: int) -> None:
    low, high = (score(q, visits, total=100) for q in sorted((one, two)))
    assert low <= high


def test_a_crash_takes_its_working_ancestors_quality_less_a_fifth() -> None:
    it = grove(
        at_top("a0", -0.4),
        at_top("a1", parent="a0", status=FAILED, commit="1"),
        at_top("a2", parent="a1", status=Status.TIMED_OUT, commit="2"),
        at_top("b0", status=FAILED),
        at_top("c0", -0.8),
        at_top("c1", parent="c0", status=FAILED),
    )
    found = {name: qualities(it, branch, e=1.0) for name, branch in it.branches.items()}
    assert found["a"] == pytest.approx({"a0": -0.5, "a1": -0.7, "a2": -0.7})
    assert found["b"] == pytest.approx(
        {"b0": -0.2}
    )  # as the paper has it: its root is the baseline
    assert found["c"] == pytest.approx({"c0": -1.0, "c1": -1.0})


def test_a_quality_that_is_given_is_taken() -> None:
    it = grove(at_top("a0", -0.4, quality=-0.125))
    assert qualities(it, it.branches["a"], e=1.0) == {"a0": -0.125}


def test_the_scores_of_a_whole_tree_by_hand() -> None:
    it = grove(
        at_top("a0", -0.08),
        at_top("a1", -0.16, parent="a0", commit="1", depth=1),
        at_top("b0", -0.24),
        at_top("c0", status=FAILED),
        at_top("c1", -0.04, parent="c0", commit="2", kind=Kind.REPAIR),
    )
    made = choose(it, "camyla")
    # K = 3, N_a = 2, N_b = 1, N_c = 2: N = 8. Q_a = (-0.1 - 0.2) / 2, Q_c = (-0.2 - 0.05) / 2.
    root = 1.5 * math.sqrt(8)
    by_hand = {
        "a0": -0.15 + root * 0.85**3 / 3,
        "b0": -0.3 + root * 0.7**3 / 2,
        "c1": -0.125 + root * 0.875**3 / 3,
        None: root / 4,
    }
    assert scores(made) == pytest.approx(by_hand)
    assert max(by_hand.values()) == by_hand[None]
    assert made.action == "open"


def test_the_best_network_of_the_best_branch_is_improved() -> None:
    branches = [at_top(f"{name}0", -0.7) for name in "bcdefghij"]
    made = choose(grove(at_top("a0", -0.08), *branches), "camyla")
    assert (made.action, made.node, made.rung) == ("improve", "a0", 1)


def test_trials_that_run_count_as_visits() -> None:
    kept = [at_top("a0", -0.08), at_top("b0", -0.08)]
    runs = at_top("a1", parent="a0", commit="1", status=Status.RUNNING)
    made = choose(grove(*kept, runs, slots=2), "camyla")
    root = 1.5 * math.sqrt(2 + 3)
    assert scores(made) == pytest.approx(
        {"a0": -0.1 + root * 0.9**3 / 3, "b0": -0.1 + root * 0.9**3 / 2, None: root / 3}
    )


def test_one_reading_above_the_baseline_ends_the_search_for_others() -> None:
    it = grove(at_top("a0", 0.0001), at_top("b0", -0.0001), at_top("c0", 0.0))
    for seed in range(10):
        made = choose(it, "camyla", seed=seed)
        assert (made.action, made.node) == ("improve", "a0")
    exactly = grove(at_top("b0", -0.0001), at_top("c0", 0.0))
    assert "arms" in choose(exactly, "camyla").figures  # not strictly above: still the rule
    ahead = grove(at_top("a0", 0.01), at_top("b0", 0.02))
    assert choose(ahead, "camyla").node == "b0"


def test_a_crash_is_repaired_before_anything_else() -> None:
    it = grove(at_top("a0", 0.02), at_top("b0", status=FAILED))
    for policy in ("camyla", "camyla_released"):
        assert (choose(it, policy).action, choose(it, policy).node) == ("repair", "b0")


def test_a_tie_goes_by_the_generator_alone() -> None:
    it = grove(at_top("a0", -0.01), at_top("b0", -0.01))
    found = {choose(it, "camyla", seed=seed).node for seed in range(30)}
    assert found == {"a0", "b0"}


# The released code.


def test_released_the_first_refinements_of_the_draft_compete_with_a_new_one() -> None:
    it = grove(
        at_top("a0", -0.08),
        at_top("a1", -0.2, parent="a0", commit="1", depth=1),
        at_top("a2", -0.05, parent="a1", commit="2", depth=2),
        at_top("a3", -0.45, parent="a0", commit="3", depth=1),
        at_top("b0", -0.01),
    )
    made = choose(it, "camyla_released")
    # Within a alone: K = 2 first refinements, N_1 = 2, N_3 = 1, N = 5; e = 0.5.
    root = 1.5 * math.sqrt(5)
    first = (-math.sqrt(0.25) - math.sqrt(0.0625)) / 2
    third = -math.sqrt(0.5625)
    assert scores(made) == pytest.approx(
        {
            "a2": first + root * (1 + first) ** 3 / 3,
            "a3": third + root * (1 + third) ** 3 / 2,
            "a0": root / 3,
        }
    )
    assert (made.action, made.node) == ("improve", "a0")


def trials(name: str, count: int, delta: float = -0.1) -> list[Node]:
    """Return a proposal's draft and its refinements."""
    first = at_top(f"{name}00", delta, commit=name)
    more = [
        at_top(f"{name}{i:02}", delta, parent=first.id, commit=f"{name}{i}", depth=1)
        for i in range(1, count)
    ]
    return [first, *more]


def test_released_one_proposal_follows_the_other_after_ten_trials() -> None:
    assert STEPS == 10
    assert choose(grove(*trials("a", 9)), "camyla_released").branch == "a"
    assert choose(grove(*trials("a", 10)), "camyla_released").action == "open"
    second = choose(grove(*trials("a", 10), *trials("b", 1)), "camyla_released")
    assert (second.action, second.node) == ("improve", "b00")


def test_released_greed_stays_within_the_proposal() -> None:
    it = grove(*trials("a", 10, 0.05), *trials("b", 2, -0.1))
    assert choose(it, "camyla_released").branch == "b"
    first = choose(grove(*trials("a", 3), at_top("a09", 0.01, parent="a00")), "camyla_released")
    assert (first.action, first.node) == ("improve", "a09")


def test_released_a_proposal_that_cannot_work_is_left() -> None:
    failed = [at_top("a0", status=FAILED, commit="0")]
    for i in range(1, 4):
        failed.append(at_top(f"a{i}", status=FAILED, parent=f"a{i - 1}", commit=f"{i}"))
    assert choose(grove(*failed), "camyla_released").action == "open"


@pytest.mark.parametrize("policy", ["camyla", "camyla_released"])
def test_the_end_believes_the_best_reading(policy: str) -> None:
    it = grove(at_top("a0", 0.02), at_top("b0", 0.03), seconds_left=1.0)
    made = choose(it, policy)
    assert (made.action, made.node, made.figures["estimate"]) == ("confirm", "b0", 0.03)
    assert made.figures["is_lead"]
    below = grove(at_top("a0", -0.02), seconds_left=1.0)
    assert not choose(below, policy).figures["is_lead"]
    assert choose(grove(seconds_left=1.0), policy).node is None


def test_a_greedy_phase_refines_no_deeper_than_is_allowed() -> None:
    it = grove(replace(at_top("a0", 0.02), depth=8), at_top("b0", -0.1))
    for policy in ("camyla", "camyla_released"):
        made = choose(it, policy)
        assert made.node != "a0"
