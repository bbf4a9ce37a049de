"""From a reply to a proposal: what is built, cited, said, moved, struck and refused."""

from typing import Any

import pytest

from agent.ideas import Plan, placed, proposal_of, without_results
from agent.reply_forms import LibraryModule, NewModule, ProposalReply
from memory.errors import PlannerError
from memory.records import Module

PLAN = Plan(2, 4)


def library(component: str, position: str, *stages: int) -> LibraryModule:
    return LibraryModule.model_validate(
        {"component": component, "position": position, "stages": list(stages), "reason": "It fits."}
    )


def new(name: str, position: str, *stages: int) -> NewModule:
    own = {"class_name": name, "position": position, "stages": list(stages)}
    return NewModule.model_validate({**own, "idea": "It scales.", "equations": "y = g x"})


def reply(**changes: Any) -> ProposalReply:
    own: dict[str, Any] = {
        "title": "Edge-weighted skips",
        "motivation": "Borders are blurred. This raises Dice by 2.3 points. A gate weighs skips.",
        "modules": [new("EdgeGate", "skip", 0).model_dump()],
        "integration": "It takes a skip and returns one.",
        "expected_on": "Dice of thin classes",
        "expected_size": "small",
        "refutation": "no gain",
        "cost": "same",
        "citations": ["[oktay2018attention]", "nobody2099"],
    }
    return ProposalReply.model_validate({**own, **changes})


def test_sentences_that_state_results_are_struck_and_listed() -> None:
    made = proposal_of(reply(), PLAN, citable={"oktay2018attention"}, detail={"bent": "rigorous"})
    assert made.motivation == "Borders are blurred. A gate weighs skips."
    assert made.detail["struck"] == ["This raises Dice by 2.3 points."]
    assert made.detail["ideas"] == {"EdgeGate": "It scales."}
    assert made.detail["bent"] == "rigorous"


def test_only_what_exists_is_cited() -> None:
    made = proposal_of(reply(), PLAN, citable={"oktay2018attention"}, detail={})
    assert made.citations == ("isensee2021nnunet", "oktay2018attention")
    assert made.detail["refused_citations"] == ["nobody2099"]


@pytest.mark.parametrize(
    "text",
    [
        "It gains 3 %.",
        "Dice of 0.91 was seen.",
        "p < 0.05 holds.",
        "It is significantly better.",
        "It reaches the state of the art.",
        "This outperforms nnU-Net.",
    ],
)
def test_a_result_is_known_by_its_words(text: str) -> None:
    assert without_results(f"A gate. {text}") == ("A gate.", [text])


def test_a_plain_number_stays() -> None:
    text = "Two 3x3 convolutions at stage 1 replace one."
    assert without_results(text) == (text, [])


def test_a_title_that_states_a_result_gives_way_to_the_modules() -> None:
    made = proposal_of(reply(title="Gains 4 % Dice"), PLAN, citable=(), detail={})
    assert made.title == "EdgeGate (skip)"


def test_a_place_that_does_not_exist_becomes_one_that_does_and_says_so() -> None:
    modules, moved = placed([library("attention_gate", "encoder", 7)], PLAN)
    [module] = modules
    assert (module.component, module.position) == ("attention_gate", "skip")
    assert all(0 <= stage < 3 for stage in module.stages)
    assert "attention_gate was asked for at encoder [7] and goes to skip" in moved[0]
    assert placed([new("Gate", "decoder", 9)], PLAN)[0] == (Module("Gate", "decoder", (2,)),)
    assert placed([new("Gate", "bottleneck", 1)], PLAN) == ((Module("Gate", "bottleneck", ()),), [])


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([new("Gate", "skip", 0), new("Gate", "skip", 1)], "a module is there twice"),
        ([new("AttentionGate", "skip", 0)], "is a class of the library"),
        (
            [library("mednext", "encoder", 1), library("large_kernel", "encoder", 1)],
            "both replace stages",
        ),
    ],
)
def test_what_makes_no_network_is_refused(modules: list[Any], message: str) -> None:
    with pytest.raises(PlannerError, match=message):
        placed(modules, PLAN)
