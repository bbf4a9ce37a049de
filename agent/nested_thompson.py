"""Thompson sampling on the tree: the draws of QWBE without its screening and its visits.

A branch's value is one draw of what its next refinement may reach (`agent/board.py`), a new
branch's the draw of a draft; the best is trained at the last rung. The posterior is the same
shrunken one. After Inoue 2025 (AB-MCTS, arXiv 2503.04412): go wider or deeper by Thompson draws.
"""

from random import Random

from agent.board import Board, Standing
from agent.explore import back_text, drawn
from agent.ladder import Settings, confirm, cut
from agent.search_tree import Decision, Tree
from agent.single_rung import crash, decided, turn


def nested_thompson(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return the decision of the best draw."""

    def choice(board: Board) -> Decision | None:
        return cut(board) or crash(board) or _best_draw(board, rng)

    return turn(tree, choice, end=confirm)


def _best_draw(board: Board, rng: Random) -> Decision:
    it = board.it
    fresh = rng.gauss(it.mean, it.sd) + rng.gauss(board.head.mean, board.head.sd)
    found: list[tuple[float, Standing]] = []
    for branch in board.tree.branches.values():
        one = drawn(board, branch, rng)
        if one is not None:
            found.append((one[1], one[0]))
    best = max(found, key=lambda pair: (pair[0], pair[1].network.id), default=None)
    figures = {"fresh": fresh, "draws": [{"node": s.network.top.id, "reach": r} for r, s in found]}
    if best is None or fresh > best[0]:
        text = f"opens a new branch: its draw is {fresh:+.4f}"
        return decided(board, "open", None, figures, text)
    node = best[1].network.top
    figures |= {"returns": best[1].network.is_cut}
    text = f"improves {node.id}: draw {best[0]:+.4f}{back_text(best[1].network)}"
    return decided(board, "improve", node, figures, text)
