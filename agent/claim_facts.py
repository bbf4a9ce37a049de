"""Facts about claims: the one sentence that may be said, and the figures that it rests on.

A claim's row keeps the sentence as a template with the numbers of its fields apart; here they
are put in, by the same rounding everywhere. Differences in a sentence are in points of Dice,
hundredths; in tables they are in Dice.
"""

import math
import re

from agent.fact_book import FactBook
from agent.formats import number, plain_text, signed, slug
from agent.intervals import Interval
from agent.report_rows import Rows
from agent.rule_facts import add_points
from memory.records import Claim, Figures, Metric

BASELINE_NAME = "nnU-Net's default network"
_SMALLEST_P = 0.001
_LONGEST = 1200
_SIGNED_POINTS = ("delta", "low", "high")
_POINTS = ("mde", "margin", "noninferiority")
_SCORES = ("se", "mde", "margin", "noninferiority")
_GAINS = (
    *("delta", "low", "high", "bootstrap_low", "bootstrap_high"),
    *("selection_gain", "selection_lost", "shrunken"),
)
METRIC_NAMES = {Metric.DICE: "Dice", Metric.NSD: "NSD", Metric.HD95: "HD95"}


def add_claim(book: FactBook, rows: Rows, claim: Claim) -> None:
    """Add the facts of a claim."""
    key, sources = f"claim.{claim.id}", [f"claim:{claim.id}"]
    book.words(f"{key}.id", claim.id, sources)
    book.words(f"{key}.text", claim_sentence(rows, claim), sources, longest=_LONGEST)
    book.words(f"{key}.verdict", claim.verdict.replace("_", " "), sources)
    for name, value in claim.figures.items():
        if name not in ("fields", "secondary"):
            _figure(book, f"{key}.{slug(name)}", value, claim)
    add_points(book, key, claim.figures, sources)
    secondary = claim.figures.get("secondary")
    for place, row in enumerate(secondary if isinstance(secondary, list) else ()):
        _secondary(book, f"{key}.secondary.{place}", row, claim)
    mde = claim.figures.get("mde")
    if isinstance(mde, int | float):
        book.measure(f"{key}.mde_points", 100 * mde, number(100 * mde, 2), sources)
    margin = claim.figures.get("margin")
    if isinstance(margin, int | float):
        book.measure(f"{key}.margin_points", 100 * margin, number(100 * margin, 2), sources)


def claim_sentence(rows: Rows, claim: Claim) -> str:
    """Return the sentence of a claim with its names and numbers put in.

    Names are put in last and are not read again, so that a title with braces stays as it is.
    """
    fields = claim.figures.get("fields")
    printed = {k: _field(k, v) for k, v in fields.items()} if isinstance(fields, dict) else {}
    trial = rows.by_id.get(claim.trials[0]) if claim.trials else None
    proposal = rows.proposals.get((trial.proposal if trial else None) or claim.finalist)
    dataset = str(rows.campaign.dataset.get("name", rows.campaign.name))
    printed |= {
        "candidate": plain_text(proposal.title if proposal else claim.finalist),
        "baseline": BASELINE_NAME,
        "dataset": f"{dataset} (simulated subjects)" if rows.simulated else dataset,
    }
    template = claim.text
    if isinstance(fields, dict) and _is_small(fields.get("p")):
        template = template.replace("= {p}", "< {p}")
    sentence = re.sub(r"\{(\w+)\}", lambda m: printed.get(m.group(1), m.group(0)), template)
    return sentence[:1].upper() + sentence[1:]


def _secondary(book: FactBook, key: str, row: Figures, claim: Claim) -> None:
    """Add one declared secondary: its metric, class, difference, patients, undefined cases."""
    sources, metric = [f"claim:{claim.id}"], Metric(row["metric"])
    book.words(f"{key}.metric", METRIC_NAMES[metric], sources)
    book.words(f"{key}.label", row["label"], sources)
    found = [row.get(name) for name in ("delta", "low", "high")]
    mean, low, high = (math.nan if value is None else float(value) for value in found)
    book.gain_interval(f"{key}.delta", Interval(mean, low, high, row["n_cases"]), metric, sources)
    book.count(f"{key}.patients", row["n_cases"], sources)
    book.count(f"{key}.undefined", row["undefined"], sources)
    flag = "surface worse than the guard allows" if row.get("is_flagged") else "none"
    book.words(f"{key}.warning", flag, sources)


def _is_small(p: object) -> bool:
    return isinstance(p, int | float) and p < _SMALLEST_P


def _field(name: str, value: object) -> str:
    if not isinstance(value, int | float):
        return plain_text(value)
    if name in ("cost", "baseline_cost"):
        return number(value, 1)
    if name in _SIGNED_POINTS:
        return signed(100 * value, 2)
    if name in _POINTS:
        return number(100 * value, 2)
    if name in ("level", "saved"):
        return f"{100 * value:.3g}"
    if name == "p":
        return number(max(value, _SMALLEST_P), 3)
    return f"{value:g}"


def _figure(book: FactBook, key: str, value: object, claim: Claim) -> None:
    sources, name = [f"claim:{claim.id}"], key.rsplit(".", 1)[-1]
    if not isinstance(value, int | float) or isinstance(value, bool):
        book.settings(key, value, sources)
    elif name == "p" or name.startswith("p_"):
        book.p_value(key, value, sources)
    elif name == "power_at_margin":
        book.measure(key, value, f"{number(100 * value, 0)} %", sources)
    elif name in _SCORES:
        book.score(key, value, claim.metric, sources)
    elif name in _GAINS:
        book.gain(key, value, claim.metric, sources)
    else:
        book.number(key, value, sources)
