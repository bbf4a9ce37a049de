"""Words of clues: text from trials and datasets without what a prompt must not hold. Pure.

A replay must send the same prompt, so times, sizes of memory, addresses and process numbers go;
paths go, because they tell of the machine; names of cases go, because they tell of patients.

Covered: absolute, home and dotted paths of both systems, seconds to hours, clock times, dates,
memory sizes, addresses, process numbers, the given names. Not covered: a name in another spelling.
"""

import re
from collections.abc import Iterable

from sandbox.clean import clean_text

EXCERPT_CHARACTERS = 600
LABEL_CHARACTERS = 40
_SHORT = 4
_PATH = re.compile(
    r"(?<![\w)\]])(?:[A-Za-z]:(?=\\)|~|\.{1,2})?(?:[/\\]+[\w.+@~=\-]+)+[/\\]?", re.ASCII
)
_RULES = (
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "(date)"),
    (re.compile(r"\b\d{1,2}:\d\d(?::\d\d)?(?:\.\d+)?\b"), "(time)"),
    (re.compile(r"\b[\d.]+(?:e[+-]?\d+)?\s?(?:[munµ]?s|secs?|seconds?|min|minutes?|h|hours?)\b"), "(time)"),
    (re.compile(r"\b[\d.,]+\s?(?:[KMGT]i?B|bytes)\b"), "(size)"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "(address)"),
    (re.compile(r"\b([Pp]id(?:\(s\))?|[Pp]rocess)[ =:]*\d[\d, ]*"), r"\1 (number)"),
)  # fmt: skip

_SLASHED = re.compile(r"(\((?:date|time|size|address|number)\))/+")  # would look like a path


def scrubbed(text: str, *, names: Iterable[str] = (), most: int = EXCERPT_CHARACTERS) -> str:
    """Return a text on one line, cleaned, without paths, times, sizes and names, and bounded.

    Args:
        text: hostile.
        names: what must not be told, such as cases; a short name or number goes only where it is
            quoted, lest it take other words with it.
        most: characters; a longer text loses its middle.
    """
    text = _without(clean_text(text), names)
    text = _PATH.sub(_file, text)
    for pattern, word in _RULES:
        text = pattern.sub(word, text)
    text = _SLASHED.sub(r"\1 ", text)
    return shortened(" ".join(text.split()), most)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters: its beginning and its end."""
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]} ... {text[len(text) - half :]}"


def label_name(label: str) -> str:
    """Return the name of a class as clues tell it: one line, at most 40 characters."""
    return scrubbed(label, most=LABEL_CHARACTERS) or "unnamed"


def slugs(labels: Iterable[str]) -> dict[str, str]:
    """Return a short key for each class, plain and unique; the order of the labels decides."""
    found: dict[str, str] = {}
    for number, label in enumerate(labels):
        slug = re.sub(r"\W+", "_", clean_text(label)).strip("_")[:24].rstrip("_")
        is_new = slug and slug not in found.values() and not slug[0].isdigit()
        found[label] = slug if is_new else f"class{number}_"
    return found


def points(value: float) -> str:
    """Return a difference in Dice or NSD as percentage points with its sign, without a unit."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _without(text: str, names: Iterable[str]) -> str:
    listed = sorted({name for name in names if name}, key=len, reverse=True)
    plain = [re.escape(n) for n in listed if len(n) >= _SHORT and not n.isdigit()]
    if plain:
        text = re.sub(rf"(?<![A-Za-z0-9])(?:{'|'.join(plain)})(?![A-Za-z0-9])", "(case)", text)
    quoted = [re.escape(n) for n in listed if len(n) < _SHORT or n.isdigit()]
    if quoted:
        text = re.sub(rf"(['\"])(?:{'|'.join(quoted)})\1", "(case)", text)
    return text


def _file(found: re.Match[str]) -> str:
    last = re.split(r"[/\\]", found.group().rstrip("/\\"))[-1]
    return "network.py" if last == "network.py" else "(path)"
