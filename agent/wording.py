"""Figures in words that need no statistics: points of Dice, chances, minutes. Pure."""

import re

from sandbox.clean import clean_text

POINT = 0.01
CLIPPED = "…"
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def points(dice: float) -> str:
    """Return the size of a difference in Dice, e.g. '0.6 points of Dice'; its sign is left out."""
    return f"{bare_points(dice)} points of Dice"


def bare_points(dice: float) -> str:
    """Return the size of a difference in points alone, e.g. '0.6'; its sign is left out."""
    size = abs(dice) / POINT
    return f"{size:.1f}" if size >= 0.095 else f"{size:.2f}"


def beside_baseline(dice: float) -> str:
    """Return an effect in Dice, e.g. '0.6 points of Dice below the baseline'."""
    if bare_points(dice) == "0.00":
        return "level with the baseline"
    return f"{points(dice)} {'above' if dice > 0 else 'below'} the baseline"


def beside_it(dice: float) -> str:
    """Return an effect after the baseline was named, e.g. '0.6 below it'."""
    if bare_points(dice) == "0.00":
        return "level with it"
    return f"{bare_points(dice)} {'above' if dice > 0 else 'below'} it"


def more_than(dice: float) -> str:
    """Return what lies beyond an effect after the baseline was named, e.g. 'more than 0.6 above it'."""
    return "above it" if bare_points(dice) == "0.00" else f"more than {beside_it(dice)}"


def chance(p: float) -> str:
    """Return a probability in words: '1 in 20' where it is small, else per cent."""
    if p < 0.001:
        return "under 1 in 1000"
    if p < 0.105:
        return f"1 in {rounded(1 / p)}"
    return "more than 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def chance_below(p: float, level: float) -> str:
    """Return a probability that lies below a level, so that the two never read the same."""
    return f"just under {chance(p)}" if chance(p) == chance(level) else chance(p)


def rounded(value: float) -> int:
    """Return a number of at least 1 with at most two significant digits."""
    return round(value) if value < 100 else int(float(f"{value:.1e}"))


def duration(seconds: float) -> str:
    """Return a time in minutes, in hours from three on."""
    whole = round(seconds / 60)
    if whole < 1:
        return "less than a minute"
    return counted(whole, "minute") if whole < 180 else f"{seconds / 3600:.1f} hours"


def counted(number: int, thing: str, things: str = "") -> str:
    """Return a number with its noun, e.g. '1 trial', '3 trials', 'no trials'."""
    name = thing if number == 1 else things or f"{thing}s"
    return f"{number if number else 'no'} {name}"


def spelt(number: int) -> str:
    """Return a small number as a word, others in digits."""
    return _COUNTS[number] if 0 <= number < len(_COUNTS) else str(number)


def ordinal(number: int) -> str:
    """Return '1st', '2nd', '3rd', '4th'."""
    last = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{last}"


def one_line(text: str) -> str:
    """Return a text of any origin on one line, safe to show in a terminal."""
    return re.sub(r"\s+", " ", clean_text(text)).strip()


def clip(text: str, width: int) -> str:
    """Return a text of at most `width` characters; a cut one ends with an ellipsis."""
    return text if len(text) <= width else text[: width - 1].rstrip() + CLIPPED


def sentence(text: str) -> str:
    """Return a text that begins with a capital and ends with a full stop."""
    ended = text if text.endswith((".", "!", "?", CLIPPED)) else f"{text}."
    return ended[:1].upper() + ended[1:]
