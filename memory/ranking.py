"""Which of the lessons that were found are told: the formulas of recall, pure.

A lesson's score is its fused rank times the closeness of its conditions times the weight of its
evidence. Its age is no part of it.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from math import ceil, log10
from typing import Any, NamedTuple

from memory.records import Figures, Lesson

RANK_OFFSET = 60
UNKNOWN = 0.5  # agreement where one side does not tell
LEAST = 0.05  # of trainings of quite another length
CHARACTERS_A_TOKEN = 4
OVERLAP = 0.9  # of words, from which on two texts say the same
COSINE = 0.95  # and of meaning, where they tell the same numbers

Hits = Sequence[tuple[str, float]]


class Recalled(NamedTuple):
    """A lesson, its score (0 to 1/30, higher is better) and what found it.

    `by` is words, meaning, both, or evidence where nothing matched and the best founded are told.
    """

    lesson: Lesson
    score: float
    by: str


def ranks(hits: Hits) -> dict[str, int]:
    """Return the rank of each lesson from 1, by its value, the largest first; equal ones share it."""
    found: dict[str, int] = {}
    before, rank = None, 0
    for place, (key, value) in enumerate(sorted(hits, key=lambda hit: (-hit[1], hit[0])), start=1):
        rank = rank if value == before else place
        before = value
        found.setdefault(key, rank)
    return found


def fused(rankings: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return the reciprocal rank fusion of rankings: the sum of 1 / (60 + rank).

    Cormack, Clarke and Büttcher 2009, doi:10.1145/1571941.1572114. A lesson that a ranking does
    not have gets nothing from it.
    """
    sums: dict[str, float] = {}
    for ranking in rankings:
        for key, rank in ranking.items():
            sums[key] = sums.get(key, 0.0) + 1 / (RANK_OFFSET + rank)
    return sums


def closeness(seen: Figures, now: Figures) -> float:
    """Return how close two campaigns' datasets and trainings are, up to 1 (the same in all).

    0.25 + 0.75 * mean of four agreements, each 0 to 1, and 0.5 where one side does not tell:
    modality and dims: 1 when equal; traits: shared ones over all of both (1 when neither has
    any); cases: 1 - |log10(seen / now)| / 2, not below 0: a hundred times as many is nothing alike.
    All of it times the agreement of iterations, the same formula, where both sides tell them: what
    learns fast leads after a short training, and need not after a long one. Not below LEAST.
    """
    parts = {"modality": _equal, "dims": _equal, "traits": _shared, "cases": _similar}
    known = [agree(seen.get(name), now.get(name)) for name, agree in parts.items()]
    length = _similar(seen.get("iterations"), now.get("iterations"))
    are_told = "iterations" in seen and "iterations" in now
    return (0.25 + 0.75 * sum(known) / len(known)) * (max(LEAST, length) if are_told else 1.0)


def _equal(one: Any, other: Any) -> float:
    return UNKNOWN if one is None or other is None else float(one == other)


def _shared(one: Any, other: Any) -> float:
    if not isinstance(one, list | tuple) or not isinstance(other, list | tuple):
        return UNKNOWN
    return overlap(set(map(str, one)), set(map(str, other)))


def _similar(one: Any, other: Any) -> float:
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return UNKNOWN
    if one <= 0 or other <= 0:
        return UNKNOWN
    return max(0.0, 1 - abs(log10(one) - log10(other)) / 2)


def overlap(one: Collection[str], other: Collection[str]) -> float:
    """Return the shared members of two sets over all of both, 0 to 1; 1 for two empty ones."""
    both = set(one) | set(other)
    return len(set(one) & set(other)) / len(both) if both else 1.0


def weight(lesson: Lesson) -> float:
    """Return how far evidence speaks for a lesson, above 0 and below 1; 0.5 is as much as against.

    The mean of a Beta(1 + support, 1 + contra) distribution (Laplace's rule of succession).
    """
    return (lesson.support + 1) / (lesson.support + lesson.contra + 2)


def scored(lesson: Lesson, rank: float, conditions: Figures) -> float:
    """Return a lesson's score; one of the own campaign that tells no conditions has today's."""
    is_own = not lesson.source and not lesson.conditions
    return rank * (1.0 if is_own else closeness(lesson.conditions, conditions)) * weight(lesson)


def tokens(text: str) -> int:
    """Return about how many tokens a text has: one for each 4 characters begun."""
    return ceil(len(text) / CHARACTERS_A_TOKEN)


def say_the_same(one: Lesson, other: Lesson, cosine: float | None = None) -> bool:
    """Tell whether one of two lessons is enough.

    Never where their kinds differ or their effects have opposite signs. Else where they share
    0.9 of their words, or have a cosine of 0.95, the same components and the same numbers: texts
    made by one template are near to each other, and differ in what they count.
    """
    if one.kind != other.kind or (one.effect or 0.0) * (other.effect or 0.0) < 0:
        return False
    first, second = words(one.text), words(other.text)
    if overlap(first, second) >= OVERLAP:
        return True
    is_one_idea = set(one.components) == set(other.components)
    return is_one_idea and (cosine or 0.0) >= COSINE and numbers(first) == numbers(second)


@lru_cache(maxsize=1024)
def words(text: str) -> frozenset[str]:
    """Return the words and numbers of a text, in small letters."""
    return frozenset(re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", text.lower()))


def numbers(found: Collection[str]) -> frozenset[str]:
    """Return the numbers among words."""
    return frozenset(word for word in found if word[0].isdigit())


class Choice:
    """Lessons that were chosen to be told, within a number and a budget of tokens."""

    def __init__(
        self, *, limit: int, budget_tokens: int, cosine: Callable[[str, str], float | None]
    ) -> None:
        """Start with none; `cosine` tells how near two lessons are by their ids, where known."""
        self.told: list[Recalled] = []
        self._limit, self._left, self._cosine = limit, budget_tokens, cosine

    def take(self, one: Recalled) -> bool:
        """Take a lesson, unless it says what another does or does not fit; tell whether it was."""
        size = tokens(one.lesson.text)
        if len(self.told) >= self._limit or size > self._left or self._repeats(one.lesson):
            return False
        self.told.append(one)
        self._left -= size
        return True

    def _repeats(self, lesson: Lesson) -> bool:
        told = (one.lesson for one in self.told)
        return any(say_the_same(lesson, one, self._cosine(lesson.id, one.id)) for one in told)


def choose(
    found: Sequence[Recalled],
    *,
    limit: int,
    budget_tokens: int,
    cosine: Callable[[str, str], float | None] = lambda one, other: None,
) -> list[Recalled]:
    """Return the lessons to tell, best first, ties by id.

    Each layer that was found has an equal share of the places, at least one, and layers take
    turns at them, so that the many lessons of trials leave room for those of the campaign and the
    library. Places that a layer cannot fill go to the best of what is left.

    Args:
        found: lessons of any layers, each once.
        limit: lessons at most.
        budget_tokens: what the texts may have together.
        cosine: how near two lessons are by their ids; None where unknown.
    """
    left = sorted(found, key=_order)
    layers = list(dict.fromkeys(one.lesson.layer for one in left))
    choice = Choice(limit=limit, budget_tokens=budget_tokens, cosine=cosine)
    queues = [iter([one for one in left if one.lesson.layer == layer]) for layer in layers]
    for _ in range(max(1, limit // max(1, len(layers)))):
        for queue in queues:
            next((one for one in queue if choice.take(one)), None)
    for one in sorted(chain.from_iterable(queues), key=_order):
        choice.take(one)
    return sorted(choice.told, key=_order)


def _order(one: Recalled) -> tuple[float, str]:
    return -one.score, one.lesson.id
