"""Papers: read from hostile fields, compared, and met once."""

from dataclasses import replace
from typing import Any

import pytest

from agent.papers import Paper, arxiv_of, citable, doi_of, matches, merged, one_line, surname
from tests.literature_server import NNUNET, NNUNET_DOI


@pytest.mark.parametrize(
    ("value", "doi"),
    [
        (f"https://doi.org/{NNUNET_DOI}", NNUNET_DOI),
        ("DOI: 10.1000/ABC.", "10.1000/abc"),
        ("10.1000/a b", ""),
        ('10.1000/"><script>', ""),
        ("11.1000/x", ""),
        (None, ""),
        (10.1, ""),
    ],
)
def test_only_a_doi_is_a_doi(value: Any, doi: str) -> None:
    assert doi_of(value) == doi


@pytest.mark.parametrize(
    ("value", "arxiv"),
    [
        ("http://arxiv.org/abs/2101.00001v12", "2101.00001"),
        ("https://arxiv.org/pdf/2101.00001.pdf", "2101.00001"),
        ("arXiv:1606.06650", "1606.06650"),
        ("math.GT/0309136", "math.GT/0309136"),
        ("https://example.org/abs/2101.00001", ""),
        ("2101.1", ""),
        (2101.00001, ""),
    ],
)
def test_only_an_arxiv_identifier_is_one(value: Any, arxiv: str) -> None:
    assert arxiv_of(value) == arxiv


def test_a_paper_must_be_citable() -> None:
    assert citable("s", title="T") is None
    assert citable("s", title=" ", doi="10.1000/1") is None
    preprint = citable("s", title="T", doi="10.48550/arXiv.2101.00001")
    assert preprint is not None
    assert (preprint.key, preprint.doi) == ("arxiv:2101.00001", "")


def test_markup_falls_away_and_mathematics_stays() -> None:
    assert one_line("<jats:p>H<sub>2</sub>O &amp; a<b, c>d</jats:p><p>x</p>", 99) == (
        "H2O & a<b, c>d x"
    )


@pytest.mark.parametrize(
    ("author", "name"),
    [
        ("Fabian Isensee", "isensee"),
        ("Isensee, Fabian", "isensee"),
        ("Isensee F", "isensee"),
        ("Isensee et al.", "isensee"),
        ("F. Isensee", "isensee"),
        ("KH Maier-Hein", "maierhein"),
        ("Klaus H. Maier\u2010Hein", "maierhein"),
        ("Özgün Çiçek", "cicek"),
        ("van Ginneken, Bram", "ginneken"),
        ("Bram van Ginneken", "ginneken"),
        ("X. LI", "li"),
        ("Smith JB Jr", "smith"),
        ("...", ""),
    ],
)
def test_a_surname_is_found_however_the_name_is_written(author: str, name: str) -> None:
    assert surname(author) == name


def paper(**fields: Any) -> Paper:
    made = citable("s", **{"title": "A title", "authors": ["Ann Bee"], **fields})
    assert made is not None
    return made


def test_a_citation_matches_by_title_and_first_author() -> None:
    known = paper(title=NNUNET, authors=["Fabian Isensee", "Paul F. Jaeger"], doi=NNUNET_DOI)
    assert matches(known, NNUNET.upper().replace(":", " -"), ("Isensee, F.",))
    assert not matches(known, NNUNET, ("Jaeger, P.",))
    assert not matches(known, NNUNET + " revisited", ("Isensee",))
    assert not matches(known, NNUNET, ())
    assert not matches(known, "", ("Isensee",))
    assert not matches(replace(known, authors=()), NNUNET, ("Isensee",))


def test_papers_are_the_same_by_doi_by_preprint_or_by_title_and_author() -> None:
    one = paper(doi="10.1000/1", year=2020)
    by_doi = paper(title="Other words", doi="10.1000/1", arxiv="2101.00001", venue="V")
    by_arxiv = paper(title="Third words", arxiv="2101.00001", abstract="text")
    by_title = paper(title="A Title!", authors=["Bee A"], doi="10.1000/9")
    alone = paper(title="A title", authors=["Cee D"], doi="10.1000/8")
    whole, other = merged([[one], [alone, by_arxiv], [by_title, by_doi]])
    assert (whole.key, whole.title, whole.year) == ("doi:10.1000/1", "A title", 2020)
    assert (whole.arxiv, whole.venue, whole.abstract) == ("2101.00001", "V", "text")
    assert other == alone


def test_order_is_by_number_of_sources_then_rank_then_source() -> None:
    a, b, c, d = (paper(title=f"T{n}", doi=f"10.1000/{n}") for n in range(4))
    keys = [p.title for p in merged([[a, b, d], [c, d]])]
    assert keys == ["T3", "T0", "T2", "T1"]
    assert merged([]) == []
