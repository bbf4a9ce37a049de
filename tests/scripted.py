"""A whole campaign without training: real store, loop, graph, scoring; scripted trials.

The scripted executor writes predictions that are the labels with a share of voxels wrong;
the share follows from the network, the rung and the seed. Nothing here is a measurement.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import SimpleITK as sitk

from agent.config import BudgetConfig, Config, parse_config
from agent.new_campaign import create
from agent.preparation import protocol
from agent.session import Session
from agent.trials import read_scores
from memory.records import Event
from memory.store import Store
from sandbox.dry_run import Dry
from sandbox.engine import Plan
from sandbox.fingerprints import predictions_hash
from sandbox.isolation import Isolation
from sandbox.scoring import score_cases

SPEC_KWARGS = {
    "features_per_stage": [8, 16, 32],
    "strides": [[1, 1], [2, 2], [2, 2]],
    "kernel_sizes": [[3, 3]] * 3,
    "n_conv_per_stage": [2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
}


def write_dataset(folder: Path, *, cases: int) -> Path:
    """Write a tiny nnU-Net raw dataset: one block a case, another size and place each."""
    root = folder / "Dataset007_Blocks"
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for i in range(cases):
        rng = np.random.default_rng(i)
        label = np.zeros((4, 12, 12), np.uint8)
        z, y, x = rng.integers(0, 2), rng.integers(0, 5), rng.integers(0, 5)
        label[z : z + 2, y : y + 4 + i % 3, x : x + 5] = 1
        image = (label + rng.normal(0, 0.3, label.shape)).astype(np.float32)
        for array, path in (
            (image, root / "imagesTr" / f"case_{i:03d}_0000.nii.gz"),
            (label, root / "labelsTr" / f"case_{i:03d}.nii.gz"),
        ):
            volume: Any = sitk.GetImageFromArray(array)
            volume.SetSpacing((1.0, 1.0, 3.0))
            sitk.WriteImage(volume, str(path))
    declared = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "block": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "patients": {f"case_{i:03d}": f"p{i}" for i in range(cases)},
    }
    (root / "dataset.json").write_text(json.dumps(declared))
    return root


class ScriptedExecutor:
    """Ends each trial at once, as the script says."""

    def __init__(
        self,
        folder: Path,
        *,
        gain: Callable[[str], float] = lambda source: 0.0,
        fails: Callable[[int], bool] = lambda count: False,
        before: Callable[[int], None] = lambda count: None,
        needs: Callable[[str], int] = lambda source: 0,
        memory: int = 1,
        late: float = 0.0,
    ) -> None:
        """Set the gain of a network by its source, which submissions fail, and who fits.

        A network fits where `needs` times the batch size is at most `memory`, or half of that
        with checkpointing. `late` is a share of voxels that is wrong besides at the first rung.
        """
        self.folder, self.gain, self.fails, self.before = folder, gain, fails, before
        self.needs, self.memory, self.late = needs, memory, late
        self.submitted: list[str] = []
        self.polls: dict[str, int] = {}

    def submit(self, folder: Path) -> None:
        """Write predictions and the result of a trial."""
        self.submitted.append(folder.name)
        self.before(len(self.submitted))
        job = json.loads((folder / "job.json").read_text())
        result: dict[str, Any] = {"status": "ok", "scores": [], "seconds": 1.0}
        result |= {"isolation": "level A: scripted 0", "started_at": 1.0, "ended_at": 2.0}
        result |= {"peak_memory_mib": 100.0, "cpu_seconds": 0.5, "start": job["start"]}
        result |= {"parameters": 1000, "setup": self.setup(folder, job)}
        if result["setup"].pop("is_full"):
            result |= {"status": "out_of_memory", "failure_class": "out_of_memory"}
            result["failure_excerpt"] = "no room"
        elif self.fails(len(self.submitted)):
            result |= {"status": "failed", "failure_class": "exception"}
            result["failure_excerpt"] = "RuntimeError: scripted \x1b[31mfailure"
        else:
            self.predict(folder, job)
            result["predictions_hash"] = predictions_hash(folder / "predictions")
            if job["has_labels"]:
                result["scores"] = self.score(folder, job)
        (folder / "result.json").write_text(json.dumps(result))

    def setup(self, folder: Path, job: dict[str, Any]) -> dict[str, Any]:
        """Return how a trial fits into memory, as the supervisor says it, and whether it does."""
        batch = job["batch_size"]
        need = self.needs(source_of(folder)) * batch
        full = {"failure_class": "out_of_memory", "failure_excerpt": "no room"}
        plain = {"batch_size": batch, "checkpointing": False, **full}
        return {
            "batch_size": batch,
            "checkpointing": need > self.memory,
            "attempts": [plain] if need > self.memory else [],
            "is_full": need > 2 * self.memory,
        }

    def state(self, folder: Path) -> str:
        """Return done, gone, or running for a trial of an earlier process, `polls` times."""
        if self.polls.get(folder.name, 0) > 0:
            self.polls[folder.name] -= 1
            if not self.polls[folder.name]:
                self.submit(folder)
                self.submitted.pop()
            return "running"
        return "done" if (folder / "result.json").exists() else "gone"

    def cancel(self, folder: Path) -> None:
        """Do nothing."""

    def labels(self, job: dict[str, Any]) -> Path:
        """Return the folder of the labels that a trial is judged by."""
        if job["part"] == "locked-test":
            return self.folder / "locked" / "labels"
        return self.folder / "labels" / str(job["part"])

    def predict(self, folder: Path, job: dict[str, Any]) -> None:
        """Write each label with a share of its voxels wrong."""
        source = source_of(folder)
        own = self.gain(source) if source else 0.0
        (folder / "predictions").mkdir(exist_ok=True)
        wrong = 0.30 - own - 0.04 * np.log2(job["iterations"] / 10)
        wrong += self.late if job["iterations"] == 10 else 0.0
        for case in job["shapes"]:
            image: Any = sitk.ReadImage(str(self.labels(job) / f"{case}.nii.gz"))
            array = sitk.GetArrayFromImage(image)
            drawn = int(hashlib.sha256(f"{case}/{job['seed']}".encode()).hexdigest()[:8], 16)
            share = wrong + Random(job["seed"]).gauss(0, 0.003)
            flips = np.random.default_rng(drawn).random(array.shape) < share
            array = np.where(flips & (array > 0), 0, array).astype(np.uint8)
            made: Any = sitk.GetImageFromArray(array)
            made.CopyInformation(image)
            sitk.WriteImage(made, str(folder / "predictions" / f"{case}.nii.gz"))

    def score(self, folder: Path, job: dict[str, Any]) -> list[list[Any]]:
        """Score as the supervisor does."""
        scores = score_cases(
            folder / "predictions",
            self.labels(job),
            sorted(job["shapes"]),
            file_ending=".nii.gz",
            labels=job["labels"],
            ignore_label=None,
            tolerance_mm=2.0,
            trial=job["id"],
        )
        rows = [[s.case, s.label, str(s.metric), s.value, s.reason] for s in scores]
        assert read_scores(job["id"], rows) == scores
        return rows


def source_of(folder: Path) -> str:
    """Return a trial's network; empty for the baseline."""
    code = folder / "code" / "network.py"
    return code.read_text() if code.exists() else ""


def dry(*_: Any, **__: Any) -> Dry:
    """Pass every network."""
    return Dry("", "", 1000, 2000, 0.01, 50.0)


def preprocess(campaign: Path, job: dict[str, Any], **_: Any) -> tuple[Path, dict[str, Any]]:
    """Leave the folders that preprocessing for further folds leaves, and a file for each case."""
    out = campaign / "preparing" / "out"
    for folder, cases in (
        (campaign / "preprocessed" / job["dataset"], job["images"]["search-train"]),
        (out / job["dataset"], job["train"]),
        (out / "images" / "search-train", job["images"]["search-train"]),
    ):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for case in cases:
            (folder / "data" / f"{case}.pkl").write_text(case)
    (campaign / "preprocessed" / "images").mkdir(exist_ok=True)
    return out, {}


def new_campaign(folder: Path, *, cases: int = 24, **settings: Any) -> Path:
    """Make a campaign folder on a tiny dataset; without further folds and ablations by default."""
    data = write_dataset(folder, cases=cases)
    plain = {"name": "blocks", "selection": {"folds": 0}, "ablation": {"seeds": 0, "early": False}}
    config = parse_config({**plain, "dataset": {"path": str(data)}, **settings})
    create(folder / "campaign", config)
    return folder / "campaign"


def session_of(
    folder: Path, executor: Any, *, config: Config | None = None, budget: BudgetConfig | None = None
) -> Session:
    """Return a session on a scripted executor, with its protocol stored, as `run` makes it."""
    with Store.open(folder / "campaign.db") as store:
        campaign = store.campaign()
        made = config or parse_config(campaign.config)
        made = replace(made, budget=budget or BudgetConfig(trials=14))
        configuration = {
            "patch_size": [12, 12],
            "batch_size": 4,
            "architecture": {"arch_kwargs": SPEC_KWARGS},
        }
        plan = Plan(
            campaign.dataset["folder"],
            {"configurations": {"2d": configuration}},
            campaign.dataset["dataset_json"],
        )
        session = Session(
            folder=folder,
            config=made,
            plan=plan,
            dataset=campaign.dataset,
            split=tuple(store.split()),
            iterations=(10, 40),
            device="cpu",
            slots=2,
            isolation=Isolation("A", "scripted", Path("/bin/true"), "0"),
            executor=executor,
            dry_run=dry,
            preprocess=preprocess,
        )
        if not campaign.protocol:
            store.set_protocol(protocol(session))
        store.add_event(Event("started", "started", {"budget": {"trials": 14}}, at=session.now))
    return session
