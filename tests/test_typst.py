"""Typst: hostile text prints as itself, the manuscript is bound to facts, and its PDF compiles."""

import re
import shutil
import unicodedata
from pathlib import Path

import pytest
import typst
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.binding import TYPST_BODY, typst_problems, unbound_numbers
from agent.pdf import pdf_of
from agent.report import write_report
from agent.typst_text import escaped, quoted, unquoted
from memory.errors import ReportError
from memory.records import Fact
from memory.store import Store
from tests.campaigns import START_S, build_campaign

TEMPLATES = Path(__file__).parent.parent / "templates"
FRAGMENTS = (
    *("#let x = 1", "#panic()", '#read("/etc/passwd")', "$x^2$", "*b*", "_i_", "`r`", "```"),
    *("= h", "- l", "+ e", "1. e", "/ t: d", "@ref", "<label>", "[", "]", "(", ")", "{", "}"),
    *("\\", "\\u{41}", "//", "/* ", "*/", "--", "---", "...", "~", '"', "'", ";", "http://a.b/c"),
    *("\n", "\r\n", "\t", "\x00", "\u202e", "\u200b", "数", "🙂", "½", "ß", "א", "\ufffd", " "),
)
HOSTILE = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join), st.text(max_size=60)
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_campaign(tmp_path_factory.mktemp("typst") / "campaign")
    write_report(folder)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def manuscript(folder: Path) -> str:
    return (folder / "report" / "manuscript.typ").read_text(encoding="utf-8")


def problems(folder: Path) -> list[str]:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return unbound_numbers(folder, store.facts())


def compiled(folder: Path, source: str) -> typst.Compiler:
    path = folder / "one.typ"
    path.write_text(source, encoding="utf-8")
    return typst.Compiler(str(path), root=str(folder), ignore_system_fonts=True, font_paths=[])


# The text of a content that is nothing but text; anything else in it is an error.
PLAIN = r"""#let plain(it) = {
  if it.func() in (text, [\:].func()) { it.text } else if it.func() == [ ].func() { "" } else {
    assert(it.has("children"), message: repr(it))
    ("", ..it.children.map(plain)).join()
  }
}
"""


def visible(text: str) -> str:
    """Return what should be printed of a text, blanks left out."""
    shown = [c for c in text if unicodedata.category(c)[0] not in "CZ"]
    return "".join(c if escaped(c) in (c, "\\" + c) else f"U+{ord(c):04X}" for c in shown)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(HOSTILE, min_size=1, max_size=20))
def test_hostile_text_compiles_to_itself_and_calls_nothing(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    head = '#set document(title: "t")\n#set text(lang: "en", font: "New Computer Modern")\n'
    lines = [
        f'#assert.eq(plain([{escaped(text)}]).replace(regex("\\s"), ""), {quoted(visible(text))})'
        f"\n\n{escaped(text)}"
        for text in texts
    ]
    compiler = compiled(tmp_path_factory.mktemp("hostile"), head + PLAIN + "\n\n".join(lines))
    compiler.compile(format="pdf", pdf_standards=["ua-1"])  # refuses a letter that no font has


@given(HOSTILE)
def test_a_string_reads_back_as_it_was_written(text: str) -> None:
    source = quoted(text)
    assert "\n" not in source
    assert quoted(unquoted(source[1:-1])) == source


def test_typst_prints_hostile_characters() -> None:
    assert escaped("a_b #c [d] 5 %") == r"a\_b \#c \[d\] 5~\%"
    assert escaped("數 −0.1\n½") == r"U\+6578 −0\.1 ½"


def test_shared_sentences_hold_nothing_that_typst_reads_as_a_command() -> None:
    for name in ("prose.j2", "language.j2", "learnt.j2"):
        text = (TEMPLATES / name).read_text(encoding="utf-8")
        said = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", " ", text, flags=re.DOTALL)
        assert not re.search(r"[#$@<>*_`\\~]|//|--|\.\.\.", said), name


def test_the_manuscript_says_what_the_latex_says(written: Path) -> None:
    tex = (written / "report" / "manuscript.tex").read_text(encoding="utf-8")
    tex = tex.partition(r"\begin{document}")[2]
    facts_of_tex = set(re.findall(r"\\fact\{([^}]*)\}", tex))
    facts_of_typst = set(re.findall(r'#fact\("([^"]*)"\)', manuscript(written)))
    assert facts_of_typst == facts_of_tex
    sections = re.findall(r"\\section\{([^}]*)\}", tex)
    assert re.findall(r"^= (.*)$", manuscript(written), re.MULTILINE) == sections


def test_no_number_is_unbound(written: Path) -> None:
    assert problems(written) == []


def test_one_altered_digit_of_a_fact_is_found(copy: Path) -> None:
    key = "confirm.baseline.mean.dice.mean"
    path = copy / "report" / "manuscript.typ"
    raw = manuscript(copy)
    place = raw.index("]", raw.index(f'#fact("{key}")[')) - 1
    path.write_text(raw[:place] + str((int(raw[place]) + 1) % 10) + raw[place + 1 :])
    assert any(key in line and "manuscript.typ" in line for line in problems(copy))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("The only baseline is", "The 1 only baseline is"),
        ("The only baseline is", "The ½ only baseline is"),
        ("The only baseline is", "The #str(one) only baseline is"),
        ('#cited("isensee2021nnunet")', '#cited("isensee2077")'),
        ('#term("HD95")', '#term("HD99")'),
        ('#fact("campaign.id")', '#fact("campaign.idea")'),
        ('#fact("campaign.id")', '#fact("campaign.id", [x])'),
        ('#reference("isensee2021nnunet", "https://', '#reference("isensee2021nnunet", "http://'),
        ("Nature Methods\\. 2021", "Nature Methods\\. 2023"),
        ('"tree.svg", "', '"tree.svg", "7 '),
        (TYPST_BODY, "// It begins."),
    ],
)
def test_other_alterations_are_found(copy: Path, old: str, new: str) -> None:
    raw = manuscript(copy)
    assert old in raw
    (copy / "report" / "manuscript.typ").write_text(raw.replace(old, new, 1), encoding="utf-8")
    assert any("manuscript.typ" in line for line in problems(copy))


def test_digits_hide_nowhere_in_the_manuscript() -> None:
    fact = Fact("a", "x[7]", "x[7]", "", ())
    good = f'#fact("a")[{escaped(fact.text)}];'
    assert typst_problems(f"{TYPST_BODY}\n{good}", {"a": fact}) == []
    for text in ("7", "½", good + "7", '#fact("a")[x];', '#fact("b")[x];', "#strong[7];", "#let x"):
        assert typst_problems(f"{TYPST_BODY}\n{text}", {"a": fact}), text


def test_the_pdf_has_the_same_bytes_each_time_and_the_date_of_the_campaign(written: Path) -> None:
    first = pdf_of(written / "report", START_S, "typst")
    assert first == pdf_of(written / "report", START_S, "typst")
    assert first.startswith(b"%PDF-")
    assert b"2026-09-21" in first
    assert b"pdfuaid" in first


def test_a_hostile_campaign_compiles(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "campaign", hostile=True)
    write_report(folder)
    assert problems(folder) == []
    assert pdf_of(folder / "report", START_S, "typst").startswith(b"%PDF-")
    assert "\u202e" not in manuscript(folder)


def test_no_table_is_wider_than_the_page(tmp_path: Path) -> None:
    style = (TEMPLATES / "manuscript.typ.j2").read_text(encoding="utf-8")
    start = style.index("#let fact(key")
    functions = style[style.index("#let wide") : style.index("#let article(")]
    assert style.index("#let wide") < start
    long = escaped("a name without end " * 20)
    cells = ", ".join([f"[{long}]", *("[0.123 \\[0.111, 0.135\\]]",) * 13])
    source = (
        f'#set page(width: auto, height: auto)\n{functions}\n#box(width: wide, datatable("p" + '
        f'"r" * 13, [c], {", ".join(["[head]"] * 14)}, {cells}))\n'
        f'#context [#metadata(fitted(("p",) + ("r",) * 13, ([head],) * 14, ({cells}), '
        "wide)) <fit>]"
    )
    widths = compiled(tmp_path, source).query("<fit>", field="value", one=True)
    points = [float(width) for width in re.findall(r"([\d.]+)pt", str(widths))]
    assert 14 <= len(points) <= 15
    assert sum(points) < 13.6 / 2.54 * 72


def test_a_broken_manuscript_is_one_line(copy: Path) -> None:
    (copy / "report" / "manuscript.typ").write_text("#panic()")
    with pytest.raises(ReportError, match=r"typst refuses .*manuscript\.typ: panicked"):
        pdf_of(copy / "report", START_S, "typst")
