"""What the readings of a tree say about each network: one Gaussian model, solved exactly.

The effect of a network on this split, its mean difference to the baseline at the last rung and
over seeds in Dice, is

    draft:  theta ~ N(mean, sd^2)
    child:  theta = theta of its parent + N(step_mean, step_sd^2)
    reading y at the last rung:  y = theta + N(0, variance)
    reading x at a lower rung:   intercept + slope * x = theta + N(0, link_sd^2)

The variance is that of seeds alone: the baseline's, times what repeats of networks say about it.
Which cases are in the split is the same luck for a network however often it is trained, and in
large part for its children: it is in `theta`, and taken out of it only where something is said
about other cases (`beyond`).

`solve` gives every network's posterior by passing messages up the tree and down again, which
is exact on a tree and linear in its networks (Pearl 1988; in information form). `estimate` gets
the constants from the campaign itself: moments with a few pseudo-observations of the prior, the
link of each rung by ridge regression of the last rung on it. Networks climb because of what they
read at the lower rung, and a regression on what selected them is not biased by the selection.

Constants are put on a coarse grid (a quarter of an octave), so that a branch's posterior is
computed again only when the branch or a constant has really changed. Everything scales with the
prior's SD: effects, noise and prior times two give beliefs times two.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agent.branches import Branch, Reading
from agent.evidence import Posterior
from agent.search_tree import Tree

PRIOR_DRAFTS = 3.0
PRIOR_STEPS = 6.0
PRIOR_PAIRS = 3.0
STEP_MEAN, STEP_SD = -0.05, 0.45
GRID = 4
MOST_LUCK = 0.99
WIDE = 2.0
LEAST_NOISE = 0.25


class Link(NamedTuple):
    """How a reading at one rung predicts the last one: intercept + slope * x, SD in Dice."""

    intercept: float
    slope: float
    sd: float


class Constants(NamedTuple):
    """The model's constants, in Dice; `links` has one entry for each rung below the last.

    `noise` is the seed variance of networks as a multiple of the baseline's.
    """

    mean: float
    sd: float
    step_mean: float
    step_sd: float
    links: tuple[Link, ...]
    noise: float = 1.0


class Moments(NamedTuple):
    """Sums over some estimates: how many, and their values, squares and variances."""

    number: float = 0.0
    values: float = 0.0
    squares: float = 0.0
    variances: float = 0.0

    def spread(self, mean: float, prior_sd: float, weight: float) -> float:
        """Return the SD of true values around a mean, less noise, with `weight` of the prior."""
        around = self.squares - 2 * mean * self.values + self.number * mean**2
        total = weight * prior_sd**2 + around - self.variances
        return math.sqrt(max(0.0, total / (weight + self.number)))


class Pairs(NamedTuple):
    """Sums over networks read at a lower rung (x) and at the last (y), with their variances."""

    number: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0
    x_variance: float = 0.0
    y_variance: float = 0.0


def solve(
    parents: Sequence[int], told: Sequence[Posterior | None], it: Constants
) -> list[Posterior]:
    """Return the posterior of every network of a branch.

    Args:
        parents: each network's place of its parent, smaller than its own; -1 for a draft.
        told: what its own readings say (see `tell`), None where there is none.
        it: the constants.
    """
    count = len(parents)
    precision = [1 / one.sd**2 if one else 0.0 for one in told]
    weighted = [one.mean / one.sd**2 if one else 0.0 for one in told]
    from_child: list[tuple[float, float]] = [(0.0, 0.0)] * count
    for i in range(count - 1, -1, -1):
        if parents[i] >= 0 and precision[i] > 0:
            up = 1 / (it.step_sd**2 + 1 / precision[i])
            from_child[i] = up, up * (weighted[i] / precision[i] - it.step_mean)
            precision[parents[i]] += from_child[i][0]
            weighted[parents[i]] += from_child[i][1]
    for i, parent in enumerate(parents):
        if parent < 0:
            down, mean = 1 / it.sd**2, it.mean
        else:
            rest = precision[parent] - from_child[i][0]
            down = 1 / (it.step_sd**2 + 1 / rest)
            mean = (weighted[parent] - from_child[i][1]) / rest + it.step_mean
        precision[i] += down
        weighted[i] += down * mean
    return [Posterior(w / p, 1 / math.sqrt(p)) for w, p in zip(weighted, precision, strict=True)]


def tell(readings: Iterable[Reading], it: Constants) -> Posterior | None:
    """Return what a network's own readings say about its effect; None without any."""
    precision = weighted = 0.0
    for one in readings:
        mean, variance = one.value, it.noise * one.variance
        if one.rung < len(it.links):
            link = it.links[one.rung]
            mean, variance = link.intercept + link.slope * one.value, link.sd**2
        precision += 1 / variance
        weighted += mean / variance
    return Posterior(weighted / precision, 1 / math.sqrt(precision)) if precision else None


def beyond(one: Posterior, cases: float, it: Constants) -> Posterior:
    """Return the belief about other cases than the split's.

    theta = effect + luck of the cases, whose variance is `cases`; effect ~ N(mean, sd^2 - cases)
    over drafts. Its mean is drawn to that of drafts, by the share of luck in their spread.
    """
    share = min(MOST_LUCK, cases / it.sd**2)
    mean = it.mean + (1 - share) * (one.mean - it.mean)
    return Posterior(mean, math.hypot((1 - share) * one.sd, math.sqrt(share * (1 - share)) * it.sd))


def of_branch(branch: Branch, it: Constants) -> list[Posterior]:
    """Return the posterior of every network of a branch, in the order of `branch.networks`.

    Kept with the branch for as long as the constants stay the same.
    """
    kept: tuple[Constants, list[Posterior]] | None = branch.__dict__.get("beliefs")
    if kept is None or kept[0] != it:
        networks = branch.networks
        told = [tell(network.readings, it) for network in networks]
        kept = it, solve([network.parent for network in networks], told, it)
        branch.__dict__["beliefs"] = kept
    return kept[1]


def estimate(tree: Tree) -> Constants:
    """Return the constants that a campaign's own readings suggest, with its prior."""
    branches = list(tree.branches.values())
    noise = noise_of(tree, branches)
    links = links_of(tree, branches, noise)
    mean, sd, _ = spreads_of(tree, branches, links, noise)
    if sd > WIDE * tree.prior_sd:
        # Drafts lie so far apart that a link's prior would be all but certain beside them.
        links = links_of(tree, branches, noise, unit=sd / (WIDE * tree.prior_sd))
    mean, sd, steps = spreads_of(tree, branches, links, noise)
    step_mean = sd * STEP_MEAN
    step_sd = on_grid(steps.spread(step_mean, sd * STEP_SD, PRIOR_STEPS), 0.1 * sd)
    return Constants(sd * round(10 * mean / sd) / 10, sd, step_mean, step_sd, links, noise)


def links_of(
    tree: Tree, branches: Sequence[Branch], noise: float, unit: float = 1.0
) -> tuple[Link, ...]:
    """Return the link of each rung below the last; `unit` multiplies the SDs of its prior."""
    last = tree.last_rung
    pairs = [Pairs(*total(pairs_of(b, rung, last) for b in branches)) for rung in range(last)]
    return tuple(link_of(tree, one, noise, unit) for one in pairs)


def spreads_of(
    tree: Tree, branches: Sequence[Branch], links: tuple[Link, ...], noise: float
) -> tuple[float, float, Moments]:
    """Return the mean and the SD of drafts, and the moments of the steps from parents."""
    told = [moments_of(branch, links, noise) for branch in branches]
    drafts, steps = (Moments(*total(one[i] for one in told)) for i in (0, 1))
    mean = drafts.values / (drafts.number + 1)
    sd = drafts.spread(mean, tree.prior_sd, PRIOR_DRAFTS)
    return mean, on_grid(sd, 0.25 * tree.prior_sd), steps


def noise_of(tree: Tree, branches: Iterable[Branch]) -> float:
    """Return the seed variance of networks as a multiple of the baseline's, on the grid.

    Squares of repeats pooled over all networks, and drawn to 1 by the degrees of freedom that the
    baseline's own estimate has: the posterior mean of a scaled inverse chi-square, in effect.
    """
    found = [branch.repeats for branch in branches]
    known = max(1, tree.baseline_seeds - 1)
    squares = known + math.fsum(one.squares for one in found)
    return on_grid(squares / (known + sum(one.df for one in found)), LEAST_NOISE)


def total(rows: Iterable[Sequence[float]]) -> list[float]:
    """Return the sums over rows, column by column; nothing without rows."""
    return [math.fsum(column) for column in zip(*rows, strict=True)]


def on_grid(value: float, least: float) -> float:
    """Return a positive value on a grid of quarters of an octave, at least `least`."""
    return float(2.0 ** (round(GRID * math.log2(max(value, least))) / GRID))


def moments_of(branch: Branch, links: tuple[Link, ...], noise: float) -> tuple[Moments, Moments]:
    """Return the moments of a branch's drafts and steps; kept while the constants are the same."""
    it = Constants(0.0, 1.0, 0.0, 1.0, links, noise)
    kept: tuple[Constants, tuple[Moments, Moments]] | None = branch.__dict__.get("moments")
    if kept is None or kept[0] != it:
        kept = it, measure_moments(branch, it)
        branch.__dict__["moments"] = kept
    return kept[1]


def measure_moments(branch: Branch, it: Constants) -> tuple[Moments, Moments]:
    """Return the moments of a branch's drafts, and of the steps from parents to children."""
    told = [tell(network.readings, it) for network in branch.networks]
    drafts, steps = [Moments()], [Moments()]
    for network, one in zip(branch.networks, told, strict=True):
        above = told[network.parent] if network.parent >= 0 else None
        if one is not None and above is None:
            drafts.append(Moments(1, one.mean, one.mean**2, one.sd**2))
        elif one is not None and above is not None:
            step, variance = one.mean - above.mean, one.sd**2 + above.sd**2
            steps.append(Moments(1, step, step**2, variance))
    return Moments(*total(drafts)), Moments(*total(steps))


def pairs_of(branch: Branch, rung: int, last: int) -> Pairs:
    """Return the sums over a branch's networks with readings at a rung and at the last one."""
    kept: dict[int, Pairs] = branch.__dict__.setdefault("pairs", {})
    if rung not in kept:
        rows = [Pairs()]
        for network in branch.networks:
            read = {one.rung: one for one in network.readings}
            if rung in read and last in read:
                x, y = read[rung].value, read[last].value
                noise = read[rung].variance, read[last].variance
                rows.append(Pairs(1, x, y, x * x, x * y, y * y, *noise))
        kept[rung] = Pairs(*total(rows))
    return kept[rung]


def link_of(tree: Tree, it: Pairs, noise_factor: float, unit: float = 1.0) -> Link:
    """Return the ridge regression of the last rung on a lower one.

    The slope is drawn to 1 by PRIOR_PAIRS pseudo-pairs that lie `prior_sd` apart, the intercept
    to 0 by half as many. The SD is that of the residuals, less the noise of y, with as many
    pseudo-residuals of `rung_sd` and of a typical noise of x. Both SDs are times `unit`.
    """
    prior_sd, rung_sd = unit * tree.prior_sd, unit * tree.rung_sd
    weight, count = PRIOR_PAIRS, it.number
    x, y = it.x / (count + weight / 2), it.y / (count + weight / 2)
    ridge = weight * prior_sd**2
    slope_of = it.xy - x * it.y - y * it.x + count * x * y + ridge
    slope = round(10 * slope_of / (it.xx - 2 * x * it.x + count * x * x + ridge)) / 10
    intercept = y - slope * x
    squares = (
        it.yy + slope**2 * it.xx + count * intercept**2
        - 2 * (slope * it.xy + intercept * it.y - slope * intercept * it.x)
    )  # fmt: skip
    noise = noise_factor * it.x_variance / count if count else rung_sd**2 / 4
    prior = rung_sd**2 + noise
    left = (weight * prior + squares - noise_factor * it.y_variance) / (weight + count)
    sd = on_grid(math.sqrt(max(0.0, left)), 0.5 * math.sqrt(prior))
    return Link(sd * round(10 * intercept / sd) / 10, slope, sd)
