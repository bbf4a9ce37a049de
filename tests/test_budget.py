"""Budgets and rungs: what was spent, what is left, how long the last rung may be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.budget import active_seconds, left, reserve, spent
from agent.config import BudgetConfig, Config, parse_config
from agent.rungs import USABLE, Costs, iterations, load
from memory.records import Event, Kind, SplitName, Trial


def at(kind: str, seconds: float) -> Event:
    return Event(kind, kind, {}, at=seconds)


def trial(kind: Kind, gpu_s: float | None) -> Trial:
    return Trial("t", None, None, None, None, kind, 0, 1, SplitName.SEARCH_VAL, gpu_seconds=gpu_s)


def test_time_between_sessions_does_not_count() -> None:
    events = [at("split", 0), at("started", 100), at("cut", 160), at("started", 1000)]
    assert active_seconds(events, 1030) == 60 + 30


def test_a_campaign_that_never_started_spent_nothing() -> None:
    assert active_seconds([at("split", 0)], 50) == 0


def test_search_trials_count_and_baselines_do_not() -> None:
    trials = [trial(Kind.BASELINE, 10), trial(Kind.DRAFT, 20), trial(Kind.CONFIRM, None)]
    used = spent([at("started", 0)], trials, [], now=7200)
    assert (used.trials, used.gpu_seconds, used.seconds) == (1, 30, 7200)
    free = left(BudgetConfig(hours=3, gpu_hours=0.01, trials=5), used)
    assert free.seconds == 3600
    assert math.isclose(free.gpu_seconds, 6)
    assert (free.usd, free.trials) == (math.inf, 4)


def test_nothing_is_left_below_zero() -> None:
    used = spent([at("started", 0)], [], [], now=7200)
    assert left(BudgetConfig(hours=1), used).seconds == 0


def test_iterations_given_are_kept() -> None:
    config = parse_config({"rungs": {"iterations": 1600, "count": 3, "ratio": 4}})
    ladder = iterations(config, costs=Costs(1, 1), seconds=10, slots=1)
    assert ladder == [100, 400, 1600]


@given(st.floats(0.01, 5), st.floats(1, 60), st.floats(600, 1e6), st.integers(1, 8))
def test_the_whole_plan_fits_into_its_share_of_the_time(
    step_s: float, fixed_s: float, seconds: float, slots: int
) -> None:
    config = Config()
    low, high = config.rungs.min_iterations, config.rungs.max_iterations
    ladder = iterations(config, costs=Costs(step_s, fixed_s), seconds=seconds, slots=slots)
    assert ladder == sorted(ladder)
    assert low <= ladder[-1] <= high
    training, trials = load(config)
    takes = (training * ladder[-1] * step_s + trials * fixed_s) / slots
    assert takes <= USABLE * seconds + 1e-6 or ladder[-1] == low


def test_no_time_limit_takes_the_longest_ladder() -> None:
    config = Config()
    ladder = iterations(config, costs=Costs(1, 1), seconds=math.inf, slots=1)
    assert ladder[-1] == config.rungs.max_iterations


@pytest.mark.parametrize(
    ("left_s", "is_bare", "kept"),
    [
        (1000.0, True, 450.0),  # all of it leaves room for a network
        (480.0, True, 300.0),  # a search without a network goes before what comes after it
        (480.0, False, 450.0),  # one with a network does not
        (415.0, True, 300.0),  # room for a network to the second
        (414.0, True, 450.0),  # none is left beside the confirmation
        (math.inf, True, 450.0),
    ],
)
def test_selection_and_ablation_never_end_a_search_that_has_nothing(
    left_s: float, is_bare: bool, kept: float
) -> None:
    assert reserve(left_s, 300.0, 150.0, network_s=115.0, is_bare=is_bare) == kept
