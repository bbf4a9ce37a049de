"""The prose of a manuscript in a model's words, section by section, each checked before it is kept.

The model is told what a section is for, the facts, claims and figures that it may use, and the
sources that may be cited. A text that may not be printed is asked for once more with what was wrong;
after a second one, or where the model is lost, the report prints its own fixed sentences for that
section. A text is kept as an effect under the digest of what the model was told, so that the same
records are written about once, and it is checked again whenever it is used.

Facts are told to it without times and sizes, which differ from one machine to the next, so that a
replay sends the same prompt; the text names them by key and prints them all the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent import briefing
from agent.bibliography import Reference
from agent.clue_text import scrubbed
from agent.fact_words import meaning, printed
from agent.llm import Model, ModelLost
from agent.manuscript_sections import SECTIONS, Section, claims_of, facts_for
from agent.prompts import Prompt, make_prompt
from agent.prose_check import problems
from agent.replies import ReplyError
from agent.reply_forms import WriteReply
from agent.session import Session
from memory.records import Event, Fact, Figures, digest
from memory.store import Store
from sandbox.clean import clean_text

PROSE, REFUSED, SCOPE = "prose", "prose_refused", "campaign"
MODEL, RULES = "model", "rules"
ATTEMPTS = 2
LONGEST_REASON, MOST_REASONS, LONGEST_TEXT = 300, 12, 1500


class Written(NamedTuple):
    """A section: `text` is restricted text by the model, or "" where the report's rules write it.

    `by` is MODEL or RULES; `refused` says why earlier texts were not used; `key` is that of the
    effect that keeps it, where a page asks.
    """

    section: str
    text: str
    by: str
    refused: tuple[str, ...]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Matter:
    """What a section may be written from.

    Attributes:
        section: of `manuscript_sections.SECTIONS`.
        facts: all facts of the campaign, by key.
        references: what may be cited, by key.
        figures: names of the figures and tables that the manuscript has.
        names: what no prompt may hold, such as cases.
        others: texts of other sections, whose sentences may not come again.
    """

    section: Section
    facts: Mapping[str, Fact]
    references: Mapping[str, Reference]
    figures: Sequence[str]
    names: Sequence[str] = ()
    others: Sequence[str] = ()

    def told(self) -> dict[str, str]:
        """Return the sections of the prompt, but for what was refused."""
        own = facts_for(self.section, self.facts)
        claims = claims_of(self.section, self.facts)
        facts = [f"{key}: {self._fact(fact)}" for key, fact in own.items()]
        return {
            "citations": "\n".join(f"- {r.key}: {r.label}, {r.title}" for r in self._sources()),
            "section": f"{self.section.title}. {self.section.purpose}",
            "facts": "\n".join(facts),
            "claims": "\n".join(f"- {i}: {self._clean(text)}" for i, text in claims.items()),
            "figures": ", ".join(n for n in self.section.figures if n in self.figures),
        }

    def _sources(self) -> list[Reference]:
        own = {one.key: one for one in self.references.values()}
        return [own[key] for key in sorted(own)]

    def _fact(self, fact: Fact) -> str:
        return f"{self._clean(printed(fact))} ({self._clean(meaning(fact.key, self.facts))})"

    def _clean(self, text: str) -> str:
        return scrubbed(text, names=self.names, most=LONGEST_TEXT)

    def key(self) -> str:
        """Return the key of the effect that holds the text: of the section and what is told of it.

        Sources are left out, so that a longer bibliography does not have a text written again.
        """
        told = {name: text for name, text in self.told().items() if name != "citations"}
        return f"{PROSE}/{self.section.name}/{digest(told)[:16]}"

    def wrong(self, text: str) -> list[str]:
        """Return why a text may not be printed; empty where it may."""
        found = problems(
            text,
            facts=self.facts,
            claims=claims_of(self.section, self.facts),
            references=self.references,
            figures=self.figures,
            section=self.section.name,
            others=self.others,
        )
        return [_line(f"{one.place}: {one.reason}") for one in found[:MOST_REASONS]]


def write_section(
    store: Store,
    session: Session,
    model: Model | None,
    section: str,
    facts: Mapping[str, Fact],
    *,
    references: Mapping[str, Reference],
    figures: Sequence[str],
    others: Sequence[str] = (),
    room: int = 0,
) -> Written:
    """Return a section in a model's words where these may be printed, else none.

    Args:
        store: of the campaign; no transaction is open, as the model may take its time.
        session: of the campaign.
        model: None: nothing is asked; what was kept before is used.
        section: of `manuscript_sections.SECTIONS`.
        facts: all facts of the campaign, by key.
        references: what may be cited, by key.
        figures: names of the figures and tables that the manuscript has.
        others: texts of the sections that were written before.
        room: tokens of the prompt; 0: no limit.
    """
    names = briefing.case_names(session)
    matter = Matter(SECTIONS[section], facts, references, figures, names, others)
    kept = store.effect(matter.key())
    if kept is None and model is not None:
        kept = _ask(store, session, model, matter, room=room)
    return checked(matter, kept)


def prompt_of(matter: Matter, refused: Sequence[str] = (), *, room: int = 0) -> Prompt:
    """Return what the writer is told; `refused` is what was wrong with its last text."""
    text = "\n".join(f"- {one}" for one in refused)
    return make_prompt("write", {**matter.told(), "refused": text}, room=room)


def checked(matter: Matter, kept: Figures | None) -> Written:
    """Return what was kept as a section; a text that may no longer be printed goes."""
    kept = kept or {"text": "", "refused": []}
    text, refused = str(kept["text"]), tuple(map(str, kept["refused"]))
    if text and (wrong := matter.wrong(text)):
        text, refused = "", (*refused, *wrong)
    return Written(matter.section.name, text, MODEL if text else RULES, refused)


def _ask(store: Store, session: Session, model: Model, matter: Matter, *, room: int) -> Figures:
    """Ask for a section, twice at most, and keep what came of it.

    Returns:
        The figures of the effect. Where the model is lost none is kept, and it is asked again the
        next time.
    """
    refused: list[str] = []
    wrong: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            said = model.ask(prompt_of(matter, wrong, room=room), WriteReply, scope=SCOPE)
        except (ReplyError, ModelLost) as error:
            refused.append(_line(str(error)))
            _tell(store, session, matter, refused)
            return {"text": "", "refused": refused}
        text = "\n\n".join(said.value.paragraphs)
        wrong = matter.wrong(text)
        refused += wrong
        if not wrong:
            made = {"text": text, "by": said.endpoint, "model": said.model, "refused": refused}
            return store.set_effect(matter.key(), made)
    with store.transaction():
        _tell(store, session, matter, refused)
        return store.set_effect(matter.key(), {"text": "", "refused": refused})


def _tell(store: Store, session: Session, matter: Matter, refused: Sequence[str]) -> None:
    """Keep an event that the rules write a section; once for the same reasons."""
    figures: Figures = {
        "scope": SCOPE,
        "section": matter.section.name,
        "error": refused[-1],
        "refused": list(refused),
    }
    if any(one.figures == figures for one in store.events(kind=REFUSED)):
        return
    text = f"the report's own sentences stand for the section {matter.section.name}: {refused[-1]}"
    store.add_event(Event(REFUSED, text[:2000], figures, at=session.now))


def _line(text: str) -> str:
    line = " ".join(clean_text(text).split())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"
