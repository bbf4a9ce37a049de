"""What one campaign gives to the library: figures, and words of ours for what they are about. Pure.

An entry holds no text of its own: names are components, positions, traits, modalities and classes
of failure that this program has, all else is a number or a hash. A class that a language model
wrote is told as new_HASH; so are the names of networks and of the baseline's runs, which would
tell of a machine. `parse_entry` takes nothing else, whoever wrote it.

Covered: what an entry can say, how long it is. Not covered: whether its figures are true.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from agent.conditions import MODALITIES
from agent.effect_model import Measured, Part, Parts, Tried
from agent.effects import MOST_PARTS, MOST_STAGES, Knowledge
from memory.errors import ConfigError, ExploreError
from memory.records import Figures, short_id
from sandbox.components import ANISOTROPIC, COMPONENTS, FEW, MANY, SMALL, THIN, VOLUMES
from sandbox.failures import CLASSES
from sandbox.placement import POSITIONS, WITHOUT_STAGES

CONDITIONS = ("modality", "dims", "classes", "cases", "traits", "iterations")
KINDS = ("effect", "dead_end", "failure")
TRAITS = frozenset({ANISOTROPIC, FEW, MANY, SMALL, THIN, VOLUMES})
MOST_FINDINGS, MOST_TRIALS, MOST_COUNT = 500, 40, 10_000
MOST_CLASSES, MOST_CASES, DEEPEST = 1000, 10**6, 31
COUNTS = {
    "dims": (2, 3),
    "classes": (1, MOST_CLASSES),
    "cases": (1, MOST_CASES),
    "iterations": (1, 10**9),
}
LEAST_SE = 1e-4  # 0.01 points of Dice: what is surer than that is rounding
_ID = re.compile(r"[0-9a-f]{12}")
_NEW = re.compile(r"new_[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One lesson as figures.

    kind: one of KINDS. parts: sorted modules that it is about; a position of "" is any place, no
    stages are any. effect, effect_se: Dice beside the baseline; None for failures alone.
    networks: how many it rests on. support, contra: trials for and against it. failure_class: one
    of `sandbox.failures`, of failures alone. trials: some trials of the search, at least one.
    """

    kind: str
    parts: Parts
    effect: float | None
    effect_se: float | None
    networks: int
    support: int
    contra: int
    failure_class: str
    trials: tuple[str, ...]

    @property
    def components(self) -> tuple[str, ...]:
        """The names of the components, sorted, each once."""
        return tuple(sorted({name for name, _, _ in self.parts}))

    @property
    def topic(self) -> str:
        """What it is about, wherever it was put, e.g. effect/attention_gate."""
        names = "+".join(self.components)
        return "/".join(part for part in (self.kind, self.failure_class, names) if part)

    def plain(self) -> Figures:
        """Return it as JSON-able figures."""
        parts = [[name, position, list(stages)] for name, position, stages in self.parts]
        found = {name: getattr(self, name) for name in _FIELDS}
        return found | {"parts": parts, "trials": list(self.trials)}


_FIELDS = tuple(Finding.__dataclass_fields__)


@dataclass(frozen=True)
class Entry:
    """What one campaign learnt.

    campaign: its id. conditions: its dataset, as in `memory.records.Lesson.conditions`.
    knowledge: its own readings, without what it took from others.
    """

    campaign: str
    conditions: Figures
    knowledge: Knowledge
    findings: tuple[Finding, ...]

    def plain(self) -> Figures:
        """Return it as JSON-able figures, in a fixed order."""
        return {
            "conditions": self.conditions,
            "knowledge": self.knowledge.plain(),
            "lessons": [one.plain() for one in self.findings],
        }


def parse_entry(campaign: Any, figures: Any) -> Entry:
    """Return what `Entry.plain` made, from a source that is not to be trusted.

    Raises:
        ConfigError: it says anything else than an entry may.
    """
    if not is_id(campaign):
        raise ConfigError(f"campaign {campaign!r:.60} is no id; allowed: 12 hex digits")
    try:
        own = _fields(figures, {"conditions", "knowledge", "lessons"}, "the entry")
        knowledge = Knowledge.parse(own["knowledge"])
        _check_names(knowledge)
        rows = _list(own["lessons"], MOST_FINDINGS, "lessons")
        findings = tuple(parse_finding(row) for row in rows)
        if len({(one.topic, one.parts) for one in findings}) < len(findings):
            raise ConfigError("a lesson is there twice")
        return Entry(campaign, parse_conditions(own["conditions"]), knowledge, findings)
    except (ConfigError, ExploreError) as error:
        raise ConfigError(f"campaign {campaign}: {error}") from None


def parse_conditions(figures: Any) -> Figures:
    """Return the conditions of a campaign, each where it is known.

    Raises:
        ConfigError: an unknown key, or a value that is no word of ours or out of bounds.
    """
    own = _fields(figures, CONDITIONS, "conditions", are_all_needed=False)
    if "modality" in own:
        _word(own["modality"], MODALITIES, "modality")
    for name, (low, high) in COUNTS.items():
        if name in own:
            _count(own[name], name, low, high)
    if "traits" in own:
        for trait in _list(own["traits"], len(TRAITS), "traits"):
            _word(trait, TRAITS, "trait")
        own["traits"] = sorted(set(own["traits"]))
    return own


def parse_finding(row: Any) -> Finding:
    """Return what `Finding.plain` made, from a source that is not to be trusted.

    Raises:
        ConfigError: it says anything else than a finding may.
    """
    own = _fields(row, set(_FIELDS), "a lesson")
    _word(own["kind"], KINDS, "kind")
    for name in ("networks", "support", "contra"):
        _count(own[name], name, 0, MOST_COUNT)
    _word(own["failure_class"], {"", *CLASSES}, "failure_class")
    if (own["kind"] == "failure") != bool(own["failure_class"]):
        raise ConfigError(f"a {own['kind']} of failure_class {own['failure_class']!r} is none")
    parts = tuple(sorted(map(_part, _list(own["parts"], MOST_PARTS, "parts"))))
    if not parts and own["kind"] != "failure":
        raise ConfigError(f"a {own['kind']} names no component")
    trials = _list(own["trials"], MOST_TRIALS, "trials")
    if not trials or not all(map(is_id, trials)) or len(set(trials)) < len(trials):
        raise ConfigError("trials of a lesson; allowed: ids of 12 hex digits, at least one")
    _check_effect(own["kind"], own["effect"], own["effect_se"])
    return Finding(**own | {"parts": parts, "trials": tuple(trials)})


def is_id(value: Any) -> bool:
    """Tell whether a value is an identifier of ours."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def is_ours(component: str) -> bool:
    """Tell whether a component is one of this program's, and no class of another campaign."""
    return component in COMPONENTS


def to_send(knowledge: Knowledge, campaign: str) -> Knowledge:
    """Return the readings of a campaign under names that tell nothing of it or its machine."""
    networks = {}
    for tried, readings in knowledge.networks.items():
        parts = sorted((_outside(name, campaign), where, at) for name, where, at in tried.parts)
        name = short_id(["network", campaign, tried.network])
        own = Tried(name, tuple(parts), tried.traits, tried.share)
        networks[own] = tuple(sorted(_sent(one, campaign) for one in readings))
    return Knowledge(networks, knowledge.scale)


def _outside(component: str, campaign: str) -> str:
    return component if is_ours(component) else f"new_{short_id(['class', campaign, component])}"


def _sent(one: Measured, campaign: str) -> Measured:
    name = short_id(["baseline", campaign, one.baseline]) if one.baseline else ""
    return one._replace(baseline=name)


def _check_names(knowledge: Knowledge) -> None:
    for tried, readings in knowledge.networks.items():
        names = {tried.network, *(one.baseline for one in readings if one.baseline)}
        if not all(map(is_id, names)):
            raise ConfigError("a network or baseline of the effects; allowed: 12 hex digits")
        for trait in tried.traits:
            _word(trait, TRAITS, "trait")
        for component, position, _ in tried.parts:
            _word(position, POSITIONS, "position")
            if not _NEW.fullmatch(component):
                _word(component, COMPONENTS, "component")


def _part(row: Any) -> Part:
    if not isinstance(row, list) or len(row) != 3:
        raise ConfigError("a part of a lesson; allowed: [component, position, stages]")
    component, position, stages = row
    _word(component, COMPONENTS, "component")
    _word(position, {"", *POSITIONS}, "position")
    for stage in _list(stages, MOST_STAGES, "stages"):
        _count(stage, "stage", 0, DEEPEST)
    if stages and position in ("", *WITHOUT_STAGES):
        raise ConfigError(f"{component} has stages {stages!r:.60} at position {position!r}")
    return component, position, tuple(stages)


def _check_effect(kind: str, effect: Any, se: Any) -> None:
    if effect is None and se is None and kind == "failure":
        return
    for name, value, low in (("effect", effect, -1), ("effect_se", se, LEAST_SE)):
        is_number = type(value) in (int, float)
        if not is_number or not low <= value <= 1:
            raise ConfigError(f"{name} is {value!r:.40}; allowed: {low:g} to 1")


def _fields(
    value: Any, names: Collection[str], what: str, *, are_all_needed: bool = True
) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(names):
        raise ConfigError(f"{what} has other fields than {', '.join(sorted(names))}")
    if are_all_needed and len(value) < len(names):
        raise ConfigError(f"{what} lacks {', '.join(sorted(set(names) - set(value)))}")
    return dict(value)


def _list(value: Any, most: int, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ConfigError(f"{what}; allowed: a list of at most {most}")
    return value


def _word(value: Any, known: Collection[str] | Mapping[str, Any], what: str) -> None:
    if not isinstance(value, str) or value not in known:
        words = ", ".join(sorted(known)) if len(known) <= 10 else "one of this program's"
        raise ConfigError(f"{what} is {value!r:.60}; allowed: {words}")


def _count(value: Any, what: str, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{what} is {value!r:.40}; allowed: a whole number, {low} to {high}")
