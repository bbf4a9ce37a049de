"""The report: complete, bound to facts, harmless, and the same bytes each time."""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agent.bibliography import load_references, parse_references
from agent.binding import html_problems, latex_problems, unbound_numbers
from agent.latex import escaped
from agent.report import write_report
from memory.errors import ReportError
from memory.records import Fact
from memory.store import Store
from tests.campaigns import build_campaign

CLAIMED = "Residual encoder and gated skips was not distinguishable"


def stored(folder: Path) -> dict[str, Fact]:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return store.facts()


def problems(folder: Path) -> list[str]:
    return unbound_numbers(folder, stored(folder))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_campaign(tmp_path_factory.mktemp("report") / "campaign")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_campaign(tmp_path_factory.mktemp("hostile") / "campaign", hostile=True)
    write_report(folder)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def page(folder: Path) -> str:
    return (folder / "report" / "report.html").read_text(encoding="utf-8")


def manuscript(folder: Path) -> str:
    return (folder / "report" / "manuscript.tex").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Collects the tags, links and headings of a page."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def of(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every element of a kind."""
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_report_has_every_section_and_figure(written: Path) -> None:
    outline = Outline(page(written))
    anchors = {h["id"] for h in outline.of("h2")}
    assert anchors >= {
        "verdict",
        "dataset",
        "compute",
        "search",
        "baselines",
        "results",
        "network",
        "cases",
        "failures",
        "selection",
        "limitations",
        "provenance",
        "reproduce",
        "references",
    }
    figures = [image["data-figure"] for image in outline.of("img")]
    assert figures == ["budget", "tree", "paired", "forest", "network", "cases", "selection"]
    assert "No improvement found" in page(written)
    assert CLAIMED in page(written)
    assert CLAIMED in manuscript(written)


def test_the_report_tells_the_rules_and_what_came_of_them(written: Path) -> None:
    with_rules = (page(written), manuscript(written))
    for said in (
        *("Changed protocol", "a reviewer asked for"),
        *("Noise came first", "signed-rank test", "goes on"),
        *("further folds", "Declared secondaries", "surface worse than the guard allows"),
        *("attention gates (skip", "nothing else is left", "exchanging the labels"),
    ):
        assert all(
            re.sub(r"<[^>]+>|\\fact{[^}]*}|[{}]", "", text).count(said) for text in with_rules
        ) or (said == "Changed protocol" and said in with_rules[0]), said


def test_every_link_inside_the_page_leads_somewhere(written: Path) -> None:
    outline = Outline(page(written))
    targets = {attrs["id"] for _, attrs in outline.tags if "id" in attrs}
    inside = {a["href"][1:] for a in outline.of("a") if a["href"].startswith("#")}
    assert inside <= targets


def test_the_page_asks_the_network_for_nothing(written: Path) -> None:
    outline = Outline(page(written))
    assert not outline.of("script") + outline.of("link") + outline.of("iframe")
    assert all(image["src"].startswith("data:image/") for image in outline.of("img"))
    policy = next(m for m in outline.of("meta") if m.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")
    assert "url(" not in page(written).partition("</style>")[0]
    outside = [a["href"] for a in outline.of("a") if not a["href"].startswith("#")]
    assert all(re.match(r"https://(doi\.org|arxiv\.org)/", href) for href in outside)


def test_the_page_can_be_read_without_seeing_it(written: Path) -> None:
    outline = Outline(page(written))
    assert outline.of("html")[0]["lang"] == "en"
    assert all(len(image["alt"]) > 40 for image in outline.of("img"))
    assert all("scope" in head for head in outline.of("th"))
    assert len(outline.of("table")) == len(outline.of("caption"))
    assert [name for name, _ in outline.tags].count("h1") == 1


def test_every_locked_case_is_in_the_tables(written: Path) -> None:
    for text in (page(written), manuscript(written)):
        assert all(text.count(f"case.test_{n:03d}.name") >= 3 for n in range(54))


def test_no_number_is_unbound(written: Path) -> None:
    assert problems(written) == []


def test_no_number_is_unbound_in_hostile_reports(hostile: Path) -> None:
    assert problems(hostile) == []


def test_writing_twice_gives_the_same_bytes(copy: Path) -> None:
    def files() -> dict[str, bytes]:
        found = sorted(p for p in (copy / "report").rglob("*") if p.is_file())
        return {str(p.relative_to(copy)): p.read_bytes() for p in found}

    before, facts = files(), stored(copy)
    write_report(copy)
    assert files() == before
    assert stored(copy) == facts


@pytest.mark.parametrize("name", ["report.html", "manuscript.tex"])
def test_one_altered_digit_of_a_fact_is_found(copy: Path, name: str) -> None:
    key = "confirm.baseline.mean.dice.mean"
    path, text = copy / "report" / name, stored(copy)[key].text
    raw = path.read_text(encoding="utf-8")
    place = raw.index(text, raw.index(key))
    other = str((int(text[-1]) + 1) % 10)
    end = place + len(text)
    path.write_text(raw[: end - 1] + other + raw[end:], encoding="utf-8")
    assert any(key in line and name in line for line in problems(copy))


def test_an_altered_raw_value_is_found(copy: Path) -> None:
    path = copy / "report" / "report.html"
    raw = path.read_text(encoding="utf-8")
    path.write_text(raw.replace('value="54"', 'value="55"', 1), encoding="utf-8")
    assert any("split.locked-test.cases" in line for line in problems(copy))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("report.html", "The only baseline is", "The 1 only baseline is"),
        ("report.html", "The only baseline is", "The ½ only baseline is"),
        ("report.html", 'alt="Diagram', 'alt="99 Diagram'),
        ("report.html", 'data-fact="campaign.id"', 'data-fact="campaign.idea"'),
        ("report.html", "Isensee et al. 2021</a>", "Isensee et al. 2020</a>"),
        ("report.html", "Nature Methods. 2021.", "Nature Methods. 2023."),
        ("report.html", "data:image/svg+xml;base64,PD94", "data:image/svg+xml;base64,PD95"),
        ("report.html", '<span data-term="HD95">HD95', '<span data-term="HD99">HD99'),
        ("manuscript.tex", "The only baseline is", "The 1 only baseline is"),
        ("manuscript.tex", r"\cite{isensee2021nnunet}", r"\cite{isensee2077}"),
        ("manuscript.tex", r"\term{HD95}", r"\term{HD99}"),
        ("manuscript.tex", r"\fact{campaign.id}", r"\fact{campaign.idea}"),
    ],
)
def test_other_alterations_are_found(copy: Path, name: str, old: str, new: str) -> None:
    path = copy / "report" / name
    raw = path.read_text(encoding="utf-8")
    assert old in raw
    path.write_text(raw.replace(old, new, 1), encoding="utf-8")
    assert problems(copy)


def test_altered_figures_are_found(copy: Path) -> None:
    figures = copy / "report" / "figures"
    drawn = figures / "paired.svg"
    drawn.write_bytes(drawn.read_bytes().replace(b"</svg>", b"<!-- 1 --></svg>"))
    (figures / "forest.json").unlink()
    record = figures / "tree.json"
    record.write_text(re.sub(r'"rows_sha256": "\w', '"rows_sha256": "x', record.read_text()))
    found = problems(copy)
    assert any("figures/paired: paired.svg" in line for line in found)
    assert any("figures/forest: its JSON" in line for line in found)
    assert any("figures/tree: it was drawn from other rows" in line for line in found)


def test_a_missing_page_is_found(copy: Path) -> None:
    (copy / "report" / "manuscript.tex").unlink()
    assert any("manuscript.tex: cannot be read" in line for line in problems(copy))


def test_hostile_text_is_escaped_everywhere(hostile: Path) -> None:
    outline = Outline(page(hostile))
    assert not outline.of("script")
    assert "&lt;script&gt;" in page(hostile)
    tex = manuscript(hostile)
    assert r"\input{" not in tex
    assert r"\textbackslash{}input\{/etc/passwd\}" in tex
    assert "数" not in tex
    assert "\u202e" not in page(hostile) + tex


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("campaign", ["written", "hostile"])
def test_the_manuscript_compiles(
    campaign: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(campaign)
    to = Path(shutil.copytree(folder / "report", tmp_path / "tex"))
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "manuscript"]
    for command in (latex, ["bibtex", "manuscript"], latex, latex):
        done = subprocess.run(command, cwd=to, env=os.environ, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
    log = (to / "manuscript.log").read_text(encoding="latin-1")
    assert "undefined" not in log.replace("undefined cases", "")
    assert "Missing character" not in log


def test_refused_citations_are_listed_and_not_cited(written: Path) -> None:
    assert "Citations that were refused" in page(written)
    assert "nobody1999invented" not in re.sub(r"\\fact\{[^}]*\}\{[^}]*\}", "", manuscript(written))


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("searched", [True, False])
def test_a_campaign_that_ended_early_says_so(
    tmp_path: Path, *, searched: bool, simulated: bool
) -> None:
    folder = build_campaign(
        tmp_path / "campaign", searched=searched, confirmed=False, simulated=simulated
    )
    write_report(folder)
    ended = "before confirmation" if searched else "before the search began"
    for text in (page(folder), manuscript(folder)):
        assert f"No improvement found: the campaign ended {ended}" in text
        assert "There is no result on the locked test." in text
        assert ("simulated subjects" in text) is simulated
    assert problems(folder) == []


def test_a_campaign_that_still_runs_says_so(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "campaign", searched=False)
    with Store.open(folder / "campaign.db") as store:
        store.set_state("running")
    assert problems(folder) == []
    write_report(folder)
    assert "No result yet: the campaign has not ended" in page(folder)
    assert problems(folder) == []


def test_a_campaign_without_one_training_gives_a_report(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "campaign", searched=False, baselines=0)
    write_report(folder)
    assert "No baseline was trained to the end." in page(folder)
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("verdict", "delta", "title", "plainly"),
    [
        ("better_by_margin", 0.012, "An improvement beyond the margin was", "agree more with the"),
        ("better", 0.006, "An improvement was confirmed", "A true gain between"),
        ("better", 0.004, "smaller than the margin set beforehand", "had set out to find at least"),
        ("not_worse_and_cheaper", 0.001, "not worse at a lower cost", "trains faster"),
        (
            "not_distinguishable",
            0.004,
            "No improvement found",
            "cannot tell the two networks apart",
        ),
        ("worse", -0.02, "No improvement found: the candidate was worse", "should not replace"),
        ("exploratory", 0.01, "the result is exploratory", "too little was tested"),
    ],
)
def test_the_verdict_makes_the_headline(
    written: Path, verdict: str, delta: float, title: str, plainly: str
) -> None:
    from dataclasses import replace

    from agent.facts import facts_of
    from agent.latex_writer import render_latex
    from agent.report import render_html
    from agent.report_rows import read_rows
    from agent.report_view import build_view

    with Store.open(written / "campaign.db", read_only=True) as store:
        rows = read_rows(store)
    told = {**rows.claims[0].figures, "delta": delta}
    rows = replace(rows, claims=(replace(rows.claims[0], verdict=verdict, figures=told),))
    facts = {fact.key: fact for fact in facts_of(rows)}
    references = load_references()
    view = build_view(rows, references)
    html = render_html(view, facts, references, [])
    tex = render_latex(view, facts, references, [])
    for said in (title, plainly):
        assert said in html
        assert said in tex
    assert html_problems(html, facts) == []
    assert latex_problems(tex, facts) == []


def test_digits_hide_nowhere_in_the_page() -> None:
    fact = Fact("a", 1, "1", "", ())
    for text in (
        "<p>7</p>",
        "<code>7</code>",
        "<p>٣</p>",
        '<img alt="7">',
        "<svg><text>7</text></svg>",
    ):
        assert html_problems(text, {"a": fact}), text
    assert html_problems('<data data-fact="a" value="1">1</data>', {"a": fact}) == []
    assert html_problems('<data data-fact="a" value="1">1</data>2', {"a": fact})


def test_digits_hide_nowhere_in_the_manuscript() -> None:
    fact = Fact("a", "x{7}", "x{7}", "", ())
    around = r"\begin{{document}}{0}\end{{document}}"
    good = rf"\fact{{a}}{{{escaped(fact.text)}}}"
    assert latex_problems(around.format(good), {"a": fact}) == []
    for text in ("7", "½", good + "7", r"\fact{a}{x}", r"\fact{b}{x}", r"\textbf{7}"):
        assert latex_problems(around.format(text), {"a": fact}), text


def test_latex_prints_hostile_characters() -> None:
    assert escaped("a_b & 5% {x} #1 $y$ ~ ^ \\z") == (
        r"a\_b \& 5\% \{x\} \#1 \$y\$ \textasciitilde{} \textasciicircum{} \textbackslash{}z"
    )
    assert escaped("--") == "-{}-"
    assert escaped("−0.1") == r"\(-\)0.1"
    assert escaped("数") == r"\texttt{U+6570}"


def test_the_bibliography_is_read() -> None:
    found = parse_references(
        '@article{one, author = {M{\\"u}ller, Ada and Ray, Bo and others}, title = {The {X} of\n Y},'
        " journal = {J}, year = {2020}, doi = {10.1/z}}\n@misc{two, author={Solo, S.}, year=2021,"
        " eprint={1234.5}}"
    )
    assert found["one"].label == "Müller et al. 2020"
    assert found["one"].text == "Müller, Ada; Ray, Bo et al. The X of Y. J. 2020."
    assert found["one"].link == "https://doi.org/10.1/z"
    assert found["two"].label == "Solo 2021"
    assert found["two"].link == "https://arxiv.org/abs/1234.5"
    with pytest.raises(ReportError, match="twice"):
        parse_references("@misc{a, year={1}} @misc{a, year={1}}")
    with pytest.raises(ReportError, match="not closed"):
        parse_references("@misc{a, year={1}")


def test_every_shipped_reference_can_be_printed() -> None:
    references = load_references()
    assert "isensee2021nnunet" in references
    assert all(r.label and r.text and "{" not in r.text for r in references.values())
