"""What policies without screening share: each trial runs at the last rung and is read once.

`turn` gives every such policy the same frame: wait for a free slot, try a smaller batch, let the
policy choose, and end with the network that reads best.
"""

from collections.abc import Callable, Iterable

from agent.board import Board
from agent.branches import Branch, Node
from agent.ladder import budget, failures, is_repairable, repair, smaller_batch, wait
from agent.search_tree import Action, Decision, Tree
from memory.records import Figures

Pick = Node | None
Choice = Callable[[Board], Decision | None]


def turn(tree: Tree, choice: Choice, *, end: Choice | None = None) -> Decision:
    """Return what is due: waiting, a smaller batch, the policy's choice, or the end."""
    board = Board(tree)
    if len(tree.pending) >= tree.slots:
        return wait(board, "no slot is free")
    fits = tree.fits(tree.cost(tree.last_rung), trials=1)
    due = smaller_batch(board) or (choice(board) if fits else None)
    if due is not None:
        return due
    if tree.pending:
        return wait(board, "nothing more fits beside the trials that run")
    return (end(board) if end else None) or finish(board, raw_best(working(tree.branches.values())))


def decided(board: Board, action: Action, node: Pick, figures: Figures, text: str) -> Decision:
    """Return a decision that trains at the last rung."""
    return Decision(
        action=action,
        branch=node.branch if node else None,
        node=node.id if node else None,
        rung=board.tree.last_rung,
        figures=budget(board) | figures,
        text=text,
    )


def crash(board: Board) -> Decision | None:
    """Return the repair of the first failed trial that may be repaired, or None."""
    due = next((node for node in failures(board) if is_repairable(board, node)), None)
    return repair(board, due) if due is not None else None


def working(branches: Iterable[Branch]) -> list[Node]:
    """Return the trials with scores that were not cut, by id."""
    found = [n for b in branches for n in b.nodes if n.is_ok and not n.is_cut]
    return sorted(found, key=lambda node: node.id)


def raw_best(nodes: Iterable[Node]) -> Pick:
    """Return the trial with the highest reading at the highest rung; ties by id."""
    return max(
        nodes,
        key=lambda n: (n.rung, n.evidence.delta if n.evidence else 0.0, n.id),
        default=None,
    )


def improvable(board: Board) -> list[Node]:
    """Return the trials that may be improved."""
    found = working(board.tree.branches.values())
    return [n for n in found if n.depth < board.tree.max_depth and not n.is_spent]


def finish(board: Board, best: Pick, *, estimate: float | None = None) -> Decision:
    """Return the end of the search with the network that reads best, believed as it reads."""
    if best is None or best.evidence is None:
        text = "ends the search: nothing more fits, and no network was trained"
        return Decision(action="confirm", figures=budget(board), text=text)
    read = best.evidence.delta if estimate is None else estimate
    return Decision(
        action="confirm",
        branch=best.branch,
        node=best.id,
        rung=best.rung,
        figures=budget(board) | {"estimate": read, "is_lead": read > 0},
        text=f"ends the search: nothing more fits; {best.id} reads best, {read:+.4f}",
    )
