"""`segwright reproduce`: a trial trained again from its commit, seed, rung, device and batch.

The second training runs in CAMPAIGN/reproductions, in a folder of its own with its own job, in
the sandbox like any trial; the trial's own folder and rows are read only. Its job is the one
that the trial had, with the code taken from git. Predictions of the locked test are compared as
label maps, so that no label is read; their scores are not computed again.
"""

import json
from pathlib import Path
from typing import Any

from agent.budget import REPRODUCED
from agent.config import load_config
from agent.new_campaign import environment
from agent.reproduction import (
    changes,
    difference_lines,
    map_differences,
    noise,
    score_differences,
)
from agent.session import Session, slots_of
from agent.standings import Standings, setup_of
from agent.trials import job_values, network_hash, read_scores, write_text
from agent.view import find_trial
from memory.errors import ExploreError, SegwrightError, StoreError
from memory.records import Event, Figures, SplitName, Status, Trial, scores_hash
from memory.store import Store
from sandbox.clean import clean_text
from sandbox.engine import find_device, load_plan
from sandbox.executor import Executor, LocalExecutor, wait
from sandbox.isolation import choose

PATIENCE = 3.0  # a campaign may run beside it
RUN_AS = ("isolation", "start")


def reproduce(folder: Path, name: str, *, executor: Executor | None = None) -> Figures:
    """Train a trial again, compare, and keep what was found.

    Args:
        folder: the campaign folder.
        name: a trial's id, or its start.
        executor: where it runs; by default this machine.

    Returns:
        What `reproduce --json` prints; `is_same` says whether it passed.

    Raises:
        SegwrightError: the trial has no predictions to compare with, or cannot be run here.
    """
    folder = folder.resolve()
    with Store.open(folder / "campaign.db") as store:
        trial = find_trial(store, name)
        require_predictions(trial)
        session = session_of(folder, store, executor or LocalExecutor())
        place = write_again(session, trial)
        result = train(session, place)
        found = compare(session, store, trial, result, place)
        write_text(place / "comparison.json", json.dumps(found, indent=1))
        store.add_event(event_of(trial, found, at=session.now))
    return found


def require_predictions(trial: Trial) -> None:
    """Refuse a trial that left nothing to compare with.

    Raises:
        SegwrightError: it did not end well, or has not ended.
    """
    if trial.status is not Status.OK:
        why = f" ({trial.failure_class})" if trial.failure_class else ""
        raise SegwrightError(
            f"trial {trial.id} is {trial.status}{why} and left no predictions to compare with; "
            "`segwright tree` lists the trials that are ok"
        )


def session_of(folder: Path, store: Store, executor: Executor) -> Session:
    """Return a session on a prepared campaign; nothing of the campaign is changed.

    Raises:
        SegwrightError: the campaign was never prepared, or its device is not here.
        IsolationUnavailable: this machine offers no isolation.
    """
    campaign, config = store.campaign(), load_config(folder / "campaign.toml")
    device = find_device(str(campaign.protocol.get("device", config.engine.device)))
    return Session(
        folder=folder,
        config=config,
        plan=load_plan(folder),
        dataset=campaign.dataset,
        split=tuple(store.split()),
        iterations=tuple(campaign.protocol.get("rung_iterations", ())),
        device=device,
        slots=slots_of(config, device),
        isolation=choose(),
        executor=executor,
    )


def write_again(session: Session, trial: Trial) -> Path:
    """Make a folder for the second training, with the trial's job and its code from git.

    Raises:
        StoreError: the code at the commit is not what was trained.
    """
    place = new_place(session.folder / "reproductions", trial.id)
    if trial.commit is not None:
        source = session.networks().source(trial.commit)
        if trial.network_hash not in (None, network_hash(source)):
            raise StoreError(
                f"commit {trial.commit} does not hold the network that trial {trial.id} trained; "
                "`segwright check` says more"
            )
        write_text(place / "code" / "network.py", source)
    write_text(place / "job.json", json.dumps(job_again(session, trial), indent=1))
    return place


def new_place(root: Path, trial: str) -> Path:
    """Make the next free folder for a trial, ID-1 and on; an earlier one is kept."""
    number = 1
    while True:
        place = root / f"{trial}-{number}"
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return place


def job_again(session: Session, trial: Trial) -> Figures:
    """Return a trial's job as it was, with more patience and never without a sandbox."""
    step_s = (trial.seconds or 0.0) / max(1, trial.iterations or 1)
    job = job_values(session, trial, step_s=step_s)
    own = session.trial_folder(trial.id) / "job.json"
    if own.is_file():
        job |= json.loads(own.read_text())
    safe = {"unsafe_reason": "", "isolation_level": session.isolation.level, "checkpoint": 0.0}
    longer = {name: PATIENCE * job[name] for name in ("wall_s", "iteration_limit_s")}
    return {**job, **safe, **longer}


def train(session: Session, place: Path) -> Figures:
    """Run the second training to its end; an interruption ends it as well."""
    try:
        return wait(session.executor, place)
    except KeyboardInterrupt:
        session.executor.cancel(place)
        raise


def compare(
    session: Session, store: Store, trial: Trial, result: Figures, place: Path
) -> dict[str, Any]:
    """Return what both trainings have in common, and each place where they differ."""
    found: dict[str, Any] = {
        "trial": trial.id,
        "device": session.device,
        "folder": str(place.relative_to(session.folder)),
        "status": str(result["status"]),
        "failure": result.get("failure_class"),
        "seconds": result.get("seconds"),
        "scores_compared": trial.split is not SplitName.LOCKED_TEST,
        "environment": machine_changes(store, trial, result),
        "label_maps": [],
        "scores": [],
        "noise": None,
    }
    if result["status"] == Status.OK:
        found |= outcome(session, store, trial, result, place)
    else:
        found |= {"verdict": "failed", "text": clean_text(str(result.get("failure_excerpt")))}
    return {**found, "is_same": found["verdict"] in ("identical", "within_seed_noise")}


def machine_changes(store: Store, trial: Trial, result: Figures) -> list[Figures]:
    """Return what is another machine, package or containment than the trial had."""
    before = {name: value for name in RUN_AS if (value := getattr(trial, name)) is not None}
    now = {name: result.get(name) for name in before}
    return changes(store.campaign().environment, environment()) + changes(before, now)


def outcome(
    session: Session, store: Store, trial: Trial, result: Figures, place: Path
) -> dict[str, Any]:
    """Return the verdict on a second training that ended well."""
    first = store.case_scores(trial.id)
    has_scores = trial.split is not SplitName.LOCKED_TEST
    second = read_scores(trial.id, result["scores"]) if has_scores else []
    hashes = {
        "predictions_hash": [trial.predictions_hash, result.get("predictions_hash")],
        "scores_hash": [trial.scores_hash, scores_hash(second) if has_scores else None],
    }
    same_bytes = trial.predictions_hash == result.get("predictions_hash")
    old = session.trial_folder(trial.id) / "predictions"
    maps = [] if same_bytes else map_differences(old, place / "predictions")
    rows = score_differences(first, second) if has_scores else []
    found = {"hashes": hashes, "same_bytes": same_bytes, "label_maps": maps, "scores": rows}
    if not maps and not rows:
        return {**found, "verdict": "identical"}
    apart = noise(first, second, seed_sd(store, trial)) if has_scores else None
    on_gpu = session.device != "cpu"
    within = on_gpu and apart is not None and apart.is_within
    spread = apart._asdict() if apart else None
    return {**found, "noise": spread, "verdict": "within_seed_noise" if within else "differs"}


def seed_sd(store: Store, trial: Trial) -> float | None:
    """Return the SD of the baseline's mean Dice over seeds in a trial's setup, or None."""
    try:
        return Standings(store).spread(setup_of(trial)).sd
    except (ExploreError, KeyError):
        return None


def event_of(trial: Trial, found: Figures, *, at: float) -> Event:
    """Return a reproduction as the event that is stored."""
    names = ("verdict", "is_same", "device", "folder", "seconds", "scores_compared", "noise")
    figures = {name: found[name] for name in names}
    figures |= {
        "hashes": found.get("hashes"),
        "label_maps_differ": len(found["label_maps"]),
        "scores_differ": len(found["scores"]),
        "environment": found["environment"],
    }
    text = f"reproduced {trial.id}: {found['verdict'].replace('_', ' ')}"
    return Event(REPRODUCED, text, figures, trial.id, trial.branch, at)


def reproduced_lines(found: Figures) -> list[str]:
    """Return a reproduction as text: the verdict first, then each difference."""
    lines = [f"trial {found['trial']}: {headline(found)}", *difference_lines(found)]
    if found["noise"]:
        lines.append(noise_line(found["noise"]))
    if not found["scores_compared"]:
        lines.append("  label maps of the locked test; no label was read, no score recomputed")
    lines += [
        f"  {row['name']}: {clean_text(str(row['first']))} was, {clean_text(str(row['second']))} is"
        for row in found["environment"]
    ]
    return [*lines, f"  kept in {found['folder']}"]


def headline(found: Figures) -> str:
    """Return the verdict in one sentence."""
    if found["verdict"] == "failed":
        return f"the second training ended {found['status']} ({found['failure']}): {found['text']}"
    if found["verdict"] == "within_seed_noise":
        return f"the same within the noise of seeds on {found['device']}"
    if found["verdict"] == "differs":
        maps, scores = len(found["label_maps"]), len(found["scores"])
        return f"differs in {maps} label maps and {scores} scores"
    what = "label maps and scores" if found["scores_compared"] else "label maps"
    bytes_ = "" if found["same_bytes"] else "; the files' bytes differ, as another zlib writes them"
    return f"identical {what}{bytes_}"


def noise_line(apart: Figures) -> str:
    """Return the figures of a comparison within noise as text."""
    sd = "unknown" if apart["seed_sd"] is None else f"{apart['seed_sd']:.4f}"
    return (
        f"  Dice a case: largest difference {apart['largest']:.4f}, mean "
        f"{apart['mean_absolute']:.4f}; of the means {apart['of_means']:+.4f}, SD over the "
        f"baseline's seeds {sd}"
    )
