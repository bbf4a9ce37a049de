"""The trace of a network: its steps, their shapes, and what flows from which to which."""

from typing import Any

import torch
from torch import Tensor, nn

from agent.module_graph import parsed, traced_graph
from agent.network_source import network_source
from memory.records import Module, Proposal
from sandbox.child.adapter import default_network
from sandbox.child.tracing import IMAGE, MOST_NODES, trace

SPEC: dict[str, Any] = {
    "dims": 2,
    "patch_size": [32, 16],
    "strides": [[1, 1], [2, 2], [2, 2]],
    "kernel_sizes": [[3, 3]] * 3,
    "features": [4, 8, 16],
    "convs_encoder": [1, 1, 1],
    "convs_decoder": [1, 1],
    "deep_supervision": True,
}
IMAGE_SHAPE = (1, 1, 32, 16)


def built(modules: tuple[Module, ...]) -> nn.Module:
    """Return the network that the grammar writes for modules."""
    source = network_source(Proposal("p", "t", "m", modules, "r", (), "grammar"))
    space: dict[str, Any] = {"__name__": "network"}
    exec(compile(source, "network.py", "exec"), space)  # noqa: S102 -- our own template's text
    network: nn.Module = space["build_network"](1, 3, SPEC)
    return network


class Conv(nn.Module):
    """A convolution with a norm, an activation and a residual."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.norm, self.act = nn.InstanceNorm2d(after), nn.ReLU()
        self.side = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(x))) + self.side(x)
        return y


class Tiny(nn.Module):
    """Two levels that meet in a sum, in a wrapper that returns one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep, self.last = Conv(1, 4), Conv(4, 4), Conv(4, 2)
        self.down, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.first(x)
        coarse = self.up(self.deep(self.down(fine)))
        coarse += fine
        y: Tensor = self.last(coarse.clamp(min=0))
        return y


class Wrapped(nn.Module):
    """Holds a whole network with three sizes as one module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(Conv(1, 2), nn.MaxPool2d(2), Conv(2, 2), nn.MaxPool2d(2), Conv(2, 2))
        )
        self.up = nn.Upsample(scale_factor=4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.body(x))
        return y


def nodes_of(network: nn.Module, named: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return trace(network, torch.zeros(IMAGE_SHAPE), named)


def test_steps_shapes_and_sources_are_told() -> None:
    nodes = nodes_of(Tiny())
    assert [n["class"] for n in nodes] == ["Conv", "MaxPool2d", "Conv", "Upsample", "Conv"]
    assert [n["shape"] for n in nodes][:3] == [[4, 32, 16], [4, 16, 8], [4, 16, 8]]
    assert [n["inputs"] for n in nodes] == [[[IMAGE]], [[0]], [[1]], [[2]], [[0, 3]]]
    assert nodes[0]["parameters"] == sum(p.numel() for p in Conv(1, 4).parameters())


def test_a_whole_network_inside_another_is_taken_apart() -> None:
    names = [n["class"] for n in nodes_of(Wrapped())]
    assert names == ["Conv", "MaxPool2d", "Conv", "MaxPool2d", "Conv", "Upsample"]


def test_a_named_class_is_a_node_wherever_it_stands() -> None:
    class Special(nn.Conv2d):
        """A layer that a proposal names."""

    network = Tiny()
    network.deep.side = Special(4, 4, 1)
    assert "Special" not in [n["class"] for n in nodes_of(network)]
    assert "Special" in [n["class"] for n in nodes_of(network, ("Special",))]


def test_the_trace_leaves_the_network_as_it_was() -> None:
    network, x = Tiny(), torch.rand(IMAGE_SHAPE)
    before = network(x)
    trace(network, torch.zeros(IMAGE_SHAPE), ())
    assert torch.equal(before, network(x))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_more_nodes_than_a_figure_holds_are_no_trace() -> None:
    assert nodes_of(nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(MOST_NODES)))) != []
    assert nodes_of(nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(MOST_NODES + 1)))) == []


class Dense(nn.Module):
    """Every layer sees all layers before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(MOST_NODES))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_a_trace_that_no_report_holds_is_none() -> None:
    assert nodes_of(Dense()) == []


def test_it_runs_without_arithmetic() -> None:
    with torch.device("meta"):
        nodes = trace(Tiny(), torch.zeros(IMAGE_SHAPE), ())
    assert nodes == nodes_of(Tiny())


def test_a_network_of_the_grammar_becomes_a_u_with_its_modules() -> None:
    modules = (
        Module("residual_encoder", "encoder", (0, 1)),
        Module("attention_gate", "skip", (0,)),
        Module("blur_pool", "downsample", (1,)),
    )
    nodes = nodes_of(built(modules), ("ResidualStage", "AttentionGate", "BlurPool"))
    graph = traced_graph(parsed(nodes), modules)
    spots = {(p.side, p.level): p for p in graph.places}
    assert set(spots) == {
        *(("encoder", 0), ("encoder", 1), ("bottleneck", 2)),
        *(("skip", 0), ("decoder", 0), ("decoder", 1)),
    }
    assert spots["encoder", 0].shape == spots["decoder", 0].shape == (4, 32, 16)
    new = {spot: [p.title for p in place.parts if p.is_new] for spot, place in spots.items()}
    assert new["skip", 0] == ["attention gates"]
    assert new["encoder", 1] == ["anti-aliased downsampling", "residual encoder"]
    assert (("encoder", 0), ("skip", 0)) in graph.edges
    assert (("skip", 0), ("decoder", 0)) in graph.edges
    assert (("encoder", 1), ("decoder", 1)) in graph.edges


def test_the_default_network_is_a_u() -> None:
    nodes = nodes_of(default_network(1, 3, SPEC))
    graph = traced_graph(parsed(nodes), ())
    assert nodes[0]["class"] == "StackedConvBlocks"
    assert {(p.side, p.level) for p in graph.places} == {
        *(("encoder", 0), ("encoder", 1), ("bottleneck", 2), ("decoder", 0), ("decoder", 1)),
    }
