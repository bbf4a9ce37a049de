"""The store: what goes in comes out, once, whole, and by one process or four."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memory import records
from memory.errors import StoreError
from memory.recall import LAYERS, matching
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
    Trial,
)
from memory.store import Store

ROOT = Path(__file__).parent.parent
CAMPAIGN = Campaign("c", "demo", 1.5, "0.1", {"a": [1]}, {"n": "d"}, "dh", "sh", {"torch": "2"})
PROPOSAL = Proposal("p", "t", "m", (Module("x", "skip", (0, 1)),), "r", ("cite",), "grammar")
BRANCH = Branch("b", "p", "open", 2.0)
TRIAL = Trial("t", None, "b", "p", "c0ffee", Kind.DRAFT, 0, 1, SplitName.SEARCH_VAL, planned_at=3.0)
CASES = [
    SplitCase("c1", "p1", SplitName.SEARCH_TRAIN, 10.0, "i1", "l1"),
    SplitCase("c2", "p2", SplitName.LOCKED_TEST, 0.0, "i2", "l2"),
]
LESSON = Lesson("l", "trial", "axial attention helps on noisy slices", ("t",), 0.1, 0.05, ("ax",))
CALL = LlmCall("call", "planner", "m", "h", "prompt", "reply", 1, 2, 0.5, 1.5, 4.0)
CLAIM = Claim("cl", "b", Metric.DICE, "better", "text", ("t",), ("u",), {"p": 0.01})


def scores(trial: str = "t", count: int = 2) -> list[CaseScore]:
    first = [CaseScore(trial, f"c{n}", "organ", Metric.DICE, 0.25 + n / 8) for n in range(count)]
    return [*first, CaseScore(trial, "c0", "organ", Metric.HD95, None, "both masks are empty")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaign #1 100%.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.create(path, CAMPAIGN) as made:
        made.add_proposal(PROPOSAL)
        made.add_branch(BRANCH)
        made.add_trial(TRIAL)
        yield made


def test_every_record_comes_back_as_it_went_in(store: Store) -> None:
    event = Event("choice", "chose b", {"b": 0.5, "list": [1, None]}, "t", "b", 5.0)
    access = records.TestAccess("scorer", "confirmation", ("t",), 6.0)
    facts = [Fact("a", 1, "1", "cases", ("trial:t",)), Fact("b", None, "none", "", ())]
    facts += [Fact("c", 0.5, "0.50", "mm", ()), Fact("d", "word", "word", "", ())]
    store.add_split(CASES)
    store.add_lesson(LESSON)
    store.add_llm_call(CALL)
    store.add_claim(CLAIM)
    store.replace_facts(facts)
    assert (store.add_event(event), store.add_event(event)) == (1, 2)
    assert (store.add_test_access(access), store.add_test_access(access)) == (1, 2)
    assert store.campaign() == CAMPAIGN
    assert store.split() == CASES
    assert store.split(SplitName.LOCKED_TEST) == CASES[1:]
    assert store.proposals() == [PROPOSAL] == [store.proposal("p")]
    assert store.branches() == [BRANCH]
    assert store.trials() == [TRIAL] == [store.trial("t")]
    assert store.lessons() == [LESSON] == store.lessons("trial")
    assert store.lessons("library") == []
    assert store.llm_calls() == [CALL]
    assert store.claims() == [CLAIM]
    assert store.event(2) == replace(event, id=2)
    assert store.test_accesses() == [replace(access, id=1), replace(access, id=2)]
    assert list(store.facts().values()) == facts
    assert [type(f.value) for f in store.facts().values()] == [int, type(None), float, str]


def test_writing_a_record_again_changes_nothing(store: Store) -> None:
    store.add_split(CASES)
    for add, record in [
        (store.add_proposal, PROPOSAL),
        (store.add_branch, replace(BRANCH, opened_at=9.0)),
        (store.add_trial, replace(TRIAL, planned_at=9.0)),
        (store.add_lesson, LESSON),
        (store.add_lesson, replace(LESSON, at=9.0, effect=0.2)),
        (store.add_llm_call, CALL),
        (store.add_llm_call, replace(CALL, reply="another")),
        (store.add_claim, CLAIM),
        (store.add_claim, CLAIM),
        (store.add_split, tuple(reversed(CASES))),
    ]:
        add(record)  # type: ignore[operator]
    assert store.proposals() == [PROPOSAL]
    assert store.branches() == [BRANCH]
    assert store.trials() == [TRIAL]
    assert store.lessons() == [LESSON]
    assert store.llm_calls() == [CALL]
    assert store.claims() == [CLAIM]
    assert store.split() == CASES


def test_another_record_with_the_same_id_is_refused(store: Store) -> None:
    store.add_claim(CLAIM)
    store.add_split(CASES)
    with pytest.raises(StoreError, match="proposal p is stored with another title"):
        store.add_proposal(replace(PROPOSAL, title="else"))
    with pytest.raises(StoreError, match="trial t is stored with another seed"):
        store.add_trial(replace(TRIAL, seed=2))
    with pytest.raises(StoreError, match="claim cl is stored with another verdict"):
        store.add_claim(replace(CLAIM, verdict="worse"))
    with pytest.raises(StoreError, match="the split is locked"):
        store.add_split(CASES[:1])


def test_a_protocol_is_set_once(store: Store) -> None:
    store.set_protocol({"alpha": 0.05, "seeds": [1, 2]})
    store.set_protocol({"seeds": [1, 2], "alpha": 0.05})
    with pytest.raises(StoreError, match="never changed"):
        store.set_protocol({"alpha": 0.1})
    with pytest.raises(StoreError, match="never changed"):
        store.set_protocol({})
    assert store.campaign().protocol == {"alpha": 0.05, "seeds": [1, 2]}


def test_a_result_is_recorded_once_with_hash_and_event(store: Store) -> None:
    changes = {"status": "ok", "ended_at": 9.0, "seconds": 5, "parameters": 7}
    assert store.record_result("t", changes=changes, scores=scores()) is True
    trial = store.trial("t")
    assert (trial.status, trial.seconds, trial.parameters) == (Status.OK, 5.0, 7)
    assert sorted(store.case_scores("t"), key=str) == sorted(scores(), key=str)
    assert trial.scores_hash == records.scores_hash(scores())
    [event] = store.events(kind="trial_result")
    assert (event.trial, event.branch, event.at) == ("t", "b", 9.0)
    assert event.figures["scores_hash"] == trial.scores_hash

    again = {"status": Status.FAILED, "seconds": 99.0}
    assert store.record_result("t", changes=again, scores=[]) is False
    assert store.update_trial("t", seconds=99.0) is False
    assert store.trial("t") == trial
    assert len(store.events()) == 1


def test_the_hash_is_that_of_the_scores_as_they_are_read_back(store: Store) -> None:
    given = [replace(s, value=v) for s, v in zip(scores(), (1, -0.0, 0), strict=True)]
    store.record_result("t", changes={"status": "ok"}, scores=given)
    assert store.trial("t").scores_hash == records.scores_hash(store.case_scores("t"))


def test_a_failed_trial_has_no_scores(store: Store) -> None:
    changes = {"status": Status.OUT_OF_MEMORY, "failure_excerpt": "CUDA \udc80 \x1b[0m"}
    assert store.record_result("t", changes=changes, scores=[])
    assert store.case_scores("t") == []
    assert store.trial("t").scores_hash is None
    assert store.trial("t").failure_excerpt == "CUDA \\udc80 \x1b[0m"


SCORE = CaseScore("t", "c", "organ", Metric.DICE, 0.5)


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"status": "ok"}, [], "an ok trial has scores"),
        ({"status": "failed"}, [SCORE], "no other has any"),
        ({"status": "running"}, [SCORE], "no final status"),
        ({}, [SCORE], "no final status"),
        ({"status": "good"}, [SCORE], "no status 'good'; allowed: planned"),
        ({"status": "ok", "seed": 3}, [SCORE], "'seed' cannot be changed"),
        ({"status": "ok", "colour": 3}, [SCORE], "'colour' cannot be changed"),
        ({"status": "ok", "scores_hash": "x"}, [SCORE], "'scores_hash' cannot be changed"),
        ({"status": "ok", "seconds": float("nan")}, [SCORE], "trial.seconds is nan"),
        ({"status": "ok", "seconds": -1.0}, [SCORE], "CHECK constraint failed: seconds >= 0"),
        ({"status": "ok"}, [replace(SCORE, trial="u")], "a score of trial 'u'"),
        ({"status": "ok"}, [replace(SCORE, value=float("inf"))], "case_score.value is inf"),
        ({"status": "ok"}, [replace(SCORE, value=None)], "a missing value needs a reason"),
        ({"status": "ok"}, [replace(SCORE, value=None, reason="")], "needs a reason"),
        ({"status": "ok"}, [replace(SCORE, value=1.5)], "at most 1"),
        ({"status": "ok"}, [SCORE, SCORE], "UNIQUE constraint failed"),
    ],
)
def test_a_result_that_is_refused_leaves_nothing(
    store: Store, changes: dict[str, Any], given: list[CaseScore], message: str
) -> None:
    with pytest.raises(StoreError, match=re.escape(message)) as caught:
        store.record_result("t", changes=changes, scores=given)
    assert "\n" not in str(caught.value)
    assert store.trial("t") == TRIAL
    assert store.case_scores("t") == []
    assert store.events() == []


def test_a_trial_is_filled_in_until_it_is_final(store: Store) -> None:
    assert store.update_trial("t", status=Status.RUNNING, started_at=4.0, isolation="bwrap")
    assert store.trial("t") == replace(
        TRIAL, status=Status.RUNNING, started_at=4.0, isolation="bwrap"
    )
    with pytest.raises(StoreError, match="use record_result"):
        store.update_trial("t", status=Status.OK)
    with pytest.raises(StoreError, match="'commit' cannot be changed"):
        store.update_trial("t", commit="else")
    with pytest.raises(StoreError, match="no trial 'nobody'"):
        store.update_trial("nobody", seconds=1.0)


def test_trials_are_filtered_and_ordered(store: Store) -> None:
    base = replace(TRIAL, kind=Kind.BASELINE, branch=None, proposal=None, commit=None)
    for name, at, rung in [("z", 1.0, 0), ("y", 3.0, 1), ("a", None, 1)]:
        store.add_trial(replace(base, id=name, planned_at=at, rung=rung))
    store.update_trial("y", status=Status.RUNNING)
    assert [t.id for t in store.trials()] == ["z", "t", "y", "a"]
    assert [t.id for t in store.trials(kind=Kind.BASELINE)] == ["z", "y", "a"]
    assert [t.id for t in store.trials(kind=Kind.BASELINE, rung=1)] == ["y", "a"]
    assert [t.id for t in store.trials(rung=0)] == ["z", "t"]
    assert [t.id for t in store.trials(status=Status.RUNNING)] == ["y"]
    assert [t.id for t in store.trials(branch="b")] == ["t"]


def test_events_are_read_from_where_one_stopped(store: Store) -> None:
    ids = [store.add_event(Event(kind, "x", {})) for kind in ("a", "b", "a")]
    assert ids == [1, 2, 3]
    assert [e.id for e in store.events(after=1)] == [2, 3]
    assert [e.id for e in store.events(kind="a", after=1)] == [3]


def test_facts_are_replaced_whole_or_not_at_all(store: Store) -> None:
    old, new = Fact("a", 1, "1", "", ()), Fact("b", 2, "2", "", ())
    store.replace_facts([old])
    with pytest.raises(StoreError, match="UNIQUE"):
        store.replace_facts([new, new])
    with pytest.raises(StoreError, match=r"fact\.value is nan"):
        store.replace_facts([replace(new, value=float("nan"))])
    assert store.facts() == {"a": old}
    store.replace_facts([new])
    assert store.facts() == {"b": new}


def test_the_first_writer_of_an_effect_wins(store: Store) -> None:
    assert store.effect("t/train") is None
    assert store.set_effect("t/train", {"n": 1}) == {"n": 1}
    assert store.set_effect("t/train", {"n": 2}) == {"n": 1}
    assert store.effect("t/train") == {"n": 1}


@pytest.mark.parametrize(
    "query",
    ["what's axial?", "axial=1e-3", "C++ AND axial", "axial - loss", 'axial" OR (*', "NEAR(axial"]
    + ["axial\0", "axial " * 5000, " ".join(f"w{n}" for n in range(50)) + " axial", "AXIAL_noisy"],
    ids=range(10),
)
def test_any_text_finds_lessons_by_its_words(store: Store, query: str) -> None:
    store.add_lesson(LESSON)
    store.add_lesson(replace(LESSON, id="m", text="squeeze, excitation", components=()))
    assert [key for key, _ in matching(store, query, LAYERS, 8)] == [LESSON.id]


def test_text_without_words_finds_nothing(store: Store) -> None:
    store.add_lesson(LESSON)
    for query in ("", "?!*", '"', "_", "\udc80", "zebra"):
        assert matching(store, query, LAYERS, 8) == []


def test_the_best_lessons_come_first_up_to_the_limit(store: Store) -> None:
    texts = ["dice", "dice loss on boundary pixels of a small organ", "loss loss loss", "boundary"]
    for number, text in enumerate(texts):
        store.add_lesson(replace(LESSON, id=str(number), text=text, components=()))
    found = [key for key, _ in matching(store, "dice boundary", LAYERS, 8)]
    assert set(found) == {"0", "1", "3"}
    assert [key for key, _ in matching(store, "dice boundary", LAYERS, 1)] == found[:1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Event("k", "t", {"a": [1, float("nan")]}), "event.figures.a[1] is nan"),
        (Event("k", "t", {"a": {1: 2}}), "event.figures.a is a dict"),
        (Event("k", "t", {"a": {1, 2}}), "event.figures.a is a set"),
        (Event("k", "t", {}, at=float("-inf")), "event.at is -inf"),
        (Event("k", "t", {}, trial="nobody"), "FOREIGN KEY constraint failed"),
        (Event("k", None, {}), "NOT NULL constraint failed: event.text"),  # type: ignore[arg-type]
        (Event("k", b"t", {}), "event.text is a bytes"),  # type: ignore[arg-type]
    ],
)
def test_what_a_row_cannot_hold_is_named(store: Store, record: Event, message: str) -> None:
    with pytest.raises(StoreError, match=re.escape(message)):
        store.add_event(record)
    assert store.events() == []


def test_an_integer_has_at_most_64_bits(store: Store) -> None:
    store.update_trial("t", flops=2**63 - 1)
    assert store.trial("t").flops == 2**63 - 1
    with pytest.raises(StoreError, match=r"trial\.flops is 9223372036854775808"):
        store.update_trial("t", flops=2**63)


def test_names_that_are_not_there_are_named(store: Store) -> None:
    for call in (store.trial, store.proposal, store.event):
        with pytest.raises(StoreError, match="has no (trial|proposal|event) 'x'"):
            call("x")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="has no branch 'x'"):
        store.set_branch_state("x", "cut")
    with pytest.raises(StoreError, match="state IN"):
        store.set_branch_state("b", "closed")
    with pytest.raises(StoreError, match="state IN"):
        store.set_state("dead")


def test_states_change(store: Store) -> None:
    store.set_state("running")
    store.set_branch_state("b", "cut")
    assert store.campaign().state == "running"
    assert store.branches()[0].state == "cut"


def test_the_seconds_of_planning_are_a_mean_over_decisions(store: Store) -> None:
    assert store.planning_seconds() == 0.0
    for number, (scope, seconds) in enumerate(
        [("decision/1", 2.0), ("decision/1", 4.0), ("decision/2", 3.0), ("trial/a", 50.0)]
    ):
        store.add_llm_call(replace(CALL, id=f"c{number}", scope=scope, seconds=seconds))
    assert store.planning_seconds() == 4.5
