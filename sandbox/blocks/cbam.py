"""Convolutional block attention module (Woo et al. 2018)."""

import torch
from torch import Tensor, nn


class BlockAttention(nn.Module):
    """Attention over channels, then over places, each from mean and maximum."""

    def __init__(self, dims: int, channels: int, reduction: int = 8) -> None:
        """Make the shared channel network and the width-7 spatial convolution."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        hidden = max(4, channels // reduction)
        self.channel = nn.Sequential(
            conv(channels, hidden, 1),
            nn.LeakyReLU(0.01, inplace=True),
            conv(hidden, channels, 1),
        )
        self.spatial = conv(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, channels, ...) weighted per channel and per place."""
        places = tuple(range(2, x.ndim))
        mean = self.channel(x.mean(dim=places, keepdim=True))
        peak = self.channel(x.amax(dim=places, keepdim=True))
        x = x * torch.sigmoid(mean + peak)
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(summary))
