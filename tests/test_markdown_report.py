"""The manuscript as Markdown: complete, bound to facts, and harmless in a real parser."""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from agent.bibliography import load_references
from agent.facts import facts_of
from agent.figures import drawings
from agent.latex_writer import render_latex
from agent.markdown_report import (
    END,
    code_span,
    escaped,
    markdown_problems,
    render_markdown,
    tidy,
    write_markdown,
)
from agent.report import Picture, write_report
from agent.report_rows import Rows, read_rows
from agent.report_view import View, build_view
from memory.errors import CheckError
from memory.records import Fact
from memory.store import Store
from tests.campaigns import HOSTILE, build_campaign

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
LINKS = "<b>x</b> [a](http://b.c) ![i](x.png) https://b.c www.b.c me@b.c `c` | d --> &lt; *e* _f_"


@dataclass(frozen=True)
class Told:
    """What a campaign's manuscript is made of."""

    rows: Rows
    view: View
    facts: dict[str, Fact]
    pictures: list[Picture]

    @property
    def text(self) -> str:
        """The manuscript."""
        return render_markdown(self.view, self.facts, load_references(), self.pictures)


def told(folder: Path) -> Told:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return of(read_rows(store), folder)


def of(rows: Rows, folder: Path) -> Told:
    chosen = drawings(rows, folder / "report")
    pictures = [Picture(d.name, d.alt, d.caption, "", f"{d.name}.svg") for d in chosen]
    facts = {fact.key: fact for fact in facts_of(rows)}
    return Told(rows, build_view(rows, load_references()), facts, pictures)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_campaign(tmp_path_factory.mktemp("markdown") / "campaign")


@pytest.fixture(scope="module")
def campaign(folder: Path) -> Told:
    return told(folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = build_campaign(tmp_path_factory.mktemp("hostile") / "campaign", hostile=True)
    rows = told(folder).rows
    proposals = {k: replace(p, motivation=LINKS) for k, p in rows.proposals.items()}
    return of(replace(rows, proposals=proposals), folder)


def headings(text: str, mark: str) -> list[str]:
    return re.findall(rf"^{mark}(.*?)(?:\}}|$)", text, re.MULTILINE)


def test_it_has_the_sections_of_the_manuscript(campaign: Told) -> None:
    tex = render_latex(campaign.view, campaign.facts, load_references(), campaign.pictures)
    body, appendix = tex.split("\n\\appendix\n")
    wanted = headings(body, r"\\section\{")
    assert len(wanted) == 9
    assert set(headings(appendix, r"\\section\{")) - {"Items of the reporting checklists"} <= set(
        headings(campaign.text, "## ")
    )
    found = headings(campaign.text, "## ")
    assert [name for name in found if name in wanted] == wanted
    assert {"Abstract", "References"} <= set(found)
    wanted = headings(tex, r"\\subsection\{")
    assert len(wanted) >= 11
    found = headings(campaign.text, "### ")
    assert [name for name in found if name in wanted] == wanted


def test_it_says_what_the_report_says(campaign: Told) -> None:
    text = re.sub(r"<!--.*?-->", "", campaign.text)
    for said in (
        "No improvement found (simulated subjects)",
        "Residual encoder and gated skips was not distinguishable",
        "Noise came first: 3 trainings",
        "a reviewer asked for 5 %",
        "Citations that were refused",
        "segwright init NEW --data DATASET --config CAMPAIGN/campaign.toml",
    ):
        assert said in text
    assert campaign.text.count("![") == len(campaign.pictures) == 7


def test_no_number_is_unbound(campaign: Told, hostile: Told) -> None:
    assert markdown_problems(campaign.text, campaign.facts) == []
    assert markdown_problems(hostile.text, hostile.facts) == []
    assert campaign.text == told_again(campaign)


def told_again(campaign: Told) -> str:
    return render_markdown(campaign.view, campaign.facts, load_references(), campaign.pictures)


def test_one_altered_digit_of_a_fact_is_found(campaign: Told) -> None:
    key = "confirm.baseline.mean.dice.mean"
    text = campaign.facts[key].text
    other = text[:-1] + str((int(text[-1]) + 1) % 10)
    changed = campaign.text.replace(f"{key}-->{text}", f"{key}-->{other}")
    assert any(key in line for line in markdown_problems(changed, campaign.facts))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("The only baseline is", "The 1 only baseline is"),
        ("The only baseline is", "The ½ only baseline is"),
        ("The only baseline is", "The ٣ only baseline is"),
        ("The only baseline is", "The <b>only</b> baseline is"),
        ("The only baseline is", "The [only](x) baseline is"),
        ("![Diagram", "![Diagram 7"),
        ("<!--fact campaign.id-->", "<!--fact campaign.idea-->"),
        ("<!--term HD95-->HD95", "<!--term HD99-->HD99"),
        ("<!--term HD95-->HD95", "<!--term HD95-->HD96"),
        ("Isensee et al. 2021", "Isensee et al. 2020"),
        ("Nature Methods. 2021.", "Nature Methods. 2023."),
        ("<https://doi.org/", "<https://example.org/"),
        (END, "<!--/ -->"),
        ("&zwnj;<!--fact", "<!--fact"),
    ],
)
def test_other_alterations_are_found(campaign: Told, old: str, new: str) -> None:
    assert old in campaign.text
    assert markdown_problems(campaign.text.replace(old, new, 1), campaign.facts)


def test_hostile_text_does_nothing(hostile: Told) -> None:
    html = PARSER.render(hostile.text)
    without = re.sub(r"<!--.*?-->", "", html)
    tags = set(re.findall(r"<(\w+)", without))
    plain = {"h1", "h2", "h3", "h4", "p", "strong", "em", "code", "pre", "ul", "li", "img", "a"}
    assert tags <= plain | {"table", "thead", "tbody", "tr", "th", "td"}
    assert "&lt;script&gt;" in html
    assert all(
        re.match(r"https://(doi|arxiv|www\.jstor)\.org/", h)
        for h in re.findall(r'href="(.*?)"', html)
    )
    assert all(re.match(r"figures/\w+\.svg$", s) for s in re.findall(r'src="(.*?)"', html))
    assert "\u202e" not in hostile.text


def test_hostile_text_is_printed_as_it_is(hostile: Told) -> None:
    html = PARSER.render(hostile.text)
    fact = next(f for k, f in hostile.facts.items() if k.endswith(".motivation.0"))
    printed = re.search(rf"<!--fact {fact.key}-->(.*?)<!--/-->", html)
    assert printed is not None
    text = printed[1].replace("<!-- -->", "")
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, character)
    assert text == fact.text == LINKS


def test_nothing_that_readers_link_by_themselves_is_left() -> None:
    source = escaped("http://b.c www.b.c me@b.c ftp://d.e @someone")
    assert not re.search(r"(?<!\\)://|www\.|@\w", source)


def test_every_row_of_a_table_is_as_wide_as_its_head(hostile: Told) -> None:
    lines = hostile.text.splitlines()
    width = 0
    rows = 0
    for line in lines:
        pipes = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not width or pipes in (0, width), line
        width = pipes
        rows += bool(pipes)
    assert rows > 100


def test_a_line_never_begins_as_html() -> None:
    text = tidy("  <!--fact a-->1<!--/--> b\n- <!--fact a-->1<!--/-->\n> - <!--x\n\n\n\nc  \n")
    assert text == (
        "&zwnj;<!--fact a-->1<!--/--> b\n- &zwnj;<!--fact a-->1<!--/-->\n> - &zwnj;<!--x\n\nc\n"
    )


def test_identifiers_are_code_where_that_is_safe() -> None:
    assert code_span("confirm.alpha") == "`confirm.alpha`"
    for text in ("a`b", "a|b", "<b>", " a", HOSTILE):
        assert "`" not in code_span(text).replace(r"\`", "")


@pytest.mark.parametrize("searched", [True, False])
def test_a_campaign_that_ended_early_says_so(tmp_path: Path, *, searched: bool) -> None:
    folder = build_campaign(
        tmp_path / "campaign", searched=searched, confirmed=False, simulated=False
    )
    early = told(folder)
    ended = "before confirmation" if searched else "before the search began"
    assert f"No improvement found: the campaign ended {ended}" in early.text
    assert "simulated subjects" not in early.text
    assert markdown_problems(early.text, early.facts) == []


def test_it_is_written_with_its_figures_and_never_with_a_changed_report(
    folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folder, tmp_path / "campaign"))
    write_report(folder)
    written = write_markdown(folder, tmp_path / "out")
    text = written[0].read_text(encoding="utf-8")
    assert written[0].name == "manuscript.md"
    shown = re.findall(r"\]\((figures/.*?)\)", text)
    names = {str(path.relative_to(tmp_path / "out")) for path in written[1:]}
    assert names == set(shown)
    assert all((tmp_path / "out" / name).stat().st_size > 1000 for name in shown)
    page = folder / "report" / "report.html"
    page.write_text(page.read_text().replace("</main>", "<p>97.3</p></main>"), encoding="utf-8")
    with pytest.raises(CheckError, match=r"report\.html"):
        write_markdown(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()
