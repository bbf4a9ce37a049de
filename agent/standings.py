"""What the store's rows say about each trial: means, paired evidence, effects of components.

Reads rows, writes nothing. Search compares on search-val, at the same rung, with the
baseline's repeats; nothing here reads a score of the locked test.
"""

from collections.abc import Mapping
from statistics import fmean

from agent.evidence import CaseMeans, Evidence, SeedSpread, measure, seed_spread
from memory.errors import ExploreError
from memory.records import Kind, Metric, SplitName, Status, Trial
from memory.store import Store
from sandbox.scoring import case_mean

OWN_SPREAD = 3
SEARCH = (Kind.DRAFT, Kind.IMPROVE, Kind.REPAIR)


class Standings:
    """Evidence for every finished trial of the search; each trial's scores are read once."""

    def __init__(self, store: Store) -> None:
        """Read the baseline's repeats; the search's trials are read when asked for."""
        self.store = store
        self.cases = [case.case for case in store.split(SplitName.SEARCH_VAL)]
        self.means: dict[str, CaseMeans] = {}
        self.baseline: dict[int, dict[int, CaseMeans]] = {}
        for trial in store.trials(kind=Kind.BASELINE, status=Status.OK):
            self.baseline.setdefault(trial.rung, {})[trial.seed] = self.case_means(trial)

    def case_means(self, trial: Trial) -> CaseMeans:
        """Return each case's Dice, averaged over its defined classes; None where undefined."""
        if trial.id not in self.means:
            found = case_mean(self.store.case_scores(trial.id), Metric.DICE)
            self.means[trial.id] = {case: found.get(case) for case in self.cases}
        return self.means[trial.id]

    def spread(self, rung: int) -> SeedSpread:
        """Return the seed SD of the baseline's mean Dice at a rung.

        Short trainings scatter more than long ones, so a rung with three repeats or more
        stands for itself; with fewer, all rungs are pooled.
        """
        own = self.baseline[rung]
        return seed_spread([own] if len(own) >= OWN_SPREAD else self.baseline.values())

    def baseline_mean(self, rung: int) -> float:
        """Return the baseline's mean Dice at a rung, over cases and seeds.

        Raises:
            ExploreError: no baseline finished at that rung.
        """
        runs = self.baseline.get(rung)
        if not runs:
            raise ExploreError(f"no baseline has finished at rung {rung}; `run` trains it first")
        values = [v for scores in runs.values() for v in scores.values() if v is not None]
        return fmean(values)

    def evidence(self, trial: Trial) -> Evidence | None:
        """Return a finished search trial's evidence; None where there is nothing to compare."""
        runs = self.baseline.get(trial.rung)
        if trial.status is not Status.OK or trial.kind not in SEARCH or not runs:
            return None
        return measure({trial.seed: self.case_means(trial)}, runs, spread=self.spread(trial.rung))

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
