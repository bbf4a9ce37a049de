"""From a trial's row to its job, and from its result back to rows.

The job is written whole before the trial starts; the result is taken into the store once,
however often it is read.
"""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.memory_ladder import ladder_events, setup_figures
from agent.session import Session
from agent.standings import SEARCH
from memory.records import CaseScore, Event, Kind, Metric, SplitName, Status, Trial, trial_id
from memory.store import Store
from sandbox.components import COMPONENTS
from sandbox.dry_run import Dry
from sandbox.engine import Plan

SLACK_S = 120.0
SLACK = 4.0
STALLED_S = 120.0
STALLED = 50.0
FUNCTION = "weights"
ABLATED = "ablated"
VERDICT = ("step", "passed", "evidence", "seconds", "failure_class", "text")
RESULT_FIELDS = (
    *("failure_class", "failure_excerpt", "started_at", "ended_at", "isolation"),
    *("seconds", "cpu_seconds", "peak_memory_mib", "predictions_hash", "start"),
)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def network_hash(source: str) -> str:
    """Return the SHA-256 of a network's source, 64 hex digits."""
    return hashlib.sha256(source.encode()).hexdigest()


def fresh(
    session: Session,
    source: Trial | None,
    *,
    kind: Kind,
    split: SplitName,
    seed: int,
    batch_size: int | None,
    rung: int | None = None,
    fold: int = 0,
) -> Trial:
    """Return a planned training of a network that the search trained before, or of the baseline.

    No source is the baseline; no rung is the last one. The same choices give the same id.
    """
    at = session.last_rung if rung is None else rung
    own = (source.id, source.branch, source.proposal, source.commit) if source else (None,) * 4
    parent, branch, proposal, commit = own
    trial = Trial(
        id="",
        parent=parent,
        branch=branch,
        proposal=proposal,
        commit=commit,
        kind=kind,
        rung=at,
        seed=seed,
        split=split,
        title=source.title if source else "nnU-Net default",
        iterations=session.iterations[at],
        planned_at=session.now,
        network_hash=source.network_hash if source else None,
        batch_size=batch_size,
        fold=fold,
    )
    return replace(trial, id=trial_id(trial))


def baseline_trial(
    session: Session, *, rung: int, seed: int, batch_size: int | None = None
) -> Trial:
    """Return the planned trial of nnU-Net's default network at one rung with one seed."""
    return fresh(
        session,
        None,
        kind=Kind.BASELINE,
        split=SplitName.SEARCH_VAL,
        seed=seed,
        batch_size=batch_size,
        rung=rung,
    )


def write_code(session: Session, trial: Trial) -> Path | None:
    """Put the trial's network from its commit into its folder; None for the baseline."""
    if trial.commit is None:
        return None
    path = session.trial_folder(trial.id) / "code" / "network.py"
    write_text(path, session.networks().source(trial.commit))
    return path


def batch_size(session: Session, trial: Trial) -> int:
    """Return the samples an iteration of a trial: as planned, unless it was chosen smaller."""
    return trial.batch_size or session.plan.batch_size


def plan_of(session: Session, trial: Trial) -> Plan:
    """Return the plan with a trial's own batch size."""
    plan, planned = session.plan, session.plan.planned
    if trial.batch_size is None:
        return plan
    own = {plan.configuration: {**planned, "batch_size": trial.batch_size}}
    return replace(plan, plans={**plan.plans, "configurations": own})


def named_modules(session: Session, trial: Trial) -> list[str]:
    """Return the classes that a trial's network must use: the modules its proposal names.

    An ablated network is without one of them.
    """
    if trial.proposal is None:
        return []
    with session.store() as store:
        names = {module.component for module in store.proposal(trial.proposal).modules}
        gone = store.effect(f"{ABLATED}/{trial.commit}")
    names -= {gone["component"]} if gone else set()
    cards = [COMPONENTS[name] for name in names if name in COMPONENTS]
    own = {name for name in names if name not in COMPONENTS and name[:1].isupper()}
    return sorted({card.class_name for card in cards if card.form != FUNCTION} | own)


def wall_limit(session: Session, trial: Trial, step_s: float) -> float:
    """Return the seconds after which a run is ended: several times what it should take."""
    assert trial.iterations is not None
    return SLACK_S + SLACK * step_s * trial.iterations


def checkpoint_of(session: Session, trial: Trial) -> float:
    """Return the fraction of a trial's training at which it is looked at; 0 for not at all.

    Only trials that are scored on search-val, at the last rung: a first rung is too short.
    """
    rungs, is_looked_at = session.config.rungs, trial.kind in (*SEARCH, Kind.BASELINE)
    is_long = (trial.iterations or 0) >= rungs.checkpoint_from
    return rungs.checkpoint if is_looked_at and is_long and trial.rung == session.last_rung else 0.0


def asks_confidence(trial: Trial) -> bool:
    """Tell whether a trial's confidence is kept: of the search and the baseline, on search-val.

    Of the locked test, of further folds and of ablations nothing is computed or kept.
    """
    is_searched = trial.kind in (*SEARCH, Kind.BASELINE)
    return is_searched and trial.split is SplitName.SEARCH_VAL and not trial.fold


def write_job(session: Session, trial: Trial, *, step_s: float) -> Path:
    """Write the trial's job.json and return its folder."""
    folder = session.trial_folder(trial.id)
    job = job_values(session, trial, step_s=step_s)
    write_text(folder / "job.json", json.dumps(job, indent=1))
    return folder


def job_values(session: Session, trial: Trial, *, step_s: float) -> dict[str, Any]:
    """Return what a supervisor must know of a trial, as job.json keeps it."""
    engine, own, facts = session.config.engine, session.config.sandbox, session.dataset
    shapes = {case: padded(facts["shapes"][case]) for case in session.scored_cases(trial)}
    return {
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
        "train_cases": list(session.fold(trial.fold).train),
        "fold": trial.fold,
        "file_ending": facts["file_ending"],
        "labels": facts["labels"],
        "ignore_label": facts["ignore_label"],
        "tolerance_mm": session.config.scoring.tolerance_mm,
        "has_labels": trial.split is not SplitName.LOCKED_TEST,
        "wall_s": wall_limit(session, trial, step_s),
        "memory_mib": own.memory_mib,
        "disk_mib": own.disk_mib,
        "shm_mib": own.shm_mib,
        "batch_size": batch_size(session, trial),
        "planned_batch_size": session.plan.batch_size,
        "named_modules": named_modules(session, trial),
        "start": own.start,
        "iteration_limit_s": max(STALLED_S, STALLED * step_s),
        "checkpoint": checkpoint_of(session, trial),
        "confidence": asks_confidence(trial),
        "allow_checkpointing": True,
        "isolation_level": session.isolation.level,
        "unsafe_reason": session.unsafe_reason,
    }


def dry_run_event(trial: Trial, dry: Dry, *, at: float) -> Event:
    """Return the verdicts of a network's dry run as an event."""
    verdicts = [{name: getattr(v, name) for name in VERDICT} for v in dry.verdicts]
    figures = {
        "commit": trial.commit,
        "batch_size": trial.batch_size,
        "failure_class": dry.failure or None,
        "verdicts": verdicts,
    }
    how = f"failed its dry run ({dry.failure})" if dry.failure else "passed its dry run"
    return Event("dry_run", f"{trial.id} {how}", figures, trial.id, trial.branch, at)


def padded(shape: list[int]) -> list[int]:
    """Return a raw image's shape as nnU-Net predicts it: (Z, Y, X), one slice for 2D images."""
    return [1] * (3 - len(shape)) + list(shape)


def read_scores(trial: str, rows: list[list[Any]]) -> list[CaseScore]:
    """Return the scores of a result; rows are [case, label, metric, value, reason]."""
    return [CaseScore(trial, row[0], row[1], Metric(row[2]), row[3], row[4]) for row in rows]


def take_result(store: Store, trial: Trial, result: dict[str, Any], device: str) -> bool:
    """Take a trial's result into the store; False when it was taken before.

    Parameters counted from the weights replace those that the dry run saw.
    """
    on_gpu = result.get("seconds") if device == "cuda" else 0.0
    changes = {name: result.get(name) for name in RESULT_FIELDS}
    changes |= {
        "status": Status(result["status"]),
        "gpu_seconds": result.get("gpu_seconds", on_gpu),
        "checkpointing": setup_figures(result).get("checkpointing"),
    }
    if result.get("parameters") is not None:
        changes["parameters"] = result["parameters"]
    scores = read_scores(trial.id, result["scores"])
    planned = store.campaign().protocol.get("batch_size", 0)
    at = result.get("ended_at") or 0.0
    with store.transaction():
        is_new = store.record_result(trial.id, changes=changes, scores=scores)
        for event in ladder_events(trial, result, planned=planned, at=at) if is_new else ():
            store.add_event(event)
    return is_new
