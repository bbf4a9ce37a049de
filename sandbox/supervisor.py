"""One process a trial, trusted: ``python -I -m sandbox.supervisor TRIAL_FOLDER``.

Holds the trial's lock, trains in one sandbox, predicts in a second one, collects label
maps as hostile, scores them where the labels may be read, and publishes result.json once
by link(). It outlives the program that started it, knows nothing of the store, and never
loads anything that a trial wrote. A trial whose result exists is never run again. Part of the
way, a training may be looked at, and then be told to stop (`sandbox/checkpoint.py`). How sure
the network is of search-val is kept in the result where the job asks for it; nothing rests on it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

from memory.errors import CollectError, SandboxError, ScoringError
from memory.records import CaseScore, SplitName, Status
from sandbox import checkpoint, warm
from sandbox.boundary import Isolation, Limits, Mount
from sandbox.collect import collect_json, collect_log, copy_file, label_maps, write_label_map
from sandbox.confidence import collect_confidence
from sandbox.engine import MIB, Plan, load_plan, run_child
from sandbox.failures import failure, status_of
from sandbox.fingerprints import predictions_hash
from sandbox.gpus import Gpu, lease
from sandbox.isolation import choose, unsafe
from sandbox.job import Job
from sandbox.processes import adopt_orphans
from sandbox.scoring import score_cases
from sandbox.usage import remove
from sandbox.watch import Ended

BUSY = 75
STOPPED = 143
WEIGH_S = 300.0


class Outcome(NamedTuple):
    """How one run ended, its /out, and the class and text of its failure; empty if it had none."""

    ended: Ended
    out: Path
    kind: str
    text: str


class Site(NamedTuple):
    """What the runs of a trial share: its folder, job, plan, boundary, card, and where to log.

    `at` is the folder in the trial's own that its runs and their weights lie in; empty: itself.
    """

    folder: Path
    job: Job
    plan: Plan
    isolation: Isolation
    gpu: Gpu | None
    log: Path
    is_stopped: Callable[[], bool]
    at: str = ""

    @property
    def work(self) -> Path:
        """The folder that the runs and their weights lie in."""
        return self.folder / self.at

    @property
    def campaign(self) -> Path:
        """The campaign's folder."""
        return self.folder.parent.parent

    def contain(
        self, mode: str, fields: dict[str, Any], mounts: list[Mount], limits: Limits | None = None
    ) -> Outcome:
        """Run one mode of the child; the network's code is mounted for those that load it."""
        job, before = self.job, self.log.stat().st_size
        child = self.plan.job(
            device=job.device, threads=job.threads, seed=job.seed, has_network=job.has_network
        )
        code = [Mount(self.folder / "code", "/code")] if job.has_network else []
        ended, out = run_child(
            mode,
            {**child, **fields},
            folder=self.work / mode,
            mounts=[*(code if mode != "weigh" else []), *mounts],
            isolation=self.isolation,
            limits=limits or job.limits,
            log=self.log,
            gpu=self.gpu,
            warm=warm.offered(job.start),
            is_stopped=self.is_stopped,
        )
        return Outcome(ended, out, *failure(ended, out, self.log, after=before))


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
    adopt_orphans()
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
    known = [f.name for f in fields(Job) if f.name in values or f.default is MISSING]
    return Job(**{name: values[name] for name in known})


def run(folder: Path, job: Job, stop: Stop) -> dict[str, Any]:
    """Train, predict, collect and score; return the result."""
    start = time.time()
    if job.has_labels and job.part == SplitName.LOCKED_TEST:
        raise SandboxError("the job asks for scores on the locked test, whose labels are not here")
    isolation = unsafe(job.unsafe_reason) if job.unsafe_reason else choose(job.isolation_level)
    log = folder / "raw" / "log.txt"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    result: dict[str, Any] = {"isolation": str(isolation), "started_at": start, "scores": []}
    with card(job, stop) as gpu:
        plan = load_plan(folder.parent.parent)
        site = Site(folder, job, plan, isolation, gpu, log, lambda: stop.is_set)
        try:
            result |= carry_out(site)
        except (CollectError, ScoringError) as error:
            result |= failed("output", str(error)[:2000]) | {"scores": []}
    write_log(folder, log)
    return result | {"ended_at": time.time(), "seconds": time.time() - start}


@contextlib.contextmanager
def card(job: Job, stop: Stop) -> Iterator[Gpu | None]:
    """Hold a GPU for the block, where the job asks for one."""
    if job.device != "cuda":
        yield None
        return
    with lease(lambda: stop.is_set) as gpu:
        yield gpu


def carry_out(site: Site) -> dict[str, Any]:
    """Return what the runs of a trial gave: figures of ours, and scores where labels are open."""
    result = train(site)
    for step in (weigh, predict):
        if result["status"] == Status.OK:
            result |= added(result, step(site))
    if result["status"] == Status.OK and site.job.has_labels:
        result["scores"] = [row(one) for one in score(site)]
    return result


def added(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return a step's figures with memory and CPU seconds over all steps so far."""
    return now | {
        "peak_memory_mib": max(before["peak_memory_mib"], now.pop("peak_memory_mib")),
        "cpu_seconds": before["cpu_seconds"] + now.pop("cpu_seconds"),
    }


def measured(ended: Ended) -> dict[str, Any]:
    """Return what we measured about a run from outside."""
    return {"peak_memory_mib": ended.peak_memory_mib, "cpu_seconds": ended.cpu_seconds}


def train(site: Site) -> dict[str, Any]:
    """Train; out of memory, train once more with activation checkpointing. All tries are told."""
    job, attempts = site.job, list[dict[str, Any]]()
    setup = {"batch_size": job.batch_size, "checkpointing": False}
    result = train_once(site, setup)
    if result["status"] == Status.OUT_OF_MEMORY and job.allow_checkpointing:
        attempts.append({**setup, **{k: result[k] for k in ("failure_class", "failure_excerpt")}})
        setup["checkpointing"] = True
        result |= added(result, train_once(site, setup))
    return result | {"setup": {**setup, "attempts": attempts}}


def train_once(site: Site, setup: dict[str, Any]) -> dict[str, Any]:
    """Train in a sandbox of its own: what its fold learns from, no image of any other case."""
    job, folder = site.job, site.folder
    data = site.campaign / "preprocessed" / job.data / site.plan.dataset
    fields = {"iterations": job.iterations, "workers": job.workers, "cases": job.train_cases}
    fields |= {"iteration_limit_s": job.iteration_limit_s, **with_batch(site.plan, setup)}
    fields["checkpoint"] = job.look_at
    mounts = [Mount(data, f"/data/{site.plan.dataset}")]
    told = site._replace(is_stopped=lambda: site.is_stopped() or checkpoint.is_told(folder))
    with looking(site) as look:
        ended, out, kind, text = told.contain("train", fields, mounts)
        if kind:
            look.cancel()
    result = {"start": ended.start, "train_seconds": ended.seconds, **measured(ended)}
    if kind:
        return result | failed(kind, checkpoint.told(folder, text) if kind == "stopped" else text)
    (folder / "curve.json").write_text(json.dumps(collect_json(out, "curve.json")))
    said = collect_json(out, "trained.json")
    weights = folder / "weights" / "weights.pth"
    weights.parent.mkdir(exist_ok=True)
    weights.unlink(missing_ok=True)
    copy_file(out, weights.name, weights, max_bytes=job.disk_mib * MIB)
    remove(out)
    return result | {"status": Status.OK, "claimed_loop_seconds": said.get("seconds")}


def looking(site: Site) -> checkpoint.Look:
    """Return the look at a training, with a folder, a log and an end of its own."""

    def carry_out(is_stopped: Callable[[], bool]) -> dict[str, Any]:
        log = site.log.with_name("checkpoint.txt")
        log.write_bytes(b"")
        own = site._replace(at=checkpoint.FOLDER, log=log, is_stopped=is_stopped)
        most = site.job.disk_mib * MIB
        checkpoint.take(site.folder, own.work / "weights", max_bytes=most)
        result = predict(own)
        if "failure_class" in result:
            return {"failed": f"{result['failure_class']}: {result['failure_excerpt']}"}
        return {"scores": [row(one) for one in score(own)]}

    return checkpoint.Look(site.folder, site.job.look_at, carry_out, site.is_stopped)


def with_batch(plan: Plan, setup: dict[str, Any]) -> dict[str, Any]:
    """Return the setup, and the plan with its batch size."""
    planned = {**plan.planned, "batch_size": setup["batch_size"]}
    return {**setup, "plans": {**plan.plans, "configurations": {plan.configuration: planned}}}


def weigh(site: Site) -> dict[str, Any]:
    """Count the weights where the network's code is not: it cannot lie about its size."""
    limits = Limits(wall_s=WEIGH_S, memory_mib=site.job.memory_mib)
    ended, out, kind, text = site.contain(
        "weigh", {}, [Mount(site.folder / "weights", "/weights")], limits
    )
    if kind:
        return measured(ended) | failed("output", f"the weights cannot be read: {text}")
    said = collect_json(out, "weighed.json", max_bytes=4096)
    if said.get("not_finite"):
        text = f"{said['not_finite']} of the trained weights are not finite"
        return measured(ended) | failed("diverged", text)
    return measured(ended) | {"parameters": int(said["parameters"])}


def predict(site: Site) -> dict[str, Any]:
    """Predict in another sandbox: images of one part, weights, no label; then collect."""
    job, work = site.job, site.work
    images = site.campaign / "preprocessed" / "images" / job.part
    classes = {} if site.at else job.asked
    ended, out, kind, text = site.contain(
        "predict",
        {"cases": sorted(job.shapes), "mirroring": job.mirroring, "classes": classes},
        [Mount(images, "/images"), Mount(work / "weights", "/weights")],
    )
    result = {"predict_seconds": ended.seconds, **measured(ended)}
    if kind:
        return result | failed(kind, text)
    keep_label_maps(site.campaign, work, job, out)
    if classes:
        result["confidence"] = collect_confidence(out, list(job.shapes), list(classes))
    return result | {"predictions_hash": predictions_hash(work / "predictions")}


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


def score(site: Site) -> list[CaseScore]:
    """Score the collected label maps against the labels of search-val."""
    job = site.job
    labels: dict[str, int | tuple[int, ...]] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in job.labels.items()
    }
    return score_cases(
        site.work / "predictions",
        site.campaign / "labels" / job.part,
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
    return {"status": status_of(kind), "failure_class": kind, "failure_excerpt": text}


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
    for name in ("train", "weigh", "predict", "weights", "raw", checkpoint.FOLDER):
        remove(folder / name)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
