"""Ablations, carried out: trained for what was confirmed, scored within the one opening, told.

Finalists whose claim is not "better" get none: their planned trials are cancelled. Trainings on
the locked test come first, seed by seed, so that arms stay level. Before each round of seeds the
time left must hold it, and before the first of a part two of them, without which nothing is
compared; what is left out is cancelled, and an event has the figures. Differences are secondary:
an interval each, no verdict, and a network that is better without a module is never promoted.
"""

import math
from collections.abc import Sequence

from agent.ablation import LEFT_OUT, PARTS, RESULT, Ablation, module_figures, named, open_trials
from agent.campaign import REPORT_S, Campaign
from agent.claim_rows import patients_of, scores_of
from agent.claims import compare
from agent.locked import score_locked
from agent.score_table import Table, columns, is_comparable, table
from agent.session import Session
from memory.records import Event, Figures, Kind, SplitName, Status, Trial
from memory.store import Store

CONFIRMED = ("better", "better_by_margin")
FEWEST = 2


def ablate(campaign: Campaign, ablations: Sequence[Ablation]) -> bool:
    """Carry out the ablations of confirmed finalists, cancel the others; False when stopped."""
    store, session = campaign.store, campaign.session
    verdicts = verdicts_of(store)
    for finalist in dict.fromkeys(one.finalist for one in ablations):
        if verdicts.get(finalist) not in CONFIRMED:
            own = [one for one in ablations if one.finalist == finalist]
            cancel(store, own, unconfirmed(store.trial(finalist), verdicts, at=session.now))
    chosen = [one for one in ablations if verdicts.get(one.finalist) in CONFIRMED]
    for part in PARTS:
        train_part(campaign, chosen, part)
    campaign.drain()
    if session.stopping.is_set():
        return False
    score_locked(session, store, open_trials(store, chosen))
    for one in chosen:
        for part in PARTS if one.module is not None else ():
            tell(session, store, one, part, whole=whole_trials(store, chosen, one, part))
    return True


def verdicts_of(store: Store) -> dict[str, str]:
    """Return the verdict of each claim by the trial that its finalist was chosen as."""
    return {str(store.trial(one.trials[0]).parent): one.verdict for one in store.claims()}


def unconfirmed(finalist: Trial, verdicts: dict[str, str], *, at: float) -> Event:
    """Return the event of a finalist that gets no ablation."""
    verdict = verdicts.get(finalist.id)
    said = verdict.replace("_", " ") if verdict else "none"
    text = f"leaves out the ablations of {finalist.title}: its claim is {said}, and not better"
    figures = {"reason": "unconfirmed", "verdict": verdict}
    return Event(LEFT_OUT, text, figures, finalist.id, finalist.branch, at)


def cancel(
    store: Store, ablations: Sequence[Ablation], event: Event, *, part: SplitName | None = None
) -> None:
    """Cancel the trials that were not begun, of one part or of all, and say why; once."""
    parts = PARTS if part is None else (part,)
    names = [name for one in ablations for each in parts for name in one.trials[each]]
    trials = waiting(store, names)
    if not trials:
        return
    figures = {**event.figures, "trials": [trial.id for trial in trials]}
    changes = {"status": Status.CANCELLED, "failure_excerpt": event.text, "ended_at": event.at}
    with store.transaction():
        store.add_event(Event(event.kind, event.text, figures, event.trial, event.branch, event.at))
        for trial in trials:
            store.record_result(trial.id, changes=changes, scores=[])


def waiting(store: Store, names: Sequence[str]) -> list[Trial]:
    """Return the trials that were neither begun nor cancelled, in the order of the names."""
    known = {trial.id: trial for trial in store.trials_by_id(names)}
    rows = [known[name] for name in names]
    return [
        trial
        for trial in rows
        if not trial.status.is_final and store.effect(f"begun/{trial.id}") is None
    ]


def train_part(campaign: Campaign, ablations: Sequence[Ablation], part: SplitName) -> None:
    """Begin the trainings of a part, a round of seeds at a time, as far as the budget holds them."""
    own = [one.trials[part] for one in ablations if one.trials[part]]
    rounds = list(zip(*own, strict=True))
    for number, names in enumerate(rounds):
        due = waiting(campaign.store, names)
        first = [name for some in rounds[:FEWEST] for name in some]
        ahead = due if number else waiting(campaign.store, first)
        if due and not holds(campaign, len(ahead)):
            cancel(campaign.store, ablations, unpaid(campaign, ablations, part), part=part)
            return
        for trial in due:
            if campaign.session.stopping.is_set():
                return
            campaign.begin(trial, "ablating", f"trains {trial.title} on {part}, seed {trial.seed}")


def holds(campaign: Campaign, count: int) -> bool:
    """Tell whether what is left of the budget holds so many more trainings."""
    slots = campaign.session.slots
    while len(campaign.running) >= slots:
        campaign.collect()
    each, ahead, free = expected_s(campaign), len(campaign.running) + count, campaign.left()
    on_gpu = each * ahead if campaign.session.device == "cuda" else 0.0
    return each * math.ceil(ahead / slots) <= free.seconds - REPORT_S and on_gpu <= free.gpu_seconds


def expected_s(campaign: Campaign) -> float:
    """Return the wall seconds that a training may take: as the longest of those like it so far."""
    campaign.growth.refresh()
    kinds = (Kind.CONFIRM, Kind.ABLATE)
    own = [t.seconds for kind in kinds for t in campaign.store.trials(kind=kind) if t.seconds]
    return max(campaign.costs()[-1], *own, 0.0)


def unpaid(campaign: Campaign, ablations: Sequence[Ablation], part: SplitName) -> Event:
    """Return the event of trainings that the budget does not hold, with the figures of that."""
    session, free, each = campaign.session, campaign.left(), expected_s(campaign)
    finalist = campaign.store.trial(ablations[0].finalist)
    figures: Figures = {
        "reason": "budget",
        "split": str(part),
        "expected_s": each,
        "slots": session.slots,
        "seconds_left": free.seconds if math.isfinite(free.seconds) else None,
        "gpu_seconds_left": free.gpu_seconds if math.isfinite(free.gpu_seconds) else None,
    }
    text = (
        f"leaves out ablations on {part}: the budget left does not hold trainings of {each:.0f} s"
    )
    return Event(LEFT_OUT, text, figures, finalist.id, finalist.branch, session.now)


def whole_trials(
    store: Store, ablations: Sequence[Ablation], one: Ablation, part: SplitName
) -> list[Trial]:
    """Return the trainings of the whole network that an ablation is set beside."""
    if part is SplitName.LOCKED_TEST:
        confirmed = store.trials(kind=Kind.CONFIRM)
        return [trial for trial in confirmed if trial.parent == one.finalist]
    whole = [a for a in ablations if a.finalist == one.finalist and a.module is None]
    return store.trials_by_id([name for a in whole for name in a.trials[part]])


def tell(
    session: Session, store: Store, one: Ablation, part: SplitName, *, whole: Sequence[Trial]
) -> None:
    """Store what an ablation found on a part, once; nothing where none of it was trained."""
    key = f"{RESULT}/{one.commit}/{part}"
    own = store.trials_by_id(one.trials[part])
    if store.effect(key) is not None or all(t.status is Status.CANCELLED for t in own):
        return
    event = found_event(session, store, one, part, arms=(scored(whole), scored(own)))
    with store.transaction():
        store.set_effect(key, {"event": store.add_event(event)})


def scored(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that have scores."""
    return [trial for trial in trials if trial.status is Status.OK]


def found_event(
    session: Session,
    store: Store,
    one: Ablation,
    part: SplitName,
    *,
    arms: tuple[list[Trial], list[Trial]],
) -> Event:
    """Return the event of the whole network beside the one without a module, on one part."""
    assert one.module is not None
    whole, own = arms
    patients = patients_of(session, part)
    found = table(scores_of(store, whole), scores_of(store, own), cases=list(patients))
    told = difference(found, patients, alpha=session.config.confirm.alpha)
    figures = {
        "finalist": one.finalist,
        "commit": one.commit,
        "module": named(one.module),
        **module_figures(one.module),
        "stages": list(one.module.stages),
        "split": str(part),
        "trials": [trial.id for trial in own],
        "whole_trials": [trial.id for trial in whole],
        "n_seeds": min(len(whole), len(own)),
        "undefined": found.undefined,
        **told,
    }
    branch = store.trial(one.finalist).branch
    text = f"{one.title}, on {part}: {worded(told)}"
    return Event(RESULT, text, figures, one.finalist, branch, session.now)


def difference(found: Table, patients: dict[str, str], *, alpha: float) -> Figures:
    """Return the whole network minus the ablated one in Dice; None where nothing is compared."""
    if not is_comparable(found, patients):
        return {"delta": None, "low": None, "high": None, "n_cases": 0, "is_higher_without": False}
    own = columns(found, patients)
    result = compare(found.candidate, found.baseline, alpha=alpha, patients=own)
    names = ("delta", "low", "high", "n_cases", "alpha")
    values = {name: getattr(result, name) for name in names}
    return {**values, "is_higher_without": result.delta < 0}


def worded(told: Figures) -> str:
    """Return what an ablation found, as the end of a sentence."""
    if told["delta"] is None:
        return "fewer than two trainings of a side have scores, so nothing is compared"
    level = 100 * (1 - told["alpha"])
    interval = f"{level:g} % interval {told['low']:+.4f} to {told['high']:+.4f}"
    text = f"the whole network minus this one is {told['delta']:+.4f} Dice ({interval})"
    higher = "; it is higher without that module, is reported so, and is not promoted"
    return f"{text}; secondary, no verdict{higher if told['is_higher_without'] else ''}"
