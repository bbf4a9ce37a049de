"""The modules of a network by where they stand in its U: as its dry run traced them. Pure.

A trace comes from the process that ran the network's code, so that it is parsed as hostile: it
informs a reader, and no score rests on it. Where none was kept, the modules are placed as the
proposal describes them in the planned U-Net.

The trace is a list of nodes in the order of their calls, each with `class`, `shape` (channels and
then the spatial axes, in voxels), `parameters` and `inputs`: for each tensor that it was called
with, the places in the list of the nodes that it came from, -1 for the image.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agent.formats import plain_text
from agent.report_rows import Rows
from memory.records import Module, Proposal
from sandbox.components import COMPONENTS

DRY_RUN = "dry_run"
MOST_NODES = 400
LONGEST_NAME = 60
IMAGE = -1
SIDES = ("encoder", "skip", "bottleneck", "decoder")
Spot = tuple[str, int]


class Node(NamedTuple):
    """One call of a module: its class, the shape of its output (channels first), its sources."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    inputs: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> tuple[int, ...]:
        """The spatial axes, in voxels."""
        return self.shape[1:]


class Part(NamedTuple):
    """A line of a box: what a module is called, how many calls, its parameters, and whether it is new.

    Parameters are those of all its calls; None where no trace tells them.
    """

    title: str
    calls: int
    parameters: int | None
    is_new: bool


class Place(NamedTuple):
    """A box of the diagram: a side of SIDES, a level (0 the finest), its shape and its parts."""

    side: str
    level: int
    shape: tuple[int, ...]
    parts: tuple[Part, ...]


class Graph(NamedTuple):
    """Boxes, the lines between them, and what the proposal sets at the heads."""

    places: tuple[Place, ...]
    edges: tuple[tuple[Spot, Spot], ...]
    heads: tuple[str, ...]
    is_traced: bool


def module_graph(rows: Rows, proposal: Proposal, commit: str | None) -> Graph:
    """Return the graph of a proposal's network, from its trace where the store has one."""
    nodes = stored_trace(rows, commit)
    if nodes:
        return traced_graph(nodes, proposal.modules)
    plan = rows.campaign.protocol.get("plan", {})
    features = plan.get("features") or plan.get("features_per_stage") or []
    return planned_graph([int(f) for f in features], proposal.modules)


def stored_trace(rows: Rows, commit: str | None) -> tuple[Node, ...]:
    """Return the trace that a commit's dry run left; empty where it left none that can be read."""
    for event in reversed(rows.events):
        if event.kind == DRY_RUN and commit and event.figures.get("commit") == commit:
            for verdict in event.figures.get("verdicts", ()):
                evidence = verdict.get("evidence", {}) if isinstance(verdict, dict) else {}
                if nodes := parsed(evidence.get("graph")):
                    return nodes
    return ()


def parsed(said: Any) -> tuple[Node, ...]:
    """Return the nodes of a trace; empty where anything in it is not as our own code writes it."""
    if not isinstance(said, list) or not 0 < len(said) <= MOST_NODES:
        return ()
    nodes = [_node(one, place) for place, one in enumerate(said)]
    known = [node for node in nodes if node is not None]
    is_whole = len(known) == len(nodes) and len({len(node.shape) for node in known}) == 1
    return tuple(known) if is_whole else ()


def _node(said: Any, place: int) -> Node | None:
    if not isinstance(said, dict):
        return None
    name, inputs = said.get("class"), said.get("inputs")
    shape: Any = said.get("shape")
    parameters: Any = said.get("parameters")
    if not (isinstance(name, str) and _are_counts(shape, 1) and 3 <= len(shape) <= 4):
        return None
    if not (_are_counts([parameters], 0) and isinstance(inputs, list) and len(inputs) <= 64):
        return None
    if not all(_are_counts(one, IMAGE) and all(i < place for i in one) for one in inputs):
        return None
    name = plain_text(name, longest=LONGEST_NAME)
    return Node(name, tuple(shape), parameters, tuple(tuple(sorted(set(i))) for i in inputs))


def _are_counts(values: Any, least: int) -> bool:
    is_list = isinstance(values, list) and len(values) <= MOST_NODES
    return is_list and all(type(v) is int and least <= v < 10**12 for v in values)


def traced_graph(nodes: Sequence[Node], modules: Sequence[Module]) -> Graph:
    """Return the boxes of a trace: a level for each spatial size, sides by the order of calls.

    Before the coarsest size is first reached a node is of the encoder, at it of the bottleneck,
    after it of the decoder; there it is of the skips where it sees the encoder alone, or where the
    proposal puts its class there.
    """
    named = {class_of(module.component): module for module in modules}
    spots = _spots(nodes, {n for n, module in named.items() if module.position == "skip"})
    found: dict[Spot, list[int]] = {}
    for place, spot in enumerate(spots):
        found.setdefault(spot, []).append(place)
    used = {s for node in nodes for one in node.inputs for s in one}
    places = [
        Place(side, level, _shape(nodes, own, used), merged(_part(nodes[n], named) for n in own))
        for (side, level), own in found.items()
    ]
    return Graph(tuple(sorted(places, key=_order)), _edges(nodes, spots), heads_of(modules), True)


def _shape(nodes: Sequence[Node], own: Sequence[int], used: set[int]) -> tuple[int, ...]:
    """Return the shape that a box hands on: that of its last node whose output another one uses."""
    return nodes[next((n for n in reversed(own) if n in used), own[-1])].shape


def class_of(component: str) -> str:
    """Return the class of a module in network.py."""
    return COMPONENTS[component].class_name if component in COMPONENTS else component


def title_of(component: str) -> str:
    """Return what a module is called: its card's title, else its own name."""
    card = COMPONENTS.get(component)
    return card.title if card else component.replace("_", " ")


def heads_of(modules: Iterable[Module]) -> tuple[str, ...]:
    """Return the titles of what a proposal sets at the heads, which no call shows."""
    return tuple(title_of(m.component) for m in modules if m.position == "heads")


def _spots(nodes: Sequence[Node], skips: set[str]) -> list[Spot]:
    sizes = sorted({node.size for node in nodes}, key=lambda s: (-math.prod(s), s))
    levels = [sizes.index(node.size) for node in nodes]
    deepest = max(levels)
    first = levels.index(deepest)
    spots: list[Spot] = []
    for place, (node, level) in enumerate(zip(nodes, levels, strict=True)):
        seen = [{spots[i][0] if i >= 0 else "image" for i in one} for one in node.inputs]
        if place < first:
            side = "encoder"
        elif level == deepest:
            side = "bottleneck"
        elif node.name in skips or (seen and all(one <= {"encoder", "skip"} for one in seen)):
            side = "skip"
        else:
            side = "decoder"
        spots.append((side, level))
    return spots


def _part(node: Node, named: Mapping[str, Module]) -> Part:
    module = named.get(node.name)
    title = title_of(module.component) if module else node.name
    return Part(title, 1, node.parameters, module is not None)


def merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the parts with neighbours of one title put together."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if last and (last.title, last.is_new) == (part.title, part.is_new):
            total = None if part.parameters is None else (last.parameters or 0) + part.parameters
            found[-1] = Part(part.title, last.calls + part.calls, total, part.is_new)
        else:
            found.append(part)
    return tuple(found)


def _edges(nodes: Sequence[Node], spots: Sequence[Spot]) -> tuple[tuple[Spot, Spot], ...]:
    sources = ((place, s) for place, node in enumerate(nodes) for one in node.inputs for s in one)
    edges = {(spots[source], spots[place]) for place, source in sources if source != IMAGE}
    return tuple(sorted(edge for edge in edges if edge[0] != edge[1]))


def _order(place: Place) -> Spot:
    return (str(SIDES.index(place.side)), place.level)


def planned_graph(features: Sequence[int], modules: Sequence[Module]) -> Graph:
    """Return the planned U-Net with the modules of a proposal where it puts them."""
    used = max((stage for module in modules for stage in module.stages), default=3)
    widths = list(features) or [0] * (used + 1)
    last = len(widths) - 1
    found: dict[Spot, list[Part]] = {("bottleneck", last): []}
    found |= {(side, level): [] for side in ("encoder", "decoder") for level in range(last)}
    for module in modules:
        for spot in _planned_spots(module, last):
            found.setdefault(spot, []).append(Part(title_of(module.component), 1, None, True))
    places = [
        Place(side, level, (widths[level],) if widths[level] else (), tuple(parts))
        for (side, level), parts in found.items()
    ]
    edges = _planned_edges(last, found)
    return Graph(tuple(sorted(places, key=_order)), edges, heads_of(modules), False)


def _planned_spots(module: Module, last: int) -> list[Spot]:
    if module.position == "heads":
        return []
    if module.position == "bottleneck":
        return [("bottleneck", last)]
    side = "encoder" if module.position == "downsample" else module.position
    side = side if side in SIDES else "encoder"
    reaches = last + 1 if side == "encoder" else last
    stages = [s for s in module.stages if 0 <= s < reaches] or list(range(last))
    # The deepest stage of the encoder is drawn as the bottleneck.
    return [("bottleneck", last) if stage == last else (side, stage) for stage in stages]


def _planned_edges(last: int, found: Mapping[Spot, Any]) -> tuple[tuple[Spot, Spot], ...]:
    edges: set[tuple[Spot, Spot]] = set()
    for level in range(last):
        deeper = level + 1 == last
        edges.add((("encoder", level), ("bottleneck" if deeper else "encoder", level + 1)))
        edges.add((("bottleneck" if deeper else "decoder", level + 1), ("decoder", level)))
        path: list[Spot] = [("encoder", level), ("skip", level), ("decoder", level)]
        path = [spot for spot in path if spot in found]
        edges |= set(zip(path, path[1:], strict=False))
    return tuple(sorted(edges))
