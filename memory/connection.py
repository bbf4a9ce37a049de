"""One connection to campaign.db: how it is opened, its transactions, its errors.

SQLite itself says what is allowed (CHECK, foreign keys, triggers); this module turns each of
its refusals into a StoreError of one line. WAL with synchronous=NORMAL keeps every
acknowledged row through a kill of the process; only a power cut may lose the last ones.
Not for network file systems, on which SQLite's locks do not hold.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.errors import StoreError
from memory.migrations import APPLICATION_ID, LATEST, application_id, migrate, schema_version
from memory.rows import TABLES, Column, Row, same_record, to_row

if TYPE_CHECKING:
    import sqlite_utils

BUSY_S = 30


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what SQLite refuses inside the block into a StoreError of one line."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a fault of ours, such as a Store used from a second thread
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _has_log(path: Path) -> bool:
    return path.with_name(f"{path.name}-wal").exists()


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Return a connection to an existing file, in autocommit mode, whatever the file holds.

    Raises:
        sqlite3.Error: it cannot be opened, or is no SQLite file.
    """
    uri = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw'}"
    if read_only and not os.access(path.parent, os.W_OK) and not _has_log(path):
        uri += "&immutable=1"  # nobody can write there, and SQLite could not make its lock file
    conn = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        conn.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")
        conn.execute("PRAGMA foreign_keys = ON")
        # Also makes INSERT OR REPLACE meet the triggers against DELETE.
        conn.execute("PRAGMA recursive_triggers = ON")
        if read_only:
            conn.execute("PRAGMA query_only = ON")
        else:
            conn.execute("PRAGMA journal_mode = WAL")
            conn.execute("PRAGMA synchronous = NORMAL")
            conn.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    except sqlite3.Error:
        conn.close()
        raise
    return conn


def _check_schema(conn: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    if application_id(conn) != APPLICATION_ID:
        raise StoreError(f"{path} is no segwright campaign.db; name a campaign's folder or file")
    version = schema_version(conn)
    if version > LATEST:
        raise StoreError(
            f"{path} has schema {version}, this program knows up to {LATEST}; "
            "use the newer segwright that wrote it"
        )
    if version < LATEST and read_only:
        raise StoreError(
            f"{path} has schema {version}, this program reads {LATEST}; "
            "open it once for writing (segwright run) to bring it up to date"
        )


def create_file(path: Path, rows: Sequence[Any]) -> None:
    """Make a database with the newest schema and some first records, whole or not at all.

    It is built under another name and then linked, so that nobody ever sees it half-made, and
    only one of two processes that race for the name succeeds. Mode 0600.

    Raises:
        StoreError: the file exists, or cannot be written.
    """
    import tempfile  # here, as it brings much that a reader has no use for

    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            draft = Path(folder) / path.name
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with told(path), closing(connect(draft, read_only=False)) as conn:
                migrate(conn)
                Connection(path, conn, read_only=False).insert(rows)
            os.link(draft, path)
    except FileExistsError as error:
        raise StoreError(f"{path} exists already; it is kept as it is") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be created: {error.strerror}") from error


class Connection:
    """A connection to one campaign.db. One per thread; several per file and per process."""

    def __init__(self, path: Path, conn: sqlite3.Connection, *, read_only: bool) -> None:
        """Take over an open connection in autocommit mode."""
        self.path = path
        self.read_only = read_only
        self._conn = conn

    @cached_property
    def database(self) -> "sqlite_utils.Database":
        """The connection as sqlite-utils drives it; made when first asked for.

        Its import costs more than most readings do, as it brings pandas where that is installed.
        """
        import sqlite_utils

        return sqlite_utils.Database(self._conn, recursive_triggers=True, execute_plugins=False)

    @classmethod
    def open(cls, path: Path, *, read_only: bool) -> "Connection":
        """Open an existing file and, unless it is only read, bring its schema up to date.

        Raises:
            StoreError: the file is missing, foreign, damaged, or of a newer schema.
        """
        if not os.path.isfile(path):  # Path.is_file raises where a folder may not be entered
            raise StoreError(f"{path} does not exist; make a campaign with segwright init")
        with told(path):
            conn = connect(path, read_only=read_only)
            try:
                _check_schema(conn, path, read_only=read_only)
                if not read_only:
                    migrate(conn)
                return cls(path, conn, read_only=read_only)
            except (StoreError, sqlite3.Error):
                conn.close()
                raise

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._conn.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do the block in one transaction that holds the write lock from its start.

        A transaction inside another is a savepoint: it is undone alone when it raises, and kept
        only if the outer one is.

        Raises:
            StoreError: opened for reading only, or SQLite refused.
        """
        if self.read_only:
            raise StoreError(f"{self.path} was opened for reading only; nothing was written")
        with told(self.path):
            if self._conn.in_transaction:
                with self.database.atomic():
                    yield
                return
            # BEGIN alone would take the lock too late: read-modify-writes then fail or are lost.
            self._conn.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._conn.execute("COMMIT")
            finally:
                if self._conn.in_transaction:
                    self._conn.execute("ROLLBACK")

    def rows(self, sql: str, values: Sequence[Column] = ()) -> list[dict[str, Any]]:
        """Return the rows that a SELECT gives.

        Raises:
            StoreError: the file is damaged or locked.
        """
        names, rows = self.select(sql, values)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def select(self, sql: str, values: Sequence[Column] = ()) -> tuple[list[str], list[Row]]:
        """Return the names of a SELECT's columns, and its rows as tuples in that order.

        Raises:
            StoreError: the file is damaged or locked.
        """
        with told(self.path):
            cursor = self._conn.execute(sql, list(values))
            return [column[0] for column in cursor.description], cursor.fetchall()

    def insert(self, records: Sequence[Any]) -> None:
        """Append records of one type to their table.

        Raises:
            StoreError: a row that exists, a field that is not allowed, or a reference to nothing.
        """
        if not records:
            return
        rows = [to_row(record) for record in records]
        with self.transaction():
            self.database.table(TABLES[type(records[0])]).insert_all(rows)

    def insert_once(self, record: Any) -> None:
        """Append a record unless the same one is there already.

        Raises:
            StoreError: another record with that id is there.
        """
        table, row = TABLES[type(record)], to_row(record)
        with self.transaction():
            stored = self.rows(f'SELECT * FROM "{table}" WHERE id = ?', (row["id"],))
            if not stored:
                self.insert([record])
            elif name := same_record(type(record), stored[0], row):
                raise StoreError(
                    f"{table} {row['id']} is stored with another {name} "
                    f"({stored[0][name]!r:.60}, now {row[name]!r:.60}); rows are never rewritten"
                )

    def append(self, record: Any) -> int:
        """Append a record whose table numbers its rows, and return its number from 1.

        Raises:
            StoreError: a field that is not allowed, or a reference to nothing.
        """
        row = to_row(record)
        del row["id"]
        with self.transaction():
            key = self.database.table(TABLES[type(record)]).insert(row).last_pk
        assert isinstance(key, int)
        return key

    def update(self, table: str, key: str, changes: Mapping[str, Column]) -> None:
        """Change columns of the row with that id.

        Raises:
            StoreError: no such row, or SQLite refused.
        """
        if not changes:
            return
        assignments = ", ".join(f'"{name}" = ?' for name in changes)
        with self.transaction():
            sql = f'UPDATE "{table}" SET {assignments} WHERE id = ?'
            if self.database.execute(sql, [*changes.values(), key]).rowcount != 1:
                raise StoreError(f"{self.path} has no {table} {key!r}")
