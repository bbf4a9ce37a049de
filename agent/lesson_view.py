"""What `segwright memory` shows of lessons: those of a campaign, and those that carry over."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from agent.conditions import CONDITIONS
from agent.library import Library
from agent.library_lessons import lessons_of
from agent.wording import one_line
from memory.ranking import Recalled
from memory.recall import recall
from memory.records import Campaign, Figures, Lesson, plain
from memory.store import Store

ANY_LENGTH = 10**9
MOST_TRIALS = 6
NOBODY = Campaign("library", "library", 0.0, "", {}, {}, "", "", {})


def lessons(store: Store, query: str, limit: int) -> Figures:
    """Return the lessons that recall finds for a query, best first; without one the latest."""
    known = store.lessons()
    if not query:
        return _shown(query, len(known), [(one, "") for one in known[-limit:]])
    found = recalled(store, query, limit, conditions=store.effect(CONDITIONS) or {})
    matched = [one for one in found if one.by != "evidence"]
    return _shown(query, len(known), [(one.lesson, one.by) for one in matched])


def carried(library: Library, query: str, limit: int) -> Figures:
    """Return what carries over as lessons that recall finds; without a query the best founded."""
    told = lessons_of(library.campaigns.values(), now={}, at=0.0)
    with tempfile.TemporaryDirectory() as folder:
        with Store.create(Path(folder) / "campaign.db", NOBODY) as store, store.transaction():
            for one in told:
                store.add_lesson(one)
            found = recalled(store, query, limit, conditions={})
    matched = [one for one in found if one.by != "evidence" or not query]
    rows = [(one.lesson, one.by if query else "") for one in matched]
    return _shown(query, len(told), rows)


def recalled(store: Store, query: str, limit: int, *, conditions: Figures) -> list[Recalled]:
    """Return what recall finds by words, however long the texts are."""
    return recall(store, query, conditions=conditions, budget_tokens=ANY_LENGTH, limit=limit)


def lesson_lines(found: Figures) -> list[str]:
    """Return lessons as lines: layer, kind, what found it, text, and the trials it rests on."""
    if not found["known"]:
        return ["nothing was learnt yet"]
    rows = [_line(row) for row in found["lessons"]]
    return rows or [f"none of {found['known']} lessons shares a word with {found['query']!r}"]


def _line(row: Figures) -> str:
    by = f" (by {row['found_by']})" if row["found_by"] else ""
    trials, more = row["evidence"][:MOST_TRIALS], len(row["evidence"]) - MOST_TRIALS
    named = ", ".join([*trials, f"{more} more"] if more > 0 else trials)
    return f"{row['layer']} {row['kind']}{by}: {one_line(row['text'])} [{one_line(named)}]"


def _shown(query: str, known: int, rows: Iterable[tuple[Lesson, str]]) -> Figures:
    told = [plain(lesson) | {"found_by": by} for lesson, by in rows]
    return {"query": query, "known": known, "lessons": told}
