"""What may be said after confirmation on the locked test; pure arithmetic on scores.

The unit is Dice in [0, 1], higher is better; cases are patients, never slices. Scores come as
arrays float (seeds, cases): one row a training, one column a locked case, the same cases in
the same order on both sides; `numpy.nan` is refused, so that undefined cases are left out by
the caller, who counts them.

Two one-sided tests must both hold. The t test has the variance of cases and of trainings in
its denominator (two crossed random factors): V = max(V_case + V_run - V_resid, V_case, V_run),
where V_resid is what the first two count twice. The Wilcoxon signed-rank test runs on the
seed-averaged differences. Their larger p, doubled, is the p of the claim: it is compared with
alpha, as the two-sided interval of level 1 - alpha is, and adjusted by Holm's procedure over
the comparisons of one campaign (Holm 1979, Scand J Stat 6:65-70).

Covered: superiority, by a margin or without, of one network over one baseline.
Not covered: equivalence, non-inferiority, several datasets.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from memory.errors import ClaimError

MIN_CASES = 50
MIN_SEEDS = 3
MARGIN = 0.005
ALPHA = 0.05
PRIOR_SD = 0.01  # published gains of architectures are 0 to 2 Dice points

Scores = NDArray[np.float64]
Verdict = Literal["better_by_margin", "better", "not_distinguishable", "worse", "exploratory"]


class Comparison(NamedTuple):
    """A candidate minus a baseline on the locked test, in Dice.

    `low` and `high` are the two-sided interval of level 1 - `alpha`. `p_t`, `p_wilcoxon` and
    `p_margin` (gain above the margin, t test) are one-sided; `p` is twice the larger of the
    first two, at most 1. `cases_higher` counts cases whose seed-averaged score is higher. The
    variances are those of `delta`.
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


class Components(NamedTuple):
    """Variances of one measurement, in Dice squared.

    `case`: paired difference of two networks in one case, over cases, trainings averaged out.
    `run`: mean of one training over seeds. `resid`: one case in one training, beyond both.
    """

    case: float
    run: float
    resid: float


class ClaimWording(NamedTuple):
    """The one sentence that code may emit: its key, a template and the numbers of its fields.

    The template is for `str.format`; `{candidate}`, `{baseline}` and `{dataset}` are names that
    the caller fills in, all other fields are in `fields` and are printed through facts. Dice
    differences and p are in [0, 1] here; the template expects Dice fields printed in points
    (times 100) and `level` in per cent.
    """

    key: Verdict
    template: str
    fields: dict[str, float | int]


class Shrinkage(NamedTuple):
    """How much of the gain seen while selecting was left on the locked test, in Dice.

    `lost` is selection minus locked; `kept` locked over selection, None when the selection
    gain was not positive. `shrunken` is the locked gain drawn towards 0 by a normal prior, and
    `weight` how much of it was kept by that, in [0, 1].
    """

    selection: float
    locked: float
    lost: float
    kept: float | None
    shrunken: float
    weight: float


class _Variances(NamedTuple):
    case: float
    run: float
    resid: float

    @property
    def total(self) -> float:
        return max(self.case + self.run - self.resid, self.case, self.run)


_TEMPLATES: dict[Verdict, str] = {
    "better_by_margin": (
        "{candidate} achieved a higher per-case Dice than {baseline} on the locked test set of "
        "{dataset} by more than the pre-specified margin of {margin} points: {delta} points "
        "({level} % CI {low} to {high}; Holm-adjusted p = {p}), higher in {cases_higher} of "
        "{n_cases} cases."
    ),
    "better": (
        "{candidate} achieved a higher per-case Dice than {baseline} on the locked test set of "
        "{dataset}: {delta} points ({level} % CI {low} to {high}; Holm-adjusted p = {p}), higher "
        "in {cases_higher} of {n_cases} cases."
    ),
    "not_distinguishable": (
        "{candidate} was not distinguishable from {baseline} on the locked test set of {dataset}: "
        "per-case Dice differed by {delta} points ({level} % CI {low} to {high}; Holm-adjusted "
        "p = {p}), higher in {cases_higher} of {n_cases} cases; the smallest effect that this "
        "test could detect was {mde} points."
    ),
    "worse": (
        "{candidate} was worse than {baseline} on the locked test set of {dataset}: per-case Dice "
        "differed by {delta} points ({level} % CI {low} to {high}), higher in {cases_higher} of "
        "{n_cases} cases."
    ),
    "exploratory": (
        "The scores of {candidate} on {dataset} are exploratory: {n_cases} locked cases and "
        "{seeds} trainings a side allow no statement against {baseline}; {min_cases} and "
        "{min_seeds} are needed."
    ),
}


def compare(
    candidate: ArrayLike, baseline: ArrayLike, *, alpha: float = ALPHA, margin: float = MARGIN
) -> Comparison:
    """Compare a network with a baseline on the same locked cases.

    Args:
        candidate: float (seeds, cases), Dice; at least 2 seeds.
        baseline: float (seeds, cases), the same cases; the number of seeds may differ.
        alpha: level of the two-sided interval, in (0, 1).
        margin: gain in Dice that counts as more than trivial, at least 0.

    The t test has Satterthwaite's degrees of freedom, not below those of the seeds alone
    (S_candidate + S_baseline - 2) and not above cases - 1.

    Raises:
        ClaimError: fewer than 2 seeds or cases, a score that is not finite or outside [0, 1],
            cases that do not match, or an impossible alpha or margin.
    """
    if not 0 < alpha < 1 or not margin >= 0:
        raise ClaimError(f"alpha {alpha!r}, margin {margin!r}: allowed are (0, 1) and 0 or more")
    a, b = _scores(candidate, "candidate"), _scores(baseline, "baseline")
    if a.shape[1] != b.shape[1]:
        raise ClaimError(f"candidate has {a.shape[1]} cases, baseline {b.shape[1]}; pair them")
    n = a.shape[1]
    differences = a.mean(axis=0) - b.mean(axis=0)
    delta = float(differences.mean())
    parts = _variances(a, b, differences)
    se, df = math.sqrt(parts.total), _degrees(parts, n=n, seeds=len(a) + len(b))
    half = float(stats.t.ppf(1 - alpha / 2, df)) * se
    p_t, p_wilcoxon = _t_tail(delta, se, df), _signed_rank(differences)
    return Comparison(
        delta=delta,
        se=se,
        low=delta - half,
        high=delta + half,
        df=df,
        p_t=p_t,
        p_wilcoxon=p_wilcoxon,
        p=min(1.0, 2 * max(p_t, p_wilcoxon)),
        p_margin=_t_tail(delta - margin, se, df),
        n_cases=n,
        seeds_candidate=len(a),
        seeds_baseline=len(b),
        cases_higher=int((differences > 0).sum()),
        var_case=parts.case,
        var_run=parts.run,
        var_resid=parts.resid,
        alpha=alpha,
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p values, in the order given.

    Raises:
        ClaimError: a p outside [0, 1].
    """
    if any(not 0 <= p <= 1 for p in ps):
        raise ClaimError(f"p values {list(ps)!r}: allowed are numbers in [0, 1]")
    adjusted, floor = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        floor = max(floor, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = floor
    return adjusted


def judge(
    comparison: Comparison, p_holm: float, *, margin: float, n_locked: int, seeds: int
) -> Verdict:
    """Return the verdict on one comparison after Holm's adjustment.

    Args:
        comparison: of one finalist with one baseline.
        p_holm: its `p`, adjusted over all comparisons of the campaign; compared with its alpha.
        margin: gain in Dice that the interval's lower end must pass for better_by_margin.
        n_locked: cases of the locked test. Fewer than 50 allow no statement.
        seeds: trainings of the smaller arm. Fewer than 3 allow no statement.

    The comparison's own counts bind too: a caller cannot state more cases than were compared.

    Raises:
        ClaimError: `p_holm` is below the comparison's own p.
    """
    if p_holm < comparison.p:
        raise ClaimError(f"p_holm {p_holm!r} is below its raw p {comparison.p!r}; pass holm(...)")
    fewest = min(seeds, comparison.seeds_candidate, comparison.seeds_baseline)
    if min(n_locked, comparison.n_cases) < MIN_CASES or fewest < MIN_SEEDS:
        return "exploratory"
    if comparison.high < 0:
        return "worse"
    if comparison.low > 0 and p_holm < comparison.alpha:
        return "better_by_margin" if comparison.low > margin else "better"
    return "not_distinguishable"


def claim_text(
    verdict: Verdict, comparison: Comparison, *, p_holm: float, margin: float, mde: float
) -> ClaimWording:
    """Return the sentence that goes with a verdict, and the numbers it prints."""
    numbers: dict[str, float | int] = {
        "delta": comparison.delta,
        "low": comparison.low,
        "high": comparison.high,
        "level": 1 - comparison.alpha,
        "p": p_holm,
        "cases_higher": comparison.cases_higher,
        "n_cases": comparison.n_cases,
        "mde": mde,
        "margin": margin,
        "seeds": min(comparison.seeds_candidate, comparison.seeds_baseline),
        "min_cases": MIN_CASES,
        "min_seeds": MIN_SEEDS,
    }
    template = _TEMPLATES[verdict]
    fields = {name: value for name, value in numbers.items() if f"{{{name}}}" in template}
    return ClaimWording(verdict, template, fields)


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
    """Return the true gain in Dice that the t test of `compare` finds with the given power.

    Args:
        parts: variances of one measurement, assumed alike on both sides.
        cases: locked cases, at least 2.
        seeds: trainings of each side, at least 2.
        power: probability of finding the gain, in [0.5, 1).
        alpha: two-sided level.

    (t(1 - alpha / 2) + t(power)) * se, both at the degrees of freedom the test will have.

    Raises:
        ClaimError: an argument outside these ranges.
    """
    if cases < 2 or seeds < 2 or not 0.5 <= power < 1 or not 0 < alpha < 1:
        raise ClaimError(
            f"cases {cases!r}, seeds {seeds!r}, power {power!r}, alpha {alpha!r}: allowed are "
            "2 or more, 2 or more, [0.5, 1) and (0, 1)"
        )
    resid = 2 * parts.resid / (cases * seeds)
    planned = _Variances(parts.case / cases + resid, 2 * parts.run / seeds + resid, resid)
    df = _degrees(planned, n=cases, seeds=2 * seeds)
    quantiles = float(stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(power, df))
    return quantiles * math.sqrt(planned.total)


def shrinkage(
    comparison: Comparison, *, selection_gain: float, prior_sd: float = PRIOR_SD
) -> Shrinkage:
    """Set the gain that chose a finalist beside its gain on the locked test.

    Args:
        comparison: the finalist on the locked test.
        selection_gain: its paired gain in Dice on the cases it was chosen on.
        prior_sd: SD in Dice of the normal prior of mean 0 behind the shrunken gain.
    """
    locked = comparison.delta
    weight = prior_sd**2 / (prior_sd**2 + comparison.se**2)
    kept = locked / selection_gain if selection_gain > 0 else None
    return Shrinkage(selection_gain, locked, selection_gain - locked, kept, weight * locked, weight)


def _scores(values: ArrayLike, side: str) -> Scores:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise ClaimError(
            f"{side} scores have shape {scores.shape}; needed: (seeds, cases), at least 2 of each"
        )
    if not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
        raise ClaimError(
            f"{side} scores hold a value that is not in [0, 1]; leave undefined cases out of "
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


def _signed_rank(differences: Scores) -> float:
    """Return the one-sided p of the signed-rank test; no difference anywhere gives 1."""
    kept = np.round(differences, 12)  # a tie must not be broken by the rounding of a mean
    if not kept.any():
        return 1.0
    return float(stats.wilcoxon(kept, alternative="greater").pvalue)
