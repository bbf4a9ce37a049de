"""Simulated campaigns: a noisy tree of proposals with known true effects, and no training.

Effects are in Dice, costs in trainings of the last rung. Assumptions, each a field of `World`:
an idea has a heavy-tailed ceiling; a planner repeats itself (Chinese restaurant process); a draft
lies below its ceiling; a child closes a share of the gap that is left, or gets worse; now and then
a breakthrough raises the ceiling; trials crash, and repairs are paid; a reading carries the noise
of its cases (kept by a network, shared in part with its parent), of its seed, and of the
baseline's seeds; a lower rung shows another effect, likewise shared in part.
"""

import math
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from agent.branches import Node
from agent.evidence import Evidence, normal_tail
from agent.ladder import Settings
from agent.search_tree import Decision, Tree
from bench.driver import Driver
from memory.records import Status

POINT = 0.01
CASES = 40
IDEAS = 400
BASELINE_SEEDS = 3
IDEAS_COMPARED = 30
MARGIN = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The assumptions; effects in points of Dice (0.01).

    Attributes:
        idea: mean of a ceiling against the baseline.
        idea_scale: scale of its t distribution with three degrees of freedom.
        most: no ceiling is higher.
        below: scale of the Gamma(2) by which a draft lies below its ceiling.
        fresh: concentration of the planner; infinity never repeats an idea.
        improves: probability that a child is better than its parent.
        worse: mean by which the others are worse.
        breakthrough: probability that a child finds a higher ceiling.
        leap: mean by which it is higher.
        crash: probability that a trial crashes; it then costs `crash_cost` of its rung.
        cases: SD of the noise of a network's cases.
        seed: SD of the noise of a training's seed.
        shared: correlation of case and rung noise between parent and child.
        rung: SD by which the lower rung's effect differs from the last one's.
        rung_cost: cost of the lower rung.
        rungs: 2, or 1 for the last one alone.
        effect: factor on all true effects; 0 for nothing to find.
    """

    idea: float = -0.3
    idea_scale: float = 0.8
    most: float = 6.0
    below: float = 1.0
    fresh: float = 15.0
    improves: float = 0.4
    worse: float = 0.6
    breakthrough: float = 0.03
    leap: float = 0.3
    crash: float = 0.25
    crash_cost: float = 0.2
    cases: float = 0.6
    seed: float = 0.4
    shared: float = 0.7
    rung: float = 1.2
    rung_cost: float = 0.125
    rungs: int = 2
    effect: float = 1.0

    @property
    def costs(self) -> tuple[float, ...]:
        """The cost of a training at each rung."""
        return (self.rung_cost, 1.0)[-self.rungs :]


SCENARIOS: dict[str, World] = {
    "default": World(),
    "noisy": World(cases=1.2, seed=0.8),
    "misleading_rungs": World(rung=3.0),
    "one_rung": World(rungs=1),
    "weak_planner": World(idea=-1.0, improves=0.2, crash=0.4),
    "no_effect": World(effect=0.0),
}


class Outcome(NamedTuple):
    """How one campaign ended; Dice, and trainings of the last rung.

    `regret` is the best ceiling of the first ideas less the true effect of the network reported;
    `bias` the policy's own estimate of it less its true effect; `first_win` the cost at which a
    network truly better than the baseline by the margin had been read at the last rung.
    """

    regret: float
    bias: float
    is_lead: bool
    is_false_lead: bool
    first_win: float
    cost: float
    drafts: int
    trials: int


@dataclass(slots=True)
class Truth:
    """What is true of one network, in Dice, and its lasting noise."""

    idea: int
    effect: float
    cases: float
    rung: float


@dataclass(slots=True, kw_only=True)
class Play(Driver[Outcome]):
    """One campaign of one policy in one world; the seed fixes the world."""

    world: World
    seed: int
    ceilings: list[float] = field(default_factory=list)
    truths: dict[str, Truth] = field(default_factory=dict)
    first_win: float = math.inf
    rng: Random = field(default_factory=Random)
    shift: list[float] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    best: float = 0.0

    def prepare(self) -> Tree:
        """Draw the ideas and the baseline's luck; return the tree of a campaign that begins."""
        self.rng = Random(f"{self.seed}/world")
        ideas = Random(f"{self.seed}/ideas")
        self.ceilings = [self.ceiling(ideas) for _ in range(IDEAS)]
        self.best = max(self.ceilings[:IDEAS_COMPARED])
        luck = self.world.seed * POINT / math.sqrt(BASELINE_SEEDS)
        self.shift = [self.rng.gauss(0, luck) for _ in range(2)]
        return Tree(
            baseline_mean=(0.7, 0.8)[-self.world.rungs :],
            cost_s=self.world.costs,
            slots=self.slots,
            margin=MARGIN,
            prior_sd=2 * POINT,
            rung_sd=POINT,
            baseline_sd=luck,
            max_depth=30,
        )

    def ceiling(self, rng: Random) -> float:
        """Return the ceiling of a new idea, in Dice."""
        t = rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2 / 3))
        world = self.world
        return POINT * world.effect * min(world.most, world.idea + world.idea_scale * t)

    def begin(self, name: str, made: Decision, source: Node | None) -> Node | None:
        """Draw what is true of a new network."""
        partner = self.truths[self.networks[made.partner]] if made.partner else None
        self.truths[name] = self.make(made, source, partner)
        return source

    def train(self, node: Node) -> tuple[Status, float]:
        """Crash a new network now and then; one that has worked does not crash."""
        world = self.world
        cost = world.costs[node.rung]
        is_new = self.networks[node.id] == node.id
        if is_new and self.rng.random() < world.crash:
            return Status.FAILED, world.crash_cost * cost
        return Status.OK, cost

    def make(self, made: Decision, source: Node | None, partner: Truth | None) -> Truth:
        """Return the truth of a new network."""
        world, rng = self.world, self.rng
        if source is None:
            idea = self.idea()
            gap = rng.gammavariate(2, world.below) * POINT * world.effect
            effect = self.ceilings[idea] - gap
            return Truth(idea, effect, self.noise(world.cases), self.noise(world.rung))
        parent = self.truths[self.networks[source.id]]
        kept, new = world.shared, math.sqrt(1 - world.shared**2)
        cases = kept * parent.cases + new * self.noise(world.cases)
        rung = kept * parent.rung + new * self.noise(world.rung)
        effect = parent.effect if made.action == "repair" else self.child(parent, partner)
        return Truth(parent.idea, effect, cases, rung)

    def noise(self, sd: float) -> float:
        """Return normal noise of an SD in points, in Dice."""
        return self.rng.gauss(0, sd * POINT)

    def idea(self) -> int:
        """Return the idea of a new draft: a known one, or the next."""
        count = len(self.opened)
        known = count and self.rng.random() < count / (count + self.world.fresh)
        idea = self.rng.choice(self.opened) if known else len(set(self.opened))
        self.opened.append(idea)
        return idea

    def child(self, parent: Truth, partner: Truth | None) -> float:
        """Return the effect of a refinement; a crossover aims at the higher of two ceilings."""
        world, rng = self.world, self.rng
        if rng.random() < world.breakthrough:
            gain = rng.expovariate(1 / world.leap) * POINT * world.effect
            most = world.most * POINT * world.effect
            self.ceilings[parent.idea] = min(most, self.ceilings[parent.idea] + gain)
        top = self.ceilings[parent.idea]
        if partner is not None:
            top = max(top, self.ceilings[partner.idea])
        if rng.random() < world.improves:
            return parent.effect + rng.betavariate(2, 3) * max(0.0, top - parent.effect)
        return parent.effect - rng.expovariate(1 / world.worse) * POINT * world.effect

    def read(self, node: Node) -> Evidence:
        """Return what a trial's scores say."""
        truth, seed = self.truths[self.networks[node.id]], self.world.seed * POINT
        is_last = node.rung == self.world.rungs - 1
        if is_last and truth.effect >= MARGIN:
            self.first_win = min(self.first_win, self.now)
        delta = truth.effect + truth.cases + self.rng.gauss(0, seed) - self.shift[node.rung]
        delta += 0.0 if is_last else truth.rung
        se_cases, se_seed = self.world.cases * POINT, seed * math.sqrt(1 + 1 / BASELINE_SEEDS)
        se = math.hypot(se_cases, se_seed)
        p = normal_tail(delta, se)
        return Evidence(delta, se_cases, se_seed, se, p, CASES, seed_sd=seed)

    def outcome(self, tree: Tree, made: Decision) -> Outcome:
        """Return how the campaign ended."""
        effect = self.truths[self.networks[made.node]].effect if made.node else 0.0
        estimate = float(made.figures.get("estimate", 0.0))
        is_lead = bool(made.figures.get("is_lead", False))
        return Outcome(
            regret=self.best - effect,
            bias=estimate - effect,
            is_lead=is_lead,
            is_false_lead=is_lead and effect <= 0,
            first_win=min(self.first_win, self.budget),
            cost=self.now,
            drafts=len(tree.branches),
            trials=len(self.networks),
        )


def play(
    scenario: str, policy: str, seed: int, *, budget: float, settings: Settings, slots: int = 1
) -> Outcome:
    """Return how one campaign of a policy ends in a scenario; the seed fixes the world."""
    return Play(
        world=SCENARIOS[scenario],
        seed=seed,
        budget=budget,
        policy=policy,
        settings=settings,
        slots=slots,
    ).run()
