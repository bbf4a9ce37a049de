"""The architectures of the replayed table that are no planned U-Net, as source of network.py.

Each honours the contract `build_network(in_channels, num_classes, spec)` and returns one head at
full resolution. All are small, textbook forms; the edits of `bench/table_networks.py` make their
children.
"""

FULLY_CONVOLUTIONAL = '''\
"""A fully convolutional network at half resolution (after Long et al. 2015, arXiv:1411.4038)."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

WIDTH = 32
DEPTH = 4


def layer(source: int, width: int, stride: int) -> nn.Sequential:
    """Return convolution, instance norm and ReLU."""
    conv = nn.Conv2d(source, width, 3, stride, 1)
    return nn.Sequential(conv, nn.InstanceNorm2d(width, affine=True), nn.ReLU(inplace=True))


class Network(nn.Module):
    """Layers at half resolution, scores there, and bilinear upsampling."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        """Make a strided layer, `DEPTH` plain ones and the head."""
        super().__init__()
        layers = [layer(in_channels, WIDTH, 2)]
        layers += [layer(WIDTH, WIDTH, 1) for _ in range(DEPTH)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes, Y, X)."""
        scores = self.head(self.body(x))
        return functional.interpolate(scores, size=x.shape[2:], mode="bilinear")


def build_network(in_channels: int, num_classes: int, spec: dict[str, Any]) -> nn.Module:
    """Build the network; of the plan it needs nothing."""
    return Network(in_channels, num_classes)
'''

DILATED = '''\
"""Dilated convolutions at full resolution (after Yu and Koltun 2016, arXiv:1511.07122)."""

from typing import Any

from torch import Tensor, nn

WIDTH = 16
RATES = (1, 1, 2, 4, 8, 1)


class Network(nn.Module):
    """One convolution for each rate, no subsampling anywhere, and a head."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        """Make the layers."""
        super().__init__()
        self.layers = nn.ModuleList()
        for rate in RATES:
            conv = nn.Conv2d(in_channels, WIDTH, 3, 1, rate, rate)
            norm = nn.InstanceNorm2d(WIDTH, affine=True)
            self.layers.append(nn.Sequential(conv, norm, nn.LeakyReLU(0.01, inplace=True)))
            in_channels = WIDTH
        self.head = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes, Y, X)."""
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def build_network(in_channels: int, num_classes: int, spec: dict[str, Any]) -> nn.Module:
    """Build the network; of the plan it needs nothing."""
    return Network(in_channels, num_classes)
'''

TRANSFORMER = '''\
"""Attention among patches of the image (after Zheng et al. 2021, arXiv:2012.15840)."""

from typing import Any

import torch
from torch import Tensor, nn

PATCH = 4
WIDTH = 48
LAYERS = 3
HEADS = 4


class Block(nn.Module):
    """Self-attention and a small network, each after a layer norm and beside a shortcut."""

    def __init__(self) -> None:
        """Make both parts."""
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.mixed = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, WIDTH) to the same shape."""
        batch, count, _ = x.shape
        parts = self.mixed(self.norms[0](x)).view(batch, count, 3, HEADS, WIDTH // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5, dim=3)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(batch, count, WIDTH))
        return x + self.mlp(self.norms[1](x))


class Network(nn.Module):
    """Patches to tokens, blocks, and tokens back to voxels."""

    def __init__(self, in_channels: int, num_classes: int, shape: list[int]) -> None:
        """Make the parts for images of a shape (Y, X)."""
        super().__init__()
        self.grid = [size // PATCH for size in shape]
        self.embed = nn.Conv2d(in_channels, WIDTH, PATCH, PATCH)
        self.place = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], WIDTH))
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.ConvTranspose2d(WIDTH, num_classes, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes, Y, X)."""
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.place
        tokens = self.norm(self.blocks(tokens)).transpose(1, 2)
        return self.head(tokens.reshape(x.shape[0], WIDTH, *self.grid))


def build_network(in_channels: int, num_classes: int, spec: dict[str, Any]) -> nn.Module:
    """Build the network for the planned patch."""
    return Network(in_channels, num_classes, spec["patch_size"])
'''

PYRAMID = '''\
"""A feature pyramid: lateral sums in place of a decoder (after Lin et al. 2017, arXiv:1612.03144)."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

LATERAL = 16
DEPTH = 1


def stage(source: int, width: int, stride: list[int]) -> nn.Sequential:
    """Return a strided layer and `DEPTH` plain ones."""
    layers: list[nn.Module] = []
    for index in range(1 + DEPTH):
        layers.append(nn.Conv2d(width if index else source, width, 3, 1 if index else stride, 1))
        layers.append(nn.InstanceNorm2d(width, affine=True))
        layers.append(nn.LeakyReLU(0.01, inplace=True))
    return nn.Sequential(*layers)


class Network(nn.Module):
    """The planned widths and strides on the way down, sums on the way up."""

    def __init__(self, in_channels: int, num_classes: int, spec: dict[str, Any]) -> None:
        """Make the stages, a lateral convolution for each, and the head."""
        super().__init__()
        self.stages, self.laterals = nn.ModuleList(), nn.ModuleList()
        for width, stride in zip(spec["features"], spec["strides"], strict=True):
            self.stages.append(stage(in_channels, width, stride))
            self.laterals.append(nn.Conv2d(width, LATERAL, 1))
            in_channels = width
        self.head = nn.Conv2d(LATERAL, num_classes, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes, Y, X)."""
        maps: list[Tensor] = []
        for part, lateral in zip(self.stages, self.laterals, strict=True):
            x = part(x)
            maps.append(lateral(x))
        total = maps[-1]
        for finer in reversed(maps[:-1]):
            total = finer + functional.interpolate(total, size=finer.shape[2:], mode="nearest")
        return self.head(total)


def build_network(in_channels: int, num_classes: int, spec: dict[str, Any]) -> nn.Module:
    """Build the network for `spec`, the architecture that nnU-Net planned."""
    return Network(in_channels, num_classes, spec)
'''
