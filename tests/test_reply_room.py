"""How long a reply can be, and schemas that keep it short."""

import pytest

from agent import reply_forms
from agent.llm import response_format
from agent.replies import Form, schema
from agent.reply_forms import ChangeReply, ProposalReply
from agent.reply_room import SHORTEST, fitted, longest

FORMS = [
    form
    for form in vars(reply_forms).values()
    if isinstance(form, type) and issubclass(form, Form) and form is not Form
]


@pytest.mark.parametrize("form", FORMS)
def test_every_reply_has_a_longest(form: type[Form]) -> None:
    assert longest(schema(form)) < 1_000_000


@pytest.mark.parametrize("characters", [900, 1500, 3000])
def test_a_proposal_fits_into_little_room(characters: int) -> None:
    made = fitted(schema(ProposalReply), characters)
    assert longest(made) <= max(characters, longest(fitted(schema(ProposalReply), 0)))
    assert made["properties"]["motivation"]["maxLength"] >= SHORTEST
    assert made["properties"]["expected_size"]["enum"] == ["small", "medium", "large"]


def test_a_form_that_fits_is_sent_as_it_is() -> None:
    own = schema(ProposalReply)
    assert fitted(own, 10**6) == own


def test_only_a_small_server_is_held_short() -> None:
    def held(room: int) -> object:
        found = response_format(ChangeReply, "schema", room=room)
        assert found is not None
        return found["json_schema"]["schema"]

    assert held(12_288) == schema(ChangeReply)
    assert held(500) != schema(ChangeReply)
