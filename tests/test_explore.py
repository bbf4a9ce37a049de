"""Exploration: the published arithmetic by hand, single decisions, and whole simulated campaigns."""

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.evidence import Evidence, normal_tail
from agent.explore import (
    POLICIES,
    Decision,
    Node,
    Tree,
    branch_score,
    decide,
    finalists,
    incumbent,
    new_branch_score,
    qualities,
    qwbe,
    trial_quality,
)
from agent.ladder import Settings, is_screened
from agent.search_tree import Board, next_batch
from memory.errors import ExploreError
from memory.records import Status, canonical

SETTINGS = Settings()


def seen(delta: float, se: float = 0.004) -> Evidence:
    """Return evidence of `delta` Dice with cases alone as its noise."""
    return Evidence(delta, se, 0.0, se, normal_tail(delta, se), 20)


def node(name: str, delta: float | None = 0.0, *, status: Status = Status.OK, **more: Any) -> Node:
    """Return a trial named like its branch, plus a digit ("a0" is in branch "a")."""
    evidence = seen(delta) if status is Status.OK and delta is not None else None
    made = Node(name, None, name[0], 0, status, evidence)
    return replace(made, **({"cost_s": 10.0 * 4 ** more.get("rung", 0)} | more))


def tree(*nodes: Node, **more: Any) -> Tree:
    """Return a tree of two rungs with the branches that its nodes name."""
    given: dict[str, Any] = {
        "baseline_mean": (0.8, 0.85),
        "cost_s": (10.0, 40.0),
        "drafts": 3,
        "rung_sd": 0.0,
    }
    return Tree(nodes=nodes, branches=tuple({n.branch: 0 for n in nodes}), **(given | more))


def choose(it: Tree, policy: str = "qwbe") -> Decision:
    """Return a decision, made twice to see that it is the same."""
    first, again = (decide(it, Random(1), policy=policy, settings=SETTINGS) for _ in range(2))
    assert first == again
    return first


# The published arithmetic.


def test_trial_quality_by_hand() -> None:
    assert trial_quality(0.05, 0.8) == pytest.approx(0.25)
    assert trial_quality(-0.2, 0.8) == pytest.approx(-0.25)
    assert trial_quality(-0.2, 0.8, e=0.5) == pytest.approx(-0.5)  # the released code
    assert trial_quality(-0.9, 0.8) == -1.0
    assert trial_quality(-0.1, 0.0) == -1.0
    assert trial_quality(0.0, 1.0) == 0.0


def test_scores_by_hand() -> None:
    # 0.1 + 1.5 * 1.1^3 * sqrt(9) / (1 + 2) = 0.1 + 1.5 * 1.331
    assert branch_score(0.1, 2, total=9, settings=SETTINGS) == pytest.approx(2.0965)
    assert branch_score(-1.0, 2, total=9, settings=SETTINGS) == -1.0
    assert new_branch_score(3, total=16, settings=SETTINGS) == pytest.approx(1.5)


def test_arms_of_a_whole_tree_by_hand() -> None:
    it = tree(
        node("a0", 0.02),
        node("a1", 0.03, parent="a0", rung=1),
        node("b0", 0.01),
        node("b1", 0.02, parent="b0", rung=1),
        node("c0", -0.2, is_cut=True),
        cut_below=0.0,
    )
    made = choose(it)
    # K = 3, N = 2 + 2 + 1, total 8. Q_a = (0.02 / 0.2 + 0.03 / 0.15) / 2 = 0.15.
    rows = {row["branch"]: row for row in made.figures["arms"]}
    assert made.figures["n_total"] == 8
    assert rows["a"]["quality"] == pytest.approx(0.15)
    assert rows["a"]["score"] == pytest.approx(0.15 + 1.5 * 1.15**3 * 8**0.5 / 3)
    assert rows[None]["score"] == pytest.approx(1.5 * 8**0.5 / 4)
    assert set(rows) == {"a", "b", None}  # c is closed
    assert (made.action, made.branch, made.node, made.rung) == ("improve", "a", "a1", 0)


@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 50))
def test_a_higher_quality_never_scores_lower(one: float, two: float, visits: int) -> None:
    low, high = (branch_score(q, visits, total=100, settings=SETTINGS) for q in sorted((one, two)))
    assert low <= high


# Crashes.


def test_a_crash_takes_its_working_ancestors_quality_less_a_fifth() -> None:
    it = tree(
        node("a0", 0.02),
        node("a1", parent="a0", status=Status.FAILED),
        node("b0", -0.4),
        node("c0", status=Status.TIMED_OUT),
    )
    q = qualities(it, SETTINGS)
    assert q["b0"] == pytest.approx(-0.5)
    assert q["a1"] == q["c0"] == pytest.approx(-0.5)  # 0.1 - 0.2 would beat a working network
    without = qualities(
        tree(node("a0", 0.1), node("a1", parent="a0", status=Status.FAILED)), SETTINGS
    )
    assert without["a1"] == pytest.approx(0.3)


def test_a_repaired_crash_does_not_count() -> None:
    it = tree(node("a0", status=Status.FAILED), node("a1", 0.02, parent="a0"))
    assert qualities(it, SETTINGS) == {"a1": pytest.approx(0.1)}


@given(st.lists(st.tuples(st.floats(-0.8, 0.15), st.booleans()), min_size=1, max_size=12))
def test_a_crash_never_beats_a_working_network(found: list[tuple[float, bool]]) -> None:
    nodes: list[Node] = []
    for i, (delta, is_ok) in enumerate(found):
        status = Status.OK if is_ok else Status.OUT_OF_MEMORY
        parent = nodes[i // 2].id if i % 3 == 2 else None
        nodes.append(node(f"{'abc'[i % 3]}{i}", delta, status=status, parent=parent))
    it = tree(*nodes)
    q = qualities(it, SETTINGS)
    working = [q[n.id] for n in nodes if n.is_ok]
    crashed = [q[n.id] for n in nodes if n.is_failed and n.id in q]
    assert all(crash <= work for crash in crashed for work in working)
    assert all(-1 <= value <= 1 for value in q.values())


def test_a_network_is_repaired_three_times_at_most() -> None:
    failed = [node("a0", status=Status.FAILED)]
    for i in range(1, 4):
        made = choose(tree(*failed, drafts=1))
        assert (made.action, made.node) == ("repair", failed[-1].id)
        assert made.figures["repairs_done"] == i - 1
        failed.append(node(f"a{i}", status=Status.REJECTED, parent=failed[-1].id))
    made = choose(tree(*failed, drafts=1))
    assert (made.action, made.node, made.figures["reason"]) == ("cut", "a3", "repairs_spent")
    assert made.figures["closes_branch"]


# The ladder.


def test_drafts_come_first_and_nothing_climbs_before_they_are_screened() -> None:
    first = choose(tree())
    assert (first.action, first.rung, first.branch) == ("open", 0, None)
    running = node("c0", status=Status.RUNNING)
    it = tree(node("a0", 0.02), node("b0", 0.018), running, slots=2)
    assert choose(it).action == "wait"
    it = tree(node("a0", 0.02), node("b0", 0.018), node("c0", 0.015), margin=0.0)
    made = choose(it)
    assert (made.action, made.node, made.figures["reason"]) == ("cut", "c0", "screened_out")
    assert "rank 3 of 3 at rung 0, 2 climb" in made.text


def test_the_best_climb_in_order_of_their_posterior_mean() -> None:
    screened = (node("a0", 0.01), node("b0", 0.012), node("c0", 0.001, is_cut=True))
    first = choose(tree(*screened))
    assert (first.action, first.node, first.rung) == ("promote", "b0", 1)
    assert first.figures["against"] == "baseline"  # the incumbent has only the baseline to pass
    risen = node("b1", parent="b0", rung=1, status=Status.RUNNING)
    second = choose(tree(*screened, risen, slots=2))
    assert (second.action, second.node) == ("promote", "a0")
    assert second.figures["against"] == "b0"  # same rung as its own
    assert choose(tree(*screened, risen, slots=1)).action == "wait"


def test_a_shaky_lead_does_not_outrank_a_firm_one() -> None:
    shaky = node("a0", evidence=seen(0.02, se=0.05))
    it = tree(shaky, node("b0", 0.01), node("c0", 0.0, is_cut=True))
    top = incumbent(it)
    assert top is not None
    assert top.id == "b0"


def test_what_is_unlikely_to_pass_the_incumbent_is_cut_with_its_figures() -> None:
    it = tree(node("a0", 0.02), node("b0", 0.0))
    made = choose(it)
    assert (made.action, made.node, made.figures["reason"]) == ("cut", "b0", "chance")
    # P(N(-0.02, 2 * 0.004^2) > 0.005)
    assert made.figures["p_passes"] == pytest.approx(normal_tail(-0.025, 2**0.5 * 0.004))
    assert made.figures["against"] == "a0"
    wider = replace(it, rung_sd=0.03)  # rung 0 says less about the last, for either network
    assert choose(wider).action == "open"
    chance = Board(wider).chance(wider.nodes[1])
    assert chance.p == pytest.approx(normal_tail(-0.025, (2 * 0.004**2 + 2 * 0.03**2) ** 0.5))


def test_below_the_baseline_the_baseline_is_the_bar_but_the_leader_stays() -> None:
    it = tree(node("a0", -0.03), node("b0", -0.032), node("c0", -0.05))
    cuts = []
    while (made := choose(it)).action == "cut":
        cuts.append(made.node)
        assert made.figures["against"] == "baseline"
        it = replace(it, nodes=tuple(replace(n, is_cut=n.id in cuts) for n in it.nodes))
    assert cuts == ["b0", "c0"]
    assert (made.action, made.node) == ("promote", "a0")


def test_a_cut_network_returns_when_those_above_it_fall() -> None:
    lost = [node(f"a{i}", parent=f"a{i - 1}", rung=1, status=Status.FAILED) for i in range(1, 5)]
    it = tree(
        node("a0", 0.02),
        *lost[:-1],
        replace(lost[-1], is_cut=True),
        node("b0", 0.012),
        node("b1", 0.013, parent="b0", rung=1),
        node("c0", 0.011, is_cut=True),
        cut_below=0.05,
    )
    made = choose(it)
    assert (made.action, made.node, made.figures["returns"]) == ("promote", "c0", True)
    calm = replace(
        it, nodes=(node("a0", 0.02), node("a1", 0.014, parent="a0", rung=1), *it.nodes[5:])
    )
    assert choose(calm).action == "improve"


def test_an_improved_network_is_screened_against_the_incumbent_at_rung_0() -> None:
    it = tree(
        node("a0", 0.02),
        node("a1", 0.05, parent="a0", rung=1),
        node("b0", 0.0, is_cut=True),
        node("c0", 0.0, is_cut=True),
        node("a2", 0.03, parent="a1", depth=1),
    )
    assert Board(it).chance(it.nodes[-1]).against == "a0"
    made = choose(it)
    assert (made.action, made.node, made.rung) == ("promote", "a2", 1)


# Budgets.


def test_a_trial_that_eats_into_confirmation_is_never_chosen() -> None:
    it = tree(seconds_left=100.0, confirm_s=50.0)
    assert choose(it).action == "open"  # 10 s, then 40 s for its climb, 50 s left to confirm
    assert choose(replace(it, confirm_s=51.0)).action == "confirm"
    assert choose(replace(it, confirm_s=0.0, trials_left=1)).action == "confirm"


def test_drafts_leave_time_for_those_that_climb() -> None:
    it = tree(node("a0", 0.01), node("b0", 0.01), drafts=6, seconds_left=85.0)
    made = choose(it)  # a third draft and two climbs need 90 s
    assert (made.action, made.node) == ("promote", "a0")
    assert choose(replace(it, seconds_left=90.0)).action == "open"


def test_a_slow_network_is_expected_to_stay_slow() -> None:
    slow = node("a0", 0.02, cost_s=20.0)
    it = tree(slow, node("b0", 0.018), node("c0", 0.01, is_cut=True), seconds_left=79.0)
    made = choose(it)  # 80 s for a0, twice as slow as expected
    assert (made.action, made.node, made.figures["expected_s"]) == ("promote", "b0", 40.0)


def test_the_search_waits_for_what_runs_before_it_confirms() -> None:
    done = (node("a0", 0.02), node("b0", 0.01, is_cut=True), node("c0", 0.01, is_cut=True))
    risen = node("a1", parent="a0", rung=1, status=Status.RUNNING)
    it = tree(*done, risen, slots=2, seconds_left=45.0)
    assert choose(it).action == "wait"
    ended = replace(risen, status=Status.OK, evidence=seen(0.03))
    made = choose(tree(*done, ended, slots=2, seconds_left=45.0))
    assert (made.action, made.node, made.rung) == ("confirm", "a1", 1)


def test_cancelled_trials_count_for_nothing() -> None:
    screened = (node("a0", 0.02), node("b0", 0.01, is_cut=True), node("c0", 0.01, is_cut=True))
    stopped = node("a1", parent="a0", rung=1, status=Status.CANCELLED)
    assert choose(tree(*screened, stopped)) == choose(tree(*screened))


# Incumbent, finalists, refusals, other policies.


def test_incumbent_and_finalists_come_from_the_highest_rung() -> None:
    it = tree(
        node("a0", 0.09),
        node("b0", 0.01),
        node("b1", 0.01, parent="b0", rung=1),
        node("c0", 0.01),
        node("c1", 0.01, parent="c0", rung=1),
        node("d0", 0.02),
        node("d1", 0.02, parent="d0", rung=1, is_cut=True),
    )
    top = incumbent(it)
    assert top is not None
    assert top.id == "d1"
    assert [n.id for n in finalists(it, 5)] == ["b1", "c1"]  # a tie goes by id
    assert [n.id for n in finalists(it, 1)] == ["b1"]
    all_cut = replace(it, nodes=tuple(replace(n, is_cut=True) for n in it.nodes))
    assert [n.id for n in finalists(all_cut, 5)] == ["d1"]
    assert finalists(tree(), 3) == ()
    assert incumbent(tree()) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: tree(cost_s=(1.0,)), "2 rungs with a baseline, 1 with a cost"),
        (lambda: tree(node("a0"), node("a0")), "2 nodes have 1 ids"),
        (lambda: tree(node("a0", parent="x")), "has parent 'x'"),
        (lambda: tree(node("a0", rung=2)), "allowed: 0 to 1"),
        (lambda: tree(node("a0", None)), "no evidence"),
        (lambda: decide(tree(), Random(1), policy="best", settings=SETTINGS), "unknown policy"),
    ],
)
def test_impossible_trees_are_refused(wrong: Any, says: str) -> None:
    with pytest.raises(ExploreError, match=says):
        wrong()


def test_greedy_stays_with_the_best_network_and_random_does_not() -> None:
    nodes = [node("a0", 0.02), node("a1", 0.03, parent="a0", rung=1)]
    nodes += [
        node("b0", 0.018),
        node("b1", 0.029, parent="b0", rung=1),
        node("c0", 0.0, is_cut=True),
    ]
    nodes += [node(f"a{i}", -0.01, parent="a1", depth=1, is_cut=True) for i in range(2, 8)]
    it = tree(*nodes, cut_below=0.05)
    assert choose(it, "greedy").node == "a1"
    assert choose(it).node == "b1"  # six visits have worn branch a down
    found = {decide(it, Random(i), policy="random", settings=SETTINGS).node for i in range(30)}
    assert found == {"a1", "b1", None}


@pytest.mark.parametrize("policy", sorted(POLICIES))
@hypothesis_settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_order_of_rows_does_not_matter_and_the_figures_are_json(
    policy: str, data: st.DataObject
) -> None:
    made = data.draw(trees())
    moved = replace(
        made,
        nodes=tuple(data.draw(st.permutations(made.nodes))),
        branches=tuple(data.draw(st.permutations(made.branches))),
    )
    seed = data.draw(st.integers(0, 9))
    here, there = (decide(t, Random(seed), policy=policy, settings=SETTINGS) for t in (made, moved))
    assert here == there
    assert json.loads(canonical(here.figures)) == here.figures
    assert [n.id for n in finalists(made, 3)] == [n.id for n in finalists(moved, 3)]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Return any tree of up to 12 trials in 4 branches, also odd ones."""
    nodes: list[Node] = []
    for i in range(draw(st.integers(0, 12))):
        branch = draw(st.sampled_from("abcd"))
        parents = [n for n in nodes if n.branch == branch]
        parent = draw(st.sampled_from([None, *parents]))
        may_rise = parent is not None and parent.is_ok and parent.rung == 0
        status = draw(st.sampled_from([Status.OK, Status.OK, Status.FAILED, Status.CANCELLED]))
        made = node(
            f"{branch}{i}",
            draw(st.sampled_from([-0.05, 0.0, 0.0, 0.01, 0.02])),
            status=status,
            parent=parent.id if parent else None,
            rung=1 if may_rise and draw(st.booleans()) else 0,
            is_cut=draw(st.booleans()),
        )
        nodes.append(made)
    seconds = draw(st.sampled_from([0.0, 60.0, 1000.0, float("inf")]))
    return tree(*nodes, seconds_left=seconds, slots=draw(st.integers(1, 3)))


# Whole campaigns.


class World:
    """A simulated campaign: true effects, noise, failures and a clock; no training.

    Keeps each decision with its tree, so that the whole campaign can be replayed.
    """

    def __init__(
        self, seed: int, *, spread: float, seconds: float, slots: int, policy: str = "qwbe"
    ) -> None:
        """Begin a campaign; `spread` is the SD of a network's step in Dice."""
        self.rng = Random(seed)
        self.spread, self.policy, self.now, self.budget = spread, policy, 0.0, seconds
        self.truth: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.log: list[tuple[Tree, int, Decision]] = []
        self.trials = 40
        self.tree = Tree(
            nodes=(),
            branches=(),
            baseline_mean=(0.80, 0.84),
            cost_s=(10.0, 40.0),
            slots=slots,
            trials_left=self.trials,
            seconds_left=seconds,
            confirm_s=150.0,
        )

    def run(self) -> None:
        """Play until the policy confirms."""
        for step in range(1000):
            left = self.budget - self.now
            self.tree = replace(self.tree, seconds_left=left, trials_left=self.trials)
            made = decide(self.tree, Random(step), policy=self.policy, settings=SETTINGS)
            self.log.append((self.tree, step, made))
            if made.action == "confirm":
                return
            self.apply(made)
        pytest.fail("the campaign does not end")

    def apply(self, made: Decision) -> None:
        """Do what was decided."""
        if made.action == "wait":
            assert self.ends, "waits for nothing"
            self.finish(min(self.ends, key=lambda name: (self.ends[name], name)))
        elif made.action == "cut":
            self.mark(made.node, is_cut=True)
        else:
            self.start(made)

    def mark(self, name: str | None, **changes: Any) -> None:
        """Change one node."""
        nodes = tuple(replace(n, **changes) if n.id == name else n for n in self.tree.nodes)
        self.tree = replace(self.tree, nodes=nodes)

    def start(self, made: Decision) -> None:
        """Start a trial, its true effect a step away from its parent's."""
        old = next((n for n in self.tree.nodes if n.id == made.node), None)
        name = f"n{len(self.tree.nodes):03}"
        branch = made.branch or f"b{len(self.tree.branches):02}"
        if made.branch is None:
            self.tree = replace(self.tree, branches=(*self.tree.branches, branch))
        step = 0.0 if made.action == "promote" else self.rng.gauss(0, self.spread)
        self.truth[name] = (self.truth[old.id] if old else 0.0) + step
        assert made.rung is not None
        depth = (old.depth if old else 0) + (made.action == "improve")
        fresh = Node(name, made.node, branch, made.rung, Status.RUNNING, depth=depth)
        self.tree = replace(self.tree, nodes=(*self.tree.nodes, fresh))
        self.ends[name] = self.now + self.tree.cost_s[made.rung]
        self.trials -= 1

    def finish(self, name: str) -> None:
        """End the trial; one in five fails, the others are seen through noise."""
        self.now = self.ends.pop(name)
        cost = next(self.tree.cost_s[n.rung] for n in self.tree.nodes if n.id == name)
        if self.rng.random() < 0.2:
            self.mark(name, status=Status.FAILED, cost_s=cost)
            return
        noise = self.rng.gauss(0, 0.004)
        self.mark(name, status=Status.OK, cost_s=cost, evidence=seen(self.truth[name] + noise))

    def actions(self) -> list[str]:
        """Return what was decided, in order."""
        return [made.action for _, _, made in self.log]


def check_step(it: Tree, made: Decision) -> None:
    """Assert what must hold of every decision."""
    by_id = {n.id: n for n in it.nodes}
    assert len(it.pending) <= it.slots
    assert made.text
    canonical(made.figures)
    if made.action in ("open", "improve", "promote", "repair"):
        assert made.rung is not None
        assert it.cost_s[made.rung] <= it.seconds_left - it.confirm_s
        assert it.trials_left >= 1
        assert len(it.pending) < it.slots
    if made.action in ("promote", "improve", "cut", "repair"):
        acted = by_id[made.node or ""]
        assert acted.branch == made.branch
        assert acted.is_failed == (
            made.action == "repair" or made.figures.get("reason") == "repairs_spent"
        )
    if made.action == "promote":
        assert not acted.is_cut or made.figures["returns"]
        assert made.rung == acted.rung + 1
        assert not any(n.parent == acted.id and n.rung > acted.rung for n in it.nodes)
    if made.action in ("improve", "cut"):
        assert not acted.is_cut


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_a_whole_campaign_keeps_its_rules(policy: str, slots: int, seed: int) -> None:
    world = World(seed, spread=0.02, seconds=600.0, slots=slots, policy=policy)
    world.run()
    for it, step, made in world.log:
        check_step(it, made)
        assert decide(it, Random(step), policy=policy, settings=SETTINGS) == made
    assert not world.ends
    assert world.now <= world.budget - world.tree.confirm_s
    assert world.trials >= 0
    assert {n.rung for n in world.tree.nodes} == {0, 1}
    assert "cut" in world.actions()
    assert len(world.tree.branches) >= 6


@pytest.mark.parametrize("seed", range(20))
def test_a_short_campaign_reaches_every_station(seed: int) -> None:
    world = World(seed, spread=0.02, seconds=300.0, slots=2)
    world.run()
    actions = world.actions()
    assert actions.count("open") >= 6
    assert 1 <= actions.count("promote") <= 4
    assert "cut" in actions
    assert finalists(world.tree, 2)[0].rung == 1


def test_better_networks_are_found_than_the_first_drafts_by_chance() -> None:
    gains = []
    for seed in range(30):
        world = World(seed, spread=0.01, seconds=2000.0, slots=2)
        world.trials = 60
        world.run()
        gains.append(world.truth[finalists(world.tree, 1)[0].id])
    assert sum(gains) / len(gains) > 0.01  # the best of 6 drafts alone has 0.0127 without noise


@given(st.integers(0, 10_000), st.integers(1, 3), st.floats(150, 900))
@hypothesis_settings(max_examples=40, deadline=None)
def test_no_budget_is_ever_exceeded(seed: int, slots: int, seconds: float) -> None:
    world = World(seed, spread=0.015, seconds=seconds, slots=slots)
    world.trials = seed % 25
    world.run()
    assert world.now <= max(0.0, seconds - world.tree.confirm_s)
    assert world.trials >= 0
    for it, _, made in world.log:
        check_step(it, made)


def test_two_slots_do_not_ask_for_the_same_thing() -> None:
    pair = [node("a0", 0.02), node("a1", 0.02, parent="a0", rung=1)]
    pair += [node("b0", 0.02), node("b1", 0.02, parent="b0", rung=1), node("c0", 0.0, is_cut=True)]
    first = choose(tree(*pair, slots=2))
    assert first.action == "improve"
    assert first.branch is not None
    sent = node(f"{first.branch}9", status=Status.PLANNED, parent=first.node, depth=1)
    second = choose(tree(*pair, sent, slots=2))
    assert second.action == "improve"
    assert second.branch not in (None, first.branch)


def test_qwbe_ends_ties_by_its_generator_alone() -> None:
    pair = [node("a0", 0.02), node("a1", 0.02, parent="a0", rung=1)]
    pair += [node("b0", 0.02), node("b1", 0.02, parent="b0", rung=1), node("c0", 0.0, is_cut=True)]
    it = tree(*pair)
    assert {qwbe(it, Random(i), SETTINGS).branch for i in range(20)} == {"a", "b"}


# A network without room in memory.


def full(name: str, **more: Any) -> Node:
    """Return a trial that found no room in memory."""
    return node(name, None, status=Status.OUT_OF_MEMORY, **more)


def test_half_the_batch_and_then_a_quarter_are_tried_before_a_repair() -> None:
    others = (node("b0", 0.01), node("c0", 0.01))
    first = choose(tree(full("a0", commit="x"), *others, batch_size=8))
    assert (first.action, first.node, first.rung) == ("smaller_batch", "a0", 0)
    assert first.figures["batch_size"] == 4
    assert first.figures["batch_before"] == first.figures["batch_planned"] == 8
    half = full("a1", parent="a0", commit="x", batch_size=4)
    second = choose(tree(full("a0", commit="x"), half, *others, batch_size=8))
    assert (second.action, second.node, second.figures["batch_size"]) == ("smaller_batch", "a1", 2)
    quarter = full("a2", parent="a1", commit="x", batch_size=2)
    third = choose(tree(full("a0", commit="x"), half, quarter, *others, batch_size=8))
    assert (third.action, third.node) == ("repair", "a2")
    assert third.figures["repairs_done"] == 0


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


def test_a_smaller_batch_must_fit_the_budget() -> None:
    it = tree(full("a0"), node("b0", 0.01), node("c0", 0.01), batch_size=8, trials_left=0)
    assert choose(it).action != "smaller_batch"
    late = replace(it, trials_left=9, seconds_left=70.0)  # 50 to climb, 30 for the baselines
    assert choose(late).action != "smaller_batch"
    assert choose(replace(late, seconds_left=80.0)).action == "smaller_batch"


def test_nobody_is_cut_while_a_draft_waits_for_a_smaller_batch() -> None:
    waits = tree(full("a0"), node("b0", -0.001), node("c0", 0.01), batch_size=8, slots=1)
    assert not is_screened(Board(waits), SETTINGS)
    assert is_screened(Board(replace(waits, batch_size=0, repairs=0)), SETTINGS)


def test_other_baselines_add_their_seeds_to_a_chance() -> None:
    noisy = Evidence(0.01, 0.004, 0.004, 0.0057, 0.9, 20, seed_sd=0.003)
    top = replace(node("a0"), evidence=noisy._replace(delta=0.02))
    same, other = (
        Board(tree(top, replace(node("b0"), evidence=noisy, batch_size=size))) for size in (None, 4)
    )
    near, far = (board.chance(board.by_id["b0"]).p for board in (same, other))
    assert near < far < 0.5
