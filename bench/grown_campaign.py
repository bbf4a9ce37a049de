"""A grown store as a whole campaign of a language model, so that its prompts can be made.

On top of `grown_store.py` and `grown_memory.py`: settings, plan and networks as files, proposals as
long as a model writes them, challenges and rounds, and at the end a few trials whose networks and
diagnoses are there: two drafts, a change that leads, one that loses, one that failed and what
followed it; then a decision with the links between rungs. Nothing is asked or trained.
"""

import json
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

from agent.beliefs import Link
from agent.config import parse_config
from agent.diagnostician import Diagnostician
from agent.label_figures import LABELS, ClassFigures, LabelFigures, plain
from agent.memory_view import reading_session
from agent.network_source import network_source
from agent.new_campaign import write_config
from agent.rounds import BENTS, CHALLENGES, GRADES, Candidate, row
from bench.grown_memory import AIMS, REASONS, idea, places, remember
from bench.grown_store import (
    BEGIN_S,
    CAMPAIGN,
    PLANNED_BATCH,
    Grown,
    Size,
    begun,
    build,
    ended,
    result,
    scores,
)
from memory.connection import connect
from memory.networks import Networks
from memory.records import Branch, Event, Figures, Kind, Proposal, Status, Trial, short_id
from memory.store import Store
from sandbox.engine import Plan
from sandbox.placement import MAX_MODULES, problems

AFTER_S = BEGIN_S + 10**7
SETTINGS: Figures = {
    "name": "grown",
    "planner": "llm",
    "endpoints": {"model": {"url": "http://127.0.0.1:9/v1", "model": "none"}},
}
DATASET: Figures = {
    **{"name": "Grown", "folder": "Dataset999_Grown", "channels": ["T2"], "labels": {"organ": 1}},
    **{"ignore_label": None, "file_ending": ".nii.gz", "simulated": True, "dims": 3},
    "description": "Rows of a benchmark that stand for volumes of one organ with small parts.",
    "dataset_json": {
        "channel_names": {"0": "T2"},
        "labels": {"background": 0, "organ": 1},
        "file_ending": ".nii.gz",
    },
}
ORGAN = ClassFigures(1.0, 0.02, (800.0, 2100.0, 5200.0), (3.0, 11.0), (4.0, 35.0), 9.0, 0.41)
LABEL_FIGURES = LabelFigures(
    cases=40,
    measured=40,
    unit="mm3",
    size=((40.0, 200.0, 200.0), (60.0, 256.0, 256.0), (90.0, 320.0, 320.0)),
    spacing_mm=((1.0, 0.6, 0.6), (1.2, 0.8, 0.8), (2.0, 1.0, 1.0)),
    foreground=(0.0004, 0.001, 0.003),
    imbalance=None,
    classes=(ORGAN,),
)
STAGE_FEATURES = [32, 64, 128, 256, 320, 320]
ARCHITECTURE: Figures = {
    "features_per_stage": STAGE_FEATURES,
    "strides": [[1, 1, 1], *([[2, 2, 2]] * 5)],
    "kernel_sizes": [[3, 3, 3]] * 6,
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
}
CONFIGURATION: Figures = {
    **{"patch_size": [64, 160, 160], "spacing": [1.2, 0.8, 0.8], "batch_size": PLANNED_BATCH},
    "architecture": {"arch_kwargs": ARCHITECTURE},
}
MECHANISM = (
    "Features of the finest stages are compared with those one stage below, and what only the fine "
    "ones see is weighed by its local contrast before it joins the decoder."
)
EQUATIONS = "g = sigmoid(W_x x + W_s up(s) + b); y = x * g; s is the map one stage below; W is 1x1"
CHALLENGE = "The baseline loses small parts that lie far from the organ's centre"


def build_campaign(folder: Path, size: Size, lessons: int) -> Path:
    """Write a campaign's folder with a store of that size and so many lessons; return it."""
    told = replace(CAMPAIGN, dataset=DATASET, protocol={"rung_iterations": [250, 1000]})
    build(folder, size, campaign=told, worded=worded)
    with closing(connect(folder / "campaign.db", read_only=False)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        remember(conn, lessons, Random(1))
        conn.execute("COMMIT")
    write_config(folder / "campaign.toml", parse_config(SETTINGS))
    plan = Plan(DATASET["folder"], {"configurations": {"3d_fullres": CONFIGURATION}}, {})
    (folder / "preprocessed").mkdir()
    text = json.dumps(asdict(replace(plan, dataset_json=DATASET["dataset_json"])))
    (folder / "preprocessed" / "plan.json").write_text(text)
    with Store.open(folder / "campaign.db") as store:
        challenge(store, rounds=size.branches)
        conclude(store, folder)
    return folder


def worded(name: str, rng: Random) -> Proposal:
    """Return a proposal as long as a language model writes it."""
    one = idea(rng)
    aim, reason = rng.choice(AIMS), rng.choice(REASONS)
    detail: Figures = {
        **{"challenge": CHALLENGE, "bent": rng.choice(list(BENTS)), "endpoint": "model"},
        "integration": f"{MECHANISM} It is placed where such parts are still resolved, {aim}.",
        "expected_on": "Dice and NSD of the organ's small parts",
        "ideas": {one.new: MECHANISM} if one.new else {},
        "equations": {one.new: EQUATIONS} if one.new else {},
        "grades": dict.fromkeys(GRADES, rng.randint(1, 5)),
    }
    motivation = " ".join([CHALLENGE + ".", reason, MECHANISM, f"It is meant to help {aim}."])
    refutation = "Small parts gain no more than large ones."
    keys = ("isensee2021nnunet",)
    return Proposal(
        name, one.title, motivation, one.modules, refutation, keys, "llm", detail=detail
    )


def challenge(store: Store, *, rounds: int) -> None:
    """Keep what opens rounds: the dataset's labels, challenges, and the rounds so far."""
    store.set_effect(LABELS, plain(LABEL_FIGURES))
    named = [{"title": CHALLENGE, "why": why, "evidence": []} for why in REASONS[:3]]
    store.set_effect(CHALLENGES, {"challenges": named, "endpoint": "model"})
    rng = Random(2)
    for number in range(rounds):
        ideas = [worded(short_id(["round", number, bent]), rng) for bent in BENTS]
        rows = [row(Candidate(one, bent, 3.5, "")) for one, bent in zip(ideas, BENTS, strict=True)]
        kept = {"challenge": named[number % 3], "scope": "campaign", "candidates": rows}
        store.set_effect(f"round/{number}", kept)


def conclude(store: Store, folder: Path) -> None:
    """Add the trials that have networks and diagnoses: two drafts, and what followed the second."""
    networks, rng = Networks.create(folder / "networks"), Random(3)
    drafts = [attempt(store, networks, whole(rng, n), None, effect=0.0) for n in range(2)]
    draft = drafts[-1]  # of the latest branch
    lead = attempt(store, networks, changed(draft, store, "code"), draft, effect=0.15)
    loss = attempt(store, networks, changed(lead, store, "gap"), lead, effect=-0.05)
    wrong = attempt(store, networks, changed(lead, store, "capacity"), lead, effect=None)
    attempt(store, networks, changed(wrong, store, "code"), wrong, effect=None)
    diagnostician = Diagnostician(reading_session(folder, store))
    for trial in (lead, loss, wrong):
        diagnostician.diagnosis(store, trial, ())
    model = {"draft_mean": -0.01, "draft_sd": 0.02, "links": [Link(0.0, 0.8, 0.012)._asdict()]}
    text = "improve: score 1.23 after 4.5 trainings, 20 others up to 1.20"
    store.add_event(Event("improve", text, {"model": model}, lead.id, lead.branch, AFTER_S))


def whole(rng: Random, number: int) -> Proposal:
    """Return a proposal with as many components of the library as a network may have."""
    modules = tuple(rng.sample(places(), MAX_MODULES))
    while problems(modules):
        modules = tuple(rng.sample(places(), MAX_MODULES))
    return replace(worded(short_id(["whole", number]), rng), modules=modules)


def changed(trial: Trial, store: Store, category: str) -> Proposal:
    """Return the proposal of a child whose code is changed."""
    parent = store.proposal(trial.proposal or "")
    own = {"event": 1, "number": 1, "category": category}
    change = f"{MECHANISM} Expected: small parts gain more than large ones."
    detail = {**parent.detail, "suggestion": own, "change": change}
    return replace(parent, id=short_id([parent.id, category]), parent=parent.id, detail=detail)


def attempt(
    store: Store, networks: Networks, one: Proposal, parent: Trial | None, *, effect: float | None
) -> Trial:
    """Add a trial with its network and its end, and return it; an effect of None fails."""
    trial = planned(store, networks, one, parent)
    store.add_trial(begun(trial))
    changes, _ = result(trial, Random(0))
    if effect is None:
        excerpt = "RuntimeError: shape: expected 64 channels, got 32\n  in forward, line 120\n" * 8
        changes |= {"status": Status.FAILED, "failure_class": "shape", "failure_excerpt": excerpt}
    found = [] if effect is None else list(scores(Grown(trial, effect), Random(0)))
    store.record_result(trial.id, changes=changes, scores=found)
    return store.trial(trial.id)


def planned(store: Store, networks: Networks, one: Proposal, parent: Trial | None) -> Trial:
    """Keep a proposal and its network, and return the trial; without a parent it opens a branch."""
    branch = parent.branch if parent and parent.branch else short_id(["branch", one.id])
    store.add_proposal(one)
    if parent is None:
        store.add_branch(Branch(branch, one.id, "open", AFTER_S))
    source = f"{network_source(one)}\n# {one.id}\n"
    commit = networks.commit(source, branch=branch, message=one.title, trailers={})
    at = AFTER_S + store.count_events(["trial_result"])
    choices = {"parent": parent.id if parent else None, "branch": branch, "proposal": one.id}
    kind = Kind.IMPROVE if parent else Kind.DRAFT
    return ended(kind, rung=0, seed=1, at=at, commit=commit, **choices)
