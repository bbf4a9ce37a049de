"""What the user changed of the protocol, or accepted beside it: with a reason, and for good.

campaign.toml may be edited after `init`. `permitted` finds the settings that are not as declared
and refuses them, unless the command line gives a reason; then `amend` keeps an event for each,
and every later view and report of the campaign repeats it. Once the locked test is open, nothing
is amended.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from agent.config import Config
from agent.protocol import AT_FIRST_RUN, AT_INIT, PROTOCOL, Difference, declared, differences
from memory.errors import ConfigError
from memory.records import Event, Figures
from memory.store import Store

AMENDED = "amended"
LOW_POWER = "low_power"
GO_ON = "put it back, or go on with `run --amend-protocol REASON`, which every report repeats"


class Amendment(NamedTuple):
    """A setting of the protocol that was changed after `init`, and why."""

    setting: str
    before: Any
    after: Any
    reason: str
    at: float
    event: int


def amendments(events: Iterable[Event]) -> list[Amendment]:
    """Return the changes of the protocol, oldest first."""
    found = [(event.figures, event) for event in events if event.kind == AMENDED]
    return [
        Amendment(own["setting"], own["before"], own["after"], own["reason"], event.at, event.id)
        for own, event in found
    ]


def low_power(events: Iterable[Event]) -> list[Event]:
    """Return the events of runs that were told to look for less than can be detected.

    Figures: margin and detectable in Dice, cases (locked patients), seeds a side, alpha, power.
    """
    return [event for event in events if event.kind == LOW_POWER]


def in_force(record: Figures, made: Sequence[Amendment]) -> Figures:
    """Return a record with its amended settings in the place of the declared ones."""
    return {
        **record,
        "settings": record.get("settings", {}) | {one.setting: one.after for one in made},
    }


def broken_chain(record: Figures, made: Sequence[Amendment]) -> list[str]:
    """Return one line for each amendment that does not begin with the value then in force."""
    found, values = [], dict(record.get("settings", {}))
    for one in made:
        if values.get(one.setting) != one.before:
            was = values.get(one.setting)
            found.append(
                f"event {one.event} amends {one.setting} from {one.before!r}, it was {was!r}"
            )
        values[one.setting] = one.after
    return found


def permitted(store: Store, config: Config, *, reason: str = "") -> list[Difference]:
    """Hold a run to the declared protocol; return what the user changes of it. Writes nothing.

    Args:
        store: of the campaign; one from before protocols were declared is not held to any.
        config: the settings that the run would use.
        reason: the user's, from the command line; "" for none.

    Raises:
        ConfigError: a setting is not as declared, and may not be changed or no reason is given.
    """
    found = changed(store, config)
    if found:
        refuse(store, found, reason)
    return found


def amend(store: Store, found: Sequence[Difference], reason: str) -> list[str]:
    """Write down what `permitted` returned, with the user's reason; return the events' texts."""
    texts = [f"amends the protocol: {said(one)}: {reason}" for one in found]
    with store.transaction():
        for one, text in zip(found, texts, strict=True):
            figures = {"setting": one.setting, "before": one.declared, "after": one.now}
            store.add_event(Event(AMENDED, text, figures | {"reason": reason}, at=time.time()))
    return texts


def changed(store: Store, config: Config) -> list[Difference]:
    """Return the settings that are neither as declared nor as amended."""
    origin = declared(store.events(kind=PROTOCOL))
    if origin is None:
        return []
    made = amendments(store.events(kind=AMENDED))
    return differences(in_force(origin.figures["record"], made), config)


def refuse(store: Store, found: Sequence[Difference], reason: str) -> None:
    """Refuse the changes that nothing allows, and all of them without a reason.

    Raises:
        ConfigError: on one line, with each setting, its declared and its new value.
    """
    texts = "; ".join(map(said, found))
    if store.test_accesses():
        raise ConfigError(
            f"campaign.toml changes the protocol after the locked test was opened: {texts}; "
            "put it back: what was tested stays as it was declared"
        )
    begun = bool(store.campaign().protocol)
    if fixed := [one for one in found if is_fixed(one, begun=begun)]:
        since = "`init`" if fixed[0].setting in AT_INIT else "the first `run`"
        raise ConfigError(
            f"campaign.toml changes what {since} fixed for good: {'; '.join(map(said, fixed))}; "
            "put it back, or start a new campaign with `init`"
        )
    if not reason:
        raise ConfigError(f"campaign.toml changes the declared protocol: {texts}; {GO_ON}")


def is_fixed(one: Difference, *, begun: bool) -> bool:
    """Tell whether a setting has had its effect, so that another value would change nothing."""
    return one.setting in AT_INIT or (begun and one.setting in AT_FIRST_RUN)


def said(one: Difference) -> str:
    """Return a change in words."""
    return f"{one.setting} is {one.now!r}, declared is {one.declared!r}"
