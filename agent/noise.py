"""What the locked test can detect, before anything is measured and from the baseline's repeats. Pure.

Dice in [0, 1], higher is better. The smallest detectable effect is the true gain that the claim's
t test finds with 80 % power (`agent.claims.minimal_detectable_effect`). It needs three variances
of one measurement: of a training's mean over seeds, of one case in one training beyond that, and
of two networks' true difference over cases. The repeats of one network show the first two. The
third cannot be seen before there is a second network; it is taken to be as large as the second,
as it is in the noise that is assumed beforehand: SDs of 0.3 (run), 2 and 2 points, under which
the error rates of the claims were simulated.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agent.claims import MARGIN, MIN_CASES, MIN_SEEDS, Components, minimal_detectable_effect
from memory.errors import ClaimError
from memory.records import Figures

POWER = 0.8
USUAL = Components(case=0.02**2, run=0.003**2, resid=0.02**2)
MORE_SEEDS = (5, 10, 20)


class Noise(NamedTuple):
    """Variances, the test that is planned, and the smallest gain it detects, in Dice.

    Cases are patients, as in `agent/claims.py`: `cases` are those of the locked test, `seeds` the
    trainings of each side there. `seen_seeds` and `seen_cases` were measured; both are 0 where
    the noise is assumed.
    """

    parts: Components
    cases: int
    seeds: int
    alpha: float
    detectable: float
    seen_seeds: int = 0
    seen_cases: int = 0

    @property
    def figures(self) -> Figures:
        """The same as plain values; variances as SDs in Dice."""
        sds = {f"{name}_sd": math.sqrt(value) for name, value in self.parts._asdict().items()}
        rest = {name: value for name, value in self._asdict().items() if name != "parts"}
        return {**sds, **rest, "power": POWER}


def planned(*, cases: int, seeds: int, alpha: float) -> Noise:
    """Return what a locked test detects if noise is as usual."""
    found = detectable(USUAL, cases=cases, seeds=seeds, alpha=alpha)
    return Noise(USUAL, cases, seeds, alpha, found)


def measured(scores: ArrayLike, *, cases: int, seeds: int, alpha: float) -> Noise:
    """Return what a locked test detects under the noise of the baseline's repeats.

    Args:
        scores: float (seeds, patients), Dice of the baseline on search-val at the last rung; at
            least 2 of each, all defined. With few seeds the run SD is itself rough.
        cases: patients of the locked test.
        seeds: trainings of each side on the locked test.
        alpha: two-sided level.

    Raises:
        ClaimError: too few scores, or one that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise ClaimError(
            f"baseline scores have shape {values.shape}; needed: finite (seeds, patients), at "
            "least 2 of each"
        )
    parts = variances(values)
    found = detectable(parts, cases=cases, seeds=seeds, alpha=alpha)
    return Noise(parts, cases, seeds, alpha, found, *values.shape)


def remembered(figures: Figures) -> Noise:
    """Return the noise whose `figures` were stored."""
    parts = Components(*(figures[f"{name}_sd"] ** 2 for name in Components._fields))
    return Noise(parts, *(figures[name] for name in Noise._fields[1:]))


def variances(values: NDArray[np.float64]) -> Components:
    """Return run and residual variance of one network's scores, float64 (seeds, patients).

    Two-way layout without repeats: residual mean square; variance of the runs' means less the
    share of it that the residual explains, at least 0.
    """
    seeds, cases = values.shape
    means = values.mean(axis=1, keepdims=True)
    rest = values - values.mean(axis=0) - means + values.mean()
    resid = float((rest**2).sum()) / ((seeds - 1) * (cases - 1))
    run = float(means.var(ddof=1)) - resid / cases
    return Components(case=resid, run=max(0.0, run), resid=resid)


def detectable(parts: Components, *, cases: int, seeds: int, alpha: float) -> float:
    """Return the smallest detectable effect in Dice; 1, the whole range, with fewer than 2 patients."""
    if cases < 2:
        return 1.0
    found = minimal_detectable_effect(parts, cases=cases, seeds=seeds, power=POWER, alpha=alpha)
    return min(1.0, found)


def margin_of(wanted: float, detectable_effect: float) -> float:
    """Return the margin in Dice: as wanted; for 0 half a point or, if larger, what is detectable."""
    return wanted if wanted > 0 else max(MARGIN, detectable_effect)


def is_low(wanted: float, noise: Noise) -> bool:
    """Tell whether the user wants to find less than the locked test detects."""
    return 0 < wanted < noise.detectable


def with_more_seeds(noise: Noise) -> list[tuple[int, float]]:
    """Return numbers of seeds above the planned one, each with what it would detect."""
    return [
        (seeds, detectable(noise.parts, cases=noise.cases, seeds=seeds, alpha=noise.alpha))
        for seeds in MORE_SEEDS
        if seeds > noise.seeds
    ]


def exploratory(*, cases: int, seeds: int) -> str:
    """Return why a campaign can make no claim, in words; "" where it can. Cases are patients."""
    wanting = []
    if cases < MIN_CASES:
        wanting.append(f"{cases} locked subjects (a claim needs {MIN_CASES})")
    if seeds < MIN_SEEDS:
        wanting.append(f"confirm.seeds of {seeds} (a claim needs {MIN_SEEDS})")
    return " and ".join(wanting)
