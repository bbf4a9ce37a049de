"""What a report reads from the store, read once, and the arithmetic on it.

Pure after `read_rows`. Scores are per case and class; a case's mean over classes leaves out
the classes that are undefined there (empty in reference and prediction), and is undefined
where all are. Over seeds it is stricter, as for a claim: a case counts where every seed
has a value.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.confirmed_sources import read_sources
from agent.curves import Losses, kept_curves
from agent.cuts import cut_by, is_cut
from agent.found_references import FOUND, papers_in
from agent.intervals import Interval, crossed_interval
from agent.llm_rows import Language, read_language
from agent.papers import Paper
from memory.recall import readable
from memory.records import (
    Branch,
    Campaign,
    CaseScore,
    Claim,
    Event,
    Figures,
    Kind,
    Lesson,
    LlmCall,
    Metric,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    TestAccess,
    Trial,
)
from memory.store import Store

PROSE = "prose/"
"""How the keys of effects begin that hold sections in a model's words."""

MEAN_LABEL = "mean"
BASELINE_ARM = "baseline"
CaseValues = dict[str, float]
VERDICT_ORDER = (
    *("better_by_margin", "better", "not_worse_and_cheaper", "not_distinguishable"),
    *("exploratory", "worse"),
)
SEARCH_KINDS = (Kind.DRAFT, Kind.IMPROVE, Kind.REPAIR)


class Arm(NamedTuple):
    """One side of the confirmation: `key` is "baseline" or a proposal's id.

    A baseline with a batch that the best finalist does not have is "baseline-BATCH", where
    BATCH is "planned" for the planned one. `batch_size` None is the planned one.
    """

    key: str
    trials: tuple[Trial, ...]

    @property
    def batch_size(self) -> int | None:
        """Samples an iteration; None as planned."""
        return self.trials[0].batch_size

    @property
    def is_baseline(self) -> bool:
        """True for nnU-Net's default network."""
        return self.trials[0].proposal is None


@dataclass(frozen=True)
class Rows:
    """Everything that a report is made of. Nothing else may enter a fact or a figure."""

    campaign: Campaign
    split: tuple[SplitCase, ...]
    trials: tuple[Trial, ...]
    scores: Mapping[str, tuple[CaseScore, ...]]
    proposals: Mapping[str, Proposal]
    branches: tuple[Branch, ...]
    events: tuple[Event, ...]
    claims: tuple[Claim, ...]
    accesses: tuple[TestAccess, ...]
    llm_calls: tuple[LlmCall, ...]
    language: Language | None = None
    lessons: tuple[Lesson, ...] = ()
    prose: Mapping[str, Figures] = field(default_factory=dict)
    papers: tuple[Paper, ...] = ()
    curves: Mapping[str, Losses] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    _values: dict[tuple[str, Metric], dict[str, dict[str, float]]] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """True when the subjects were simulated, which every export has to say."""
        return bool(self.campaign.dataset.get("simulated", False))

    @cached_property
    def by_id(self) -> dict[str, Trial]:
        """The trials by their identifiers."""
        return {trial.id: trial for trial in self.trials}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes that were scored, in the dataset's order."""
        seen = {score.label for scores in self.scores.values() for score in scores}
        named = [str(name) for name in self.campaign.dataset.get("labels", ())]
        return tuple([n for n in named if n in seen] + sorted(seen - set(named)))

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The confirmation's arms with scores: baselines first, then finalists, the best first."""
        own: dict[str, list[Trial]] = {}
        base: dict[int | None, list[Trial]] = {}
        for trial in self.trials:
            if trial.kind is Kind.CONFIRM and trial.status is Status.OK:
                side = base.setdefault(trial.batch_size, []) if trial.proposal is None else None
                (own.setdefault(trial.proposal or "", []) if side is None else side).append(trial)
        order = [c.key for c in self.ranked_claims]
        keys = sorted(own, key=lambda k: (order.index(k) if k in order else len(order), k))
        first = own[keys[0]][0].batch_size if keys else None
        main = first if first in base else next(iter(base), None)
        batches = sorted(base, key=lambda b: (b != main, b or 0))
        names = [BASELINE_ARM if b == main else f"{BASELINE_ARM}-{b or 'planned'}" for b in batches]
        arms = [Arm(n, tuple(base[b])) for n, b in zip(names, batches, strict=True)]
        return (*arms, *(Arm(key, tuple(own[key])) for key in keys))

    @cached_property
    def finalists(self) -> tuple[Arm, ...]:
        """The arms that have a baseline of their batch size to be compared with."""
        return tuple(a for a in self.arms if not a.is_baseline and self._bases(a))

    def _bases(self, arm: Arm) -> list[Arm]:
        return [a for a in self.arms if a.is_baseline and a.batch_size == arm.batch_size]

    def reference(self, arm: Arm) -> Arm:
        """Return the baseline's arm that a finalist is compared with."""
        return self._bases(arm)[0]

    @cached_property
    def ranked_claims(self) -> tuple["RankedClaim", ...]:
        """The claims, the strongest verdict first, each with the proposal it is about."""
        ranked = [RankedClaim(self._claim_key(c), c) for c in self.claims]
        return tuple(sorted(ranked, key=RankedClaim.order))

    def _claim_key(self, claim: Claim) -> str:
        trial = self.by_id.get(claim.trials[0]) if claim.trials else None
        return (trial.proposal if trial else None) or claim.finalist

    def of(self, kind: Kind, *, rung: int | None = None, ok: bool = True) -> tuple[Trial, ...]:
        """Return the trials of a kind, by default the finished ones with scores."""
        return tuple(
            t
            for t in self.trials
            if t.kind is kind
            and (rung is None or t.rung == rung)
            and (t.status is Status.OK or not ok)
        )

    def baselines(
        self, rung: int, batch_size: int | None = None, *, ok: bool = True
    ) -> tuple[Trial, ...]:
        """Return the baseline's trials at a rung with a batch size, None for the planned one."""
        found = self.of(Kind.BASELINE, rung=rung, ok=ok)
        return tuple(t for t in found if t.batch_size == batch_size)

    def setups(self) -> tuple[tuple[int, int | None], ...]:
        """Return the rungs and batch sizes that have a finished baseline, planned ones first."""
        found = {(t.rung, t.batch_size) for t in self.of(Kind.BASELINE)}
        return tuple(sorted(found, key=lambda s: (s[0], s[1] is not None, -(s[1] or 0))))

    def search_trials(self) -> tuple[Trial, ...]:
        """Return the trials of proposals on the search split, whatever became of them."""
        return tuple(t for t in self.trials if t.kind in SEARCH_KINDS)

    def rungs(self) -> tuple[int, ...]:
        """Return the rungs that have a finished baseline as planned, lowest first."""
        return tuple(rung for rung, batch in self.setups() if batch is None)

    def cases(self, name: SplitName) -> tuple[SplitCase, ...]:
        """Return the cases of one part of the split."""
        return tuple(case for case in self.split if case.split is name)

    def trial_values(self, trial: str, metric: Metric) -> dict[str, dict[str, float]]:
        """Return {class: {case: value}} of a trial, NaN where undefined, with the class mean."""
        key = (trial, metric)
        if key not in self._values:
            self._values[key] = _by_label(self.scores.get(trial, ()), metric)
        return self._values[key]


class RankedClaim(NamedTuple):
    """A claim and the identifier of the proposal that it is about."""

    key: str
    claim: Claim

    def order(self) -> tuple[int, int, float, str]:
        """Return the sort key: Dice first, then the verdict, the larger difference, the id."""
        verdict = self.claim.verdict
        place = VERDICT_ORDER.index(verdict) if verdict in VERDICT_ORDER else len(VERDICT_ORDER)
        delta = self.claim.figures.get("delta")
        size = float(delta) if isinstance(delta, int | float) else 0.0
        return (int(self.claim.metric is not Metric.DICE), place, -size, self.claim.id)


def read_rows(store: Store) -> Rows:
    """Read from a store what a report needs."""
    trials = tuple(store.trials())
    finished = [t for t in trials if t.status is Status.OK]
    calls, events = tuple(store.llm_calls()), tuple(store.events())
    return Rows(
        campaign=store.campaign(),
        split=tuple(sorted(store.split(), key=lambda c: c.case)),
        trials=trials,
        scores={t.id: tuple(store.case_scores(t.id)) for t in finished},
        proposals={p.id: p for p in store.proposals()},
        branches=tuple(store.branches()),
        events=events,
        claims=tuple(store.claims()),
        accesses=tuple(store.test_accesses()),
        llm_calls=calls,
        language=read_language(store, calls, events),
        lessons=tuple(readable(store, [one.id for one in store.lessons("campaign")])),
        prose=store.effects(PROSE),
        papers=papers_in(store.effects(FOUND)),
        curves=kept_curves(store),
        sources=read_sources(store.path.parent / "networks", trials),
    )


def _by_label(scores: Iterable[CaseScore], metric: Metric) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    cases: dict[str, list[float]] = {}
    for score in scores:
        if score.metric is not metric:
            continue
        value = math.nan if score.value is None else score.value
        found.setdefault(score.label, {})[score.case] = value
        cases.setdefault(score.case, []).append(value)
    found[MEAN_LABEL] = {case: _mean(values) for case, values in cases.items()}
    return found


def _mean(values: Iterable[float]) -> float:
    defined = [v for v in values if not math.isnan(v)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def seed_mean(rows: Rows, trials: Sequence[Trial], metric: Metric, label: str) -> CaseValues:
    """Return each case's value averaged over trials that differ in their seed only.

    Args:
        rows: what the store holds.
        trials: finished trials of one arm.
        metric: the score.
        label: a class, or "mean" for the mean over classes.

    Returns:
        {case: value}, NaN where undefined in any trial; the cases that every trial has, sorted.
    """
    tables = [rows.trial_values(t.id, metric).get(label, {}) for t in trials]
    shared = set(tables[0]).intersection(*tables) if tables else set()
    return {case: math.fsum(t[case] for t in tables) / len(tables) for case in sorted(shared)}


def difference(candidate: CaseValues, reference: CaseValues) -> CaseValues:
    """Return candidate minus reference for the cases of both, NaN where either is undefined."""
    return {case: candidate[case] - reference[case] for case in candidate if case in reference}


def scores_of(
    rows: Rows, trials: Sequence[Trial], metric: Metric, label: str, cases: Sequence[str]
) -> NDArray[np.float64]:
    """Return the scores of trials as float (seeds, cases), NaN where undefined."""
    tables = [rows.trial_values(t.id, metric).get(label, {}) for t in trials]
    return np.array([[table.get(case, math.nan) for case in cases] for table in tables])


def mean_interval(rows: Rows, trials: Sequence[Trial], metric: Metric, label: str) -> Interval:
    """Return the mean of one arm over cases, with the interval of cases and seeds."""
    cases = list(seed_mean(rows, trials, metric, label))
    return crossed_interval([scores_of(rows, trials, metric, label, cases)])


def gain_interval(
    rows: Rows, trials: Sequence[Trial], reference: Sequence[Trial], metric: Metric, label: str
) -> Interval:
    """Return the mean paired difference of two arms, with the interval of cases and seeds."""
    shared = seed_mean(rows, trials, metric, label).keys()
    cases = sorted(shared & seed_mean(rows, reference, metric, label).keys())
    if not cases:
        return Interval(math.nan, math.nan, math.nan, 0)
    arms = (trials, reference)
    return crossed_interval([scores_of(rows, arm, metric, label, cases) for arm in arms])


def seed_means(rows: Rows, trials: Sequence[Trial], metric: Metric) -> list[float]:
    """Return the mean over cases of each trial; NaN where nothing is defined."""
    return [_mean(rows.trial_values(t.id, metric)[MEAN_LABEL].values()) for t in trials]


def seed_sd(rows: Rows, trials: Sequence[Trial], metric: Metric) -> float:
    """Return the standard deviation over seeds of the mean over cases; NaN below two seeds."""
    defined = [m for m in seed_means(rows, trials, metric) if not math.isnan(m)]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan


def trial_batch(rows: Rows, trial: Trial) -> int:
    """Return the samples an iteration of a trial; 0 before the protocol says it."""
    return trial.batch_size or int(rows.campaign.protocol.get("batch_size", 0))


def search_delta(rows: Rows, trial: Trial, metric: Metric = Metric.DICE) -> Interval:
    """Return a trial's paired difference from the seed-averaged baseline of its setup."""
    reference = rows.baselines(trial.rung, trial.batch_size)
    return gain_interval(rows, [trial], reference, metric, MEAN_LABEL)


def branch_letters(rows: Rows) -> dict[str, str]:
    """Return the letter that names each branch in pictures and tables: A to Z, AA and on."""
    return {branch.id: _letter(place) for place, branch in enumerate(rows.branches)}


def _letter(place: int) -> str:
    head, last = divmod(place, 26)
    return (_letter(head - 1) if head else "") + chr(ord("A") + last)


def cut_trials(rows: Rows) -> set[str]:
    """Return the trials whose last cut no later decision took back."""
    cut = cut_by(rows.events)
    return {trial.id for trial in rows.trials if is_cut(trial, cut)}
