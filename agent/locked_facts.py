"""Facts about the locked test: each arm, each class, each case, and what selection promised.

The single cases are those of the baseline and of the best finalist, its candidate.
"""

from agent.fact_book import FactBook
from agent.formats import slug
from agent.intervals import Interval
from agent.report_rows import (
    MEAN_LABEL,
    SEARCH_KINDS,
    Arm,
    Rows,
    difference,
    gain_interval,
    mean_interval,
    seed_mean,
    seed_sd,
    trial_batch,
)
from memory.records import Kind, Metric, SplitName, Status, Trial

LARGEST_CASE_TABLE = 1500


def add_locked_facts(book: FactBook, rows: Rows) -> None:
    """Add the facts of the confirmation; none where there was no confirmation."""
    for arm in rows.arms:
        _arm(book, rows, arm)
    failed = [
        t
        for t in rows.of(Kind.CONFIRM, ok=False)
        if t.status.is_final and t.status is not Status.OK
    ]
    book.count("confirm.failed", len(failed), [f"trial:{t.id}" for t in failed])
    if not rows.finalists:
        return
    for arm in rows.finalists:
        _differences(book, rows, arm, rows.reference(arm))
        _selection(book, rows, arm)
    for label in table_labels(rows):
        for metric in Metric:
            _cases(book, rows, label, metric)
    for case in rows.cases(SplitName.LOCKED_TEST):
        book.words(f"case.{slug(case.case)}.name", case.case, [f"split:{SplitName.LOCKED_TEST}"])


def table_labels(rows: Rows) -> tuple[str, ...]:
    """Return the rows of each case in the per-case table: the mean, and the classes if few."""
    cases = len(rows.cases(SplitName.LOCKED_TEST))
    if len(rows.labels) > 1 and cases * (len(rows.labels) + 1) <= LARGEST_CASE_TABLE:
        return (MEAN_LABEL, *rows.labels)
    return (MEAN_LABEL,)


def arm_sources(arm: Arm) -> list[str]:
    """Return the addresses of the scores of an arm."""
    return [f"case_score:{trial.id}" for trial in arm.trials]


def _arm(book: FactBook, rows: Rows, arm: Arm) -> None:
    key, sources = f"confirm.{arm.key}", arm_sources(arm)
    trials = [f"trial:{t.id}" for t in arm.trials]
    book.count(f"{key}.seeds", len(arm.trials), trials)
    spent = [t.seconds for t in arm.trials if t.seconds is not None]
    book.seconds(f"{key}.seconds", sum(spent) / len(spent) if spent else None, trials)
    first = arm.trials[0]
    book.count(f"{key}.batch_size", trial_batch(rows, first), [*trials[:1], "protocol"])
    book.amount(f"{key}.parameters", first.parameters, "", trials[:1])
    book.amount(f"{key}.flops", first.flops, "FLOP", trials[:1])
    memory = [t.peak_memory_mib for t in arm.trials if t.peak_memory_mib is not None]
    book.mebibytes(f"{key}.peak_memory", max(memory, default=None), trials)
    spread = seed_sd(rows, arm.trials, Metric.DICE)
    book.score(f"{key}.seed_sd", spread, Metric.DICE, sources)
    for label in (MEAN_LABEL, *rows.labels):
        for metric in Metric:
            values = seed_mean(rows, arm.trials, metric, label)
            inner = f"{key}.{label_key(label)}.{metric}"
            measured = mean_interval(rows, arm.trials, metric, label)
            book.interval(inner, measured, metric, sources)
            book.count(f"{inner}.undefined", len(values) - measured.n, sources)


def label_key(label: str) -> str:
    """Return the part of a key that stands for a class; a class named "mean" is kept apart."""
    return label if label == MEAN_LABEL else f"class-{slug(label)}"


def _differences(book: FactBook, rows: Rows, arm: Arm, baseline: Arm) -> None:
    sources = [*arm_sources(arm), *arm_sources(baseline)]
    for label in (MEAN_LABEL, *rows.labels):
        for metric in Metric:
            key = f"confirm.{arm.key}.{label_key(label)}.{metric}.delta"
            book.gain_interval(key, locked_gain(rows, arm, metric, label), metric, sources)
            if metric is Metric.DICE:
                values = locked_difference(rows, arm, metric, label)
                higher = sum(v > 0 for v in values.values())
                book.count(f"{key}_higher", higher, sources)


def locked_difference(rows: Rows, arm: Arm, metric: Metric, label: str) -> dict[str, float]:
    """Return {case: finalist minus baseline} on the locked test, both averaged over seeds."""
    reference = seed_mean(rows, rows.reference(arm).trials, metric, label)
    return difference(seed_mean(rows, arm.trials, metric, label), reference)


def locked_gain(rows: Rows, arm: Arm, metric: Metric, label: str) -> Interval:
    """Return a finalist's mean difference on the locked test, as a claim computes it."""
    return gain_interval(rows, arm.trials, rows.reference(arm).trials, metric, label)


def _cases(book: FactBook, rows: Rows, label: str, metric: Metric) -> None:
    best = rows.finalists[0]
    for arm in (rows.reference(best), best):
        for case, value in seed_mean(rows, arm.trials, metric, label).items():
            side = "baseline" if arm.is_baseline else "candidate"
            key = f"case.{slug(case)}.{label_key(label)}.{metric}.{side}"
            book.score(key, value, metric, arm_sources(arm))
    if metric is not Metric.DICE:
        return
    sources = [*arm_sources(best), *arm_sources(rows.reference(best))]
    for case, value in locked_difference(rows, best, metric, label).items():
        key = f"case.{slug(case)}.{label_key(label)}.{metric}.delta"
        book.gain(key, value, metric, sources)


def selection(rows: Rows, proposal: str) -> tuple[Interval, int, tuple[Trial, ...]] | None:
    """Return what the search saw of a proposal at its highest rung; None if it saw nothing.

    Returns:
        The paired difference from the baseline on search-val, the rung, and the trials.
    """
    scored = [
        t
        for t in rows.trials
        if t.proposal == proposal and t.kind in SEARCH_KINDS and t.status is Status.OK
    ]
    if not scored:
        return None
    rung = max(t.rung for t in scored)
    at_top = [t for t in scored if t.rung == rung]
    chosen = tuple(t for t in at_top if t.batch_size == at_top[-1].batch_size)
    reference = rows.baselines(rung, chosen[0].batch_size)
    return gain_interval(rows, chosen, reference, Metric.DICE, MEAN_LABEL), rung, chosen


def _selection(book: FactBook, rows: Rows, arm: Arm) -> None:
    found = selection(rows, arm.key)
    if found is None:
        return
    seen, rung, trials = found
    baseline = rows.baselines(rung, trials[0].batch_size)
    sources = [f"case_score:{t.id}" for t in (*trials, *baseline)]
    key = f"selection.{arm.key}"
    book.gain_interval(f"{key}.delta", seen, Metric.DICE, sources)
    book.count(f"{key}.rung", rung, sources)
    locked = locked_gain(rows, arm, Metric.DICE, MEAN_LABEL)
    locked_sources = [*sources, *arm_sources(arm), *arm_sources(rows.reference(arm))]
    book.gain(f"{key}.shrinkage", seen.mean - locked.mean, Metric.DICE, locked_sources)
