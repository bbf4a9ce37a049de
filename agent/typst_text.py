r"""Hostile text as Typst source that prints it and does nothing else.

Every ASCII character that is no letter, digit or space is written with a backslash before it,
which in Typst's markup prints the character, whatever stands around it; characters that the
fonts of the typst wheel lack are printed by their code point.
"""

import re
import unicodedata

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
# What the wheel's fonts have beyond ASCII, as first and last code points; each was compiled.
_RANGES = ((0x00A1, 0x017F), (0x0370, 0x03FF), (0x0400, 0x045F))
_SIGNS = set(
    "\N{EN DASH}\N{EM DASH}\N{HORIZONTAL ELLIPSIS}\N{BULLET}\N{MINUS SIGN}"
    "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
    "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
    "\N{LESS-THAN OR EQUAL TO}\N{GREATER-THAN OR EQUAL TO}\N{NOT EQUAL TO}"
    "\N{ALMOST EQUAL TO}\N{INFINITY}\N{RIGHTWARDS ARROW}\N{LEFTWARDS ARROW}"
)


def escaped(text: str) -> str:
    """Return a text as Typst markup of one line that prints it; a percent sign keeps its number."""
    return "".join(_character(character) for character in text).replace(r" \%", r"~\%")


def quoted(text: str) -> str:
    """Return a text as a Typst string, quotation marks included."""
    kept = "".join(" " if _is_blank(character) else character for character in text)
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(source: str) -> str:
    """Return the text of a string that `quoted` wrote, given without its quotation marks."""
    return re.sub(r"\\(.)", r"\1", source)


def _character(character: str) -> str:
    if character == NO_BREAK_SPACE:
        return "~"
    if _is_blank(character):
        return " "
    if character.isascii():
        return character if character.isalnum() else "\\" + character
    if character in _SIGNS or any(low <= ord(character) <= high for low, high in _RANGES):
        return character
    return rf"U\+{ord(character):04X}"


def _is_blank(character: str) -> bool:
    return unicodedata.category(character).startswith(("C", "Z"))
