"""Facts: every number, date, name and hash that a report may print, derived from rows.

A fact has a stable dotted key, the raw value, the printed text and the addresses of the rows
it was made from. Deriving twice from the same rows gives the same facts: nothing here is
random, and nothing outside the store is read.
"""

import math
import re
from collections.abc import Iterable, Sequence

from agent.budget import HOUR_S, START, of_runs, spent
from agent.checklist_facts import add_checklist_facts
from agent.claim_facts import add_claim
from agent.diagram import component_title
from agent.energy import add_energy_facts
from agent.fact_book import FactBook
from agent.formats import day, number, plain_text, slug
from agent.intervals import CONFIDENCE
from agent.lesson_facts import add_lesson_facts
from agent.llm_facts import add_llm_facts
from agent.locked_facts import add_locked_facts
from agent.method_facts import add_method_facts
from agent.report_rows import (
    MEAN_LABEL,
    SEARCH_KINDS,
    Rows,
    mean_interval,
    read_rows,
    search_delta,
    seed_sd,
    trial_batch,
)
from agent.rule_facts import add_rule_facts
from agent.run_facts import add_run_facts, add_setup, ended
from agent.written_facts import add_written_facts
from memory.records import (
    Branch,
    Event,
    Fact,
    Metric,
    Proposal,
    SplitName,
    Status,
    Trial,
)
from memory.store import Store
from sandbox.components import COMPONENTS

BUDGETS = ("hours", "gpu_hours", "usd", "trials")
LONGEST_EXCERPT = 300
LONGEST_NOTICE = 2000


def derive_facts(store: Store) -> list[Fact]:
    """Return every fact of a campaign, sorted by key."""
    return facts_of(read_rows(store))


def facts_of(rows: Rows) -> list[Fact]:
    """Return every fact of the rows, sorted by key."""
    book = FactBook()
    _campaign(book, rows)
    _dataset(book, rows)
    _budget(book, rows)
    _compute(book, rows)
    add_energy_facts(book, rows)
    for trial in rows.trials:
        _trial(book, rows, trial)
    _baselines(book, rows)
    for proposal in rows.proposals.values():
        _proposal(book, proposal)
    for branch in rows.branches:
        _branch(book, rows, branch)
    add_locked_facts(book, rows)
    add_run_facts(book, rows)
    add_rule_facts(book, rows)
    add_llm_facts(book, rows)
    add_lesson_facts(book, rows)
    add_method_facts(book, rows)
    add_written_facts(book, rows)
    for claim in rows.claims:
        add_claim(book, rows, claim)
    add_checklist_facts(book, rows)
    return book.all()


def trial_sources(trials: Iterable[Trial]) -> list[str]:
    """Return the addresses of the scores of trials."""
    return [f"case_score:{trial.id}" for trial in trials]


def _campaign(book: FactBook, rows: Rows) -> None:
    campaign = rows.campaign
    for name in ("id", "name", "version", "state"):
        book.words(f"campaign.{name}", getattr(campaign, name), ["campaign"])
    for name in ("dataset_hash", "split_hash"):
        book.identifier(f"campaign.{name}", getattr(campaign, name), ["campaign"], shown=16)
    book.words("campaign.created", day(campaign.created_at), ["campaign"])
    book.words("report.title", f"{campaign.name}: segwright report", ["campaign"])
    book.measure("report.confidence", CONFIDENCE, f"{100 * CONFIDENCE:g} %", ["protocol"])
    for section, settings in campaign.config.items():
        if section == "dataset":
            continue  # its paths name the user's folders
        book.settings(f"config.{slug(section)}", settings, [f"config.{section}"])
    for name, value in campaign.environment.items():
        book.settings(f"environment.{slug(name)}", value, ["campaign"])
        book.words(f"environment_name.{slug(name)}", name, ["campaign"])
    for name, value in campaign.protocol.items():
        book.settings(f"protocol.{slug(name)}", value, ["protocol"])
    for access in rows.accesses:
        sources = [f"test_access:{access.id}"]
        book.words(f"access.{access.id}.by", access.by, sources)
        book.words(f"access.{access.id}.why", access.why, sources)
        book.count(f"access.{access.id}.trials", len(access.trials), sources)
        book.words(f"access.{access.id}.day", day(access.at), sources)
    book.count("access.count", len(rows.accesses), [f"test_access:{a.id}" for a in rows.accesses])


def _dataset(book: FactBook, rows: Rows) -> None:
    dataset = rows.campaign.dataset
    for name in ("name", "description", "licence", "reference"):
        if dataset.get(name):
            book.words(f"dataset.{name}", dataset[name], ["campaign"], longest=LONGEST_NOTICE)
    if origin := dataset_origin(rows):
        book.words("dataset.origin", origin, ["campaign"])
    for name in ("channels", "labels"):
        book.words(f"dataset.{name}", ", ".join(map(str, dataset.get(name, ()))), ["campaign"])
    book.words("dataset.dims", f"{dataset.get('dims', 'unknown')}D", ["campaign"])
    for label in rows.labels:
        book.words(f"label.{slug(label)}", label, ["campaign"])
    book.count("dataset.cases", len(rows.split), [f"split:{name}" for name in SplitName])
    patients = {case.patient for case in rows.split}
    book.count("dataset.patients", len(patients), [f"split:{name}" for name in SplitName])
    for number_, finding in enumerate(dataset.get("findings", ())):
        book.words(f"dataset.finding.{number_}", finding, ["campaign"])
    book.count("dataset.findings", len(dataset.get("findings", ())), ["campaign"])
    for name in SplitName:
        _split(book, rows, name)


def dataset_origin(rows: Rows) -> str:
    """Return where the data come from; of a table in dataset.json, its plain entries."""
    dataset = rows.campaign.dataset
    declared = dataset.get("dataset_json", {}).get("origin")
    if not isinstance(declared, dict):
        return str(dataset.get("origin", ""))
    plain = {k: v for k, v in declared.items() if isinstance(v, str | int | float)}
    return "; ".join(f"{name}: {value}" for name, value in plain.items())


def _split(book: FactBook, rows: Rows, name: SplitName) -> None:
    cases, sources = rows.cases(name), [f"split:{name}"]
    volumes = [case.foreground_mm3 for case in cases]
    book.count(f"split.{name}.cases", len(cases), sources)
    book.count(f"split.{name}.patients", len({case.patient for case in cases}), sources)
    mean_ml = math.fsum(volumes) / len(volumes) / 1000 if volumes else math.nan
    book.number(f"split.{name}.foreground_ml", mean_ml, sources)


def _budget(book: FactBook, rows: Rows) -> None:
    limits, limit_source = budget_limits(rows)
    last = max((event.at for event in of_runs(rows.events)), default=rows.campaign.created_at)
    used = spent(rows.events, rows.trials, rows.llm_calls, now=last)
    amounts = {
        "hours": used.seconds / HOUR_S,
        "gpu_hours": used.gpu_seconds / HOUR_S,
        "usd": used.usd,
        "trials": used.trials,
    }
    trials = [f"trial:{t.id}" for t in rows.trials]
    sources = {
        "hours": [f"event:{e.id}" for e in rows.events if e.kind == START],
        "gpu_hours": trials,
        "usd": [f"llm_call:{call.id}" for call in rows.llm_calls],
        "trials": trials,
    }
    for name in BUDGETS:
        if limits.get(name):
            book.number(f"budget.{name}.limit", limits[name], [limit_source])
        book.number(f"budget.{name}.spent", amounts[name], sources[name])


def budget_limits(rows: Rows) -> tuple[dict[str, float], str]:
    """Return the limits of the last run, which may differ from the campaign's, and their row."""
    for event in reversed(rows.events):
        logged = event.figures.get("budget")
        if event.kind == START and isinstance(logged, dict):
            return logged, f"event:{event.id}"
    return dict(rows.campaign.config.get("budget", {})), "config.budget"


def _compute(book: FactBook, rows: Rows) -> None:
    final = ended(rows)
    _compute_of(book, "compute", final)
    _compute_of(book, "compute.failed", [t for t in final if t.status is not Status.OK])
    for kind in sorted({t.kind for t in final}):
        _compute_of(book, f"compute.kind.{kind}", [t for t in final if t.kind is kind])
    for status in Status:
        chosen = [t for t in rows.trials if t.status is status]
        sources = [f"trial:{t.id}" for t in chosen]
        book.count(f"compute.trials.{status}", len(chosen), sources)
    unfinished = [t for t in final if t.status is not Status.OK]
    sources = [f"trial:{t.id}" for t in unfinished]
    book.count("compute.trials.without_scores", len(unfinished), sources)
    tried = [f"branch:{b.id}" for b in rows.branches]
    book.count("search.branches", len(rows.branches), tried)
    book.count("search.proposals", len(rows.proposals), [f"proposal:{p}" for p in rows.proposals])
    cut = [b for b in rows.branches if b.state == "cut"]
    book.count("search.cut", len(cut), [f"branch:{b.id}" for b in cut])
    searched = rows.search_trials()
    book.count("search.trials", len(searched), [f"trial:{t.id}" for t in searched])


def _compute_of(book: FactBook, key: str, trials: Sequence[Trial]) -> None:
    sources = [f"trial:{t.id}" for t in trials]
    book.count(f"{key}.trials.total", len(trials), sources)
    book.seconds(f"{key}.seconds.total", math.fsum(t.seconds or 0.0 for t in trials), sources)
    used = math.fsum(t.gpu_seconds or 0.0 for t in trials)
    book.seconds(f"{key}.gpu_seconds.total", used, sources)


def _trial(book: FactBook, rows: Rows, trial: Trial) -> None:
    key, sources = f"trial.{trial.id}", [f"trial:{trial.id}"]
    book.words(f"{key}.id", trial.id, sources)
    book.words(f"{key}.title", trial_title(rows, trial), sources)
    book.identifier(f"{key}.commit", trial.commit or "none", sources, shown=12)
    for name, value in (("kind", trial.kind), ("status", trial.status)):
        book.words(f"{key}.{name}", str(value).replace("_", " "), sources)
    book.words(f"{key}.failure_class", trial.failure_class or "none", sources)
    excerpt = plain_text(trial.failure_excerpt or "none", longest=LONGEST_EXCERPT)
    book.words(f"{key}.failure_excerpt", excerpt, sources)
    book.count(f"{key}.rung", trial.rung, sources)
    book.identifier(f"{key}.seed", trial.seed, sources)
    book.number(f"{key}.iterations", trial.iterations, sources)
    book.seconds(f"{key}.seconds", trial.seconds, sources)
    book.mebibytes(f"{key}.peak_memory", trial.peak_memory_mib, sources)
    book.amount(f"{key}.parameters", trial.parameters, "", sources)
    book.amount(f"{key}.flops", trial.flops, "FLOP", sources)
    add_setup(book, rows, trial, sources)
    if trial.status is Status.OK:
        _trial_scores(book, rows, trial)


def trial_title(rows: Rows, trial: Trial) -> str:
    """Return what a trial is called: its own title, else its proposal's, else its kind."""
    proposal = rows.proposals.get(trial.proposal or "")
    return trial.title or (proposal.title if proposal else str(trial.kind))


def _trial_scores(book: FactBook, rows: Rows, trial: Trial) -> None:
    key, sources = f"trial.{trial.id}", trial_sources([trial])
    for metric in Metric:
        found = mean_interval(rows, [trial], metric, MEAN_LABEL)
        book.interval(f"{key}.{metric}", found, metric, sources)
    if trial.kind not in SEARCH_KINDS:
        return
    reference = trial_sources(rows.baselines(trial.rung, trial.batch_size))
    delta = search_delta(rows, trial)
    book.gain_interval(f"{key}.delta", delta, Metric.DICE, [*sources, *reference])


def _baselines(book: FactBook, rows: Rows) -> None:
    for rung, batch in rows.setups():
        trials = rows.baselines(rung, batch)
        key, sources = setup_key(rung, batch), trial_sources(trials)
        book.count(f"{key}.rung", rung, sources)
        first = [f"trial:{trials[0].id}", "protocol"]
        book.number(f"{key}.batch_size", trial_batch(rows, trials[0]) or None, first)
        book.count(f"{key}.seeds", len(trials), sources)
        book.number(f"{key}.iterations", trials[0].iterations, [f"trial:{trials[0].id}"])
        for metric in Metric:
            found = mean_interval(rows, trials, metric, MEAN_LABEL)
            book.interval(f"{key}.{metric}", found, metric, sources)
        spread = seed_sd(rows, trials, Metric.DICE)
        book.measure(f"{key}.seed_sd", spread, number(spread, 4), sources)


def setup_key(rung: int, batch_size: int | None) -> str:
    """Return the key of the baseline at a rung with a batch size, None for the planned one."""
    return f"baseline.rung{rung}" + (f".batch{batch_size}" if batch_size else "")


def _proposal(book: FactBook, proposal: Proposal) -> None:
    key, sources = f"proposal.{proposal.id}", [f"proposal:{proposal.id}"]
    for name in ("id", "title", "refutation", "planner"):
        book.words(f"{key}.{name}", getattr(proposal, name), sources)
    for place, paragraph in enumerate(paragraphs(proposal.motivation)):
        book.words(f"{key}.motivation.{place}", paragraph, sources)
    for place, citation in enumerate(proposal.citations):
        book.words(f"{key}.citation.{place}", citation, sources)
    for place, module in enumerate(proposal.modules):
        inner = f"{key}.module.{place}"
        card = COMPONENTS.get(module.component)
        book.words(f"{inner}.component", component_title(module), sources)
        if card:
            book.words(f"{inner}.idea", card.idea, [*sources, f"component:{card.name}"])
        book.words(f"{inner}.position", module.position, sources)
        stages = ", ".join(map(str, module.stages)) or "all"
        book.words(f"{inner}.stages", stages, sources)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, empty ones left out."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def _branch(book: FactBook, rows: Rows, branch: Branch) -> None:
    key, sources = f"branch.{branch.id}", [f"branch:{branch.id}"]
    trials = [t for t in rows.search_trials() if t.branch == branch.id]
    book.words(f"{key}.state", branch.state, sources)
    book.count(f"{key}.trials", len(trials), [f"trial:{t.id}" for t in trials])
    scored = [t for t in trials if t.status is Status.OK]
    if scored:
        top = max(t.rung for t in scored)
        at_top = [t for t in scored if t.rung == top]
        best = max(at_top, key=lambda t: (_sortable(search_delta(rows, t).mean), t.id))
        reference = rows.baselines(top, best.batch_size)
        book.count(f"{key}.rung", top, [f"trial:{best.id}"])
        delta = search_delta(rows, best)
        compared = trial_sources([best, *reference])
        book.gain_interval(f"{key}.delta", delta, Metric.DICE, compared)
        book.words(f"{key}.best", trial_title(rows, best), [f"trial:{best.id}"])
    reason = cut_event(rows, branch)
    if reason is not None:
        why = re.sub(r"^cuts \w+: ", "", reason.text)
        book.words(f"{key}.why", _titled(rows, why), [f"event:{reason.id}"])


def _titled(rows: Rows, text: str) -> str:
    """Return a text in which trials are called by their titles."""

    def title(found: re.Match[str]) -> str:
        trial = rows.by_id.get(found[0])
        return trial_title(rows, trial) if trial else found[0]

    return re.sub(r"\b[0-9a-f]{12}\b", title, text)


def _sortable(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def cut_event(rows: Rows, branch: Branch) -> Event | None:
    """Return the event that cut a branch, the last one if there are several."""
    found = [e for e in rows.events if e.kind == "cut" and e.branch == branch.id]
    return found[-1] if found else None
