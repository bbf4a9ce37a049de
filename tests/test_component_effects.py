"""What a planner may ask: a trial as an observation, through the links that its decision stored."""

import math
from dataclasses import replace

import pytest

from agent.beliefs import Link
from agent.component_effects import (
    RUNG_SD,
    ComponentEffects,
    links_in,
    observation,
    observed,
)
from agent.effects import fit
from agent.evidence import Evidence
from agent.readings import Scored
from memory.records import Kind, Module, SplitName, Trial
from tests.effects import knowledge, known

TRAITS = frozenset({"small_objects"})
SEED_SD, CASES, LUCK = 0.02, 0.006, 0.015
EVIDENCE = Evidence(
    delta=0.03,
    se_cases=CASES,
    se_seed=math.hypot(SEED_SD, LUCK),
    se=0.03,
    p_better=0.8,
    n_cases=24,
    n_seeds=1,
    seed_sd=SEED_SD,
)
LINKS = (Link(0.01, 0.5, 0.04),)


def scored(rung: int, **changes: object) -> Scored:
    trial = Trial(
        "t", None, "b", "p", "c0ffee", Kind.DRAFT, rung, 1, SplitName.SEARCH_VAL, network_hash="ab"
    )
    module = Module("gate", "skip", (0, 1))
    return Scored(replace(trial, **changes), (module,), EVIDENCE)  # type: ignore[arg-type]


def test_the_last_rung_is_read_as_it_is_and_shares_the_luck_of_its_baselines() -> None:
    one = observation(scored(1), LINKS, "camp", 1, TRAITS)
    assert one.effect == EVIDENCE.delta
    assert one.variance == pytest.approx(CASES**2 + SEED_SD**2)
    assert one.baseline == "camp/1/0"
    assert one.baseline_sd == pytest.approx(LUCK)
    assert (one.network, one.traits) == ("ab", TRAITS)
    smaller = observation(scored(1, batch_size=4), LINKS, "camp", 1, TRAITS)
    assert smaller.baseline == "camp/1/4"


def test_a_lower_rung_is_read_as_its_link_predicts_the_last_one() -> None:
    one = observation(scored(0), LINKS, "camp", 1, TRAITS)
    assert one.effect == pytest.approx(0.01 + 0.5 * EVIDENCE.delta)
    assert one.variance == pytest.approx(0.04**2)
    assert one.baseline_sd == 0.0


def test_without_a_link_a_lower_rung_counts_less() -> None:
    one = observation(scored(0), None, "camp", 2, TRAITS)
    assert one.effect == EVIDENCE.delta
    assert one.variance == pytest.approx(CASES**2 + SEED_SD**2 + (2 * RUNG_SD) ** 2)


def test_an_effect_that_a_link_takes_too_far_stays_possible() -> None:
    steep = (Link(0.0, 100.0, 0.04),)
    assert observation(scored(0), steep, "camp", 1, TRAITS).effect == 1.0


def test_links_come_from_the_figures_of_a_decision() -> None:
    figures = {"model": {"draft_mean": 0.0, "links": [LINKS[0]._asdict()]}}
    assert links_in(figures) == LINKS
    assert links_in({"model": {"draft_mean": 0.0}}) is None
    assert links_in({"model": "qwbe"}) is None
    assert links_in({}) is None


def test_both_sources_count_and_each_is_told_apart() -> None:
    both = known({"gate": 0.02}, {"gate": -0.02, "mixer": 0.01})
    assert both.own_means.keys() == {"gate"}
    assert both.own_means["gate"] > 0 > both.library_means["gate"]
    whole = {row.component: row.mean for row in both.whole.table(both.traits)}
    assert both.library_means["gate"] < whole["gate"] < both.own_means["gate"]
    assert whole["mixer"] == pytest.approx(both.library_means["mixer"], abs=1e-3)


def test_nothing_known_is_the_prior() -> None:
    nothing = ComponentEffects()
    assert nothing.own_means == nothing.library_means == {}
    assert nothing.whole.mean("gate", "skip", (0,), TRAITS).mean == 0.0
    assert observed([], LINKS, "camp", 1, TRAITS) == []


def test_an_observation_moves_its_component() -> None:
    one = observation(scored(1), LINKS, "camp", 1, TRAITS)
    assert fit([one]).mean("gate", "skip", (0, 1), TRAITS).mean > 0
    assert knowledge({"gate": 0.02}).merged([fit([one])]).networks
