"""A trial's diagnosis by a language model, over the clues that our own code computed.

The model gets the clues, the proposal and the network, and returns suggestions in distinct
categories; after a new best, an audit of the proposal against the code. What it returns is checked
as the rules' own suggestions are; where it fails, the rules diagnose, and the diagnosis says so.
"""

from collections.abc import Mapping, Sequence

from agent import briefing
from agent.clues import gather
from agent.diagnosis import DIAGNOSIS, diagnose, effect_key, keep
from agent.ideas import Plan, placed, without_results
from agent.llm import Model
from agent.prompts import Prompt, make_prompt
from agent.replies import ReplyError
from agent.reply_forms import AuditReply, DiagnosisReply, ModuleReply, PartReply, SuggestionReply
from agent.session import Session
from agent.standings import Standings
from agent.suggestions import (
    EXPECTED_CHARACTERS,
    MOST_SUGGESTIONS,
    TEXT_CHARACTERS,
    Clue,
    Diagnosis,
    Suggestion,
    faults,
    parse,
)
from memory.errors import PlannerError
from memory.records import Event, Module, Proposal, Status, Trial
from memory.store import Store


class Diagnostician:
    """Diagnoses finished trials, once each; without a model by rules alone."""

    def __init__(
        self, session: Session, model: Model | None = None, *, room: Mapping[str, int] | None = None
    ) -> None:
        """Take the session, the model if there is one, and the tokens of its prompts."""
        self.session, self.model, self.room = session, model, room or {}

    def diagnosis(self, store: Store, trial: Trial, tried: Sequence[Proposal]) -> Diagnosis:
        """Return a finished trial's diagnosis, made now if it was not made before.

        Raises:
            ModelLost: no endpoint answers.
        """
        if (known := stored(store, trial.id)) is not None:
            return known
        assert trial.proposal is not None
        proposal = store.proposal(trial.proposal)
        clues = gather(store, self.session.folder, trial)
        mode, source = mode_of(store, trial), self.source(trial)
        spec = self.session.plan.spec
        plan = Plan(spec["dims"], len(spec["features"]))
        by_rules = diagnose(
            trial.id,
            clues,
            proposal,
            mode=mode,
            source=source,
            dims=plan.dims,
            n_stages=plan.n_stages,
            tried=tried,
        )
        found = self.asked(store, by_rules, proposal, source, plan) if self.model else by_rules
        keep(store, found, self.session.now)
        return found

    def source(self, trial: Trial) -> str:
        """Return the network of a trial; empty for none."""
        return self.session.networks().source(trial.commit) if trial.commit else ""

    def asked(
        self, store: Store, rules: Diagnosis, proposal: Proposal, source: str, plan: Plan
    ) -> Diagnosis:
        """Return the model's diagnosis over the rules' clues; the rules' own where it is unfit."""
        assert self.model is not None
        prompt = self.prompt(store, rules, proposal, source, plan)
        try:
            made = self.reply(prompt, rules, plan)
        except ReplyError as error:
            text = f"the rules diagnose {rules.trial}, for the diagnostician failed: {error}"
            figures = {"trial": rules.trial, "error": str(error)}
            store.add_event(Event("fell_back", text, figures, rules.trial, at=self.session.now))
            return rules
        return made

    def prompt(
        self, store: Store, rules: Diagnosis, proposal: Proposal, source: str, plan: Plan
    ) -> Prompt:
        """Return what the diagnostician is told."""
        sections = {
            "proposal": briefing.proposal(proposal),
            "clues": briefing.clues(rules.clues),
            "components": briefing.components(*plan),
            "placement": briefing.placement(*plan),
            "source": source,
        }
        if rules.mode == "best":
            return make_prompt("audit", sections, room=self.room.get("diagnostician", 0))
        sections["lessons"] = briefing.lessons(store, self.session, proposal.title)
        return make_prompt("diagnose", sections, room=self.room.get("diagnostician", 0))

    def reply(self, prompt: Prompt, rules: Diagnosis, plan: Plan) -> Diagnosis:
        """Ask, and return what was said as a diagnosis that can be kept.

        Raises:
            ReplyError: it breaks a rule of suggestions.
        """
        assert self.model is not None
        scope = f"trial/{rules.trial}"
        if rules.mode == "best":
            audit = self.model.ask(prompt, AuditReply, scope=scope)
            clues = (*rules.clues, *map(part_clue, range(9), audit.value.parts))
            made = Diagnosis(rules.trial, rules.mode, clues, (), audit.endpoint)
            own = suggestion_of(audit.value.next, made, plan)
            # The rules' own steps come after the model's: one alone would end the branch soon.
            steps = (own, *rules.suggestions)[:MOST_SUGGESTIONS]
            made = Diagnosis(rules.trial, rules.mode, clues, steps, audit.endpoint)
        else:
            said = self.model.ask(prompt, DiagnosisReply, scope=scope)
            own_ = tuple(suggestion_of(one, rules, plan) for one in said.value.suggestions)
            made = Diagnosis(rules.trial, rules.mode, rules.clues, own_, said.endpoint)
        if found := faults(made):
            raise ReplyError(found[0])
        return made


def part_clue(number: int, part: PartReply) -> Clue:
    """Return what a model found of a part of the proposal; it is a reading, not a measurement."""
    text = without_results(f"{part.part} is {part.state} as the model reads it: {part.evidence}")[0]
    return Clue(f"audit.part{number}", (text or part.state)[:TEXT_CHARACTERS], None, "")


def suggestion_of(reply: SuggestionReply, diagnosis: Diagnosis, plan: Plan) -> Suggestion:
    """Return a model's suggestion; clues that do not exist go, and one that rests on none is unfit.

    Raises:
        ReplyError: it rests on no clue, says nothing but results, or its modules do not fit.
    """
    keys = {clue.key for clue in diagnosis.clues}
    rests = tuple(dict.fromkeys(k.strip("[] ") for k in reply.evidence if k.strip("[] ") in keys))
    text = without_results(reply.text)[0][:TEXT_CHARACTERS]
    expected = without_results(reply.expected)[0][:EXPECTED_CHARACTERS]
    if not rests or not text or not expected:
        raise ReplyError(
            f"a suggestion ({reply.category}) rests on no given clue or says no change"
        )
    return Suggestion(reply.category, text, rests, expected, modules_of(reply.modules, plan))


def modules_of(replies: Sequence[ModuleReply], plan: Plan) -> tuple[Module, ...] | None:
    """Return the modules of a suggestion's network; None where their set stays.

    Raises:
        ReplyError: they make no network.
    """
    if not replies:
        return None
    try:
        return placed(replies, plan)[0]
    except PlannerError as error:
        raise ReplyError(str(error)) from error


def stored(store: Store, trial: str) -> Diagnosis | None:
    """Return the diagnosis of a trial that the store holds; None where it was not made."""
    known = store.effect(effect_key(trial))
    return parse(store.event(int(known["event"])).figures) if known else None


def event_of(store: Store, trial: str) -> int:
    """Return the event of a trial's diagnosis."""
    known = store.effect(effect_key(trial))
    assert known is not None, f"{DIAGNOSIS} of {trial} is kept before it is used"
    return int(known["event"])


def mode_of(store: Store, trial: Trial) -> str:
    """Return how a trial ended: failure, best of its rung and above the baseline, or loss."""
    if trial.status is not Status.OK:
        return "failure"
    standings = Standings(store)
    own = standings.evidence(trial)
    if own is None:
        return "loss"
    known = [e for t in store.trials(rung=trial.rung) if (e := standings.evidence(t)) is not None]
    is_best = own.delta > 0 and all(own.delta >= one.delta for one in known)
    return "best" if is_best else "loss"
