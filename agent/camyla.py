"""QWBE as published and as released, for comparison: single readings, one greedy phase, no cut.

Quality of a trial from its effect d and the baseline's mean m0 (Camyla, arXiv 2604.10696):
q = d / max(1 - m0, eps) at or above the baseline, -min(1, (-d / max(m0, eps))^e) below it; a
failed trial has its nearest working ancestor's q - 0.2. Branch i scores
Q_i + c * max(0, 1 + Q_i)^p * sqrt(N) / (1 + N_i) with the mean Q_i of its trials, a new branch
c * sqrt(N) / (1 + K), N = K + sum_j N_j. Once any trial reads above the baseline, the best
reading alone is refined. A failed network is repaired at once, at most three times in a row.

`camyla` is the paper: e = 1, all branches in one pool. `camyla_released` is its code: e = 0.5;
one branch after the other, ten trials each, with the rule among the first refinements of that
branch's draft; a crash of a draft counts -0.2, as below a baseline of 0. Both train at the last
rung only.
"""

import math
from collections.abc import Sequence
from random import Random
from statistics import fmean

from agent.board import Board
from agent.branches import Branch, Node
from agent.ladder import Settings, is_repairable
from agent.search_tree import Action, Decision, Tree
from agent.single_rung import Pick, crash, decided, improvable, raw_best, turn

C, P = 1.5, 3.0
EPS = 1e-6
CRASH_PENALTY = 0.2
RELEASED_E = 0.5
STEPS = 10


def trial_quality(delta: float, baseline_mean: float, *, e: float = 1.0) -> float:
    """Return the published quality q in [-1, 1] of an effect `delta` in Dice."""
    if delta >= 0:
        return min(1.0, delta / max(1 - baseline_mean, EPS))
    return -min(1.0, math.pow(-delta / max(baseline_mean, EPS), e))


def score(quality: float, visits: int, *, total: int) -> float:
    """Return Q + c * max(0, 1 + Q)^p * sqrt(N) / (1 + N_i)."""
    prior = math.pow(max(0.0, 1 + quality), P)
    return quality + C * prior * math.sqrt(total) / (1 + visits)


def camyla(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return the decision of the published rule."""
    return turn(tree, lambda board: _published(board, rng))


def camyla_released(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return the decision of the released code's rule."""
    return turn(tree, lambda board: _released(board, rng))


def qualities(tree: Tree, branch: Branch, *, e: float) -> dict[str, float]:
    """Return the quality of every finished trial of a branch, by id."""
    found: dict[str, float] = {}
    for node in branch.by_descent():
        if node.is_ok and node.evidence is not None:
            q = trial_quality(node.evidence.delta, tree.baseline_mean[node.rung], e=e)
            found[node.id] = q if node.quality is None else node.quality
        elif node.is_failed:
            found[node.id] = max(-1.0, _inherited(branch, node, found) - CRASH_PENALTY)
    return found


def _inherited(branch: Branch, node: Node, found: dict[str, float]) -> float:
    parent = branch.by_id.get(node.parent or "")
    while parent is not None and not parent.is_ok:
        parent = branch.by_id.get(parent.parent or "")
    return found[parent.id] if parent is not None else 0.0


def _published(board: Board, rng: Random) -> Decision | None:
    failed = crash(board)
    best = raw_best(improvable(board))
    if failed is not None:
        return failed
    if best is not None and best.evidence is not None and best.evidence.delta > 0:
        text = f"{best.id} reads above the baseline: only it is refined from now on"
        return decided(board, "improve", best, {"reading": best.evidence.delta}, text)
    return _by_score(board, [(b, list(b.nodes)) for b in _started(board)], rng, e=1.0)


def _started(board: Board) -> list[Branch]:
    return [branch for branch in board.tree.branches.values() if branch.nodes]


def _by_score(
    board: Board,
    groups: Sequence[tuple[Branch, list[Node]]],
    rng: Random,
    *,
    e: float,
    fresh: Node | None = None,
) -> Decision | None:
    """Choose between groups of trials and a new one: a draft, or a refinement of `fresh`."""
    total = len(groups) + sum(len(nodes) for _, nodes in groups)
    arms: list[tuple[float, Pick]] = []
    for branch, nodes in groups:
        q = qualities(board.tree, branch, e=e)
        values = [q[node.id] for node in nodes if node.id in q]
        quality = fmean(values) if values else 0.0
        best = max(
            (n for n in nodes if n.is_ok and n.depth < board.tree.max_depth and not n.is_spent),
            key=lambda n: (q[n.id], n.id),
            default=None,
        )
        if best is not None:
            arms.append((score(quality, len(nodes), total=total), best))
    arms.append((C * math.sqrt(total) / (1 + len(groups)), fresh))
    top = max(value for value, _ in arms)
    value, pick = rng.choice([arm for arm in arms if arm[0] == top])
    rows = [{"node": arm.id if arm else None, "score": found} for found, arm in arms]
    action: Action = "improve" if pick is not None else "open"
    what = f"improves {pick.id}" if pick is not None else "opens a new branch"
    return decided(board, action, pick, {"arms": rows}, f"{what}: published score {value:.3f}")


def _released(board: Board, rng: Random) -> Decision | None:
    failed = crash(board)
    if failed is not None:
        return failed
    branch = _current(board)
    if branch is None:
        text = f"opens the next proposal; each has {STEPS} trials"
        return decided(board, "open", None, {}, text)
    best = raw_best([node for node in improvable(board) if node.branch == branch.id])
    if best is not None and best.evidence is not None and best.evidence.delta > 0:
        text = f"{best.id} reads above the baseline: only it is refined within its proposal"
        return decided(board, "improve", best, {"reading": best.evidence.delta}, text)
    root = next((node for node in branch.by_descent() if node.is_ok), None)
    groups = [(branch, _below(branch, kid)) for kid in branch.children[root.id]] if root else []
    fresh = root if root in improvable(board) else None
    return _by_score(board, groups, rng, e=RELEASED_E, fresh=fresh)


def _current(board: Board) -> Branch | None:
    """Return the proposal whose trials are not all spent, and that may still work."""
    for branch in _started(board):
        may_work = branch.has_worked or bool(branch.pending)
        may_work = may_work or any(is_repairable(board, n) for n in branch.failures)
        if len(branch.nodes) < STEPS and may_work:
            return branch
    return None


def _below(branch: Branch, node: Node) -> list[Node]:
    found, rest = [], [node]
    while rest:
        one = rest.pop()
        found.append(one)
        rest += branch.children[one.id]
    return found
