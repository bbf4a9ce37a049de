"""Squeeze-and-excitation (Hu et al. 2018)."""

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Weigh each channel by a small network that sees the mean of all channels."""

    def __init__(self, dims: int, channels: int, reduction: int = 8) -> None:
        """Make the two 1x1 convolutions of the excitation, at least 4 channels wide."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        hidden = max(4, channels // reduction)
        self.excite = nn.Sequential(
            conv(channels, hidden, 1),
            nn.LeakyReLU(0.01, inplace=True),
            conv(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, channels, ...) with its channels rescaled by weights in (0, 1)."""
        squeezed = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        return x * torch.sigmoid(self.excite(squeezed))
