"""Which trials are cut: the decisions alone say so, the last one about a trial being the valid one."""

from collections.abc import Collection, Iterable

from memory.records import Event, Trial
from memory.store import Store

# A result ends what was said about the trial before: a training that was to stop and ended first.
NOTHING_LEFT = "no_proposal"
ABOUT = ("cut", "promote", "improve", "crossover", "repeat", "trial_result")


class Cuts:
    """The trials whose last cut no later decision took back; kept up event by event.

    `spent` holds those of which the planner had nothing left to make.
    """

    def __init__(self, store: Store) -> None:
        """Know nothing yet; `refresh` reads."""
        self.store = store
        self.trials: set[str] = set()
        self.spent: set[str] = set()
        self._after = 0

    def refresh(self) -> set[str]:
        """Read the decisions since the last call; return the trials they were about."""
        about = set()
        for number, kind, trial in self.store.event_trials(
            (*ABOUT, NOTHING_LEFT), after=self._after
        ):
            self._after = number
            about.add(trial)
            if kind == NOTHING_LEFT:
                self.spent.add(trial)
            else:
                note(self.trials, kind, trial)
        return about


def note(cut: set[str], kind: str, trial: str) -> None:
    """Take a decision about a trial, one of `ABOUT`, into the set of those that are cut."""
    if kind == "cut":
        cut.add(trial)
    else:
        cut.discard(trial)


def cut_by(events: Iterable[Event]) -> set[str]:
    """Return the trials that are cut after some events, oldest first."""
    cut: set[str] = set()
    for event in events:
        if event.trial is not None and event.kind in ABOUT:
            note(cut, event.kind, event.trial)
    return cut


def cut_trials(store: Store) -> set[str]:
    """Return the trials that are cut now."""
    cuts = Cuts(store)
    cuts.refresh()
    return cuts.trials


def is_cut(trial: Trial, cut: Collection[str]) -> bool:
    """Tell whether a trial is cut: by the last decision about it, or in mid-training."""
    return trial.id in cut or trial.failure_class == "stopped"
