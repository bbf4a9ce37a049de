"""Figures of campaigns as lessons of the layer library: one for a subject, with who disputes it. Pure.

A subject is a component's effect, a dead end or a class of failure of the same components. Effects
of several campaigns are pooled by precision, each times the closeness of its dataset; the error
grows by the square root of chi-square over its degrees of freedom where that is above 1 (Birge
1932, doi:10.1103/PhysRev.40.207), so that campaigns that disagree make a pooled effect less sure.

A lesson counts its campaigns' trials for and against it: those of a campaign whose effect lies
beyond its error on the other side change sides, and those of one within its error say nothing
beside others. `memory.ranking.weight` then weakens what is disputed. Every word is a template's.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from agent.conditions import OTHER
from agent.effect_model import Part
from agent.library_entry import COUNTS, Entry, Finding
from agent.motivation import where
from agent.wording import bare_points, counted
from memory.ranking import closeness
from memory.records import Figures, Lesson, Module, short_id
from sandbox.components import VOLUMES
from sandbox.failures import CLASSES
from sandbox.placement import WITHOUT_STAGES

MOST_TOLD = 3  # datasets named in a text
MOST_EVIDENCE = 60


class Seen(NamedTuple):
    """A finding, whose it is, on what it was made, and in (0, 1] how close that is to today's."""

    campaign: str
    conditions: Figures
    finding: Finding
    share: float

    @property
    def precision(self) -> float:
        """What it weighs beside others, in Dice^-2; 0 without an effect."""
        se = self.finding.effect_se
        return self.share / se**2 if se else 0.0

    @property
    def side(self) -> int:
        """1 for a gain beyond its error, -1 for a loss and for a dead end, else 0."""
        effect, se = self.finding.effect, self.finding.effect_se
        if self.finding.kind != "effect":
            return -1
        return 0 if effect is None or se is None or abs(effect) <= se else _sign(effect)


class Count(NamedTuple):
    """Trials for and against a lesson, and campaigns against it and in all."""

    support: int
    contra: int
    against: int
    campaigns: int


def lessons_of(entries: Iterable[Entry], *, now: Figures, at: float) -> list[Lesson]:
    """Return what campaigns learnt as lessons, by topic; the order of the entries is of no matter.

    Evidence is CAMPAIGN/TRIAL, the strongest campaign's first; `source` is that campaign.

    Args:
        entries: of other campaigns, each once.
        now: conditions of the dataset at hand; without any, all datasets count the same.
        at: the time of the lessons, in seconds since the epoch.
    """
    groups = defaultdict[str, list[Seen]](list)
    for entry in sorted(entries, key=lambda one: one.campaign):
        share = closeness(entry.conditions, now) if now else 1.0
        for finding in entry.findings:
            seen = Seen(entry.campaign, entry.conditions, finding, share)
            groups[finding.topic].append(seen)
    return [_lesson(topic, groups, at) for topic in sorted(groups)]


def words(conditions: Figures) -> str:
    """Return conditions as text, e.g. 'MR, 3D, small objects, 40 cases'."""
    seen = conditions.get("modality")
    parts = ["neither CT nor MR" if seen == OTHER else str(seen)] if seen else []
    parts += [f"{conditions['dims']}D"] if "dims" in conditions else []
    traits = (name for name in conditions.get("traits", ()) if name != VOLUMES)
    parts += [str(name).replace("_", " ") for name in traits]
    parts += [counted(conditions["cases"], "case")] if "cases" in conditions else []
    if "iterations" in conditions:
        parts += [f"trainings of {counted(conditions['iterations'], 'iteration')}"]
    return ", ".join(parts) or "an unknown dataset"


def common(members: Sequence[Seen]) -> Figures:
    """Return the conditions that all have: equal ones, shared traits, the middle of counts."""
    first, *others = [one.conditions for one in members]
    same: Figures = {
        name: first[name]
        for name in ("modality", "dims", "classes")
        if name in first and all(one.get(name) == first[name] for one in others)
    }
    if all("traits" in one for one in (first, *others)):
        shared = set(first["traits"]).intersection(*(one["traits"] for one in others))
        same["traits"] = sorted(shared)
    for name in ("cases", "iterations"):
        if all(name in one for one in (first, *others)):
            middle = math.fsum(math.log(one[name]) for one in (first, *others)) / len(members)
            same[name] = min(COUNTS[name][1], round(math.exp(middle)))
    return same


def pooled(members: Sequence[Seen]) -> tuple[float, float] | None:
    """Return the mean effect and its standard error in Dice, or None where nobody has one."""
    known = [(one.finding.effect or 0.0, one.precision) for one in members if one.precision]
    if not known:
        return None
    total = math.fsum(weight for _, weight in known)
    mean = math.fsum(weight * effect for effect, weight in known) / total
    chi = math.fsum(weight * (effect - mean) ** 2 for effect, weight in known)
    apart = chi / (len(known) - 1) if len(known) > 1 else 1.0
    return mean, math.sqrt(max(1.0, apart) / total)


def _lesson(topic: str, groups: dict[str, list[Seen]], at: float) -> Lesson:
    members = sorted(groups[topic], key=_strength)
    first, effect = members[0].finding, pooled(members)
    side = members[0].side
    if first.kind == "effect" and effect:
        side = _sign(effect[0]) or side
    count = _count(members, _others(members, groups), side)
    text = _text(members, effect, count)
    mean, se = effect or (None, None)
    told = Lesson(
        id="",
        layer="library",
        text=text,
        evidence=_evidence(members),
        effect=mean,
        effect_se=se,
        components=first.components,
        at=at,
        kind=first.kind,
        conditions=common(members),
        support=count.support,
        contra=count.contra,
        source=members[0].campaign,
        topic=topic,
    )
    return _named(told)


def _named(told: Lesson) -> Lesson:
    content = {name: value for name, value in asdict(told).items() if name not in ("id", "at")}
    return replace(told, id=short_id(["library", content]))


def _strength(one: Seen) -> tuple[float, float, str, str]:
    """Order the strongest first: by precision, then by trials, then by id."""
    heavy = one.finding.support * one.share
    return -one.precision, -heavy, one.campaign, str(one.finding.parts)


def _others(members: Sequence[Seen], groups: dict[str, list[Seen]]) -> list[Seen]:
    """Return what other campaigns found on the same components under another kind."""
    own, first = {one.campaign for one in members}, members[0].finding
    if first.kind == "failure":
        return []
    other = "dead_end" if first.kind == "effect" else "effect"
    topic = f"{other}/{'+'.join(first.components)}"
    return [one for one in groups.get(topic, ()) if one.campaign not in own]


def _count(members: Sequence[Seen], others: Sequence[Seen], side: int) -> Count:
    """Count trials and campaigns; `side` is what the lesson says, 1 a gain, -1 a loss."""
    support = contra = 0
    against: set[str] = set()
    for place, one in enumerate([*members, *others]):
        if not one.side and place:
            continue
        agrees = one.side * side >= 0
        support += one.finding.support if agrees else one.finding.contra
        contra += one.finding.contra if agrees else one.finding.support
        against |= set() if agrees else {one.campaign}
    return Count(support, contra, len(against), len({one.campaign for one in (*members, *others)}))


def _text(members: Sequence[Seen], effect: tuple[float, float] | None, count: Count) -> str:
    first = members[0].finding
    networks = sum(one.finding.networks for one in members)
    campaigns = len({one.campaign for one in members})
    told = f"{counted(networks, 'network')} of {counted(campaigns, 'campaign')}"
    size = f"{_points(effect[0])} (SE {bare_points(effect[1])})" if effect else ""
    if first.kind == "effect":
        said = f"{size} points of Dice beside the baseline"
    elif first.kind == "dead_end":
        said = f"a dead end, {size} points of Dice beside the baseline"
    else:
        said = f"failed as {first.failure_class}: {CLASSES[first.failure_class]}"
    text = f"{_subject(members)}: {said}; {told}, on {_places(members)}."
    if first.kind == "failure":
        text += " It says nothing about the idea."
    return text + _dispute(count)


def _dispute(count: Count) -> str:
    if not count.against:
        return ""
    return (
        f" Disputed: {count.against} of {counted(count.campaigns, 'campaign')} found the opposite."
    )


def _subject(members: Sequence[Seen]) -> str:
    """Return the components, with their places where all findings have the same ones."""
    first = members[0].finding
    if all(one.finding.parts == first.parts for one in members):
        told = [_placed(part) for part in first.parts]
    else:
        told = list(first.components)
    return " + ".join(told) or "networks of any kind"


def _placed(part: Part) -> str:
    name, position, stages = part
    if position and not stages and position not in WITHOUT_STAGES:
        return f"{name} ({position})"
    return f"{name} {where(Module(*part))}" if position else name


def _places(members: Sequence[Seen]) -> str:
    told = list(dict.fromkeys(words(one.conditions) for one in members))
    more = len(told) - MOST_TOLD
    end = [counted(more, "other dataset")] if more > 0 else []
    return "; ".join([*told[:MOST_TOLD], *end])


def _points(dice: float) -> str:
    return f"{'+' if dice >= 0 else '-'}{bare_points(dice)}"


def _evidence(members: Sequence[Seen]) -> tuple[str, ...]:
    """Return trials of every campaign, as many of each, the strongest's first."""
    share = max(1, MOST_EVIDENCE // len(members))
    found = (f"{one.campaign}/{trial}" for one in members for trial in one.finding.trials[:share])
    return tuple(dict.fromkeys(found))


def _sign(value: float) -> int:
    return 1 if value > 0 else -1 if value < 0 else 0
