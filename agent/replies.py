"""What a language model replied, read with suspicion: JSON out of text, held against a form.

Pure. Nothing is mended: a truncated or malformed reply is refused, because a guessed closing
bracket turns a number that was cut off into another number, and a whole object inside a broken
one is not the reply. The model is asked again instead, with the reason. Every step takes time in
proportion to the text, whatever it holds.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from memory.errors import PlannerError
from sandbox.clean import clean_text

REPLY_CHARACTERS = 400_000
REASON_CHARACTERS = 1200
_MARK = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_OBJECT = re.compile(r'\{\s*"')
_STARTS = 200
_UNSUPPORTED = ("maxLength", "minLength", "pattern", "format", "title", "default")

F = TypeVar("F", bound="Form")


class Form(BaseModel):
    """What a reply must look like: no unknown field, no NaN, no number in the place of a text."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, frozen=True)


class ReplyError(PlannerError):
    """A language model's reply does not fit its form, and asking again did not help."""


class Fence(NamedTuple):
    """A fenced block of a reply: its language in small letters, and its lines."""

    language: str
    text: str


def read(text: str | None, form: type[F]) -> F:
    """Return a reply as its form.

    Raises:
        ReplyError: the reply is empty, too long, no JSON, or does not fit; the text says what is
            wrong in words that a model can act on.
    """
    if text is None or not text.strip():
        raise ReplyError("the reply is empty")
    if len(text) > REPLY_CHARACTERS:
        raise ReplyError(
            f"the reply has {len(text)} characters; at most {REPLY_CHARACTERS} are read"
        )
    try:
        return form.model_validate_json(json.dumps(found(text)))
    except ValidationError as error:
        raise ReplyError(reason(error)) from error
    except RecursionError:
        raise ReplyError("the reply is nested too deeply") from None


def found(text: str) -> dict[str, Any]:
    """Return the JSON object of a reply: alone, in a fence, or the first one in its prose.

    Raises:
        ReplyError: there is none, it is broken, a key comes twice, or a number is not finite.
    """
    whole = decoded(text.strip())
    if isinstance(whole, dict):
        return whole
    bare = without_thoughts(text)
    for part in [bare, *(fence.text for fence in fences(bare))]:
        value = decoded(part.strip())
        if isinstance(value, dict):
            return value
    for value in objects(bare):
        return value
    raise ReplyError("the reply holds no whole JSON object; send one object and nothing else")


def without_thoughts(text: str) -> str:
    """Return a reply without what a model thought aloud; a thought without end is all of the rest."""
    kept, is_thought, end = list[str](), False, 0
    for mark in _MARK.finditer(text):
        if mark[1] and not is_thought:
            kept = []  # the thought began before the reply
        elif not mark[1] and not is_thought:
            kept.append(text[end : mark.start()])
        is_thought, end = not mark[1], mark.end()
    return "".join(kept) + ("" if is_thought else text[end:])


def fences(text: str) -> Iterator[Fence]:
    """Yield the fenced blocks of a reply.

    A block begins where a line ends with backticks and perhaps a language, and ends at a line of
    at least as many backticks that is not indented more; one without an end is none.
    """
    begun: _Ticks | None = None
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        ticks = _ticks(line) if "```" in line else None
        if begun is None:
            begun, lines = (ticks if ticks and "```" not in ticks.before else None), []
        elif ticks and _ends(begun, ticks):
            yield Fence(begun.after.partition(" ")[0].lower(), "\n".join(lines))
            begun = None
        else:
            lines.append(line)


class _Ticks(NamedTuple):
    """The last backticks of a line, how many they are, and the line around them."""

    before: str
    many: int
    after: str


def _ticks(line: str) -> _Ticks | None:
    upto = line[: line.rfind("`") + 1]
    before = upto.rstrip("`")
    many = len(upto) - len(before)
    return _Ticks(before, many, line[len(upto) :].strip()) if many >= 3 else None


def _ends(begun: _Ticks, ticks: _Ticks) -> bool:
    indent = 0 if begun.before.strip() else len(begun.before)
    is_bare = not ticks.before.strip() and not ticks.after
    return is_bare and len(ticks.before) <= indent + 3 and ticks.many >= begun.many


def decoded(text: str) -> Any:
    """Return the value of a JSON text; None where it is none.

    Raises:
        ReplyError: a key comes twice, or a number is not finite.
    """
    try:
        return json.loads(text, **_HOOKS)
    except (ValueError, RecursionError):
        return None


def objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the first object that stands in prose.

    A brace that no key follows is prose.

    Raises:
        ReplyError: an object begins and is broken, or cut off.
    """
    decoder = json.JSONDecoder(**_HOOKS)
    at = text.find("{")
    for _ in range(_STARTS):
        if at < 0:
            return
        if _OBJECT.match(text, at):
            yield _whole(decoder, text, at)
            return
        at = text.find("{", at + 1)


def _whole(decoder: json.JSONDecoder, text: str, at: int) -> dict[str, Any]:
    """Return the object that begins at a place of a text.

    Raises:
        ReplyError: it is broken.
    """
    try:
        value, _ = decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ReplyError(f"the JSON object is broken or cut off: {error.msg} at {where}") from None
    except (ValueError, RecursionError):
        raise ReplyError(
            "the JSON object cannot be read: nested too deeply, or too long a number"
        ) from None
    assert isinstance(value, dict)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ReplyError("a key of the JSON object comes twice")
    return made


def _refuse(text: str) -> Any:
    raise ReplyError(f"the reply holds {text}, which is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ReplyError(f"the reply holds {text[:40]}, which is too large a number")
    return value


_HOOKS: dict[str, Any] = {
    "object_pairs_hook": _unique,
    "parse_constant": _refuse,
    "parse_float": _finite,
}


def reason(error: ValidationError) -> str:
    """Return what does not fit, one fault after the other, as a model can read it."""
    faults = [
        f"{'.'.join(map(str, one['loc'])) or 'reply'}: {one['msg']}"
        for one in error.errors(include_url=False, include_input=False)
    ]
    return clean_text("; ".join(faults[:12]))[:REASON_CHARACTERS]


def schema(form: type[Form]) -> dict[str, Any]:
    """Return the JSON schema of a form, with no references, every field required."""
    raw = form.model_json_schema()
    made = _inlined(raw, raw.get("$defs", {}))
    assert isinstance(made, dict)
    return made


def plain_schema(form: type[Form]) -> dict[str, Any]:
    """Return the schema without what some servers refuse: limits on texts, titles, patterns."""
    made = _without(schema(form), _UNSUPPORTED)
    assert isinstance(made, dict)
    return made


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema with its references filled in, its titles gone and its fields required."""
    if isinstance(value, list):
        return [_inlined(one, definitions) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        beside = {key: own for key, own in value.items() if key != "$ref"}
        return _inlined({**definitions[value["$ref"].rpartition("/")[2]], **beside}, definitions)
    made = {
        key: {name: _inlined(one, definitions) for name, one in own.items()}
        if key == "properties"
        else _inlined(own, definitions)
        for key, own in value.items()
        if key not in ("$defs", "title", "discriminator")
    }
    return made | ({"required": list(made["properties"])} if "properties" in made else {})


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_without(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {name: _without(one, names) for name, one in own.items()}
        if key == "properties"
        else _without(own, names)
        for key, own in value.items()
        if key not in names
    }
