"""The lessons of a campaign: kept, replaced by newer ones of their topic, and read."""

import json

from memory.connection import Connection
from memory.records import Lesson
from memory.rows import TABLES, Column, from_rows

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

    def _lessons(self, tail: str, values: tuple[Column, ...] = ()) -> list[Lesson]:
        sql = f'SELECT lesson.* FROM "{TABLES[Lesson]}" {tail}'
        return from_rows(Lesson, *self._connection.select(sql, values))
