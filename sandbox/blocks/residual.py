"""Residual encoder stage (He et al. 2016), with the shortcut of nnU-Net's ResEnc."""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; the shortcut pools, then projects."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel: list[int],
        stride: list[int],
    ) -> None:
        """Make a basic block; the shortcut is the identity where shapes allow it."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        pool: type[nn.Module] = nn.AvgPool2d if dims == 2 else nn.AvgPool3d
        padding = [(size - 1) // 2 for size in kernel]
        self.body = nn.Sequential(
            conv(in_channels, out_channels, kernel, stride, padding),
            norm(out_channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
            conv(out_channels, out_channels, kernel, 1, padding),
            norm(out_channels, affine=True),
        )
        shortcut: list[nn.Module] = []
        if max(stride) > 1:
            shortcut.append(pool(tuple(stride), tuple(stride)))
        if in_channels != out_channels:
            shortcut.append(conv(in_channels, out_channels, 1, bias=False))
            shortcut.append(norm(out_channels, affine=True))
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ... / stride)."""
        out: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return out


class ResidualStage(nn.Module):
    """An encoder stage of `depth` residual blocks; the first one strides."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel: list[int],
        stride: list[int],
        depth: int,
    ) -> None:
        """Make as many residual blocks as the plan has convolutions."""
        super().__init__()
        blocks = [ResidualBlock(dims, in_channels, out_channels, kernel, stride)]
        for _ in range(depth - 1):
            step = [1] * dims
            blocks.append(ResidualBlock(dims, out_channels, out_channels, kernel, step))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ... / stride)."""
        out: Tensor = self.blocks(x)
        return out
