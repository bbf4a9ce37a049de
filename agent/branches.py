"""One branch of the tree: its trials, its networks, and what follows from them alone.

How the trials of the store become nodes, and nodes networks:
* a network is one commit: its trials are the first one, its promotions to higher rungs, its
  repetitions with new seeds, and, after a lack of memory, its trials with a smaller batch;
* an improved, crossed or repaired network is a child of the network it was made from;
* a trial that is decided but not yet written down is a node with status `planned`;
* a cancelled trial counts for nothing, unless it was cut: then its network is ended.

Pure. What follows from a branch is computed once for as long as the branch stays as it is.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from agent.evidence import Evidence
from memory.errors import ExploreError
from memory.records import Kind, Status

LEAST_SHARE, LEAST_VARIANCE = 0.01, 1e-12
"""No seed SD is believed to be under a tenth of the cases', or 0: it comes from few repeats."""


@dataclass(frozen=True, slots=True)
class Node:
    """One trial of the search.

    `depth` counts the improvements between the branch's draft and this network; `cost_s` is
    what the trial took; `quality` is its normalised quality in [-1, 1] when the caller wants
    to set it, else the policy derives it from `evidence`; `batch_size` is None as planned;
    `planned_at` orders the trials of a branch in time, in any unit; `is_spent` says that the
    planner has nothing left to make of this network.
    """

    id: str
    parent: str | None
    branch: str
    rung: int
    status: Status
    evidence: Evidence | None = None
    quality: float | None = None
    cost_s: float = 0.0
    is_cut: bool = False
    commit: str | None = None
    kind: Kind = Kind.DRAFT
    depth: int = 0
    batch_size: int | None = None
    planned_at: float = 0.0
    is_spent: bool = False

    @property
    def is_pending(self) -> bool:
        """True while the trial may still change."""
        return not self.status.is_final

    @property
    def is_ok(self) -> bool:
        """True when the trial has scores."""
        return self.status is Status.OK

    @property
    def is_failed(self) -> bool:
        """True when the trial ended without scores, and nobody stopped it."""
        return self.status.is_final and not self.is_ok and self.status is not Status.CANCELLED


class Reading(NamedTuple):
    """What a network's trials at one rung say: mean effect in Dice, and its variances.

    `variance` is that of the network's own seeds, which repetitions average out; `cases` that of
    the cases of the split, which stays however often the network is trained (Dice squared). The
    baseline's seeds are the same for all networks, and in neither.
    """

    rung: int
    value: float
    variance: float
    cases: float


class Repeats(NamedTuple):
    """How far apart trainings of one network at one rung are, over networks and rungs.

    `squares` are squared differences from their mean, each as a multiple of the seed variance that
    the baseline shows there; their expectation is `df`, if networks scatter as the baseline does.
    """

    df: int = 0
    squares: float = 0.0


@dataclass(frozen=True, slots=True)
class Network:
    """One network and all its trials; `parent` is the place of its parent in `Branch.networks`.

    A parent of -1 is the idea itself: the network is a draft, or the repair of one.
    """

    id: str
    parent: int
    trials: tuple[Node, ...]
    readings: tuple[Reading, ...]

    @property
    def rung(self) -> int:
        """The highest rung with scores; -1 without any."""
        return self.readings[-1].rung if self.readings else -1

    @property
    def top(self) -> Node:
        """The first trial with scores at the highest rung, else the last trial."""
        return next((n for n in self.trials if n.is_ok and n.rung == self.rung), self.trials[-1])

    @property
    def is_cut(self) -> bool:
        """True when its last word was a cut."""
        return any(node.is_cut for node in self.trials)

    @property
    def is_pending(self) -> bool:
        """True while one of its trials may still change."""
        return any(node.is_pending for node in self.trials)

    @property
    def may_go_on(self) -> bool:
        """True when it has scores and its last trial neither failed nor was stopped."""
        return bool(self.readings) and not self.is_cut and not self.has_fallen

    @property
    def has_fallen(self) -> bool:
        """True when every trial above its readings failed or was stopped."""
        above = [node for node in self.trials if node.rung > self.rung]
        return bool(above) and not any(node.is_pending for node in above)

    @property
    def may_return(self) -> bool:
        """True when it was cut, but neither failed nor was stopped in mid-training."""
        return self.is_cut and bool(self.readings) and not self.has_fallen

    def seeds_at(self, rung: int) -> int:
        """Return its trials at a rung, those that still run included."""
        return sum(node.rung == rung and (node.is_ok or node.is_pending) for node in self.trials)


class Branch:
    """All trials of one idea, in the order of their time, then of their ids."""

    def __init__(self, name: str, nodes: Iterable[Node] = ()) -> None:
        """Take the nodes; cancelled ones that were not cut are left out.

        Raises:
            ExploreError: a repeated id, an unknown parent, or a finished trial without evidence.
        """
        self.id = name
        given = sorted(nodes, key=lambda node: (node.planned_at, node.id))
        check_nodes(name, given)
        self.given = tuple(given)
        self.nodes = [n for n in given if n.status is not Status.CANCELLED or n.is_cut]
        self.by_id = {node.id: node for node in self.nodes}
        self.children: dict[str, list[Node]] = {node.id: [] for node in self.nodes}
        for node in self.nodes:
            if node.parent in self.children:
                self.children[node.parent].append(node)

    @cached_property
    def pending(self) -> tuple[Node, ...]:
        """The trials that are planned or running."""
        return tuple(node for node in self.nodes if node.is_pending)

    @cached_property
    def cost_s(self) -> float:
        """Seconds that its finished trials took."""
        return math.fsum(node.cost_s for node in self.nodes)

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """Its networks, parents before children."""
        found: list[list[Node]] = []
        parents: list[int] = []
        place: dict[str, int] = {}
        for node in self.by_descent():
            parent = self.by_id.get(node.parent or "")
            if parent is not None and is_same_network(node, parent):
                found[place[parent.id]].append(node)
                place[node.id] = place[parent.id]
                continue
            place[node.id] = len(found)
            found.append([node])
            parents.append(place[parent.id] if parent else -1)
        readings = [readings_of(trials) for trials in found]
        return tuple(
            Network(trials[0].id, with_scores(parent, parents, readings), tuple(trials), read)
            for trials, parent, read in zip(found, parents, readings, strict=True)
        )

    def by_descent(self) -> list[Node]:
        """Return the nodes with each parent before its children."""
        roots = [node for node in self.nodes if node.parent not in self.by_id]
        order, rest = [], roots[::-1]
        while rest:
            node = rest.pop()
            order.append(node)
            rest += self.children[node.id][::-1]
        return order

    @cached_property
    def failures(self) -> tuple[Node, ...]:
        """Failed trials that nothing followed and that are not cut; a failed repetition is none."""
        return tuple(
            node
            for network in self.networks
            for node in network.trials
            if node.is_failed
            and not node.is_cut
            and not self.children[node.id]
            and node.rung > network.rung
        )

    @cached_property
    def expecting(self) -> frozenset[str]:
        """The networks of which a refinement is running."""
        pairs = [(self.networks[place], kids) for place, kids in self.litters.items()]
        return frozenset(
            parent.id for parent, kids in pairs if any(self.networks[k].is_pending for k in kids)
        )

    @cached_property
    def has_worked(self) -> bool:
        """True when any of its trials has scores."""
        return any(node.is_ok for node in self.nodes)

    @cached_property
    def wasted(self) -> int:
        """Failed and unfinished networks, and those with scores that improved nothing, in a row.

        Counted since the branch's best reading at the highest rung so far last rose; what still
        runs counts, so that two slots do not ask for the same thing.
        """
        best, count = -math.inf, -1
        for network in sorted(self.networks, key=lambda w: (w.trials[0].planned_at, w.id)):
            count += 1
            if network.rung == self.rung and self.rung >= 0 and network.readings[-1].value > best:
                best, count = network.readings[-1].value, 0
        return max(0, count)

    @cached_property
    def repeats(self) -> Repeats:
        """What trainings of one network with several seeds say about the spread of seeds."""
        found = [one for network in self.networks for one in repeats_of(network.trials)]
        return Repeats(sum(one.df for one in found), math.fsum(one.squares for one in found))

    @cached_property
    def litters(self) -> dict[int, tuple[int, ...]]:
        """The places of each network's refinements, by the place of that network."""
        found: dict[int, list[int]] = {}
        for place, network in enumerate(self.networks):
            if network.parent >= 0:
                found.setdefault(network.parent, []).append(place)
        return {parent: tuple(kids) for parent, kids in found.items()}

    @cached_property
    def rung(self) -> int:
        """The highest rung with scores; -1 without any."""
        return max((network.rung for network in self.networks), default=-1)

    def network_of(self, node: str) -> Network:
        """Return the network that a trial belongs to."""
        return next(w for w in self.networks if any(n.id == node for n in w.trials))

    def children_of(self, network: Network) -> list[Network]:
        """Return the networks that were made from one."""
        place = self.networks.index(network)
        return [w for w in self.networks if w.parent == place]

    def repairs_done(self, node: Node) -> int:
        """Return how many repairs in a row led to this failed trial; a smaller batch is none."""
        count = 0
        parent = self.by_id.get(node.parent or "")
        while parent is not None and parent.is_failed:
            count += node.batch_size == parent.batch_size or node.commit != parent.commit
            node, parent = parent, self.by_id.get(parent.parent or "")
        return count


def grown(nodes: Iterable[Node], branches: Iterable[str] = ()) -> dict[str, Branch]:
    """Return branches by id, sorted, with their nodes; those named may still be empty.

    Raises:
        ExploreError: see `Branch`; or a trial's id occurs in two branches.
    """
    of_branch: dict[str, list[Node]] = {name: [] for name in branches}
    seen: dict[str, str] = {}
    for node in nodes:
        if seen.setdefault(node.id, node.branch) != node.branch:
            raise ExploreError(f"trial {node.id!r} is in two branches; each needs its own id")
        of_branch.setdefault(node.branch, []).append(node)
    return {name: Branch(name, of_branch[name]) for name in sorted(of_branch)}


def is_same_network(node: Node, parent: Node) -> bool:
    """Tell whether a trial runs its parent's network again: higher, with another seed or batch."""
    if node.commit is not None and parent.commit is not None:
        return node.commit == parent.commit
    return node.rung > parent.rung


def readings_of(trials: Iterable[Node]) -> tuple[Reading, ...]:
    """Return what a network's finished trials say, one reading a rung, lowest first."""
    of_rung = by_rung(trials)
    return tuple(reading(rung, of_rung[rung]) for rung in sorted(of_rung))


def by_rung(trials: Iterable[Node]) -> dict[int, list[Evidence]]:
    """Return the evidence of a network's finished trials at each rung."""
    found: dict[int, list[Evidence]] = {}
    for node in trials:
        if node.is_ok and node.evidence is not None:
            found.setdefault(node.rung, []).append(node.evidence)
    return found


def repeats_of(trials: Iterable[Node]) -> list[Repeats]:
    """Return how far apart a network's trainings are at each rung that has several."""
    found = []
    for own in by_rung(trials).values():
        mean = math.fsum(one.delta for one in own) / len(own)
        squares = math.fsum((one.delta - mean) ** 2 / seed_variance(one) for one in own)
        found.append(Repeats(len(own) - 1, squares))
    return [one for one in found if one.df]


def seed_variance(one: Evidence) -> float:
    """Return the variance that a trial's own seed adds to its effect, by the baseline's seeds."""
    return max(one.seed_sd**2 / one.n_seeds, LEAST_SHARE * one.se_cases**2, LEAST_VARIANCE)


def reading(rung: int, found: list[Evidence]) -> Reading:
    """Return the mean of a network's trials at one rung: seeds average out, cases do not."""
    seeds = [seed_variance(one) for one in found]
    precision = math.fsum(1 / one for one in seeds)
    value = math.fsum(one.delta / own for one, own in zip(found, seeds, strict=True)) / precision
    cases = math.fsum(one.se_cases**2 for one in found) / len(found)
    return Reading(rung, value, 1 / precision, cases)


def with_scores(parent: int, parents: list[int], readings: list[tuple[Reading, ...]]) -> int:
    """Return the nearest ancestor with scores; -1 where there is none."""
    while parent >= 0 and not readings[parent]:
        parent = parents[parent]
    return parent


def check_nodes(branch: str, nodes: list[Node]) -> None:
    """Refuse trials that do not belong into a branch.

    Raises:
        ExploreError: another branch's trial, a repeated id, an unknown parent, a rung below 0, or
            a finished trial without evidence.
    """
    known = {node.id for node in nodes}
    if len(known) != len(nodes):
        raise ExploreError(f"{len(nodes)} nodes have {len(known)} ids; each needs its own")
    for node in nodes:
        if node.branch != branch:
            raise ExploreError(f"trial {node.id!r} of {node.branch!r} is not in {branch!r}")
        if node.parent is not None and node.parent not in known:
            raise ExploreError(f"node {node.id!r} has parent {node.parent!r}, which is not a node")
        if node.rung < 0:
            raise ExploreError(f"node {node.id!r} is at rung {node.rung!r}; allowed: 0 and above")
        if node.is_ok and node.evidence is None:
            raise ExploreError(f"node {node.id!r} is ok but has no evidence; score it first")
