"""Write network.py: the planned U-Net with the modules of a proposal, as readable source.

The skeleton is templates/networks/unet.py.j2; the classes of the components are copied from
sandbox/blocks/ with whatever they need from their own file, and nothing else. Pure text: no
torch is imported and nothing is run.
"""

import ast
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from memory.errors import PlannerError
from memory.records import Module, Proposal
from sandbox.components import COMPONENTS
from sandbox.placement import problems
from sandbox.syntax import parse

WIDTH = 88
PLACES = {
    "encoder": "encoder",
    "skip": "skips",
    "decoder": "decoder",
    "downsample": "on entering",
    "bottleneck": "bottleneck",
    "heads": "loss weights of the heads",
}
SKIP_ARGUMENTS = {"layer": "skip", "gate": "skip, x", "nest": "skip, maps[stage + 1]"}


@dataclass(frozen=True, slots=True)
class SkipModule:
    """How the decoder of the written network names and calls one module on its skips."""

    attribute: str
    name: str
    form: str
    stages: tuple[int, ...]
    condition: str
    arguments: str


def network_source(proposal: Proposal) -> str:
    """Return the source of the network that a proposal describes.

    The file imports torch and the standard library only and ends with
    `build_network(in_channels, num_classes, spec)`; the same proposal gives the same text.

    Raises:
        PlannerError: the modules do not make a network.
    """
    if found := problems(proposal.modules):
        raise PlannerError(f"proposal {proposal.id!r} makes no network: {'; '.join(found)}")
    definitions = [text for file, name in _wanted(proposal.modules) for text in _copy(file, name)]
    context = _context(proposal.modules)
    return _skeleton().render(
        docstring=_docstring(proposal),
        names={name for text in definitions for name in _names(parse(text))},
        definitions=definitions,
        **context,
    )


@cache
def _skeleton() -> Template:
    environment = Environment(
        loader=PackageLoader("templates", "networks"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template("unet.py.j2")


def _context(modules: Sequence[Module]) -> dict[str, object]:
    at = {position: [m for m in modules if m.position == position] for position in PLACES}
    return {
        "modules": modules,
        "downsample": _conditions(at["downsample"], "downsample"),
        "encoder_stages": _conditions(at["encoder"], "stage"),
        "encoder_layers": _conditions(at["encoder"], "layer"),
        "decoder_stages": _conditions(at["decoder"], "stage"),
        "decoder_layers": _conditions(at["decoder"], "layer"),
        "skips": [_skip(module) for module in at["skip"]],
        "bottleneck": [COMPONENTS[m.component].class_name for m in at["bottleneck"]],
        "weights": "".join(COMPONENTS[m.component].class_name for m in at["heads"]),
        "needed_stages": max((_needed_stages(module) for module in modules), default=2),
    }


def _conditions(modules: Sequence[Module], form: str) -> list[tuple[str, str]]:
    cards = [(COMPONENTS[m.component], m.stages) for m in modules]
    return [(card.class_name, _condition(stages)) for card, stages in cards if card.form == form]


def _condition(stages: tuple[int, ...]) -> str:
    return f"stage == {stages[0]}" if len(stages) == 1 else f"stage in {stages}"


def _skip(module: Module) -> SkipModule:
    card = COMPONENTS[module.component]
    return SkipModule(
        attribute=card.name,
        name=card.class_name,
        form=card.form,
        stages=module.stages,
        condition=_condition(module.stages),
        arguments=SKIP_ARGUMENTS[card.form],
    )


def _needed_stages(module: Module) -> int:
    """Return how many stages a plan must have for the module's stages to exist."""
    above_bottleneck = module.position in ("skip", "decoder") or (
        module.position == "encoder" and COMPONENTS[module.component].form == "layer"
    )
    return max(module.stages, default=0) + (2 if above_bottleneck else 1)


def _wanted(modules: Sequence[Module]) -> list[tuple[str, str]]:
    cards = [COMPONENTS[module.component] for module in modules]
    return [("plain", "ConvStage"), *((card.file, card.class_name) for card in cards)]


def _copy(file: str, name: str) -> list[str]:
    """Return a class or function of a block file, after all of the file that it uses."""
    text = resources.files("sandbox.blocks").joinpath(f"{file}.py").read_text(encoding="utf-8")
    nodes = {
        node.name: node
        for node in parse(text).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    wanted, queue = set[str](), [name]
    while queue:
        if (current := queue.pop()) not in wanted:
            wanted.add(current)
            queue += sorted(_names(nodes[current]) & nodes.keys())
    segments = [ast.get_source_segment(text, nodes[key]) for key in nodes if key in wanted]
    return [segment for segment in segments if segment is not None]


def _names(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _docstring(proposal: Proposal) -> str:
    modules = "\n".join(_module_line(module) for module in proposal.modules)
    parts = [
        _wrap(f"{proposal.title}."),
        *(_wrap(part) for part in proposal.motivation.split("\n\n")),
        f"Modules:\n{modules or '    none'}",
        _wrap(f"What would refute it: {proposal.refutation}"),
        _wrap(f"Proposal {proposal.id}, {proposal.planner} planner. {_base()}"),
    ]
    return "\n\n".join(parts)


def _base() -> str:
    return (
        "Base: U-Net as planned by nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."
    )


def _module_line(module: Module) -> str:
    card = COMPONENTS[module.component]
    stages = f" {', '.join(map(str, module.stages))}" if module.stages else ""
    line = f"{card.class_name}, {PLACES[module.position]}{stages}: {card.source}."
    return _wrap(line, indent="    ", hanging="        ")


def _wrap(text: str, *, indent: str = "", hanging: str = "") -> str:
    """Fill a paragraph; a backslash or a triple quote would end or bend the docstring."""
    safe = " ".join(text.replace("\\", "/").replace('"""', "'''").split())
    lines = textwrap.wrap(
        safe,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=hanging,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return "\n".join(lines)
