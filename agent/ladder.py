"""What every policy shares: repairs, smaller batches, cuts, promotions, waiting and the end.

Pure: each function looks at a Board and returns a decision that is due, or None. A decision's
figures hold every number that it was made on, so that it can be explained and made again.
"""

import math
from dataclasses import dataclass

from agent.board import SIBLINGS, SURE, Board, Standing
from agent.branches import Branch, Network, Node
from agent.search_tree import Decision
from memory.records import Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Constants of the policies.

    Attributes:
        c: exploration of the published rule.
        p: risk aversion of the published rule.
        eta: 1 / eta of a rung climbs in successive halving.
        screen_share: part of the budget that screens drafts at the first rung.
        first_share: part of the budget that trains the first drafts where no rung screens them.
        climb_share: part of the screened drafts that climb.
        siblings: refinements of one network that are screened before the best climbs.
        optimism: SDs above its mean at which a screened network is worth its climb.
        repeat_share: part of the budget that trains the finalists again with new seeds.
        finalists: networks among which repetitions are shared.
    """

    c: float = 0.1
    p: float = 3.0
    eta: int = 3
    screen_share: float = 0.08
    first_share: float = 0.3
    climb_share: float = 0.25
    siblings: int = SIBLINGS
    optimism: float = 1.5
    repeat_share: float = 0.08
    finalists: int = 5


def repair(board: Board, node: Node, figures: Figures | None = None) -> Decision:
    """Return the decision to repair a failed trial; `figures` are those it was chosen on."""
    done = repairs_done(board, node)
    found = budget(board) | (figures or {})
    found |= {"repairs_done": done, "repairs_allowed": board.tree.repairs}
    text = f"repairs {node.id} ({node.status}), repair {done + 1} of {board.tree.repairs} in a row"
    return Decision(
        action="repair",
        branch=node.branch,
        node=node.id,
        rung=node.rung,
        figures=found,
        text=text,
    )


def repairs_done(board: Board, node: Node) -> int:
    """Return how many repairs in a row led to a failed trial."""
    return board.tree.branches[node.branch].repairs_done(node)


def is_repairable(board: Board, node: Node) -> bool:
    """Tell whether a failed trial without successor may be repaired."""
    is_due = board.tree.smaller_batch(node) is not None
    return not is_due and not node.is_spent and repairs_done(board, node) < board.tree.repairs


def smaller_batch(board: Board) -> Decision | None:
    """Return the next trial with a smaller batch that is due and fits, or None.

    Its baselines are counted with it, one after the other, as they may be needed.
    """
    tree = board.tree
    for node in failures(board):
        size = tree.smaller_batch(node)
        seconds = tree.climb(node.rung) + tree.baseline_seeds * tree.cost(node.rung)
        if size is None or not tree.fits(seconds, trials=1):
            continue
        figures = budget(board) | {
            "batch_size": size,
            "batch_before": node.batch_size or tree.batch_size,
            "batch_planned": tree.batch_size,
            "expected_s": seconds,
        }
        return Decision(
            action="smaller_batch",
            branch=node.branch,
            node=node.id,
            rung=node.rung,
            figures=figures,
            text=f"trains {node.id} again with batches of {size}, and the baseline with it: "
            f"no room in memory for {figures['batch_before']}",
        )
    return None


def failures(board: Board) -> list[Node]:
    """Return failed trials that nothing followed, branch by branch."""
    return [node for branch in board.tree.branches.values() for node in branch.failures]


def cut(board: Board) -> Decision | None:
    """Return the first cut that is due, or None.

    A network is cut when its chance of ever passing the bar by the margin is below the level of
    the campaign, when it failed after its last repair, or when it failed as one of several
    refinements; a branch, when nothing of it is left.
    """
    for branch in board.tree.branches.values():
        for node in branch.failures:
            if board.tree.smaller_batch(node) is not None:
                continue
            if not is_repairable(board, node):
                return cut_failed(board, branch, node, "repairs_spent")
            if is_spare(branch, node):
                return cut_failed(board, branch, node, "failed")
        for one in reversed(board.view(branch).open):
            if one.network.is_pending or board.leads(one.network):
                continue
            if board.chance(one).ever < board.tree.cut_below:
                return cut_network(board, one)
            break
    return None


def is_spare(branch: Branch, node: Node) -> bool:
    """Tell whether a failed network is a refinement: its parent, which works, has others."""
    network = branch.network_of(node.id)
    return network.parent >= 0 and not network.readings


def cut_failed(board: Board, branch: Branch, node: Node, reason: str) -> Decision:
    """Return the cut of a network that failed, for good."""
    figures = budget(board) | {
        "reason": reason,
        "repairs_done": repairs_done(board, node),
        "repairs_allowed": board.tree.repairs,
    }
    network = branch.network_of(node.id)
    how = "after its last repair" if reason == "repairs_spent" else "as one of several refinements"
    return cut_of(board, branch, network, node, figures, f"{node.status} {how}")


def cut_network(board: Board, one: Standing) -> Decision:
    """Return the cut of a network that can no longer come to anything."""
    figures = standing_figures(board, one) | {"reason": "chance"}
    node = one.network.top
    return cut_of(board, one.branch, one.network, node, figures, chances(board, one))


def cut_of(
    board: Board, branch: Branch, network: Network, node: Node, figures: Figures, why: str
) -> Decision:
    """Return the cut of a trial's network; it closes the branch when nothing else is left."""
    closes = not any(
        other.is_pending or (other.may_go_on and other.id != network.id)
        for other in branch.networks
    ) and all(failed.id == node.id for failed in branch.failures)
    text = f"cuts {node.id}: {why}" + ("; its branch is closed" if closes else "")
    return Decision(
        action="cut",
        branch=branch.id,
        node=node.id,
        rung=node.rung,
        figures=figures | {"closes_branch": closes},
        text=text,
    )


def promote(board: Board, one: Standing, why: str, figures: Figures | None = None) -> Decision:
    """Return the decision to train a network at the next rung."""
    node, seconds = one.network.top, climb_cost(board, one)
    found = standing_figures(board, one) | (figures or {})
    found |= {"returns": one.network.is_cut, "expected_s": seconds}
    back = "; it comes back after a cut" if one.network.is_cut else ""
    return Decision(
        action="promote",
        branch=one.branch.id,
        node=node.id,
        rung=node.rung + 1,
        figures=found,
        text=f"promotes {node.id} to rung {node.rung + 1}: {why}{back}",
    )


def climb_cost(board: Board, one: Standing) -> float:
    """Return the expected seconds of a network's trial at the next rung."""
    return board.tree.cost(one.network.rung + 1, like=one.network.top)


def may_climb(board: Board, one: Standing) -> bool:
    """Tell whether a network stands still below the last rung, and its next trial fits."""
    network = one.network
    below = network.rung < board.tree.last_rung and not network.is_pending
    return below and board.tree.fits(climb_cost(board, one), trials=1)


def chances(board: Board, one: Standing) -> str:
    """Say how likely a network is to pass the bar."""
    chance = board.chance(one)
    return f"{chance.ever:.0%} likely ever to pass {chance.against} by the margin"


def standing_figures(board: Board, one: Standing) -> Figures:
    """Return every number behind a network's standing."""
    chance, head, told = board.chance(one), board.headroom(one.branch), one.network.readings
    return budget(board) | {
        "readings": [
            {
                "rung": r.rung,
                "delta": r.value,
                "se_seed": math.sqrt(r.variance),
                "se_cases": math.sqrt(r.cases),
            }
            for r in told
        ],
        "posterior_mean": one.belief.mean,
        "posterior_sd": one.belief.sd,
        "headroom": head.mean,
        "headroom_sd": head.sd,
        "wasted": one.branch.wasted,
        "p_one": chance.one,
        "p_ever": chance.ever,
        "refinements": chance.refinements,
        "against": chance.against,
        "bar": chance.bar,
        "margin": board.tree.margin,
        "cut_below": board.tree.cut_below,
        "model": model_figures(board),
    }


def model_figures(board: Board) -> Figures:
    """Return the constants of the model of effects."""
    it = board.it
    return {
        "draft_mean": it.mean,
        "draft_sd": it.sd,
        "step_mean": it.step_mean,
        "step_sd": it.step_sd,
        "links": [link._asdict() for link in it.links],
    }


def budget(board: Board) -> Figures:
    """Return the budget as every decision records it, and the bar at the last rung, in Dice.

    None means no limit; a bar of 0 is the baseline itself.
    """
    tree, best = board.tree, board.incumbent
    return {
        "seconds_left": tree.seconds_left if math.isfinite(tree.seconds_left) else None,
        "confirm_s": tree.confirm_s,
        "trials_left": tree.trials_left,
        "pending": [node.id for node in tree.pending],
        "incumbent": best.network.top.id if best else None,
        "bar": board.bar if best and best.network.rung == tree.last_rung else 0.0,
        "slots": tree.slots,
    }


def wait(board: Board, why: str) -> Decision:
    """Return the decision to start nothing until a pending trial ends."""
    return Decision(action="wait", figures=budget(board), text=f"waits: {why}")


def confirm(board: Board) -> Decision:
    """Return the decision to end the search; `is_lead` says whether it believes in its leader."""
    best, figures = board.incumbent, budget(board)
    if best is None:
        text = "ends the search: nothing more fits, and no network was trained"
        return Decision(action="confirm", figures=figures, text=text)
    p = board.p_better(best)
    figures = standing_figures(board, best) | {
        "estimate": board.beyond(best).mean,
        "p_better": p,
        "is_lead": p >= SURE,
    }
    node = best.network.top
    return Decision(
        action="confirm",
        branch=best.branch.id,
        node=node.id,
        rung=node.rung,
        figures=figures,
        text=f"ends the search: nothing more fits; {node.id} leads at rung {node.rung}, "
        f"{p:.0%} likely better than the baseline",
    )
