"""How long a reply of a form can be, and a schema whose replies fit into a server's room. Pure.

A small model that is held to a schema writes until a text's limit; one that runs out of tokens first
is cut off, and its reply is worth nothing. So where all texts at full length would not fit, the
longest are allowed less, all alike, in the schema that is sent. The form itself stays: it decides.
"""

from collections.abc import Mapping
from typing import Any

SHORTEST = 24
UNBOUNDED = 100_000
NUMBER = 8
FRAME = 6
"""Characters beside a text: quotes, colon, comma, spaces."""


def longest(schema: Mapping[str, Any]) -> int:
    """Return about how many characters a reply of a schema can have at most."""
    if "anyOf" in schema:
        return max(longest(one) for one in schema["anyOf"])
    if "enum" in schema:
        return FRAME + max(len(str(one)) for one in schema["enum"])
    if schema.get("type") == "object":
        own = schema.get("properties", {}).items()
        return FRAME + sum(len(name) + FRAME + longest(one) for name, one in own)
    if schema.get("type") == "array":
        return FRAME + int(schema.get("maxItems", 1)) * longest(schema.get("items", {}))
    if schema.get("type") == "string":
        return FRAME + int(schema.get("maxLength", UNBOUNDED))
    return NUMBER


def fitted(schema: dict[str, Any], characters: int) -> dict[str, Any]:
    """Return a schema whose replies have about `characters` at most, its longest texts cut alike.

    No text is allowed less than 24 characters, or than the schema's own least.
    """
    if longest(schema) <= characters:
        return schema
    low, high = SHORTEST, UNBOUNDED
    while high - low > 1:
        middle = (low + high) // 2
        is_small = longest(capped(schema, middle)) <= characters
        low, high = (middle, high) if is_small else (low, middle)
    made = capped(schema, low)
    assert isinstance(made, dict)
    return made


def capped(value: Any, most: int) -> Any:
    """Return a schema in which no text may be longer than `most`."""
    if isinstance(value, list):
        return [capped(one, most) for one in value]
    if not isinstance(value, dict):
        return value
    made = {key: capped(own, most) for key, own in value.items()}
    if made.get("type") == "string" and "enum" not in made:
        least = int(made.get("minLength", 0))
        made["maxLength"] = max(least, min(most, int(made.get("maxLength", UNBOUNDED))))
    return made
