"""What differs between a trial and its second training. Pure, but for reading label maps.

On a CPU the label maps and the scores must be the same to the bit. A compressed file may differ
in bytes (another zlib) while its label map does not; that is said and counts as the same. On a
GPU, sums run in another order each time: there the difference of the mean Dice is held against
the SD that the baseline's mean Dice has over its seeds at the same rung.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from memory.errors import ScoringError
from memory.records import CaseScore, Figures, Metric
from sandbox.label_map import read_label_map
from sandbox.means import case_mean

LONGEST = 50
Key = tuple[str, str, str]


class Noise(NamedTuple):
    """Differences of per-case Dice (second minus first) beside the baseline's seed SD.

    `largest` and `mean_absolute` are over cases, `of_means` is the difference of the means.
    """

    largest: float
    mean_absolute: float
    of_means: float
    seed_sd: float | None

    @property
    def is_within(self) -> bool:
        """True where the means differ by no more than seeds do."""
        return self.seed_sd is not None and abs(self.of_means) <= self.seed_sd


def score_differences(first: Iterable[CaseScore], second: Iterable[CaseScore]) -> list[Figures]:
    """Return every score that differs, the largest difference first.

    A row has case, class, metric, `first`, `second` (None where undefined or missing) and `by`
    (None where there is no number to subtract).
    """
    before, after = _by_key(first), _by_key(second)
    rows = []
    for key in sorted(before.keys() | after.keys()):
        one, two = before.get(key), after.get(key)
        if one == two:
            continue
        old, new = (one[0] if one else None), (two[0] if two else None)
        by = None if old is None or new is None else new - old
        case, label, metric = key
        named = {"case": case, "class": label, "metric": metric}
        rows.append({**named, "first": old, "second": new, "by": by})
    return sorted(rows, key=lambda r: (r["by"] is not None, -abs(r["by"] or 0.0)))


def _by_key(scores: Iterable[CaseScore]) -> dict[Key, tuple[float | None, str | None]]:
    return {(s.case, s.label, s.metric.value): (s.value, s.reason) for s in scores}


def map_differences(first: Path, second: Path) -> list[Figures]:
    """Return the label maps of two prediction folders that differ, by file name.

    A row has `file` and `voxels`, the number of voxels that differ; None where one is missing
    or has another shape.
    """
    names = {p.name for folder in (first, second) if folder.is_dir() for p in folder.iterdir()}
    rows = []
    for name in sorted(names):
        voxels = _voxels(first / name, second / name)
        if voxels != 0:
            rows.append({"file": name, "voxels": voxels})
    return rows


def _voxels(first: Path, second: Path) -> int | None:
    try:
        one, two = read_label_map(first), read_label_map(second)
    except ScoringError:
        return None
    if one.array.shape != two.array.shape:
        return None
    return int(np.count_nonzero(one.array != two.array))


def noise(
    first: Iterable[CaseScore], second: Iterable[CaseScore], seed_sd: float | None
) -> Noise | None:
    """Return how far the per-case Dice of two trainings lie apart; None without a common case."""
    one, two = case_mean(first, Metric.DICE), case_mean(second, Metric.DICE)
    gaps = [two[case] - one[case] for case in sorted(one.keys() & two.keys())]
    if not gaps:
        return None
    sizes = [abs(gap) for gap in gaps]
    return Noise(max(sizes), fmean(sizes), fmean(gaps), seed_sd)


def changes(first: Mapping[str, object], second: Mapping[str, object]) -> list[Figures]:
    """Return what has another value in the second mapping, by name."""
    return [
        {"name": name, "first": first.get(name), "second": second.get(name)}
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]


def difference_lines(found: Figures) -> list[str]:
    """Return the differences of a reproduction as text, at most 50 of each kind."""
    lines = [
        f"  {row['file']}: "
        + ("missing on one side" if row["voxels"] is None else f"{row['voxels']} voxels differ")
        for row in found["label_maps"][:LONGEST]
    ]
    lines += [f"  {_score_line(row)}" for row in found["scores"][:LONGEST]]
    hidden = sum(max(0, len(found[name]) - LONGEST) for name in ("label_maps", "scores"))
    lines += [f"  and {hidden} more, see --json"] if hidden else []
    return lines


def _score_line(row: Figures) -> str:
    place = f"{row['case']}, class {row['class']}, {row['metric']}"
    values = f"{_shown(row['first'])} was, {_shown(row['second'])} is"
    return f"{place}: {values}" + ("" if row["by"] is None else f" ({row['by']:+.3g})")


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"
