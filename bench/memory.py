"""`segwright bench memory`: whether the second campaign starts ahead of the first, on real trials.

The table of real trials (`bench/table.py`), its networks of published components alone, is played
as two data sets: cases are divided by lot, and so are the seeds of networks and baselines, so that
no training that the first campaign read is read by the second. The built-in planner's rule says
which network comes next: CANDIDATES are drawn with its weights from the untried ones, and the one
with the largest effect in the same draw is taken. The first campaign trains FIRST networks and
gives its readings to a library. The second one trains until it has read a network that on its own
cases, over all seeds, is as good as the first one's best reading is there: once with that library
and once without, all else drawn alike. Both data sets have the same conditions, so that nothing of
the library is discounted.

| key | what it is |
| --- | --- |
| trials_with, trials_without | networks that the second campaign trained, with memory on and off |
| trials_share | trials_with of trials_without |
| trials_new | as trials_with, the networks that would reach the goal left out of the library |
| trials_misled | with a library in which the first one's effects were dealt out by lot |

Value: mean over orders, low and high: its 95 % interval. For the share: the ratio of the means, its
interval from a bootstrap over orders. A network that failed counts as trained, and says nothing.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

from agent.component_effects import ComponentEffects, observation
from agent.effects import Knowledge, Observation, Sampled, fit
from agent.evidence import CaseMeans, measure, seed_spread
from agent.grammar import CANDIDATES, best_of, tilt
from agent.library import Library, closest, merged_knowledge
from agent.library_entry import Entry, parse_entry, to_send
from agent.readings import Scored
from bench.figures import Figure
from bench.policies import Say, mean_of
from bench.replay import Trials, read_trials
from bench.table_rows import BASELINE, TRIALS, Row, is_made, modules_of
from memory.records import Figures, Kind, Module, SplitName, Status, Trial, short_id
from sandbox.components import COMPONENTS

ORDERS, QUICK = 200, 4
FIRST = 16
FIRST_BASELINES = 2
RESAMPLES = 2000
CONDITIONS: Figures = {"modality": "MR", "dims": 2, "classes": 2, "cases": 117, "traits": []}
NAMES = ("trials_with", "trials_without", "trials_new", "trials_misled")


class Ended(NamedTuple):
    """How many networks the second campaign trained in each way."""

    trials_with: int
    trials_without: int
    trials_new: int
    trials_misled: int


def run(*, is_quick: bool, data: Sequence[Path], say: Say) -> dict[str, Figure]:
    """Play all orders and return their figures.

    Args:
        is_quick: few orders.
        data: not used; the table of real trials is part of the program.
        say: told what comes next.
    """
    if not is_made():
        say(f"skipped: {TRIALS} is not whole; `segwright bench table` makes it")
        return {}
    orders = QUICK if is_quick else ORDERS
    say(f"{orders} orders of {len(networks(the_table()))} networks")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(play, range(orders), chunksize=2))
    return figures_of(rows)


def figures_of(rows: Sequence[Ended]) -> dict[str, Figure]:
    """Return the figures of all orders."""
    found = {name: mean_of([getattr(row, name) for row in rows], "trials") for name in NAMES}
    rng = Random(0)
    shares = sorted(share(rng.choices(rows, k=len(rows))) for _ in range(RESAMPLES))
    low, high = (shares[round(part * (RESAMPLES - 1))] for part in (0.025, 0.975))
    return {**found, "trials_share": Figure(share(rows), low, high, "1")}


def share(rows: Sequence[Ended]) -> float:
    """Return what the trials with memory are of those without."""
    return sum(row.trials_with for row in rows) / sum(row.trials_without for row in rows)


@cache
def the_table() -> Trials:
    """Return the table, read once a process."""
    return read_trials()


def networks(table: Trials) -> dict[str, tuple[Module, ...]]:
    """Return the table's networks that published components make, by id."""
    made = {name: modules_of(one.modules) for name, one in table.networks.items()}
    return {
        name: modules
        for name, modules in made.items()
        if modules and all(one.component in COMPONENTS for one in modules)
    }


@dataclass(frozen=True)
class Dataset:
    """Half of the cases, one seed of each network, and some of the baseline's seeds."""

    table: Trials
    name: str
    cases: tuple[str, ...]
    seed: int
    baselines: tuple[int, ...]

    @cached_property
    def base(self) -> dict[int, CaseMeans]:
        """The baseline's runs by seed."""
        return {seed: self.scores(BASELINE, seed) for seed in self.baselines}

    def scores(self, network: str, seed: int) -> CaseMeans:
        """Return what a training scored on these cases; none where it failed."""
        row = self.row(network, seed)
        own = self.table.scores(row) if row.status is Status.OK else {}
        return {case: own[case] for case in self.cases if case in own}

    def row(self, network: str, seed: int) -> Row:
        """Return a training at the last rung."""
        rows = self.table.rows[network, self.table.rungs - 1]
        return next(row for row in rows if row.seed == seed)

    def truth(self, network: str) -> float:
        """Return a network's mean Dice on these cases over all seeds; -inf where one failed."""
        rows = self.table.rows[network, self.table.rungs - 1]
        runs = [self.scores(network, row.seed) for row in rows]
        if not all(runs):
            return -math.inf
        return fmean(value for run in runs for value in run.values() if value is not None)

    def read(self, network: str) -> Observation | None:
        """Return what a campaign reads when it trains a network; None where it failed."""
        scores = self.scores(network, self.seed)
        if not scores:
            return None
        spread = seed_spread([self.all_baselines])
        evidence = measure({self.seed: scores}, self.base, spread=spread)
        trial = Trial(
            *(short_id([self.name, network]), None, None, None, None, Kind.DRAFT),
            *(0, self.seed, SplitName.SEARCH_VAL),
            network_hash=short_id(network),
        )
        scored = Scored(trial, networks(self.table)[network], evidence)
        return observation(scored, (), self.name, 0, frozenset())

    @cached_property
    def all_baselines(self) -> dict[int, CaseMeans]:
        """All runs of the baseline, for the spread of seeds, which two alone hardly tell."""
        rows = self.table.rows[BASELINE, self.table.rungs - 1]
        return {row.seed: self.scores(BASELINE, row.seed) for row in rows}


def two_datasets(table: Trials, rng: Random) -> tuple[Dataset, Dataset]:
    """Return two data sets that share no case, and no training of a network or a baseline."""
    cases = list(table.table.cases)
    seeds = sorted({row.seed for row in table.table.rows if row.network != BASELINE})
    lucks = [row.seed for row in table.rows[BASELINE, table.rungs - 1]]
    for one in (cases, seeds, lucks):
        rng.shuffle(one)
    half = len(cases) // 2
    first = Dataset(
        table, "first", tuple(sorted(cases[:half])), seeds[0], tuple(lucks[:FIRST_BASELINES])
    )
    second = Dataset(
        table, "second", tuple(sorted(cases[half:])), seeds[1], tuple(lucks[FIRST_BASELINES:])
    )
    return first, second


def play(order: int) -> Ended:
    """Return how one order ended."""
    table = the_table()
    pool = networks(table)
    first, second = two_datasets(table, Random(f"{order}/memory"))
    read = campaign(first, pool, Random(f"{order}/first"))
    best = max(read, key=lambda name: read[name].effect)
    goal = second.truth(best)
    libraries = {
        "trials_with": list(read.values()),
        "trials_without": [],
        "trials_new": [one for name, one in read.items() if second.truth(name) < goal],
        "trials_misled": dealt(list(read.values()), Random(f"{order}/dealt")),
    }
    made = {}
    for name, told in libraries.items():
        prior = carried(fit(told)) if told else Knowledge()
        rng = Random(f"{order}/second")
        made[name] = campaign_length(second, pool, prior, rng, goal)
    return Ended(**made)


def campaign(
    at: Dataset, pool: Mapping[str, tuple[Module, ...]], rng: Random
) -> dict[str, Observation]:
    """Return what a campaign reads that trains FIRST networks without a library, by network."""
    read: dict[str, Observation] = {}
    left = sorted(pool)
    for _ in range(min(FIRST, len(left))):
        name = chosen(left, pool, ComponentEffects(fit(read.values())), rng)
        left.remove(name)
        if (found := at.read(name)) is not None:
            read[name] = found
    return read


def campaign_length(
    at: Dataset, pool: Mapping[str, tuple[Module, ...]], prior: Knowledge, rng: Random, goal: float
) -> int:
    """Return how many networks a campaign trains until one is as good as the goal."""
    read: list[Observation] = []
    left = sorted(pool)
    for count in range(1, len(pool) + 1):
        name = chosen(left, pool, ComponentEffects(fit(read), prior), rng)
        left.remove(name)
        if at.truth(name) >= goal:
            return count
        read += [one for one in [at.read(name)] if one is not None]
    return len(pool)


def chosen(
    left: Sequence[str],
    pool: Mapping[str, tuple[Module, ...]],
    effects: ComponentEffects,
    rng: Random,
) -> str:
    """Return the network that the built-in planner would train next of those that are left."""
    sampled = effects.whole.sample(rng)
    rest = {name: weight_of(pool[name], sampled) for name in left}
    drawn = []
    for _ in range(min(CANDIDATES, len(left))):
        drawn.append(rng.choices(list(rest), list(rest.values()))[0])
        del rest[drawn[-1]]
    best = best_of([pool[name] for name in drawn], sampled, effects.traits)
    return next(name for name in drawn if pool[name] == best)


def weight_of(modules: Sequence[Module], sampled: Sampled) -> float:
    """Return how likely the planner draws a set of modules."""
    return math.prod(tilt(one.component, sampled, ()) for one in modules)


def carried(knowledge: Knowledge) -> Knowledge:
    """Return what comes out of a library of one campaign, written and read."""
    entry = Entry(short_id("first"), CONDITIONS, to_send(knowledge, short_id("first")), ())
    read = parse_entry(entry.campaign, json.loads(json.dumps(entry.plain())))
    entries = closest(Library({read.campaign: read}), CONDITIONS)
    return merged_knowledge(entries, CONDITIONS)


def dealt(told: Sequence[Observation], rng: Random) -> list[Observation]:
    """Return observations whose effects were dealt out by lot."""
    effects = [one.effect for one in told]
    rng.shuffle(effects)
    return [replace(one, effect=effect) for one, effect in zip(told, effects, strict=True)]
