"""The lessons of a campaign: kept, weighed, replaced by newer ones of their topic, and found."""

import json

from memory.connection import Connection
from memory.errors import StoreError
from memory.records import Lesson
from memory.rows import TABLES, Column, from_rows
from memory.words import any_of

REPLACE = (
    "UPDATE lesson SET is_replaced = (id <> ?) WHERE topic = ? AND layer = ? AND source = ? "
    "AND is_replaced <> (id <> ?)"
)


class LessonLog:
    """The part of the store that keeps lessons."""

    _connection: Connection

    def add_lesson(self, lesson: Lesson) -> None:
        """Keep a lesson, in the place of the one of its topic. Idempotent: the first text stays."""
        with self._connection.transaction():
            self._connection.insert_once(lesson)
            if lesson.topic:
                where = [lesson.id, lesson.topic, lesson.layer, lesson.source, lesson.id]
                self._connection.database.execute(REPLACE, where)

    def weigh_lesson(self, lesson_id: str, *, support: int, contra: int) -> None:
        """Set how many trials speak for a lesson and against it; its text never changes."""
        self._connection.update("lesson", lesson_id, {"support": support, "contra": contra})

    def forget_lessons(self, source: str) -> int:
        """Delete the lessons that came from another campaign; return how many there were.

        Raises:
            StoreError: no campaign is named: a campaign's own lessons stay.
        """
        if not source:
            raise StoreError("a campaign's own lessons stay; name the campaign they came from")
        with self._connection.transaction():
            found = self._connection.select("SELECT id FROM lesson WHERE source = ?", (source,))[1]
            self._connection.database.execute("DELETE FROM lesson WHERE source = ?", [source])
        return len(found)

    def lessons(self, layer: str | None = None) -> list[Lesson]:
        """Return the lessons, or those of one layer, in the order in which they were added.

        Those that others have replaced are left out.
        """
        if layer is None:
            return self._lessons("WHERE is_replaced = 0 ORDER BY rowid")
        return self._lessons("WHERE is_replaced = 0 AND layer = ? ORDER BY rowid", (layer,))

    def dead_ends(self) -> frozenset[frozenset[str]]:
        """Return the sets of components that lessons of the campaign or the library call dead ends.

        Those that more trials speak against than for are left out.
        """
        sql = (
            "SELECT DISTINCT components FROM search_lesson WHERE kind = 'dead_end' "
            "AND layer IN ('campaign', 'library') AND support > contra AND components <> '[]'"
        )
        found = self._connection.select(sql)[1]
        return frozenset(frozenset(json.loads(row[0])) for row in found)

    def find_lessons(self, query: str, limit: int = 8) -> list[Lesson]:
        """Return the lessons that share words with a text, best first (BM25)."""
        tail = (
            "JOIN (SELECT id AS found, rank FROM lesson_words WHERE lesson_words MATCH ? "
            "ORDER BY rank LIMIT ?) ON found = id WHERE is_replaced = 0 ORDER BY rank, id"
        )
        words = any_of(query)
        return self._lessons(tail, (words, limit)) if words else []

    def _lessons(self, tail: str, values: tuple[Column, ...] = ()) -> list[Lesson]:
        sql = f'SELECT lesson.* FROM "{TABLES[Lesson]}" {tail}'
        return from_rows(Lesson, *self._connection.select(sql, values))
