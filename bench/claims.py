"""`segwright bench claims`: how often a campaign claims what is not so, and finds what is.

Simulated campaigns over N networks without any true effect (`bench/null_worlds.py`: the world of
100 development cases in five folds, 60 locked cases and three seeds an arm), decided by the
functions that decide a real one (`bench/null_campaigns.py`); two finalists each.

| key | what it is |
| --- | --- |
| false_claim.N | share of campaigns that claim a network to be better |
| false_claim_noisy.N | the same with twice the SD of trainings, 0.6 points |
| naive.N | share in which the best network's mean on the search's fold lies above the baseline's |
| naive_test.N | share in which a Wilcoxon test of it on the same fold has p < 0.05 |
| power.GAIN | share of confirmations that claim a network with that true gain in points, beside a finalist without |
| false_not_worse | share of confirmations that call a network better, or cheaper and not worse, that is not: of two finalists of half the cost one loses the allowed half point, one nothing |
| winner_effect.staged | true effect in points of the first finalist; effects ~ N(0, 0.5), N = 100 |
| winner_effect.argmax | the same of the network with the best mean on the search's fold |

Low and high: the 95 % interval; of shares that of Clopper and Pearson, of effects the normal one.

`--real` has its own figures, on the replayed table's trainings (`bench/null_table.py`): naive.real,
naive_test.real and false_claim.real as above; false_test.real, the share in which the claim's
tests hold, however few the cases; refused.real, the share in which no claim was allowed; low and
high are the least and the largest share of a network.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy import stats

from bench.figures import Figure
from bench.null_campaigns import BETTER, CLAIMS, Ended, confirmed, play
from bench.null_table import Drawn, draw, groups
from bench.null_worlds import Cohort, World
from bench.policies import mean_of
from bench.table_rows import FOLDER

SIZES = (20, 100, 500)
CAMPAIGNS, NOISY, POWER = 1000, 500, 1000
"""Campaigns a cell: of the null, of the noisy null, of each gain."""
QUICK = 4
GAINS, LOSS, HALF = (0.5, 1.0, 2.0), 0.5, 0.5
NOISY_RUN, EFFECT_SD, EFFECT_SIZE = 0.6, 0.5, 100
DRAWS = 400
SEED = 20

Say = Callable[[str], None]


def run(
    *, is_quick: bool, data: Sequence[Path], say: Say, is_real: bool = False
) -> dict[str, Figure]:
    """Play all campaigns and return their figures.

    Args:
        is_quick: few campaigns.
        data: not used; nothing is read but the replayed table.
        say: told what comes next.
        is_real: draws from the replayed table, and nothing else.

    Raises:
        SegwrightError: `is_real`, and the table is missing or has too little.
    """
    if is_real:
        return real_figures(QUICK if is_quick else DRAWS, say=say)
    figures: dict[str, Figure] = {}
    for size in SIZES:
        say(f"{size} networks without an effect")
        ended = null_campaigns(size, World(), QUICK if is_quick else CAMPAIGNS)
        figures |= null_figures(size, ended)
    for size in SIZES:
        say(f"{size} networks without an effect, noisy trainings")
        ended = null_campaigns(size, World(run=NOISY_RUN), QUICK if is_quick else NOISY)
        figures[f"false_claim_noisy.{size}"] = share([one.is_claim for one in ended])
    say("confirmations of a true gain")
    count = QUICK if is_quick else POWER
    figures |= {f"power.{gain:g}": share(found(gain, count)) for gain in GAINS}
    figures["false_not_worse"] = share(false_losses(count))
    say(f"{EFFECT_SIZE} networks with effects")
    return figures | effect_figures(QUICK if is_quick else CAMPAIGNS)


def null_campaigns(size: int, world: World, count: int) -> list[Ended]:
    """Return how campaigns over `size` networks without an effect end."""
    tag = round(1000 * world.run)
    rngs = (np.random.default_rng((SEED, size, tag, i)) for i in range(count))
    return [play(Cohort(world, np.zeros(size), rng)) for rng in rngs]


def null_figures(size: int, ended: Sequence[Ended]) -> dict[str, Figure]:
    """Return the figures of campaigns without any effect."""
    return {
        f"false_claim.{size}": share([one.is_claim for one in ended]),
        f"naive.{size}": share([one.is_naive for one in ended]),
        f"naive_test.{size}": share([one.is_naive_test for one in ended]),
    }


def found(gain: float, count: int) -> list[bool]:
    """Return for each confirmation whether a true gain in points was claimed.

    The other finalist has none, and is in Holm's adjustment.
    """
    effects = np.array([gain, 0.0])
    rngs = (np.random.default_rng((SEED, round(1000 * gain), i)) for i in range(count))
    return [confirmed(Cohort(World(), effects, rng), (0, 1))[0] in BETTER for rng in rngs]


def false_losses(count: int) -> list[bool]:
    """Return for each confirmation of two cheaper finalists whether it says what is not so.

    One loses exactly what is allowed, so that it is neither better nor not worse; the other
    loses nothing, so that it is not better.
    """
    effects = np.array([-LOSS, 0.0])
    rngs = (np.random.default_rng((SEED, 1, 1, i)) for i in range(count))
    told = [confirmed(Cohort(World(), effects, rng), (0, 1), cost_s=HALF) for rng in rngs]
    return [lossy in CLAIMS or equal in BETTER for lossy, equal in told]


def effect_figures(count: int) -> dict[str, Figure]:
    """Return the true effects of the networks chosen by both rules, on the same campaigns."""
    ended: list[Ended] = []
    for i in range(count):
        rng = np.random.default_rng((SEED, EFFECT_SIZE, 1, i))
        effects = rng.normal(0.0, EFFECT_SD, EFFECT_SIZE)
        ended.append(play(Cohort(World(), effects, rng)))
    return {
        "winner_effect.staged": mean_of([one.staged for one in ended], "points"),
        "winner_effect.argmax": mean_of([one.argmax for one in ended], "points"),
    }


def real_figures(count: int, *, say: Say, folder: Path = FOLDER) -> dict[str, Figure]:
    """Return the figures of draws from the replayed table; keys as above.

    Raises:
        SegwrightError: the table is missing or has too little.
    """
    rows: list[list[Drawn]] = []
    for place, (name, scores) in enumerate(groups(folder).items()):
        say(f"{name}: {len(scores)} trainings, {scores.shape[1]} cases")
        rng = np.random.default_rng((SEED, place))
        rows.append([draw(scores, rng) for _ in range(count)])
    return {
        "naive.real": over_networks([one.is_naive for one in row] for row in rows),
        "naive_test.real": over_networks([one.is_naive_test for one in row] for row in rows),
        "false_test.real": over_networks([one.is_test for one in row] for row in rows),
        "false_claim.real": over_networks([one.is_claim for one in row] for row in rows),
        "refused.real": over_networks([one.is_refused for one in row] for row in rows),
        "networks.real": Figure(len(rows), len(rows), len(rows), "networks"),
    }


def share(hits: Sequence[bool]) -> Figure:
    """Return the share of hits with its exact 95 % interval (Clopper and Pearson 1934)."""
    interval = stats.binomtest(sum(hits), len(hits)).proportion_ci(0.95, method="exact")
    return Figure(fmean(hits), float(interval.low), float(interval.high), "1")


def over_networks(rows: Iterable[Sequence[bool]]) -> Figure:
    """Return the mean share over networks, with the least and the largest."""
    shares = [fmean(row) for row in rows]
    return Figure(fmean(shares), min(shares), max(shares), "1")
