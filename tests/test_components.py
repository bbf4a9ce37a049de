"""Every component: a real module, in 2D and 3D, that changes the planned U-Net."""

import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agent.grammar import proposal_id
from agent.network_source import network_source
from memory.errors import PlannerError
from memory.records import Module, Proposal
from sandbox.blocks.attention_gate import AttentionGate
from sandbox.blocks.axial_attention import AxialAttention, AxisAttention
from sandbox.blocks.blur_pool import BlurPool
from sandbox.blocks.boundary import BoundaryEnhancement
from sandbox.blocks.deep_supervision import even_weights, fine_weights
from sandbox.blocks.graph_aggregation import GraphAggregation
from sandbox.blocks.large_kernel import LargeKernelBlock
from sandbox.blocks.linear_attention import LinearAttention
from sandbox.blocks.scale_aggregation import ScaleAggregation
from sandbox.blocks.squeeze_excitation import SqueezeExcitation
from sandbox.components import COMPONENTS, component
from sandbox.placement import module_cost, placements, problems, stage_range

SHARED = {"features": [8, 16, 32], "convs_encoder": [2, 2, 2], "convs_decoder": [2, 1]}
PLANS: dict[str, dict[str, Any]] = {
    "2d": {
        "dims": 2,
        "patch_size": [32, 40],
        "strides": [[1, 1], [2, 2], [2, 2]],
        "kernel_sizes": [[3, 3]] * 3,
    },
    "3d": {
        "dims": 3,
        "patch_size": [16, 16, 16],
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "kernel_sizes": [[3, 3, 3]] * 3,
    },
    "3d-anisotropic": {
        "dims": 3,
        "patch_size": [16, 16, 16],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    },
}
FAMILIES = {
    "residual_encoder",
    "squeeze_excitation",
    "attention_gate",
    "mednext",
    "large_kernel",
    "axial_attention",
    "boundary_enhancement",
    "scale_aggregation",
    "graph_aggregation",
    "linear_attention",
    "even_supervision",
    "blur_pool",
}
CLASSES = 3


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plan(name: str) -> dict[str, Any]:
    return {**SHARED, **PLANS[name], "deep_supervision": True}


def build(modules: Sequence[Module], spec: dict[str, Any], *, seed: int = 0) -> nn.Module:
    """Write the network, run its source and build it with fixed weights."""
    written = Proposal(proposal_id(modules, None), "T", "M", tuple(modules), "R", (), "grammar")
    space: dict[str, Any] = {}
    exec(network_source(written), space)
    torch.manual_seed(seed)
    built = space["build_network"](1, CLASSES, spec)
    assert isinstance(built, nn.Module)
    return built


def patch(spec: dict[str, Any]) -> Tensor:
    return torch.randn(2, 1, *spec["patch_size"], generator=torch.Generator().manual_seed(1))


def head_shapes(spec: dict[str, Any]) -> list[tuple[int, ...]]:
    sizes, size = [], list(spec["patch_size"])
    for stride in spec["strides"]:
        size = [length // step for length, step in zip(size, stride, strict=True)]
        sizes.append((2, CLASSES, *size))
    return sizes[:-1]


def assert_trains(network: nn.Module, spec: dict[str, Any]) -> None:
    """Check shapes, finite gradients of every parameter, and that both modes agree."""
    heads = network(patch(spec))
    assert [tuple(head.shape) for head in heads] == head_shapes(spec)
    assert all(head.isfinite().all() for head in heads)
    torch.stack([(head * head.detach().sign()).mean() for head in heads]).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"
    assert isinstance(network.decoder, nn.Module)
    network.decoder.deep_supervision = False
    assert torch.equal(network(patch(spec)), heads[0])


def first_placements(dims: int) -> list[Module]:
    """Return one placement, the widest, for each component and position."""
    found: dict[tuple[str, str], Module] = {}
    for name in COMPONENTS:
        for module in placements(name, dims=dims, n_stages=3):
            key = (name, module.position)
            if key not in found or len(module.stages) > len(found[key].stages):
                found[key] = module
    return list(found.values())


def label(value: object) -> str | None:
    return f"{value.component}-{value.position}" if isinstance(value, Module) else None


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("module", first_placements(2), ids=label)
def test_a_component_trains_and_changes_the_network(name: str, module: Module) -> None:
    spec = plan(name)
    changed, plain = build([module], spec), build([], spec)
    assert_trains(changed, spec)
    with torch.no_grad():
        differs = not torch.allclose(changed(patch(spec))[0], plain(patch(spec))[0])
    counts = [sum(p.numel() for p in net.parameters()) for net in (changed, plain)]
    if COMPONENTS[module.component].form == "weights":
        weights = getattr(changed, "deep_supervision_weights", None)
        assert weights is not None
        assert len(weights) == 2
        assert not hasattr(plain, "deep_supervision_weights")
    elif COMPONENTS[module.component].form == "downsample":
        assert counts[0] == counts[1]
        assert differs
    else:
        assert counts[0] != counts[1]


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", range(8))
def test_random_pairs_train(name: str, seed: int) -> None:
    spec, rng = plan(name), random.Random(f"{name} {seed}")
    everything = [p for c in COMPONENTS for p in placements(c, dims=spec["dims"], n_stages=3)]
    pair = rng.sample(everything, 2)
    while problems(pair, dims=spec["dims"], n_stages=3):
        pair = rng.sample(everything, 2)
    assert_trains(build(pair, spec), spec)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2d", "3d-anisotropic"])
def test_every_pair_of_components_trains(name: str) -> None:
    spec = plan(name)
    options = first_placements(spec["dims"])
    for index, one in enumerate(options):
        for other in options[index + 1 :]:
            if not problems([one, other], dims=spec["dims"], n_stages=3):
                assert_trains(build([one, other], spec), spec)


@pytest.mark.parametrize("name", ["2d", "3d-anisotropic"])
@pytest.mark.parametrize("module", first_placements(2), ids=label)
def test_a_component_runs_in_half_precision(name: str, module: Module) -> None:
    spec = plan(name)
    network = build([module], spec)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heads = network(patch(spec))
    assert [tuple(head.shape) for head in heads] == head_shapes(spec)
    assert all(head.isfinite().all() for head in heads)
    torch.stack([head.float().square().mean() for head in heads]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("module", first_placements(2), ids=label)
def test_the_same_seed_gives_the_same_network(module: Module) -> None:
    spec = plan("2d")
    with torch.no_grad():
        one, same, other = (build([module], spec, seed=s)(patch(spec))[0] for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", PLANS)
def test_the_plain_network_is_nnunets(name: str) -> None:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    spec = plan(name)
    two = spec["dims"] == 2
    reference = PlainConvUNet(
        input_channels=1,
        n_stages=3,
        features_per_stage=spec["features"],
        conv_op=nn.Conv2d if two else nn.Conv3d,
        kernel_sizes=spec["kernel_sizes"],
        strides=spec["strides"],
        n_conv_per_stage=spec["convs_encoder"],
        num_classes=CLASSES,
        n_conv_per_stage_decoder=spec["convs_decoder"],
        conv_bias=True,
        norm_op=nn.InstanceNorm2d if two else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    ours = build([], spec)
    shapes = [tuple(p.shape) for p in ours.encoder.parameters()]
    assert shapes == [tuple(p.shape) for p in reference.encoder.parameters()]
    copies = [(ours.encoder, reference.encoder)]
    copies += [(ours.decoder.stages, reference.decoder.stages)]
    copies += [(ours.decoder.upsamplers, reference.decoder.transpconvs)]
    copies += [(ours.decoder.heads, reference.decoder.seg_layers)]
    with torch.no_grad():
        for mine, theirs in copies:
            for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
                a.copy_(b)
        pairs = zip(ours(patch(spec)), reference(patch(spec)), strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    assert sum(p.numel() for p in ours.parameters()) == sum(
        p.numel() for p in reference.parameters()
    )


def test_a_shallow_plan_is_refused() -> None:
    spec = {**plan("2d"), "features": [8, 16], "strides": [[1, 1], [2, 2]]}
    with pytest.raises(ValueError, match="at least 3 stages"):
        build([Module("attention_gate", "skip", (0, 1))], spec)


def test_every_family_has_a_component() -> None:
    assert set(COMPONENTS) >= FAMILIES
    assert all(name == card.name for name, card in COMPONENTS.items())


def test_an_unknown_component_is_named() -> None:
    with pytest.raises(PlannerError, match="no component 'atention'; known: attention_gate"):
        component("atention")


def test_the_registry_and_the_planner_import_no_torch() -> None:
    code = "import sys, agent.grammar, agent.network_source; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_blocks_import_nothing_but_torch_and_math() -> None:
    for file in resources.files("sandbox.blocks").iterdir():
        if file.name.endswith(".py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert {name.split(".")[0] for name in names} <= {"torch", "math"}, file.name


def test_class_names_are_unique_over_all_blocks() -> None:
    names = [
        name
        for file in resources.files("sandbox.blocks").iterdir()
        if file.name.endswith(".py")
        for name in re.findall(r"^(?:class|def) (\w+)", file.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(names) == len(set(names))
    assert {card.class_name for card in COMPONENTS.values()} <= set(names)


def bibliography() -> dict[str, str]:
    text = resources.files("templates").joinpath("references.bib").read_text(encoding="utf-8")
    entries = re.split(r"^@\w+\{", text, flags=re.MULTILINE)[1:]
    return {entry.split(",", 1)[0]: entry for entry in entries}


def test_every_citation_is_in_the_bibliography() -> None:
    entries = bibliography()
    for card in COMPONENTS.values():
        assert card.citations
        cited = "".join(entries[key] for key in card.citations)
        for identifier in re.findall(r"arXiv:([\d.]+)", card.source):
            assert identifier in cited, f"{card.name}: {identifier}"


def test_bibliography_entries_are_complete() -> None:
    for key, entry in bibliography().items():
        known_by_idea_only = key in ("pbeunet", "gpaformer")
        needed = ("title",) if known_by_idea_only else ("author", "title", "year")
        assert all(re.search(rf"\b{name}\s*=", entry) for name in needed), key
        found = re.search(r"\b(doi|eprint)\s*=", entry)
        assert bool(found) is not known_by_idea_only, key
        assert entry.count("{") + 1 == entry.count("}"), key


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ([Module("nope", "skip", (0,))], "no component 'nope'"),
        ([Module("attention_gate", "decoder", (0,))], "cannot go to 'decoder'"),
        ([Module("attention_gate", "skip", ())], "see placement"),
        ([Module("linear_attention", "bottleneck", (2,))], "see placement"),
        ([Module("attention_gate", "skip", (1, 0))], "must rise"),
        ([Module("attention_gate", "skip", (2,))], "allowed: \\[0, 1\\]"),
        ([Module("blur_pool", "downsample", (0, 1))], "allowed: \\[1, 2\\]"),
        ([Module("mednext", "encoder", (1,)), Module("mednext", "decoder", (1,))], "twice"),
        (
            [Module("even_supervision", "heads", ()), Module("fine_supervision", "heads", ())],
            "both set the weights",
        ),
        (
            [Module("mednext", "encoder", (0, 1)), Module("residual_encoder", "encoder", (1, 2))],
            "both replace stages \\[1\\]",
        ),
    ],
)
def test_impossible_modules_are_refused(modules: list[Module], complaint: str) -> None:
    found = problems(modules, dims=2, n_stages=3)
    assert any(re.search(complaint, text) for text in found), found


def test_too_many_modules_are_refused() -> None:
    many = [p for c in list(COMPONENTS)[:5] for p in placements(c, dims=2, n_stages=5)[:1]]
    assert any("at most 4" in text for text in problems(many))


@pytest.mark.parametrize("n_stages", range(3, 8))
def test_every_placement_is_allowed_in_its_plan(n_stages: int) -> None:
    for name, card in COMPONENTS.items():
        found = placements(name, dims=2, n_stages=n_stages)
        assert {module.position for module in found} == set(card.positions)
        assert len(found) == len(set(found))
        for module in found:
            assert problems([module], dims=2, n_stages=n_stages) == []
            assert set(module.stages) <= set(stage_range(card, module.position, n_stages))


def test_cost_falls_with_depth() -> None:
    fine, deep = (module_cost(Module("mednext", "encoder", (s,)), 5) for s in (0, 3))
    assert fine == pytest.approx(8 * deep)
    assert module_cost(Module("linear_attention", "bottleneck", ()), 5) < fine


def test_loss_weights_sum_to_one_and_favour_what_they_say() -> None:
    assert even_weights(4) == [0.25] * 4
    assert fine_weights(3) == pytest.approx([16 / 21, 4 / 21, 1 / 21])


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
    layer.norm = layer.scale = nn.Identity()
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
    gate.out = nn.Identity()
    nn.init.zeros_(gate.score.weight)
    skip, below = torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)
    nn.init.constant_(gate.score.bias, -30.0)
    assert gate(skip, below).abs().max() < 1e-6
    nn.init.constant_(gate.score.bias, 30.0)
    assert torch.allclose(gate(skip, below), skip)


def test_boundary_enhancement_acts_near_the_predicted_border_only() -> None:
    layer = BoundaryEnhancement(2, 1, regions=1)
    nn.init.constant_(layer.regions.weight, 60.0)
    nn.init.constant_(layer.regions.bias, -30.0)
    layer.enhance = nn.Identity()
    x = torch.full((1, 1, 16, 4), 0.1)
    x[:, :, 8:] = 1.0
    gain = (layer(x) / x - 1)[0, 0, :, 2]
    assert gain[[0, 1, 2, 13, 14, 15]].abs().max() < 1e-5
    assert gain[6:10].min() > 0.99


def test_scale_aggregation_chooses_among_its_dilations() -> None:
    torch.manual_seed(0)
    layer = ScaleAggregation(2, 2)
    layer.merge = nn.Identity()
    nn.init.zeros_(layer.weigh.weight)
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
