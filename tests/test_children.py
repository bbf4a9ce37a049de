"""Children that carry out suggestions: what they are called, and what they keep of their parent."""

from dataclasses import replace

import pytest

from agent.children import next_child
from agent.ideas import plain_title
from agent.motivation import described
from agent.suggestions import Diagnosis, Suggestion
from memory.errors import PlannerError
from memory.records import Module, Proposal

EDGE = Module("EdgeGate", "skip", (0,))
POOL = Module("blur_pool", "downsample", (1,))
PLACES = (("bottleneck", ()), ("encoder", (2,)))
PARENT = Proposal(
    "p",
    "Edge-weighted skips",
    "Why.",
    (EDGE,),
    "If not.",
    (),
    "llm",
    None,
    {"ideas": {"EdgeGate": "i"}},
)


def diagnosis(*steps: Suggestion) -> Diagnosis:
    return Diagnosis("t", "loss", (), steps, "local")


def step(category: str, modules: tuple[Module, ...] | None = None) -> Suggestion:
    return Suggestion(category, f"Try {category}.", ("gap.parts",), "Dice rises.", modules)


def test_a_title_names_every_module() -> None:
    assert plain_title((EDGE, POOL)) == "Anti-aliased downsampling (downsample 1) + EdgeGate (skip)"
    assert plain_title((EDGE,)) == "EdgeGate (skip)"
    assert plain_title(()) == "Planned U-Net without changes"


def test_a_child_is_called_by_its_modules_and_its_last_change() -> None:
    found = diagnosis(step("architecture", (EDGE, POOL)), step("code"))
    first = next_child(PARENT, found, 7, [PARENT], planner="llm")
    assert first.title == f"{plain_title((EDGE, POOL))} (architecture)"
    assert first.detail["suggestion"] == {"event": 7, "number": 0, "category": "architecture"}
    assert first.detail["ideas"] == {"EdgeGate": "i"}
    second = next_child(first, diagnosis(step("gap")), 8, [PARENT, first], planner="llm")
    assert second.title == f"{plain_title((EDGE, POOL))} (gap)"


def test_a_child_with_other_modules_does_not_claim_the_places_of_its_parent() -> None:
    deep, shallow = (Module("linear_attention", *place) for place in PLACES)
    parent = replace(PARENT, modules=(deep,), motivation=described(deep), planner="grammar")
    found = diagnosis(step("architecture", (shallow, POOL)), step("code"))
    child = next_child(parent, found, 7, [parent], planner="grammar")
    assert "in the bottleneck" not in child.motivation
    assert child.motivation.endswith(f"{described(shallow)}\n\n{described(POOL)}")
    assert "Against anti-aliased downsampling in particular" in child.refutation
    assert "zhang2019blurpool" in child.citations
    alone = next_child(parent, diagnosis(step("architecture", (POOL,))), 7, [], planner="grammar")
    assert "linear attention" not in (alone.refutation + alone.motivation).lower()
    assert "katharopoulos2020linear" not in alone.citations
    own = next_child(PARENT, diagnosis(step("architecture", (EDGE, POOL))), 7, [], planner="llm")
    assert own.motivation.endswith("Of the network that it changes was said: Why.")
    same = next_child(PARENT, diagnosis(step("code")), 7, [], planner="llm")
    assert same.motivation.endswith("\n\nWhy.")


def test_what_was_carried_out_is_not_again() -> None:
    found = diagnosis(step("code"))
    child = next_child(PARENT, found, 7, [PARENT], planner="llm")
    assert child.title == "Edge-weighted skips (code)"
    with pytest.raises(PlannerError, match="every suggestion for trial t was tried"):
        next_child(PARENT, found, 7, [PARENT, child], planner="llm")


def test_the_built_in_planner_takes_sets_of_library_components_alone() -> None:
    found = diagnosis(step("code"), step("architecture", (EDGE, POOL)), step("gap", (POOL,)))
    child = next_child(PARENT, found, 7, [PARENT], planner="grammar")
    assert child.modules == (POOL,)
    assert "ideas" not in child.detail or child.detail["ideas"] == {}
