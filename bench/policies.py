"""`segwright bench policies`: every policy at equal cost, in simulated worlds and on real trials.

Simulated (`bench/worlds.py`): 100 trainings of the last rung a campaign, 200 campaigns a policy and
scenario, the same worlds for all policies. Replayed (`bench/replay.py`): the table of real networks.

| key | what it is |
| --- | --- |
| regret.SCENARIO.POLICY | the best ceiling of 30 ideas less the true effect of the network reported |
| bias.SCENARIO.POLICY | the policy's own estimate of that network less its true effect |
| lead.SCENARIO.POLICY | share of campaigns that call their network better than the baseline |
| false_lead.SCENARIO.POLICY | share that do so where it is not better |
| first_win.SCENARIO.POLICY | cost until a network truly better by the margin was read |
| replay_cost.POLICY | cost until the best network of the table was read at the last rung |
| replay_regret.POLICY, replay_bias.POLICY | as above, on the table |
| gap.SCENARIO.POLICY | qwbe's regret less the policy's, world by world |

Regret and bias in points of Dice, costs in trainings of the last rung. Value: mean over campaigns;
low and high: its 95 % interval.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from statistics import fmean, stdev

from agent.ladder import Settings
from agent.policies import POLICIES
from bench.figures import Figure
from bench.replay import Found, Replay, Trials, read_trials, whole_s
from bench.table_rows import TRIALS, is_made
from bench.worlds import SCENARIOS, Outcome, play

BUDGET = 100.0
REPEATS, QUICK = 200, 8
POINTS = 100.0
NORMAL = 1.96

Say = Callable[[str], None]


def run(*, is_quick: bool, data: Sequence[Path], say: Say) -> dict[str, Figure]:
    """Play all campaigns and return their figures.

    Args:
        is_quick: few campaigns.
        data: not used; the table of real trials is part of the program.
        say: told what comes next.
    """
    repeats = QUICK if is_quick else REPEATS
    figures: dict[str, Figure] = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for scenario in SCENARIOS:
            found: dict[str, list[Outcome]] = {}
            for policy in POLICIES:
                say(f"{scenario}: {policy}")
                one = partial(simulated, scenario, policy)
                found[policy] = list(pool.map(one, range(repeats), chunksize=4))
            figures |= scenario_figures(scenario, found)
        if is_made():
            for policy in POLICIES:
                say(f"replayed table: {policy}")
                rows = list(pool.map(partial(replayed, policy), range(repeats), chunksize=4))
                figures |= replay_figures(policy, rows)
        else:
            say(f"skipped: {TRIALS} is not whole; `segwright bench table` makes it")
    if not is_quick:
        from bench.policy_figure import draw

        say(f"drawn: {draw(figures)}")
    return figures


def simulated(scenario: str, policy: str, seed: int) -> Outcome:
    """Return how one simulated campaign ended."""
    return play(scenario, policy, seed, budget=BUDGET, settings=Settings())


def replayed(policy: str, seed: int) -> Found:
    """Return how one replay ended."""
    trials = the_table()
    return Replay(
        trials=trials, seed=seed, policy=policy, settings=Settings(), budget=whole_s(trials)
    ).run()


@cache
def the_table() -> Trials:
    """Return the table, read once a process."""
    return read_trials()


def scenario_figures(scenario: str, found: dict[str, list[Outcome]]) -> dict[str, Figure]:
    """Return the figures of all policies in one scenario."""
    figures: dict[str, Figure] = {}
    ours = [one.regret for one in found["qwbe"]]
    for policy, rows in found.items():
        end = f"{scenario}.{policy}"
        gaps = [own - one.regret for own, one in zip(ours, rows, strict=True)]
        figures |= {
            f"regret.{end}": mean_of([POINTS * one.regret for one in rows], "points"),
            f"bias.{end}": mean_of([POINTS * one.bias for one in rows], "points"),
            f"lead.{end}": mean_of([one.is_lead for one in rows], "1"),
            f"false_lead.{end}": mean_of([one.is_false_lead for one in rows], "1"),
            f"first_win.{end}": mean_of([one.first_win for one in rows], "trainings"),
        }
        if policy != "qwbe":
            figures[f"gap.{end}"] = mean_of([POINTS * gap for gap in gaps], "points")
    return figures


def replay_figures(policy: str, rows: Sequence[Found]) -> dict[str, Figure]:
    """Return a policy's figures on the table."""
    return {
        f"replay_cost.{policy}": mean_of([one.cost for one in rows], "trainings"),
        f"replay_found.{policy}": mean_of([one.was_found for one in rows], "1"),
        f"replay_regret.{policy}": mean_of([POINTS * one.regret for one in rows], "points"),
        f"replay_bias.{policy}": mean_of([POINTS * one.bias for one in rows], "points"),
    }


def mean_of(values: Sequence[float], unit: str) -> Figure:
    """Return the mean over campaigns with its normal 95 % interval."""
    middle = fmean(values)
    half = NORMAL * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Figure(middle, middle - half, middle + half, unit)
