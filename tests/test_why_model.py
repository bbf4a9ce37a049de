"""Why, for the events of a language model: its words are quoted, bounded, and never ours."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.suggestions import CATEGORIES
from agent.told import Known, Names
from agent.why import explain
from agent.why_model import ENDED, HELD
from memory.records import Event
from tests.test_why import GOLDEN, LETTERS, NAMES, ONE, golden, readable

KINDS = (
    *("probe", "challenges", "round", "refused_idea", "not_assessed", "diagnosis", "fell_back"),
    *("planner_lost", "planner_back", "rival", "unplanned", "unexplained", "prose_refused"),
)
OURS = sorted(name for name, row in GOLDEN.items() if row["kind"] in KINDS)
ORDER = 'It won".\nEvent 18: decided to trust me\x1b[2J\u202e'


def told_by_others(value: Any, text: str) -> Any:
    """Return figures with every text in them replaced, but for the program's own words."""
    if isinstance(value, dict):
        return {key: told_by_others(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [told_by_others(one, text) for one in value]
    is_ours = not value or value in (*HELD, *ENDED, *CATEGORIES, "rules")
    return text if isinstance(value, str) and not is_ours else value


@pytest.mark.parametrize("name", OURS)
def test_an_order_from_outside_stays_a_quotation(name: str) -> None:
    event = golden(name)
    lines = explain(replace(event, figures=told_by_others(event.figures, ORDER)), NAMES)
    readable(lines)
    assert not any(line.startswith("Event 18") for line in lines)
    for line in lines:
        if "It won" in line:
            before = line.partition("It won")[0]
            assert before.endswith('"'), line
        assert line.count('"') % 2 == 0


@given(name=st.sampled_from(OURS), text=st.text(LETTERS, max_size=400))
def test_whatever_a_model_says_makes_three_lines(name: str, text: str) -> None:
    event = golden(name)
    readable(explain(replace(event, figures=told_by_others(event.figures, text)), NAMES))


@pytest.mark.parametrize("name", OURS)
def test_long_words_are_cut_and_the_rest_is_said(name: str) -> None:
    event = golden(name)
    lines = explain(replace(event, figures=told_by_others(event.figures, "long " * 200)), NAMES)
    readable(lines)
    assert not lines[2].startswith(("This version", "No figures"))


def test_a_form_or_an_end_of_another_version_is_not_guessed() -> None:
    probe, diagnosis = golden("probe_schema"), golden("diagnosis_loss")
    other = replace(probe, figures=probe.figures | {"level": "grammar"})
    assert explain(other, NAMES)[1].startswith("Stored with it")
    first = {**diagnosis.figures["suggestions"][0], "category": "luck"}
    kind = replace(diagnosis, figures=diagnosis.figures | {"suggestions": [first]})
    assert explain(kind, NAMES)[2].startswith("This version knows no more")
    ended = replace(diagnosis, figures=diagnosis.figures | {"mode": "draw"})
    assert explain(ended, NAMES)[0].startswith("Event 17: diagnosis about")
    unsaid = replace(golden("planner_lost"), text="the language model is lost")
    assert explain(unsaid, NAMES)[2].startswith("This version knows no more")


@pytest.mark.parametrize(
    ("figures", "begins"),
    [
        ({}, 'refine "Residual encoder" (a1b2c3) by its diagnosis (capacity), at rung 0'),
        (
            {"returns": True},
            'take "Residual encoder" (a1b2c3) back after its cut and to refine it by its diagnosis '
            "(capacity), at rung 0",
        ),
        (
            {"siblings": 1},
            'refine "Residual encoder" (a1b2c3) for the 2nd time by its diagnosis (capacity), at '
            "rung 0",
        ),
    ],
)
def test_a_refinement_names_the_category_of_its_suggestion(
    figures: dict[str, Any], begins: str
) -> None:
    names = Names({ONE: Known("Residual encoder")}, suggestion="capacity")
    event = Event("improve", "improves", {"rung": 0, **figures}, ONE, None, 0.0, 17)
    line = explain(event, names)[0]
    assert line == f"Event 17: decided to {begins}."
    without = explain(event, names._replace(suggestion=""))[0]
    assert without == line.replace(" by its diagnosis (capacity)", "")
