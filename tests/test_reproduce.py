"""`segwright reproduce` for real: nnU-Net in the sandbox, twice, the same to the bit on a CPU."""

import json
import subprocess
import sys
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from agent.check import check_campaign
from agent.config import parse_config
from agent.graph import replace_id
from agent.new_campaign import create
from agent.planners import make_planner
from agent.preparation import make_session
from agent.session import Session
from agent.trials import baseline_trial, network_hash, take_result, write_code, write_job
from bench.demo_data import build_demo
from memory.records import Branch, Kind, Status, Trial, short_id
from memory.store import Store
from sandbox.executor import wait
from tests.effects import UNKNOWN

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "engine": {"base_features": 4, "batch_size": 4, "device": "cpu", "slots": 1},
    "rungs": {"iterations": 6, "ratio": 2},
}


def quiet(what: str, detail: dict[str, Any]) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("reproduce")
    settings = {**TINY, "engine": {**TINY["engine"], "configuration": "2d"}}
    data = build_demo(folder, subjects=16)
    config = parse_config({**settings, "dataset": {"path": str(data)}})
    create(folder / "c", config)
    with Store.open(folder / "c" / "campaign.db") as store:
        return make_session(folder / "c", config, store, quiet)


def train(session: Session, trial: Trial) -> Trial:
    """Run a trial as the campaign does, and return its row."""
    with session.store() as store:
        store.add_trial(trial)
        write_code(session, trial)
        folder = write_job(session, trial, step_s=1.0)
        take_result(store, trial, wait(session.executor, folder), session.device)
        return store.trial(trial.id)


def draft(session: Session) -> Trial:
    """Return the planned trial of a written network."""
    writer = make_planner(session)
    proposal = writer.propose([], UNKNOWN, Random(3), dims=2)
    branch = short_id(["branch", proposal.id])
    source = writer.write(proposal)
    commit = session.networks().commit(source, branch=branch, message=proposal.title, trailers={})
    with session.store() as store:
        store.add_proposal(proposal)
        store.add_branch(Branch(branch, proposal.id, "open", session.now))
    base = baseline_trial(session, rung=0, seed=1)
    written = replace(base, commit=commit, network_hash=network_hash(source))
    return replace_id(replace(written, kind=Kind.DRAFT, proposal=proposal.id, branch=branch))


def reproduce(session: Session, trial: Trial) -> subprocess.CompletedProcess[str]:
    """Run the verb as a user does."""
    code = "from agent.cli import main; main()"
    command = [sys.executable, "-I", "-c", code, "reproduce", str(session.folder), trial.id]
    return subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("which", ["baseline", "draft", "smaller batch"])
def test_on_a_cpu_it_is_the_same_to_the_bit(session: Session, which: str) -> None:
    batch = 2 if which == "smaller batch" else None
    base = baseline_trial(session, rung=0, seed=7, batch_size=batch)
    trial = train(session, draft(session) if which == "draft" else base)
    assert trial.status is Status.OK, trial.failure_excerpt
    files = {p: p.stat().st_mtime_ns for p in session.trial_folder(trial.id).rglob("*")}
    ran = reproduce(session, trial)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(ran.stdout)
    assert found["verdict"] == "identical"
    assert found["same_bytes"] is True
    assert found["hashes"]["predictions_hash"] == [trial.predictions_hash] * 2
    assert found["hashes"]["scores_hash"] == [trial.scores_hash] * 2
    assert {p: p.stat().st_mtime_ns for p in session.trial_folder(trial.id).rglob("*")} == files
    with session.store() as store:
        assert store.trial(trial.id) == trial
    assert check_campaign(session.folder) == []


def test_another_seed_is_not_the_same(session: Session) -> None:
    trial = train(session, baseline_trial(session, rung=0, seed=8))
    path = session.trial_folder(trial.id) / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 9}))
    ran = reproduce(session, trial)
    assert ran.returncode == 1, ran.stderr
    found = json.loads(ran.stdout)
    assert found["verdict"] == "differs"
    assert found["scores"]
    assert found["label_maps"]
