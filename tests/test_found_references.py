"""Papers that a campaign's own searches found can be cited, bound, and do nothing in any page."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agent.bibliography import load_references, parse_references
from agent.binding import html_problems, latex_problems, typst_problems
from agent.check import report_problems
from agent.export import export_report
from agent.found_references import found_text, papers_in, reference_of, references_of
from agent.papers import Paper
from agent.report import write_report
from memory.store import Store
from tests.campaigns import build_campaign
from tests.test_mutation import change_rows

PAPER = Paper(
    key="doi:10.1000/gates.2025",
    title="Gates {for} 12 thin & small vessels: 50 % less",
    authors=("Ana García", "Bo Li"),
    year=2025,
    doi="10.1000/gates.2025",
    arxiv="",
    venue="Journal of Vessels",
    abstract="",
    source="openalex",
)
SHIPPED = load_references()["isensee2021nnunet"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign whose chosen network cites a paper that was found, and one that nobody found."""
    folder = build_campaign(tmp_path_factory.mktemp("found") / "campaign")
    with Store.open(folder / "campaign.db") as store:
        store.set_effect("literature/q", {"query": "gates", "papers": [asdict(PAPER)]})
    sql = (
        "UPDATE proposal SET citations = json_array(?, 'doi:10.1000/ghost') WHERE id ="
        " (SELECT finalist FROM claim LIMIT 1)"
    )
    change_rows(folder, sql, PAPER.key)
    write_report(folder)
    return folder


def test_a_record_becomes_an_entry_that_parses(tmp_path: Path) -> None:
    entry = reference_of(PAPER)
    assert re.fullmatch(r"found[0-9a-f]{10}", entry.key)
    assert entry.label == "García and Li 2025"
    assert entry.link == "https://doi.org/10.1000/gates.2025"
    (parsed,) = parse_references(found_text([PAPER])).values()
    assert (parsed.key, parsed.doi, parsed.year) == (entry.key, PAPER.doi, "2025")
    assert found_text([PAPER]).count("{") == found_text([PAPER]).count("}")


@pytest.mark.parametrize(
    "known",
    [
        replace(PAPER, key=f"doi:{SHIPPED.doi}", doi=SHIPPED.doi),
        replace(PAPER, title=SHIPPED.title, authors=("Fabian Isensee",)),
    ],
    ids=["doi", "title and author"],
)
def test_a_record_of_a_shipped_source_is_that_source(known: Paper) -> None:
    found = references_of([known])
    assert found[known.key] == SHIPPED
    assert found_text([known]) == ""


def test_a_title_alone_is_not_enough() -> None:
    other = replace(PAPER, title=SHIPPED.title, authors=("Eve Other",))
    assert references_of([other])[other.key] != SHIPPED


def test_papers_of_several_searches_come_once() -> None:
    row = {"query": "q", "papers": [asdict(PAPER)]}
    assert papers_in({"literature/a": row, "literature/b": row}) == (PAPER,)
    assert papers_in({}) == ()


def test_it_is_cited_on_every_page_and_the_unknown_one_is_refused(campaign: Path) -> None:
    key = reference_of(PAPER).key
    page, tex, typ = (
        (campaign / "report" / name).read_text()
        for name in ("report.html", "manuscript.tex", "manuscript.typ")
    )
    assert f'data-cite="{key}"' in page
    assert f'id="ref-{key}"' in page
    assert re.search(rf"\\cite\{{[^}}]*{key}", tex)
    assert f'"{key}"' in typ
    assert f"@misc{{{key}," in (campaign / "report" / "references.bib").read_text()
    for text in (page, tex, typ):
        assert "Citations that were refused" in text
        refused = text[text.index("Citations that were refused") :][:400]
        assert "ghost" in refused
        assert "gates" not in refused


def test_it_is_checked_like_any_other(campaign: Path) -> None:
    assert report_problems(campaign) == []
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        facts = store.facts()
    for name, check in (
        ("report.html", html_problems),
        ("manuscript.tex", latex_problems),
        ("manuscript.typ", typst_problems),
    ):
        text = (campaign / "report" / name).read_text()
        assert check(text, facts, references_of([PAPER])) == []
        assert check(text, facts) != []  # a record that is gone is no source


@pytest.mark.parametrize("kind", ["markdown", "pdf", "overleaf"])
def test_it_leaves_with_the_manuscript(kind: str, campaign: Path, tmp_path: Path) -> None:
    assert export_report(campaign, kind, tmp_path)


def test_a_changed_record_is_found(campaign: Path) -> None:
    bib = campaign / "report" / "references.bib"
    before = bib.read_text()
    try:
        bib.write_text(before.replace("gates.2025", "gates.2026"))
        (line,) = report_problems(campaign)
        assert line.startswith("report/references.bib: line ")
    finally:
        bib.write_text(before)
