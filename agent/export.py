"""What leaves a campaign folder: its report in one of several formats, and only if it is sound."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.binding import PAGES
from agent.check import report_problems
from agent.crate import write_crate
from agent.latex_export import latex_files, zipped
from agent.latex_skin import ARTICLE, Skin, skin_of
from agent.markdown_report import write_markdown
from agent.pdf import pdf_of
from agent.report import write_atomically, write_report
from memory.errors import CheckError, ReportError
from memory.store import Store


class Order(NamedTuple):
    """An export that passed the check: the campaign folder, where to, PDF engine, LaTeX style."""

    folder: Path
    to: Path
    engine: str
    skin: Skin = ARTICLE

    @property
    def report(self) -> Path:
        """The folder with the pages and figures."""
        return self.folder / "report"


AGAIN = "`segwright run` writes the report again, as is needed after an update of segwright"
Make = Callable[[Order], list[Path]]
STYLED = ("latex", "overleaf")


def export_report(
    folder: Path, kind: str, to: Path, *, engine: str = "auto", style: str | None = None
) -> list[Path]:
    """Write a campaign's report into a folder; it is made first where a page is missing.

    Args:
        folder: the campaign folder.
        kind: a name of FORMATS.
        to: a folder, made if missing.
        engine: what makes a PDF, of agent.pdf.ENGINES; other formats take no notice of it.
        style: of agent.latex_skin.SKINS, for a format of STYLED; None: article.

    Returns:
        The files written, the one to open first.

    Raises:
        ReportError: the format, engine or style is not known, the format has no styles, or the
            file cannot be made.
        CheckError: the report is not what the rows give; nothing is written.
    """
    if kind not in FORMATS:
        raise ReportError(f"cannot export {kind!r}; formats: {', '.join(FORMATS)}")
    if style is not None and kind not in STYLED:
        raise ReportError(f"{kind} has no styles; those that have: {', '.join(STYLED)}")
    skin = ARTICLE if style is None else skin_of(style)
    if not all((folder / "report" / page).is_file() for page in PAGES):
        write_report(folder)
    if problems := report_problems(folder):
        raise CheckError(f"{problems[0]} ({len(problems)} in all); {AGAIN}")
    return FORMATS[kind](Order(folder, to, engine, skin))


def _html(order: Order) -> list[Path]:
    return _copied(order, ["report.html"])


def _latex(order: Order) -> list[Path]:
    files = latex_files(order.folder, order.skin)
    for name in files:
        (order.to / name).parent.mkdir(parents=True, exist_ok=True)
    return [write_atomically(order.to / name, raw) for name, raw in files.items()]


def _overleaf(order: Order) -> list[Path]:
    made = zipped(latex_files(order.folder, order.skin))
    order.to.mkdir(parents=True, exist_ok=True)
    return [write_atomically(order.to / "manuscript.zip", made)]


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
    "overleaf": _overleaf,
    "pdf": _pdf,
    "markdown": lambda order: write_markdown(order.folder, order.to),
    "crate": lambda order: write_crate(order.folder, order.to),
}
