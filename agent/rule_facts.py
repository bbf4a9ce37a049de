"""Facts about the rules of a campaign: its protocol, its noise, staged selection, ablations.

Effects are in Dice in tables, and in points of Dice, hundredths, where a sentence has them.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from agent.ablation import LEFT_OUT, ablations
from agent.amendments import amendments, low_power
from agent.fact_book import FactBook
from agent.formats import day, number, signed
from agent.intervals import CONFIDENCE, Interval
from agent.margins import NOISE
from agent.protocol import declared
from agent.report_rows import Rows
from agent.selection_scores import CHOSEN, PLANNED
from memory.records import Event, Figures, Metric

Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
LONGEST = 400
_NOISE_POINTS = ("run_sd", "resid_sd", "detectable", "margin")


def add_rule_facts(book: FactBook, rows: Rows) -> None:
    """Add what was declared and changed, what can be detected, how finalists were chosen."""
    _declared(book, rows)
    for place, one in enumerate(amendments(rows.events)):
        key, sources = f"amended.{place}", [f"event:{one.event}"]
        book.words(f"{key}.setting", one.setting, sources)
        book.settings(f"{key}.before", one.before, sources)
        book.settings(f"{key}.after", one.after, sources)
        book.words(f"{key}.reason", one.reason, sources)
        book.words(f"{key}.day", day(one.at), sources)
    for place, event in enumerate(low_power(rows.events)):
        book.words(f"low_power.{place}.text", event.text, [f"event:{event.id}"])
        book.words(f"low_power.{place}.day", day(event.at), [f"event:{event.id}"])
    _noise(book, rows)
    _selection(book, rows)
    for place, row in enumerate(ablations(rows.events)):
        _ablation(book, f"ablation.{place}", row)
    for place, event in enumerate(left_out(rows)):
        book.words(f"{LEFT_OUT}.{place}.text", event.text, [f"event:{event.id}"])


def left_out(rows: Rows) -> list[Event]:
    """Return the events of ablations that were not made."""
    return [event for event in rows.events if event.kind == LEFT_OUT]


def last_event(rows: Rows, kind: str) -> Event | None:
    """Return the latest event of a kind, or None."""
    return next((event for event in reversed(rows.events) if event.kind == kind), None)


def _declared(book: FactBook, rows: Rows) -> None:
    event = declared(rows.events)
    if event is None:
        return
    record, sources = event.figures["record"], [f"event:{event.id}"]
    book.identifier("declared.hash", event.figures["hash"], sources, shown=16)
    book.words("declared.day", day(event.at), sources)
    book.words("declared.primary", record["primary"], sources)
    book.words("declared.secondaries", ", ".join(record["secondaries"]), sources)
    book.words("declared.margin_rule", record["margin"], sources, longest=LONGEST)
    book.words("declared.same", ", ".join(record["equal_budget"]["same"]), sources)
    for name, value in record["least"].items():
        book.count(f"declared.least.{name}", value, sources)
    for place, test in enumerate(record["tests"]):
        book.words(f"declared.test.{place}", test, sources, longest=LONGEST)


def _noise(book: FactBook, rows: Rows) -> None:
    event = last_event(rows, NOISE)
    if event is None:
        return
    sources, figures = [f"event:{event.id}"], event.figures
    for name in _NOISE_POINTS:
        _points(book, f"noise.{name}", figures[name], sources)
    for name in ("cases", "seeds", "seen_cases", "seen_seeds"):
        book.count(f"noise.{name}", figures[name], sources)
    power = figures["power"]
    book.measure("noise.power", power, f"{100 * power:g} %", sources)


def _points(book: FactBook, key: str, dice: float, sources: Sequence[str]) -> None:
    book.measure(key, 100 * dice, number(100 * dice, 2), sources)


def _selection(book: FactBook, rows: Rows) -> None:
    """Add the staged selection: how it was planned, and what it saw of each network."""
    plan, chosen = last_event(rows, PLANNED), last_event(rows, CHOSEN)
    if plan is not None:
        sources = [f"event:{plan.id}"]
        book.count("staged.candidates", len(plan.figures["candidates"]), sources)
        for name in ("networks", "folds", "again", "seeds"):
            book.count(f"staged.{name}", plan.figures[name], sources)
    if chosen is not None:
        for place, one in enumerate(chosen.figures["scores"]):
            _selected(book, rows, f"staged.{place}", one, f"event:{chosen.id}")


def _selected(book: FactBook, rows: Rows, key: str, one: Figures, event: str) -> None:
    trial = rows.by_id[one["trial"]]
    sources = [event, f"trial:{trial.id}"]
    book.words(f"{key}.title", trial.title, sources)
    book.identifier(f"{key}.trial", trial.id, sources)
    for name, belief in (("prior", one["prior"]), ("pooled", one)):
        found = normal_interval(belief["mean"], belief["sd"])
        book.gain_interval(f"{key}.{name}", found, Metric.DICE, sources)
    book.count(f"{key}.folds", len(one["folds"]), sources)
    trainings = sum(fold["n_seeds"] for fold in one["folds"])
    book.count(f"{key}.trainings", trainings, sources)
    book.seconds(f"{key}.cost", one["cost_s"], sources)


def normal_interval(mean: float, sd: float) -> Interval:
    """Return the 95 % interval of a normal belief."""
    return Interval(mean, mean - Z * sd, mean + Z * sd, 0)


def _ablation(book: FactBook, key: str, row: Figures) -> None:
    sources = [f"event:{row['event']}", *(f"case_score:{t}" for t in row["trials"])]
    book.words(f"{key}.without", row["module"], sources)
    book.words(f"{key}.split", row["split"], sources)
    values = [row.get(name) for name in ("delta", "low", "high")]
    mean, low, high = (math.nan if value is None else float(value) for value in values)
    book.gain_interval(f"{key}.delta", Interval(mean, low, high, 0), Metric.DICE, sources)
    for name, label in (("n_cases", "patients"), ("n_seeds", "seeds"), ("undefined", "undefined")):
        book.count(f"{key}.{label}", row[name] or 0, sources)


def add_points(book: FactBook, key: str, figures: Figures, sources: Sequence[str]) -> None:
    """Add a claim's difference and interval in points, and its drawn-in gain with its interval."""
    for name in ("delta", "low", "high"):
        value = figures.get(name)
        if isinstance(value, int | float):
            book.measure(f"{key}.{name}_points", 100 * value, signed(100 * value, 2), sources)
    mean, weight, se = (figures.get(name) for name in ("shrunken", "shrunken_weight", "se"))
    if isinstance(mean, float) and isinstance(weight, float) and isinstance(se, float):
        found = normal_interval(mean, math.sqrt(weight) * se)
        book.gain_interval(f"{key}.drawn", found, Metric.DICE, sources)
