"""The manuscript in LaTeX as it leaves a campaign: what one style needs, as a folder or one zip.

A style other than the report's is written from the same rows and facts, and goes nowhere before
each of its numbers is bound to a fact. The zip has the same bytes on every machine: its files are
sorted, have one date and are not compressed.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from agent.bibliography import Reference
from agent.binding import latex_problems
from agent.figures import drawings
from agent.found_references import references_of
from agent.latex_skin import ARTICLE, Skin, files_of
from agent.latex_writer import render_latex
from agent.report import Picture, told_of
from agent.report_rows import read_rows
from memory.errors import CheckError, ReportError
from memory.records import Fact
from memory.store import Store

NAME = "manuscript.tex"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can tell
_MODE = 0o100644 << 16  # a file that everybody may read


def latex_files(folder: Path, skin: Skin) -> dict[str, bytes]:
    """Return what a style's manuscript needs besides its class: {path: bytes}, NAME first.

    Args:
        folder: the campaign folder, its report written and checked; it is only read.
        skin: the style.

    Raises:
        ReportError: a figure is missing, or the rows have grown since the report was written.
        CheckError: a number of the manuscript is not bound to its fact.
    """
    report = folder / "report"
    text = (report / NAME).read_text(encoding="utf-8") if skin == ARTICLE else styled(folder, skin)
    try:
        read = {name: (report / name).read_bytes() for name in files_of(text)}
    except OSError as error:
        raise ReportError(f"{error.filename} cannot be read; run `segwright run` again") from error
    return {NAME: text.encode(), **read}


def styled(folder: Path, skin: Skin) -> str:
    """Return a campaign's manuscript in a style.

    Raises:
        ReportError: the facts of the store do not suffice for its rows.
        CheckError: a number is not bound to its fact.
    """
    with Store.open(folder / "campaign.db", read_only=True) as store:
        rows, facts = read_rows(store), store.facts()
    references = references_of(rows.papers)
    drawn = drawings(rows, folder / "report")
    view, texts = told_of(rows, facts, references, [drawing.name for drawing in drawn])
    pictures = [Picture(one.name, one.alt, one.caption, "", "") for one in drawn]
    text = render_latex(view, facts, references, pictures, texts, skin)
    refuse_unbound(text, facts, references)
    return text


def refuse_unbound(
    text: str, facts: Mapping[str, Fact], references: Mapping[str, Reference] | None = None
) -> None:
    """Raise where a number of a manuscript is not bound to its fact; `references` may be cited.

    Raises:
        CheckError: names the first, and says how many there are.
    """
    if problems := latex_problems(text, facts, references):
        line = f"{NAME}: {problems[0]} ({len(problems)} in all)"
        raise CheckError(f"{line}; run `segwright run` again")


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return files as one zip, with the same bytes for the same files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, _MODE
            archive.writestr(entry, files[name])
    return made.getvalue()
