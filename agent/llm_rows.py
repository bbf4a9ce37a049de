"""What belongs to the calls to language models in a store: decisions, evidence, payoffs.

Only read where there was a call, or where a planner told of one that it could not make.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.evidence import Evidence
from agent.llm_costs import DECISION, Made
from agent.standings import Standings
from agent.tree_view import evidence_of
from memory.records import Event, LlmCall
from memory.store import Store

if TYPE_CHECKING:
    from agent.diagnosis import Payoff

LOST, BACK, FELL_BACK = "planner_lost", "planner_back", "fell_back"
TOLD = (LOST, BACK, FELL_BACK)


class Language(NamedTuple):
    """What a report needs besides the calls.

    `made` is what each scope of a decision led to, `evidence` that of the search's trials by id,
    `payoffs` what each category of suggestions brought, those that were carried out.
    """

    made: Mapping[str, Made]
    evidence: Mapping[str, Evidence]
    payoffs: "tuple[Payoff, ...]"


def read_language(
    store: Store, calls: Sequence[LlmCall], events: Iterable[Event]
) -> Language | None:
    """Return what a report needs besides the calls; None where no model was asked."""
    if not calls and not told(events):
        return None
    from agent.diagnosis import payoff

    payoffs = tuple(one for one in payoff(store) if one.carried)
    return Language(made_by(store, calls), read_evidence(store), payoffs)


def told(events: Iterable[Event]) -> list[Event]:
    """Return the events in which a planner tells that a model was lost, or is back."""
    return [event for event in events if event.kind in TOLD]


def made_by(store: Store, calls: Iterable[LlmCall]) -> dict[str, Made]:
    """Return what the decisions led to that calls were made for, by their scopes."""
    scopes = sorted({call.scope for call in calls if call.scope.startswith(DECISION)})
    return {scope: _made(store, scope) for scope in scopes}


def _made(store: Store, scope: str) -> Made:
    proposal = (store.effect(f"{scope}/proposal") or {}).get("proposal")
    trial = (store.effect(f"{scope}/trial") or {}).get("trial")
    return Made(proposal, trial)


def read_evidence(store: Store) -> dict[str, Evidence]:
    """Return the evidence of every trial of the search that has some, by id."""
    standings = Standings(store)
    found = ((trial.id, evidence_of(standings, trial)) for trial in standings.refresh())
    return {trial: evidence for trial, evidence in found if evidence is not None}
