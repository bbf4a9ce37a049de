"""What a report tells of the campaign's lessons: which ones, in which order and form. Pure.

A lesson is told where each trial that it cites is one of the search on search-val. Four groups (what
raised Dice, what lowered it, dead ends, open questions) take turns at MOST places, so that many
dead ends leave room for the effects; in a group the best founded come first: by the weight of their
evidence, then by their effects in standard errors.
"""

from dataclasses import dataclass
from typing import NamedTuple

from agent.briefing import is_open
from agent.campaign_lessons import EFFECT, FEWEST
from agent.dead_ends import DEAD_END
from agent.formats import slug
from agent.heritage import KIND
from agent.lesson_words import SAID
from agent.report_rows import Rows
from agent.rule_facts import last_event
from agent.wording import spelt
from memory.ranking import weight
from memory.records import Lesson, Trial

MOST = 8
KINDS = ("effect", "dead_end", "question", "finding")
RAISED, LOWERED, DEAD, OPEN = "raised", "lowered", "dead ends", "open questions"
GROUPS = (RAISED, LOWERED, DEAD, OPEN)
FORMS = {
    "raised": RAISED,
    "lowered": LOWERED,
    "poor": DEAD,
    "failed": DEAD,
    "question": OPEN,
    "undecided": OPEN,
    "reopened": OPEN,
}


class Told(NamedTuple):
    """A lesson that is told, the form of its sentence (of FORMS), and the trials that it cites."""

    lesson: Lesson
    form: str
    trials: tuple[Trial, ...]

    @property
    def key(self) -> str:
        """The prefix of its facts."""
        return f"lesson.{slug(self.lesson.id)}"


class LessonView(NamedTuple):
    """A sentence: the prefix of its facts, its form, and the prefixes of its trials' facts."""

    key: str
    form: str
    trials: tuple[str, ...]


class GroupView(NamedTuple):
    """Sentences of one group, of GROUPS."""

    name: str
    lessons: tuple[LessonView, ...]


@dataclass(frozen=True)
class LearntView:
    """What the section "What was learnt" walks over.

    `fewest` is the number of networks, as a word, from which on an effect is told as known;
    `has_readings` is set where the words of a language model are quoted.
    """

    is_inherited: bool
    has_lessons: bool
    has_effects: bool
    has_more: bool
    has_readings: bool
    fewest: str
    groups: tuple[GroupView, ...]


def build_learnt_view(rows: Rows) -> LearntView:
    """Return what the templates walk over, from the rows."""
    chosen = told(rows)
    return LearntView(
        is_inherited=last_event(rows, KIND) is not None,
        has_lessons=bool(known(rows)),
        has_effects=any(one.kind == "effect" for one in known(rows)),
        has_more=len(chosen) < len(known(rows)),
        has_readings=any(reading(one.lesson) for one in chosen),
        fewest=spelt(FEWEST),
        groups=tuple(
            GroupView(name, own)
            for name in GROUPS
            if (own := tuple(_view(one) for one in chosen if FORMS[one.form] == name))
        ),
    )


def _view(one: Told) -> LessonView:
    return LessonView(one.key, one.form, tuple(f"trial.{trial.id}" for trial in one.trials))


def told(rows: Rows) -> list[Told]:
    """Return the lessons that are told, by group, the best founded of each first."""
    places = dict.fromkeys(GROUPS, 0)
    found = []
    for lesson in sorted(known(rows), key=_order):
        group = FORMS[form_of(lesson)]
        found.append((places[group], GROUPS.index(group), lesson))
        places[group] += 1
    first = sorted(found, key=lambda one: one[:2])[:MOST]
    return [
        Told(lesson, form_of(lesson), cited(rows, lesson))
        for _, _, lesson in sorted(first, key=lambda one: (one[1], one[0]))
    ]


def known(rows: Rows) -> list[Lesson]:
    """Return the lessons of the campaign that there is a sentence for, on the search alone."""
    own = (one for one in rows.lessons if one.kind in KINDS and form_of(one))
    return [one for one in own if all(map(is_open, cited(rows, one)))]


def cited(rows: Rows, lesson: Lesson) -> tuple[Trial, ...]:
    """Return the trials that a lesson rests on, in its order."""
    return tuple(rows.by_id[name] for name in lesson.evidence)


def form_of(lesson: Lesson) -> str:
    """Return the form of a lesson's sentence; empty where there is none for it."""
    if not lesson.components:
        return ""
    if lesson.kind == "finding" and lesson.topic.startswith(DEAD_END):
        return "reopened"
    if lesson.kind == "dead_end" and lesson.effect is None:
        return "failed"
    if lesson.effect is None or lesson.effect_se is None:
        return ""
    if lesson.kind == "effect":
        return "raised" if lesson.effect > 0 else "lowered" if lesson.effect < 0 else ""
    if lesson.kind == "finding" and not lesson.topic.startswith(EFFECT):
        return ""
    return {"dead_end": "poor", "question": "question", "finding": "undecided"}.get(lesson.kind, "")


def reading(lesson: Lesson) -> str:
    """Return what a language model said of a lesson; nothing of it where it holds a numeral."""
    words = lesson.text.partition(SAID)[2].strip()
    return "" if any(character.isnumeric() for character in words) else words


def _order(lesson: Lesson) -> tuple[float, float, str]:
    effect, se = lesson.effect, lesson.effect_se
    size = abs(effect) / se if effect is not None and se else 0.0
    return -weight(lesson), -size, lesson.id
