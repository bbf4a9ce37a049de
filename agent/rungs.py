"""The ladder of training budgets: how many iterations each rung has.

Each rung is a complete training with its own learning-rate schedule, `ratio` times the one
below. Where the user gives no number, the last rung is made as long as the campaign's time
allows: baselines at every rung, the drafts, a share that climbs, and the confirmation must
all fit. Pure arithmetic.
"""

import math
from typing import NamedTuple

from agent.config import Config

CLIMB_SHARE = 1 / 3
SLOWER = 1.3
USABLE = 0.78
TEST_TAKES = 1.5


class Costs(NamedTuple):
    """Measured on this machine: seconds of one iteration, and of a trial beside its training."""

    step_s: float
    fixed_s: float


def iterations(config: Config, *, costs: Costs, seconds: float, slots: int) -> list[int]:
    """Return the iterations of each rung, lowest first.

    Args:
        config: rungs, baseline, explore and confirm say what must fit.
        costs: measured on nnU-Net's default network.
        seconds: wall seconds of the whole campaign; infinity for no limit.
        slots: trials side by side.
    """
    rungs = config.rungs
    top = rungs.iterations or longest(config, costs=costs, seconds=seconds, slots=slots)
    return [max(1, round(top / rungs.ratio ** (rungs.count - 1 - r))) for r in range(rungs.count)]


def longest(config: Config, *, costs: Costs, seconds: float, slots: int) -> int:
    """Return the last rung's iterations that fill the time, within the configured bounds."""
    rungs = config.rungs
    if math.isinf(seconds):
        return rungs.max_iterations
    training, trials = load(config)
    free = USABLE * seconds * slots - trials * costs.fixed_s
    fitting = int(free / (training * costs.step_s)) if free > 0 else 0
    return min(rungs.max_iterations, max(rungs.min_iterations, fitting))


def load(config: Config) -> tuple[float, float]:
    """Return the whole campaign as trainings of the last rung, and as a number of trials.

    A network of the search is taken to be SLOWER than the baseline; a trial on the locked
    test takes TEST_TAKES times the fixed part of one on search-val.
    """
    count, ratio = config.rungs.count, config.rungs.ratio
    lengths = [ratio ** -(count - 1 - r) for r in range(count)]
    climbing = [max(2.0, config.explore.drafts * CLIMB_SHARE**r) for r in range(1, count)]
    searched = [float(config.explore.drafts), *climbing]
    baselines = config.baseline.seeds * sum(lengths)
    search = SLOWER * sum(n * length for n, length in zip(searched, lengths, strict=True))
    arms = 1 + SLOWER * config.confirm.finalists
    trials = config.baseline.seeds * count + sum(searched)
    tests = TEST_TAKES * config.confirm.seeds * (1 + config.confirm.finalists)
    return baselines + search + arms * config.confirm.seeds, trials + tests
