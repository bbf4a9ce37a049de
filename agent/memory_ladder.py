"""The ladder under an out-of-memory: what was tried, as events with their figures.

Inside a trial the supervisor tries activation checkpointing. After it the search tries half
the planned batch, then a quarter, never below 2 (agent/search_tree.py), with baselines of the
same rung and batch beside it. Where that does not fit either, the trial stays out_of_memory.
"""

from collections.abc import Iterable
from typing import Any

from agent.search_tree import next_batch
from agent.standings import SEARCH, Setup, Standings, setup_of
from memory.records import Event, Figures, Kind, Status, Trial
from memory.store import Store

LADDER = "memory_ladder"


def setup_figures(result: Figures) -> Figures:
    """Return the part of a result that says how it was run; empty where it says nothing."""
    said = result.get("setup")
    return said if isinstance(said, dict) else {}


def ladder_events(trial: Trial, result: Figures, *, planned: int, at: float) -> list[Event]:
    """Return the rungs of the ladder that a trial went down, in their order."""
    setup, is_full = setup_figures(result), result["status"] == Status.OUT_OF_MEMORY
    batch = trial.batch_size or planned
    tries = list(setup.get("attempts", []))
    if setup and is_full:
        last = {name: result.get(name) for name in ("failure_class", "failure_excerpt")}
        tries.append({"checkpointing": setup.get("checkpointing"), **last})
    events = [rung_event(trial, batch, attempt, at) for attempt in tries]
    if is_full:
        events.append(end_event(trial, batch, planned=planned, at=at))
    return events


def rung_event(trial: Trial, batch: int, attempt: dict[str, Any], at: float) -> Event:
    """Return the event of one attempt inside a trial that found no room in memory."""
    has_checkpoints = bool(attempt.get("checkpointing"))
    how = "with activation checkpointing" if has_checkpoints else "as it is"
    figures = {
        "batch_size": batch,
        "checkpointing": has_checkpoints,
        "failure_class": attempt.get("failure_class"),
        "failure_excerpt": attempt.get("failure_excerpt"),
    }
    text = f"{trial.id} found no room in memory {how}, with batches of {batch}"
    return Event(LADDER, text, figures, trial.id, trial.branch, at)


def end_event(trial: Trial, batch: int, *, planned: int, at: float) -> Event:
    """Return the event that says what follows an out_of_memory trial."""
    smaller = next_batch(trial.batch_size, planned=planned) if trial.kind in SEARCH else None
    figures = {"batch_size": batch, "batch_planned": planned, "next_batch": smaller}
    if smaller is not None:
        text = f"{trial.id} is out of memory with batches of {batch}; next: batches of {smaller}"
    elif trial.kind in SEARCH:
        text = f"{trial.id} stays out of memory: {batch} is the smallest batch that is tried"
    else:
        text = f"{trial.id} stays out of memory with batches of {batch}"
    return Event(LADDER, text, figures, trial.id, trial.branch, at)


def without_baseline(trials: Iterable[Trial], standings: Standings) -> list[Setup]:
    """Return the smaller setups that scored trials of the search need a baseline for."""
    wanted = sorted({setup_of(trial) for trial in trials})
    return [setup for setup in wanted if not standings.is_ready(setup)]


def is_hopeless(store: Store, setup: Setup, seeds: int) -> bool:
    """Tell whether every baseline of a setup has ended and too few of them have scores."""
    own = [t for t in store.trials(kind=Kind.BASELINE, rung=setup.rung) if setup_of(t) == setup]
    return len(own) >= seeds and all(t.status.is_final for t in own)
