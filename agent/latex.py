"""Hostile text as LaTeX that prints it and does nothing else.

Every character with a meaning is written as the command that prints it; characters that
pdflatex's T1 fonts lack are printed by their code point.
"""

import unicodedata

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "#": r"\#",
    "$": r"\$",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "\N{MINUS SIGN}": r"\(-\)",
    "\N{PLUS-MINUS SIGN}": r"\(\pm\)",
    "\N{MULTIPLICATION SIGN}": r"\(\times\)",
    "\N{MIDDLE DOT}": r"\(\cdot\)",
    "\N{DEGREE SIGN}": r"\textdegree{}",
    "\N{MICRO SIGN}": r"\textmu{}",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{EN DASH}": r"\textendash{}",
    "\N{EM DASH}": r"\textemdash{}",
    "\N{LEFT SINGLE QUOTATION MARK}": r"\textquoteleft{}",
    "\N{RIGHT SINGLE QUOTATION MARK}": r"\textquoteright{}",
    "\N{LEFT DOUBLE QUOTATION MARK}": r"\textquotedblleft{}",
    "\N{RIGHT DOUBLE QUOTATION MARK}": r"\textquotedblright{}",
    "\N{LESS-THAN OR EQUAL TO}": r"\(\leq\)",
    "\N{GREATER-THAN OR EQUAL TO}": r"\(\geq\)",
    "\N{NO-BREAK SPACE}": "~",
}
# The letters beyond ASCII that T1 has, and that Greek fonts would be needed for otherwise.
_LETTERS = set(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿ"
    "ĂăĄąĆćČčĎďĘęĚěĞğĹĺĽľŁłŃńŇňŐőŔŕŘřŚśŞşŠšŢţŤťŮůŰűŹźŻżŽž"
)


_JOINING = set("-,'")  # doubled, these become another character


def escaped(text: str) -> str:
    """Return a text as LaTeX source that prints it."""
    parts = [_character(c) for c in text]
    for place in range(1, len(text)):
        if text[place] in _JOINING and text[place - 1] == text[place]:
            parts[place] = "{}" + parts[place]
    return "".join(parts)


def _character(character: str) -> str:
    if character in _COMMANDS:
        return _COMMANDS[character]
    if character in _LETTERS or " " <= character <= "~":
        return character
    if unicodedata.category(character).startswith(("C", "Z")):
        return " "
    return rf"\texttt{{U+{ord(character):04X}}}"
