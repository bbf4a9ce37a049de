"""What one trial is: its job.json, written whole by the campaign before the trial starts."""

from dataclasses import dataclass

from memory.records import SplitName
from sandbox.boundary import Limits
from sandbox.checkpoint import iteration_at


def fold_folder(fold: int) -> str:
    """Return the folder below preprocessed/ with a fold's training data; fold 0 has none."""
    return f"fold-{fold}" if fold else ""


@dataclass(frozen=True, slots=True)
class Job:
    """What one trial is, as written by the campaign; all paths follow from its folder."""

    id: str
    has_network: bool
    iterations: int
    seed: int
    device: str
    threads: int
    workers: int
    mirroring: bool
    part: str
    shapes: dict[str, list[int]]
    train_cases: list[str]
    file_ending: str
    labels: dict[str, int | list[int]]
    ignore_label: int | None
    tolerance_mm: float
    has_labels: bool
    wall_s: float
    memory_mib: int
    disk_mib: int
    shm_mib: int
    batch_size: int
    iteration_limit_s: float
    allow_checkpointing: bool
    start: str
    isolation_level: str
    unsafe_reason: str = ""
    checkpoint: float = 0.0
    fold: int = 0
    confidence: bool = False

    @property
    def asked(self) -> dict[str, int | list[int]]:
        """The classes whose confidence is asked for: all on search-val, none on any other part."""
        is_open = self.has_labels and self.part == SplitName.SEARCH_VAL and not self.fold
        return self.labels if self.confidence and is_open else {}

    @property
    def data(self) -> str:
        """The folder below preprocessed/ that holds what this training may learn from."""
        return fold_folder(self.fold)

    @property
    def look_at(self) -> int:
        """The iteration after which the training is looked at; 0 for none."""
        return iteration_at(self.checkpoint, self.iterations) if self.has_labels else 0

    @property
    def limits(self) -> Limits:
        """The limits of each of the runs; CPU time is what all threads and workers may take."""
        return Limits(
            wall_s=self.wall_s,
            cpu_s=self.wall_s * (self.threads + self.workers + 1),
            memory_mib=self.memory_mib,
            disk_mib=self.disk_mib,
            shm_mib=self.shm_mib,
        )
