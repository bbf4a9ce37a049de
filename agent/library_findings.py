"""A campaign's lessons as figures: what it gives to the library, read from its store."""

from collections import Counter
from collections.abc import Mapping, Sequence

from agent.briefing import is_open
from agent.effect_model import Part, Parts
from agent.effects import ComponentRow, Knowledge
from agent.library import prior
from agent.library_entry import (
    CONDITIONS,
    KINDS,
    LEAST_SE,
    MOST_COUNT,
    MOST_FINDINGS,
    MOST_TRIALS,
    Entry,
    Finding,
    parse_finding,
    to_send,
)
from memory.errors import ConfigError
from memory.recall import readable
from memory.records import Figures, Lesson, Module, Trial
from memory.store import Store
from sandbox.failures import CLASSES


def entry_of(store: Store, knowledge: Knowledge, conditions: Figures) -> Entry:
    """Return what a campaign gives to the library.

    Its lessons are those of the layer campaign that rest on trials of the search alone; those on
    a class that a language model wrote stay at home, as no other campaign has it. The effect of a
    component is that of `knowledge`.

    Args:
        store: the campaign's store.
        knowledge: the campaign's own readings, without its prior.
        conditions: its dataset.
    """
    assert not set(knowledge.networks) & set(prior(store).networks), "a prior is not given again"
    campaign = store.campaign().id
    kept = {name: conditions[name] for name in CONDITIONS if name in conditions}
    rows = {row.component: row for row in knowledge.table(kept.get("traits", ()))}
    ids = [one.id for one in store.lessons("campaign") if one.kind in KINDS]
    found = [_finding(store, one, rows) for one in readable(store, ids)]
    findings = {(one.topic, one.parts): one for one in found if one is not None}
    ordered = tuple(findings[key] for key in sorted(findings))[:MOST_FINDINGS]
    return Entry(campaign, kept, to_send(knowledge, campaign), ordered)


def _finding(store: Store, lesson: Lesson, rows: Mapping[str, ComponentRow]) -> Finding | None:
    """Return a lesson as figures; None for one that says nothing to another campaign.

    A dead end without an effect is a failure: nobody has seen what its networks score.
    """
    trials = store.trials_by_id(lesson.evidence)
    if not all(map(is_open, trials)):
        return None
    effect, se, networks = lesson.effect, lesson.effect_se, _networks(trials)
    row = rows.get(lesson.components[0]) if len(lesson.components) == 1 else None
    if lesson.kind == "effect" and row is not None:
        effect, se, networks = row.mean, row.se, row.n
    kind = lesson.kind if effect is not None and se is not None else "failure"
    is_failure = kind == "failure"
    finding = Finding(
        kind=kind,
        parts=_parts(store, lesson, trials),
        effect=None if is_failure else effect,
        effect_se=None if is_failure else max(LEAST_SE, se or 0.0),
        networks=min(MOST_COUNT, networks),
        support=min(MOST_COUNT, lesson.support),
        contra=min(MOST_COUNT, lesson.contra),
        failure_class=_failure(trials) if is_failure else "",
        trials=tuple(trial.id for trial in trials[:MOST_TRIALS]),
    )
    return _allowed(finding)


def _allowed(finding: Finding) -> Finding | None:
    """Return a finding that the library takes; None for one on a class that is not ours."""
    try:
        return parse_finding(finding.plain())
    except ConfigError:
        return None


def _networks(trials: Sequence[Trial]) -> int:
    return len({trial.commit or trial.proposal for trial in trials})


def _failure(trials: Sequence[Trial]) -> str:
    """Return the class of failure that most trials have, the first by name of equal ones."""
    known = Counter(t.failure_class for t in trials if t.failure_class in CLASSES)
    return min(known, key=lambda name: (-known[name], str(name)), default=None) or ""


def _parts(store: Store, lesson: Lesson, trials: Sequence[Trial]) -> Parts:
    """Return the components of a lesson, each where all its trials have it, else at any place."""
    ideas = sorted({trial.proposal for trial in trials if trial.proposal})
    sets = [store.proposal(idea).modules for idea in ideas] if lesson.kind != "effect" else []
    return tuple(sorted(_part(name, sets) for name in set(lesson.components)))


def _part(component: str, sets: Sequence[tuple[Module, ...]]) -> Part:
    own = [[one for one in modules if one.component == component] for modules in sets]
    places = {tuple(sorted({one.position for one in modules})) for modules in own}
    if len(places) != 1 or len(place := places.pop()) != 1:
        return component, "", ()
    stages = {tuple(sorted({s for one in modules for s in one.stages})) for modules in own}
    return component, place[0], stages.pop() if len(stages) == 1 else ()
