"""The model of effects: against dense linear algebra, more evidence, scale, and its constants."""

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.beliefs import (
    WIDE,
    Constants,
    Link,
    Moments,
    beyond,
    estimate,
    of_branch,
    solve,
    tell,
)
from agent.board import Board
from agent.branches import Branch, Node, Reading, grown
from agent.evidence import Posterior
from agent.search_tree import Tree
from tests.trees import node as trial
from tests.trees import nodes_of, scaled, seen, tree, trees

Told = list[Posterior | None]
Drawn = Callable[[st.SearchStrategy[Any]], Any]

CONSTANTS = st.builds(
    Constants,
    mean=st.floats(-0.03, 0.03),
    sd=st.floats(0.002, 0.05),
    step_mean=st.floats(-0.01, 0.01),
    step_sd=st.floats(0.001, 0.03),
    links=st.just((Link(0.001, 0.8, 0.01),)),
    noise=st.floats(0.25, 8.0),
)
BELIEFS = st.builds(Posterior, st.floats(-0.1, 0.1), st.floats(0.0005, 0.05))
READINGS = st.builds(
    Reading,
    rung=st.integers(0, 1),
    value=st.floats(-0.1, 0.1),
    variance=st.floats(1e-6, 1e-3),
    cases=st.just(1e-5),
)


@st.composite
def branches(draw: Any) -> tuple[list[int], Told]:
    """Return up to 9 networks, parents first, and what some of them tell."""
    count = draw(st.integers(1, 9))
    parents = [draw(st.integers(-1, place - 1)) for place in range(count)]
    return parents, [draw(st.none() | BELIEFS) for _ in range(count)]


def dense(parents: list[int], told: Told, it: Constants) -> list[Posterior]:
    """Solve the same Gaussian model with its whole covariance matrix."""
    count = len(parents)
    paths, mean = np.zeros((count, count)), np.zeros(count)
    for place, parent in enumerate(parents):
        paths[place, place] = it.sd if parent < 0 else it.step_sd
        mean[place] = it.mean if parent < 0 else mean[parent] + it.step_mean
        if parent >= 0:
            paths[place] += paths[parent]
    prior = paths @ paths.T
    seen_at = [place for place, one in enumerate(told) if one is not None]
    pick = np.eye(count)[seen_at]
    values = np.array([one.mean for one in told if one is not None])
    noise = np.diag([one.sd**2 for one in told if one is not None])
    gain = prior @ pick.T @ np.linalg.inv(pick @ prior @ pick.T + noise)
    after = mean + gain @ (values - pick @ mean)
    spread = np.diag(prior - gain @ pick @ prior)
    return [Posterior(float(m), math.sqrt(v)) for m, v in zip(after, spread, strict=True)]


@given(branches(), CONSTANTS)
def test_messages_give_what_dense_linear_algebra_gives(
    branch: tuple[list[int], Told], it: Constants
) -> None:
    for ours, theirs in zip(solve(*branch, it), dense(*branch, it), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_draft_and_its_child_by_hand() -> None:
    it = Constants(0.0, 1.0, -0.5, 1.0, ())
    # The child reads 2 with variance 1; so the draft is told 2.5 with variance 2.
    draft, kid = solve([-1, 0], [None, Posterior(2.0, 1.0)], it)
    assert draft == pytest.approx((2.5 / 3, math.sqrt(2 / 3)))
    assert kid == pytest.approx((-0.5 + 2.5 * 2 / 3, math.sqrt(2 / 3)))
    assert solve([-1, 0], [None, None], it) == [
        pytest.approx((0.0, 1.0)),
        pytest.approx((-0.5, math.sqrt(2))),
    ]


@given(branches(), CONSTANTS, BELIEFS, st.data())
def test_more_evidence_widens_no_posterior(
    branch: tuple[list[int], Told], it: Constants, more: Posterior, data: st.DataObject
) -> None:
    parents, told = branch
    place = data.draw(st.integers(0, len(parents) - 1))
    old = told[place]
    precision = 1 / more.sd**2 + (1 / old.sd**2 if old else 0.0)
    both = Posterior(more.mean, 1 / math.sqrt(precision))
    before = solve(parents, told, it)
    after = solve(parents, [*told[:place], both, *told[place + 1 :]], it)
    assert all(new.sd <= was.sd * (1 + 1e-12) for new, was in zip(after, before, strict=True))
    assert after[place].sd < before[place].sd


@given(st.lists(READINGS, max_size=4), READINGS, CONSTANTS)
def test_one_more_reading_narrows_what_a_network_tells(
    readings: list[Reading], more: Reading, it: Constants
) -> None:
    before, after = tell(readings, it), tell([*readings, more], it)
    assert after is not None
    assert before is None or after.sd < before.sd


def test_a_lower_rung_is_read_through_its_link() -> None:
    it = Constants(0.0, 1.0, 0.0, 1.0, (Link(0.01, 0.5, 0.1),))
    low, last = Reading(0, 0.04, 1e-6, 1.0), Reading(1, 0.05, 0.01, 1.0)
    assert tell([low], it) == pytest.approx((0.01 + 0.5 * 0.04, 0.1))
    assert tell([last], it) == pytest.approx((0.05, 0.1))  # of its cases, nothing
    assert tell([low, last], it) == pytest.approx((0.04, 0.1 / math.sqrt(2)))
    assert tell([], it) is None


def sds(it: Tree, constants: Constants) -> dict[str, float]:
    """Return the SD of every network's effect, by the network's id."""
    return {
        network.id: belief.sd
        for branch in it.branches.values()
        for network, belief in zip(branch.networks, of_branch(branch, constants), strict=True)
    }


@given(trees(may_run=False), st.integers(0, 30), st.floats(-0.05, 0.05))
def test_one_more_trial_of_a_network_widens_nobody(it: Tree, pick: int, delta: float) -> None:
    done = [n for n in nodes_of(it) if n.is_ok]
    if not done:
        return
    one = done[pick % len(done)]
    again = replace(one, id=f"{one.id}z", parent=one.id, evidence=seen(delta), is_cut=False)
    constants = estimate(it)
    before = sds(it, constants)
    after = sds(replace(it, branches=grown([*nodes_of(it), again])), constants)
    assert after.keys() == before.keys()
    assert all(after[name] <= before[name] * (1 + 1e-12) for name in before)


NOISE = st.floats(0.001, 0.02)


@given(NOISE, NOISE, NOISE, NOISE)
def test_a_noisier_repeat_widens_nobody_either(
    seed: float, other: float, cases: float, other_cases: float
) -> None:
    first = replace(trial("a0"), evidence=seen(0.0, seed=seed, cases=cases), commit="x", rung=1)
    again = replace(first, id="a1", parent="a0", evidence=seen(0, seed=other, cases=other_cases))
    one, two = (Branch("a", nodes).networks[0].readings[0] for nodes in ([first], [first, again]))
    assert two.variance <= one.variance * (1 + 1e-12)


@given(trees(), st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_beliefs_scale_with_the_effects(it: Tree, factor: float) -> None:
    one, two = Board(it), Board(scaled(it, factor))
    (link,), (other_link,) = one.it.links, two.it.links
    assert other_link == pytest.approx((factor * link.intercept, link.slope, factor * link.sd))
    for name in ("mean", "sd", "step_mean", "step_sd"):
        assert getattr(two.it, name) == pytest.approx(factor * getattr(one.it, name))
    for branch, other in zip(one.tree.branches.values(), two.tree.branches.values(), strict=True):
        for place in range(len(branch.networks)):
            theirs = two.belief(other, place)
            assert theirs == pytest.approx([factor * x for x in one.belief(branch, place)])


def test_without_readings_the_constants_are_the_prior() -> None:
    it = estimate(tree(prior_sd=2.0**-6, rung_sd=2.0**-7))
    assert (it.mean, it.sd) == (0.0, 2.0**-6)
    assert it.step_sd == pytest.approx(0.45 * it.sd, rel=0.1)  # on the grid
    (link,) = it.links
    assert (link.intercept, link.slope) == (0.0, 1.0)
    assert link.sd == pytest.approx(2.0**-7 * math.sqrt(1.25), rel=0.1)


def played(rng: Random, count: int, *, slope: float, rung: float) -> list[Node]:
    """Return drafts read at both rungs: effects of SD 0.03 around -0.02."""
    nodes = []
    for place in range(count):
        effect = rng.gauss(-0.02, 0.03)
        low = (effect + rng.gauss(0, rung)) / slope
        more: dict[str, Any] = {"branch": f"b{place}", "commit": f"{place}"}
        nodes.append(trial(f"b{place}-0", evidence=seen(low), **more))
        last = seen(effect + rng.gauss(0, 0.003))
        nodes.append(trial(f"b{place}-1", evidence=last, parent=f"b{place}-0", rung=1, **more))
    return nodes


@pytest.mark.parametrize("slope", [0.6, 1.0, 1.5])
def test_the_constants_are_found_in_the_campaigns_own_readings(slope: float) -> None:
    it = estimate(tree(*played(Random(1), 400, slope=slope, rung=0.006)))
    assert it.mean == pytest.approx(-0.02, abs=0.005)
    assert it.sd == pytest.approx(0.03, rel=0.2)
    reliable = 0.03**2 / (0.03**2 + 0.006**2)  # of a reading at the lower rung
    assert it.links[0].slope == pytest.approx(slope * reliable, abs=0.06)
    assert it.links[0].sd == pytest.approx(0.006, rel=0.3)


def test_one_reading_moves_the_constants_little() -> None:
    none, one = estimate(tree()), estimate(tree(trial("a0", 0.02)))
    assert one.links == none.links
    assert one.sd == pytest.approx(none.sd, rel=0.2)
    assert 0 <= one.mean <= 0.01


def test_the_spread_of_true_values_is_what_noise_leaves() -> None:
    told = Moments(number=4, values=0.0, squares=4 * 0.05**2, variances=4 * 0.03**2)
    assert told.spread(0.0, prior_sd=1.0, weight=0.0) == pytest.approx(0.04)
    assert Moments(2, 0.0, 0.0, 2.0).spread(0.0, prior_sd=0.1, weight=1.0) == 0.0


def test_beyond_the_split_the_luck_of_its_cases_is_taken_out() -> None:
    it = Constants(0.0, 0.02, 0.0, 0.01, ())
    one = Posterior(0.03, 0.004)
    assert beyond(one, 0.0, it) == pytest.approx(one)
    half = beyond(one, 0.5 * 0.02**2, it)
    assert half.mean == pytest.approx(0.015)
    assert half.sd == pytest.approx(math.hypot(0.002, 0.01))


def test_beliefs_are_kept_with_a_branch_while_the_constants_stay() -> None:
    it = tree(trial("a0", 0.01))
    branch, constants = it.branches["a"], estimate(it)
    first = of_branch(branch, constants)
    assert of_branch(branch, constants) is first
    wider = of_branch(branch, constants._replace(sd=1.0))
    assert wider[0].sd > first[0].sd


def repeated(*deltas: float, commit: str = "a") -> Tree:
    """Return a tree with one network that was trained as often at the last rung."""
    first = trial(f"{commit}0", deltas[0], rung=1, commit=commit)
    more = [
        trial(f"{commit}{i}", delta, rung=1, commit=commit, parent=first.id)
        for i, delta in enumerate(deltas[1:], 1)
    ]
    return tree(first, *more)


def test_without_repeats_the_baselines_seeds_are_believed() -> None:
    assert estimate(repeated(0.03)).noise == 1.0
    assert estimate(tree(trial("a0", 0.03, commit="a"), trial("b0", -0.1, commit="b"))).noise == 1.0


def test_repeats_that_lie_far_apart_make_all_networks_noisier() -> None:
    calm, wild = repeated(0.03, 0.03, 0.03), repeated(0.0, 0.06, 0.03)
    assert estimate(calm).noise < 1.0 < estimate(wild).noise
    one = trial("z0", 0.03, rung=1, commit="z")
    found = [
        of_branch(branches["z"], estimate(replace(it, branches=branches)))[0].sd
        for it in (calm, wild)
        for branches in [grown([*nodes_of(it), one])]
    ]
    assert found[0] < found[1]


def test_few_repeats_move_the_noise_little() -> None:
    seeds = estimate(replace(repeated(0.0, 0.06), baseline_seeds=3)).noise
    more = estimate(replace(repeated(0.0, 0.06), baseline_seeds=30)).noise
    assert 1.0 < more < seeds


@given(st.floats(0.1, 10.0))
def test_the_noise_has_no_unit(factor: float) -> None:
    it = repeated(0.0, 0.05, 0.02)
    one, other = (each.branches["a"].repeats for each in (it, scaled(it, factor)))
    assert other.df == one.df == 2
    assert other.squares == pytest.approx(one.squares)


def test_drafts_that_lie_far_apart_widen_the_prior_of_the_link() -> None:
    def drafts(size: float) -> Tree:
        places = zip("abcdefgh", range(-4, 4), strict=True)
        return tree(*(trial(f"{name}0", size * place) for name, place in places))

    near, far = drafts(0.005), drafts(0.05)
    (one,), (two,) = estimate(near).links, estimate(far).links
    assert one == estimate(tree()).links[0]
    assert two.sd >= 2 * one.sd
    assert estimate(far).sd > 2 * WIDE * far.prior_sd
