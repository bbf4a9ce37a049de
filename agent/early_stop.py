"""Whether a training may stop part of the way: the same evidence and rule as a cut.

At its checkpoint a network is compared, case by case, with the baseline's runs at the same
checkpoint (`agent/evidence.py`). What it will gain over the baseline in the end is taken as
normal around that difference, wider by what the rest of both trainings may change. Where the
probability that it passes the best network by the margin is below a set level, it stops.

Covered: noise of cases and seeds, and the link between checkpoint and end, in one standard
deviation. Not covered: that networks learn at different paces in a way one could know before;
noise in the best network's own effect, which is given as a number.
"""

from typing import NamedTuple

from agent.evidence import CaseMeans, Evidence, Runs, SeedSpread, measure
from memory.records import Figures


class Verdict(NamedTuple):
    """Whether a training stops; every number behind it, plain JSON; and one sentence."""

    is_stopped: bool
    figures: Figures
    text: str


def judge(
    candidate: CaseMeans,
    baseline: Runs,
    *,
    bar: float,
    margin: float,
    cut_below: float,
    link_sd: float,
    spread: SeedSpread | None = None,
) -> Verdict:
    """Return whether a training stops at its checkpoint.

    Args:
        candidate: case -> Dice at the checkpoint.
        baseline: seed -> the same for the baseline's runs, at the same checkpoint.
        bar: mean effect of the best network at the end of the same rung, in Dice; below 0 it
            counts as 0, which is the baseline itself.
        margin: gain over the bar that counts, in Dice.
        cut_below: least probability of that gain with which the training goes on.
        link_sd: SD in Dice by which a network's effect moves between checkpoint and end.
        spread: seed SD at the checkpoint; by default estimated from `baseline` alone.

    Raises:
        ExploreError: the two cannot be compared; see `agent.evidence.measure`.
    """
    evidence = measure({0: candidate}, baseline, spread=spread)
    level = max(bar, 0.0) + margin
    p = evidence.p_above(level, extra_sd=link_sd)
    figures = {
        "delta": evidence.delta,
        "se": evidence.se,
        "se_cases": evidence.se_cases,
        "se_seed": evidence.se_seed,
        "seed_sd": evidence.seed_sd,
        "link_sd": link_sd,
        "cases": evidence.n_cases,
        "cases_dropped": evidence.n_dropped,
        "baselines": len(baseline),
        "bar": bar,
        "margin": margin,
        "level": level,
        "p_passes": p,
        "cut_below": cut_below,
    }
    return Verdict(p < cut_below, figures, sentence(evidence, p, level=level, cut_below=cut_below))


def sentence(evidence: Evidence, p: float, *, level: float, cut_below: float) -> str:
    """Return what was seen and what follows, without the network's name."""
    side = "above" if evidence.delta > 0 else "below"
    return (
        f"{abs(evidence.delta):.4f} Dice {side} the baseline at the same checkpoint; its chance to "
        f"end more than {level:.4f} above it is {p:.1%}, and a training stops below {cut_below:.0%}"
    )
