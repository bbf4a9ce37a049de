"""Dry run of a network: the contract, its size, its cost, and one real step at batch 1.

Catches before a training what would otherwise cost one: a wrong number of heads or
classes, shapes that do not fit the patch, values that are not finite, a detached graph,
parameters that get no gradient, memory and time.
"""

import json
import random
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter import Adapter, ContractError, adapt, head_weights
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

STEPS = 3


def main(job: dict[str, Any], out: Path) -> None:
    """Write /out/check.json: parameters, FLOPs, heads, seconds a step, memory."""
    torch.set_num_threads(job["threads"])
    seed(job["seed"])
    path = Path("/code/network.py") if job["has_network"] else None
    adapter = adapt(path, job)
    figures = contract(adapter, job)
    figures |= cost(adapter, job)
    (out / "check.json").write_text(json.dumps(figures))


def seed(value: int) -> None:
    """Seed every generator that a network or nnU-Net draws from."""
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 -- nnU-Net draws from the global generator
    torch.manual_seed(value)


def contract(adapter: Adapter, job: dict[str, Any]) -> dict[str, Any]:
    """Run both modes once at batch 1 and one backward pass; return what was seen."""
    x = torch.randn(1, job["in_channels"], *job["spec"]["patch_size"])
    with FlopCounterMode(display=False) as counter:
        heads = adapter.heads(x)
    weights = head_weights(adapter.network, len(heads))
    check_finite(heads)
    sum(w * head.square().mean() for w, head in zip(weights, heads, strict=True)).backward()
    named = list(adapter.network.named_parameters())
    unused = [name for name, p in named if p.requires_grad and p.grad is None]
    if any(p.grad is not None and not torch.isfinite(p.grad).all() for _, p in named):
        raise ContractError("a gradient is not finite after one step on standard-normal input")
    if len(unused) == len(named):
        raise ContractError("no parameter received a gradient: the graph is detached")
    return {
        "parameters": sum(p.numel() for _, p in named),
        "flops": int(counter.get_total_flops()),
        "heads": len(heads),
        "unused": unused[:20],
    }


def check_finite(heads: list[Tensor]) -> None:
    """Refuse logits that nnU-Net's half-precision accumulation could not hold."""
    for head in heads:
        if not torch.isfinite(head).all() or head.detach().abs().max() > 1e4:
            raise ContractError("logits are not finite or exceed 10,000 on standard-normal input")


def cost(adapter: Adapter, job: dict[str, Any]) -> dict[str, Any]:
    """Time forward and backward at the planned batch size; return seconds and MiB."""
    shape = (job["batch_size"], job["in_channels"], *job["spec"]["patch_size"])
    device = torch.device(job["device"])
    adapter.to(device)
    x = torch.randn(shape, device=device)
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        sum(head.mean() for head in adapter.heads(x)).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"step_seconds": min(seconds), "peak_memory_mib": peak_kib / 1024}
