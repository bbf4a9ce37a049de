"""Between a network and nnU-Net's trainer: the contract, and who owns deep supervision.

A network is built by ``build_network(in_channels, num_classes, spec)`` and returns raw
logits: one tensor (B, K, *patch), or a list of them, finest first, one per decoder stage.
nnU-Net's trainer wants one or the other at its own choice, through an attribute of a
module called decoder. Generated code never sees that: the adapter holds the switch and
checks every head, so that a missing or misplaced head is a failure and not a silent loss.
"""

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


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
    network = load_network(path, in_channels=job["in_channels"], num_classes=classes, spec=spec)
    return Adapter(network, num_classes=classes, scales=head_scales(spec))


def has_deep_supervision(adapter: Adapter, in_channels: int, patch_size: list[int]) -> bool:
    """Run one empty patch and return whether the network offers all heads."""
    adapter.eval()
    with torch.no_grad():
        heads = adapter.heads(torch.zeros(1, in_channels, *patch_size))
    adapter.train()
    return len(heads) > 1
