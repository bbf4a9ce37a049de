"""The shipped bibliography: which sources may be cited, and how they are printed.

Reads the plain BibTeX of templates/references.bib: braced or quoted fields, no macros. What is
not in it cannot be cited.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from agent.papers import Paper, arxiv_of, citable, doi_of, letters, surname
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
    """One entry of the bibliography, its fields as plain text.

    Attributes:
        key: what a text cites it by.
        authors: "Surname, Given"; the last one is "others" where the entry names the first only.
        venue: journal, proceedings or publisher; "arXiv:..." for a preprint.
        link: of the DOI, else of the arXiv entry, else the entry's own address; or empty.
        source: the entry as BibTeX.
        doi: lower case, or empty.
        arxiv: identifier without a version, or empty.
        checked: the day, YYYY-MM-DD, when the entry was compared with a source; empty if never.
        checked_at: the address or the repository's file where that source was seen.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    year: str
    venue: str
    link: str
    source: str
    doi: str = ""
    arxiv: str = ""
    checked: str = ""
    checked_at: str = ""

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
        written = [a for a in self.authors if a != "others"][:6]
        names = "; ".join(written) + (" et al." if len(written) < len(self.authors) else "")
        return " ".join(
            f"{part.rstrip('.')}." for part in (names, self.title, self.venue, self.year) if part
        )


def load_references() -> dict[str, Reference]:
    """Return the shipped bibliography by key; empty where none is shipped."""
    return dict(_shipped())


@cache
def _shipped() -> dict[str, Reference]:
    return parse_references(bibliography_text())


def find_reference(cited: str | Paper, authors: Sequence[str] = ()) -> Reference | None:
    """Return the shipped reference that a citation means, or None where it is not known.

    Args:
        cited: a key, a DOI or an arXiv identifier (with or without its resolver), a title when
            `authors` are given, or the record of a search. Ids decide before titles.
        authors: of the title; only the first one's surname counts.
    """
    references = _shipped()
    if isinstance(cited, str) and cited.strip() in references:
        return references[cited.strip()]
    if isinstance(cited, str):
        title, record = cited, citable("", title=cited, doi=cited, arxiv=cited)
    else:
        title, record, authors = cited.title, cited, cited.authors
    by_id = [r for r in references.values() if record and _shares_id(r, record)]
    by_title = [r for r in references.values() if _is_titled(r, title, authors)]
    return next(iter(by_id + by_title), None)


def _shares_id(reference: Reference, paper: Paper) -> bool:
    same_doi = bool(paper.doi) and paper.doi == reference.doi
    return same_doi or (bool(paper.arxiv) and paper.arxiv == reference.arxiv)


def _is_titled(reference: Reference, title: str, authors: Sequence[str]) -> bool:
    if not authors or not reference.authors or not letters(title) or not surname(authors[0]):
        return False
    same_author = surname(authors[0]) == surname(reference.authors[0])
    return same_author and letters(title) == letters(reference.title)


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
    doi, url = fields.get("doi", ""), fields.get("url", "")
    if arxiv and not venue:
        venue = f"arXiv:{arxiv}"
    link = f"https://doi.org/{doi}" if doi else f"https://arxiv.org/abs/{arxiv}" if arxiv else url
    authors = tuple(plain(a) for a in re.split(r"\s+and\s+", fields.get("author", "")) if a.strip())
    title, year = plain(fields.get("title", "")), plain(fields.get("year", ""))
    return Reference(
        key,
        authors,
        title,
        year,
        plain(venue),
        link,
        source,
        doi=doi_of(doi),
        arxiv=arxiv_of(arxiv),
        checked=fields.get("checked", "").strip(),
        checked_at=" ".join(fields.get("checkedat", "").split()),
    )


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
