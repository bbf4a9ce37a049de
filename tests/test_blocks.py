"""Blocks do what their papers say, on inputs small enough to check by hand."""

import torch
from torch import Tensor, nn

from sandbox.blocks.attention_gate import AttentionGate
from sandbox.blocks.axial_attention import AxialAttention, AxisAttention
from sandbox.blocks.blur_pool import BlurPool
from sandbox.blocks.boundary import BoundaryEnhancement
from sandbox.blocks.graph_aggregation import GraphAggregation
from sandbox.blocks.large_kernel import LargeKernelBlock
from sandbox.blocks.linear_attention import LinearAttention
from sandbox.blocks.scale_aggregation import ScaleAggregation
from sandbox.blocks.squeeze_excitation import SqueezeExcitation


def test_blur_pool_is_the_binomial_filter_along_strided_axes_only() -> None:
    x = torch.zeros(1, 1, 4, 6, 6)
    x[0, 0, 1, 2, 2] = 1
    y = BlurPool(3, 1, [1, 2, 2])(x)
    assert tuple(y.shape) == (1, 1, 4, 3, 3)
    assert y[0, 0, 1, 1, 1] == 0.25
    assert y[0, 0, 0].abs().max() == 0
    odd = torch.zeros(1, 1, 4, 6, 6)
    odd[0, 0, 1, 3, 2] = 1
    assert BlurPool(3, 1, [1, 2, 2])(odd)[0, 0, 1, :, 1].tolist() == [0, 0.125, 0.125]
    constant = torch.full((1, 2, 5, 7), 3.0)
    assert torch.equal(BlurPool(2, 2, [2, 2])(constant), torch.full((1, 2, 3, 4), 3.0))


def test_linear_attention_is_normalised_kernel_attention() -> None:
    torch.manual_seed(0)
    layer = LinearAttention(2, 8)
    x = torch.randn(1, 8, 3, 4)
    query, key, value = layer.project(layer.norm(x)).flatten(2).reshape(3, 4, 2, 12)
    query, key = (nn.functional.elu(part) + 1 for part in (query, key))
    weights = torch.einsum("hcn,hcm->hnm", query, key)
    weights = weights / weights.sum(-1, keepdim=True)
    mixed = torch.einsum("hnm,hdm->hdn", weights, value).reshape(1, 8, 3, 4)
    middle = x + layer.out(mixed)
    assert torch.allclose(layer(x), middle + layer.feed_forward(middle), atol=1e-5)


def reach(layer: nn.Module, x: Tensor, at: tuple[int, ...]) -> Tensor:
    """Return where the input reaches the output at one place, as booleans."""
    x = x.clone().requires_grad_()
    layer(x)[(0, slice(None), *at)].square().sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().amax(dim=0) > 1e-9


def test_attention_along_one_axis_mixes_that_axis_alone() -> None:
    torch.manual_seed(0)
    layer = AxisAttention(2, 4, axis=1)
    layer.norm = nn.Identity()
    seen = reach(layer, torch.randn(1, 4, 5, 6), (2, 3))
    assert seen[2].all()
    assert not seen[[0, 1, 3, 4]].any()


def test_axial_attention_sees_the_whole_map() -> None:
    torch.manual_seed(0)
    layer = AxialAttention(3, 4)
    for axis in layer.axes:
        axis.norm = nn.Identity()
    assert reach(layer, torch.randn(1, 4, 3, 4, 5), (0, 0, 0)).all()


def test_axial_attention_is_softmax_attention_with_a_bias_per_distance() -> None:
    torch.manual_seed(0)
    layer = AxisAttention(2, 4, axis=0, reach=1)
    nn.init.normal_(layer.bias)
    x = torch.randn(1, 4, 3, 1)
    layer.norm = nn.Identity()
    query, key, value = layer.project(x).reshape(3, 4, 1, 3)
    distance = torch.tensor([[0, 1, 1], [-1, 0, 1], [-1, -1, 0]]) + 1
    scores = torch.einsum("hci,hcj->hij", query, key) + layer.bias[:, distance]
    mixed = torch.einsum("hij,hcj->hci", scores.softmax(-1), value).reshape(1, 4, 3, 1)
    assert torch.allclose(layer(x), layer.out(mixed), atol=1e-6)


def test_the_large_kernel_reaches_three_voxels_but_not_across_unplanned_axes() -> None:
    torch.manual_seed(0)
    layer = LargeKernelBlock(3, 2, [1, 3, 3])
    layer.norm = layer.scale = nn.Sequential()  # passes its input on
    seen = reach(layer, torch.randn(1, 2, 3, 11, 11), (1, 5, 5))
    assert seen[1, 2:9, 2:9].all()
    assert int(seen.sum()) == 49


def test_squeeze_excitation_scales_whole_channels() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 8, 4, 4) + 1
    ratio = SqueezeExcitation(2, 8)(x) / x
    assert torch.allclose(ratio, ratio[:, :, :1, :1].expand_as(ratio), atol=1e-6)
    assert ((ratio > 0) & (ratio < 1)).all()


def test_the_attention_gate_closes_where_its_score_is_low() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(2, 4, 8, [2, 2])
    gate.out = nn.Sequential()
    nn.init.zeros_(gate.score.get_parameter("weight"))
    skip, below = torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)
    nn.init.constant_(gate.score.get_parameter("bias"), -30.0)
    assert gate(skip, below).abs().max() < 1e-6
    nn.init.constant_(gate.score.get_parameter("bias"), 30.0)
    assert torch.allclose(gate(skip, below), skip)


def test_boundary_enhancement_acts_near_the_predicted_border_only() -> None:
    layer = BoundaryEnhancement(2, 1, regions=1)
    nn.init.constant_(layer.regions.get_parameter("weight"), 60.0)
    nn.init.constant_(layer.regions.get_parameter("bias"), -30.0)
    layer.enhance = nn.Sequential()
    x = torch.full((1, 1, 16, 4), 0.1)
    x[:, :, 8:] = 1.0
    gain = (layer(x) / x - 1)[0, 0, :, 2]
    assert gain[[0, 1, 2, 13, 14, 15]].abs().max() < 1e-5
    assert gain[6:10].min() > 0.99


def test_scale_aggregation_chooses_among_its_dilations() -> None:
    torch.manual_seed(0)
    layer = ScaleAggregation(2, 2)
    layer.merge = nn.Sequential()
    nn.init.zeros_(layer.weigh.get_parameter("weight"))
    layer.weigh.bias = nn.Parameter(torch.tensor([-60.0, -60.0, 60.0]))
    seen = reach(layer, torch.randn(1, 2, 13, 13), (6, 6))
    assert seen[[2, 6, 10]][:, [2, 6, 10]].all()
    assert int(seen.sum()) == 9


def test_graph_aggregation_takes_from_the_most_similar_patches() -> None:
    layer = GraphAggregation(2, 2, neighbours=1)
    eye = torch.eye(2)
    with torch.no_grad():
        layer.node.weight.copy_(eye)
        layer.node.bias.zero_()
        layer.merge.weight.copy_(torch.cat([torch.zeros(2, 2), eye], dim=1))
        layer.merge.bias.zero_()
    angles = torch.tensor([0.0, 0.1, 2.0, 2.2])
    patches = torch.stack([angles.cos(), angles.sin()], dim=-1)[None]
    assert torch.allclose(layer.aggregate(patches), patches[:, [1, 0, 3, 2]], atol=1e-6)
