"""Search trees for the tests of exploration: by hand, at random, and from simulated campaigns."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any, NamedTuple

from hypothesis import strategies as st

from agent.branches import Node, grown
from agent.evidence import Evidence, normal_tail
from agent.ladder import Settings
from agent.policies import POLICIES, decide
from agent.search_tree import Decision, Tree
from bench.worlds import SCENARIOS, Play
from memory.records import Kind, Status

SETTINGS = Settings()
STARTS = ("open", "improve", "crossover", "promote", "repeat", "repair", "smaller_batch")
CONFIRM_S = 2.0


def seen(delta: float, *, cases: float = 0.004, seed: float = 0.003) -> Evidence:
    """Return evidence of `delta` Dice against three baselines, with its SDs of cases and seeds."""
    se_seed = seed * math.sqrt(1 + 1 / 3)
    se = math.hypot(cases, se_seed)
    return Evidence(delta, cases, se_seed, se, normal_tail(delta, se), 20, seed_sd=seed)


def node(name: str, delta: float = 0.0, *, status: Status = Status.OK, **more: Any) -> Node:
    """Return a trial named like its branch, plus a number ("a0" is in branch "a")."""
    evidence = seen(delta) if status is Status.OK else None
    made = Node(name, None, name[0], 0, status, evidence)
    cost_s = 10.0 * 4 ** more.get("rung", 0) if status.is_final else 0.0
    given: dict[str, Any] = {"cost_s": cost_s} | more
    return replace(made, **given)


def tree(*nodes: Node, **more: Any) -> Tree:
    """Return a tree of two rungs with the branches that its nodes name."""
    given: dict[str, Any] = {
        "baseline_mean": (0.8, 0.85),
        "cost_s": (10.0, 40.0),
        "drafts": len({n.branch for n in nodes}),
        "baseline_sd": 0.002,
    }
    return Tree(branches=grown(nodes), **(given | more))


def nodes_of(it: Tree) -> list[Node]:
    """Return all trials of a tree that count, by id."""
    return sorted((n for b in it.branches.values() for n in b.nodes), key=lambda n: n.id)


def choose(
    it: Tree, policy: str = "qwbe", *, seed: int = 1, settings: Settings = SETTINGS
) -> Decision:
    """Return a decision, made twice to see that it is the same."""
    first, again = (decide(it, Random(seed), policy=policy, settings=settings) for _ in range(2))
    assert first == again
    return first


def scaled(it: Tree, factor: float) -> Tree:
    """Return a tree with all effects and noises, and what is believed of them, times a factor."""

    def evidence(one: Evidence) -> Evidence:
        return one._replace(
            delta=one.delta * factor,
            se_cases=one.se_cases * factor,
            se_seed=one.se_seed * factor,
            se=one.se * factor,
            seed_sd=one.seed_sd * factor,
        )

    nodes = [replace(n, evidence=evidence(n.evidence)) if n.evidence else n for n in nodes_of(it)]
    names = ("margin", "prior_sd", "rung_sd", "baseline_sd")
    changed = {name: getattr(it, name) * factor for name in names}
    return replace(it, branches=grown(nodes, it.branches), **changed)


@st.composite
def grown_nodes(draw: st.DrawFn, *, most: int = 14, may_run: bool = True) -> list[Node]:
    """Return trials as a campaign grows them, in 4 branches; ids do not follow the time."""
    count = draw(st.integers(0, most))
    numbers = draw(st.permutations(range(count)))
    ends = [Status.OK, Status.OK, Status.OK, Status.FAILED, Status.OUT_OF_MEMORY, Status.CANCELLED]
    ends += [Status.RUNNING] if may_run else []
    nodes: list[Node] = []
    for number in numbers:
        branch = draw(st.sampled_from("abcd"))
        parents = [n for n in nodes if n.branch == branch and (n.is_ok or n.is_failed)]
        parent = draw(st.sampled_from([None, *parents]))
        made = node(
            f"{branch}{number:02}",
            0.001 * draw(st.integers(-40, 40)),
            status=draw(st.sampled_from(ends)),
            commit=f"of {number}",
        )
        nodes.append(child(draw, made, parent) if parent else made)
    return nodes


def child(draw: st.DrawFn, made: Node, parent: Node) -> Node:
    """Return a trial as what may follow its parent."""
    own = replace(made, parent=parent.id, depth=parent.depth)
    if parent.is_failed:
        return replace(own, kind=Kind.REPAIR, rung=parent.rung)
    what = draw(st.sampled_from(["improve", "repeat", "promote"]))
    if what == "improve":
        rung = draw(st.sampled_from([0, 1]))
        return replace(own, kind=Kind.IMPROVE, rung=rung, depth=parent.depth + 1)
    rung = 1 if what == "promote" else parent.rung
    is_cut = draw(st.integers(0, 4)) == 0
    return replace(own, rung=rung, commit=parent.commit, is_cut=is_cut)


@st.composite
def trees(draw: st.DrawFn, *, may_run: bool = True) -> Tree:
    """Return a tree of up to 14 trials in up to 4 branches, with any budget."""
    return tree(
        *draw(grown_nodes(may_run=may_run)),
        seconds_left=draw(st.sampled_from([0.0, 60.0, 400.0, 4000.0, math.inf])),
        trials_left=draw(st.sampled_from([0, 1, 3, 1000])),
        confirm_s=draw(st.sampled_from([0.0, 50.0])),
        slots=draw(st.integers(1, 4)),
        drafts=draw(st.integers(0, 4)),
        batch_size=draw(st.sampled_from([0, 8])),
        cut_below=draw(st.sampled_from([0.0, 0.05, 0.3])),
    )


class Step(NamedTuple):
    """One decision of a campaign, with the tree and the number that it was made on."""

    tree: Tree
    number: int
    made: Decision


@dataclass(frozen=True, slots=True)
class Story:
    """A simulated campaign that has ended, and every decision in it."""

    play: Play
    steps: tuple[Step, ...]

    def made(self) -> list[Decision]:
        """Return the decisions in order."""
        return [step.made for step in self.steps]


@contextmanager
def recorded(policy: str, trials: int, steps: list[Step]) -> Iterator[str]:
    """Give a policy that decides as another, within a number of trials, and keeps its steps."""

    def rule(tree: Tree, rng: Random, settings: Settings) -> Decision:
        left = max(0, trials - sum(len(branch.nodes) for branch in tree.branches.values()))
        kept = replace(tree, branches=dict(tree.branches), trials_left=left, confirm_s=CONFIRM_S)
        made = POLICIES[policy](kept, rng, settings)
        steps.append(Step(kept, len(steps), made))
        return made

    POLICIES["recorded"] = rule
    try:
        yield "recorded"
    finally:
        del POLICIES["recorded"]


@cache
def story(
    policy: str,
    *,
    seed: int = 0,
    slots: int = 1,
    budget: float = 12.0,
    trials: int = 10_000,
    scenario: str = "default",
) -> Story:
    """Return a whole campaign; `budget` is in trainings of the last rung, confirmation included."""
    steps: list[Step] = []
    with recorded(policy, trials, steps) as name:
        play = Play(
            world=SCENARIOS[scenario],
            seed=seed,
            budget=budget,
            policy=name,
            settings=SETTINGS,
            slots=slots,
        )
        play.run()
    return Story(play, tuple(steps))
