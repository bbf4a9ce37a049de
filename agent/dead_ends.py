"""Dead ends of a campaign: sets of components and positions that came to nothing. Pure.

A set is one when two of its trials or more failed with the same class and none ended with scores,
or when its chance to be better than the baseline by the margin is below LEAST after two trials or
more. The chance is that of a normal distribution with the mean effect of the trials at the highest
rung and the root of the mean of their squared standard errors: they share their cases and their
baselines, so that more trials do not make it narrower. One that is none any more is told so.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from agent.branch_lessons import Step
from agent.evidence import normal_tail
from agent.lesson_text import component_words, failure_words, gain, joined, sealed
from agent.wording import bare_points, chance_below, counted
from memory.records import Figures, Lesson, short_id

TWICE = 2
LEAST = 0.05
DEAD_END = "dead_end/"

Set = tuple[tuple[str, str], ...]
"""Components with their positions, sorted."""


class Verdict(NamedTuple):
    """What is said of a set: its words, the trials cited, for and against, effect and SE in Dice."""

    text: str
    cited: list[Step]
    contra: int = 0
    effect: float | None = None
    se: float | None = None


def dead_ends(
    steps: Sequence[Step],
    told: Mapping[str, str],
    *,
    margin: float,
    conditions: Figures,
    now: float,
) -> list[Lesson]:
    """Return a lesson of each dead end, and of each that is told and is none any more.

    Args:
        steps: all trials of the search.
        told: the kind of each lesson of the campaign that is told now, by its topic.
        margin: the gain in Dice that counts.
        conditions: of the dataset.
        now: seconds since the epoch.
    """
    groups: dict[Set, list[Step]] = {}
    for step in steps:
        groups.setdefault(set_of(step), []).append(step)
    found = []
    for parts, own in groups.items():
        topic = topic_of(parts)
        verdict = failed(parts, own) or poor(parts, own, margin)
        kind = "dead_end"
        if verdict is None and topic in told:
            verdict, kind = reopened(parts, own), "finding"
        if verdict is not None and parts:
            found.append(_lesson(topic, kind, parts, verdict, conditions, now))
    return found


def set_of(step: Step) -> Set:
    """Return the components of a network with their positions, whatever the stages."""
    return tuple(sorted({(module.component, module.position) for module in step.modules}))


def topic_of(parts: Set) -> str:
    """Return the topic of a set's lesson."""
    return DEAD_END + short_id([list(part) for part in parts])


def set_words(parts: Set) -> str:
    """Return a set in words, e.g. 'attention gates (skip) and blur pooling (downsample)'."""
    return joined([f"{component_words(name)} ({place})" for name, place in parts])


def failed(parts: Set, steps: Sequence[Step]) -> Verdict | None:
    """Return the verdict on a set that failed twice or more in one way and never had a score."""
    classes = Counter(step.trial.failure_class for step in steps if step.is_failed)
    if not classes or any(step.is_scored for step in steps):
        return None
    (kind, count), *_ = sorted(classes.items(), key=lambda item: (-item[1], str(item[0])))
    if count < TWICE:
        return None
    own = [step for step in steps if step.is_failed and step.trial.failure_class == kind]
    times = f"{counted(count, 'trial')} ended as {failure_words(kind)}"
    return Verdict(f"Dead end: {set_words(parts)}. {times}, and none with scores.", own)


def poor(parts: Set, steps: Sequence[Step], margin: float) -> Verdict | None:
    """Return the verdict on a set that has hardly a chance left to gain the margin."""
    scored = [step for step in steps if step.is_scored and step.se is not None]
    if len(scored) < TWICE:
        return None
    top = max(step.trial.rung for step in scored)
    own = [step for step in scored if step.trial.rung == top]
    mean, se = fmean(step.value for step in own), math.sqrt(fmean((s.se or 0.0) ** 2 for s in own))
    p = normal_tail(mean - margin, se)
    if p >= LEAST:
        return None
    size = f"{gain(mean, se)} at rung {top} ({counted(len(scored), 'trial')} in all)"
    rest = f"its chance to gain {bare_points(margin)} points is {chance_below(p, LEAST)}"
    contra = sum(step.value >= margin for step in scored)
    return Verdict(f"Dead end: {set_words(parts)}. {size}; {rest}.", scored, contra, mean, se)


def reopened(parts: Set, steps: Sequence[Step]) -> Verdict:
    """Return the verdict on a set that was a dead end before its later trials."""
    scored = [step for step in steps if step.is_scored]
    best = max(scored, key=lambda step: (step.trial.rung, step.value), default=None)
    text = f"No dead end any more: {set_words(parts)}."
    if best is None:
        return Verdict(text, list(steps))
    told = f" Its best trial gave {gain(best.value, best.se)} at rung {best.trial.rung}."
    return Verdict(text + told, scored, 0, best.effect, best.se)


def _lesson(
    topic: str, kind: str, parts: Set, verdict: Verdict, conditions: Figures, now: float
) -> Lesson:
    return sealed(
        Lesson(
            id="",
            layer="campaign",
            text=verdict.text,
            evidence=tuple(step.trial.id for step in verdict.cited),
            effect=verdict.effect,
            effect_se=verdict.se,
            components=tuple(sorted({name for name, _ in parts})),
            at=now,
            kind=kind,
            conditions=conditions,
            support=len(verdict.cited) - verdict.contra,
            contra=verdict.contra,
            topic=topic,
        )
    )
