"""Which prompts a campaign would send now, one of each purpose, made by the code that sends them.

Where a prompt belongs to a decision, it is that of the latest decision of its kind, or of the
trial that such a decision would be about. What nothing fills yet is left empty. Nothing is asked.
"""

from collections.abc import Callable, Mapping

from agent import briefing
from agent.bibliography import load_references
from agent.children import is_library
from agent.coder import Basis, needs_edit
from agent.diagnostician import stored
from agent.facts import derive_facts
from agent.knowledge import effects_now
from agent.lesson_words import prompt_of, told
from agent.llm_planner import LlmPlanner
from agent.manuscript_sections import SECTIONS, figures_of
from agent.planner import Case
from agent.prompts import Prompt, make_prompt
from agent.reflection import branch_rules
from agent.replies import Form
from agent.reply_forms import (
    AssessReply,
    AuditReply,
    ChallengesReply,
    ChangeReply,
    DiagnosisReply,
    ProposalReply,
    ReflectReply,
    SourceReply,
    WriteReply,
)
from agent.rounds import BENTS, CHALLENGES, candidate, empty, subject
from agent.session import Session
from agent.standings import Standings
from agent.writer import Matter
from agent.writer import prompt_of as section_prompt
from memory.records import Fact, Figures, Proposal, Trial
from memory.store import Store

FORMS: Mapping[str, type[Form]] = {
    "challenges": ChallengesReply,
    "propose": ProposalReply,
    "cross": ProposalReply,
    "assess": AssessReply,
    "code": SourceReply,
    "edit": ChangeReply,
    "repair": ChangeReply,
    "diagnose": DiagnosisReply,
    "audit": AuditReply,
    "reflect": ReflectReply,
    "write": WriteReply,
}
"""The form of the reply to each prompt."""
NOBODY = Case("campaign")


def challenges(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the generator is told before it names challenges."""
    _, text = briefing.dataset(store, planner.session)
    sections = {
        "dataset": text,
        "lessons": briefing.lessons(store, planner.session, ""),
    }
    return make_prompt("challenges", sections, room=planner.room["generator"])


def propose(store: Store, planner: LlmPlanner, standings: Standings | None = None) -> Prompt:
    """Return what the first generator of the next round is told; papers are not searched for.

    `standings` are those that the caller keeps up, as a campaign does; None: read here.
    """
    number = planner.rounds.count(store)
    known = round_sections(store, planner, number, standings)
    sections = {**known, "bent": next(iter(BENTS.values()))}
    return make_prompt("propose", sections, room=planner.room["generator"])


def assess(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the assessor is told of the latest round's proposals."""
    number = max(0, planner.rounds.count(store) - 1)
    challenge = round_challenge(store, number)
    _, text = briefing.dataset(store, planner.session)
    sections = {
        "dataset": text,
        "tried": briefing.tried(store, briefing.case_names(planner.session)),
        "challenge": f"{challenge['title']}. {challenge['why']}" if challenge else "",
    }
    kept = store.effect(f"round/{number}") or {"candidates": []}
    ideas = [c.proposal for c in map(candidate, kept["candidates"]) if not c.refused]
    texts = [f"### Proposal {i}\n{briefing.proposal(one)}" for i, one in enumerate(ideas, 1)]
    sections["lessons"] = briefing.lessons(store, planner.session, subject(ideas))
    sections["proposals"] = "\n\n".join(texts)
    return make_prompt("assess", sections, room=planner.room["assessor"])


def round_sections(
    store: Store, planner: LlmPlanner, number: int, standings: Standings | None
) -> dict[str, str]:
    """Return what the generators of a round are told, but for their bent and the papers."""
    challenge = round_challenge(store, number)
    effects = effects_now(store, planner.session, standings)
    nothing = {"title": "", "why": ""}
    sections = planner.rounds.sections(store, challenge or nothing, effects, ())
    return sections if challenge else {**sections, "challenge": ""}


def round_challenge(store: Store, number: int) -> Figures | None:
    """Return the challenge of a round; None before any was named."""
    known = store.effect(CHALLENGES)
    named: list[Figures] = known["challenges"] if known else []
    return named[number % len(named)] if named else None


def cross(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the generator is told of the latest two networks of different branches."""
    latest = {one.branch: one for one in written(store)}  # the last of each branch
    ids = [one.proposal for one in latest.values() if one.proposal][::-1][:2]
    pair = [store.proposal(one) for one in ids]
    both = [*pair, empty(""), empty("")][:2]
    sections = planner.cross_sections(store, both[0], both[1])
    sections |= dict.fromkeys(("parent", "partner")[len(pair) :], "")
    return make_prompt("cross", sections, room=planner.room["generator"])


def code(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the coder is told of the latest idea with a new module."""
    for one in reversed(store.proposals()):
        if not (needs_edit(one) or is_library(one) or "repair" in one.detail):
            return coder_prompt(planner, "code", planner.coder.basis(store, one, NOBODY))
    return coder_prompt(planner, "code", None)


def edit(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the coder is told of the latest change of a network's code."""
    for trial in reversed(written(store)):
        idea = own_proposal(store, trial)
        if trial.parent and needs_edit(idea) and "repair" not in idea.detail:
            case = Case("campaign", trial=store.trial(trial.parent))
            basis = planner.coder.basis(store, idea, case)
            if basis is not None and basis.purpose == "edit":
                return coder_prompt(planner, "edit", basis)
    return coder_prompt(planner, "edit", None)


def repair(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the coder is told of the latest network that failed."""
    for trial in reversed(written(store)):
        if trial.failure_class not in (None, "stopped"):
            idea = briefing.proposal(own_proposal(store, trial))
            common = {"contract": briefing.contract(), "proposal": idea}
            basis = planner.coder.repair_basis(store, trial, common)
            return coder_prompt(planner, "repair", basis)
    return coder_prompt(planner, "repair", None)


def coder_prompt(planner: LlmPlanner, purpose: str, basis: Basis | None) -> Prompt:
    """Return the coder's prompt of a basis; with the contract alone where there is none."""
    if basis is not None:
        return planner.coder.prompt(basis, "")
    sections = {"contract": briefing.contract()}
    return make_prompt(purpose, sections, room=planner.room["coder"])


def diagnose(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the diagnostician is told of the latest diagnosed loss or failure."""
    return diagnosed(store, planner, "diagnose")


def audit(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the diagnostician is told of the latest best network."""
    return diagnosed(store, planner, "audit")


def diagnosed(store: Store, planner: LlmPlanner, purpose: str) -> Prompt:
    """Return the diagnostician's prompt about the latest trial diagnosed for this purpose."""
    plan = planner.rounds.plan
    for trial in reversed(written(store)):
        found = stored(store, trial.id)
        if found is not None and (found.mode == "best") is (purpose == "audit"):
            idea, source = own_proposal(store, trial), source_of(planner.session, trial)
            return planner.diagnostician.prompt(store, found, idea, source, plan)
    sections = {"components": briefing.components(*plan), "placement": briefing.placement(*plan)}
    if purpose == "diagnose":
        sections["lessons"] = briefing.lessons(store, planner.session, "")
    return make_prompt(purpose, sections, room=planner.room["diagnostician"])


def reflect(store: Store, planner: LlmPlanner) -> Prompt:
    """Return what the diagnostician is told of the branch that was closed last, else the latest."""
    branches = store.branches()
    cuts = [e.branch for e in store.events(kind="cut") if e.figures.get("closes_branch")]
    latest = [*(one.id for one in branches), *(one for one in cuts if one)][-1:]
    rules = [rule for one in latest for rule in branch_rules(store, planner.session, one)]
    names = briefing.case_names(planner.session)
    return prompt_of(told(rules), names, room=planner.room["diagnostician"])


def write(store: Store, planner: LlmPlanner, facts: Mapping[str, Fact] | None = None) -> Prompt:
    """Return what the writer is told before it writes the first section.

    `facts` are those of the store, by key; None: they are derived.
    """
    facts = facts or {fact.key: fact for fact in derive_facts(store)}
    section, names = next(iter(SECTIONS.values())), briefing.case_names(planner.session)
    matter = Matter(section, facts, load_references(), figures_of(facts), names)
    return section_prompt(matter, room=planner.room["writer"])


def written(store: Store) -> list[Trial]:
    """Return the trials of the search with a network, in the order in which they were planned."""
    return [t for t in store.trials() if t.commit and t.proposal and briefing.is_open(t)]


def own_proposal(store: Store, trial: Trial) -> Proposal:
    """Return the proposal of a trial that has one."""
    assert trial.proposal is not None
    return store.proposal(trial.proposal)


def source_of(session: Session, trial: Trial) -> str:
    """Return the network of a trial that has one."""
    assert trial.commit is not None
    return session.networks().source(trial.commit)


CHOICES: Mapping[str, Callable[[Store, LlmPlanner], Prompt]] = {
    "challenges": challenges,
    "propose": propose,
    "cross": cross,
    "assess": assess,
    "code": code,
    "edit": edit,
    "repair": repair,
    "diagnose": diagnose,
    "audit": audit,
    "reflect": reflect,
    "write": write,
}
"""What makes each prompt."""
