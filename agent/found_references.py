"""What a campaign may cite besides the shipped bibliography: records of its own searches.

A record came from an index with its DOI or arXiv identifier, and was kept as it came. Where its
identifier, or its title and first author, are those of a shipped entry, it is that entry. Titles and
names are foreign text: whoever prints them escapes them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from agent import latex
from agent.bibliography import Reference, find_reference, load_references
from agent.papers import Paper, paper_of
from memory.records import Figures, digest

FOUND = "literature/"
"""How the keys of effects begin that hold the answers of indexes."""


def papers_in(kept: Mapping[str, Figures]) -> tuple[Paper, ...]:
    """Return the papers of all searches, each once, by their keys."""
    rows: Iterable[dict[str, Any]] = (row for one in kept.values() for row in one["papers"])
    found = {paper.key: paper for paper in map(paper_of, rows)}
    return tuple(found[key] for key in sorted(found))


def references_of(papers: Iterable[Paper]) -> dict[str, Reference]:
    """Return what may be cited, by key: the shipped entries and the papers found.

    A paper stands under its own key, as a proposal names it, and under that of its entry, as a text
    cites it.
    """
    found = load_references()
    for paper in papers:
        entry = find_reference(paper) or reference_of(paper)
        found |= {entry.key: entry, paper.key: entry}
    return found


def reference_of(paper: Paper) -> Reference:
    """Return the entry of a paper; its key holds letters and digits alone, as BibTeX wants it."""
    key = f"found{digest([paper.key])[:10]}"
    link = f"https://doi.org/{paper.doi}" if paper.doi else f"https://arxiv.org/abs/{paper.arxiv}"
    return Reference(
        key,
        paper.authors,
        paper.title,
        str(paper.year or ""),
        paper.venue or (f"arXiv:{paper.arxiv}" if paper.arxiv else ""),
        link,
        _bibtex(key, paper),
        doi=paper.doi,
        arxiv=paper.arxiv,
    )


def found_text(papers: Iterable[Paper]) -> str:
    """Return the entries of papers as BibTeX, those of shipped entries left out."""
    made = (reference_of(paper) for paper in papers if find_reference(paper) is None)
    return "".join(f"\n{one.source}\n" for one in made)


def _bibtex(key: str, paper: Paper) -> str:
    fields = {
        "title": f"{{{_plain(paper.title)}}}",
        "author": " and ".join(f"{{{_plain(name)}}}" for name in paper.authors),
        "year": str(paper.year or ""),
        "journal": _plain(paper.venue),
        "doi": paper.doi if not set(paper.doi) & set("{}%#\\") else "",
        "eprint": paper.arxiv,
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{key},", *lines, "}"])


def _plain(text: str) -> str:
    """Return a text as LaTeX; braces, which BibTeX counts whatever stands before them, go."""
    return latex.escaped(text.replace("{", "(").replace("}", ")")).replace("{}", " ")
