"""Facts about claims: the one sentence that may be said, and the figures that it rests on.

A claim's row keeps the sentence as a template with the numbers of its fields apart; here they
are put in, by the same rounding everywhere. Differences in a sentence are in points of Dice,
hundredths; in tables they are in Dice.
"""

import re

from agent.fact_book import FactBook
from agent.formats import number, plain_text, signed, slug
from agent.report_rows import Rows
from memory.records import Claim

BASELINE_NAME = "nnU-Net's default network"
_SMALLEST_P = 0.001
_LONGEST = 1200
_SIGNED_POINTS = ("delta", "low", "high")
_POINTS = ("mde", "margin")


def add_claim(book: FactBook, rows: Rows, claim: Claim) -> None:
    """Add the facts of a claim."""
    key, sources = f"claim.{claim.id}", [f"claim:{claim.id}"]
    book.words(f"{key}.id", claim.id, sources)
    book.words(f"{key}.text", claim_sentence(rows, claim), sources, longest=_LONGEST)
    book.words(f"{key}.verdict", claim.verdict.replace("_", " "), sources)
    for name, value in claim.figures.items():
        if name != "fields":
            _figure(book, f"{key}.{slug(name)}", value, claim)
    mde = claim.figures.get("mde")
    if isinstance(mde, int | float):
        book.measure(f"{key}.mde_points", 100 * mde, number(100 * mde, 2), sources)


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


def _is_small(p: object) -> bool:
    return isinstance(p, int | float) and p < _SMALLEST_P


def _field(name: str, value: object) -> str:
    if not isinstance(value, int | float):
        return plain_text(value)
    if name in _SIGNED_POINTS:
        return signed(100 * value, 2)
    if name in _POINTS:
        return number(100 * value, 2)
    if name == "level":
        return f"{100 * value:g}"
    if name == "p":
        return number(max(value, _SMALLEST_P), 3)
    return f"{value:g}"


def _figure(book: FactBook, key: str, value: object, claim: Claim) -> None:
    sources, name = [f"claim:{claim.id}"], key.rsplit(".", 1)[-1]
    if not isinstance(value, int | float) or isinstance(value, bool):
        book.settings(key, value, sources)
    elif name == "p" or name.startswith("p_"):
        book.p_value(key, value, sources)
    elif name in ("se", "mde", "margin"):
        book.score(key, value, claim.metric, sources)
    elif name in ("delta", "low", "high"):
        book.gain(key, value, claim.metric, sources)
    else:
        book.number(key, value, sources)
