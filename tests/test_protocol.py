"""The declared protocol: what it holds, when it differs, and what `check` says of a changed one."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from agent.amendments import amend, amendments
from agent.check import check_campaign
from agent.config import Config, parse_config
from agent.model_settings import ROLES, CoderConfig, LlmConfig
from agent.protocol import (
    SETTINGS,
    Difference,
    declared,
    differences,
    flat,
    protocol_hash,
)
from agent.settings_text import merged
from memory.records import Event
from memory.store import Store
from sandbox.split import split_hash
from tests.scripted import new_campaign

# What may be changed at any time: it decides how much is found, and where things are.
FREE = {
    *("dataset.path", "dataset.patients", "engine.device", "engine.threads", "engine.slots"),
    *("engine.workers", "explore.policy", "explore.c", "explore.p", "explore.drafts"),
    *("explore.cut_below", "explore.seed", "selection.share", "sandbox.start"),
    *("memory.library", "memory.embed"),
    "ablation.early",
    *("sandbox.memory_mib", "sandbox.disk_mib", "sandbox.shm_mib"),
    *("budget.hours", "budget.gpu_hours", "budget.usd", "budget.trials"),
    *(f"roles.{role}" for role in ROLES),
    *(f"coder.{one.name}" for one in fields(CoderConfig)),
    *(f"llm.{one.name}" for one in fields(LlmConfig)),
}


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_campaign(tmp_path_factory.mktemp("unused"), selection={}, ablation={})


@pytest.fixture
def new(unused: Path, tmp_path: Path) -> Path:
    """Return a campaign of the test's own that has not begun."""
    return Path(shutil.copytree(unused, tmp_path / "campaign"))


def declaration(folder: Path) -> Event:
    """Return the event of a campaign's protocol."""
    with Store.open(folder / "campaign.db", read_only=True) as store:
        found = declared(store.events())
    assert found is not None
    return found


def test_every_setting_is_declared_or_free() -> None:
    assert set(SETTINGS).isdisjoint(FREE)
    assert {*SETTINGS, *FREE} == set(flat(Config()))
    assert len(set(SETTINGS)) == len(SETTINGS)


def test_init_declares_the_protocol_before_anything_else_happens(unused: Path) -> None:
    with Store.open(unused / "campaign.db", read_only=True) as store:
        assert [event.kind for event in store.events()] == ["split", "protocol"]
        campaign, cases = store.campaign(), store.split()
    event = declaration(unused)
    record = event.figures["record"]
    assert event.figures["hash"] == protocol_hash(record)
    assert len(event.figures["hash"]) == 64
    assert record["dataset_hash"] == campaign.dataset_hash
    assert record["split"]["hash"] == split_hash(cases) == campaign.split_hash
    assert sum(record["split"]["cases"].values()) == sum(record["split"]["patients"].values()) == 24
    assert record["settings"] == {name: flat(Config())[name] for name in SETTINGS}
    assert record["least"] == {"locked_patients": 50, "seeds": 3}
    assert record["primary"] == "mean over cases of the mean over classes of Dice"
    assert (record["version"], len(record["tests"])) == (campaign.version, 4)


def test_the_hash_is_stable_and_depends_on_every_part(unused: Path) -> None:
    record = declaration(unused).figures["record"]
    same = dict(reversed(json.loads(json.dumps(record)).items()))
    assert protocol_hash(same) == protocol_hash(record)
    for name in record:
        assert protocol_hash({**record, name: "another"}) != protocol_hash(record)
    for name in record["settings"]:
        other = {**record, "settings": {**record["settings"], name: "another"}}
        assert protocol_hash(other) != protocol_hash(record)


def another(value: Any) -> Any:
    """Return another allowed value of a setting's type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return "2d"
    if isinstance(value, list):
        return [8, 8]
    return value * 0.5 + 0.01 if isinstance(value, float) else value + 1


@pytest.mark.parametrize("name", SETTINGS)
def test_another_value_of_a_declared_setting_is_found_by_name(unused: Path, name: str) -> None:
    record = declaration(unused).figures["record"]
    section, key = name.split(".")
    value = another(record["settings"][name])
    config = parse_config({section: {key: value}})
    assert differences(record, config) == [Difference(name, record["settings"][name], value)]


def test_what_is_free_and_what_an_older_record_lacks_is_no_difference(unused: Path) -> None:
    record = declaration(unused).figures["record"]
    free = {"engine": {"slots": 7, "threads": 3}, "budget": {"hours": 5.0}, "explore": {"c": 2.0}}
    assert differences(record, parse_config(free)) == []
    old = {**record, "settings": {"confirm.alpha": 0.05, "confirm.gone": 3}}
    assert differences(old, parse_config({"confirm": {"seeds": 9}})) == []


def test_a_campaign_from_before_has_none() -> None:
    assert declared([Event("split", "locked", {})]) is None


def sql(folder: Path, statement: str, *values: str) -> None:
    """Change rows behind the store's back, its triggers dropped and made again."""
    with closing(sqlite3.connect(folder / "campaign.db", isolation_level=None)) as conn:
        query = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        triggers = conn.execute(query).fetchall()
        for name, _ in triggers:
            conn.execute(f"DROP TRIGGER {name}")
        assert conn.execute(statement, values).rowcount >= 1
        for _, made in triggers:
            conn.execute(made)


def rewrite(folder: Path, changes: dict[str, Any], *, with_hash: bool) -> None:
    """Change the stored record, and its hash with it where asked for."""
    figures = declaration(folder).figures
    record = merged(figures["record"], changes)
    known = protocol_hash(record) if with_hash else figures["hash"]
    text = json.dumps({"record": record, "hash": known})
    sql(folder, "UPDATE event SET figures = ? WHERE kind = 'protocol'", text)


ALPHA = {"settings": {"confirm.alpha": 0.1}}
FEWER = {"split": {"cases": {"search-train": 1, "search-val": 1, "locked-test": 1}}}
CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a setting": (
        lambda folder: rewrite(folder, ALPHA, with_hash=False),
        "protocol: its record gives the hash ",
    ),
    "a setting and the hash": (
        lambda folder: rewrite(folder, ALPHA, with_hash=True),
        "protocol: confirm.alpha is 0.1, campaign has 0.05",
    ),
    "counts and the hash": (
        lambda folder: rewrite(folder, FEWER, with_hash=True),
        "protocol: split.cases is {'search-train': 1, ",
    ),
    "the dataset and the hash": (
        lambda folder: rewrite(folder, {"dataset_hash": "00"}, with_hash=True),
        "protocol: dataset_hash is 00, campaign has ",
    ),
    "everything and the hash": (
        lambda folder: sql(folder, "UPDATE event SET figures = '{}' WHERE kind = 'protocol'"),
        "protocol: its record gives the hash ",
    ),
    "the split": (
        lambda folder: sql(
            folder, "UPDATE split SET foreground_mm3 = 2.0 WHERE \"case\" = 'case_001'"
        ),
        "protocol: split.hash is ",
    ),
    "no event": (
        lambda folder: sql(folder, "DELETE FROM event WHERE kind = 'protocol'"),
        "protocol: it was declared at init, and its event is missing",
    ),
}


def check(folder: Path) -> list[str]:
    """Return what `check` finds, facts and report left out."""
    return check_campaign(folder, derive=lambda store: [], unbound=lambda folder, facts: [])


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_check_names_a_changed_protocol(
    new: Path, change: Callable[[Path], None], expected: str
) -> None:
    assert check(new) == []
    change(new)
    found = [line for line in check(new) if line.startswith("protocol: ")]
    assert found
    assert found[0].startswith(expected)
    assert "\n" not in "".join(found)


def test_check_follows_amendments_and_names_one_that_does_not_follow(new: Path) -> None:
    with Store.open(new / "campaign.db") as store:
        amend(store, [Difference("confirm.seeds", 3, 5)], "one")
        amend(store, [Difference("confirm.seeds", 5, 6)], "two")
        assert [one.after for one in amendments(store.events())] == [5, 6]
    assert check(new) == []
    sql(
        new,
        "UPDATE event SET figures = json_set(figures, '$.after', 9) "
        "WHERE kind = 'amended' AND json_extract(figures, '$.after') = 5",
    )
    [line] = check(new)
    assert line.startswith("protocol: event ")
    assert "amends confirm.seeds from 5, it was 9" in line
