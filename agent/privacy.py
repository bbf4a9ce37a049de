"""What must not leave the machine with an export: folders, the user, the host, cases, patients. Pure.

Covered: absolute and home paths of both systems, addresses of the web and of mail, the given
folders, the given words (user, host) and the given names (cases, patients).
Not covered: a name in another spelling, and a name shorter than four characters or of digits alone
that does not stand in quotes, lest it take other words with it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from sandbox.clean import clean_text

_SHORT = 4
_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>]+", "(address)"),
    (r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+", "(address)"),
    (r"([\"'])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\"'\n]*\1", lambda found: _place(found.group())),
    (r"(?<![\w.)\]/])~[\w.-]*/[^\s\"'<>,;)]*", lambda found: _place(found.group())),
    (r"(?<![\w.)\]/~])/(?=[\w.~@+-])[^\s\"'<>,;:)]*", lambda found: _place(found.group())),
    (r"(?<!\w)(?:[A-Za-z]:[\\/]|\\\\(?=\w))[^\s\"'<>,;)]*", lambda found: _place(found.group())),
)
_PATTERNS = tuple((re.compile(pattern), told) for pattern, told in _RULES)
_DATA = r"data:[a-z0-9/+.-]+;base64,[A-Za-z0-9+/=]*"


@dataclass(frozen=True, slots=True)
class Privacy:
    """What an export hides.

    Attributes:
        folders: of this machine, absolute: the home, the campaign, the installation.
        words: the names of the user and of the host.
        names: of cases and patients.
    """

    folders: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def text(self, text: object) -> str:
        """Return a text of others, cleaned, without anything that is private; lines stay."""
        kept = self.shown(clean_text(str(text)))
        for pattern, told in _PATTERNS:
            kept = pattern.sub(told, kept)
        kept = _without(kept, self.words, "(name)", fewest=2)
        return _without(kept, self.names, "(case)", fewest=_SHORT)

    def shown(self, text: str, form: Callable[[str], str] = str) -> str:
        """Return a text of a report without this machine's folders; images in it stay.

        Args:
            text: of a page.
            form: how that page writes a text, such as with escapes.
        """
        found = sorted({form(folder) for folder in self.folders}, key=len, reverse=True)
        if not found:
            return text
        either = re.compile(f"({_DATA})|{'|'.join(map(re.escape, found))}")
        return either.sub(lambda match: match.group(1) or "(path)", text)

    def is_private(self, text: str) -> bool:
        """Return whether a text of one line holds anything that is hidden."""
        return self.text(text) != clean_text(text)


def _place(path: str) -> str:
    """Return what is told of a path: that it is one, and the name of a file of Python."""
    quote = path[0] if path[0] in "\"'" else ""
    last = re.split(r"[/\\]", path.strip("\"'"))[-1]
    told = f"(path)/{last}" if re.fullmatch(r"\w+\.py", last) else "(path)"
    return f"{quote}{told}{quote}"


def _without(text: str, names: tuple[str, ...], told: str, *, fewest: int) -> str:
    for pattern in _either(names, fewest):
        text = pattern.sub(told, text)
    return text


@lru_cache(maxsize=16)
def _either(names: tuple[str, ...], fewest: int) -> list[re.Pattern[str]]:
    """Return the patterns of names: as words, and short ones and numbers in quotes alone."""
    listed = sorted({name for name in names if name}, key=len, reverse=True)
    plain = [n for n in listed if len(n) >= fewest and not n.isdigit()]
    quoted = [n for n in listed if n not in plain]
    forms = (
        (plain, r"(?<![A-Za-z0-9])(?:{})(?![A-Za-z0-9])"),
        (quoted, r"(?<=[\"'])(?:{})(?=[\"'])"),
    )
    return [re.compile(form.format("|".join(map(re.escape, own)))) for own, form in forms if own]
