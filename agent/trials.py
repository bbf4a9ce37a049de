"""From a trial's row to its job, and from its result back to rows.

The job is written whole before the trial starts; the result is taken into the store once,
however often it is read.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from agent.session import Session
from memory.records import CaseScore, Kind, Metric, SplitName, Status, Trial
from memory.store import Store

SLACK_S = 120.0
SLACK = 4.0
RESULT_FIELDS = ("failure_class", "failure_excerpt", "started_at", "ended_at", "isolation")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def network_hash(source: str) -> str:
    """Return the SHA-256 of a network's source, 64 hex digits."""
    return hashlib.sha256(source.encode()).hexdigest()


def write_code(session: Session, trial: Trial) -> Path | None:
    """Put the trial's network from its commit into its folder; None for the baseline."""
    if trial.commit is None:
        return None
    path = session.trial_folder(trial.id) / "code" / "network.py"
    write_text(path, session.networks().source(trial.commit))
    return path


def wall_limit(session: Session, trial: Trial, step_s: float) -> float:
    """Return the seconds after which a run is ended: several times what it should take."""
    assert trial.iterations is not None
    return SLACK_S + SLACK * step_s * trial.iterations


def write_job(session: Session, trial: Trial, *, step_s: float) -> Path:
    """Write the trial's job.json and return its folder."""
    engine, own, facts = session.config.engine, session.config.sandbox, session.dataset
    shapes = {case: padded(facts["shapes"][case]) for case in session.cases(trial.split)}
    job = {
        "id": trial.id,
        "has_network": trial.commit is not None,
        "iterations": trial.iterations,
        "seed": trial.seed,
        "device": session.device,
        "threads": engine.threads,
        "workers": engine.workers,
        "mirroring": engine.mirroring,
        "part": str(trial.split),
        "shapes": shapes,
        "train_cases": session.cases(SplitName.SEARCH_TRAIN),
        "file_ending": facts["file_ending"],
        "labels": facts["labels"],
        "ignore_label": facts["ignore_label"],
        "tolerance_mm": session.config.scoring.tolerance_mm,
        "has_labels": trial.kind is not Kind.CONFIRM,
        "wall_s": wall_limit(session, trial, step_s),
        "memory_mib": own.memory_mib,
        "disk_mib": own.disk_mib,
        "shm_mib": own.shm_mib,
    }
    folder = session.trial_folder(trial.id)
    write_text(folder / "job.json", json.dumps(job, indent=1))
    return folder


def padded(shape: list[int]) -> list[int]:
    """Return a raw image's shape as nnU-Net predicts it: (Z, Y, X), one slice for 2D images."""
    return [1] * (3 - len(shape)) + list(shape)


def read_scores(trial: str, rows: list[list[Any]]) -> list[CaseScore]:
    """Return the scores of a result; rows are [case, label, metric, value, reason]."""
    return [CaseScore(trial, row[0], row[1], Metric(row[2]), row[3], row[4]) for row in rows]


def take_result(store: Store, trial: Trial, result: dict[str, Any], device: str) -> bool:
    """Take a trial's result into the store; False when it was taken before."""
    seconds = result.get("seconds")
    changes = {name: result.get(name) for name in RESULT_FIELDS}
    changes |= {
        "status": Status(result["status"]),
        "seconds": seconds,
        "gpu_seconds": seconds if device == "cuda" else 0.0,
        "peak_memory_mib": result.get("peak_memory_mib"),
        "predictions_hash": result.get("predictions_hash"),
    }
    scores = read_scores(trial.id, result["scores"])
    return store.record_result(trial.id, changes=changes, scores=scores)
