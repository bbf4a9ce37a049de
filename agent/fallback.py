"""A planner that goes on when the language model does not: it waits, then the built-in one proposes.

Nothing is silent: each time the model is lost, and when it is back, is an event that the report
tells. With `llm.fallback` set to end, nobody proposes instead, and the search ends with what it has.
A reply that cannot be used costs one decision; so many in a row count as a lost model.
"""

import threading
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from agent.component_effects import ComponentEffects
from agent.llm import ModelLost
from agent.llm_planner import LlmPlanner
from agent.network_source import network_source
from agent.planner import Case, Planner
from agent.replies import ReplyError
from agent.session import Session
from memory.errors import PlannerError
from memory.records import Event, Proposal
from sandbox.components import COMPONENTS

LOST, BACK, FELL_BACK = "planner_lost", "planner_back", "fell_back"
RUBBISH = 3
PAUSE_S = 15.0
T = TypeVar("T")


class FallbackPlanner:
    """Asks the model's planner first; see `agent.planner.Planner`."""

    def __init__(
        self,
        session: Session,
        first: LlmPlanner,
        second: Planner,
        *,
        pause: Callable[[float], bool],
    ) -> None:
        """Take both planners; `pause` waits and says whether the run is to stop."""
        self.session, self.first, self.second, self.pause = session, first, second, pause
        self.is_lost, self.failures, self._lock = False, 0, threading.Lock()

    def propose(
        self,
        tried: Sequence[Proposal],
        effects: ComponentEffects,
        rng: Random,
        *,
        dims: int,
        case: Case | None = None,
    ) -> Proposal:
        """Return a new idea, of the built-in planner where the model has none."""
        return self.either(
            lambda: self.first.propose(tried, effects, rng, dims=dims, case=case),
            lambda: self.second.propose(tried, effects, rng, dims=dims, case=case),
            case,
            also=PlannerError,
        )

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
        """Return a changed idea; the built-in planner changes what it knows alone."""
        return self.either(
            lambda: self.first.improve(parent, effects, rng, dims=dims, tried=tried, case=case),
            lambda: self.second.improve(
                known(parent), effects, rng, dims=dims, tried=tried, case=case
            ),
            case,
        )

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
        """Return a child with modules of another branch."""
        return self.either(
            lambda: self.first.cross(parent, partner, rng, dims=dims, tried=tried, case=case),
            lambda: self.second.cross(known(parent), known(partner), rng, dims=dims, tried=tried),
            case,
        )

    def repair(
        self,
        proposal: Proposal,
        failure_class: str,
        rng: Random,
        *,
        tried: Sequence[Proposal] = (),
        case: Case | None = None,
    ) -> Proposal:
        """Return an idea without what made the network fail, from whoever wrote it."""
        if proposal.planner == self.first.name:
            return self.first.repair(proposal, failure_class, rng, tried=tried, case=case)
        return self.second.repair(proposal, failure_class, rng, tried=tried)

    def write(self, proposal: Proposal, *, case: Case | None = None) -> str:
        """Return the network of a proposal from the planner that made it.

        Raises:
            PlannerError: the coder is lost or wrote nothing of use, and the library alone does
                not make this network.
        """
        if proposal.planner != self.first.name:
            return self.second.write(proposal)
        before = self.first.model.answers
        try:
            source = self.patient(lambda: self.first.write(proposal, case=case))
        except (ModelLost, ReplyError) as error:
            self.note(error, case)
            if is_plain(proposal) and self.session.config.llm.fallback == "grammar":
                return network_source(proposal)
            raise
        self.worked(before)
        return source

    def either(
        self,
        first: Callable[[], Proposal],
        second: Callable[[], Proposal],
        case: Case | None,
        *,
        also: type[PlannerError] = ModelLost,
    ) -> Proposal:
        """Return the model's proposal, else the built-in planner's where the settings let it.

        An error that says nothing against the model, as that every suggestion was tried, is
        raised, unless it is of the type `also`.
        """
        before = self.first.model.answers
        try:
            found = self.patient(first)
        except (ModelLost, ReplyError, also) as error:
            self.note(error, case)
            if self.session.config.llm.fallback != "grammar":
                raise
            return second()
        self.worked(before)
        return found

    def patient(self, ask: Callable[[], T]) -> T:
        """Ask, and again while nobody answers, for as long as the settings say.

        Raises:
            PlannerError: of the last time.
        """
        left = 0.0 if self.is_lost else self.session.config.llm.patience_s
        while True:
            try:
                return ask()
            except ModelLost:
                wait = min(PAUSE_S, left)
                if wait <= 0 or self.pause(wait):
                    raise
                left -= wait

    def note(self, error: PlannerError, case: Case | None) -> None:
        """Write down why the model was of no use; it is lost once, and not at every decision."""
        with self._lock:
            self.failures += isinstance(error, ModelLost | ReplyError)
            is_gone = isinstance(error, ModelLost) or self.failures >= RUBBISH
            kind = LOST if is_gone and not self.is_lost else FELL_BACK
            self.is_lost = self.is_lost or is_gone
        scope = case.scope if case else "campaign"
        who = {"grammar": "the built-in planner proposes", "end": "nobody proposes instead"}
        what = "the language model is lost" if kind == LOST else "no use of the language model"
        text = f"{what} for {scope}, {who[self.session.config.llm.fallback]}: {error}"
        figures = {"error": str(error)[:2000], "scope": scope}
        with self.session.store() as store:
            store.add_event(Event(kind, text[:2000], figures, at=self.session.now))

    def worked(self, before: int) -> None:
        """Write down that a lost model is back, if it answered: a step may need none of it."""
        if self.first.model.answers == before:
            return
        with self._lock:
            was_lost, self.is_lost, self.failures = self.is_lost, False, 0
        if was_lost:
            with self.session.store() as store:
                text = "the language model answers again and proposes from here on"
                store.add_event(Event(BACK, text, {}, at=self.session.now))


def is_plain(proposal: Proposal) -> bool:
    """Tell whether the library alone makes a proposal's network, and nothing was edited."""
    is_edited = {"suggestion", "repair"} & proposal.detail.keys()
    return not is_edited and all(m.component in COMPONENTS for m in proposal.modules)


def known(proposal: Proposal) -> Proposal:
    """Return a proposal that the built-in planner can change.

    Raises:
        PlannerError: a module of it is a language model's own.
    """
    for module in proposal.modules:
        if module.component not in COMPONENTS:
            raise PlannerError(
                f"the built-in planner cannot change {module.component}, which a language model "
                f"wrote (proposal {proposal.id})"
            )
    return proposal
