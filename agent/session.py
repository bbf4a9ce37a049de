"""One process's work on one campaign: paths, settings, plan, machine, clock.

A session is made once by `run` and read by every thread; it never changes. Each thread
opens its own store.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.config import Config
from memory.errors import SegwrightError
from memory.networks import Networks
from memory.records import SplitCase, SplitName, Trial
from memory.store import Store
from sandbox.boundary import Isolation, Limits
from sandbox.dry_run import Dry, dry_run
from sandbox.engine import Plan, preprocess
from sandbox.executor import Executor
from sandbox.folds import Fold, make_folds
from sandbox.gpus import granted_gpus


@dataclass(frozen=True, slots=True)
class Session:
    """What every step of a campaign needs to know."""

    folder: Path
    config: Config
    plan: Plan
    dataset: dict[str, Any]
    split: tuple[SplitCase, ...]
    iterations: tuple[int, ...]
    device: str
    slots: int
    isolation: Isolation
    executor: Executor
    dry_run: Callable[..., Dry] = dry_run
    preprocess: Callable[..., tuple[Path, dict[str, Any]]] = preprocess
    unsafe_reason: str = ""
    planning: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)

    def store(self) -> Store:
        """Open the campaign's store for the calling thread."""
        return Store.open(self.folder / "campaign.db")

    def networks(self) -> Networks:
        """Open the repository of networks."""
        return Networks.open(self.folder / "networks")

    def trial_folder(self, trial: str) -> Path:
        """Return the folder of a trial."""
        return self.folder / "trials" / trial

    def cases(self, part: SplitName) -> list[str]:
        """Return the cases of one part of the split."""
        return [case.case for case in self.split if case.split == part]

    def fold(self, number: int) -> Fold:
        """Return the cases of a fold: 0 is the split's own, the others are further ones.

        Raises:
            SegwrightError: search-train is too small for that many folds.
        """
        found = make_folds(self.split, seed=self.config.split.seed, count=number)
        if len(found) <= number:
            raise SegwrightError(
                f"fold {number} was asked for; search-train allows {len(found) - 1} further ones"
            )
        return found[number]

    def scored_cases(self, trial: Trial) -> list[str]:
        """Return the cases that a trial predicts and is scored on."""
        return list(self.fold(trial.fold).val) if trial.fold else self.cases(trial.split)

    def limits(self, wall_s: float, *, disk_mib: int = 0) -> Limits:
        """Return the limits of one run inside the sandbox; a `disk_mib` of 0 is as set."""
        own = self.config.sandbox
        return Limits(
            wall_s=wall_s,
            memory_mib=own.memory_mib,
            disk_mib=disk_mib or own.disk_mib,
            shm_mib=own.shm_mib,
        )

    @property
    def last_rung(self) -> int:
        """Number of the rung that finalists come from."""
        return len(self.iterations) - 1

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def slots_of(config: Config, device: str) -> int:
    """Return how many trials run side by side: as set, else one a core, or one a GPU."""
    if config.engine.slots:
        return config.engine.slots
    if device == "cuda":
        return max(1, len(granted_gpus()))
    if device != "cpu":
        return 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (usable or 1) // config.engine.threads)
