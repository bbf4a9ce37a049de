"""The calls to language models in the terminal and as JSON: who was asked, for what, at which price.

Names come from servers and models: one line each, bounded, without control characters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agent.evidence import Evidence
from agent.llm_costs import (
    Usage,
    by_proposal,
    by_role,
    by_trial,
    outcome,
    per_usd,
    shares,
    tokens_text,
    usage,
    usd_text,
)
from agent.llm_rows import made_by
from memory.records import LlmCall, Trial
from memory.store import Store

Shown = dict[str, Any]


def spending(
    store: Store,
    calls: Sequence[LlmCall],
    trials: Sequence[Trial],
    evidence: Mapping[str, Evidence],
) -> Shown:
    """Return what calls used and led to, as `status --json` prints it under "llm".

    Args:
        store: of the campaign.
        calls: all of them, one at least.
        trials: all of them.
        evidence: of the trials that have some, by id.

    Returns:
        "total", and by name "roles", "endpoints" (ENDPOINT/MODEL, with what their proposals led
        to), "proposals", "other" (what no proposal has) and "trials". Dollars are null where
        nobody knows them.
    """
    made = made_by(store, calls)
    own, other = by_proposal(calls, made)
    return {
        "total": usage(calls)._asdict(),
        "roles": _each(by_role(calls)),
        "endpoints": _endpoints(store, calls, trials, evidence),
        "proposals": _each(own),
        "other": _each(other),
        "trials": _each(by_trial(calls, made)),
    }


def _each(groups: Mapping[str, Sequence[LlmCall]]) -> Shown:
    return {name: usage(calls)._asdict() for name, calls in groups.items()}


def _endpoints(
    store: Store,
    calls: Sequence[LlmCall],
    trials: Sequence[Trial],
    evidence: Mapping[str, Evidence],
) -> Shown:
    found = {}
    for one in shares(calls, store.proposals()):
        used, led_to = usage(one.calls), outcome(one.proposals, trials, evidence)
        row = {**used._asdict(), **led_to._asdict(), "points_per_usd": per_usd(led_to, used)}
        found["/".join(one.maker)] = row
    return found


def spending_lines(shown: Shown) -> list[str]:
    """Return the block "language model" of `status`: the whole, and a line for each role."""
    lines = [f"  language model: {usage_line(Usage(**shown['total']))}"]
    for name, row in shown["roles"].items():
        lines.append(f"    {name or 'no role'}: {usage_line(Usage(**row))}")
    return lines


def usage_line(used: Usage) -> str:
    """Return calls, tokens and dollars in one line."""
    apart = [f"{used.failed} failed"] if used.failed else []
    apart += [f"{used.cached} from an earlier campaign"] if used.cached else []
    aside = f" ({', '.join(apart)})" if apart else ""
    calls = f"{used.calls:,} call{'' if used.calls == 1 else 's'}{aside}"
    read, written = (tokens_text(n, used) for n in (used.tokens_in, used.tokens_out))
    price = f"{usd_text(used)} USD"
    if used.unpriced:
        price = f"price {usd_text(used)}" if used.usd is None else price
        price += (
            f" ({used.unpriced:,} call{'' if used.unpriced == 1 else 's'} without a known price)"
        )
    return f"{calls}, tokens {read} in and {written} out, {price}"


def trial_spending(store: Store, trial: str) -> Usage | None:
    """Return what the calls of one trial used; None where there were none."""
    calls = store.llm_calls()
    own = by_trial(calls, made_by(store, calls)).get(trial)
    return usage(own) if own else None
