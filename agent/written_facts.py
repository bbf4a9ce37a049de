"""Facts on the sections that a model was asked to write: who wrote them, and what was refused."""

from typing import NamedTuple

from agent.fact_book import FactBook
from agent.formats import plain_text, slug
from agent.manuscript_sections import SECTIONS
from agent.report_rows import PROSE, Rows

LONGEST_REASON = 300


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
            book.words(f"{key}.reason", plain_text(reason, longest=LONGEST_REASON), sources)
