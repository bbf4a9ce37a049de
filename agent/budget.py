"""What a campaign may spend and has spent: wall hours, GPU-hours, dollars, trials.

Wall time counts while `run` is at work: from each start to the last event of that start, so
that a campaign that was killed goes on with what it had left. Pure; the clock is passed in.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from agent.config import BudgetConfig
from agent.standings import SEARCH
from memory.records import Event, LlmCall, Trial

HOUR_S = 3600.0
START = "started"
REPRODUCED = "reproduced"


class Spent(NamedTuple):
    """What the rows say was used: wall and GPU seconds, dollars, trials of the search."""

    seconds: float
    gpu_seconds: float
    usd: float
    trials: int


class Left(NamedTuple):
    """What is left of each budget; infinity where there is no limit."""

    seconds: float
    gpu_seconds: float
    usd: float
    trials: float


def spent(
    events: Sequence[Event], trials: Sequence[Trial], calls: Sequence[LlmCall], *, now: float
) -> Spent:
    """Return what was used; `now` ends the session that is running."""
    search = [t for t in trials if t.kind in SEARCH]
    return Spent(
        seconds=active_seconds(of_runs(events), now),
        gpu_seconds=sum(t.gpu_seconds or 0.0 for t in trials),
        usd=sum(c.price_usd or 0.0 for c in calls),
        trials=len(search),
    )


def of_runs(events: Sequence[Event]) -> list[Event]:
    """Return the events of runs; a reproduction comes from outside and costs a run nothing."""
    return [event for event in events if event.kind != REPRODUCED]


def active_seconds(events: Sequence[Event], now: float) -> float:
    """Return the wall seconds of all sessions; the last one is running and ends `now`."""
    starts = [i for i, event in enumerate(events) if event.kind == START]
    total = 0.0
    for this, following in zip(starts, [*starts[1:], None], strict=False):
        end = now if following is None else events[following - 1].at
        total += max(0.0, end - events[this].at)
    return total


def left(budget: BudgetConfig, used: Spent) -> Left:
    """Return what is left of each budget; never below 0."""
    return Left(
        seconds=remaining(budget.hours * HOUR_S, used.seconds),
        gpu_seconds=remaining(budget.gpu_hours * HOUR_S, used.gpu_seconds),
        usd=remaining(budget.usd, used.usd),
        trials=remaining(budget.trials, used.trials),
    )


def remaining(limit: float, used: float) -> float:
    """Return limit minus used, at least 0; a limit of 0 is none."""
    return max(0.0, limit - used) if limit else math.inf


def reserve(
    left_s: float, confirm_s: float, later_s: float, *, network_s: float, is_bare: bool
) -> float:
    """Return the wall seconds that the search must leave over.

    Confirmation always has its part. Staged selection and ablation have theirs, except where it
    would end a search that has no network yet and could still train one.

    Args:
        left_s: wall seconds left of the budget.
        confirm_s: what confirmation and report need.
        later_s: what staged selection and ablation are kept.
        network_s: what one network takes, through all rungs.
        is_bare: whether no network of the search has scores.
    """
    whole = confirm_s + later_s
    return confirm_s if is_bare and left_s - whole < network_s <= left_s - confirm_s else whole


def as_json(budget: BudgetConfig, used: Spent) -> dict[str, dict[str, float | None]]:
    """Return limit and use of each budget as `status --json` shows them."""
    rows = {
        "hours": (budget.hours, used.seconds / HOUR_S),
        "gpu_hours": (budget.gpu_hours, used.gpu_seconds / HOUR_S),
        "usd": (budget.usd, used.usd),
        "trials": (budget.trials, used.trials),
    }
    return {k: {"limit": limit or None, "spent": amount} for k, (limit, amount) in rows.items()}
