"""The stop inside a training: hand-computed numbers, and what must hold for any scores."""

import json
import math
from dataclasses import fields
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.checkpoints import LINK_SD
from agent.early_stop import Verdict, judge
from agent.evidence import CaseMeans, SeedSpread
from agent.search_tree import Tree
from memory.errors import ExploreError

BASELINE = {
    1: {"a": 0.80, "b": 0.70, "c": 0.60, "d": 0.90},
    2: {"a": 0.84, "b": 0.74, "c": 0.64, "d": 0.94},
}
SPREAD = SeedSpread(0.01, 4)
dice = st.floats(0, 1, allow_nan=False)
scores = st.fixed_dictionaries({case: dice for case in "abcd"})


def verdict(candidate: CaseMeans, **changes: float) -> Verdict:
    rules = {"bar": 0.0, "margin": 0.005, "cut_below": 0.1, "link_sd": 0.01, **changes}
    return judge(candidate, BASELINE, spread=SPREAD, **rules)


def shifted(by: float) -> CaseMeans:
    """Return the baseline's mean with every case moved."""
    return {"a": 0.82 + by, "b": 0.72 + by, "c": 0.62 + by, "d": 0.92 + by}


def test_a_verdict_by_hand() -> None:
    candidate = {"a": 0.80, "b": 0.70, "c": 0.62, "d": 0.92}
    found = verdict(candidate, bar=0.02)
    # Differences to the seed means: -0.02, -0.02, 0, 0; mean -0.01, variance 4e-4 / 3.
    cases, seed = math.sqrt(4e-4 / 3 / 4), 0.01 * math.sqrt(1 + 1 / 2)
    sd = math.sqrt(cases**2 + seed**2 + 0.01**2)
    p = NormalDist().cdf((-0.01 - 0.025) / sd)
    assert found.figures["p_passes"] == pytest.approx(p)
    assert found.figures["level"] == pytest.approx(0.025)
    assert found.is_stopped == (p < 0.1)
    assert found.is_stopped
    assert found.text == (
        "0.0100 Dice below the baseline at the same checkpoint; its chance to end more than "
        f"0.0250 above it is {p:.1%}, and a training stops below 10%"
    )


@pytest.mark.parametrize(("by", "is_stopped"), [(-0.3, True), (0.0, False), (0.03, False)])
def test_only_the_hopeless_stop(by: float, is_stopped: bool) -> None:
    assert verdict(shifted(by)).is_stopped == is_stopped


def test_what_the_rest_may_change_keeps_a_network_alive() -> None:
    candidate = shifted(-0.03)
    assert verdict(candidate, link_sd=0.0).is_stopped
    assert not verdict(candidate, link_sd=0.05).is_stopped


def test_figures_hold_every_number_as_plain_json() -> None:
    figures = verdict(shifted(-0.02), bar=-0.004).figures
    assert json.loads(json.dumps(figures)) == figures
    wanted = {"delta", "se", "se_cases", "se_seed", "seed_sd", "link_sd", "cases"}
    wanted |= {"cases_dropped", "baselines", "bar", "margin", "level", "p_passes", "cut_below"}
    assert set(figures) == wanted
    assert (figures["cases"], figures["baselines"], figures["bar"]) == (4, 2, -0.004)


def test_an_undefined_case_is_dropped_and_counted() -> None:
    figures = verdict({**shifted(0.0), "a": None}).figures
    assert (figures["cases"], figures["cases_dropped"]) == (3, 1)


def test_other_cases_cannot_be_compared() -> None:
    with pytest.raises(ExploreError, match="cannot pair cases"):
        verdict({"a": 0.5, "b": 0.5})


@given(scores, st.floats(-0.5, 0.0))
def test_a_bar_below_the_baseline_is_the_baseline(candidate: CaseMeans, bar: float) -> None:
    found = verdict(candidate, bar=bar)
    assert found.figures["p_passes"] == verdict(candidate, bar=0.0).figures["p_passes"]


@given(scores, st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_higher_bar_or_margin_never_helps(candidate: CaseMeans, low: float, more: float) -> None:
    p = verdict(candidate, bar=low).figures["p_passes"]
    assert verdict(candidate, bar=low + more).figures["p_passes"] <= p
    assert verdict(candidate, bar=low, margin=0.005 + more).figures["p_passes"] <= p


@given(scores)
def test_a_level_of_nothing_stops_nothing(candidate: CaseMeans) -> None:
    assert not verdict(candidate, cut_below=0.0).is_stopped


@given(st.floats(-0.5, 0.07), st.floats(0, 0.01))
def test_a_better_network_is_never_likelier_to_stop(by: float, more: float) -> None:
    worse, better = verdict(shifted(by)), verdict(shifted(by + more))
    assert better.figures["p_passes"] >= worse.figures["p_passes"] - 1e-12


def test_the_constant_is_the_search_trees() -> None:
    defaults = {field.name: field.default for field in fields(Tree)}
    assert defaults["rung_sd"] == LINK_SD
