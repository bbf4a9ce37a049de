"""Is campaign.db whole: SQLite's own checks, and the schema that the migrations make.

Covered: damaged pages, broken references, CHECKs that a row does not meet, tables, triggers or
views that were changed or dropped. Not covered: whether the rows are true; see agent.check.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from memory.connection import connect, told
from memory.migrations import migrate, schema_version


def database_problems(path: Path) -> list[str]:
    """Return what is wrong with an existing campaign.db, one line each.

    Raises:
        StoreError: SQLite cannot read the file at all.
    """
    with told(path), closing(sqlite3.connect(":memory:")) as copy:
        # SQLite 3.40 passes over CHECKs in a file that is open for reading only.
        with closing(connect(path, read_only=True)) as conn:
            conn.backup(copy)
        return [f"campaign.db: {line}" for line in [*_rows(copy), *_schema(copy)]]


def _rows(conn: sqlite3.Connection) -> list[str]:
    pages = [str(row[0]) for row in conn.execute("PRAGMA integrity_check(20)")]
    references = [
        f"{table} row {row} refers to a {parent} that is not there"
        for table, row, parent, _ in conn.execute("PRAGMA foreign_key_check")
    ]
    return [" ".join(line.split()) for line in pages if line != "ok"] + references


def _schema(conn: sqlite3.Connection) -> list[str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrate(fresh, upto=schema_version(conn))
        wanted = _objects(fresh)
    found = _objects(conn)
    return [
        f"the {kind} {name} is {_fault(wanted.get((kind, name)), found.get((kind, name)))}"
        for kind, name in sorted(wanted.keys() | found.keys())
        if wanted.get((kind, name)) != found.get((kind, name))
    ]


def _objects(conn: sqlite3.Connection) -> dict[tuple[str, str], str]:
    rows = conn.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema")
    return {(kind, name): sql for kind, name, sql in rows if not name.startswith("sqlite_stat")}


def _fault(wanted: str | None, found: str | None) -> str:
    if found is None:
        return "missing"
    return "not one of segwright's" if wanted is None else "not as segwright made it"
