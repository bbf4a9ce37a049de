"""Facts about the checklists, the seeds of all trainings, and whether subjects were simulated.

`add_checklist_facts` is the last to add facts, since it looks at all others.
"""

from collections.abc import Mapping
from typing import NamedTuple

from agent.checklists import (
    CHOSEN,
    RULES,
    STATES,
    Answer,
    Checklist,
    Item,
    evaluate,
    load_checklists,
    named,
)
from agent.fact_book import FactBook
from agent.manuscript_sections import SECTIONS
from agent.report_rows import Rows
from agent.run_facts import ended
from memory.records import Fact

MOST_SEEDS = 40
LONGEST = 1000
LAST_CHAPTER = "Provenance"
"""The manuscript's section that holds what no other does."""


class ItemView(NamedTuple):
    """An item as a template prints it.

    Attributes:
        key: prefix of its facts: .id, .state and, where facts say something of it, .keys.
        item: the texts of the file.
        show: keys of the facts to print with the answer; some may be missing.
        chapter: title of the manuscript's section that says it.
        reason: why it does not apply, where it does not.
    """

    key: str
    item: Item
    show: tuple[str, ...]
    chapter: str
    reason: str


class ChecklistView(NamedTuple):
    """A checklist: prefix of its facts, key of its source, its sections with their items."""

    key: str
    citation: str
    sections: tuple[tuple[str, tuple[ItemView, ...]], ...]


class StatementView(NamedTuple):
    """The checklists, and the prefixes of the facts about seeds."""

    checklists: tuple[ChecklistView, ...] = ()
    seeds: tuple[str, ...] = ()


def add_checklist_facts(book: FactBook, rows: Rows) -> None:
    """Add what the facts so far answer of each checklist, item by item and in numbers.

    Adds `dataset.simulated` and `seeds.KIND` first, which checklists and statements rest on.
    """
    book.words("dataset.simulated", "yes" if rows.simulated else "no", ["campaign"])
    _seeds(book, rows)
    facts = {fact.key: fact for fact in book.all()}
    for checklist in load_checklists():
        answers = evaluate(checklist, facts, chosen=chosen_of(rows))
        key = f"checklist.{checklist.name}"
        book.words(f"{key}.title", checklist.title, ["campaign"])
        book.count(f"{key}.items", len(answers), ["campaign"])
        for state in STATES:
            count = sum(answer.state == state for answer in answers)
            book.count(f"{key}.{state.replace(' ', '_')}", count, ["campaign"])
        for answer in answers:
            _item(book, f"{key}.{answer.item.id}", answer, facts)


def _item(book: FactBook, key: str, answer: Answer, facts: Mapping[str, Fact]) -> None:
    found = [source for one in answer.keys for source in facts[one].sources[:1]]
    sources = list(dict.fromkeys(found)) or ["campaign"]
    book.identifier(f"{key}.id", answer.item.id, ["campaign"])
    book.words(f"{key}.state", answer.state, sources)
    if answer.keys:
        book.words(f"{key}.keys", ", ".join(answer.keys), sources, longest=LONGEST)


def chosen_of(rows: Rows) -> str:
    """Return the proposal that the report calls the chosen network; "" where there is none."""
    return rows.finalists[0].key if rows.finalists else ""


def _seeds(book: FactBook, rows: Rows) -> None:
    """Add the seeds of the trainings that ended, by kind and rung; of many, the first."""
    for kind, rung in seed_groups(rows):
        own = [t for t in ended(rows) if (t.kind, t.rung) == (kind, rung)]
        seeds = sorted({t.seed for t in own})
        more = "" if len(seeds) <= MOST_SEEDS else f" and {len(seeds) - MOST_SEEDS} more"
        text = ", ".join(map(str, seeds[:MOST_SEEDS])) + more
        sources = [f"trial:{t.id}" for t in own]
        key = f"seeds.{kind}.{rung}"
        book.words(f"{key}.kind", kind, sources)
        book.count(f"{key}.rung", rung, sources)
        book.count(f"{key}.trials", len(own), sources)
        book.words(f"{key}.seeds", text, sources)


def seed_groups(rows: Rows) -> list[tuple[str, int]]:
    """Return the kinds and rungs of the trainings that ended, in the order of their first."""
    return list(dict.fromkeys((str(t.kind), t.rung) for t in ended(rows)))


def build_statement_view(rows: Rows) -> StatementView:
    """Return what the templates walk over, from the rows."""
    return StatementView(
        checklists=tuple(_checklist(one, chosen_of(rows)) for one in load_checklists()),
        seeds=tuple(f"seeds.{kind}.{rung}" for kind, rung in seed_groups(rows)),
    )


def _checklist(checklist: Checklist, chosen: str) -> ChecklistView:
    key = f"checklist.{checklist.name}"
    sections: dict[str, list[ItemView]] = {}
    for item in checklist.items:
        reason = RULES[item.unless].reason if item.unless else ""
        show = tuple(named(one, chosen) for one in item.show if chosen or CHOSEN not in one)
        view = ItemView(f"{key}.{item.id}", item, show, chapter_of(item.where), reason)
        sections.setdefault(item.section, []).append(view)
    found = tuple((name, tuple(items)) for name, items in sections.items())
    return ChecklistView(key, checklist.citation, found)


def chapter_of(anchor: str) -> str:
    """Return the title of the manuscript's section that holds a section of the report.

    Where several are written from it, the last one holds its tables.
    """
    found = [one.title for one in SECTIONS.values() if anchor in one.stands_in]
    return found[-1] if found else LAST_CHAPTER
