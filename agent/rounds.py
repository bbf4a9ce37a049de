"""Rounds of proposals: a challenge, several generators, an assessor, and no idea twice.

Once the baselines are trained, the generator names the dataset's open challenges. A round takes
the next one; generators of different bents write a proposal each, the assessor grades them, and
near-duplicates of earlier ideas are refused by name. A round is kept in the store with all of its
proposals: the best is tried first, the others when their turn comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from agent import briefing
from agent.component_effects import ComponentEffects
from agent.duplicates import Near, nearest
from agent.ideas import Plan, listed, proposal_of, said
from agent.literature import Literature
from agent.llm import Model, ModelLost
from agent.methods import known_citations
from agent.papers import Paper
from agent.prompts import make_prompt
from agent.replies import ReplyError
from agent.reply_forms import AssessReply, ChallengesReply, GradeReply, ProposalReply
from agent.session import Session
from memory.errors import PlannerError
from memory.records import Event, Figures, Module, Proposal
from memory.store import Store

BENTS: Mapping[str, str] = {
    "inventive": "Be inventive: look for a mechanism that is not in the library yet, or a use of "
    "one that nobody would expect, with a reason why it should work here.",
    "rigorous": "Be rigorous: choose the mechanism with the best evidence for such data, in its "
    "simplest form, so that its effect can be told apart from others.",
    "domain": "Think as the clinician and the physicist of this modality: start from the anatomy, "
    "the acquisition and its artefacts, and let them choose the mechanism.",
}
GRADES = ("coherence", "credibility", "testability", "novelty", "fit", "modularity")
ROUNDS = 2
"""Rounds that an open decision asks for at most, where all of one was refused."""
CHALLENGES = "challenges"
NOTHING = "no proposal"


class Candidate(NamedTuple):
    """One proposal of a round, its bent, and why it was refused, if it was.

    `grade` is the mean of the assessor's grades, 1 to 5; None where it was not graded.
    """

    proposal: Proposal
    bent: str
    grade: float | None
    refused: str


class Rounds:
    """Asks for proposals, and keeps what was not tried yet. One thread at a time."""

    def __init__(self, session: Session, model: Model, *, room: Mapping[str, int]) -> None:
        """Take the session, the model, and the tokens that each role's prompts may have."""
        self.session, self.model, self.room = session, model, room

    @property
    def plan(self) -> Plan:
        """The planned U-Net."""
        spec = self.session.plan.spec
        return Plan(spec["dims"], len(spec["features"]))

    def next(
        self, store: Store, tried: Sequence[Proposal], effects: ComponentEffects, scope: str
    ) -> Proposal:
        """Return the best proposal that is not tried yet, of an earlier round or of a new one.

        Raises:
            PlannerError: all of the new rounds was refused.
        """
        refused: list[str] = []
        for _ in range(ROUNDS):
            waiting = self.waiting(store, tried)
            if waiting:
                return waiting[0].proposal
            made = self.make(store, tried, effects, scope, refused)
            refused += [one.refused for one in made if one.refused]
        if waiting := self.waiting(store, tried):
            return waiting[0].proposal
        raise PlannerError(f"every proposal of {ROUNDS} rounds was refused: {'; '.join(refused)}")

    def waiting(self, store: Store, tried: Sequence[Proposal]) -> list[Candidate]:
        """Return the kept proposals that are new still, earlier rounds first, best grade first."""
        known = {one.id for one in tried}
        found = []
        number = 0
        while (kept := store.effect(f"round/{number}")) is not None:
            found += [candidate(row) for row in kept["candidates"]]
            number += 1
        return [
            one
            for one in found
            if not one.refused and one.proposal.id not in known and not nearest(one.proposal, tried)
        ]

    def make(
        self,
        store: Store,
        tried: Sequence[Proposal],
        effects: ComponentEffects,
        scope: str,
        refused: Sequence[str],
    ) -> list[Candidate]:
        """Ask for a round of proposals, have it graded, and keep it.

        Raises:
            ReplyError: no generator sent any.
        """
        number = self.count(store)
        challenge = self.challenge(store, number, scope)
        sections = self.sections(store, challenge, effects, refused)
        found = self.literature(store, challenge)
        sections["papers"] = briefing.papers(found)
        drafts: list[Candidate] = []
        bents = list(BENTS)[: self.session.config.llm.generators]
        for place, bent in enumerate(bents):
            about: Figures = {"round": number, "bent": bent, "challenge": challenge["title"]}
            others = [*tried, *(one.proposal for one in drafts if not one.refused)]
            drafts.append(self.draft(sections, about, others, scope, found=found, place=place))
        if all(one.refused.startswith(NOTHING) for one in drafts):
            raise ReplyError(f"no generator of round {number} sent a proposal: {drafts[0].refused}")
        graded = self.assess(store, drafts, sections, scope)
        return self.keep(store, number, challenge, graded, scope)

    def count(self, store: Store) -> int:
        """Return how many rounds there were."""
        number = 0
        while store.effect(f"round/{number}") is not None:
            number += 1
        return number

    def challenge(self, store: Store, number: int, scope: str) -> Figures:
        """Return the challenge of a round: they take turns."""
        known = store.effect(CHALLENGES)
        if known is None:
            _, text = briefing.dataset(store, self.session)
            sections = {
                "dataset": text,
                "lessons": briefing.lessons(store, self.session, ""),
            }
            prompt = make_prompt(CHALLENGES, sections, room=self.room["generator"])
            reply = self.model.ask(prompt, ChallengesReply, scope="campaign")
            found = [
                {"title": said(one.title), "why": said(one.why), "evidence": list(one.evidence)}
                for one in reply.value.challenges
            ]
            known = store.set_effect(CHALLENGES, {"challenges": found, "endpoint": reply.endpoint})
            titles = "; ".join(one["title"] for one in known["challenges"])
            text = f"the generator names open challenges: {titles}"
            store.add_event(Event(CHALLENGES, text, known, at=self.session.now))
        listed_: list[Figures] = known["challenges"]
        return listed_[number % len(listed_)]

    def sections(
        self,
        store: Store,
        challenge: Figures,
        effects: ComponentEffects,
        refused: Sequence[str],
    ) -> dict[str, str]:
        """Return what the generators are told, but for their bent and the papers."""
        card, text = briefing.dataset(store, self.session)
        about = f"{challenge['title']}. {challenge['why']}"
        names = briefing.case_names(self.session)
        return {
            "challenge": about,
            "dataset": text,
            "components": briefing.components(*self.plan),
            "placement": briefing.placement(*self.plan),
            "methods": briefing.literature([one.name for one in card.traits], about),
            "effects": briefing.effects(effects),
            "lessons": briefing.lessons(store, self.session, about),
            "tried": briefing.tried(store, names),
            "refused": "\n".join(f"- {one}" for one in refused),
        }

    def literature(self, store: Store, challenge: Figures) -> list[Paper]:
        """Return papers on a challenge, where the settings let words on it go out."""
        own = self.session.config.llm
        query = f"medical image segmentation {challenge['title']}"
        return Literature(store, allowed=own.literature, mailto=own.mailto).search(query, limit=6)

    def draft(
        self,
        sections: Mapping[str, str],
        about: Figures,
        others: Sequence[Proposal],
        scope: str,
        *,
        found: Sequence[Paper],
        place: int,
    ) -> Candidate:
        """Ask one generator; a proposal that cannot be built is asked for again, with the reason.

        Raises:
            ModelLost: nobody answers.
        """
        bent = str(about["bent"])
        fault = ""
        for _ in range(2):
            refused = "\n".join(part for part in (sections["refused"], fault) if part)
            own = {**sections, "bent": BENTS[bent], "refused": refused}
            prompt = make_prompt("propose", own, room=self.room["generator"])
            try:
                reply = self.model.ask(prompt, ProposalReply, scope=scope, seed=place)
                detail = {**about, "endpoint": reply.endpoint, "model": reply.model}
                citable = known_citations() | {one.key for one in found}
                idea = proposal_of(reply.value, self.plan, citable=citable, detail=detail)
            except ModelLost:
                raise
            except ReplyError as error:
                return Candidate(empty(bent), bent, None, f"{NOTHING}: {error}")
            except PlannerError as error:
                fault = f"- a proposal that cannot be built: {error}"
                continue
            near = nearest(idea, others)
            return Candidate(idea, bent, None, repeated(near) if near else "")
        return Candidate(empty(bent), bent, None, fault.removeprefix("- "))

    def assess(
        self,
        store: Store,
        drafts: Sequence[Candidate],
        sections: Mapping[str, str],
        scope: str,
    ) -> list[Candidate]:
        """Return a round's proposals with their grades; without any where the assessor fails."""
        open_ = [one for one in drafts if not one.refused]
        if len(open_) < 2:
            return list(drafts)
        texts = [
            f"### Proposal {i}\n{briefing.proposal(one.proposal)}" for i, one in enumerate(open_, 1)
        ]
        own = {name: sections[name] for name in ("challenge", "dataset", "tried")}
        own["lessons"] = briefing.lessons(store, self.session, subject([c.proposal for c in open_]))
        prompt = make_prompt(
            "assess", {**own, "proposals": "\n\n".join(texts)}, room=self.room["assessor"]
        )
        try:
            reply = self.model.ask(prompt, AssessReply, scope=scope)
        except ReplyError as error:
            text = f"the assessor graded nothing: {error}"
            store.add_event(Event("not_assessed", text, {"error": str(error)}, at=self.session.now))
            return list(drafts)
        grades = {one.proposal: one for one in reply.value.grades}
        numbers = {id(one): grades.get(i) for i, one in enumerate(open_, 1)}
        return [graded(one, numbers.get(id(one))) for one in drafts]

    def keep(
        self,
        store: Store,
        number: int,
        challenge: Figures,
        drafts: Sequence[Candidate],
        scope: str,
    ) -> list[Candidate]:
        """Keep a round, the best grade first; what was refused comes last."""
        draw = Random(f"{self.session.config.explore.seed}/round/{number}")
        order = sorted(drafts, key=lambda c: (bool(c.refused), -(c.grade or 0.0), draw.random()))
        rows = [row(one) for one in order]
        figures = {"challenge": challenge, "scope": scope, "candidates": rows}
        good = [one for one in order if not one.refused]
        text = f"round {number}: {len(good)} of {len(order)} proposals for {challenge['title']!r}"
        with store.transaction():
            if store.effect(f"round/{number}") is None:
                store.set_effect(f"round/{number}", figures)
                store.add_event(Event("round", text, figures, at=self.session.now))
                for one in order:
                    if one.refused:
                        what = {"title": one.proposal.title, "bent": one.bent, "why": one.refused}
                        said_ = f"refuses a proposal ({one.bent}): {one.refused}"
                        store.add_event(Event("refused_idea", said_, what, at=self.session.now))
        return order


def graded(one: Candidate, grade: GradeReply | None) -> Candidate:
    """Return a proposal with the mean of its grades, and the grades in its detail."""
    if grade is None:
        return one
    own = {name: getattr(grade, name) for name in GRADES}
    detail = {**one.proposal.detail, "grades": own, "remark": said(grade.remark)}
    return one._replace(
        proposal=replace(one.proposal, detail=detail), grade=fmean(float(v) for v in own.values())
    )


def repeated(near: Near) -> str:
    """Return why an idea is refused that was had before."""
    return f"it repeats {near.title!r} ({near.id}): the same in substance"


def empty(bent: str) -> Proposal:
    """Return the stand-in for a proposal that nobody wrote."""
    return Proposal("", f"no proposal ({bent})", "", (), "", (), "llm")


def row(one: Candidate) -> Figures:
    """Return a candidate as plain values."""
    own = one.proposal
    return {
        "id": own.id,
        "title": own.title,
        "motivation": own.motivation,
        "modules": listed(own.modules),
        "refutation": own.refutation,
        "citations": list(own.citations),
        "detail": own.detail,
        "bent": one.bent,
        "grade": one.grade,
        "refused": one.refused,
    }


def candidate(row_: Mapping[str, Any]) -> Candidate:
    """Return the candidate that a row of a round holds."""
    modules = tuple(Module(name, position, tuple(at)) for name, position, at in row_["modules"])
    proposal = Proposal(
        id=row_["id"],
        title=row_["title"],
        motivation=row_["motivation"],
        modules=modules,
        refutation=row_["refutation"],
        citations=tuple(row_["citations"]),
        planner="llm",
        detail=row_["detail"],
    )
    return Candidate(proposal, row_["bent"], row_["grade"], row_["refused"])


def subject(ideas: Sequence[Proposal]) -> str:
    """Return the words by which lessons on proposals are found: their titles and components."""
    names = dict.fromkeys(module.component for idea in ideas for module in idea.modules)
    return " ".join([*(idea.title for idea in ideas), *names])
