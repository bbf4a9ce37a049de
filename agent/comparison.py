"""One setup's baselines, made ready once, to compare many trials with.

The arithmetic is that of `agent.evidence.measure`, whose result it gives up to rounding. What
needs the baselines alone (their cases, each case's mean, the seeds' share) is done once, so that
a hundred thousand trials are measured in seconds.
"""

from math import fsum, hypot, sqrt

from agent.evidence import (
    CaseMeans,
    Evidence,
    Runs,
    SeedSpread,
    measure,
    normal_tail,
)


class Comparison:
    """The baseline's repeats of one rung and batch size, with the spread of their seeds."""

    def __init__(self, runs: Runs, spread: SeedSpread) -> None:
        """Take the repeats, at least one; seed -> case -> Dice."""
        self.runs, self.spread = runs, spread
        first = next(iter(runs.values()))
        self.means = {case: _mean([one.get(case) for one in runs.values()]) for case in first}
        self.se_seed = spread.sd * sqrt(1 + 1 / len(runs))

    def evidence(self, seed: int, scores: CaseMeans) -> Evidence:
        """Return the evidence of a trial that was trained with one seed.

        Raises:
            ExploreError: as `measure`.
        """
        try:
            differences = [scores[case] - mean for case, mean in self.means.items()]  # type: ignore[operator]
            is_plain = len(scores) == len(self.means) > 1
        except (KeyError, TypeError):  # a case that is missing, or undefined on either side
            is_plain = False
        if not is_plain:
            return measure({seed: scores}, self.runs, spread=self.spread)
        count = len(differences)
        delta = fsum(differences) / count
        squares = fsum([(one - delta) ** 2 for one in differences])
        se_cases = sqrt(squares / (count - 1) / count)
        se = hypot(se_cases, self.se_seed)
        p_better = normal_tail(delta, se)
        return Evidence(delta, se_cases, self.se_seed, se, p_better, count, seed_sd=self.spread.sd)


def _mean(values: list[float | None]) -> float | None:
    """Return the mean of one case over the repeats; None where one of them has none."""
    defined = [value for value in values if value is not None]
    return fsum(defined) / len(values) if len(defined) == len(values) else None
