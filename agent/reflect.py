"""What one trial taught, in two sentences, by rule: what changed, and how the result moved.

A lesson cites its trials and carries its effect with a standard error; one without a trial
is never written.
"""

from collections.abc import Sequence

from agent.standings import SEARCH, Standings
from memory.records import Event, Lesson, Status, Trial, short_id
from memory.store import Store


def lesson_of(store: Store, trial: Trial, *, now: float) -> Lesson | None:
    """Return the lesson of a finished trial of the search; None for any other."""
    if trial.proposal is None or trial.kind not in SEARCH or not trial.status.is_final:
        return None
    components = tuple(sorted({m.component for m in store.proposal(trial.proposal).modules}))
    if trial.failure_class == "stopped":
        return stopped(trial, components, store.events(kind="cut"), now=now)
    if trial.status is not Status.OK:
        text = (
            f"{trial.title} ended {trial.status} at rung {trial.rung}: "
            f"{trial.failure_excerpt or trial.failure_class}. It says nothing about the idea."
        )
        return Lesson(made_id(trial), "trial", text, (trial.id,), None, None, components, now)
    evidence = Standings(store).evidence(trial)
    if evidence is None:
        return None
    moved = "above" if evidence.delta > 0 else "below"
    text = (
        f"{trial.title} ended {abs(evidence.delta):.4f} Dice {moved} nnU-Net's default at rung "
        f"{trial.rung} (standard error {evidence.se:.4f}). "
        f"It is better with probability {evidence.p_better:.2f}."
    )
    known = (evidence.delta, evidence.se)
    return Lesson(made_id(trial), "trial", text, (trial.id,), *known, components, now)


def stopped(
    trial: Trial, components: tuple[str, ...], cuts: Sequence[Event], *, now: float
) -> Lesson:
    """Return the lesson of a training that was stopped at its checkpoint, with what it showed."""
    figures = next((e.figures for e in cuts if e.trial == trial.id), {})
    known = (figures.get("delta"), figures.get("se"))
    text = (
        f"{trial.title} was stopped in mid-training at rung {trial.rung}: {trial.failure_excerpt}"
    )
    return Lesson(made_id(trial), "trial", text, (trial.id,), *known, components, now)


def made_id(trial: Trial) -> str:
    """Return the identifier of a trial's lesson."""
    return short_id(["lesson", trial.id])
