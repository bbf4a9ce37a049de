"""Linear attention (Katharopoulos et al. 2020; efficient attention, Shen et al. 2021)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class LinearAttention(nn.Module):
    """A transformer layer whose attention costs time linear in the number of places.

    Attention is phi(q) (phi(k)^T v) / (phi(q) sum phi(k)) with phi = elu + 1, equation 5
    of Katharopoulos et al. Both sums are written as means, which leaves the quotient
    as it is and keeps half precision from overflowing.
    """

    def __init__(self, dims: int, channels: int) -> None:
        """Make attention with up to four heads and a 1x1 feed-forward part."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        self.heads = math.gcd(channels, 4)
        self.norm = norm(channels, affine=True)
        self.project = conv(channels, 3 * channels, 1, bias=False)
        self.out = conv(channels, channels, 1)
        self.feed_forward = nn.Sequential(
            norm(channels, affine=True),
            conv(channels, 2 * channels, 1),
            nn.LeakyReLU(0.01, inplace=True),
            conv(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x (B, channels, ...)."""
        tokens = self.project(self.norm(x)).flatten(2)
        query, key, value = tokens.unflatten(1, (3, self.heads, -1)).unbind(1)
        query, key = functional.elu(query) + 1, functional.elu(key) + 1
        context = torch.einsum("bhcn,bhdn->bhcd", key, value) / key.shape[-1]
        mixed = torch.einsum("bhcn,bhcd->bhdn", query, context)
        weight = torch.einsum("bhcn,bhc->bhn", query, key.mean(-1))
        x = x + self.out((mixed / weight[:, :, None]).reshape(x.shape))
        out: Tensor = x + self.feed_forward(x)
        return out
