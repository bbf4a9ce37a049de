"""Diagnosis by rules: from the clues about a trial to suggestions, kept as an event.

After a loss or a failure five suggestions, one of each category, those with most evidence first;
a set of modules that was proposed already comes last. After a new best, the audit: which parts are
missing or simplified, and which to add. Deterministic, and of the same types as a model's.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from agent.architecture_rules import architecture
from agent.code_rules import code, gap
from agent.failure_rules import failure_candidates
from agent.grounds import Candidate, Grounds, grounds_of
from agent.standings import Setup, Standings, is_scored, setup_of
from agent.suggestions import (
    CATEGORIES,
    MODES,
    MOST_SUGGESTIONS,
    Clue,
    Diagnosis,
    Suggestion,
    plain,
)
from agent.training_rules import capacity, optimisation
from memory.errors import ExploreError, PlannerError
from memory.records import Event, Module, Proposal, SplitName, Status, Trial
from memory.store import Store

DIAGNOSIS = "diagnosis"
RULES = "rules"
LOSS_RULES = (architecture, capacity, optimisation, code, gap)
ENDINGS = {"loss": "did not gain", "failure": "failed", "best": "leads"}


class Payoff(NamedTuple):
    """What the suggestions of a category brought.

    `offered` counts them in all diagnoses, `carried` the proposals made from one, `scored` those
    of them with an effect beside their parent's; `mean` is the mean over these of the child's
    effect minus the parent's in Dice, `se` its standard error; `failures` counts proposals whose
    trials all ended without scores.
    """

    category: str
    offered: int
    carried: int
    scored: int
    mean: float | None
    se: float | None
    failures: int


def diagnose(
    trial: str,
    clues: Sequence[Clue],
    proposal: Proposal,
    *,
    mode: str,
    source: str,
    dims: int,
    n_stages: int,
    tried: Sequence[Proposal],
) -> Diagnosis:
    """Return the diagnosis of a trial by rules: its clues, the audit's, and suggestions.

    Args:
        trial: its id.
        clues: from `agent/clues.py`.
        proposal: what its network was made from.
        mode: loss, failure or best.
        source: the text of network.py; empty where nobody has it.
        dims: 2 or 3, of the plan.
        n_stages: of the plan, bottleneck included.
        tried: the proposals so far, the parent among them.

    Raises:
        PlannerError: the mode is unknown.
    """
    grounds = grounds_of(clues, proposal, source=source, dims=dims, n_stages=n_stages, tried=tried)
    found = chosen(grounds, mode)
    return Diagnosis(trial, mode, tuple(grounds.clues.values()), found, RULES)


def suggest(
    clues: Sequence[Clue],
    proposal: Proposal,
    *,
    mode: str,
    source: str,
    dims: int,
    n_stages: int,
    tried: Sequence[Proposal],
) -> tuple[Suggestion, ...]:
    """Return the suggestions of `diagnose`; they may rest on the audit's clues as well.

    Raises:
        PlannerError: the mode is unknown.
    """
    return diagnose(
        "",
        clues,
        proposal,
        mode=mode,
        source=source,
        dims=dims,
        n_stages=n_stages,
        tried=tried,
    ).suggestions


def chosen(grounds: Grounds, mode: str) -> tuple[Suggestion, ...]:
    """Return the suggestions for a mode."""
    if mode not in MODES:
        raise PlannerError(f"mode of a diagnosis is {mode!r}; allowed: {', '.join(MODES)}")
    if mode == "best":
        return audited(grounds)
    if mode == "failure":
        candidates = list(failure_candidates(grounds))
    else:
        candidates = [one for rule in LOSS_RULES for one in rule(grounds)]
    return one_of_each(grounds, candidates)


def one_of_each(grounds: Grounds, candidates: Iterable[Candidate]) -> tuple[Suggestion, ...]:
    """Return the best of each category, ordered by evidence; sets that were tried come last."""

    def order(one: Candidate) -> tuple[bool, float, int]:
        suggestion = one.suggestion
        is_tried = grounds.is_tried(suggestion.modules)
        return is_tried, -one.strength, CATEGORIES.index(suggestion.category)

    ordered = sorted(candidates, key=order)  # a stable sort: the first rule wins a draw
    found: dict[str, Candidate] = {}
    taken: list[frozenset[Module]] = []
    for one in ordered:
        own = frozenset(one.suggestion.modules or ())
        if one.suggestion.category not in found and own not in taken:
            found[one.suggestion.category] = one
            taken += [own] if own else []
    for one in ordered:  # a category that has nothing but what another one suggests
        found.setdefault(one.suggestion.category, one)
    return tuple(one.suggestion for one in sorted(found.values(), key=order))


def audited(grounds: Grounds) -> tuple[Suggestion, ...]:
    """Return what a leading network lacks of its proposal, missing parts first; else an addition."""
    lacking = sorted(
        (part for part in grounds.parts if part.state != "complete"),
        key=lambda part: part.state != "missing",
    )
    found = []
    for part in lacking[: MOST_SUGGESTIONS - 1]:
        verb = "Add" if part.state == "missing" else "Complete"
        text = f"{verb} {part.name}, which the proposal names: {part.why}."
        expected = "The audit finds it complete, and the mean Dice rises further if the idea holds."
        found.append(grounds.candidate(1.0, "gap", text, keys=(part.key,), expected=expected))
    further = list(architecture(grounds))
    best = min(further, key=lambda one: (grounds.is_tried(one.suggestion.modules), -one.strength))
    return tuple(one.suggestion for one in (*found, best))


def keep(store: Store, diagnosis: Diagnosis, now: float) -> int:
    """Store a diagnosis as an event, one a trial, and return the event's id. Idempotent.

    Raises:
        PlannerError: the diagnosis breaks a rule of `agent/suggestions.py`.
        StoreError: there is no such trial.
    """
    key, figures = effect_key(diagnosis.trial), plain(diagnosis)
    trial = store.trial(diagnosis.trial)
    listed = ", ".join(one.category for one in diagnosis.suggestions)
    text = f"diagnoses {trial.id}, which {ENDINGS[diagnosis.mode]}: suggests {listed}"
    with store.transaction():
        known = store.effect(key)
        if known is None:
            event = Event(DIAGNOSIS, text, figures, trial.id, trial.branch, now)
            known = store.set_effect(key, {"event": store.add_event(event)})
    return int(known["event"])


def effect_key(trial: str) -> str:
    """Return the key under which the store knows that a trial was diagnosed."""
    return f"{DIAGNOSIS}/{trial}"


def payoff(store: Store) -> list[Payoff]:
    """Return what the suggestions of each category brought so far, from search rows only.

    A child is compared with its parent at the lowest rung that both have scores at, with the same
    batch size: every child is measured there, not only those that climbed. Parents were chosen
    for their scores, so a mean of zero is more than it looks.
    """
    standings = Standings(store)
    trials: dict[str, list[Trial]] = {}
    for one in store.trials():
        if one.proposal and one.split is SplitName.SEARCH_VAL and not one.fold:
            trials.setdefault(one.proposal, []).append(one)
    made: dict[str, list[Proposal]] = {name: [] for name in CATEGORIES}
    for proposal in store.proposals():
        if (category := category_of(proposal)) is not None:
            made[category].append(proposal)
    offered = [
        row.get("category")
        for event in store.events(kind=DIAGNOSIS)
        for row in event.figures.get("suggestions", ())
    ]
    return [paid(name, offered.count(name), made[name], trials, standings) for name in CATEGORIES]


def category_of(proposal: Proposal) -> str | None:
    """Return the category of the suggestion that a proposal carries out; None for others."""
    said = proposal.detail.get("suggestion")
    category = said.get("category") if isinstance(said, dict) else None
    return category if category in CATEGORIES else None


def paid(
    category: str,
    offered: int,
    proposals: Sequence[Proposal],
    trials: dict[str, list[Trial]],
    standings: Standings,
) -> Payoff:
    """Return what the proposals of one category brought."""
    gains, failures = list[float](), 0
    for one in proposals:
        own = trials.get(one.id, [])
        ended = [t for t in own if t.status.is_final and t.status is not Status.CANCELLED]
        failures += bool(ended) and not any(t.status is Status.OK for t in own)
        gain = gain_of(
            effects(standings, own), effects(standings, trials.get(one.parent or "", []))
        )
        gains += [] if gain is None else [gain]
    mean = fmean(gains) if gains else None
    se = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else None
    return Payoff(category, offered, len(proposals), len(gains), mean, se, failures)


def effects(standings: Standings, trials: Iterable[Trial]) -> dict[Setup, float]:
    """Return the mean effect in Dice by setup of a proposal's trials with scores."""
    found: dict[Setup, list[float]] = {}
    for one in filter(is_scored, trials):
        try:
            evidence = standings.evidence(one)
        except ExploreError:
            continue
        if evidence is not None:
            found.setdefault(setup_of(one), []).append(evidence.delta)
    return {setup: fmean(deltas) for setup, deltas in found.items()}


def gain_of(child: dict[Setup, float], parent: dict[Setup, float]) -> float | None:
    """Return the child's effect minus the parent's at their lowest common rung, or None."""
    common = sorted(
        child.keys() & parent.keys(), key=lambda s: (s.rung, -(s.batch_size or 1 << 30))
    )
    return child[common[0]] - parent[common[0]] if common else None
