"""One simulated campaign on known effects, decided by the functions that decide a real one.

The search trains every network once on its fold; the tree's beliefs hand the best over to the
staged selection on further folds; its finalists are trained afresh, tested once on the locked
cases, and told of in the sentence that a report prints. Nothing here decides by rules of its own.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agent.board import Board
from agent.branches import Branch, Node
from agent.claims import (
    ALPHA,
    MARGIN,
    MIN_SEEDS,
    Cost,
    Verdict,
    claim_text,
    compare,
    components,
    holm,
    judge,
    minimal_detectable_effect,
    noninferior_ps,
)
from agent.comparison import Comparison
from agent.config import SelectionConfig
from agent.evidence import Evidence, SeedSpread, measure, seed_spread
from agent.paired import Comparison as Paired
from agent.paired import signed_rank
from agent.search_tree import Tree
from agent.selection import Candidate, Plan, again, choose, how_many, plan, priors
from bench.null_worlds import LOCKED, LOCKED_CASES, Cohort, Scores
from memory.records import Status

STAGES = SelectionConfig()
FINALISTS = 2
BASELINE_SEEDS, FOLD_BASELINE_SEEDS = 3, 2
COST_S = 1.0
BETTER: tuple[Verdict, ...] = ("better", "better_by_margin")
CLAIMS: tuple[Verdict, ...] = (*BETTER, "not_worse_and_cheaper")

Found = list[Evidence]


class Ended(NamedTuple):
    """How one campaign ended; effects in points.

    `is_claim`: a finalist was claimed better. `is_naive`: the best network's mean on the search's
    fold lay above the baseline's. `is_naive_test`: a Wilcoxon test on that fold agreed. `staged`
    and `argmax`: true effects of the first finalist, and of the best network on the fold.
    """

    is_claim: bool
    is_naive: bool
    is_naive_test: bool
    staged: float
    argmax: float


def play(cohort: Cohort) -> Ended:
    """Return how a campaign over a cohort's networks ends."""
    base = cohort.baseline(0, seeds=BASELINE_SEEDS)
    scores, spread = cohort.candidates(0), seed_spread([by_seed(base)])
    found = searched(scores, base, spread)
    best = int(np.argmax([one.delta for one in found]))
    gains = scores[best] - base.mean(axis=0)
    finalists = [int(one.id) for one in staged(cohort, found, spread)]
    return Ended(
        is_claim=any(verdict in CLAIMS for verdict in confirmed(cohort, finalists)),
        is_naive=found[best].delta > 0,
        is_naive_test=signed_rank(gains) < ALPHA,
        staged=float(cohort.effects[finalists[0]]),
        argmax=float(cohort.effects[best]),
    )


def searched(scores: Scores, base: Scores, spread: SeedSpread) -> Found:
    """Return the evidence of each network on the search's fold; float64 (networks, cases)."""
    told = Comparison(by_seed(base), spread)
    return [told.evidence(0, by_case(row)) for row in scores]


def staged(cohort: Cohort, found: Found, spread: SeedSpread) -> list[Candidate]:
    """Return the finalists of the staged selection; their ids are places in the cohort."""
    stage = stage_of(len(found))
    folds = range(1, 1 + stage.folds)
    bases = [by_seed(cohort.baseline(fold, seeds=FOLD_BASELINE_SEEDS)) for fold in folds]
    trained: dict[str, list[Scores]] = {}

    def tried(one: Candidate, seeds: int) -> Candidate:
        """Train a candidate on every further fold, and return it with all of its evidence."""
        new = [cohort.candidate(int(one.id), fold, seeds=seeds) for fold in folds]
        old = trained.get(one.id)
        every = [np.concatenate(pair) for pair in zip(old, new, strict=True)] if old else new
        trained[one.id] = every
        pairs = zip(every, bases, strict=True)
        told = tuple(measure(by_seed(own), base, spread=spread) for own, base in pairs)
        return one._replace(folds=told)

    first = [tried(one, 1) for one in entered(found, stage.candidates)]
    few = {one.id for one in again(first, stage.finalists_again)}
    return choose([tried(one, stage.seeds) if one.id in few else one for one in first], FINALISTS)


def stage_of(networks: int) -> Plan:
    """Return the plan of a staged selection without a limit of time."""
    return plan(
        n_candidates=networks,
        cost_s=COST_S,
        baseline_cost_s=COST_S,
        slots=1,
        seconds=math.inf,
        folds=STAGES.folds,
        seeds=STAGES.seeds,
        baseline_seeds=FOLD_BASELINE_SEEDS,
        wanted=how_many(networks),
    )


def entered(found: Found, count: int) -> list[Candidate]:
    """Return the search's leaders with its beliefs about their effects on other cases."""
    board = Board(tree_of(found))
    leaders = board.leaders()
    pairs = list(zip(leaders, priors(board, leaders), strict=True))[:count]
    return [Candidate(one.network.id, prior, cost_s=COST_S) for one, prior in pairs]


def tree_of(found: Found) -> Tree:
    """Return the tree of a search that tried every network once; ids are places in the cohort."""
    nodes = [
        Node(f"{i:06}", None, f"{i:06}", 0, Status.OK, one, cost_s=COST_S)
        for i, one in enumerate(found)
    ]
    branches = {node.branch: Branch(node.branch, [node]) for node in nodes}
    return Tree(branches=branches, baseline_mean=(0.85,), cost_s=(COST_S,))


def confirmed(cohort: Cohort, finalists: Sequence[int], *, cost_s: float = COST_S) -> list[Verdict]:
    """Return the verdict on each finalist, trained afresh and tested on the locked cases.

    `cost_s`: seconds of a training of each finalist; the baseline's takes COST_S.
    """
    base = cohort.baseline(LOCKED, seeds=MIN_SEEDS)
    results = [
        compare(cohort.candidate(one, LOCKED, seeds=MIN_SEEDS), base, alpha=ALPHA, margin=MARGIN)
        for one in finalists
    ]
    superior = holm([one.p for one in results])
    ps = zip(results, superior, noninferior_ps(results, superior), strict=True)
    return [worded(result, p, loss, Cost(cost_s, COST_S)) for result, p, loss in ps]


def worded(result: Paired, p: float, loss: float, cost: Cost) -> Verdict:
    """Return the verdict of the sentence that a report would print."""
    rules: dict[str, Any] = {"p_noninferior": loss, "cost": cost, "margin": MARGIN}
    verdict = judge(result, p, n_locked=LOCKED_CASES, seeds=MIN_SEEDS, **rules)
    mde = minimal_detectable_effect(components(result), cases=LOCKED_CASES, seeds=MIN_SEEDS)
    return claim_text(verdict, result, p_holm=p, mde=mde, **rules).key


def by_seed(scores: Scores) -> dict[int, dict[str, float | None]]:
    """Return seed -> case -> Dice of float64 (seeds, cases)."""
    return {seed: by_case(row) for seed, row in enumerate(scores)}


def by_case(row: Scores) -> dict[str, float | None]:
    """Return case -> Dice of float64 (cases,)."""
    return {f"{case:03}": value for case, value in enumerate(row.tolist())}
