"""What leaves a campaign folder: its report in one of several formats, and only if it is sound."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.binding import PAGES, unbound_numbers
from agent.crate import write_crate
from agent.markdown_report import write_markdown
from agent.pdf import pdf_of
from agent.report import write_atomically, write_report
from memory.errors import CheckError, ReportError
from memory.store import Store


class Order(NamedTuple):
    """An export that passed the check: the campaign folder, where to, and the PDF engine."""

    folder: Path
    to: Path
    engine: str

    @property
    def report(self) -> Path:
        """The folder with the pages and figures."""
        return self.folder / "report"


Make = Callable[[Order], list[Path]]


def export_report(folder: Path, kind: str, to: Path, *, engine: str = "auto") -> list[Path]:
    """Write a campaign's report into a folder; it is made first where a page is missing.

    Args:
        folder: the campaign folder.
        kind: a name of FORMATS.
        to: a folder, made if missing.
        engine: what makes a PDF, of agent.pdf.ENGINES; other formats take no notice of it.

    Returns:
        The files written, the one to open first.

    Raises:
        ReportError: the format or engine is not known, or the file cannot be made.
        CheckError: a number in the report is not bound to its fact; nothing is written.
    """
    if kind not in FORMATS:
        raise ReportError(f"cannot export {kind!r}; formats: {', '.join(FORMATS)}")
    if not all((folder / "report" / page).is_file() for page in PAGES):
        write_report(folder)
    with Store.open(folder / "campaign.db", read_only=True) as store:
        problems = unbound_numbers(folder, store.facts())
    if problems:
        raise CheckError(f"{problems[0]} ({len(problems)} in all); run `segwright run` again")
    return FORMATS[kind](Order(folder, to, engine))


def _html(order: Order) -> list[Path]:
    return _copied(order, ["report.html"])


def _latex(order: Order) -> list[Path]:
    pictures = sorted((order.report / "figures").glob("*.pdf"))
    names = ["manuscript.tex", "references.bib", *(f"figures/{p.name}" for p in pictures)]
    return _copied(order, names)


def _pdf(order: Order) -> list[Path]:
    with Store.open(order.folder / "campaign.db", read_only=True) as store:
        created_s = store.campaign().created_at
    made = pdf_of(order.report, created_s, order.engine)
    order.to.mkdir(parents=True, exist_ok=True)
    return [write_atomically(order.to / "manuscript.pdf", made)]


def _copied(order: Order, names: Iterable[str]) -> list[Path]:
    copied = []
    for name in names:
        target = order.to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copied.append(Path(shutil.copyfile(order.report / name, target)))
    return copied


FORMATS: Mapping[str, Make] = {
    "html": _html,
    "latex": _latex,
    "pdf": _pdf,
    "markdown": lambda order: write_markdown(order.folder, order.to),
    "crate": lambda order: write_crate(order.folder, order.to),
}
