"""Export: every format leaves only after the check, and a PDF says which engine it lacks."""

import re
import shutil
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agent.cli import main
from agent.export import FORMATS, export_report
from agent.pdf import ENGINES, pdf_of
from agent.report import write_report
from memory.errors import CheckError, ReportError
from tests.campaigns import START_S, build_campaign


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_campaign(tmp_path_factory.mktemp("export") / "campaign")
    write_report(folder)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH, on a machine without typst."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "typst", None)
    return folder


def install(folder: Path, name: str, script: str) -> None:
    """Put a program that stands in for one of LaTeX's into a folder."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_simulated_subjects_are_in_every_export(written: Path, tmp_path: Path) -> None:
    html = export_report(written, "html", tmp_path / "html")
    assert [p.name for p in html] == ["report.html"]
    assert "simulated subjects" in html[0].read_text(encoding="utf-8")
    tex = export_report(written, "latex", tmp_path / "latex")
    assert {p.name for p in tex} >= {"manuscript.tex", "references.bib", "tree.pdf"}
    assert r"\textbf{The subjects of this dataset are simulated subjects" in tex[0].read_text()
    for name in re.findall(r"\\includegraphics\[[^]]*\]\{([^}]*)\}", tex[0].read_text()):
        assert (tmp_path / "latex" / name).is_file()


def test_a_pdf_is_one_file_with_the_same_bytes_each_time(written: Path, tmp_path: Path) -> None:
    first, again = (export_report(written, "pdf", tmp_path / name) for name in ("a", "b"))
    assert first == [tmp_path / "a" / "manuscript.pdf"]
    assert first[0].read_bytes() == again[0].read_bytes()
    assert first[0].read_bytes() == pdf_of(written / "report", START_S, "typst")


def test_the_command_offers_every_format_and_engine() -> None:
    options = {option.name: option.type for option in main.commands["export"].params}
    for name, known in (("kind", FORMATS), ("engine", ENGINES)):
        offered = options[name]
        assert isinstance(offered, click.Choice)
        assert set(offered.choices) - {"mlflow"} <= set(known)
        assert {"html", "latex", "pdf"} <= set(offered.choices) or name == "engine"


def test_the_command_writes_a_pdf(written: Path, tmp_path: Path) -> None:
    to = tmp_path / "paper"
    arguments = ["export", str(written), "--format", "pdf", "--pdf-engine", "typst", "--to", to]
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{to / 'manuscript.pdf'}\n"


def test_an_unknown_format_or_engine_is_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="'docx'; formats: html, latex, overleaf, pdf"):
        export_report(written, "docx", tmp_path / "out")
    with pytest.raises(ReportError, match="'word'; engines: auto, typst, latex"):
        export_report(written, "pdf", tmp_path / "out", engine="word")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["html", "latex", "pdf"])
@pytest.mark.parametrize("name", ["report.html", "manuscript.tex", "manuscript.typ"])
def test_what_does_not_hold_is_not_exported(
    copy: Path, tmp_path: Path, kind: str, name: str
) -> None:
    path = copy / "report" / name
    raw = path.read_text(encoding="utf-8")
    path.write_text(raw.replace("The only baseline", "97.3 The only baseline"), encoding="utf-8")
    with pytest.raises(CheckError, match=re.escape(name)):
        export_report(copy, kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_page_is_written_first(copy: Path, tmp_path: Path) -> None:
    (copy / "report" / "manuscript.typ").unlink()  # as in a campaign of an earlier version
    assert export_report(copy, "pdf", tmp_path / "out")[0].is_file()


def test_without_an_engine_one_line_says_what_to_install(written: Path, programs: Path) -> None:
    install(programs, "pdflatex", "exit 0")  # without bibtex it is of no use
    with pytest.raises(ReportError, match=r"segwright\[pdf\].*bibtex") as missing:
        pdf_of(written / "report", START_S)
    assert "\n" not in str(missing.value)
    for engine in ("typst", "latex"):
        with pytest.raises(ReportError, match=f"{engine} was asked for and is not installed"):
            pdf_of(written / "report", START_S, engine)


def test_latex_runs_where_typst_is_not_installed(written: Path, programs: Path) -> None:
    count = programs / "count"
    tex = 'printf "x" >> "$0.count"; [ -f manuscript.tex ] && [ -d figures ] || exit 3'
    install(
        programs, "pdflatex", rf'{tex}; printf "\\\\bibdata{{references}}" > manuscript.aux;'
        r' printf "%s" "$SOURCE_DATE_EPOCH $FORCE_SOURCE_DATE $*" > manuscript.pdf'
    )  # fmt: skip
    install(programs, "bibtex", f'[ "$1" = manuscript ] && : > {count}')
    made = pdf_of(written / "report", START_S).decode()
    assert made.startswith(f"{int(START_S)} 1 -no-shell-escape")
    assert count.exists()
    assert (programs / "pdflatex.count").read_text() == "xxx"
    assert not (written / "report" / "manuscript.aux").exists()


def test_what_latex_says_is_one_line(written: Path, programs: Path) -> None:
    install(programs, "bibtex", "exit 0")
    install(
        programs, "pdflatex", 'echo "This is TeX"; echo "! Undefined control sequence."; exit 1'
    )
    with pytest.raises(ReportError, match=r"pdflatex failed: ! Undefined control sequence\.$"):
        pdf_of(written / "report", START_S)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(shutil.which, ("pdflatex", "bibtex"))), reason="pdflatex or bibtex is missing"
)
def test_latex_gives_the_same_bytes_each_time(written: Path) -> None:
    first = pdf_of(written / "report", START_S, "latex")
    assert first.startswith(b"%PDF-")
    assert first == pdf_of(written / "report", START_S, "latex")
