"""`segwright bench store`: every key, and a decision that sees what it should."""

import json
import os
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from agent.growth import Growth
from bench import store as module
from bench.bench import bench
from bench.grown_store import BEGIN_S, CASES, Size, build, follower, result
from bench.store import alone, decisions, run
from memory.errors import SegwrightError
from memory.records import Event, Status, scores_hash
from memory.store import Store
from sandbox.processes import descendants

KEYS = {
    *("first_decision_s", "decision_ms", "change_ms", "refresh_ms", "choice_ms"),
    *("tree_json_ms", "tree_process_ms", "store_mib", "peak_memory_mib", "trials", "case_scores"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path / "c", Size(200, 4))


def test_a_tree_that_grows_is_the_tree_made_afresh(folder: Path) -> None:
    with Store.open(folder / "campaign.db") as store:
        growing = Growth(store)
        growing.refresh()
        before = dict(growing.branches)
        parent = next(t for t in growing.trials.values() if t.status is Status.OK and t.branch)
        one = follower(parent, 1)
        store.add_trial(one)
        store.add_event(Event("cut", "cut", {}, parent.id, parent.branch))
        growing.refresh()
        changed = {name for name, branch in growing.branches.items() if branch is not before[name]}
        assert changed == {parent.branch}
        fresh = Growth(store)
        fresh.refresh()
        assert fresh.branches.keys() == growing.branches.keys()
        assert all(b.nodes == fresh.branches[name].nodes for name, b in growing.branches.items())
        own = growing.branches[parent.branch or ""].by_id
        assert own[parent.id].is_cut
        assert own[one.id].is_pending


def test_a_trial_that_follows_ends_with_its_scores(folder: Path) -> None:
    with Store.open(folder / "campaign.db") as store:
        parent = store.trials(status=Status.OK)[-1]
        one = follower(parent, 1)
        store.add_trial(one)
        changes, scores = result(one, Random(1))
        assert store.record_result(one.id, changes=changes, scores=scores)
        ended = store.trial(one.id)
        assert (ended.status, ended.parent) == (Status.OK, parent.id)
        assert ended.scores_hash == scores_hash(store.case_scores(one.id))
        assert len(scores) == CASES


def test_each_decision_is_stored_and_timed(folder: Path) -> None:
    figures = decisions(folder, 3)
    assert figures["trials"].value == 200
    assert figures["case_scores"].value > 2000
    assert figures["decision_ms"].low > 0
    assert figures["decision_ms"].unit == "ms"
    assert figures["first_decision_s"].unit == "s"
    with Store.open(folder / "campaign.db") as store:
        made = [e for e in store.events() if e.at >= BEGIN_S + 10**8]
        chosen = [e for e in made if e.kind != "trial_result"]
        assert len(chosen) == 4
        assert all(e.figures for e in chosen)


def test_work_alone_leaves_no_process(folder: Path) -> None:
    assert alone(len, "four") == 4
    with pytest.raises(SegwrightError):
        alone(module.process_figures, folder, 1, 10**6)
    assert all("spawn_main" not in _command(pid) for pid in descendants(os.getpid()))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegwrightError, match="leave out --data"):
        run(is_quick=True, data=[tmp_path], say=lambda _: None)


@pytest.mark.slow
def test_the_quick_bench_gives_every_key() -> None:
    ran = CliRunner().invoke(bench, ["store", "--quick"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["bench"] == "store"
    assert set(found["figures"]) == KEYS
    assert found["figures"]["trials"]["value"] == 10_000
    assert found["figures"]["case_scores"]["value"] > 100_000
