"""What a campaign's store and its part of the library say of components, for a planner."""

from collections.abc import Sequence

from agent.beliefs import Link
from agent.component_effects import ComponentEffects, links_in, observed
from agent.conditions import conditions_now
from agent.effects import fit
from agent.library import prior
from agent.readings import Scored
from agent.session import Session
from agent.standings import Standings
from memory.store import Store


def effects_of(
    store: Store, session: Session, scored: Sequence[Scored], links: Sequence[Link] | None
) -> ComponentEffects:
    """Return what is known from scored trials of the search and the library of the campaign.

    Args:
        store: the campaign's; its card and library are read.
        session: the campaign's.
        scored: as `Standings.scored` returns them.
        links: those of the decision that is carried out, one for each rung below the last.
    """
    traits = frozenset(conditions_now(store, session)["traits"])
    told = observed(scored, links, store.campaign().id, session.last_rung, traits)
    return ComponentEffects(fit(told), prior(store), traits, store.dead_ends())


def effects_now(
    store: Store, session: Session, standings: Standings | None = None
) -> ComponentEffects:
    """Return what is known now, with the links of the latest decision that stored them."""
    scored = (standings or Standings(store)).scored()
    return effects_of(store, session, scored, latest_links(store))


def latest_links(store: Store) -> tuple[Link, ...] | None:
    """Return the links of the latest decision that stored them; None where there is none."""
    event = store.last_event_with("$.model.links")
    return links_in(event.figures) if event else None
