"""Replies of language models: what is read out of them, and what is refused."""

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, StringConstraints

from agent.replies import (
    REASON_CHARACTERS,
    REPLY_CHARACTERS,
    Form,
    ReplyError,
    fences,
    found,
    objects,
    plain_schema,
    read,
    schema,
    without_thoughts,
)

TICKS = "```"


class Inner(Form):
    title: str
    weight: float = 0.5


class Outer(Form):
    name: Annotated[str, StringConstraints(min_length=1, max_length=20, pattern="^[a-z]")]
    rate: Annotated[float, Field(ge=0, le=1)]
    steps: int
    parts: Annotated[list[Inner | int], Field(max_length=3)]
    kind: Literal["a", "b"] = "a"


class Odd(Form):
    """Fields named as words of JSON schema."""

    title: str
    pattern: str
    format: Annotated[str, StringConstraints(max_length=5)]
    default: int
    properties: Inner
    required: bool


class One(Form):
    answer: int


GOOD = {"name": "n", "rate": 0.5, "steps": 3, "parts": [{"title": "t", "weight": 1.0}], "kind": "b"}
ONE = '{"answer": 1}'


def fenced(text: str, language: str = "json") -> str:
    return f"{TICKS}{language}\n{text}\n{TICKS}"


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        f"\n\ufeff {ONE}\n",
        fenced(ONE),
        fenced(ONE, ""),
        f"Here it is {{as asked}}:\n{fenced(ONE)}\nAnything else {{?}}",
        f"Sure, {{not this}}: {ONE} I hope that it fits {{you}}.",
        f"The form has {{}} and {{ x }}. {ONE}",
        f'<think>Maybe {{"answer": 0}}? No, {{x}}.</think>\n{ONE}',
        f'<THINKING>{{"answer": 0}}</thinking>{fenced(ONE)}',
        f'it goes on and on {{"answer": 0}}</think>{ONE}',
        f'<think>a<think>b</think>{{"answer": 0}}</think>{ONE}',
        f'{ONE}\nor perhaps {{"answer": 2}}',
        f"Inline: {TICKS}json {ONE} {TICKS}",
        f"1. A list:\n    {TICKS}json\n    {ONE}\n    {TICKS}\n",
        f"{TICKS}text\nno object\n{TICKS}\n{fenced(ONE)}",
    ],
)
def test_the_object_is_found(text: str) -> None:
    assert read(text, One).answer == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the reply is empty"),
        ("", "the reply is empty"),
        (" \n\t ", "the reply is empty"),
        ("I cannot do that.", "no whole JSON object"),
        ("[1, 2]", "no whole JSON object"),
        ("null", "no whole JSON object"),
        ('"{}"', "no whole JSON object"),
        ("{" * 3000, "no whole JSON object"),
        ('{"answer": 1', "broken or cut off"),
        ('{"answer": 1, "more": "and on', "broken or cut off: Unterminated string"),
        ('{"answer": 0.0', "broken or cut off"),
        ('{"answer": 1,}', "broken or cut off"),
        (fenced('{"answer": 1,\n'), "broken or cut off"),
        (f"{TICKS}json\n" + '{"answer": 1, ', "broken or cut off"),
        ('{"outer": {"answer": 1}, "more": 0.0', "broken or cut off"),
        ('{"list": [{"answer": 1}, {"answer": 2}', "broken or cut off"),
        (f"<think>I never came to an end {ONE}", "no whole JSON object"),
        (f"{ONE}</think>", "no whole JSON object"),
        ('{"answer": 1, "answer": 2}', "comes twice"),
        ('{"answer": {"a": 1, "a": 1}}', "comes twice"),
        ('{"answer": NaN}', "holds NaN, which is no number"),
        ('{"answer": -Infinity}', "holds -Infinity"),
        ('{"answer": 1e999}', "1e999, which is too large"),
        ("it is " + fenced('{"answer": NaN}'), "holds NaN"),
        ('{"answer": "\\ud800"}', "reply: Invalid JSON"),
        ("{}", "answer: Field required"),
        ('{"answer": 1, "score": 0.9}', "score: Extra inputs are not permitted"),
        ('{"answer": "1"}', "answer: Input should be a valid integer"),
        ('{"answer": true}', "answer: Input should be a valid integer"),
        ('{"answer": 1.5}', "answer: Input should be a valid integer"),
        ('{"answer": null}', "answer: Input should be a valid integer"),
    ],
)
def test_what_is_no_reply_is_refused(text: str | None, message: str) -> None:
    with pytest.raises(ReplyError, match=message):
        read(text, One)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"rate": "0.001"}, "rate"),
        ({"rate": True}, "rate"),
        ({"rate": 1.5}, "rate"),
        ({"name": 3}, "name"),
        ({"name": "N"}, "name"),
        ({"name": "n" * 21}, "name"),
        ({"parts": {}}, "parts"),
        ({"parts": [{"title": "t", "why": "x"}]}, "parts.0"),
        ({"parts": [1, 2, 3, 4]}, "parts"),
        ({"kind": "c"}, "kind"),
    ],
)
def test_a_wrong_value_is_refused_by_its_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ReplyError, match=f"^{place}"):
        read(json.dumps(GOOD | change), Outer)


def test_a_whole_number_fits_a_float_and_a_missing_default_is_filled_in() -> None:
    value = read(json.dumps({k: v for k, v in GOOD.items() if k != "kind"} | {"rate": 1}), Outer)
    assert value.rate == 1.0
    assert value.kind == "a"


def test_no_prefix_of_a_reply_is_a_reply() -> None:
    whole = json.dumps({"parts": [GOOD, GOOD], "kind": "a", "n": 0.001})
    for end in range(1, len(whole)):
        with pytest.raises(ReplyError):
            found(whole[:end])


def test_marks_of_thought_and_fences_inside_the_object_stay_as_they_are() -> None:
    text = f"a <think>b</think> c </think> {TICKS}\n{TICKS}python\nx\n{TICKS}"
    assert found(json.dumps({"title": text})) == {"title": text}


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 100_000,
        "[" * 100_000,
        '{"a":[' * 50_000 + "]}" * 50_000,
        '{"answer": ' + "[" * 300 + "]" * 300 + "}",
        '{"answer": ' + "[" * 980 + "]" * 980 + "}",
        '{"answer": ' + "9" * 20_000 + "}",
        "see {" + '"answer": ' + "9" * 20_000 + "}",
        "<think>" * 50_000,
        "</think>" * 50_000,
        TICKS + "a" * 350_000,
        (TICKS + "\n") * 80_000,
        (TICKS + " `\n") * 60_000,
        "`" * 390_000,
        " " * 200_000 + TICKS + " " * 150_000 + "`",
        "`" * 190_000 + "a" * 190_000 + "`",
        "{" * 399_000,
        ("{" + " " * 900) * 400,
    ],
    ids=range(17),
)
def test_a_bomb_is_refused_in_time_that_grows_with_its_length(text: str) -> None:
    with pytest.raises(ReplyError):
        read(text, One)


@pytest.mark.parametrize("depth", range(900, 1010, 5))
def test_any_depth_is_refused_as_a_reply(depth: int) -> None:
    with pytest.raises(ReplyError):
        read('{"answer": ' + '{"a":' * depth + "1" + "}" * depth + "}", One)


def test_ten_megabytes_are_refused_unread() -> None:
    with pytest.raises(ReplyError, match=f"at most {REPLY_CHARACTERS} are read"):
        read('{"answer": "' + "x" * (10 << 20) + '"}', One)


def test_the_reason_is_bounded_and_without_control_characters() -> None:
    many = {"\x1b[31m" + "k" * 500 + str(n): n for n in range(500)}
    with pytest.raises(ReplyError) as raised:
        read(json.dumps({"answer": 1} | many), One)
    assert len(str(raised.value)) <= REASON_CHARACTERS
    assert "\x1b" not in str(raised.value)


@given(st.text(alphabet='{}[]":,`\n\\ <>/thinkpyo0123456789.eNa', max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(found(text), dict)
    except ReplyError:
        pass
    list(fences(text))
    python_of(text)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=6), PLAIN, min_size=1), st.sampled_from(["", "ok {x}: "]))
def test_an_object_comes_out_as_it_went_in(value: dict[str, Any], before: str) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert found(text) == value
    assert found(fenced(json.dumps(value, indent=1))) == value
    assert found(f"{before}{json.dumps(value)} is it") == value


def test_thoughts_are_cut_out_and_an_endless_one_takes_the_rest() -> None:
    assert without_thoughts("a<think>b</think>c<Thinking>d</thinking>e") == "ace"
    assert without_thoughts("b</think>c") == "c"
    assert without_thoughts("a<think>b") == "a"
    assert (
        without_thoughts("thinking <thinker> a < think > b") == "thinking <thinker> a < think > b"
    )


def test_of_several_objects_in_prose_the_first_is_yielded() -> None:
    assert list(objects('x {"a": 1} y {"b": 2}')) == [{"a": 1}]
    assert list(objects("none {here}")) == []


def every(value: Any) -> list[dict[str, Any]]:
    """Return all dictionaries of a value."""
    if isinstance(value, list):
        return [one for own in value for one in every(own)]
    if not isinstance(value, dict):
        return []
    return [value, *(one for own in value.values() for one in every(own))]


@pytest.mark.parametrize("form", [One, Inner, Outer, Odd])
def test_a_schema_stands_alone_and_requires_every_field(form: type[Form]) -> None:
    for make in (schema, plain_schema):
        made = make(form)
        json.dumps(made, allow_nan=False)
        assert not any({"$ref", "$defs"} & one.keys() for one in every(made))
        objects_of = [one for one in every(made) if one.get("type") == "object"]
        assert objects_of
        for one in objects_of:
            assert one["required"] == list(one["properties"])
            assert one["additionalProperties"] is False


def test_a_field_named_as_a_word_of_the_schema_survives() -> None:
    for made in (schema(Odd), plain_schema(Odd)):
        assert list(made["properties"]) == list(Odd.model_fields)
        assert made["properties"]["title"] == {"type": "string"}
        assert list(made["properties"]["properties"]["properties"]) == ["title", "weight"]
    assert schema(Odd)["properties"]["format"] == {"type": "string", "maxLength": 5}
    assert plain_schema(Odd)["properties"]["format"] == {"type": "string"}


def test_the_plain_schema_keeps_what_bounds_numbers_and_choices() -> None:
    full, plain = schema(Outer)["properties"], plain_schema(Outer)["properties"]
    assert full["name"] == {"type": "string", "minLength": 1, "maxLength": 20, "pattern": "^[a-z]"}
    assert plain["name"] == {"type": "string"}
    assert plain["rate"] == {"type": "number", "minimum": 0, "maximum": 1}
    assert plain["kind"] == {"type": "string", "enum": ["a", "b"]}
    assert plain["parts"]["items"]["anyOf"][0]["properties"]["title"] == {"type": "string"}


LANGUAGES = ("", "py", "python", "python3")


def python_of(text: str) -> str | None:
    """Return the longest fence of Python in a reply; None where there is none."""
    own = [f.text + "\n" for f in fences(without_thoughts(text)) if f.language in LANGUAGES]
    return max(own, key=len, default=None)


CODE = 'def f():\n    """Use it:\n\n        ```\n        f()\n        ```\n    """\n    return "\x0c\u2028"'


def test_the_longest_python_of_a_reply_is_taken() -> None:
    text = (
        f"First\n{fenced('x = 1', 'python')}\nthen\n{fenced(CODE, 'py')}\n{fenced('a' * 999, 'sh')}"
    )
    assert python_of(text) == CODE + "\n"


@pytest.mark.parametrize("language", ["", "Python", "python3", "python title=network.py"])
def test_python_goes_by_several_names(language: str) -> None:
    assert python_of(fenced("x = 1", language)) == "x = 1\n"


def test_a_longer_fence_holds_shorter_ones() -> None:
    assert python_of(f"````python\nx = '''\n{TICKS}\n'''\n````\n") == f"x = '''\n{TICKS}\n'''\n"


def test_line_ends_of_windows_are_line_ends() -> None:
    assert python_of(fenced("x = 1\ny = 2", "python").replace("\n", "\r\n")) == "x = 1\ny = 2\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 1",
        f"{TICKS}python\nx = 1\n",
        fenced("x", "rust"),
        f"<think>{fenced('x', 'python')}",
        f"{TICKS}python x = 1{TICKS}",
    ],
)
def test_without_a_closed_fence_there_is_no_python(text: str) -> None:
    assert python_of(text) is None
