"""A search over nothing but seeds, on the replayed table: real trainings, no difference to find.

All trainings of one network at one rung are alike but for their seed. In each draw some of them
are taken for the baseline, all others for candidates, and the cases are cut into two halves. The
best candidate on the first half is what a search would report; the claim compares, on the second
half, the candidates' arm with the baseline's. That arm is drawn without a look at any score: it is
the winner's network trained afresh, as every training here is. Whatever is claimed is false.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.claims import ALPHA, MARGIN, compare, judge
from agent.paired import signed_rank
from bench.table_rows import FOLDER, Row, Table, read_table
from memory.errors import SegwrightError
from memory.records import Status

FEWEST_SEEDS, FEWEST_CASES = 5, 20
ARM = (2, 3)
"""Trainings of an arm, at least and at most; a claim needs three."""

Scores = NDArray[np.float64]
Places = NDArray[np.int64]


class Drawn(NamedTuple):
    """How one draw ended.

    `is_naive`, `is_naive_test`: the best candidate's mean lay above the baseline's on the half it
    was chosen on, and a Wilcoxon test there agreed. `is_test`: on the other half the claim's
    tests held, whatever the number of cases. `is_claim`: it was claimed. `is_refused`: too few
    cases or trainings for any claim.
    """

    is_naive: bool
    is_naive_test: bool
    is_test: bool
    is_claim: bool
    is_refused: bool


def groups(folder: Path = FOLDER) -> dict[str, Scores]:
    """Return the scores of each network and rung with enough trainings: float64 (seeds, cases).

    Only cases that are defined in all trainings of a group are in it.

    Raises:
        SegwrightError: the table is missing, or no network has enough trainings or cases.
    """
    table = read_table(folder)
    of_network: dict[str, list[Row]] = {}
    for row in sorted(table.rows, key=lambda one: one.seed):
        if row.status is Status.OK:
            of_network.setdefault(f"{row.network} at rung {row.rung}", []).append(row)
    found = {name: whole(rows) for name, rows in of_network.items()}
    kept = {name: one for name, one in found.items() if is_enough(one)}
    if not kept:
        raise SegwrightError(too_little(table, found))
    return kept


def too_little(table: Table, found: Mapping[str, Scores]) -> str:
    """Return why no network of the table serves."""
    most = max((len(one) for one in found.values()), default=0)
    return (
        f"the replayed table has {len(table.cases)} cases and at most {most} trainings of one "
        f"network at one rung; needed: {FEWEST_CASES} and {FEWEST_SEEDS}; `segwright bench table` "
        "adds what is missing"
    )


def whole(rows: Sequence[Row]) -> Scores:
    """Return float64 (trainings, cases), without cases that are undefined in one of them."""
    scores = np.array([[np.nan if v is None else v for v in row.dice] for row in rows], np.float64)
    kept: Scores = scores[:, ~np.isnan(scores).any(axis=0)]
    return kept


def is_enough(scores: Scores) -> bool:
    """Tell whether a network's trainings allow draws."""
    return len(scores) >= FEWEST_SEEDS and scores.shape[1] >= FEWEST_CASES


def draw(scores: Scores, rng: np.random.Generator) -> Drawn:
    """Return how one draw from a network's trainings ends; float64 (seeds, cases)."""
    candidates, base, first, second = cut(scores, rng)
    best = candidates[candidates[:, first].mean(axis=1).argmax(), first]
    gains = best - base[:, first].mean(axis=0)
    arm = candidates[: len(base), second]
    result = compare(arm, base[:, second], alpha=ALPHA, margin=MARGIN)
    verdict = judge(result, result.p, margin=MARGIN, n_locked=len(second), seeds=len(base))
    return Drawn(
        is_naive=bool(gains.mean() > 0),
        is_naive_test=signed_rank(gains) < ALPHA,
        is_test=result.low > 0 and result.p < ALPHA,
        is_claim=verdict in ("better", "better_by_margin"),
        is_refused=verdict == "exploratory",
    )


def cut(scores: Scores, rng: np.random.Generator) -> tuple[Scores, Scores, Places, Places]:
    """Return candidates and baseline (both float64 (seeds, cases)) and both halves of the cases.

    The baseline gets a third of the trainings, within ARM; the halves are places of cases.
    """
    order, cases = rng.permutation(len(scores)), rng.permutation(scores.shape[1])
    size = min(ARM[1], max(ARM[0], len(scores) // 3))
    first, second = np.array_split(cases, 2)
    return scores[order[size:]], scores[order[:size]], first, second
