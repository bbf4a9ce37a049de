"""What calls to language models cost, and what they led to: rows in, figures out. Pure.

A price that nobody knows is counted apart and never taken for 0. Every call is in exactly one
share of each division (by role; by endpoint and model; by what it was made for), so that the
shares of a division add up to the total.

A decision asks for several candidates and repairs its network: all its calls belong to the
proposal that was made from it. A reply taken from an earlier campaign has its tokens and cost
nothing here.

Not covered: what a coding agent on the user's machine spent, which only its vendor knows.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple, TypeVar

from agent.evidence import Evidence
from agent.formats import general, number, plain_text
from agent.standings import SEARCH, is_scored
from memory.records import LlmCall, Proposal, SplitName, Status, Trial
from sandbox.clean import clean_text

UNKNOWN = "unknown"
LONGEST_NAME = 80
DECISION, TRIAL = "decision/", "trial/"
LEFT_OVER = ("diagnoses", "campaign", "without proposal")
POINTS = 100.0  # points of Dice in one of Dice

K = TypeVar("K")


class Made(NamedTuple):
    """What a decision led to: the ids of its proposal and of its first trial, as far as it went."""

    proposal: str | None
    trial: str | None


class Maker(NamedTuple):
    """Who replies: the name of an endpoint and a model, on one line and bounded."""

    endpoint: str
    model: str


class Share(NamedTuple):
    """The calls to one endpoint and model, and the proposals whose detail names it."""

    maker: Maker
    calls: list[LlmCall]
    proposals: list[Proposal]


class Usage(NamedTuple):
    """What some calls used.

    `failed` are those with an error, `cached` those whose reply an earlier campaign got. Tokens
    and `usd` (US dollars) are sums of what is known, None where that is nothing; `unmetered`
    counts the replies without a count of tokens, `unpriced` the calls without a price. `seconds` is how
    long was waited for replies.
    """

    calls: int
    failed: int
    cached: int
    tokens_in: int | None
    tokens_out: int | None
    unmetered: int
    usd: float | None
    unpriced: int
    seconds: float


class Outcome(NamedTuple):
    """What the proposals of an endpoint and model led to, on search-val.

    `scored` counts proposals with a finished training, `compared` those with an effect, `rejected`
    networks that failed before training. Effects are paired differences from the baseline in Dice,
    one a proposal: its mean at the lowest rung with evidence, where all are measured alike. `se`
    is that of their mean; of a single proposal, its evidence's own.
    """

    proposals: int
    scored: int
    compared: int
    mean: float | None
    se: float | None
    best: float | None
    rejected: int


def usage(calls: Sequence[LlmCall]) -> Usage:
    """Return what some calls used together."""
    unmetered = sum(
        call.reply is not None and None in (call.tokens_in, call.tokens_out) for call in calls
    )
    unpriced = sum(call.price_usd is None for call in calls)
    usd = math.fsum(call.price_usd or 0.0 for call in calls)
    tokens_in = sum(call.tokens_in or 0 for call in calls)
    tokens_out = sum(call.tokens_out or 0 for call in calls)
    return Usage(
        calls=len(calls),
        failed=sum(call.error is not None for call in calls),
        cached=sum(call.is_cached for call in calls),
        tokens_in=tokens_in if tokens_in or not unmetered else None,
        tokens_out=tokens_out if tokens_out or not unmetered else None,
        unmetered=unmetered,
        usd=usd if usd or not unpriced else None,
        unpriced=unpriced,
        seconds=math.fsum(call.seconds or 0.0 for call in calls),
    )


def maker(endpoint: str, model: str) -> Maker:
    """Return who replies, with names that are safe to show and to group by."""
    return Maker(shown(endpoint), shown(model))


def shown(name: str) -> str:
    """Return a name that a server or a model gave: one line, bounded, without control characters."""
    return plain_text(clean_text(name), longest=LONGEST_NAME)


def by_role(calls: Iterable[LlmCall]) -> dict[str, list[LlmCall]]:
    """Return the calls of each role, by name."""
    return _grouped(calls, lambda call: shown(call.role))


def shares(calls: Iterable[LlmCall], proposals: Iterable[Proposal]) -> list[Share]:
    """Return the share of each endpoint and model in calls and proposals, by name.

    A proposal that names no model is its endpoint's only one's, or that of a maker without a
    model; one that names no endpoint is nobody's.
    """
    asked = _grouped(calls, lambda call: maker(call.endpoint, call.model))
    made: dict[Maker, list[Proposal]] = {}
    for proposal in proposals:
        if (who := _maker_of(proposal, asked)) is not None:
            made.setdefault(who, []).append(proposal)
    everybody = sorted({*asked, *made})
    return [Share(who, asked.get(who, []), made.get(who, [])) for who in everybody]


def _maker_of(proposal: Proposal, asked: Iterable[Maker]) -> Maker | None:
    endpoint, model = proposal.detail.get("endpoint"), proposal.detail.get("model")
    if not isinstance(endpoint, str) or not endpoint:
        return None
    named = maker(endpoint, model if isinstance(model, str) else "")
    models = [one.model for one in asked if one.endpoint == named.endpoint]
    is_plain = not named.model and len(models) == 1
    return Maker(named.endpoint, models[0]) if is_plain else named


def by_proposal(
    calls: Iterable[LlmCall], made: Mapping[str, Made]
) -> tuple[dict[str, list[LlmCall]], dict[str, list[LlmCall]]]:
    """Return the calls of the decisions that made each proposal, and the rest by LEFT_OVER.

    Args:
        calls: of the campaign.
        made: what each scope of a decision led to.
    """
    own: dict[str, list[LlmCall]] = {}
    rest: dict[str, list[LlmCall]] = {name: [] for name in LEFT_OVER}
    for call in calls:
        if (proposal := made.get(call.scope, Made(None, None)).proposal) is not None:
            own.setdefault(proposal, []).append(call)
        else:
            rest[_left_over(call.scope)].append(call)
    return own, {name: found for name, found in rest.items() if found}


def _left_over(scope: str) -> str:
    diagnoses, campaign, without = LEFT_OVER
    if scope.startswith(TRIAL):
        return diagnoses
    return without if scope.startswith(DECISION) else campaign


def by_trial(calls: Iterable[LlmCall], made: Mapping[str, Made]) -> dict[str, list[LlmCall]]:
    """Return the calls of each trial: of the decision that planned it, and of its diagnosis.

    A decision whose network was repaired has several trials; its calls are its first one's.
    """
    found = _grouped(calls, lambda call: trial_of(call.scope, made))
    return {trial: own for trial, own in found.items() if trial}


def trial_of(scope: str, made: Mapping[str, Made]) -> str:
    """Return the trial that a scope's calls belong to; empty where there is none."""
    if scope.startswith(TRIAL):
        return scope.removeprefix(TRIAL)
    return made.get(scope, Made(None, None)).trial or ""


def _grouped(calls: Iterable[LlmCall], key: Callable[[LlmCall], K]) -> dict[K, list[LlmCall]]:
    found: dict[K, list[LlmCall]] = {}
    for call in calls:
        found.setdefault(key(call), []).append(call)
    return {name: found[name] for name in sorted(found, key=str)}


def outcome(
    proposals: Sequence[Proposal], trials: Iterable[Trial], evidence: Mapping[str, Evidence]
) -> Outcome:
    """Return what some proposals led to, from trials of the search alone.

    Args:
        proposals: of one endpoint and model.
        trials: of the campaign.
        evidence: of the trials that have some, by id.
    """
    ids = {proposal.id for proposal in proposals}
    own = [trial for trial in trials if trial.proposal in ids and is_searched(trial)]
    found = [[evidence[t.id] for t in first] for first in compared(own, evidence).values()]
    effects = [fmean(one.delta for one in several) for several in found]
    return Outcome(
        proposals=len(ids),
        scored=len({trial.proposal for trial in own if is_scored(trial)}),
        compared=len(effects),
        mean=fmean(effects) if effects else None,
        se=_standard_error(effects, found),
        best=max(effects, default=None),
        rejected=sum(trial.status is Status.REJECTED for trial in own),
    )


def _standard_error(effects: list[float], found: list[list[Evidence]]) -> float | None:
    if len(effects) > 1:
        return stdev(effects) / math.sqrt(len(effects))
    return max((one.se for several in found for one in several), default=None)


def is_searched(trial: Trial) -> bool:
    """Tell whether a trial is one of the search: not of selection, the locked test or ablations."""
    return trial.kind in SEARCH and trial.split is SplitName.SEARCH_VAL and not trial.fold


def compared(trials: Iterable[Trial], evidence: Mapping[str, Evidence]) -> dict[str, list[Trial]]:
    """Return each proposal's trials with evidence at its lowest rung, the planned batch first."""
    found: dict[str, dict[tuple[int, int], list[Trial]]] = {}
    for trial in trials:
        if trial.proposal and trial.id in evidence and is_searched(trial):
            setup = (trial.rung, -(trial.batch_size or 1 << 30))
            found.setdefault(trial.proposal, {}).setdefault(setup, []).append(trial)
    return {proposal: setups[min(setups)] for proposal, setups in sorted(found.items())}


def per_usd(led_to: Outcome, used: Usage) -> float | None:
    """Return the points of Dice that an endpoint's proposals gained for a US dollar of its calls.

    The mean effect divided by the dollars a proposal with an effect cost, in hundredths of Dice.
    None where a price is unknown, nothing was paid, or there is no effect.
    """
    if led_to.mean is None or used.unpriced or not used.usd:
        return None
    return POINTS * led_to.mean * led_to.compared / used.usd


def usd_text(used: Usage) -> str:
    """Return dollars as they are printed; "unknown", never 0, where nobody knows the price."""
    if used.usd is None:
        return UNKNOWN
    decimals = 2
    if 0 < used.usd < 1:  # two digits that count, four decimals at least
        decimals = max(4, 1 - math.floor(math.log10(used.usd)))
    return f"{'at least ' if used.unpriced else ''}{number(used.usd, decimals)}"


def tokens_text(count: int | None, used: Usage) -> str:
    """Return a number of tokens as it is printed; "unknown" where no reply was counted."""
    if count is None:
        return UNKNOWN
    return f"at least {general(count)}" if used.unmetered else general(count)
