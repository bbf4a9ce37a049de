"""The tree that a policy looks at, and what follows from its evidence.

Pure values: the campaign loop builds a Tree from the store, a policy answers with a Decision.

How the trials of the store become nodes:
* a promoted trial has the promoted node as its parent, the same commit, and a higher rung;
* an improved network starts again at rung 0, with the node it improves as its parent;
* a repaired network runs at the rung of the failed node, which is its parent;
* a network without room in memory runs again with a smaller batch, as a child of that node with
  the same commit and rung; until its own baselines are there it counts as running;
* a trial that is decided but not yet written down is a node with status `planned`;
* a cancelled trial counts for nothing.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from agent.evidence import Evidence, Posterior
from memory.errors import ExploreError
from memory.records import Figures, Kind, Status

Action = Literal["open", "improve", "promote", "cut", "repair", "smaller_batch", "confirm", "wait"]
SMALLEST_BATCH = 2
HALVINGS = 2


@dataclass(frozen=True, slots=True)
class Node:
    """One trial of the search.

    `depth` counts the improvements between the branch's draft and this network; `cost_s` is
    what the trial took; `quality` is its normalised quality in [-1, 1] when the caller wants
    to set it, else the policy derives it from `evidence`; `batch_size` is None as planned.
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
        """True when the trial ended without scores."""
        return self.status.is_final and not self.is_ok and self.status is not Status.CANCELLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Everything a policy may know.

    Attributes:
        nodes: trials of the search, in any order; baselines are not nodes.
        branches: ids of all branches ever opened, cut ones included.
        baseline_mean: mean Dice of the baseline at each rung; its length is the number of rungs.
        cost_s: expected wall seconds of one trial at each rung.
        slots: trials that may run side by side.
        trials_left: trials of the search that may still be started; pending ones are counted
            already, confirmation is not counted.
        seconds_left: wall seconds until the budget ends; infinity for no limit.
        confirm_s: wall seconds of these that belong to confirmation and report.
        drafts: branches to screen at rung 0 before any climbs.
        max_depth: improvements in a row under one draft.
        repairs: repairs in a row of one failing network.
        margin: gain over the incumbent that counts, in Dice.
        cut_below: a network with a smaller chance of that gain is cut.
        prior_sd: SD in Dice of a network's true difference to the baseline, before evidence.
        rung_sd: SD in Dice by which that difference moves from one rung to the next.
        batch_size: the planned one; 0 leaves a network without room in memory as it is.
        baseline_seeds: baselines to train at a rung with a smaller batch, to compare with.
    """

    nodes: tuple[Node, ...]
    branches: tuple[str, ...]
    baseline_mean: tuple[float, ...]
    cost_s: tuple[float, ...]
    slots: int = 1
    trials_left: int = 1_000_000
    seconds_left: float = math.inf
    confirm_s: float = 0.0
    drafts: int = 6
    max_depth: int = 8
    repairs: int = 3
    margin: float = 0.005
    cut_below: float = 0.1
    prior_sd: float = 0.02
    rung_sd: float = 0.01
    batch_size: int = 0
    baseline_seeds: int = 3

    def __post_init__(self) -> None:
        """Refuse a tree that no campaign can have.

        Raises:
            ExploreError: rungs without baseline or cost, a repeated id, an unknown parent or
                branch, or a finished trial without evidence.
        """
        rungs = len(self.baseline_mean)
        if not rungs or len(self.cost_s) != rungs:
            raise ExploreError(
                f"{rungs} rungs with a baseline, {len(self.cost_s)} with a cost; every rung needs "
                "both before the search begins"
            )
        known = {node.id: node for node in self.nodes}
        if len(known) != len(self.nodes):
            raise ExploreError(f"{len(self.nodes)} nodes have {len(known)} ids; each needs its own")
        branches = set(self.branches)
        for node in self.nodes:
            _check_node(node, parents=known, branches=branches, rungs=rungs)

    @property
    def pending(self) -> frozenset[str]:
        """Ids of the trials that are planned or running."""
        return frozenset(node.id for node in self.nodes if node.is_pending)

    @property
    def last_rung(self) -> int:
        """Number of the rung that finalists come from."""
        return len(self.baseline_mean) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do next, and why.

    `node` is the trial acted on: the one to improve, promote, repair, cut, or the incumbent to
    confirm; `rung` is where the new trial runs. `figures` is plain JSON and holds every number
    behind the choice; `text` says it in one sentence.
    """

    action: Action
    branch: str | None = None
    node: str | None = None
    rung: int | None = None
    figures: Figures
    text: str


class Chance(NamedTuple):
    """Probability of passing the bar by the margin; `against` is a node id or "baseline"."""

    p: float
    against: str


class Board:
    """A tree with its look-ups made once; every order is by id, so none depends on the caller."""

    def __init__(self, tree: Tree) -> None:
        """Index the nodes of `tree`, cancelled ones left out."""
        self.tree = tree
        self.nodes = sorted(
            (n for n in tree.nodes if n.status is not Status.CANCELLED), key=lambda n: n.id
        )
        self.by_id = {node.id: node for node in self.nodes}
        self.children: dict[str, list[Node]] = {node.id: [] for node in self.nodes}
        self.of_branch: dict[str, list[Node]] = {branch: [] for branch in sorted(tree.branches)}
        for node in self.nodes:
            self.of_branch[node.branch].append(node)
            if node.parent in self.children:
                self.children[node.parent].append(node)

    def belief(self, node: Node) -> Posterior:
        """Return the posterior of a finished trial's true difference at its rung."""
        assert node.evidence is not None
        return node.evidence.posterior(self.tree.prior_sd)

    @cached_property
    def incumbent(self) -> Node | None:
        """The best posterior mean at the highest rung with a finished trial; ties by id."""
        done = [node for node in self.nodes if node.is_ok]
        top = max((node.rung for node in done), default=0)
        ranked = self.ranked([node for node in done if node.rung == top])
        return ranked[0] if ranked else None

    def ranked(self, nodes: list[Node]) -> list[Node]:
        """Return finished trials of one rung, best posterior mean first, ties by id."""
        return sorted(nodes, key=lambda n: (-self.belief(n).mean, n.id))

    def network(self, node: Node) -> dict[int, Node]:
        """Return the trials of one network by rung, from rung 0 (where there is one) to `node`."""
        found = {node.rung: node}
        parent = self.by_id.get(node.parent or "")
        while parent is not None and parent.rung < node.rung:
            found[parent.rung] = node = parent
            parent = self.by_id.get(node.parent or "")
        return found

    def lift(self, node: Node) -> Node | None:
        """Return the trial that carried this network to a higher rung, if there is one."""
        return next((child for child in self.children[node.id] if child.rung > node.rung), None)

    def leads(self, node: Node) -> bool:
        """Tell whether a trial belongs to the incumbent's network."""
        top = self.incumbent
        return top is not None and node.id in {n.id for n in self.network(top).values()}

    def chance(self, node: Node) -> Chance:
        """Return how likely a finished network is to pass the bar by the margin.

        The bar is the incumbent, or the baseline while no network is above it (and for the
        incumbent itself). Both sides are compared at the same rung; `rung_sd` widens the
        answer by what the rungs still to climb may change on each side.
        """
        assert node.evidence is not None
        tree, top = self.tree, self.incumbent
        gap = math.sqrt(tree.last_rung - node.rung) * tree.rung_sd
        if top is None or top.evidence is None or top.evidence.delta <= 0 or self.leads(node):
            return Chance(node.evidence.p_above(tree.margin, extra_sd=gap), "baseline")
        other = self.network(top).get(node.rung, top)
        assert other.evidence is not None
        extra = math.sqrt(2) * gap
        if node.batch_size != other.batch_size:  # other baselines: their seeds do not cancel
            extra = math.hypot(extra, node.evidence.baseline_sd, other.evidence.baseline_sd)
        p = node.evidence.p_beats(other.evidence, tree.margin, extra_sd=extra)
        return Chance(p, other.id)

    def repairs_done(self, node: Node) -> int:
        """Return how many repairs in a row led to this failed trial; a smaller batch is none."""
        count = 0
        parent = self.by_id.get(node.parent or "")
        while parent is not None and parent.is_failed:
            count += node.batch_size == parent.batch_size or node.commit != parent.commit
            node, parent = parent, self.by_id.get(parent.parent or "")
        return count

    def smaller_batch(self, node: Node) -> int | None:
        """Return the batch that a network without room in memory is tried with next, or None."""
        is_end = node.status is Status.OUT_OF_MEMORY and not self.children[node.id]
        if not is_end or node.is_cut or not self.tree.batch_size:
            return None
        return next_batch(node.batch_size, planned=self.tree.batch_size)

    def is_repairable(self, node: Node) -> bool:
        """Tell whether a failed trial is still to be repaired."""
        return (
            node.is_failed
            and not node.is_cut
            and not self.children[node.id]
            and self.smaller_batch(node) is None
            and self.repairs_done(node) < self.tree.repairs
        )

    def is_lost(self, node: Node) -> bool:
        """Tell whether a network failed at the next rung and will not be repaired."""
        tail = self.lift(node)
        while tail is not None and tail.is_failed and self.children[tail.id]:
            tail = self.children[tail.id][0]
        if tail is None or not tail.is_failed:
            return False
        return not self.is_repairable(tail) and self.smaller_batch(tail) is None

    def targets(self, branch: str) -> list[Node]:
        """Return the trials of a branch that may be improved: highest rung, then best, first."""
        found = [
            node
            for node in self.of_branch[branch]
            if node.is_ok
            and not node.is_cut
            and node.depth < self.tree.max_depth
            and self.lift(node) is None
        ]
        return sorted(found, key=lambda n: (-n.rung, -self.belief(n).mean, n.id))

    def is_open(self, branch: str, *, without: Node | None = None) -> bool:
        """Tell whether a branch has anything left to run, climb, improve or repair."""
        return any(
            node is not without
            and (
                node.is_pending
                or self.is_repairable(node)
                or self.smaller_batch(node) is not None
                or (node.is_ok and not node.is_cut and self.lift(node) is None)
            )
            for node in self.of_branch[branch]
        )

    def cost(self, rung: int, *, like: Node | None = None) -> float:
        """Return the expected seconds of a trial, as slow or fast as `like` was at its rung."""
        pace = 1.0
        if like is not None and like.is_ok and like.cost_s > 0 and self.tree.cost_s[like.rung] > 0:
            pace = like.cost_s / self.tree.cost_s[like.rung]
        return pace * self.tree.cost_s[rung]

    def climb(self, rung: int, *, like: Node | None = None) -> float:
        """Return the expected seconds from starting at `rung` to the end of the last rung."""
        return sum(self.cost(r, like=like) for r in range(rung, self.tree.last_rung + 1))

    def fits(self, seconds: float, *, trials: int) -> bool:
        """Tell whether that many trials, ending after `seconds`, leave confirmation its time."""
        free = self.tree.seconds_left - self.tree.confirm_s
        return seconds <= free and trials <= self.tree.trials_left


def incumbent(tree: Tree) -> Node | None:
    """Return the best posterior mean at the highest rung with a finished trial; ties by id."""
    return Board(tree).incumbent


def finalists(tree: Tree, k: int) -> tuple[Node, ...]:
    """Return at most `k` networks to confirm, best first.

    They come from the highest rung with a finished trial. Cut ones are left out, unless all are
    cut: then the best of them stands alone, so that the report can say what it was worth.
    """
    board = Board(tree)
    best = board.incumbent
    if best is None:
        return ()
    there = board.ranked([n for n in board.nodes if n.is_ok and n.rung == best.rung])
    alive = [node for node in there if not node.is_cut]
    return tuple(alive[:k] if alive else there[: min(k, 1)])


def next_batch(batch_size: int | None, *, planned: int) -> int | None:
    """Return half of a batch, None where the ladder ends: a quarter of the planned one, or 2."""
    half = (batch_size or planned) // 2
    return half if half >= max(SMALLEST_BATCH, planned // 2**HALVINGS) else None


def _check_node(node: Node, *, parents: dict[str, Node], branches: set[str], rungs: int) -> None:
    """Refuse a node that does not belong into its tree."""
    if node.branch not in branches:
        raise ExploreError(f"node {node.id!r} is in branch {node.branch!r}, which is not open")
    if node.parent is not None and node.parent not in parents:
        raise ExploreError(f"node {node.id!r} has parent {node.parent!r}, which is not a node")
    if not 0 <= node.rung < rungs:
        raise ExploreError(f"node {node.id!r} is at rung {node.rung!r}; allowed: 0 to {rungs - 1}")
    if node.is_ok and node.evidence is None:
        raise ExploreError(f"node {node.id!r} is ok but has no evidence; score it first")
