"""The manuscript's sections in a model's words: asked for when a campaign has ended, then printed.

A section is written from the facts as they stand, and kept under what it was written from. A page
takes a text up only while the facts are still those, and only after it was checked again; where
there is none, the page's fixed sentences stand, and the page says which section is whose.

Covered: which texts stand and who wrote them. Not covered: what a text may say
(`agent/prose_check.py`).
"""

from collections.abc import Mapping, Sequence

from agent import briefing
from agent.bibliography import Reference
from agent.curves import keep_curves
from agent.facts import facts_of
from agent.figures import drawings
from agent.found_references import references_of
from agent.llm import Model
from agent.manuscript_sections import ORDER, SECTIONS
from agent.report_rows import Rows, read_rows
from agent.session import Session
from agent.writer import MODEL, Matter, Written, checked, write_section
from agent.written_facts import Signed, fact_key
from memory.records import Fact
from memory.store import Store


def write_manuscript(
    store: Store, session: Session, model: Model | None, *, room: int = 0
) -> list[Written]:
    """Ask a model for each section that it has not written from the facts as they stand.

    Nothing is asked once the user stops. A model that is lost is not asked for further sections.

    Args:
        store: of a campaign whose claims are made.
        session: of the campaign.
        model: None: nobody is asked.
        room: tokens of a prompt; 0: no limit.

    Returns:
        The sections, in the order of `SECTIONS`.
    """
    keep_curves(store, session.folder)
    rows = read_rows(store)
    facts = {fact.key: fact for fact in facts_of(rows)}
    figures = [one.name for one in drawings(rows, session.folder / "report")]
    references = references_of(rows.papers)
    found: list[Written] = []
    for name in SECTIONS:
        asked = None if session.stopping.is_set() else model
        others = [one.text for one in found if one.text]
        found.append(
            write_section(
                store,
                session,
                asked,
                name,
                facts,
                references=references,
                figures=figures,
                others=others,
                room=room,
            )
        )
    return found


def texts_of(
    rows: Rows,
    facts: Mapping[str, Fact],
    *,
    references: Mapping[str, Reference],
    figures: Sequence[str],
) -> dict[str, Written]:
    """Return the sections that a model was asked for, as they may be printed now, by name."""
    if not rows.prose:
        return {}
    found: dict[str, Written] = {}
    names = briefing.names_in(rows.split)
    for section in SECTIONS.values():
        others = [one.text for one in found.values() if one.text]
        matter = Matter(section, facts, references, figures, names, others)
        if kept := rows.prose.get(matter.key()):
            found[section.name] = checked(matter, kept)._replace(key=matter.key())
    return found


def signed(texts: Mapping[str, Written]) -> tuple[Signed, ...]:
    """Return who wrote the sections that a model was asked for, in the order of the manuscript."""
    own = (texts[name] for name in ORDER if name in texts)
    return tuple(Signed(one.section, fact_key(one.key), one.by == MODEL) for one in own)
