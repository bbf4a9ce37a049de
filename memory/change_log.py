"""The log of the changes of trials: what changed after a mark, without reading every trial."""

from memory.connection import Connection


class ChangeLog:
    """The part of the store that reads the log; triggers write it (`memory/migrations.py`)."""

    _connection: Connection

    def changes(self, since: int) -> tuple[list[str], int]:
        """Return which trials were added or changed after a mark (0: ever), and the new mark.

        Each id comes once; the mark is `since` itself where nothing changed.
        """
        sql = "SELECT id, trial FROM trial_change WHERE id > ? ORDER BY id"
        _, rows = self._connection.select(sql, (since,))
        return list(dict.fromkeys(trial for _, trial in rows)), rows[-1][0] if rows else since

    def change_marks(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the marks of each trial's first and last change."""
        sql = "SELECT trial, min(id), max(id) FROM trial_change GROUP BY trial"
        rows = self._connection.select(sql)[1]
        return {one: low for one, low, _ in rows}, {one: high for one, _, high in rows}

    def mark(self) -> int:
        """Return the mark of the last change of any trial."""
        return int(self._connection.select("SELECT max(id) FROM trial_change")[1][0][0] or 0)
