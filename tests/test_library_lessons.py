"""Figures of campaigns as lessons: pooled, counted for and against, worded by templates alone."""

import math
from dataclasses import replace
from itertools import permutations

import pytest

from agent.effects import Knowledge
from agent.library_entry import Entry, Finding
from agent.library_lessons import lessons_of, words
from memory.ranking import weight
from memory.records import Figures, Lesson
from tests.libraries import CT, MR, campaign_id

ANY = (("attention_gate", "", ()),)
BASE = Finding("effect", ANY, 0.01, 0.004, 3, 3, 0, "", ("a" * 12,))


def entry(name: str, *findings: Finding, conditions: Figures = MR) -> Entry:
    return Entry(campaign_id(name), conditions, Knowledge(), findings)


def effect(value: float, se: float = 0.004, **more: object) -> Finding:
    return replace(BASE, effect=value, effect_se=se, **more)  # type: ignore[arg-type]


def told(*entries: Entry, now: Figures | None = None) -> list[Lesson]:
    return lessons_of(entries, now=now or {}, at=5.0)


def one(*entries: Entry, now: Figures | None = None) -> Lesson:
    found = told(*entries, now=now)
    assert len(found) == 1
    return found[0]


def test_one_campaign_is_told_as_it_is() -> None:
    lesson = one(entry("a", effect(0.0123)))
    assert lesson.text == (
        "attention_gate: +1.2 (SE 0.4) points of Dice beside the baseline; 3 networks of "
        "1 campaign, on MR, 3D, few cases, small objects, 40 cases."
    )
    assert (lesson.layer, lesson.kind, lesson.topic) == (
        "library",
        "effect",
        "effect/attention_gate",
    )
    assert lesson.effect == pytest.approx(0.0123)
    assert lesson.effect_se == pytest.approx(0.004)
    assert (lesson.support, lesson.contra, lesson.at) == (3, 0, 5.0)
    assert lesson.conditions == MR
    assert lesson.source == campaign_id("a")
    assert lesson.evidence == (f"{campaign_id('a')}/{'a' * 12}",)


def test_campaigns_that_agree_are_told_once_by_precision() -> None:
    lesson = one(entry("a", effect(0.010, 0.002)), entry("b", effect(0.012, 0.004), conditions=CT))
    assert lesson.effect == pytest.approx((0.010 * 4 + 0.012) / 5)
    assert lesson.effect_se == pytest.approx(0.002 / math.sqrt(1.25))
    assert (lesson.support, lesson.contra) == (6, 0)
    assert lesson.source == campaign_id("a")
    assert "6 networks of 2 campaigns" in lesson.text
    assert "MR, 3D, few cases, small objects, 40 cases; CT, 3D, 160 cases" in lesson.text
    assert "Disputed" not in lesson.text
    # What both have: not the modality; the middle of 40 and 160 cases on a log scale.
    assert lesson.conditions == {"dims": 3, "classes": 2, "traits": ["volumes"], "cases": 80}


def test_contradiction_weakens_is_told_and_makes_less_sure() -> None:
    alone = one(entry("a", effect(0.02)))
    both = one(entry("a", effect(0.02)), entry("b", effect(-0.01)))
    assert both.effect == pytest.approx(0.005)
    # Chi-square is 28.1 on one degree of freedom.
    assert both.effect_se == pytest.approx(0.015)
    assert (both.support, both.contra) == (3, 3)
    assert weight(both) < weight(alone)
    assert both.text.endswith(" Disputed: 1 of 2 campaigns found the opposite.")


def test_an_effect_within_its_error_says_nothing_beside_others() -> None:
    lesson = one(entry("a", effect(0.02, 0.002)), entry("b", effect(-0.003, 0.01)))
    assert (lesson.support, lesson.contra) == (3, 0)
    assert "Disputed" not in lesson.text


def test_the_side_of_the_pooled_effect_counts_even_for_the_strongest() -> None:
    strong = effect(-0.002, 0.0015, support=2, contra=1)
    lesson = one(
        entry("a", strong), entry("b", effect(0.02, 0.002)), entry("c", effect(0.02, 0.002))
    )
    assert lesson.source == campaign_id("a")
    assert lesson.effect is not None
    assert lesson.effect > 0
    assert (lesson.support, lesson.contra) == (3 + 3 + 1, 2)
    assert "Disputed: 1 of 3 campaigns" in lesson.text


def test_a_gain_elsewhere_speaks_against_a_dead_end() -> None:
    dead = replace(BASE, kind="dead_end", effect=-0.01)
    found = {x.kind: x for x in told(entry("a", dead), entry("b", effect(0.02)))}
    assert (found["dead_end"].support, found["dead_end"].contra) == (3, 3)
    assert "Disputed: 1 of 2 campaigns" in found["dead_end"].text
    assert (found["effect"].support, found["effect"].contra) == (3, 3)
    loss = {x.kind: x for x in told(entry("a", dead), entry("b", effect(-0.02)))}
    assert (loss["dead_end"].support, loss["dead_end"].contra) == (6, 0)


def test_a_campaign_does_not_dispute_itself() -> None:
    dead = replace(BASE, kind="dead_end", effect=-0.01)
    found = {x.kind: x for x in told(entry("a", dead, effect(0.02)))}
    assert all(x.contra == 0 and "Disputed" not in x.text for x in found.values())


def test_near_duplicates_are_told_once_and_places_where_all_agree() -> None:
    first = replace(BASE, kind="dead_end", parts=(("attention_gate", "skip", (0,)),))
    other = replace(first, parts=(("attention_gate", "skip", (1, 2)),))
    text = "attention_gate on the skips of stage 0: a dead end, "
    assert one(entry("a", first), entry("b", first)).text.startswith(text)
    assert one(entry("a", first), entry("b", other)).text.startswith("attention_gate: a dead end")
    unstaged = replace(first, parts=(("attention_gate", "skip", ()),))
    assert one(entry("a", unstaged)).text.startswith("attention_gate (skip): a dead end, ")
    same_campaign = one(entry("a", first, other))
    assert "6 networks of 1 campaign," in same_campaign.text


def test_a_failure_names_its_class_and_blames_no_idea() -> None:
    failed = Finding("failure", ANY, None, None, 2, 2, 0, "out_of_memory", ("b" * 12,))
    lesson = one(entry("a", failed), entry("b", failed))
    assert lesson.topic == "failure/out_of_memory/attention_gate"
    assert "failed as out_of_memory: memory ran out" in lesson.text
    assert lesson.text.endswith("It says nothing about the idea.")
    assert lesson.effect is None
    whole = one(entry("a", replace(failed, parts=())))
    assert whole.text.startswith("networks of any kind: failed as ")
    assert whole.topic == "failure/out_of_memory"


def test_nearer_datasets_weigh_more() -> None:
    entries = (entry("a", effect(0.02)), entry("b", effect(0.01), conditions=CT))
    near, far = one(*entries, now=MR).effect, one(*entries, now=CT).effect
    assert near is not None
    assert far is not None
    assert near > 0.015 > far


def test_order_is_of_no_matter_and_ids_follow_the_content() -> None:
    entries = [entry(name, effect(0.01 * i)) for i, name in enumerate("abc", start=1)]
    assert len({str(told(*order)) for order in permutations(entries)}) == 1
    assert one(*entries).id != one(*entries[:2]).id
    assert lessons_of(entries, now={}, at=1.0)[0].id == one(*entries).id


def test_many_datasets_and_trials_stay_short() -> None:
    trials = tuple(f"{i:012x}" for i in range(40))
    entries = [
        entry(str(i), effect(0.01, trials=trials), conditions=MR | {"cases": 10 + i})
        for i in range(50)
    ]
    lesson = one(*entries)
    assert "; 47 other datasets." in lesson.text
    assert len(lesson.text) < 400
    assert len(lesson.evidence) <= 60
    assert len({x.split("/")[0] for x in lesson.evidence}) == 50


def test_conditions_in_words() -> None:
    assert words({}) == "an unknown dataset"
    assert words({"modality": "other", "dims": 2, "cases": 1}) == "neither CT nor MR, 2D, 1 case"
