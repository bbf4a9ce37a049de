"""Under which isolation a campaign runs: chosen once, never exchanged for less without a word.

The word is the user's, given on the command line and nowhere else, and it stays: each such
event is kept, and every later view and report of the campaign repeats it.
"""

import re
import time
from collections.abc import Iterable

from memory.errors import IsolationUnavailable
from memory.records import Event, Trial
from memory.store import Store
from sandbox.isolation import Isolation, choose, unsafe

UNSAFE = "unsafe"
WEAKER = "weaker_isolation"
NONE = "D"
_LEVEL = re.compile(r"\b([A-D])\b")


def level_of(isolation: str | None) -> str | None:
    """Return the level, A to D, in what a row says about an isolation; None if it says none."""
    found = _LEVEL.search(isolation or "")
    return found[1] if found else None


def is_uncontained(trial: Trial) -> bool:
    """Tell whether a trial ran without isolation."""
    return level_of(trial.isolation) == NONE


def unsafe_events(events: Iterable[Event]) -> list[Event]:
    """Return the events of runs that were told to go without isolation."""
    return [event for event in events if event.kind == UNSAFE]


def contain_campaign(store: Store, *, unsafe_reason: str, may_weaken: bool) -> Isolation:
    """Return the isolation of a run, and write down where the user chose less.

    Raises:
        IsolationUnavailable: there is none, or a weaker one than the campaign began with.
    """
    if unsafe_reason:
        isolation, offered = unsafe(unsafe_reason), strongest()
        figures = {"reason": isolation.reason, "offered": str(offered) if offered else None}
        though = f", though {offered} works here" if offered else ""
        text = f"runs generated code WITHOUT isolation{though}: {isolation.reason}"
        store.add_event(Event(UNSAFE, text, figures, at=time.time()))
        return isolation
    isolation = choose()
    begun = store.campaign().protocol.get("isolation")
    before = level_of(begun)
    if before is None or isolation.level <= before:
        return isolation
    if not may_weaken:
        raise IsolationUnavailable(
            f"this machine offers {isolation}, and the campaign began with {begun}; run it where "
            "that works (`segwright doctor`), or say --allow-weaker-isolation"
        )
    figures = {"before": begun, "now": str(isolation)}
    text = f"goes on with {isolation} after {begun}, as the user said"
    store.add_event(Event(WEAKER, text, figures, at=time.time()))
    return isolation


def strongest() -> Isolation | None:
    """Return the strongest isolation that works here, or None."""
    try:
        return choose()
    except IsolationUnavailable:
        return None
