"""Whether a report is, letter by letter, what its rows give: it is made again and compared.

Covered: each line of each page, sentences, captions, tables and references among them. Pictures are
taken as they lie under report/figures/, whose digests `agent/binding.py` compares with the rows.
A report that another version of segwright wrote may differ in its fixed sentences.
"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from agent.facts import facts_of
from agent.figures import drawings
from agent.report import pages_of
from agent.report_rows import read_rows
from memory.store import Store

EXCERPT = 60
_SHOWN = (".svg", ".png")


def changed_lines(folder: Path) -> Iterator[str]:
    """Yield, for each page of a campaign's report that is not as the rows give it, its first place.

    Args:
        folder: of a campaign that has ended, since rows grow before; a page or a picture that is
            missing is passed over.

    Raises:
        ReportError: the rows give no report.
    """
    report = folder / "report"
    with Store.open(folder / "campaign.db", read_only=True) as store:
        rows = read_rows(store)
    facts = {fact.key: fact for fact in facts_of(rows)}
    files = (one for one in (report / "figures").glob("*") if one.suffix in _SHOWN)
    figures = {one.name: one.read_bytes() for one in sorted(files)}
    names = {Path(name).stem for name in figures}
    chosen = drawings(rows, report)
    if any(drawing.name not in names for drawing in chosen):
        return
    for name, made in pages_of(rows, facts, chosen, figures).items():
        path = report / name
        if path.is_file() and (found := difference(path.read_text(encoding="utf-8"), made)):
            yield f"report/{name}: {found}"


def difference(written: str, made: str) -> str:
    """Return the first line in which a written page differs from what is made again; "" for none."""
    pairs = zip_longest(written.splitlines(), made.splitlines(), fillvalue="")
    for number, (old, new) in enumerate(pairs, 1):
        if old != new:
            return f"line {number} has {_around(old, new)}, the rows give {_around(new, old)}"
    return "" if written == made else "it ends otherwise than the rows give"


def _around(line: str, other: str) -> str:
    """Return a part of a line with the first sign in which it differs from another."""
    both = zip(line, other, strict=False)
    place = next((i for i, (a, b) in enumerate(both) if a != b), min(len(line), len(other)))
    start = max(0, place - EXCERPT // 2)
    return repr(line[start : start + EXCERPT])
