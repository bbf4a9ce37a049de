"""Quality-weighted branch exploration (QWBE): which network gets the next trial.

The published form (Camyla, arXiv 2604.10696) decides between branches:

    score_i   = Q_i + c * max(0, 1 + Q_i)^p * sqrt(N) / (1 + N_i)        for branch i of K
    score_new = Q_new + c * sqrt(N) / (1 + K),      N = K + sum_j N_j

Ours are the parts around it:
* Q_i is no mean of single readings. It is one draw of what the branch's next refinement may
  reach: an effect from the posterior of `agent/beliefs.py`, best of the branch's networks, plus a
  headroom that wears off (`agent/board.py`), in units of the SD of drafts. To draw and then take
  the best is Thompson sampling (1933), here on a tree: it is what spreads the search, so that c
  is small. Q_new is the draw of a draft, and of a headroom above it.
* N_i counts the cost of a branch's trials, running ones included, in trainings of the last rung:
  a slow branch wears out sooner.
* all proposals share one pool, from the first trial to the last; no single reading ends that.
* screening: many drafts are trained at the first rung, and the best share climbs, before the first
  choice; of every network chosen, several refinements are trained there, and the best climbs if its
  mean plus `optimism` SDs passes the incumbent. Successive halving: Li 2020, 1810.05934. The first
  rung is the lowest that tells networks apart; where only the last one does, nothing is screened.
* cuts (`agent/ladder.py`): what can hardly pass the incumbent any more is cut, with its figures;
  it comes back when the evidence about it changes.
* the last part of the budget trains the leaders again with new seeds, by top-two Thompson
  sampling (Russo 2020, doi:10.1287/opre.2019.1911).

A policy is pure: same tree, same `random.Random`, same decision.
"""

import math
from random import Random
from typing import NamedTuple, Protocol

from agent.board import Board, Standing
from agent.branches import Branch, Network, Node
from agent.evidence import normal_tail
from agent.ladder import (
    Settings,
    budget,
    confirm,
    cut,
    model_figures,
    promote,
    smaller_batch,
    wait,
)
from agent.screening import busy, climb, mend, refine, screen, whole_s
from agent.search_tree import Action, Decision, Tree
from memory.records import Figures

CROSSED = 0.15
CERTAIN = 0.95
CANDIDATES = 3
MOST_ARMS = 20


class Policy(Protocol):
    """A pure rule that chooses what to do next; it keeps no state and may run in any thread."""

    def __call__(self, tree: Tree, rng: Random, settings: Settings) -> Decision:
        """Return the decision for this tree."""
        ...


class Arm(NamedTuple):
    """One branch as a choice; `standing` is None for a new branch.

    `reach` is the draw in Dice, `quality` the same in SDs of drafts, `visits` the cost so far in
    trainings of the last rung; the trial starts at `rung`, and is expected to take `seconds`.
    """

    action: Action
    standing: Standing | None
    reach: float
    quality: float
    visits: float
    score: float
    rung: int
    seconds: float


def branch_score(quality: float, visits: float, *, total: float, settings: Settings) -> float:
    """Return Q + c * max(0, 1 + Q)^p * sqrt(N) / (1 + N_i)."""
    prior = math.pow(max(0.0, 1 + quality), settings.p)
    return quality + settings.c * prior * math.sqrt(total) / (1 + visits)


def new_branch_score(branches: int, *, total: float, settings: Settings) -> float:
    """Return c * sqrt(N) / (1 + K), the published score of opening branch K + 1."""
    return settings.c * math.sqrt(total) / (1 + branches)


def qwbe(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return the first thing that is due: cut, screen, climb, refine, choose, repeat, confirm."""
    board = Board(tree)
    return (
        cut(board)
        or busy(board)
        or smaller_batch(board)
        or screen(board, settings)
        or mend(board)
        or climb(board, settings)
        or refine(board, settings)
        or choose(board, rng, settings)
        or repeat(board, rng, settings)
        or (wait(board, "nothing more fits beside the trials that run") if tree.pending else None)
        or confirm(board)
    )


def choose(board: Board, rng: Random, settings: Settings) -> Decision | None:
    """Return the choice of the published rule between all branches and a new one, or None."""
    arms = arms_of(board, rng, settings)
    reserve = settings.repeat_share * whole_s(board.tree)
    tree = board.tree
    possible = [
        arm
        for arm in arms
        if tree.fits(arm.seconds + reserve, trials=1 + tree.last_rung - arm.rung)
    ]
    if not possible:
        return None
    arm = max(possible, key=lambda one: (one.score, one.action))
    figures = budget(board) | arm_figures(board, arms, arm, settings)
    others = [one.score for one in possible if one is not arm]
    rival = f"{len(others)} others up to {max(others):.2f}" if others else "no other fits"
    said = f"score {arm.score:.2f} after {arm.visits:.1f} trainings, {rival}"
    if arm.standing is None:
        text = f"opens a new branch: {said}"
        return Decision(action="open", rung=arm.rung, figures=figures, text=text)
    if arm.action == "promote":
        return promote(board, arm.standing, said, figures)
    node = arm.standing.network.top
    partner = partner_of(board, arm, arms, rng)
    action: Action = "crossover" if partner else "improve"
    what = f"crosses {node.id} with {partner}" if partner else f"improves {node.id}"
    return Decision(
        action=action,
        branch=arm.standing.branch.id,
        node=node.id,
        partner=partner,
        rung=arm.rung,
        figures=figures | {"returns": arm.standing.network.is_cut},
        text=f"{what}: {said}" + back_text(arm.standing.network),
    )


def back_text(network: Network) -> str:
    """Return the end of a sentence about a network that was cut before."""
    return "; it comes back after a cut" if network.is_cut else ""


def arms_of(board: Board, rng: Random, settings: Settings) -> list[Arm]:
    """Return one arm for each branch that may go on, and the new branch."""
    tree, it, arms = board.tree, board.it, []
    unit = tree.cost_s[-1] or 1.0
    count = len(tree.branches)
    visits = {name: visits_of(tree, branch) / unit for name, branch in tree.branches.items()}
    total = count + math.fsum(visits.values())
    for name, branch in tree.branches.items():
        found = drawn(board, branch, rng)
        if found is None:
            continue
        one, reach = found
        quality, node = reach / it.sd, one.network.top
        score = branch_score(quality, visits[name], total=total, settings=settings)
        action: Action = "promote" if one.network.rung < tree.last_rung else "improve"
        rung = one.network.rung + 1 if action == "promote" else board.first_rung
        seconds = tree.climb(rung, like=node)
        arms.append(Arm(action, one, reach, quality, visits[name], score, rung, seconds))
    reach = rng.gauss(it.mean, it.sd) + rng.gauss(board.head.mean, board.head.sd)
    quality = reach / it.sd
    score = quality + new_branch_score(count, total=total, settings=settings)
    first = tree.first_rung
    return [*arms, Arm("open", None, reach, quality, 0.0, score, first, tree.climb(first))]


def visits_of(tree: Tree, branch: Branch) -> float:
    """Return the seconds that a branch's trials took, and that those running are expected to."""
    return branch.cost_s + math.fsum(tree.cost_s[node.rung] for node in branch.pending)


def drawn(board: Board, branch: Branch, rng: Random) -> tuple[Standing, float] | None:
    """Return a branch's network with the best draw, and what its refinement may reach; or None."""
    tree, view = board.tree, board.view(branch)
    back = [one for one in view.shelved[:1] if board.may_return(one)]
    found = [
        (rng.gauss(one.belief.mean, one.belief.sd), one)
        for one in [*view.open[:CANDIDATES], *back]
        if not one.network.is_pending
        and one.network.id not in branch.expecting
        and (one.network.rung < tree.last_rung or may_deepen(one.network.top, tree))
    ]
    if not found:
        return None
    effect, one = max(found, key=lambda pair: (pair[0], pair[1].network.id))
    head = board.headroom(branch)
    return one, effect + rng.gauss(head.mean, head.sd)


def may_deepen(node: Node, tree: Tree) -> bool:
    """Tell whether a network may be refined further."""
    return node.depth < tree.max_depth and not node.is_spent


def partner_of(board: Board, arm: Arm, arms: list[Arm], rng: Random) -> str | None:
    """Return the trial that a chosen network is crossed with, or None for a plain improvement.

    Every seventh refinement or so is a crossover, once two branches are likely better than the
    baseline; the partner is the other branch with the best draw.
    """
    if rng.random() >= CROSSED or arm.standing is None or board.p_better(arm.standing) <= 0.5:
        return None
    last = board.tree.last_rung
    rest = [
        one
        for one in arms
        if one.standing is not None
        and one is not arm
        and one.standing.network.rung == last
        and board.p_better(one.standing) > 0.5
    ]
    best = max(rest, key=lambda one: one.reach, default=None)
    return best.standing.network.top.id if best is not None and best.standing else None


def repeat(board: Board, rng: Random, settings: Settings) -> Decision | None:
    """Return the next repetition of a leader with a new seed, while it may change the choice."""
    tree = board.tree
    found = [one for one in board.finalists(settings.finalists) if one.network.may_go_on]
    fitting = tree.fits(tree.cost(tree.last_rung), trials=1)
    if len(found) < 2 or not fitting or found[0].network.rung < tree.last_rung:
        return None
    apart = found[0].belief.mean - found[1].belief.mean
    certain = normal_tail(apart, math.hypot(found[0].belief.sd, found[1].belief.sd))
    if certain >= CERTAIN:
        return None
    draws = sorted(
        ((rng.gauss(one.belief.mean, one.belief.sd), one) for one in found),
        key=lambda pair: (-pair[0], pair[1].network.id),
    )
    one = draws[rng.random() < 0.5][1]
    if one.network.is_pending:
        return None
    node, seeds = one.network.top, one.network.seeds_at(tree.last_rung)
    figures = budget(board) | {
        "seeds": seeds,
        "p_leader": certain,
        "finalists": [
            {"node": s.network.top.id, "mean": s.belief.mean, "sd": s.belief.sd} for s in found
        ],
        "model": model_figures(board),
    }
    return Decision(
        action="repeat",
        branch=one.branch.id,
        node=node.id,
        rung=tree.last_rung,
        figures=figures,
        text=f"repeats {node.id} with seed {seeds + 1}: the leader is {certain:.0%} sure of the "
        "second",
    )


def arm_figures(board: Board, arms: list[Arm], chosen: Arm, settings: Settings) -> Figures:
    """Return the arms, best score first, and the constants of the rule."""
    shown = sorted(arms, key=lambda one: -one.score)[:MOST_ARMS]
    shown += [chosen] if chosen not in shown else []
    rows = [
        {
            "action": arm.action,
            "branch": arm.standing.branch.id if arm.standing else None,
            "node": arm.standing.network.top.id if arm.standing else None,
            "mean": arm.standing.belief.mean if arm.standing else board.it.mean,
            "sd": arm.standing.belief.sd if arm.standing else board.it.sd,
            "reach": arm.reach,
            "quality": arm.quality,
            "visits": arm.visits,
            "score": arm.score,
            "expected_s": arm.seconds,
            "chosen": arm is chosen,
        }
        for arm in shown
    ]
    count, unit = len(board.tree.branches), board.tree.cost_s[-1] or 1.0
    visits = math.fsum(visits_of(board.tree, b) for b in board.tree.branches.values()) / unit
    return {
        "arms": rows,
        "arms_total": len(arms),
        "branches": count,
        "n_total": count + visits,
        "c": settings.c,
        "p": settings.p,
        "model": model_figures(board),
    }
