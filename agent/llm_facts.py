"""Facts about the calls to language models, and the order in which a report walks over them.

Sources are the calls themselves; what an endpoint led to rests on its proposals and on the scores
of search-val. Names and errors come from servers and models, and are made harmless as facts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from agent.diagnosis import DIAGNOSIS, Payoff, category_of
from agent.fact_book import FactBook
from agent.formats import number, signed, slug
from agent.llm_costs import (
    UNKNOWN,
    Maker,
    Share,
    by_proposal,
    by_role,
    by_trial,
    compared,
    is_searched,
    outcome,
    per_usd,
    shares,
    tokens_text,
    usage,
    usd_text,
)
from agent.llm_rows import Language, told
from agent.report_rows import Rows
from agent.rule_view import numbered
from memory.records import Event, LlmCall, Metric, Proposal, Trial
from sandbox.clean import clean_text

LONGEST_ERROR = 200
NO_ERROR = "no reason was kept"
NO_NAME = "no name"


class Told(NamedTuple):
    """An event in which a planner tells that a model was lost, or is back: its kind and key."""

    kind: str
    key: str


class Other(NamedTuple):
    """What no proposal has, of `llm_costs.LEFT_OVER`, and the key of its cost."""

    what: str
    key: str


@dataclass(frozen=True)
class LanguageView:
    """Keys of facts, in their order; each is empty where there is nothing.

    `proposers` are the endpoints that a proposal names, `trials` the ids of trials.
    """

    has_calls: bool
    roles: tuple[str, ...]
    endpoints: tuple[str, ...]
    proposers: tuple[str, ...]
    proposals: tuple[str, ...]
    other: tuple[Other, ...]
    trials: tuple[str, ...]
    payoffs: tuple[str, ...]
    told: tuple[Told, ...]


def build_language_view(rows: Rows) -> LanguageView | None:
    """Return what the templates walk over; None where no language model was asked."""
    if rows.language is None:
        return None
    calls, made = rows.llm_calls, rows.language.made
    own, other = by_proposal(calls, made)
    found = shares(calls, rows.proposals.values())
    keys = numbered("llm.endpoint", len(found))
    events = told(rows.events)
    places = numbered("llm.told", len(events))
    return LanguageView(
        has_calls=bool(calls),
        roles=tuple(f"llm.role.{slug(name)}" for name in by_role(calls)),
        endpoints=keys if calls else (),
        proposers=tuple(k for k, one in zip(keys, found, strict=True) if one.proposals and calls),
        proposals=tuple(f"llm.proposal.{name}" for name in own),
        other=tuple(Other(name, f"llm.other.{slug(name)}") for name in other),
        trials=tuple(name for name in by_trial(calls, made) if name in rows.by_id),
        payoffs=tuple(f"llm.payoff.{slug(one.category)}" for one in rows.language.payoffs),
        told=tuple(Told(e.kind, key) for e, key in zip(events, places, strict=True)),
    )


def add_llm_facts(book: FactBook, rows: Rows) -> None:
    """Add what calls to language models cost and led to; nothing where there was none."""
    if rows.language is None:
        return
    for place, event in enumerate(told(rows.events)):
        _told(book, f"llm.told.{place}", event)
    for one in rows.language.payoffs:
        _payoff(book, rows, one)
    if rows.llm_calls:
        _calls(book, rows, rows.language)


def _calls(book: FactBook, rows: Rows, language: Language) -> None:
    calls = rows.llm_calls
    _usage(book, "llm.total", calls)
    roles = by_role(calls)
    book.words("llm.roles", ", ".join(filter(None, roles)), _addresses(calls))
    for name, own in roles.items():
        book.words(f"llm.role.{slug(name)}.name", name or NO_NAME, _addresses(own))
        _usage(book, f"llm.role.{slug(name)}", own)
    found = shares(calls, rows.proposals.values())
    for key, share in zip(numbered("llm.endpoint", len(found)), found, strict=True):
        _share(book, rows, language, key, share)
    makers = {proposal.id: one.maker for one in found for proposal in one.proposals}
    by_idea, other = by_proposal(calls, language.made)
    for name, own in by_idea.items():
        _proposal(book, rows.proposals[name], makers.get(name), own)
    for name, own in other.items():
        _usage(book, f"llm.other.{slug(name)}", own)
    for trial, own in by_trial(calls, language.made).items():
        if trial in rows.by_id:
            _usage(book, f"llm.trial.{trial}", own)


def _addresses(calls: Iterable[LlmCall]) -> list[str]:
    return [f"llm_call:{call.id}" for call in calls]


def _usage(book: FactBook, key: str, calls: Sequence[LlmCall]) -> None:
    """Add what some calls used; what nobody knows is "unknown" and no number."""
    used, sources = usage(calls), _addresses(calls)
    for name in ("calls", "failed", "cached", "unpriced"):
        book.count(f"{key}.{name}", getattr(used, name), sources)
    for name, count in (("tokens_in", used.tokens_in), ("tokens_out", used.tokens_out)):
        if count is None:
            book.words(f"{key}.{name}", UNKNOWN, sources)
        else:
            book.measure(f"{key}.{name}", count, tokens_text(count, used), sources)
    if used.usd is None:
        book.words(f"{key}.usd", UNKNOWN, sources)
    else:
        book.measure(f"{key}.usd", used.usd, usd_text(used), sources)
    book.seconds(f"{key}.seconds", used.seconds, sources)


def _share(book: FactBook, rows: Rows, language: Language, key: str, share: Share) -> None:
    """Add what an endpoint and model used, and what its proposals led to."""
    named = [f"proposal:{one.id}" for one in share.proposals]
    paid = _addresses(share.calls)
    book.words(f"{key}.endpoint", share.maker.endpoint or NO_NAME, paid or named)
    book.words(f"{key}.model", share.maker.model or NO_NAME, paid or named)
    _usage(book, key, share.calls)
    ids = {one.id for one in share.proposals}
    trials = [t for t in rows.trials if t.proposal in ids and is_searched(t)]
    led_to = outcome(share.proposals, trials, language.evidence)
    tried = [*named, *(f"trial:{t.id}" for t in trials)]
    book.count(f"{key}.proposals", led_to.proposals, named)
    for name in ("scored", "compared", "rejected"):
        book.count(f"{key}.{name}", getattr(led_to, name), tried)
    rests_on = _scores(rows, compared(trials, language.evidence))
    for name, value in (("effect", led_to.mean), ("best", led_to.best)):
        book.gain(f"{key}.{name}", _nan(value), Metric.DICE, rests_on)
    book.measure(f"{key}.effect_se", led_to.se, number(_nan(led_to.se), 3), rests_on)
    worth = per_usd(led_to, usage(share.calls))
    text = signed(_nan(worth), 2)
    book.measure(f"{key}.points_per_usd", worth, text, [*paid, *rests_on])


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _scores(rows: Rows, first: Mapping[str, list[Trial]]) -> list[str]:
    """Return the addresses of the scores that effects rest on, those of the baselines after."""
    own = [trial for trials in first.values() for trial in trials]
    setups = sorted({(t.rung, t.batch_size) for t in own}, key=str)
    base = [trial for setup in setups for trial in rows.baselines(*setup)]
    return [f"case_score:{trial.id}" for trial in (*own, *base)]


def _proposal(
    book: FactBook, proposal: Proposal, maker: Maker | None, calls: Sequence[LlmCall]
) -> None:
    key, sources = f"llm.proposal.{proposal.id}", [f"proposal:{proposal.id}"]
    said = ", ".join(filter(None, maker)) if maker else f"planner {proposal.planner}"
    book.words(f"{key}.title", proposal.title, sources)
    book.words(f"{key}.by", said, sources)
    _usage(book, key, calls)


def _payoff(book: FactBook, rows: Rows, one: Payoff) -> None:
    """Add what the suggestions of a category brought, those that a proposal carried out."""
    key = f"llm.payoff.{slug(one.category)}"
    made = [p for p in rows.proposals.values() if category_of(p) == one.category]
    sources = [f"proposal:{proposal.id}" for proposal in made]
    diagnoses = [f"event:{event.id}" for event in rows.events if event.kind == DIAGNOSIS]
    book.words(f"{key}.category", one.category, sources)
    book.count(f"{key}.offered", one.offered, diagnoses)
    for name in ("carried", "scored", "failures"):
        book.count(f"{key}.{name}", getattr(one, name), sources)
    book.gain(f"{key}.gain", _nan(one.mean), Metric.DICE, sources)
    book.measure(f"{key}.gain_se", one.se, number(_nan(one.se), 3), sources)


def _told(book: FactBook, key: str, event: Event) -> None:
    sources = [f"event:{event.id}"]
    moment = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    book.words(f"{key}.time", moment, sources)
    error = clean_text(str(event.figures.get("error") or NO_ERROR)).rstrip(". \n")
    book.words(f"{key}.error", error, sources, longest=LONGEST_ERROR)
