"""The staged selection: the best networks of the search on further folds, the best few again.

A search that looks at one set of cases many times prefers what suits these cases. So the leaders
are trained on further folds of what the search may see, beside the baseline, and the best few of
them with fresh seeds; `agent/selection.py` weighs it. All these are selection scores: they choose
the finalists, and no claim rests on them. What was chosen is written down before it is trained,
so that a campaign that was killed goes on with the same networks.
"""

import math
from collections.abc import Iterator

from agent.board import Board, Standing
from agent.campaign import Campaign
from agent.fold_data import has_raw, prepare_fold
from agent.search_tree import Tree
from agent.selection import Candidate, Plan, again, choose, how_many, plan, priors
from agent.selection_scores import CHOSEN, PLANNED, figures_of, scored
from agent.trials import fresh
from agent.wording import counted
from memory.records import Event, Figures, Kind, SplitName, Trial
from sandbox.folds import make_folds

SELECT_SEED = 500
BASELINE_SEEDS = 2
PLAN, AGAIN, FINALISTS = "selection/plan", "selection/again", "confirm/finalists"


def select(campaign: Campaign) -> None:
    """Train the leaders on further folds, and fix the finalists; nothing where they are fixed."""
    store = campaign.store
    if store.effect(FINALISTS) is not None or campaign.session.stopping.is_set():
        return
    chosen = planned(campaign)
    names = chosen["candidates"]
    train(campaign, names, folds=chosen["folds"], seeds=range(1))
    if campaign.session.stopping.is_set():
        return
    if names and chosen["seeds"]:
        few = again_of(campaign, chosen)
        train(campaign, few, folds=chosen["folds"], seeds=range(1, 1 + chosen["seeds"]))
    if not campaign.session.stopping.is_set():
        fix(campaign, chosen)


def planned(campaign: Campaign) -> Figures:
    """Return which networks are looked at, on how many folds, with how many seeds; made once."""
    known = campaign.store.effect(PLAN)
    if known is not None:
        return dict(known)
    tree, _ = campaign.tree()
    leaders = ranked(Board(tree))
    made = made_plan(campaign, tree, len(leaders))
    if made.candidates:
        # It takes time, so the plan is made again on what is left after it.
        for number in range(1, made.folds + 1):
            prepare_fold(campaign.session, number)
        made = made_plan(campaign, campaign.tree()[0], len(leaders))
    figures = {
        "candidates": [one.network.top.id for one in leaders[: made.candidates]],
        "folds": made.folds,
        "again": made.finalists_again,
        "seeds": made.seeds,
        "networks": tested(tree),
        "seconds": made.seconds if math.isfinite(made.seconds) else None,
        "priors": prior_figures(Board(tree), leaders),
    }
    event = Event(PLANNED, told(figures), figures, at=campaign.session.now)
    with campaign.store.transaction():
        campaign.store.add_event(event)
        return dict(campaign.store.set_effect(PLAN, figures))


def ranked(board: Board) -> list[Standing]:
    """Return the networks that may be chosen, as the search believes in them, best first."""
    return board.leaders() or board.finalists(1)


def tested(tree: Tree) -> int:
    """Return how many networks of the search have scores."""
    return sum(bool(n.readings) for branch in tree.branches.values() for n in branch.networks)


def made_plan(campaign: Campaign, tree: Tree, leaders: int) -> Plan:
    """Return the plan of the selection that the time left holds."""
    session, last = campaign.session, campaign.session.last_rung
    wanted = session.config.selection
    return plan(
        n_candidates=leaders,
        cost_s=campaign.costs()[last],
        baseline_cost_s=campaign.growth.baseline_s(last),
        slots=session.slots,
        seconds=max(0.0, campaign.left().seconds - kept_s(campaign)),
        folds=folds_of(campaign),
        seeds=wanted.seeds,
        baseline_seeds=BASELINE_SEEDS,
        wanted=wanted.candidates or how_many(tested(tree)),
    )


def folds_of(campaign: Campaign) -> int:
    """Return how many further folds there can be."""
    session = campaign.session
    wanted = session.config.selection.folds
    if not wanted or not has_raw(session.folder):
        return 0
    seed = session.config.split.seed
    return len(make_folds(session.split, seed=seed, count=wanted)) - 1


def prior_figures(board: Board, leaders: list[Standing]) -> Figures:
    """Return mean and SD of the search's belief about each leader on other cases, in Dice."""
    found = zip(leaders, priors(board, leaders), strict=True)
    return {one.network.top.id: [belief.mean, belief.sd] for one, belief in found}


def told(figures: Figures) -> str:
    """Return the plan of the selection in words."""
    count, folds = len(figures["candidates"]), figures["folds"]
    if not count:
        return "goes straight to confirmation: no time or no cases for further folds"
    again = f", then the best {figures['again']} with {counted(figures['seeds'], 'fresh seed')}"
    return (
        f"looks at the best {count} of {counted(figures['networks'], 'network')} on "
        f"{counted(folds, 'further fold')}"
        f"{again if figures['again'] and figures['seeds'] else ''}"
    )


def train(campaign: Campaign, names: list[str], *, folds: int, seeds: range) -> None:
    """Train networks, and the baseline beside them, on every further fold; one seed is shared.

    What the time left does not hold is left out, the last folds first.
    """
    sources = [campaign.store.trial(name) for name in names]
    for number in range(1, folds + 1) if sources else ():
        prepare_fold(campaign.session, number)
        for trial in of_fold(campaign, sources, number, seeds):
            if campaign.session.stopping.is_set() or not fits(campaign):
                break
            who = trial.title if trial.proposal else "the baseline"
            text = f"trains {who} on further fold {number}, seed {trial.seed}"
            campaign.begin(trial, "selecting", text)
    campaign.drain()


def fits(campaign: Campaign) -> bool:
    """Tell whether one more training leaves time for what follows."""
    last = campaign.session.last_rung
    return campaign.left().seconds - campaign.costs()[last] >= kept_s(campaign)


def kept_s(campaign: Campaign) -> float:
    """Return the wall seconds that confirmation and ablations are kept."""
    return campaign.confirm_s() + campaign.ablation_s()


def of_fold(campaign: Campaign, sources: list[Trial], number: int, seeds: range) -> Iterator[Trial]:
    """Yield the planned trainings of a fold, the baseline's before those compared with it."""
    if 0 in seeds:
        for batch in dict.fromkeys(source.batch_size for source in sources):
            for seed in range(BASELINE_SEEDS):
                yield of_source(campaign, None, number, seed, batch)
    for seed in seeds:
        for source in sources:
            yield of_source(campaign, source, number, seed, source.batch_size)


def of_source(
    campaign: Campaign, source: Trial | None, fold: int, seed: int, batch_size: int | None
) -> Trial:
    """Return one planned training on a further fold; no source is the baseline."""
    return fresh(
        campaign.session,
        source,
        kind=Kind.SELECT,
        split=SplitName.SEARCH_TRAIN,
        seed=SELECT_SEED + seed,
        batch_size=batch_size,
        fold=fold,
    )


def again_of(campaign: Campaign, chosen: Figures) -> list[str]:
    """Return the trials of the best few networks after the first look; fixed once."""
    known = campaign.store.effect(AGAIN)
    if known is None:
        few = again(candidates(campaign, chosen), few=chosen["again"])
        known = campaign.store.set_effect(AGAIN, {"trials": [one.id for one in few]})
    return list(known["trials"])


def candidates(campaign: Campaign, chosen: Figures) -> list[Candidate]:
    """Return what is known of each candidate: the search's belief, and each fold's evidence."""
    return scored(
        campaign.store,
        campaign.growth.standings,
        chosen,
        folds=[campaign.session.fold(number) for number in range(1 + chosen["folds"])],
        cost_s=campaign.costs()[campaign.session.last_rung],
    )


def fix(campaign: Campaign, chosen: Figures) -> None:
    """Write down the finalists with everything they were chosen on.

    Without a selection they are the best networks of the search; without any, nothing is fixed.
    """
    k = campaign.session.config.confirm.finalists
    known = candidates(campaign, chosen)
    names = [one.id for one in choose(known, k)]
    if not known:
        names = [one.network.top.id for one in ranked(Board(campaign.tree()[0]))[:k]]
    if not names:
        return
    figures = {"finalists": names, "scores": [figures_of(one) for one in known]}
    text = f"chooses {', '.join(names)} for the locked test"
    event = Event(CHOSEN, text, figures, at=campaign.session.now)
    with campaign.store.transaction():
        campaign.store.add_event(event)
        campaign.store.set_effect(FINALISTS, {"trials": names})
