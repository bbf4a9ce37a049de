"""The one place where labels of the locked test are read, each time written down before.

The locked test is opened once: all predictions of the confirmation are there before the first
label is read, and the opening names every trial that may ever be scored: those of the
confirmation, and the ablations of its finalists, whose ids are known before they are trained.
Going on after a crash is no second opening. Whoever asks for anything else gets an error, and an
event of kind "refused" that says who asked for what.

Covered: every label read through this module, with a store that may be written or only read.
Not covered: a program that opens files of `locked/` itself; the folder is its owner's alone, and
no sandbox mounts it.
"""

import contextlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from agent.session import Session
from agent.trials import take_result, write_text
from memory.errors import ScoringError, StoreError
from memory.records import Event, Kind, SplitName, Status, TestAccess, Trial
from memory.store import Store
from sandbox.executor import read_result
from sandbox.label_map import LabelMap, read_label_map
from sandbox.scoring import score_cases

BY = "confirmation"
WHY = "score the confirmation, and ablations of what it confirms"
REFUSED = "refused"
TESTED = (Kind.CONFIRM, Kind.ABLATE)
SHOWN = 3


def open_labels(session: Session, store: Store, trials: Sequence[Trial]) -> None:
    """Write down the one opening for these trials, unless it is written down already.

    Raises:
        ScoringError: one of them is a trial of the search, or the recorded opening does not
            name it.
    """
    require_tested(session, store, trials)
    names = tuple(sorted(trial.id for trial in trials))
    if store.test_accesses():
        require_named(session, store, names)
    else:
        store.add_test_access(TestAccess(BY, WHY, names, session.now))


def require_tested(session: Session, store: Store, trials: Sequence[Trial]) -> None:
    """Refuse trials of the search, and any that does not predict the locked test."""
    strangers = [
        trial.id
        for trial in trials
        if trial.kind not in TESTED or trial.split is not SplitName.LOCKED_TEST
    ]
    if strangers:
        refuse(session, store, "a trial of the search is never scored there", trials=strangers)


def labels_folder(session: Session, store: Store, trials: Sequence[str]) -> Path:
    """Return the folder of the locked labels, for trials that the opening names.

    Raises:
        ScoringError: there is no opening yet, or it does not name one of them.
    """
    require_named(session, store, trials)
    return session.folder / "locked" / "labels"


def require_named(session: Session, store: Store, trials: Sequence[str]) -> None:
    """Refuse trials that the recorded opening does not name, and any before there is one."""
    named = {name for access in store.test_accesses() for name in access.trials}
    strangers = [name for name in trials if name not in named]
    if not named:
        refuse(session, store, "it is not open before the confirmation", trials=trials)
    if strangers or not trials:
        why = "it was opened once, for other trials; a second opening needs a new split"
        refuse(session, store, why, trials=strangers)


def locked_label(session: Session, store: Store, case: str) -> LabelMap:
    """Return a case's label, integer (Z, Y, X) or (Y, X), within the recorded opening.

    Raises:
        ScoringError: the locked test was not opened yet, or that is none of its cases.
    """
    if case not in session.cases(SplitName.LOCKED_TEST):
        refuse(session, store, "that is none of its cases", case=case)
    if not store.test_accesses():
        refuse(session, store, "it is not open before the confirmation", case=case)
    ending = session.dataset["file_ending"]
    return read_label_map(session.folder / "locked" / "labels" / f"{case}{ending}").array


def refuse(
    session: Session, store: Store, why: str, *, trials: Sequence[str] = (), case: str = ""
) -> NoReturn:
    """Write down who asked for what of the locked test, and raise the refusal.

    Raises:
        ScoringError: always.
    """
    who = asker()
    text = f"refused the locked test to {who}, asked for {wanted(trials, case)}: {why}"
    figures = {"asked_by": who, "trials": list(trials), "case": case or None, "why": why}
    event = Event(REFUSED, text, figures, at=session.now)
    try:
        store.add_event(event)
    except StoreError:  # who may only read is written down as well
        with contextlib.suppress(StoreError), session.store() as own:
            own.add_event(event)
    raise ScoringError(text)


def wanted(trials: Sequence[str], case: str) -> str:
    """Return in words what was asked for."""
    if case:
        return f"the label of case {case!r:.80}"
    more = f" and {len(trials) - SHOWN} more" if len(trials) > SHOWN else ""
    return f"trials {', '.join(trials[:SHOWN])}{more}" if trials else "no trial at all"


def asker() -> str:
    """Return the module and function that called into this module; it cannot say otherwise."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    if frame is None:
        return "an unknown caller"
    return f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_qualname}"


def score_locked(session: Session, store: Store, trials: Sequence[Trial]) -> None:
    """Score those of some trials that ended well and have no scores yet, each once.

    Raises:
        ScoringError: one of them is a trial of the search, or is not named by the recorded opening.
    """
    require_tested(session, store, trials)
    ready = [t for t in trials if not t.status.is_final and ended_well(session, t)]
    if not ready:
        return
    labels = labels_folder(session, store, [t.id for t in ready])
    for trial in ready:
        take_result(store, trial, locked_result(session, trial, labels), session.device)


def ended_well(session: Session, trial: Trial) -> bool:
    """Tell whether a trial left predictions that may be scored."""
    path = session.trial_folder(trial.id) / "result.json"
    return path.exists() and read_result(path.parent)["status"] == Status.OK


def locked_result(session: Session, trial: Trial, labels: Path) -> dict[str, Any]:
    """Return a trial's result with its scores on the locked test."""
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
