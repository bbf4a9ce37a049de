"""How a trial may change, and what its end must look like. Pure.

A trial's choices (the fields that its id is made of) are fixed, its scores_hash is the
store's, and scores belong to a trial that ended well, and to no other.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

from memory.errors import StoreError
from memory.records import CaseScore, Event, Figures, Status, Trial
from memory.rows import TRIAL_CHOICES


def changed_trial(trial: Trial, changes: Figures) -> Trial:
    """Return the trial with those fields changed.

    Raises:
        StoreError: a field that does not exist or may not be changed, or an unknown status.
    """
    allowed = {f.name for f in fields(Trial)} - set(TRIAL_CHOICES) - {"scores_hash"}
    if refused := sorted(set(changes) - allowed):
        raise StoreError(
            f"trial {trial.id}: {refused[0]!r} cannot be changed; allowed: {', '.join(sorted(allowed))}"
        )
    if "status" not in changes:
        return replace(trial, **changes)
    try:
        status = Status(changes["status"])
    except ValueError as error:
        raise StoreError(
            f"trial {trial.id}: no status {changes['status']!r}; allowed: {', '.join(Status)}"
        ) from error
    return replace(trial, **{**changes, "status": status})


def check_result(trial: Trial, scores: Sequence[CaseScore]) -> None:
    """Check that a trial's end and its scores go together.

    Raises:
        StoreError: a status that is not final, an ok trial without scores, another one with
            scores, or a score of another trial.
    """
    if not trial.status.is_final:
        raise StoreError(f"trial {trial.id}: {trial.status} is no final status of a result")
    if (trial.status is Status.OK) != bool(scores):
        raise StoreError(
            f"trial {trial.id} is {trial.status} with {len(scores)} scores; "
            "an ok trial has scores, and no other has any"
        )
    if strangers := [score.trial for score in scores if score.trial != trial.id]:
        raise StoreError(f"trial {trial.id}: a score of trial {strangers[0]!r} is among its own")


def result_event(trial: Trial, count: int) -> Event:
    """Return the event that says how a trial ended, at its `ended_at` (0 if unknown)."""
    figures = {
        "status": trial.status,
        "scores": count,
        "scores_hash": trial.scores_hash,
        "seconds": trial.seconds,
        "failure_class": trial.failure_class,
    }
    text = f"trial {trial.id} ended: {trial.status}"
    return Event("trial_result", text, figures, trial.id, trial.branch, trial.ended_at or 0.0)
