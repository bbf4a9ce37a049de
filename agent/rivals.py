"""Other systems' rules behind the same protocol, for comparison: greedy, best-first, ASHA, random.

* `greedy`: AIDE (arXiv 2502.13138). Five drafts; a crash is debugged with probability 1/2, else
  the best reading is improved.
* `best_first`: The AI Scientist v2 (arXiv 2504.08066). Three drafts, then the same; the best
  three are trained again with two new seeds at the end, and the best mean wins.
* `asha`: asynchronous successive halving (Li 2020, arXiv 1810.05934) over drafts, no refinement:
  a network climbs when it is among the best 1 / eta of its rung.
* `random`: any branch or a new one, and any working network of it, with equal probability.

All but `asha` train at the last rung only. Single readings are taken as they are.
"""

from collections.abc import Sequence
from random import Random

from agent.board import Board
from agent.branches import Network, Node
from agent.ladder import Settings, budget, failures, is_repairable, repair
from agent.search_tree import Decision, Tree
from agent.single_rung import Pick, crash, decided, finish, improvable, turn

AIDE_DRAFTS, SCIENTIST_DRAFTS = 5, 3
DEBUGS = 0.5
REPEATED, SEEDS = 3, 3


def greedy(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return the decision of AIDE's rule."""
    return turn(tree, lambda board: _best_or_debug(board, rng, drafts=AIDE_DRAFTS))


def best_first(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return the decision of The AI Scientist v2's rule; the end keeps time for the repeats."""
    reserve = REPEATED * (SEEDS - 1)

    def choice(board: Board) -> Decision | None:
        seconds = tree.cost(tree.last_rung) * (1 + reserve / tree.slots)
        if tree.fits(seconds, trials=1 + reserve):
            return _best_or_debug(board, rng, drafts=SCIENTIST_DRAFTS)
        return _again(board)

    return turn(tree, choice, end=_best_mean)


def random(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return any choice."""

    def choice(board: Board) -> Decision | None:
        failed = crash(board)
        of_branch: dict[str, list[Node]] = {}
        for node in improvable(board):
            of_branch.setdefault(node.branch, []).append(node)
        picked = rng.choice([None, *sorted(of_branch)])
        chosen = rng.choice(of_branch[picked]) if picked else None
        return failed or _improve(board, chosen, "by chance")

    return turn(tree, choice)


def asha(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return the decision of asynchronous successive halving."""

    def choice(board: Board) -> Decision | None:
        return crash(board) or _halving(board, settings) or _draft_below(board)

    return turn(tree, choice)


def _improve(board: Board, node: Pick, why: str) -> Decision:
    if node is None:
        return decided(board, "open", None, {}, f"opens a new branch, {why}")
    return decided(board, "improve", node, {}, f"improves {node.id}, {why}")


def _best_or_debug(board: Board, rng: Random, *, drafts: int) -> Decision | None:
    """Draft first; then debug a crash half of the time, else improve the best reading."""
    opened = len(board.tree.branches)
    if opened < drafts:
        return _improve(board, None, f"draft {opened + 1} of {drafts}")
    broken = [node for node in failures(board) if is_repairable(board, node)]
    if broken and rng.random() < DEBUGS:
        return repair(board, rng.choice(broken))
    found = improvable(board)
    if not found:
        return crash(board) or _improve(board, None, "nothing works yet")
    best = max(found, key=lambda n: (n.evidence.delta if n.evidence else 0.0, n.id))
    return _improve(board, best, "the best reading")


def _networks(board: Board) -> list[Network]:
    """Return the networks with readings at the last rung, the best mean first."""
    last = board.tree.last_rung
    found = [n for b in board.tree.branches.values() for n in b.networks if n.rung == last]
    return sorted(found, key=lambda network: (-network.readings[-1].value, network.id))


def _again(board: Board) -> Decision | None:
    """Train the networks that read best first with new seeds."""
    last = board.tree.last_rung
    by_first = sorted(_networks(board), key=lambda n: (-_first(n), n.id))[:REPEATED]
    rest = [network for network in by_first if network.seeds_at(last) < SEEDS]
    if not rest:
        return None
    node = rest[0].top
    return decided(board, "repeat", node, {}, f"repeats {node.id} with a new seed")


def _first(network: Network) -> float:
    evidence = network.top.evidence
    return evidence.delta if evidence else 0.0


def _best_mean(board: Board) -> Decision | None:
    last = board.tree.last_rung
    several = [n for n in _networks(board) if n.seeds_at(last) > 1]
    if not several:
        return None
    return finish(board, several[0].top, estimate=several[0].readings[-1].value)


def _halving(board: Board, settings: Settings) -> Decision | None:
    """Return the climb of a network among the best 1 / eta of its rung, highest rung first."""
    for rung in range(board.tree.last_rung - 1, -1, -1):
        there = _at(board, rung)
        places = len(there) // settings.eta
        for rank, node in enumerate(there[:places], start=1):
            if not _has_climbed(board, node, rung):
                text = f"promotes {node.id}: rank {rank} of {len(there)}, {places} climb"
                return Decision(
                    action="promote",
                    branch=node.branch,
                    node=node.id,
                    rung=rung + 1,
                    figures=budget(board) | {"rank": rank, "ranked": len(there), "places": places},
                    text=text,
                )
    return None


def _at(board: Board, rung: int) -> Sequence[Node]:
    """Return the trials with scores at a rung, the best reading first."""
    nodes = [n for b in board.tree.branches.values() for n in b.nodes if n.is_ok and n.rung == rung]
    return sorted(nodes, key=lambda n: (-(n.evidence.delta if n.evidence else 0.0), n.id))


def _has_climbed(board: Board, node: Node, rung: int) -> bool:
    children = board.tree.branches[node.branch].children[node.id]
    return any(child.rung > rung for child in children)


def _draft_below(board: Board) -> Decision:
    text = "opens a new draft at rung 0"
    return Decision(action="open", rung=0, figures=budget(board), text=text)
