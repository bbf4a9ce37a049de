"""Who leads, who is a finalist, what may still come of a branch, and what a decision looks at."""

import math
from dataclasses import replace
from functools import cmp_to_key
from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import board as board_module
from agent.board import Board, Standing, View, finalists, leader, order
from agent.branches import Branch, Network, Node, grown
from agent.evidence import normal_tail
from agent.search_tree import Tree
from memory.records import Status
from tests.trees import SETTINGS, choose, node, nodes_of, seen, tree, trees

FAILED = Status.FAILED


def led(it: Tree) -> Standing:
    """Return the incumbent."""
    found = leader(it)
    assert found is not None
    return found


def both(name: str, delta: float, **more: Any) -> list[Node]:
    """Return a network with the same reading at both rungs."""
    low = node(f"{name}0", delta, commit=name, **more)
    return [low, node(f"{name}1", delta, parent=low.id, rung=1, commit=name, **more)]


def standings(it: Tree) -> list[Standing]:
    """Return every network of a tree with its belief."""
    board = Board(it)
    return [
        Standing(branch, network, board.belief(branch, place))
        for branch in it.branches.values()
        for place, network in enumerate(branch.networks)
    ]


@given(trees())
def test_the_order_of_networks_is_total(it: Tree) -> None:
    found = standings(it)
    keys = [order(one) for one in found]
    assert len(set(keys)) == len(keys)  # ties are broken by id, which no two share
    for one in keys:
        for two in keys:
            assert (one < two) + (two < one) + (one == two) == 1
            assert all(one < three for three in keys if one < two < three)


@given(trees(), st.randoms(use_true_random=False))
def test_incumbent_and_finalists_do_not_depend_on_the_order_of_rows(it: Tree, rng: Random) -> None:
    nodes = nodes_of(it)
    rng.shuffle(nodes)
    names = list(it.branches)
    rng.shuffle(names)
    moved = grown(nodes, names)
    there = replace(it, branches={name: moved[name] for name in names})
    assert [one.network.id for one in finalists(it, 5)] == [
        one.network.id for one in finalists(there, 5)
    ]
    lead, other = leader(it), leader(there)
    assert (lead and lead.network.id) == (other and other.network.id)


@given(trees())
def test_a_crashed_network_neither_leads_nor_stands_in_the_final(it: Tree) -> None:
    board = Board(it)
    lead = board.incumbent
    assert lead is None or lead.network.readings
    assert all(one.network.readings for one in board.finalists(9))
    for branch in it.branches.values():
        view = board.view(branch)
        assert all(one.network.may_go_on for one in view.open)
        assert all(one.network.may_return for one in view.shelved)
        assert view.first is None or view.first.network.readings
    assert (lead is None) == (not any(one.network.readings for one in standings(it)))


@given(trees(may_run=False))
def test_a_crash_more_ranks_no_branch_higher(it: Tree) -> None:
    done = [n for n in nodes_of(it) if n.is_ok]
    if not done:
        return
    crash = Node("zz", done[0].id, done[0].branch, 0, FAILED, commit="zz", depth=9)
    worse = replace(it, branches=grown([*nodes_of(it), crash]))
    one, two = Board(it), Board(worse)
    branch, other = it.branches[crash.branch], worse.branches[crash.branch]
    assert two.headroom(other).mean <= one.headroom(branch).mean
    assert two.headroom(other).sd <= one.headroom(branch).sd
    assert [s.network.id for s in two.view(other).open] == [
        s.network.id for s in one.view(branch).open
    ]
    assert two.view(other).best.keys() == one.view(branch).best.keys()


def test_a_crash_among_networks_that_work_is_last() -> None:
    it = tree(node("a0", -0.2), node("b0", status=FAILED), node("c0", status=Status.TIMED_OUT))
    assert led(it).network.id == "a0"
    assert [one.network.id for one in finalists(it, 3)] == ["a0"]


def test_incumbent_and_finalists_come_from_the_highest_rung() -> None:
    it = tree(node("a0", 0.09), *both("b", 0.01), *both("c", 0.01), *both("d", 0.02, is_cut=True))
    assert led(it).network.id == "d0"
    assert [one.network.id for one in finalists(it, 5)] == ["b0", "c0"]  # a tie goes by id
    assert [one.network.id for one in finalists(it, 1)] == ["b0"]
    every = replace(it, branches=grown(replace(n, is_cut=True) for n in nodes_of(it)))
    assert [one.network.id for one in finalists(every, 5)] == ["d0"]
    assert finalists(every, 0) == []
    assert finalists(tree(), 3) == []
    assert leader(tree()) is None


def test_a_shaky_lead_does_not_outrank_a_firm_one() -> None:
    shaky = replace(node("a0", rung=1), evidence=seen(0.022, seed=0.05))
    firm = replace(node("b0", rung=1), evidence=seen(0.02, seed=0.001))
    assert led(tree(shaky, firm)).network.id == "b0"


def test_ranking_is_the_same_whatever_is_compared_first() -> None:
    # Three networks whose pairwise comparison by a threshold and a tie-break would run in a ring.
    found = [
        led(tree(*both(name, delta)))
        for name, delta in zip("abc", (0.0, 0.004, 0.008), strict=True)
    ]

    def compare(one: Standing, two: Standing) -> int:
        return (order(one) > order(two)) - (order(one) < order(two))

    ranks = {
        tuple(s.network.id for s in sorted(mixed, key=cmp_to_key(compare)))
        for mixed in permutations(found)
    }
    assert ranks == {("c0", "b0", "a0")}


# What may still come of a network.


def test_a_chance_by_hand() -> None:
    it = tree(*both("a", 0.03), *both("b", 0.0), seconds_left=math.inf)
    board = Board(it)
    lead, other = (board.view(it.branches[name]).open[0] for name in "ab")
    chance, head = board.chance(other), 0.5 * board.it.sd
    spread = math.sqrt(other.belief.sd**2 + (0.45 * board.it.sd) ** 2 + lead.belief.sd**2)
    one = normal_tail(other.belief.mean + head - lead.belief.mean - it.margin, spread)
    assert chance.one == pytest.approx(one)
    assert chance.ever == pytest.approx(1 - (1 - one) ** 32)
    assert (chance.refinements, chance.against) == (32, "a1")
    own = board.chance(lead)
    assert (own.bar, own.against) == (0.0, "baseline")


def test_below_the_baseline_the_baseline_is_the_bar() -> None:
    it = tree(*both("a", -0.03), *both("b", -0.05))
    board = Board(it)
    assert board.bar == 0.0
    assert board.chance(board.view(it.branches["b"]).open[0]).against == "baseline"


def test_headroom_wears_off_with_every_refinement_that_improved_nothing() -> None:
    fresh = both("a", 0.01)
    kids = [node(f"a{i}", status=FAILED, parent="a1", depth=1, commit=f"{i}") for i in (2, 3)]
    one, two = Board(tree(*fresh)), Board(tree(*fresh, *kids))
    first, second = one.headroom(one.tree.branches["a"]), two.headroom(two.tree.branches["a"])
    assert second.mean == pytest.approx(0.85**2 * first.mean)
    assert second.sd == pytest.approx(0.85**2 * first.sd)
    assert one.head == first


def test_a_branch_gets_the_refinements_that_the_budget_allows_it() -> None:
    it = tree(*both("a", 0.01), *both("b", 0.01), seconds_left=600.0, confirm_s=40.0)
    # A litter of three at 10 s and a climb of 40 s; 560 s for two branches: 4 each.
    assert Board(it).refinements == 4
    assert Board(replace(it, slots=2)).refinements == 8
    assert Board(replace(it, seconds_left=0.0)).refinements == 1
    assert Board(replace(it, seconds_left=math.inf)).refinements == 32


def test_less_budget_never_makes_a_network_more_likely_to_pass() -> None:
    it = tree(*both("a", 0.03), *both("b", 0.01))
    found = []
    for seconds in (0.0, 100.0, 500.0, 2000.0, math.inf):
        board = Board(replace(it, seconds_left=seconds))
        found.append(board.chance(board.view(it.branches["b"]).open[0]).ever)
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_refinements_start_at_the_lowest_rung_unless_it_says_too_little_of_the_last() -> None:
    it = tree(*both("a", 0.02), *both("b", 0.02), cut_below=0.0)
    board = Board(it)
    step, link = board.it.step_sd, board.it.links[0].sd
    assert step / math.hypot(step, link) > board_module.TELLING
    assert board.first_rung == 0
    misled = replace(it, rung_sd=0.2)
    assert Board(misled).first_rung == 1
    assert {
        choose(misled, seed=seed).rung for seed in range(9) if choose(misled, seed=seed).node
    } == {1}
    assert Board(tree(baseline_mean=(0.8,), cost_s=(1.0,))).first_rung == 0


@given(st.floats(-0.05, 0.05))
def test_other_cases_are_believed_less_than_the_splits_own(delta: float) -> None:
    board = Board(tree(*both("a", delta)))
    one = board.view(board.tree.branches["a"]).open[0]
    mean = board.it.mean
    assert abs(board.beyond(one).mean - mean) <= abs(one.belief.mean - mean)
    assert 0 <= board.p_better(one) <= 1


# Twenty thousand trials.


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the branches that were looked at, as they are looked at."""
    looked: list[str] = []
    real = board_module.make_view

    def counting(branch: Branch, it: object) -> View:
        looked.append(branch.id)
        return real(branch, it)  # type: ignore[arg-type]

    monkeypatch.setattr(board_module, "make_view", counting)
    return looked


def large(branches: int, of_each: int) -> Tree:
    """Return a tree of many branches, each a draft, its climb, and refinements."""
    rng, nodes = Random(0), []
    for number in range(branches):
        name = f"b{number:05}"
        more: dict[str, Any] = {"branch": name, "commit": "x"}
        nodes.append(node(f"{name}-000", rng.gauss(0, 0.02), **more))
        nodes.append(node(f"{name}-001", rng.gauss(0, 0.02), parent=f"{name}-000", rung=1, **more))
        for place in range(2, of_each):
            more["commit"] = f"{place}"
            evidence = seen(rng.gauss(-0.01, 0.02))
            own = node(f"{name}-{place:03}", parent=f"{name}-001", depth=1, **more)
            nodes.append(replace(own, evidence=evidence))
    return tree(*nodes, drafts=branches)


def test_a_decision_after_one_change_looks_at_one_branch(views: list[str]) -> None:
    it = large(2000, 10)
    choose(it)
    assert set(views) == set(it.branches)
    views.clear()
    choose(it)
    assert views == []
    name = "b01234"
    added = node(f"{name}-999", 0.0, branch=name, parent=f"{name}-001", depth=1, commit="new")
    changed = Branch(name, [*it.branches[name].nodes, added])
    grew = replace(it, branches={**it.branches, name: changed})
    assert Board(grew).it == Board(it).it
    choose(grew)
    assert views == [name]
    assert sum(len(branch.nodes) for branch in grew.branches.values()) == 20_001


def test_a_view_is_made_again_when_the_constants_change(views: list[str]) -> None:
    it = tree(node("a0", 0.01), node("b0", 0.02))
    choose(it)
    views.clear()
    choose(replace(it, prior_sd=1.0))
    assert sorted(set(views)) == ["a", "b"]


def test_every_network_of_the_view_is_the_branchs_own() -> None:
    it = tree(*both("a", 0.01), *both("b", 0.02, is_cut=True))
    board = Board(it)
    open_of: dict[str, list[Network]] = {
        name: [one.network for one in board.view(branch).open]
        for name, branch in it.branches.items()
    }
    assert open_of == {"a": list(it.branches["a"].networks), "b": []}
    assert [one.network.id for one in board.view(it.branches["b"]).shelved] == ["b0"]
    assert SETTINGS.siblings == board_module.SIBLINGS
