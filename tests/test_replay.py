"""Decisions of a stored campaign made again: the same moment leads to the same decision."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.ladder import Settings
from agent.replay import Replayed, replayed
from agent.run import drive
from memory.store import Store
from tests.scripted import ScriptedExecutor, new_campaign, session_of

SCRIPTS: dict[str, dict[str, Any]] = {
    "all work": {"gain": lambda source: 0.06 if "Squeeze" in source else 0.0},
    "some are cut": {"gain": lambda source: -0.2 if len(source) % 2 else 0.0},
    "some crash": {"fails": lambda count: count > 6 and count % 4 == 0},
    "some find no room": {"needs": lambda source: len(source) % 3, "memory": 4},
}


def quiet(*_: object) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_campaign(tmp_path_factory.mktemp("unused"))


def campaign(unused: Path, folder: Path, script: str) -> Store:
    """Run a scripted campaign to its end; return its store."""
    own = Path(shutil.copytree(unused, folder / "campaign"))
    assert drive(session_of(own, ScriptedExecutor(own, **SCRIPTS[script])), quiet) == "done"
    return Store.open(own / "campaign.db", read_only=True)


def different(found: list[Replayed]) -> list[tuple[int, str, list[str]]]:
    """Return the decisions that are not the same."""
    return [(one.event.id, one.event.text, one.differs) for one in found if one.differs]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_decision_is_made_again(unused: Path, tmp_path: Path, script: str) -> None:
    with campaign(unused, tmp_path, script) as store:
        found = list(replayed(store))
        assert len(found) >= 10
        assert {one.event.kind for one in found} >= {"open", "promote", "confirm"}
        assert different(found) == []


def test_another_rule_decides_otherwise(
    unused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with campaign(unused, tmp_path, "all work") as store:
        monkeypatch.setattr("agent.replay.Settings", lambda **_: Settings(screen_share=0.9, c=50.0))
        assert different(list(replayed(store)))
