"""Axial attention (Ho et al. 2019; Wang et al. 2020)."""

import math

import torch
from torch import Tensor, nn


class AxisAttention(nn.Module):
    """Multi-head self-attention along one axis, with a learned bias per distance.

    Distances beyond `reach` share one bias, so that any patch size is allowed.
    """

    def __init__(self, dims: int, channels: int, axis: int, reach: int = 32) -> None:
        """Make attention along spatial axis `axis` with up to four heads."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        self.axis, self.reach = axis, reach
        self.heads = math.gcd(channels, 4)
        self.norm = norm(channels, affine=True)
        self.project = conv(channels, 3 * channels, 1, bias=False)
        self.out = conv(channels, channels, 1)
        self.bias = nn.Parameter(torch.zeros(self.heads, 2 * reach + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x (B, channels, ...)."""
        lines = self.project(self.norm(x)).movedim(2 + self.axis, -1)
        query, key, value = lines.unflatten(1, (3, self.heads, -1)).unbind(1)
        places = torch.arange(lines.shape[-1], device=x.device)
        distance = (places[None] - places[:, None]).clamp(-self.reach, self.reach)
        bias = self.bias[:, distance + self.reach]
        scores = torch.einsum("bhc...i,bhc...j->b...hij", query, key)
        scores = scores / math.sqrt(query.shape[2]) + bias
        mixed = torch.einsum("b...hij,bhc...j->bhc...i", scores.softmax(-1), value)
        out: Tensor = self.out(mixed.flatten(1, 2).movedim(-1, 2 + self.axis))
        return out


class AxialAttention(nn.Module):
    """Attention along one spatial axis after the other, each added to its input."""

    def __init__(self, dims: int, channels: int) -> None:
        """Make one attention for each spatial axis."""
        super().__init__()
        axes = [AxisAttention(dims, channels, axis) for axis in range(dims)]
        self.axes = nn.ModuleList(axes)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x (B, channels, ...)."""
        for attend in self.axes:
            x = x + attend(x)
        return x
