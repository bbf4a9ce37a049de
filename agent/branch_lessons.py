"""What a branch taught: its findings in their order, and its failures apart. Pure.

Made from the records of its trials and their lessons, the layer below. Each lesson cites its trials,
and takes the place of the one before it by its topic.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agent.ideas import plain_title
from agent.lesson_text import (
    STOPPED,
    bare_gain,
    change,
    class_word,
    failure_words,
    fitted,
    gain,
    listed,
    sealed,
)
from agent.wording import counted
from memory.records import Figures, Lesson, Module, Proposal, Status, Trial

Modules = tuple[Module, ...]


class Step(NamedTuple):
    """A finished trial of the search, its modules and those of its proposal's parent.

    `before` is None for a new idea. `effect` and `se` are those of its lesson, in Dice beside the
    baseline; None where it has none.
    """

    trial: Trial
    modules: Modules
    before: Modules | None
    effect: float | None
    se: float | None

    @property
    def is_scored(self) -> bool:
        """True when the trial ended with scores that were compared."""
        return self.trial.status is Status.OK and self.effect is not None

    @property
    def is_stopped(self) -> bool:
        """True when the training was stopped at its checkpoint."""
        return self.trial.failure_class == STOPPED

    @property
    def is_failed(self) -> bool:
        """True when the trial ended without scores and nobody stopped it."""
        return self.trial.status not in (Status.OK, Status.CANCELLED)

    @property
    def value(self) -> float:
        """The effect of a step that has one."""
        assert self.effect is not None
        return self.effect


def steps_of(
    trials: Iterable[Trial], proposals: Mapping[str, Proposal], lessons: Iterable[Lesson]
) -> list[Step]:
    """Return trials as steps, in the order in which they were planned.

    Args:
        trials: finished ones of the search; one without a proposal is passed over.
        proposals: by id; those of the trials and their parents among them.
        lessons: of trials; one that cites another number of them than one is passed over.
    """
    known = {one.evidence[0]: one for one in lessons if len(one.evidence) == 1}
    ordered = sorted(trials, key=lambda one: (one.planned_at or 0.0, one.id))
    found = []
    for trial in ordered:
        if trial.proposal is None:
            continue
        own, lesson = proposals[trial.proposal], known.get(trial.id)
        before = proposals[own.parent].modules if own.parent else None
        effect, se = (lesson.effect, lesson.effect_se) if lesson else (None, None)
        found.append(Step(trial, own.modules, before, effect, se))
    return found


def branch_lessons(
    branch: str, steps: Sequence[Step], *, conditions: Figures, now: float
) -> list[Lesson]:
    """Return the lessons of a branch: of what it found, and of what failed, each where there is any.

    Args:
        branch: its id.
        steps: its trials, as `steps_of` returns them.
        conditions: of the campaign's dataset.
        now: seconds since the epoch.
    """
    told = [one for one in steps if one.is_scored or one.is_stopped]
    failed = [one for one in steps if one.is_failed]
    found = []
    if told:
        found.append(_lesson(branch, "findings", told, findings(branch, told), conditions, now))
    if failed:
        text = failures(branch, failed, steps)
        found.append(_lesson(branch, "failures", failed, text, conditions, now))
    return found


def _lesson(
    branch: str, what: str, steps: Sequence[Step], text: str, conditions: Figures, now: float
) -> Lesson:
    best = best_of(steps)
    return sealed(
        Lesson(
            id="",
            layer="branch",
            text=text,
            evidence=tuple(one.trial.id for one in steps),
            effect=best.effect if best else None,
            effect_se=best.se if best else None,
            components=tuple(sorted({m.component for one in steps for m in one.modules})),
            at=now,
            kind="failure" if what == "failures" else "finding",
            conditions=conditions,
            support=len(steps),
            topic=f"branch/{branch}/{what}",
        )
    )


def best_of(steps: Iterable[Step]) -> Step | None:
    """Return the step with the largest effect at the highest rung that was reached."""
    scored = [one for one in steps if one.is_scored]
    return max(scored, key=lambda one: (one.trial.rung, one.value), default=None)


def findings(branch: str, steps: Sequence[Step]) -> str:
    """Return the history of a branch: each network, what its trials gave at which rung, the best."""
    networks: dict[str | None, list[Step]] = {}
    for one in steps:
        networks.setdefault(one.trial.proposal, []).append(one)
    entries = [f"{idea_words(own[0])}: {given(own)}" for own in networks.values()]
    best = best_of(steps)
    end = "None of its trials was compared." if best is None else best_words(best)
    keep = [] if best is None else [list(networks).index(best.trial.proposal)]
    start = f"Branch {branch}, in points of Dice beside the baseline:"
    return fitted(start, entries, end, keep=keep)


def idea_words(step: Step) -> str:
    """Return what a network has that its parent's has not."""
    if step.before is None:
        return f"begins with {listed(step.modules)}"
    return change(step.modules, step.before)


def given(steps: Iterable[Step]) -> str:
    """Return what the trials of a network gave, e.g. '+0.6 (SE 0.4) at rung 0, stopped at rung 1'."""
    return ", ".join(
        f"stopped at rung {one.trial.rung}"
        if one.effect is None or one.is_stopped
        else f"{bare_gain(one.effect, one.se)} at rung {one.trial.rung}"
        for one in steps
    )


def best_words(step: Step) -> str:
    """Return the best of a branch in one sentence."""
    title = plain_title(step.modules)
    return f"Best so far: {title}, {gain(step.value, step.se)} at rung {step.trial.rung}."


def failures(branch: str, failed: Sequence[Step], steps: Sequence[Step]) -> str:
    """Return the failures of a branch by class, and what was changed against each."""
    classes = Counter(one.trial.failure_class for one in failed)
    entries = []
    for kind, count in classes.most_common():
        own = [one for one in failed if one.trial.failure_class == kind]
        tried = dict.fromkeys(text for one in own for text in against(one, steps))
        answer = ", ".join(tried) or "nothing was tried against it"
        what = (
            f"{counted(count, 'time')} {failure_words(kind)}, first with {listed(own[0].modules)}"
        )
        entries.append(f"{what}: {answer}")
    start = f"Branch {branch}, {counted(len(failed), 'trial')} without scores:"
    return fitted(start, entries, "")


def against(step: Step, steps: Sequence[Step]) -> list[str]:
    """Return what was changed against a failure, and how that ended."""
    tries = [one for one in steps if one.trial.parent == step.trial.id]
    return [f"the next network {how(one, step)}, and {end_words(one)}" for one in tries]


def how(step: Step, failed: Step) -> str:
    """Return what a trial after a failure has that the failed one had not."""
    if step.trial.batch_size != failed.trial.batch_size:
        return f"was trained with batches of {step.trial.batch_size}"
    if step.modules == failed.modules:
        return "keeps its modules and mends their code"
    return change(step.modules, failed.modules)


def end_words(step: Step) -> str:
    """Return how a trial after a failure ended, in a word or two."""
    if step.is_failed:
        return f"failed ({class_word(step.trial.failure_class)})"
    return "was stopped" if step.trial.status is Status.CANCELLED else "trained"
