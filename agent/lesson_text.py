"""Words that lessons of all layers share: modules, changes, figures; and what names a lesson. Pure.

Figures are written here and nowhere else: points of Dice beside the baseline, with their standard
error. A lesson's identifier is a hash of what it says, so that the same content is the same row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.clue_text import points
from agent.motivation import named, where
from agent.wording import bare_points
from memory.records import Lesson, Module, short_id
from sandbox.components import COMPONENTS
from sandbox.failures import CLASSES

LONGEST = 600
STOPPED = "stopped"  # the class of a training that was told to stop
DIGITS = 6
CONTENT = (
    *("layer", "topic", "kind", "text", "evidence", "effect", "effect_se", "components"),
    *("conditions", "support", "contra"),
)


def sealed(lesson: Lesson) -> Lesson:
    """Return a lesson under the identifier of its content, its effect rounded to DIGITS."""
    own = replace(lesson, effect=_rounded(lesson.effect), effect_se=_rounded(lesson.effect_se))
    return replace(own, id=short_id(["lesson", *(getattr(own, name) for name in CONTENT)]))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS) + 0.0


def component_words(name: str) -> str:
    """Return a component of the library by its title, another by its class."""
    return COMPONENTS[name].title if name in COMPONENTS else name


def module_words(module: Module) -> str:
    """Return a module and its place, e.g. 'linear attention in the bottleneck'."""
    return named(module) if module.component in COMPONENTS else _own(module)


def _own(module: Module) -> str:
    return f"{module.component} {where(module)}"


def listed(modules: Sequence[Module]) -> str:
    """Return modules and their places in words."""
    return joined([module_words(one) for one in modules]) or "no module"


def joined(parts: Sequence[str]) -> str:
    """Return 'a', 'a and b' or 'a, b and c'."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def change(own: Iterable[Module], before: Iterable[Module]) -> str:
    """Return what a network does beside its parent's modules: 'adds …', 'leaves out …', 'puts …'."""
    now, then = set(own), set(before)
    parts = []
    for name in sorted({one.component for one in now ^ then}):
        new, old = _of(now - then, name), _of(then - now, name)
        if new and old:
            parts.append(f"puts {component_words(name)} {_places(new)} instead of {_places(old)}")
        elif new:
            parts.append(f"adds {listed(new)}")
        else:
            parts.append(f"leaves out {listed(old)}")
    return joined(parts) or "keeps all modules"


def _of(modules: Iterable[Module], name: str) -> list[Module]:
    own = (one for one in modules if one.component == name)
    return sorted(own, key=lambda one: (one.position, one.stages))


def _places(modules: Sequence[Module]) -> str:
    return joined([where(one) for one in modules])


def error(se: float) -> str:
    """Return a standard error in points of Dice, without a unit."""
    return bare_points(se)


def bare_gain(effect: float, se: float | None) -> str:
    """Return an effect in points, e.g. '+0.6 (SE 0.4)'."""
    return points(effect) + ("" if se is None else f" (SE {error(se)})")


def gain(effect: float, se: float | None) -> str:
    """Return an effect with its unit, e.g. '+0.6 points of Dice (SE 0.4)'."""
    return f"{points(effect)} points of Dice" + ("" if se is None else f" (SE {error(se)})")


def class_word(kind: str | None) -> str:
    """Return a class of failure that we know, by its name."""
    return kind if kind in CLASSES else "unknown class"


def failure_words(kind: str | None) -> str:
    """Return a class of failure and what it means; words of ours alone."""
    return f"{kind} ({CLASSES[kind]})" if kind in CLASSES else "unknown class"


def fitted(start: str, entries: Sequence[str], end: str, *, keep: Iterable[int] = ()) -> str:
    """Return start, entries and end as one text of at most LONGEST characters.

    Where they are too long, entries between the first and the last go, those first that are not
    of `keep`, and the text says how many; what is still too long is cut at its end.
    """
    kept = {0, len(entries) - 1, *keep}
    order = [*(i for i in range(len(entries)) if i not in kept), *sorted(kept)[1:]]
    left = dict(enumerate(entries))
    while len(text := _whole(start, left, len(entries), end)) > LONGEST and order:
        left.pop(order.pop(0), None)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4].rstrip()} ..."


def _whole(start: str, left: dict[int, str], count: int, end: str) -> str:
    gone = count - len(left)
    told = [f"({gone} more are not told here)"] if gone else []
    return " ".join(part for part in (start, "; ".join([*left.values(), *told]) + ".", end) if part)
