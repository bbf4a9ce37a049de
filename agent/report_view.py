"""What the templates walk over: the order of things, and which sentences apply.

Nothing here is a number that is printed: those are facts, named by their keys.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agent.amendments import amendments, low_power
from agent.bibliography import Reference
from agent.case_figure import notable_cases
from agent.checklist_facts import StatementView, build_statement_view
from agent.containment import WEAKER, is_uncontained, unsafe_events
from agent.facts import BUDGETS, budget_limits, paragraphs, setup_key
from agent.formats import slug
from agent.lesson_section import LearntView, build_learnt_view
from agent.llm_facts import LanguageView, build_language_view
from agent.locked_facts import label_key, selection, table_labels
from agent.margins import MOST_SOUGHT, NOISE
from agent.method_facts import MethodView, build_method_view
from agent.report_rows import (
    MEAN_LABEL,
    VERDICT_ORDER,
    Rows,
    branch_letters,
    seed_sd,
)
from agent.rule_facts import last_event
from agent.rule_view import RuleView, build_rule_view, numbered, outcome_of
from agent.run_facts import containments, ended, failure_classes, is_failed
from agent.written_facts import Signed
from memory.records import Kind, Metric, SplitName, Status, Trial
from sandbox.components import COMPONENTS

ENDED_STATES = ("stopped", "done")
MIN_CASES = 50
MIN_SEEDS = 5
DEFAULT_ITERATIONS = 250_000
_ENVIRONMENT_FIRST = ("segwright", "nnunetv2", "torch", "python")


class LabelView(NamedTuple):
    """A class: its part of a key, and the fact with its name; `name` is "" for the mean."""

    key: str
    name: str


class ArmView(NamedTuple):
    """One side of the confirmation: its key, the fact with its title, its trials.

    The title is "" for a baseline, and for a finalist that is the only one. `says_batch` is
    set for a baseline that is not the only one.
    """

    key: str
    title: str
    trials: tuple[str, ...]
    is_baseline: bool
    says_batch: bool


class RungView(NamedTuple):
    """The baseline at one rung with one batch size."""

    key: str
    trials: tuple[str, ...]


class IdeaView(NamedTuple):
    """A branch, with the letter that names it in the picture."""

    key: str
    title: str
    letter: str
    cut: bool
    confirmed: bool


class TrialView(NamedTuple):
    """A trial, with the letter of its branch."""

    key: str
    letter: str
    has_scores: bool


class ModuleView(NamedTuple):
    """A module of the chosen network and the sources that may be cited for it."""

    key: str
    citations: tuple[str, ...]


class CaseView(NamedTuple):
    """A case: the fact with its name, and the prefixes of its values, one for each class shown."""

    name: str
    keys: tuple[str, ...]
    role: str = ""


class ContainmentView(NamedTuple):
    """How trainings were contained, and where the user chose less."""

    kinds: tuple[str, ...]
    unsafe: tuple[str, ...]
    weaker: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """Everything the templates need besides the facts."""

    outcome: str
    headline: str
    says_plainly: bool
    says_detectable: bool
    simulated: bool
    claims: tuple[str, ...]
    findings: tuple[str, ...]
    splits: tuple[str, ...]
    budgets: tuple[str, ...]
    kinds: tuple[str, ...]
    statuses: tuple[str, ...]
    rungs: tuple[RungView, ...]
    last_rung: str
    ideas: tuple[IdeaView, ...]
    trials: tuple[TrialView, ...]
    failures: tuple[TrialView, ...]
    failure_classes: tuple[str, ...]
    contained: ContainmentView
    arms: tuple[ArmView, ...]
    finalists: tuple[ArmView, ...]
    selected: tuple[ArmView, ...]
    fewest_seeds: str
    chosen: str
    motivation: tuple[str, ...]
    modules: tuple[ModuleView, ...]
    refused: tuple[str, ...]
    citations: tuple[str, ...]
    labels: tuple[LabelView, ...]
    case_labels: tuple[LabelView, ...]
    cases: tuple[CaseView, ...]
    notable: tuple[CaseView, ...]
    limitations: tuple[str, ...]
    accesses: tuple[str, ...]
    environment: tuple[str, ...]
    rules: RuleView
    language: LanguageView | None
    learnt: LearntView
    signed: tuple[Signed, ...] = ()
    method: MethodView = MethodView()
    statements: StatementView = StatementView()


def build_view(rows: Rows, references: Mapping[str, Reference]) -> View:
    """Return what the templates walk over, from the rows."""
    ranked = rows.ranked_claims
    arms = tuple(_arm(rows, arm.key) for arm in rows.arms)
    rungs = _rungs(rows)
    chosen = rows.finalists[0].key if rows.finalists else ""
    modules, refused = _modules(rows, chosen, references)
    return View(
        outcome=_outcome(rows),
        headline=f"claim.{ranked[0].claim.id}" if ranked else "",
        says_plainly=bool(ranked) and "n_cases" in ranked[0].claim.figures,
        says_detectable=bool(ranked) and "{mde}" in ranked[0].claim.text,
        simulated=rows.simulated,
        claims=tuple(f"claim.{r.claim.id}" for r in ranked),
        findings=numbered("dataset.finding", len(rows.campaign.dataset.get("findings", ()))),
        splits=tuple(str(name) for name in SplitName),
        budgets=_budgets(rows),
        kinds=tuple(sorted({str(t.kind) for t in ended(rows)})),
        statuses=tuple(str(s) for s in Status if any(t.status is s for t in rows.trials)),
        rungs=rungs,
        last_rung=setup_key(rows.rungs()[-1], None) if rows.rungs() else "",
        ideas=_ideas(rows),
        trials=_lettered(rows, rows.search_trials()),
        failures=_lettered(rows, [t for t in rows.trials if is_failed(t)]),
        failure_classes=tuple(f"failure.{slug(name)}" for name in failure_classes(rows)),
        contained=_contained(rows),
        arms=arms,
        finalists=tuple(_arm(rows, arm.key) for arm in rows.finalists),
        selected=tuple(_arm(rows, arm.key) for arm in rows.finalists if selection(rows, arm.key)),
        fewest_seeds=min(rows.arms, key=lambda arm: len(arm.trials)).key if arms else "",
        chosen=chosen,
        motivation=numbered(f"proposal.{chosen}.motivation", _motivation(rows, chosen)),
        modules=modules,
        refused=refused,
        citations=_citations(rows, chosen, references),
        labels=_labels(rows),
        case_labels=_case_labels(rows),
        cases=_cases(rows),
        notable=tuple(_notable(rows)),
        limitations=_limitations(rows, refused),
        accesses=tuple(f"access.{access.id}" for access in rows.accesses),
        environment=_environment(rows),
        rules=build_rule_view(rows),
        language=build_language_view(rows),
        learnt=build_learnt_view(rows),
        method=build_method_view(rows),
        statements=build_statement_view(rows),
    )


def _contained(rows: Rows) -> ContainmentView:
    return ContainmentView(
        kinds=numbered("containment", len(containments(rows))),
        unsafe=numbered("unsafe", len(unsafe_events(rows.events))),
        weaker=numbered("weaker", sum(e.kind == WEAKER for e in rows.events)),
    )


def _outcome(rows: Rows) -> str:
    if rows.ranked_claims:
        claim = rows.ranked_claims[0].claim
        return outcome_of(claim) if claim.verdict in VERDICT_ORDER else "unconfirmed"
    if rows.campaign.state not in ENDED_STATES:
        return "running"
    scored = any(t.status is Status.OK for t in rows.search_trials())
    return "unconfirmed" if scored or rows.finalists else "unsearched"


def _rungs(rows: Rows) -> tuple[RungView, ...]:
    return tuple(
        RungView(setup_key(*setup), tuple(f"trial.{t.id}" for t in rows.baselines(*setup)))
        for setup in rows.setups()
    )


def _budgets(rows: Rows) -> tuple[str, ...]:
    limits, _ = budget_limits(rows)
    return tuple(name for name in BUDGETS if limits.get(name))


def _arm(rows: Rows, key: str) -> ArmView:
    arm = next(arm for arm in rows.arms if arm.key == key)
    is_untitled = arm.is_baseline or len(rows.finalists) == 1
    title = "" if is_untitled else f"proposal.{key}.title"
    trials = tuple(f"trial.{t.id}" for t in arm.trials)
    several = sum(a.is_baseline for a in rows.arms) > 1
    return ArmView(key, title, trials, arm.is_baseline, arm.is_baseline and several)


def _ideas(rows: Rows) -> tuple[IdeaView, ...]:
    letters = branch_letters(rows)
    confirmed = {arm.key for arm in rows.arms}
    ideas = []
    for branch in rows.branches:
        own = {branch.proposal} | {t.proposal for t in rows.trials if t.branch == branch.id}
        title = f"proposal.{branch.proposal}.title"
        cut = branch.state == "cut"
        chosen = bool(own & confirmed)
        ideas.append(IdeaView(f"branch.{branch.id}", title, letters[branch.id], cut, chosen))
    return tuple(ideas)


def _lettered(rows: Rows, trials: Iterable[Trial]) -> tuple[TrialView, ...]:
    letters = branch_letters(rows)
    return tuple(
        TrialView(f"trial.{t.id}", letters.get(t.branch or "", ""), t.status is Status.OK)
        for t in trials
    )


def _motivation(rows: Rows, chosen: str) -> int:
    return len(paragraphs(rows.proposals[chosen].motivation)) if chosen in rows.proposals else 0


def _modules(
    rows: Rows, chosen: str, references: Mapping[str, Reference]
) -> tuple[tuple[ModuleView, ...], tuple[str, ...]]:
    proposal = rows.proposals.get(chosen)
    if proposal is None:
        return (), ()
    keys = numbered(f"proposal.{chosen}.module", len(proposal.modules))
    views = tuple(
        ModuleView(key, tuple(c for c in component_citations(m.component) if c in references))
        for key, m in zip(keys, proposal.modules, strict=True)
    )
    refused = tuple(
        f"proposal.{chosen}.citation.{place}"
        for place, citation in enumerate(proposal.citations)
        if citation not in references
    )
    return views, refused


def component_citations(name: str) -> tuple[str, ...]:
    """Return the sources of a published component; none for one that is not registered."""
    return COMPONENTS[name].citations if name in COMPONENTS else ()


def _citations(rows: Rows, chosen: str, references: Mapping[str, Reference]) -> tuple[str, ...]:
    proposal = rows.proposals.get(chosen)
    return tuple(c for c in proposal.citations if c in references) if proposal else ()


def _labels(rows: Rows) -> tuple[LabelView, ...]:
    labels = tuple(LabelView(label_key(name), f"label.{slug(name)}") for name in rows.labels)
    return (LabelView(MEAN_LABEL, ""), *labels) if len(labels) > 1 else labels


def _case_labels(rows: Rows) -> tuple[LabelView, ...]:
    return tuple(
        LabelView(label_key(label), "" if label == MEAN_LABEL else f"label.{slug(label)}")
        for label in table_labels(rows)
    )


def _cases(rows: Rows) -> tuple[CaseView, ...]:
    if not rows.finalists:
        return ()
    best = rows.finalists[0]
    both = (rows.reference(best).trials[0].id, best.trials[0].id)
    scored = [{score.case for score in rows.scores[trial]} for trial in both]
    cases = [c.case for c in rows.cases(SplitName.LOCKED_TEST) if all(c.case in s for s in scored)]
    labels = [label_key(label) for label in table_labels(rows)]
    return tuple(
        CaseView(f"case.{slug(case)}.name", tuple(f"case.{slug(case)}.{key}" for key in labels))
        for case in cases
    )


def _notable(rows: Rows) -> list[CaseView]:
    return [
        CaseView(f"case.{slug(n.case)}.name", (f"case.{slug(n.case)}.{MEAN_LABEL}",), n.role)
        for n in notable_cases(rows)
    ]


def _environment(rows: Rows) -> tuple[str, ...]:
    names = sorted(rows.campaign.environment)
    first = [name for name in _ENVIRONMENT_FIRST if name in names]
    return tuple(slug(name) for name in [*first, *(n for n in names if n not in first)])


def _limitations(rows: Rows, refused: tuple[str, ...]) -> tuple[str, ...]:
    baseline = rows.of(Kind.BASELINE)
    searched = rows.search_trials()
    last = max((t.iterations or 0 for t in (*baseline, *searched)), default=0)
    seeds = {(t.proposal, t.rung): set[int]() for t in searched}
    for trial in searched:
        seeds[(trial.proposal, trial.rung)].add(trial.seed)
    said = rows.campaign.environment | rows.campaign.protocol
    device = str(said.get("device", ""))
    failed = [t for t in rows.of(Kind.CONFIRM, ok=False) if is_failed(t)]
    locked = len({case.patient for case in rows.cases(SplitName.LOCKED_TEST)})
    applies = {
        "simulated": rows.simulated,
        "unconfirmed": not rows.finalists,
        "one_dataset": True,
        "one_baseline": bool(baseline) and len({t.commit for t in baseline}) == 1,
        "few_cases": locked < MIN_CASES,
        "few_seeds": any(len(arm.trials) < MIN_SEEDS for arm in rows.arms),
        "noisy": _is_noisy(rows),
        "coarse": _is_coarse(rows),
        "short": 0 < last < DEFAULT_ITERATIONS and bool(rows.rungs()),
        "cpu": device.startswith("cpu"),
        "amended": bool(amendments(rows.events)),
        "low_power": bool(low_power(rows.events)),
        "one_selection_seed": any(len(found) == 1 for found in seeds.values()),
        "no_ablation": bool(rows.finalists)
        and not any(t.split is SplitName.LOCKED_TEST for t in rows.of(Kind.ABLATE)),
        "failed_confirmation": bool(failed),
        "undefined": any(
            s.value is None for arm in rows.arms for t in arm.trials for s in rows.scores[t.id]
        ),
        "findings": bool(rows.campaign.dataset.get("findings")),
        "accesses": len(rows.accesses) > 1,
        "unsafe": bool(unsafe_events(rows.events)) or any(map(is_uncontained, rows.trials)),
        "weaker": any(event.kind == WEAKER for event in rows.events),
        "smaller_batch": any(t.batch_size is not None for t in rows.trials),
        "truncated_cases": bool(rows.finalists) and len(table_labels(rows)) <= len(rows.labels) > 1,
        "refused_citations": bool(refused),
    }
    return tuple(name for name, holds in applies.items() if holds)


def _is_coarse(rows: Rows) -> bool:
    """Return whether no gain of the size that networks are published with could be found."""
    noise = last_event(rows, NOISE)
    return noise is not None and noise.figures["detectable"] > MOST_SOUGHT


def _is_noisy(rows: Rows) -> bool:
    """Return whether the baseline's seeds differ by more than the gain that is looked for."""
    noise = last_event(rows, NOISE)
    wanted = rows.campaign.config.get("confirm", {}).get("margin")
    margin = noise.figures["margin"] if noise else wanted
    if not rows.rungs() or not isinstance(margin, int | float):
        return False
    return seed_sd(rows, rows.baselines(rows.rungs()[-1]), Metric.DICE) > margin
