"""How the baseline fails on search-val: figures over cases, counted by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from agent.baseline_errors import baseline_errors, class_errors, spearman
from memory.records import CaseScore, Metric


def score(
    case: str, value: float | None, *, metric: Metric = Metric.DICE, **more: Any
) -> CaseScore:
    reason = more.get("reason") or (None if value is not None else "both empty")
    return CaseScore(more.get("trial", "t"), case, more.get("label", "one"), metric, value, reason)


def test_errors_by_hand() -> None:
    values = [0.1, 0.4, 0.6, 0.7, 0.8, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9]
    names = [f"c{i:02d}" for i in range(len(values))]
    rows = [score(case, value) for case, value in zip(names, values, strict=True)]
    rows += [score(case, 2.0, metric=Metric.HD95) for case in names]
    rows += [score("gone", None), score("gone", None, metric=Metric.NSD)]
    rows[0] = replace(rows[0], value=0.0, reason="missed")
    found = class_errors(rows, dict.fromkeys([*names, "gone"], 5.0))
    own = [0.0, *values[1:]]
    assert found.dice == pytest.approx(np.mean(own), rel=1e-5)
    assert found.dice_sd == pytest.approx(np.std(own, ddof=1), rel=1e-5)
    assert found.poor == pytest.approx(2 / 11, rel=1e-5)
    assert found.tail == pytest.approx(0.2, rel=1e-5)  # two of eleven cases
    assert (found.cases, found.undefined, found.missed) == (12, 1, 1)
    assert (found.hd95, found.nsd) == (2.0, None)
    assert found.by_volume is None  # all volumes are the same


def test_runs_are_averaged_within_each_case() -> None:
    rows = [score("a", 0.2, trial="t1"), score("a", 0.6, trial="t2")]
    rows += [score("b", 0.8, trial="t1"), score("b", None, trial="t2")]
    rows += [score("stranger", 0.0, trial="t1")]
    found = baseline_errors(rows, labels=["one", "none"], volumes={"a": 1.0, "b": 2.0}, rung=2)
    assert (found.rung, found.runs, found.cases) == (2, 2, 2)
    assert found.classes[0].dice == 0.6
    assert found.classes[1].dice is None


def test_rank_correlation() -> None:
    rising = [(float(i), float(i * i)) for i in range(10)]
    assert spearman(rising) == 1.0
    assert spearman([(x, -y) for x, y in rising]) == -1.0
    assert spearman(rising[:7]) is None
    assert spearman([(x, 1.0) for x, _ in rising]) is None
    pairs = [(1.0, 3.0), (1.0, 2.0), (2.0, 2.0), (5.0, 9.0), (4.0, 1.0), (3.0, 3.0), (7.0, 8.0)]
    pairs += [(6.0, 8.0), (0.0, 0.0)]
    expected = stats.spearmanr(*zip(*pairs, strict=True)).statistic
    assert spearman(pairs) == pytest.approx(expected, rel=1e-5)
