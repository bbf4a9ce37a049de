"""The planner that needs no language model: it composes published components.

A proposal is one to three modules of `sandbox/components.py` at stages of the planned
U-Net. Which component comes next is drawn with the weight

    w = exp(clip(effect / TEMPERATURE, -BOUND, BOUND) + SUITS * s + NEW * n)

where `effect` is a draw from the posterior of the component's effect (`agent/effects.py`: a
difference in Dice, from this campaign and from earlier ones), s is 1 when a trait of the dataset
speaks for the component, and n is 1 while no proposal has had it. The bound keeps every component
in play: the largest odds between two of them are e^(2 * BOUND + SUITS + NEW). Of CANDIDATES new
ideas that were drawn so, the one with the largest effect in the same draw is proposed (Thompson
sampling, over components, places and traits at once). Pure: all chance comes from the
`random.Random` that is passed in.
"""

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations

from agent import motivation as words
from agent.component_effects import ComponentEffects
from agent.effects import Sampled, parts_of
from agent.motivation import Traits
from agent.network_source import network_source
from agent.planner import Case
from memory.errors import PlannerError
from memory.records import Module, Proposal, short_id
from sandbox.components import COMPONENTS
from sandbox.placement import module_cost, placements, problems

TEMPERATURE = 0.01
BOUND = 2.0
SUITS = 0.4
NEW = 0.7
MODULE_COUNTS = {1: 3, 2: 4, 3: 2}
CHANGES = {"add": 7, "swap": 6, "move": 4, "remove": 3}
DRAWS = 400
CANDIDATES = 4
OVERSPENT = {"out_of_memory": "ran out of memory", "timed_out": "ran out of time"}


@dataclass(frozen=True, slots=True)
class Change:
    """One step from a parent to a child, its words, and its weight among its kind."""

    modules: tuple[Module, ...]
    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class GrammarPlanner:
    """Proposes networks for a plan of `n_stages` stages (bottleneck included).

    `traits` describe the dataset: small_objects, thin_boundary, anisotropic, few_cases
    (booleans), classes, dims and val_cases (numbers); all are optional and only tilt the
    choice and the words.
    """

    n_stages: int = 5
    traits: Traits = field(default_factory=dict)

    def propose(
        self,
        tried: Sequence[Proposal],
        effects: ComponentEffects,
        rng: random.Random,
        *,
        dims: int,
        case: Case | None = None,
    ) -> Proposal:
        """Return a new proposal whose set of modules is in none of those tried.

        A set of components that was tried at other stages, or that lessons call a dead end, comes
        only when, after half of the draws, nothing newer was found.

        Raises:
            PlannerError: nothing untried was found.
        """
        seen = {frozenset(p.modules) for p in tried}
        families = {frozenset(m.component for m in p.modules) for p in tried} | effects.dead
        sampled = effects.whole.sample(rng)
        weights = self._weights(effects, sampled, tried)
        found: list[tuple[Module, ...]] = []
        for draw in range(DRAWS):
            modules = self._draw(weights, rng, dims)
            stale = draw < DRAWS // 2 and frozenset(m.component for m in modules) in families
            if not stale and frozenset(modules) not in seen and self._is_valid(modules, dims):
                found.append(modules)
            if len(found) == CANDIDATES or (found and draw >= DRAWS // 2):
                break
        if not found:
            raise PlannerError(
                f"no untried proposal in {DRAWS} draws, {len(tried)} were tried; "
                "end the campaign or add components"
            )
        return self.worded(best_of(found, sampled, effects.traits), effects)

    def improve(
        self,
        parent: Proposal,
        effects: ComponentEffects,
        rng: random.Random,
        *,
        dims: int,
        tried: Sequence[Proposal],
        case: Case | None = None,
    ) -> Proposal:
        """Return a child of a proposal: one module added, removed, moved or swapped.

        Raises:
            PlannerError: every child was tried already.
        """
        seen = {frozenset(p.modules) for p in (parent, *tried)}
        weights = self._weights(effects, effects.whole.sample(rng), tried)
        fresh = {
            kind: [c for c in changes if frozenset(c.modules) not in seen]
            for kind, changes in self.changes(parent, effects, weights, dims).items()
        }
        kinds = [kind for kind in CHANGES if fresh[kind]]
        if not kinds:
            raise PlannerError(f"every child of proposal {parent.id!r} was tried; open a new one")
        kind = rng.choices(kinds, [CHANGES[k] for k in kinds])[0]
        change = rng.choices(fresh[kind], [c.weight for c in fresh[kind]])[0]
        return self.worded(
            change.modules, effects, parent=parent, change=f"This child {change.text}."
        )

    def cross(
        self,
        parent: Proposal,
        partner: Proposal,
        rng: random.Random,
        *,
        dims: int,
        tried: Sequence[Proposal],
        case: Case | None = None,
    ) -> Proposal:
        """Return a child of a proposal with modules of both: the largest untried union of them.

        Where none is left, the parent is improved.

        Raises:
            PlannerError: every child was tried already.
        """
        seen = {frozenset(p.modules) for p in (parent, partner, *tried)}
        unions = [
            modules
            for modules in _unions(parent.modules, partner.modules)
            if frozenset(modules) not in seen and self._is_valid(modules, dims)
        ]
        if not unions:
            return self.improve(parent, ComponentEffects(), rng, dims=dims, tried=tried)
        most = max(map(len, unions))
        modules = rng.choice([one for one in unions if len(one) == most])
        text = f"This child joins modules of {parent.title!r} and {partner.title!r}."
        return self.worded(modules, ComponentEffects(), parent=parent, change=text)

    def repair(
        self,
        proposal: Proposal,
        failure_class: str,
        rng: random.Random,
        *,
        tried: Sequence[Proposal] = (),
        case: Case | None = None,
    ) -> Proposal:
        """Return a child that avoids a failure.

        Out of memory or time: the most costly module moves to where it costs at most half,
        or goes. Any other failure: the module added last goes; a single module moves.

        Raises:
            PlannerError: nothing is left that could be changed.
        """
        seen = {frozenset(p.modules) for p in (proposal, *tried)}
        costly = failure_class in OVERSPENT
        options = self._relief(proposal) if costly else self._retreat(proposal)
        options = [c for c in options if frozenset(c.modules) not in seen]
        if not options:
            raise PlannerError(
                f"proposal {proposal.id!r} ended as {failure_class!r} and cannot be made "
                "simpler; close its branch"
            )
        change = rng.choices(options, [c.weight for c in options])[0]
        failure = OVERSPENT.get(failure_class, f"ended as {failure_class!r}")
        text = f"The parent {failure}. This repair {change.text}."
        return self.worded(change.modules, ComponentEffects(), parent=proposal, change=text)

    def write(self, proposal: Proposal, *, case: Case | None = None) -> str:
        """Return the source of the network that a proposal describes."""
        return network_source(proposal)

    def _weights(
        self, effects: ComponentEffects, sampled: Sampled, tried: Sequence[Proposal]
    ) -> dict[str, float]:
        used = {module.component for proposal in tried for module in proposal.modules}
        active = words.active_traits(self.traits)
        return {
            name: tilt(name, sampled, effects.traits)
            * math.exp(SUITS * bool(active & card.suits.keys()) + NEW * (name not in used))
            for name, card in COMPONENTS.items()
        }

    def _draw(
        self, weights: Mapping[str, float], rng: random.Random, dims: int
    ) -> tuple[Module, ...]:
        count = rng.choices(list(MODULE_COUNTS), list(MODULE_COUNTS.values()))[0]
        pool = {n: w for n, w in weights.items() if self._places(n, dims)}
        modules = []
        for _ in range(count):
            name = rng.choices(list(pool), list(pool.values()))[0]
            del pool[name]
            modules.append(self._place(name, rng, dims))
        return tuple(modules)

    def _place(self, name: str, rng: random.Random, dims: int) -> Module:
        """Draw a position first and its stages second, so that no position crowds others out."""
        places = self._places(name, dims)
        position = rng.choice(list(dict.fromkeys(m.position for m in places)))
        return rng.choice([m for m in places if m.position == position])

    def _places(self, name: str, dims: int) -> list[Module]:
        return placements(name, dims=dims, n_stages=self.n_stages)

    def _is_valid(self, modules: Sequence[Module], dims: int | None) -> bool:
        return not problems(modules, dims=dims, n_stages=self.n_stages)

    def changes(
        self, parent: Proposal, effects: ComponentEffects, weights: Mapping[str, float], dims: int
    ) -> dict[str, list[Change]]:
        """Return every valid step from a proposal by its kind, a key of CHANGES.

        Args:
            parent: what is changed.
            effects: give the reasons in words.
            weights: of each component, above 0; what a step adds counts for it, what it takes
                away against it.
            dims: 2 or 3, of the plan.
        """
        modules = parent.modules
        others = [n for n in COMPONENTS if n not in {m.component for m in modules}]
        new = list(chain.from_iterable(self._places(name, dims) for name in others))
        added = [
            Change(
                (*modules, m),
                f"adds {words.named(m)}: {self._because(m, effects)}",
                weights[m.component],
            )
            for m in new
        ]
        removed = [
            Change(_without(modules, m), _removed(m, effects), 1 / weights[m.component])
            for m in modules
            if len(modules) > 1
        ]
        swapped = [
            Change(
                (*_without(modules, old), m),
                f"replaces {words.named(old)} by {words.named(m)}: {self._because(m, effects)}",
                weights[m.component] / weights[old.component],
            )
            for old in modules
            for m in new
        ]
        moved = [c for m in modules for c in self._moves(modules, m, dims)]
        found = {"add": added, "swap": swapped, "move": moved, "remove": removed}
        return {
            kind: [c for c in changes if self._is_valid(c.modules, dims)]
            for kind, changes in found.items()
        }

    def _moves(
        self, modules: tuple[Module, ...], module: Module, dims: int | None = None
    ) -> list[Change]:
        card = COMPONENTS[module.component]
        places = self._places(module.component, dims or card.dims[0])
        return [
            Change(
                _replace(modules, module, place),
                f"tries {words.named(place)} and not {words.where(module)}: the place may "
                "matter more than the module",
                1.0,
            )
            for place in places
            if place != module
        ]

    def _because(self, module: Module, effects: ComponentEffects) -> str:
        return words.because(module.component, traits=self.traits, effects=effects)

    def _relief(self, proposal: Proposal) -> list[Change]:
        if not proposal.modules:
            return []
        modules = proposal.modules
        worst = max(modules, key=self._cost)
        limit = self._cost(worst) / 2
        moves = [
            Change(
                _replace(modules, worst, place),
                f"puts the most costly module, {words.named(worst)}, {words.where(place)} "
                "instead, where it costs at most half",
                1.0,
            )
            for place in self._places(worst.component, COMPONENTS[worst.component].dims[0])
            if self._cost(place) <= limit and self._is_valid(_replace(modules, worst, place), None)
        ]
        text = f"leaves out the most costly module, {words.named(worst)}"
        drop = Change(_without(modules, worst), text, 1.0)
        return [*moves, drop] if len(modules) > 1 else moves

    def _retreat(self, proposal: Proposal) -> list[Change]:
        modules = proposal.modules
        if len(modules) > 1:
            text = f"leaves out the module added last, {words.named(modules[-1])}"
            return [Change(modules[:-1], text, 1.0)]
        return [change for module in modules for change in self._moves(modules, module)]

    def _cost(self, module: Module) -> float:
        return module_cost(module, self.n_stages)

    def worded(
        self,
        modules: tuple[Module, ...],
        effects: ComponentEffects,
        *,
        parent: Proposal | None = None,
        change: str = "",
    ) -> Proposal:
        """Return modules as a proposal: title, motivation, refutation and citations in words.

        `change` is a sentence on what differs from `parent`, where there is one.
        """
        text = words.motivation(modules, traits=self.traits, effects=effects)
        return Proposal(
            id=proposal_id(modules, None if parent is None else parent.id),
            title=words.title(modules),
            motivation=f"{change}\n\n{text}" if change else text,
            modules=modules,
            refutation=words.refutation(modules, traits=self.traits),
            citations=words.citations(modules),
            planner="grammar",
            parent=None if parent is None else parent.id,
        )


def best_of(
    candidates: Sequence[tuple[Module, ...]], sampled: Sampled, traits: Collection[str]
) -> tuple[Module, ...]:
    """Return the set of modules with the largest effect in a draw; the first of equal ones."""
    return max(candidates, key=lambda modules: sampled.effect(parts_of(modules), traits))


def tilt(component: str, sampled: Sampled, traits: Collection[str]) -> float:
    """Return by how much a draw of its effect makes a component likelier, e^-BOUND to e^BOUND."""
    return math.exp(max(-BOUND, min(BOUND, sampled.component(component, traits) / TEMPERATURE)))


def proposal_id(modules: Sequence[Module], parent: str | None) -> str:
    """Return the identifier of a proposal: its modules, in any order, and its parent."""
    listed = sorted([m.component, m.position, list(m.stages)] for m in modules)
    return short_id([listed, parent])


def _removed(module: Module, effects: ComponentEffects) -> str:
    if effects.own_means.get(module.component, 0.0) < 0:
        return f"leaves out {words.named(module)}: it has scored below the baseline so far"
    return f"leaves out {words.named(module)}, to see whether the rest carries the result"


def _unions(own: tuple[Module, ...], others: tuple[Module, ...]) -> Iterator[tuple[Module, ...]]:
    """Yield sets of at most three modules with at least one of each side."""
    for count in range(1, len(own) + 1):
        for kept in combinations(own, count):
            names = {module.component for module in kept}
            fresh = [module for module in others if module.component not in names]
            for more in range(1, min(len(fresh), max(MODULE_COUNTS) - count) + 1):
                for added in combinations(fresh, more):
                    yield (*kept, *added)


def _without(modules: tuple[Module, ...], module: Module) -> tuple[Module, ...]:
    return tuple(m for m in modules if m != module)


def _replace(modules: tuple[Module, ...], old: Module, new: Module) -> tuple[Module, ...]:
    return tuple(new if m == old else m for m in modules)
