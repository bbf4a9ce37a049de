"""Where a component may go in the planned U-Net, and what it costs there.

Stages are encoder stages, 0 the finest, `n_stages` - 1 the bottleneck. Skips and decoder
stages go by the encoder stage of their resolution. Positions without a choice of stage
(bottleneck, heads) have the empty tuple.
"""

from collections.abc import Sequence
from itertools import combinations

from memory.records import Module
from sandbox.components import COMPONENTS, Component

POSITIONS = ("encoder", "skip", "bottleneck", "decoder", "downsample", "heads")
WITHOUT_STAGES = ("bottleneck", "heads")
MAX_MODULES = 4


def stage_range(card: Component, position: str, n_stages: int) -> range:
    """Return the stages that a component may have at a position of a plan."""
    if position in WITHOUT_STAGES:
        return range(0)
    reaches_bottleneck = card.form in ("stage", "downsample") and position != "decoder"
    return range(card.first_stage, n_stages if reaches_bottleneck else n_stages - 1)


def stage_options(card: Component, position: str, n_stages: int) -> tuple[tuple[int, ...], ...]:
    """Return the stage tuples worth trying, in a fixed order; none where nothing fits."""
    if position in WITHOUT_STAGES:
        return ((),)
    stages = tuple(stage_range(card, position, n_stages))
    half = len(stages) // 2
    wanted = {
        "all": (stages, stages[:half], stages[half:]),
        "fine": (stages[:1], stages[:2], stages[:3], stages[1:2]),
        "deep": (stages[-1:], tuple(s for s in stages[-2:] if s > 0)),
    }[card.span]
    return tuple(dict.fromkeys(option for option in wanted if option))


def placements(name: str, *, dims: int, n_stages: int) -> list[Module]:
    """Return every placement of a component that is worth trying in a plan."""
    card = COMPONENTS[name]
    if dims not in card.dims:
        return []
    return [
        Module(name, position, stages)
        for position in card.positions
        for stages in stage_options(card, position, n_stages)
    ]


def module_cost(module: Module, n_stages: int) -> float:
    """Return the rough extra time of a module, in units of the finest plain stage.

    A stage is taken to cost half of the stage above it: a quarter of the places (in 2D) at
    twice the channels. Good for ranking only.
    """
    stages = module.stages or (n_stages - 1,)
    return COMPONENTS[module.component].cost * sum(0.5**stage for stage in stages)


def problems(
    modules: Sequence[Module], *, dims: int | None = None, n_stages: int | None = None
) -> list[str]:
    """Return why these modules make no network, one sentence each; empty when they do.

    Without `dims` or `n_stages` the rules that need them are left out.
    """
    unknown = [m.component for m in modules if m.component not in COMPONENTS]
    if unknown:
        return [f"no component {name!r}; known: {', '.join(COMPONENTS)}" for name in unknown]
    found = [text for m in modules for text in _module_problems(m, dims, n_stages)]
    found += [text for a, b in combinations(modules, 2) if (text := _clash(a, b))]
    if len(modules) > MAX_MODULES:
        found.append(f"{len(modules)} modules; at most {MAX_MODULES} are allowed")
    return found


def _module_problems(module: Module, dims: int | None, n_stages: int | None) -> list[str]:
    card, name = COMPONENTS[module.component], module.component
    if module.position not in card.positions:
        return [f"{name} cannot go to {module.position!r}; allowed: {', '.join(card.positions)}"]
    found = []
    if dims is not None and dims not in card.dims:
        found.append(f"{name} has no {dims}D form; allowed: {card.dims}")
    if tuple(sorted(set(module.stages))) != module.stages:
        found.append(f"{name} has stages {module.stages}; they must rise and not repeat")
    if bool(module.stages) == (module.position in WITHOUT_STAGES):
        found.append(f"{name} at {module.position!r} has stages {module.stages}; see placement")
    allowed = stage_range(card, module.position, n_stages or max(module.stages, default=0) + 2)
    if any(stage not in allowed for stage in module.stages):
        found.append(f"{name} has stages {module.stages}; allowed: {list(allowed)}")
    return found


def _clash(one: Module, other: Module) -> str | None:
    if one.component == other.component:
        return f"{one.component} is there twice; once is allowed"
    forms = {COMPONENTS[one.component].form, COMPONENTS[other.component].form}
    if forms == {"weights"}:
        return f"{one.component} and {other.component} both set the weights of the heads"
    shared = set(one.stages) & set(other.stages)
    if forms == {"stage"} and one.position == other.position and shared:
        return f"{one.component} and {other.component} both replace stages {sorted(shared)}"
    return None
