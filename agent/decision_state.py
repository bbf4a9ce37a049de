"""What a decision's thread remembers, from the stored event to the graph that carries it out. Pure."""

from typing import Any, TypedDict

from memory.errors import PlannerError
from memory.records import Event, Kind

KEPT = ("promote", "repeat", "smaller_batch")
"""Actions that train a network again; its proposal, commit and kind stay."""
RIVAL = "rival"
"""The action of the second of two coders: the same proposal, another network."""


class State(TypedDict, total=False):
    """What a thread remembers between nodes."""

    decision: int
    action: str
    branch: str
    rung: int
    source: str
    batch_size: int
    partner: str
    repeat: int
    kind: str
    proposal: str
    trial: str
    status: str
    step_s: float
    repairs: int
    rival: bool


def event_of(decision: Any, at: float) -> Event:
    """Return a policy's decision as the event that is stored."""
    figures = {**decision.figures, "node": decision.node, "rung": decision.rung}
    if decision.partner is not None:
        figures["partner"] = decision.partner
    return Event(decision.action, decision.text, figures, decision.node, decision.branch, at)


def state_of(event: Event) -> State:
    """Return where the graph of a stored decision starts."""
    kinds = {
        "open": Kind.DRAFT,
        "improve": Kind.IMPROVE,
        "crossover": Kind.IMPROVE,
        "repair": Kind.REPAIR,
    }
    state: State = {
        "decision": event.id,
        "action": event.kind,
        "rung": event.figures["rung"],
        "kind": kinds.get(event.kind, Kind.DRAFT).value,
    }
    if event.trial is not None:
        state["source"] = event.trial
    if event.kind == "smaller_batch":
        state["batch_size"] = event.figures["batch_size"]
    if event.kind == "repeat":
        state["repeat"] = event.figures["seeds"]
    if event.figures.get("partner"):
        state["partner"] = event.figures["partner"]
    if event.kind == RIVAL:
        state["rival"] = True
        state["proposal"], state["kind"] = event.figures["proposal"], event.figures["kind"]
    if event.branch is not None:
        state["branch"] = event.branch
    if "trial" in event.figures:
        state["trial"] = event.figures["trial"]
        if event.figures.get("step_s") is not None:
            state["step_s"] = event.figures["step_s"]
    if not state.get("trial") and event.kind not in (*kinds, *KEPT, RIVAL):
        raise PlannerError(f"event {event.id} ({event.kind}) starts no trial")
    return state
