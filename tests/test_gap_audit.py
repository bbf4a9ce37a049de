"""The audit of a proposal against its network, and the graph of a network's text."""

import pytest

from agent.gap_audit import STATES, audit, audit_clues
from agent.network_graph import graph_of, steps_of
from agent.network_source import network_source
from agent.suggestions import Clue
from memory.records import Figures, Module, Proposal
from sandbox.components import COMPONENTS
from sandbox.placement import placements

HEAD = """\
import torch
from torch import nn


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        {gate}


"""
BUILD = """

def build_network(in_channels, num_classes, spec):
    return Net(in_channels)
"""
USED = "return x * torch.sigmoid(self.conv(x))"


def network(body: str, *, gate: str = USED) -> str:
    return HEAD.format(gate=gate) + body.strip("\n") + "\n" + BUILD


def net(init: str, forward: str, *, base: str = "nn.Module") -> str:
    return f"""
class Net({base}):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1)
        {init}

    def forward(self, x):
        x = self.first(x)
        {forward}
"""


def proposal(*modules: Module, detail: Figures | None = None) -> Proposal:
    return Proposal("p", "T", "m", modules, "r", (), "llm", None, detail or {})


GATE = Module("Gate", "skip", (0, 1))
READ = {
    "attribute": ("self.gate = Gate(channels)", "return self.gate(x)"),
    "list": ("self.all = nn.ModuleList([Gate(channels) for _ in range(2)])", "return self.all[0](x)"),
    "alias": ("kind = Gate; self.gate = kind(channels)", "return self.gate(x)"),
    "local list": (
        "layers = []; layers.append(Gate(channels)); self.run = nn.Sequential(*layers)",
        "return self.run(x)",
    ),
    "subscript": (
        "self.all = nn.ModuleDict(); self.all['a'] = Gate(channels)",
        "return self.all['a'](x)",
    ),
    "filled": ("self.all = nn.ModuleList(); self.all.append(Gate(channels))", "return self.all[0](x)"),
    "loop": ("for kind in (Gate,): self.gate = kind(channels)", "return self.gate(x)"),
    "choice": ("self.gate = Gate(channels) if channels else nn.Identity()", "return self.gate(x)"),
    "made name": ("setattr(self, f'gate{0}', Gate(channels))", "return getattr(self, f'gate{0}')(x)"),
    "registered": ("self.add_module('gate', Gate(channels))", "return self.gate(x)"),
    "children": ("self.gate = Gate(channels)", "return [m(x) for m in self.children()][0]"),
    "on the way": ("pass", "return Gate(x.shape[1])(x)"),
    "helper": ("self.gate = self.make(channels)", "return self.gate(x)\n\n    def make(self, n):\n        return Gate(n)"),
}  # fmt: skip
UNREAD = {
    "attribute": ("self.gate = Gate(channels)", "return x"),
    "in a container": ("self.run = nn.Sequential(Gate(channels))", "return x"),
    "beside another": ("self.gate = Gate(channels); self.b = nn.Identity()", "return self.b(x)"),
}


@pytest.mark.parametrize("name", READ)
def test_a_part_that_is_built_and_read_is_used(name: str) -> None:
    source = network(net(*READ[name]))
    [part] = audit(proposal(GATE), source)
    assert part.state == "complete", part.why


@pytest.mark.parametrize("name", UNREAD)
def test_a_part_that_no_forward_reads_is_missing(name: str) -> None:
    [part] = audit(proposal(GATE), network(net(*UNREAD[name])))
    assert (part.state, part.why) == ("missing", "it is defined, and built, but no forward uses it")


def test_a_container_runs_what_it_holds() -> None:
    body = (
        "class Net(nn.Sequential):\n    def __init__(self, n):\n        super().__init__(Gate(n))\n"
    )
    [part] = audit(proposal(GATE), network(body))
    assert part.state == "complete"


def test_a_part_of_a_class_that_is_never_built_is_missing() -> None:
    unused = net(*READ["attribute"]).replace("class Net", "class Other")
    [part] = audit(proposal(GATE), network(unused + net("pass", "return x")))
    assert part.state == "missing"
    [part] = audit(proposal(GATE), network(net("pass", "return x")))
    assert part.why.endswith("never built")


def test_what_is_not_there_is_missing() -> None:
    other = Module("Mixer", "bottleneck", ())
    found = audit(proposal(GATE, other), network(net(*READ["attribute"])))
    assert [(p.name, p.state) for p in found] == [("Gate", "complete"), ("Mixer", "missing")]
    for source in ("", "  \n", "def f(:"):
        assert {p.state for p in audit(proposal(GATE), source)} == {"missing"}


def test_a_part_that_hands_on_its_input_is_simplified() -> None:
    [part] = audit(proposal(GATE), network(net(*READ["attribute"]), gate="return x"))
    assert part.state == "simplified"
    assert "unchanged" in part.why


def counted(places: float) -> Clue:
    return Clue("dry.instances.Gate", "Gate is built", places, "places")


@pytest.mark.parametrize(("places", "state"), [(1, "simplified"), (2, "complete"), (4, "complete")])
def test_fewer_places_than_stages_are_simplified(places: float, state: str) -> None:
    [part] = audit(proposal(GATE), network(net(*READ["attribute"])), [counted(places)])
    assert part.state == state


def test_a_part_without_effect_on_the_logits_is_missing() -> None:
    idle = Clue("dry.idle.Gate", "Gate changes no logit", 0.0, "places")
    [part] = audit(proposal(GATE), network(net(*READ["attribute"])), [idle])
    assert part.state == "missing"
    assert "no logit" in part.why


def test_a_component_with_few_of_its_steps_is_simplified() -> None:
    module = Module("attention_gate", "skip", (0, 1))
    source = network(net(*READ["attribute"])).replace("Gate", "AttentionGate")
    [part] = audit(proposal(module), source)
    assert part.state == "simplified"
    assert "as shipped" in part.why


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_network_of_the_grammar_is_complete(name: str) -> None:
    for module in placements(name, dims=2, n_stages=5)[:3]:
        one = Proposal("p", "T", "m", (module,), "r", (), "grammar")
        [part] = audit(one, network_source(one))
        assert part.state == "complete", part.why


def test_parts_with_equations_are_named_too() -> None:
    detail = {"equations": {"Gate": "y = x s(x)", "Mixer": "z"}, "ideas": {"Mixer": "mix"}}
    found = audit(proposal(GATE, detail=detail), network(net(*READ["attribute"])))
    assert [(p.name, p.state) for p in found] == [("Gate", "complete"), ("Mixer", "missing")]
    assert found[1].module is None
    assert audit(proposal(detail={"equations": "none"}), "") == []


def test_hostile_names_get_plain_keys() -> None:
    modules = tuple(Module(name, "skip", (0,)) for name in ("/etc/passwd", "a b", "a b"))
    clues = audit_clues(proposal(*modules), "")
    assert [clue.key for clue in clues] == ["gap.parts", "gap.part0_", "gap.part1_"]
    assert not any("passwd" in clue.text for clue in clues)


def test_the_audit_is_told_as_clues() -> None:
    cut = network(net(*READ["attribute"]), gate="return x * self.conv(x).detach()")
    found = {clue.key: clue for clue in audit_clues(proposal(GATE), cut)}
    assert found["gap.parts"].value == 1.0
    assert found["gap.Gate"].value == STATES["complete"]
    assert found["gap.cut"].value == 11.0
    assert "gap.cut" not in {clue.key for clue in audit_clues(proposal(GATE), "x = (")}


def test_steps_count_what_a_definition_uses() -> None:
    graph = graph_of("def a(x):\n    return b(x)\n\ndef b(x):\n    return max(abs(x), 1)\n")
    assert graph is not None
    assert (steps_of(graph, "a"), steps_of(graph, "b")) == (3, 2)
