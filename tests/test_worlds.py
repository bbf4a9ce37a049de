"""The simulator: the same world for every policy, nothing to find, costs, noise, and outcomes."""

import math
from collections import Counter
from dataclasses import replace
from random import Random
from statistics import fmean, pstdev

import pytest

from agent.branches import Node
from agent.policies import POLICIES
from agent.search_tree import Action, Decision, Tree
from bench.worlds import MARGIN, POINT, SCENARIOS, Play, Truth, World, play
from memory.records import Status
from tests.trees import SETTINGS, nodes_of, story

NAMES = sorted(POLICIES)


def ready(world: World = SCENARIOS["default"], *, seed: int = 0, policy: str = "qwbe") -> Play:
    """Return a campaign that has not begun, its world drawn."""
    made = Play(world=world, seed=seed, budget=10.0, policy=policy, settings=SETTINGS)
    made.prepare()
    return made


def opened(name: str, play: Play) -> Truth:
    """Return the truth of a new draft."""
    play.begin(name, Decision(action="open", rung=0, figures={}, text="opens"), None)
    play.networks[name] = name
    return play.truths[name]


def improved(name: str, play: Play, source: str, *, partner: str | None = None) -> Truth:
    """Return the truth of a network made from another."""
    parent = Node(source, None, "b", 1, Status.OK)
    action: Action = "crossover" if partner else "improve"
    made = Decision(action=action, node=source, partner=partner, rung=0, figures={}, text="")
    play.begin(name, made, parent)
    play.networks[name] = name
    return play.truths[name]


def test_the_same_seed_is_the_same_world_for_every_policy() -> None:
    told = [story(policy, seed=3).play for policy in NAMES]
    for one in told:
        fresh = ready(seed=3)
        assert one.best == fresh.best
        assert one.shift == fresh.shift
        # A breakthrough raises a ceiling, none sinks; ideas beyond those used are as drawn.
        assert all(a >= b for a, b in zip(one.ceilings, fresh.ceilings, strict=True))
        used = len(set(one.opened))
        assert one.ceilings[used:] == fresh.ceilings[used:]
    assert ready(seed=4).ceilings != ready(seed=3).ceilings


@pytest.mark.parametrize("policy", NAMES)
def test_the_same_seed_ends_the_same(policy: str) -> None:
    one, two = (play("default", policy, 7, budget=8.0, settings=SETTINGS) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("policy", NAMES)
def test_where_there_is_nothing_to_find_nothing_is_found(policy: str) -> None:
    told = story(policy, seed=2, scenario="no_effect").play
    assert told.truths
    assert {truth.effect for truth in told.truths.values()} == {0.0}
    assert set(told.ceilings) == {0.0}
    end = play("no_effect", policy, 2, budget=12.0, settings=SETTINGS)
    assert end.regret == 0.0
    assert end.first_win == 12.0
    assert end.is_false_lead == end.is_lead


@pytest.mark.parametrize("policy", NAMES)
@pytest.mark.parametrize("slots", [1, 3])
def test_costs_add_up(policy: str, slots: int) -> None:
    told = story(policy, seed=1, slots=slots)
    nodes = nodes_of(told.steps[-1].tree)
    spent = math.fsum(one.cost_s for one in nodes)
    if slots == 1:
        assert spent == pytest.approx(told.play.now)
    assert told.play.now <= spent + 1e-9 <= slots * told.play.now + 2e-9
    world = SCENARIOS["default"]
    for one in nodes:
        full = world.rung_cost if one.rung == 0 else 1.0
        assert one.cost_s == pytest.approx(full if one.is_ok else world.crash_cost * full)
        assert (one.evidence is not None) == one.is_ok


def test_trials_of_a_network_share_its_truth_and_its_cases() -> None:
    told = story("qwbe", seed=0, budget=16.0)
    again = Counter(made.action for made in told.made())
    assert again["promote"] > 0
    assert again["repeat"] > 0
    networks = told.play.networks
    assert len(set(networks.values())) == len(networks) - again["promote"] - again["repeat"]
    for it in (told.steps[-1].tree,):
        for branch in it.branches.values():
            for network in branch.networks:
                assert {networks[one.id] for one in network.trials} == {network.id}


def test_ceilings_are_heavy_tailed_and_bounded() -> None:
    found = ready().ceilings
    points = sorted(value / POINT for value in found)
    assert points[-1] <= SCENARIOS["default"].most
    assert points[len(points) // 2] == pytest.approx(-0.3, abs=0.2)
    assert points[-1] > 1.5  # a normal distribution of the same quartiles has 400 below 2.2
    assert points[0] < -3.0


def test_a_draft_lies_below_its_ceiling_and_a_planner_repeats_itself() -> None:
    made = ready()
    truths = [opened(f"t{i}", made) for i in range(300)]
    gaps = [(made.ceilings[one.idea] - one.effect) / POINT for one in truths]
    assert min(gaps) >= 0
    assert fmean(gaps) == pytest.approx(2.0, abs=0.3)
    ideas = [one.idea for one in truths]
    assert set(ideas) == set(range(len(set(ideas))))  # the next new idea is the next ceiling
    assert 20 < len(set(ideas)) < 90
    never = ready(World(fresh=math.inf))
    assert len({opened(f"t{i}", never).idea for i in range(100)}) == 100


def test_children_close_a_part_of_the_gap_or_get_worse() -> None:
    made = ready(World(breakthrough=0.0))
    parent = opened("p", made)
    top = made.ceilings[parent.idea]
    kids = [improved(f"k{i}", made, "p") for i in range(500)]
    better = [kid for kid in kids if kid.effect > parent.effect]
    assert all(kid.effect <= top for kid in kids)
    assert len(better) / len(kids) == pytest.approx(0.4, abs=0.07)
    assert fmean(parent.effect - kid.effect for kid in kids if kid not in better) == pytest.approx(
        0.6 * POINT, rel=0.2
    )
    kept = fmean((kid.cases - 0.7 * parent.cases) ** 2 for kid in kids) ** 0.5
    assert kept == pytest.approx(0.6 * POINT * math.sqrt(1 - 0.7**2), rel=0.15)


def test_a_breakthrough_raises_the_ceiling() -> None:
    made = ready(World(breakthrough=1.0))
    parent = opened("p", made)
    before = made.ceilings[parent.idea]
    improved("k", made, "p")
    assert before < made.ceilings[parent.idea] <= made.world.most * POINT


def test_a_crossover_aims_at_the_higher_of_two_ceilings() -> None:
    made = ready(World(breakthrough=0.0, improves=1.0, fresh=math.inf))
    for name in ("low", "high"):
        opened(name, made)
    low, high = (made.truths[name] for name in ("low", "high"))
    made.ceilings[low.idea], made.ceilings[high.idea] = low.effect, low.effect + 1.0
    assert improved("k", made, "low").effect == low.effect
    crossed = [improved(f"c{i}", made, "low", partner="high").effect for i in range(200)]
    assert fmean(crossed) == pytest.approx(low.effect + 0.4, abs=0.05)  # the mean of Beta(2, 3)


def test_a_repair_has_the_effect_that_its_network_would_have_had() -> None:
    made = ready()
    broken = opened("p", made)
    parent = Node("p", None, "b", 0, Status.FAILED)
    repair = Decision(action="repair", node="p", rung=0, figures={}, text="")
    made.begin("r", repair, parent)
    assert made.truths["r"].effect == broken.effect


def test_readings_scatter_as_the_world_says() -> None:
    made = ready(World(rung=0.0))
    truth = opened("p", made)
    last = Node("p", None, "b", 1, Status.OK)
    found = [made.read(last) for _ in range(2000)]
    center = truth.effect + truth.cases - made.shift[1]
    assert fmean(one.delta for one in found) == pytest.approx(center, abs=0.0005)
    assert pstdev([one.delta for one in found]) == pytest.approx(0.4 * POINT, rel=0.1)
    assert found[0].seed_sd == pytest.approx(0.4 * POINT)
    assert found[0].baseline_sd == pytest.approx(0.4 * POINT / math.sqrt(3))


def test_the_lower_rung_shows_another_effect() -> None:
    made = ready(World(cases=0.0, seed=0.0, fresh=math.inf))
    gaps = []
    for i in range(300):
        opened(f"t{i}", made)
        low, high = (made.read(Node(f"t{i}", None, "b", rung, Status.OK)) for rung in (0, 1))
        gaps.append(low.delta - high.delta)
    assert pstdev(gaps) == pytest.approx(1.2 * POINT, rel=0.15)


def test_a_world_of_one_rung_reads_what_the_last_rung_of_two_reads() -> None:
    one, two = (ready(World(rungs=rungs)) for rungs in (1, 2))
    tree = one.prepare()
    assert (tree.baseline_mean, tree.cost_s) == ((0.8,), (1.0,))
    for made in (one, two):
        opened("p", made)
        made.networks["p"] = "p"
        made.truths["p"] = Truth(0, 0.01, 0.002, 0.5)
        made.shift = [0.003] * 2
        made.rng = Random(5)
    low = one.read(Node("p", None, "b", 0, Status.OK))
    high = two.read(Node("p", None, "b", 1, Status.OK))
    assert low.delta == pytest.approx(high.delta)
    assert one.first_win == two.first_win == 0.0
    ends = {one.train(Node("p", None, "b", 0, Status.RUNNING)) for _ in range(50)}
    assert ends == {(Status.OK, 1.0), (Status.FAILED, 0.2)}


def test_new_networks_crash_and_those_that_worked_do_not() -> None:
    made = ready()
    fresh = Node("p", None, "b", 0, Status.RUNNING)
    made.networks["p"] = "p"
    ends = [made.train(fresh) for _ in range(1000)]
    crashed = [cost for status, cost in ends if status is Status.FAILED]
    assert len(crashed) / len(ends) == pytest.approx(0.25, abs=0.05)
    assert set(crashed) == {0.2 * 0.125}
    made.networks["q"] = "p"
    again = [made.train(replace(fresh, id="q", rung=1)) for _ in range(200)]
    assert set(again) == {(Status.OK, 1.0)}


def test_an_outcome_by_hand() -> None:
    made = ready(policy="greedy")
    truth = opened("t00000", made)
    made.now, made.first_win = 4.0, 3.0
    figures = {"estimate": truth.effect + 0.25, "is_lead": True}
    end = Decision(action="confirm", branch="b", node="t00000", rung=1, figures=figures, text="")
    told = made.outcome(Tree(baseline_mean=(0.8,), cost_s=(1.0,)), end)
    assert told.regret == pytest.approx(made.best - truth.effect)
    assert told.bias == pytest.approx(0.25)
    assert told.is_false_lead == (truth.effect <= 0)
    assert (told.first_win, told.cost, told.trials, told.drafts) == (3.0, 4.0, 1, 0)
    none = made.outcome(
        Tree(baseline_mean=(0.8,), cost_s=(1.0,)),
        Decision(action="confirm", figures={}, text=""),
    )
    assert (none.regret, none.is_lead) == (made.best, False)  # the baseline is what is left


def test_the_first_true_win_is_when_it_was_read_at_the_last_rung() -> None:
    made = ready()
    made.truths["p"] = Truth(0, MARGIN, 0.0, 0.0)
    made.networks["p"] = "p"
    made.now = 2.5
    made.read(Node("p", None, "b", 0, Status.OK))
    assert made.first_win == math.inf
    made.read(Node("p", None, "b", 1, Status.OK))
    made.now = 5.0
    made.read(Node("p", None, "b", 1, Status.OK))
    assert made.first_win == 2.5


@pytest.mark.slow
def test_the_default_policy_finds_more_than_chance_and_than_the_published_rule() -> None:
    regrets = {
        policy: fmean(
            play("default", policy, seed, budget=50.0, settings=SETTINGS).regret
            for seed in range(16)
        )
        for policy in ("qwbe", "camyla", "random")
    }
    assert regrets["qwbe"] < 0.5 * regrets["camyla"]
    assert regrets["qwbe"] < 0.5 * regrets["random"]


def test_a_campaign_may_be_watched() -> None:
    seen_steps: list[str] = []

    def watch(it: Tree, step: int, made: Decision) -> None:
        assert step == len(seen_steps)
        seen_steps.append(made.action)

    made = Play(
        world=SCENARIOS["weak_planner"],
        seed=1,
        budget=3.0,
        policy="random",
        settings=SETTINGS,
        watch=watch,
    )
    made.run()
    assert seen_steps[-1] == "confirm"
