"""`segwright bench gpu`: how well trials fill a GPU, and what an iteration costs beside nnU-Net.

Seconds an iteration are the slope between a short and a long training of the default network,
so that starts, compilation and the final validation fall out; on both sides the same card, plan,
batch and data, each side with its own loaders. Utilisation is what nvidia-smi says five times a
second while a queue of trials is worked off, start and end of the queue included.

Not covered: more than one card; a card that other programs use meanwhile.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from threading import Thread
from typing import NamedTuple

from agent.session import Session
from bench.demo import SETTINGS
from bench.demo_data import build_demo
from bench.figures import Figure, figure
from bench.nnunet_cli import NnUnet
from bench.resources import measured, reap
from bench.sides import Costs, Say, Sides, Source, make_sides, on_device
from bench.trials import run_trial, warmed
from memory.errors import SegwrightError
from sandbox.engine import find_device
from sandbox.gpus import Gpu, gpus, granted
from sandbox.processes import adopt_orphans

REPEATS = 3
SHORT, LONG, LONG_QUICK = 50, 550, 150
QUEUE, QUEUE_QUICK = 12, 3
EVERY_MS = 200
IDLE_PERCENT = 5.0


class Sample(NamedTuple):
    """One reading of a card: percent of the time that a kernel ran, and MiB in use."""

    utilisation: float
    memory_mib: float


def run(*, is_quick: bool, data: Sequence[Path], say: Say) -> dict[str, Figure]:
    """Measure and return the figures; `data` is the dataset, the demo's where empty.

    Raises:
        SegwrightError: no CUDA device is there, or more than one dataset is given.
    """
    card = require_card()
    if len(data) > 1:
        raise SegwrightError(f"bench gpu takes one dataset; {len(data)} were given with --data")
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="segwright-bench-") as name, warmed():
        work = Path(name)
        given = {} if data else SETTINGS
        raw = data[0].resolve() if data else build_demo(work / "demo")
        source = Source(raw, on_device(given, "cuda"), "")
        sides = make_sides(source, work, Costs(), repeats=1, say=say)
        figures = iteration_figures(sides, is_quick=is_quick, say=say)
        say("a queue of trials")
        figures |= queue_figures(sides.session, card, QUEUE_QUICK if is_quick else QUEUE)
        reap()
    return figures


def require_card() -> Gpu:
    """Return the first card that this process is granted.

    Raises:
        SegwrightError: torch or the driver finds none.
    """
    found = find_device("auto")
    cards = granted(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if found != "cuda" or not cards:
        raise SegwrightError(f"bench gpu needs a CUDA device; torch finds only {found} here")
    return cards[0]


def iteration_figures(sides: Sides, *, is_quick: bool, say: Say) -> dict[str, Figure]:
    """Return seconds an iteration here and there, and their ratio pair by pair."""
    long, ours, theirs = LONG_QUICK if is_quick else LONG, [], []
    for number in range(1 if is_quick else REPEATS):
        say(f"seconds an iteration on both sides ({number + 1})")
        ours.append(slope({n: train_here(sides.session, n) for n in (SHORT, long)}))
        theirs.append(slope({n: train_there(sides.nnunet, n) for n in (SHORT, long)}))
    return {
        "iteration_ratio": figure([a / b for a, b in zip(ours, theirs, strict=True)], "1"),
        "iteration_s": figure(ours, "s"),
        "nnunet_iteration_s": figure(theirs, "s"),
    }


def train_here(session: Session, iterations: int) -> float:
    """Return the seconds of a trial's training run."""
    return float(run_trial(replace(session, iterations=(iterations,)))["train_seconds"])


def train_there(own: NnUnet, iterations: int) -> float:
    """Return the seconds of nnUNetv2_train without its final validation."""
    whole, validation = own.train(iterations=iterations, device="cuda")
    return whole.wall_s - validation.wall_s


def slope(seconds: dict[int, float]) -> float:
    """Return the seconds that one more iteration takes, from trainings of two lengths."""
    (few, short), (many, long) = sorted(seconds.items())
    return (long - short) / (many - few)


def queue_figures(session: Session, card: Gpu, count: int) -> dict[str, Figure]:
    """Work off a queue of trials in all slots and return how busy the card was."""
    session = replace(session, iterations=(LONG_QUICK,))

    def work() -> None:
        with ThreadPoolExecutor(session.slots) as pool:
            list(pool.map(lambda _: run_trial(session), range(count)))

    with sampled(card) as samples:
        cost = measured(work)
    return utilisation_figures(samples) | {
        "gpu_trials_per_hour": figure([count / cost.wall_s * 3600], "1/h")
    }


@contextlib.contextmanager
def sampled(card: Gpu) -> Iterator[list[Sample]]:
    """Read a card for as long as the block runs; the list is filled meanwhile.

    Raises:
        SegwrightError: nvidia-smi is missing.
    """
    line = ["nvidia-smi", f"--id={card.uuid}", "--query-gpu=utilization.gpu,memory.used"]
    line += ["--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"]
    samples: list[Sample] = []
    try:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise SegwrightError("nvidia-smi is missing; it comes with the NVIDIA driver") from None
    assert process.stdout is not None
    thread = Thread(target=collect, args=(process.stdout, samples))
    with process:
        thread.start()
        try:
            yield samples
        finally:
            process.terminate()
            thread.join()


def collect(lines: Iterable[str], samples: list[Sample]) -> None:
    """Add what nvidia-smi prints to the samples, line by line; readings it cannot give are left."""
    for line in lines:
        numbers = [text.strip() for text in line.split(",")]
        if len(numbers) == 2 and all(text.isdigit() for text in numbers):
            samples.append(Sample(float(numbers[0]), float(numbers[1])))


def utilisation_figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return mean utilisation, the share of readings at rest, and memory; low and high of all.

    Raises:
        SegwrightError: nvidia-smi gave no reading.
    """
    if not samples:
        raise SegwrightError("nvidia-smi gave no reading of the card")
    busy = [sample.utilisation for sample in samples]
    idle = fmean(float(percent < IDLE_PERCENT) for percent in busy)
    memory = [sample.memory_mib for sample in samples]
    return {
        "gpu_utilisation": Figure(fmean(busy), min(busy), max(busy), "%"),
        "gpu_idle_share": figure([idle], "1"),
        "gpu_memory_mib": Figure(max(memory), min(memory), max(memory), "MiB"),
    }
