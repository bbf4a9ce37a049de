"""Facts on the sections that a model was asked to write: who wrote them, and what was refused."""

import re
from typing import NamedTuple

from agent.fact_book import FactBook
from agent.formats import slug
from agent.manuscript_sections import SECTIONS
from agent.report_rows import PROSE, Rows

FAULTS = (
    (r"is a claim|is a comparison|it compares|may not claim", "it made a claim of its own"),
    (r"a number|quantity|set apart|stands apart|beside a fact", "it had a number of its own"),
    (r"citation|bibliography|source", "it cited what may not be cited"),
    (r"there is no|may not stand|may stand|not of the section", "it named what is not there"),
    (r"markup|invisible|script|placeholder|no end|empty|twice|address", "its form is not allowed"),
)
"""What the reasons of `agent/prose_check.py` come to, the first that holds."""


class Signed(NamedTuple):
    """A section that a model was asked for: the prefix of its facts, and whether its text stands."""

    name: str
    key: str
    by_model: bool


def fact_key(effect: str) -> str:
    """Return the prefix of the facts on a text that is kept under that key."""
    return f"written.{slug(effect.removeprefix(PROSE).replace('/', '-'))}"


def add_written_facts(book: FactBook, rows: Rows) -> None:
    """Add what a model was asked to write: section, model, endpoint, and why a text was refused."""
    for effect, kept in rows.prose.items():
        key, sources = fact_key(effect), [f"effect:{effect}"]
        name = effect.removeprefix(PROSE).split("/")[0]
        book.words(f"{key}.section", SECTIONS[name].title if name in SECTIONS else name, sources)
        for what, value in (("model", kept.get("model")), ("endpoint", kept.get("by"))):
            if value:
                book.words(f"{key}.{what}", value, sources)
        refused = list(map(str, kept.get("refused", ())))
        book.count(f"{key}.refused", len(refused), sources)
        for reason in refused[-1:]:
            book.words(f"{key}.reason", fault(reason), sources)


def fault(reason: str) -> str:
    """Return what was wrong with a text, without a word of it: a reason quotes what it refuses."""
    found = (told for pattern, told in FAULTS if re.search(pattern, reason))
    return next(found, "the model gave no text that could be read")
