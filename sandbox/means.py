"""Means over the scores of one trial: by case, by class, over the foreground. Pure, no arrays."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from memory.errors import ScoringError
from memory.records import CaseScore, Metric


def case_mean(scores: Iterable[CaseScore], metric: Metric) -> dict[str, float]:
    """Return each case's mean over its classes: the unit of the primary endpoint.

    Args:
        scores: rows of one trial.
        metric: which of the metrics to average.

    Returns:
        Case to mean, cases sorted. Undefined classes (both masks empty) are left out of a case's
        mean, and a case with none defined is left out; penalties are in.
    """
    return defined_means((s.case, s.value) for s in scores if s.metric == metric)


def class_mean(scores: Iterable[CaseScore], metric: Metric) -> dict[str, float]:
    """Return each class's mean over the cases where it is defined, classes sorted by name."""
    return defined_means((s.label, s.value) for s in scores if s.metric == metric)


def foreground_mean(scores: Iterable[CaseScore], metric: Metric) -> float:
    """Return the mean over classes of the mean over cases: nnU-Net's aggregate, not ours.

    Raises:
        ScoringError: no value is defined.
    """
    means = class_mean(scores, metric)
    if not means:
        raise ScoringError(f"no {metric.value} is defined in these scores; score some cases first")
    return fmean(means.values())


def defined_means(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Return the mean of each key's defined values, keys sorted; a key without any is left out."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for key, value in pairs:
        if value is not None:
            grouped[key].append(value)
    # The mean of one value is that value; most trials have one class, and fmean takes its time.
    return {
        key: fmean(values) if len(values) > 1 else values[0]
        for key, values in sorted(grouped.items())
    }
