"""What the store's rows say about each trial: means, paired evidence, effects of components.

Reads rows, writes nothing. Search compares on search-val, at the same rung and with the same
batch size, with the baseline's repeats; nothing here reads a score of the locked test.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

from agent.evidence import CaseMeans, Evidence, SeedSpread, measure, seed_spread
from memory.errors import ExploreError
from memory.records import Kind, Metric, SplitName, Status, Trial
from memory.store import Store
from sandbox.scoring import case_mean

OWN_SPREAD = 3
FEWEST = 2
SEARCH = (Kind.DRAFT, Kind.IMPROVE, Kind.REPAIR)


class Setup(NamedTuple):
    """What both sides of a comparison share; a `batch_size` of None is the planned one."""

    rung: int
    batch_size: int | None = None


def setup_of(trial: Trial) -> Setup:
    """Return what a trial has in common with the baselines it is compared with."""
    return Setup(trial.rung, trial.batch_size)


class Standings:
    """Evidence for every finished trial of the search; each trial's scores are read once."""

    def __init__(self, store: Store) -> None:
        """Read the baseline's repeats; the search's trials are read when asked for."""
        self.store = store
        self.cases = [case.case for case in store.split(SplitName.SEARCH_VAL)]
        self.means: dict[str, CaseMeans] = {}
        self.baseline: dict[Setup, dict[int, CaseMeans]] = {}
        self.unfinished: set[Setup] = set()
        for trial in store.trials(kind=Kind.BASELINE):
            if trial.status is Status.OK:
                own = self.baseline.setdefault(setup_of(trial), {})
                own[trial.seed] = self.case_means(trial)
            elif not trial.status.is_final:
                self.unfinished.add(setup_of(trial))

    def case_means(self, trial: Trial) -> CaseMeans:
        """Return each case's Dice, averaged over its defined classes; None where undefined."""
        if trial.id not in self.means:
            found = case_mean(self.store.case_scores(trial.id), Metric.DICE)
            self.means[trial.id] = {case: found.get(case) for case in self.cases}
        return self.means[trial.id]

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
        """Return a finished search trial's evidence; None where there is nothing to compare."""
        setup = setup_of(trial)
        if trial.status is not Status.OK or trial.kind not in SEARCH or not self.is_ready(setup):
            return None
        runs, spread = self.baseline[setup], self.spread(setup)
        return measure({trial.seed: self.case_means(trial)}, runs, spread=spread)

    def is_ready(self, setup: Setup) -> bool:
        """Tell whether the baselines to compare with are there, for a smaller batch all of them."""
        runs = self.baseline.get(setup, {})
        if setup.batch_size is None:
            return bool(runs)
        return len(runs) >= FEWEST and setup not in self.unfinished

    def component_effects(self) -> Mapping[str, float]:
        """Return each component's mean effect in Dice so far, drawn towards 0 by one trial."""
        proposals = {p.id: p for p in self.store.proposals()}
        seen: dict[str, list[float]] = {}
        for trial in self.store.trials(status=Status.OK):
            evidence = self.evidence(trial)
            if evidence is None or trial.proposal is None:
                continue
            for module in proposals[trial.proposal].modules:
                seen.setdefault(module.component, []).append(evidence.delta)
        return {name: sum(deltas) / (len(deltas) + 1) for name, deltas in sorted(seen.items())}
