"""A campaign's decisions made again from its store: same tree, same generator, same decision.

Each decision is stored with its turn (the seed of its generator), the budget it saw, and the mark
of the last change of a trial before it. From the log of those changes follows which trials had
ended by then and which still ran; a finished trial never changes. Covered: campaigns of one
version of this program. Not covered: trials with a smaller batch that were compared with some of
their baselines only.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from agent.branches import Node, grown
from agent.campaign import CHOSEN, placeholder
from agent.config import Config, parse_config
from agent.cuts import NOTHING_LEFT, cut_by
from agent.growth import Growth
from agent.ladder import Settings
from agent.margins import search_margin
from agent.policies import decide
from agent.search_tree import DECISIONS, Decision, Tree
from memory.records import Event, Figures, Status
from memory.store import Store

SAME = ("action", "branch", "node", "partner", "rung")


class Replayed(NamedTuple):
    """A stored decision, and the one that its moment leads to."""

    event: Event
    made: Decision

    @property
    def differs(self) -> list[str]:
        """Names of what is not the same."""
        event, made = self.event, self.made
        stored = {
            "action": event.kind,
            "branch": event.branch,
            "node": event.trial,
            "partner": event.figures.get("partner"),
            "rung": event.figures.get("rung"),
        }
        return [name for name in SAME if getattr(made, name) != stored[name]]


@dataclass(slots=True)
class Past:
    """A finished campaign, seen as it was at any mark.

    `first` and `last` are the marks of each trial's first and last change.
    """

    store: Store
    growth: Growth
    config: Config
    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)

    def nodes(self, mark: int, cut: set[str], spent: set[str]) -> list[Node]:
        """Return the trials that were written by a mark, as they were then."""
        found = []
        for branch in self.growth.branches.values():
            for node in branch.given:
                if self.first[node.id] > mark:
                    continue
                ran = self.last[node.id] > mark
                is_cut = node.id in cut or (node.status is Status.CANCELLED and not ran)
                then = replace(node, is_cut=is_cut, is_spent=node.id in spent)
                if ran:
                    then = replace(then, status=Status.RUNNING, evidence=None, cost_s=0.0)
                found.append(then)
        return found

    def unwritten(self, event: Event, before: list[Event]) -> Iterator[Node]:
        """Yield the decisions before an event whose trial was not written yet."""
        mark, trials = event.figures["seen"], self.growth.trials
        given_up = {e.figures["decision"] for e in before if e.kind == "no_proposal"}
        for one in before:
            if one.kind not in CHOSEN or one.id in given_up:
                continue
            if self.written(one) > mark:
                yield placeholder(one, trials.get(one.trial or ""))

    def empty(self, before: list[Event]) -> list[str]:
        """Return the branches of new ideas of which nobody could write the network."""
        opened = {one.id for one in before if one.kind == "open"}
        numbers = (one.figures["decision"] for one in before if one.kind == NOTHING_LEFT)
        keys = [f"decision/{number}/proposal" for number in numbers if number in opened]
        ideas = {known["proposal"] for key in keys if (known := self.store.effect(key))}
        return [one.id for one in self.store.branches() if one.proposal in ideas] if ideas else []

    def written(self, decision: Event) -> float:
        """Return the mark at which a decision's first trial was written; infinity for never."""
        known = self.store.effect(f"decision/{decision.id}/written")
        return math.inf if known is None else known["mark"]

    def tree(self, event: Event, before: list[Event]) -> Tree:
        """Return the tree that a decision was made on."""
        spent = {one.trial for one in before if one.kind == NOTHING_LEFT and one.trial}
        nodes = self.nodes(event.figures["seen"], cut_by(before), spent)
        nodes += self.unwritten(event, before)
        return Tree(branches=grown(nodes, self.empty(before)), **self.setting(event.figures))

    def setting(self, figures: Figures) -> Figures:
        """Return what else the tree held, from a decision's figures and the settings."""
        own, left = self.config, figures["seconds_left"]
        standings, costs = self.growth.standings, figures["cost_s"]
        return {
            "baseline_mean": tuple(standings.baseline_mean(r) for r in range(len(costs))),
            "cost_s": tuple(costs),
            "slots": figures["slots"],
            "trials_left": figures["trials_left"],
            "seconds_left": float("inf") if left is None else left,
            "confirm_s": figures["confirm_s"],
            "drafts": own.explore.drafts,
            "margin": search_margin(self.store, own),
            "cut_below": own.explore.cut_below,
            **figures["tree"],
            "baseline_seeds": own.baseline.seeds,
        }


def replayed(store: Store) -> Iterator[Replayed]:
    """Yield each decision of a campaign with the one that its moment leads to."""
    growth = Growth(store)
    growth.refresh()
    config = parse_config(store.campaign().config)
    past = Past(store, growth, config, *store.change_marks())
    events, explore = store.events(), config.explore
    settings = Settings(c=explore.c, p=explore.p)
    for place, event in enumerate(events):
        if event.kind not in DECISIONS or "seen" not in event.figures:
            continue
        tree, rng = (
            past.tree(event, events[:place]),
            Random(f"{explore.seed}/{event.figures['turn']}"),
        )
        yield Replayed(event, decide(tree, rng, policy=explore.policy, settings=settings))
