"""Playing a policy's decisions without training: the tree, the clock, and what runs.

What a trial gives comes from a subclass: a simulated world (`bench/worlds.py`) or a table of
real trials (`bench/replay.py`). Costs are seconds of a clock that starts at 0.
"""

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Generic, TypeVar

from agent.branches import Branch, Node
from agent.evidence import Evidence
from agent.ladder import Settings
from agent.policies import decide
from agent.search_tree import Decision, Tree
from memory.errors import SegwrightError
from memory.records import Kind, Status

MOST_DECISIONS = 20_000
AGAIN = ("promote", "repeat", "smaller_batch")
Watch = Callable[[Tree, int, Decision], None]
Ended = TypeVar("Ended")


class Exhausted(Exception):
    """No network is left that a decision could train."""


class Spent(Exception):
    """Nothing is left that could follow a trial: a planner has no repair of it."""


@dataclass(slots=True, kw_only=True)
class Driver(ABC, Generic[Ended]):
    """One campaign of one policy; a subclass says what is true.

    `networks` gives each trial's network, by the id of that network's first trial; `watch` is
    shown each tree, step and decision.
    """

    policy: str
    settings: Settings
    budget: float
    slots: int = 1
    watch: Watch | None = None
    now: float = 0.0
    networks: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, dict[str, Node]] = field(default_factory=dict)
    running: list[tuple[float, str, str, Status, float]] = field(default_factory=list)

    @abstractmethod
    def prepare(self) -> Tree:
        """Return the tree of a campaign that begins."""

    @abstractmethod
    def begin(self, name: str, made: Decision, source: Node | None) -> Node | None:
        """Make a new network under the id of its first trial.

        Returns:
            The trial that it comes from; None for the first one of a new branch.

        Raises:
            Exhausted: no network is left.
            Spent: nothing can follow this trial.
        """

    @abstractmethod
    def train(self, node: Node) -> tuple[Status, float]:
        """Return how a trial will end, and after how many seconds."""

    @abstractmethod
    def read(self, node: Node) -> Evidence:
        """Return what a finished trial's scores say."""

    @abstractmethod
    def outcome(self, tree: Tree, made: Decision) -> Ended:
        """Return how the campaign ended."""

    def run(self) -> Ended:
        """Play until the policy ends the search.

        Raises:
            SegwrightError: it does not end.
        """
        tree = self.prepare()
        for step in range(MOST_DECISIONS):
            left = self.budget - self.now
            tree = replace(tree, branches=dict(sorted(tree.branches.items())), seconds_left=left)
            made = decide(tree, Random(step), policy=self.policy, settings=self.settings)
            if self.watch is not None:
                self.watch(tree, step, made)
            if made.action == "confirm":
                return self.outcome(tree, made)
            self.apply(tree, made)
        raise SegwrightError(f"{self.policy} decided {MOST_DECISIONS} times and did not end")

    def apply(self, tree: Tree, made: Decision) -> None:
        """Do what was decided."""
        if made.action == "wait":
            self.finish(tree)
        elif made.action == "cut":
            assert made.node is not None
            assert made.branch is not None
            self.put(tree, replace(self.nodes[made.branch][made.node], is_cut=True))
        else:
            try:
                self.start(tree, made)
            except Exhausted:
                self.budget = self.now
            except Spent:
                assert made.node is not None
                assert made.branch is not None
                self.put(tree, replace(self.nodes[made.branch][made.node], is_spent=True))

    def put(self, tree: Tree, node: Node) -> None:
        """Set one node; only its branch is made again."""
        own = self.nodes.setdefault(node.branch, {})
        own[node.id] = node
        branches = tree.branches
        assert isinstance(branches, dict)
        branches[node.branch] = Branch(node.branch, own.values())

    def start(self, tree: Tree, made: Decision) -> None:
        """Start a trial, of a new network or of one that is known."""
        assert made.rung is not None
        name = f"t{sum(map(len, self.nodes.values())):05}"
        source = self.nodes[made.branch][made.node] if made.branch and made.node else None
        is_again = source is not None and made.action in AGAIN
        if source is not None and is_again:
            self.networks[name] = self.networks[source.id]
        else:
            source = self.begin(name, made, source)
            self.networks[name] = name
        if source is not None and source.is_cut:
            self.put(tree, replace(source, is_cut=False))
        is_deeper = source is not None and made.action in ("improve", "crossover")
        node = Node(
            name,
            source.id if source else None,
            source.branch if source else f"b{len(self.nodes):04}",
            made.rung,
            Status.RUNNING,
            commit=self.networks[name],
            kind=Kind.REPAIR if made.action == "repair" else Kind.DRAFT,
            planned_at=float(name[1:]),
            depth=(source.depth if source else 0) + is_deeper,
        )
        self.put(tree, node)
        status, cost = self.train(node)
        heapq.heappush(self.running, (self.now + cost, name, node.branch, status, cost))
        if self.slots == 1:
            self.finish(tree)

    def finish(self, tree: Tree) -> None:
        """End the trial that ends next."""
        self.now, name, branch, status, cost = heapq.heappop(self.running)
        node = replace(self.nodes[branch][name], status=status, cost_s=cost)
        if node.is_ok:
            node = replace(node, evidence=self.read(node))
        self.put(tree, node)
