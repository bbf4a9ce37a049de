"""AB-MCTS-A, adaptive branching (Inoue 2025, arXiv 2503.04412), by its authors' package, TreeQuest.

At each network of the tree a Thompson draw decides between a new refinement of it and going on
below it; at the root, between a new branch and those there are. Each trial runs at the last rung and
is read once. The package expects scores that fill [0, 1]; Dice lie close together, so that it gets
the gain over the baseline through a normal distribution function: one half is the baseline.
The package's tree is made again from ours for each decision, in the order of the trials, and it
draws from NumPy's global generator, which is seeded for it and put back: same tree, same seed,
same decision.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import numpy as np

from agent.board import Board
from agent.branches import Node
from agent.evidence import normal_tail
from agent.ladder import Settings
from agent.search_tree import Decision, Tree
from agent.single_rung import Pick, crash, decided, improvable, turn

ACTION = "change"
WIDE = 2.0


def ab_mcts(tree: Tree, rng: Random, settings: Settings) -> Decision:
    """Return the decision of the package."""

    def choice(board: Board) -> Decision | None:
        return crash(board) or _expansion(board, rng)

    return turn(tree, choice)


def _expansion(board: Board, rng: Random) -> Decision:
    found = asked(board.tree, rng)
    if found is None:
        return decided(board, "open", None, {}, "opens a new branch, by its draws")
    node = _refinable(board, found)
    if node is None:
        text = f"opens a new branch: {found.id} and those above it are refined no further"
        return decided(board, "open", None, {}, text)
    return decided(board, "improve", node, {}, f"improves {node.id}, by its draws")


def asked(tree: Tree, rng: Random) -> Pick:
    """Return the trial that the package would refine; None for a new branch."""
    from treequest import ABMCTSA

    algorithm: ABMCTSA[str] = ABMCTSA(dist_type="gaussian")
    with seeded(rng):
        state = algorithm.init_tree()
        state.all_rewards_store[ACTION] = []
        places: dict[str, int] = {}
        nodes = read(tree)
        for place, node in enumerate(nodes):
            above = state.tree.get_node(places.get(node.parent or "", -1))
            state.thompson_states.get_or_create(above, [ACTION])
            trial = state.trial_store.create_trial(above, ACTION)
            algorithm.tell(state, trial.trial_id, (node.id, score(tree, node)))
            places[node.id] = place
        _, (chosen, *_) = algorithm.ask_batch(state, 1, [ACTION])
    return nodes[chosen.node_to_expand] if chosen.node_to_expand >= 0 else None


def read(tree: Tree) -> list[Node]:
    """Return the trials with scores at the last rung in the order of their time; no repetitions."""
    found = [
        network.top
        for branch in tree.branches.values()
        for network in branch.networks
        if network.rung == tree.last_rung
    ]
    return sorted(found, key=lambda node: (node.planned_at, node.id))


def score(tree: Tree, node: Node) -> float:
    """Return what a trial read, in [0, 1]: one half is the baseline, WIDE prior SDs above it 0.84."""
    delta = node.evidence.delta if node.evidence else 0.0
    return normal_tail(delta, WIDE * tree.prior_sd)


def _refinable(board: Board, node: Node) -> Pick:
    """Return a trial, else the nearest above it, that may be refined; None where there is none."""
    allowed = {one.id for one in improvable(board)}
    nodes = board.tree.branches[node.branch].by_id
    one: Node | None = node
    while one is not None and one.id not in allowed:
        one = nodes.get(one.parent or "")
    return one


@contextmanager
def seeded(rng: Random) -> Iterator[None]:
    """Seed NumPy's global generator for a while."""
    before = np.random.get_state()  # noqa: NPY002 (the package draws from it)
    np.random.seed(rng.getrandbits(32))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
