"""Screening: many trials at the first rung, few climbs; successive halving as QWBE uses it.

First many drafts, of which the best share climbs before the first choice; later the refinements
of one network, litter by litter, of which the best climbs where it is worth it. Without rungs
(Li 2020, arXiv 1810.05934) there is nothing to screen, nor where only the last one tells networks
apart: then a part of the budget trains first drafts there. Pure: each function returns the decision
that is due, or None.
"""

import math

from agent.board import Board, Standing
from agent.branches import Branch, Network
from agent.ladder import (
    Settings,
    budget,
    failures,
    is_repairable,
    may_climb,
    model_figures,
    promote,
    repair,
    wait,
)
from agent.search_tree import Decision, Tree
from memory.records import Figures

MOST_DRAFTS = 128


def busy(board: Board) -> Decision | None:
    """Return the decision to wait while every slot has its trial, or None."""
    slots = board.tree.slots
    if len(board.tree.pending) < slots:
        return None
    return wait(board, "the slot is busy" if slots == 1 else f"all {slots} slots are busy")


def whole_s(tree: Tree) -> float:
    """Return the wall seconds of the whole search, spent and left."""
    return tree.spent_s / tree.slots + tree.free_s


def drafts_wanted(tree: Tree, settings: Settings) -> int:
    """Return how many drafts come first: their share of the budget, or as configured."""
    first = tree.first_rung
    cost_s = tree.cost_s[first]
    if not math.isfinite(tree.seconds_left) or cost_s <= 0:
        return tree.drafts
    share = settings.screen_share if tree.screens else settings.first_share
    return min(MOST_DRAFTS, max(tree.drafts, round(share * whole_s(tree) * tree.slots / cost_s)))


def places(drafts: int, settings: Settings) -> int:
    """Return how many of the drafts that reached a rung climb further."""
    return max(min(2, drafts), round(drafts * settings.climb_share))


def screen(board: Board, settings: Settings) -> Decision | None:
    """Return the next draft, or the repair of one that failed; None once all were screened."""
    tree = board.tree
    wanted, opened = drafts_wanted(tree, settings), len(tree.branches)
    # Drafts beyond the screening hold nobody up.
    if opened > wanted:
        return None
    for node in failures(board):
        branch = tree.branches[node.branch]
        is_due = not branch.has_worked and is_repairable(board, node)
        if is_due and tree.fits(tree.cost(node.rung), trials=1):
            return repair(board, node)
    if opened < wanted and room_for_draft(tree, settings):
        figures = budget(board) | {"drafts_opened": opened, "drafts_wanted": wanted}
        figures |= start_figures(tree)
        text = f"opens draft {opened + 1} of {wanted}; {what_follows(tree)}"
        return Decision(action="open", rung=tree.first_rung, figures=figures, text=text)
    running = [n for b in tree.branches.values() if not b.has_worked for n in b.pending]
    if running and tree.screens:
        return wait(board, "the drafts still running decide which networks climb")
    return None


def what_follows(tree: Tree) -> str:
    """Say what comes after the first drafts, and why if some rungs do not screen them."""
    said = "all are screened before any climbs" if tree.screens else "all come before any choice"
    learnt = start_figures(tree).get("learnt")
    if learnt is None:
        return said
    return f"{said}; at rung {tree.first_rung - 1} the baseline reaches {learnt:.0%} of its Dice"


def start_figures(tree: Tree) -> Figures:
    """Return whether a rung screens drafts, and how far the baseline is at the one left out below.

    `learnt` is its mean Dice there as a share of that at the last rung; not there where none is
    left out.
    """
    found: Figures = {"screens": tree.screens}
    if tree.first_rung > 0:
        found["learnt"] = tree.baseline_mean[tree.first_rung - 1] / tree.baseline_mean[-1]
    return found


def mend(board: Board) -> Decision | None:
    """Return the repair of a failed trial that is worth one, or None.

    Worth one: an idea that has never worked, and a network that failed on its climb and is still
    believed to pass the incumbent within one SD. Failed refinements have siblings (see `cut`).
    """
    tree = board.tree
    for node in failures(board):
        branch = tree.branches[node.branch]
        if not is_repairable(board, node) or not tree.fits(tree.cost(node.rung), trials=1):
            continue
        if not branch.has_worked:
            return repair(board, node)
        network = branch.network_of(node.id)
        belief = board.belief(branch, branch.networks.index(network))
        if network.readings and belief.mean + belief.sd > board.bar:
            return repair(board, node)
    return None


def room_for_draft(tree: Tree, settings: Settings) -> bool:
    """Tell whether one more draft leaves time and trials for those that will climb."""
    first = tree.first_rung
    above = tree.last_rung - first
    climbing = places(len(tree.branches) + 1, settings) if above else 0
    own = tree.cost(first)
    seconds = own + math.ceil(climbing / tree.slots) * (tree.climb(first) - own)
    return tree.fits(seconds, trials=1 + climbing * above)


def climb(board: Board, settings: Settings) -> Decision | None:
    """Return the next of the screened drafts that climbs, the best first, or None."""
    tree = board.tree
    for rung in range(tree.last_rung - 1, -1, -1):
        drafts = [one for one in drafts_of(board) if one.network.rung >= rung]
        ahead = [one for one in drafts if has_left(one.network, rung)]
        free = places(len(drafts), settings) - len(ahead)
        rest = [
            one
            for one in drafts
            if not has_left(one.network, rung) and one.network.may_go_on and may_climb(board, one)
        ]
        if free > 0 and rest:
            best = min(rest, key=lambda one: (-one.belief.mean, one.network.id))
            rank = 1 + sum(one.belief.mean > best.belief.mean for one in drafts)
            why = f"rank {rank} of {len(drafts)} drafts, {free + len(ahead)} climb"
            figures = {"rank": rank, "ranked": len(drafts), "places": free + len(ahead)}
            return promote(board, best, why, figures)
    return None


def drafts_of(board: Board) -> list[Standing]:
    """Return the first network with scores of every branch."""
    found = []
    for branch in board.tree.branches.values():
        view = board.view(branch)
        if view.first is not None:
            found.append(view.first)
    return found


def has_left(network: Network, rung: int) -> bool:
    """Tell whether a network was sent beyond a rung, whatever came of it."""
    return any(node.rung > rung for node in network.trials)


def refine(board: Board, settings: Settings) -> Decision | None:
    """Return what screened refinements lead to: their next sibling, or the climb of the best."""
    if board.first_rung == board.tree.last_rung:
        return None
    for branch in board.tree.branches.values():
        for place, kids in branch.litters.items():
            parent = branch.networks[place]
            if len(kids) % settings.siblings and can_improve(board, parent):
                return improve(board, Standing(branch, parent, board.belief(branch, place)), kids)
            found = best_of(board, branch, kids, settings)
            if found is not None:
                return found
    return None


def best_of(
    board: Board, branch: Branch, kids: tuple[int, ...], settings: Settings
) -> Decision | None:
    """Return the climb of the best sibling, if one is due and it is worth it.

    One of every full litter is due, and one of a litter that will get no more siblings.
    """
    networks = [branch.networks[kid] for kid in kids]
    climbed = sum(has_left(network, board.first_rung) for network in networks)
    due = math.ceil(len(kids) / settings.siblings)
    if climbed >= due or any(n.is_pending for n in networks):
        return None
    rest = [
        Standing(branch, branch.networks[kid], board.belief(branch, kid))
        for kid in kids
        if branch.networks[kid].may_go_on and not has_left(branch.networks[kid], board.first_rung)
    ]
    if not rest:
        return None
    best = min(rest, key=lambda one: (-one.belief.mean, one.network.id))
    hope = best.belief.mean + settings.optimism * best.belief.sd
    if hope <= board.bar or not may_climb(board, best):
        return None
    why = f"best of {len(rest)} refinements, {hope:+.4f} within reach against {board.bar:+.4f}"
    return promote(board, best, why, {"hope": hope, "siblings": len(rest)})


def can_improve(board: Board, parent: Network) -> bool:
    """Tell whether one more refinement of a network may run, and fits."""
    tree, node, first = board.tree, parent.top, board.first_rung
    is_alive = parent.may_go_on and node.depth < tree.max_depth and not node.is_spent
    return is_alive and tree.fits(tree.climb(first, like=node), trials=1 + tree.last_rung - first)


def improve(board: Board, one: Standing, kids: tuple[int, ...]) -> Decision:
    """Return the decision to train one more refinement of a network at the first rung."""
    node = one.network.top
    return Decision(
        action="improve",
        branch=one.branch.id,
        node=node.id,
        rung=board.first_rung,
        figures=budget(board) | {"siblings": len(kids), "model": model_figures(board)},
        text=f"improves {node.id} once more: its refinement {len(kids) + 1}, the best will climb",
    )
