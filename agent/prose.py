r"""Restricted text that a model may write: paragraphs of words and typed tokens, and nothing else.

Words with `*emphasis*` and `` `code` `` as in CommonMark, and tokens: `[[fact:KEY]]` prints the text
of a fact, `[[claim:ID]]` a claim's own sentence, `[[fig:NAME]]` and `[[tab:NAME]]` point to a figure
or a table, `[@key]` or `[@one; @two]` cites. What is no token is text, and is escaped: there is no
template engine, no HTML and no LaTeX in it. Pure.

The same tree is printed as LaTeX, HTML, Typst and Markdown by whoever prints facts there (`Printer`; the
writers of `agent/report.py` are some of them), so that a number is bound the same way everywhere.

Covered: what is printed can do nothing and prints each token by its record. Not covered: whether
the text may be printed at all, which `agent/prose_check.py` says.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from markupsafe import Markup

from agent.bibliography import Reference
from memory.errors import ReportError
from memory.records import Fact
from sandbox.clean import clean_text

KEY = r"[A-Za-z0-9._-]{1,160}"
CITED = r"@[A-Za-z][A-Za-z0-9_:-]{0,80}"
_TOKEN = re.compile(
    r"`(?P<code>[^`\n]+)`"
    rf"|\[\[(?P<kind>fact|claim|fig|tab):(?P<key>{KEY})\]\]"
    rf"| ?\[(?P<cited>{CITED}(?:[;,] ?{CITED})*)\]"
    r"|(?<![\w*])\*(?P<emphasis>(?=\S)[^*`]+(?<=\S))\*(?![\w*])"
)
_SHOWN = {"fig": "Figure", "tab": "Table"}


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """A name of a file, a command or a setting."""

    text: str


@dataclass(frozen=True, slots=True)
class FactToken:
    """A fact, by its key."""

    key: str


@dataclass(frozen=True, slots=True)
class ClaimToken:
    """The sentence of a claim, by its id."""

    claim: str

    @property
    def key(self) -> str:
        """The key of the fact that holds the sentence."""
        return f"claim.{self.claim}.text"


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure (`fig`) or a table (`tab`), by its name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Citation:
    """Sources, by their keys."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Emphasis:
    """Emphasised inline text; it holds no further emphasis."""

    parts: tuple["Inline", ...]


Inline = Text | Code | FactToken | ClaimToken | Shown | Citation | Emphasis
Paragraph = tuple[Inline, ...]
Prose = tuple[Paragraph, ...]


def parse(text: str) -> Prose:
    """Return the paragraphs of a text; blank lines part them. Any text has a tree."""
    blocks = re.split(r"\n[ \t]*\n", clean_text(text))
    lines = (" ".join(block.split()) for block in blocks)
    return tuple(tuple(_inlines(line)) for line in lines if line)


def _inlines(line: str) -> Iterator[Inline]:
    """Yield the parts of a line; the space before a citation belongs to the citation."""
    end = 0
    for match in _TOKEN.finditer(line):
        if match.start() > end:
            yield Text(line[end : match.start()])
        yield _token(match)
        end = match.end()
    if end < len(line):
        yield Text(line[end:])


def _token(match: re.Match[str]) -> Inline:
    kind, key = match["kind"], match["key"]
    if match["code"] is not None:
        return Code(match["code"])
    if match["emphasis"] is not None:
        return Emphasis(tuple(_inlines(match["emphasis"])))
    if match["cited"] is not None:
        return Citation(tuple(re.findall(r"[^@;, ]+", match["cited"])))
    if kind == "fact":
        return FactToken(key)
    return ClaimToken(key) if kind == "claim" else Shown(kind, key)


def walk(parts: Paragraph) -> Iterator[Inline]:
    """Yield the parts of a paragraph, those inside emphasis in its place."""
    for part in parts:
        if isinstance(part, Emphasis):
            yield from walk(part.parts)
        else:
            yield part


def source(part: Inline) -> str:
    """Return a part as it is written in the restricted text."""
    match part:
        case Text(text):
            return text
        case Code(text):
            return f"`{text}`"
        case FactToken(key):
            return f"[[fact:{key}]]"
        case ClaimToken(claim):
            return f"[[claim:{claim}]]"
        case Shown(kind, name):
            return f"[[{kind}:{name}]]"
        case Citation(keys):
            return f"[{'; '.join(f'@{key}' for key in keys)}]"
        case Emphasis(parts):
            return f"*{''.join(map(source, parts))}*"


class Printer(Protocol):
    """What prints facts, citations and words in one format, each safe there."""

    def fact(self, key: str) -> Markup:
        """Return a fact, bound to its key; ReportError where there is none."""

    def cite(self, *keys: str) -> Markup:
        """Return the citations of the keys that may be cited, with the space before them."""

    def wording(self, text: object) -> Markup:
        """Return words, escaped."""


class Layout(NamedTuple):
    """How a format prints what a printer does not: each part is safe where it is put."""

    paragraph: Callable[[str], str]
    emphasis: Callable[[str], str]
    code: Callable[[Printer, str], str]
    shown: Callable[[Printer, Shown], str]
    between: str


LATEX = Layout(
    paragraph=lambda inside: inside,
    emphasis=lambda inside: rf"\emph{{{inside}}}",
    code=lambda printer, text: rf"\texttt{{{printer.wording(text)}}}",
    shown=lambda _, one: rf"{_SHOWN[one.kind]}~\ref{{{one.kind}:{one.name}}}",
    between="\n\n",
)
HTML = Layout(
    paragraph=lambda inside: f"<p>{inside}</p>",
    emphasis=lambda inside: f"<em>{inside}</em>",
    code=lambda printer, text: f"<code>{printer.wording(text)}</code>",
    shown=lambda printer, one: (
        f'<a href="#{one.kind}-{one.name}">{_SHOWN[one.kind]} “{printer.wording(titled(one))}”</a>'
    ),
    between="\n",
)
TYPST = Layout(
    paragraph=lambda inside: inside,
    emphasis=lambda inside: f"#emph[{inside}];",
    code=lambda printer, text: f"#code[{printer.wording(text)}];",
    shown=lambda _, one: f'#ref(label("{one.kind}-{one.name}"));',
    between="\n\n",
)
MARKDOWN = Layout(
    paragraph=lambda inside: inside,
    emphasis=lambda inside: f"*{inside}*",
    code=lambda _, text: f"`{text}`",
    shown=lambda printer, one: f"{_SHOWN[one.kind]} “{printer.wording(titled(one))}”",
    between="\n\n",
)


def titled(one: Shown) -> str:
    """Return the name of a figure or a table in words."""
    return re.sub(r"[._-]+", " ", one.name)


def as_latex(prose: Prose, printer: Printer) -> Markup:
    r"""Return paragraphs as LaTeX: \fact and \cite by the printer, figures by \ref{fig:NAME}."""
    return rendered(prose, printer, LATEX)


def as_html(prose: Prose, printer: Printer) -> Markup:
    """Return paragraphs as HTML; a figure is a link to the element fig-NAME."""
    return rendered(prose, printer, HTML)


def as_typst(prose: Prose, printer: Printer) -> Markup:
    """Return paragraphs as Typst; a figure is a reference to the label fig-NAME."""
    return rendered(prose, printer, TYPST)


def as_markdown(prose: Prose, printer: Printer) -> Markup:
    """Return paragraphs as Markdown; a fact is a link to the anchor of its key."""
    return rendered(prose, printer, MARKDOWN)


def rendered(prose: Prose, printer: Printer, layout: Layout) -> Markup:
    """Return paragraphs in a format.

    Raises:
        ReportError: a token names a fact or a claim that there is not.
    """
    made = (layout.paragraph(_printed(parts, printer, layout)) for parts in prose)
    return Markup(layout.between.join(made))


def _printed(parts: Paragraph, printer: Printer, layout: Layout) -> str:
    return "".join(_part(part, printer, layout) for part in parts)


def _part(part: Inline, printer: Printer, layout: Layout) -> str:
    match part:
        case Text(text):
            return printer.wording(text)
        case Code(text):
            return layout.code(printer, text)
        case FactToken() | ClaimToken():
            return printer.fact(part.key)
        case Citation(keys):
            return printer.cite(*keys)
        case Shown():
            return layout.shown(printer, part)
        case Emphasis(parts):
            return layout.emphasis(_printed(parts, printer, layout))


_MARKS = re.compile(r"[\\`*_\[\]|~$#!]")
_BLOCK = re.compile(r"^(?=[-+=])|^(\d+)(?=[.)](?:\s|$))")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class MarkdownPrinter:
    """Prints for Markdown: a fact links to the anchor of its key, a citation to its entry."""

    def __init__(self, facts: Mapping[str, Fact], references: Mapping[str, Reference]) -> None:
        """Take the facts by key and the references by key."""
        self.facts, self.references = facts, references

    def fact(self, key: str) -> Markup:
        """Return a fact as a link to the anchor of its key.

        Raises:
            ReportError: there is no such fact.
        """
        if key not in self.facts:
            raise ReportError(f"the text needs the fact {key!r}, which the rows do not give")
        return Markup(f"[{self.wording(self.facts[key].text)}](#{key})")

    def cite(self, *keys: str) -> Markup:
        """Return citations in brackets, each a link to its entry; nothing if none is known."""
        found = [self.references[key] for key in dict.fromkeys(keys) if key in self.references]
        links = [f"[{self.wording(one.label)}](#ref-{one.key})" for one in found]
        return Markup(f" ({'; '.join(links)})") if links else Markup("")

    def wording(self, text: object) -> Markup:
        """Return words that Markdown prints as they are."""
        marked = _BLOCK.sub(r"\1\\", _MARKS.sub(r"\\\g<0>", str(text)))
        return Markup(re.sub("[&<>]", lambda found: _HTML[found[0]], marked))
