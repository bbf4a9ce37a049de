"""Dry run of a network before its training: size, contract, effect of its parts, cost.

Four steps, each on what the one before has shown; the first that fails is the last. `meta`
builds the network without memory or arithmetic, and counts parameters and FLOPs; `small` takes
two steps of training and one tile of inference on a small patch; `parts` changes the input and
the output of each module that the proposal names and looks whether and how far the logits
change; `planned` does what `small` did on the planned patch and batch, and measures time and
memory.
"""

import json
import math
import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter import Adapter, ContractError, adapt, head_weights
from places import place
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from tracing import traced
from weigh import RUNNING

STEPS = 3
BOTTLENECK = 4
LARGEST_LOGIT = 1e4

Job = dict[str, Any]
Figures = dict[str, Any]


class CheckError(ContractError):  # type: ignore[misc]
    """A network failed a step; `failure_class` is one of those that the host knows."""

    def __init__(self, failure_class: str, text: str) -> None:
        """Name the class and say what was seen."""
        super().__init__(text)
        self.failure_class = failure_class


def main(job: Job, out: Path) -> None:
    """Write /out/check.json: a row for each step, as far as the network came."""
    torch.set_num_threads(job["threads"])
    rows: list[Figures] = []
    steps: dict[str, Callable[[Job], Figures]] = {
        **{"meta": meta, "small": small, "parts": parts, "planned": planned},
    }
    for name, step in steps.items():
        write(out, [*rows, {"step": name, "is_running": True}])
        rows.append(row(name, step, job))
        write(out, rows)
        if rows[-1]["failure"]:
            return


def write(out: Path, rows: list[Figures]) -> None:
    """Write what is known so far, whole."""
    (out / "check.tmp").write_text(json.dumps({"steps": rows}))
    (out / "check.tmp").replace(out / "check.json")


def row(name: str, step: Callable[[Job], Figures], job: Job) -> Figures:
    """Carry out one step from the job's seed; return its evidence or its failure."""
    seed(job["seed"])
    start = time.perf_counter()
    evidence, failure, text = Figures(), "", ""
    try:
        evidence = step(job)
    except Exception as error:  # noqa: BLE001 -- every failure of a network is data
        failure, text = class_of(error), f"{type(error).__name__}: {error}"[:2000]
    seconds = time.perf_counter() - start
    return {
        "step": name,
        "seconds": seconds,
        "evidence": evidence,
        "failure": failure,
        "text": text,
    }


def class_of(error: Exception) -> str:
    """Name the class of what a step raised: all but memory breaks the contract in some way."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "OutOfMemory" in text or "DefaultCPUAllocator" in text:
        return "out_of_memory"
    return str(getattr(error, "failure_class", "contract"))


def seed(value: int) -> None:
    """Seed every generator that a network or nnU-Net draws from."""
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 -- nnU-Net draws from the global generator
    torch.manual_seed(value)


def build(job: Job, patch: list[int] | None = None) -> Adapter:
    """Build the network, for another patch than the planned one where one is given."""
    path = place("/code/network.py") if job["has_network"] else None
    spec = {**job["spec"], "patch_size": list(patch or job["spec"]["patch_size"])}
    return adapt(path, {**job, "spec": spec})


def meta(job: Job) -> Figures:
    """Count parameters and FLOPs of one planned patch, and look at the shape of every head.

    A network that needs real numbers to be built or run is built on the CPU instead.
    """
    device = "meta"
    try:
        with torch.device("meta"):
            adapter = build(job)
            heads, flops = count(adapter, job, device)
    except ContractError:
        raise
    except Exception:  # noqa: BLE001 -- whatever it is, the CPU decides whether it is a fault
        device = "cpu"
        adapter = build(job)
        heads, flops = count(adapter, job, device)
    head_weights(adapter.network, len(heads))
    size = (1, job["in_channels"], *job["spec"]["patch_size"])
    return {
        "device": device,
        "parameters": sum(tensor.numel() for tensor in values(adapter)),
        "flops": flops,
        "heads": [list(head.shape[1:]) for head in heads],
        "graph": traced(adapter.network, size, device=device, named=job["named_modules"]),
    }


def values(adapter: Adapter) -> list[Tensor]:
    """Return what a network keeps, each tensor once, as `weigh` counts it after a training."""
    named = [*adapter.named_parameters(), *adapter.named_buffers()]
    kept = [t for name, t in named if name.rpartition(".")[2] not in RUNNING]
    return [tensor for tensor in kept if tensor.is_floating_point()]


def count(adapter: Adapter, job: Job, device: str) -> tuple[list[Tensor], int]:
    """Run one patch forward; return its heads and the FLOPs of forward alone."""
    x = torch.zeros(1, job["in_channels"], *job["spec"]["patch_size"], device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        heads = adapter.heads(x)
    return heads, int(counter.get_total_flops())


def small_patch(spec: Figures) -> list[int]:
    """Return a patch that leaves four voxels an axis at the bottleneck, or the planned one."""
    total = [math.prod(axis) for axis in zip(*spec["strides"], strict=True)]
    planned: list[int] = spec["patch_size"]
    return [min(size, BOTTLENECK * step) for size, step in zip(planned, total, strict=True)]


def small(job: Job) -> Figures:
    """Take two steps and one tile on a small patch at batch 2."""
    patch = small_patch(job["spec"])
    return {"patch": patch, **exercise(build(job, patch), job, patch, batch=2, steps=2)}


def planned(job: Job) -> Figures:
    """Take steps and one tile on the planned patch and batch; measure time and memory."""
    before = resident_mib()
    adapter = build(job)
    patch, batch = job["spec"]["patch_size"], job["batch_size"]
    found = exercise(adapter, job, patch, batch=batch, steps=STEPS)
    memory = {"peak_memory_mib": peak_mib(job), "base_memory_mib": before}
    return {"patch": patch, "batch": batch, **found, **memory, **card(job)}


def exercise(adapter: Adapter, job: Job, patch: list[int], *, batch: int, steps: int) -> Figures:
    """Train for some steps and predict one tile; return seconds a step and what was unused.

    Raises:
        CheckError: the loss or a gradient is not finite, no gradient reaches a parameter, or
            logits exceed what nnU-Net's half-precision accumulation can hold.
    """
    device = torch.device(job["device"])
    adapter.to(device).train()
    optimizer = torch.optim.SGD(
        adapter.parameters(), lr=1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True
    )
    x = torch.randn(batch, job["in_channels"], *patch, device=device)
    seconds, losses = [], []
    for number in range(steps):
        start = time.perf_counter()
        losses.append(step(adapter, optimizer, x))
        if number == 0:
            unused = gradients(adapter)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    adapter.eval()
    with torch.inference_mode():
        finite([adapter(x[:1])])
    return {"step_seconds": min(seconds), "losses": losses, "unused": unused}


def step(adapter: Adapter, optimizer: torch.optim.Optimizer, x: Tensor) -> float:
    """Run forward and backward against random labels; return the loss."""
    optimizer.zero_grad(set_to_none=True)
    heads = adapter.heads(x)
    finite(heads)
    losses = [
        weight * functional.cross_entropy(head, labels_of(head))
        for weight, head in zip(head_weights(adapter.network, len(heads)), heads, strict=True)
    ]
    loss = torch.stack(losses).sum()
    if not torch.isfinite(loss):
        raise CheckError("not_finite", f"the loss is {float(loss)} on standard-normal input")
    if not loss.requires_grad:
        raise CheckError("no_gradient", "no parameter receives a gradient: the graph is detached")
    loss.backward()
    return float(loss)


def labels_of(head: Tensor) -> Tensor:
    """Return random class numbers for a head's voxels."""
    return torch.randint(head.shape[1], (head.shape[0], *head.shape[2:]), device=head.device)


def finite(heads: list[Tensor]) -> None:
    """Refuse logits that nnU-Net's half-precision accumulation could not hold."""
    for head in heads:
        if not torch.isfinite(head).all() or head.detach().abs().max() > LARGEST_LOGIT:
            raise CheckError(
                "not_finite", "logits are not finite or exceed 10,000 on standard-normal input"
            )


def gradients(adapter: Adapter) -> list[str]:
    """Return the names of parameters without a gradient, at most twenty.

    Raises:
        CheckError: none has one, or one is not finite.
    """
    named = [(name, p) for name, p in adapter.network.named_parameters() if p.requires_grad]
    unused = [name for name, p in named if p.grad is None]
    if any(p.grad is not None and not torch.isfinite(p.grad).all() for _, p in named):
        raise CheckError("not_finite", "a gradient is not finite after one step")
    if len(unused) == len(named):
        raise CheckError("no_gradient", "no parameter receives a gradient: the graph is detached")
    return unused[:20]


def parts(job: Job) -> Figures:
    """Change the input, then the output of each named module; the logits must change.

    Two steps are taken before, so that a branch which starts at a factor of 0 counts; the
    gradients are those of the second one.

    Returns:
        By class: `instances`, how many modules; `effect`, see `effect_of`; `gradient`, see `reach`.

    Raises:
        CheckError: the logits do not depend on the input (constant) or a module (idle_module).
    """
    patch = small_patch(job["spec"])
    adapter = build(job, patch)
    exercise(adapter, job, patch, batch=2, steps=2)
    x, other = torch.randn(2, 1, job["in_channels"], *patch, device=job["device"]).unbind()
    with torch.inference_mode():
        before = adapter.heads(x)
        if same(before, adapter.heads(other)):
            raise CheckError("constant", "two different inputs give the same logits")
        found = {name: instances(adapter, name) for name in job["named_modules"]}
        effects = {name: effect_of(adapter, name, found[name], x, before) for name in found}
    return {
        "instances": {name: len(modules) for name, modules in found.items()},
        "effect": only_finite(effects),
        "gradient": only_finite(reach(adapter, found)),
    }


def effect_of(
    adapter: Adapter, name: str, modules: list[nn.Module], x: Tensor, before: list[Tensor]
) -> float:
    """Return how far the finest logits move when a class's modules are disturbed.

    The SD of the change over that of the logits, both over the whole batch: 0 or more. 0 where
    only coarser heads move. `before` are the heads of the undisturbed network for `x`.

    Raises:
        CheckError: no logit changes (idle_module).
    """
    with disturbed(modules):
        after = adapter.heads(x)
    if same(before, after):
        raise CheckError(
            "idle_module", f"{name} is built, and changing its output changes no logit"
        )
    return float((after[0] - before[0]).std() / before[0].std())


def reach(adapter: Adapter, found: dict[str, list[nn.Module]]) -> dict[str, float]:
    """Return, by class, the norm of its parameters' gradients over that of all: 0 to 1.

    A class without parameters is left out. The sum over classes may pass 1: they may be nested.
    """
    total = norm(list(adapter.parameters()))
    shares = {}
    for name, modules in found.items():
        held = dict.fromkeys(p for module in modules for p in module.parameters())
        if held and total:
            shares[name] = norm(list(held)) / total
    return shares


def norm(parameters: list[nn.Parameter]) -> float:
    """Return the norm of all gradients of some parameters together; 0 where there is none."""
    return math.hypot(*(float(p.grad.norm()) for p in parameters if p.grad is not None))


def only_finite(values: dict[str, float]) -> dict[str, float]:
    """Return what the report can hold: strict JSON has no infinity."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def instances(adapter: Adapter, name: str) -> list[nn.Module]:
    """Return the modules of a class.

    Raises:
        CheckError: there is none.
    """
    found = [m for m in adapter.network.modules() if type(m).__name__ == name]
    if not found:
        raise CheckError("idle_module", f"the proposal names {name}; the network builds none")
    return found


@contextmanager
def disturbed(modules: list[nn.Module]) -> Iterator[None]:
    """Add noise to what modules return and to their parameters, while the block runs.

    Parameters count for a module that is used through another method than its call.
    """

    def disturb(_: nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return noisy(output)
        return [noisy(o) if isinstance(o, Tensor) else o for o in as_list(output)] or output

    kept = [(p, p.detach().clone()) for module in modules for p in module.parameters()]
    hooks = [module.register_forward_hook(disturb) for module in modules]
    for parameter, _ in kept:
        parameter.copy_(noisy(parameter))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, before in kept:
            parameter.copy_(before)


def noisy(tensor: Tensor) -> Tensor:
    """Return a tensor with noise of its own scale; whole numbers stay."""
    if not tensor.is_floating_point():
        return tensor
    return tensor + torch.randn_like(tensor) * (tensor.std(unbiased=False) + 1)


def as_list(output: Any) -> list[Any]:
    """Return the items of a plain list or tuple; nothing for anything else."""
    return list(output) if type(output) in (list, tuple) else []


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Return True when all heads are the same to the bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def resident_mib() -> float:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_mib(job: Job) -> float:
    """Return the most memory that was held: of the card on a GPU, else of this process."""
    if job["device"] == "cuda":
        return torch.cuda.max_memory_reserved() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def card(job: Job) -> Figures:
    """Return the free memory of the card, without what this process holds of it."""
    if job["device"] != "cuda":
        return {}
    free, _ = torch.cuda.mem_get_info()
    return {"free_memory_mib": (free + torch.cuda.memory_reserved()) / 2**20}
