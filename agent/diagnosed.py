"""The built-in planner with a diagnosis: half of its changes follow what the rules suggest.

The rules read the same clues as a language model would (`agent/diagnosis.py`). A suggestion that
names a set of library components becomes a child as it stands; the other half of the changes stay
drawn from the grammar, so that a rule that is wrong here does not rule the search, and the store
can show which categories paid.
"""

from collections.abc import Sequence
from random import Random

from agent.children import next_child
from agent.component_effects import ComponentEffects
from agent.diagnostician import Diagnostician, event_of
from agent.grammar import GrammarPlanner
from agent.planner import Case
from agent.session import Session
from memory.errors import ClaimError, PlannerError
from memory.records import Proposal

SHARE = 0.5


class DiagnosedPlanner:
    """A grammar planner that hears the rules; see `agent.planner.Planner`."""

    def __init__(self, session: Session, grammar: GrammarPlanner) -> None:
        """Take the session, whose store holds the evidence, and the grammar."""
        self.session, self.grammar = session, grammar
        self.diagnostician = Diagnostician(session)

    def propose(
        self,
        tried: Sequence[Proposal],
        effects: ComponentEffects,
        rng: Random,
        *,
        dims: int,
        case: Case | None = None,
    ) -> Proposal:
        """Return a new idea of the grammar."""
        return self.grammar.propose(tried, effects, rng, dims=dims)

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
        """Return what a suggestion makes of the parent, or what the grammar makes of it."""
        is_told = rng.random() < SHARE
        if is_told and (child := self.suggested(parent, tried, case)) is not None:
            return child
        return self.grammar.improve(parent, effects, rng, dims=dims, tried=tried)

    def suggested(
        self, parent: Proposal, tried: Sequence[Proposal], case: Case | None
    ) -> Proposal | None:
        """Return the child of the first suggestion that is left; None where there is none."""
        if case is None or case.trial is None:
            return None
        with self.session.store() as store:
            try:
                found = self.diagnostician.diagnosis(store, case.trial, tried)
                event = event_of(store, case.trial.id)
                return next_child(parent, found, event, tried, planner="grammar")
            except (ClaimError, PlannerError):
                return None

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
        """Return a child with modules of both, of the grammar."""
        return self.grammar.cross(parent, partner, rng, dims=dims, tried=tried)

    def repair(
        self,
        proposal: Proposal,
        failure_class: str,
        rng: Random,
        *,
        tried: Sequence[Proposal] = (),
        case: Case | None = None,
    ) -> Proposal:
        """Return an idea without what made the network fail, of the grammar."""
        return self.grammar.repair(proposal, failure_class, rng, tried=tried)

    def write(self, proposal: Proposal, *, case: Case | None = None) -> str:
        """Return the network of a proposal."""
        return self.grammar.write(proposal)
