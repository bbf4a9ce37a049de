"""What a proposal names against what its network holds, part by part. Pure.

A part is a module of the proposal, or a class for which the proposal gives an equation or idea.
Missing: not defined, led to by nothing, or without effect on the logits. Simplified: built at
fewer places than the proposal has stages, handing on its input, or with less than half of the
steps of the component as shipped. Complete: none of these. The text shows what is there and used;
the dry run, where a clue tells of it, how often it is built and whether it changes the logits.

Not covered: whether a part computes what its equation says.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from agent.clue_text import scrubbed
from agent.network_graph import Graph, detached, graph_of, is_passing, steps_of
from agent.suggestions import Clue
from memory.records import Module, Proposal
from sandbox.components import COMPONENTS

STATES = {"complete": 1.0, "simplified": 0.5, "missing": 0.0}
FEWEST_STEPS = 0.5
DESCRIBED = ("equations", "ideas")
IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,59}", re.ASCII)


class Part(NamedTuple):
    """One named part: its class, its module if it has one, its state, why, and its clue's key."""

    name: str
    module: Module | None
    state: str
    why: str
    key: str

    @property
    def clue(self) -> Clue:
        """The part as a clue; 1 is complete, 0.5 simplified, 0 missing."""
        text = f"{self.name}, which the proposal names, is {self.state}: {self.why}"
        return Clue(self.key, text[:700], STATES[self.state], "state")


def class_of(component: str) -> str:
    """Return the class or function in network.py that carries a component."""
    return COMPONENTS[component].class_name if component in COMPONENTS else component


def audit(proposal: Proposal, source: str, clues: Sequence[Clue] = ()) -> list[Part]:
    """Return the parts that a proposal names, in its order.

    Args:
        proposal: an idea.
        source: the text of its network.py; empty where nobody has it.
        clues: those of its trial, for what the dry run showed.
    """
    graph = graph_of(source) if source.strip() else None
    known = {clue.key: clue for clue in clues}
    wanted: dict[str, Module | None] = {class_of(m.component): m for m in proposal.modules}
    for name in described(proposal):
        wanted.setdefault(class_of(name), None)
    found, keys = list[Part](), set[str]()
    for number, (name, module) in enumerate(wanted.items()):
        slug = name if IDENTIFIER.fullmatch(name) and name not in keys else f"part{number}_"
        keys.add(slug)
        state, why = judged(name, module, graph, known)
        found.append(Part(scrubbed(name, most=60), module, state, why, f"gap.{slug}"))
    return found


def described(proposal: Proposal) -> Iterator[str]:
    """Yield the classes for which a proposal's detail has an equation or an idea."""
    for field in DESCRIBED:
        said = proposal.detail.get(field)
        yield from (str(name) for name in said) if isinstance(said, Mapping) else ()


def judged(
    name: str, module: Module | None, graph: Graph | None, known: Mapping[str, Clue]
) -> tuple[str, str]:
    """Return the state of a part and the reason."""
    if graph is None:
        return "missing", "there is no text of network.py that could hold it"
    if name not in graph.defined:
        return "missing", "network.py defines nothing of that name"
    if f"dry.idle.{name}" in known:
        return "missing", "it is defined, and changing its output changes no logit"
    if name not in graph.used:
        how = "built, but no forward uses it" if name in graph.built else "never built"
        return "missing", f"it is defined, and {how}"
    if is_passing(graph.defined[name]):
        return "simplified", "its forward hands on its input unchanged"
    return sized(name, module, graph, known.get(f"dry.instances.{name}"))


def sized(name: str, module: Module | None, graph: Graph, built: Clue | None) -> tuple[str, str]:
    """Return the state of a part that is used: by its places, then by its steps."""
    places, wanted = None if built is None else built.value, places_of(module)
    if places is not None and wanted is not None and places < wanted:
        return "simplified", f"it is built {places:.0f} times for {wanted} places of the proposal"
    shipped = shipped_steps(module.component) if module else 0
    own = steps_of(graph, name)
    if own < FEWEST_STEPS * shipped:
        return "simplified", f"it takes {own} steps where the component as shipped takes {shipped}"
    effect = "" if places is None else f", built {places:.0f} times, and changes the logits"
    return "complete", f"it is defined and used{effect}"


def places_of(module: Module | None) -> int | None:
    """Return at how many places a module should be; None where its class is no layer."""
    if module is None or module.position == "heads":
        return None
    return max(1, len(module.stages))


@cache
def shipped_steps(component: str) -> int:
    """Return how many calls a component's own block makes; 0 for a part that is not ours."""
    card = COMPONENTS.get(component)
    if card is None:
        return 0
    text = resources.files("sandbox.blocks").joinpath(f"{card.file}.py").read_text("utf-8")
    graph = graph_of(text)
    assert graph is not None
    return steps_of(graph, card.class_name)


def audit_clues(proposal: Proposal, source: str, clues: Sequence[Clue] = ()) -> tuple[Clue, ...]:
    """Return the audit as clues: one for all, one a part, one for lines that cut gradients."""
    found = audit(proposal, source, clues)
    whole = sum(part.state == "complete" for part in found)
    text = f"parts that the proposal names and network.py has complete: {whole} of {len(found)}"
    clue = Clue("gap.parts", text, float(whole), "parts", count=len(found))
    return (clue, *(part.clue for part in found), *cut_clues(source))


def cut_clues(source: str) -> Iterator[Clue]:
    """Yield the first line that cuts gradients, where there is one."""
    graph = graph_of(source) if source.strip() else None
    lines = detached(graph) if graph else []
    if lines:
        text = f"line {lines[0]} of network.py cuts gradients (detach or no_grad)"
        yield Clue("gap.cut", text, float(lines[0]), "line", count=len(lines))
