"""Restricted text: what is a token, and how it is printed in LaTeX, HTML and Markdown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from agent.bibliography import load_references
from agent.binding import html_problems, latex_problems
from agent.latex import escaped
from agent.latex_writer import LatexWriter
from agent.prose import (
    Citation,
    ClaimToken,
    Code,
    Emphasis,
    FactToken,
    MarkdownPrinter,
    Shown,
    Text,
    as_html,
    as_latex,
    as_markdown,
    as_typst,
    parse,
    source,
)
from agent.report import HtmlWriter
from agent.typst_writer import TypstWriter
from memory.errors import ReportError
from memory.records import Fact

FACTS = {
    fact.key: fact
    for fact in (
        Fact("a.dice-1", 0.91, "0.910", "", ("case_score:x",)),
        Fact("title", "x", '<b>"Gate" \\input{x} 50% _&', "", ("proposal:p",)),
        Fact("claim.c1.text", "t", "The gate gained 0.40 points.", "", ("claim:c1",)),
    )
}
REFERENCES = load_references()
NNUNET = REFERENCES["isensee2021nnunet"]
TEXT = (
    "*The gate* in `network_file.py` has a Dice of [[fact:a.dice-1]] [@isensee2021nnunet; "
    "@oktay2018attention].\n\n[[claim:c1]] See [[fig:paired]] and [[tab:all_scores]]; HD95 is in mm."
)


def latex(text: str) -> str:
    return as_latex(parse(text), LatexWriter(FACTS, REFERENCES))


def html(text: str) -> str:
    return as_html(parse(text), HtmlWriter(FACTS, REFERENCES))


def markdown(text: str) -> str:
    return as_markdown(parse(text), MarkdownPrinter(FACTS, REFERENCES))


def test_tokens_become_a_tree() -> None:
    first, second = parse(TEXT)
    assert first == (
        Emphasis((Text("The gate"),)),
        Text(" in "),
        Code("network_file.py"),
        Text(" has a Dice of "),
        FactToken("a.dice-1"),
        Citation(("isensee2021nnunet", "oktay2018attention")),
        Text("."),
    )
    assert second[0] == ClaimToken("c1")
    assert Shown("fig", "paired") in second
    assert Shown("tab", "all_scores") in second
    assert "".join(map(source, second)) == TEXT.split("\n\n")[1]


@pytest.mark.parametrize(
    "text",
    [
        "[[fact:]]",
        "[[fact:a b]]",
        "[[facts:a]]",
        "[[fact: a]]",
        "[fact:a]",
        "[[fact:a]",
        "[[fact:../x/y]]",
        "[[FACT:a]]",
        "[@]",
        "[@a b]",
        "[@a;]",
        "[see @a]",
        "`no end",
        "th*ree*",
        "*th*ree",
        "** not strong **",
        "* a list",
        "{{ x }} {% y %}",
    ],
)
def test_what_is_no_token_is_text(text: str) -> None:
    assert parse(text) == ((Text(text),),)


def test_code_and_emphasis_hold_what_they_may() -> None:
    assert parse("`[[fact:a]]`") == ((Code("[[fact:a]]"),),)
    assert parse("*as [[fact:a]] is*") == ((Emphasis((Text("as "), FactToken("a"), Text(" is"))),),)
    assert parse(" \n\n\t\n") == ()
    assert parse("one\ntwo\n \nthree") == ((Text("one two"),), (Text("three"),))
    assert parse("a\u202eb\x1b[31mc") == ((Text("abc"),),)


def test_latex_binds_facts_and_cites() -> None:
    made = latex(TEXT)
    assert made.startswith(r"\emph{The gate} in \texttt{network\_file.py} has a Dice of ")
    assert r"of \fact{a.dice-1}{0.910}~\cite{isensee2021nnunet,oktay2018attention}." in made
    assert "\n\n" + r"\fact{claim.c1.text}{The gate gained 0.40 points.} See " in made
    assert r"Figure~\ref{fig:paired} and Table~\ref{tab:all_scores}; \term{HD95} is" in made
    assert latex_problems(rf"\begin{{document}}{made}\end{{document}}", FACTS) == []


def test_html_binds_facts_and_cites() -> None:
    made = html(TEXT)
    assert made.startswith("<p><em>The gate</em> in <code>network_file.py</code> has")
    assert 'data-fact="a.dice-1" title="case_score:x">0.910</data> (<cite data-cite=' in made
    assert NNUNET.label in made
    assert '<p><span class="fact" data-fact="claim.c1.text"' in made
    assert '<a href="#fig-paired">Figure “paired”</a>' in made
    assert '<a href="#tab-all_scores">Table “all scores”</a>' in made
    assert '<span data-term="HD95">HD95</span>' in made
    assert html_problems(made, FACTS) == []
    assert isinstance(as_html(parse(TEXT), HtmlWriter(FACTS, REFERENCES)), Markup)


def test_typst_binds_facts_and_cites() -> None:
    made = as_typst(parse(TEXT), TypstWriter(FACTS, REFERENCES))
    assert made.startswith(r"#emph[The gate]; in #code[network\_file\.py]; has a Dice of #fact(")
    assert '#fact("a.dice-1")[0\\.910];~#cited("isensee2021nnunet", "oktay2018attention");' in made
    assert '#ref(label("fig-paired")); and #ref(label("tab-all_scores"));' in made


def test_markdown_links_facts_and_cites() -> None:
    made = markdown(TEXT)
    assert made.startswith("*The gate* in `network_file.py` has a Dice of [0.910](#a.dice-1) (")
    assert f"([{NNUNET.label}](#ref-isensee2021nnunet); [" in made
    assert "\n\n[The gate gained 0.40 points.](#claim.c1.text) See Figure “paired”" in (made)


def test_hostile_text_is_printed_and_does_nothing() -> None:
    hostile = (
        r"<script>x</script> \input{/etc/passwd} ${x}$ & % # ~ ^ _ [l](u) ![i](u) **b** {{ y }}"
    )
    assert latex(hostile) == escaped(hostile)
    assert "<script" not in html(hostile)
    assert html(hostile).count("<") == 2
    made = markdown(hostile)
    assert "<" not in made
    assert r"\[l\](u) \!\[i\](u) \*\*b\*\*" in made
    assert markdown("- a") == r"\- a"
    assert markdown("12. a") == r"12\. a"
    assert markdown("> a") == "&gt; a"


def test_a_fact_with_hostile_words_is_escaped_by_its_format() -> None:
    text = "It is [[fact:title]]."
    assert escaped(FACTS["title"].text) in latex(text)
    assert "<b>" not in html(text)
    assert r"[&lt;b&gt;" in markdown(text)
    assert html_problems(html(text), FACTS) == []


@pytest.mark.parametrize("token", ["[[fact:nowhere]]", "[[claim:c2]]"])
def test_a_token_that_names_nothing_is_an_error(token: str) -> None:
    for print_it in (latex, html, markdown):
        with pytest.raises(ReportError):
            print_it(f"It is {token}.")


def test_a_citation_that_is_not_known_prints_nothing() -> None:
    for print_it in (latex, html, markdown):
        assert "nobody2099" not in print_it("Gates are known [@nobody2099].")


@given(st.text(alphabet="[]@`*: fact\nclig;a<>\\$&{}", max_size=60))
def test_any_text_has_a_tree_that_is_escaped(text: str) -> None:
    prose = parse(text)
    made = as_html(prose, Bare())
    for tag in ("p", "em", "code"):
        made = made.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    assert "<" not in made
    assert [parse(source(part)) for parts in prose for part in parts if not is_text(part)] == [
        ((part,),) for parts in prose for part in parts if not is_text(part)
    ]


def is_text(part: object) -> bool:
    return isinstance(part, Text)


class Bare:
    """Prints tokens as their keys, and words escaped."""

    def fact(self, key: str) -> Markup:
        return Markup(key)

    def cite(self, *keys: str) -> Markup:
        return Markup(" ".join(keys))

    def wording(self, text: object) -> Markup:
        return Markup.escape(text)
