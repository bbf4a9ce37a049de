"""Reflection: the lessons of a campaign, written to its store and kept up to date.

After a trial of the search: its own lesson, those of its branch, and those of the campaign once the
trials that ended have grown by a quarter. Rules write the figures; where a model is asked (when a
branch is closed and when the search ends), its words follow them (`agent/lesson_words.py`). What
runs twice writes the same rows: a lesson's id is a hash of what it says, and words are kept beside
the lesson that they explain. Trials of the search on search-val alone are read, through the view
that hides all others.
"""

from collections.abc import Callable, Iterable, Sequence
from math import ceil

from agent.branch_lessons import Step, branch_lessons, steps_of
from agent.briefing import is_open
from agent.campaign_lessons import campaign_lessons
from agent.conditions import conditions_now
from agent.effects import Knowledge
from agent.lesson_words import explain, worded
from agent.llm import Model
from agent.margins import search_margin
from agent.reflect import lesson_of, made_id
from agent.session import Session
from memory.embedder import Embedder
from memory.recall import readable
from memory.records import Kind, Lesson, Proposal, Status, Trial
from memory.store import Store

GROWTH = 1.25
FEW = 50  # as many proposals are read one by one
REFLECTED, CLOSED = "reflected", "closed"
Known = Callable[[], Knowledge]
"""Returns what components do by this campaign's own trials; called only when it is needed."""


def reflect(
    store: Store,
    session: Session,
    trial: Trial,
    *,
    knowledge: Known,
    embedder: Embedder | None = None,
) -> Lesson | None:
    """Keep what a finished trial taught, and bring the layers above up to date; idempotent.

    Args:
        store: of the campaign, of the calling thread.
        session: of the campaign.
        trial: any; for one that is none of the search nothing is written.
        knowledge: from this campaign's trials alone, read from the same store.
        embedder: gives new lessons a vector; None: they are found by words.

    Returns:
        The trial's lesson; None where it has none, or none yet.
    """
    if trial.proposal is None or not is_open(trial) or not trial.status.is_final:
        return None
    conditions = conditions_now(store, session)
    with store.transaction():
        lesson = lesson_of(store, trial, now=session.now, conditions=conditions)
        if lesson is None:
            return None
        for one in rejected_before(store, trial):
            if (
                earlier := lesson_of(store, one, now=session.now, conditions=conditions)
            ) is not None:
                store.add_lesson(earlier)
        store.add_lesson(lesson)
        keep(store, branch_rules(store, session, trial.branch))
    key = f"{REFLECTED}/{threshold(ended(store))}"
    if store.effect(key) is None:
        reflect_on_campaign(store, session, knowledge)
        store.set_effect(key, {"trial": trial.id})
    _embed(store, embedder)
    return lesson


def rejected_before(store: Store, trial: Trial) -> list[Trial]:
    """Return the networks that failed their dry run and led to this trial by repairs, oldest first.

    One decision writes them all, and reflects on its last trial alone.
    """
    found: list[Trial] = []
    while trial.kind is Kind.REPAIR and trial.parent:
        trial = store.trial(trial.parent)
        if trial.status is not Status.REJECTED:
            break
        found.insert(0, trial)
    return found


def close_branch(
    store: Store,
    session: Session,
    branch: str,
    *,
    model: Model | None = None,
    room: int = 0,
    embedder: Embedder | None = None,
) -> None:
    """Bring the lessons of a branch that is closed up to date, with the model's words if there is one.

    `room` are the tokens of its prompt, 0 for no limit. A model that is lost or unfit is written
    down as an event, and the rules' text stays.
    """
    rules = branch_rules(store, session, branch)
    keep(store, rules)
    explain(store, session, rules, scope=f"branch/{branch}", model=model, room=room)
    keep(store, rules)
    _embed(store, embedder)


def close_branches(
    store: Store, session: Session, trial: Trial, *, model: Model, room: int = 0
) -> None:
    """Have a model explain the branches that were cut, each once, in the thread of some trial."""
    for branch in store.branches():
        key = f"{CLOSED}/{branch.id}"
        if branch.state != "cut" or store.effect(key) is not None:
            continue
        if store.set_effect(key, {"trial": trial.id}) == {"trial": trial.id}:
            close_branch(store, session, branch.id, model=model, room=room)


def conclude(
    store: Store,
    session: Session,
    *,
    knowledge: Known,
    model: Model | None = None,
    room: int = 0,
    embedder: Embedder | None = None,
) -> None:
    """Bring the lessons of the campaign up to date when its search ends; see `close_branch`."""
    rules = reflect_on_campaign(store, session, knowledge)
    explain(store, session, rules, scope="campaign", model=model, room=room)
    keep(store, rules)
    _embed(store, embedder)


def reflect_on_campaign(store: Store, session: Session, knowledge: Known) -> list[Lesson]:
    """Keep the campaign's lessons as of now, and return them as the rules write them."""
    rules = campaign_rules(store, session, knowledge())
    keep(store, rules)
    return rules


def keep(store: Store, rules: Iterable[Lesson]) -> None:
    """Keep lessons, each with the words that explain it, in the place of those of their topics."""
    with store.transaction():
        for lesson in rules:
            store.add_lesson(worded(store, lesson))


def branch_rules(store: Store, session: Session, branch: str | None) -> list[Lesson]:
    """Return a branch's lessons as the rules write them; nothing is kept but the conditions."""
    if branch is None:
        return []
    steps = read_steps(store, store.trials(branch=branch))
    return branch_lessons(branch, steps, conditions=conditions_now(store, session), now=session.now)


def campaign_rules(store: Store, session: Session, knowledge: Knowledge) -> list[Lesson]:
    """Return the campaign's lessons as the rules write them; nothing is kept but the conditions."""
    return campaign_lessons(
        knowledge,
        read_steps(store, store.trials()),
        {one.topic: one.kind for one in store.lessons("campaign")},
        margin=search_margin(store, session.config),
        conditions=conditions_now(store, session),
        now=session.now,
    )


def read_steps(store: Store, trials: Sequence[Trial]) -> list[Step]:
    """Return those of some trials that the search may tell, with their proposals and lessons."""
    own = [one for one in trials if one.proposal and is_open(one) and one.status.is_final]
    lessons = readable(store, [made_id(one) for one in own])
    return steps_of(own, read_proposals(store, own), lessons)


def read_proposals(store: Store, trials: Iterable[Trial]) -> dict[str, Proposal]:
    """Return the proposals of some trials and the parents of these, by id; few one by one."""
    wanted = {one.proposal for one in trials if one.proposal}
    if len(wanted) > FEW:
        return {one.id: one for one in store.proposals()}
    found = {one: store.proposal(one) for one in wanted}
    parents = {one.parent for one in found.values() if one.parent}
    return found | {one: store.proposal(one) for one in parents - found.keys()}


def ended(store: Store) -> int:
    """Return how many trials ended, baselines left out; few others than the search's are among them."""
    baselines = sum(one.status.is_final for one in store.trials(kind=Kind.BASELINE))
    return store.count_events(("trial_result",)) - baselines


def threshold(count: int) -> int:
    """Return the largest number up to `count` of 1, 2, 3, 4, 5, 7, 9, 12, …: each a quarter more."""
    reached, following = 1, 2
    while following <= count:
        reached, following = following, max(following + 1, ceil(GROWTH * following))
    return reached


def _embed(store: Store, embedder: Embedder | None) -> None:
    if embedder is not None:
        from memory.vectors import embed_lessons  # here, as it brings numpy

        embed_lessons(store, embedder)
