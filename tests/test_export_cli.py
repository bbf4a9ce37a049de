"""`segwright export` on the command line: which options go together, and what is said."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import main
from agent.export import FORMATS
from agent.export_cli import KINDS
from tests.scripted import new_campaign


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_campaign(tmp_path_factory.mktemp("unused"))


def test_every_format_can_be_asked_for() -> None:
    assert set(KINDS) == {*FORMATS, "mlflow"}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--format", "crate"],
        ["--format", "mlflow"],
        ["--format", "mlflow", "--to", "x"],
        ["--format", "html", "--uri", "sqlite:///runs.db"],
        ["--format", "mlflow", "--to", "x", "--uri", "sqlite:///runs.db"],
    ],
)
def test_options_that_do_not_go_together_are_refused(unused: Path, words: list[str]) -> None:
    found = CliRunner().invoke(main, ["export", str(unused), *words])
    assert found.exit_code == 2
    assert "--format mlflow needs --uri; every other format needs --to" in found.output


def test_markdown_and_a_crate_are_written(unused: Path, tmp_path: Path) -> None:
    for kind, name in (("markdown", "manuscript.md"), ("crate", "ro-crate-metadata.json")):
        to = tmp_path / kind
        found = CliRunner().invoke(main, ["export", str(unused), "--format", kind, "--to", str(to)])
        assert found.exit_code == 0, found.output
        assert (to / name).is_file()
        assert str(to) in found.output
