"""The documents tell the truth: links, commands, verbs, options and modules exist."""

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from agent.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FOLDERS = ("agent", "bench", "memory", "sandbox", "templates", "tests")
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md"] + [ROOT / f / "README.md" for f in FOLDERS]
GLOSSARY = (
    "campaign", "dataset", "split", "baseline", "proposal", "branch", "trial", "rung", "score",
    "tree", "lesson", "claim", "manuscript",
)  # fmt: skip
REGISTERED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


def verb(words: list[str]) -> click.Command | None:
    """Return the command that words lead to: a verb, or a verb of a group such as `data`."""
    context = click.Context(main)
    command: click.Command | None = main
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(context, word)
    return command


def uses() -> list[str]:
    """Return every use of the program in README's code, without the program's name."""
    fences = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", README) + "".join(fences).splitlines()
    found = [re.search(r"(?:^|/)segwright ([a-z].*)", span) for span in spans]
    return sorted({match[1] for match in found if match})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    missing = [
        link for link in links if "://" not in link and not (document.parent / link).exists()
    ]
    assert not missing, f"{document}: nothing at {missing}"


@pytest.mark.parametrize("use", uses())
def test_every_use_in_the_readme_is_one(use: str) -> None:
    words = use.split()
    if words[0] in REGISTERED["segwright.verbs"]:
        return
    command = verb([word for word in words if word.islower() and word.isalpha()][:2])
    assert command is not None, f"README names 'segwright {use}', which is no verb"
    options = {option for parameter in command.params for option in parameter.opts}
    unknown = {word for word in words if word.startswith("--")} - options - {"--help"}
    assert not unknown, f"README gives 'segwright {words[0]}' the options {sorted(unknown)}"


def test_uses_are_found() -> None:
    assert {"demo", "run liver --hours 48", "data check PATH"} <= set(uses())


@pytest.mark.parametrize("name", sorted({*main.commands, *REGISTERED["segwright.verbs"]}))
def test_every_verb_is_in_the_readme(name: str) -> None:
    assert f"`segwright {name}" in README


@pytest.mark.parametrize("name", sorted(REGISTERED["segwright.verbs"]))
def test_registered_verbs_load(name: str) -> None:
    module, attribute = REGISTERED["segwright.verbs"][name].split(":")
    command = getattr(__import__(module, fromlist=[attribute]), attribute)
    assert isinstance(command, click.Command)


@pytest.mark.parametrize("name", ["demo", "test"])
def test_commands_are_one_line_each(name: str) -> None:
    block = re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert block[1].count("\n") == 1
    assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_ci_runs_the_readme_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    finder = re.search(r"^command=\$\((.*)\)$", script, re.MULTILINE)
    assert finder is not None
    shell = ["bash", "-c", finder[1]]
    found = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.count("\n") == 1
    assert found.rstrip().endswith("pytest -q -n 2 --dist loadfile")
    assert 'bash -c "$command"' in script


@pytest.mark.parametrize("word", GLOSSARY)
def test_glossary_has_the_word(word: str) -> None:
    assert f"\n| {word} | " in README


def test_changelog_begins_with_what_is_unreleased() -> None:
    sections = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert sections[1].startswith("Unreleased\n")
    assert "\n- " in sections[1]


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_says_what_it_owns_and_refuses(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text()
    assert len(text.splitlines()) <= 40
    if folder != "tests":
        assert "\nOwns " in text
        assert "\nIt refuses\n" in text


@pytest.mark.parametrize("folder", ["agent", "bench", "memory", "sandbox"])
def test_every_module_is_in_its_readme(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text()
    modules = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}
    named = set(re.findall(r"`(\w+\.py)`", text))
    assert named - {"network.py"} == modules
