"""Collecting facts: every kind of value is printed by one rule, under one key, once."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.formats import (
    LONGEST_TEXT,
    UNDEFINED,
    duration,
    gain,
    general,
    large,
    metric_unit,
    p_value,
    plain_text,
    score,
    slug,
)
from agent.intervals import Interval
from memory.errors import ReportError
from memory.records import Fact, Metric

Sources = Sequence[str]
_KEY = re.compile(r"[A-Za-z0-9._-]+")


class FactBook:
    """The facts of one report, in the order in which they were derived."""

    def __init__(self) -> None:
        """Start with no fact."""
        self._facts: dict[str, Fact] = {}

    def all(self) -> list[Fact]:
        """Return the facts, sorted by key."""
        return [self._facts[key] for key in sorted(self._facts)]

    def _add(
        self, key: str, value: float | int | str | None, text: str, unit: str, sources: Sources
    ) -> None:
        if not _KEY.fullmatch(key):
            raise ReportError(f"fact key {key!r}: allowed are letters, digits, and the signs . _ -")
        if key in self._facts:
            raise ReportError(f"fact {key!r} was derived twice; a key names one value")
        if isinstance(value, float):
            value += 0.0  # minus zero becomes zero, as the store keeps it
        self._facts[key] = Fact(key, value, text, unit, tuple(sources))

    def count(self, key: str, value: int, sources: Sources) -> None:
        """Add a whole number."""
        self._add(key, value, general(value), "", sources)

    def words(
        self, key: str, value: object, sources: Sources, *, longest: int = LONGEST_TEXT
    ) -> None:
        """Add a text that somebody else wrote, made harmless and put on one line."""
        text = plain_text(value, longest=longest)
        self._add(key, text, text or "none", "", sources)

    def identifier(self, key: str, value: object, sources: Sources, *, shown: int = 0) -> None:
        """Add a seed, hash or commit: never rounded; the first `shown` characters, 0 for all."""
        text = plain_text(value)
        raw = value if isinstance(value, int) else text
        self._add(key, raw, text[: shown or None] or "none", "", sources)

    def measure(self, key: str, value: float | None, printed: str, sources: Sources) -> None:
        """Add a number with a printed form of its own; None and NaN are undefined."""
        missing = value is None or not math.isfinite(value)
        self._add(key, None if missing else value, UNDEFINED if missing else printed, "", sources)

    def seconds(self, key: str, value: float | None, sources: Sources) -> None:
        """Add a duration in seconds."""
        self._optional(key, value, duration, "s", sources)

    def mebibytes(self, key: str, value: float | None, sources: Sources) -> None:
        """Add an amount of memory in MiB."""
        self._optional(key, value, lambda v: f"{v:,.0f} MiB", "MiB", sources)

    def amount(self, key: str, value: float | None, unit: str, sources: Sources) -> None:
        """Add a large count, such as parameters, with a prefix."""
        self._optional(key, value, lambda v: large(v, unit), unit, sources)

    def score(self, key: str, value: float, metric: Metric, sources: Sources) -> None:
        """Add a score; NaN is undefined."""
        self._optional(key, value, lambda v: score(v, metric), metric_unit(metric), sources)

    def gain(self, key: str, value: float, metric: Metric, sources: Sources) -> None:
        """Add a difference of scores, with its sign; NaN is undefined."""
        self._optional(key, value, lambda v: gain(v, metric), metric_unit(metric), sources)

    def p_value(self, key: str, value: float, sources: Sources) -> None:
        """Add a p value."""
        self._optional(key, value, p_value, "", sources)

    def number(self, key: str, value: float | None, sources: Sources) -> None:
        """Add a number of no special kind, with four significant digits."""
        self._optional(key, value, general, "", sources)

    def _optional(
        self, key: str, value: float | None, form: Any, unit: str, sources: Sources
    ) -> None:
        missing = value is None or not math.isfinite(value)
        text = UNDEFINED if missing else str(form(value))
        self._add(key, None if missing else value, text, unit, sources)

    def interval(self, key: str, value: Interval, metric: Metric, sources: Sources) -> None:
        """Add KEY.mean, KEY.low and KEY.high of a score, cut to the metric's range."""
        upper = math.inf if metric is Metric.HD95 else 1.0
        self.score(f"{key}.mean", value.mean, metric, sources)
        self.score(f"{key}.low", max(value.low, 0.0), metric, sources)
        self.score(f"{key}.high", min(value.high, upper), metric, sources)

    def gain_interval(self, key: str, value: Interval, metric: Metric, sources: Sources) -> None:
        """Add KEY, KEY_low and KEY_high of a difference."""
        self.gain(key, value.mean, metric, sources)
        self.gain(f"{key}_low", value.low, metric, sources)
        self.gain(f"{key}_high", value.high, metric, sources)

    def settings(self, key: str, value: object, sources: Sources) -> None:
        """Add a nested setting: a mapping as KEY.NAME, a list as one text, a scalar as it is."""
        if isinstance(value, Mapping):
            for name, inner in value.items():
                self.settings(f"{key}.{slug(str(name))}", inner, sources)
        elif isinstance(value, bool) or value is None:
            self.words(key, {True: "yes", False: "no", None: "not set"}[value], sources)
        elif isinstance(value, int) and key.endswith("seed"):
            self.identifier(key, value, sources)
        elif isinstance(value, int | float):
            self.number(key, value, sources)
        elif isinstance(value, list | tuple):
            self.words(key, listing(value), sources)
        else:
            self.words(key, value, sources)


def listing(values: Iterable[object]) -> str:
    """Return a list as text: inner lists joined by "x", as sizes and strides are written."""
    parts = [
        " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for value in values
    ]
    return ", ".join(parts) if parts else "none"
