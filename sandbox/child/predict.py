"""nnU-Net's sliding-window inference on images without labels, in a sandbox of its own.

Weights come from the training run and are loaded with `weights_only=True`; each case
leaves one integer label map (Z, Y, X) in the geometry of its raw image.
"""

import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter import Adapter, adapt


def main(job: dict[str, Any], out: Path) -> None:
    """Write /out/predictions/CASE.npy for each case, and /out/predicted.json."""
    torch.set_num_threads(job["threads"])
    path = Path("/code/network.py") if job["has_network"] else None
    adapter = adapt(path, job)
    state = torch.load("/weights/weights.pth", map_location="cpu", weights_only=True)
    adapter.load_state_dict({**state["parameters"], **state["buffers"]})
    start = time.perf_counter()
    predictor, managers = build(adapter, job)
    folder = out / "predictions"
    folder.mkdir()
    for case in job["cases"]:
        label_map = predict(predictor, managers, case, job)
        np.save(folder / f"{case}.npy", np.ascontiguousarray(label_map))
    seconds = time.perf_counter() - start
    (out / "predicted.json").write_text(json.dumps({"seconds": seconds}))


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


def predict(predictor: Any, managers: tuple[Any, Any, Any], case: str, job: dict[str, Any]) -> Any:
    """Return one case's label map, integer (Z, Y, X), in the raw image's geometry."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as to_segmentation,
    )

    plans, configuration, labels = managers
    data = torch.from_numpy(np.load(f"/images/{case}.npy"))
    properties = pickle.loads(Path(f"/images/{case}.pkl").read_bytes())
    with torch.inference_mode():
        logits = predictor.predict_sliding_window_return_logits(data).cpu()
    return to_segmentation(
        logits, plans, configuration, labels, properties, num_threads_torch=job["threads"]
    )
