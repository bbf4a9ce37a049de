"""The shipped bibliography: which sources may be cited, and how they are printed.

Reads the plain BibTeX of templates/references.bib: braced or quoted fields, no macros. What is
not in it cannot be cited.
"""

import re
from importlib import resources
from typing import NamedTuple

from memory.errors import ReportError

_ACCENTS = {
    '"': dict(zip("aeiouAEIOU", "äëïöüÄËÏÖÜ", strict=True)),
    "'": dict(zip("aceinosuyzACEINOSUYZ", "áćéíńóśúýźÁĆÉÍŃÓŚÚÝŹ", strict=True)),
    "`": dict(zip("aeiouAEIOU", "àèìòùÀÈÌÒÙ", strict=True)),
    "^": dict(zip("aeiouAEIOU", "âêîôûÂÊÎÔÛ", strict=True)),
    "~": dict(zip("anoANO", "ãñõÃÑÕ", strict=True)),
    "c": dict(zip("csCS", "çşÇŞ", strict=True)),
    "v": dict(zip("cszeCSZE", "čšžěČŠŽĚ", strict=True)),
}
_LETTERS = {r"\ss": "ß", r"\o": "ø", r"\O": "Ø", r"\l": "ł", r"\L": "Ł", r"\aa": "å", r"\i": "i"}


class Reference(NamedTuple):
    """One entry of the bibliography, its fields as plain text."""

    key: str
    authors: tuple[str, ...]
    title: str
    year: str
    venue: str
    link: str
    source: str

    @property
    def label(self) -> str:
        """The citation in running text: surnames and year."""
        names = [_surname(author) for author in self.authors]
        if len(names) > 2 or "others" in names:
            return f"{names[0]} et al. {self.year}"
        return f"{' and '.join(names) or self.title} {self.year}".strip()

    @property
    def text(self) -> str:
        """The entry in the list of references."""
        written = [a for a in self.authors if a != "others"]
        names = "; ".join(written[:6]) + (" et al." if written != list(self.authors[:6]) else "")
        return " ".join(
            f"{part.rstrip('.')}." for part in (names, self.title, self.venue, self.year) if part
        )


def load_references() -> dict[str, Reference]:
    """Return the shipped bibliography by key; empty where none is shipped."""
    return parse_references(bibliography_text())


def bibliography_text() -> str:
    """Return the shipped BibTeX file."""
    path = resources.files("templates") / "references.bib"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def parse_references(text: str) -> dict[str, Reference]:
    """Return the entries of a BibTeX text by key.

    Raises:
        ReportError: an entry is not closed, or a key stands twice.
    """
    found: dict[str, Reference] = {}
    for match in re.finditer(r"@(\w+)\s*\{\s*([^,\s{}]+)\s*,", text):
        kind, key = match.group(1).lower(), match.group(2)
        if kind in ("comment", "string", "preamble"):
            continue
        if key in found:
            raise ReportError(f"references.bib has {key!r} twice; a key names one source")
        end = _closing(text, match.start() + text[match.start() :].index("{"))
        found[key] = _reference(
            key, _fields(text[match.end() : end]), text[match.start() : end + 1]
        )
    return found


def _closing(text: str, start: int) -> int:
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ReportError(f"references.bib: the entry at character {start} is not closed")


def _fields(body: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    place = 0
    while match := re.compile(r"(\w+)\s*=\s*").search(body, place):
        start = match.end()
        if body[start : start + 1] == "{":
            end = _closing(body, start)
            value = body[start + 1 : end]
        elif body[start : start + 1] == '"':
            end = body.index('"', start + 1)
            value = body[start + 1 : end]
        else:
            end = next((i for i in range(start, len(body)) if body[i] in ",\n}"), len(body))
            value = body[start:end]
        fields[match.group(1).lower()] = value
        place = end + 1
    return fields


def _reference(key: str, fields: dict[str, str], source: str) -> Reference:
    venue = next((fields[f] for f in ("journal", "booktitle", "publisher") if f in fields), "")
    arxiv = fields.get("eprint", "")
    doi = fields.get("doi", "")
    if arxiv and not venue:
        venue = f"arXiv:{arxiv}"
    link = f"https://doi.org/{doi}" if doi else f"https://arxiv.org/abs/{arxiv}" if arxiv else ""
    authors = tuple(plain(a) for a in re.split(r"\s+and\s+", fields.get("author", "")) if a.strip())
    title, year = plain(fields.get("title", "")), plain(fields.get("year", ""))
    return Reference(key, authors, title, year, plain(venue), link, source)


def _surname(author: str) -> str:
    return author.split(",")[0] if "," in author else author.split()[-1]


def plain(text: str) -> str:
    """Return BibTeX text without braces, commands and accents written as commands."""

    def accent(match: re.Match[str]) -> str:
        return _ACCENTS[match.group(1)].get(match.group(2), match.group(2))

    text = re.sub(r"\\([\"'`^~])\s*\{?\\?([A-Za-z])\}?", accent, text)
    text = re.sub(r"\\([cv])\s*\{([A-Za-z])\}", accent, text)
    for command, letter in _LETTERS.items():
        text = re.sub(re.escape(command) + r"(?![A-Za-z])\s*", letter, text)
    text = text.replace(r"\&", "&").replace("--", "–").replace("~", " ")
    return " ".join(re.sub(r"[{}]", "", text).split())
