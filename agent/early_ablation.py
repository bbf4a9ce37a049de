"""What each module of the leading network brings, at the lowest rung: evidence for its diagnosis.

When a network takes the lead at the last rung above the baseline, each of its modules is taken out
once and the rest trained at the lowest rung, with the search's own seed: as cheap a look as there
is, and noisy. It is told as a clue, promotes nothing, and is no claim (`agent/ablation.py` makes
those). All of them together may take a twentieth of a time budget; none is made where the baseline
itself has learnt too little at that rung (`agent/search_tree.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.ablation import ablated, named, without, writes
from agent.search_tree import first_telling
from agent.standings import Standings
from agent.trials import ABLATED, network_hash
from memory.errors import PlannerError
from memory.records import Kind, Module, Proposal, SplitName, Trial, short_id, trial_id

if TYPE_CHECKING:
    from agent.campaign import Campaign

SHARE = 0.05
HOUR_S = 3600.0
FEWEST = 2
KIND = "early_ablation"


def begin_early(campaign: "Campaign") -> None:
    """Begin the ablations of a new leader at the last rung, where there is one."""
    growth, last = campaign.growth, campaign.session.last_rung
    growth.refresh()
    trials = growth.scored.get(last, [])
    if not last or len(trials) == campaign.looked:
        return
    campaign.looked = len(trials)
    leader = leader_of(trials, growth.standings)
    if leader is not None:
        take_apart(campaign, leader)


def take_apart(campaign: "Campaign", leader: Trial) -> None:
    """Begin the ablations of one network, unless that was done, or costs too much."""
    store, session = campaign.store, campaign.session
    key = f"{KIND}/{leader.commit}"
    assert leader.proposal is not None
    if not session.config.ablation.early or store.effect(key) is not None:
        return
    means = [campaign.growth.standings.baseline_mean(rung) for rung in range(session.last_rung + 1)]
    if first_telling(means) > 0:
        return  # the baseline itself has learnt too little there
    proposal = store.proposal(leader.proposal)
    if len(proposal.modules) < FEWEST:
        return  # without its only module it is the baseline
    if spent(campaign) + len(proposal.modules) * campaign.costs()[0] > allowance(campaign):
        return
    for module in proposal.modules:
        trial = planned(campaign, leader, proposal, module)
        if trial is not None:
            text = f"trains {trial.title} at rung 0, for the diagnosis of {leader.id}"
            campaign.begin(trial, KIND, text)
    store.set_effect(key, {"trial": leader.id})


def leader_of(trials: Sequence[Trial], standings: Standings) -> Trial | None:
    """Return the trial with the best effect above the baseline; None where none is above it."""
    known = [
        (evidence.delta, trial.id, trial)
        for trial in trials
        if (evidence := standings.evidence(trial)) is not None and evidence.delta > 0
    ]
    return max(known)[2] if known else None


def allowance(campaign: "Campaign") -> float:
    """Return the seconds of trainings that early ablations may take: of what is not kept back."""
    hours = campaign.session.config.budget.hours
    free = campaign.left().seconds - campaign.confirm_s() - campaign.selection_s()
    share = SHARE * hours * HOUR_S * campaign.session.slots if hours else float("inf")
    return min(share, max(0.0, free))


def spent(campaign: "Campaign") -> float:
    """Return the seconds that early ablations took so far."""
    trials = campaign.store.trials(kind=Kind.ABLATE, rung=0)
    return sum(trial.seconds or 0.0 for trial in trials if trial.split is SplitName.SEARCH_VAL)


def planned(
    campaign: "Campaign", leader: Trial, proposal: Proposal, module: Module
) -> Trial | None:
    """Return the training of a leader without one module; None where it cannot be taken out."""
    session = campaign.session
    networks = session.networks()
    assert leader.commit is not None
    whole = networks.source(leader.commit)
    try:
        source = ablated(proposal, module, whole, is_written_so=writes(proposal) == whole)
    except PlannerError:  # its other modules make no network
        return None
    if source is None:
        return None
    title = without(proposal, module).title
    commit = networks.commit(
        source,
        branch=short_id([KIND, leader.commit, module.component]),
        message=f"without {named(module)}",
        trailers={"Proposal-Id": proposal.id, "Without": module.component},
        parent=leader.commit,
    )
    campaign.store.set_effect(f"{ABLATED}/{commit}", {"component": module.component})
    trial = Trial(
        id="",
        parent=leader.id,
        branch=leader.branch,
        proposal=proposal.id,
        commit=commit,
        kind=Kind.ABLATE,
        rung=0,
        seed=session.config.explore.seed,
        split=SplitName.SEARCH_VAL,
        title=title,
        iterations=session.iterations[0],
        planned_at=session.now,
        network_hash=network_hash(source),
        batch_size=leader.batch_size,
    )
    return replace(trial, id=trial_id(trial))
