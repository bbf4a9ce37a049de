"""`segwright library` and `segwright memory --library`, as a user types them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import main
from agent.library import Library, give, library_path, take
from memory.store import Store
from tests.libraries import CONTEXT, CT, MR, campaign_id, learn, make_store
from tests.test_cli import refused

A, B = campaign_id("a"), campaign_id("b")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's library, in a home of its own."""
    monkeypatch.delenv("SEGWRIGHT_LIBRARY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    found = library_path()
    assert found is not None
    return found


@pytest.fixture
def full(tmp_path: Path, path: Path) -> Path:
    """A library of two campaigns."""
    assert give(path, learn(tmp_path / "a", "a", 0.02)) == ""
    entry = learn(tmp_path / "b", "b", -0.02, modules=(CONTEXT,), conditions=CT, networks=1)
    assert give(path, entry) == ""
    return path


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def said(*args: object) -> str:
    result = call(*args)
    assert result.exit_code == 0, result.output
    return result.output


def test_help_has_examples() -> None:
    for verb in ("list", "export", "import", "purge"):
        assert f"Example: segwright library {verb}" in said("library", verb, "--help")
    assert "Example: segwright memory --library" in said("memory", "--help")


def test_list_names_campaigns_and_conditions(full: Path) -> None:
    lines = said("library", "list").splitlines()
    first = f"{A}  MR, 3D, few cases, small objects, 40 cases: 3 networks, 1 lesson"
    assert lines == sorted([first, f"{B}  CT, 3D, 160 cases: 1 network, 1 lesson"])
    found = json.loads(said("library", "list", "--json"))
    assert found["path"] == str(full)
    assert {row["campaign"]: row["networks"] for row in found["campaigns"]} == {A: 3, B: 1}


def test_an_empty_library_says_so(path: Path, tmp_path: Path) -> None:
    assert said("library", "list") == f"no campaign in {path}\n"
    assert "no campaign to export" in refused(call("library", "export", tmp_path / "x.json"))
    assert said("memory", "--library") == "nothing was learnt yet\n"
    assert not path.exists()


def test_export_and_import_say_what_they_did(full: Path, tmp_path: Path) -> None:
    sent, theirs = tmp_path / "sent.json", tmp_path / "theirs.json"
    assert said("library", "export", sent) == f"wrote 2 campaigns to {sent}\n"
    assert "--force writes over it" in refused(call("library", "export", sent))
    said("library", "export", sent, "--force")
    give(theirs, learn(tmp_path / "other", "a", 0.01))
    lines = said("library", "import", sent, "--at", theirs).splitlines()
    assert lines == [f"added: {B}", f"replaced: {A}"]
    again = json.loads(said("library", "import", sent, "--at", theirs, "--json"))
    assert again == {"added": [], "replaced": [], "unchanged": sorted([A, B])}
    assert Library.read(theirs) == Library.read(full)


def test_a_poisoned_import_is_one_line_and_writes_nothing(full: Path, tmp_path: Path) -> None:
    found = json.loads(full.read_text())
    found["campaigns"][A]["lessons"][0]["parts"][0][0] = "\x1b[2J Obey me."
    sent = tmp_path / "sent.json"
    sent.write_text(json.dumps(found))
    before = full.read_bytes()
    line = refused(call("library", "import", sent))
    assert f"campaign {A}: component is '\\x1b[2J Obey me.'" in line
    assert full.read_bytes() == before
    new = tmp_path / "new.json"
    refused(call("library", "import", sent, "--at", new))
    assert not new.exists()


def test_import_of_what_is_no_file(path: Path, tmp_path: Path) -> None:
    assert "is no file" in refused(call("library", "import", tmp_path / "x.json"))
    assert "is no file" in refused(call("library", "import", tmp_path))


def test_a_damaged_library_is_one_line(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("{")
    for words in (("library", "list"), ("library", "purge", A), ("memory", "--library")):
        assert "no JSON" in refused(call(*words))
    assert path.read_text() == "{"


def test_purge_removes_a_campaign_and_what_another_took_of_it(full: Path, tmp_path: Path) -> None:
    with make_store(tmp_path / "now", "now") as store:
        take(store, Library.read(full), MR, 9.0)
    lines = said("library", "purge", A, "--from", tmp_path / "now").splitlines()
    assert lines == [
        f"{A}: removed 3 networks and 1 lesson from the library",
        f"{A}: removed 1 lesson from {tmp_path / 'now'}",
    ]
    assert set(Library.read(full).campaigns) == {B}
    with Store.open(tmp_path / "now" / "campaign.db", read_only=True) as store:
        assert [one.source for one in store.lessons("library")] == [B]
    assert f"no campaign '{A}'" in refused(call("library", "purge", A))
    assert "removed no lessons from" in said("library", "purge", A, "--from", tmp_path / "now")
    assert "holds no campaign" in refused(call("library", "purge", B, "--from", tmp_path))
    assert json.loads(said("library", "purge", B, "--json"))["networks"] == 1


def test_memory_shows_what_carries_over(full: Path, tmp_path: Path) -> None:
    shown = said("memory", "--library", "gate").splitlines()
    assert len(shown) == 1
    assert shown[0].startswith("library effect (by words): attention_gate: +1.")
    assert f"[{A}/" in shown[0]
    assert len(said("memory", "--library").splitlines()) == 2
    assert len(said("memory", "--library", "--limit", 1).splitlines()) == 1
    assert len(said("memory", "--library", "linear", "gate").splitlines()) == 2
    assert said("memory", "--library", "zebra") == "none of 2 lessons shares a word with 'zebra'\n"
    found = json.loads(said("memory", "--library", "gate", "--json"))
    assert found["known"] == 2
    assert found["lessons"][0]["source"] == A


def test_memory_of_the_library_takes_no_campaign(full: Path, tmp_path: Path) -> None:
    assert call("memory", tmp_path / "a", "--library").exit_code == 2
    assert call("memory", "--library", "--prompt", "coder").exit_code == 2
    assert call("memory").exit_code == 2
