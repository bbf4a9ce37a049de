"""Records to rows and back through SQLite itself, for any value that a record may hold."""

import sqlite3
from contextlib import closing
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import records
from memory.errors import StoreError
from memory.migrations import migrate
from memory.rows import TABLES, from_row, to_row

FINITE = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=0, allow_infinity=False)
OPTIONAL = st.none() | POSITIVE
COUNT = st.integers(0, 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | FINITE | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIGURES = st.dictionaries(st.text(), JSON, max_size=4)
UNIT = st.floats(0, 1)
MODULE = st.builds(records.Module, stages=st.lists(st.integers(0, 9)).map(tuple))
STRINGS = st.lists(st.text(), max_size=3).map(tuple)
SPECIAL: dict[type, dict[str, Any]] = {
    records.Campaign: {
        "state": st.sampled_from(["new", "running", "paused", "stopped", "done"]),
        **dict.fromkeys(("config", "dataset", "environment", "protocol"), FIGURES),
    },
    records.SplitCase: {"foreground_mm3": POSITIVE},
    records.Proposal: {"modules": st.lists(MODULE, max_size=3).map(tuple)},
    records.Branch: {"state": st.sampled_from(["open", "cut"])},
    records.Trial: dict.fromkeys(("rung", "fold", "iterations", "parameters", "flops"), COUNT)
    | dict.fromkeys(("seconds", "gpu_seconds", "cpu_seconds", "peak_memory_mib"), OPTIONAL)
    | {"start": st.sampled_from([None, "cold", "warm"]), "batch_size": st.none() | st.just(4)},
    records.CaseScore: {"value": UNIT},
    records.Event: {"figures": FIGURES},
    records.Fact: {"value": FINITE | st.integers(-(2**63), 2**63 - 1) | st.text() | st.none()},
    records.Lesson: {
        # Of another campaign: an own one may cite only trials that are there.
        "layer": st.just("library"),
        "source": st.text(min_size=1),
        "kind": st.sampled_from(["finding", "failure", "effect", "dead_end", "question"]),
        "evidence": st.lists(st.text(), min_size=1, max_size=3).map(tuple),
        "effect_se": POSITIVE,
        "conditions": FIGURES,
        **dict.fromkeys(("support", "contra"), COUNT),
    },
    records.LlmCall: dict.fromkeys(("tokens_in", "tokens_out"), COUNT)
    | dict.fromkeys(("price_usd", "seconds"), POSITIVE),
    records.Claim: {
        "verdict": st.sampled_from(["better", "not_distinguishable", "exploratory"]),
        "figures": FIGURES,
    },
}
BY_TYPE = {
    float: FINITE,
    float | None: st.none() | FINITE,
    int: st.integers(-(2**63), 2**63 - 1),
    tuple[str, ...]: STRINGS,
}


@cache
def strategy(kind: type) -> st.SearchStrategy[Any]:
    given_ = {f.name: BY_TYPE[f.type] for f in fields(kind) if f.type in BY_TYPE}  # type: ignore[index]
    return st.builds(kind, **(given_ | SPECIAL.get(kind, {})))


@pytest.mark.parametrize("kind", TABLES, ids=TABLES.values())
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_record_survives_sqlite(kind: type, data: st.DataObject) -> None:
    record = data.draw(strategy(kind))
    row = to_row(record)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        migrate(conn)
        conn.row_factory = sqlite3.Row
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        sql = f'INSERT INTO "{TABLES[kind]}" ({names}) VALUES ({marks})'
        conn.execute(sql, list(row.values()))
        [stored] = conn.execute(f'SELECT * FROM "{TABLES[kind]}"').fetchall()
        assert set(stored.keys()) == set(row)
        assert dict(stored) == row
        assert from_row(kind, dict(stored)) == record


@given(FIGURES)
def test_a_json_column_is_canonical(figures: dict[str, Any]) -> None:
    row = to_row(records.Event("k", "t", figures))
    again = from_row(records.Event, row)
    assert to_row(again) == row
    assert "NaN" not in str(row["figures"]) or "NaN" in str(figures)


EVENT = to_row(records.Event("k", "t", {}))
SCORE = to_row(records.CaseScore("t", "c", "l", records.Metric.HD95, 1.0))


@pytest.mark.parametrize(
    ("kind", "row", "place"),
    [
        (records.Event, EVENT | {"figures": '{"a":NaN}'}, "event.figures holds"),
        (records.Event, EVENT | {"figures": "{"}, "event.figures holds"),
        (records.Event, EVENT | {"figures": "[" * 100_000}, "event.figures holds"),
        (records.Event, EVENT | {"at": float("inf")}, "event.at is inf"),
        (records.CaseScore, SCORE | {"metric": "iou"}, "case_score.metric holds 'iou'"),
        (records.CaseScore, SCORE | {"value": float("inf")}, "case_score.value is inf"),
    ],
    ids=range(6),
)
def test_a_row_that_is_no_record_is_named(kind: type, row: dict[str, Any], place: str) -> None:
    with pytest.raises(StoreError, match=place) as caught:
        from_row(kind, row)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["started_at", "seconds", "peak_memory_mib"])
def test_a_number_that_is_none_is_named(name: str, bad: float) -> None:
    trial = records.Trial(
        "t", None, None, None, None, records.Kind.DRAFT, 0, 1, records.SplitName.SEARCH_VAL
    )
    with pytest.raises(StoreError, match=rf"trial\.{name} is -?(nan|inf)"):
        to_row(replace(trial, **{name: bad}))  # type: ignore[arg-type]
