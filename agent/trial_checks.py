"""What `segwright check` asks of one trial: its id, scores, network and predictions."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from memory.errors import SegwrightError, StoreError
from memory.networks import Networks
from memory.records import CaseScore, Kind, SplitName, Status, Trial, scores_hash, trial_id
from memory.store import Store
from sandbox.fingerprints import file_hash, predictions_hash, text_hash

MEASURED = (
    *("isolation", "start", "seconds", "cpu_seconds", "peak_memory_mib"),
    *("parameters", "batch_size", "checkpointing"),
)
Scores = dict[tuple[str, str, str], tuple[float | None, str | None]]


def is_locked(trial: Trial) -> bool:
    """Return whether a trial was scored on the locked test, by locked_scores.json."""
    return trial.kind is Kind.CONFIRM or trial.split is SplitName.LOCKED_TEST


def trial_problems(folder: Path, store: Store, trial: Trial) -> Iterator[str]:
    """Yield what does not agree about a trial, one line each, naming the trial first."""
    place = f"trial {trial.id}"
    if trial_id(trial) != trial.id:
        yield f"{place}: its choices give the id {trial_id(trial)}"
    for part in (_scores, _files, _network, _predictions):
        try:
            yield from (f"{place}{line}" for line in part(folder, store, trial))
        except SegwrightError as error:
            yield f"{place}: {error}"


def _scores(_: Path, store: Store, trial: Trial) -> Iterator[str]:
    rows = store.case_scores(trial.id)
    if bool(rows) != (trial.status is Status.OK):
        yield f": it is {trial.status}, with {len(rows)} scores"
    derived = scores_hash(rows) if rows else None
    if derived != trial.scores_hash:
        yield f": its scores give the hash {derived}, trial.scores_hash is {trial.scores_hash}"


def _files(folder: Path, store: Store, trial: Trial) -> Iterator[str]:
    """Compare a final trial with what its supervisor and the scorer published."""
    path = folder / "trials" / trial.id / "result.json"
    if not trial.status.is_final or not (path.exists() or trial.status is Status.OK):
        return
    result = _read(path)
    if result.get("status") != trial.status:
        yield f": its status is {trial.status}, {path.name} has {result.get('status')!r:.40}"
    hash_there = result.get("predictions_hash", trial.predictions_hash)
    if hash_there != trial.predictions_hash:
        yield f": predictions_hash is {trial.predictions_hash}, {path.name} has {hash_there!r:.80}"
    yield from _measured(trial, result, path.name)
    if is_locked(trial) and trial.status is Status.OK:
        path = path.with_name("locked_scores.json")
        result = _read(path)
    if problem := _first_difference(store.case_scores(trial.id), result.get("scores"), path.name):
        yield problem


def _measured(trial: Trial, result: dict[str, Any], name: str) -> Iterator[str]:
    """Compare how a trial was run, as far as its result says it."""
    setup = result.get("setup")
    said = {**result, **(setup if isinstance(setup, dict) else {})}
    for field in MEASURED:
        there, stored = said.get(field), getattr(trial, field)
        if field == "batch_size" and stored is None:
            continue  # as planned; the protocol has the number
        if there is not None and there != stored:
            yield f": {field} is {stored!r:.60}, {name} has {there!r:.60}"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} is no JSON object")
    return value


def _first_difference(rows: Sequence[CaseScore], written: Any, name: str) -> str | None:
    stored: Scores = {(s.case, s.label, s.metric.value): (s.value, s.reason) for s in rows}
    if not isinstance(written, list) or not all(_is_score(score) for score in written):
        return f": {name} has no list of [case, class, metric, value, reason] under 'scores'"
    there: Scores = {(s[0], s[1], s[2]): (s[3], s[4]) for s in written}
    for key in sorted(stored.keys() | there.keys()):
        if stored.get(key) != there.get(key):
            case, label, metric = key
            ours, theirs = _shown(stored.get(key)), _shown(there.get(key))
            where = f", case {case}, class {label}, metric {metric}"
            return f"{where}: case_score has {ours}, {name} has {theirs}"
    if len(there) != len(written):
        return f": {name} has a score twice"
    return None


def _is_score(score: Any) -> bool:
    return (
        isinstance(score, list)
        and len(score) == 5
        and all(isinstance(part, str) for part in score[:3])
        and isinstance(score[3], float | int | None)
        and isinstance(score[4], str | None)
    )


def _shown(score: tuple[float | None, str | None] | None) -> str:
    if score is None:
        return "no such score"
    value, reason = score
    return f"{value!r}" if reason is None else f"{value!r} ({reason:.60})"


def _network(folder: Path, _: Store, trial: Trial) -> Iterator[str]:
    expected = trial.network_hash
    if trial.commit is not None:
        source = Networks.open(folder / "networks").source(trial.commit)
        in_git = text_hash(source)
        if expected is None and trial.status is Status.OK:
            yield f": it has a commit and no network_hash; commit {trial.commit} gives {in_git}"
        elif expected not in (None, in_git):
            yield f": network.py at commit {trial.commit} has the hash {in_git}, not {expected}"
        expected = in_git
    path = folder / "trials" / trial.id / "code" / "network.py"
    if expected is not None and path.exists() and (found := file_hash(path)) != expected:
        yield f": {path} has the hash {found}, its network {expected}"


def _predictions(folder: Path, _: Store, trial: Trial) -> Iterator[str]:
    path = folder / "trials" / trial.id / "predictions"
    if trial.predictions_hash is None:
        if trial.status is Status.OK:
            yield ": it is ok and has no predictions_hash"
    elif (found := predictions_hash(path)) != trial.predictions_hash:
        yield f": the files in {path} have the hash {found}, not {trial.predictions_hash}"
