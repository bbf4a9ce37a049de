"""Curves that trainings reported: read as hostile data, thinned, kept once."""

import json
import math
from pathlib import Path

import pytest

from agent.curves import MOST_POINTS, keep_curves, kept_curves, thinned
from agent.report_rows import read_rows
from memory.records import Kind, Status
from memory.store import Store
from tests.campaigns import build_campaign


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_campaign(tmp_path / "campaign")


def write_curve(folder: Path, trial: str, text: str) -> None:
    place = folder / "trials" / trial
    place.mkdir(parents=True, exist_ok=True)
    (place / "curve.json").write_text(text)


def test_curves_are_kept_once_and_then_need_no_file(folder: Path) -> None:
    with Store.open(folder / "campaign.db") as store:
        first, second = store.trials(kind=Kind.CONFIRM)[:2]
        write_curve(folder, first.id, json.dumps({"loss": [1.0, 0.5, 0.25]}))
        assert keep_curves(store, folder) == 1
        write_curve(folder, first.id, json.dumps({"loss": [9.0]}))
        assert keep_curves(store, folder) == 0
        write_curve(folder, second.id, json.dumps({"loss": [2, 1]}))
        assert keep_curves(store, folder) == 1
        for path in (folder / "trials").rglob("curve.json"):
            path.unlink()
        assert kept_curves(store) == {first.id: (1.0, 0.5, 0.25), second.id: (2.0, 1.0)}
        assert read_rows(store).curves == kept_curves(store)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"loss": 3}', '{"loss": []}', '{"loss": ["a", null]}', "[" * 9999],
)
def test_what_is_no_curve_is_not_kept(folder: Path, text: str) -> None:
    with Store.open(folder / "campaign.db") as store:
        write_curve(folder, store.trials(kind=Kind.CONFIRM)[0].id, text)
        assert keep_curves(store, folder) == 0


def test_a_failed_training_keeps_no_curve(folder: Path) -> None:
    with Store.open(folder / "campaign.db") as store:
        write_curve(folder, store.trials(status=Status.FAILED)[0].id, '{"loss": [1.0]}')
        assert keep_curves(store, folder) == 0


def test_a_long_curve_is_thinned_to_block_means() -> None:
    losses = [float(step) for step in range(1000)]
    kept = thinned(losses)
    assert len(kept) == MOST_POINTS
    assert kept[:2] == [2.0, 7.0]
    assert thinned([1 / 3]) == [0.333333]


def test_a_loss_that_is_not_finite_is_a_gap() -> None:
    assert thinned([1.0, math.nan, math.inf, 1e300, 2.0]) == [1.0, None, None, None, 2.0]
