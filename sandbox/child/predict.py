"""nnU-Net's sliding-window inference on images without labels, in a sandbox of its own.

Weights come from the training run and are loaded with `weights_only=True`; each case
leaves one integer label map (Z, Y, X) in the geometry of its raw image, and where the job asks
for it how sure the network was of each class (`confidence.py`). Images, weights and /out are
behind the fence (`fence.py`) while the network runs.
"""

import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter import Adapter, adapt
from check import seed
from confidence import Confidence
from fence import raise_fence
from places import place
from torch import Tensor


def main(job: dict[str, Any], out: Path) -> None:
    """Write /out/predictions/CASE.npy for each case, and /out/predicted.json.

    A job with `classes` also has /out/confidence.json, {case: {class: mean or null}}.
    """
    torch.set_num_threads(job["threads"])
    folder = out / "predictions"
    folder.mkdir()
    state = torch.load(place("/weights/weights.pth"), map_location="cpu", weights_only=True)
    classes, sure = job.get("classes", {}), {}
    fence = raise_fence()
    with fence.allow():
        # A network that draws random numbers draws the same ones each time.
        seed(job["seed"])
        adapter = adapt(place("/code/network.py") if job["has_network"] else None, job)
        adapter.load_state_dict({**state["parameters"], **state["buffers"]})
        start = time.perf_counter()
        with fence.allow("process"):
            predictor, (plans, configuration, labels) = build(adapter, job)
        watched = Confidence(labels, classes)
        managers = plans, configuration, watched
        for case in job["cases"]:
            with fence.allow("data"):
                image, properties = read(case)
            with torch.inference_mode():
                logits = predictor.predict_sliding_window_return_logits(image).cpu()
            with fence.allow("out"):
                label_map = as_label_map(logits, managers, properties, job["threads"])
                np.save(folder / f"{case}.npy", np.ascontiguousarray(label_map))
            sure[case] = watched.means
        seconds = time.perf_counter() - start
    (out / "predicted.json").write_text(json.dumps({"seconds": seconds}))
    if classes:
        (out / "confidence.json").write_text(json.dumps(sure))


def build(adapter: Adapter, job: dict[str, Any]) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return nnU-Net's predictor around the network, and its managers."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    device = torch.device(job["device"])
    plans = PlansManager(job["plans"])
    configuration = plans.get_configuration(next(iter(job["plans"]["configurations"])))
    axes = tuple(range(job["spec"]["dims"])) if job["mirroring"] else None
    predictor = nnUNetPredictor(
        use_mirroring=job["mirroring"],
        perform_everything_on_device=device.type == "cuda",
        device=device,
        allow_tqdm=False,
    )
    adapter.to(device).eval()
    predictor.manual_initialization(
        adapter, plans, configuration, [adapter.state_dict()], job["dataset_json"], "", axes
    )
    return predictor, (plans, configuration, plans.get_label_manager(job["dataset_json"]))


def read(case: str) -> tuple[Tensor, dict[str, Any]]:
    """Return a case's preprocessed image, float32 (C, Z, Y, X), and nnU-Net's properties."""
    image = torch.from_numpy(np.load(place(f"/images/{case}.npy")))
    return image, pickle.loads(place(f"/images/{case}.pkl").read_bytes())


def as_label_map(
    logits: Tensor, managers: tuple[Any, Any, Any], properties: dict[str, Any], threads: int
) -> Any:
    """Return one case's label map, integer (Z, Y, X), in the raw image's geometry."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as to_segmentation,
    )

    plans, configuration, labels = managers
    return to_segmentation(
        logits, plans, configuration, labels, properties, num_threads_torch=threads
    )
