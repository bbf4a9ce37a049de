"""Policies replayed on a table of real trials: what each would have found, and at what cost.

A draft is the table's next draft, a refinement an unused child of the network, else of its branch;
where a branch has none left, the planner is taken to have nothing that could follow the trial.
Which draft, child, seed and baseline runs come next is drawn once for each seed of the replay, the
same for all policies. A network read more often than it was trained reads again what it read.
Seconds are those that the trials took.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

from agent.branches import Node
from agent.evidence import CaseMeans, Evidence, measure, seed_spread
from agent.search_tree import Decision, Tree
from bench.driver import Driver, Exhausted, Spent
from bench.table_rows import BASELINE, FOLDER, Listed, Row, Table, mean, read_table
from memory.records import Status

MARGIN = 0.005
BASELINE_RUNS = 3


class Found(NamedTuple):
    """How a replay ended.

    `cost` is what it took, in trainings of the baseline at the last rung, until the best network
    of the table had been read there; the whole budget where that never happened. `regret` is the
    best network's effect less that of the network reported, `bias` the policy's estimate of it less
    its effect, in Dice, both over all seeds.
    """

    cost: float
    was_found: bool
    regret: float
    bias: float


@dataclass(frozen=True)
class Trials:
    """The table, indexed."""

    table: Table

    @cached_property
    def rows(self) -> Mapping[tuple[str, int], list[Row]]:
        """The trials of each network at each rung (0 is the lowest), by seed."""
        found: dict[tuple[str, int], list[Row]] = {}
        for row in sorted(self.table.rows, key=lambda one: one.seed):
            found.setdefault((row.network, row.rung), []).append(row)
        return found

    @cached_property
    def rungs(self) -> int:
        """How many rungs there are."""
        return 1 + max(row.rung for row in self.table.rows)

    @cached_property
    def networks(self) -> Mapping[str, Listed]:
        """The networks by id, without the baseline, those with trials at every rung."""
        return {
            one.id: one
            for one in self.table.networks
            if one.id != BASELINE and all((one.id, r) in self.rows for r in range(self.rungs))
        }

    @cached_property
    def effects(self) -> Mapping[str, float]:
        """Each network's effect at the last rung, in Dice, over all seeds; failed ones have none."""
        base = self.mean(BASELINE)
        found = {name: self.mean(name) for name in self.networks}
        return {name: value - base for name, value in found.items() if value == value}

    def mean(self, network: str) -> float:
        """Return a network's mean Dice at the last rung over its seeds; NaN where any failed."""
        rows = self.rows[network, self.rungs - 1]
        if any(row.status is not Status.OK for row in rows):
            return math.nan
        return fmean(mean(row) for row in rows)

    def seconds(self, rung: int) -> float:
        """Return the mean seconds of the baseline's trials at a rung."""
        return fmean(row.seconds for row in self.rows[BASELINE, rung])

    def scores(self, row: Row) -> CaseMeans:
        """Return a trial's scores by case."""
        return dict(zip(self.table.cases, row.dice, strict=True))


@dataclass(slots=True, kw_only=True)
class Replay(Driver[Found]):
    """One campaign of one policy on the table; the seed fixes every order."""

    trials: Trials
    seed: int
    listed: dict[str, str] = field(default_factory=dict)
    order: dict[str, list[str]] = field(default_factory=dict)
    reads: dict[tuple[str, int], int] = field(default_factory=dict)
    base: dict[int, dict[int, CaseMeans]] = field(default_factory=dict)
    found_at: float = math.inf

    def prepare(self) -> Tree:
        """Draw every order; return the tree of a campaign that begins."""
        rng, trials = Random(f"{self.seed}/table"), self.trials
        names = list(trials.networks)
        rng.shuffle(names)
        for name in names:
            parent = trials.networks[name].parent
            self.order.setdefault(parent if parent in trials.networks else "", []).append(name)
        for rung in range(trials.rungs):
            rows = rng.sample(trials.rows[BASELINE, rung], BASELINE_RUNS)
            self.base[rung] = {row.seed: trials.scores(row) for row in rows}
        last = trials.rungs - 1
        sd = seed_spread([self.base[last]]).sd / math.sqrt(BASELINE_RUNS)
        return Tree(
            baseline_mean=tuple(self.base_mean(rung) for rung in range(trials.rungs)),
            cost_s=tuple(trials.seconds(rung) for rung in range(trials.rungs)),
            slots=self.slots,
            margin=MARGIN,
            baseline_sd=sd,
        )

    def base_mean(self, rung: int) -> float:
        """Return the baseline's mean Dice at a rung."""
        runs = self.base[rung].values()
        return fmean(value for run in runs for value in run.values() if value is not None)

    def begin(self, name: str, made: Decision, source: Node | None) -> Node | None:
        """Take the next network of the table; return the trial that it comes from, if any."""
        if source is not None:
            own = self.listed[self.networks[source.id]]
            branch = self.trials.networks[own].branch
            peers = [own, *(n for n in self.listed.values() if n != own)]
            for parent in peers:
                if self.trials.networks[parent].branch == branch and self.order.get(parent):
                    self.listed[name] = self.order[parent].pop()
                    return source
            raise Spent
        if self.order.get(""):
            self.listed[name] = self.order[""].pop()
            return None
        left = [parent for parent in self.order if self.order[parent]]
        if not left:
            raise Exhausted
        self.listed[name] = self.order[min(left)].pop()
        return None

    def train(self, node: Node) -> tuple[Status, float]:
        """Return how the table's trial ended, and its seconds."""
        row = self.row(node)
        return row.status, row.seconds

    def row(self, node: Node) -> Row:
        """Return a trial's row; the seeds of a network follow each other in an order of its own."""
        name = self.listed[self.networks[node.id]]
        rows = list(self.trials.rows[name, node.rung])
        Random(f"{self.seed}/{name}/{node.rung}").shuffle(rows)
        return rows[self.reads.get((name, node.rung), 0) % len(rows)]

    def read(self, node: Node) -> Evidence:
        """Return the trial's evidence against the baseline's runs."""
        name, row = self.listed[self.networks[node.id]], self.row(node)
        self.reads[name, node.rung] = self.reads.get((name, node.rung), 0) + 1
        effects = self.trials.effects
        if node.rung == self.trials.rungs - 1 and name == max(effects, key=lambda n: effects[n]):
            self.found_at = min(self.found_at, self.now)
        runs = self.base[node.rung]
        return measure({row.seed: self.trials.scores(row)}, runs, spread=seed_spread([runs]))

    def outcome(self, tree: Tree, made: Decision) -> Found:
        """Return what was found, and at what cost."""
        effects, unit = self.trials.effects, tree.cost_s[-1]
        name = self.listed[self.networks[made.node]] if made.node else ""
        effect = effects.get(name, 0.0)
        estimate = float(made.figures.get("estimate", 0.0))
        was_found = math.isfinite(self.found_at)
        spent = min(self.found_at, whole_s(self.trials))
        return Found(spent / unit, was_found, max(effects.values()) - effect, estimate - effect)


def whole_s(trials: Trials) -> float:
    """Return the seconds of training every network of the table once at the last rung."""
    last = trials.rungs - 1
    return math.fsum(fmean(r.seconds for r in trials.rows[n, last]) for n in trials.networks)


def read_trials(folder: Path = FOLDER) -> Trials:
    """Return the table; raise SegwrightError where it was not made."""
    return Trials(read_table(folder))
