"""QWBE, decision by decision: screening, climbs, litters, the score, crossover, repeats, the end."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.board import Board
from agent.branches import Node, grown
from agent.explore import branch_score, new_branch_score, visits_of
from agent.search_tree import Decision, Tree
from memory.records import Status
from tests.trees import SETTINGS, choose, node, nodes_of, seen, story, tree

FAILED, RUNNING = Status.FAILED, Status.RUNNING
NEVER: dict[str, Any] = {"cut_below": 0.0}


def both(name: str, low: float, high: float | None = None, **more: Any) -> list[Node]:
    """Return a network read at both rungs."""
    first = node(f"{name}0", low, commit=name, **more)
    at_top = node(f"{name}1", low if high is None else high, rung=1, commit=name, **more)
    return [first, replace(at_top, parent=first.id)]


def drafts(*deltas: float) -> list[Node]:
    """Return drafts at rung 0, named a0, b0, and so on."""
    return [node(f"{'abcdefghijkl'[i]}0", d, commit=str(i)) for i, d in enumerate(deltas)]


def kid(name: str, parent: str, delta: float = 0.0, **more: Any) -> Node:
    """Return a refinement at rung 0."""
    return node(name, delta, parent=parent, commit=name, **({"depth": 1} | more))


# The score.


def test_scores_by_hand() -> None:
    settings = replace(SETTINGS, c=1.5, p=3.0)
    # 0.1 + 1.5 * 1.1^3 * sqrt(9) / (1 + 2)
    assert branch_score(0.1, 2, total=9, settings=settings) == pytest.approx(0.1 + 1.5 * 1.331)
    assert branch_score(-1.0, 2, total=9, settings=settings) == -1.0
    assert branch_score(-4.0, 2, total=9, settings=settings) == -4.0
    assert new_branch_score(3, total=16, settings=settings) == pytest.approx(1.5)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 50))
def test_a_higher_quality_never_scores_lower(one: float, two: float, visits: float) -> None:
    low, high = (branch_score(q, visits, total=100, settings=SETTINGS) for q in sorted((one, two)))
    assert low <= high


@given(st.floats(-1, 3), st.floats(0, 50), st.floats(0, 50))
def test_more_visits_never_score_higher(quality: float, one: float, two: float) -> None:
    few, many = sorted((one, two))
    scores = [branch_score(quality, n, total=100, settings=SETTINGS) for n in (few, many)]
    assert scores[1] <= scores[0]


def check_arms(made: Decision) -> None:
    """Assert that each arm's score follows from the figures beside it."""
    found = made.figures
    total = found["n_total"]
    for row in found["arms"]:
        if row["action"] == "open":
            bonus = new_branch_score(found["branches"], total=total, settings=SETTINGS)
            score = row["quality"] + bonus
        else:
            score = branch_score(row["quality"], row["visits"], total=total, settings=SETTINGS)
        assert row["score"] == pytest.approx(score)
        assert row["quality"] == pytest.approx(row["reach"] / found["model"]["draft_sd"])


def test_the_arms_of_a_tree_and_their_scores() -> None:
    it = tree(*both("a", 0.02, 0.03), *both("b", 0.01, 0.02), **NEVER)
    made = choose(it)
    check_arms(made)
    rows = {row["branch"]: row for row in made.figures["arms"]}
    assert set(rows) == {"a", "b", None}
    # Each took 10 + 40 s, and a training of the last rung is 40 s.
    assert rows["a"]["visits"] == rows["b"]["visits"] == pytest.approx(1.25)
    assert made.figures["n_total"] == pytest.approx(2 + 2.5)
    (chosen,) = [row for row in made.figures["arms"] if row["chosen"]]
    assert chosen["score"] == max(row["score"] for row in made.figures["arms"])
    assert chosen["node"] == made.node


def test_the_figures_hold_all_numbers_of_the_score_when_a_branch_is_closed() -> None:
    it = tree(*both("a", 0.02, 0.03), *both("b", 0.01, 0.02, is_cut=True), cut_below=0.9)
    made = choose(it)
    assert len(made.figures["arms"]) == 2
    check_arms(made)


def test_what_runs_counts_as_visits() -> None:
    runs = kid("a2", "a1", status=RUNNING, rung=1)
    it = tree(*both("a", 0.02), *both("b", 0.02), runs)
    assert visits_of(it, it.branches["a"]) == 90.0
    assert visits_of(it, it.branches["b"]) == 50.0


def test_the_draws_decide_and_spread_over_branches_that_are_alike() -> None:
    it = tree(*both("a", 0.02), *both("b", 0.02), **NEVER)
    found = Counter(choose(it, seed=seed).branch for seed in range(100))
    assert min(found["a"], found["b"]) > 20
    better = tree(*both("a", 0.05), *both("b", -0.05), **NEVER)
    assert Counter(choose(better, seed=seed).branch for seed in range(100))["b"] <= 1


def test_a_branch_that_stands_still_is_left_for_others() -> None:
    stuck = [kid(f"a{i}", "a1", -0.05) for i in range(2, 8)]
    fresh = tree(*both("a", 0.02), *both("b", 0.02), **NEVER)
    worn = tree(*both("a", 0.02), *stuck, *both("b", 0.02), **NEVER)
    before, after = (
        Counter(choose(it, seed=seed).branch for seed in range(150)) for it in (fresh, worn)
    )
    assert after["a"] < before["a"] / 2


# Screening and climbs.


def test_drafts_come_first_and_nothing_climbs_before_they_are_screened() -> None:
    first = choose(tree(drafts=3))
    assert (first.action, first.rung, first.branch) == ("open", 0, None)
    assert first.figures["drafts_wanted"] == 3
    running = node("c0", status=RUNNING)
    it = tree(*drafts(0.02, 0.018), running, slots=2)
    assert choose(it).action == "wait"
    made = choose(tree(*drafts(0.02, 0.018, 0.015)))
    assert (made.action, made.node, made.rung) == ("promote", "a0", 1)
    assert "rank 1 of 3 drafts, 2 climb" in made.text


def test_a_share_of_the_budget_screens_drafts() -> None:
    it = tree(drafts=6, seconds_left=2000.0)
    assert choose(it).figures["drafts_wanted"] == 16  # 8 % of 2000 s, 10 s each
    assert choose(replace(it, slots=2)).figures["drafts_wanted"] == 32
    assert choose(replace(it, seconds_left=500.0)).figures["drafts_wanted"] == 6
    assert choose(replace(it, seconds_left=math.inf)).figures["drafts_wanted"] == 6


@pytest.mark.parametrize(
    ("means", "first"),
    [
        ((0.4, 0.8), 0),  # half is enough
        ((0.39, 0.8), 1),
        ((0.0, 0.35), 1),  # as hippocampus after a hundred iterations
        ((0.1, 0.39, 0.8), 2),
        ((0.1, 0.5, 0.8), 1),
        ((0.5, 0.3, 0.8), 0),
        ((0.0, 0.0), 0),  # nothing to compare with
        ((0.8,), 0),
    ],
)
def test_networks_start_at_the_lowest_rung_at_which_the_baseline_has_learnt(
    means: tuple[float, ...], first: int
) -> None:
    it = tree(baseline_mean=means, cost_s=(10.0, 40.0, 160.0)[: len(means)], drafts=3)
    assert it.first_rung == first
    assert choose(it).rung == first
    assert Board(it).first_rung >= first


def late(*nodes: Node, **more: Any) -> Tree:
    """Return a tree whose lower rung says nothing: the baseline reaches a quarter of its Dice."""
    return tree(*nodes, baseline_mean=(0.2, 0.8), **more)


def test_without_a_rung_that_screens_a_part_of_the_budget_trains_first_drafts() -> None:
    it = late(drafts=6, seconds_left=2000.0)
    made = choose(it)
    assert made.figures["drafts_wanted"] == 15  # 30 % of 2000 s, 40 s each
    assert (made.figures["screens"], made.figures["learnt"]) == (False, 0.25)
    assert "all come before any choice; at rung 0 the baseline reaches 25% of its Dice" in made.text
    assert choose(replace(it, slots=2)).figures["drafts_wanted"] == 30
    assert choose(replace(it, seconds_left=500.0)).figures["drafts_wanted"] == 6
    assert choose(replace(it, seconds_left=math.inf)).figures["drafts_wanted"] == 6
    usual = choose(tree(drafts=6))
    assert usual.figures["screens"] is True
    assert "learnt" not in usual.figures
    # 60 s are left for drafts of 40 s: one, whatever was wanted.
    assert choose(late(drafts=6, seconds_left=60.0)).action == "open"
    assert choose(late(drafts=6, seconds_left=39.0)).action == "confirm"


def test_without_a_rung_that_screens_refinements_start_at_the_last_one() -> None:
    trained = [replace(one, rung=1) for one in drafts(0.02, 0.018, 0.015)]
    found = [choose(late(*trained, **NEVER), seed=seed) for seed in range(40)]
    assert {made.action for made in found} >= {"improve", "open"}
    assert {made.rung for made in found} == {1}
    running = node("d0", status=RUNNING, rung=1)
    free = late(*trained, running, slots=2, **NEVER)
    assert "wait" not in {
        choose(free, seed=seed).action for seed in range(9)
    }  # no slot stands idle
    litter = kid("a1", "a0", 0.01, rung=1)
    assert choose(late(*trained, litter, **NEVER)).text.count("once more") == 0


def climbs(it: Tree, **more: Any) -> list[str]:
    """Let screened drafts climb until something else is due; return who did."""
    nodes, found = nodes_of(it), []
    while "drafts" in (made := choose(tree(*nodes, **more))).text and made.action == "promote":
        assert made.node is not None
        found.append(made.node)
        below = next(one for one in nodes if one.id == made.node)
        above = replace(below, id=f"{below.id}+", parent=below.id, rung=made.rung or 0)
        nodes.append(replace(above, cost_s=40.0))
    return found


def test_the_best_quarter_climbs_in_the_order_of_their_means() -> None:
    it = tree(*drafts(*(0.001 * i for i in (3, 9, 1, 12, 5, 11, 2, 10, 6, 4, 8, 7))))
    assert climbs(it, **NEVER) == ["d0", "f0", "h0"]
    assert climbs(tree(*drafts(0.01, 0.03)), **NEVER) == ["b0", "a0"]  # two at least


def test_with_three_rungs_the_same_share_climbs_from_each() -> None:
    rungs: dict[str, Any] = {"baseline_mean": (0.7, 0.8, 0.85), "cost_s": (1.0, 10.0, 40.0)}
    it = tree(*drafts(*(0.002 * i for i in range(12))), **rungs)
    settings = replace(SETTINGS, climb_share=0.5)
    nodes, found = nodes_of(it), Counter[int]()
    while (made := choose(tree(*nodes, **rungs, **NEVER), settings=settings)).action == "promote":
        if "drafts" not in made.text:
            break
        found[made.rung or 0] += 1
        below = next(one for one in nodes if one.id == made.node)
        nodes.append(replace(below, id=f"{below.id}+", parent=below.id, rung=made.rung or 0))
    assert found == {1: 6, 2: 3}


def test_a_draft_that_failed_is_repaired_before_the_others_climb() -> None:
    failed = node("c0", status=FAILED, commit="c")
    made = choose(tree(*drafts(0.02, 0.01), failed))
    assert (made.action, made.node) == ("repair", "c0")
    spent = replace(tree(*drafts(0.02, 0.01), failed), repairs=0)
    cut = choose(spent)
    assert (cut.action, cut.node, cut.figures["reason"]) == ("cut", "c0", "repairs_spent")
    assert cut.figures["closes_branch"]


def test_a_draft_beyond_the_screening_holds_nobody_up() -> None:
    late = node("c0", status=RUNNING)
    it = tree(*both("a", 0.02), *both("b", 0.02), late, drafts=2, slots=2, **NEVER)
    assert choose(it).action in ("improve", "open")


@pytest.mark.parametrize(
    "late",
    [
        pytest.param([node("c0", status=FAILED, commit="c")]),
        pytest.param([kid("a2", "a1", status=FAILED)]),
    ],
)
def test_what_failed_after_the_screening_is_repaired_or_cut_too(late: list[Node]) -> None:
    it = tree(*both("a", 0.02), *both("b", 0.02), *late, drafts=2)
    alone = replace(SETTINGS, siblings=1)
    found = {choose(it, seed=seed, settings=alone).action for seed in range(20)}
    assert found & {"repair", "cut"}


# Litters of refinements.


def test_three_siblings_are_screened_and_the_best_climbs() -> None:
    base = both("a", 0.02), both("b", 0.01)
    nodes = [*base[0], *base[1]]
    for number, delta in enumerate((0.025, 0.04, 0.03), start=2):
        made = choose(tree(*nodes, **NEVER), seed=3)
        if number == 2:
            assert made.action in ("improve", "crossover", "open")
        else:
            assert (made.action, made.node, made.rung) == ("improve", "a1", 0)
            assert made.figures["siblings"] == number - 2
        nodes.append(kid(f"a{number}", "a1", delta))
    made = choose(tree(*nodes, **NEVER))
    assert (made.action, made.node, made.rung) == ("promote", "a3", 1)
    assert made.figures["siblings"] == 3
    assert made.figures["hope"] > made.figures["bar"]
    fell = replace(nodes[-2], id="a9", parent="a3", rung=1, evidence=seen(0.0))
    for seed in range(20):  # one of a litter climbs, whatever came of it
        assert "best of" not in choose(tree(*nodes, fell, **NEVER), seed=seed).text


def test_siblings_run_side_by_side_but_the_climb_waits_for_all() -> None:
    runs = kid("a2", "a1", status=RUNNING)
    made = choose(tree(*both("a", 0.02), runs, slots=2, **NEVER))
    assert (made.action, made.node) == ("improve", "a1")
    litter = [kid("a2", "a1", 0.05), kid("a3", "a1", 0.04), kid("a4", "a1", status=RUNNING)]
    for seed in range(10):
        waits = choose(tree(*both("a", 0.02), *litter, slots=2, **NEVER), seed=seed)
        assert "best of" not in waits.text


def test_the_best_of_a_litter_that_gets_no_more_siblings_climbs() -> None:
    litter = [kid("a2", "a1", 0.05), kid("a3", "a1", 0.03)]
    low, top = both("a", 0.02)
    for parent in (replace(top, is_cut=True), replace(top, is_spent=True)):
        made = choose(tree(low, parent, *litter, **NEVER))
        assert (made.action, made.node) == ("promote", "a2"), parent
        assert "best of 2 refinements" in made.text


def test_a_refinement_climbs_only_if_it_may_pass_the_incumbent() -> None:
    def litter(delta: float) -> Decision:
        kids = [kid(f"a{i}", "a1", delta) for i in (2, 3, 4)]
        return choose(tree(*both("a", 0.02), *kids, *both("b", -0.05), **NEVER))

    assert "best of 3 refinements" in litter(0.03).text
    assert "best of 3 refinements" not in litter(-0.08).text
    made = litter(0.03)
    board = made.figures["bar"]
    mean, sd = made.figures["posterior_mean"], made.figures["posterior_sd"]
    assert made.figures["hope"] == pytest.approx(mean + SETTINGS.optimism * sd)
    assert made.figures["hope"] > board


def test_less_optimism_lets_fewer_climb() -> None:
    kids = [kid(f"a{i}", "a1", 0.005) for i in (2, 3, 4)]
    it = tree(*both("a", 0.03), *kids, **NEVER)
    hopeful = choose(it, settings=replace(SETTINGS, optimism=4.0))
    assert (hopeful.action, hopeful.node) == ("promote", "a2")
    assert "best of" not in choose(it, settings=replace(SETTINGS, optimism=0.0)).text


def test_with_one_rung_there_is_nothing_to_screen() -> None:
    alone: dict[str, Any] = {"baseline_mean": (0.8,), "cost_s": (10.0,)}
    made = choose(tree(*drafts(0.02, 0.01), **alone, **NEVER))
    assert made.action in ("improve", "open")
    assert made.rung == 0
    assert choose(tree(drafts=2, **alone)).action == "open"


# Crossover.


def crossed(it: Tree) -> list[Decision]:
    """Return the crossovers among many decisions."""
    found = [choose(it, seed=seed) for seed in range(300)]
    return [made for made in found if made.action == "crossover"]


def test_two_branches_that_are_likely_better_are_crossed_now_and_then() -> None:
    found = crossed(tree(*both("a", 0.03), *both("b", 0.03), **NEVER))
    assert 15 <= len(found) <= 75  # every seventh refinement
    for made in found:
        assert {made.node, made.partner} == {"a1", "b1"}
        assert made.rung == 0
        assert f"with {made.partner}" in made.text


def test_nothing_is_crossed_with_a_branch_below_the_baseline_or_unclimbed() -> None:
    assert crossed(tree(*both("a", 0.03), *both("b", -0.05), **NEVER)) == []
    low = node("b0", 0.05, commit="b", is_cut=False)
    assert crossed(tree(*both("a", 0.03), *both("c", -0.05), low, **NEVER)) == []
    assert crossed(tree(*both("a", 0.03), **NEVER)) == []


def test_a_branch_below_the_baseline_is_not_crossed_with_a_better_one() -> None:
    weak = both("a", -0.015)
    strong = [replace(n, cost_s=4000.0) for n in both("b", 0.005)]
    board = Board(tree(*weak, *strong, **NEVER))
    assert board.p_better(board.view(board.tree.branches["a"]).open[0]) < 0.5
    found = crossed(board.tree)
    assert [made for made in found if made.node == "a1"] == []


# The last part of the budget.


def finalists(**more: Any) -> Tree:
    """Return two networks that can hardly be told apart, and time for one more training."""
    pair = [*both("a", 0.02), *both("b", 0.02)]
    return tree(*pair, **({"seconds_left": 45.0} | NEVER | more))


def test_the_leaders_are_trained_again_at_the_end() -> None:
    made = choose(finalists())
    assert (made.action, made.rung) == ("repeat", 1)
    assert made.figures["p_leader"] < 0.95
    assert made.figures["seeds"] == 1
    assert [row["node"] for row in made.figures["finalists"]] == ["a1", "b1"]
    found = Counter(choose(finalists(), seed=seed).node for seed in range(100))
    assert min(found["a1"], found["b1"]) > 20
    ahead = tree(*both("a", 0.0245), *both("b", 0.02), seconds_left=45.0, **NEVER)
    assert 0.8 < choose(ahead).figures["p_leader"] < 0.95
    found = Counter(choose(ahead, seed=seed).node for seed in range(100))
    assert found["b1"] > 30  # of the two best draws either is taken, not the better one


def test_a_sure_leader_is_not_repeated() -> None:
    made = choose(tree(*both("a", 0.05), *both("b", -0.02), seconds_left=45.0, **NEVER))
    assert (made.action, made.node) == ("confirm", "a1")
    alone = choose(tree(*both("a", 0.05), seconds_left=45.0, **NEVER))
    assert alone.action == "confirm"


def test_repeats_narrow_the_choice_and_end() -> None:
    nodes = nodes_of(finalists())
    for number in range(2, 60):
        made = choose(tree(*nodes, seconds_left=45.0, **NEVER), seed=number)
        if made.action == "confirm":
            break
        assert made.node is not None
        first = next(one for one in nodes if one.id == made.node)
        delta = 0.023 if first.branch == "a" else 0.017
        again = replace(first, id=f"{first.branch}{number}", parent=first.id, evidence=seen(delta))
        nodes.append(again)
    assert (made.action, made.branch) == ("confirm", "a")
    assert made.figures["p_better"] > 0.5


def test_a_free_slot_repeats_while_another_trains() -> None:
    runs = kid("c1", "c0", status=RUNNING, rung=1)
    others = [node("c0", 0.0, commit="c"), runs]
    it = finalists(slots=2)
    busy = replace(it, branches=grown([*nodes_of(it), *others]))
    assert choose(busy).action == "repeat"


def test_a_part_of_the_budget_is_kept_for_repeats() -> None:
    # 100 s are spent; with x left, 8 % of 100 + x are kept, and a refinement needs 50 s.
    assert finalists().spent_s == 100.0
    assert choose(finalists(seconds_left=62.5)).action == "repeat"
    assert choose(finalists(seconds_left=63.5)).action in ("improve", "open", "crossover")
    greedy = replace(SETTINGS, repeat_share=0.0)
    assert choose(finalists(seconds_left=50.0), settings=greedy).action != "repeat"


def test_the_end_says_who_leads_and_how_sure_it_is() -> None:
    made = choose(tree(*both("a", 0.05), *both("b", 0.0), seconds_left=5.0, **NEVER))
    assert (made.action, made.node, made.rung) == ("confirm", "a1", 1)
    assert made.figures["is_lead"]
    assert made.figures["p_better"] >= 0.95
    assert 0 < made.figures["estimate"] < made.figures["posterior_mean"]
    unsure = choose(tree(*both("a", 0.0005), *both("b", 0.0), seconds_left=5.0, **NEVER))
    assert not unsure.figures["is_lead"]
    none = choose(tree(seconds_left=1.0))
    assert (none.action, none.node) == ("confirm", None)


def test_a_whole_campaign_reaches_every_station() -> None:
    found: Counter[str] = Counter()
    for seed in range(8):
        found.update(made.action for made in story("qwbe", seed=seed, budget=16.0).made())
    stations = {"open", "repair", "promote", "improve", "crossover", "cut", "repeat", "confirm"}
    assert set(found) == stations
