r"""The manuscript as Markdown: the facts of the report, each bound by a comment that no reader shows.

A fact stands as `<!--fact KEY-->text<!--/-->`, a citation, an entry of the references and a name
that holds a digit likewise; `markdown_problems` compares each with what it is bound to and refuses
a digit anywhere else. Text of others is escaped for CommonMark and GitHub's extensions.

Covered: no text of others becomes a link, an address that readers link by themselves, an image,
HTML, a heading, a list, a table, mathematics or a mention of somebody. A line that began with a
comment would be HTML as a whole, where no escape holds: such a line begins with `&zwnj;`.
Not covered: a reader that shows comments, and numbers written as words.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from markupsafe import Markup

from agent.bibliography import Reference, load_references
from agent.binding import PAGES, TERMS, has_digit, mismatch, unbound_numbers, without_terms
from agent.figures import drawings
from agent.found_references import references_of
from agent.prose import MARKDOWN, Layout
from agent.report import Picture, Writer, render, told_of, write_atomically, write_report
from agent.report_rows import read_rows
from agent.report_view import View
from memory.errors import CheckError, ReportError
from memory.records import Fact
from memory.store import Store

NAME = "manuscript.md"
END = "<!--/-->"
GUARD = "&zwnj;"
_ENDINGS = ("svg", "png")
_SPECIAL = re.compile(r"([\\`*_\[\]<>&|~$^{}#!])")
_IN_NAME = re.compile(r"(?<=[^\W\d_])\.(?=[^\W\d_])")
_PLAIN = re.compile(r"[\w.:+=-]+(?: [\w.:+=-]+)*", re.ASCII)
_BOUND = re.compile(r"<!--(fact|cite|reference|term) ([^\s<>]+)-->(.*?)<!--/-->")
_FIGURE = re.compile(r"^!\[([^\[\]\n]*)\]\(figures/\w+\.(?:svg|png)\)$", re.MULTILINE)
_HTML_LINE = re.compile(r"^((?:[ \t]|[-+*>][ \t])*)(?=<)", re.MULTILINE)
_AROUND = 30


def escaped(text: str) -> str:
    """Return a text of one line as Markdown that prints it."""
    line = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    line = _IN_NAME.sub(r"\\.", line).replace("://", r"\://")
    return line.replace("@", "@<!-- -->")


def code_span(text: str) -> str:
    """Return an identifier in letters of one width where that is safe, else the escaped text."""
    return f"`{text}`" if _PLAIN.fullmatch(text) else escaped(text)


def entry(reference: Reference) -> str:
    """Return an entry of the list of references with its address."""
    link = f" <{reference.link}>" if reference.link else ""
    return escaped(reference.text) + link


class MarkdownWriter(Writer):
    """Writes for manuscript.md."""

    layout: ClassVar[Layout] = MARKDOWN

    def calls(self) -> dict[str, Callable[..., Any]]:
        """Return the functions of a template by name, `listed` among them."""
        return super().calls() | {"listed": self.listed}

    def fact(self, key: str) -> Markup:
        """Return a fact between two comments, the first with its key."""
        return _bound("fact", key, escaped(self.get(key).text))

    def code(self, key: str) -> Markup:
        """Return an identifier in letters of one width."""
        return _bound("fact", key, code_span(self.get(key).text))

    def cite(self, *keys: str) -> Markup:
        """Return the citations in parentheses."""
        links = [_bound("cite", r.key, escaped(r.label)) for r in self.known(keys)]
        return Markup(f" ({'; '.join(links)})") if links else Markup("")

    def term(self, name: str) -> Markup:
        """Return a name that holds a digit, bound to itself."""
        return _bound("term", name, escaped(name))

    def wording(self, text: object) -> Markup:
        """Return a text, escaped for Markdown."""
        return self._with_terms(escaped(str(text)))

    def listed(self, reference: Reference) -> Markup:
        """Return an entry of the list of references."""
        return _bound("reference", reference.key, entry(reference))


def _bound(kind: str, key: str, text: str) -> Markup:
    return Markup(f"<!--{kind} {key}-->{text}{END}")


def render_markdown(
    view: View,
    facts: Mapping[str, Fact],
    references: Mapping[str, Reference],
    pictures: list[Picture],
    texts: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the manuscript as Markdown; it names figures by their files under figures/.

    `texts` are sections in a model's words, by name.
    """
    writer = MarkdownWriter(facts, references, texts=texts)

    def finalize(value: Any) -> Markup:
        return value if isinstance(value, Markup) else writer.wording(value)

    return tidy(render("manuscript.md.j2", writer, view, pictures, finalize))


def tidy(text: str) -> str:
    """Return Markdown without indents, spaces at line ends, needless lines and lines of HTML."""
    lines = "\n".join(line.strip() for line in text.splitlines())
    guarded = _HTML_LINE.sub(rf"\1{GUARD}", lines)
    return re.sub(r"\n{3,}", "\n\n", guarded).strip() + "\n"


def write_markdown(folder: Path, to: Path) -> list[Path]:
    """Write a campaign's manuscript as Markdown, with its figures; the report first if missing.

    Args:
        folder: the campaign folder.
        to: a folder, made if missing.

    Returns:
        manuscript.md and the figures that it shows.

    Raises:
        ReportError: a figure or a page could not be made.
        CheckError: a number is not bound to its fact; nothing is written.
    """
    if not all((folder / "report" / page).is_file() for page in PAGES):
        write_report(folder)
    text, names = markdown_of(folder)
    (to / "figures").mkdir(parents=True, exist_ok=True)
    copied = [Path(shutil.copyfile(folder / "report" / name, to / name)) for name in names]
    return [write_atomically(to / NAME, text.encode()), *copied]


def markdown_of(folder: Path) -> tuple[str, list[str]]:
    """Return a campaign's manuscript and the names of its figures, as figures/NAME.

    Raises:
        CheckError: the report, which must be there, or the manuscript has an unbound number.
    """
    report = folder / "report"
    with Store.open(folder / "campaign.db", read_only=True) as store:
        rows, facts = read_rows(store), store.facts()
    references = references_of(rows.papers)
    problems = unbound_numbers(folder, facts)
    pictures = [
        Picture(drawing.name, drawing.alt, drawing.caption, "", _file(report, drawing.name))
        for drawing in drawings(rows, report)
    ]
    view, texts = told_of(rows, facts, references, [one.name for one in pictures])
    text = render_markdown(view, facts, references, pictures, texts)
    problems += [f"{NAME}: {problem}" for problem in markdown_problems(text, facts, references)]
    if problems:
        raise CheckError(f"{problems[0]} ({len(problems)} in all); run `segwright run` again")
    return text, [f"figures/{picture.file}" for picture in pictures]


def _file(report: Path, name: str) -> str:
    for ending in _ENDINGS:
        if (report / "figures" / f"{name}.{ending}").is_file():
            return f"{name}.{ending}"
    raise ReportError(f"{report / 'figures' / name} is missing; run `segwright run` again")


def markdown_problems(
    text: str, facts: Mapping[str, Fact], references: Mapping[str, Reference] | None = None
) -> list[str]:
    """Return what does not hold in a manuscript: an unbound digit, a changed fact, foreign markup.

    `references` may be cited; None: the shipped ones.
    """
    known = load_references() if references is None else references
    found = [
        problem
        for kind, key, printed in _BOUND.findall(text)
        for problem in _compared(kind, key, printed, facts, known)
    ]
    return [*found, *_loose(text)]


def _compared(
    kind: str,
    key: str,
    printed: str,
    facts: Mapping[str, Fact],
    references: Mapping[str, Reference],
) -> list[str]:
    fact, reference = facts.get(key), references.get(key)
    expected = {
        "fact": escaped(fact.text) if fact else None,
        "cite": escaped(reference.label) if reference else None,
        "reference": entry(reference) if reference else None,
        "term": escaped(key) if key in TERMS else None,
    }[kind]
    if kind == "fact" and fact is not None and printed == code_span(fact.text):
        return []
    return mismatch(kind, key, printed, expected)


def _loose(text: str) -> Iterator[str]:
    """Yield what is wrong in the text that nothing binds."""
    rest = _FIGURE.sub(r"\1", _BOUND.sub("", text))
    for line in rest.splitlines():
        if has_digit(without_terms(line)):
            yield f"a digit that no fact binds: {_excerpt(line)!r}"
        if re.search(r"<|\]\(|\]:", line):
            yield f"markup that is not of the template: {line[: 2 * _AROUND]!r}"
    if found := _HTML_LINE.search(text):
        begins = text[found.start() : found.start() + 2 * _AROUND]
        yield f"a line that begins as HTML: {begins!r}"


def _excerpt(line: str) -> str:
    place = next(i for i, character in enumerate(line) if character.isnumeric())
    return line[max(0, place - _AROUND) : place + _AROUND]
