"""Scores of networks whose true effects are known: one campaign's cases, networks and trainings.

A score in points of Dice is

    difficulty of the case + effect of the network + network x case + run + run x case

with normal network x case and run, and run x case from a t distribution of 5 degrees of freedom.
The difficulty is uniform, 78 to 92, so that scores hardly ever reach 100, where they are cut. The
baseline is the network with effect 0 and no network x case: what it has is part of the difficulty.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDS, FOLD_CASES, LOCKED_CASES = 5, 20, 60
LOCKED = FOLDS
"""The part that is locked; parts 0 to 4 are the folds, 0 is the search's."""
EASIEST, HARDEST = 92.0, 78.0
FREEDOM = 5
POINT = 0.01

Scores = NDArray[np.float64]


class World(NamedTuple):
    """SDs in points: of a run's mean, of network x case, and of run x case."""

    run: float = 0.3
    network: float = 2.0
    noise: float = 2.0


class Cohort:
    """One campaign's cases and networks; each call of `candidate` or `baseline` trains anew."""

    def __init__(
        self, world: World, effects: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        """Draw the cases and the networks; `effects` float64 (networks,), in points."""
        self.world, self.effects, self.rng = world, effects, rng
        count = FOLDS * FOLD_CASES + LOCKED_CASES
        self.difficulty = rng.uniform(HARDEST, EASIEST, count)
        self.network = rng.normal(0.0, world.network, (len(effects), count))

    def candidates(self, part: int) -> Scores:
        """Return one training of every network on one part: float64 (networks, cases), Dice."""
        own = slice_of(part)
        level = self.difficulty[own] + self.effects[:, None] + self.network[:, own]
        return self._trained(level)

    def candidate(self, which: int, part: int, *, seeds: int) -> Scores:
        """Return trainings of one network on one part: float64 (seeds, cases), Dice."""
        own = slice_of(part)
        level = self.difficulty[own] + self.effects[which] + self.network[which, own]
        return self._trained(np.tile(level, (seeds, 1)))

    def baseline(self, part: int, *, seeds: int) -> Scores:
        """Return trainings of the baseline on one part: float64 (seeds, cases), Dice."""
        return self._trained(np.tile(self.difficulty[slice_of(part)], (seeds, 1)))

    def _trained(self, level: Scores) -> Scores:
        """Return scores in [0, 1]: the level in points and the luck of each row's training."""
        run = self.rng.normal(0.0, self.world.run, (len(level), 1))
        scale = self.world.noise / math.sqrt(FREEDOM / (FREEDOM - 2))
        noise = scale * self.rng.standard_t(FREEDOM, level.shape)
        return np.clip((level + run + noise) * POINT, 0.0, 1.0)


def slice_of(part: int) -> slice:
    """Return the columns of a part among all cases."""
    start = part * FOLD_CASES
    return slice(start, start + (LOCKED_CASES if part == LOCKED else FOLD_CASES))
