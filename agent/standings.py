"""What the store's rows say about each trial: means and paired evidence.

Reads rows, writes nothing. Search compares on search-val, at the same rung and with the same
batch size, with the baseline's repeats; nothing here reads a score of the locked test.

A `Standings` may live as long as a campaign: `refresh` reads what changed since the last time,
and nothing else. One that is never refreshed shows the baselines as they were when it was made.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from statistics import fmean
from typing import NamedTuple

from agent.comparison import Comparison
from agent.evidence import CaseMeans, Evidence, SeedSpread, seed_spread
from agent.readings import Readings, Scored
from memory.errors import ExploreError
from memory.records import Kind, Metric, SplitName, Status, Trial
from memory.store import Store
from sandbox.means import defined_means

OWN_SPREAD = 3
FEWEST = 2
AT_ONCE = 1000  # trials whose scores are in memory together
SEARCH = (Kind.DRAFT, Kind.IMPROVE, Kind.REPAIR)

Basis = tuple[SeedSpread, dict[int, CaseMeans]]


class Setup(NamedTuple):
    """What both sides of a comparison share; a `batch_size` of None is the planned one."""

    rung: int
    batch_size: int | None = None


def setup_of(trial: Trial) -> Setup:
    """Return what a trial has in common with the baselines it is compared with."""
    return Setup(trial.rung, trial.batch_size)


def is_scored(trial: Trial) -> bool:
    """Tell whether a trial is one of the search that has scores."""
    is_open = trial.split is SplitName.SEARCH_VAL and not trial.fold
    return trial.status is Status.OK and trial.kind in SEARCH and is_open


class Standings:
    """Evidence for every finished trial of the search; each trial's scores are read once.

    For the thread of its store alone.
    """

    def __init__(self, store: Store) -> None:
        """Read the baseline's repeats; the search's trials are read when asked for."""
        self.store = store
        self.cases = [case.case for case in store.split(SplitName.SEARCH_VAL)]
        self._wanted = set(self.cases)
        self.means: dict[str, CaseMeans] = {}
        self.baseline: dict[Setup, dict[int, CaseMeans]] = {}
        self.unfinished: set[Setup] = set()
        self.mark = 0
        self._changed: dict[str, Trial] = {}
        self._found: dict[str, Evidence] = {}
        self._of_setup: dict[Setup, set[str]] = {}
        self._comparisons: dict[Setup, Comparison] = {}
        self._readings = Readings(store)
        self._read_baselines()

    def refresh(self) -> list[Trial]:
        """Read what the store has learnt since the last call.

        Returns:
            The trials that are new or changed, all of them at the first call; after a change of
            the baselines also those whose evidence changed with it. The first call has the order
            of `Store.trials`.
        """
        self._catch_up()
        changed, self._changed = self._changed, {}
        return list(changed.values())

    def case_means(self, trial: Trial) -> CaseMeans:
        """Return each case's Dice, averaged over its defined classes; None where undefined."""
        if trial.id not in self.means:
            self.means.update(self._case_means([trial.id]))
        return self.means.get(trial.id, dict.fromkeys(self.cases))

    def spread(self, setup: Setup) -> SeedSpread:
        """Return the seed SD of the baseline's mean Dice at a rung with a batch size.

        Short trainings scatter more than long ones, so a rung with three repeats or more
        stands for itself; with fewer, all are pooled.
        """
        own = self.baseline[setup]
        return seed_spread([own] if len(own) >= OWN_SPREAD else self.baseline.values())

    def baseline_mean(self, rung: int, batch_size: int | None = None) -> float:
        """Return the baseline's mean Dice at a rung, over cases and seeds.

        Raises:
            ExploreError: no baseline finished at that rung.
        """
        runs = self.baseline.get(Setup(rung, batch_size))
        if not runs:
            raise ExploreError(f"no baseline has finished at rung {rung}; `run` trains it first")
        values = [v for scores in runs.values() for v in scores.values() if v is not None]
        return fmean(values)

    def evidence(self, trial: Trial) -> Evidence | None:
        """Return a finished search trial's evidence; None where there is nothing to compare.

        Raises:
            ExploreError: no seed SD can be estimated, or too few of its cases are defined.
        """
        if not is_scored(trial) or not self.is_ready(setup_of(trial)):
            return None
        if trial.id not in self._found:
            self._keep(trial, self.case_means(trial))
        return self._found[trial.id]

    def is_ready(self, setup: Setup) -> bool:
        """Tell whether the baselines to compare with are there, for a smaller batch all of them."""
        runs = self.baseline.get(setup, {})
        if setup.batch_size is None:
            return bool(runs)
        return len(runs) >= FEWEST and setup not in self.unfinished

    def scored(self) -> tuple[Scored, ...]:
        """Return the search's trials that have evidence, with their modules, by id.

        Reads what changed as `refresh` does, whose next call still returns it.
        """
        self._catch_up()
        return self._readings.scored(self._found)

    def _catch_up(self) -> None:
        """Take in what changed; keep it for the next `refresh`."""
        ids, self.mark = self.store.changes(self.mark)
        trials = {trial.id: trial for trial in self.store.trials_by_id(ids)} if ids else {}
        if any(trial.kind is Kind.BASELINE for trial in trials.values()):
            stale = self._read_baselines() - trials.keys()
            trials |= {trial.id: trial for trial in self.store.trials_by_id(stale)}
        self._measure([trial for trial in trials.values() if is_scored(trial)])
        self._changed |= trials

    def _measure(self, trials: list[Trial]) -> None:
        """Keep the evidence of trials that have some and none yet."""
        for trial in trials:
            self._of_setup.setdefault(setup_of(trial), set()).add(trial.id)
            self._readings.add(trial)
        for start in range(0, len(trials), AT_ONCE):
            due = [t for t in trials[start : start + AT_ONCE] if self._is_due(t)]
            means = self._case_means([trial.id for trial in due])
            for trial in due:
                with suppress(ExploreError):  # `evidence` raises it when asked for this trial
                    self._keep(trial, means.get(trial.id, dict.fromkeys(self.cases)))

    def _is_due(self, trial: Trial) -> bool:
        return trial.id not in self._found and self.is_ready(setup_of(trial))

    def _keep(self, trial: Trial, means: CaseMeans) -> None:
        """Measure a trial against its baselines."""
        setup = setup_of(trial)
        if setup not in self._comparisons:
            self._comparisons[setup] = Comparison(self.baseline[setup], self.spread(setup))
        self._found[trial.id] = self._comparisons[setup].evidence(trial.seed, means)
        self._of_setup.setdefault(setup, set()).add(trial.id)

    def _case_means(self, ids: Collection[str]) -> dict[str, CaseMeans]:
        """Return the Dice of each case of search-val, by trial; trials without scores are left out."""
        rows = self.store.metric_values(ids, Metric.DICE) if ids else []
        return {trial: self._aligned(own) for trial, own in groupby(rows, key=itemgetter(0))}

    def _aligned(self, rows: Iterable[tuple[str, str, float | None]]) -> CaseMeans:
        own = [(case, value) for _, case, value in rows]
        by_case: CaseMeans = dict(own)
        if len(by_case) < len(own):  # several classes
            by_case = defined_means(own)
        if by_case.keys() == self._wanted:
            return by_case
        return {case: by_case.get(case) for case in self.cases}

    def _read_baselines(self) -> set[str]:
        """Read the baselines; return the trials whose evidence is another one now, and drop it."""
        before = dict(self._bases())
        self.baseline, self.unfinished = {}, set()
        for trial in self.store.trials(kind=Kind.BASELINE):
            if trial.status is Status.OK:
                own = self.baseline.setdefault(setup_of(trial), {})
                own[trial.seed] = self.case_means(trial)
            elif not trial.status.is_final:
                self.unfinished.add(setup_of(trial))
        after = dict(self._bases())
        setups = {s for s in before.keys() | after.keys() if before.get(s) != after.get(s)}
        stale: set[str] = set()
        for setup in setups:
            self._comparisons.pop(setup, None)
            stale |= self._of_setup.get(setup, set())
        for trial_id in stale:
            self._found.pop(trial_id, None)
        return stale

    def _bases(self) -> Iterator[tuple[Setup, Basis]]:
        """Yield what the evidence of each setup rests on, where there is any."""
        for setup in filter(self.is_ready, self.baseline):
            try:
                yield setup, (self.spread(setup), self.baseline[setup])
            except ExploreError:
                continue
