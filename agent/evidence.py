"""What one trial says about its network, against the baseline at the same rung.

The effect of a trial is the mean over cases of its paired difference to the baseline, in
Dice ([0, 1], higher is better; positive favours the trial). Two sources of noise are kept
apart: which cases happen to be in the split, and which seed each training happened to get.
A trial has one seed, so the spread of seeds is taken from the baseline's repeats.

Covered: differences, their standard error, and normal probabilities.
Not covered: several rungs at once (see agent/search_tree.py) and claims (agent/claims.py).
The sum of both variances counts the noise of a single case in a single run twice, which
makes the standard error slightly too large, never too small.
"""

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist, fmean, variance
from typing import NamedTuple

from memory.errors import ExploreError

CaseMeans = Mapping[str, float | None]
"""Case -> Dice of that case, averaged over its classes; None where it is undefined."""

Runs = Mapping[int, CaseMeans]
"""Seed -> the scores of that training."""


class SeedSpread(NamedTuple):
    """SD of a training's mean Dice over seeds, with the degrees of freedom behind it."""

    sd: float
    df: int


class Posterior(NamedTuple):
    """Normal belief about a true difference, in Dice."""

    mean: float
    sd: float


class Evidence(NamedTuple):
    """A trial's paired difference to the baseline at its rung, in Dice.

    `se_cases` comes from the spread over cases, `se_seed` from the seeds of both sides, `se`
    from both. `p_better` is the probability that the true difference exceeds 0. `n_dropped`
    counts cases without a defined score on both sides.
    """

    delta: float
    se_cases: float
    se_seed: float
    se: float
    p_better: float
    n_cases: int
    n_dropped: int = 0
    n_seeds: int = 1
    seed_sd: float = 0.0

    @property
    def baseline_sd(self) -> float:
        """SD in Dice that the seeds of the baseline add to `delta`."""
        return math.sqrt(max(0.0, self.se_seed**2 - self.seed_sd**2 / self.n_seeds))

    def p_above(self, level: float, *, extra_sd: float = 0.0) -> float:
        """Return the probability that the true difference to the baseline exceeds `level`.

        `extra_sd` (Dice) widens the normal distribution, for what this evidence cannot know.
        """
        return normal_tail(self.delta - level, math.hypot(self.se, extra_sd))

    def p_beats(self, other: "Evidence", margin: float = 0.0, *, extra_sd: float = 0.0) -> float:
        """Return the probability that this network passes another by more than `margin` Dice.

        Both must be measured against the same baseline runs: then the baseline's seeds cancel
        and only the two networks' own seeds count. Their cases are taken as independent; they
        are the same cases, so the probability is drawn towards one half, not away from it.
        """
        own = self.seed_sd**2 / self.n_seeds + other.seed_sd**2 / other.n_seeds
        spread = math.sqrt(own + self.se_cases**2 + other.se_cases**2 + extra_sd**2)
        return normal_tail(self.delta - other.delta - margin, spread)

    def posterior(self, prior_sd: float) -> Posterior:
        """Return the belief after this evidence and a normal prior of mean 0 and `prior_sd`."""
        weight = prior_sd**2 / (prior_sd**2 + self.se**2)
        return Posterior(weight * self.delta, math.sqrt(weight) * self.se)


def normal_tail(mean: float, sd: float) -> float:
    """Return P(X > 0) for X ~ N(mean, sd); with `sd` 0 it is 0, one half or 1."""
    if sd > 0:
        return NormalDist().cdf(mean / sd)
    return 0.5 if mean == 0 else float(mean > 0)


def seed_spread(rungs: Iterable[Runs]) -> SeedSpread:
    """Return the SD of a run's mean Dice over seeds, pooled over rungs.

    Args:
        rungs: the baseline's repeats of each rung. A rung with one run adds nothing; a case
            undefined in one run of a rung is left out of all its means.

    Squares are pooled over rungs and divided by their degrees of freedom; the root is divided
    by c4(df + 1) = sqrt(2 / df) * gamma((df + 1) / 2) / gamma(df / 2), because the root of an
    unbiased variance is on average too small (11 % with three runs; Holtzman 1950,
    doi:10.1080/01621459.1950.10501141).

    Raises:
        ExploreError: no rung has two runs, or a rung's runs differ in their cases.
    """
    squares, df = 0.0, 0
    for runs in rungs:
        if len(runs) < 2:
            continue
        kept = _defined_cases(list(runs.values()))
        means = [_mean_over(scores, kept) for scores in runs.values()]
        squares += variance(means) * (len(means) - 1)
        df += len(means) - 1
    if df == 0:
        raise ExploreError(
            "cannot estimate the seed SD: no rung has 2 runs of the baseline; "
            "train the baseline with at least 3 seeds at every rung"
        )
    return SeedSpread(math.sqrt(squares / df) / _c4(df), df)


def measure(candidate: Runs, baseline: Runs, *, spread: SeedSpread | None = None) -> Evidence:
    """Return a network's evidence against the baseline's repeats at the same rung.

    Args:
        candidate: seed -> case -> Dice; a trial of the search has one seed.
        baseline: the same for the baseline, same rung, same cases.
        spread: the seed SD, pooled over rungs; by default estimated from `baseline` alone.

    A case that is undefined in any run is dropped from all of them and counted.

    Raises:
        ExploreError: the runs differ in their cases, a score is not finite, fewer than 2 cases
            are left, or the seed SD cannot be estimated.
    """
    if not candidate or not baseline:
        raise ExploreError("cannot compare: a side has no run; both need at least 1")
    runs = [*candidate.values(), *baseline.values()]
    kept = _defined_cases(runs)
    differences = [
        fmean(_score(s, case) for s in candidate.values())
        - fmean(_score(s, case) for s in baseline.values())
        for case in kept
    ]
    seed_sd = (spread or seed_spread([baseline])).sd
    delta = fmean(differences)
    se_cases = math.sqrt(variance(differences) / len(kept))
    se_seed = seed_sd * math.sqrt(1 / len(candidate) + 1 / len(baseline))
    se = math.hypot(se_cases, se_seed)
    return Evidence(
        delta=delta,
        se_cases=se_cases,
        se_seed=se_seed,
        se=se,
        p_better=normal_tail(delta, se),
        n_cases=len(kept),
        n_dropped=len(runs[0]) - len(kept),
        n_seeds=len(candidate),
        seed_sd=seed_sd,
    )


def _c4(df: int) -> float:
    return math.sqrt(2 / df) * math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2))


def _score(scores: CaseMeans, case: str) -> float:
    value = scores[case]
    assert value is not None
    return value


def _mean_over(scores: CaseMeans, cases: list[str]) -> float:
    return fmean(_score(scores, case) for case in cases)


def _defined_cases(runs: list[CaseMeans]) -> list[str]:
    """Return the cases defined in every run, sorted; every run must hold the same cases."""
    cases = set(runs[0])
    for scores in runs:
        if set(scores) != cases:
            odd = sorted(cases ^ set(scores))[0]
            raise ExploreError(f"cannot pair cases: {odd!r} is scored in some runs only")
        for case, value in scores.items():
            if value is not None and not math.isfinite(value):
                raise ExploreError(f"score of case {case!r} is {value!r}; allowed: finite or None")
    kept = sorted(case for case in cases if all(s[case] is not None for s in runs))
    if len(kept) < 2:
        raise ExploreError(
            f"cannot compare on {len(kept)} of {len(cases)} cases; at least 2 must be defined"
        )
    return kept
