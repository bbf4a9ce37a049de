"""What components do to a network's Dice, estimated from every trial: knowledge that adds up. Pure.

The model is that of `agent/effect_model.py`. `Knowledge` keeps the readings and not their sums:
what was added comes out again without a trace, the order is of no consequence to the last bit,
and the prior can be scaled again. What a campaign learnt is the prior of the next one:
`fit(own, library.discounted(0.5))`.

Covered: additive effects. Not covered: interactions of modules, which the model has in its
residual of each network, and networks that failed.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from agent.effect_model import (
    NETWORK,
    Design,
    Effect,
    Feature,
    Measured,
    Part,
    Parts,
    Solved,
    Tried,
    design_of,
    prior_of,
    weights_of,
)
from memory.errors import ExploreError
from memory.records import Figures, Module

SCALES = tuple(2.0 ** (half / 2) for half in range(-4, 7))
LEAST_VARIANCE = 1e-8  # 0.01 points of Dice: what is nearer than that is rounding
MOST_VARIANCE = 1e4  # no effect is larger than 1, so that this says nothing
LEAST_SHARE = 1e-6
LONGEST_NAME, LONGEST_NETWORK = 64, 120
MOST_PARTS, MOST_STAGES, MOST_TRAITS, DEEPEST = 16, 16, 16, 31
MOST_READINGS = 100_000  # in an import
VERSION = 1
KEPT = 2**15  # networks whose checked form is kept


class ComponentRow(NamedTuple):
    """What is known of one component; `n` is the number of networks that had it."""

    component: str
    mean: float
    se: float
    n: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One trial's effect against the baseline.

    components: the network's modules, in any order; none for another architecture.
    effect: Dice in [-1, 1]. variance: of cases and the trial's own seed, and for a lower rung of
        its link to the last one; at least LEAST_VARIANCE, a smaller one is taken as that.
    traits: those of the dataset that hold, in the words of `sandbox.components`.
    network: names what shares u, in all that is ever merged; trials of one network have the same.
    weight: in (0, 1], by which the precision is multiplied; less than 1 for a lower rung.
    baseline, baseline_sd: name of the baseline's runs and the SD in Dice that their seeds add to
        every effect against them (`Evidence.baseline_sd`); it is then no part of `variance`.

    Raises:
        ExploreError: a name or a number is out of bounds.
    """

    components: Parts
    effect: float
    variance: float
    traits: frozenset[str]
    network: str
    weight: float = 1.0
    baseline: str = ""
    baseline_sd: float = 0.0

    tried: Tried = field(init=False, repr=False, compare=False)
    measured: Measured = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every field; note the network with its dataset, and the reading."""
        _number(self.variance, "variance", 0, MOST_VARIANCE)
        _number(self.weight, "weight", LEAST_SHARE, 1)
        precision = self.weight / max(self.variance, LEAST_VARIANCE)
        measured = _measured(Measured(self.effect, precision, self.baseline, self.baseline_sd))
        parts = tuple((name, place, tuple(stages)) for name, place, stages in self.components)
        object.__setattr__(self, "measured", measured)
        object.__setattr__(self, "tried", _tried(self.network, parts, self.traits))


@dataclass(frozen=True, slots=True)
class Sampled:
    """One draw from the posterior; what was never seen is drawn from the prior when asked for."""

    values: Mapping[Feature, float]
    seed: int
    scale: float

    def component(self, name: str, traits: Collection[str]) -> float:
        """Return the drawn effect of a component wherever it is put, in Dice."""
        return self._sum(weights_of([(name, "", ())], traits, is_placed=False))

    def effect(self, modules: Iterable[Part], traits: Collection[str]) -> float:
        """Return the drawn effect of a set of modules in Dice, without the residual u."""
        return self._sum(weights_of(modules, traits))

    def _sum(self, weights: Mapping[Feature, float]) -> float:
        return math.fsum(weight * self._value(one) for one, weight in weights.items())

    def _value(self, one: Feature) -> float:
        if one in self.values:
            return self.values[one]
        own = random.Random(f"{self.seed}/{'/'.join(one)}")
        return own.gauss(0.0, math.sqrt(prior_of(one, self.scale)))


@dataclass(frozen=True)
class Knowledge:
    """All readings, and what follows from them; without any it is the prior.

    networks: the readings of each network, sorted. scale: by which the prior's SDs are multiplied.
    """

    networks: Mapping[Tried, tuple[Measured, ...]] = field(default_factory=dict)
    scale: float = 1.0

    def mean(
        self, component: str, position: str, stages: tuple[int, ...], traits: Collection[str]
    ) -> Effect:
        """Return the effect of a component at a place on a dataset with these traits."""
        return self._solved.ask(weights_of([(component, position, stages)], traits))

    def network(self, modules: Iterable[Part], traits: Collection[str]) -> Effect:
        """Return the effect of a network that was not trained yet; its u is in the error."""
        mean, se = self._solved.ask(weights_of(modules, traits))
        return Effect(mean, math.hypot(se, NETWORK * self.scale))

    def table(self, traits: Collection[str]) -> list[ComponentRow]:
        """Return a row for each component seen, wherever it was put: the best mean first."""
        seen = Counter(name for tried in self.networks for name in {p[0] for p in tried.parts})
        rows = []
        for name, count in seen.items():
            weights = weights_of([(name, "", ())], traits, is_placed=False)
            rows.append(ComponentRow(name, *self._solved.ask(weights), count))
        return sorted(rows, key=lambda row: (-row.mean, row.component))

    def sample(self, rng: random.Random) -> Sampled:
        """Draw all coefficients at once from their joint posterior (Thompson 1933).

        One number of 64 bits is taken from `rng`, whatever is known.
        """
        seed = rng.getrandbits(64)
        return Sampled(self._solved.draw(random.Random(seed)), seed, self.scale)

    def merged(self, others: Iterable["Knowledge"]) -> "Knowledge":
        """Return this with the readings of others; the scale is this one's.

        Whatever is in two of them counts twice.
        """
        found = dict(self.networks)
        for other in others:
            for tried, readings in other.networks.items():
                found[tried] = tuple(sorted(found.get(tried, ()) + readings))
        return Knowledge(found, self.scale)

    def without(self, other: "Knowledge") -> "Knowledge":
        """Return this less the readings of another.

        Raises:
            ExploreError: it has a reading that is not in this.
        """
        found = dict(self.networks)
        for tried, readings in other.networks.items():
            left = Counter(found.pop(tried, ()))
            left.subtract(readings)
            if any(count < 0 for count in left.values()):
                raise ExploreError(f"no such reading of network {tried.network!r} to take out")
            if kept := tuple(sorted(left.elements())):
                found[tried] = kept
        return Knowledge(found, self.scale)

    def discounted(self, factor: float) -> "Knowledge":
        """Return this with the information of every network times a factor in (0, 1].

        A power prior (Ibrahim and Chen 2000, doi:10.1214/ss/1009212673): a network then no longer
        shares its u with readings that count in full. Below LEAST_SHARE it is forgotten.

        Raises:
            ExploreError: the factor is out of bounds.
        """
        _number(factor, "factor", LEAST_SHARE, 1)
        told = [
            Knowledge({tried._replace(share=tried.share * factor): readings})
            for tried, readings in self.networks.items()
            if tried.share * factor >= LEAST_SHARE
        ]
        return Knowledge(scale=self.scale).merged(told)

    def rescaled(self) -> "Knowledge":
        """Return this with the scale of SCALES that the readings make most probable.

        The marginal likelihood (MacKay 1992, doi:10.1162/neco.1992.4.3.415) times a normal prior
        of log2(scale) with mean 0 and SD 1, so that a few readings do not move it far.
        """

        def log_posterior(scale: float) -> float:
            return self._design.solve(scale).log_evidence - math.log2(scale) ** 2 / 2

        nearest = sorted(SCALES, key=lambda scale: abs(math.log2(scale)))
        return Knowledge(self.networks, max(nearest, key=log_posterior))

    def plain(self) -> Figures:
        """Return everything as JSON-able figures, in a fixed order."""
        names = ("network", "parts", "traits", "share", "readings")
        rows = [
            (tried.network, [[*p[:2], list(p[2])] for p in tried.parts], list(tried.traits),
             tried.share, [list(one) for one in self.networks[tried]])
            for tried in sorted(self.networks)
        ]  # fmt: skip
        networks = [dict(zip(names, row, strict=True)) for row in rows]
        return {"version": VERSION, "scale": self.scale, "networks": networks}

    @staticmethod
    def parse(figures: Any) -> "Knowledge":
        """Return what `plain` made, from a source that is not to be trusted.

        Raises:
            ExploreError: the form, a name or a number is not as `plain` makes it, or there are
                more than MOST_READINGS readings.
        """
        try:
            rows, scale = figures["networks"], figures["scale"]
            _number(scale, "scale", min(SCALES), max(SCALES))
            if figures["version"] != VERSION or len(figures) != 3 or not isinstance(rows, list):
                raise ExploreError(f"effects have no form of version {VERSION}")
            if sum(len(row["readings"]) for row in rows) > MOST_READINGS:
                raise ExploreError(f"more than {MOST_READINGS} readings of effects")
            found = dict(map(_parsed, rows))
        except (KeyError, TypeError, ValueError) as error:
            raise ExploreError(f"effects cannot be read: {type(error).__name__}") from error
        if len(found) < len(rows):
            raise ExploreError("effects list a network twice")
        return Knowledge(found, float(scale))

    @cached_property
    def _design(self) -> Design:
        return design_of(self.networks)

    @cached_property
    def _solved(self) -> Solved:
        return self._design.solve(self.scale)


def fit(observations: Iterable[Observation], prior: Knowledge | None = None) -> Knowledge:
    """Return what a prior and observations say together; the prior's scale is kept."""
    found = defaultdict[Tried, list[Measured]](list)
    for one in observations:
        found[one.tried].append(one.measured)
    own = Knowledge({tried: tuple(sorted(readings)) for tried, readings in found.items()})
    return (prior or Knowledge()).merged([own])


def parts_of(modules: Iterable[Module]) -> Parts:
    """Return modules as observations and questions take them."""
    return tuple((one.component, one.position, one.stages) for one in modules)


def _parsed(row: Any) -> tuple[Tried, tuple[Measured, ...]]:
    """Return one network of an import, checked."""
    if set(row) != {"network", "parts", "traits", "share", "readings"}:
        raise ExploreError("a network of the effects has other fields than those of the form")
    if not all(isinstance(row[key], list) for key in ("parts", "traits", "readings")):
        raise ExploreError("parts, traits and readings of a network of the effects must be lists")
    parts = tuple((name, position, tuple(stages)) for name, position, stages in row["parts"])
    tried = Tried(row["network"], parts, tuple(row["traits"]), row["share"])
    readings = tuple(Measured(*one) for one in row["readings"])
    if not readings:
        raise ExploreError("a network of the effects has no reading")
    return _checked(tried), tuple(sorted(map(_measured, readings)))


@lru_cache(KEPT)
def _tried(network: str, parts: Parts, traits: frozenset[str]) -> Tried:
    """Return a network of this campaign, checked; trials that were read before come again."""
    return _checked(Tried(network, parts, tuple(traits), 1.0))


def _checked(tried: Tried) -> Tried:
    """Return it with parts and traits sorted; raise ExploreError where it is out of bounds."""
    _number(tried.share, "share", LEAST_SHARE, 1)
    _network_name(tried.network)
    _number(len(tried.parts), "number of modules", 0, MOST_PARTS)
    _number(len(tried.traits), "number of traits", 0, MOST_TRAITS)
    for component, position, stages in tried.parts:
        _name(component)
        _name(position)
        _number(len(stages), "number of stages", 0, MOST_STAGES)
        if any(type(stage) is not int or not 0 <= stage <= DEEPEST for stage in stages):
            raise ExploreError(f"stages are {stages!r:.100}; allowed: integers, 0 to {DEEPEST}")
    for trait in tried.traits:
        _name(trait)
    traits, parts = tuple(sorted(set(tried.traits))), tuple(sorted(tried.parts))
    return Tried(tried.network, parts, traits, float(tried.share))


def _measured(one: Measured) -> Measured:
    """Return a reading as floats; raise ExploreError where it is out of bounds."""
    _number(one.effect, "effect", -1, 1)
    _number(one.precision, "precision", LEAST_SHARE / MOST_VARIANCE, 1 / LEAST_VARIANCE)
    _number(one.baseline_sd, "baseline_sd", 0, 1)
    if one.baseline != "" or one.baseline_sd > 0:
        _network_name(one.baseline)
    return Measured(float(one.effect), float(one.precision), one.baseline, float(one.baseline_sd))


def _number(value: Any, name: str, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise ExploreError(f"{name} is {value!r:.40}; allowed: {low:g} to {high:g}")


def _name(value: Any) -> None:
    good = isinstance(value, str) and len(value) <= LONGEST_NAME and value.isascii()
    if not good or not value.isidentifier():
        text = f"allowed: an ASCII identifier of at most {LONGEST_NAME} characters"
        raise ExploreError(f"name is {value!r:.100}; {text}")


def _network_name(value: Any) -> None:
    """A name of a network or of the baseline's runs: identifiers, hashes, and paths of them."""
    good = isinstance(value, str) and 0 < len(value) <= LONGEST_NETWORK and value.isascii()
    if not good or not value.translate(str.maketrans("", "", "-_./:")).isalnum():
        text = f"allowed: 1 to {LONGEST_NETWORK} letters, digits and '-_./:'"
        raise ExploreError(f"name is {value!r:.100}; {text}")
