"""What is known of components, as a test says it."""

from collections.abc import Mapping

from agent.component_effects import ComponentEffects
from agent.effects import Knowledge, Observation, fit

UNKNOWN = ComponentEffects()


def knowledge(effects: Mapping[str, float]) -> Knowledge:
    """Return knowledge of components from many exact readings at many places."""
    places = [(kind, depth) for kind in ("encoder", "skip") for depth in (0, 1, 2, 3)]
    return fit(
        Observation(((name, kind, (depth,)),), effect, 1e-8, frozenset(), f"{name}-{kind}-{depth}")
        for name, effect in effects.items()
        for kind, depth in places
    )


def known(own: Mapping[str, float], library: Mapping[str, float] | None = None) -> ComponentEffects:
    """Return effects in Dice that this campaign and earlier ones have read."""
    return ComponentEffects(knowledge(own), knowledge(library or {}))
