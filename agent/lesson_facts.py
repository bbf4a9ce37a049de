"""Facts about what a campaign learnt: the figures of its lessons, and what it took from the library.

The text of a lesson is not printed: its figures are facts, and templates hold the sentences. They
rest on the lesson, the trials that it cites with their scores, and the events of the campaign.
"""

import math
from collections.abc import Sequence

from agent.branch_lessons import Step
from agent.campaign_lessons import WIDE
from agent.dead_ends import LEAST, set_of, set_words, topic_of
from agent.evidence import normal_tail
from agent.fact_book import FactBook
from agent.formats import number, signed
from agent.heritage import KIND
from agent.lesson_section import Told, known, reading, told
from agent.lesson_text import component_words, failure_words, joined
from agent.margins import MOST_SOUGHT, NOISE
from agent.noise import margin_of
from agent.report_rows import Rows, search_delta
from agent.rule_facts import last_event
from agent.wording import chance_below
from memory.records import Status, Trial


def add_lesson_facts(book: FactBook, rows: Rows) -> None:
    """Add the facts of the lessons that are told; none where the campaign has no such lesson."""
    event = last_event(rows, KIND)
    if event is not None:
        for name in ("campaigns", "lessons"):
            book.count(f"learnt.library.{name}", event.figures[name], [f"event:{event.id}"])
    chosen, own = told(rows), known(rows)
    if len(chosen) < len(own):
        sources = [f"lesson:{one.id}" for one in own]
        book.count("learnt.more", len(own) - len(chosen), sources)
    margin, source = sought(rows)
    if chosen and source:
        book.measure("learnt.margin", 100 * margin, number(100 * margin, 2), [source])
    for one in chosen:
        _lesson(book, rows, one)
        if one.form == "poor" and source:
            _chance(book, one, margin, source)


def sought(rows: Rows) -> tuple[float, str]:
    """Return the gain in Dice that the search looked for and its row's address; empty if unknown.

    It is that of `agent.margins.search_margin`.
    """
    event = last_event(rows, NOISE)
    if event is not None:
        return min(float(event.figures["margin"]), MOST_SOUGHT), f"event:{event.id}"
    wanted = rows.campaign.config.get("confirm", {}).get("margin")
    if not isinstance(wanted, int | float):
        return math.nan, ""
    return min(margin_of(float(wanted), 0.0), MOST_SOUGHT), "config.confirm"


def _lesson(book: FactBook, rows: Rows, one: Told) -> None:
    lesson, key = one.lesson, one.key
    own = [f"lesson:{lesson.id}"]
    trials = [*own, *(f"trial:{trial.id}" for trial in one.trials)]
    _about(book, rows, one)
    book.count(f"{key}.trials", len(one.trials), trials)
    book.count(f"{key}.networks", len({network(trial) for trial in one.trials}), trials)
    if lesson.effect is not None:
        _points(book, f"{key}.effect", lesson.effect, own)
    if lesson.effect_se is not None:
        size = 100 * lesson.effect_se
        book.measure(f"{key}.se", size, number(size, 2), own)
        book.measure(f"{key}.half", WIDE * size, f"± {number(WIDE * size, 2)}", own)
    if one.form == "failed":
        failure = failure_words(one.trials[0].failure_class).replace("_", " ")
        book.words(f"{key}.failure", failure, trials)
    else:
        _sides(book, rows, one)
    if words := reading(lesson):
        book.words(f"{key}.reading", words, own)


def _points(book: FactBook, key: str, dice: float, sources: Sequence[str]) -> None:
    book.measure(key, 100 * dice, signed(100 * dice, 2), sources)


def _about(book: FactBook, rows: Rows, one: Told) -> None:
    """Add what a lesson is about: components, of a set with the positions that its trials have."""
    names = joined([component_words(name) for name in one.lesson.components])
    sources = [f"lesson:{one.lesson.id}"]
    idea = rows.proposals.get(one.trials[0].proposal or "")
    if idea is not None:
        parts = set_of(Step(one.trials[0], idea.modules, None, None, None))
        if topic_of(parts) == one.lesson.topic:
            names = set_words(parts)
            sources.append(f"proposal:{idea.id}")
    book.words(f"{one.key}.about", names, sources)


def network(trial: Trial) -> str:
    """Return what tells the network of a trial from others."""
    return trial.network_hash or trial.commit or trial.id


def _sides(book: FactBook, rows: Rows, one: Told) -> None:
    """Add how many trials ended above the baseline and how many did not, and the highest rung."""
    scored = [trial for trial in one.trials if trial.status is Status.OK]
    setups = dict.fromkeys((trial.rung, trial.batch_size) for trial in scored)
    compared = [*scored, *(base for setup in setups for base in rows.baselines(*setup))]
    sources = [f"lesson:{one.lesson.id}", *(f"case_score:{trial.id}" for trial in compared)]
    above = sum(search_delta(rows, trial).mean > 0 for trial in scored)
    book.count(f"{one.key}.above", above, sources)
    book.count(f"{one.key}.below", len(scored) - above, sources)
    if scored:
        top = max(trial.rung for trial in scored)
        book.count(f"{one.key}.rung", top, [f"trial:{trial.id}" for trial in scored])


def _chance(book: FactBook, one: Told, margin: float, source: str) -> None:
    effect, se = one.lesson.effect, one.lesson.effect_se
    assert effect is not None
    assert se is not None
    p = normal_tail(effect - margin, se)
    book.measure(
        f"{one.key}.chance", p, chance_below(p, LEAST), [f"lesson:{one.lesson.id}", source]
    )
