"""The types of a diagnosis: round trips, and everything that is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.suggestions import (
    CATEGORIES,
    EXPECTED_CHARACTERS,
    MOST_CLUES,
    TEXT_CHARACTERS,
    Clue,
    Diagnosis,
    Suggestion,
    faults,
    parse,
    plain,
)
from memory.errors import PlannerError, StoreError
from memory.records import Module

CLUE = Clue("overall.delta", "Dice differs by -1.0 points (SE 0.4)", -0.01, "Dice", 0.004, 16)
BARE = Clue("calibration", "calibration is not known", None, "")
GATE = Module("attention_gate", "skip", (0, 1))


def five() -> tuple[Suggestion, ...]:
    return tuple(
        Suggestion(name, f"Change {name}.", ("overall.delta",), "A higher Dice.", (GATE,))
        for name in CATEGORIES
    )


DIAGNOSIS = Diagnosis("t1", "loss", (CLUE, BARE), five(), "rules")


def test_a_diagnosis_comes_back_from_its_figures() -> None:
    stored = json.loads(json.dumps(plain(DIAGNOSIS), allow_nan=False))
    assert parse(stored) == DIAGNOSIS


def test_modules_may_stay_and_be_empty() -> None:
    kept = replace(five()[0], modules=None)
    none = replace(five()[1], modules=())
    made = replace(DIAGNOSIS, suggestions=(kept, none, *five()[2:]))
    assert parse(plain(made)).suggestions[:2] == (kept, none)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    value=st.none() | NUMBERS,
    se=st.none() | NUMBERS,
    count=st.none() | st.integers(0, 10**6),
    mode=st.sampled_from(("loss", "failure")),
    order=st.permutations(five()),
)
def test_any_numbers_and_orders_come_back(
    value: float | None,
    se: float | None,
    count: int | None,
    mode: str,
    order: list[Suggestion],
) -> None:
    clue = replace(CLUE, value=value, se=se, count=count)
    made = Diagnosis("t1", mode, (clue,), tuple(order), "local")
    assert parse(json.loads(json.dumps(plain(made)))) == made


BROKEN: dict[str, dict[str, Any]] = {
    "no trial": {"trial": ""},
    "nobody": {"by": ""},
    "mode": {"mode": "win"},
    "key twice": {"clues": (CLUE, CLUE)},
    "odd key": {"clues": (CLUE, replace(BARE, key="a key"))},
    "long key": {"clues": (CLUE, replace(BARE, key="k" * 81))},
    "no text": {"clues": (CLUE, replace(BARE, text=" "))},
    "long text": {"clues": (CLUE, replace(BARE, text="x" * (TEXT_CHARACTERS + 1)))},
    "two lines": {"clues": (CLUE, replace(BARE, text="a\nb"))},
    "escape": {"clues": (CLUE, replace(BARE, text="a\x1b[31mb"))},
    "not finite": {"clues": (replace(CLUE, value=float("nan")),)},
    "infinite error": {"clues": (replace(CLUE, se=float("inf")),)},
    "too many clues": {"clues": (CLUE, *(replace(BARE, key=f"k{i}") for i in range(MOST_CLUES)))},
    "four": {"suggestions": five()[:4]},
    "twice": {"suggestions": (*five()[:4], five()[0])},
    "category": {"suggestions": (*five()[:4], replace(five()[4], category="luck"))},
    "no clue": {"suggestions": (*five()[:4], replace(five()[4], clues=()))},
    "unknown clue": {"suggestions": (*five()[:4], replace(five()[4], clues=("else",)))},
    "no effect": {"suggestions": (*five()[:4], replace(five()[4], expected=""))},
    "long effect": {
        "suggestions": (*five()[:4], replace(five()[4], expected="x" * (EXPECTED_CHARACTERS + 1)))
    },
    "no audit": {"mode": "best", "suggestions": ()},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_diagnosis_is_neither_kept_nor_read(name: str) -> None:
    made = replace(DIAGNOSIS, **BROKEN[name])
    assert faults(made)
    with pytest.raises(PlannerError, match="cannot be kept"):
        plain(made)


def test_best_may_have_fewer_and_one_category() -> None:
    gap = five()[4]
    assert faults(replace(DIAGNOSIS, mode="best", suggestions=(gap, gap))) == []


def figures() -> dict[str, Any]:
    return plain(DIAGNOSIS)


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return the figures with one entry replaced; a value of ... takes it away."""
    whole = figures()
    place: Any = whole
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("trial",), ...),
        (("mode",), 3),
        (("by",), None),
        (("clues",), None),
        (("clues", 0), "text"),
        (("clues", 0, "value"), "0.1"),
        (("clues", 0, "value"), True),
        (("clues", 0, "count"), 1.5),
        (("suggestions", 0, "clues"), [3]),
        (("suggestions", 0, "modules"), [{"component": "x"}]),
        (("suggestions", 0, "modules", 0, "stages"), ["0"]),
        (("suggestions", 0, "category"), "luck"),
        (("suggestions",), []),
    ],
)
def test_foreign_figures_are_refused(path: tuple[str | int, ...], value: object) -> None:
    with pytest.raises(StoreError, match="diagnosis"):
        parse(changed(path, value))


def test_figures_of_another_event_are_refused() -> None:
    with pytest.raises(StoreError, match="no diagnosis"):
        parse({"delta": 0.1})
