"""The modules of a network as one forward pass calls them: classes, shapes, parameters, sources.

A node of the trace is the largest module that works as one step: one tensor out, of inputs of one
size, with no U of its own inside. A module whose class the proposal names is always a node. Norms
and activations are none.

Covered: what flows through modules and through functions on tensors between them, in place or
not. Not covered: values that leave torch (numpy, items) or a tensor's `data`.
"""

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

IMAGE = -1
MOST_NODES = 200
MOST_INPUTS = 16
LONGEST_NAME = 60
LARGEST = 24_000
"""Characters of a whole trace: the report of a dry run has a limit of its own."""
WHOLE_U = 3
"""As many sizes inside a module make it a network, and not a step of one."""
MARK = "_segwright_sources"
QUIET = ("activation", "batchnorm", "dropout", "instancenorm", "normalization")
Sources = frozenset[int]


@dataclass
class Call:
    """One call of a module: what called it, the shape of its tensors, where its inputs came from."""

    module: nn.Module
    place: int
    parent: "Call | None"
    given: list[tuple[tuple[int, ...], Sources]]
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    inner: list["Call"] = field(default_factory=list)
    is_node: bool = False

    @property
    def name(self) -> str:
        """The class of the module."""
        return type(self.module).__name__


class Flow(TorchFunctionMode):
    """Marks what a function returns with the sources of what it was given."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the function, then mark its tensors."""
        output = func(*args, **(kwargs or {}))
        given = [sources(one) for one in tensors((args, kwargs))]
        if found := frozenset().union(*given):
            for one in tensors(output):
                setattr(one, MARK, found)
        return output


def traced(
    network: nn.Module, size: Sequence[int], *, device: str, named: Collection[str]
) -> list[dict[str, Any]]:
    """Return the trace of a network on an empty image; empty where it cannot be traced.

    Args:
        network: built on `device`, which may be "meta".
        size: of the image, (1, C, ...).
        device: as torch names it.
        named: classes that the proposal names.
    """
    try:
        with torch.device(device):
            return trace(network, torch.zeros(*size, device=device), named)
    except Exception:  # noqa: BLE001 -- a diagram is no reason to refuse a network
        return []


def trace(network: nn.Module, x: Tensor, named: Collection[str]) -> list[dict[str, Any]]:
    """Return the nodes of one forward pass, in the order of their calls.

    Args:
        network: run once, without gradients.
        x: an image, (1, C, ...).
        named: classes that the proposal names.

    Returns:
        For each node `class`, `shape` (channels, then the spatial axes, in voxels), `parameters`
        and `inputs`: for each tensor the places of the nodes that it came from, -1 for the image.
        Empty where there are more than 200, or more to tell of them than a report holds.
    """
    calls: list[Call] = []
    setattr(x, MARK, frozenset({IMAGE}))
    with ExitStack() as stack, torch.no_grad():
        for handle in hooks(network, calls, set(named)):
            stack.callback(handle.remove)
        stack.enter_context(Flow())
        network(x)
    nodes = [call for call in calls if call.is_node and not is_inside(call)]
    places = {call.place: place for place, call in enumerate(nodes)} | {IMAGE: IMAGE}
    if len(nodes) > MOST_NODES:
        return []
    found = [told(call, calls, places) for call in nodes]
    return found if len(json.dumps(found)) <= LARGEST else []


def hooks(network: nn.Module, calls: list[Call], named: set[str]) -> Iterator[Any]:
    """Yield the handles of hooks that note every call and mark what a node returns."""
    running: list[Call] = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [(tuple(one.shape[1:]), sources(one)) for one in tensors((args, kwargs))]
        call = Call(module, len(calls), running[-1] if running else None, given)
        if call.parent:
            call.parent.inner.append(call)
        calls.append(call)
        running.append(call)

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call, found = running.pop(), list(tensors(output))
        call.shapes = [tuple(one.shape[1:]) for one in found]
        call.is_node = is_step(call, named)
        for one in found if call.is_node else ():
            setattr(one, MARK, frozenset({call.place}))

    for module in network.modules():
        yield module.register_forward_pre_hook(enter, with_kwargs=True)
        yield module.register_forward_hook(leave, with_kwargs=True)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value, in its tuples, lists and dictionaries, parameters excepted."""
    if isinstance(value, Tensor):
        if not isinstance(value, nn.Parameter):
            yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors(one)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def sources(tensor: Tensor) -> Sources:
    """Return the calls that a tensor came from."""
    found: Sources = getattr(tensor, MARK, frozenset())
    return found


def is_step(call: Call, named: set[str]) -> bool:
    """Tell whether a call is a node, once all calls inside it are known."""
    if call.name in named:
        return bool(call.shapes)
    if call.parent is None or len(call.shapes) != 1 or len(call.shapes[0]) < 3:
        return False
    if not call.inner:
        return type(call.module).__module__.rpartition(".")[2] not in QUIET
    sizes = {shape[1:] for shape, _ in call.given if len(shape) >= 3}
    inside = list(below(call))
    if any(one.name in named for one in inside):
        return False
    return len(sizes) <= 1 and len({s for one in inside for s in sizes_of(one)}) < WHOLE_U


def below(call: Call) -> Iterator[Call]:
    """Yield all calls inside a call."""
    for one in call.inner:
        yield one
        yield from below(one)


def sizes_of(call: Call) -> Iterator[tuple[int, ...]]:
    """Yield the spatial sizes of what a call returns; single voxels, as of a gate, are none."""
    for shape in call.shapes:
        if len(shape) >= 3 and math.prod(shape[1:]) > 1:
            yield shape[1:]


def is_inside(call: Call) -> bool:
    """Tell whether a call is part of a node."""
    outer = call.parent
    while outer is not None and not outer.is_node:
        outer = outer.parent
    return outer is not None


def told(call: Call, calls: list[Call], places: dict[int, int]) -> dict[str, Any]:
    """Return a node as the report of the dry run holds it."""
    inputs = [sorted({node_of(s, calls, places) for s in found}) for _, found in call.given]
    return {
        "class": shown(call.module)[:LONGEST_NAME],
        "shape": list(call.shapes[0]),
        "parameters": sum(p.numel() for p in call.module.parameters()),
        "inputs": inputs[:MOST_INPUTS],
    }


def shown(module: nn.Module) -> str:
    """Return the class of a module, or of the one that a list of one module holds."""
    while isinstance(module, nn.Sequential) and len(module) == 1:
        module = module[0]
    return type(module).__name__


def node_of(source: int, calls: list[Call], places: dict[int, int]) -> int:
    """Return the place of the node that a call is, or is part of."""
    while source not in places:
        parent = calls[source].parent
        source = IMAGE if parent is None else parent.place
    return places[source]
