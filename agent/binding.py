"""Whether each number of a report is bound to a fact, and each figure to its rows.

Covered: every digit of the visible text and of alternative texts of report.html, every digit
of the bodies of manuscript.tex and manuscript.typ, the text and raw value of each fact, citations
and references, the digests of figures, their files and the copies inside the page. In
manuscript.typ also each command that the template has not.
Not covered: numbers written as words, and whether a fact follows from its rows (that is
`derive_facts`).
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from agent import latex, typst_text
from agent.bibliography import Reference, load_references
from agent.figures import drawings
from agent.found_references import FOUND, papers_in, references_of
from agent.report_rows import read_rows
from memory.errors import ReportError
from memory.records import Fact, canonical, digest
from memory.store import Store

TERMS = ("HD95",)
PAGES = ("report.html", "manuscript.tex", "manuscript.typ")
FINISHED = ("stopped", "done")
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
_HIDDEN = frozenset(("style", "script"))
_CHECKED = ("data-fact", "data-cite", "data-reference", "data-term")
_EXCERPT = 60


def unbound_numbers(folder: Path, facts: Mapping[str, Fact]) -> list[str]:
    """Return one line for each place where a campaign's report does not hold.

    Args:
        folder: the campaign folder; its `report/` and `campaign.db` are read.
        facts: the facts by key, as the store or `derive_facts` gives them.

    Returns:
        Lines that name the file and the place; empty where every number is bound.
    """
    report = folder / "report"
    if not (is_finished(folder) or any((report / name).exists() for name in PAGES)):
        return []
    references = cited_in(folder)
    checks: tuple[tuple[str, Callable[[str], list[str]]], ...] = (
        ("report.html", lambda text: html_problems(text, facts, references)),
        ("manuscript.tex", lambda text: latex_problems(text, facts, references)),
        ("manuscript.typ", lambda text: typst_problems(text, facts, references)),
    )
    lines = []
    for name, check in checks:
        try:
            text = (report / name).read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError) as error:
            lines.append(f"report/{name}: cannot be read ({error}); write the report again")
            continue
        lines += [f"report/{name}: {problem}" for problem in check(text)]
    return lines + figure_problems(folder)


def cited_in(folder: Path) -> dict[str, Reference]:
    """Return what a campaign's report may cite, by key."""
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return references_of(papers_in(store.effects(FOUND)))


def is_finished(folder: Path) -> bool:
    """Return whether the rows of a campaign have stopped growing."""
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return store.campaign().state in FINISHED


def expected_value(fact: Fact) -> str:
    """Return the raw value of a fact as the page's attribute has it."""
    return canonical(fact.value)


class _Page(HTMLParser):
    """Walks a page and compares each bound element with what it is bound to."""

    def __init__(self, facts: Mapping[str, Fact], references: Mapping[str, Reference]) -> None:
        super().__init__(convert_charrefs=True)
        self.facts, self.references = facts, references
        self.problems: list[str] = []
        self.images: dict[str, str] = {}
        self._open: list[str] = []
        self._bound: tuple[int, str, str] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        for name in ("alt", "aria-label", "content", "placeholder"):
            if tag != "meta" and has_digit(without_terms(given.get(name, ""))):
                self.problems.append(f"a digit in {name} that no fact binds: {given[name]!r:.80}")
        if "data-figure" in given:
            self.images[given["data-figure"]] = given.get("src", "")
        if tag in _VOID:
            return
        self._open.append(tag)
        kind = next((name for name in _CHECKED if name in given), None)
        if kind is not None and self._bound is None:
            self._bound, self._text = (len(self._open), kind, given[kind]), ""
            if kind == "data-fact" and "value" in given:
                self._compare_value(given["data-fact"], given["value"])

    def _compare_value(self, key: str, value: str) -> None:
        fact = self.facts.get(key)
        if fact is not None and value != expected_value(fact):
            problem = f"fact {key}: value {value!r:.40}, the store has {expected_value(fact):.40}"
            self.problems.append(problem)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID or tag not in self._open:
            return
        while self._open:
            depth, closed = len(self._open), self._open.pop()
            if self._bound is not None and self._bound[0] == depth:
                self._close_bound(*self._bound[1:])
                self._bound = None
            if closed == tag:
                return

    def _close_bound(self, kind: str, key: str) -> None:
        fact, reference = self.facts.get(key), self.references.get(key)
        expected = {
            "data-fact": fact.text if fact else None,
            "data-cite": reference.label if reference else None,
            "data-reference": reference.text if reference else None,
            "data-term": key if key in TERMS else None,
        }[kind]
        self.problems += mismatch(kind.removeprefix("data-"), key, self._text, expected)

    def handle_data(self, data: str) -> None:
        if self._bound is not None:
            self._text += data
        elif has_digit(data) and not _HIDDEN.intersection(self._open):
            self.problems.append(f"a digit that no fact binds: {_around(data)!r}")


def mismatch(kind: str, key: str, text: str, expected: str | None) -> list[str]:
    """Return a line where a bound text is not what it is bound to; nothing where it is."""
    if expected is None:
        return [f"{kind} {key!r} does not exist, and the report prints {text!r:.60}"]
    if text != expected:
        return [f"{kind} {key}: the report prints {text!r:.80}, it is {expected!r:.80}"]
    return []


def has_digit(text: str) -> bool:
    """Return whether a text holds a digit or numeral of any script, fractions included."""
    return any(character.isnumeric() for character in text)


def without_terms(text: str) -> str:
    """Return a text without the names that hold a digit."""
    for term in TERMS:
        text = text.replace(term, "")
    return text


def _around(text: str) -> str:
    line = " ".join(text.split())
    place = next(i for i, character in enumerate(line) if character.isnumeric())
    return line[max(0, place - _EXCERPT // 2) : place + _EXCERPT // 2]


def html_problems(
    text: str, facts: Mapping[str, Fact], references: Mapping[str, Reference] | None = None
) -> list[str]:
    """Return what does not hold in a page, the figures aside.

    `references` may be cited; None: the shipped ones.
    """
    page = _Page(facts, load_references() if references is None else references)
    page.feed(text)
    page.close()
    return page.problems


_COMMAND = re.compile(r"\\(fact|term|cite|includegraphics)(?:\[[^\]]*\])?\{")


def latex_problems(
    text: str, facts: Mapping[str, Fact], references: Mapping[str, Reference] | None = None
) -> list[str]:
    """Return what does not hold in the body of a manuscript; `references` as in `html_problems`."""
    try:
        body = text[text.index(r"\begin{document}") : text.index(r"\end{document}")]
    except ValueError:
        return ["it has no document environment; write the report again"]
    references = load_references() if references is None else references
    problems: list[str] = []
    place, loose = 0, list[str]()
    while match := _COMMAND.search(body, place):
        loose.append(body[place : match.start()])
        first, place = _argument(body, match.end() - 1)
        match match.group(1):
            case "fact":
                printed, place = _argument(body, place)
                fact = facts.get(first)
                expected = None if fact is None else latex.escaped(fact.text)
                problems += mismatch("fact", first, printed, expected)
            case "term":
                problems += mismatch("term", first, first, first if first in TERMS else None)
            case "cite":
                unknown = [key for key in first.split(",") if key not in references]
                problems += [f"citation {key!r} is not in the bibliography" for key in unknown]
    return problems + _loose_digits([*loose, body[place:]])


def _loose_digits(parts: Iterable[str]) -> list[str]:
    lines = [line for line in "\n".join(parts).splitlines() if has_digit(line)]
    return [f"a digit that no fact binds: {_around(line)!r}" for line in lines]


def _argument(body: str, start: int, braces: str = "{}") -> tuple[str, int]:
    """Return the text between the braces that open at `start`, and the place after them."""
    depth, place = 0, start
    while place < len(body):
        character = body[place]
        if character == "\\":
            place += 2
            continue
        depth += (character == braces[0]) - (character == braces[1])
        place += 1
        if depth == 0:
            return body[start + 1 : place - 1], place
    return body[start + 1 :], len(body)


TYPST_BODY = "// The text begins here."
_TYPST_CALL = re.compile(r"(?<!\\)#(fact|term|cited|reference|picture|small-picture)\(")
_TYPST_STRING = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*([,)])')
_TYPST_COMMAND = re.compile(r"#([^\s({\[;:.]*)")
_TYPST_COMMANDS = frozenset(
    "show code strong run-in lead footnote datatable heading fact term cited reference".split()
) | {"picture", "small-picture", "ref", "emph"}


def typst_problems(
    text: str, facts: Mapping[str, Fact], references: Mapping[str, Reference] | None = None
) -> list[str]:
    """Return what does not hold in the body of a manuscript in Typst, commands included."""
    _, found, body = text.partition(TYPST_BODY)
    if not found:
        return ["it does not say where its text begins; write the report again"]
    references = load_references() if references is None else references
    problems: list[str] = []
    place, loose = 0, list[str]()
    body = body.partition("\n")[2]
    while match := _TYPST_CALL.search(body, place):
        loose.append(body[place : match.start()])
        kind = match.group(1)
        given, place = _strings(body, match.end())
        printed = ""
        if kind in ("fact", "reference"):
            printed, place = _argument(body, place, "[]")
        problems += _typst_call(kind, given, printed, facts, references)
    loose.append(body[place:])
    commands = _TYPST_COMMAND.findall(re.sub(r"\\.", "", "\n".join(loose)))
    unknown = sorted(set(commands) - _TYPST_COMMANDS)
    problems += [f"#{name} is no command of the manuscript" for name in unknown]
    return problems + _loose_digits(loose)


def _strings(body: str, place: int) -> tuple[list[str], int]:
    """Return the strings of a call's round brackets, and the place after these."""
    found: list[str] = []
    while match := _TYPST_STRING.match(body, place):
        found.append(typst_text.unquoted(match.group(1)))
        place = match.end()
        if match.group(2) == ")":
            break
    return found, place


def _typst_call(
    kind: str,
    given: list[str],
    printed: str,
    facts: Mapping[str, Fact],
    references: Mapping[str, Reference],
) -> list[str]:
    """Return what does not hold in one call, by its strings and the text in its brackets."""
    first, second = [*given, "", ""][:2]
    if kind == "cited":
        unknown = [key for key in given if key not in references]
        return [f"citation {key!r} is not in the bibliography" for key in unknown]
    if kind.endswith("picture"):
        return _loose_digits([without_terms(second)])
    if kind == "term":
        return mismatch(kind, first, first, first if first in TERMS else None)
    known = facts.get(first) if kind == "fact" else references.get(first)
    expected = None if known is None else typst_text.escaped(known.text)
    lines = mismatch(kind, first, printed, expected)
    if isinstance(known, Reference):
        lines += mismatch("link", first, second, known.link)
    return lines


def figure_problems(folder: Path) -> list[str]:
    """Return what does not hold in the figures: rows, files, and the copies in the page.

    While a campaign runs its rows grow, so figures are compared with rows only after it ended.
    """
    report = folder / "report"
    images = _images(report / "report.html")
    expected: dict[str, str | None] = dict.fromkeys(images)
    if is_finished(folder):
        with Store.open(folder / "campaign.db", read_only=True) as store:
            try:
                expected = {d.name: digest(d.data) for d in drawings(read_rows(store), report)}
            except ReportError as error:
                return [f"report/figures: {error}"]
    problems = [
        f"report/figures/{name}: the rows allow no such figure"
        for name in sorted(images.keys() - expected.keys())
    ]
    for name, rows_sha256 in sorted(expected.items()):
        found = _figure(report, name, rows_sha256, images.get(name))
        problems += [f"report/figures/{name}: {problem}" for problem in found]
    return problems


def _images(path: Path) -> dict[str, str]:
    page = _Page({}, {})
    if path.is_file():
        page.feed(path.read_text(encoding="utf-8", errors="replace"))
    return page.images


def _figure(report: Path, name: str, rows_sha256: str | None, image: str | None) -> list[str]:
    try:
        record = json.loads((report / "figures" / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"its JSON cannot be read ({error}); write the report again"]
    stale = rows_sha256 is not None and record.get("rows_sha256") != rows_sha256
    if stale:
        return ["it was drawn from other rows than the store has; write the report again"]
    files: dict[str, Any] = record.get("files", {})
    problems = []
    for file, expected in sorted(files.items()):
        path = report / "figures" / Path(file).name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            problems.append(f"{file} is missing or was changed after it was drawn")
    if image is None:
        problems.append("report.html does not show it")
    elif _embedded_hash(image) not in files.values():
        problems.append("the copy in report.html is not the figure that was drawn")
    return problems


def _embedded_hash(source: str) -> str:
    try:
        raw = base64.b64decode(source.partition("base64,")[2], validate=True)
    except binascii.Error:
        return ""
    return hashlib.sha256(raw).hexdigest()
