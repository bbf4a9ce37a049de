"""A published paper as a search reports it: cleaned, bounded, citable, and met once. Pure.

Every text comes from a network and is hostile: it is cut, freed of markup and of what
sandbox.clean removes, and put on one line. It is data for a prompt or a page, never an
instruction, and whoever displays it escapes it. What it says is not checked here.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sandbox.clean import clean_text

TITLE_LENGTH = 300
NAME_LENGTH = 80
AUTHORS = 30
VENUE_LENGTH = 160
ABSTRACT_LENGTH = 1200
YEARS = range(1800, 2101)

_DOI = re.compile(r"10\.[0-9]{4,9}/[A-Za-z0-9._;()/:+-]{1,180}")
_DOI_PREFIX = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:)\s*", re.IGNORECASE)
_ARXIV = re.compile(r"([0-9]{4}\.[0-9]{4,5}|[a-z-]{2,20}(?:\.[A-Z]{2})?/[0-9]{7})(?:v[0-9]{1,3})?")
_ARXIV_PREFIX = re.compile(
    r"(?:https?://(?:www\.|export\.)?arxiv\.org/(?:abs|pdf)/|arxiv:)", re.IGNORECASE
)
_ARXIV_DOI = "10.48550/arxiv."  # the DOI that arXiv itself gives an entry
_INLINE = re.compile(r"</?(?:i|b|em|strong|u|sub|sup|sc|scp|span|italic|bold)\s*/?>", re.IGNORECASE)
_BLOCK = re.compile(r"</?(?:p|br|div|h[1-6]|title|sec|jats:[a-z-]{1,20})\s*/?>", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[A-Z]\.?-?){1,4}")
_SUFFIXES = frozenset({"jr", "sr", "ii", "iii", "iv"})


@dataclass(frozen=True)
class Paper:
    """One paper that can be cited.

    Attributes:
        key: "doi:..." where it has a DOI, else "arxiv:...".
        title: one line, at most 300 characters.
        authors: names with the surname last, at most 30.
        year: of publication, 1800 to 2100, or None where the source does not say.
        doi: lower case, without a resolver's address; empty where there is none.
        arxiv: identifier without a version; empty where there is none.
        venue: journal or conference, or empty.
        abstract: one line, at most 1200 characters, or empty.
        source: names of the sources that gave it, joined by "+".
    """

    key: str
    title: str
    authors: tuple[str, ...]
    year: int | None
    doi: str
    arxiv: str
    venue: str
    abstract: str
    source: str


def citable(
    source: str,
    *,
    title: Any,
    authors: Iterable[Any] = (),
    year: Any = None,
    doi: Any = "",
    arxiv: Any = "",
    venue: Any = "",
    abstract: Any = "",
) -> Paper | None:
    """Return a paper from fields as a source gave them, whatever their types.

    Returns:
        None for a paper without a title, or with neither a DOI nor an arXiv identifier.
    """
    text, doi, arxiv = one_line(title, TITLE_LENGTH), doi_of(doi), arxiv_of(arxiv)
    if doi.startswith(_ARXIV_DOI):
        arxiv, doi = arxiv or arxiv_of(doi[len(_ARXIV_DOI) :]), ""
    if not text or not (doi or arxiv):
        return None
    names = (one_line(name, NAME_LENGTH) for name in list(authors)[:AUTHORS])
    return Paper(
        key=_key(doi, arxiv),
        title=text,
        authors=tuple(name for name in names if name),
        year=year_of(year),
        doi=doi,
        arxiv=arxiv,
        venue=one_line(venue, VENUE_LENGTH),
        abstract=one_line(abstract, ABSTRACT_LENGTH),
        source=source,
    )


def _key(doi: str, arxiv: str) -> str:
    return f"doi:{doi}" if doi else f"arxiv:{arxiv}"


def one_line(value: Any, length: int) -> str:
    """Return a text on one line: no markup, no control characters, at most `length` of it.

    Anything but a text gives an empty one.
    """
    if not isinstance(value, str):
        return ""
    # Entities are read before the cleaning, or one could carry an invisible character past it.
    text = html.unescape(value[: 4 * length])
    text = _BLOCK.sub(" ", _INLINE.sub("", text))
    return " ".join(clean_text(text).split())[:length].rstrip()


def doi_of(value: Any) -> str:
    """Return a DOI in lower case without its resolver, or "" where the value is none."""
    text = _DOI_PREFIX.sub("", one_line(value, 240), count=1).rstrip(".,;")
    return text.lower() if _DOI.fullmatch(text) else ""


def arxiv_of(value: Any) -> str:
    """Return an arXiv identifier without version, from one or from its address, or ""."""
    text = _ARXIV_PREFIX.sub("", one_line(value, 120), count=1).removesuffix(".pdf")
    found = _ARXIV.fullmatch(text)
    return found.group(1) if found else ""


def year_of(value: Any) -> int | None:
    """Return the year that a number is or a text starts with; None outside 1800 to 2100."""
    if isinstance(value, str) and re.match(r"[0-9]{4}(?![0-9])", value):
        value = int(value[:4])
    is_year = isinstance(value, int) and not isinstance(value, bool) and value in YEARS
    return value if is_year else None


def surname(author: str) -> str:
    """Return the last word of a surname in lower-case letters without accents.

    "Fabian Isensee", "Isensee, Fabian", "Isensee F" and "Isensee et al." give "isensee"; a
    particle falls away ("van Ginneken, Bram" gives "ginneken"). Empty for a text without words.
    """
    text = re.sub(r"\bet al\.?\s*$", "", author[:NAME_LENGTH].split(",")[0].strip())
    words = [w for w in text.split() if w.lower().strip(".") not in _SUFFIXES and letters(w)]
    if len(words) > 1 and _INITIALS.fullmatch(words[-1]) and not _INITIALS.fullmatch(words[0]):
        words.pop()  # initials after the surname, as PubMed writes them
    return letters(words[-1]) if words else ""


def paper_of(row: Mapping[str, Any]) -> Paper:
    """Return a paper from the plain form in which a store keeps it."""
    return Paper(**{**row, "authors": tuple(row["authors"])})


def letters(text: str) -> str:
    """Return the letters and digits of a text, in lower case, without accents or spaces."""
    apart = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in apart if c.isalnum())


def matches(paper: Paper, title: str, authors: Sequence[str]) -> bool:
    """True when a title and the first author's surname are those of a paper.

    Case, accents, punctuation and spaces do not count. An empty title or a missing author on
    either side matches nothing.
    """
    if not authors or not paper.authors:
        return False
    ours, theirs = letters(paper.title), letters(title[: 2 * TITLE_LENGTH])
    first = surname(authors[0])
    return bool(ours and first) and ours == theirs and first == surname(paper.authors[0])


def merged(replies: Sequence[Sequence[Paper]]) -> list[Paper]:
    """Return the papers of several sources, each once.

    Two are the same when they share a DOI, an arXiv identifier, or a title and its first
    author's surname. The fields of the earlier source stand; a later one fills those that are
    empty. First come those that most sources gave, then by best rank, then by order of source.

    Args:
        replies: one list a source, best first; the order of sources decides between equals.
    """
    groups: list[list[tuple[int, int, Paper]]] = []
    for number, papers in enumerate(replies):
        for rank, paper in enumerate(papers):
            same = [g for g in groups if any(_is_same(paper, member) for *_, member in g)]
            groups = [g for g in groups if g not in same]
            groups.append(
                sorted([m for g in same for m in g] + [(number, rank, paper)], key=_place)
            )
    return [_whole([paper for *_, paper in group]) for group in sorted(groups, key=_order)]


def _place(member: tuple[int, int, Paper]) -> tuple[int, int]:
    return member[:2]


def _order(group: list[tuple[int, int, Paper]]) -> tuple[int, int, int]:
    best, number = min((rank, number) for number, rank, _ in group)
    return -len({number for number, _, _ in group}), best, number


def _is_same(one: Paper, other: Paper) -> bool:
    if one.doi and one.doi == other.doi:
        return True
    if one.arxiv and one.arxiv == other.arxiv:
        return True
    return matches(one, other.title, other.authors)


def _whole(papers: list[Paper]) -> Paper:
    def first(name: str) -> Any:
        values = [getattr(paper, name) for paper in papers]
        return next((value for value in values if value), values[0])

    doi, arxiv = first("doi"), first("arxiv")
    return replace(
        papers[0],
        key=_key(doi, arxiv),
        doi=doi,
        arxiv=arxiv,
        authors=first("authors"),
        year=first("year"),
        venue=first("venue"),
        abstract=first("abstract"),
        source="+".join(dict.fromkeys(paper.source for paper in papers)),
    )
