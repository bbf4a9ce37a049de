"""Additive attention gate on a skip connection (Oktay et al. 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AttentionGate(nn.Module):
    """Weigh the places of a skip by their agreement with the coarser decoder features."""

    def __init__(
        self,
        dims: int,
        channels: int,
        below_channels: int,
        stride: list[int],
    ) -> None:
        """Make the gate; `stride` leads from the skip's grid to the coarser one."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        hidden = max(4, channels // 2)
        self.mode = "bilinear" if dims == 2 else "trilinear"
        self.from_skip = conv(channels, hidden, stride, stride, bias=False)
        self.from_below = conv(below_channels, hidden, 1)
        self.score = conv(hidden, 1, 1)
        self.out = nn.Sequential(
            conv(channels, channels, 1),
            norm(channels, affine=True),
        )

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Gate the skip (B, channels, ...) by the decoder features one stage below."""
        joint = self.from_skip(skip) + self.from_below(below)
        coarse = torch.sigmoid(self.score(functional.leaky_relu(joint, 0.01)))
        size = list(skip.shape[2:])
        weights = functional.interpolate(coarse, size, mode=self.mode)
        out: Tensor = self.out(skip * weights)
        return out
