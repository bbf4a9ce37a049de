"""What writes proposals and networks: the protocol that every planner follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from agent.component_effects import ComponentEffects
from memory.records import Proposal, Trial


@dataclass(frozen=True, slots=True)
class Case:
    """For whom a planner works: the scope of its calls, the trial, and what is asked of it.

    `scope` is decision/N; `trial` is the one that is improved, crossed or repaired, None for a new
    idea; `rival` is True for the second of two coders.
    """

    scope: str
    trial: Trial | None = None
    rival: bool = False


class Planner(Protocol):
    """Writes proposals and networks.

    `propose`, `improve`, `cross` and `repair` are called by one thread at a time, `write` by
    several. `effects` are what is known of components, from this campaign and from earlier ones.
    Each method raises PlannerError when it has nothing. The same case and draws give the same again.
    """

    def propose(
        self,
        tried: Sequence[Proposal],
        effects: ComponentEffects,
        rng: Random,
        *,
        dims: int,
        case: Case | None = None,
    ) -> Proposal:
        """Return a new idea, distinct from those tried."""

    def improve(
        self,
        parent: Proposal,
        effects: ComponentEffects,
        rng: Random,
        *,
        dims: int,
        tried: Sequence[Proposal],
        case: Case | None = None,
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
        case: Case | None = None,
    ) -> Proposal:
        """Return a child of `parent` that takes modules of `partner`, another branch's."""

    def repair(
        self,
        proposal: Proposal,
        failure_class: str,
        rng: Random,
        *,
        tried: Sequence[Proposal] = (),
        case: Case | None = None,
    ) -> Proposal:
        """Return an idea without what made the network fail."""

    def write(self, proposal: Proposal, *, case: Case | None = None) -> str:
        """Return the source of network.py."""
