"""`segwright bench planted`: a network that is better and one that is not, confirmed for real.

A campaign on a real dataset is given two finalists that nobody had to find. Both are the
baseline itself with other seeds; of one, every training is four times as long as the campaign
believes, so that it is better. From there on everything is the campaign's own: fresh seeds beside
the baseline in sandboxes, the locked test opened once, the claims.

| key | what it is |
| --- | --- |
| confirmed.better, confirmed.equal | 1 where the claim says that an improvement was found |
| planted.better, planted.equal | difference from the baseline in points of Dice, with the claim's interval |
| locked_cases | cases that were compared |
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.campaign import Campaign
from agent.config import parse_config
from agent.confirm import confirm
from agent.graph import replace_id
from agent.new_campaign import create
from agent.planners import make_planner
from agent.preparation import make_session
from agent.session import Session
from agent.stage import FINALISTS
from agent.trials import write_text
from bench.figures import Figure
from memory.errors import SegwrightError
from memory.records import Branch, Claim, Kind, Proposal, SplitName, Trial
from memory.store import Store
from sandbox.executor import LocalExecutor

DATA = Path(__file__).parent.parent / "../shared/data/Dataset004_Hippocampus"
ITERATIONS, QUICK_ITERATIONS = 1024, 16
FACTOR, OTHER = 4, 50_000
BETTER, EQUAL = "better", "equal"
SETTINGS: dict[str, Any] = {
    "name": "planted",
    "rungs": {"count": 1, "checkpoint": 0.0},
    "confirm": {"finalists": 2},
    "selection": {"folds": 0},
    "ablation": {"seeds": 0},
}
CPU = {"configuration": "2d", "base_features": 16, "batch_size": 2}


class Planter(LocalExecutor):
    """Trains the better network `FACTOR` times as long as its job says, the equal one with another seed.

    A campaign gives both sides the same seeds: the baseline set beside itself would be the same
    trainings twice.
    """

    def submit(self, folder: Path) -> None:
        """Change the job of a planted network's trial, once, and start it."""
        path = folder / "job.json"
        job = json.loads(path.read_text())
        with Store.open(folder.parent.parent / "campaign.db", read_only=True) as store:
            name = store.trial(folder.name).proposal
        if name is not None and not job.get("is_planted"):
            longer = {key: FACTOR * job[key] for key in ("iterations", "wall_s")}
            other = longer if name == BETTER else {"seed": OTHER + job["seed"]}
            write_text(path, json.dumps(job | other | {"is_planted": True}))
        super().submit(folder)


def run(*, is_quick: bool, data: Sequence[Path], say: Any) -> dict[str, Figure]:
    """Confirm both networks and return what was claimed of them.

    Args:
        is_quick: trainings of a few iterations: every key, and nothing to conclude.
        data: the dataset, hippocampus where none is given.
        say: told what comes next.

    Raises:
        SegwrightError: there is no dataset, or no claim was made.
    """
    source = (data[0] if data else DATA).resolve()
    with tempfile.TemporaryDirectory(prefix="segwright-planted-") as place:
        folder = Path(place, "campaign")
        iterations = QUICK_ITERATIONS if is_quick else ITERATIONS
        session = opened(folder, source, iterations)
        say(f"{iterations} iterations a training, {FACTOR} times that for the better network")
        campaign = Campaign(session, make_planner(session), lambda what, detail: None)
        try:
            claims = claimed(campaign)
        finally:
            campaign.close()
    return figures(claims)


def opened(folder: Path, data: Path, iterations: int) -> Session:
    """Return the session of a new campaign with one rung."""
    rungs = {**SETTINGS["rungs"], "iterations": iterations, "min_iterations": 1}
    values = {**SETTINGS, "dataset": {"path": str(data)}, "rungs": rungs, "engine": CPU}
    config = parse_config(values)
    create(folder, config)
    with Store.open(folder / "campaign.db") as store:
        session = make_session(folder, config, store, lambda what, detail: None)
    return replace(session, executor=Planter())


def claimed(campaign: Campaign) -> dict[str, Claim]:
    """Return the claims about both networks, by their names.

    Raises:
        SegwrightError: a training failed, so that no claim was made.
    """
    trials = [planted(campaign, name) for name in (BETTER, EQUAL)]
    for trial in trials:
        campaign.begin(trial, "confirming", f"trains {trial.title} as the search would")
    campaign.baselines()
    campaign.store.set_effect(FINALISTS, {"trials": [trial.id for trial in trials]})
    confirm(campaign)
    found = {claim.finalist: claim for claim in campaign.store.claims()}
    if missing := {BETTER, EQUAL} - found.keys():
        raise SegwrightError(f"no claim about the {' and the '.join(sorted(missing))} network")
    return found


def planted(campaign: Campaign, name: str) -> Trial:
    """Return the planned trial of a network that the search might have found."""
    session, store = campaign.session, campaign.store
    title = f"the planted {name} network"
    proposal = Proposal(name, title, "Planted.", (), "The locked test.", (), "planted")
    store.add_proposal(proposal)
    store.add_branch(Branch(name, name, "open", session.now))
    trial = Trial(
        id="",
        parent=None,
        branch=name,
        proposal=name,
        commit=None,
        kind=Kind.DRAFT,
        rung=session.last_rung,
        seed=session.config.explore.seed,
        split=SplitName.SEARCH_VAL,
        title=title,
        iterations=session.iterations[-1],
        planned_at=session.now,
    )
    return replace_id(trial)


def figures(claims: dict[str, Claim]) -> dict[str, Figure]:
    """Return what was claimed of each network, and of how many cases."""
    found: dict[str, Figure] = {}
    for name in (BETTER, EQUAL):
        own = claims[name].figures
        is_claimed = float(own["is_improvement"])
        found[f"confirmed.{name}"] = Figure(is_claimed, is_claimed, is_claimed, "1")
        delta, low, high = (100 * own[part] for part in ("delta", "low", "high"))
        found[f"planted.{name}"] = Figure(delta, low, high, "points")
        cases = float(own["n_cases"])
    return found | {"locked_cases": Figure(cases, cases, cases, "cases")}
