"""A class that is made to do nothing, in a network's text."""

import torch
from torch import nn

from agent.neutral import neutral_source

SOURCE = """
import torch
from torch import nn


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, x, other=None):
        return x * self.gain


class Other(nn.Module):
    pass


class Kind(Other):
    pass


def build_network(in_channels, num_classes, spec):
    return Gate(in_channels)
"""


def test_the_substitute_passes_its_input_on_and_has_no_parameters() -> None:
    made = neutral_source(SOURCE, "Gate")
    assert made is not None
    space: dict[str, object] = {}
    exec(compile(made, "network.py", "exec"), space)  # our own text
    build = space["build_network"]
    assert callable(build)
    network = build(2, 3, {})
    assert isinstance(network, nn.Module)
    x = torch.ones(1, 2, 4, 4)
    assert torch.equal(network(x, x), x)
    assert list(network.parameters()) == []


def test_what_cannot_be_taken_out_is_none() -> None:
    assert neutral_source(SOURCE, "Missing") is None
    assert neutral_source(SOURCE, "Other") is None
    assert neutral_source("def f(:", "Gate") is None


def test_torch_nn_is_imported_where_it_was_not() -> None:
    made = neutral_source("import torch\n\n\nclass Gate(torch.nn.Module):\n    pass\n", "Gate")
    assert made is not None
    assert "from torch import nn" in made
