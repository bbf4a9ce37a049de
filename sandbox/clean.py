"""Text from a trial or a model made safe to show in a terminal. Pure.

Covered: escape sequences, control, bidirectional and invisible characters, lone surrogates.
Not covered: markup (whoever displays it escapes it), and letters that look like others.
"""

import re
import unicodedata

# A string command ends at its terminator, or at the end of its line, lest one hide a whole log.
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\r\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs"})


def clean_text(text: str) -> str:
    """Return a text that is safe to show in a terminal, and twice cleaned is the same.

    Escape sequences (CSI, OSC, DCS and the other string commands, with either introducer), other
    control, format (bidirectional, zero-width, tags) and surrogate characters are removed; tabs
    stay, and every kind of line end, a carriage return included, becomes a newline.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _LINE_ENDS.sub("\n", _ESCAPES.sub("", text))
    gone = {c for c in set(text) - {"\n", "\t"} if unicodedata.category(c) in _INVISIBLE}
    return text.translate(dict.fromkeys(map(ord, gone)))
