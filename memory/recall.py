"""Recall: which lessons to tell a role that is about to do something.

Full text, meaning and the components that are named find lessons, `memory/ranking.py` weighs and chooses them. Only the view
search_lesson is told: a lesson that cites a trial of the locked test or of a confirmation does
not reach a prompt, whoever wrote it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from memory.ranking import Hits, Recalled, choose, fused, ranks, scored
from memory.records import Figures, Lesson
from memory.rows import from_rows
from memory.store import Store
from memory.words import any_of

if TYPE_CHECKING:
    from memory.embedder import Embedder

DEPTH = 20  # lessons that a ranking hands on from each layer, or as many as are asked for
MATCHES = 1000  # lessons that the words of a query may have together: what BM25 costs grows with it
LAYERS = ("library", "campaign", "branch", "trial")
SMALL = ("library", "campaign")


def recall(
    store: Store,
    query: str,
    *,
    layers: Collection[str] = LAYERS,
    conditions: Figures,
    budget_tokens: int,
    limit: int,
    embedder: "Embedder | None" = None,
) -> list[Recalled]:
    """Return what was learnt that bears on a text, best first; the same rows give the same list.

    Where nothing shares a word or a meaning with the text, as with an empty one, these are the
    lessons with the best evidence. Near-duplicates come once (`ranking.say_the_same`).

    Args:
        store: a campaign's store; reading only is enough.
        query: any text; its words that few lessons have count first.
        layers: trial, branch, campaign, library, or some of them.
        conditions: those of the dataset at hand, as in `Lesson.conditions`.
        budget_tokens: what the texts may have together, at 4 characters a token.
        limit: lessons at most.
        embedder: finds by meaning what `vectors.embed_lessons` has given a vector; None: by words.

    Raises:
        StoreError: the store cannot be read.
        ConfigError: the embedder cannot be used.
    """
    wanted = tuple(dict.fromkeys(layers))
    most = max(DEPTH, limit)
    by_words = ranks(matching(store, query, wanted, most))
    near, cosine = _meaning(store, query, wanted, most, embedder)
    by_meaning = ranks(near)
    by_parts = ranks(about(store, query, wanted, most))
    by = _named(by_words | by_parts, by_meaning)
    places = fused([by_words, by_meaning, by_parts])
    if not places:
        places = fused([ranks(best_founded(store, wanted, most))])
    found = [
        Recalled(one, scored(one, places[one.id], conditions), by.get(one.id, "evidence"))
        for one in readable(store, places)
    ]
    return choose(found, limit=limit, budget_tokens=budget_tokens, cosine=cosine)


def _named(words: Collection[str], meaning: Collection[str]) -> dict[str, str]:
    found = dict.fromkeys(words, "words") | dict.fromkeys(meaning, "meaning")
    return found | {key: "both" for key in words if key in meaning}


def readable(store: Store, ids: Collection[str]) -> list[Lesson]:
    """Return those of some lessons that may be told, by id: their evidence is of the search."""
    sql = "SELECT * FROM search_lesson WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
    return from_rows(Lesson, *store._connection.select(sql, (json.dumps(sorted(ids)),)))


class Word(NamedTuple):
    """A word of a query, quoted, and how many lessons have it, counted up to MATCHES + 1."""

    lessons: int
    place: int
    quoted: str


def counted(store: Store, query: str) -> list[Word]:
    """Return the words of a text that some lesson has, the rarest first."""
    quoted = [word for word in any_of(query).split(" OR ") if word]
    sql = (
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM lesson_words WHERE lesson_words MATCH value "
        "LIMIT ?)), key, value FROM json_each(?)"
    )
    rows = store._connection.select(sql, (MATCHES + 1, json.dumps(quoted)))[1]
    return sorted(Word(*row) for row in rows if row[0])


def matching(store: Store, query: str, layers: Sequence[str], most: int) -> Hits:
    """Return lessons that share words with a text, with a value each, of each layer so many at most.

    The value is BM25 over the rarest words: as many as have MATCHES lessons together, since a
    word that most lessons have costs most and says least. Where every word has more, the lessons
    are those that have all of them, the first MATCHES in the index, and none is above another.
    """
    words = counted(store, query)
    rare, total = [], 0
    for word in words:
        total += word.lessons
        if total > MATCHES:
            break
        rare.append(word.quoted)
    if rare:
        return _best(_found(store, " OR ".join(rare), "-rank"), layers, most)
    return _best(_found(store, " AND ".join(one.quoted for one in words), "0.0"), layers, most)


def about(store: Store, query: str, layers: Sequence[str], most: int) -> Hits:
    """Return lessons of the campaign and the library on components that a text names.

    The value is how many of them. These layers are small, and a component that most trials had is
    a word that `matching` passes over.
    """
    names = set(re.findall(r"\w+", query.lower()))
    hits: list[tuple[str, float]] = []
    for layer in layers:
        if layer in SMALL:
            hits += _about(store, names, layer, most)
    return hits


def _about(store: Store, names: set[str], layer: str, most: int) -> Hits:
    """Return the lessons of a layer that name most of some components, so many at most."""
    told = "FROM lesson WHERE layer = ? AND is_replaced = 0"
    by_count = defaultdict[int, list[str]](list)
    for (parts,) in store._connection.select(f"SELECT DISTINCT components {told}", (layer,))[1]:
        if count := sum(part.lower() in names for part in json.loads(parts)):
            by_count[count].append(parts)
    hits: list[tuple[str, float]] = []
    sql = f"SELECT id {told} AND components IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?"
    for count in sorted(by_count, reverse=True):
        where = (layer, json.dumps(by_count[count]), most - len(hits))
        hits += [(key, float(count)) for (key,) in store._connection.select(sql, where)[1]]
    return hits


def _found(store: Store, match: str, value: str) -> list[tuple[str, str, float]]:
    if not match:
        return []
    sql = f"SELECT id, layer, {value} FROM lesson_words WHERE lesson_words MATCH ? LIMIT ?"
    return store._connection.select(sql, (match, MATCHES))[1]


def _best(found: Sequence[tuple[str, str, float]], layers: Sequence[str], most: int) -> Hits:
    hits = []
    for layer in layers:
        own = [(key, value) for key, of, value in found if of == layer]
        hits += sorted(own, key=lambda hit: (-hit[1], hit[0]))[:most]
    return hits


def best_founded(store: Store, layers: Sequence[str], most: int) -> Hits:
    """Return the lessons with the most evidence for them, then the largest effects, by layer."""
    heavy, effect = "(support + 1.0) / (support + contra + 2)", "abs(coalesce(effect, 0))"
    sql = (
        f"SELECT id, {heavy}, {effect} FROM search_lesson WHERE layer = ? "
        f"ORDER BY {heavy} DESC, {effect} DESC, id LIMIT ?"
    )
    rows = [row for one in layers for row in store._connection.select(sql, (one, most))[1]]
    steps = sorted({(weight, size) for _, weight, size in rows})
    return [(key, float(steps.index((weight, size)))) for key, weight, size in rows]


Cosine = Callable[[str, str], float | None]


def _meaning(
    store: Store, query: str, layers: Sequence[str], most: int, embedder: "Embedder | None"
) -> tuple[Hits, Cosine]:
    """Return lessons near in meaning with their cosines, and how near two lessons are."""
    if embedder is None:
        return [], lambda one, other: None
    from memory.vectors import matrix  # here, as it brings numpy

    known = matrix(store, embedder.name)
    near = known.nearest(embedder.embed([query])[0], layers, most)
    return [(one.lesson, one.cosine) for one in near], known.cosine
