"""Every component: a real module, in 2D and 3D, that changes the planned U-Net."""

import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from types import CodeType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agent.grammar import proposal_id
from agent.network_source import network_source
from memory.errors import PlannerError
from memory.records import Module, Proposal
from sandbox.blocks.deep_supervision import even_weights, fine_weights
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


@cache
def code(modules: tuple[Module, ...]) -> CodeType:
    """Write the network; kept, as this takes longer than to run it."""
    written = Proposal(proposal_id(modules, None), "T", "M", modules, "R", (), "grammar")
    return compile(network_source(written), "network.py", "exec")


def build(modules: Sequence[Module], spec: dict[str, Any], *, seed: int = 0) -> nn.Module:
    """Run the source of the network and build it with fixed weights."""
    space: dict[str, Any] = {}
    exec(code(tuple(modules)), space)
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
    decoder: Any = network.get_submodule("decoder")
    decoder.deep_supervision = False
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


@pytest.mark.parametrize("module", first_placements(2), ids=label)
def test_a_component_runs_in_half_precision(module: Module) -> None:
    spec = plan("2d")
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
    part = ours.get_submodule
    shapes = [tuple(p.shape) for p in part("encoder").parameters()]
    assert shapes == [tuple(p.shape) for p in reference.encoder.parameters()]
    copies = [(part("encoder"), reference.encoder)]
    copies += [(part("decoder.stages"), reference.decoder.stages)]
    copies += [(part("decoder.upsamplers"), reference.decoder.transpconvs)]
    copies += [(part("decoder.heads"), reference.decoder.seg_layers)]
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
        for name in ("author", "title", "year"):
            assert re.search(rf"\b{name}\s*=", entry), key
        assert re.search(r"\b(doi|eprint|url)\s*=", entry), key
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
