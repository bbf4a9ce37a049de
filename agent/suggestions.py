"""What a diagnosis is made of: clues, suggestions that rest on them, and their plain form. Pure.

Whoever diagnoses, rules or a language model, hands over the same types, and the same checks
decide whether they are kept. A clue is computed by our own code; a suggestion names the clues it
rests on and types no number of its own.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memory.errors import PlannerError, StoreError
from memory.records import Figures, Module
from memory.records import plain as plain_record
from sandbox.clean import clean_text

CATEGORIES = ("architecture", "capacity", "optimisation", "code", "gap")
MODES = ("loss", "failure", "best")
TEXT_CHARACTERS = 700
EXPECTED_CHARACTERS = 300
MOST_CLUES = 160
MOST_SUGGESTIONS = len(CATEGORIES)
FAILURE = "failure.class."
"""The key of the clue that says how a trial failed begins so, and ends with the class."""
KEY = re.compile(r"[A-Za-z][\w.\-]{0,79}")


@dataclass(frozen=True, slots=True)
class Clue:
    """One computed piece of evidence, e.g. key class.liver.delta.

    `text` is one line of at most 700 characters. `value` is in `unit`, None where there is no
    number; `se` is its standard error in the same unit, `count` how many cases, parts or trainings
    it rests on; None where it has none.
    """

    key: str
    text: str
    value: float | None
    unit: str
    se: float | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to change next, and why.

    `clues` are the keys it rests on; `expected` says in which metric, of which class, an effect
    would show and in which direction; `modules` is what the child network has after the change,
    None where the set stays.
    """

    category: str
    text: str
    clues: tuple[str, ...]
    expected: str
    modules: tuple[Module, ...] | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of one trial and what follows; `by` is "rules" or an endpoint's name.

    A loss or failure has five suggestions, one of each category, those with most evidence first.
    Mode best is an audit of the proposal against its network: one to five suggestions.
    """

    trial: str
    mode: str
    clues: tuple[Clue, ...]
    suggestions: tuple[Suggestion, ...]
    by: str


def plain(diagnosis: Diagnosis) -> Figures:
    """Return a diagnosis as the figures of an event.

    Raises:
        PlannerError: it breaks a rule of `faults`.
    """
    if found := faults(diagnosis):
        raise PlannerError(f"a diagnosis of {diagnosis.trial!r} cannot be kept: {found[0]}")
    return plain_record(diagnosis)


def parse(figures: Mapping[str, Any]) -> Diagnosis:
    """Return the diagnosis that an event's figures hold.

    Raises:
        StoreError: they hold none, or one that breaks a rule of `faults`.
    """
    try:
        found = Diagnosis(
            trial=_text(figures["trial"]),
            mode=_text(figures["mode"]),
            clues=tuple(_clue(row) for row in figures["clues"]),
            suggestions=tuple(_suggestion(row) for row in figures["suggestions"]),
            by=_text(figures["by"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"these figures hold no diagnosis: {error!r}") from None
    if wrong := faults(found):
        raise StoreError(f"the stored diagnosis of {found.trial!r} breaks a rule: {wrong[0]}")
    return found


def faults(diagnosis: Diagnosis) -> list[str]:
    """Return why a diagnosis cannot be kept, one sentence each; empty when it can."""
    found = []
    if not diagnosis.trial or not diagnosis.by:
        found.append("it names no trial or nobody who made it")
    if diagnosis.mode not in MODES:
        found.append(f"its mode is {diagnosis.mode!r}; allowed: {', '.join(MODES)}")
    found += _clue_faults(diagnosis.clues)
    keys = {clue.key for clue in diagnosis.clues}
    for number, suggestion in enumerate(diagnosis.suggestions):
        found += [f"suggestion {number}: {text}" for text in suggestion_faults(suggestion, keys)]
    return [*found, *_set_faults(diagnosis)]


def suggestion_faults(suggestion: Suggestion, keys: set[str]) -> list[str]:
    """Return why a suggestion cannot be kept beside clues with these keys; empty when it can."""
    found = []
    if suggestion.category not in CATEGORIES:
        allowed = ", ".join(CATEGORIES)
        found.append(f"its category is {suggestion.category!r}; allowed: {allowed}")
    found += _text_faults("text", suggestion.text, TEXT_CHARACTERS)
    found += _text_faults("expected effect", suggestion.expected, EXPECTED_CHARACTERS)
    if not suggestion.clues:
        found.append("it rests on no clue")
    found += [f"there is no clue {key!r:.90}" for key in suggestion.clues if key not in keys]
    return found


def _clue_faults(clues: tuple[Clue, ...]) -> Iterator[str]:
    if len(clues) > MOST_CLUES:
        yield f"it has {len(clues)} clues; allowed: {MOST_CLUES}"
    twice = [key for key, count in Counter(clue.key for clue in clues).items() if count > 1]
    yield from (f"clue {key!r} is there twice" for key in twice)
    for clue in clues:
        if not KEY.fullmatch(clue.key):
            yield f"clue {clue.key!r:.90} has no plain key"
        yield from _text_faults(f"clue {clue.key!r:.90}", clue.text, TEXT_CHARACTERS)
        if not all(n is None or math.isfinite(n) for n in (clue.value, clue.se, clue.count)):
            yield f"clue {clue.key!r:.90} has a number that is not finite"


def _text_faults(what: str, text: str, most: int) -> Iterator[str]:
    if not text.strip() or len(text) > most:
        yield f"{what} has {len(text)} characters; allowed: 1 to {most}"
    if "\n" in text or clean_text(text) != text:
        yield f"{what} holds a line end or a control character"


def _set_faults(diagnosis: Diagnosis) -> Iterator[str]:
    count = len(diagnosis.suggestions)
    if diagnosis.mode == "best":
        if not 1 <= count <= MOST_SUGGESTIONS:
            yield f"it has {count} suggestions; allowed: 1 to {MOST_SUGGESTIONS}"
    elif sorted(s.category for s in diagnosis.suggestions) != sorted(CATEGORIES):
        yield f"its suggestions are not one of each category: {', '.join(CATEGORIES)}"


def _clue(row: Mapping[str, Any]) -> Clue:
    return Clue(
        key=_text(row["key"]),
        text=_text(row["text"]),
        value=_number(row["value"]),
        unit=_text(row["unit"]),
        se=_number(row.get("se")),
        count=None if row.get("count") is None else _whole(row["count"]),
    )


def _suggestion(row: Mapping[str, Any]) -> Suggestion:
    modules = row.get("modules")
    return Suggestion(
        category=_text(row["category"]),
        text=_text(row["text"]),
        clues=tuple(_text(key) for key in row["clues"]),
        expected=_text(row["expected"]),
        modules=None if modules is None else tuple(_module(one) for one in modules),
    )


def _module(row: Mapping[str, Any]) -> Module:
    stages = tuple(_whole(stage) for stage in row["stages"])
    return Module(_text(row["component"]), _text(row["position"]), stages)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.60} is no number")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r:.60} is no whole number")
    return value
