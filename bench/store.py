"""`segwright bench store`: what a campaign costs its store once it is large.

One store with 100,000 trials in 2,000 branches and a million scores, one of 3,000 trials
(`grown_store.py`), and one of 3,000 trials with 100,000 lessons (`grown_campaign.py`); with --quick
a tenth of the trials and 1,000 lessons. A key that ends in a number is of so many trials or lessons.
Recalls and prompts: `memory_times.py`. A decision is all that lies between the end of
one trial and the next one's start: its result is written, what changed is read, the tree is
brought up to date, the policy decides, and the decision is written. The first one reads
everything. Building and measuring are processes of their own, so that memory is the measured
work's alone; seconds are wall seconds, and two busy processes beside them show.

Not covered: the trial itself, reports.
"""

import gc
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeVar

from agent.growth import Growth
from agent.ladder import Settings
from agent.opening import open_store
from agent.policies import decide
from agent.search_tree import Tree
from agent.standings import SEARCH
from agent.tree_view import tree_json
from bench.figures import Figure, figure
from bench.grown_campaign import build_campaign
from bench.grown_store import (
    BEGIN_S,
    CASES,
    COST_S,
    PLANNED_BATCH,
    Size,
    build,
    follower,
    result,
)
from bench.memory_times import WITHOUT, context_figures, meaning_figures, recall_figures
from memory.embedder import installed
from memory.errors import SegwrightError
from memory.records import Event, Status, Trial
from memory.store import Store

LARGE, SHOWN = Size(100_000, 2_000), Size(3_000, 60)
LESSONS, LESSONS_QUICK = 100_000, 1_000
TARGETS = ("decision_ms", "tree_json_ms")
PART = 10  # --quick: one of so many
DECISIONS, DECISIONS_QUICK = 40, 8
REPEATS, REPEATS_QUICK = 15, 3
RECALLS, RECALLS_QUICK = 200, 10
TREE = "from agent.cli import main; main()"

T = TypeVar("T")
Say = Callable[[str], None]
Times = dict[str, list[float]]


def run(*, is_quick: bool, data: Sequence[Path], say: Say) -> dict[str, Figure]:
    """Measure and return the figures.

    Raises:
        SegwrightError: a dataset is given.
    """
    if data:
        raise SegwrightError("bench store makes its own rows; leave out --data")
    part = PART if is_quick else 1
    large, shown = (Size(*(count // part for count in size)) for size in (LARGE, SHOWN))
    with tempfile.TemporaryDirectory(prefix="segwright-bench-") as name:
        figures = tree_figures(Path(name), large, shown, is_quick=is_quick, say=say)
        figures |= memory_figures(Path(name) / "memory", shown, is_quick=is_quick, say=say)
    return figures


def tree_figures(
    folder: Path, large: Size, shown: Size, *, is_quick: bool, say: Say
) -> dict[str, Figure]:
    """Write two stores and return the figures of decisions on one and of the tree of the other."""
    for size in (large, shown):
        say(f"writes a store of {size.trials} trials in {size.branches} branches")
        alone(build, folder / str(size.trials), size)
    say("decides")
    count = DECISIONS_QUICK if is_quick else DECISIONS
    figures = sized(alone(decisions, folder / str(large.trials), count), large)
    say("shows the tree")
    repeats = REPEATS_QUICK if is_quick else REPEATS
    own = folder / str(shown.trials)
    found = alone(json_figures, own, repeats) | process_figures(own, repeats, shown.trials)
    return figures | sized(found, shown)


def sized(figures: dict[str, Figure], size: Size) -> dict[str, Figure]:
    """Return figures under their final keys: those of TARGETS with the number of trials."""
    return {f"{key}.{size.trials}" if key in TARGETS else key: figures[key] for key in figures}


def memory_figures(folder: Path, size: Size, *, is_quick: bool, say: Say) -> dict[str, Figure]:
    """Write a campaign with lessons and return the figures of its recalls and of its prompts."""
    lessons = LESSONS_QUICK if is_quick else LESSONS
    recalls = RECALLS_QUICK if is_quick else RECALLS
    say(f"writes a campaign of {size.trials} trials and {lessons} lessons")
    alone(build_campaign, folder, size, lessons)
    say("makes the prompts of each role")
    figures = alone(context_figures, folder, REPEATS_QUICK if is_quick else REPEATS)
    say("recalls by words")
    figures |= alone(recall_figures, folder, recalls, lessons)
    say("recalls by meaning" if installed() else WITHOUT)
    return figures | alone(meaning_figures, folder, recalls, lessons)


def alone(work: Callable[..., T], *arguments: object) -> T:
    """Do a piece of work in a fresh process and return its result."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def decisions(folder: Path, count: int) -> dict[str, Figure]:
    """Return the figures of a first decision and of `count` further ones."""
    begin = time.monotonic()
    with open_store(folder) as store:
        growth = Growth(store)
        growth.refresh()
        decide_once(growth, store, number=0)
        gc.freeze()  # a collection would look at all those trials again, in vain
        times: Times = {"first_decision_s": [time.monotonic() - begin]}
        rng = Random(1)
        search = [t for t in growth.trials.values() if t.kind in SEARCH]
        scored = sorted(t.id for t in search if t.status is Status.OK)
        scores = CASES * sum(trial.status is Status.OK for trial in growth.trials.values())
        sizes = {"trials": len(search), "case_scores": scores}
        for number in range(1, count + 1):
            one = follower(growth.trials[rng.choice(scored)], number)
            store.add_trial(one)
            store.update_trial(one.id, status=Status.RUNNING)
            for key, value in further(growth, store, one, number).items():
                times.setdefault(key, []).append(value)
    figures = {k: figure(v, k.rsplit("_", 1)[1]) for k, v in times.items()}
    figures |= {key: figure([float(value)], "1") for key, value in sizes.items()}
    mib = sum(path.stat().st_size for path in folder.glob("campaign.db*")) / 2**20
    figures["store_mib"] = figure([mib], "MiB")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["peak_memory_mib"] = figure([peak], "MiB")
    return figures


def further(growth: Growth, store: Store, one: Trial, number: int) -> dict[str, float]:
    """End a trial and decide once more; return the milliseconds of each step and of all."""
    final, scores = result(one, Random(number))
    clock = [time.monotonic()]
    store.record_result(one.id, changes=final, scores=scores)
    clock.append(time.monotonic())
    growth.refresh()
    clock.append(time.monotonic())
    decide_once(growth, store, number=number)
    clock.append(time.monotonic())
    steps = zip(("change_ms", "refresh_ms", "choice_ms"), pairwise(clock), strict=True)
    parts = {key: 1000 * (end - begin) for key, (begin, end) in steps}
    return {**parts, "decision_ms": sum(parts.values())}


def decide_once(growth: Growth, store: Store, *, number: int) -> None:
    """Ask the policy for the next decision on a tree that is up to date, and store it.

    Every second time it may cut nothing, so that it goes through all that comes after the cuts.
    """
    seen = tree_of(growth, cut_below=0.05 * (number % 2))
    made = decide(seen, Random(f"bench/{number}"), settings=Settings())
    figures = {**made.figures, "node": made.node, "rung": made.rung}
    at = BEGIN_S + 10**8 + number
    store.add_event(Event(made.action, made.text, figures, made.node, made.branch, at))


def tree_of(growth: Growth, *, cut_below: float) -> Tree:
    """Return the tree as a policy sees it, with time left and two slots free."""
    rungs = range(len(COST_S))
    return Tree(
        branches=growth.with_pending(growth.branches, ()),
        baseline_mean=tuple(growth.standings.baseline_mean(rung) for rung in rungs),
        cost_s=tuple(growth.cost_s(rung, slower=1.0) for rung in rungs),
        slots=2,
        batch_size=PLANNED_BATCH,
        cut_below=cut_below,
    )


def json_figures(folder: Path, repeats: int) -> dict[str, Figure]:
    """Return the milliseconds in which a process that runs makes the JSON of the tree."""
    times = []
    for _ in range(repeats):
        begin = time.monotonic()
        with open_store(folder, read_only=True) as store:
            tree_json(store)
        times.append(1000 * (time.monotonic() - begin))
    return {"tree_json_ms": figure(times, "ms")}


def process_figures(folder: Path, repeats: int, trials: int) -> dict[str, Figure]:
    """Return the milliseconds of `segwright tree --json`, start of Python and imports included.

    Raises:
        SegwrightError: it failed, or it shows fewer trials than there are.
    """
    command = [sys.executable, "-I", "-c", TREE, "tree", str(folder), "--json"]
    times = []
    for _ in range(repeats):
        begin = time.monotonic()
        ran = subprocess.run(command, capture_output=True, text=True)
        times.append(1000 * (time.monotonic() - begin))
        if ran.returncode or len(json.loads(ran.stdout)["nodes"]) < trials:
            raise SegwrightError(f"segwright tree {folder} failed: {ran.stderr.strip()}")
    return {"tree_process_ms": figure(times, "ms")}
