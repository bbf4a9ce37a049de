"""Settings from the command line: texts as nested values, and layers of them joined."""

import tomllib
from collections.abc import Sequence
from typing import Any

from memory.errors import ConfigError


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return nested values from texts like `engine.threads=2`; values are read as TOML.

    Raises:
        ConfigError: a text is not KEY=VALUE.
    """
    values: dict[str, Any] = {}
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(f"--set {text!r}; allowed: KEY=VALUE, such as engine.threads=2")
        *sections, name = key.strip().split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = toml_value(value.strip())
    return values


def toml_value(text: str) -> Any:
    """Return a value as TOML reads it; a bare word is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    """Return nested values where each layer replaces single settings of those before it."""
    values: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            before = values.get(key)
            if isinstance(before, dict) and isinstance(value, dict):
                value = {**before, **value}
            values[key] = value
    return values
