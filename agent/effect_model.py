"""The Bayesian linear model of component effects, solved exactly. Pure.

The effect of a network at the last rung (its mean paired difference to the baseline, in Dice) is

    y = sum over its modules of [a(component) + b(component, position, depth)
        + sum over the dataset's traits of c(component, trait)] + u(network) + baseline_sd * o + e

    a ~ N(0, COMPONENT^2), b ~ N(0, PLACE^2), c ~ N(0, TRAIT^2), u ~ N(0, NETWORK^2), o ~ N(0, 1),
    e ~ N(0, variance / weight)

Depth is fine (stages 0 and 1), deep, or nothing where there are no stages; a module at both has the
mean of b over its stages. u is what the sum does not tell of a network, the same for all its
trials; o is the luck of the baseline's seeds, the same for all that is compared with those runs.

The posterior of all coefficients has the information D^-1 + X' W X and the mean
(D^-1 + X' W X)^-1 X' W y (Bishop 2006, eqs. 3.50 and 3.51), D being the prior's variances. The
readings of a network, of precisions p and P = sum of p, enter as their mean with the weight
W = share * P / (1 + NETWORK^2 * P): u is integrated out. Coefficients that always come together,
such as those of a new class that one network has, are solved for as their sum.
"""

import math
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri
from scipy.sparse import csr_array

# SDs in Dice. COMPONENT, PLACE and NETWORK are where the marginal likelihood of the replayed
# table's networks of components is highest, on a coarse grid (22 networks at the last rung, their
# spread 0.037, that of seeds 0.033). One dataset cannot show TRAIT: with it as large as PLACE, a
# component's effects on two datasets of three traits each, none shared, correlate by 0.57.
COMPONENT = 0.02
PLACE = 0.01
TRAIT = 0.01
NETWORK = 0.015
FINE_STAGES = 2
KEPT = 2**15  # networks whose lines are kept

Part = tuple[str, str, tuple[int, ...]]
"""Component, position, stages, as in `memory.records.Module`."""
Parts = tuple[Part, ...]
Feature = tuple[str, ...]
"""A coefficient's name: its letter, then component, position and depth, trait, or baseline."""
Vector = NDArray[np.float64]


class Effect(NamedTuple):
    """Mean and standard error of a belief, in Dice; positive favours what it is about."""

    mean: float
    se: float


class Measured(NamedTuple):
    """One reading of a network: effect in Dice, precision in Dice^-2, and the baseline's luck."""

    effect: float
    precision: float
    baseline: str
    baseline_sd: float


class Tried(NamedTuple):
    """A network on a dataset; parts and traits are sorted. `share` in (0, 1] is what it counts."""

    network: str
    parts: Parts
    traits: tuple[str, ...]
    share: float


class Line(NamedTuple):
    """One row of X: its entries, the value and its precision; `u_share` is 1 where u is in it."""

    weights: Mapping[Feature, float]
    value: float
    precision: float
    share: float
    u_share: float


class Solved(NamedTuple):
    """The posterior of sums of features: mean (K,), covariance root @ root.T (K, K).

    The features of a sum are independent of all else given it, and given it each has its share
    of the prior's variance of it.
    """

    scale: float
    groups: list[list[Feature]]
    place: Mapping[Feature, int]
    variances: Vector
    mean: Vector
    root: Vector
    log_evidence: float

    def ask(self, weights: Mapping[Feature, float]) -> Effect:
        """Return the belief about a weighted sum of features."""
        shared = defaultdict[int, float](float)
        rest = 0.0
        for one, weight in weights.items():
            variance = prior_of(one, self.scale)
            rest += weight**2 * variance
            if one in self.place:
                shared[self.place[one]] += weight * variance
        at = list(shared)
        each = np.array([shared[one] for one in at]) / self.variances[at]
        rest -= float(each**2 @ self.variances[at])
        known = each @ self.root[at]
        return Effect(float(each @ self.mean[at]), math.sqrt(max(0.0, rest) + float(known @ known)))

    def draw(self, rng: random.Random) -> dict[Feature, float]:
        """Return a draw of every feature: the sums', then prior draws moved to agree with them."""
        sums = self.mean + self.root @ np.array([rng.gauss(0.0, 1.0) for _ in self.mean])
        found: dict[Feature, float] = {}
        for group, total, whole in zip(self.groups, sums, self.variances, strict=True):
            variances = [prior_of(one, self.scale) for one in group]
            loose = [rng.gauss(0.0, math.sqrt(variance)) for variance in variances]
            miss = (float(total) - math.fsum(loose)) / float(whole)
            moved = [x + v * miss for x, v in zip(loose, variances, strict=True)]
            found |= zip(group, moved, strict=True)
        return found


class Design(NamedTuple):
    """X by its entries (rows rise), its lines, and the features of each column."""

    lines: list[Line]
    groups: list[list[Feature]]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    entries: Vector

    def solve(self, scale: float) -> Solved:
        """Return the posterior, by Cholesky's factor of the information in units of the prior."""
        values, precisions, shares, inside = (
            np.array([line[i] for line in self.lines]) for i in range(1, 5)
        )
        weights = shares * precisions / (1 + inside * (NETWORK * scale) ** 2 * precisions)
        prior = [math.fsum(prior_of(one, scale) for one in group) for group in self.groups]
        variances = np.array(prior)
        sds = np.sqrt(variances)
        shape = (len(self.lines), len(self.groups))
        part = csr_array((self.entries * sds[self.columns], (self.rows, self.columns)), shape)
        weighed = part.multiply(weights[:, None]).T.tocsr()
        lower = np.linalg.cholesky(np.eye(len(sds)) + (weighed @ part).toarray())
        # LAPACK complains aloud of a matrix without rows, which is its own inverse.
        vector, inverse = weighed @ values, dtrtri(lower, lower=1)[0] if len(sds) else lower
        half, root = inverse @ vector, sds[:, None] * inverse.T
        fitted = np.log(weights).sum() - weights @ values**2 + half @ half
        log_evidence = float(fitted / 2 - np.log(np.diag(lower)).sum())
        place = {one: i for i, group in enumerate(self.groups) for one in group}
        return Solved(scale, self.groups, place, variances, root @ half, root, log_evidence)


def design_of(networks: Mapping[Tried, tuple[Measured, ...]]) -> Design:
    """Return the lines of all networks; features with the same entries become one column."""
    lines = [line for tried in sorted(networks) for line in lines_of(tried, networks[tried])]
    entries = defaultdict[Feature, list[tuple[int, float]]](list)
    for row, line in enumerate(lines):
        for one, weight in line.weights.items():
            entries[one].append((row, weight))
    groups = defaultdict[tuple[tuple[int, float], ...], list[Feature]](list)
    for one in sorted(entries):
        groups[tuple(entries[one])].append(one)
    cells = [cell for own in groups for cell in own]
    columns = np.repeat(np.arange(len(groups), dtype=np.int64), [len(own) for own in groups])
    rows = np.fromiter((row for row, _ in cells), np.int64, len(cells))
    weights = np.fromiter((weight for _, weight in cells), np.float64, len(cells))
    order = np.lexsort((columns, rows))
    return Design(lines, list(groups.values()), rows[order], columns[order], weights[order])


@lru_cache(KEPT)
def lines_of(tried: Tried, readings: tuple[Measured, ...]) -> tuple[Line, ...]:
    """Return a network's lines; those of before come again at the next fit."""
    return tuple(_lines(tried, readings))


def _lines(tried: Tried, readings: Iterable[Measured]) -> Iterator[Line]:
    """Yield a network's readings as independent lines, u integrated out.

    The mean of all has u in it; what readings against other baselines differ from it has not.
    """
    against = defaultdict[tuple[str, float], list[Measured]](list)
    for one in readings:
        against[one.baseline, one.baseline_sd].append(one)
    precision = {key: math.fsum(one.precision for one in own) for key, own in against.items()}
    value = {
        key: math.fsum(one.precision * one.effect for one in own) / precision[key]
        for key, own in against.items()
    }
    total = math.fsum(precision.values())
    mean = math.fsum(precision[key] * value[key] for key in against) / total
    luck = defaultdict[Feature, float](float)
    for name, sd in against:
        luck["o", name] += precision[name, sd] / total * sd
    lucky = {one: sd for one, sd in luck.items() if sd}
    yield Line(weights_of(tried.parts, tried.traits) | lucky, mean, total, tried.share, 1.0)
    for name, sd in against if len(against) > 1 else ():
        key, own = (name, sd), {one: -weight for one, weight in lucky.items()}
        own["o", name] = own.get(("o", name), 0.0) + sd
        luck_alone = {one: weight for one, weight in own.items() if weight}
        yield Line(luck_alone, value[key] - mean, precision[key], tried.share, 0.0)


def weights_of(
    modules: Iterable[Part], traits: Collection[str], *, is_placed: bool = True
) -> dict[Feature, float]:
    """Return how often each coefficient is in the effect of modules; without b if not placed."""
    found = defaultdict[Feature, float](float)
    for component, position, stages in modules:
        found["a", component] += 1.0
        for trait in sorted(set(traits)):
            found["c", component, trait] += 1.0
        depths = ["fine" if stage < FINE_STAGES else "deep" for stage in stages] or [""]
        for depth in depths if is_placed else ():
            found["b", component, position, depth] += 1 / len(depths)
    return dict(found)


def prior_of(one: Feature, scale: float) -> float:
    """Return a coefficient's variance before any reading; that of luck is 1 and has no scale."""
    sds = {"a": COMPONENT, "b": PLACE, "c": TRAIT}
    return (sds[one[0]] * scale) ** 2 if one[0] in sds else 1.0
