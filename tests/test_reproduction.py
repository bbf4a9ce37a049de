"""`segwright reproduce` without training: what is compared, what is kept, what is left alone."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent import reproduce as verb
from agent.budget import active_seconds, of_runs
from agent.check import check_campaign
from agent.cli import main
from agent.report import write_report
from agent.reproduce import reproduce, reproduced_lines
from agent.reproduction import map_differences, noise, score_differences
from agent.run import drive
from agent.session import Session
from agent.view import status
from memory.errors import SegwrightError, StoreError
from memory.records import CaseScore, Event, Kind, Metric, Status, Trial
from memory.store import Store
from sandbox.isolation import Isolation
from tests.scripted import ScriptedExecutor, new_campaign, session_of
from tests.test_campaign import quiet

HERE = Isolation("A", "scripted", Path("/bin/true"), "0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished campaign with a failed trial."""
    folder = new_campaign(tmp_path_factory.mktemp("reproduction"))
    executor = ScriptedExecutor(folder, fails=lambda n: n == 8)
    session = session_of(folder, executor)
    assert drive(session, quiet) == "done"
    plan = session.plan
    (folder / "preprocessed").mkdir()
    written = {"dataset": plan.dataset, "plans": plan.plans, "dataset_json": plan.dataset_json}
    (folder / "preprocessed" / "plan.json").write_text(json.dumps(written))
    with Store.open(folder / "campaign.db") as store:
        store.set_state("done")
    write_report(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of it, on a machine of a known device and isolation."""
    monkeypatch.setattr(verb, "find_device", lambda wanted: wanted)
    monkeypatch.setattr(verb, "choose", lambda: HERE)
    return Path(shutil.copytree(made, tmp_path / "campaign"))


def store_of(folder: Path) -> Store:
    return Store.open(folder / "campaign.db", read_only=True)


def one(folder: Path, kind: Kind, status_: Status = Status.OK) -> Trial:
    with store_of(folder) as store:
        return next(t for t in store.trials(kind=kind) if t.status is status_)


def rows_and_files(folder: Path) -> tuple[list[Any], dict[str, bytes]]:
    with store_of(folder) as store:
        rows = [store.trials(), store.claims(), store.test_accesses(), store.lessons()]
    files = {str(p): p.read_bytes() for p in (folder / "trials").rglob("*") if p.is_file()}
    return rows, files


@pytest.mark.parametrize("kind", [Kind.BASELINE, Kind.DRAFT])
def test_the_same_again_is_identical_and_changes_nothing(folder: Path, kind: Kind) -> None:
    before, trial = rows_and_files(folder), one(folder, kind)
    executor = ScriptedExecutor(folder)
    found = reproduce(folder, trial.id[:8], executor=executor)
    assert (found["verdict"], found["is_same"]) == ("identical", True)
    assert found["label_maps"] == found["scores"] == []
    first, second = found["hashes"]["scores_hash"]
    assert first == second == trial.scores_hash
    assert rows_and_files(folder) == before
    assert executor.submitted == [f"{trial.id}-1"]
    place = folder / "reproductions" / f"{trial.id}-1"
    assert json.loads((place / "comparison.json").read_text()) == found
    job = json.loads((place / "job.json").read_text())
    own = json.loads((folder / "trials" / trial.id / "job.json").read_text())
    for name in ("id", "seed", "iterations", "device", "batch_size", "threads", "shapes"):
        assert job[name] == own[name]
    assert "identical label maps and scores" in reproduced_lines(found)[0]


def test_it_is_an_event_with_figures_and_an_earlier_one_is_kept(folder: Path) -> None:
    trial = one(folder, Kind.DRAFT)
    for number in (1, 2):
        found = reproduce(folder, trial.id, executor=ScriptedExecutor(folder))
        assert found["folder"] == f"reproductions/{trial.id}-{number}"
    with store_of(folder) as store:
        events = store.events(kind="reproduced")
    assert [e.trial for e in events] == [trial.id] * 2
    assert events[0].figures["verdict"] == "identical"
    assert events[0].figures["scores_differ"] == 0


def test_check_and_the_budget_do_not_mind(folder: Path) -> None:
    with store_of(folder) as store:
        spent = status(store)["budget"]["hours"]["spent"]
    reproduce(folder, one(folder, Kind.DRAFT).id, executor=ScriptedExecutor(folder))
    assert check_campaign(folder) == []
    with store_of(folder) as store:
        assert status(store)["budget"]["hours"]["spent"] == spent
        events = store.events()
    late = Event("reproduced", "", {}, at=events[-1].at + 1e6)
    assert active_seconds(of_runs([*events, late]), 5.0) == active_seconds(of_runs(events), 5.0)


def test_every_difference_is_named(folder: Path) -> None:
    trial = one(folder, Kind.DRAFT)
    other = ScriptedExecutor(folder, gain=lambda source: 0.2)
    found = reproduce(folder, trial.id, executor=other)
    assert (found["verdict"], found["is_same"]) == ("differs", False)
    assert {row["metric"] for row in found["scores"]} >= {"dice"}
    sizes = [abs(row["by"]) for row in found["scores"] if row["by"] is not None]
    assert sizes == sorted(sizes, reverse=True)
    assert all(row["voxels"] > 0 for row in found["label_maps"])
    text = "\n".join(reproduced_lines(found))
    first = found["scores"][0]
    assert f"{first['case']}, class {first['class']}, {first['metric']}" in text
    assert "voxels differ" in text


def test_a_second_training_that_fails_differs(folder: Path) -> None:
    trial = one(folder, Kind.BASELINE)
    found = reproduce(folder, trial.id, executor=ScriptedExecutor(folder, fails=lambda n: True))
    assert (found["verdict"], found["is_same"]) == ("failed", False)
    assert "ended failed (exception)" in reproduced_lines(found)[0]
    assert "\x1b" not in "".join(reproduced_lines(found))


def test_the_locked_test_is_compared_without_reading_a_label(folder: Path) -> None:
    trial = one(folder, Kind.CONFIRM)

    class Blind(ScriptedExecutor):
        """Hands the trial's own predictions back, and reads no label."""

        def predict(self, place: Path, job: dict[str, Any]) -> None:
            assert not job["has_labels"]
            shutil.copytree(
                self.folder / "trials" / job["id"] / "predictions", place / "predictions"
            )

    found = reproduce(folder, trial.id, executor=Blind(folder))
    assert (found["verdict"], found["scores_compared"]) == ("identical", False)
    assert "no label was read, no score recomputed" in "\n".join(reproduced_lines(found))
    with store_of(folder) as store:
        assert len(store.test_accesses()) == 1


def test_a_trial_without_predictions_is_refused_in_one_line(folder: Path) -> None:
    trial = one(folder, Kind.DRAFT, Status.FAILED)
    executor = ScriptedExecutor(folder)
    with pytest.raises(SegwrightError, match=r"is failed \(exception\) and left no predictions"):
        reproduce(folder, trial.id, executor=executor)
    assert executor.submitted == []
    assert not (folder / "reproductions").exists()


def test_code_that_is_not_what_was_trained_is_refused(folder: Path) -> None:
    trial = one(folder, Kind.DRAFT)
    session = session_of(folder, ScriptedExecutor(folder))
    wrong = replace(trial, network_hash="0" * 64)
    with pytest.raises(StoreError, match="does not hold the network"):
        verb.write_again(session, wrong)


def test_a_trial_without_isolation_is_reproduced_inside_one(folder: Path) -> None:
    trial = one(folder, Kind.BASELINE)
    path = folder / "trials" / trial.id / "job.json"
    job = json.loads(path.read_text()) | {"unsafe_reason": "said so", "isolation_level": "D"}
    path.write_text(json.dumps(job))
    reproduce(folder, trial.id, executor=ScriptedExecutor(folder))
    again = json.loads((folder / "reproductions" / f"{trial.id}-1" / "job.json").read_text())
    assert (again["unsafe_reason"], again["isolation_level"]) == ("", "A")


def test_another_machine_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store_of(folder) as store:
        known = store.campaign().environment
    monkeypatch.setattr(verb, "environment", lambda: known | {"torch": "9.9"})
    trial = one(folder, Kind.BASELINE)
    found = reproduce(folder, trial.id, executor=ScriptedExecutor(folder))
    assert found["environment"] == [{"name": "torch", "first": known["torch"], "second": "9.9"}]
    assert f"torch: {known['torch']} was, 9.9 is" in "\n".join(reproduced_lines(found))


def on_gpu(found: Session) -> Session:
    return replace(found, device="cuda")


@pytest.mark.parametrize(("gain", "same"), [(0.0005, True), (0.15, False)])
def test_on_a_gpu_the_mean_may_differ_by_the_noise_of_seeds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, gain: float, same: bool
) -> None:
    make: Callable[..., Session] = verb.session_of
    monkeypatch.setattr(verb, "session_of", lambda *args: on_gpu(make(*args)))
    monkeypatch.setattr(verb, "seed_sd", lambda store, trial: 0.01)
    trial = one(folder, Kind.DRAFT)
    found = reproduce(folder, trial.id, executor=ScriptedExecutor(folder, gain=lambda s: gain))
    assert found["is_same"] is same
    if found["noise"]:
        assert found["noise"]["largest"] >= found["noise"]["mean_absolute"]
        assert "SD over the baseline's seeds 0.0100" in "\n".join(reproduced_lines(found))


def score(case: str, value: float | None) -> CaseScore:
    return CaseScore("t", case, "organ", Metric.DICE, value, None if value is not None else "empty")


def test_noise_by_hand() -> None:
    first = [score("a", 0.5), score("b", 0.75), score("c", None)]
    second = [score("a", 0.625), score("b", 0.6875), score("c", None)]
    found = noise(first, second, 0.03125)
    assert found is not None
    assert found[:3] == (0.125, 0.09375, 0.03125)
    assert found.is_within
    assert not found._replace(seed_sd=0.03).is_within
    assert not found._replace(seed_sd=None).is_within
    assert noise(first, [], 0.1) is None


def test_differences_by_hand() -> None:
    first = [score("a", 0.5), score("b", 0.75), score("c", 0.5)]
    second = [score("a", 0.5), score("b", 0.5), score("c", None)]
    rows = score_differences(first, second)
    assert [(r["case"], r["by"]) for r in rows] == [("c", None), ("b", -0.25)]


def test_a_missing_label_map_differs(folder: Path, tmp_path: Path) -> None:
    place = folder / "trials" / one(folder, Kind.BASELINE).id / "predictions"
    copy = Path(shutil.copytree(place, tmp_path / "copy"))
    assert map_differences(place, copy) == []
    gone = sorted(copy.iterdir())[0]
    gone.unlink()
    assert map_differences(place, copy) == [{"file": gone.name, "voxels": None}]


def test_the_verb_exits_1_where_they_differ(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = one(folder, Kind.BASELINE)
    for gain, code in ((0.0, 0), (0.1, 1)):

        def executor(gain: float = gain) -> ScriptedExecutor:
            made = ScriptedExecutor(folder)
            made.gain = lambda source: gain
            return made

        monkeypatch.setattr(verb, "LocalExecutor", executor)
        if gain:
            trial = one(folder, Kind.DRAFT)
        result = CliRunner().invoke(main, ["reproduce", str(folder), trial.id, "--json"])
        assert result.exit_code == code, result.output
        assert json.loads(result.stdout)["is_same"] == (code == 0)
