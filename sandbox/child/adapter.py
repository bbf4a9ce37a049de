"""Between a network and nnU-Net's trainer: the contract, and who owns deep supervision.

A network is built by ``build_network(in_channels, num_classes, spec)`` and returns raw
logits: one tensor (B, K, *patch), or a list of them, finest first, one per decoder stage.
nnU-Net's trainer wants one or the other at its own choice, through an attribute of a
module called decoder. Generated code never sees that: the adapter holds the switch and
checks every head, so that a missing or misplaced head is a failure and not a silent loss.

Where memory is short, the stages of a network keep their inputs alone and run once more in the
backward pass (activation checkpointing); outputs, gradients and buffers stay the same.
"""

import copy
import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class ContractError(Exception):
    """The network breaks the contract; the text says how, for whoever repairs it."""


class Adapter(nn.Module):
    """A network behind nnU-Net's interface.

    Args:
        network: the network under the contract.
        num_classes: number of logit channels K.
        scales: spatial shapes of the heads, finest first.
    """

    def __init__(self, network: nn.Module, *, num_classes: int, scales: list[tuple[int, ...]]):
        """Wrap a network; nothing is run yet."""
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        self.scales = scales
        self.decoder = SimpleNamespace(deep_supervision=False)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the finest logits, or all heads while deep supervision is on."""
        heads = as_heads(self.network(x))
        if not self.decoder.deep_supervision:
            self.check(heads[0], tuple(x.shape[2:]))
            return heads[0]
        for head, scale in zip(heads, self.scales, strict=True):
            self.check(head, scale)
        return heads

    def check(self, head: Tensor, shape: tuple[int, ...]) -> None:
        """Refuse a head of another shape; the loss would broadcast or truncate it."""
        if tuple(head.shape[1:]) != (self.num_classes, *shape):
            raise ContractError(
                f"a head has shape {tuple(head.shape[1:])}, expected {(self.num_classes, *shape)}"
            )

    def heads(self, x: Tensor) -> list[Tensor]:
        """Run once and return every head, checked against the contract.

        Raises:
            ContractError: the number of heads or the shape of one is wrong.
        """
        heads = as_heads(self.network(x))
        if len(heads) not in (1, len(self.scales)):
            raise ContractError(
                f"the network returned {len(heads)} heads; allowed: 1 or {len(self.scales)}"
            )
        for head, scale in zip(heads, self.scales, strict=False):
            self.check(head, scale)
        return heads


def as_heads(output: Any) -> list[Tensor]:
    """Return the logits of a forward pass as a list, finest first.

    Raises:
        ContractError: the output is neither a tensor nor a list of tensors.
    """
    heads = list(output) if isinstance(output, (list, tuple)) else [output]
    if not heads or not all(isinstance(head, Tensor) for head in heads):
        raise ContractError(f"forward returned {type(output).__name__}; allowed: tensor or list")
    return heads


def head_scales(spec: dict[str, Any]) -> list[tuple[int, ...]]:
    """Return the spatial shape of each head: the patch over the strides so far, finest first."""
    shape = list(spec["patch_size"])
    scales = []
    for stride in spec["strides"][:-1]:
        shape = [size // step for size, step in zip(shape, stride, strict=True)]
        scales.append(tuple(shape))
    return scales


def head_weights(network: nn.Module, count: int) -> list[float]:
    """Return the weight of each head in the loss; they sum to 1.

    nnU-Net's own are 1, 1/2, 1/4, ... with 0 for the coarsest; a network may declare
    others in `deep_supervision_weights`, which is read as data.

    Raises:
        ContractError: the declared weights are not `count` finite non-negative numbers.
    """
    weights = [2.0**-i for i in range(count)]
    if count > 1:
        weights[-1] = 0.0
    declared = getattr(network, "deep_supervision_weights", None)
    if declared is not None and count > 1:
        weights = [float(w) for w in declared]
        if len(weights) != count or not all(math.isfinite(w) and w >= 0 for w in weights):
            raise ContractError(
                f"deep_supervision_weights is {weights}; allowed: {count} finite numbers >= 0"
            )
    total = sum(weights)
    if total <= 0:
        raise ContractError("deep_supervision_weights sum to 0; allowed: a positive sum")
    return [w / total for w in weights]


def load_network(
    path: Path | None, *, in_channels: int, num_classes: int, spec: dict[str, Any]
) -> nn.Module:
    """Build a network from its file; with no file, nnU-Net's default network of the plan.

    Raises:
        ContractError: build_network is missing or does not return a module.
    """
    if path is None:
        return default_network(in_channels, num_classes, spec)
    found = importlib.util.spec_from_file_location("network", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    build = getattr(module, "build_network", None)
    if not callable(build):
        raise ContractError("network.py defines no function build_network")
    network = build(in_channels, num_classes, spec)
    if not isinstance(network, nn.Module):
        raise ContractError(f"build_network returned {type(network).__name__}; allowed: Module")
    return network


def default_network(in_channels: int, num_classes: int, spec: dict[str, Any]) -> nn.Module:
    """Build nnU-Net's plain convolutional U-Net as planned, with its own initialisation."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from dynamic_network_architectures.initialization.weight_init import InitWeights_He

    dims = spec["dims"]
    network: nn.Module = PlainConvUNet(
        input_channels=in_channels,
        n_stages=len(spec["features"]),
        features_per_stage=spec["features"],
        conv_op=nn.Conv2d if dims == 2 else nn.Conv3d,
        kernel_sizes=spec["kernel_sizes"],
        strides=spec["strides"],
        n_conv_per_stage=spec["convs_encoder"],
        num_classes=num_classes,
        n_conv_per_stage_decoder=spec["convs_decoder"],
        conv_bias=True,
        norm_op=nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    network.apply(InitWeights_He(1e-2))
    return network


def adapt(path: Path | None, job: dict[str, Any]) -> Adapter:
    """Build the job's network inside its adapter, on the CPU."""
    spec, classes = job["spec"], job["num_classes"]
    # A network may write to the specification that it is given, not to ours.
    given = copy.deepcopy(spec)
    network = load_network(path, in_channels=job["in_channels"], num_classes=classes, spec=given)
    if job.get("checkpointing"):
        checkpoint_stages(network)
    return Adapter(network, num_classes=classes, scales=head_scales(spec))


def checkpoint_stages(network: nn.Module) -> list[nn.Module]:
    """Let each stage of a network run once more in the backward pass; return the stages."""
    found = list(stages(network, set()))
    for stage in found:
        stage.forward = Recomputed(stage)
    return found


def stages(module: nn.Module, seen: set[int]) -> Iterator[nn.Module]:
    """Yield the parts that are worth to be run again: no leaf, and no part within another.

    The entries of a list of modules are stages; so is a part in which there is no such list.
    """
    for child in module.children():
        if id(child) in seen or is_leaf(child):
            continue
        seen.add(id(child))
        is_plain_list = isinstance(child, nn.ModuleList | nn.ModuleDict)
        if (isinstance(module, LISTS) and not is_plain_list) or not has_list(child):
            seen.update(map(id, child.modules()))
            # A list of leaves has no forward of its own.
            if not is_plain_list:
                yield child
        else:
            yield from stages(child, seen)


LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def is_leaf(module: nn.Module) -> bool:
    """Return True for a module without parts, or without parameters."""
    has_parts = any(True for _ in module.children())
    return not has_parts or not any(True for _ in module.parameters())


def has_list(module: nn.Module) -> bool:
    """Return True when a module holds, or is, a list of modules that are no leaves."""
    return any(
        not is_leaf(entry)
        for part in module.modules()
        if isinstance(part, LISTS)
        for entry in part.children()
    )


class Recomputed:
    """A stage's forward that keeps its inputs alone while training.

    A stage that writes to its own input is run as it is: the second run would see another one.
    Not covered: what a stage counts in plain Python attributes is counted twice.
    """

    def __init__(self, stage: nn.Module) -> None:
        """Take the place of the stage's own forward."""
        self.stage = stage
        self.forward: Callable[..., Any] = stage.forward
        self.is_safe = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stage; while training, so that it runs again in the backward pass."""
        if torch.is_inference_mode_enabled():
            return self.forward(*args, **kwargs)
        if self.is_safe and self.stage.training and torch.is_grad_enabled():
            run = Run(self, versions(args, kwargs))
            return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=True, **kwargs)
        before = versions(args, kwargs)
        output = self.forward(*args, **kwargs)
        self.is_safe = self.is_safe and versions(args, kwargs) == before
        return output


class Run:
    """One forward pass of a stage, and the same once more in the backward pass."""

    def __init__(self, owner: Recomputed, seen: list[int]) -> None:
        """Remember how often the inputs had been written to."""
        self.owner = owner
        self.seen = seen
        self.is_first = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stage; the second time leaves its buffers as the first one did."""
        if self.is_first:
            self.is_first = False
            return self.owner.forward(*args, **kwargs)
        if versions(args, kwargs) != self.seen:
            name = type(self.owner.stage).__name__
            raise ContractError(f"the input of {name} was written to; it cannot be run again")
        buffers = list(self.owner.stage.buffers())
        kept = [buffer.clone() for buffer in buffers]
        try:
            return self.owner.forward(*args, **kwargs)
        finally:
            with torch.no_grad():
                for buffer, value in zip(buffers, kept, strict=True):
                    buffer.copy_(value)


def versions(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    """Return how often each tensor among the arguments, or in a list there, was written to."""
    found = []
    for value in (*args, *kwargs.values()):
        parts = value if isinstance(value, list | tuple) else [value]
        found += [part._version for part in parts if isinstance(part, Tensor)]
    return found


def has_deep_supervision(adapter: Adapter, in_channels: int, patch_size: list[int]) -> bool:
    """Run one empty patch and return whether the network offers all heads."""
    adapter.eval()
    with torch.no_grad():
        heads = adapter.heads(torch.zeros(1, in_channels, *patch_size))
    adapter.train()
    return len(heads) > 1
