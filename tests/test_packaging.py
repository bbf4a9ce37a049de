"""An install brings what the code imports, and every requirement has its reason."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]
OURS = {"agent", "bench", "memory", "sandbox", "templates", "tests"}
SIBLINGS = {path.stem for path in (ROOT / "sandbox" / "child").glob("*.py")}


def distribution(requirement: str) -> str:
    """Return the normalised name that a requirement begins with."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def imported(folder: str) -> set[str]:
    """Return the top-level names that a folder's modules import, anywhere in them."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
    return found - OURS - SIBLINGS - set(sys.stdlib_module_names)


@pytest.mark.parametrize("folder", sorted(OURS - {"templates"}))
def test_what_is_imported_is_declared(folder: str) -> None:
    extras = PROJECT["optional-dependencies"]
    groups = extras if folder == "tests" else extras.keys() - {"dev"}
    lines = [*PROJECT["dependencies"], *(line for group in groups for line in extras[group])]
    declared = {distribution(line) for line in lines}
    providers = packages_distributions()
    undeclared = {
        name
        for name in imported(folder)
        if not declared & {distribution(one) for one in providers.get(name, [name])}
    }
    assert not undeclared, f"{folder} imports {sorted(undeclared)}, which no requirement brings"


def test_every_requirement_has_its_reason() -> None:
    lines = TEXT.splitlines()
    bare = [
        line
        for before, line in zip(lines, lines[1:], strict=False)
        if re.match(r'  "[\w.-]+.*",', line) and "  # " not in line and "  # " not in before
    ]
    required = {distribution(line) for line in PROJECT["dependencies"]}
    assert "torch" in required
    assert [line for line in bare if distribution(line.strip(' "')) in required] == []


@pytest.mark.parametrize("folder", sorted(OURS - {"tests"}))
def test_packages_are_typed_and_say_what_they_are(folder: str) -> None:
    assert (ROOT / folder / "py.typed").is_file()
    assert ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))


def test_licence_is_apache() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
