"""How trials become networks and branches, and what a tree says of costs and room."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.branches import Branch, Network, Node, grown
from agent.search_tree import Tree, next_batch
from memory.errors import ExploreError
from memory.records import Kind, Status
from tests.trees import grown_nodes, node, nodes_of, seen, tree

FAILED, RUNNING = Status.FAILED, Status.RUNNING


def networks(*nodes: Node) -> list[Network]:
    """Return the networks of the one branch that the nodes are in."""
    return list(Branch(nodes[0].branch, nodes).networks)


def ids(found: list[Network]) -> list[list[str]]:
    """Return the trials of each network."""
    return [[one.id for one in network.trials] for network in found]


def test_a_network_is_its_first_trial_its_climbs_and_its_repeats() -> None:
    found = networks(
        node("a0", commit="x"),
        node("a1", parent="a0", commit="x", rung=1),
        node("a2", parent="a1", commit="x", rung=1),
        node("a3", parent="a1", commit="y", depth=1, kind=Kind.IMPROVE),
        node("a4", parent="a3", commit="y", rung=1, depth=1),
    )
    assert ids(found) == [["a0", "a1", "a2"], ["a3", "a4"]]
    assert [one.parent for one in found] == [-1, 0]
    assert [one.rung for one in found] == [1, 1]
    assert [one.seeds_at(1) for one in found] == [2, 1]
    assert [one.top.id for one in found] == ["a1", "a4"]


def test_without_commits_a_higher_rung_is_the_same_network() -> None:
    found = networks(node("a0"), node("a1", parent="a0", rung=1), node("a2", parent="a1"))
    assert ids(found) == [["a0", "a1"], ["a2"]]


def test_a_smaller_batch_is_the_same_network_and_a_repair_is_another() -> None:
    found = networks(
        node("a0", status=Status.OUT_OF_MEMORY, commit="x"),
        node("a1", status=Status.OUT_OF_MEMORY, commit="x", parent="a0", batch_size=4),
        node("a2", commit="y", parent="a1", batch_size=4, kind=Kind.REPAIR),
    )
    assert ids(found) == [["a0", "a1"], ["a2"]]
    assert [one.may_go_on for one in found] == [False, True]


def test_the_child_of_a_network_without_scores_hangs_on_the_nearest_ancestor_with_some() -> None:
    found = networks(
        node("a0", commit="x"),
        node("a1", status=FAILED, parent="a0", commit="y", depth=1),
        node("a2", status=FAILED, parent="a1", commit="z", depth=1),
        node("a3", parent="a2", commit="w", depth=1),
        node("a4", status=FAILED, commit="v"),
        node("a5", parent="a4", commit="u"),
    )
    by_first = {network.id: network.parent for network in found}
    assert by_first == {"a0": -1, "a1": 0, "a2": 0, "a3": 0, "a4": -1, "a5": -1}


def test_seeds_average_out_and_cases_do_not() -> None:
    first, second = seen(0.01, cases=0.004, seed=0.006), seen(0.03, cases=0.004, seed=0.006)
    (one,) = networks(
        replace(node("a0", rung=1, commit="x"), evidence=first),
        replace(node("a1", rung=1, commit="x", parent="a0"), evidence=second),
    )
    (reading,) = one.readings
    assert reading.value == pytest.approx(0.02)
    assert reading.variance == pytest.approx(0.006**2 / 2)
    assert reading.cases == pytest.approx(0.004**2)


def test_seeds_are_never_believed_to_be_without_noise() -> None:
    (one,) = networks(replace(node("a0"), evidence=seen(0.01, cases=0.004, seed=0.0)))
    assert one.readings[0].variance == pytest.approx(0.01 * 0.004**2)
    (other,) = networks(replace(node("a0"), evidence=seen(0.0, cases=0.0, seed=0.0)))
    assert other.readings[0].variance > 0


def test_what_failed_was_cut_or_stopped_does_not_go_on() -> None:
    ok, top = node("a0", commit="x"), node("a1", parent="a0", commit="x", rung=1)
    assert networks(ok)[0].may_go_on
    assert networks(ok, top)[0].may_go_on
    assert networks(ok, replace(top, status=RUNNING, evidence=None))[0].is_pending
    for ended in (FAILED, Status.TIMED_OUT, Status.REJECTED, Status.OUT_OF_MEMORY):
        assert not networks(ok, replace(top, status=ended))[0].may_go_on
    assert not networks(replace(ok, is_cut=True))[0].may_go_on
    cut_in_training = replace(top, status=Status.CANCELLED, is_cut=True)
    assert networks(ok, cut_in_training)[0].is_cut
    assert not networks(ok, cut_in_training)[0].may_return
    assert networks(replace(ok, is_cut=True))[0].may_return


def test_the_names_of_trials_do_not_decide_whether_a_network_goes_on() -> None:
    ok = node("a0", 0.02, commit="x", rung=1)
    for failed, fine in (("a1", "a2"), ("a2", "a1")):
        again = node(fine, 0.02, commit="x", rung=1, parent="a0")
        crash = node(failed, status=FAILED, commit="x", rung=1, parent="a0")
        assert networks(ok, again, crash)[0].may_go_on


def test_cancelled_trials_count_for_nothing_unless_they_were_cut() -> None:
    kept = [node("a0", commit="x"), node("a1", parent="a0", commit="y", depth=1)]
    stopped = node("a2", status=Status.CANCELLED, parent="a0", commit="z", depth=1)
    without, with_it = Branch("a", kept), Branch("a", [*kept, stopped])
    assert with_it.networks == without.networks
    assert with_it.litters == without.litters
    assert with_it.wasted == without.wasted
    assert with_it.cost_s == without.cost_s
    assert len(Branch("a", [*kept, replace(stopped, is_cut=True)]).networks) == 3


# What a branch has come to.


def test_a_failure_counts_until_something_follows_it_or_it_is_cut() -> None:
    failed = node("a0", status=FAILED, commit="x")
    assert Branch("a", [failed]).failures == (failed,)
    assert Branch("a", [replace(failed, is_cut=True)]).failures == ()
    repaired = node("a1", status=RUNNING, parent="a0", commit="y", kind=Kind.REPAIR)
    assert Branch("a", [failed, repaired]).failures == ()
    assert not Branch("a", [failed, repaired]).has_worked
    assert Branch("a", [failed, repaired]).pending == (repaired,)


def test_repairs_in_a_row_are_counted_and_smaller_batches_are_none() -> None:
    full = Status.OUT_OF_MEMORY
    branch = Branch(
        "a",
        [
            node("a0", status=full, commit="x"),
            node("a1", status=full, commit="x", parent="a0", batch_size=4),
            node("a2", status=full, commit="x", parent="a1", batch_size=2),
            node("a3", status=FAILED, commit="y", parent="a2", batch_size=2),
            node("a4", status=FAILED, commit="z", parent="a3", batch_size=2),
        ],
    )
    counts = [branch.repairs_done(one) for one in branch.nodes]
    assert counts == [0, 0, 0, 1, 2]


def refined(*deltas: float | None, rung: int = 1, draft: float = 0.0) -> Branch:
    """Return a branch with a draft at rung 1 and its refinements; None is a crash."""
    nodes = [node("a00", draft, rung=1, commit="x")]
    for place, delta in enumerate(deltas, start=1):
        more = {"parent": "a00", "rung": rung, "depth": 1, "commit": f"{place}"}
        status = Status.OK if delta is not None else FAILED
        nodes.append(node(f"a{place:02}", delta or 0.0, status=status, **more))
    return Branch("a", nodes)


def test_refinements_that_improved_nothing_are_wasted() -> None:
    assert refined().wasted == 0
    assert refined(None, None).wasted == 2
    assert refined(0.02).wasted == 0
    assert refined(0.02, 0.01, None).wasted == 2
    assert refined(0.02, 0.01, None, 0.03).wasted == 0
    assert refined(0.02, 0.05, rung=0).wasted == 2  # screened alone: nothing is known of rung 1


def test_a_refinement_below_its_draft_is_wasted() -> None:
    assert refined(-0.02, draft=0.05).wasted == 1


def test_a_good_reading_at_a_lower_rung_does_not_make_a_bad_climb_good() -> None:
    first = refined(0.02)
    low = node("a02", 0.09, parent="a00", commit="y", depth=1)
    high = node("a03", 0.01, parent="a02", commit="y", depth=1, rung=1)
    assert Branch("a", [*first.nodes, low, high]).wasted == 1


@given(st.permutations(["a1", "a2", "a3"]))
def test_the_names_of_refinements_do_not_decide_what_is_wasted(names: list[str]) -> None:
    nodes = [node("a0", 0.0, rung=1, commit="x")]
    for time, (name, delta) in enumerate(zip(names, (0.03, 0.01, 0.02), strict=True), start=1):
        more: dict[str, Any] = {"parent": "a0", "commit": name, "planned_at": float(time)}
        nodes.append(node(name, delta, rung=1, depth=1, **more))
    assert Branch("a", nodes).wasted == 2


def test_litters_are_the_refinements_of_each_network() -> None:
    nodes = [node("a0", commit="x"), node("a1", parent="a0", rung=1, commit="x")]
    nodes += [node(f"a{i}", parent="a1", commit=f"{i}", depth=1) for i in (2, 3)]
    nodes += [node("a4", parent="a3", commit="4", depth=2)]
    branch = Branch("a", nodes)
    assert [branch.networks[place].id for place in branch.litters[0]] == ["a2", "a3"]
    (parent,) = set(branch.litters) - {0}
    assert branch.networks[parent].id == "a3"
    assert [n.id for n in branch.children_of(branch.networks[0])] == ["a2", "a3"]
    assert branch.network_of("a1").id == "a0"


@given(grown_nodes(), st.data())
def test_the_order_of_rows_does_not_matter(nodes: list[Node], data: st.DataObject) -> None:
    moved = data.draw(st.permutations(nodes))
    one, two = grown(nodes), grown(moved)
    assert list(one) == list(two)
    for here, there in zip(one.values(), two.values(), strict=True):
        assert here.networks == there.networks
        assert here.failures == there.failures
        assert here.wasted == there.wasted


@given(grown_nodes())
def test_every_trial_that_counts_is_in_one_network_and_parents_come_first(
    nodes: list[Node],
) -> None:
    for branch in grown(nodes).values():
        found = [one.id for network in branch.networks for one in network.trials]
        assert sorted(found) == [one.id for one in branch.nodes]
        for place, network in enumerate(branch.networks):
            assert -1 <= network.parent < place
            assert network.parent < 0 or branch.networks[network.parent].readings


# The tree: costs, room, refusals.


def test_a_slow_network_is_expected_to_stay_slow() -> None:
    slow = node("a0", 0.02, cost_s=20.0)
    it = tree(slow, seconds_left=100.0)
    assert it.cost(1) == 40.0
    assert it.cost(1, like=slow) == 80.0
    assert it.climb(0) == 50.0
    assert it.climb(0, like=slow) == 100.0
    assert it.cost(1, like=replace(slow, status=FAILED)) == 40.0
    assert it.cost(1, like=replace(slow, cost_s=0.0)) == 40.0


def test_what_fits_leaves_confirmation_its_time() -> None:
    it = tree(node("a0"), seconds_left=100.0, confirm_s=60.0, trials_left=2)
    assert it.free_s == 40.0
    assert it.fits(40.0, trials=2)
    assert not it.fits(40.5, trials=2)
    assert not it.fits(40.0, trials=3)
    assert replace(it, seconds_left=50.0).free_s == 0.0
    assert it.spent_s == 10.0


@pytest.mark.parametrize(
    ("planned", "sizes"), [(2, []), (3, []), (4, [2]), (6, [3]), (32, [16, 8])]
)
def test_the_ladder_of_batches_ends_at_a_quarter_or_at_two(planned: int, sizes: list[int]) -> None:
    found: list[int] = []
    size = next_batch(None, planned=planned)
    while size is not None:
        found.append(size)
        size = next_batch(size, planned=planned)
    assert found == sizes


def test_only_a_lack_of_memory_asks_for_a_smaller_batch() -> None:
    full = node("a0", status=Status.OUT_OF_MEMORY)
    assert tree(full, batch_size=8).smaller_batch(full) == 4
    assert tree(full, batch_size=0).smaller_batch(full) is None
    assert tree(full, batch_size=8).smaller_batch(replace(full, status=FAILED)) is None


def test_branches_are_sorted_and_may_be_empty() -> None:
    found = grown([node("b0"), node("a0")], ["c", "b"])
    assert list(found) == ["a", "b", "c"]
    assert found["c"].nodes == []
    assert [n.id for n in nodes_of(tree(node("b0"), node("a0")))] == ["a0", "b0"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: tree(cost_s=(1.0,)), "2 rungs with a baseline, 1 with a cost"),
        (lambda: Tree(baseline_mean=(), cost_s=()), "0 rungs with a baseline"),
        (lambda: tree(node("a0"), node("a0")), "2 nodes have 1 ids"),
        (lambda: tree(node("a0"), node("a0", branch="b")), "is in two branches"),
        (lambda: Branch("b", [node("a0")]), "is not in 'b'"),
        (lambda: tree(node("a0", parent="x")), "has parent 'x'"),
        (lambda: tree(node("a0", rung=-1)), "at rung -1"),
        (lambda: tree(replace(node("a0"), evidence=None)), "no evidence"),
    ],
)
def test_impossible_trees_are_refused(wrong: Callable[[], object], says: str) -> None:
    with pytest.raises(ExploreError, match=says):
        wrong()


def test_a_tree_without_limits_is_the_default() -> None:
    it = Tree(baseline_mean=(0.8,), cost_s=(1.0,))
    assert math.isinf(it.free_s)
    assert it.pending == []
    assert it.last_rung == 0
