"""Nested skip connection (UNet++, Zhou et al. 2018)."""

import torch
from torch import Tensor, nn


class DenseSkip(nn.Module):
    """The first nested node of UNet++: a skip merged with the encoder stage below it."""

    def __init__(
        self,
        dims: int,
        channels: int,
        below_channels: int,
        stride: list[int],
    ) -> None:
        """Make the node; `stride` leads from the skip's grid to the coarser one."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        up: type[nn.Module] = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
        self.up = up(below_channels, channels, stride, stride)
        self.merge = nn.Sequential(
            conv(2 * channels, channels, 3, padding=1),
            norm(channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Merge the skip (B, channels, ...) with the encoder features one stage below."""
        out: Tensor = self.merge(torch.cat([skip, self.up(below)], dim=1))
        return out
