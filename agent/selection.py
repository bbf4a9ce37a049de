"""Staged selection: which finalists the search hands over to confirmation; pure.

The search ends with beliefs about many networks, all from the same cases. The best of them are
trained again on further folds of the cases that are not locked, and the best few of these with
fresh seeds. A candidate is then judged by all of it: what the search says about other cases, and
what each further fold said. These scores chose, so they are biased upwards and claim nothing.

A fold's evidence covers all seeds trained on it. All effects are in Dice, costs in wall seconds
of one training. Every order is by id in the end, so none depends on the caller.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from agent.beliefs import beyond
from agent.board import Board, Standing
from agent.evidence import Evidence, Posterior
from memory.errors import ExploreError

MOST, LEAST, SHARE = 20, 8, 4
FEW = 4
CHEAPER = 0.1
_LEAST_VARIANCE = 1e-12


class Candidate(NamedTuple):
    """A network that the search likes.

    `prior` is the search's belief about its effect on other cases (`priors`), `folds` its
    evidence on each further fold, `cost_s` the wall seconds of one training of it.
    """

    id: str
    prior: Posterior
    folds: tuple[Evidence, ...] = ()
    cost_s: float = 0.0


class Plan(NamedTuple):
    """What the staged selection trains; all zero where nothing fits.

    `candidates` are trained once on each of `folds` further folds, beside the baseline's seeds;
    the best `finalists_again` of them `seeds` more times on each. `seconds` is the most wall
    time that this takes, if no training takes longer than was told.
    """

    candidates: int = 0
    folds: int = 0
    finalists_again: int = 0
    seeds: int = 0
    seconds: float = 0.0


def priors(board: Board, leaders: Sequence[Standing]) -> list[Posterior]:
    """Return what the search believes of each leader's effect on other cases, in Dice.

    As `Board.beyond`, but how much of an effect is the luck of the search's cases is read off the
    mean spread of all leaders. A network's own spread comes from few cases: it would draw some
    leaders far to the mean and leave others where they are, for no merit of theirs.
    """
    spreads = [one.network.readings[-1].cases for one in leaders if one.network.readings]
    cases = math.fsum(spreads) / len(spreads) if spreads else 0.0
    return [beyond(one.belief, cases, board.it) for one in leaders]


def pooled(candidate: Candidate) -> Posterior:
    """Return the belief about a candidate's effect after all of its folds, in Dice.

    The product of the prior and the folds' normal likelihoods, weighted by their precisions:
    the folds' cases are different ones, and so are their trainings.
    """
    means = [candidate.prior.mean, *(one.delta for one in candidate.folds)]
    sds = [candidate.prior.sd, *(one.se for one in candidate.folds)]
    weights = [1 / max(sd**2, _LEAST_VARIANCE) for sd in sds]
    total = math.fsum(weights)
    mean = math.fsum(w * m for w, m in zip(weights, means, strict=True)) / total
    return Posterior(mean, 1 / math.sqrt(total))


def how_many(n: int) -> int:
    """Return how many of `n` networks enter the selection: a quarter, 8 to 20, at most all."""
    return min(n, MOST, max(LEAST, n // SHARE))


def plan(
    *,
    n_candidates: int,
    cost_s: float,
    baseline_cost_s: float,
    slots: int,
    seconds: float,
    folds: int,
    seeds: int,
    baseline_seeds: int,
    wanted: int,
) -> Plan:
    """Return the largest selection that fits into a time.

    Args:
        n_candidates: networks with scores at the last rung.
        cost_s: wall seconds of one training of a candidate; of the slowest, to be safe.
        baseline_cost_s: the same of the baseline.
        slots: trainings side by side, at least 1.
        seconds: wall seconds that it may take; infinity for no limit.
        folds: further folds, at most.
        seeds: fresh seeds of the best few on each further fold, at most.
        baseline_seeds: trainings of the baseline on each further fold.
        wanted: candidates, at most; see `how_many`.

    Where it does not fit, these shrink one after another, each by one: the candidates to 8, the
    fresh seeds to none, the folds to one, the candidates to 2: in simulated campaigns each step
    costs the finalist less true effect for the time it saves than the next one would. Fewer
    candidates leave nothing to select: then, and where there is no fold, the plan is empty.

    Raises:
        ExploreError: a cost that is not above 0 and finite, no slot, or a time that is none.
    """
    if not 0 < cost_s < math.inf or not 0 < baseline_cost_s < math.inf or slots < 1:
        raise ExploreError(
            f"costs {cost_s!r} and {baseline_cost_s!r} s, slots {slots!r}: allowed are finite "
            "numbers above 0, and 1 or more"
        )
    if math.isnan(seconds):
        raise ExploreError("seconds of the selection are NaN; allowed: a number or infinity")
    for count, on, more in _shapes(min(wanted, n_candidates), folds, max(0, seeds)):
        few = min(FEW, count) if more else 0
        bases, first, again = on * baseline_seeds, on * count, on * few * more
        takes = _wall_s(bases * baseline_cost_s, first * cost_s, baseline_cost_s, cost_s, slots)
        takes += _wall_s(0.0, again * cost_s, 0.0, cost_s if again else 0.0, slots)
        if takes <= seconds:
            return Plan(count, on, few, more, takes)
    return Plan()


def again(candidates: Iterable[Candidate], few: int = FEW) -> list[Candidate]:
    """Return the best few by pooled mean, which are trained with fresh seeds; best first."""
    return _by_mean(candidates)[:few]


def choose(candidates: Iterable[Candidate], k: int) -> list[Candidate]:
    """Return at most `k` finalists, in the order of choice.

    The best pooled mean first; but those within one standard error of it (its own SD) are not
    told apart by it: among them the cheaper comes first, in steps of a tenth of the cheapest's
    cost, and of equally cheap ones the better.
    """
    ordered = _by_mean(candidates)
    if not ordered:
        return []
    best = pooled(ordered[0])
    near = [one for one in ordered if pooled(one).mean >= best.mean - best.sd]
    cheapest = min(one.cost_s for one in near)
    near.sort(key=lambda one: _cost_step(one.cost_s, cheapest))
    return [*near, *ordered[len(near) :]][:k]


def _by_mean(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda one: (-pooled(one).mean, one.id))


def _cost_step(cost_s: float, cheapest: float) -> int:
    """Return how many tenths, compounded, a cost lies above the cheapest."""
    if cheapest <= 0:
        return int(cost_s > 0)
    return math.floor(math.log(cost_s / cheapest) / math.log1p(CHEAPER))


def _shapes(most: int, folds: int, seeds: int) -> Iterator[tuple[int, int, int]]:
    """Yield candidates, folds and fresh seeds, the largest selection first."""
    if most < 2 or folds < 1:
        return
    least = min(most, LEAST)
    yield from ((count, folds, seeds) for count in range(most, least, -1))
    yield from ((least, folds, more) for more in range(seeds, 0, -1))
    yield from ((least, on, 0) for on in range(folds, 1, -1))
    yield from ((count, 1, 0) for count in range(least, 1, -1))


def _wall_s(base_s: float, own_s: float, one_base: float, one_own: float, slots: int) -> float:
    """Return the most seconds that trainings take on some slots, started one after another.

    Sum / slots + (1 - 1 / slots) * longest (Graham 1969, doi:10.1137/0117039).
    """
    return (base_s + own_s) / slots + (1 - 1 / slots) * max(one_base, one_own)
