"""What recall tells, on a real store: who is found, in which order, and who never is."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.embedder import Vectors, unit
from memory.errors import StoreError
from memory.ranking import Recalled, closeness, fused, ranks, say_the_same, tokens, weight
from memory.recall import DEPTH, LAYERS, MATCHES, matching, recall
from memory.records import Campaign, Figures, Kind, Lesson, SplitName, Trial
from memory.store import Store
from memory.vectors import embed_lessons, matrix

CAMPAIGN = Campaign("c", "demo", 1.5, "0.1", {}, {}, "dh", "sh", {})
TRIAL = Trial("t", None, None, None, None, Kind.DRAFT, 0, 1, SplitName.SEARCH_VAL)
HERE: Figures = {"modality": "MR", "dims": 3, "cases": 100, "traits": ["small", "thin"]}
LESSON = Lesson("l", "trial", "attention gates find thin vessels", ("t",))


class Spelling:
    """An embedder without weights: texts of like words are near, whatever their endings."""

    name = "spelling"

    def embed(self, texts: Sequence[str]) -> Vectors:
        made = np.zeros((len(texts), 64), np.float32)
        for row, text in zip(made, texts, strict=True):
            for word in text.lower().split():
                row[hashlib.sha256(word[:4].encode()).digest()[0] % 64] += 1
        return unit(made)


class Told:
    """An embedder that has the vectors it is given, of texts that share no word."""

    name = "told"

    def __init__(self, **known: Sequence[float]) -> None:
        self.known = known

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [self.known.get(text.split()[0] if text else "", (0.0, 0.0)) for text in texts]
        return unit(np.array(rows))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaign.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.create(path, CAMPAIGN) as made:
        made.add_trial(TRIAL)
        yield made


def lesson(key: str, text: str, layer: str = "trial", **more: object) -> Lesson:
    if layer == "library":
        more = {"source": "other", "evidence": ("far",)} | more
    return replace(LESSON, id=key, text=text, layer=layer, **more)  # type: ignore[arg-type]


def keep(store: Store, *lessons: Lesson) -> None:
    store._connection.insert(lessons)


def asked(store: Store, query: str = "thin vessels", **more: object) -> list[Recalled]:
    known = {"conditions": HERE, "budget_tokens": 1000, "limit": 8, "layers": LAYERS}
    return recall(store, query, **(known | more))  # type: ignore[arg-type]


def ids(found: Sequence[Recalled]) -> list[str]:
    return [one.lesson.id for one in found]


def test_words_find_and_the_best_match_comes_first(store: Store) -> None:
    keep(
        store,
        lesson("a", "thin vessels of the brain"),
        lesson("b", "vessels"),
        lesson("c", "liver"),
    )
    found = asked(store)
    assert ids(found) == ["a", "b"]
    assert [one.by for one in found] == ["words", "words"]
    assert found[0].lesson == lesson("a", "thin vessels of the brain")
    # Rank 1, today's conditions, one trial for it and none against.
    assert found[0].score == pytest.approx(1 / 61 * 2 / 3)


def test_meaning_finds_what_shares_no_word(store: Store) -> None:
    keep(store, lesson("a", "alpha is near"), lesson("b", "beta query"), lesson("c", "gamma far"))
    model = Told(alpha=(1, 0.1), beta=(1, 0.5), gamma=(-1, 0), query=(1, 0))
    assert embed_lessons(store, model) == 3
    found = asked(store, "query", embedder=model)
    assert {one.lesson.id: one.by for one in found} == {"a": "meaning", "b": "both"}
    assert found[0].lesson.id == "b"
    assert found[0].score == pytest.approx((1 / 61 + 1 / 62) * 2 / 3)
    assert ids(asked(store, "query")) == ["b"]


def test_a_lesson_of_the_locked_test_is_never_told(store: Store) -> None:
    locked = replace(TRIAL, id="locked", split=SplitName.LOCKED_TEST)
    confirm = replace(TRIAL, id="confirm", kind=Kind.CONFIRM)
    store.add_trial(locked)
    store.add_trial(confirm)
    text = "thin vessels were won on the locked test"
    planted = [("locked",), ("confirm",), ("t", "locked"), ("t", "confirm")]
    for number, evidence in enumerate(planted):
        for layer in ("trial", "branch", "campaign"):
            one = replace(LESSON, id=f"{layer}{number}", layer=layer, text=text, evidence=evidence)
            store.add_lesson(one)
    keep(store, lesson("stolen", text, "library", evidence=("far", "locked"), support=99))
    model = Spelling()
    embed_lessons(store, model)
    for query in (text, "thin vessels", "", "?!", "unheard"):
        assert asked(store, query, embedder=model) == []
        assert asked(store, query) == []
    keep(store, lesson("open", text))
    assert ids(asked(store, embedder=model)) == ["open"]


@pytest.mark.parametrize("budget", [0, 1, 7, 8, 9, 17, 1000])
def test_the_budget_is_never_passed(store: Store, budget: int) -> None:
    texts = [f"thin vessels {'word ' * n}{n}" for n in range(1, 9)]
    keep(store, *(lesson(str(n), text) for n, text in enumerate(texts)))
    found = asked(store, budget_tokens=budget)
    assert sum(len(one.lesson.text) for one in found) <= 4 * budget
    assert sum(tokens(one.lesson.text) for one in found) <= budget
    if budget == 1000:
        assert len(found) == 8
    assert len(asked(store, limit=3)) == 3
    assert asked(store, limit=0) == []


def test_a_lesson_that_is_too_long_makes_room_for_a_shorter_one(store: Store) -> None:
    keep(store, lesson("a", "thin vessels " * 50, support=9), lesson("b", "thin tubes of blood"))
    assert ids(asked(store, budget_tokens=10)) == ["b"]


def test_lessons_of_trials_leave_room_for_the_other_layers(store: Store) -> None:
    keep(store, *(lesson(f"t{n}", f"thin vessels {n}") for n in range(40)))
    keep(store, lesson("c", "vessels need context", "campaign", contra=3))
    keep(store, lesson("x", "vessels need resolution", "library", contra=3))
    found = asked(store, limit=6)
    assert [one.lesson.layer for one in found] == ["trial"] * 4 + ["campaign", "library"]
    for one, other in pairwise(found):
        assert one.score >= other.score
    few = asked(store, budget_tokens=3 * tokens("vessels need resolution"))
    assert {one.lesson.layer for one in few} == {"trial", "campaign", "library"}
    assert {one.lesson.layer for one in asked(store, layers=["library"])} == {"library"}
    assert asked(store, layers=["branch"]) == []
    assert asked(store, layers=[]) == []


def test_a_lesson_seen_on_a_closer_dataset_comes_first(store: Store) -> None:
    far = {"modality": "CT", "dims": 2, "cases": 10_000, "traits": ["many_classes"]}
    keep(
        store,
        lesson("a", "thin vessels", "library", conditions=far),
        lesson("b", "vessels are thin here and elsewhere", "library", conditions=HERE),
        lesson("c", "thin vessels somewhere", "library"),
    )
    found = asked(store)
    assert ids(found) == ["b", "c", "a"]


def test_a_contradicted_lesson_is_weakened_and_not_repeated_first(store: Store) -> None:
    keep(store, lesson("a", "thin vessels", support=3), lesson("b", "thin vessels of the lung"))
    assert ids(asked(store)) == ["a", "b"]
    store._connection.update("lesson", "a", {"contra": 9})
    found = asked(store)
    assert ids(found) == ["b", "a"]
    assert weight(found[1].lesson) == pytest.approx(4 / 14)


def test_age_and_the_order_of_writing_count_for_nothing(tmp_path: Path) -> None:
    lessons = [
        lesson(f"{n:02}", f"thin vessels {'of the brain' if n % 3 else ''} {n}", layer, at=at)
        for n, (layer, at) in enumerate(zip(LAYERS * 6, range(24), strict=True))
    ]
    told = []
    for number in range(3):
        order = [replace(one, at=one.at * (-1) ** number) for one in lessons]
        random.Random(number).shuffle(order)
        with Store.create(tmp_path / f"{number}.db", CAMPAIGN) as store:
            store.add_trial(TRIAL)
            keep(store, *order)
            embed_lessons(store, Spelling())
            both = [asked(store), asked(store, embedder=Spelling()), asked(store, "")]
            told.append([[(one.lesson.id, one.score, one.by) for one in part] for part in both])
    assert told[0] == told[1] == told[2]
    assert all(told[0])


def test_ties_go_by_id(store: Store) -> None:
    keep(store, *(lesson(key, f"vessels {key}") for key in ("d", "b", "a", "c")))
    found = asked(store, "vessels")
    assert len({one.score for one in found}) == 1
    assert ids(found) == ["a", "b", "c", "d"]


def test_near_duplicates_come_once(store: Store) -> None:
    text = "attention gates on the skips help where the vessels of a class are thin"
    keep(store, lesson("a", text), lesson("b", f"{text}!", "campaign"), lesson("c", text.upper()))
    keep(store, lesson("d", text.replace("attention", "squeeze"), "branch", effect=0.1))
    assert ids(asked(store, "vessels")) == ["a", "d"]


def test_a_text_in_other_words_comes_once_and_one_with_other_numbers_twice(store: Store) -> None:
    keep(store, lesson("a", "one says it so"), lesson("b", "two puts the same another way"))
    keep(store, lesson("c", "three says it with 0.5 Dice"), lesson("d", "four by skips"))
    store._connection.insert([lesson("e", "five by gates", components=("gate",))])
    model = Told(
        one=(1, 0), two=(1, 0.2), three=(1, 0.3), four=(1, 0.9), five=(1, 0.1), query=(1, 0)
    )
    embed_lessons(store, model)
    assert ids(asked(store, "query", embedder=model)) == ["a", "e", "c", "d"]


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"effect": 0.2}, True),
        ({"effect": -0.1}, False),
        ({"kind": "dead_end"}, False),
        ({"text": "gates 0.25"}, False),
        ({"text": "GATES, 0.5"}, True),
    ],
)
def test_what_says_the_same(change: Figures, is_same: bool) -> None:
    one = lesson("a", "gates 0.5", effect=0.1)
    assert say_the_same(one, replace(one, **change), 0.99) is is_same


@pytest.mark.parametrize("query", ["", "?!*", '"', "_", "\udc80", "zebra", "NEAR(", "AND OR NOT"])
def test_without_a_match_the_best_founded_are_told(store: Store, query: str) -> None:
    keep(
        store,
        lesson("a", "thin vessels", effect=0.001),
        lesson("b", "small organs", effect=-0.2),
        lesson("c", "large organs", support=4),
        lesson("d", "dark images", contra=4),
    )
    found = asked(store, query)
    assert ids(found) == ["c", "b", "a", "d"]
    assert {one.by for one in found} == {"evidence"}


def test_a_store_without_lessons_tells_nothing(store: Store) -> None:
    assert embed_lessons(store, Spelling()) == 0
    assert asked(store, embedder=Spelling()) == []
    assert asked(store, "") == []


def test_rare_words_count_first_and_common_ones_still_find(store: Store) -> None:
    many = [lesson(f"{n:05}", f"dice fell again {n}") for n in range(MATCHES + 20)]
    keep(store, *many, lesson("x", "dice fell on thin vessels"), lesson("y", "vessels dice"))
    assert ids(asked(store, "dice fell vessels again")) == ["y", "x"]  # the shorter text first
    common = asked(store, "dice fell", limit=5)
    assert len(common) == 5
    assert {one.by for one in common} == {"words"}


def test_as_many_as_are_asked_for_are_told(store: Store) -> None:
    keep(store, *(lesson(f"{n:03}", f"vessels {n}") for n in range(3 * DEPTH)))
    keep(store, lesson("x", "vessels in long words about the campaign", "campaign"))
    found = asked(store, "vessels", limit=2 * DEPTH)
    assert len(found) == 2 * DEPTH
    assert "x" in ids(found)
    assert len(asked(store, "vessels", limit=1000)) == 3 * DEPTH + 1


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(query=st.text(max_size=80))
def test_any_text_may_be_asked(store: Store, query: str) -> None:
    store.add_lesson(LESSON)
    embed_lessons(store, Spelling())
    assert ids(asked(store, query, embedder=Spelling())) == ["l"]


def test_vectors_are_made_once_and_read_as_they_come(store: Store, path: Path) -> None:
    model = Spelling()
    keep(store, lesson("a", "thin vessels"), lesson("b", "small organs"))
    assert embed_lessons(store, model) == 2
    assert embed_lessons(store, model) == 0
    assert len(matrix(store, model.name).lessons) == 2
    with Store.open(path) as other:
        keep(other, *(lesson(f"n{n}", f"thin vessel {n}") for n in range(5)))
        assert embed_lessons(other, model) == 5
        assert len(matrix(other, model.name).lessons) == 7
    assert matrix(store, model.name) is matrix(store, model.name)
    assert len(matrix(store, model.name).lessons) == 7
    assert matrix(store, "another").lessons == []
    near = matrix(store, model.name).nearest(model.embed(["thin vessels"])[0], ["trial"], 2)
    assert [one.lesson for one in near] == ["a", "n0"]
    assert near[0].cosine == pytest.approx(1, abs=1e-3)  # float16 as it is stored


def test_the_nearest_are_found_among_many(store: Store) -> None:
    made = unit(np.random.default_rng(0).standard_normal((1500, 64)))
    keep(store, *(lesson(f"{n:04}", f"{n}") for n in range(len(made))))
    rows = [(f"{n:04}", "m", row.astype("<f2").tobytes()) for n, row in enumerate(made)]
    known = []
    for part in (rows[:700], rows[700:701], rows[701:]):
        with store.transaction():
            for row in part:
                sql = "INSERT INTO lesson_vector (lesson, model, vector) VALUES (?, ?, ?)"
                store._connection.database.execute(sql, row)
        known.append(matrix(store, "m"))
    assert known[0] is known[2]
    for place in (0, 699, 700, 1499):
        near = known[2].nearest(made[place], ["trial"], 5)
        expected = np.argsort(-(made @ made[place]))[:5]
        assert [int(one.lesson) for one in near] == expected.tolist()
        assert known[2].cosine(near[0].lesson, near[1].lesson) == pytest.approx(
            near[1].cosine, abs=2e-3
        )


def test_a_lesson_that_went_is_told_no_more(store: Store) -> None:
    model = Spelling()
    keep(store, lesson("a", "thin vessels"), lesson("x", "thin vessels far away", "library"))
    embed_lessons(store, model)
    assert set(ids(asked(store, embedder=model))) == {"a", "x"}
    store._connection.database.execute("DELETE FROM lesson WHERE source = 'other'")
    assert ids(asked(store, embedder=model)) == ["a"]
    keep(store, lesson("y", "thin vessels near"))
    embed_lessons(store, model)
    assert set(ids(asked(store, embedder=model))) == {"a", "y"}
    assert set(matrix(store, model.name).lessons) == {"a", "y"}


def test_reading_only_is_enough_to_recall_and_not_to_keep_vectors(store: Store, path: Path) -> None:
    keep(store, LESSON)
    with Store.open(path, read_only=True) as reader:
        assert ids(asked(reader, embedder=Spelling())) == ["l"]
        with pytest.raises(StoreError, match="reading only"):
            embed_lessons(reader, Spelling())
    embed_lessons(store, Spelling())
    with Store.open(path, read_only=True) as reader:
        assert [one.by for one in asked(reader, embedder=Spelling())] == ["both"]


def test_vectors_of_another_length_are_named(store: Store) -> None:
    keep(store, lesson("a", "one"), lesson("b", "two"))
    rows = [("a", "m", b"\0\0"), ("b", "m", b"\0\0\0\0")]
    for row in rows:
        store._connection.database.execute(
            "INSERT INTO lesson_vector (lesson, model, vector) VALUES (?, ?, ?)", row
        )
    with pytest.raises(StoreError, match=r"vectors of 'm' have \[2, 4\] bytes"):
        matrix(store, "m")


def test_ranks_are_fused_by_their_reciprocals() -> None:
    first = ranks([("a", 3.0), ("b", 1.0), ("c", 3.0), ("d", 0.5)])
    assert first == {"a": 1, "c": 1, "b": 3, "d": 4}
    both = fused([first, {"b": 1}])
    assert both["b"] == pytest.approx(1 / 63 + 1 / 61)
    assert both["a"] == both["c"] == pytest.approx(1 / 61)
    assert fused([]) == {}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (HERE, 1.0),
        ({"modality": "CT", "dims": 2, "cases": 1, "traits": ["few"]}, 0.25),
        ({}, 0.625),
        (HERE | {"dims": 2}, 0.25 + 0.75 * 3 / 4),
        (HERE | {"cases": 10}, 0.25 + 0.75 * 3.5 / 4),
        (HERE | {"cases": 10**400}, 0.25 + 0.75 * 3 / 4),
        (HERE | {"traits": ["small"]}, 0.25 + 0.75 * 3.5 / 4),
        (HERE | {"traits": "small", "cases": "many"}, 0.25 + 0.75 * 3 / 4),
        (HERE | {"traits": [["thin"], 3], "cases": -1}, 0.25 + 0.75 * 2.5 / 4),
    ],
)
def test_closeness_of_conditions(seen: Figures, expected: float) -> None:
    assert closeness(seen, HERE) == pytest.approx(expected)
    assert closeness(HERE, seen) == pytest.approx(expected)


def test_a_lesson_of_the_own_campaign_without_conditions_has_todays(store: Store) -> None:
    keep(store, lesson("a", "thin vessels"), lesson("x", "thin vessels far", "library"))
    own, other = asked(store)
    assert (own.lesson.id, other.lesson.id) == ("a", "x")
    assert own.score == pytest.approx(1 / 61 * 2 / 3)
    assert other.score == pytest.approx(1 / 62 * 0.625 * 2 / 3)


def test_a_lesson_takes_the_place_of_the_one_of_its_topic(store: Store) -> None:
    about = {"layer": "campaign", "topic": "effect/gate"}
    first, second = lesson("a", "thin vessels gain", **about), lesson("b", "thin lose", **about)
    other = lesson("o", "thin vessels elsewhere", "library", topic="effect/gate")
    for one in (first, other, second):
        store.add_lesson(one)
    assert store.lessons() == [other, second]
    assert [key for key, _ in matching(store, "vessels", LAYERS, 9)] == [other.id]
    assert [one.lesson.id for one in asked(store, limit=9)] == ["b", "o"]
    store.add_lesson(first)  # what held before holds again
    assert {one.lesson.id for one in asked(store, limit=9)} == {"a", "o"}
    assert store.lessons() == [first, other]


def test_a_component_that_is_named_brings_what_is_known_of_it(store: Store) -> None:
    crowd = [lesson(f"t{i}", f"gate number {i}", components=("gate",)) for i in range(MATCHES + 5)]
    known = lesson("k", "open question", "campaign", components=("gate",))
    other = lesson("n", "another question", "campaign", components=("mixer",))
    far = lesson("f", "seen elsewhere", "library", components=("Gate", "mixer"))
    rare = lesson("r", "a quokka was seen")
    keep(store, *crowd, known, other, far, rare)
    told = {one.lesson.id: one.by for one in asked(store, "quokka gate", limit=8)}
    assert told == {"r": "words", "k": "words", "f": "words"}
    assert "n" in {one.lesson.id for one in asked(store, "quokka gate mixer", limit=8)}


def test_many_versions_of_one_lesson_do_not_crowd_out_the_last(store: Store) -> None:
    for number in range(MATCHES // 4):
        store.add_lesson(lesson(f"v{number}", f"thin vessels, version {number}", topic="branch/b"))
    assert [one.lesson.id for one in asked(store, "thin vessels")] == [f"v{MATCHES // 4 - 1}"]


@pytest.mark.parametrize(
    ("before", "now", "share"),
    [(1000, 1000, 1.0), (1000, 10_000, 0.5), (100_000, 1000, 0.05), (387, 250_000, 0.05)],
)
def test_trainings_of_another_length_count_less(before: int, now: int, share: float) -> None:
    here = HERE | {"iterations": now}
    assert closeness(HERE | {"iterations": before}, here) == pytest.approx(share)
    assert closeness(HERE, here) == closeness(here, HERE) == 1.0
