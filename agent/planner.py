"""What writes proposals and networks: the protocol that every planner follows."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Protocol

from memory.records import Proposal


class Planner(Protocol):
    """Writes proposals and networks; called by one thread at a time.

    `effects` are the mean effects in Dice of the components tried so far. Each method that
    returns a proposal raises PlannerError when it has none left.
    """

    def propose(
        self,
        tried: Sequence[Proposal],
        effects: Mapping[str, float],
        rng: Random,
        *,
        dims: int,
    ) -> Proposal:
        """Return a new idea, distinct from those tried."""

    def improve(
        self,
        parent: Proposal,
        effects: Mapping[str, float],
        rng: Random,
        *,
        dims: int,
        tried: Sequence[Proposal],
    ) -> Proposal:
        """Return a changed idea that says what changed and why."""

    def cross(
        self,
        parent: Proposal,
        partner: Proposal,
        rng: Random,
        *,
        dims: int,
        tried: Sequence[Proposal],
    ) -> Proposal:
        """Return a child of `parent` that takes modules of `partner`, another branch's."""

    def repair(
        self,
        proposal: Proposal,
        failure_class: str,
        rng: Random,
        *,
        tried: Sequence[Proposal] = (),
    ) -> Proposal:
        """Return an idea without what made the network fail."""

    def write(self, proposal: Proposal) -> str:
        """Return the source of network.py."""
