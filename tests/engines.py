"""Real campaigns on tiny data for the tests that train: prepared once, trials made by hand."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from agent.config import parse_config
from agent.new_campaign import create
from agent.planners import make_planner
from agent.preparation import make_session
from agent.session import Session
from agent.settings_text import merged
from agent.trials import write_code, write_job
from memory.records import Kind, SplitName, Trial
from memory.store import Store
from tests.effects import UNKNOWN

TINY: dict[str, Any] = {
    "engine": {"base_features": 4, "batch_size": 2, "device": "cpu", "slots": 1},
    "rungs": {"iterations": 4, "ratio": 2},
}


def quiet(what: str, detail: dict[str, Any]) -> None:
    """Show nothing."""


def prepared(
    folder: Path, data: Path, configuration: str = "2d", **sections: dict[str, Any]
) -> Session:
    """Return the session of a new campaign on a dataset, preprocessed and measured."""
    engine = {"engine": {"configuration": configuration}, "dataset": {"path": str(data)}}
    config = parse_config(merged(TINY, engine, sections))
    create(folder, config)
    with Store.open(folder / "campaign.db") as store:
        return make_session(folder, config, store, quiet)


def network_trial(session: Session, source: str, *, seed: int = 1) -> Path:
    """Return the folder of a trial whose network has this source."""
    networks = session.networks()
    commit = networks.commit(source, branch="abcd", message="test", trailers={})
    trial = Trial(
        f"{seed:02x}{commit[:10]}",
        None,
        None,
        None,
        commit,
        Kind.DRAFT,
        0,
        seed,
        SplitName.SEARCH_VAL,
        iterations=4,
    )
    write_code(session, trial)
    return write_job(session, trial, step_s=1.0)


def baseline_trial(session: Session, name: str, *, seed: int = 1) -> Path:
    """Return the folder of a trial of nnU-Net's default network."""
    trial = Trial(
        name, None, None, None, None, Kind.BASELINE, 0, seed, SplitName.SEARCH_VAL, iterations=4
    )
    return write_job(session, trial, step_s=1.0)


def written(session: Session) -> str:
    """Return the source of the network without any module."""
    plan = make_planner(session)
    return plan.write(replace(plan.propose([], UNKNOWN, Random(3), dims=2), modules=()))
