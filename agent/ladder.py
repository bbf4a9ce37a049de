"""The ladder around every policy: screening, cuts, repairs, promotions, the end.

The drafts wanted are screened at rung 0. Then the best 1 / eta of each rung climb (at least
`promote_min`), if their chance of passing the incumbent by the margin is not below `cut_below`.
A network is cut, with its figures, when it has less than that chance, when the screening leaves
it behind, or when it failed after its last repair. A cut network comes back, as a promotion
marked `returns`, when later trials leave it among the best with twice that chance. The incumbent
is never cut. A network that found no room in memory is tried with half the batch, then a
quarter, before anybody repairs it. Successive halving without rounds: Li 2020, arXiv 1810.05934.

Pure: each function looks at a Board and returns a decision that is due, or None.
"""

import math
from dataclasses import dataclass

from agent.search_tree import Board, Decision, Node
from memory.records import Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Constants of a policy: c, p, e of the published rule, and the ladder's."""

    c: float = 1.5
    p: float = 3.0
    e: float = 1.0
    eta: int = 3
    promote_min: int = 2


def _places(finished: int, settings: Settings) -> int:
    return min(finished, max(settings.promote_min, finished // settings.eta))


def _may_open_draft(board: Board, settings: Settings) -> bool:
    """Tell whether one more draft leaves time and trials for those that will climb."""
    tree = board.tree
    places = _places(len(tree.branches) + 1, settings)
    seconds = board.cost(0)
    if tree.last_rung:
        seconds += math.ceil(places / tree.slots) * board.climb(1)
    return board.fits(seconds, trials=1 + places * tree.last_rung)


def _unscreened_repairs(board: Board) -> list[Node]:
    """Return failed drafts to repair: a draft wanted at rung 0 is one that works."""
    return [
        node
        for nodes in board.of_branch.values()
        if not any(n.is_ok for n in nodes)
        for node in nodes
        if board.is_repairable(node) and board.fits(board.climb(node.rung), trials=1)
    ]


def is_screened(board: Board, settings: Settings) -> bool:
    """Tell whether the first drafts are done: all wanted, or all that fit, ran to their end."""
    wanted = len(board.tree.branches) < board.tree.drafts and _may_open_draft(board, settings)
    running = any(
        node.is_pending and not any(n.is_ok for n in board.of_branch[node.branch])
        for node in board.nodes
        if node.rung == 0
    )
    late = len(board.tree.branches) > board.tree.drafts  # later branches hold nobody up
    smaller = smaller_batch(board) is not None
    return late or not (wanted or running or smaller or _unscreened_repairs(board))


def screening(board: Board, settings: Settings) -> Decision | None:
    """Return the next draft, or the repair of a failed one; None while the last ones run."""
    tree, figures = board.tree, budget(board)
    opened = len(tree.branches)
    if opened < tree.drafts and _may_open_draft(board, settings):
        figures |= {"drafts_opened": opened, "drafts_wanted": tree.drafts}
        text = f"opens draft {opened + 1} of {tree.drafts}; all are screened before any climbs"
        return Decision(action="open", rung=0, figures=figures, text=text)
    failed = _unscreened_repairs(board)
    return repair(board, failed[0], figures) if failed else None


def smaller_batch(board: Board) -> Decision | None:
    """Return the next trial with a smaller batch that is due and fits, or None.

    Its baselines are counted with it, one after the other, as they may be needed.
    """
    for node in board.nodes:
        size = board.smaller_batch(node)
        seconds = board.climb(node.rung) + board.tree.baseline_seeds * board.cost(node.rung)
        if size is None or not board.fits(seconds, trials=1):
            continue
        figures = budget(board) | {
            "batch_size": size,
            "batch_before": node.batch_size or board.tree.batch_size,
            "batch_planned": board.tree.batch_size,
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


def repair(board: Board, node: Node, figures: Figures) -> Decision:
    """Return the decision to repair a failed trial; `figures` are those it was chosen on."""
    done = board.repairs_done(node)
    figures |= {"repairs_done": done, "repairs_allowed": board.tree.repairs}
    text = f"repairs {node.id} ({node.status}), repair {done + 1} of {board.tree.repairs} in a row"
    return Decision(
        action="repair",
        branch=node.branch,
        node=node.id,
        rung=node.rung,
        figures=figures,
        text=text,
    )


def _standings(board: Board, rung: int) -> list[Node]:
    """Return the networks finished at a rung, best first, without those lost further up."""
    return board.ranked(
        [n for n in board.nodes if n.is_ok and n.rung == rung and not board.is_lost(n)]
    )


def _figures(board: Board, node: Node, *, rank: int, of: int, places: int) -> Figures:
    chance, belief, evidence = board.chance(node), board.belief(node), node.evidence
    assert evidence is not None
    return budget(board) | {
        "rank": rank,
        "ranked": of,
        "places": places,
        "delta": evidence.delta,
        "se": evidence.se,
        "se_cases": evidence.se_cases,
        "se_seed": evidence.se_seed,
        "posterior_mean": belief.mean,
        "posterior_sd": belief.sd,
        "p_passes": chance.p,
        "against": chance.against,
        "margin": board.tree.margin,
        "cut_below": board.tree.cut_below,
    }


def cut(board: Board, settings: Settings, *, screened: bool) -> Decision | None:
    """Return the first cut that is due, or None.

    `screened` says that the first drafts are done, so that rank counts as well as chance.
    """
    for rung in range(board.tree.last_rung + 1):
        standings = _standings(board, rung)
        places = _places(len(standings), settings)
        climbs = places if screened and rung < board.tree.last_rung else len(standings)
        for rank, node in enumerate(standings, start=1):
            if node.is_cut or board.lift(node) is not None or board.leads(node):
                continue
            chance = board.chance(node)
            if chance.p >= board.tree.cut_below and rank <= climbs:
                continue
            figures = _figures(board, node, rank=rank, of=len(standings), places=places)
            is_left = chance.p >= board.tree.cut_below
            figures["reason"] = "screened_out" if is_left else "chance"
            order = f"rank {rank} of {len(standings)} at rung {rung}, {places} climb; "
            return _cut_of(board, node, figures, (order if is_left else "") + _chances(board, node))
    return _cut_failed(board)


def _chances(board: Board, node: Node) -> str:
    chance = board.chance(node)
    return f"{chance.p:.0%} likely to pass {chance.against} by the margin"


def _cut_failed(board: Board) -> Decision | None:
    """Return the cut of a network whose repairs are spent, or None."""
    for node in board.nodes:
        is_end = node.is_failed and not node.is_cut and not board.children[node.id]
        if is_end and not board.is_repairable(node) and board.smaller_batch(node) is None:
            figures = budget(board) | {
                "reason": "repairs_spent",
                "repairs_done": board.repairs_done(node),
                "repairs_allowed": board.tree.repairs,
            }
            return _cut_of(board, node, figures, f"{node.status} after its last repair")
    return None


def _cut_of(board: Board, node: Node, figures: Figures, why: str) -> Decision:
    closes = not board.is_open(node.branch, without=node)
    text = f"cuts {node.id}: {why}" + ("; its branch is closed" if closes else "")
    return Decision(
        action="cut",
        branch=node.branch,
        node=node.id,
        rung=node.rung,
        figures=figures | {"closes_branch": closes},
        text=text,
    )


def promote(board: Board, settings: Settings) -> Decision | None:
    """Return the promotion that is due, highest rung and best posterior mean first, or None."""
    tree = board.tree
    for rung in range(tree.last_rung - 1, -1, -1):
        standings = _standings(board, rung)
        places = _places(len(standings), settings)
        for rank, node in enumerate(standings[:places], start=1):
            seconds = board.cost(rung + 1, like=node)
            if board.lift(node) is not None or not board.fits(seconds, trials=1):
                continue
            enough = tree.cut_below * (2 if node.is_cut else 1)
            if board.chance(node).p < enough and not board.leads(node):
                continue
            figures = _figures(board, node, rank=rank, of=len(standings), places=places)
            order = f"rank {rank} of {len(standings)}, {places} climb"
            text = f"promotes {node.id} to rung {rung + 1}: {order}; {_chances(board, node)}"
            return Decision(
                action="promote",
                branch=node.branch,
                node=node.id,
                rung=rung + 1,
                figures=figures | {"returns": node.is_cut, "expected_s": seconds},
                text=text + ("; it comes back after a cut" if node.is_cut else ""),
            )
    return None


def budget(board: Board) -> Figures:
    """Return the budget as every decision records it; None means no limit."""
    tree = board.tree
    return {
        "seconds_left": tree.seconds_left if math.isfinite(tree.seconds_left) else None,
        "confirm_s": tree.confirm_s,
        "trials_left": tree.trials_left,
        "pending": sorted(tree.pending),
        "slots": tree.slots,
    }


def wait(board: Board, why: str) -> Decision:
    """Return the decision to start nothing until a pending trial ends."""
    return Decision(action="wait", figures=budget(board), text=f"waits: {why}")


def confirm(board: Board) -> Decision:
    """Return the decision to end the search."""
    best = board.incumbent
    figures = budget(board)
    if best is None:
        text = "ends the search: nothing more fits, and no network was trained"
        return Decision(action="confirm", figures=figures, text=text)
    chance, belief = board.chance(best), board.belief(best)
    figures |= {
        "p_passes": chance.p,
        "against": chance.against,
        "posterior_mean": belief.mean,
        "posterior_sd": belief.sd,
    }
    return Decision(
        action="confirm",
        branch=best.branch,
        node=best.id,
        rung=best.rung,
        figures=figures,
        text=f"ends the search: nothing more fits; {best.id} leads at rung {best.rung}",
    )
