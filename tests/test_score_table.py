"""Two arms on the cases of both, and what is stored with a claim beside its test."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.claim_figures import cost, power, resampled, secondary
from agent.claims import compare
from agent.score_table import Scores, is_comparable, table
from memory.records import CaseScore, Kind, Metric, SplitName, Trial

CASES = [f"case{i}" for i in range(6)]
PATIENTS = {case: f"p{i // 2}" for i, case in enumerate(CASES)}
ALONE = {case: case for case in CASES}
Values = dict[tuple[str, str], float | None]


def rows(values: Values, metric: Metric = Metric.DICE) -> list[CaseScore]:
    """Return scores by case and class."""
    return [
        CaseScore("t", case, label, metric, value, None if value is not None else "empty in both")
        for (case, label), value in values.items()
    ]


def arm(
    level: float,
    gone: Mapping[str, str] | None = None,
    *,
    seeds: int = 2,
    metric: Metric = Metric.DICE,
) -> Scores:
    """Return the scores of a side; `gone` names the class that is undefined in a case."""
    found, gone = {}, gone or {}
    for seed in range(seeds):
        values: Values = {
            (case, label): None if gone.get(case) == label else level + 0.01 * (place + seed)
            for place, case in enumerate(CASES)
            for label in ("inner", "outer")
        }
        found[f"seed{seed}"] = rows(values, metric)
    return found


def test_a_case_counts_where_every_training_has_it() -> None:
    own, base = arm(0.5, {"case1": "inner", "case2": "inner"}), arm(0.4, {"case3": "inner"})
    found = table(own, base, cases=CASES, label="inner")
    assert found.cases == ("case0", "case4", "case5")
    assert found.undefined == 3
    assert found.candidate.tolist() == [[0.5, 0.54, 0.55], [0.51, 0.55, 0.56]]
    assert found.baseline.shape == (2, 3)


def test_the_mean_over_classes_leaves_out_the_undefined_ones() -> None:
    values: Values = {("case0", "inner"): 0.2, ("case0", "outer"): None, ("case1", "inner"): None}
    own = {"a": rows({**values, ("case1", "outer"): None, ("case2", "inner"): 0.4})}
    found = table(own, own, cases=CASES[:3])
    assert found.cases == ("case0", "case2")
    assert found.candidate.tolist() == [[0.2, 0.4]]
    assert found.undefined == 1


@given(st.dictionaries(st.sampled_from(CASES), st.sampled_from(["inner", "outer"])), st.data())
def test_every_case_is_compared_or_counted(gone: dict[str, str], data: st.DataObject) -> None:
    label = data.draw(st.sampled_from([None, "inner", "outer"]))
    found = table(arm(0.5, gone), arm(0.4), cases=CASES, label=label)
    assert len(found.cases) + found.undefined == len(CASES)
    assert found.candidate.shape[1] == found.baseline.shape[1] == len(found.cases)
    assert np.isfinite(found.candidate).all()
    assert list(found.cases) == sorted(found.cases)


def test_two_trainings_and_two_patients_are_the_least() -> None:
    whole = table(arm(0.5), arm(0.4), cases=CASES)
    assert is_comparable(whole, PATIENTS)
    assert not is_comparable(whole, dict.fromkeys(CASES, "one"))
    assert not is_comparable(table(arm(0.5, seeds=1), arm(0.4), cases=CASES), PATIENTS)
    assert not is_comparable(table({}, arm(0.4), cases=CASES), PATIENTS)
    assert not is_comparable(table({}, {}, cases=CASES), PATIENTS)


def test_secondary_scores_come_with_what_is_undefined() -> None:
    own, base = arm(0.5, {"case1": "inner"}), arm(0.4)
    found = {
        (row["metric"], row["label"]): row
        for row in secondary(own, base, patients=ALONE, alpha=0.05)
    }
    assert ("dice", "mean") not in found
    inner, outer = found["dice", "inner"], found["dice", "outer"]
    assert (inner["undefined"], inner["n_cases"]) == (1, 5)
    assert (outer["undefined"], outer["n_cases"]) == (0, 6)
    assert outer["delta"] == pytest.approx(0.1)
    assert outer["low"] <= outer["delta"] <= outer["high"]
    assert found["nsd", "mean"] == {"metric": "nsd", "label": "mean", "undefined": 6, "n_cases": 0}
    assert {metric for metric, _ in found} == {"dice", "hd95", "nsd"}


def test_a_smaller_distance_favours_the_candidate() -> None:
    own, base = (arm(level, metric=Metric.HD95) for level in (2.0, 5.0))
    found = secondary(own, base, patients=PATIENTS, alpha=0.05)
    [row] = [r for r in found if (r["metric"], r["label"]) == ("hd95", "outer")]
    assert row["delta"] == pytest.approx(3.0)
    assert row["n_cases"] == 3  # patients
    assert not row["is_flagged"]


def trial(seconds: float | None) -> Trial:
    made = Trial("t", None, None, None, None, Kind.CONFIRM, 1, 1, SplitName.LOCKED_TEST)
    return replace(made, seconds=seconds)


def test_costs_are_those_of_one_training() -> None:
    found = cost([trial(30.0), trial(50.0)], [trial(80.0), trial(None)], needed=0.1)
    assert found is not None
    assert (found.candidate, found.baseline, found.saved) == (40.0, 80.0, 0.5)
    assert found.is_lower
    assert cost([trial(None)], [trial(80.0)], needed=0.1) is None


def test_power_and_resampling_follow_from_the_same_scores() -> None:
    found = table(arm(0.5, seeds=3), arm(0.4, seeds=3), cases=CASES)
    result = compare(found.candidate, found.baseline)
    assert (
        power(result, margin=0.2)["power_at_margin"] > power(result, margin=0.0)["power_at_margin"]
    )
    drawn = [resampled(found, PATIENTS, alpha=0.05, seed=seed) for seed in (1, 1)]
    assert drawn[0] == drawn[1]
    means = [fmean(side.mean(axis=0)) for side in (found.candidate, found.baseline)]
    assert drawn[0]["bootstrap_low"] <= means[0] - means[1] <= drawn[0]["bootstrap_high"]
