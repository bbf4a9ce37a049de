"""Quality-weighted branch exploration (QWBE): which network gets the next trial.

The published form (Camyla, arXiv 2604.10696), kept as it is:
* quality of a trial, from its mean m and the baseline's mean m0:
  q = (m - m0) / max(1 - m0, eps) at or above the baseline, and
  q = -min(1, ((m0 - m) / max(m0, eps))^e) below it; e = 1 as in the paper (its code has 0.5);
* quality Q_i of branch i: the mean q of its trials; a failed trial has its nearest working
  ancestor's q - 0.2;
* score of branch i: Q_i + c * max(0, 1 + Q_i)^p * sqrt(N_total) / (1 + N_i), with N_i trials,
  N_total = K + sum_j N_j over all K branches, c = 1.5, p = 3;
* a virtual new branch scores c * sqrt(N_total) / (1 + K).

Ours, around it:
* m - m0 is the paired difference at the trial's own rung; all proposals share one pool;
* a crash never counts above a working network, and no longer once it is repaired;
* pending trials count as visits, so that two slots do not ask for the same thing;
* the ladder of agent/ladder.py comes first: drafts are screened at rung 0, the best climb, what
  is unlikely to pass the incumbent is cut; an improved network is screened at rung 0 as well;
* the budget: nothing is started that would eat into the time of confirmation, and no refinement
  that could not climb to the last rung any more.

`greedy` (always the best network's branch) and `random` differ from `qwbe` in the choice
between branches only. A policy is pure: same tree, same `random.Random`, same decision. It
draws from the generator only to break exact ties (`random`: for each choice between branches).
"""

import math
from collections.abc import Callable
from random import Random
from statistics import fmean
from typing import NamedTuple, Protocol

from agent.ladder import (
    Settings,
    budget,
    confirm,
    cut,
    is_screened,
    promote,
    repair,
    screening,
    smaller_batch,
    wait,
)
from agent.search_tree import Action, Board, Decision, Node, Tree, finalists, incumbent
from memory.errors import ExploreError
from memory.records import Figures

__all__ = [
    "POLICIES",
    "Action",
    "Arm",
    "Decision",
    "Node",
    "Policy",
    "Settings",
    "Tree",
    "branch_score",
    "decide",
    "finalists",
    "greedy",
    "incumbent",
    "new_branch_score",
    "qualities",
    "qwbe",
    "random",
    "trial_quality",
]

EPS = 1e-6
CRASH_PENALTY = 0.2


class Policy(Protocol):
    """A pure rule that chooses what to do next; it keeps no state and may run in any thread."""

    def __call__(self, tree: Tree, rng: Random, settings: Settings) -> Decision:
        """Return the decision for this tree."""
        ...


class Arm(NamedTuple):
    """One possible next trial; `branch` and `node` are None for a new branch.

    `quality`, `visits` and `score` are those of the published rule; the trial starts at `rung`
    and is expected to reach the end of the last rung after `seconds`.
    """

    action: Action
    branch: str | None
    node: Node | None
    quality: float
    visits: int
    score: float
    rung: int
    seconds: float


Choose = Callable[[Board, list[Arm], Random], Arm]


def trial_quality(delta: float, baseline_mean: float, *, e: float = 1.0) -> float:
    """Return the published quality q in [-1, 1] of a paired difference `delta` in Dice."""
    if delta >= 0:
        return min(1.0, delta / max(1 - baseline_mean, EPS))
    return -min(1.0, math.pow(-delta / max(baseline_mean, EPS), e))


def branch_score(quality: float, visits: int, *, total: int, settings: Settings) -> float:
    """Return Q + c * max(0, 1 + Q)^p * sqrt(N_total) / (1 + N)."""
    prior = math.pow(max(0.0, 1 + quality), settings.p)
    return quality + settings.c * prior * math.sqrt(total) / (1 + visits)


def new_branch_score(branches: int, *, total: int, settings: Settings) -> float:
    """Return c * sqrt(N_total) / (1 + K), the score of opening branch K + 1."""
    return settings.c * math.sqrt(total) / (1 + branches)


def qualities(tree: Tree, settings: Settings) -> dict[str, float]:
    """Return the quality in [-1, 1] of every trial that has one, by node id.

    Pending trials and crashes whose repair works have none.
    """
    return _qualities(Board(tree), settings)


def qwbe(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Choose the branch with the highest published score, within ladder, cuts and budget."""
    return _search(tree, rng, settings, _by_score)


def greedy(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Choose the branch of the network with the best posterior mean, at the highest rung."""
    return _search(tree, rng, settings, _by_best)


def random(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Choose any branch, or a new one, with equal probability."""
    return _search(tree, rng, settings, lambda _board, arms, rng: rng.choice(arms))


POLICIES: dict[str, Policy] = {"qwbe": qwbe, "greedy": greedy, "random": random}


def decide(tree: Tree, rng: Random, *, policy: str = "qwbe", settings: Settings) -> Decision:
    """Return the decision of a policy given by name.

    Raises:
        ExploreError: there is no such policy.
    """
    if policy not in POLICIES:
        raise ExploreError(f"unknown policy {policy!r}; allowed: {', '.join(sorted(POLICIES))}")
    return POLICIES[policy](tree, rng, settings)


def _search(tree: Tree, rng: Random, settings: Settings, choose: Choose) -> Decision:
    """Return the first thing that is due: cut, draft, repair, promotion, choice, or the end."""
    board = Board(tree)
    screened = is_screened(board, settings)
    due = cut(board, settings, screened=screened)
    if due is not None:
        return due
    if len(tree.pending) >= tree.slots:
        return wait(board, f"all {tree.slots} slots are busy")
    smaller = smaller_batch(board)
    if smaller is not None:
        return smaller
    if not screened:
        return screening(board, settings) or wait(
            board, "the drafts still running decide which networks climb"
        )
    return (
        promote(board, settings)
        or _choice(board, settings, rng=rng, choose=choose)
        or (wait(board, "nothing more fits, trials still run") if tree.pending else None)
        or confirm(board)
    )


def _choice(board: Board, settings: Settings, *, rng: Random, choose: Choose) -> Decision | None:
    """Return the policy's choice between refining a branch and opening one, or None."""
    arms = _arms(board, settings)
    last = board.tree.last_rung
    possible = [a for a in arms if board.fits(a.seconds, trials=1 + last - a.rung)]
    if not possible:
        return None
    arm = choose(board, possible, rng)
    figures = budget(board) | _arm_figures(board, arms, chosen=arm, settings=settings)
    if arm.action == "repair":
        assert arm.node is not None
        return repair(board, arm.node, figures)
    others = [a.score for a in possible if a is not arm]
    rival = f"{len(others)} others up to {max(others):.3f}" if others else "no other fits"
    what = f"improves {arm.node.id}" if arm.node else "opens a new branch"
    return Decision(
        action=arm.action,
        branch=arm.branch,
        node=arm.node.id if arm.node else None,
        rung=0,
        figures=figures,
        text=f"{what}: score {arm.score:.3f} after {arm.visits} trials, {rival}",
    )


def _arms(board: Board, settings: Settings) -> list[Arm]:
    """Return one arm for each branch that can be refined or repaired, and the new branch."""
    q = _qualities(board, settings)
    count = len(board.of_branch)
    total = count + len(board.nodes)
    arms = []
    for branch, nodes in board.of_branch.items():
        values = [q[node.id] for node in nodes if node.id in q]
        quality = fmean(values) if values else 0.0
        failed = [node for node in nodes if board.is_repairable(node)]
        node = next(iter(failed or board.targets(branch)), None)
        if node is None:
            continue
        rung = node.rung if failed else 0
        score = branch_score(quality, len(nodes), total=total, settings=settings)
        action: Action = "repair" if failed else "improve"
        seconds = board.climb(rung, like=node)
        arms.append(Arm(action, branch, node, quality, len(nodes), score, rung, seconds))
    score = new_branch_score(count, total=total, settings=settings)
    return [*arms, Arm("open", None, None, 0.0, 0, score, 0, board.climb(0))]


def _qualities(board: Board, settings: Settings) -> dict[str, float]:
    means = board.tree.baseline_mean
    found: dict[str, float] = {}
    for node in board.nodes:
        if node.is_ok and node.evidence is not None:
            q = trial_quality(node.evidence.delta, means[node.rung], e=settings.e)
            found[node.id] = q if node.quality is None else node.quality
    worst = min(found.values(), default=1.0)
    crashes = {n.id: n for n in board.nodes if n.is_failed and not _is_mended(board, n)}
    for node in crashes.values():
        found[node.id] = max(-1.0, min(worst, _inherited(board, node, found) - CRASH_PENALTY))
    return found


def _inherited(board: Board, node: Node, found: dict[str, float]) -> float:
    """Return the q of the nearest working ancestor; the baseline above all drafts has 0."""
    parent = board.by_id.get(node.parent or "")
    while parent is not None and not parent.is_ok:
        parent = board.by_id.get(parent.parent or "")
    return found[parent.id] if parent is not None else 0.0


def _is_mended(board: Board, node: Node) -> bool:
    tail: Node | None = node
    while tail is not None and tail.is_failed:
        tail = next(iter(board.children[tail.id]), None)
    return tail is not None and tail.is_ok


def _by_score(_board: Board, arms: list[Arm], rng: Random) -> Arm:
    best = max(arm.score for arm in arms)
    tied = [arm for arm in arms if arm.score == best]
    return tied[0] if len(tied) == 1 else rng.choice(tied)


def _by_best(board: Board, arms: list[Arm], _rng: Random) -> Arm:
    def order(arm: Arm) -> tuple[bool, int, float, str]:
        if arm.node is None or not arm.node.is_ok:
            return (arm.node is None, 0, 0.0, arm.branch or "")
        return (False, -arm.node.rung, -board.belief(arm.node).mean, arm.node.id)

    return min(arms, key=order)


def _arm_figures(board: Board, arms: list[Arm], *, chosen: Arm, settings: Settings) -> Figures:
    rows = [
        {
            "action": arm.action,
            "branch": arm.branch,
            "node": arm.node.id if arm.node else None,
            "quality": arm.quality,
            "visits": arm.visits,
            "score": arm.score,
            "expected_s": arm.seconds,
            "chosen": arm is chosen,
        }
        for arm in arms
    ]
    count = len(board.of_branch)
    constants = {"c": settings.c, "p": settings.p, "e": settings.e}
    return {"arms": rows, "branches": count, "n_total": count + len(board.nodes)} | constants
