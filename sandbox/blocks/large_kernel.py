"""Large-kernel depthwise stage: 3D UX-Net (Lee et al. 2023), RepLKNet (Ding et al. 2022)."""

from torch import Tensor, nn


class LargeKernelBlock(nn.Module):
    """Depthwise convolution of width 7 beside one of width 3, then channel scaling.

    The small kernel beside the large one is RepLKNet's; the scaling, an expansion by
    four within each channel, is 3D UX-Net's. Axes that the plan does not convolve
    (kernel size 1) keep size 1.
    """

    def __init__(self, dims: int, channels: int, kernel: list[int]) -> None:
        """Make the block for (B, channels, ...)."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        small = [3 if size > 1 else 1 for size in kernel]
        large = [7 if size > 1 else 1 for size in kernel]
        self.small = conv(channels, channels, small, padding="same", groups=channels)
        self.large = conv(channels, channels, large, padding="same", groups=channels)
        self.norm = norm(channels, affine=True)
        self.scale = nn.Sequential(
            norm(channels, affine=True),
            conv(channels, 4 * channels, 1, groups=channels),
            nn.GELU(),
            conv(4 * channels, channels, 1, groups=channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x."""
        x = x + self.norm(self.small(x) + self.large(x))
        out: Tensor = x + self.scale(x)
        return out


class LargeKernelStage(nn.Module):
    """The planned strided convolution, then large-kernel blocks for the others."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel: list[int],
        stride: list[int],
        depth: int,
    ) -> None:
        """Make one convolution and `depth` - 1 blocks, at least one."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        padding = [(size - 1) // 2 for size in kernel]
        count = max(1, depth - 1)
        blocks = [LargeKernelBlock(dims, out_channels, kernel) for _ in range(count)]
        self.layers = nn.Sequential(
            conv(in_channels, out_channels, kernel, stride, padding),
            norm(out_channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
            *blocks,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ... / stride)."""
        out: Tensor = self.layers(x)
        return out
