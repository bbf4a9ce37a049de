"""A campaign's store of any size, as a search would have left it, written in bulk.

Through the schema of the store itself, its triggers included: trials go in as running, then
their scores, then their ends. In it: baselines at two rungs and with a smaller batch, drafts,
refinements, repairs, promotions, repetitions with new seeds, every way to fail, one class in
Dice, the decision and the result of each trial as events, cuts, and what each decision did.
Not in it: lessons, files, and anything of the locked test.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from memory.connection import connect
from memory.records import (
    Branch,
    Campaign,
    CaseScore,
    Event,
    Figures,
    Kind,
    Metric,
    Module,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    Trial,
    scores_hash,
    short_id,
    trial_id,
)
from memory.results import result_event
from memory.rows import TABLES, TRIAL_CHOICES, to_row
from memory.store import Store

CASES = 12
SEEDS = 3
COST_S = (60.0, 240.0)
PLANNED_BATCH = 8
BEGIN_S = 1_700_000_000.0
STEP_S = 30.0
COMPONENTS = ("axial", "squeeze", "large-kernel", "gate", "pyramid", "mixer", "dense", "residual")
FAILURES = (
    *((Status.FAILED, "shape"), (Status.FAILED, "numerics"), (Status.DIVERGED, "divergence")),
    *((Status.TIMED_OUT, "time"), (Status.OUT_OF_MEMORY, "memory"), (Status.REJECTED, "contract")),
)
BASELINE_DICE = (0.70, 0.80)
Worded = Callable[[str, Random], Proposal]
CAMPAIGN = Campaign("c", "grown", BEGIN_S, "0", {"budget": {}}, {}, "dh", "sh", {})


class Size(NamedTuple):
    """How many trials of the search a store holds, in how many branches."""

    trials: int
    branches: int


class Grown(NamedTuple):
    """One trial as it ended, the true effect of its network in Dice, and whether it was cut."""

    trial: Trial
    effect: float
    is_cut: bool = False


def build(
    folder: Path,
    size: Size,
    *,
    seed: int = 0,
    campaign: Campaign = CAMPAIGN,
    worded: Worded | None = None,
) -> Path:
    """Write `campaign.db` into a new folder and return the folder.

    Args:
        folder: must not exist.
        size: how much is written.
        seed: of all that is drawn.
        campaign: its one campaign row.
        worded: makes each proposal; None: short ones.
    """
    folder.mkdir(parents=True)
    path = folder / "campaign.db"
    rng = Random(seed)
    with Store.create(path, campaign) as store:
        store.add_split(list(split()))
    with closing(connect(path, read_only=False)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        fill(conn, size, rng, worded or proposal)
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def fill(conn: sqlite3.Connection, size: Size, rng: Random, worded: Worded) -> None:
    """Write all rows inside one transaction of the caller."""
    grown = [Grown(trial, 0.0) for trial in baselines()]
    for number in range(size.branches):
        quota = (size.trials * (number + 1)) // size.branches - len(grown) + BASELINES
        rows = list(grow(number, quota, size.branches, rng))
        branch = rows[0].trial.branch
        assert branch is not None
        names = dict.fromkeys(row.trial.proposal for row in rows)
        insert(conn, [worded(name, rng) for name in names if name])
        insert(conn, [Branch(branch, rows[0].trial.proposal or "", "open", BEGIN_S)])
        grown += rows
    grown.sort(key=lambda one: (one.trial.planned_at, one.trial.id))
    write(conn, grown, rng)


def split() -> Iterator[SplitCase]:
    """Yield the cases: those of search-val are scored, the others only counted."""
    for part, count in zip(SplitName, (40, CASES, 20), strict=True):
        for i in range(count):
            name = f"{part}-{i:02}"
            yield SplitCase(name, name, part, 1000.0, short_id(name), short_id([name]))


def baselines() -> Iterator[Trial]:
    """Yield nnU-Net's default at both rungs, and at rung 0 with half the batch."""
    for rung, batch in ((0, None), (1, None), (0, PLANNED_BATCH // 2)):
        for seed in range(SEEDS):
            made = ended(Kind.BASELINE, rung=rung, seed=100 + seed, batch_size=batch, at=BEGIN_S)
            yield made


BASELINES = 3 * SEEDS


def ended(kind: Kind, *, rung: int, seed: int, at: float, **more: Any) -> Trial:
    """Return a trial that ended well, with the figures that every trial has."""
    seconds = COST_S[rung]
    trial = Trial(
        **{"id": "", "parent": None, "branch": None, "proposal": None, "commit": None, **more},
        kind=kind,
        rung=rung,
        seed=seed,
        split=SplitName.SEARCH_VAL,
        status=Status.OK,
        title="nnU-Net default" if kind is Kind.BASELINE else "axial gate at the bottleneck",
        iterations=250 * 4**rung,
        planned_at=at,
        started_at=at + 1,
        ended_at=at + 1 + seconds,
        seconds=seconds,
        gpu_seconds=seconds,
        peak_memory_mib=5000.0,
        parameters=30_000_000,
        flops=10**12,
        isolation="bubblewrap (A)",
        environment_hash="e" * 12,
        network_hash=short_id(["network", more.get("commit")]),
        predictions_hash="p" * 12,
        start="warm",
        checkpointing=False,
        cpu_seconds=seconds,
    )
    return replace(trial, id=trial_id(trial))


def grow(number: int, quota: int, branches: int, rng: Random) -> Iterator[Grown]:
    """Yield the trials of one branch, parents first; branches take turns in time."""
    found: list[Grown] = []
    name = short_id(["branch", number])
    for step in range(quota):
        at = BEGIN_S + 1000 + (step * branches + number) * STEP_S
        one = next_trial(found, name, at, rng)
        if step == quota - 1 and one.trial.status is Status.OUT_OF_MEMORY:
            one = Grown(replace(one.trial, status=Status.FAILED), one.effect)  # nothing follows it
        found.append(one)
        yield one


def next_trial(found: list[Grown], branch: str, at: float, rng: Random) -> Grown:
    """Return the next trial of a branch: what repairs, climbs, repeats or refines another."""
    last = found[-1] if found else None
    alive = [one for one in found[-12:] if one.trial.status is Status.OK]
    if last is None:
        return new_network(None, branch, at, rng)
    if last.trial.status is Status.OUT_OF_MEMORY and last.trial.batch_size is None:
        return again(last, at, rng, batch_size=PLANNED_BATCH // 2, rung=0)
    if last.trial.status is not Status.OK and (not alive or rng.random() < 0.6):
        return new_network(last, branch, at, rng)
    one = max(rng.sample(alive, min(2, len(alive))), key=lambda row: row.effect)
    fate = rng.random()
    has_climbed = any(row.trial.parent == one.trial.id and row.trial.rung for row in found)
    if fate < 0.3 and one.trial.rung == 0 and one.trial.batch_size is None and not has_climbed:
        return again(one, at, rng, rung=1)
    if fate < 0.35:
        return again(one, at, rng, seed=rng.randrange(10**6))
    return new_network(one, branch, at, rng)


def new_network(parent: Grown | None, branch: str, at: float, rng: Random) -> Grown:
    """Return the first trial of a network: a draft, an improvement, or a repair."""
    kind, above, effect = Kind.DRAFT, None, rng.gauss(-0.01, 0.02)
    if parent is not None:
        above, effect = parent.trial.id, parent.effect + rng.gauss(-0.002, 0.01)
        kind = Kind.IMPROVE if parent.trial.status is Status.OK else Kind.REPAIR
    made = short_id([branch, at, rng.random()])
    repaired = parent is not None and kind is Kind.REPAIR
    trial = ended(
        kind,
        rung=0,
        seed=1,
        at=at,
        parent=above,
        branch=branch,
        proposal=parent.trial.proposal if parent and repaired else f"p{made}",
        commit=made * 3,
    )
    return outcome(trial, effect, rng)


def again(one: Grown, at: float, rng: Random, **more: Any) -> Grown:
    """Return another trial of a network: higher, with another seed, or with a smaller batch."""
    old = one.trial
    choices = {name: getattr(old, name) for name in TRIAL_CHOICES if name not in ("id", "split")}
    made = ended(**{**choices, "parent": old.id, "at": at, **more})
    return outcome(made, one.effect, rng)


def outcome(trial: Trial, effect: float, rng: Random) -> Grown:
    """Return a trial as it ended: most with scores, of which many are cut, and some without."""
    if rng.random() > 0.13:
        return Grown(trial, effect, is_cut=effect < 0 and rng.random() < 0.5)
    kinds = FAILURES if trial.batch_size is None else FAILURES[:1]
    status, reason = rng.choice(kinds)
    excerpt = f"RuntimeError: {reason}: expected 64 channels, got 32"
    failed = replace(
        trial,
        status=status,
        failure_class=reason,
        failure_excerpt=excerpt,
        seconds=9.0,
        predictions_hash=None,
    )
    return Grown(failed, effect)


def follower(one: Trial, number: int) -> Trial:
    """Return the planned trial of a refinement of a trial with scores, under its proposal."""
    at = BEGIN_S + 10**8 + number
    choices = {"parent": one.id, "branch": one.branch, "proposal": one.proposal}
    trial = ended(Kind.IMPROVE, rung=0, seed=1, at=at, commit=f"{number:040x}", **choices)
    return replace(begun(trial), status=Status.PLANNED)


def result(one: Trial, rng: Random) -> tuple[Figures, list[CaseScore]]:
    """Return how a trial that runs ends: the fields that change, and its scores."""
    again = ended(one.kind, rung=one.rung, seed=one.seed, at=one.planned_at or 0.0)
    names = ("status", "ended_at", "seconds", "gpu_seconds", "peak_memory_mib", "cpu_seconds")
    changes = {name: getattr(again, name) for name in names}
    return changes, list(scores(Grown(one, rng.gauss(0.0, 0.02)), rng))


def proposal(name: str, rng: Random) -> Proposal:
    """Return a proposal with one to three components."""
    chosen = rng.sample(COMPONENTS, rng.randint(1, 3))
    modules = tuple(Module(component, "encoder", (0, 1)) for component in chosen)
    motivation = "Slices are thick, so that context along the axis is worth its cost."
    return Proposal(name, " with ".join(chosen), motivation, modules, "no gain", (), "grammar")


def write(conn: sqlite3.Connection, grown: Sequence[Grown], rng: Random) -> None:
    """Write trials, scores, ends, events and what decisions did, in the order of time."""
    insert(conn, [begun(one.trial) for one in grown])
    finals: list[Trial] = []
    events: list[Event] = []
    for number, one in enumerate(grown):
        own = list(scores(one, rng)) if one.trial.status is Status.OK else []
        insert(conn, own)
        final = replace(one.trial, scores_hash=scores_hash(own) if own else None)
        finals.append(final)
        events += told(final, len(own), is_cut=one.is_cut)
        done = (f"decision/{len(events)}/done", f'{{"trial":"{final.id}"}}')
        if number >= BASELINES:
            conn.execute("INSERT INTO effect (key, result) VALUES (?, ?)", done)
    finish(conn, finals)
    insert(conn, events)


def begun(trial: Trial) -> Trial:
    """Return a trial as it stood when it began: what its end says is not there yet."""
    kept = {*TRIAL_CHOICES, "title", "iterations", "planned_at", "started_at"}
    blank: Figures = {f.name: None for f in fields(Trial) if f.name not in kept}
    return replace(trial, **{**blank, "status": Status.RUNNING})


def scores(one: Grown, rng: Random) -> Iterator[CaseScore]:
    """Yield the Dice of each case: harder and easier cases, noise of the case and of the seed."""
    mean = BASELINE_DICE[one.trial.rung] + one.effect + rng.gauss(0.0, 0.004)
    for i in range(CASES):
        value = mean + 0.1 * (i / CASES - 0.5) + rng.gauss(0.0, 0.01)
        case = f"{SplitName.SEARCH_VAL}-{i:02}"
        yield CaseScore(one.trial.id, case, "organ", Metric.DICE, min(1.0, max(0.0, value)))


def told(trial: Trial, count: int, *, is_cut: bool) -> Iterator[Event]:
    """Yield the events of a trial: why it was begun, how it ended, and whether it was cut."""
    if trial.kind is not Kind.BASELINE:
        kind = {Kind.DRAFT: "open", Kind.REPAIR: "repair"}.get(trial.kind, "improve")
        kind = "promote" if trial.rung else kind
        arm = {"action": kind, "branch": trial.branch, "mean": 0.0123456, "score": 1.23456}
        figures = {"arms": [arm] * 8, "trials_left": 1000, "rung": trial.rung, "node": trial.parent}
        text = f"{kind}: score 1.23 after 4.5 trainings, 20 others up to 1.20"
        yield Event(kind, text, figures, trial.parent, trial.branch, trial.planned_at or 0.0)
    yield result_event(trial, count)
    if is_cut:
        figures = {"p_ever": 0.01, "bar": 0.02, "closes_branch": False, "node": trial.id}
        text = f"cuts {trial.id}: it passes the best so far with probability 0.01"
        yield Event("cut", text, figures, trial.id, trial.branch, trial.ended_at or 0.0)


def finish(conn: sqlite3.Connection, trials: Iterable[Trial]) -> None:
    """End trials that are running."""
    names = [f.name for f in fields(Trial) if f.name not in TRIAL_CHOICES]
    sets = ", ".join(f"{name} = :{name}" for name in names)
    conn.executemany(f"UPDATE trial SET {sets} WHERE id = :id", map(to_row, trials))


def insert(conn: sqlite3.Connection, records: Sequence[Any]) -> None:
    """Append records of one type; events get their numbers from the store."""
    if not records:
        return
    rows = [to_row(record) for record in records]
    if isinstance(records[0], Event):
        for row in rows:
            del row["id"]
    names = list(rows[0])
    columns = ", ".join(f'"{name}"' for name in names)
    marks = ", ".join("?" * len(names))
    table = TABLES[type(records[0])]
    values = (tuple(row.values()) for row in rows)
    conn.executemany(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', values)
