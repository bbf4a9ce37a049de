"""The shipped bibliography: every entry is whole, checked against a source, and found again."""

import re
from datetime import date
from importlib import resources
from pathlib import Path

import pytest

from agent.bibliography import (
    Reference,
    bibliography_text,
    find_reference,
    load_references,
    parse_references,
)
from agent.ideas import STEM
from agent.methods import methods
from agent.papers import citable
from sandbox.components import COMPONENTS

REFERENCES = load_references()
ENTRIES = sorted(REFERENCES.values())
UNCHECKED: frozenset[str] = frozenset()
"""Keys that something cites and that no source could be found for."""
KEY = r"\b[a-z]{2,}(?:19|20)\d\d[a-z][a-z0-9]*\b"
NNUNET_DOI = "10.1038/s41592-020-01008-z"
REVISITED = "2404.09556"
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.key)
def test_an_entry_names_authors_title_year_and_an_identifier(entry: Reference) -> None:
    assert entry.authors
    assert entry.authors[0] != "others"
    assert entry.title
    assert entry.venue
    assert re.fullmatch(r"\d{4}", entry.year)
    assert 1900 <= int(entry.year) <= 2026
    assert entry.doi or entry.arxiv or entry.link.startswith("https://")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.key)
def test_an_entry_says_when_and_where_it_was_checked(entry: Reference) -> None:
    if entry.key in UNCHECKED:
        assert entry.checked == ""
        return
    assert entry.checked == date.fromisoformat(entry.checked).isoformat()
    assert entry.checked_at


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.key)
def test_an_entry_is_plain_text(entry: Reference) -> None:
    assert not re.search(r"[\\{}]", " ".join((*entry.authors, entry.title, entry.venue)))


def test_identifiers_are_those_of_the_file() -> None:
    text = bibliography_text()
    for field, found in (
        ("doi", {entry.doi for entry in ENTRIES if entry.doi}),
        ("eprint", {entry.arxiv for entry in ENTRIES if entry.arxiv}),
    ):
        written = re.findall(rf"^\s*{field}\s*=\s*\{{(.*)\}}", text, re.MULTILINE)
        assert {value.lower() for value in written} == found
        assert len(written) == len(found)


def test_no_two_entries_are_the_same_work() -> None:
    titles = [re.sub(r"\W", "", entry.title).lower() for entry in ENTRIES]
    assert len(set(titles)) == len(titles)


def test_about_a_hundred_entries_cover_what_a_manuscript_needs() -> None:
    assert len(REFERENCES) >= 100
    needed = {
        "antonelli2022decathlon",
        "tejani2024claim",
        "collins2024tripod",
        "wilcoxon1945ranking",
        "holm1979sequential",
        "maierhein2024metrics",
    }
    assert needed <= set(REFERENCES)


def test_the_stem_of_every_network_comes_first() -> None:
    assert next(iter(REFERENCES)) == STEM


def test_every_cited_key_is_in_the_bibliography() -> None:
    cited = {key for card in COMPONENTS.values() for key in card.citations} | {STEM}
    templates = Path(str(resources.files("templates")))
    for path in (*templates.rglob("*.j2"), *(ROOT / "agent").glob("*.py")):
        cited |= set(re.findall(KEY, path.read_text(encoding="utf-8")))
    assert STEM in cited
    assert cited <= set(REFERENCES)


def test_every_card_that_can_be_cited_has_an_entry() -> None:
    named = {key for key in methods() if re.fullmatch(KEY, key)}
    assert named <= set(REFERENCES)


def test_fields_of_the_check_are_read_and_not_printed() -> None:
    text = (
        "@misc{a, author = {Solo, S.}, title = {T}, year = {2020}, eprint = {2001.00001},"
        " checked = {2026-01-02}, checkedat = {https://x.org/a?b=c;\n owner/name README.md}}"
    )
    entry = parse_references(text)["a"]
    assert entry.checked == "2026-01-02"
    assert entry.checked_at == "https://x.org/a?b=c; owner/name README.md"
    assert entry.text == "Solo, S. T. arXiv:2001.00001. 2020."


def test_an_entry_without_a_check_or_an_identifier_is_read() -> None:
    entry = parse_references("@misc{a, author={B}, title={T}, year={2020}}")["a"]
    assert (entry.checked, entry.checked_at, entry.doi, entry.arxiv, entry.link) == ("",) * 5


def test_an_address_is_the_link_where_there_is_no_other() -> None:
    url = "https://www.jstor.org/stable/4615733"
    assert REFERENCES["holm1979sequential"].link == url
    both = parse_references(f"@misc{{a, doi={{10.1000/1}}, url={{{url}}}}}")["a"]
    assert both.link == "https://doi.org/10.1000/1"


@pytest.mark.parametrize(
    ("authors", "printed"),
    [
        ("A, A. and B, B.", "A, A.; B, B."),
        ("A, A. and others", "A, A. et al."),
        (" and ".join(f"{c}, {c}." for c in "ABCDEF"), "E, E.; F, F."),
        (" and ".join(f"{c}, {c}." for c in "ABCDEF") + " and others", "F, F. et al."),
        (" and ".join(f"{c}, {c}." for c in "ABCDEFG"), "F, F. et al."),
    ],
)
def test_authors_left_out_are_said_to_be(authors: str, printed: str) -> None:
    entry = parse_references(f"@misc{{a, author={{{authors}}}, title={{T}}, year={{2020}}}}")["a"]
    assert f"{printed} T. 2020." in entry.text


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.key)
def test_an_entry_is_found_by_whatever_names_it(entry: Reference) -> None:
    names = [entry.key, entry.doi, entry.arxiv, entry.doi.upper()]
    for name in filter(None, names):
        assert find_reference(name) == entry
    assert find_reference(entry.title, entry.authors) == entry


@pytest.mark.parametrize(
    ("cited", "key"),
    [
        (f"https://doi.org/{NNUNET_DOI}", STEM),
        (f"DOI: {NNUNET_DOI}.", STEM),
        (f"arXiv:{REVISITED}v2", "isensee2024revisited"),
        (f"https://arxiv.org/abs/{REVISITED}", "isensee2024revisited"),
        (f"10.48550/arXiv.{REVISITED}", "isensee2024revisited"),
        (f" {STEM}\n", STEM),
    ],
)
def test_an_identifier_is_known_in_each_of_its_forms(cited: str, key: str) -> None:
    found = find_reference(cited)
    assert found is not None
    assert found.key == key


@pytest.mark.parametrize(
    "cited",
    ["", " ", "isensee2021", "10.1000/1", "2001.00001", "U-Net", "](javascript:alert(1))", "{}"],
)
def test_what_is_not_shipped_is_not_known(cited: str) -> None:
    assert find_reference(cited) is None


def test_a_title_is_known_with_its_first_author_only() -> None:
    title = "V-NET  fully convolutional neural networks for volumetric medical image segmentation!"
    found = find_reference(title, ["F. Milletari", "Somebody Else"])
    assert found == REFERENCES["milletari2016vnet"]
    assert find_reference(title) is None
    assert find_reference(title, ["N. Navab"]) is None
    assert find_reference(title, [""]) is None
    assert find_reference("", ["F. Milletari"]) is None


def test_a_search_record_is_known_by_its_identifier_or_its_title() -> None:
    title, authors = "Deep Residual Learning for Image Recognition", ["Kaiming He"]
    he = REFERENCES["he2016resnet"]
    records = (
        citable("s", title="Another title", authors=["X Y"], doi=he.doi),
        citable("s", title="Another title", arxiv=f"{he.arxiv}v1"),
        citable("s", title=title.upper(), authors=authors, doi="10.1000/other"),
    )
    for record in records:
        assert record is not None
        assert find_reference(record) == he
    unknown = citable("s", title=title, authors=["Jane Doe"], doi="10.1000/other")
    assert unknown is not None
    assert find_reference(unknown) is None
