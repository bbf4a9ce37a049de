"""nnU-Net's own fingerprint, plan and preprocessing, once a campaign, in one process.

Raw data of the search-train cases in /raw/DATASET, images of the other parts in
/images/PART; everything is written to /out. Fingerprint and plan see search-train only. A job
that holds plans already is for more cases: those are preprocessed as planned, nothing else.
"""

import json
import math
import os
import pickle
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from places import place

PLANS = "nnUNetPlans"


def main(job: dict[str, Any], out: Path) -> None:
    """Write fingerprint, plans and preprocessed cases, and /out/prepared.json."""
    raw = str(place("/raw"))
    os.environ.update(nnUNet_raw=raw, nnUNet_preprocessed=str(out), nnUNet_results="/tmp")
    import torch

    torch.set_num_threads(job["threads"])
    base = out / job["dataset"]
    base.mkdir(exist_ok=True)
    plans = job.get("plans") or planned(job, out)
    (base / "dataset.json").write_text(json.dumps(job["dataset_json"]))
    (base / f"{PLANS}.json").write_text(json.dumps(plans))
    train_cases(job, plans, base)
    for part, cases in job["images"].items():
        image_cases(job, plans, out / "images" / part, cases)
    (out / "prepared.json").write_text(json.dumps({"plans": plans}))


def planned(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """Return nnU-Net's plans for the dataset, with the job's own settings."""
    fingerprint(job)
    return plan(job, out)


def fingerprint(job: dict[str, Any]) -> None:
    """Run nnU-Net's extractor with threads: a pool of processes spends its time importing."""
    from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor as module

    module.multiprocessing = SimpleNamespace(
        get_context=lambda _method: SimpleNamespace(Pool=ThreadPool)
    )
    extractor = module.DatasetFingerprintExtractor(job["dataset"], num_processes=1)
    extractor.show_progress_bar = False
    extractor.run(overwrite_existing=True)


def plan(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """Run nnU-Net's planner, then set the job's configuration, batch, patch and width."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )

    ExperimentPlanner(job["dataset"], plans_name=PLANS).plan_experiment()
    plans: dict[str, Any] = json.loads((out / job["dataset"] / f"{PLANS}.json").read_text())
    name = choose(job["configuration"], plans["configurations"])
    chosen = plans["configurations"][name]
    if job["patch_size"]:
        chosen["patch_size"] = fitting_patch(job["patch_size"], chosen)
    chosen["batch_size"] = batch_size(job, chosen)
    narrow(chosen["architecture"]["arch_kwargs"], job["base_features"])
    plans["configurations"] = {name: chosen}
    return plans


def choose(wanted: str, configurations: dict[str, Any]) -> str:
    """Return the configuration's name; auto takes 3d_fullres where nnU-Net planned it."""
    if wanted == "auto":
        return "3d_fullres" if "3d_fullres" in configurations else "2d"
    if wanted not in configurations:
        raise ValueError(
            f"nnU-Net planned no configuration {wanted!r}; planned: {sorted(configurations)}"
        )
    return wanted


def fitting_patch(patch: list[int], chosen: dict[str, Any]) -> list[int]:
    """Round a wanted patch up to what the planned strides divide."""
    steps = np.prod(chosen["architecture"]["arch_kwargs"]["strides"], axis=0)
    return [int(-(-size // step) * step) for size, step in zip(patch, steps, strict=True)]


def batch_size(job: dict[str, Any], chosen: dict[str, Any]) -> int:
    """Return the batch: as asked; else as planned, on a CPU at most `cpu_voxels` a batch."""
    if job["batch_size"]:
        return int(job["batch_size"])
    planned = int(chosen["batch_size"])
    if job["device"] != "cpu":
        return planned
    voxels = math.prod(chosen["patch_size"])
    fitting: int = round(int(job["cpu_voxels"]) / voxels)
    return max(2, min(planned, fitting))


def narrow(kwargs: dict[str, Any], base_features: int | None) -> None:
    """Scale the widths of all stages so that the first has `base_features` channels."""
    if base_features:
        first = kwargs["features_per_stage"][0]
        kwargs["features_per_stage"] = [
            max(4, f * base_features // first) for f in kwargs["features_per_stage"]
        ]


def managers(job: dict[str, Any], plans: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return nnU-Net's preprocessor, plans manager and configuration manager."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration(next(iter(plans["configurations"])))
    preprocessor = configuration.preprocessor_class(verbose=False)
    return preprocessor, manager, configuration


def train_cases(job: dict[str, Any], plans: dict[str, Any], base: Path) -> None:
    """Preprocess the search-train cases into nnU-Net's own format."""
    preprocessor, manager, configuration = managers(job, plans)
    folder = base / configuration.data_identifier
    folder.mkdir(parents=True, exist_ok=True)
    for case, files in job["train"].items():
        target = str(folder / case)
        images, label = placed(files["images"]), str(place(files["label"]))
        preprocessor.run_case_save(
            target, images, label, manager, configuration, job["dataset_json"]
        )


def placed(files: list[str]) -> list[str]:
    """Return where files below mount targets really are."""
    return [str(place(file)) for file in files]


def image_cases(
    job: dict[str, Any], plans: dict[str, Any], folder: Path, cases: dict[str, list[str]]
) -> None:
    """Preprocess images without labels: float32 (C, Z, Y, X) and nnU-Net's properties."""
    preprocessor, manager, configuration = managers(job, plans)
    folder.mkdir(parents=True, exist_ok=True)
    for case, images in cases.items():
        data, _, properties = preprocessor.run_case(
            placed(images), None, manager, configuration, job["dataset_json"]
        )
        np.save(folder / f"{case}.npy", data.astype(np.float32))
        (folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))
