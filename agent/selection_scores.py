"""Selection scores, from rows: what further folds said of each candidate, and whether it still holds.

`scored` is what the staged selection chose by; `problems` does it again from the store, so that
`segwright check` finds a score, a belief or a choice that was changed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from agent.evidence import CaseMeans, Posterior, Runs, measure
from agent.selection import Candidate, choose, pooled
from agent.standings import Setup, Standings
from memory.errors import ExploreError
from memory.records import Figures, Kind, Metric, Status, Trial
from memory.store import Store
from sandbox.folds import Fold, make_folds
from sandbox.means import case_mean

PLANNED, CHOSEN = "selection", "finalists"
"""Events: what a selection looks at, and whom it chose."""
CLOSE = 1e-9


def scored(
    store: Store, standings: Standings, chosen: Figures, *, folds: Sequence[Fold], cost_s: float
) -> list[Candidate]:
    """Return the candidates of a selection with what their trainings on further folds showed.

    Args:
        store: of the campaign.
        standings: of the same; they know the seed SD of the baseline.
        chosen: the plan: candidates (trials of the search) and priors (mean, SD in Dice).
        folds: all folds by their numbers, the split's own first.
        cost_s: wall seconds of a training, where a candidate has none to measure.
    """
    done = store.trials(kind=Kind.SELECT, status=Status.OK)
    read = {trial.id: means(store, trial, folds[trial.fold].val) for trial in done}
    found = []
    for name in chosen["candidates"]:
        source = store.trial(name)
        own = [t for t in done if t.commit == source.commit and t.batch_size == source.batch_size]
        base = [t for t in done if t.commit is None and t.batch_size == source.batch_size]
        spread = standings.spread(Setup(source.rung, source.batch_size))
        evidence = []
        for number in sorted({trial.fold for trial in own}):
            sides = [runs(side, read, fold=number) for side in (own, base)]
            try:
                evidence.append(measure(sides[0], sides[1], spread=spread))
            except ExploreError:  # a side has no scores there
                continue
        spent = [t.seconds for t in own if t.seconds is not None]
        prior = Posterior(*chosen["priors"][name])
        found.append(Candidate(name, prior, tuple(evidence), median(spent) if spent else cost_s))
    return found


def runs(trials: Sequence[Trial], read: Mapping[str, CaseMeans], *, fold: int) -> Runs:
    """Return the scores of a fold's trials by seed; `read` has those of each trial."""
    return {trial.seed: read[trial.id] for trial in trials if trial.fold == fold}


def means(store: Store, trial: Trial, cases: Sequence[str]) -> CaseMeans:
    """Return the Dice of each of the cases, averaged over its classes; None where undefined."""
    found = case_mean(store.case_scores(trial.id), Metric.DICE)
    return {case: found.get(case) for case in cases}


def figures_of(one: Candidate) -> Figures:
    """Return a candidate's selection scores, in Dice, as plain JSON."""
    belief = pooled(one)
    return {
        "trial": one.id,
        "prior": one.prior._asdict(),
        "folds": [fold._asdict() for fold in one.folds],
        "mean": belief.mean,
        "sd": belief.sd,
        "cost_s": one.cost_s,
    }


def problems(store: Store, *, seed: int) -> Iterator[str]:
    """Yield what no longer follows from the rows of a staged selection.

    Args:
        store: of the campaign.
        seed: of its split.
    """
    plan, chosen = store.last_event((PLANNED,)), store.last_event((CHOSEN,))
    if plan is None or chosen is None or not chosen.figures["scores"]:
        return
    stored = {row["trial"]: row for row in chosen.figures["scores"]}
    folds = make_folds(store.split(), seed=seed, count=plan.figures["folds"])
    known = scored(store, Standings(store), plan.figures, folds=folds, cost_s=0.0)
    for one in known:
        own = figures_of(one)
        for name in ("mean", "sd"):
            if not math.isclose(
                own[name], stored.get(one.id, {}).get(name, math.nan), abs_tol=CLOSE
            ):
                yield f"selection: {one.id}: {name} is not what its scores give, {own[name]:.6f}"
    names = [one.id for one in choose(known, len(chosen.figures["finalists"]))]
    if all(one.cost_s for one in known) and names != chosen.figures["finalists"]:
        yield f"selection: its scores choose {', '.join(names)}, event {chosen.id} another"
