"""The words of a grammar proposal: title, motivation, refutation, from the components' cards.

The texts hold no measured number: a report prints numbers through facts only. What the
campaign has measured enters as a direction ("above", "below").
"""

from collections.abc import Mapping, Sequence

from agent.component_effects import ComponentEffects
from memory.records import Module
from sandbox.components import COMPONENTS, Component

Traits = Mapping[str, float | str | bool]
MANY_CLASSES = 3
MEASURABLE = 0.001


def active_traits(traits: Traits) -> set[str]:
    """Return the traits, in the words of the cards, that hold for a dataset.

    `classes` (a count) gives many_classes from three on and `dims` = 3 gives volumes; any
    other key stands for itself when its value is true. Keys that no card mentions have no
    effect.
    """
    active = {name for name, value in traits.items() if value}
    if _number(traits.get("classes")) >= MANY_CLASSES:
        active.add("many_classes")
    if _number(traits.get("dims")) == 3:
        active.add("volumes")
    return active


def title(modules: Sequence[Module]) -> str:
    """Return the title of a network, e.g. 'Attention gates (skip 0-1) + linear attention'."""
    if not modules:
        return "Planned U-Net without changes"
    return _sentence_case(" + ".join(_short(module) for module in modules))


def where(module: Module) -> str:
    """Return the place of a module in words, e.g. 'in encoder stages 0 and 1'."""
    stages = _stage_words(module.stages)
    return {
        "encoder": f"in encoder {stages}",
        "skip": f"on the skips of {stages}",
        "decoder": f"in decoder {stages}",
        "downsample": f"on entering {stages}",
        "bottleneck": "in the bottleneck",
        "heads": "in the loss at the heads",
    }[module.position]


def named(module: Module) -> str:
    """Return a module in words, e.g. 'linear attention in the bottleneck'."""
    return f"{COMPONENTS[module.component].title} {where(module)}"


def because(name: str, *, traits: Traits, effects: ComponentEffects) -> str:
    """Return the reason to try a component: this campaign, earlier ones, else its card."""
    card = COMPONENTS[name]
    effect = effects.own_means.get(name)
    if effect is not None and effect > MEASURABLE:
        return "networks with this component have scored above the baseline on average so far"
    if effect is None and effects.library_means.get(name, 0.0) > MEASURABLE:
        return "in earlier campaigns, networks with this component scored above the baseline"
    reasons = _trait_reasons(card, traits)
    if reasons:
        return reasons[0]
    if effect is None:
        return "the component is new to this campaign"
    if effect < -MEASURABLE:
        return "it has scored below the baseline so far, but in other company"
    return "the evidence on the component in this campaign is still thin"


def motivation(modules: Sequence[Module], *, traits: Traits, effects: ComponentEffects) -> str:
    """Return one paragraph a module: what it does, what is claimed, why here."""
    return "\n\n".join(_paragraph(module, traits, effects) for module in modules)


def refutation(modules: Sequence[Module], *, traits: Traits) -> str:
    """Return what would refute a proposal, first in the campaign's own terms."""
    cases = int(_number(traits.get("val_cases")))
    over = f"the {cases} search-val cases" if cases else "the search-val cases"
    sentences = [f"No gain in mean Dice over the baseline at rung 1, paired over {over}."]
    for module in modules:
        card = COMPONENTS[module.component]
        sentences.append(f"Against {card.title} in particular: {card.refuted_by}.")
    return " ".join(sentences)


def citations(modules: Sequence[Module]) -> tuple[str, ...]:
    """Return the bibliography keys of a network, nnU-Net's first, each once."""
    keys = [key for module in modules for key in COMPONENTS[module.component].citations]
    return tuple(dict.fromkeys(["isensee2021nnunet", *keys]))


def described(module: Module) -> str:
    """Return what a library module is, where it sits, and what is claimed for it."""
    card = COMPONENTS[module.component]
    name = _sentence_case(card.title)
    return f"{name} ({card.source}) {where(module)}: {card.idea}. {card.claim}"


def _paragraph(module: Module, traits: Traits, effects: ComponentEffects) -> str:
    card, text = COMPONENTS[module.component], described(module)
    for reason in _trait_reasons(card, traits)[:1]:
        text += f" Here, {reason}."
    own, library = (known.get(card.name) for known in (effects.own_means, effects.library_means))
    return text + _library_sentence(library) + _campaign_sentence(own)


def _campaign_sentence(effect: float | None) -> str:
    if effect is None:
        return " This campaign has no evidence on this component yet."
    side = _side(effect)
    return f" So far in this campaign, networks with this component score {side} the baseline."


def _library_sentence(effect: float | None) -> str:
    if effect is None:
        return ""
    return f" In earlier campaigns, networks with it scored {_side(effect)} the baseline."


def _side(effect: float) -> str:
    if abs(effect) <= MEASURABLE:
        return "like"
    return "above" if effect > 0 else "below"


def _trait_reasons(card: Component, traits: Traits) -> list[str]:
    active = active_traits(traits)
    return [reason for trait, reason in card.suits.items() if trait in active]


def _short(module: Module) -> str:
    name = COMPONENTS[module.component].title
    if not module.stages:
        return f"{name} ({module.position})" if module.position == "bottleneck" else name
    return f"{name} ({module.position} {_span(module.stages, '-', ',')})"


def _stage_words(stages: tuple[int, ...]) -> str:
    noun = "stage" if len(stages) == 1 else "stages"
    return f"{noun} {_span(stages, ' to ', ' and ')}"


def _span(stages: tuple[int, ...], to: str, joint: str) -> str:
    """Return stages as a range where they are one, else one by one."""
    if len(stages) > 2 and stages[-1] - stages[0] == len(stages) - 1:
        return f"{stages[0]}{to}{stages[-1]}"
    return joint.join(map(str, stages))


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number(value: float | str | bool | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
