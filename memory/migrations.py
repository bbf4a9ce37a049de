"""The schema of campaign.db, as numbered steps that are never edited once released.

Each migration runs in one transaction together with its number (PRAGMA user_version), so that
a crash leaves the old schema or the new one and nothing between. A new table or column is a
new function at the end of MIGRATIONS; its SQL stands in `memory/schema.py`
and `memory/lesson_schema.py`.
"""

import sqlite3

from memory.lesson_schema import LESSONS, PARTS, TOPICS
from memory.schema import (
    ALLOWED,
    APPEND_ONLY,
    CHANGES,
    GUARDS,
    LANGUAGE,
    SEARCH,
    SELECTION,
    SETUP,
    TABLES,
)

APPLICATION_ID = 0x53475752  # "SGWR": tells a campaign.db from any other SQLite file


def _tables(conn: sqlite3.Connection) -> None:
    """Migration 1: the tables."""
    for statement in TABLES:
        conn.execute(statement)
    conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _guards(conn: sqlite3.Connection) -> None:
    """Migration 2: rows that are appended stay as they were written."""
    for table in APPEND_ONLY:
        for change in ("UPDATE", "DELETE"):
            conn.execute(
                f"CREATE TRIGGER {table}_forbids_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} rows are append-only'); END"
            )
    for statement in GUARDS:
        conn.execute(statement)


def _search(conn: sqlite3.Connection) -> None:
    """Migration 3: word search over lessons, and views without anything of the locked test."""
    for statement in SEARCH:
        conn.execute(statement)


def _setup(conn: sqlite3.Connection) -> None:
    """Migration 4: how a trial was run: batch size, checkpointing, kind of start, CPU time."""
    for statement in SETUP:
        conn.execute(statement)


def _changes(conn: sqlite3.Connection) -> None:
    """Migration 5: which trials changed, in the order of their changes; trials and events by kind."""
    for statement in CHANGES:
        conn.execute(statement)


def _selection(conn: sqlite3.Connection) -> None:
    """Migration 6: trials of the staged selection and their folds; one more verdict."""
    for statement in SELECTION:
        conn.execute(statement)
    for table, before, after in ALLOWED:
        _widen(conn, table, before, after)


def _language(conn: sqlite3.Connection) -> None:
    """Migration 7: details of proposals; what a call to a language model was for."""
    for statement in LANGUAGE:
        conn.execute(statement)


def _lessons(conn: sqlite3.Connection) -> None:
    """Migration 8: kind, conditions, counts and source of lessons; what recall reads and vectors."""
    for statement in LESSONS:
        conn.execute(statement)


def _topics(conn: sqlite3.Connection) -> None:
    """Migration 9: what a lesson is about, so that a newer one takes its place."""
    for statement in TOPICS:
        conn.execute(statement)


def _parts(conn: sqlite3.Connection) -> None:
    """Migration 10: an index of lessons by their components."""
    for statement in PARTS:
        conn.execute(statement)


def _widen(conn: sqlite3.Connection, table: str, before: str, after: str) -> None:
    """Let a CHECK allow more values than it did.

    No ALTER TABLE does that, and a table that others refer to cannot be made anew while rows
    hold on to it; SQLite's page on ALTER TABLE gives this way for CHECKs, and no other use of
    it (https://www.sqlite.org/lang_altertable.html#otheralter).
    """
    version = conn.execute("PRAGMA schema_version").fetchone()[0]
    conn.execute("PRAGMA writable_schema = ON")
    try:
        conn.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
            (before, after, table),
        )
    finally:
        conn.execute("PRAGMA writable_schema = OFF")
    conn.execute(f"PRAGMA schema_version = {version + 1}")


MIGRATIONS = (
    *(_tables, _guards, _search, _setup, _changes, _selection, _language, _lessons, _topics),
    _parts,
)
LATEST = len(MIGRATIONS)


def schema_version(conn: sqlite3.Connection) -> int:
    """Return the number of the last migration that a database has had; 0 for a new file."""
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


def application_id(conn: sqlite3.Connection) -> int:
    """Return the mark that tells a campaign.db (APPLICATION_ID) from another file."""
    return int(conn.execute("PRAGMA application_id").fetchone()[0])


def migrate(conn: sqlite3.Connection, *, upto: int = LATEST) -> None:
    """Apply the migrations that a database has not had, each in its own transaction.

    Several processes may call this on one file at once: the number is read again inside each
    transaction. The connection must be in autocommit mode (isolation_level None).

    Raises:
        sqlite3.Error: a migration failed; its transaction was rolled back.
    """
    for number, apply in enumerate(MIGRATIONS[:upto], start=1):
        conn.execute("BEGIN IMMEDIATE")
        try:
            if schema_version(conn) < number:
                apply(conn)
                conn.execute(f"PRAGMA user_version = {number}")
            conn.execute("COMMIT")
        finally:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
