"""`segwright run`: one command that starts a campaign, or goes on with it after anything.

Everything that is decided once (device, plan, iterations of each rung) is decided here and
kept in the campaign's protocol; a second start reads it from there.
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.amendments import amend, permitted
from agent.budget import START, left, spent
from agent.campaign import Campaign, Notify
from agent.config import BudgetConfig, Config, load_config
from agent.confirm import confirm
from agent.endpoint import doze
from agent.heritage import hand_on, take_over
from agent.llm_planner import room_of
from agent.manuscript import write_manuscript
from agent.manuscript_sections import SECTIONS
from agent.margins import settle, warning
from agent.meaning import embedder_of
from agent.opening import open_store
from agent.planners import make_model, make_planner
from agent.preparation import make_session
from agent.reflection import conclude as end_of_search
from agent.session import Session
from agent.stage import FINALISTS, PLAN, select
from memory.errors import SegwrightError
from memory.records import Event, Figures
from memory.store import Store

if TYPE_CHECKING:
    from agent.llm import Client


class Ended(NamedTuple):
    """How a run ended: done, stopped, spent or unplanned (`TEXTS`); `report` the files written."""

    state: str
    report: list[Path]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the campaign for this process.

    Raises:
        SegwrightError: another `run` has it.
    """
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SegwrightError(f"another `segwright run` is at work on {folder}") from None
        yield


def run(
    folder: Path,
    budget: BudgetConfig | None,
    *,
    notify: Notify,
    unsafe_reason: str = "",
    may_weaken: bool = False,
    amend_reason: str = "",
    accepts_low_power: bool = False,
    replay: Path | None = None,
) -> Ended:
    """Run a campaign until it is done, its budget is spent, or it is stopped.

    `unsafe_reason` lets generated code run without isolation, `may_weaken` under a weaker one
    than the campaign began with, `amend_reason` under other rules than were declared, and
    `accepts_low_power` with a margin below what can be detected; all are kept for good. `replay`
    is a campaign.db whose language model's replies are used again.

    Raises:
        SegwrightError: something that the user must mend; what was done is kept.
    """
    folder = folder.resolve()
    config = load_config(folder / "campaign.toml")
    config = replace(config, budget=budget or config.budget)
    with alone(folder), open_store(folder) as store:
        changes = permitted(store, config, reason=amend_reason)
        store.add_event(Event(START, "started", {"budget": plain_budget(config)}, at=time.time()))
        tell(notify, amend(store, changes, amend_reason))
        tell(notify, [] if accepts_low_power else warning(store, config))
        model = make_model(
            config, partial(Store.open, store.path), pause=doze, now=time.time, replay=replay
        )
        store.set_state("running")
        try:
            session = make_session(
                folder, config, store, notify, unsafe_reason=unsafe_reason, may_weaken=may_weaken
            )
            notify("ready", {"session": session})
            take_over(session, store)
            state = drive(session, notify, accepts_low_power=accepts_low_power, model=model)
            tell(notify, hand_on(session, store))
            if state == "done" and model is not None and config.llm.manuscript:
                tell(notify, write_text(session, store, model))
        except BaseException:
            store.set_state("stopped")
            raise
        store.set_state("done" if state == "done" else "stopped")
        store.add_event(Event(state, TEXTS[state], {}, at=time.time()))
    return Ended(state, write_reports(folder))


TEXTS = {
    "done": "confirmed, or found nothing to confirm",
    "spent": "the budget ended before the confirmation",
    "stopped": "stopped by the user",
    "unplanned": "nobody proposed a network, so there was none to confirm",
}


def write_text(session: Session, store: Store, model: "Client") -> list[str]:
    """Have the model write the manuscript's sections, within what is left of the budget.

    Returns:
        What the user is told.
    """
    used = spent(store.events(), store.trials(), store.llm_calls(), now=session.now)
    model.deadline = session.now + max(0.0, left(session.config.budget, used).seconds)
    sections = write_manuscript(store, session, model, room=room_of(session, "writer"))
    own = [SECTIONS[one.section].title for one in sections if one.text]
    if not own:
        return ["the manuscript has fixed sentences alone: no text of the language model stands"]
    return [f"sections of the manuscript in the language model's words: {', '.join(own)}"]


def tell(notify: Notify, texts: list[str]) -> None:
    """Say what the user must not miss."""
    for text in texts:
        notify("note", {"text": text})


def plain_budget(config: Config) -> Figures:
    """Return the budget as an event keeps it."""
    own = config.budget
    return {"hours": own.hours, "gpu_hours": own.gpu_hours, "usd": own.usd, "trials": own.trials}


def write_reports(folder: Path) -> list[Path]:
    """Write the report of whatever the store holds."""
    from agent.report import write_report

    return write_report(folder)


def drive(
    session: Session,
    notify: Notify,
    *,
    accepts_low_power: bool = False,
    model: "Client | None" = None,
) -> str:
    """Train baselines, search, confirm; return done, spent, stopped or unplanned.

    `model` is from `agent.planners.make_model`.

    Raises:
        SegwrightError: nothing can be compared, or `agent.margins.settle` refuses the margin.
    """
    campaign = Campaign(session, make_planner(session, model), notify, model)
    try:
        campaign.resume()
        campaign.baselines()
        settle_margin(campaign, accepts=accepts_low_power)
        end_planning(campaign, model)
        if campaign.store.effect(PLAN) is None and campaign.store.effect(FINALISTS) is None:
            campaign.search()
            campaign.drain()
            campaign.compare_smaller()
            campaign.drain()
            end_search(campaign, model)
        return conclude(campaign)
    except BaseException:
        session.stopping.set()
        raise
    finally:
        campaign.close()


def end_search(campaign: Campaign, model: "Client | None") -> None:
    """Write down what the search taught, with the model's words where there is one.

    A user who stops waits for nobody: the next run asks.
    """
    session = campaign.session
    model = None if session.stopping.is_set() else model
    room = 0 if model is None else room_of(session, "diagnostician")
    end_of_search(
        campaign.store,
        session,
        knowledge=campaign.known,
        model=model,
        room=room,
        embedder=embedder_of(session.config),
    )


def conclude(campaign: Campaign) -> str:
    """Choose the finalists and confirm them; return how the run ended."""
    stopping = campaign.session.stopping
    if not stopping.is_set() and not may_confirm(campaign):
        return "spent"
    select(campaign)
    if stopping.is_set():
        return "stopped"
    campaign.notify("confirming", {})
    if confirm(campaign):
        return "done"
    return "unplanned" if campaign.has_given_up else "spent"


def end_planning(campaign: Campaign, model: "Client | None") -> None:
    """Have the language model asked no longer than the search may last."""
    if model is not None:
        left = campaign.left().seconds
        kept = campaign.confirm_s() + campaign.selection_s() + campaign.ablation_s()
        model.deadline = campaign.session.now + max(0.0, left - kept)


def settle_margin(campaign: Campaign, *, accepts: bool) -> None:
    """Fix the gain that counts, from what the baselines show, and say it."""
    session = campaign.session
    texts = settle(campaign.store, session.config, session.last_rung, accepts=accepts)
    tell(campaign.notify, texts)


def may_confirm(campaign: Campaign) -> bool:
    """Tell whether the time left can hold at least half of what confirmation should take."""
    if campaign.store.effect(FINALISTS) is not None:
        return True
    return campaign.left().seconds >= campaign.confirm_s() / 2
