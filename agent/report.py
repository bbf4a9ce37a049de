"""The report and the manuscript: written from facts, atomically, with the same bytes each time.

`report.html` is one file that opens from disk and asks no network for anything;
`manuscript.tex` says the same for pdflatex and `manuscript.typ` for Typst. All print numbers
through facts alone, and all escape whatever a planner, a dataset or a trial wrote.
"""

import base64
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup, escape

from agent.bibliography import Reference, bibliography_text
from agent.binding import TERMS, expected_value
from agent.curves import keep_curves
from agent.facts import facts_of
from agent.figures import drawings, paint_all
from agent.found_references import found_text, references_of
from agent.manuscript import signed, texts_of
from agent.plotting import Drawing
from agent.prose import HTML, Layout, parse, rendered
from agent.report_rows import Rows, read_rows
from agent.report_view import View, build_view
from memory.errors import ReportError
from memory.records import Fact
from memory.store import Store

_MOST_SOURCES = 8
_CASE_LINES = 44
_IMAGE_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
_SECTIONS = (
    ("protocol", "Protocol and smallest detectable effect"),
    ("dataset", "Dataset and split"),
    ("compute", "Budget and compute"),
    ("search", "The search"),
    ("learnt", "What was learnt"),
    ("baselines", "Baselines"),
    ("results", "Results on the locked test"),
    ("network", "The chosen network"),
    ("ablation", "Ablation"),
    ("cases", "Worst, most improved and most harmed case"),
    ("failures", "What was tried and did not work"),
    ("selection", "Selection scores and locked scores"),
    ("limitations", "Limitations"),
    ("text", "Text by a language model"),
    ("provenance", "Provenance"),
    ("reproduce", "How to reproduce this"),
)
_PROVENANCE = (
    ("campaign.id", "campaign"),
    ("campaign.dataset_hash", "dataset hash"),
    ("campaign.split_hash", "split hash"),
    ("protocol.isolation", "isolation"),
    ("config.split.seed", "seed of the split"),
    ("config.explore.policy", "search policy"),
    ("config.explore.seed", "seed of the search"),
    ("config.confirm.seeds", "seeds of each confirmation arm"),
    ("config.confirm.finalists", "finalists at most"),
    ("config.confirm.alpha", "level of a claim"),
    ("noise.margin", "margin in points of Dice"),
    ("config.scoring.tolerance_mm", "NSD tolerance in mm"),
    ("protocol.rung_iterations", "iterations of the rungs"),
    ("protocol.batch_size", "batch size"),
    ("protocol.patch_size", "patch size"),
)
_BUDGET_NAMES = {
    "hours": "hours",
    "gpu_hours": "GPU hours",
    "usd": "US dollars for language models",
    "trials": "trials",
}


class Picture(NamedTuple):
    """A figure as a template prints it: its file under figures/, and in `uri` the whole image."""

    name: str
    alt: str
    caption: str
    uri: str
    file: str


@dataclass
class Writer(ABC):
    """What a template may call; each call returns text that is safe in its format."""

    facts: Mapping[str, Fact]
    references: Mapping[str, Reference]
    used: dict[str, Reference] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    layout: ClassVar[Layout]

    def has(self, key: str) -> bool:
        """Return whether there is such a fact."""
        return key in self.facts

    def get(self, key: str) -> Fact:
        """Return a fact.

        Raises:
            ReportError: a template asks for a fact that was not derived.
        """
        if key not in self.facts:
            raise ReportError(f"the report needs the fact {key!r}, which the rows do not give")
        return self.facts[key]

    def known(self, keys: tuple[str, ...]) -> list[Reference]:
        """Return the references of the keys that the bibliography holds, and note their use."""
        found = [self.references[key] for key in dict.fromkeys(keys) if key in self.references]
        self.used |= {reference.key: reference for reference in found}
        return found

    def cited(self) -> list[Reference]:
        """Return the references cited so far, by their labels."""
        return sorted(self.used.values(), key=lambda r: (r.label, r.key))

    def calls(self) -> dict[str, Callable[..., Any]]:
        """Return the functions of a template by name."""
        return {
            "fact": self.fact,
            "code": self.code,
            "cite": self.cite,
            "term": self.term,
            "wording": self.wording,
            "has": self.has,
            "cited": self.cited,
            "told": self.told,
            "value": lambda key: self.get(key).value,
            "text": lambda key: self.get(key).text,
        }

    def told(self, name: str) -> Markup:
        """Return a section in a model's words, paragraph by paragraph; nothing if it has none."""
        if name not in self.texts:
            return Markup("")
        return rendered(parse(self.texts[name]), self, self.layout)

    @abstractmethod
    def fact(self, key: str) -> Markup:
        """Return a fact, bound to its key."""

    @abstractmethod
    def code(self, key: str) -> Markup:
        """Return an identifier, version or hash, bound to its key."""

    @abstractmethod
    def cite(self, *keys: str) -> Markup:
        """Return the citations of those keys that may be cited; nothing if none may."""

    @abstractmethod
    def term(self, name: str) -> Markup:
        """Return a name that holds a digit."""

    @abstractmethod
    def wording(self, text: object) -> Markup:
        """Return a text of ours or of others, escaped, with the names in it marked as such."""

    def _with_terms(self, escaped: str) -> Markup:
        for name in TERMS:
            escaped = escaped.replace(name, self.term(name))
        return Markup(escaped)


class HtmlWriter(Writer):
    """Writes for report.html."""

    layout: ClassVar[Layout] = HTML

    def fact(self, key: str) -> Markup:
        """Return a fact as an element with its key, raw value and sources."""
        return self._element(key, "span" if isinstance(self.get(key).value, str) else "data")

    def code(self, key: str) -> Markup:
        """Return an identifier as an element with its key and sources."""
        return self._element(key, "code")

    def _element(self, key: str, tag: str) -> Markup:
        fact = self.get(key)
        sources = " ".join(fact.sources[:_MOST_SOURCES])
        if len(fact.sources) > _MOST_SOURCES:
            sources += f" and {len(fact.sources) - _MOST_SOURCES} more"
        value = Markup(' value="{}"').format(expected_value(fact)) if tag == "data" else Markup("")
        return Markup('<{0} class="fact"{1} data-fact="{2}" title="{3}">{4}</{0}>').format(
            Markup(tag), value, key, sources, fact.text
        )

    def cite(self, *keys: str) -> Markup:
        """Return the citations in brackets, each linked to its entry."""
        link = Markup('<cite data-cite="{0}"><a href="#ref-{0}">{1}</a></cite>')
        links = [link.format(r.key, r.label) for r in self.known(keys)]
        return Markup(" ({})").format(Markup("; ").join(links)) if links else Markup("")

    def term(self, name: str) -> Markup:
        """Return a name that holds a digit, as an element that says so."""
        return Markup('<span data-term="{0}">{0}</span>').format(name)

    def wording(self, text: object) -> Markup:
        """Return a text, escaped for HTML."""
        return self._with_terms(str(escape(text)))


def write_report(folder: Path) -> list[Path]:
    """Derive the facts of a campaign, keep them, and write its report, manuscript and figures.

    Args:
        folder: the campaign folder; `report/` in it is made if missing.

    Returns:
        The files, report.html first. Writing again from the same rows gives the same bytes.

    Raises:
        StoreError: there is no readable campaign.db.
        ReportError: a figure or a page could not be made.
    """
    report = folder / "report"
    with Store.open(folder / "campaign.db") as store:
        keep_curves(store, folder)
        rows = read_rows(store)
        derived = facts_of(rows)
        store.replace_facts(derived)
    facts = {fact.key: fact for fact in derived}
    chosen = drawings(rows, report)
    figures = paint_all(chosen)
    return _write_all(report, pages_of(rows, facts, chosen, figures), figures)


def pages_of(
    rows: Rows,
    facts: Mapping[str, Fact],
    chosen: Sequence[Drawing],
    figures: Mapping[str, bytes],
) -> dict[str, str]:
    """Return the pages of a report by their names.

    Args:
        rows: what the store holds.
        facts: the facts of the rows, by key.
        chosen: the figures that the rows allow.
        figures: the files of these figures, by name; those that the page shows are enough.
    """
    from agent.latex_writer import render_latex  # both build on the Writer of this module
    from agent.typst_writer import render_typst

    references = references_of(rows.papers)
    pictures = [_picture(drawing, figures) for drawing in chosen]
    view, texts = told_of(rows, facts, references, [drawing.name for drawing in chosen])
    told = (view, facts, references, pictures, texts)
    return {
        "report.html": render_html(*told),
        "manuscript.tex": render_latex(*told),
        "manuscript.typ": render_typst(*told),
        "references.bib": bibliography_text() + found_text(rows.papers),
    }


def told_of(
    rows: Rows,
    facts: Mapping[str, Fact],
    references: Mapping[str, Reference],
    figures: Sequence[str],
) -> tuple[View, dict[str, str]]:
    """Return what the templates walk over, and the sections in a model's words, by name."""
    written = texts_of(rows, facts, references=references, figures=figures)
    view = replace(build_view(rows, references), signed=signed(written))
    return view, {name: one.text for name, one in written.items() if one.text}


def _picture(drawing: Drawing, figures: Mapping[str, bytes]) -> Picture:
    ending = next(end for end in _IMAGE_TYPES if f"{drawing.name}.{end}" in figures)
    raw = base64.b64encode(figures[f"{drawing.name}.{ending}"]).decode()
    uri = f"data:{_IMAGE_TYPES[ending]};base64,{raw}"
    return Picture(drawing.name, drawing.alt, drawing.caption, uri, f"{drawing.name}.{ending}")


def render_html(
    view: View,
    facts: Mapping[str, Fact],
    references: Mapping[str, Reference],
    pictures: list[Picture],
    texts: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the page as one self-contained HTML text.

    `texts` are sections in a model's words, by name.
    """
    css = Markup((resources.files("templates") / "report.css").read_text(encoding="utf-8"))
    writer = HtmlWriter(facts, references, texts=texts)
    return render("report.html.j2", writer, view, pictures, escape, css=css)


def render(
    name: str,
    writer: Writer,
    view: View,
    pictures: list[Picture],
    finalize: Callable[[Any], Markup],
    *,
    css: str = "",
) -> str:
    """Return a template filled in: what it prints goes through the writer or `finalize`."""
    from agent.rendering import environment

    rows_a_case = max(len(view.case_labels), 1)
    known = [(key, label) for key, label in _PROVENANCE if writer.has(key)]
    return (
        environment(name, finalize)
        .get_template(name)
        .render(
            v=view,
            figures=pictures,
            css=css,
            sections=[one for one in _SECTIONS if one[0] != "text" or writer.texts],
            provenance=known,
            budget_names=_BUDGET_NAMES,
            case_batch=max(_CASE_LINES // rows_a_case, 1),
            **writer.calls(),
        )
    )


def _write_all(report: Path, pages: Mapping[str, str], figures: Mapping[str, bytes]) -> list[Path]:
    folder = report / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_atomically(folder / name, raw) for name, raw in figures.items()]
    for stale in sorted(set(folder.iterdir()) - set(written)):
        if stale.is_file():
            stale.unlink()
    return [write_atomically(report / n, t.encode()) for n, t in pages.items()] + written


def write_atomically(path: Path, raw: bytes) -> Path:
    """Write a file so that it is either the old one or the new one, whatever happens."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ReportError(f"{path} could not be written: {error}; free some space") from error
    return path
