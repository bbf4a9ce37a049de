"""What a campaign takes from the library before its first proposal, and gives to it at its end."""

from agent.conditions import conditions_now
from agent.knowledge import effects_now
from agent.library import TAKEN, Library, give, library_path, take
from agent.library_findings import entry_of
from agent.session import Session
from agent.wording import counted
from memory.records import Event
from memory.store import Store

KIND = "library"


def take_over(session: Session, store: Store) -> None:
    """Keep what earlier campaigns learnt, once and for good, with an event that names them.

    A campaign that has proposals already takes nothing: they were made without it.

    Raises:
        ConfigError: the library cannot be read.
        DatasetError: a label file of search-train is missing or damaged.
    """
    if store.effect(TAKEN) is not None:
        return
    path = library_path(session.config.memory.library)
    is_new = path is not None and not store.proposals()
    library = Library.read(path) if path is not None and is_new else Library()
    with store.transaction():
        campaigns = take(store, library, conditions_now(store, session), session.now)
        if campaigns:
            store.add_event(taken(store, campaigns, session.now))


def taken(store: Store, campaigns: tuple[str, ...], now: float) -> Event:
    """Return the event of what was taken."""
    lessons = len(store.lessons("library"))
    text = f"starts with what {counted(len(campaigns), 'earlier campaign')} learnt"
    figures = {"campaigns": len(campaigns), "ids": list(campaigns), "lessons": lessons}
    return Event(KIND, text, figures, at=now)


def hand_on(session: Session, store: Store) -> list[str]:
    """Give the library what this campaign learnt; return why it could not, a line each."""
    path = library_path(session.config.memory.library)
    if path is None:
        return []
    own = effects_now(store, session).own
    reason = give(path, entry_of(store, own, conditions_now(store, session)))
    return [reason] if reason else []
