"""The one place where labels of the locked test are read, each time written down before.

Confirmation opens them once: all predictions are there before the first label is read. A
second opening is refused unless it continues the first, which a crash cut short.
"""

import json
from pathlib import Path
from typing import Any

from agent.session import Session
from agent.trials import take_result, write_text
from memory.errors import ScoringError
from memory.records import Kind, SplitName, Status, TestAccess, Trial
from memory.store import Store
from sandbox.executor import read_result
from sandbox.label_map import LabelMap, read_label_map
from sandbox.scoring import score_cases

WHY = "score the confirmation's predictions"


def labels_folder(store: Store, folder: Path, trials: list[str]) -> Path:
    """Write down that the locked labels are read for these trials, and return their folder.

    Raises:
        ScoringError: they were opened before for other trials.
    """
    wanted = tuple(sorted(trials))
    for access in store.test_accesses():
        if access.trials != wanted:
            raise ScoringError(
                f"the locked test was opened for trials {', '.join(access.trials)}; a second "
                "opening for others is refused, start a new campaign with a new split"
            )
    return folder / "locked" / "labels"


def open_labels(session: Session, store: Store, trials: list[Trial]) -> Path:
    """Record an opening, unless it continues the recorded one, and return the labels' folder."""
    names = [t.id for t in trials]
    folder = labels_folder(store, session.folder, names)
    if not store.test_accesses():
        access = TestAccess("confirmation", WHY, tuple(sorted(names)), session.now)
        store.add_test_access(access)
    return folder


def locked_label(session: Session, store: Store, case: str) -> LabelMap:
    """Return a case's label, integer (Z, Y, X) or (Y, X), within the recorded opening.

    Raises:
        ScoringError: the locked test was not opened yet.
    """
    if not store.test_accesses():
        raise ScoringError(f"the label of locked case {case!r} is not open before confirmation")
    ending = session.dataset["file_ending"]
    return read_label_map(session.folder / "locked" / "labels" / f"{case}{ending}").array


def score_locked(session: Session, store: Store) -> list[Trial]:
    """Score every confirmation trial that ended well, once; return those with scores."""
    trials = store.trials(kind=Kind.CONFIRM)
    ready = [t for t in trials if t.status is not Status.OK and ended_well(session, t)]
    scored = [t for t in trials if t.status is Status.OK]
    labels = open_labels(session, store, sorted([*ready, *scored], key=lambda t: t.id))
    for trial in ready:
        take_result(store, trial, locked_result(session, trial, labels), session.device)
    return store.trials(kind=Kind.CONFIRM, status=Status.OK)


def ended_well(session: Session, trial: Trial) -> bool:
    """Tell whether a confirmation trial left predictions that may be scored."""
    path = session.trial_folder(trial.id) / "result.json"
    return path.exists() and read_result(path.parent)["status"] == Status.OK


def locked_result(session: Session, trial: Trial, labels: Path) -> dict[str, Any]:
    """Return a confirmation trial's result with its scores on the locked test."""
    folder, facts = session.trial_folder(trial.id), session.dataset
    classes = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["labels"].items()}
    scores = score_cases(
        folder / "predictions",
        labels,
        session.cases(SplitName.LOCKED_TEST),
        file_ending=facts["file_ending"],
        labels=classes,
        ignore_label=facts["ignore_label"],
        tolerance_mm=session.config.scoring.tolerance_mm,
        trial=trial.id,
    )
    rows = [[s.case, s.label, str(s.metric), s.value, s.reason] for s in scores]
    write_text(folder / "locked_scores.json", json.dumps({"scores": rows}, indent=1))
    return {**read_result(folder), "scores": rows}
