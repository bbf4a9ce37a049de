"""A campaign as an RO-Crate: a folder that says by itself what was run, on what, and what came of it.

Holds the report and the manuscripts, facts.json with the rows behind each number, environment.json,
the networks as source files, logs of the confirmation and of failed trials, and
ro-crate-metadata.json, which `agent/crate_graph.py` makes of rows. The same rows give the same
bytes.

Covered: no image and no label beyond the report's own figures; no name of a case or patient beyond
what the report prints; no folder of this machine, user or host in what is written here.
Not covered: what the author of the campaign put into titles and reasons, which the report prints,
and networks, which are their commits to the byte.
"""

import getpass
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import escape

from agent import latex, markdown_report, typst_text
from agent.binding import PAGES
from agent.crate_graph import FORMATS, METADATA, Matter, Packed, ended, metadata
from agent.facts import trial_title
from agent.privacy import Privacy
from agent.report import write_atomically, write_report
from agent.report_rows import SEARCH_KINDS, Rows, read_rows
from memory.errors import ReportError
from memory.networks import Networks
from memory.records import Fact, Kind, Status, Trial
from memory.store import Store
from sandbox.collect import collect_log

MOST_NETWORKS, MOST_LOGS, LOG_BYTES = 1000, 60, 1 << 16
"""Networks and logs in a crate, the most telling first, and bytes of a log."""
_PAGES: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "report.html": ("The report, one page that opens from disk", lambda text: str(escape(text))),
    "manuscript.tex": ("The manuscript for pdflatex", latex.escaped),
    "manuscript.typ": ("The manuscript for Typst", typst_text.escaped),
    "references.bib": ("The sources that the manuscript may cite", str),
}
_MARKDOWN = "The manuscript as Markdown"
_PRINTED = re.compile(
    r"data-fact=\"([\w.-]+)\"|\\fact\{([\w.-]+)\}|<!--fact ([\w.-]+)-->|#fact\(\"([\w.-]+)\"\)"
)
_NO_NAMES = ("", "root", "localhost")


def write_crate(folder: Path, to: Path) -> list[Path]:
    """Write a campaign as an RO-Crate; the report is written first where it is missing.

    Args:
        folder: the campaign folder.
        to: the crate's folder, made if missing: empty, or with this crate in it.

    Returns:
        The files, ro-crate-metadata.json first.

    Raises:
        ReportError: the folder holds other files, or one could not be written.
        CheckError: a number of the report is not bound to its fact; nothing is written.
        StoreError: there is no campaign.db, or a commit is not in the repository.
        CollectError: a log is no plain file.
    """
    if not all((folder / "report" / page).is_file() for page in PAGES):
        write_report(folder)
    manuscript, _ = markdown_report.markdown_of(folder)
    with Store.open(folder / "campaign.db", read_only=True) as store:
        rows, facts = read_rows(store), store.facts()
    privacy = privacy_of(rows, folder)
    pages = list(_report(folder, manuscript, privacy))
    logs = dict(_logs(folder, rows, privacy))
    files = (
        *pages,
        _facts(facts, pages, privacy),
        _environment(rows, privacy),
        *_networks(folder, rows, facts, privacy),
        *logs.values(),
    )
    paths = {trial: log.path for trial, log in logs.items()}
    told = metadata(Matter(rows, facts, files, privacy, paths))
    return _write(to, [Packed(METADATA, _json(told), "", ""), *files])


def privacy_of(rows: Rows, folder: Path) -> Privacy:
    """Return what an export of a campaign hides: this machine's names and those of the dataset."""
    home = Path.home()
    places = {str(folder.resolve()), str(folder.absolute()), sys.prefix}
    folders = places | ({str(home)} if len(home.parts) > 1 else set())
    words = {_user(), socket.gethostname()}
    names = {name for case in rows.split for name in (case.case, case.patient)}
    return Privacy(
        tuple(sorted(folders)), tuple(sorted(words.difference(_NO_NAMES))), tuple(sorted(names))
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # nobody has a name here
        return ""


def _report(folder: Path, manuscript: str, privacy: Privacy) -> Iterator[Packed]:
    """Yield the pages of the report, and its figures to the byte."""
    report = folder / "report"
    for name, (about, form) in _PAGES.items():
        if (report / name).is_file():
            text = privacy.shown((report / name).read_text(encoding="utf-8"), form)
            yield Packed(f"report/{name}", text.encode(), name, about)
    name = markdown_report.NAME
    text = privacy.shown(manuscript, markdown_report.escaped)
    yield Packed(f"report/{name}", text.encode(), name, _MARKDOWN)
    for path in sorted((report / "figures").iterdir()):
        if path.suffix in FORMATS and path.is_file():
            about = f"Of the figure {path.stem} of the report"
            yield Packed(f"report/figures/{path.name}", path.read_bytes(), path.name, about)


def _facts(facts: Mapping[str, Fact], pages: Iterable[Packed], privacy: Privacy) -> Packed:
    """Return facts.json: what the report prints, and what else holds nothing private."""
    printed: set[str] = set()
    for page in pages:
        if not page.path.startswith("report/figures/"):
            printed.update(filter(None, sum(_PRINTED.findall(page.raw.decode()), ())))
    told = [f for f in facts.values() if f.key in printed or not _is_private(f, privacy)]
    listed = [
        {
            "key": fact.key,
            "value": privacy.shown(fact.value) if isinstance(fact.value, str) else fact.value,
            "text": privacy.shown(fact.text),
            "unit": fact.unit,
            "sources": list(fact.sources),
        }
        for fact in sorted(told, key=lambda fact: fact.key)
    ]
    raw = _json({"facts": listed, "left_out": len(facts) - len(told)})
    about = (
        "Every number, date and name of the report with the rows that it was made from; left_out "
        "counts facts that the report does not print and that name a place, a person or a case"
    )
    return Packed("facts.json", raw, "Facts", about)


def _is_private(fact: Fact, privacy: Privacy) -> bool:
    texts = (fact.key, fact.text, *([fact.value] if isinstance(fact.value, str) else []))
    return any(map(privacy.is_private, texts))


def _environment(rows: Rows, privacy: Privacy) -> Packed:
    campaign = rows.campaign
    seeds = {name: campaign.config.get(name, {}).get("seed") for name in ("split", "explore")}
    told = {
        "environment": campaign.environment,
        "protocol": campaign.protocol,
        "seeds": {**seeds, "trials": {trial.id: trial.seed for trial in ended(rows)}},
        "isolation": sorted({trial.isolation for trial in rows.trials if trial.isolation}),
    }
    about = "Versions, hardware, what every training had in common, isolation, and all seeds"
    return Packed("environment.json", _json(_public(told, privacy)), "Environment", about)


def _public(value: Any, privacy: Privacy) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _public(inner, privacy) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_public(inner, privacy) for inner in value]
    return privacy.text(value) if isinstance(value, str) else value


def _networks(
    folder: Path, rows: Rows, facts: Mapping[str, Fact], privacy: Privacy
) -> Iterator[Packed]:
    """Yield the files of the networks' commits."""
    first: dict[str, Trial] = {}
    for trial in sorted(ended(rows), key=lambda trial: _rank(trial, facts)):
        if trial.commit:
            first.setdefault(trial.commit, trial)
    if not first:
        return
    networks = Networks.open(folder / "networks")
    for commit, trial in list(first.items())[:MOST_NETWORKS]:
        title = privacy.text(trial_title(rows, trial))
        about = f"Source of the network of trial {trial.id}, as its commit has it"
        for name, text in sorted(networks.files(commit).items()):
            path = f"networks/{commit[:12]}/{name}"
            yield Packed(path, text.encode(), title, about, commit)


def _rank(trial: Trial, facts: Mapping[str, Fact]) -> tuple[int, int, float, str]:
    """Return the order of networks: confirmed, ablated, then the leaders of the search."""
    kinds = (Kind.CONFIRM, Kind.ABLATE, Kind.SELECT)
    place = kinds.index(trial.kind) if trial.kind in kinds else len(kinds)
    fact = facts.get(f"trial.{trial.id}.delta") if trial.kind in SEARCH_KINDS else None
    gain = fact.value if fact is not None and isinstance(fact.value, float) else -1.0
    return place, -trial.rung, -gain, trial.id


def _logs(folder: Path, rows: Rows, privacy: Privacy) -> Iterator[tuple[str, Packed]]:
    """Yield the logs of the confirmation and of failed trials, by trial; long ones lose their middle."""
    trials = ended(rows)
    chosen = [t for t in trials if t.kind is Kind.CONFIRM]
    chosen += [t for t in trials if t.status is not Status.OK and t.kind is not Kind.CONFIRM]
    kept = [t for t in chosen if os.path.lexists(folder / "trials" / t.id / "log.txt")]
    for trial in kept[:MOST_LOGS]:
        said = collect_log(folder / "trials" / trial.id, max_bytes=LOG_BYTES)
        about = f"What trial {trial.id} printed, without places and names"
        path = f"logs/{trial.id}.txt"
        yield trial.id, Packed(path, privacy.text(said).encode(), f"log of {trial.id}", about)


def _json(value: Any) -> bytes:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _write(to: Path, files: list[Packed]) -> list[Path]:
    """Write the files into a folder that holds nothing else."""
    wanted = {to / packed.path for packed in files}
    found = sorted(path for path in to.rglob("*") if not path.is_dir() or path.is_symlink())
    if others := [path for path in found if path not in wanted]:
        raise ReportError(
            f"{to} holds {str(others[0].relative_to(to))!r}, which is not of this crate "
            f"({len(others)} such files); name an empty folder"
        )
    for packed in files:
        (to / packed.path).parent.mkdir(parents=True, exist_ok=True)
    return [write_atomically(to / packed.path, packed.raw) for packed in files]
