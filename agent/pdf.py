"""A manuscript as PDF, with the same bytes each time: by the wheel `typst`, or by LaTeX.

Typst comes as one wheel with its fonts and asks neither the system nor the network for anything.
Its PDF is tagged and follows PDF/UA-1: a figure has its alternative text, a table its heads.
LaTeX is used where pdflatex and bibtex are installed; nothing is ever downloaded.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from memory.errors import ReportError

ENGINES = ("auto", "typst", "latex")
MISSING = (
    "no PDF can be made: install typst (pip install 'segwright[pdf]'), or pdflatex and bibtex "
    "(Debian: texlive-latex-recommended, texlive-fonts-recommended and lmodern)"
)
_PROGRAMS = ("pdflatex", "bibtex")
_LATEX_LIMIT_S = 180
_LAST_LINES = 3


def pdf_of(report: Path, created_s: float, engine: str = "auto") -> bytes:
    """Return the PDF of the manuscript in a report folder.

    Args:
        report: holds manuscript.typ, manuscript.tex, references.bib and figures/; it is only read.
        created_s: when the campaign was created, in seconds since 1970: the PDF's date.
        engine: of ENGINES; auto takes typst where it is installed, since LaTeX differs from
            machine to machine, and pdflatex otherwise.

    Raises:
        ReportError: the engine is not known or not installed, or it refuses the manuscript.
    """
    if engine not in ENGINES:
        raise ReportError(f"no PDF engine {engine!r}; engines: {', '.join(ENGINES)}")
    makers: dict[str, tuple[bool, Callable[[Path, int], bytes]]] = {
        "typst": (importlib.util.find_spec("typst") is not None, _by_typst),
        "latex": (all(map(shutil.which, _PROGRAMS)), _by_latex),
    }
    for name, (is_installed, make) in makers.items():
        if engine in ("auto", name) and is_installed:
            return make(report, int(created_s))
    wanted = "" if engine == "auto" else f" ({engine} was asked for and is not installed)"
    raise ReportError(MISSING + wanted)


def _by_typst(report: Path, created_s: int) -> bytes:
    import typst

    try:
        made = typst.compile(
            str(report / "manuscript.typ"),
            root=str(report),
            font_paths=[],
            ignore_system_fonts=True,
            format="pdf",
            pdf_standards=["ua-1"],
            timestamp=created_s,
        )
    except typst.TypstError as error:
        raise ReportError(f"typst refuses {report / 'manuscript.typ'}: {error}") from error
    assert isinstance(made, bytes)
    return made


def _by_latex(report: Path, created_s: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="segwright-pdf-") as name:
        work = Path(name)
        for file in ("manuscript.tex", "references.bib"):
            shutil.copyfile(report / file, work / file)
        shutil.copytree(report / "figures", work / "figures")
        return compiled(work, created_s)


def compiled(work: Path, created_s: int) -> bytes:
    """Return the PDF of the manuscript.tex in a folder, made there by LaTeX, which may run nothing.

    Args:
        work: holds manuscript.tex and what it reads; manuscript.log stays in it.
        created_s: the PDF's date, in seconds since 1970.

    Raises:
        ReportError: pdflatex or bibtex is not installed, or refuses the manuscript.
    """
    latex = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error"]
    latex.append("manuscript.tex")
    _program(latex, work, created_s)
    if r"\bibdata" in (work / "manuscript.aux").read_text(encoding="utf-8", errors="replace"):
        _program(["bibtex", "manuscript"], work, created_s)
    for _ in range(2):
        _program(latex, work, created_s)
    return (work / "manuscript.pdf").read_bytes()


def _program(command: list[str], work: Path, created_s: int) -> None:
    dated = {"SOURCE_DATE_EPOCH": str(created_s), "FORCE_SOURCE_DATE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=os.environ | dated,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LATEX_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReportError(f"{command[0]} did not finish: {error}") from error
    if done.returncode:
        said = done.stdout.decode("utf-8", errors="replace").split("\n")
        said = [line for line in said if line.startswith("!")] or [s for s in said if s.strip()]
        raise ReportError(f"{command[0]} failed: {' / '.join(said[-_LAST_LINES:])}")
