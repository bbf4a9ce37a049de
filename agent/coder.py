"""Writes network.py with a language model: whole files for new modules, edits for changes.

What the library holds is put together by our own code and no model: a proposal of library
components alone costs no call, and one with new modules starts from a scaffold with the others in
place. A change or a repair is an edit of the parent's file, each passage found once, to the letter.
Whatever is written is as untrusted as before; the dry run and the sandbox judge it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agent import briefing
from agent.children import is_library
from agent.clue_text import scrubbed
from agent.diagnostician import stored
from agent.duplicates import code_fingerprint
from agent.llm import Model
from agent.network_source import network_source
from agent.planner import Case
from agent.prompts import Prompt, make_prompt
from agent.replies import ReplyError
from agent.reply_forms import ChangeReply, SourceReply
from agent.session import Session
from memory.records import Proposal, Trial
from memory.store import Store
from sandbox.components import COMPONENTS
from sandbox.static_check import SOURCE_BYTES

if TYPE_CHECKING:
    from agent.own_coder import OwnCoder

TRIES = 2
CODE = ("capacity", "optimisation", "code", "gap")
"""Categories of suggestions that change the code and not the set of modules."""


class Basis(NamedTuple):
    """What a network is written from: a purpose of prompts, its sections, and the file to edit."""

    purpose: str
    sections: Mapping[str, str]
    source: str


class Coder:
    """Writes networks; threads may share it."""

    def __init__(self, session: Session, model: Model, *, room: Mapping[str, int]) -> None:
        """Take the session, the model, and the tokens of its prompts."""
        self.session, self.model, self.room = session, model, room
        self.own = own_coder(session, model)

    def write(self, store: Store, proposal: Proposal, case: Case) -> str:
        """Return the network of a proposal.

        Raises:
            ReplyError: the model wrote nothing that can be used.
            ModelLost: no endpoint answers.
        """
        basis = self.basis(store, proposal, case)
        if basis is None:
            return network_source(proposal)
        fault = ""
        for attempt in range(TRIES):
            prompt = self.prompt(basis, fault)
            try:
                source = self.asked(store, prompt, basis, case, attempt)
                self.refuse_known(store, source, basis, proposal, is_rival=case.rival)
            except ReplyError as error:
                fault = str(error)
                continue
            return source
        raise ReplyError(f"the coder wrote no network in {TRIES} tries: {fault}")

    def basis(self, store: Store, proposal: Proposal, case: Case) -> Basis | None:
        """Return what a proposal's network is written from; None where no model is needed."""
        contract, idea = briefing.contract(), briefing.proposal(proposal)
        common = {"contract": contract, "proposal": idea}
        if "repair" in proposal.detail:
            trial = store.trial(str(proposal.detail["repair"]))
            return self.repair_basis(store, trial, common)
        if needs_edit(proposal) and case.trial is not None and case.trial.commit:
            source = self.session.networks().source(case.trial.commit)
            change = str(proposal.detail.get("change", ""))
            return Basis("edit", {**common, "suggestion": change, "source": source}, source)
        if is_library(proposal):
            return None
        scaffold = network_source(library_part(proposal))
        return Basis("code", {**common, "scaffold": scaffold}, "")

    def repair_basis(self, store: Store, trial: Trial, common: Mapping[str, str]) -> Basis:
        """Return what a repair is written from: the failed file, how it failed, earlier repairs."""
        assert trial.commit is not None
        source = self.session.networks().source(trial.commit)
        names = briefing.case_names(self.session)
        excerpt = scrubbed(trial.failure_excerpt or "", names=names, most=1200)
        failure = f"Class of failure: {trial.failure_class}\n{excerpt}"
        known = stored(store, trial.id)
        if known is not None:
            failure += f"\n{briefing.clues([c for c in known.clues if c.key.startswith('dry')])}"
        earlier = [
            f"- {one.title}: failed again, {one.failure_class}: "
            f"{scrubbed(one.failure_excerpt or '', names=names, most=200)}"
            for one in chain(store, trial)
        ]
        sections = {**common, "failure": failure, "repairs": "\n".join(earlier), "source": source}
        return Basis("repair", sections, source)

    def prompt(self, basis: Basis, fault: str) -> Prompt:
        """Return the prompt of a basis, with the fault of the last try."""
        sections = {**basis.sections, "fault": fault}
        return make_prompt(basis.purpose, sections, room=self.room["coder"])

    def asked(self, store: Store, prompt: Prompt, basis: Basis, case: Case, attempt: int) -> str:
        """Ask for a file or for edits, and return the file.

        The user's own coding agent writes where there is one; a rival of it is the endpoint.

        Raises:
            ReplyError: an edit does not apply, or the file is empty or too large.
        """
        if self.own is not None and not case.rival:
            start = basis.source or basis.sections.get("scaffold", "")
            return checked(self.own.write(store, prompt, start, case))
        prefer, seed = self.coder_of(case), attempt + TRIES * int(case.rival)
        if basis.purpose == "code":
            whole = self.model.ask(prompt, SourceReply, scope=case.scope, seed=seed, prefer=prefer)
            return checked(whole.value.source)
        change = self.model.ask(prompt, ChangeReply, scope=case.scope, seed=seed, prefer=prefer)
        return checked(changed(basis.source, change.value))

    def coder_of(self, case: Case) -> str:
        """Return the endpoint that codes: of two rivals each has its own, if there are two."""
        names = self.session.config.roles.coder.endpoints
        return names[int(case.rival) % len(names)] if names else ""

    def refuse_known(
        self, store: Store, source: str, basis: Basis, proposal: Proposal, *, is_rival: bool
    ) -> None:
        """Refuse a file that a network of this campaign has already, but for its comments.

        Raises:
            ReplyError: it has.
        """
        if basis.source and code_fingerprint(source) == code_fingerprint(basis.source):
            raise ReplyError("the file is as it was: nothing was changed")
        key = f"fingerprint/{code_fingerprint(source)}"
        known = store.set_effect(key, {"proposal": proposal.id, "rival": is_rival})
        if known["proposal"] != proposal.id:
            raise ReplyError(f"proposal {known['proposal']} of this campaign has this very network")
        if known["rival"] != is_rival:
            raise ReplyError("the other coder wrote this very network")


def own_coder(session: Session, model: Model) -> "OwnCoder | None":
    """Return the user's own coding agent; None where the settings name none."""
    if not session.config.coder.command:
        return None
    from agent.own_coder import OwnCoder  # here, as it brings the relay

    return OwnCoder(session, model)


def checked(source: str) -> str:
    """Return a file as it is committed.

    Raises:
        ReplyError: it is empty or too large.
    """
    text = source.replace("\r\n", "\n").strip() + "\n"
    if len(text.encode()) > SOURCE_BYTES or len(text) < 2:
        raise ReplyError(f"network.py has {len(text)} characters; 1 to {SOURCE_BYTES} are allowed")
    return text


def changed(source: str, reply: ChangeReply) -> str:
    """Return a file after the edits of a reply, or the whole file that it sends.

    Raises:
        ReplyError: a passage is not there, or more than once, or nothing is changed.
    """
    if reply.source.strip():
        return reply.source
    if not reply.edits:
        raise ReplyError("the reply changes nothing; send edits, or the whole file")
    text = source
    for number, edit in enumerate(reply.edits, 1):
        count = text.count(edit.find)
        if count != 1:
            where = "nowhere" if not count else f"{count} times"
            raise ReplyError(
                f"the passage of edit {number} occurs {where} in network.py; give one that occurs "
                "once, to the letter"
            )
        text = text.replace(edit.find, edit.replace)
    return text


def needs_edit(proposal: Proposal) -> bool:
    """Tell whether a child's network is an edit of its parent's: a change of code, or new modules."""
    category = proposal.detail.get("suggestion", {}).get("category", "")
    return proposal.parent is not None and (category in CODE or not is_library(proposal))


def library_part(proposal: Proposal) -> Proposal:
    """Return a proposal with its library components alone."""
    own = tuple(one for one in proposal.modules if one.component in COMPONENTS)
    return replace(proposal, modules=own)


def chain(store: Store, trial: Trial) -> Iterator[Trial]:
    """Yield the failed trials of which this one is a repair, the latest first."""
    seen = {trial.id}
    while trial.parent is not None and trial.parent not in seen:
        trial = store.trial(trial.parent)
        seen.add(trial.id)
        if trial.failure_class is None:
            return
        yield trial
