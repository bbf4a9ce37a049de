"""The styles of a manuscript in LaTeX: one text, the head of each class, no warning that matters."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent import export_cli
from agent.cli import main
from agent.export import STYLED, export_report
from agent.latex_export import refuse_unbound, styled, zipped
from agent.latex_skin import ARTICLE, SKINS, files_of
from agent.pdf import compiled
from agent.report import write_report
from memory.errors import CheckError, ReportError
from memory.store import Store
from tests.campaigns import START_S, build_campaign

WIDEST_PT = 2.0
# What LaTeX and BibTeX say of a reference, a citation, a label, a command, a font or a letter.
WARNINGS = re.compile(
    r"^.*(?:undefined|multiply.defined|multiply defined|Label\(s\) may have changed|"
    r"Missing character|Font Warning|destination with the same identifier|Float too large|"
    r"Suppressed|unused global option|LaTeX Error|^!).*$",
    re.MULTILINE | re.IGNORECASE,
)
OVERFULL = re.compile(r"Overfull \\[hv]box \(([\d.]+)pt too (?:wide|high)\).*")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_campaign(tmp_path_factory.mktemp("skins") / "campaign")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_campaign(tmp_path_factory.mktemp("hostile") / "campaign", hostile=True)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def folders(written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every style as it is exported, by its name."""
    to = tmp_path_factory.mktemp("styles")
    (written / "report" / "figures" / "stray.pdf").write_bytes(b"%PDF-")
    for style in SKINS:
        export_report(written, "latex", to / style, style=style)
    return {style: to / style for style in SKINS}


def manuscript(folder: Path) -> str:
    return (folder / "manuscript.tex").read_text(encoding="utf-8")


def text_of(source: str) -> str:
    """Return what follows the head."""
    return source[source.index(r"\section{") :]


def lacking(style: str) -> str:
    """Return what LaTeX lacks here for a style; "" where it can be compiled."""
    for program in ("pdflatex", "bibtex", "kpsewhich"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: see .ci/run)"
    skin = SKINS[style]
    for file in (f"{skin.document_class}.cls", f"{skin.bibliography}.bst", "lmodern.sty"):
        if subprocess.run(["kpsewhich", file], capture_output=True, check=False).returncode:
            return f"LaTeX has no {file} here (Debian: see .ci/run)"
    return ""


def test_styles_are_the_same_on_the_command_line() -> None:
    assert export_cli.STYLES == tuple(SKINS)
    assert set(export_cli.STYLED) == set(STYLED)


@pytest.mark.parametrize("style", sorted(SKINS))
def test_every_style_has_its_class_and_the_same_text(folders: dict[str, Path], style: str) -> None:
    skin, found = SKINS[style], manuscript(folders[style])
    assert found.startswith(f"\\documentclass[{skin.options}]{{{skin.document_class}}}\n")
    assert rf"\bibliographystyle{{{skin.bibliography}}}" in found
    assert text_of(found) == text_of(manuscript(folders[ARTICLE.name]))


def test_the_article_is_the_report_s_own(written: Path, folders: dict[str, Path]) -> None:
    assert manuscript(folders[ARTICLE.name]) == manuscript(written / "report")


@pytest.mark.parametrize("style", [None, "lncs"])
def test_the_zip_holds_what_the_manuscript_reads_and_nothing_else(
    written: Path, folders: dict[str, Path], tmp_path: Path, style: str | None
) -> None:
    made = export_report(written, "overleaf", tmp_path / "zip", style=style)
    assert made == [tmp_path / "zip" / "manuscript.zip"]
    folder = folders[style or ARTICLE.name]
    with zipfile.ZipFile(made[0]) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert list(held) == sorted({"manuscript.tex", "references.bib", *files_of(manuscript(folder))})
    assert "figures/tree.pdf" in held
    assert not any("stray" in name or name.endswith((".cls", ".bst")) for name in held)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert held == {str(path.relative_to(folder)): path.read_bytes() for path in files}
    again = export_report(written, "overleaf", tmp_path / "again", style=style)[0]
    assert again.read_bytes() == made[0].read_bytes()


def test_a_zip_has_the_same_bytes_in_whatever_order_files_come() -> None:
    assert zipped({"a": b"1", "b": b"2"}) == zipped({"b": b"2", "a": b"1"})


def test_what_cites_nothing_brings_no_bibliography() -> None:
    assert files_of(r"\includegraphics[width=\linewidth]{figures/b.pdf}") == ["figures/b.pdf"]
    assert files_of(r"\bibliography{references}") == ["references.bib"]
    assert files_of("none") == []


def test_a_style_that_does_not_hold_is_refused(written: Path, folders: dict[str, Path]) -> None:
    with Store.open(written / "campaign.db", read_only=True) as store:
        facts = store.facts()
    found = manuscript(folders["ieee"])
    refuse_unbound(found, facts)
    for old, new in (
        (r"\begin{abstract}", r"\begin{abstract}97.3 "),
        (r"\author{", r"\author{7 "),
        (r"\fact{campaign.version}{", r"\fact{campaign.version}{1"),
    ):
        assert old in found
        with pytest.raises(CheckError, match=r"manuscript\.tex: .*segwright run"):
            refuse_unbound(found.replace(old, new, 1), facts)


def test_unknown_styles_and_formats_without_one_are_one_line(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="^no style 'nature'; styles: article, lncs, ieee, els"):
        export_report(written, "latex", tmp_path / "out", style="nature")
    with pytest.raises(ReportError, match=r"^pdf has no styles; those that have: latex, overleaf$"):
        export_report(written, "pdf", tmp_path / "out", style="lncs")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "latex", "--style", "nature"], "'nature' is not one of 'article', 'lncs'"),
        (["--format", "html", "--style", "lncs"], "--style is for latex and overleaf; html has"),
    ],
)
def test_the_command_refuses_a_wrong_style(
    written: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    to = tmp_path / "out"
    found = CliRunner().invoke(main, ["export", str(written), *words, "--to", str(to)])
    assert found.exit_code == 2
    assert said in found.output
    assert not to.exists()


def test_the_command_writes_a_zip(written: Path, tmp_path: Path) -> None:
    words = ["export", str(written), "--format", "overleaf", "--style", "lncs", "--to"]
    found = CliRunner().invoke(main, [*words, str(tmp_path)])
    assert (found.exit_code, found.output) == (0, f"{tmp_path / 'manuscript.zip'}\n")


@pytest.mark.slow
@pytest.mark.parametrize("style", sorted(SKINS))
def test_hostile_titles_are_escaped_in_every_head(hostile: Path, style: str) -> None:
    found = styled(hostile, SKINS[style])
    head = found[: found.index(r"\section{")]
    assert r"\input{" not in found
    assert r"\textbackslash{}input\{/etc/passwd\}" in head
    assert not re.search("[\u202e数]", found)


def warnings_of(folder: Path) -> list[str]:
    """Compile a folder; return what LaTeX and BibTeX have to say that matters."""
    assert compiled(folder, int(START_S)).startswith(b"%PDF-")
    log = (folder / "manuscript.log").read_text(encoding="latin-1")
    wide = [found[0] for found in OVERFULL.finditer(log) if float(found[1]) > WIDEST_PT]
    bibliography = (folder / "manuscript.blg").read_text(encoding="latin-1")
    missing = re.findall("I didn't find.*|I couldn't.*|error message.*", bibliography)
    return [*WARNINGS.findall(log), *wide, *missing]


@pytest.mark.slow
@pytest.mark.parametrize("style", sorted(SKINS))
def test_every_style_compiles_without_a_warning(
    folders: dict[str, Path], tmp_path: Path, style: str
) -> None:
    if missing := lacking(style):
        pytest.skip(missing)
    assert warnings_of(Path(shutil.copytree(folders[style], tmp_path / style))) == []


@pytest.mark.slow
@pytest.mark.parametrize("style", ["ieee", "lncs"])
def test_a_hostile_campaign_compiles_without_a_warning(
    hostile: Path, tmp_path: Path, style: str
) -> None:
    if missing := lacking(style):
        pytest.skip(missing)
    export_report(hostile, "latex", tmp_path, style=style)
    assert warnings_of(tmp_path) == []
