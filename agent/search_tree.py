"""The tree that a policy looks at, and the decision that it answers with.

Pure values: the campaign loop builds a Tree from the store. Branches that did not change are the
same objects as before, so that a decision costs little more than one look at each of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from agent.branches import Branch, Node
from memory.errors import ExploreError
from memory.records import Figures, Status

Action = Literal[
    "open", "improve", "crossover", "promote", "repeat", "cut", "repair", "smaller_batch",
    "confirm", "wait",
]  # fmt: skip
DECISIONS = tuple(action for action in get_args(Action) if action != "wait")
"""The actions that are stored; whoever waits decides again."""
LEARNT = 0.5
SMALLEST_BATCH = 2
HALVINGS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Everything a policy may know.

    Attributes:
        branches: every branch ever opened, by id; baselines are in none.
        baseline_mean: mean Dice of the baseline at each rung; its length is the number of rungs.
        cost_s: expected wall seconds of one trial at each rung.
        slots: trials that may run side by side.
        trials_left: trials of the search that may still be started; pending ones are counted
            already, confirmation is not counted.
        seconds_left: wall seconds until the budget ends; infinity for no limit.
        confirm_s: wall seconds of these that belong to confirmation and report.
        drafts: branches to open before anything else is done, at least.
        max_depth: improvements in a row under one draft.
        repairs: repairs in a row of one failing network.
        margin: gain over the incumbent that counts, in Dice.
        cut_below: a network with a smaller chance of that gain is cut.
        prior_sd: SD in Dice of a network's true difference to the baseline, before evidence.
        rung_sd: SD in Dice by which that difference moves from one rung to the next.
        baseline_sd: SD in Dice that the baseline's seeds add to all effects at the last rung.
        batch_size: the planned one; 0 leaves a network without room in memory as it is.
        baseline_seeds: baselines to train at a rung with a smaller batch, to compare with.
    """

    branches: Mapping[str, Branch] = field(default_factory=dict)
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
    cut_below: float = 0.05
    prior_sd: float = 0.02
    rung_sd: float = 0.01
    baseline_sd: float = 0.0
    batch_size: int = 0
    baseline_seeds: int = 3

    def __post_init__(self) -> None:
        """Refuse rungs that cannot be compared.

        Raises:
            ExploreError: a rung has no baseline or no cost.
        """
        rungs = len(self.baseline_mean)
        if not rungs or len(self.cost_s) != rungs:
            raise ExploreError(
                f"{rungs} rungs with a baseline, {len(self.cost_s)} with a cost; every rung needs "
                "both before the search begins"
            )
        if list(self.branches) != sorted(self.branches):
            object.__setattr__(self, "branches", dict(sorted(self.branches.items())))

    @property
    def last_rung(self) -> int:
        """Number of the rung that finalists come from."""
        return len(self.baseline_mean) - 1

    @property
    def first_rung(self) -> int:
        """Number of the rung that networks start at: the lowest that tells them apart."""
        return first_telling(self.baseline_mean)

    @property
    def screens(self) -> bool:
        """Whether a rung below the last one tells networks apart, so that it can screen them."""
        return self.first_rung < self.last_rung

    @property
    def pending(self) -> list[Node]:
        """The trials that are planned or running, by id."""
        found = [node for branch in self.branches.values() for node in branch.pending]
        return sorted(found, key=lambda node: node.id)

    @property
    def spent_s(self) -> float:
        """Seconds that the search's finished trials took."""
        return math.fsum(branch.cost_s for branch in self.branches.values())

    @property
    def free_s(self) -> float:
        """Wall seconds that the search may still use."""
        return max(0.0, self.seconds_left - self.confirm_s)

    def cost(self, rung: int, *, like: Node | None = None) -> float:
        """Return the expected seconds of a trial, as slow or fast as `like` was at its rung."""
        pace = 1.0
        if like is not None and like.is_ok and like.cost_s > 0 and self.cost_s[like.rung] > 0:
            pace = like.cost_s / self.cost_s[like.rung]
        return pace * self.cost_s[rung]

    def climb(self, rung: int, *, like: Node | None = None) -> float:
        """Return the expected seconds from starting at `rung` to the end of the last rung."""
        return sum(self.cost(r, like=like) for r in range(rung, self.last_rung + 1))

    def fits(self, seconds: float, *, trials: int) -> bool:
        """Tell whether that many trials, ending after `seconds`, leave confirmation its time."""
        return seconds <= self.seconds_left - self.confirm_s and trials <= self.trials_left

    def smaller_batch(self, node: Node) -> int | None:
        """Return the batch that a failed trial without room in memory is tried with next."""
        if node.status is not Status.OUT_OF_MEMORY or not self.batch_size:
            return None
        return next_batch(node.batch_size, planned=self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do next, and why.

    `node` is the trial acted on: the one to improve, cross, promote, repeat, repair, cut, or the
    incumbent to confirm; `partner` is the other trial of a crossover; `rung` is where the new
    trial runs. `figures` is plain JSON and holds every number behind the choice; `text` says it
    in one sentence.
    """

    action: Action
    branch: str | None = None
    node: str | None = None
    partner: str | None = None
    rung: int | None = None
    figures: Figures
    text: str


def first_telling(baseline_mean: Sequence[float]) -> int:
    """Return the lowest rung at which the baseline reaches LEARNT of its mean Dice at the last one.

    After less, networks differ by how soon they begin to learn, which says little of what they
    come to: in the table of real trials (`bench/replay_table.csv`) the baseline reaches 35 % at the
    lower rung, and single readings of drafts there correlate with the last rung by 0.4.

    Args:
        baseline_mean: the baseline's mean Dice at each rung, [0, 1], lowest rung first; not empty.
    """
    enough = LEARNT * baseline_mean[-1]
    return next(rung for rung, mean in enumerate(baseline_mean) if mean >= enough)


def next_batch(batch_size: int | None, *, planned: int) -> int | None:
    """Return half of a batch, None where the ladder ends: a quarter of the planned one, or 2."""
    half = (batch_size or planned) // 2
    return half if half >= max(SMALLEST_BATCH, planned // 2**HALVINGS) else None
