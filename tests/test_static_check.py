"""The static check: what it refuses and says, and that every network of ours passes."""

import importlib
import random
import subprocess
import sys
import time
from types import ModuleType

import pytest
import torch

from agent.grammar import GrammarPlanner, proposal_id
from agent.network_source import network_source
from memory.records import Module, Proposal
from sandbox.components import COMPONENTS
from sandbox.placement import placements
from sandbox.static_check import (
    ALLOWED_IMPORTS,
    LISTED,
    SOURCE_BYTES,
    is_allowed,
    static_check,
)
from tests.effects import UNKNOWN

NETWORK = """\
import torch
from torch import Tensor, nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.conv = nn.Conv2d(i, k, 3, padding=1)

    def forward(self, x):
        {body}

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""
GOOD = {
    "plain": "return self.conv(x)",
    "functional": "return F.relu_(torch.cat([self.conv(x)], dim=1))",
    "layer by dimension": 'return getattr(nn, f"Conv{2}d")',
    "layer by literal": 'return getattr(F, "relu")(x)',
    "own layer by number": 'return getattr(self, f"stage{1}")(x)',
    "own layer set by number": 'setattr(self, f"stage{1}", nn.Identity())',
    "class name": "return self.__class__.__name__",
    "private of its own": "self._modules",
    "own attributes": "self.conv.weight.data[0] = x; self.last = x; del self.last",
    "no_grad": "return torch.no_grad()",
    "dtype": "return x.to(torch.float32, memory_format=torch.channels_last)",
    "checkpoint": "return torch.utils.checkpoint.checkpoint(self.conv, x, use_reentrant=False)",
    "linear algebra": "return torch.linalg.vector_norm(torch.fft.rfftn(x))",
    "parameter called input": "return (lambda input: input + 1)(x)",
    "variable called id": "id = x + 1; return id",
    "eval mode": "self.eval()",
    "alias": "f = nn.functional; return f.relu(x)",
    "errors": "raise ValueError(f'{x.shape} is odd')",
    "initialised": "nn.init.kaiming_normal_(self.conv.weight, a=0.01)",
}
BAD = {
    "eval": ("eval('x')", "eval is outside"),
    "open": ("open('/data')", "open is outside"),
    "import": ("__import__('os')", "__import__ is outside"),
    "print": ("print(x)", "print is outside"),
    "os behind torch": ("torch.os.system('id')", "torch.os is no part"),
    "long walk": ("nn.modules.module.torch.os.system('id')", "torch.nn.modules is no part"),
    "subclasses": (
        "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Popen'][0](['id'])",
        "__subclasses__ is outside",
    ),
    "globals": ("self.forward.__globals__['x']", "__globals__ is outside"),
    "made name": ("getattr(__builtins__, 'ev' + 'al')", "needs a written name"),
    "cpp extension": ("torch.utils.cpp_extension.load('x', 'y')", "cpp_extension is no part"),
    "load": ("torch.load('/data/x')", "torch.load is no part"),
    "jit": ("torch.jit.load('x')", "torch.jit is no part"),
    "library": ("torch.ops.load_library('x.so')", "torch.ops is no part"),
    "hub": ("torch.hub.load('a', 'b')", "torch.hub is no part"),
    "optimiser": ("torch.optim.SGD([x], 1.0)", "torch.optim is no part"),
    "from_file": ("torch.from_file('/data/x')", "torch.from_file is no part"),
    "reader": ("torch.PyTorchFileReader('/data/x')", "PyTorchFileReader is no part"),
    "private": ("torch._C", "torch._C is no part"),
    "seed": ("torch.manual_seed(0)", "torch.manual_seed is no part"),
    "threads": ("torch.set_num_threads(64)", "torch.set_num_threads is no part"),
    "determinism": ("torch.use_deterministic_algorithms(False)", "is no part"),
    "made name of torch": ("getattr(torch, f'o{1}')", "needs a written name"),
    "made name of an object": ("getattr(x, f'num{1}')", "needs a written name"),
    "written name": ("getattr(torch, 'os')", "torch.os is no part"),
    "written dunder": ("getattr(x, '__globals__')", "__globals__ is outside"),
    "getattr as a value": ("(lambda g: g(x, 'os'))(getattr)", "may only be called"),
    "module as a value": ("self.t = torch", "torch is used as a value"),
    "module in a list": ("[torch.nn][0]", "torch.nn is used as a value"),
    "module as an argument": ("(lambda t: t.load('x'))(torch)", "torch is used as a value"),
    "module of another meaning": ("F = x", "F is the module torch.nn.functional here"),
    "patched class": ("nn.CrossEntropyLoss.forward = None", "only objects of the network"),
    "patched function": ("F.relu = F.elu", "only objects of the network"),
    "patched import": ("Tensor.add = None", "only objects of the network"),
    "patched item": ("nn.Module.dump_patches['a'] = 1", "only objects of the network"),
    "patched by loop": ("for nn.Module.x in (1,): pass", "only objects of the network"),
    "patched own class": ("type(x).add = None", "only objects of the network"),
    "changed class": ("self.__class__ = nn.Linear", "only objects of the network"),
    "deleted": ("del nn.Conv2d.forward", "only objects of the network"),
    "foreign setattr": ("setattr(nn.Conv2d, 'forward', None)", "attributes of self only"),
    "setattr of a dunder": ("setattr(self, '__class__', nn.Linear)", "attributes of self only"),
    "frame": ("(i for i in x).gi_frame", "gi_frame is outside"),
    "trains": ("x.sum().backward()", "backward is outside"),
    "leaves torch": ("x.numpy().tofile('/out/x')", "tofile is outside"),
    "builtins": ("__builtins__", "__builtins__ is outside"),
    "leaves": ("raise SystemExit", "SystemExit is outside"),
    "reads by a pattern": ("match x:\n            case object(__globals__=g): pass", "__globals__"),
    "hook of pickle": ("pass\n    def __reduce__(self): return ()", "__reduce__ is outside"),
}
IMPORTS = {
    "os": "import os",
    "requests": "import requests",
    "torch.multiprocessing": "import torch.multiprocessing as mp",
    "torch.utils.cpp_extension": "from torch.utils.cpp_extension import load",
    "torch.hub": "from torch import hub",
    "torch.load": "from torch import load",
    "torch.distributed": "from torch import distributed as dist",
    "torch.nn.functional.*": "from torch.nn.functional import *",
    "torch.optim": "import torch.optim",
    "operator": "from operator import attrgetter",
    "typing.get_type_hints": "from typing import get_type_hints",
    "warnings": "import warnings",
    "numpy": "import numpy as np",
    ".blocks": "from .blocks import Block",
    "nnunetv2": "import nnunetv2",
    "torch._C": "from torch import _C",
}
ON_IMPORT = {
    "call": "torch.zeros(10**12)",
    "kept call": "X = torch.zeros(10**12)",
    "loop": "while True: pass",
    "condition": "if __name__ == '__main__': pass",
    "call in a class": "class A:\n    x = torch.zeros(10**12)",
    "loop in a class": "class A:\n    while True: pass",
    "with": "with torch.no_grad(): pass",
}
CONSTANTS = (
    "X: int = 4\nY, Z = (1, 2), X + 1\nW = [X] * 2\nA = {'a': nn.ReLU, 'b': F.relu}",
    "from typing import TypeVar\nT = TypeVar('T')\nSizes = tuple[int, ...]",
    "from dataclasses import dataclass, field\n@dataclass\nclass C:\n    x: list = field(default_factory=list)",
    "import enum\nclass E(enum.Enum):\n    A = enum.auto()",
    "from functools import partial\nAct = partial(nn.LeakyReLU, 0.01)",
    "import math\nROOT = math.sqrt(2.0)\nWIDTHS = tuple(range(3))",
)


@pytest.mark.parametrize("name", GOOD)
def test_what_networks_do_passes(name: str) -> None:
    assert static_check(NETWORK.format(body=GOOD[name]), named=["Net"]) == []


@pytest.mark.parametrize("name", BAD)
def test_what_no_network_needs_is_refused(name: str) -> None:
    body, said = BAD[name]
    found = static_check(NETWORK.format(body=body))
    assert any(said in one.text for one in found), found
    assert {one.kind for one in found} == {"names"}
    assert {one.line for one in found} == {11 + body.count("\n")}


@pytest.mark.parametrize("name", IMPORTS)
def test_an_import_beyond_the_list_is_refused_with_the_list(name: str) -> None:
    found = static_check(f"{IMPORTS[name]}\n{NETWORK.format(body='return x')}")
    assert (found[0].line, found[0].kind) == (1, "imports")
    assert f"{name!r} may not be imported; allowed: torch, torch.nn" in found[0].text


@pytest.mark.parametrize("name", ON_IMPORT)
def test_what_runs_on_import_is_refused(name: str) -> None:
    found = static_check(NETWORK.format(body="return x") + ON_IMPORT[name])
    assert ["would run on import" in one.text for one in found] == [True]


@pytest.mark.parametrize("source", CONSTANTS)
def test_constants_and_types_may_stand_at_the_top(source: str) -> None:
    assert static_check(f"{NETWORK.format(body='return x')}\n{source}\n") == []


def test_an_alias_of_a_module_is_followed() -> None:
    found = static_check(NETWORK.format(body="return t.os") + "t = torch\n")
    assert any("torch.os is no part" in one.text for one in found)
    found = static_check(f"import torch as t\n{NETWORK.format(body='return t.load')}")
    assert ["torch.load is no part" in one.text for one in found] == [True]


def test_a_refusal_says_what_is_allowed_instead() -> None:
    body = "return torch.utils.checkpoint.noop_context_fn()"
    (found,) = static_check(NETWORK.format(body=body))
    assert found.text == (
        "torch.utils.checkpoint.noop_context_fn is no part of a network; "
        "allowed: checkpoint, checkpoint_sequential"
    )


def test_imports_come_before_names_and_lines_rise() -> None:
    found = static_check(f"x = eval\ny = open\nimport os\nimport sys\n{NETWORK.format(body='x')}")
    assert [(one.kind, one.line) for one in found] == [
        *[("imports", 3), ("imports", 4), ("names", 1), ("names", 2)]
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def (", "SyntaxError: invalid syntax"),
        ("x = '\0'", "null"),
        ("x = '\ud800'", "surrogate"),
        ("-" * 60000 + "1", "plainer Python"),
        ("a" + "(b)" * 30000, "plainer Python"),
        ("a" + ".b" * 60000, "plainer Python"),
        ("#" * (SOURCE_BYTES + 1), f"allowed: {SOURCE_BYTES}"),
    ],
)
def test_what_is_no_python_is_named(source: str, said: str) -> None:
    (found,) = static_check(source)
    assert found.kind == "syntax"
    assert said in found.text


def test_a_deep_or_wide_text_costs_little() -> None:
    before = time.perf_counter()
    static_check("x" + ".a" * 900 + "\n" + "\n".join(f"y{i} = x.a.b.c" for i in range(4000)))
    assert time.perf_counter() - before < 15


def test_an_odd_escape_in_a_string_is_no_fault() -> None:
    assert static_check(NETWORK.format(body="'\\d'; return x")) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1", "defines no function build_network(in_channels, num_classes, spec)"),
        ("class build_network:\n    pass", "defines no function build_network"),
        ("async def build_network(in_channels, num_classes, spec): ...", "defines no function"),
        ("def build_network(a, b, c): ...", "must read build_network(in_channels, num_classes, s"),
        ("def build_network(in_channels, num_classes): ...", "must read"),
        ("def build_network(in_channels, num_classes, spec, *rest): ...", "must read"),
        ("def build_network(in_channels, num_classes, *, spec): ...", "must read"),
        ("def build_network(in_channels, num_classes, spec, **more): ...", "must read"),
    ],
)
def test_a_file_without_the_function_is_refused(source: str, said: str) -> None:
    found = static_check(source)
    assert {one.kind for one in found} == {"names"}
    assert any(said in one.text for one in found)


def test_a_class_that_only_the_proposal_knows_is_missed() -> None:
    (found,) = static_check(NETWORK.format(body="x"), named=["Net", "AxialAttention"])
    assert found.text == "the proposal names AxialAttention; network.py defines no such class"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_passes_wherever_it_fits(name: str, dims: int) -> None:
    for module in placements(name, dims=dims, n_stages=5):
        modules = (module,)
        text = network_source(
            Proposal(proposal_id(modules, None), "T", "M", modules, "R", (), "grammar")
        )
        assert static_check(text, named=[COMPONENTS[name].class_name]) == []


@pytest.mark.parametrize("dims", [2, 3])
def test_what_the_planner_proposes_passes(dims: int) -> None:
    planner, rng, tried = GrammarPlanner(5), random.Random(dims), list[Proposal]()
    for _ in range(40):
        tried.append(planner.propose(tried, UNKNOWN, rng, dims=dims))
        named = [COMPONENTS[module.component].class_name for module in tried[-1].modules]
        assert static_check(planner.write(tried[-1]), named=named) == []


def test_the_plain_network_passes() -> None:
    modules: tuple[Module, ...] = ()
    text = network_source(Proposal("p", "T", "M", modules, "R", (), "grammar"))
    assert static_check(text) == []


@pytest.mark.parametrize("name", [m for m in ALLOWED_IMPORTS if m != "__future__"])
def test_no_allowed_module_leads_to_one_that_is_not(name: str) -> None:
    module = importlib.import_module(name)
    for key in dir(module):
        found = getattr(module, key, None)
        if isinstance(found, ModuleType) and is_allowed(name, key):
            assert found.__name__ in ALLOWED_IMPORTS, f"{name}.{key} leads to {found.__name__}"


@pytest.mark.parametrize("name", LISTED)
def test_everything_that_is_listed_exists(name: str) -> None:
    module = importlib.import_module(name)
    assert [key for key in LISTED[name] if not hasattr(module, key)] == []


def test_the_operations_of_torch_are_allowed_but_for_those_that_read_memory_or_files() -> None:
    operations = [n for n in dir(torch._C._VariableFunctions) if not n.startswith("_")]
    assert [n for n in operations if not is_allowed("torch", n)] == [
        *["from_file", "from_numpy", "frombuffer"]
    ]


def test_the_check_imports_no_torch() -> None:
    code = "import sys, sandbox.static_check; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
