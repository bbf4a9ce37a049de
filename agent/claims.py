"""What may be said after confirmation on the locked test; pure arithmetic on scores.

The unit is Dice in [0, 1], higher is better; cases are patients, never slices. How two arms are
compared is in `agent/paired.py`. Each p is adjusted by Holm's procedure over the comparisons of one
campaign, finalists times primary metrics (Holm 1979, Scand J Stat 6:65-70).

A finalist without shown superiority is tested once more: not worse by the loss allowed, and
cheaper. Both null hypotheses are nested, and each such finalist gets the share of alpha that
Holm's procedure had left for it, so that all false claims of a campaign together keep alpha
(a graphical procedure of Bretz et al. 2009, doi:10.1002/sim.3495: each finalist's share goes from
non-inferiority to superiority, and on to other finalists once both are shown).

Covered: superiority, by a margin or without, and non-inferiority at a lower cost, of one
network over one baseline. Not covered: equivalence, several datasets.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from agent.paired import ALPHA as ALPHA
from agent.paired import MARGIN as MARGIN
from agent.paired import NONINFERIORITY as NONINFERIORITY
from agent.paired import Comparison as Comparison
from agent.paired import Components as Components
from agent.paired import Scores as Scores
from agent.paired import compare as compare
from agent.paired import components as components
from agent.paired import minimal_detectable_effect as minimal_detectable_effect
from agent.paired import power_at as power_at
from memory.errors import ClaimError

MIN_CASES = 50
MIN_SEEDS = 3
COST_GAIN = 0.1
PRIOR_SD = 0.01  # published gains of architectures are 0 to 2 Dice points

Key = TypeVar("Key", bound=Hashable)
Unit = Literal["seconds", "FLOPs"]
Verdict = Literal[
    "better_by_margin",
    "better",
    "not_worse_and_cheaper",
    "not_distinguishable",
    "worse",
    "exploratory",
]


class Cost(NamedTuple):
    """What the trainings of both arms took, measured; the mean of one training, above 0.

    `needed` is the share of the baseline's cost that must be saved to count, in (0, 1).
    """

    candidate: float
    baseline: float
    unit: Unit = "seconds"
    needed: float = COST_GAIN

    @property
    def saved(self) -> float:
        """Share of the baseline's cost that the candidate saves; negative where it costs more.

        Raises:
            ClaimError: a cost that is not above 0 and finite, or an impossible share.
        """
        if not 0 < self.candidate < math.inf or not 0 < self.baseline < math.inf:
            raise ClaimError(
                f"costs {self.candidate!r} and {self.baseline!r} {self.unit}: allowed are finite "
                "numbers above 0"
            )
        if not 0 < self.needed < 1:
            raise ClaimError(f"share of cost to save {self.needed!r}: allowed is (0, 1)")
        return 1 - self.candidate / self.baseline

    @property
    def is_lower(self) -> bool:
        """True when at least the share needed is saved."""
        return self.saved >= self.needed


class ClaimWording(NamedTuple):
    """The one sentence that code may emit: its key, a template and the numbers of its fields.

    The template is for `str.format`; `{candidate}`, `{baseline}` and `{dataset}` are names that
    the caller fills in, all other fields are in `fields` and are printed through facts. Dice
    differences and p are in [0, 1] here; the template expects Dice fields printed in points
    (times 100), `level` and `saved` in per cent, costs in the unit that it names.
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
    "not_worse_and_cheaper": (
        "{candidate} was not worse than {baseline} on the locked test set of {dataset} by the "
        "pre-specified {noninferiority} points or more, and a training of it took {saved} % "
        "fewer [unit] ({cost} against {baseline_cost}): per-case Dice differed by {delta} points "
        "({level} % CI {low} to {high}; Holm-adjusted p = {p} against a loss of that size), "
        "higher in {cases_higher} of {n_cases} cases."
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


def holm_by(ps: Mapping[Key, float]) -> dict[Key, float]:
    """Return Holm's adjusted p values by key, such as (finalist, primary metric).

    Raises:
        ClaimError: a p outside [0, 1].
    """
    return dict(zip(ps, holm(list(ps.values())), strict=True))


def noninferior_ps(comparisons: Sequence[Comparison], adjusted: Sequence[float]) -> list[float]:
    """Return the adjusted p of each comparison's non-inferiority, in the order given.

    Args:
        comparisons: all those of the campaign.
        adjusted: the p of superiority of each, from `holm` over all of them.

    Those whose superiority is shown are not tested again and keep their p. The others share
    alpha equally, which is the share that Holm's procedure stopped at.
    """
    pairs = list(zip(comparisons, adjusted, strict=True))
    left = sum(not _is_superior(one, p) for one, p in pairs)
    return [p if _is_superior(one, p) else min(1.0, left * one.p_noninferior) for one, p in pairs]


def judge(
    comparison: Comparison,
    p_holm: float,
    *,
    margin: float,
    n_locked: int,
    seeds: int,
    p_noninferior: float | None = None,
    cost: Cost | None = None,
) -> Verdict:
    """Return the verdict on one comparison after Holm's adjustment.

    Args:
        comparison: of one finalist with one baseline.
        p_holm: its `p`, adjusted over all comparisons of the campaign; compared with its alpha.
        margin: gain in Dice that the interval's lower end must pass for better_by_margin.
        n_locked: patients of the locked test. Fewer than 50 allow no statement.
        seeds: trainings of the smaller arm. Fewer than 3 allow no statement.
        p_noninferior: its p of non-inferiority from `noninferior_ps`.
        cost: of both arms. Without either of these two non-inferiority is not tested.

    The comparison's own counts bind too: a caller cannot state more cases than were compared.
    A network that is worse is called so, however small the loss.

    Raises:
        ClaimError: an adjusted p is below the comparison's own, or a cost is impossible.
    """
    raw = comparison.p_noninferior
    if p_holm < comparison.p:
        raise ClaimError(f"p_holm {p_holm!r} is below its raw p {comparison.p!r}; pass holm(...)")
    if p_noninferior is not None and p_noninferior < raw:
        text = f"p_noninferior {p_noninferior!r} is below its raw p {raw!r}"
        raise ClaimError(f"{text}; pass noninferior_ps(...)")
    fewest = min(seeds, comparison.seeds_candidate, comparison.seeds_baseline)
    if min(n_locked, comparison.n_cases) < MIN_CASES or fewest < MIN_SEEDS:
        return "exploratory"
    if comparison.high < 0:
        return "worse"
    if _is_superior(comparison, p_holm):
        return "better_by_margin" if comparison.low > margin else "better"
    if cost is not None and cost.is_lower and _is_noninferior(comparison, p_noninferior):
        return "not_worse_and_cheaper"
    return "not_distinguishable"


def is_improvement(verdict: Verdict, comparison: Comparison, margin: float) -> bool:
    """Tell whether a campaign may say that it found an improvement.

    It needs a verdict of superiority and a mean gain of at least `margin` Dice; a smaller gain
    is one, but not the improvement that was asked for. A lower cost alone is none.
    """
    return verdict == "better_by_margin" or (verdict == "better" and comparison.delta >= margin)


def claim_text(
    verdict: Verdict,
    comparison: Comparison,
    *,
    p_holm: float,
    margin: float,
    mde: float,
    p_noninferior: float | None = None,
    cost: Cost | None = None,
    metric: str = "Dice",
) -> ClaimWording:
    """Return the sentence that goes with a verdict, and the numbers it prints.

    Args:
        verdict: from `judge`; so are the arguments of the same names.
        comparison: the comparison behind it.
        p_holm: adjusted p of superiority.
        margin: pre-specified gain, in Dice.
        mde: smallest detectable effect, in Dice.
        p_noninferior: adjusted p of non-inferiority.
        cost: of both arms.
        metric: the primary metric's name in the sentence, one in [0, 1].

    Raises:
        ClaimError: "not_worse_and_cheaper" without its p or cost.
    """
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
        "noninferiority": comparison.noninferiority,
        "seeds": min(comparison.seeds_candidate, comparison.seeds_baseline),
        "min_cases": MIN_CASES,
        "min_seeds": MIN_SEEDS,
    }
    template = _TEMPLATES[verdict].replace("per-case Dice", f"per-case {metric}")
    if verdict == "not_worse_and_cheaper":
        if cost is None or p_noninferior is None:
            raise ClaimError("a claim of a lower cost needs the cost and p_noninferior; pass both")
        template = template.replace("[unit]", cost.unit)
        numbers |= {"p": p_noninferior, "saved": cost.saved}
        numbers |= {"cost": cost.candidate, "baseline_cost": cost.baseline}
    fields = {name: value for name, value in numbers.items() if f"{{{name}}}" in template}
    return ClaimWording(verdict, template, fields)


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


def _is_superior(comparison: Comparison, p_holm: float) -> bool:
    return comparison.low > 0 and p_holm < comparison.alpha


def _is_noninferior(comparison: Comparison, p: float | None) -> bool:
    return (
        p is not None
        and comparison.noninferiority > 0
        and comparison.low > -comparison.noninferiority
        and p < comparison.alpha
    )
