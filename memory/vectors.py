"""Vectors of lessons: kept in campaign.db as float16, searched in memory as one float32 matrix.

A scan of the whole matrix is exact, and for 100,000 lessons of 256 numbers takes about 5 ms.
The matrix is read once for each file and model in a process, then only what was added; threads
take turns.
"""

from collections.abc import Iterable, Sequence
from threading import RLock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.connection import Connection
from memory.embedder import Embedder
from memory.embedder import Vectors as Rows
from memory.errors import StoreError
from memory.store import Store

BATCH = 512
KEPT = 2  # matrices in memory, those that were asked for last
LEAST = 0.15  # texts with nothing in common reach cosines of about 0.1
DIGITS = 5  # of a cosine: what a sum in another order can change is cut off
STORED = "<f2"
# Numbers multiplied at a time: few enough that no second thread is woken for them, which would
# wait for a core while networks are trained.
BLOCK = 2**15


class Near(NamedTuple):
    """A lesson and its cosine to a text, LEAST to 1."""

    lesson: str
    layer: str
    cosine: float


def embed_lessons(store: Store, embedder: Embedder) -> int:
    """Keep a vector for each lesson that has none of this model; return how many were added.

    What was kept before a crash is not made again.

    Raises:
        StoreError: opened for reading only.
        ConfigError: the model cannot be used.
    """
    connection = store._connection
    sql = (
        "SELECT lesson.id, text FROM lesson LEFT JOIN lesson_vector AS known "
        "ON known.lesson = lesson.id AND known.model = ? "
        "WHERE known.id IS NULL AND is_replaced = 0 ORDER BY lesson.id"
    )
    missing = connection.select(sql, (embedder.name,))[1]
    for start in range(0, len(missing), BATCH):
        part = missing[start : start + BATCH]
        made = embedder.embed([text for _, text in part]).astype(STORED)
        rows = [
            (key, embedder.name, one.tobytes()) for (key, _), one in zip(part, made, strict=True)
        ]
        _insert(connection, rows)
    return len(missing)


def _insert(connection: Connection, rows: Iterable[tuple[str, str, bytes]]) -> None:
    sql = (
        "INSERT INTO lesson_vector (lesson, model, vector) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    )
    with connection.transaction():
        for row in rows:
            connection.database.execute(sql, row)


class Matrix:
    """The vectors of one model in one store, in the order in which they were kept."""

    def __init__(self, model: str) -> None:
        """Hold nothing yet."""
        self.model = model
        self.lessons: list[str] = []
        self._place: dict[str, int] = {}
        self._rows: Rows = np.empty((0, 0), np.float32)
        self._layers: NDArray[np.int8] = np.empty(0, np.int8)
        self._codes: dict[str, int] = {}
        self._last = 0

    def is_of(self, connection: Connection) -> bool:
        """Tell whether the last vector that was read still stands where it stood."""
        if not self.lessons:
            return True
        sql = "SELECT lesson FROM lesson_vector WHERE id = ? AND model = ?"
        return connection.select(sql, (self._last, self.model))[1] == [(self.lessons[-1],)]

    def extend(self, connection: Connection) -> None:
        """Read what was added since the last reading.

        Raises:
            StoreError: a vector has another length than those before.
        """
        sql = (
            "SELECT v.id, v.lesson, layer, vector FROM lesson_vector AS v "
            "JOIN lesson ON lesson.id = v.lesson "
            "WHERE v.id > ? AND model = ? AND is_replaced = 0 ORDER BY v.id"
        )
        found = connection.select(sql, (self._last, self.model))[1]
        if not found:
            return
        numbers, lessons, layers, blobs = zip(*found, strict=True)
        floats = _floats(blobs, known=self._rows.shape[1], model=self.model)
        self._append(floats, [self._codes.setdefault(one, len(self._codes)) for one in layers])
        self._place |= {one: n for n, one in enumerate(lessons, start=len(self.lessons))}
        self.lessons += lessons
        self._last = numbers[-1]

    def _append(self, added: Rows, codes: Sequence[int]) -> None:
        count, size = len(self.lessons), len(self.lessons) + len(added)
        if size > len(self._rows):
            # Twice as much as is needed now, so that one more lesson does not copy them all.
            block = _block(added.shape[1])
            room = -(-(2 * size if count else size) // block) * block
            rows, layers = np.zeros((room, added.shape[1]), np.float32), np.zeros(room, np.int8)
            if count:
                rows[:count], layers[:count] = self._rows[:count], self._layers[:count]
            self._rows, self._layers = rows, layers
        self._rows[count:size], self._layers[count:size] = added, codes

    def nearest(self, vector: Rows, layers: Sequence[str], most: int) -> list[Near]:
        """Return of each layer the lessons nearest to a unit vector, at most so many, best first.

        Those below LEAST are left out; ties go by the lesson's id.
        """
        with _TURN:
            return self._nearest(vector, layers, most)

    def _nearest(self, vector: Rows, layers: Sequence[str], most: int) -> list[Near]:
        count = len(self.lessons)
        if not count:
            return []
        cosines = self._cosines(vector)
        found = []
        for layer in layers:
            places = np.flatnonzero(self._layers[:count] == self._codes.get(layer, -1))
            near = [
                Near(self.lessons[place], layer, round(float(cosines[place]), DIGITS))
                for place in _largest(cosines, places, most)
            ]
            found += sorted(near, key=lambda one: (-one.cosine, one.lesson))[:most]
        return found

    def _cosines(self, vector: Rows) -> Rows:
        length = self._rows.shape[1]
        blocks = self._rows.reshape(-1, _block(length), length)
        used = -(-len(self.lessons) // _block(length))
        found: Rows = (blocks[:used] @ vector).reshape(-1)[: len(self.lessons)]
        return found

    def cosine(self, one: str, other: str) -> float | None:
        """Return the cosine of two lessons; None where one has no vector."""
        if one not in self._place or other not in self._place:
            return None
        first, second = self._rows[self._place[one]], self._rows[self._place[other]]
        return round(float(first @ second), DIGITS)


def _block(length: int) -> int:
    """Return how many rows of so many numbers are multiplied at a time."""
    return max(1, BLOCK // length)


def _largest(cosines: Rows, places: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """Return the places of the largest cosines, more than asked where some are equal."""
    values = np.round(cosines[places], DIGITS)
    least = LEAST
    if len(values) > most:
        least = max(least, float(np.partition(values, -most)[-most]))
    return places[values >= np.float32(least)]


def _floats(blobs: Sequence[bytes], *, known: int, model: str) -> Rows:
    lengths = {len(blob) for blob in blobs} | ({2 * known} if known else set())
    if len(lengths) != 1 or lengths == {0}:
        raise StoreError(
            f"vectors of {model!r} have {sorted(lengths)} bytes, and should all have the same; "
            "delete its rows of lesson_vector"
        )
    stored = np.frombuffer(b"".join(blobs), STORED).reshape(len(blobs), -1)
    return stored.astype(np.float32)


_READ: dict[tuple[str, int, int], Matrix] = {}
_TURN = RLock()


def matrix(store: Store, model: str) -> Matrix:
    """Return the vectors of a model, with those that were added since the last call.

    Raises:
        StoreError: the rows cannot be read.
    """
    file = store.path.stat()
    key = (model, file.st_dev, file.st_ino)
    with _TURN:
        found = _READ.pop(key, None)
        if found is None or not found.is_of(store._connection):
            found = Matrix(model)
        found.extend(store._connection)
        _READ[key] = found
        while len(_READ) > KEPT:
            del _READ[next(iter(_READ))]
    return found
