"""A tree with its beliefs: who leads, what each branch may still reach, what is hopeless.

What the next refinement of a network may reach is its effect plus a headroom,

    reach = theta + H,   H ~ N(HEADROOM * sd * s, (HEADROOM_SD * sd * s)^2),   s = WEAR^wasted

with the campaign's SD of drafts `sd`, and `wasted` refinements in a row that improved nothing:
a branch that stands still is believed to have less and less above it. A network's chance is that
one of its next n refinements passes the bar by the margin: 1 - (1 - p)^n, where p is that of
one, and n what the budget left allows a branch. The bar is the incumbent's mean, or the baseline
while nothing is above it. Pure; every order is by id, so none depends on the caller.
"""

import math
from functools import cached_property
from typing import NamedTuple

from agent.beliefs import Constants, beyond, estimate, of_branch
from agent.branches import Branch, Network
from agent.evidence import Posterior, normal_tail
from agent.search_tree import Tree

HEADROOM, HEADROOM_SD, WEAR = 0.5, 0.45, 0.85
SIBLINGS = 3
MOST_REFINEMENTS = 32
SURE = 0.95
TELLING = 0.35
RETURNS = 2
"""A network that was cut comes back at this many times the chance that it was cut for."""


class Standing(NamedTuple):
    """A network with the belief about its effect, in Dice."""

    branch: Branch
    network: Network
    belief: Posterior


class Chance(NamedTuple):
    """Probability of passing the bar by the margin with one refinement, and with all n of them.

    `against` is a trial's id or "baseline"; `bar` is in Dice.
    """

    one: float
    ever: float
    refinements: int
    bar: float
    against: str


class View(NamedTuple):
    """What follows from one branch and the constants: networks that may go on, and the best.

    `first` is the first network with scores; `open` is ordered by mean plus SD, best first, and
    so is `shelved`, of networks that were cut and might come back; `best` is the best mean at
    each rung.
    """

    it: Constants
    first: Standing | None
    open: tuple[Standing, ...]
    shelved: tuple[Standing, ...]
    best: dict[int, Standing]


class Board:
    """A tree, the model's constants, and what they say."""

    def __init__(self, tree: Tree) -> None:
        """Estimate the constants of `tree`."""
        self.tree = tree
        self.it = estimate(tree)

    def view(self, branch: Branch) -> View:
        """Return what is believed of a branch; kept with it while the constants stay the same."""
        kept: View | None = branch.__dict__.get("view")
        if kept is None or kept.it != self.it:
            kept = make_view(branch, self.it)
            branch.__dict__["view"] = kept
        return kept

    @cached_property
    def incumbent(self) -> Standing | None:
        """The best posterior mean at the highest rung with scores; ties by id."""
        views = [self.view(branch) for branch in self.tree.branches.values()]
        rung = max((rung for view in views for rung in view.best), default=-1)
        found = [view.best[rung] for view in views if rung in view.best]
        return min(found, key=order, default=None)

    @property
    def bar(self) -> float:
        """The effect to pass, in Dice: the incumbent's mean, or 0 while that is lower."""
        return max(0.0, self.incumbent.belief.mean) if self.incumbent else 0.0

    @cached_property
    def refinements(self) -> int:
        """How many refinements of one branch the budget allows, if those alive share it."""
        tree = self.tree
        first, last = tree.cost_s[tree.first_rung], tree.cost_s[-1]
        visit = SIBLINGS * first + last if tree.screens else last
        if not math.isfinite(tree.free_s) or visit <= 0:
            return MOST_REFINEMENTS
        alive = sum(bool(self.view(b).open) for b in tree.branches.values())
        share = tree.free_s * tree.slots / visit / max(1, alive)
        return int(min(MOST_REFINEMENTS, 2 ** math.floor(math.log2(max(1.0, share)))))

    def headroom(self, branch: Branch) -> Posterior:
        """Return the belief about what one more refinement adds, in Dice."""
        left = self.it.sd * WEAR**branch.wasted
        return Posterior(HEADROOM * left, HEADROOM_SD * left)

    @cached_property
    def first_rung(self) -> int:
        """The rung that refinements start at: that of drafts, or the last where it says too little.

        It says enough where steps are large against the link's SD: at a correlation of TELLING.
        """
        first, last = self.tree.first_rung, self.tree.last_rung
        if first == last:
            return last
        step, link = self.it.step_sd, self.it.links[first].sd
        return first if step / math.hypot(step, link) >= TELLING else last

    @property
    def head(self) -> Posterior:
        """The headroom above a draft nobody has refined yet, in Dice."""
        return Posterior(HEADROOM * self.it.sd, HEADROOM_SD * self.it.sd)

    def belief(self, branch: Branch, place: int) -> Posterior:
        """Return the belief about the network at a place of `branch.networks`."""
        return of_branch(branch, self.it)[place]

    def chance(self, standing: Standing) -> Chance:
        """Return how likely a network, or a refinement of it, is to pass the bar by the margin."""
        lead, n = self.incumbent, self.refinements
        is_own = lead is None or lead.belief.mean <= 0 or lead.network.id == standing.network.id
        bar, doubt = (0.0, self.tree.baseline_sd) if is_own else (self.bar, lead_sd(lead))
        head = self.headroom(standing.branch)
        spread = math.hypot(standing.belief.sd, head.sd, doubt)
        one = normal_tail(standing.belief.mean + head.mean - bar - self.tree.margin, spread)
        against = "baseline" if is_own or lead is None else lead.network.top.id
        return Chance(one, 1 - (1 - one) ** n, n, bar, against)

    def may_return(self, standing: Standing) -> bool:
        """Tell whether a network that was cut has RETURNS times the chance again that it was cut for."""
        return self.chance(standing).ever >= RETURNS * self.tree.cut_below

    def leads(self, network: Network) -> bool:
        """Tell whether a network is the incumbent."""
        return self.incumbent is not None and self.incumbent.network.id == network.id

    def beyond(self, standing: Standing) -> Posterior:
        """Return the belief about a network's effect on other cases than the split's."""
        readings = standing.network.readings
        return beyond(standing.belief, readings[-1].cases if readings else 0.0, self.it)

    def p_better(self, standing: Standing) -> float:
        """Return the probability that a network is better than the baseline, on any cases."""
        found = self.beyond(standing)
        return normal_tail(found.mean, math.hypot(found.sd, self.tree.baseline_sd))

    def leaders(self) -> list[Standing]:
        """Return the networks that may still go on, at any rung: the incumbent, then by mean."""
        alive = [one for b in self.tree.branches.values() for one in self.view(b).open]
        return sorted(alive, key=lambda one: (not self.leads(one.network), order(one)))

    def finalists(self, k: int) -> list[Standing]:
        """Return at most `k` networks of the highest rung with scores, best mean first.

        Cut ones are left out, unless all are cut: then the best of them stands alone.
        """
        if self.incumbent is None:
            return []
        rung = self.incumbent.network.rung
        there = [
            Standing(branch, network, belief)
            for branch in self.tree.branches.values()
            for network, belief in zip(branch.networks, of_branch(branch, self.it), strict=True)
            if network.rung == rung
        ]
        there.sort(key=order)
        alive = [one for one in there if not one.network.is_cut]
        return alive[:k] if alive else there[: min(k, 1)]


def lead_sd(lead: Standing | None) -> float:
    """Return the SD of the incumbent's effect."""
    return lead.belief.sd if lead else 0.0


def order(one: Standing) -> tuple[float, str]:
    """Return the key of the order by posterior mean, best first, ties by id."""
    return -one.belief.mean, one.network.id


def make_view(branch: Branch, it: Constants) -> View:
    """Return what the constants say of a branch."""
    found = [
        Standing(branch, network, belief)
        for network, belief in zip(branch.networks, of_branch(branch, it), strict=True)
    ]
    best: dict[int, Standing] = {}
    for one in sorted((s for s in found if s.network.readings), key=order, reverse=True):
        best[one.network.rung] = one
    first = next((one for one in found if one.network.readings), None)
    found.sort(key=lambda one: (-one.belief.mean - one.belief.sd, one.network.id))
    alive = tuple(one for one in found if one.network.may_go_on)
    shelved = tuple(one for one in found if one.network.may_return)
    return View(it, first, alive, shelved, best)


def leader(tree: Tree) -> Standing | None:
    """Return the best posterior mean at the highest rung with scores; ties by id."""
    return Board(tree).incumbent


def finalists(tree: Tree, k: int) -> list[Standing]:
    """Return at most `k` networks to confirm, best first; see `Board.finalists`."""
    return Board(tree).finalists(k)
