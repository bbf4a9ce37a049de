"""The planner that asks a language model: proposals, changes, crossovers, repairs, networks.

New ideas come from rounds (`agent/rounds.py`), changes from the diagnosis of the trial that is to
be improved (`agent/diagnostician.py`), networks from the coder (`agent/coder.py`). Everything that
a model says is stored before it is read, so that a step which runs again asks nobody.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from agent import briefing
from agent.children import next_child
from agent.coder import Coder
from agent.component_effects import ComponentEffects
from agent.diagnostician import Diagnostician, event_of
from agent.duplicates import nearest
from agent.ideas import proposal_of
from agent.llm import Model
from agent.methods import known_citations
from agent.model_settings import ROLES, RoleConfig
from agent.planner import Case
from agent.prompts import make_prompt
from agent.reply_forms import ProposalReply
from agent.rounds import Rounds
from agent.session import Session
from memory.errors import PlannerError
from memory.records import Figures, Proposal, short_id
from memory.store import Store

FORM_TOKENS = 600
"""What the schema of a reply takes of a prompt's room, about."""
CONTEXT = 32_768


class LlmPlanner:
    """Writes proposals and networks by asking a model; see `agent.planner.Planner`."""

    name = "llm"

    def __init__(self, session: Session, model: Model) -> None:
        """Take the session and the model; nothing is asked yet."""
        self.session, self.model = session, model
        room = {role: room_of(session, role) for role in ROLES}
        self.room = room
        self.rounds = Rounds(session, model, room=room)
        self.diagnostician = Diagnostician(session, model, room=room)
        self.coder = Coder(session, model, room=room)

    def propose(
        self,
        tried: Sequence[Proposal],
        effects: ComponentEffects,
        rng: Random,
        *,
        dims: int,
        case: Case | None = None,
    ) -> Proposal:
        """Return the best new idea of the rounds so far, or of a new one."""
        with self.session.store() as store:
            return self.rounds.next(store, tried, effects, scope_of(case))

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
        """Return the parent after the next suggestion of its trial's diagnosis."""
        if case is None or case.trial is None:
            raise PlannerError("an improvement needs the trial that it improves")
        with self.session.store() as store:
            found = self.diagnostician.diagnosis(store, case.trial, tried)
            event = event_of(store, case.trial.id)
        return next_child(parent, found, event, tried, planner=self.name)

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
        """Return a child of the parent that takes modules of the partner."""
        with self.session.store() as store:
            sections = self.cross_sections(store, parent, partner)
        prompt = make_prompt("cross", sections, room=self.room["generator"])
        reply = self.model.ask(prompt, ProposalReply, scope=scope_of(case))
        detail: Figures = {
            **{"endpoint": reply.endpoint, "model": reply.model, "partner": partner.id},
            "change": "Add what the first network lacks, at the places that the proposal names.",
        }
        plan, citable = self.rounds.plan, {*known_citations(), *parent.citations}
        idea = proposal_of(reply.value, plan, citable=citable, detail=detail)
        child = as_child(idea, parent)
        if near := nearest(child, [one for one in tried if one.id != child.id]):
            raise PlannerError(f"the crossover repeats {near.title!r} ({near.id})")
        return with_ideas(child, parent, partner)

    def cross_sections(self, store: Store, parent: Proposal, partner: Proposal) -> dict[str, str]:
        """Return what the generator of a crossover is told."""
        _, text = briefing.dataset(store, self.session)
        return {
            "parent": briefing.proposal(parent),
            "partner": briefing.proposal(partner),
            "dataset": text,
            "components": briefing.components(*self.rounds.plan),
            "placement": briefing.placement(*self.rounds.plan),
            "tried": briefing.tried(store, briefing.case_names(self.session)),
        }

    def repair(
        self,
        proposal: Proposal,
        failure_class: str,
        rng: Random,
        *,
        tried: Sequence[Proposal] = (),
        case: Case | None = None,
    ) -> Proposal:
        """Return the same idea, whose network the coder is to mend."""
        if case is None or case.trial is None:
            raise PlannerError("a repair needs the trial that failed")
        failed = case.trial.id
        detail = {**proposal.detail, "repair": failed, "failure": failure_class}
        text = f"A repair of a network that failed as {failure_class}."
        return replace(
            proposal,
            id=short_id([proposal.id, "repair", failed]),
            motivation=f"{text}\n\n{proposal.motivation}",
            parent=proposal.id,
            planner=self.name,
            detail=detail,
        )

    def write(self, proposal: Proposal, *, case: Case | None = None) -> str:
        """Return the network of a proposal, from the library or from the coder."""
        with self.session.store() as store:
            return self.coder.write(store, proposal, case or Case("campaign"))


def room_of(session: Session, role: str) -> int:
    """Return the tokens that a role's prompts may have at the smallest of its endpoints."""
    own: RoleConfig = getattr(session.config.roles, role)
    endpoints = session.config.endpoints
    names = own.endpoints or list(endpoints)[:1]
    context = min((endpoints[name].context or CONTEXT for name in names), default=CONTEXT)
    return max(FORM_TOKENS, context - own.max_tokens - FORM_TOKENS)


def scope_of(case: Case | None) -> str:
    """Return the scope of a case's calls."""
    return case.scope if case else "campaign"


def as_child(idea: Proposal, parent: Proposal) -> Proposal:
    """Return an idea as a child of another."""
    return replace(idea, id=short_id([idea.id, parent.id]), parent=parent.id)


def with_ideas(child: Proposal, *sources: Proposal) -> Proposal:
    """Return a child that knows the ideas and equations of new modules it took over."""
    detail = dict(child.detail)
    for name in ("ideas", "equations"):
        inherited = {k: v for one in sources for k, v in one.detail.get(name, {}).items()}
        taken = {k: v for k, v in inherited.items() if k in {m.component for m in child.modules}}
        detail[name] = {**taken, **child.detail.get(name, {})}
    return replace(child, detail=detail)
