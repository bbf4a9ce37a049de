"""What rules of diagnosis stand on: clues by key, the audited proposal, and the children it may have. Pure.

Evidence is weighed in standard errors, at most 9. A clue without an error counts one where it has
a direction.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from agent import motivation as words
from agent.clue_text import scrubbed, shortened
from agent.gap_audit import Part, audit, audit_clues
from agent.suggestions import EXPECTED_CHARACTERS, FAILURE, TEXT_CHARACTERS, Clue, Suggestion
from memory.records import Module, Proposal
from sandbox.components import COMPONENTS
from sandbox.placement import MAX_MODULES, module_cost, placements, problems

MOST = 9.0
SEEN = 1.5  # standard errors from which a rule speaks
LEAST = 0.1  # weight of a rule that always applies
STEP = 0.01  # what a further way to the same end weighs less
SMALL_KEYS = ("objects.missed.small", "case.contrast", "case.small")
Modules = tuple[Module, ...]


class Candidate(NamedTuple):
    """A suggestion and how much evidence stands behind it, in standard errors or like them."""

    strength: float
    suggestion: Suggestion


@dataclass(frozen=True)
class Grounds:
    """A trial's clues with the audit of its network, its proposal, the plan, what was tried."""

    clues: dict[str, Clue]
    proposal: Proposal
    parts: Sequence[Part]
    dims: int
    n_stages: int
    tried: Sequence[Proposal]

    @cached_property
    def sets(self) -> set[frozenset[Module]]:
        """The sets of modules that were proposed already."""
        return {frozenset(p.modules) for p in (self.proposal, *self.tried)}

    def value(self, key: str) -> float | None:
        """Return the value of a clue; None where it is not there or has none."""
        clue = self.clues.get(key)
        return None if clue is None else clue.value

    def weight(self, key: str, sign: int) -> float:
        """Return how far a clue speaks for a direction, in standard errors, from 0 to 9."""
        clue = self.clues.get(key)
        if clue is None or clue.value is None or clue.value * sign <= 0:
            return 0.0
        if clue.se is None:
            return 1.0
        return MOST if clue.se == 0 else min(MOST, abs(clue.value) / clue.se)

    @property
    def failure(self) -> str:
        """The class of the trial's failure; exception where no clue says it."""
        found = (key.removeprefix(FAILURE) for key in self.clues if key.startswith(FAILURE))
        return next(found, "exception")

    def present(self, *keys: str) -> tuple[str, ...]:
        """Return those of some keys that there are clues for; the audit's where none is.

        A key that ends with a dot stands for all that begin so.
        """
        found = [k for one in keys for k in self.clues if k == one or _begins(k, one)]
        return tuple(dict.fromkeys(found)) or ("gap.parts",)

    def of_classes(self, name: str) -> list[str]:
        """Return the keys class.X.NAME that there are, in the order of the clues."""
        return [k for k in self.clues if k.startswith("class.") and k.endswith(f".{name}")]

    def is_tried(self, modules: Modules | None) -> bool:
        """Tell whether a set of modules was proposed already."""
        return modules is not None and frozenset(modules) in self.sets

    def chosen(self, options: Iterable[Modules]) -> Modules | None:
        """Return the first set that makes a network and is untried, else the first; else None."""
        return self.some(options, most=1)[0]

    def some(self, options: Iterable[Modules], *, most: int = 3) -> list[Modules | None]:
        """Return the first sets that make a network, untried ones before others; else one None."""
        valid = [one for one in options if one and self.is_valid(one)]
        ordered: list[Modules | None] = [*sorted(valid, key=self.is_tried)]
        return ordered[:most] or [None]

    def is_valid(self, modules: Modules) -> bool:
        """Tell whether modules make a network; those that are not ours only count as places."""
        own = [m for m in modules if m.component in COMPONENTS]
        wrong = problems(own, dims=self.dims, n_stages=self.n_stages)
        return not wrong and len(modules) <= MAX_MODULES

    def adding(self, names: Iterable[str]) -> Iterator[Modules]:
        """Yield the proposal's modules with one of some components added, in their order."""
        for name in names:
            for place in self.places(name):
                yield (*self.proposal.modules, place)

    def moving(self, module: Module, *, share: float | None = None) -> Iterator[Modules]:
        """Yield the modules with one at another place, at most at a share of its cost."""
        limit = None if share is None else share * self.cost(module)
        for place in self.places(module.component):
            if place != module and (limit is None or self.cost(place) <= limit):
                yield self.replaced(module, place)

    def swapping(self, module: Module, names: Iterable[str]) -> Iterator[Modules]:
        """Yield the modules with one replaced by another component that costs less."""
        for name in names:
            for place in self.places(name):
                if self.cost(place) < self.cost(module):
                    yield self.replaced(module, place)

    def without(self, module: Module) -> Modules:
        """Return the modules but one."""
        return tuple(one for one in self.proposal.modules if one != module)

    def replaced(self, old: Module, new: Module) -> Modules:
        """Return the modules with one in the place of another."""
        return tuple(new if one == old else one for one in self.proposal.modules)

    def places(self, name: str) -> list[Module]:
        """Return the placements of a component; none for one that is not ours."""
        known = name in COMPONENTS
        return placements(name, dims=self.dims, n_stages=self.n_stages) if known else []

    def cost(self, module: Module) -> float:
        """Return the rough cost of a module; one that is not ours counts most."""
        is_known = module.component in COMPONENTS
        return module_cost(module, self.n_stages) if is_known else float(self.n_stages)

    @property
    def costliest(self) -> Module | None:
        """The module that costs most; None in a proposal without modules."""
        return max(self.proposal.modules, key=self.cost, default=None)

    def candidate(
        self,
        strength: float,
        category: str,
        text: str,
        *,
        keys: Iterable[str],
        expected: str,
        modules: Modules | None = None,
    ) -> Candidate:
        """Return a suggestion with its weight, its texts bounded."""
        told = shortened(text, TEXT_CHARACTERS), shortened(expected, EXPECTED_CHARACTERS)
        clues = self.present(*keys)
        return Candidate(strength, Suggestion(category, told[0], clues, told[1], modules))


def grounds_of(
    clues: Sequence[Clue],
    proposal: Proposal,
    *,
    source: str,
    dims: int,
    n_stages: int,
    tried: Sequence[Proposal],
) -> Grounds:
    """Return the grounds of a diagnosis: the clues, with the audit's where they lack it."""
    known = {clue.key: clue for clue in clues}
    known |= {one.key: one for one in audit_clues(proposal, source, clues)}
    parts = audit(proposal, source, clues)
    return Grounds(known, proposal, parts, dims, n_stages, tuple(tried))


def small_weight(grounds: Grounds) -> float:
    """Return how far clues say that small structures lose more than large ones."""
    of_cases = min(grounds.weight("case.contrast", -1), grounds.weight("case.small", -1))
    return max(of_cases, grounds.weight("objects.missed.small", 1))


def said(module: Module) -> str:
    """Return a module in words, e.g. 'linear attention in the bottleneck'."""
    if module.component in COMPONENTS:
        return words.named(module)
    return f"{scrubbed(module.component, most=60)} at the {scrubbed(module.position, most=20)}"


def change(old: Modules, new: Modules) -> str:
    """Return what leads from one set of modules to another, e.g. 'adds X', 'leaves out Y'."""
    gone = [said(one) for one in old if one not in new]
    come = [said(one) for one in new if one not in old]
    if gone and come:
        return f"Put {' and '.join(come)} in the place of {' and '.join(gone)}"
    return f"Add {' and '.join(come)}" if come else f"Leave out {' and '.join(gone)}"


def where(prefix: str) -> str:
    """Return what a key's beginning stands for: a class, or all of them."""
    return f"class {prefix[6:]}" if prefix.startswith("class.") else "the mean over classes"


def _begins(key: str, start: str) -> bool:
    return start.endswith(".") and key.startswith(start)
