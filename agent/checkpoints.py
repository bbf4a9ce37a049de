"""What checkpoints showed, in the store; and which training they end.

The event `checkpoint` holds each case's mean Dice, for the baseline's trainings and for those of
the search; `agent/early_stop.py` compares the two. A training that stops gets a `cut` with its
figures, written down before it is told. Each look is taken once, however often it is read.
"""

from collections.abc import Callable

from agent.early_stop import Verdict, judge
from agent.evidence import CaseMeans, SeedSpread, seed_spread
from agent.margins import search_margin
from agent.search_tree import DECISIONS
from agent.session import Session
from agent.standings import FEWEST, OWN_SPREAD, SEARCH, Standings, setup_of
from agent.trials import checkpoint_of, read_scores
from memory.errors import ExploreError
from memory.records import Event, Figures, Kind, Metric, Status, Trial
from memory.store import Store
from sandbox.means import case_mean

# As much as an effect moves from one rung to the next (`Tree.rung_sd`): the rest of one training
# may change no less, for its learning rate has yet to fall.
LINK_SD = 0.01


def listener(
    session: Session, store: Store, trial: Trial
) -> Callable[[Figures], str | None] | None:
    """Return what takes a trial's checkpoint, and answers why it stops; None without a checkpoint.

    It is called by the thread that owns `store`; a second call changes nothing and answers the
    same.
    """
    if not checkpoint_of(session, trial):
        return None
    return lambda said: take(session, store, trial, said)


def take(session: Session, store: Store, trial: Trial, said: Figures) -> str | None:
    """Store what a checkpoint showed; return why its training stops, or None if it goes on."""
    key = effect_key(trial.id)
    known = store.effect(key)
    if known is None:
        found = with_means(session, trial, said)
        verdict = judged(session, store, trial, found)
        events = events_of(trial, found, verdict, at=session.now)
        with store.transaction():
            looked, *cut = [store.add_event(event) for event in events]
            known = store.set_effect(key, {"event": looked, "cut": cut[0] if cut else None})
    return None if known["cut"] is None else store.event(known["cut"]).text


def effect_key(trial: str) -> str:
    """Return the key under which the store knows that a trial's checkpoint was taken."""
    return f"checkpoint/{trial}"


def with_means(session: Session, trial: Trial, said: Figures) -> Figures:
    """Return what was seen at a checkpoint, scores as each case's mean Dice over its classes."""
    found = {name: value for name, value in said.items() if name != "scores"}
    if "scores" in said:
        means = case_mean(read_scores(trial.id, said["scores"]), Metric.DICE)
        found["case_means"] = {case: means.get(case) for case in session.cases(trial.split)}
    return found


def judged(session: Session, store: Store, trial: Trial, found: Figures) -> Verdict | None:
    """Return the verdict on a trial of the search; None where there is nothing to judge.

    Not judged: what has ended meanwhile; a network that has scores at this rung already, as it
    runs again to be measured better; one with fewer than two baselines at the same checkpoint.
    """
    is_done = session.executor.state(session.trial_folder(trial.id)) == "done"
    peers = store.trials(rung=trial.rung, status=Status.OK)
    is_again = any(peer.commit == trial.commit for peer in peers)
    if is_done or is_again or trial.kind not in SEARCH or "case_means" not in found:
        return None
    baseline = baseline_runs(store, trial, found["iteration"])
    if len(baseline) < FEWEST:
        return None
    standings = Standings(store)
    try:
        return judge(
            found["case_means"],
            baseline,
            bar=bar(store),
            margin=search_margin(store, session.config),
            cut_below=session.config.explore.cut_below,
            link_sd=LINK_SD,
            spread=spread(standings, baseline),
        )
    except ExploreError:  # too few cases have a score in every run
        return None


def baseline_runs(store: Store, trial: Trial, iteration: int) -> dict[int, CaseMeans]:
    """Return the baseline's case means by seed at a checkpoint, of the trial's rung and batch."""
    found = {}
    for other in store.trials(kind=Kind.BASELINE, rung=trial.rung, status=Status.OK):
        seen = checkpoint_figures(store, other)
        if setup_of(other) == setup_of(trial) and seen.get("iteration") == iteration:
            found[other.seed] = seen.get("case_means")
    return {seed: means for seed, means in found.items() if means is not None}


def checkpoint_figures(store: Store, trial: Trial) -> Figures:
    """Return what a trial's checkpoint showed; empty where it has none."""
    known = store.effect(effect_key(trial.id))
    return store.event(known["event"]).figures if known else {}


def spread(standings: Standings, baseline: dict[int, CaseMeans]) -> SeedSpread:
    """Return the seed SD at a checkpoint; with few runs, pooled with the ends of all rungs."""
    has_own = len(baseline) >= OWN_SPREAD
    return seed_spread([baseline] if has_own else [baseline, *standings.baseline.values()])


def bar(store: Store) -> float:
    """Return the best network's effect in Dice, as the search's last decision had it; else 0."""
    last = store.last_event(DECISIONS)
    return float(last.figures.get("bar", 0.0)) if last else 0.0


def events_of(trial: Trial, found: Figures, verdict: Verdict | None, *, at: float) -> list[Event]:
    """Return the event of a look, and of the cut that follows from it."""
    where = f"{trial.id} at iteration {found['iteration']} of {trial.iterations}"
    figures = {**found, "iterations": trial.iterations}
    figures["verdict"] = verdict.figures if verdict else None
    said = verdict.text if verdict else found.get("failed", "its scores are kept")
    looked = Event("checkpoint", f"looks at {where}: {said}", figures, trial.id, trial.branch, at)
    if verdict is None or not verdict.is_stopped:
        return [looked]
    why = {"reason": "checkpoint", "closes_branch": False}
    why |= {"iteration": found["iteration"], "iterations": trial.iterations}
    text = f"cuts {where}: {verdict.text}"
    return [looked, Event("cut", text, verdict.figures | why, trial.id, trial.branch, at)]
