"""What holds across the branches of a campaign: effects of components and open questions. Pure.

Effects are those of the linear model (`agent/effects.py`); what trials say for and against one is
counted. A component has one lesson at a time, of its topic: an effect while it is at least as large
as its standard error over FEWEST networks or more, else perhaps a question; one that had a lesson
and is neither any more is told to be undecided. Dead ends are in `agent/dead_ends.py`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.branch_lessons import Step
from agent.dead_ends import dead_ends
from agent.effects import ComponentRow, Knowledge
from agent.lesson_text import component_words, error, gain, sealed
from agent.motivation import where
from agent.wording import bare_points, counted, sentence
from memory.records import Figures, Lesson, Module

FEWEST = 2  # networks of an effect that is told as known
FEW = 4  # networks up to which a component may be an open question
QUESTIONS = 5
WIDE = 1.96  # standard errors of a 95 % interval
EFFECT = "effect/"


class Row(NamedTuple):
    """What is known of a component, and the scored trials of this campaign that had it."""

    known: ComponentRow
    steps: list[Step]

    @property
    def is_effect(self) -> bool:
        """True when the effect is told as known."""
        return self.known.n >= FEWEST and abs(self.known.mean) >= self.known.se

    def is_open(self, margin: float) -> bool:
        """Tell whether few networks had it, and the margin is within its 95 % interval."""
        low, high = (self.known.mean + side * WIDE * self.known.se for side in (-1, 1))
        return not self.is_effect and self.known.n <= FEW and low < margin < high


def campaign_lessons(
    knowledge: Knowledge,
    steps: Sequence[Step],
    told: Mapping[str, str],
    *,
    margin: float,
    conditions: Figures,
    now: float,
) -> list[Lesson]:
    """Return the lessons of a campaign; each takes the place of the one of its topic.

    Args:
        knowledge: of this campaign's trials.
        steps: all trials of its search, as `branch_lessons.steps_of` returns them.
        told: the kind of each lesson of the campaign that is told now, by its topic.
        margin: the gain in Dice that counts.
        conditions: of the dataset; its traits choose the effects.
        now: seconds since the epoch.
    """
    found = [
        Row(known, own_steps(known.component, steps)) for known in _table(knowledge, conditions)
    ]
    rows = [row for row in found if row.steps]
    asked = {row.known.component for row in open_rows(rows, told, margin)}
    lessons = [
        component_lesson(row, knowledge, kind, margin, conditions, now)
        for row in rows
        if (kind := kind_of(row, asked, told))
    ]
    return [*lessons, *dead_ends(steps, told, margin=margin, conditions=conditions, now=now)]


def _table(knowledge: Knowledge, conditions: Figures) -> list[ComponentRow]:
    return knowledge.table(conditions.get("traits", ()))


def own_steps(component: str, steps: Sequence[Step]) -> list[Step]:
    """Return the scored trials whose network has a component."""
    return [s for s in steps if s.is_scored and any(m.component == component for m in s.modules)]


def open_rows(rows: Sequence[Row], told: Mapping[str, str], margin: float) -> list[Row]:
    """Return the open questions to tell: those that are told already, then those with fewest trials."""

    def order(row: Row) -> tuple[bool, int, float, str]:
        name = row.known.component
        return told.get(EFFECT + name) != "question", len(row.steps), -row.known.mean, name

    return sorted((row for row in rows if row.is_open(margin)), key=order)[:QUESTIONS]


def kind_of(row: Row, asked: set[str], told: Mapping[str, str]) -> str:
    """Return the kind of a component's lesson; empty for none."""
    if row.is_effect:
        return "effect"
    if row.known.component in asked:
        return "question"
    return "finding" if EFFECT + row.known.component in told else ""


def component_lesson(
    row: Row, knowledge: Knowledge, kind: str, margin: float, conditions: Figures, now: float
) -> Lesson:
    """Return a component's lesson.

    Its trials with an effect of the same sign support an effect, the others speak against it; a
    question or what is undecided has no side.
    """
    with_it, against = sides(row)
    is_effect = kind == "effect"
    return sealed(
        Lesson(
            id="",
            layer="campaign",
            text=text_of(row, knowledge, kind, margin, conditions),
            evidence=tuple(step.trial.id for step in row.steps),
            effect=row.known.mean,
            effect_se=row.known.se,
            components=(row.known.component,),
            at=now,
            kind=kind,
            conditions=conditions,
            support=with_it if is_effect else len(row.steps),
            contra=against if is_effect else 0,
            topic=EFFECT + row.known.component,
        )
    )


def sides(row: Row) -> tuple[int, int]:
    """Return how many trials have an effect of the same sign as the component's, and of the other."""
    signed = [step.value * row.known.mean for step in row.steps]
    return sum(one > 0 for one in signed), sum(one < 0 for one in signed)


def text_of(row: Row, knowledge: Knowledge, kind: str, margin: float, conditions: Figures) -> str:
    """Return a component's lesson in words."""
    name, known = component_words(row.known.component), row.known
    size = f"{gain(known.mean, known.se)} over {counted(known.n, 'network')}"
    above = sum(step.value > 0 for step in row.steps)
    below = len(row.steps) - above
    count = sentence(f"{counted(above, 'trial')} ended above the baseline, {below} did not")
    if kind == "effect":
        side = "higher" if known.mean > 0 else "lower"
        place = best_place(row, knowledge, conditions)
        return f"Networks with {name} score {side}: {size}. {count}{place}"
    if kind == "question":
        rest = f"a gain of {bare_points(margin)} points is still possible"
        return (
            f"Open question: do networks with {name} score higher? So far {size}; {rest}. {count}"
        )
    start = f"It is not decided whether networks with {name} score higher"
    return f"{start}: {size}, 95 % interval {interval(known)}. {count}"


def interval(known: ComponentRow) -> str:
    """Return the half width of a 95 % interval in points, e.g. '± 0.8 points'."""
    return f"± {error(WIDE * known.se)} points"


def best_place(row: Row, knowledge: Knowledge, conditions: Figures) -> str:
    """Return where a component has done best, as a sentence; empty for one place alone."""
    places = {
        (module.position, module.stages)
        for step in row.steps
        for module in step.modules
        if module.component == row.known.component
    }
    if len(places) < 2:
        return ""
    traits = conditions.get("traits", ())

    def mean(place: tuple[str, tuple[int, ...]]) -> float:
        return knowledge.mean(row.known.component, *place, traits).mean

    best = max(sorted(places), key=mean)
    return f" Best place so far: {where(Module(row.known.component, *best))}."
