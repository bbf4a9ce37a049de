"""One process a trial, trusted: ``python -I -m sandbox.supervisor TRIAL_FOLDER``.

Holds the trial's lock, trains in one sandbox, predicts in a second one, collects label
maps as hostile, scores them where the labels may be read, and publishes result.json once
by link(). It outlives the program that started it, knows nothing of the store, and never
loads anything that a trial wrote. A trial whose result exists is never run again.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from memory.errors import CollectError, SandboxError, ScoringError
from memory.records import CaseScore, Status
from sandbox.collect import collect_json, collect_log, copy_file, label_maps, write_label_map
from sandbox.engine import MIB, Plan, failure, load_plan, run_child
from sandbox.fingerprints import predictions_hash
from sandbox.isolation import Isolation, Limits, Mount, choose
from sandbox.scoring import score_cases

BUSY = 75
STOPPED = 143
STATUS = {
    "timed_out": Status.TIMED_OUT,
    "out_of_memory": Status.OUT_OF_MEMORY,
    "diverged": Status.DIVERGED,
    "contract": Status.REJECTED,
}


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

    @property
    def limits(self) -> Limits:
        """The limits of each of the two runs."""
        return Limits(
            wall_s=self.wall_s,
            memory_mib=self.memory_mib,
            disk_mib=self.disk_mib,
            shm_mib=self.shm_mib,
        )


class Stop:
    """Set by SIGTERM or SIGINT; asked between ticks."""

    def __init__(self) -> None:
        """Install the handlers."""
        self.is_set = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.set)

    def set(self, *_: Any) -> None:
        """Remember that the trial must end."""
        self.is_set = True


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Hold a trial's lock; yields False when another supervisor has it."""
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def main(folder: Path) -> int:
    """Run one trial to its result; 0 with a result, 75 when another runs it, 143 when stopped."""
    stop = Stop()
    with lock(folder) as is_ours:
        if not is_ours:
            return BUSY
        if (folder / "result.json").exists():
            return 0
        (folder / "pid").write_text(str(os.getpid()))
        job = read_job(folder)
        try:
            result = run(folder, job, stop)
        except (SandboxError, OSError) as error:
            result = {"status": "infrastructure", "failure_excerpt": str(error)[:2000]}
        if stop.is_set:
            tidy(folder)
            return STOPPED
        publish(folder, result)
    return 0


def read_job(folder: Path) -> Job:
    """Read the trial's job.json, which the campaign wrote."""
    values = json.loads((folder / "job.json").read_text())
    return Job(**{f.name: values[f.name] for f in fields(Job)})


def run(folder: Path, job: Job, stop: Stop) -> dict[str, Any]:
    """Train, predict, collect and score; return the result."""
    campaign, start = folder.parent.parent, time.time()
    plan, isolation = load_plan(campaign), choose()
    log = folder / "raw" / "log.txt"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    result: dict[str, Any] = {"isolation": str(isolation), "started_at": start, "scores": []}
    try:
        result |= train(folder, job, plan, isolation, log, stop)
        if result["status"] == Status.OK:
            result |= predict(folder, job, plan, isolation, log, stop)
        if result["status"] == Status.OK and job.has_labels:
            result["scores"] = [row(score) for score in score(folder, job)]
    except (CollectError, ScoringError) as error:
        result |= {"status": Status.REJECTED, "failure_class": "output"}
        result["failure_excerpt"] = str(error)[:2000]
        result["scores"] = []
    write_log(folder, log)
    return result | {"ended_at": time.time(), "seconds": time.time() - start}


def code_mount(folder: Path, job: Job) -> list[Mount]:
    """Return the mount of the trial's network, if it has one."""
    return [Mount(folder / "code", "/code")] if job.has_network else []


def train(
    folder: Path, job: Job, plan: Plan, isolation: Isolation, log: Path, stop: Stop
) -> dict[str, Any]:
    """Train in the first sandbox: data of search-train, no image of any other part."""
    child = plan.job(
        device=job.device, threads=job.threads, seed=job.seed, has_network=job.has_network
    )
    child |= {"iterations": job.iterations, "workers": job.workers, "cases": job.train_cases}
    data = folder.parent.parent / "preprocessed" / plan.dataset
    ended, out = run_child(
        "train",
        child,
        folder=folder / "train",
        mounts=[*code_mount(folder, job), Mount(data, f"/data/{plan.dataset}")],
        isolation=isolation,
        limits=job.limits,
        log=log,
        is_stopped=lambda: stop.is_set,
    )
    seconds = {"train_seconds": ended.seconds, "peak_memory_mib": ended.peak_memory_mib}
    kind, text = failure(ended, out)
    if kind:
        return seconds | failed(kind, text)
    (folder / "curve.json").write_text(json.dumps(collect_json(out, "curve.json")))
    said = collect_json(out, "trained.json")
    weights = folder / "weights" / "weights.pth"
    weights.parent.mkdir(exist_ok=True)
    weights.unlink(missing_ok=True)
    copy_file(out, weights.name, weights, max_bytes=job.disk_mib * MIB)
    return seconds | {"status": Status.OK, "claimed_loop_seconds": said.get("seconds")}


def predict(
    folder: Path, job: Job, plan: Plan, isolation: Isolation, log: Path, stop: Stop
) -> dict[str, Any]:
    """Predict in the second sandbox: images of one part, weights, no label; then collect."""
    child = plan.job(
        device=job.device, threads=job.threads, seed=job.seed, has_network=job.has_network
    )
    child |= {"cases": sorted(job.shapes), "mirroring": job.mirroring}
    campaign = folder.parent.parent
    images = campaign / "preprocessed" / "images" / job.part
    ended, out = run_child(
        "predict",
        child,
        folder=folder / "predict",
        mounts=[
            *code_mount(folder, job),
            Mount(images, "/images"),
            Mount(folder / "weights", "/weights"),
        ],
        isolation=isolation,
        limits=job.limits,
        log=log,
        is_stopped=lambda: stop.is_set,
    )
    seconds: dict[str, Any] = {"predict_seconds": ended.seconds}
    kind, text = failure(ended, out)
    if kind:
        return seconds | failed(kind, text)
    keep_label_maps(campaign, folder, job, out)
    return seconds | {"predictions_hash": predictions_hash(folder / "predictions")}


def keep_label_maps(campaign: Path, folder: Path, job: Job, out: Path) -> None:
    """Collect the label maps as hostile and write our own files in the raw geometry."""
    shapes = {case: tuple(shape) for case, shape in job.shapes.items()}
    values = {0} | {
        v for label in job.labels.values() for v in (label if isinstance(label, list) else [label])
    }
    target = folder / "predictions"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for case, label_map in label_maps(out, shapes, allowed_values=values):
        image = campaign / "images" / job.part / f"{case}_0000{job.file_ending}"
        write_label_map(label_map, image, target / f"{case}{job.file_ending}")


def score(folder: Path, job: Job) -> list[CaseScore]:
    """Score the collected label maps against the labels of search-val."""
    labels: dict[str, int | tuple[int, ...]] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in job.labels.items()
    }
    return score_cases(
        folder / "predictions",
        folder.parent.parent / "labels" / job.part,
        sorted(job.shapes),
        file_ending=job.file_ending,
        labels=labels,
        ignore_label=job.ignore_label,
        tolerance_mm=job.tolerance_mm,
        trial=job.id,
    )


def row(score: CaseScore) -> list[Any]:
    """Return one score as result.json keeps it."""
    return [score.case, score.label, str(score.metric), score.value, score.reason]


def failed(kind: str, text: str) -> dict[str, Any]:
    """Return the part of a result that says how a run failed."""
    status = STATUS.get(kind, Status.FAILED)
    return {"status": status, "failure_class": kind, "failure_excerpt": text}


def write_log(folder: Path, log: Path) -> None:
    """Keep the log without what a terminal would obey."""
    (folder / "log.txt").write_text(collect_log(log.parent, log.name))


def publish(folder: Path, result: dict[str, Any]) -> None:
    """Write result.json whole and once; a result that is there already stays."""
    tidy(folder)
    draft = folder / f"result.{os.getpid()}.tmp"
    draft.write_text(json.dumps(result, indent=1))
    with contextlib.suppress(FileExistsError):
        os.link(draft, folder / "result.json")
    draft.unlink()


def tidy(folder: Path) -> None:
    """Remove what a finished trial does not need: /out folders and weights."""
    for name in ("train", "predict", "weights", "raw"):
        shutil.rmtree(folder / name, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
