"""Graph-guided patch aggregation, after the idea of GPAFormer.

Only the idea is public to us: patches aggregated along a feature-similarity graph inside
a transformer. The layer is our own and claims no more than that.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class GraphAggregation(nn.Module):
    """A transformer layer that mixes each patch with the patches most similar to it.

    The map is averaged into at most `grid` patches an axis; each patch takes the
    similarity-weighted mean of its `neighbours` nearest ones in feature space; the
    result is spread over the map again and added to it.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        grid: int = 8,
        neighbours: int = 8,
    ) -> None:
        """Make the projections of the graph and the feed-forward part."""
        super().__init__()
        conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
        norm: type[nn.Module] = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        self.grid, self.neighbours = grid, neighbours
        self.mode = "bilinear" if dims == 2 else "trilinear"
        self.norm = norm(channels, affine=True)
        self.node = nn.Linear(channels, channels)
        self.merge = nn.Linear(2 * channels, channels)
        self.sharpness = nn.Parameter(torch.full((1,), 5.0))
        self.feed_forward = nn.Sequential(
            norm(channels, affine=True),
            conv(channels, 2 * channels, 1),
            nn.LeakyReLU(0.01, inplace=True),
            conv(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x (B, channels, ...)."""
        size = list(x.shape[2:])
        grid = [min(self.grid, length) for length in size]
        patches = functional.interpolate(self.norm(x), grid, mode="area")
        mixed = self.aggregate(patches.flatten(2).transpose(1, 2))
        spread = mixed.transpose(1, 2).reshape(patches.shape)
        x = x + functional.interpolate(spread, size, mode=self.mode)
        out: Tensor = x + self.feed_forward(x)
        return out

    def aggregate(self, patches: Tensor) -> Tensor:
        """Mix each patch (B, N, channels) with its nearest ones by cosine similarity."""
        nodes = functional.normalize(self.node(patches), dim=-1)
        similarity = nodes @ nodes.transpose(1, 2)
        count = min(self.neighbours, similarity.shape[-1] - 1)
        nearest, index = similarity.topk(count + 1, dim=-1)
        # The most similar patch is always the patch itself: its own features are kept apart.
        nearest, index = nearest[..., 1:], index[..., 1:]
        edges = (self.sharpness * nearest).softmax(-1).to(similarity.dtype)
        graph = torch.zeros_like(similarity).scatter(-1, index, edges)
        merged: Tensor = self.merge(torch.cat([patches, graph @ patches], dim=-1))
        return merged
