"""Facts: every printed number follows from rows, by one rule of rounding, and only from rows."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.claims import compare
from agent.facts import derive_facts, facts_of
from agent.formats import (
    duration,
    gain,
    general,
    large,
    number,
    p_value,
    plain_text,
    score,
    signed,
    slug,
)
from agent.intervals import crossed_interval
from agent.report_rows import Rows, read_rows
from memory.errors import ReportError
from memory.records import Fact, Kind, Metric, SplitName, Status
from memory.store import Store
from sandbox.split import split_hash
from tests.campaigns import HOSTILE, build_campaign


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_campaign(tmp_path_factory.mktemp("facts") / "campaign")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return read_rows(store)


@pytest.fixture(scope="module")
def facts(rows: Rows) -> dict[str, Fact]:
    return {fact.key: fact for fact in facts_of(rows)}


def test_the_same_rows_give_the_same_facts(folder: Path) -> None:
    with Store.open(folder / "campaign.db") as store:
        first, second = derive_facts(store), derive_facts(store)
        store.replace_facts(first)
        assert first == second
        assert list(store.facts().values()) == first


def test_every_fact_names_rows_that_exist(rows: Rows, facts: dict[str, Fact]) -> None:
    trials = {trial.id for trial in rows.trials}
    known = {
        "trial": trials,
        "case_score": trials,
        "split": {str(name) for name in SplitName},
        "claim": {claim.id for claim in rows.claims},
        "event": {str(event.id) for event in rows.events},
        "proposal": set(rows.proposals),
        "branch": {branch.id for branch in rows.branches},
        "test_access": {str(access.id) for access in rows.accesses},
    }
    for fact in facts.values():
        for source in fact.sources:
            kind, _, name = source.partition(":")
            assert kind not in known or name in known[kind], (fact.key, source)


def test_baseline_mean_is_the_mean_over_cases_of_seed_averages(
    rows: Rows, facts: dict[str, Fact]
) -> None:
    trials = rows.of(Kind.BASELINE, rung=0)
    values: dict[str, list[float]] = {}
    for trial in trials:
        cases: dict[str, list[float]] = {}
        for one in rows.scores[trial.id]:
            if one.metric is Metric.DICE and one.value is not None:
                cases.setdefault(one.case, []).append(one.value)
        for case, classes in cases.items():
            values.setdefault(case, []).append(float(np.mean(classes)))
    per_case = [np.mean(seeds) for seeds in values.values()]
    assert facts["baseline.rung0.dice.mean"].value == pytest.approx(np.mean(per_case))
    by_seed = np.array(list(values.values())).mean(axis=0)
    assert facts["baseline.rung0.seed_sd"].value == pytest.approx(by_seed.std(ddof=1))


def test_a_trial_is_compared_with_the_baseline_of_its_own_rung(
    rows: Rows, facts: dict[str, Fact]
) -> None:
    top = next(t for t in rows.trials if t.kind is Kind.DRAFT and t.rung == 1)
    fact = facts[f"trial.{top.id}.delta"]
    own = [f"case_score:{t.id}" for t in rows.of(Kind.BASELINE, rung=1)]
    assert set(fact.sources) == {f"case_score:{top.id}", *own}
    assert isinstance(fact.value, float)
    assert fact.text == gain(fact.value, Metric.DICE)


def test_undefined_cases_are_counted_and_left_out(facts: dict[str, Fact]) -> None:
    assert facts["confirm.baseline.class-outer.dice.undefined"].value == 1
    assert facts["confirm.baseline.class-inner.dice.undefined"].value == 0
    missing = facts["case.test_003.class-outer.dice.baseline"]
    assert (missing.value, missing.text) == (None, "undefined")


def test_a_changed_score_changes_the_facts(rows: Rows, facts: dict[str, Fact]) -> None:
    trial = rows.of(Kind.CONFIRM)[0].id
    first = rows.scores[trial][0]
    assert first.value is not None
    changed = (replace(first, value=first.value - 0.1), *rows.scores[trial][1:])
    again = {
        f.key: f
        for f in facts_of(replace(rows, scores={**rows.scores, trial: changed}, _values={}))
    }
    differing = {key for key, fact in facts.items() if again[key] != fact}
    assert f"trial.{trial}.{first.metric}.mean" in differing
    assert "dataset.cases" not in differing


def test_the_sentence_of_a_claim_is_filled_in(facts: dict[str, Fact]) -> None:
    text = facts["claim.claim0.text"].text
    assert text.startswith(
        "Residual encoder and gated skips was not distinguishable from nnU-Net's"
    )
    assert "Dataset900_Fixture (simulated subjects)" in text
    assert "+0.40 points (95 % CI −0.30 to +1.10; Holm-adjusted p = 0.250)" in text
    assert facts["claim.claim0.mde_points"].text == "1.16"


def test_a_small_p_is_not_written_as_equal(rows: Rows) -> None:
    claim = rows.claims[0]
    fields = {**claim.figures["fields"], "p": 1e-9}
    changed = replace(claim, figures={**claim.figures, "fields": fields})
    found = {f.key: f for f in facts_of(replace(rows, claims=(changed,)))}
    assert "p < 0.001)" in found["claim.claim0.text"].text


def test_names_in_a_claim_are_not_read_as_fields(tmp_path: Path) -> None:
    folder = build_campaign(tmp_path / "campaign", hostile=True)
    with Store.open(folder / "campaign.db", read_only=True) as store:
        found = {f.key: f for f in derive_facts(store)}
    assert "{candidate}" in found["claim.claim0.text"].text


def test_failed_trials_are_counted_and_have_no_score(rows: Rows, facts: dict[str, Fact]) -> None:
    failed = next(t for t in rows.trials if t.status is Status.FAILED)
    assert facts["compute.trials.without_scores"].value == 1
    assert facts["compute.failed.seconds.total"].value == 45.0
    assert f"trial.{failed.id}.dice.mean" not in facts


def test_seeds_and_hashes_are_not_rounded(rows: Rows, facts: dict[str, Fact]) -> None:
    assert facts["config.split.seed"].text == "20260101"
    made = split_hash(rows.split)
    assert facts["campaign.split_hash"].value == made
    assert facts["campaign.split_hash"].text == made[:16]


def test_folders_of_the_user_stay_out(rows: Rows) -> None:
    config = {**rows.campaign.config, "dataset": {"path": "/home/someone/data"}}
    campaign = replace(rows.campaign, config=config)
    found = facts_of(replace(rows, campaign=campaign))
    assert not [f for f in found if "someone" in f.text]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (number(-0.0004, 3), "0.000"),
        (signed(-0.0126, 3), "\N{MINUS SIGN}0.013"),
        (signed(0.0126, 3), "+0.013"),
        (signed(0.0001, 3), "0.000"),
        (signed(math.nan, 3), "undefined"),
        (score(0.8125, Metric.DICE), "0.812"),
        (score(3.14159, Metric.HD95), "3.14"),
        (gain(-3.14159, Metric.HD95), "\N{MINUS SIGN}3.14"),
        (p_value(0.0004), "<0.001"),
        (p_value(0.0412), "0.041"),
        (general(1234567.0), "1,234,567"),
        (general(0.123456), "0.1235"),
        (duration(7.04), "7.0 s"),
        (duration(252.0), "4.2 min"),
        (duration(4500.0), "1.25 h"),
        (large(31_042_112.0), "31 M"),
        (large(2.345e9, "FLOP"), "2.35 GFLOP"),
    ],
)
def test_rounding(printed: str, expected: str) -> None:
    assert printed == expected


def test_a_fact_is_not_derived_twice_or_under_an_unsafe_key() -> None:
    from agent.fact_book import FactBook

    book = FactBook()
    book.count("cases", 3, ["campaign"])
    with pytest.raises(ReportError, match="derived twice"):
        book.count("cases", 3, ["campaign"])
    with pytest.raises(ReportError, match="allowed are"):
        book.count("a b}{", 3, ["campaign"])


@given(st.text())
def test_hostile_text_becomes_one_harmless_line(text: str) -> None:
    line = plain_text(text)
    assert line.isprintable()
    assert line == line.strip()
    assert len(line) <= 600


@given(st.text(), st.text())
def test_slugs_tell_names_apart_and_fit_a_key(one: str, other: str) -> None:
    assert slug(one).replace("_", "").replace("-", "").isalnum() or not slug(one).strip("_-")
    assert slug(one).isascii()
    if one != other:
        assert slug(one) != slug(other)


@given(st.integers(1, 4), st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_an_interval_holds_its_mean_and_leaves_out_undefined_cases(
    seeds: int, cases: int, state: int
) -> None:
    values = np.random.default_rng(state).uniform(size=(seeds, cases + 1))
    values[0, 0] = math.nan
    found = crossed_interval([values])
    assert found.n == cases
    assert found.mean == pytest.approx(values[:, 1:].mean())
    assert found.low <= found.mean <= found.high


@given(st.integers(2, 5), st.integers(2, 5), st.integers(3, 30), st.integers(0, 2**32 - 1))
def test_the_interval_of_a_difference_is_that_of_a_claim(
    one: int, other: int, cases: int, state: int
) -> None:
    random = np.random.default_rng(state)
    sides = [random.uniform(size=(seeds, cases)) for seeds in (one, other)]
    found, claimed = crossed_interval(sides), compare(*sides)
    assert found.mean == pytest.approx(claimed.delta)
    assert (found.low, found.high) == pytest.approx((claimed.low, claimed.high))


def test_one_seed_borrows_the_variance_of_the_other_side() -> None:
    random = np.random.default_rng(3)
    luck = np.array([[-0.1], [0.0], [0.1]])
    baseline = 0.7 + luck + random.normal(0, 0.001, size=(3, 40))
    lone = baseline[1:2] + 0.02
    found = crossed_interval([lone, baseline])
    assert found.high - found.low > 0.1
    cases_alone = crossed_interval([lone, baseline[1:2]])
    assert cases_alone.high - cases_alone.low < 0.001


def test_hostile_text_is_kept_readable() -> None:
    assert plain_text(HOSTILE).startswith("<script>alert(1)</script>")
    assert "\u202e" not in plain_text(HOSTILE)


def test_the_origin_is_printed_as_words(facts: dict[str, Fact]) -> None:
    assert facts["dataset.origin"].text == "package: no package; seed: 152"
