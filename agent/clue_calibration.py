"""Clues from how sure a network is: its mean confidence beside its mean Dice, class by class.

The gap of a class in a case is its confidence (`sandbox/child/confidence.py`) minus its Dice, in
[-1, 1]; above 0 the network is surer than it is right. The gap of a case is the mean over its
classes. Where nothing of a class is predicted it has no confidence, and where Dice is undefined
nothing to hold it to: such a case has no gap of that class. Means are over cases of search-val.

A proxy, and no expected calibration error (Guo et al. 2017, arXiv:1706.04599): no
probability is binned, and Dice falls with voxels that were missed, of which no confidence tells.
So a perfectly calibrated network may have a gap above 0, and the baseline's stands beside it.

The confidence was computed by the process of the trial: it informs, and no score rests on it.
Where it is not known, one clue says why. Covered: the search and the baseline on search-val.
Never read, because never kept: anything of the locked test.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from agent.clue_images import mean_and_error
from agent.clue_scores import (
    MEAN,
    Scores,
    Series,
    Table,
    baselines,
    measured,
    read_scores,
    told_error,
)
from agent.clue_text import label_name, points, scrubbed
from agent.evidence import CaseMeans
from agent.standings import Setup, setup_of
from agent.suggestions import Clue
from memory.errors import CollectError
from memory.records import Metric, Trial
from memory.store import Store
from sandbox.confidence import MEANS, UNKNOWN, Means, parse_means

KEY = "calibration"
NOT_KEPT = "its result holds no confidence"
NO_PREDICTION = "the trial has no scored prediction"
TOO_FEW = "fewer than two cases have both a confidence and a Dice"
REASON_CHARACTERS = 200


class Asked(NamedTuple):
    """What a confidence must be of: the cases of search-val and the classes of the dataset."""

    cases: Sequence[str]
    classes: Sequence[str]


def unknown(why: str) -> Clue:
    """Return the clue that calibration is not known, and why."""
    return Clue(KEY, f"calibration is not known: {why}", None, "")


def calibration_clues(
    store: Store,
    folder: Path,
    trial: Trial,
    own: Scores,
    *,
    keys: Mapping[str, str],
    names: Iterable[str],
) -> tuple[Clue, ...]:
    """Return how sure a scored trial is beside how right, and beside the baseline; one clue or more.

    Args:
        store: the campaign's.
        folder: the campaign's.
        trial: of the search, scored on search-val.
        own: its scores.
        keys: the classes to tell of, each with its short key.
        names: the cases, which no text may tell.
    """
    asked = asked_of(store, list(own.series[Metric.DICE, MEAN]))
    try:
        found = gaps(own, means_of(folder, trial, asked))
    except CollectError as error:
        return (unknown(scrubbed(str(error), names=names, most=REASON_CHARACTERS)),)
    runs = baseline_gaps(store, folder, asked)
    table = Table(trial.seed, found, runs.get(setup_of(trial), {}), tuple(runs.values()))
    if not (whole := list(overall_clues(table))):
        return (unknown(TOO_FEW),)
    return (
        *whole,
        *(clue for label, key in keys.items() for clue in class_clue(table, label, key)),
    )


def asked_of(store: Store, cases: Sequence[str]) -> Asked:
    """Return what the confidences of a campaign's trials must be of."""
    labels = store.campaign().dataset.get("labels")
    return Asked(cases, list(labels) if isinstance(labels, dict) else [])


def means_of(folder: Path, trial: Trial, asked: Asked) -> Means:
    """Return how sure a trial was, as its supervisor kept it in result.json.

    Raises:
        CollectError: that is not known; the message says why.
    """
    try:
        said = json.loads((folder / "trials" / trial.id / "result.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        said = None
    kept = said.get("confidence") if isinstance(said, dict) else None
    if not isinstance(kept, dict):
        raise CollectError(NOT_KEPT)
    if UNKNOWN in kept:
        raise CollectError(str(kept[UNKNOWN]))
    return parse_means(kept.get(MEANS), asked.cases, asked.classes)


def baseline_gaps(store: Store, folder: Path, asked: Asked) -> dict[Setup, dict[int, Scores]]:
    """Return the gaps of the baseline's trainings by setup and seed, where they are known."""
    found: dict[Setup, dict[int, Scores]] = {}
    for one in baselines(store):
        with suppress(CollectError):
            means = means_of(folder, one, asked)
            found.setdefault(setup_of(one), {})[one.seed] = gaps(read_scores(store, one), means)
    return found


def gaps(scores: Scores, means: Means) -> Scores:
    """Return the gaps of a training in the place of its Dice, so that they compare as Dice does."""
    classes = [label for metric, label in scores.series if metric is Metric.DICE and label]
    series: dict[tuple[Metric, str], CaseMeans] = {
        (Metric.DICE, label): class_gaps(scores.series[Metric.DICE, label], label, means)
        for label in classes
    }
    series[Metric.DICE, MEAN] = {case: mean_gap(series, case) for case in means}
    return Scores(series, Counter())


def class_gaps(dice: CaseMeans, label: str, means: Means) -> dict[str, float | None]:
    """Return the gap of a class in each case; None where a side of it is undefined."""
    pairs = ((case, row.get(label), dice.get(case)) for case, row in means.items())
    return {
        case: None if sure is None or right is None else sure - right for case, sure, right in pairs
    }


def mean_gap(series: Series, case: str) -> float | None:
    """Return the mean gap of a case over its classes; None where no class has one."""
    values = [value for one in series.values() if (value := one[case]) is not None]
    return fmean(values) if values else None


def defined(scores: Scores, label: str) -> list[float]:
    """Return the gaps of a class that there are, in the order of the cases."""
    found = scores.series.get((Metric.DICE, label), {})
    return [value for value in found.values() if value is not None]


def overall_clues(table: Table) -> Iterator[Clue]:
    """Yield the gap over all classes, and how it differs from the baseline's."""
    what = "mean confidence minus mean Dice, where a class is predicted, is"
    yield from gap_clue(table, MEAN, KEY, what, more="above 0 the network is surer than right; ")
    if defined(table.own, MEAN) and (found := table.effect(Metric.DICE, MEAN)):
        text = (
            "confidence minus Dice differs from the baseline's by "
            f"{points(found.delta)} points ({told_error(found, 100)})"
        )
        yield measured(f"{KEY}.change", text, found, "share")


def class_clue(table: Table, label: str, key: str) -> Iterator[Clue]:
    """Yield the gap of one class, where two cases or more have one."""
    what = f"mean confidence minus mean Dice, where {label_name(label)} is predicted, is"
    yield from gap_clue(table, label, f"class.{key}.{KEY}", what)


def gap_clue(table: Table, label: str, key: str, what: str, *, more: str = "") -> Iterator[Clue]:
    """Yield a trial's mean gap with its standard error over cases, beside the baseline's."""
    own = defined(table.own, label)
    if len(own) < 2:
        return
    gap, error = mean_and_error(own)
    text = f"{what} {points(gap)} points ({more}SE {100 * error:.1f})"
    usual = [fmean(found) for one in table.base.values() if (found := defined(one, label))]
    text += f"; the baseline's is {points(fmean(usual))}" if usual else ""
    yield Clue(key, text, gap, "share", error, len(own))
