"""`segwright why`: finds an event in the store, and the names of what it mentions.

Reads a store that another process may be writing.
"""

from collections.abc import Iterator
from typing import Any

from agent.decision_state import RIVAL
from agent.suggestions import CATEGORIES
from agent.told import Known, Names
from agent.view import find_trial
from agent.why import DECISIONS, explain
from memory.errors import StoreError
from memory.records import Event, Status, Trial
from memory.store import Store

LONGEST_NUMBER = 11
LONGEST_NAME = 64
STARTED_BY = ("baseline", "selecting", "confirming")


def why(store: Store, wanted: str | None) -> dict[str, Any]:
    """Return an event with its three lines, as `why --json` prints it.

    Args:
        store: the campaign's.
        wanted: an event's number, or the start of a trial's id: the last decision about it, that
            which started it included; None for the last decision of all.

    Raises:
        StoreError: there is no such event or trial, or nothing was decided about it.
    """
    event = find_event(store, wanted)
    return {
        "event": event.id,
        "kind": event.kind,
        "at": event.at,
        "lines": list(explain(event, names_of(store, event))),
        "figures": event.figures,
    }


def find_event(store: Store, wanted: str | None) -> Event:
    """Return the event that was asked for; see `why`."""
    if wanted is None:
        return last_decision(store)
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= LONGEST_NUMBER:
        return numbered(store, int(wanted))
    return about(store, find_trial(store, wanted))


def numbered(store: Store, number: int) -> Event:
    """Return an event by its number.

    Raises:
        StoreError: there is none; the message says which there are.
    """
    try:
        return store.event(number)
    except StoreError:
        last = max((event.id for event in recent(store)), default=0)
        known = f"events are numbered from 1 to {last}" if last else "nothing has happened yet"
        raise StoreError(f"no event {number}; {known}") from None


def recent(store: Store) -> list[Event]:
    """Return the last decision about a trial and all events after it; all where there is none."""
    known = store.event_trials(tuple(DECISIONS))
    return store.events(after=known[-1][0] - 1 if known else 0)


def last_decision(store: Store) -> Event:
    """Return the last decision of a campaign.

    Raises:
        StoreError: nothing was decided yet.
    """
    found = [event for event in recent(store) if event.kind in DECISIONS]
    if not found:
        raise StoreError("nothing was decided yet; `segwright run` starts the campaign")
    return found[-1]


def about(store: Store, trial: Trial) -> Event:
    """Return the last decision about a trial, that which started it included.

    Raises:
        StoreError: there is none.
    """
    numbers = [number for number, _, one in store.event_trials(tuple(DECISIONS)) if one == trial.id]
    begun = starting(store, trial)
    numbers += [begun] if begun else []
    if not numbers:
        raise StoreError(f"nothing was decided about trial {trial.id}")
    return store.event(max(numbers))


def starting(store: Store, trial: Trial) -> int:
    """Return the number of the decision that started a trial; 0 where none is known.

    A network that failed its dry run is repaired within the decision that it came from.
    """
    begun = store.effect(f"begun/{trial.id}")
    if begun is not None:
        return int(begun["event"])
    for one in lineage(store, trial):
        for number in candidates(store, one):
            if (store.effect(f"decision/{number}/trial") or {}).get("trial") == one.id:
                return number
        if one.parent is None or store.trial(one.parent).status is not Status.REJECTED:
            break
    return 0


def lineage(store: Store, trial: Trial) -> Iterator[Trial]:
    """Yield a trial and those it came from."""
    yield trial
    while trial.parent is not None:
        trial = store.trial(trial.parent)
        yield trial


def candidates(store: Store, trial: Trial) -> list[int]:
    """Return the decisions that may have started a trial, the last first."""
    if trial.parent is None:
        begun = [event for kind in ("open", RIVAL) for event in store.events(kind=kind)]
        return sorted((event.id for event in begun if event.trial is None), reverse=True)
    found = store.event_trials(tuple(DECISIONS))
    return [number for number, _, source in reversed(found) if source == trial.parent]


def names_of(store: Store, event: Event) -> Names:
    """Return what an explanation may say of the trials and the branch of an event."""
    started = (store.effect(f"decision/{event.id}/trial") or {}).get("trial", "")
    wanted = {event.trial or "", started, *mentioned(event.figures)} - {""}
    rungs = store.campaign().protocol.get("rung_iterations", [])
    return Names(
        trials={trial.id: known(trial) for trial in store.trials_by_id(wanted)},
        branch=branch_title(store, event),
        iterations=tuple(int(size) for size in rungs),
        started=started,
        suggestion=category(store, started),
    )


def category(store: Store, trial: str) -> str:
    """Return the category of the suggestion that a trial's proposal carries out; "" for none."""
    own = store.trial(trial).proposal if trial else None
    said = store.proposal(own).detail.get("suggestion") if own else None
    found = said.get("category") if isinstance(said, dict) else None
    return found if found in CATEGORIES else ""


def mentioned(figures: Any) -> Iterator[str]:
    """Yield every text among figures that may be the id of a trial."""
    if isinstance(figures, str) and len(figures) <= LONGEST_NAME:
        yield figures
    inner = figures.values() if isinstance(figures, dict) else figures
    for one in inner if isinstance(figures, dict | list) else ():
        yield from mentioned(one)


def known(trial: Trial) -> Known:
    """Return what an explanation may say of a trial."""
    has_failed = trial.status.is_final and trial.status not in (Status.OK, Status.CANCELLED)
    return Known(trial.title, (trial.failure_class or trial.status.value) if has_failed else "")


def branch_title(store: Store, event: Event) -> str:
    """Return the title of the idea that an event's branch began with; "" without a branch."""
    own = [branch for branch in store.branches() if branch.id == event.branch]
    return store.proposal(own[0].proposal).title if own else ""
