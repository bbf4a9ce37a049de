"""nnU-Net as a library, seen from outside the sandbox: plans, jobs, and what came back.

Nothing here imports torch or nnU-Net; both run in a child process inside the boundary
(`sandbox/child`). A trial is one job: a plan, a network or none, iterations, a seed.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory.errors import SandboxError, SegwrightError
from sandbox.boundary import Isolation, Limits, Mount
from sandbox.collect import collect_json
from sandbox.failures import failure
from sandbox.gpus import Gpu
from sandbox.processes import tail
from sandbox.usage import remove
from sandbox.watch import Ended, contain

CHILD = Path(__file__).parent / "child"
MIB = 1 << 20
PREPARING = "preparing"


@dataclass(frozen=True, slots=True)
class Plan:
    """nnU-Net's plan of one configuration, as every trial of the campaign uses it."""

    dataset: str
    plans: dict[str, Any]
    dataset_json: dict[str, Any]

    @property
    def configuration(self) -> str:
        """Name of the one configuration: 2d or 3d_fullres."""
        return str(next(iter(self.plans["configurations"])))

    @property
    def planned(self) -> dict[str, Any]:
        """The configuration as nnU-Net planned it."""
        chosen = self.plans["configurations"][self.configuration]
        assert isinstance(chosen, dict)
        return chosen

    @property
    def batch_size(self) -> int:
        """Samples an iteration."""
        return int(self.planned["batch_size"])

    @property
    def in_channels(self) -> int:
        """Number of image channels."""
        return len(self.dataset_json["channel_names"])

    @property
    def num_classes(self) -> int:
        """Number of logit channels: regions one each, else labels with background."""
        labels = {k: v for k, v in self.dataset_json["labels"].items() if k != "ignore"}
        has_regions = any(isinstance(value, list) for value in labels.values())
        return len(labels) - has_regions

    @property
    def spec(self) -> dict[str, Any]:
        """What a network is built from; see the network contract in sandbox/README.md."""
        kwargs = self.planned["architecture"]["arch_kwargs"]
        return {
            "dims": len(self.planned["patch_size"]),
            "patch_size": list(self.planned["patch_size"]),
            "strides": [as_list(s, self.planned) for s in kwargs["strides"]],
            "kernel_sizes": [as_list(k, self.planned) for k in kwargs["kernel_sizes"]],
            "features": list(kwargs["features_per_stage"]),
            "convs_encoder": list(kwargs["n_conv_per_stage"]),
            "convs_decoder": list(kwargs["n_conv_per_stage_decoder"]),
            "deep_supervision": True,
        }

    def job(self, *, device: str, threads: int, seed: int, has_network: bool) -> dict[str, Any]:
        """Return what every mode of the child needs to build the network."""
        return {
            "plans": self.plans,
            "dataset_json": self.dataset_json,
            "spec": self.spec,
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "batch_size": self.batch_size,
            "device": device,
            "threads": threads,
            "seed": seed,
            "has_network": has_network,
        }


def as_list(size: int | Sequence[int], planned: Mapping[str, Any]) -> list[int]:
    """Return a stride or kernel size as one number an axis."""
    dims = len(planned["patch_size"])
    return [size] * dims if isinstance(size, int) else [int(s) for s in size]


def load_plan(campaign: Path) -> Plan:
    """Read the plan of a prepared campaign.

    Raises:
        SegwrightError: the campaign was not prepared.
    """
    path = campaign / "preprocessed" / "plan.json"
    if not path.is_file():
        raise SegwrightError(f"{path} is missing; `segwright run` prepares the dataset first")
    return Plan(**json.loads(path.read_text()))


def child_env(threads: int) -> dict[str, str]:
    """Return the variables of a child: thread counts, so that two trials do not fight."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def run_child(
    mode: str,
    job: Mapping[str, Any],
    *,
    folder: Path,
    mounts: Sequence[Mount],
    isolation: Isolation,
    limits: Limits,
    log: Path,
    gpu: Gpu | None = None,
    warm: Path | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> tuple[Ended, Path]:
    """Run one mode of the child inside the boundary; return how it ended and its /out.

    `gpu` is the leased card, where the job's device is cuda; `warm` the socket of a parent
    that holds the imports, see `sandbox/warm.py`.
    """
    out = folder / "out"
    remove(out)
    out.mkdir(parents=True)
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(job))
    own = [Mount(CHILD, "/child"), Mount(job_file, "/job.json"), Mount(out, "/out", True)]
    ended = contain(
        isolation,
        argv=[sys.executable, "-I", "/child", mode],
        mounts=[*own, *mounts],
        env=child_env(job["threads"]),
        limits=limits,
        log=log,
        gpu=gpu,
        warm=warm,
        is_stopped=is_stopped,
    )
    return ended, out


def find_device(wanted: str) -> str:
    """Return cuda, mps or cpu; what was asked for is never replaced by another.

    Raises:
        SegwrightError: the wanted device is not there.
    """
    code = (
        "import torch; print('cuda' if torch.cuda.is_available() else "
        "'mps' if torch.backends.mps.is_available() else 'cpu')"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=300
    )
    found = ran.stdout.strip()
    if not found:
        raise SegwrightError(f"torch does not start: {ran.stderr.strip().splitlines()[-1:]}")
    if wanted not in ("auto", "cpu", found):
        raise SegwrightError(f"engine.device is {wanted!r}, but torch finds only {found!r} or cpu")
    return found if wanted == "auto" else wanted


def prepare(
    campaign: Path,
    job: Mapping[str, Any],
    *,
    mounts: Sequence[Mount],
    isolation: Isolation,
    limits: Limits,
) -> Plan:
    """Run nnU-Net's fingerprint, plan and preprocessing once; keep what it wrote.

    Raises:
        SandboxError: it failed; the log's tail is in the message.
    """
    out, said = preprocess(campaign, job, mounts=mounts, isolation=isolation, limits=limits)
    plan = Plan(job["dataset"], said["plans"], dict(job["dataset_json"]))
    fields = {"dataset": plan.dataset, "plans": plan.plans, "dataset_json": plan.dataset_json}
    (out / "plan.json").write_text(json.dumps(fields, indent=1))
    out.rename(campaign / "preprocessed")
    shutil.rmtree(campaign / PREPARING)
    return plan


def preprocess(
    campaign: Path,
    job: Mapping[str, Any],
    *,
    mounts: Sequence[Mount],
    isolation: Isolation,
    limits: Limits,
) -> tuple[Path, dict[str, Any]]:
    """Run nnU-Net's preprocessing; return the folder of what it wrote, and what it said.

    The folder lies below `campaign/preparing`, which the caller removes.

    Raises:
        SandboxError: it failed; the log's tail is in the message.
    """
    log = campaign / "prepare.log"
    log.write_bytes(b"")
    ended, out = run_child(
        "prepare",
        job,
        folder=campaign / PREPARING,
        mounts=mounts,
        isolation=isolation,
        limits=limits,
        log=log,
    )
    kind, text = failure(ended, out, log)
    if kind:
        raise SandboxError(f"preprocessing failed ({kind}: {text}); {log} ends: {tail(log, 400)}")
    return out, collect_json(out, "prepared.json", max_bytes=16 * MIB)
