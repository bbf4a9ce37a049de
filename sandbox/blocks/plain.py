"""The stage of nnU-Net's plain convolutional U-Net (Isensee et al. 2021)."""

from torch import Tensor, nn


class ConvStage(nn.Module):
    """Convolution, instance norm and LeakyReLU, `depth` times; the first one strides."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel: list[int],
        stride: list[int],
        depth: int,
    ) -> None:
        """Make `depth` convolutions of one kernel size in 2 or 3 dimensions."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        padding = [(size - 1) // 2 for size in kernel]
        layers: list[nn.Module] = []
        for index in range(depth):
            source = in_channels if index == 0 else out_channels
            step = stride if index == 0 else [1] * dims
            layers.append(conv(source, out_channels, kernel, step, padding))
            layers.append(norm(out_channels, affine=True))
            layers.append(nn.LeakyReLU(0.01, inplace=True))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ... / stride)."""
        out: Tensor = self.layers(x)
        return out
