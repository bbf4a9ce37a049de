"""Count what a training handed back, in a sandbox that never loads the network's code.

Weights are loaded with `weights_only=True`. A figure that a network's own process reports
may be a lie; this one is not in its reach.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from places import place
from torch import Tensor

RUNNING = ("running_mean", "running_var")


def main(job: dict[str, Any], out: Path) -> None:
    """Write /out/weighed.json: the number of parameters, and of values that are not finite."""
    state = torch.load(place("/weights/weights.pth"), map_location="cpu", weights_only=True)
    tensors = {**state["parameters"], **state["buffers"]}
    found = [t for t in tensors.values() if t.is_floating_point()]
    wrong = sum(int((~torch.isfinite(tensor)).sum()) for tensor in found)
    said = {"parameters": counted(tensors), "not_finite": wrong}
    (out / "weighed.json").write_text(json.dumps(said))


def counted(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of real values that weights hold, without running statistics.

    Buffers count: else a network could keep what it learns in them, and look small. What is
    stored once counts once, under however many names: nnU-Net's blocks have two for each.
    """
    stored = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and name.rpartition(".")[2] not in RUNNING:
            storage = tensor.untyped_storage()
            stored[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
    return sum(stored.values())
