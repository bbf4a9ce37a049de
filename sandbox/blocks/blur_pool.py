"""Anti-aliased downsampling (Zhang 2019)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BlurPool(nn.Module):
    """Low-pass filter (1, 2, 1) / 4 along each strided axis, then subsample."""

    kernel: Tensor

    def __init__(self, dims: int, channels: int, stride: list[int]) -> None:
        """Make the fixed filter; axes of stride 1 are left as they are."""
        super().__init__()
        self.channels, self.stride = channels, stride
        self.conv = functional.conv2d if dims == 2 else functional.conv3d
        kernel = torch.ones(1)
        for step in stride:
            tap = torch.tensor([0.25, 0.5, 0.25] if step > 1 else [1.0])
            kernel = kernel[..., None] * tap
        kernel = kernel.expand(channels, *kernel.shape).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)
        self.edges = [int(step > 1) for step in reversed(stride) for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, ...) to (B, channels, ... / stride)."""
        x = functional.pad(x, self.edges, mode="replicate")
        kernel = self.kernel.to(x.dtype)
        return self.conv(x, kernel, stride=self.stride, groups=self.channels)
