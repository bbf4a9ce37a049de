"""Facts about how trainings were run: containment, kind of start, first rung, how they failed."""

from collections import Counter
from collections.abc import Sequence

from agent.containment import WEAKER, unsafe_events
from agent.fact_book import FactBook
from agent.formats import day, number, slug
from agent.report_rows import Rows, trial_batch
from memory.records import Status, Trial
from sandbox.failures import CLASSES

UNKNOWN = "not recorded"


def add_run_facts(book: FactBook, rows: Rows) -> None:
    """Add what was contained by what, what ran without isolation, first rung, failures by class."""
    for place, event in enumerate(unsafe_events(rows.events)):
        sources = [f"event:{event.id}"]
        book.words(f"unsafe.{place}.reason", event.figures["reason"], sources)
        book.words(f"unsafe.{place}.day", day(event.at), sources)
    for place, event in enumerate(e for e in rows.events if e.kind == WEAKER):
        book.words(f"weaker.{place}.text", event.text, [f"event:{event.id}"])
    for place, (isolation, start) in enumerate(containments(rows)):
        own = [t for t in ended(rows) if containment(t) == (isolation, start)]
        sources = [f"trial:{t.id}" for t in own]
        book.words(f"containment.{place}.isolation", isolation, sources)
        book.words(f"containment.{place}.start", start, sources)
        book.count(f"containment.{place}.trials", len(own), sources)
    _first_rung(book, rows)
    for name in failure_classes(rows):
        own = [t for t in failed(rows) if (t.failure_class or UNKNOWN) == name]
        _failures(book, name, own)


def add_setup(book: FactBook, rows: Rows, trial: Trial, sources: Sequence[str]) -> None:
    """Add how one trial was run."""
    key = f"trial.{trial.id}"
    isolation, start = containment(trial)
    book.words(f"{key}.isolation", isolation, sources)
    book.words(f"{key}.start", start, sources)
    batch_sources = sources if trial.batch_size else [*sources, "protocol"]
    book.number(f"{key}.batch_size", trial_batch(rows, trial) or None, batch_sources)
    said = {None: UNKNOWN, True: "yes", False: "no"}[trial.checkpointing]
    book.words(f"{key}.checkpointing", said, sources)
    book.seconds(f"{key}.cpu_seconds", trial.cpu_seconds, sources)


def _first_rung(book: FactBook, rows: Rows) -> None:
    """Add where networks started and why, if a shorter rung was left out."""
    event = next((e for e in rows.events if e.kind == "open" and "learnt" in e.figures), None)
    if event is not None:
        learnt, sources = 100 * event.figures["learnt"], [f"event:{event.id}"]
        book.count("search.first_rung", event.figures["rung"], sources)
        book.measure("search.learnt", learnt, number(learnt, 0), sources)


def _failures(book: FactBook, name: str, trials: Sequence[Trial]) -> None:
    key, sources = f"failure.{slug(name)}", [f"trial:{t.id}" for t in trials]
    book.words(f"{key}.class", name.replace("_", " "), sources)
    book.words(f"{key}.meaning", CLASSES.get(name, "no class of segwright's"), sources)
    book.count(f"{key}.trials", len(trials), sources)
    counts = Counter(str(t.status).replace("_", " ") for t in trials)
    book.words(f"{key}.statuses", ", ".join(sorted(counts)), sources)


def ended(rows: Rows) -> list[Trial]:
    """Return the trials that have ended; those that were planned and let be are none."""
    return [t for t in rows.trials if t.status.is_final and not is_let_be(t)]


def failed(rows: Rows) -> list[Trial]:
    """Return the trials that ended without scores."""
    return [t for t in ended(rows) if is_failed(t)]


def is_failed(trial: Trial) -> bool:
    """Tell whether a trial ended without scores; one that was planned and let be did not fail."""
    return trial.status.is_final and trial.status is not Status.OK and not is_let_be(trial)


def is_let_be(trial: Trial) -> bool:
    """Tell whether a trial was planned, as ablations are, and never trained."""
    return trial.status is Status.CANCELLED and trial.failure_class is None


def containment(trial: Trial) -> tuple[str, str]:
    """Return the isolation of a trial and how its processes started."""
    return trial.isolation or UNKNOWN, trial.start or UNKNOWN


def containments(rows: Rows) -> list[tuple[str, str]]:
    """Return every isolation with a kind of start that a trial had, sorted."""
    return sorted({containment(t) for t in ended(rows)})


def failure_classes(rows: Rows) -> list[str]:
    """Return the classes of failure that occurred, the most frequent first."""
    counts = Counter(t.failure_class or UNKNOWN for t in failed(rows))
    return sorted(counts, key=lambda name: (-counts[name], name))
