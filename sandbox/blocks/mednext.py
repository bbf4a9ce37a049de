"""MedNeXt stage (Roy et al. 2023), the ConvNeXt block (Liu et al. 2022) for medical images."""

from torch import Tensor, nn


class MedNeXtBlock(nn.Module):
    """Depthwise convolution, instance norm, wide 1x1 convolution, narrow one, shortcut."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel: list[int],
        stride: list[int],
        expansion: int = 2,
    ) -> None:
        """Make an inverted bottleneck; a strided shortcut projects with 1x1."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        padding = [(size - 1) // 2 for size in kernel]
        wide = expansion * in_channels
        self.body = nn.Sequential(
            conv(in_channels, in_channels, kernel, stride, padding, groups=in_channels),
            norm(in_channels, affine=True),
            conv(in_channels, wide, 1),
            nn.GELU(),
            conv(wide, out_channels, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or max(stride) > 1:
            self.shortcut = conv(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ... / stride)."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class MedNeXtStage(nn.Module):
    """A 1x1 stem or a strided MedNeXt block, then `depth` MedNeXt blocks."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel: list[int],
        stride: list[int],
        depth: int,
    ) -> None:
        """Enter with a strided block where the plan strides, else with a stem."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        enter: nn.Module = conv(in_channels, out_channels, 1)
        if max(stride) > 1:
            enter = MedNeXtBlock(dims, in_channels, out_channels, kernel, stride)
        blocks = [enter]
        for _ in range(depth):
            step = [1] * dims
            blocks.append(MedNeXtBlock(dims, out_channels, out_channels, kernel, step))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ... / stride)."""
        out: Tensor = self.blocks(x)
        return out
