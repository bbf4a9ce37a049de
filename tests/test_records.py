"""Identifiers and hashes of records: the same on every machine, and for every order."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import records
from memory.records import CaseScore, Kind, Metric, SplitName, Status, Trial

TRIAL = Trial("", None, "b", "p", "c0ffee", Kind.DRAFT, 0, 1, SplitName.SEARCH_VAL)

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
scores = st.builds(
    CaseScore,
    trial=st.just("t"),
    case=st.text(max_size=5),
    label=st.text(max_size=5),
    metric=st.sampled_from(Metric),
    value=st.floats(0, 1),
)


@given(values)
def test_canonical_json_is_read_back_and_written_the_same(value: object) -> None:
    text = records.canonical(value)
    assert json.loads(text) == value
    assert records.canonical(json.loads(text)) == text


@given(st.dictionaries(st.text(), values))
def test_the_order_of_keys_changes_no_digest(value: dict[str, object]) -> None:
    assert records.digest(value) == records.digest(dict(reversed(value.items())))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_canonical_refuses_what_json_has_no_word_for(bad: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        records.canonical({"a": [bad]})


def test_a_digest_is_the_same_for_ever() -> None:
    assert records.canonical({"b": [1, 0.5, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,0.5,null]}'
    assert records.digest([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    assert records.short_id([]) == "4f53cda18c2b"


def test_a_trial_id_is_made_of_its_choices_alone() -> None:
    ended = replace(TRIAL, status=Status.OK, seconds=3.0, title="x", id="whatever")
    assert records.trial_id(ended) == records.trial_id(TRIAL)


@pytest.mark.parametrize(
    "change",
    [
        {"parent": "a"},
        {"branch": "c"},
        {"commit": None},
        {"kind": Kind.IMPROVE},
        {"rung": 1},
        {"seed": 2},
        {"split": SplitName.LOCKED_TEST},
    ],
    ids=str,
)
def test_every_choice_changes_a_trial_id(change: dict[str, object]) -> None:
    changed = replace(TRIAL, **change)  # type: ignore[arg-type]
    assert records.trial_id(changed) != records.trial_id(TRIAL)


@given(st.lists(scores, max_size=6).flatmap(lambda s: st.tuples(st.just(s), st.permutations(s))))
def test_the_order_of_scores_changes_no_hash(pair: tuple[list[CaseScore], list[CaseScore]]) -> None:
    assert records.scores_hash(pair[0]) == records.scores_hash(pair[1])


@given(st.lists(scores, min_size=1, max_size=4), st.data())
def test_one_other_value_changes_the_hash(given_: list[CaseScore], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(given_) - 1))
    old = given_[place]
    assert old.value is not None
    other = [*given_[:place], replace(old, value=old.value + 1), *given_[place + 1 :]]
    assert records.scores_hash(other) != records.scores_hash(given_)


def test_final_is_everything_but_planned_and_running() -> None:
    assert {s for s in Status if not s.is_final} == {Status.PLANNED, Status.RUNNING}


def test_plain_gives_json_types() -> None:
    made = records.plain(
        records.Proposal("p", "t", "m", (records.Module("x", "skip", (0, 1)),), "r", ("c",), "g")
    )
    assert made["modules"] == [{"component": "x", "position": "skip", "stages": [0, 1]}]
    assert json.loads(records.canonical(made)) == made


def test_a_smaller_batch_is_part_of_the_id_and_the_planned_one_is_not() -> None:
    trial = records.Trial(
        "", None, None, None, None, records.Kind.BASELINE, 0, 1, records.SplitName.SEARCH_VAL
    )
    smaller = replace(trial, batch_size=4)
    assert records.trial_id(trial) == "213576b637a4"
    assert records.trial_id(smaller) != records.trial_id(trial)
    assert records.trial_id(smaller) != records.trial_id(replace(smaller, batch_size=2))
    assert records.trial_id(replace(smaller, checkpointing=True)) == records.trial_id(smaller)
