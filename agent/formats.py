"""How a value is printed: one rounding rule for each kind of number, everywhere.

Dice and NSD have three decimals, differences a sign as well, HD95 two decimals in mm, p
three decimals or "<0.001". A value that does not exist is printed as "undefined".
"""

import math
import re
import unicodedata
from datetime import UTC, datetime

from memory.records import Metric, digest

MINUS = "\N{MINUS SIGN}"
UNDEFINED = "undefined"
LONGEST_TEXT = 600
_DURATIONS = ((3600.0, "h"), (60.0, "min"), (0.0, "s"))
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float, decimals: int) -> str:
    """Return a number with fixed decimals and a true minus sign; never "-0.000"."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:.{decimals}f}"
    if float(text) == 0.0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float, decimals: int) -> str:
    """Return a difference: like `number`, with a plus sign where it is above zero."""
    text = number(value, decimals)
    above = not math.isnan(value) and value > 0 and float(text) > 0
    return f"+{text}" if above else text


def score(value: float, metric: Metric) -> str:
    """Return a score: three decimals for Dice and NSD, two for HD95 in mm."""
    return number(value, _decimals(metric))


def gain(value: float, metric: Metric) -> str:
    """Return a difference of scores, with its sign."""
    return signed(value, _decimals(metric))


def _decimals(metric: Metric) -> int:
    return 2 if metric is Metric.HD95 else 3


def metric_unit(metric: Metric) -> str:
    """Return the unit of a metric; Dice and NSD have none."""
    return "mm" if metric is Metric.HD95 else ""


def p_value(value: float) -> str:
    """Return a p value: three decimals, or "<0.001"."""
    return "<0.001" if value < 0.001 else number(value, 3)


def general(value: float) -> str:
    """Return any other number with four significant digits, whole numbers as they are."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Return seconds as "12.3 s", "4.2 min" or "1.25 h"."""
    size, unit = next(pair for pair in _DURATIONS if abs(seconds) >= pair[0])
    return f"{number(seconds / (size or 1.0), 2 if unit == 'h' else 1)} {unit}"


def large(value: float, unit: str = "") -> str:
    """Return a count with three significant digits and a prefix: "31.2 M"."""
    for size, prefix in _LARGE:
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{general(value)} {unit}".rstrip()


def day(seconds: float) -> str:
    """Return the UTC date of a time in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def plain_text(text: object, *, longest: int = LONGEST_TEXT) -> str:
    """Return hostile text on one line, without control, format or private characters."""
    kept = "".join(" " if unicodedata.category(c).startswith("C") else c for c in str(text))
    line = " ".join(kept.split())
    return (
        line if len(line) <= longest else line[: longest - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    )


def slug(name: str) -> str:
    """Return a name as a part of a fact's key: unchanged where safe, else with a digest."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return safe if safe == name and name else f"{safe[:40]}_{digest(name)[:6]}"
