"""Boundary-guided feature enhancement, after the idea of PBE-UNet.

Only the idea is public to us: a narrow predicted boundary is widened into a spatial
attention map. The module is our own and claims no more than that.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BoundaryEnhancement(nn.Module):
    """Enhance features around the borders of the regions that they themselves predict.

    The boundary is the morphological gradient (dilation minus erosion) of a few predicted
    region maps; a wider dilation and a mean turn it into attention over places.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        regions: int = 4,
        width: int = 5,
    ) -> None:
        """Make the region maps and the enhancing convolution; `width` is odd, in voxels."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        self.dilate = functional.max_pool2d if dims == 2 else functional.max_pool3d
        self.smooth = functional.avg_pool2d if dims == 2 else functional.avg_pool3d
        self.width = width
        self.regions = conv(channels, regions, 1)
        self.enhance = nn.Sequential(
            conv(channels, channels, 3, padding=1),
            norm(channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, channels, ...) with features near predicted borders added."""
        regions = torch.sigmoid(self.regions(x))
        dilated = self.dilate(regions, 3, stride=1, padding=1)
        eroded = -self.dilate(-regions, 3, stride=1, padding=1)
        narrow = (dilated - eroded).amax(dim=1, keepdim=True)
        wide = self.dilate(narrow, self.width, stride=1, padding=self.width // 2)
        attention = self.smooth(wide, 3, stride=1, padding=1)
        out: Tensor = x + self.enhance(x * attention)
        return out
