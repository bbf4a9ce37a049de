"""Runs of MLflow: what is logged, when, under which name; and a real store, where it is installed."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.crate import privacy_of
from agent.facts import facts_of
from agent.mlflow_runs import MISSING, PARENT, SCORE, TOP, TRIAL, Logged, Run, log_runs, runs_of
from agent.report_rows import Rows, read_rows
from memory.errors import ReportError
from memory.records import Kind, Status
from memory.store import Store
from tests.campaigns import HOSTILE, build_campaign

IS_INSTALLED = importlib.util.find_spec("mlflow") is not None
needs_mlflow = pytest.mark.skipif(not IS_INSTALLED, reason="the extra mlflow is not installed")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_campaign(tmp_path_factory.mktemp("mlflow") / "campaign")


@pytest.fixture(scope="module")
def rows(built: Path) -> Rows:
    with Store.open(built / "campaign.db", read_only=True) as store:
        return read_rows(store)


def told(rows: Rows, folder: Path) -> dict[str, Run]:
    facts = {fact.key: fact for fact in facts_of(rows)}
    return {run.trial: run for run in runs_of(rows, facts, privacy_of(rows, folder))}


def test_trials_of_the_search_and_baselines_are_runs(rows: Rows, built: Path) -> None:
    runs = told(rows, built)
    wanted = {t.id for t in rows.trials if t.kind in (Kind.BASELINE, Kind.DRAFT, Kind.CONFIRM)}
    assert set(runs) == wanted | {TOP}
    first = next(t for t in rows.trials if t.kind is Kind.DRAFT)
    run = runs[first.id]
    assert run.tags[SCORE] == "selection score"
    assert run.params == {
        "rung": "0",
        "seed": "1",
        "iterations": "60",
        "batch_size": "8",
        "branch": "branch0",
        "proposal": "proposal0",
    }
    assert {"selection.dice", "selection.hd95", "selection.dice_delta"} <= run.metrics.keys()
    assert run.metrics["seconds"] == 45.0
    assert (run.status, run.end_ms - run.start_ms if run.end_ms else 0) == ("FINISHED", 45_000)


def test_values_are_those_of_the_facts(rows: Rows, built: Path) -> None:
    facts = {fact.key: fact for fact in facts_of(rows)}
    for run in told(rows, built).values():
        for name, value in run.metrics.items():
            side, _, metric = name.partition(".")
            if metric in ("dice", "nsd", "hd95"):
                assert facts[f"trial.{run.trial}.{metric}.mean"].value == value
                assert run.tags[SCORE] == f"{side} score"


def test_runs_hang_below_their_parents(rows: Rows, built: Path) -> None:
    runs = told(rows, built)
    seen = set()
    for name, run in runs.items():
        assert run.parent in seen or name == TOP
        seen.add(name)
    climbed = next(t for t in rows.trials if t.kind is Kind.DRAFT and t.rung == 1)
    assert runs[climbed.id].parent == climbed.parent


def test_a_failed_trial_has_its_reason_and_no_score(rows: Rows, built: Path) -> None:
    failed = next(t for t in rows.trials if t.status is Status.FAILED)
    run = told(rows, built)[failed.id]
    assert run.status == "FAILED"
    assert run.tags[SCORE] == "none"
    assert "shape_mismatch" in run.tags["segwright.failure"]
    assert not any(name.startswith("selection.") for name in run.metrics)


def test_locked_scores_wait_for_the_opening(rows: Rows, built: Path) -> None:
    confirmed = {t.id for t in rows.trials if t.kind is Kind.CONFIRM}
    opened = told(rows, built)
    for name in confirmed:
        assert opened[name].tags[SCORE] == "locked score"
        assert "locked.dice" in opened[name].metrics
        assert not any(key.startswith("selection.") for key in opened[name].metrics)
    closed = told(replace(rows, accesses=()), built)
    assert not confirmed & closed.keys()
    assert not any(key.startswith("locked") for run in closed.values() for key in run.metrics)


def test_what_others_wrote_is_one_bounded_line_without_places(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "campaign", hostile=True, confirmed=False)
    with Store.open(folder / "campaign.db", read_only=True) as store:
        rows = read_rows(store)
    assert "/etc/passwd" in HOSTILE
    for run in told(rows, folder).values():
        for text in (run.name, *run.tags.values(), *run.params.values()):
            assert text
            assert "\n" not in text
            assert "\u202e" not in text
            assert "/etc/passwd" not in text
        assert len(run.name) <= 250
        assert all(math.isfinite(value) for value in run.metrics.values())


@pytest.mark.skipif(IS_INSTALLED, reason="the extra mlflow is installed")
def test_a_missing_extra_is_one_line(built: Path) -> None:
    with (
        Store.open(built / "campaign.db", read_only=True) as store,
        pytest.raises(ReportError, match=r"segwright\[mlflow\]") as caught,
    ):
        log_runs(store, "file:unused", "segwright")
    assert str(caught.value) == MISSING
    assert "\n" not in MISSING


def held(uri: str, experiment: str) -> dict[str, Any]:
    tracking = pytest.importorskip("mlflow.tracking")
    client = tracking.MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name(experiment).experiment_id
    found = client.search_runs([place])
    assert len({run.data.tags[TRIAL] for run in found}) == len(found)
    return {run.data.tags[TRIAL]: run for run in found}


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


@needs_mlflow
def test_a_real_store_holds_each_run_once(built: Path, rows: Rows, uri: str) -> None:
    runs = told(rows, built)
    with Store.open(built / "campaign.db", read_only=True) as store:
        assert log_runs(store, uri, "lab/segwright") == Logged(len(runs), 0, 0)
        first = held(uri, "lab/segwright")
        assert log_runs(store, uri, "lab/segwright") == Logged(0, 0, len(runs))
    again = held(uri, "lab/segwright")
    assert {n: r.info.run_id for n, r in first.items()} == {
        n: r.info.run_id for n, r in again.items()
    }
    for name, run in runs.items():
        kept = again[name]
        assert kept.data.metrics == pytest.approx(dict(run.metrics))
        assert kept.data.params == dict(run.params)
        assert kept.info.status == run.status
        assert (kept.info.start_time, kept.info.end_time) == (run.start_ms, run.end_ms)
        above = again[run.parent].info.run_id if run.parent else None
        assert kept.data.tags.get(PARENT) == above


@needs_mlflow
def test_a_run_that_was_cut_short_is_completed(built: Path, rows: Rows, uri: str) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    run = next(r for r in told(rows, built).values() if r.metrics)
    client = tracking.MlflowClient(tracking_uri=uri)
    place = client.create_experiment("cut")
    begun = client.create_run(place, tags=dict(run.tags))
    with Store.open(built / "campaign.db", read_only=True) as store:
        logged = log_runs(store, uri, "cut")
    assert (logged.mended, logged.kept) == (1, 0)
    kept = held(uri, "cut")[run.trial]
    assert kept.info.run_id == begun.info.run_id
    assert kept.info.status == run.status
    assert kept.data.metrics == pytest.approx(dict(run.metrics))


@needs_mlflow
def test_a_deleted_experiment_and_a_bad_address_are_told(built: Path, uri: str) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    client = tracking.MlflowClient(tracking_uri=uri)
    client.delete_experiment(client.create_experiment("gone"))
    with Store.open(built / "campaign.db", read_only=True) as store:
        with pytest.raises(ReportError, match="'gone' is deleted"):
            log_runs(store, uri, "gone")
        with pytest.raises(ReportError, match="MLflow could not take the runs"):
            log_runs(store, "nowhere://x", "segwright")
