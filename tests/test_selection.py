"""Staged selection: pooling, the plan that fits a time, and an order that nothing else decides."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.board import Board
from agent.branches import Branch, Node
from agent.evidence import Evidence, Posterior
from agent.search_tree import Tree
from agent.selection import (
    Candidate,
    Plan,
    again,
    choose,
    how_many,
    plan,
    pooled,
    priors,
)
from memory.errors import ExploreError
from memory.records import Status


def read(delta: float, se: float) -> Evidence:
    """Return the evidence of one fold."""
    return Evidence(delta, se, 0.0, se, 0.5, 20)


def one(name: str, mean: float, *, sd: float = 0.001, cost_s: float = 100.0) -> Candidate:
    """Return a candidate without further folds."""
    return Candidate(name, Posterior(mean, sd), cost_s=cost_s)


effects = st.floats(-0.1, 0.1)
sds = st.floats(1e-4, 0.1)
folds = st.lists(st.builds(read, effects, sds), max_size=5)
pools = st.lists(
    st.builds(
        Candidate,
        st.uuids().map(str),
        st.builds(Posterior, effects, sds),
        folds.map(tuple),
        st.floats(1, 1000),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.id,
)


def test_pooled_by_hand() -> None:
    # Precisions 1, 4 and 4 times 1e4: (0.01 + 4 * 0.03 + 4 * 0.05) / 9.
    found = pooled(Candidate("a", Posterior(0.01, 0.01), (read(0.03, 0.005), read(0.05, 0.005))))
    assert found.mean == pytest.approx(0.33 / 9)
    assert found.sd == pytest.approx(0.01 / 3)
    assert pooled(one("a", 0.02, sd=0.004)) == pytest.approx(Posterior(0.02, 0.004))


def test_evidence_without_spread_is_believed_and_divides_by_nothing() -> None:
    found = pooled(Candidate("a", Posterior(0.0, 0.01), (read(0.02, 0.0),)))
    assert found.mean == pytest.approx(0.02)
    assert 0 < found.sd < 1e-5


@given(st.builds(Posterior, effects, sds), folds, st.builds(read, effects, sds))
def test_more_evidence_never_widens(prior: Posterior, known: list[Evidence], new: Evidence) -> None:
    before = pooled(Candidate("a", prior, tuple(known)))
    after = pooled(Candidate("a", prior, (*known, new)))
    assert after.sd <= before.sd <= prior.sd * (1 + 1e-12)
    lowest, highest = sorted((before.mean, new.delta))
    assert lowest - 1e-9 <= after.mean <= highest + 1e-9


@given(st.builds(Posterior, effects, sds), folds, st.randoms(use_true_random=False))
def test_the_order_of_folds_does_not_matter(
    prior: Posterior, known: list[Evidence], rng: Random
) -> None:
    moved = known.copy()
    rng.shuffle(moved)
    found = [pooled(Candidate("a", prior, tuple(some))) for some in (known, moved)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("n", "expected"), [(0, 0), (1, 1), (7, 7), (8, 8), (20, 8), (40, 10), (80, 20), (500, 20)]
)
def test_how_many(n: int, expected: int) -> None:
    assert how_many(n) == expected


@given(pools, st.integers(0, 12), st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(
    pool: list[Candidate], k: int, rng: Random
) -> None:
    moved = pool.copy()
    rng.shuffle(moved)
    assert choose(pool, k) == choose(moved, k)
    assert again(pool, k) == again(moved, k)
    assert len(choose(pool, k)) == min(k, len(pool))
    assert choose(pool, len(pool))[:k] == choose(pool, k)


@given(pools.filter(bool))
def test_the_first_finalist_is_the_cheapest_of_those_that_cannot_be_told_apart(
    pool: list[Candidate],
) -> None:
    best = max(map(pooled, pool))
    first, *rest = choose(pool, len(pool))
    near = [other for other in pool if pooled(other).mean >= best.mean - best.sd]
    assert first in near
    assert first.cost_s <= 1.1 * min(other.cost_s for other in near) * (1 + 1e-9)
    far = [pooled(other).mean for other in rest if other not in near]
    assert far == sorted(far, reverse=True)


def test_the_cheaper_of_two_alike_comes_first() -> None:
    slow, fast = one("slow", 0.020, cost_s=300), one("fast", 0.0195, cost_s=100)
    assert choose([slow, fast], 1) == [fast]
    assert again([fast, slow], 1) == [slow]


def test_a_candidate_that_is_worse_by_more_than_one_error_does_not_win_by_its_cost() -> None:
    slow, fast = one("slow", 0.020, cost_s=300), one("fast", 0.0189, cost_s=100)
    assert choose([fast, slow], 2) == [slow, fast]


def test_costs_within_a_tenth_are_the_same_cost() -> None:
    slow, fast = one("slow", 0.020, cost_s=109), one("fast", 0.0195, cost_s=100)
    assert choose([slow, fast], 1) == [slow]
    assert choose([slow._replace(cost_s=111), fast], 1) == [fast]


def test_equal_candidates_come_by_id() -> None:
    pool = [one("b", 0.01), one("a", 0.01), one("c", 0.01)]
    assert [c.id for c in choose(pool, 3)] == ["a", "b", "c"]
    assert [c.id for c in again(pool)] == ["a", "b", "c"]
    assert choose([], 2) == []
    assert choose([one("a", 0.01, cost_s=0.0), one("b", 0.01, cost_s=0.0)], 1)[0].id == "a"


def planned(seconds: float, *, wanted: int = 20, **changed: float) -> Plan:
    """Return the plan for trainings of 100 s, one at a time, 3 folds, 2 seeds, 3 baselines."""
    given_ = {"n_candidates": 100, "cost_s": 100.0, "baseline_cost_s": 100.0, "slots": 1}
    given_ |= {"folds": 3, "seeds": 2, "baseline_seeds": 3} | changed
    return plan(**given_, seconds=seconds, wanted=wanted)  # type: ignore[arg-type]


def test_without_a_limit_everything_wanted_is_planned() -> None:
    # 9 baselines, 60 first trainings, 4 * 3 * 2 again.
    assert planned(math.inf) == Plan(20, 3, 4, 2, 9300.0)
    assert planned(9300.0) == Plan(20, 3, 4, 2, 9300.0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (9299, Plan(19, 3, 4, 2, 9000.0)),
        (5700, Plan(8, 3, 4, 2, 5700.0)),
        (5699, Plan(8, 3, 4, 1, 4500.0)),
        (4499, Plan(8, 3, 0, 0, 3300.0)),
        (3299, Plan(8, 2, 0, 0, 2200.0)),
        (2199, Plan(8, 1, 0, 0, 1100.0)),
        (1099, Plan(7, 1, 0, 0, 1000.0)),
        (500, Plan(2, 1, 0, 0, 500.0)),
        (499, Plan()),
        (-1, Plan()),
    ],
)
def test_what_shrinks_first(seconds: float, expected: Plan) -> None:
    assert planned(seconds) == expected


def test_few_candidates_are_all_trained_again() -> None:
    assert planned(math.inf, wanted=3)[:4] == (3, 3, 3, 2)
    assert planned(math.inf, n_candidates=3)[:4] == (3, 3, 3, 2)


@pytest.mark.parametrize(
    "changed", [{"folds": 0}, {"n_candidates": 1}, {"n_candidates": 0}, {"wanted": 1}]
)
def test_with_nothing_to_select_the_plan_is_empty(changed: dict[str, int]) -> None:
    assert planned(math.inf, **changed) == Plan()


@given(
    st.integers(0, 300),
    st.floats(0.1, 1e4),
    st.floats(0.1, 1e4),
    st.integers(1, 8),
    st.floats(0, 1e6),
    st.integers(0, 6),
    st.integers(0, 4),
    st.integers(0, 5),
)
def test_a_plan_never_exceeds_its_seconds(
    n: int,
    cost_s: float,
    base_s: float,
    slots: int,
    seconds: float,
    on: int,
    seeds: int,
    bases: int,
) -> None:
    rules = {"n_candidates": n, "cost_s": cost_s, "baseline_cost_s": base_s, "slots": slots}
    rules |= {"folds": on, "seeds": seeds, "baseline_seeds": bases, "wanted": how_many(n)}
    found = plan(**rules, seconds=seconds)  # type: ignore[arg-type]
    more = plan(**rules, seconds=2 * seconds)  # type: ignore[arg-type]
    assert found.seconds <= seconds
    assert more.seconds >= found.seconds
    assert found.candidates != 1
    if found.candidates:
        assert run_on_slots(found, cost_s, base_s, slots, bases) <= found.seconds * (1 + 1e-9)


def run_on_slots(it: Plan, cost_s: float, base_s: float, slots: int, bases: int) -> float:
    """Return the wall seconds of a plan, each training started where a slot is free first."""
    free = [0.0] * slots
    for stage in (
        [base_s] * (it.folds * bases) + [cost_s] * (it.folds * it.candidates),
        [cost_s] * (it.folds * it.finalists_again * it.seeds),
    ):
        for takes in stage:
            free[free.index(min(free))] += takes
        free = [max(free)] * slots
    return free[0]


@pytest.mark.parametrize(
    "changed",
    [{"cost_s": 0.0}, {"cost_s": math.inf}, {"baseline_cost_s": math.nan}, {"slots": 0}],
)
def test_impossible_costs_are_refused(changed: dict[str, float]) -> None:
    with pytest.raises(ExploreError, match="allowed are finite"):
        planned(1000.0, wanted=20, **changed)


def test_no_number_of_seconds_is_refused() -> None:
    with pytest.raises(ExploreError, match="NaN"):
        planned(math.nan)


def board(spreads: dict[str, float]) -> Board:
    """Return a board of drafts that all read a gain of one point, with these SEs over cases."""
    nodes = [
        Node(name, None, name, 0, Status.OK, Evidence(0.01, se, 0.002, se, 0.5, 20, seed_sd=0.002))
        for name, se in spreads.items()
    ]
    branches = {node.branch: Branch(node.branch, [node]) for node in nodes}
    return Board(Tree(branches=branches, baseline_mean=(0.8,), cost_s=(1.0,)))


def test_priors_do_not_depend_on_the_luck_of_a_networks_own_spread() -> None:
    found = board({"a": 0.002, "b": 0.006, "c": 0.004})
    told = priors(found, found.leaders())
    assert told[0] == told[1] == told[2]
    own = [found.beyond(standing) for standing in found.leaders()]
    assert len(set(own)) == 3


def test_priors_are_the_boards_where_all_spread_alike() -> None:
    found = board({"a": 0.004, "b": 0.004})
    leaders = found.leaders()
    assert priors(found, leaders) == [found.beyond(standing) for standing in leaders]
    assert priors(found, []) == []
