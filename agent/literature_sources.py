"""How arXiv, OpenAlex, PubMed and Semantic Scholar are asked, and what they answered. Pure.

A source is a dialogue: a generator that yields each question (`Ask`), is sent the text of the
reply, and returns papers. No network is touched here. Replies are hostile: any text gives papers
or a ReplyError.

Formats, as documented in 2026: arXiv API user manual (Atom 1.0); OpenAlex `GET /works`;
E-utilities (NCBI book NBK25499) esearch and esummary with retmode=json; Semantic Scholar
Academic Graph `GET /graph/v1/paper/search`.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple
from xml.etree import ElementTree

from agent.papers import Paper, arxiv_of, citable, one_line

QUERY_LENGTH = 300
ARXIV_WORDS = 8  # arXiv joins them by AND: more find nothing
TOOL = "segwright"

_ATOM = "{http://www.w3.org/2005/Atom}"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_OPERATORS = frozenset({"and", "or", "not", "andnot"})
_OPENALEX_FIELDS = (
    "title,doi,publication_year,is_retracted,authorships,primary_location,locations,"
    "abstract_inverted_index"
)
_SCHOLAR_FIELDS = "title,abstract,year,venue,authors,externalIds"
_INITIALS_LAST = re.compile(r"(\S.*?)\s+([A-Z]{1,4})(\s+(?:Jr|Sr|2nd|3rd))?")


class ReplyError(ValueError):
    """A reply that is not what its source documents; the message holds nothing of the reply."""


class Ask(NamedTuple):
    """One question to a source: the path below its base address, and the parameters."""

    path: str
    parameters: dict[str, str]


Dialogue = Generator[Ask, str, list[Paper]]


@dataclass(frozen=True)
class Source:
    """A public index of papers.

    Attributes:
        name: what it is called in `Paper.source` and in the store.
        base: address without a path, https, or http on 127.0.0.1.
        gap_s: least time between two requests, in seconds, that its terms of use ask for.
        dialogue: takes the query (see `plain_query`), the number of papers and an e-mail
            address or "", and asks. It raises ReplyError.
        key_header: header that carries a key, where the source knows one.
    """

    name: str
    base: str
    gap_s: float
    dialogue: Callable[[str, int, str], Dialogue]
    key_header: str = ""


def plain_query(text: str) -> str:
    """Return a query as sources may see it: lower-case words of letters and digits.

    Words keep hyphens inside them. Everything else goes, and so do the words that a source
    would read as operators. At most 300 characters, cut between words; "" where no word stays.
    """
    flat = unicodedata.normalize("NFKC", text[: 4 * QUERY_LENGTH]).lower()
    words = re.findall(r"[^\W_]+(?:-[^\W_]+)*", flat)
    kept = " ".join(word for word in words if word not in _OPERATORS)
    return kept if len(kept) <= QUERY_LENGTH else kept[: QUERY_LENGTH + 1].rpartition(" ")[0]


def _arxiv(query: str, count: int, mailto: str) -> Dialogue:
    # Hyphenated words are indexed apart, so that they are asked for as a phrase.
    words = [w if "-" not in w else '"' + w.replace("-", " ") + '"' for w in query.split()]
    search = " AND ".join(f"all:{word}" for word in words[:ARXIV_WORDS])
    order = {"sortBy": "relevance", "sortOrder": "descending"}
    ask = {"search_query": search, "start": "0", "max_results": str(count), **order}
    feed = _tree((yield Ask("/api/query", ask)))
    if feed.tag != f"{_ATOM}feed":
        raise ReplyError("the reply is no Atom feed")
    entries = feed.findall(f"{_ATOM}entry")
    if any("/api/errors" in (entry.findtext(f"{_ATOM}id") or "") for entry in entries):
        raise ReplyError("the reply is an error of the source")
    return _citable([_arxiv_paper(entry) for entry in entries])


def _tree(text: str) -> ElementTree.Element:
    if re.search(r"<!(?:doctype|entity)", text, re.IGNORECASE):
        raise ReplyError("the reply declares a document type or entities")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ReplyError("the reply is no XML") from error


def _arxiv_paper(entry: ElementTree.Element) -> Paper | None:
    def text(tag: str) -> str:
        return entry.findtext(tag) or ""

    return citable(
        "arxiv",
        title=text(f"{_ATOM}title"),
        authors=[author.findtext(f"{_ATOM}name") for author in entry.findall(f"{_ATOM}author")],
        year=text(f"{_ATOM}published"),
        doi=text(f"{_ARXIV}doi"),
        arxiv=text(f"{_ATOM}id"),
        venue=text(f"{_ARXIV}journal_ref"),
        abstract=text(f"{_ATOM}summary"),
    )


def _openalex(query: str, count: int, mailto: str) -> Dialogue:
    ask = {"search": query, "per_page": str(count), "select": _OPENALEX_FIELDS}
    reply = _json((yield Ask("/works", ask | ({"mailto": mailto} if mailto else {}))))
    works = _list(reply, "results", must=True)
    return _citable([_openalex_paper(w) for w in works if _at(w, "is_retracted") is not True])


def _openalex_paper(work: Any) -> Paper | None:
    places = [_at(place, "landing_page_url") for place in _list(work, "locations")]
    return citable(
        "openalex",
        title=_at(work, "title"),
        authors=[_at(a, "author", "display_name") for a in _list(work, "authorships")],
        year=_at(work, "publication_year"),
        doi=_at(work, "doi"),
        arxiv=next((found for place in places if (found := arxiv_of(place))), ""),
        venue=_at(work, "primary_location", "source", "display_name"),
        abstract=_in_order(_at(work, "abstract_inverted_index")),
    )


def _in_order(index: Any) -> str:
    """Return the text of an abstract that is given as word -> positions."""
    if not isinstance(index, dict):
        return ""
    places = [
        (place, word)
        for word, found in index.items()
        if isinstance(found, list)
        for place in found
        if isinstance(place, int)
    ]
    return " ".join(word for _, word in sorted(places))


def _pubmed(query: str, count: int, mailto: str) -> Dialogue:
    who = {"tool": TOOL} | ({"email": mailto} if mailto else {})
    base = {"db": "pubmed", "retmode": "json", **who}
    ask = {**base, "term": query, "retmax": str(count), "sort": "relevance"}
    found = _json((yield Ask("/entrez/eutils/esearch.fcgi", ask)))
    ids = _list(_at(found, "esearchresult"), "idlist", must=True)
    ids = [i for i in ids if isinstance(i, str) and re.fullmatch(r"[0-9]{1,10}", i)][:count]
    if not ids:
        return []
    reply = _json((yield Ask("/entrez/eutils/esummary.fcgi", {**base, "id": ",".join(ids)})))
    if not isinstance(_at(reply, "result"), dict):
        raise ReplyError("the reply has no 'result'")
    records = [_at(reply, "result", uid) for uid in ids]
    return _citable([_pubmed_paper(r) for r in records if not _is_retracted(r)])


def _is_retracted(record: Any) -> bool:
    return "Retracted Publication" in _list(record, "pubtype")


def _pubmed_paper(record: Any) -> Paper | None:
    """Read a summary; E-utilities gives no abstract in it."""
    ids = _list(record, "articleids")
    return citable(
        "pubmed",
        title=one_line(_at(record, "title"), 400).removesuffix("."),
        authors=[_given_first(_at(author, "name")) for author in _list(record, "authors")],
        year=_at(record, "pubdate") or _at(record, "sortpubdate"),
        doi=next((_at(i, "value") for i in ids if _at(i, "idtype") == "doi"), ""),
        venue=_at(record, "fulljournalname") or _at(record, "source"),
    )


def _given_first(name: Any) -> str:
    """Return "KH Maier-Hein" for "Maier-Hein KH"; any other name as it is."""
    text = one_line(name, 80)
    found = _INITIALS_LAST.fullmatch(text)
    return f"{found.group(2)} {found.group(1)}{found.group(3) or ''}" if found else text


def _scholar(query: str, count: int, mailto: str) -> Dialogue:
    # Its manual says that words with hyphens find nothing.
    ask = {"query": query.replace("-", " "), "limit": str(count), "fields": _SCHOLAR_FIELDS}
    reply = _json((yield Ask("/graph/v1/paper/search", ask)))
    papers = _list(reply, "data", must=_at(reply, "total") != 0)
    return _citable([_scholar_paper(paper) for paper in papers])


def _scholar_paper(paper: Any) -> Paper | None:
    return citable(
        "semantic_scholar",
        title=_at(paper, "title"),
        authors=[_at(author, "name") for author in _list(paper, "authors")],
        year=_at(paper, "year"),
        doi=_at(paper, "externalIds", "DOI"),
        arxiv=_at(paper, "externalIds", "ArXiv"),
        venue=_at(paper, "venue"),
        abstract=_at(paper, "abstract"),
    )


def _citable(papers: list[Paper | None]) -> list[Paper]:
    return [paper for paper in papers if paper is not None]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # nested too deeply is rubbish as well
        raise ReplyError("the reply is no JSON") from error


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _list(value: Any, key: str, *, must: bool = False) -> list[Any]:
    found = _at(value, key)
    if must and not isinstance(found, list):
        raise ReplyError(f"the reply has no list {key!r}")
    return found if isinstance(found, list) else []


SOURCES = (
    Source("openalex", "https://api.openalex.org", 0.1, _openalex),
    Source("semantic_scholar", "https://api.semanticscholar.org", 1.0, _scholar, "x-api-key"),
    Source("pubmed", "https://eutils.ncbi.nlm.nih.gov", 0.34, _pubmed),
    Source("arxiv", "https://export.arxiv.org", 3.0, _arxiv),
)
