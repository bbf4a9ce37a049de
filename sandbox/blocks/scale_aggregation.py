"""Scale-aware aggregation, after the idea of PBE-UNet.

Only the idea is public to us: features of several scales aggregated with weights that
depend on the scale. The module is our own and claims no more than that.
"""

import torch
from torch import Tensor, nn


class ScaleAggregation(nn.Module):
    """Depthwise convolutions of several dilations, mixed by weights per place."""

    def __init__(
        self,
        dims: int,
        channels: int,
        dilations: tuple[int, ...] = (1, 2, 4),
    ) -> None:
        """Make one branch a dilation and the convolution that weighs the branches."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        self.branches = nn.ModuleList()
        for gap in dilations:
            branch = conv(channels, channels, 3, 1, gap, gap, groups=channels)
            self.branches.append(branch)
        self.weigh = conv(channels, len(dilations), 1)
        self.merge = nn.Sequential(
            conv(channels, channels, 1),
            norm(channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, channels, ...) plus its aggregated scales."""
        scales = torch.stack([branch(x) for branch in self.branches], dim=1)
        weights = self.weigh(x).softmax(dim=1)[:, :, None]
        out: Tensor = x + self.merge((weights * scales).sum(dim=1))
        return out
