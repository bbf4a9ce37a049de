"""What one trial taught, in two sentences, by rule: what changed, and how and why the score moved.

A lesson cites its trial and carries its effect with a standard error. Of a log it holds an excerpt
without paths, times and names of cases. Trials of the search on search-val alone have one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from agent.briefing import is_open
from agent.clue_scores import case_clues, class_clues, read_table, worst_labels
from agent.clue_text import scrubbed, slugs
from agent.diagnosis import category_of, effect_key
from agent.evidence import Evidence
from agent.lesson_text import STOPPED, change, error, failure_words, listed
from agent.standings import Standings
from agent.suggestions import FAILURE, Clue, parse
from agent.wording import beside_baseline
from memory.records import Event, Figures, Lesson, SplitName, Status, Trial, short_id
from memory.store import Store

TITLE_CHARACTERS, EXCERPT_CHARACTERS = 160, 300
CLEAR = 2.0  # standard errors from which on a part of the cases stands out
TOLD = ("case.small", "case.large", "case.contrast")


class Ended(NamedTuple):
    """How a trial ended: the sentence, its kind of lesson, effect and standard error in Dice."""

    text: str
    kind: str
    effect: float | None = None
    se: float | None = None


def lesson_of(
    store: Store, trial: Trial, *, now: float, conditions: Figures | None = None
) -> Lesson | None:
    """Return the lesson of a finished trial of the search; None for any other.

    None also for one with scores that its baselines are not there yet to be compared with.

    Args:
        store: of the campaign.
        trial: any.
        now: seconds since the epoch.
        conditions: of the campaign's dataset, as in `Lesson.conditions`.
    """
    if trial.proposal is None or not is_open(trial) or not trial.status.is_final:
        return None
    names = names_of(store)
    end = ended(store, trial, names)
    if end is None:
        return None
    components = {module.component for module in store.proposal(trial.proposal).modules}
    return Lesson(
        id=made_id(trial),
        layer="trial",
        text=f"{changed(store, trial, names)} {end.text}",
        evidence=(trial.id,),
        effect=end.effect,
        effect_se=end.se,
        components=tuple(sorted(components)),
        at=now,
        kind=end.kind,
        conditions=conditions or {},
    )


def made_id(trial: Trial) -> str:
    """Return the identifier of a trial's lesson."""
    return short_id(["lesson", trial.id])


def names_of(store: Store) -> list[str]:
    """Return what no lesson may tell: names of cases and patients."""
    return sorted({name for case in store.split() for name in (case.case, case.patient)})


def changed(store: Store, trial: Trial, names: Sequence[str]) -> str:
    """Return what a trial's network has that its parent's had not, or what is new of the training."""
    assert trial.proposal is not None
    own = store.proposal(trial.proposal)
    title = scrubbed(trial.title or own.title, names=names, most=TITLE_CHARACTERS)
    source = store.trial(trial.parent) if trial.parent else None
    if source is not None and trial.commit and source.commit == trial.commit:
        return f"{title} was trained again{again(trial, source)}."
    if own.parent is None:
        return f"{title} is a new idea: {listed(own.modules)}."
    text = change(own.modules, store.proposal(own.parent).modules)
    category = category_of(own)
    follows = f", after a suggestion ({category})" if category else ""
    return f"{title} differs from its parent: it {text}{follows}."


def again(trial: Trial, source: Trial) -> str:
    """Return how the training of a network differs from the one before it."""
    parts = [f"at rung {trial.rung} after rung {source.rung}"] * (trial.rung != source.rung)
    parts += ["with another seed"] * (trial.seed != source.seed)
    is_smaller = trial.batch_size is not None and trial.batch_size != source.batch_size
    parts += [f"with batches of {trial.batch_size}"] * is_smaller
    return f" {', '.join(parts)}" if parts else ""


def ended(store: Store, trial: Trial, names: Sequence[str]) -> Ended | None:
    """Return how a trial ended; None where it cannot be compared yet."""
    excerpt = scrubbed(trial.failure_excerpt or "", names=names, most=EXCERPT_CHARACTERS)
    if trial.failure_class == STOPPED:
        return stopped(trial, store.events(kind="cut"), excerpt)
    if trial.status is not Status.OK:
        return Ended(failed(store, trial, excerpt), "failure")
    evidence = Standings(store).evidence(trial)
    if evidence is None:
        return None
    return Ended(moved(store, trial, evidence), "finding", evidence.delta, evidence.se)


def stopped(trial: Trial, cuts: Sequence[Event], excerpt: str) -> Ended:
    """Return the end of a training that was stopped at its checkpoint, with what it showed."""
    figures = next((e.figures for e in cuts if e.trial == trial.id), {})
    text = f"It was stopped in mid-training at rung {trial.rung}"
    end = f"{text}: {excerpt}" if excerpt else f"{text}."
    return Ended(end, "finding", figures.get("delta"), figures.get("se"))


def failed(store: Store, trial: Trial, excerpt: str) -> str:
    """Return how a trial failed, and the leading clue of its diagnosis or what it said."""
    how = f"It ended without scores at rung {trial.rung}, {failure_words(trial.failure_class)}"
    clue = diagnosed(store, trial)
    why = clue.text if clue is not None and not clue.key.startswith(FAILURE) else excerpt
    return f"{how}: {why}" if why else f"{how}."


def moved(store: Store, trial: Trial, evidence: Evidence) -> str:
    """Return an effect in words, and where it sits."""
    clue = diagnosed(store, trial) or leading(store, trial)
    why = clue.text if clue is not None else "no class and no size of case stands out"
    return (
        f"It ended {beside_baseline(evidence.delta)} at rung {trial.rung} (SE "
        f"{error(evidence.se)}, better with probability {evidence.p_better:.2f}): {why}."
    )


def diagnosed(store: Store, trial: Trial) -> Clue | None:
    """Return the clue that the first suggestion of a stored diagnosis rests on, if it is measured."""
    known = store.effect(effect_key(trial.id))
    if known is None:
        return None
    found = parse(store.event(int(known["event"])).figures)
    wanted = found.suggestions[0].clues[0]
    is_reading = wanted.startswith("audit.")  # a model's or our own view of the code
    return None if is_reading else next(one for one in found.clues if one.key == wanted)


def leading(store: Store, trial: Trial) -> Clue | None:
    """Return the class or size of case that differs most clearly; None where none stands out."""
    table = read_table(store, trial)
    keys = slugs(sorted({label for _, label in table.own.series if label}))
    found = [c for c in case_clues(table, store.split(SplitName.SEARCH_VAL)) if c.key in TOLD]
    for label in worst_labels(table, list(keys))[:1] if len(keys) > 1 else ():
        wanted = f"class.{keys[label]}.delta"
        found += [one for one in class_clues(table, label, keys[label]) if one.key == wanted]
    clear = max(found, key=clearness, default=None)
    return clear if clear is not None and clearness(clear) >= CLEAR else None


def clearness(clue: Clue) -> float:
    """Return a difference in standard errors, without its sign."""
    return abs(clue.value) / clue.se if clue.value is not None and clue.se else 0.0
