"""From scores of the locked test to the claims that are stored: tested, adjusted, worded.

The primary endpoint is a case's mean Dice over its classes, averaged over a patient's cases; both
arms are compared over patients. A finalist of which fewer than two trainings a side have scores
gets no claim.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from agent import claim_figures
from agent.claims import (
    Comparison,
    Cost,
    claim_text,
    compare,
    components,
    holm,
    is_improvement,
    judge,
    minimal_detectable_effect,
    noninferior_ps,
)
from agent.margins import margin
from agent.score_table import Scores, Table, columns, is_comparable, table
from agent.session import Session
from memory.records import Claim, Figures, Metric, SplitName, Trial, short_id
from memory.store import Store

Pair = tuple[Sequence[Trial], Sequence[Trial]]
"""Trainings of a finalist, and those of the baseline that it is compared with."""


class Tested(NamedTuple):
    """A finalist beside its baseline: their trainings, scores, and the comparison of both."""

    candidate: Sequence[Trial]
    baseline: Sequence[Trial]
    scores: Table
    result: Comparison


class Adjusted(NamedTuple):
    """A comparison's p of superiority and of non-inferiority, adjusted over all finalists."""

    superior: float
    noninferior: float


def claims_of(session: Session, store: Store, pairs: Sequence[Pair]) -> list[Claim]:
    """Return the claims about finalists, in their order; those that allow none are left out."""
    found = [paired_test(session, store, pair) for pair in pairs]
    tests = [one for one in found if one is not None]
    results = [one.result for one in tests]
    superior = holm([one.p for one in results])
    ps = map(Adjusted, superior, noninferior_ps(results, superior))
    return [claim_of(session, store, one, p) for one, p in zip(tests, ps, strict=True)]


def scores_of(store: Store, trials: Sequence[Trial]) -> Scores:
    """Return the scores of trials by trial."""
    return {trial.id: store.case_scores(trial.id) for trial in trials}


def patients_of(session: Session, part: SplitName) -> dict[str, str]:
    """Return the patient of each case of a part."""
    return {case.case: case.patient for case in session.split if case.split is part}


def dice_table(session: Session, store: Store, pair: Pair) -> Table:
    """Return the Dice of two arms on the locked cases that all their trainings have."""
    own, base = (scores_of(store, arm) for arm in pair)
    return table(own, base, cases=session.cases(SplitName.LOCKED_TEST))


def paired_test(session: Session, store: Store, pair: Pair) -> Tested | None:
    """Return the test of a finalist against its baseline; None where its scores allow none."""
    found, patients = dice_table(session, store, pair), patients_of(session, SplitName.LOCKED_TEST)
    if not is_comparable(found, patients):
        return None
    rules = session.config.confirm
    result = compare(
        found.candidate,
        found.baseline,
        alpha=rules.alpha,
        margin=margin(store, session.config),
        noninferiority=rules.noninferiority,
        patients=columns(found, patients),
    )
    return Tested(*pair, found, result)


def claim_of(session: Session, store: Store, one: Tested, p: Adjusted) -> Claim:
    """Return the claim about a finalist, with all figures that it rests on and goes beside it."""
    proposal = one.candidate[0].proposal
    verdict, text, decided = decision(session, store, one, p)
    return Claim(
        id=short_id(["claim", proposal]),
        finalist=str(proposal),
        metric=Metric.DICE,
        verdict=verdict,
        text=text,
        trials=tuple(t.id for t in one.candidate),
        baseline_trials=tuple(t.id for t in one.baseline),
        figures={**one.result._asdict(), **decided, **beside(session, store, one)},
    )


def decision(session: Session, store: Store, one: Tested, p: Adjusted) -> tuple[str, str, Figures]:
    """Return the verdict on a test, its sentence as a template, and the figures of both."""
    rules, result = session.config.confirm, one.result
    wanted = margin(store, session.config)
    cost = claim_figures.cost(one.candidate, one.baseline, needed=rules.cost_gain)
    loss: dict[str, Any] = {"p_noninferior": p.noninferior, "cost": cost}
    seeds, cases = min(result.seeds_candidate, result.seeds_baseline), result.n_cases
    verdict = judge(result, p.superior, margin=wanted, n_locked=cases, seeds=seeds, **loss)
    parts = components(result)
    mde = minimal_detectable_effect(parts, cases=cases, seeds=seeds, alpha=rules.alpha)
    said = claim_text(verdict, result, p_holm=p.superior, margin=wanted, mde=mde, **loss)
    figures = {
        "p_holm": p.superior,
        "p_noninferior_holm": p.noninferior,
        "mde": mde,
        "margin": wanted,
        "is_improvement": is_improvement(verdict, result, wanted),
        "fields": said.fields,
        **(costs(cost) if cost else {}),
    }
    return verdict, said.template, figures


def costs(cost: Cost) -> Figures:
    """Return what a training of both arms took, and the share that was saved."""
    return {
        "candidate_s": cost.candidate,
        "baseline_s": cost.baseline,
        "saved": cost.saved,
        "cost_gain": cost.needed,
    }


def beside(session: Session, store: Store, one: Tested) -> Figures:
    """Return what is stored with a claim and decides nothing."""
    alpha, patients = one.result.alpha, patients_of(session, SplitName.LOCKED_TEST)
    arms = (scores_of(store, one.candidate), scores_of(store, one.baseline))
    finalist = store.trial(str(one.candidate[0].parent))
    drawn = int(short_id(["robustness", finalist.proposal]), 16)
    return {
        "undefined": one.scores.undefined,
        **claim_figures.power(one.result, margin=margin(store, session.config)),
        **claim_figures.resampled(one.scores, patients, alpha=alpha, seed=drawn),
        **claim_figures.selection(store, finalist, one.result),
        **claim_figures.counts(store),
        "secondary": claim_figures.secondary(*arms, patients=patients, alpha=alpha),
    }
