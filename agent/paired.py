"""The paired difference of two arms on the same cases: its size, its interval, its tests.

Scores come as arrays float (seeds, cases): one row a training, one column a case, the same cases
in the same order on both sides; `numpy.nan` is refused, so that undefined cases are left out by
the caller, who counts them. The unit is that of the score: Dice and NSD in [0, 1], HD95 in mm. A
positive difference always favours the candidate.

Two one-sided tests must both hold. The t test has the variance of cases and of trainings in
its denominator (two crossed random factors): V = max(V_case + V_run - V_resid, V_case, V_run),
where V_resid is what the first two count twice. The Wilcoxon signed-rank test runs on the
seed-averaged differences. Their larger p, doubled, is the p of the comparison: it is compared with
alpha, as the two-sided interval of level 1 - alpha is. Non-inferiority is the same pair of tests
on the differences plus the loss that is allowed.

Covered: one network and one baseline. Not covered: verdicts (`agent/claims.py`).
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from memory.errors import ClaimError

ALPHA = 0.05
MARGIN = 0.005
NONINFERIORITY = 0.005

Scores = NDArray[np.float64]


class Comparison(NamedTuple):
    """A candidate minus a baseline, in the score's unit; positive favours the candidate.

    `low` and `high` are the two-sided interval of level 1 - `alpha`. `p_t`, `p_wilcoxon` and
    `p_margin` (gain above the margin, t test) are one-sided; `p` is twice the larger of the
    first two, at most 1; `p_noninferior` is the same for a loss smaller than `noninferiority`,
    never above `p`. `cases_higher` counts cases in which the candidate's seed-averaged score is
    the better one. The variances are those of `delta`. Cases are patients.
    """

    delta: float
    se: float
    low: float
    high: float
    df: float
    p_t: float
    p_wilcoxon: float
    p: float
    p_margin: float
    n_cases: int
    seeds_candidate: int
    seeds_baseline: int
    cases_higher: int
    var_case: float
    var_run: float
    var_resid: float
    alpha: float
    p_noninferior: float = 1.0
    noninferiority: float = 0.0


class Components(NamedTuple):
    """Variances of one measurement, in the score's unit squared.

    `case`: paired difference of two networks in one case, over cases, trainings averaged out.
    `run`: mean of one training over seeds. `resid`: one case in one training, beyond both.
    """

    case: float
    run: float
    resid: float


class _Variances(NamedTuple):
    case: float
    run: float
    resid: float

    @property
    def total(self) -> float:
        return max(self.case + self.run - self.resid, self.case, self.run)


def compare(
    candidate: ArrayLike,
    baseline: ArrayLike,
    *,
    alpha: float = ALPHA,
    margin: float = MARGIN,
    noninferiority: float = NONINFERIORITY,
    patients: Sequence[Hashable] | None = None,
    most: float = 1.0,
    lower_is_better: bool = False,
) -> Comparison:
    """Compare a network with a baseline on the same cases.

    Args:
        candidate: float (seeds, cases); at least 2 seeds.
        baseline: float (seeds, cases), the same cases; the number of seeds may differ.
        alpha: level of the two-sided interval, in (0, 1).
        margin: gain that counts as more than trivial, at least 0.
        noninferiority: loss that counts as none, at least 0.
        patients: the patient of each column, for columns that are slices or visits: they are
            averaged, and the patients are what is tested and counted.
        most: the largest score there is; the smallest is 0. Infinity for distances.
        lower_is_better: differences are baseline minus candidate, so that a gain is positive.

    The t test has Satterthwaite's degrees of freedom, not below those of the seeds alone
    (S_candidate + S_baseline - 2) and not above cases - 1.

    Raises:
        ClaimError: fewer than 2 seeds or cases, a score that is not finite or outside
            [0, `most`], cases that do not match, or an impossible alpha or margin.
    """
    _check_rules(alpha, margin, noninferiority)
    a, b = arms(candidate, baseline, patients=patients, most=most)
    if lower_is_better:
        a, b = -a, -b
    n = a.shape[1]
    differences = a.mean(axis=0) - b.mean(axis=0)
    delta = float(differences.mean())
    parts = _variances(a, b, differences)
    se, df = math.sqrt(parts.total), _degrees(parts, n=n, seeds=len(a) + len(b))
    half = float(stats.t.ppf(1 - alpha / 2, df)) * se
    p_t, p_wilcoxon = _t_tail(delta, se, df), signed_rank(differences)
    p = min(1.0, 2 * max(p_t, p_wilcoxon))
    p_t_loss = _t_tail(delta + noninferiority, se, df)
    p_loss = 2 * max(p_t_loss, signed_rank(differences + noninferiority))
    return Comparison(
        delta=delta,
        se=se,
        low=delta - half,
        high=delta + half,
        df=df,
        p_t=p_t,
        p_wilcoxon=p_wilcoxon,
        p=p,
        p_margin=_t_tail(delta - margin, se, df),
        n_cases=n,
        seeds_candidate=len(a),
        seeds_baseline=len(b),
        cases_higher=int((differences > 0).sum()),
        var_case=parts.case,
        var_run=parts.run,
        var_resid=parts.resid,
        alpha=alpha,
        p_noninferior=min(p, p_loss),
        noninferiority=noninferiority,
    )


def _check_rules(alpha: float, margin: float, noninferiority: float) -> None:
    if not 0 < alpha < 1 or not margin >= 0 or not noninferiority >= 0:
        raise ClaimError(
            f"alpha {alpha!r}, margin {margin!r}, noninferiority {noninferiority!r}: allowed are "
            "(0, 1), 0 or more and 0 or more"
        )


def arms(
    candidate: ArrayLike,
    baseline: ArrayLike,
    *,
    patients: Sequence[Hashable] | None = None,
    most: float = 1.0,
) -> tuple[Scores, Scores]:
    """Return both arms as float64 (seeds, patients), checked; arguments as in `compare`.

    Raises:
        ClaimError: see `compare`.
    """
    a, b = _scores(candidate, "candidate", most), _scores(baseline, "baseline", most)
    if a.shape[1] != b.shape[1]:
        raise ClaimError(f"candidate has {a.shape[1]} cases, baseline {b.shape[1]}; pair them")
    if patients is None:
        return a, b
    if len(patients) != a.shape[1]:
        raise ClaimError(f"{len(patients)} patients for {a.shape[1]} cases; name one for each")
    return by_patient(a, patients), by_patient(b, patients)


def by_patient(scores: Scores, patients: Sequence[Hashable]) -> Scores:
    """Return float64 (seeds, patients): the mean over each patient's columns, by first column.

    Raises:
        ClaimError: fewer than 2 patients.
    """
    columns: dict[Hashable, list[int]] = {}
    for column, patient in enumerate(patients):
        columns.setdefault(patient, []).append(column)
    if len(columns) < 2:
        raise ClaimError(f"{len(patients)} cases are of {len(columns)} patient; needed: 2 patients")
    return np.stack([scores[:, own].mean(axis=1) for own in columns.values()], axis=1)


def components(comparison: Comparison) -> Components:
    """Return the variances of one measurement behind a comparison, none below 0."""
    n = comparison.n_cases
    per_seed = 1 / comparison.seeds_candidate + 1 / comparison.seeds_baseline
    return Components(
        case=max(0.0, comparison.var_case - comparison.var_resid) * n,
        run=max(0.0, comparison.var_run - comparison.var_resid) / per_seed,
        resid=comparison.var_resid * n / per_seed,
    )


def minimal_detectable_effect(
    parts: Components, *, cases: int, seeds: int, power: float = 0.8, alpha: float = ALPHA
) -> float:
    """Return the true gain that the t test of `compare` finds with the given power.

    Args:
        parts: variances of one measurement, assumed alike on both sides.
        cases: cases of the test, at least 2.
        seeds: trainings of each side, at least 2.
        power: probability of finding the gain, in [0.5, 1).
        alpha: two-sided level.

    (t(1 - alpha / 2) + t(power)) * se, both at the degrees of freedom the test will have.

    Raises:
        ClaimError: an argument outside these ranges.
    """
    if not 0.5 <= power < 1:
        raise ClaimError(f"power {power!r}: allowed is [0.5, 1)")
    se, df = _planned(parts, cases=cases, seeds=seeds, alpha=alpha)
    return float(stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(power, df)) * se


def power_at(
    parts: Components, *, gain: float, cases: int, seeds: int, alpha: float = ALPHA
) -> float:
    """Return the probability that the t test of `compare` finds a true gain, in [0, 1].

    Arguments as in `minimal_detectable_effect`, of which it is the inverse:
    T(gain / se - t(1 - alpha / 2)), T the distribution of t. No gain is found with alpha / 2. The
    signed-rank test, which must hold as well, and Holm's adjustment make it a little smaller.

    Raises:
        ClaimError: an argument outside the ranges, or a gain that is not finite.
    """
    if not math.isfinite(gain):
        raise ClaimError(f"gain {gain!r}: allowed is a finite number")
    se, df = _planned(parts, cases=cases, seeds=seeds, alpha=alpha)
    if se == 0:
        return float(gain > 0) if gain else alpha / 2
    return float(stats.t.cdf(gain / se - stats.t.ppf(1 - alpha / 2, df), df))


def _planned(parts: Components, *, cases: int, seeds: int, alpha: float) -> tuple[float, float]:
    """Return the standard error and the degrees of freedom that a test will have."""
    if cases < 2 or seeds < 2 or not 0 < alpha < 1:
        raise ClaimError(
            f"cases {cases!r}, seeds {seeds!r}, alpha {alpha!r}: allowed are 2 or more, "
            "2 or more and (0, 1)"
        )
    resid = 2 * parts.resid / (cases * seeds)
    planned = _Variances(parts.case / cases + resid, 2 * parts.run / seeds + resid, resid)
    return math.sqrt(planned.total), _degrees(planned, n=cases, seeds=2 * seeds)


def _scores(values: ArrayLike, side: str, most: float) -> Scores:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise ClaimError(
            f"{side} scores have shape {scores.shape}; needed: (seeds, cases), at least 2 of each"
        )
    if not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > most:
        allowed = f"[0, {most:g}]" if math.isfinite(most) else "[0, inf)"
        raise ClaimError(
            f"{side} scores hold a value that is not in {allowed}; leave undefined cases out of "
            "both sides and count them"
        )
    return scores


def _variances(a: Scores, b: Scores, differences: Scores) -> _Variances:
    """Return the variances of the mean difference from cases, runs, and both (counted twice)."""
    n = len(differences)
    run, resid = 0.0, 0.0
    for side in (a, b):
        run += float(side.mean(axis=1).var(ddof=1)) / len(side)
        rest = side - side.mean(axis=0) - side.mean(axis=1, keepdims=True) + side.mean()
        square = float((rest**2).sum()) / ((len(side) - 1) * (n - 1))
        resid += square / (n * len(side))
    return _Variances(float(differences.var(ddof=1)) / n, run, resid)


def _degrees(parts: _Variances, *, n: int, seeds: int) -> float:
    """Return Satterthwaite's degrees of freedom; `seeds` are those of both sides together."""
    spread = parts.case**2 / (n - 1) + parts.run**2 / (seeds - 2)
    free = parts.total**2 / spread if spread > 0 else float(n - 1)
    return min(max(free, float(seeds - 2)), float(n - 1))


def _t_tail(delta: float, se: float, df: float) -> float:
    """Return the one-sided p of a mean `delta` against 0."""
    if se > 0:
        return float(stats.t.sf(delta / se, df))
    return 0.5 if delta == 0 else float(delta < 0)


def signed_rank(differences: Scores) -> float:
    """Return the one-sided p of Wilcoxon's signed-rank test; no difference anywhere gives 1.

    `differences`: float64 (cases,), candidate minus baseline, averaged over trainings.
    """
    kept = np.round(differences, 12)  # a tie must not be broken by the rounding of a mean
    if not kept.any():
        return 1.0
    return float(stats.wilcoxon(kept, alternative="greater").pvalue)
