"""A campaign by hand for the tests of reflection: a real store, trials with the Dice they are given."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.effects import Knowledge
from agent.endpoint import doze
from agent.graph import replace_id
from agent.knowledge import effects_now
from agent.llm import Client
from agent.planners import make_model
from agent.reflection import reflect
from agent.session import Session
from memory.records import (
    Branch,
    CaseScore,
    Kind,
    Lesson,
    Metric,
    Module,
    Proposal,
    SplitName,
    Status,
    Trial,
)
from memory.store import Store
from tests.llm_server import ScriptedServer
from tests.scripted import ScriptedExecutor, new_campaign, session_of

GATE = Module("attention_gate", "skip", (0, 1))
DEEP_GATE = Module("attention_gate", "skip", (1,))
BLUR = Module("blur_pool", "downsample", (1,))
CONTEXT = Module("linear_attention", "bottleneck", ())
BASE = 0.7


def make(folder: Path, **settings: Any) -> Session:
    """Make a campaign with three baselines at both rungs, and return its session."""
    campaign = new_campaign(folder, **settings)
    session = session_of(campaign, ScriptedExecutor(campaign))
    with session.store() as store:
        for rung in range(2):
            for seed in range(3):
                base = Trial("", None, None, None, None, Kind.BASELINE, rung, seed, VAL)
                finish(session, store, replace_id(base), BASE + 0.002 * seed)
    return session


VAL = SplitName.SEARCH_VAL


def finish(session: Session, store: Store, trial: Trial, dice: float) -> Trial:
    """Store a trial with about the same Dice in every case."""
    cases = session.cases(trial.split)
    scores = [
        CaseScore(trial.id, case, "block", Metric.DICE, dice + 0.01 * (i % 3), None)
        for i, case in enumerate(cases)
    ]
    store.add_trial(trial)
    store.record_result(trial.id, changes={"status": Status.OK}, scores=scores)
    return store.trial(trial.id)


def idea(store: Store, name: str, *modules: Module, parent: str | None = None) -> Proposal:
    """Store a proposal and, for a new idea, its branch of the same name."""
    made = Proposal(name, f"Idea {name}", "m", modules, "r", (), "grammar", parent)
    store.add_proposal(made)
    if parent is None:
        store.add_branch(Branch(name, name, "open", 1.0))
    return made


def plan(
    store: Store, proposal: Proposal, *, branch: str = "", at: float = 1.0, **more: Any
) -> Trial:
    """Store a planned trial of a proposal, in the branch of its name unless it says another."""
    given = {"parent": None, "kind": Kind.DRAFT, "rung": 0, "seed": 1, "split": VAL} | more
    made = Trial(
        id="",
        branch=branch or proposal.id,
        proposal=proposal.id,
        commit=(proposal.id * 40)[:40],
        title=proposal.title,
        planned_at=at,
        **given,
    )
    made = replace(replace_id(made), network_hash=proposal.id)
    store.add_trial(made)
    return made


def score(session: Session, store: Store, proposal: Proposal, gain: float, **more: Any) -> Trial:
    """Store a trial that ended so much above the baseline."""
    return finish(session, store, plan(store, proposal, **more), BASE + gain)


def fail(store: Store, proposal: Proposal, failure: str = "exception", **more: Any) -> Trial:
    """Store a trial that failed."""
    trial = plan(store, proposal, **more)
    said = "in /root/secret.txt case_004 has no room"
    status = Status.OUT_OF_MEMORY if failure == "out_of_memory" else Status.FAILED
    changes = {"status": status, "failure_class": failure, "failure_excerpt": said}
    store.record_result(trial.id, changes=changes, scores=[])
    return store.trial(trial.id)


def learn(session: Session, store: Store, *trials: Trial) -> None:
    """Reflect on trials in their order."""
    for trial in trials:
        reflect(store, session, trial, knowledge=lambda: own(session, store))


def own(session: Session, store: Store) -> Knowledge:
    """Return what components do by this campaign's trials."""
    return effects_now(store, session).own


def topics(store: Store, layer: str) -> dict[str, Lesson]:
    """Return the lessons of a layer that are told now, by topic."""
    return {one.topic: one for one in store.lessons(layer)}


@contextmanager
def asking(tmp_path: Path, script: Any) -> Iterator[tuple[Session, Client, ScriptedServer]]:
    """Yield a campaign whose language model is a scripted server, its client, and the server."""
    with ScriptedServer(script) as server:
        endpoints = {"local": {"url": server.url, "model": "scripted", "attempts": 1}}
        session = make(tmp_path, planner="llm", endpoints=endpoints)
        made = make_model(session.config, session.store, pause=doze, now=lambda: 1.0)
        assert made is not None
        made.levels.update(dict.fromkeys(made.levels, "schema"))
        yield session, made, server
