"""Records to rows of campaign.db and back.

A tuple or dictionary becomes canonical JSON, an enumeration its text. NaN and infinities are
refused by name, because SQLite would keep NaN as NULL without a word. Minus zero becomes zero,
as SQLite keeps it, so that a hash taken over rows is the same on every reading.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from math import isfinite
from operator import itemgetter
from typing import Any, TypeVar

from memory.errors import StoreError
from memory.records import (
    Branch,
    Campaign,
    CaseScore,
    Claim,
    Event,
    Fact,
    Kind,
    Lesson,
    LlmCall,
    Metric,
    Module,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    TestAccess,
    Trial,
    canonical,
)

Column = str | int | float | None
Row = tuple[Any, ...]
R = TypeVar("R")

TABLES: dict[type, str] = {
    Campaign: "campaign",
    SplitCase: "split",
    Proposal: "proposal",
    Branch: "branch",
    Trial: "trial",
    CaseScore: "case_score",
    Event: "event",
    Fact: "fact",
    Lesson: "lesson",
    LlmCall: "llm_call",
    TestAccess: "test_access",
    Claim: "claim",
}

TRIAL_CHOICES = (
    *("id", "parent", "branch", "proposal", "commit"),
    *("kind", "rung", "seed", "split", "batch_size", "fold"),
)

# What makes two rows with one id the same record. The rest of a row is timed, filled in later,
# or measured on what was there when the step first ran: of those the first one stays.
IDENTITY: dict[type, tuple[str, ...]] = {
    Trial: TRIAL_CHOICES,
    Branch: ("id", "proposal"),
    LlmCall: ("id", "role", "model", "prompt_hash", "prompt"),
    Lesson: ("id", "layer"),
}


def _not_finite(text: str) -> Any:
    raise ValueError(text)


# One decoder for all: json.loads would make another for each column.
_loads: Callable[[str], Any] = json.JSONDecoder(parse_constant=_not_finite).decode


def _tuple(text: str) -> tuple[str, ...]:
    return tuple(_loads(text))


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _modules(text: str) -> tuple[Module, ...]:
    return tuple(Module(m["component"], m["position"], tuple(m["stages"])) for m in _loads(text))


_READERS: dict[type, dict[str, Callable[[Any], Any]]] = {
    Campaign: dict.fromkeys(("config", "dataset", "environment", "protocol"), _loads),
    SplitCase: {"split": SplitName},
    Proposal: {"modules": _modules, "citations": _tuple, "detail": _loads},
    LlmCall: {"is_cached": bool},
    Trial: {"kind": Kind, "split": SplitName, "status": Status, "checkpointing": _flag},
    CaseScore: {"metric": Metric},
    Event: {"figures": _loads},
    Fact: {"sources": _tuple},
    Lesson: {
        "evidence": _tuple,
        "components": _tuple,
        "conditions": _loads,
        "is_replaced": bool,
    },
    TestAccess: {"trials": _tuple},
    Claim: {
        "metric": Metric,
        "trials": _tuple,
        "baseline_trials": _tuple,
        "figures": _loads,
    },
}


def _number(value: float, where: str) -> float:
    if not isfinite(value):
        raise StoreError(
            f"{where} is {value!r}; a stored number is finite, and an undefined one is None"
        )
    return float(value) + 0.0


def _json(value: Any, where: str) -> Any:
    """Return a value that canonical JSON can say, or name the part that it cannot."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return _number(value, where)
    if isinstance(value, Module):
        parts = ((f.name, getattr(value, f.name)) for f in fields(value))
        return {name: _json(part, f"{where}.{name}") for name, part in parts}
    if isinstance(value, list | tuple):
        return [_json(part, f"{where}[{place}]") for place, part in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {str(key): _json(part, f"{where}.{key}") for key, part in value.items()}
    raise StoreError(f"{where} is a {type(value).__name__}, which JSON cannot say: {value!r:.60}")


def to_column(value: Any, *, where: str) -> Column:
    """Return one value as SQLite keeps it; `where` is its name in an error.

    Lone surrogates, which SQLite cannot keep, are written as their backslash escapes.

    Raises:
        StoreError: NaN, an infinity, an integer beyond 64 bits, or a type that has no column.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise StoreError(f"{where} is {value!r}; a stored integer has at most 64 bits")
        return int(value)
    if isinstance(value, float):
        return _number(value, where)
    if isinstance(value, tuple | list | dict):
        return canonical(_json(value, where))
    raise StoreError(f"{where} is a {type(value).__name__}, which has no column: {value!r:.60}")


def to_row(record: Any) -> dict[str, Column]:
    """Return a record as a row of its table.

    Raises:
        StoreError: a field holds what `to_column` refuses.
    """
    table = TABLES[type(record)]
    return {
        f.name: to_column(getattr(record, f.name), where=f"{table}.{f.name}")
        for f in fields(record)
    }


def from_row(kind: type[R], row: Mapping[str, Any]) -> R:
    """Return the record that a row of its table says.

    Raises:
        StoreError: a column holds what the record does not allow.
    """
    return from_rows(kind, list(row), [tuple(row.values())])[0]


def from_rows(kind: type[R], columns: Sequence[str], rows: Iterable[Row]) -> list[R]:
    """Return the records that rows of their table say.

    Args:
        kind: the type of the records.
        columns: names of the columns, those of the record among them.
        rows: values in the order of `columns`.

    Raises:
        StoreError: a column holds what the record does not allow.
    """
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    ordered = itemgetter(*(columns.index(name) for name in names))  # no record has one field
    own = _READERS.get(kind, {})
    readers = [(place, own[name]) for place, name in enumerate(names) if name in own]
    found = []
    for row in rows:
        values = list(ordered(row))
        try:
            for value in values:
                if value.__class__ is float and not isfinite(value):
                    raise ValueError(value)
            for place, read in readers:
                values[place] = read(values[place])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _unreadable(kind, dict(zip(columns, row, strict=True))) from error
        found.append(kind(*values))
    return found


def _unreadable(kind: type, row: Mapping[str, Any]) -> StoreError:
    """Return the error that names the first column of a row that cannot be read."""
    readers = _READERS.get(kind, {})
    for name in (f.name for f in fields(kind)):
        place, value = f"{TABLES[kind]}.{name}", row[name]
        try:
            if isinstance(value, float):
                _number(value, place)
            if name in readers:
                readers[name](value)
        except StoreError as error:
            return error
        except (ValueError, TypeError, KeyError, RecursionError):
            return StoreError(f"{place} holds {value!r:.60}, which cannot be read")
    raise AssertionError(f"every column of this {TABLES[kind]} can be read")


def same_record(kind: type, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return the first column in which two rows of one id differ, or None."""
    names: Iterable[str] = IDENTITY.get(kind, tuple(wanted))
    return next((name for name in names if stored[name] != wanted[name]), None)


def enumerations() -> dict[str, type[StrEnum]]:
    """Return the enumerations that the schema writes out, by table.column."""
    return {
        f"{TABLES[kind]}.{name}": reader
        for kind, readers in _READERS.items()
        for name, reader in readers.items()
        if isinstance(reader, type) and issubclass(reader, StrEnum)
    }
