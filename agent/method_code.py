"""What a proposal promises against the lines of its network's code. Pure; nothing is run.

For each promised module: the class or function that defines it, its lines, where it is built, what
else of the text it uses, and whether it is whole, less than promised, or missing
(`agent/gap_audit.py` judges). Of the rest of the text: what stands as in the planned U-Net that
segwright writes, what of that was changed, and what the proposal does not mention.

Not covered: whether a class computes what the proposal says of it; layers that a changed part of
the planned U-Net has besides the promised ones.
"""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from agent.code_places import Code, Found, Span, built, code_of, find, span_of
from agent.duplicates import code_fingerprint
from agent.gap_audit import class_of, described, judged
from agent.network_graph import BUILDER, leads_to
from agent.network_source import network_source
from agent.suggestions import Clue
from memory.errors import PlannerError
from memory.records import Module, Proposal
from sandbox.components import COMPONENTS

SHIPPED, CHANGED, OWN = "shipped", "changed", "own"
WHOLE, SIMPLIFIED, MISSING = "complete", "simplified", "missing"
"""States of a promised part, as `agent/gap_audit.py` names them."""


class Item(NamedTuple):
    """A definition of the text; `is_used` where a chain of mentions leads to it from build_network."""

    name: str
    span: Span
    is_used: bool = True


class Link(NamedTuple):
    """A promised module and what the code has of it.

    `module` is None for a class that the proposal describes and does not place. `wanted` is the
    class that was asked for, `found` what stands for it. `helpers` are definitions that it alone
    brings with it. `places` are the lines that build it, `inside` the definitions they stand in.
    `origin` is SHIPPED (segwright's own component with its helpers, to the syntax), CHANGED (of that
    name with other syntax) or OWN. `state` and `why` are the audit's.
    `digest` is the SHA-256 of its lines and its helpers', "" where there are none.
    """

    module: Module | None
    wanted: str
    found: Found
    is_function: bool
    helpers: tuple[Item, ...]
    places: tuple[int, ...]
    inside: tuple[str, ...]
    origin: str
    state: str
    why: str
    digest: str


class MethodCode(NamedTuple):
    """A network's text against its proposal.

    `links` are in the proposal's order. `planned` are the definitions of the planned U-Net that
    stand unchanged, `changed` those that do not; `others` are named by neither. `is_written` is set
    where segwright writes this very text from the proposal's modules. `digest` is the SHA-256 of
    the text, `n_lines` how many lines it has.
    """

    links: tuple[Link, ...]
    planned: tuple[Item, ...]
    changed: tuple[Item, ...]
    others: tuple[Item, ...]
    is_written: bool
    digest: str
    n_lines: int


def method_code(proposal: Proposal, source: str, clues: Sequence[Clue] = ()) -> MethodCode | None:
    """Return a network's text against its proposal; None where it is no Python.

    Args:
        proposal: the idea.
        source: the text of its network.py, hostile.
        clues: `dry.instances.CLASS`, how many modules of a class the dry run counted.
    """
    code, known = code_of(source), {clue.key: clue for clue in clues}
    if code is None:
        return None
    try:
        return _against(proposal, source, code, known)
    except RecursionError:  # an expression as deep as no network needs
        return None


def _against(proposal: Proposal, source: str, code: Code, known: dict[str, Clue]) -> MethodCode:
    text, shipped = scaffold(proposal)
    wanted = list(promised(proposal))
    places = [find(code, (name, *more)) for _, name, more in wanted]
    taken = frozenset(one.name for one in places if one.name)
    planned = planned_names() - taken
    links = tuple(
        _link(code, module, name, found, known, shipped=shipped, aside=planned | taken)
        for (module, name, _), found in zip(wanted, places, strict=True)
    )
    owned = taken | {item.name for link in links for item in link.helpers}
    whole = {name for name in planned if is_same(code, shipped, name)}
    return MethodCode(
        links=links,
        planned=tuple(_items(code, whole)),
        changed=tuple(_items(code, planned - whole)),
        others=tuple(_items(code, code.graph.defined.keys() - owned - planned)),
        is_written=text == source,
        digest=hashlib.sha256(source.encode("utf-8", "replace")).hexdigest(),
        n_lines=len(code.lines) - (not code.lines[-1]),
    )


def promised(proposal: Proposal) -> Iterator[tuple[Module | None, str, tuple[str, ...]]]:
    """Yield each promised part: its module, its class, and what else it may be called."""
    named = set[str]()
    for module in proposal.modules:
        named.add(name := class_of(module.component))
        yield module, name, (module.component,)
    for said in described(proposal):
        if (name := class_of(said)) not in named:
            named.add(name)
            yield None, name, (said,)


def scaffold(proposal: Proposal) -> tuple[str, Code]:
    """Return the network that segwright writes from a proposal's library components.

    Where these make none, the planned U-Net without any.
    """
    own = tuple(m for m in proposal.modules if m.component in COMPONENTS)
    try:
        text = network_source(replace(proposal, modules=own))
    except PlannerError:
        text = network_source(replace(proposal, modules=()))
    code = code_of(text)
    assert code is not None
    return text, code


@cache
def planned_names() -> frozenset[str]:
    """Return the definitions of the planned U-Net as segwright writes it."""
    code = code_of(network_source(Proposal("", "", "", (), "", (), "")))
    assert code is not None
    return frozenset(code.graph.defined)


def _link(
    code: Code,
    module: Module | None,
    wanted: str,
    found: Found,
    known: dict[str, Clue],
    *,
    shipped: Code,
    aside: frozenset[str],
) -> Link:
    places = built(code, found)
    helpers = tuple(_items(code, brought(code, found.name, aside)))
    state, why = judgement(code, module, wanted, found, known)
    spans = [found.span, *(item.span for item in helpers)] if found.span else []
    text = "".join(code.text(span) for span in spans if span)
    return Link(
        module=module,
        wanted=wanted,
        found=found,
        is_function=isinstance(code.graph.defined.get(found.name), ast.FunctionDef),
        helpers=helpers,
        places=tuple(sorted(line for lines in places.values() for line in lines)),
        inside=tuple(places),
        origin=origin(code, shipped, [found.name, *(item.name for item in helpers)]),
        state=state,
        why=why,
        digest=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() if text else "",
    )


def judgement(
    code: Code, module: Module | None, wanted: str, found: Found, known: dict[str, Clue]
) -> tuple[str, str]:
    """Return the state of a promised part and the reason, whatever it is called in the code."""
    if found.by == "nested":
        if found.within not in code.graph.used or not built(code, found):
            return MISSING, f"it is defined inside {found.within}, and never used"
        return WHOLE, f"it is defined inside {found.within} and used"
    if found.by == "import":
        return MISSING, "network.py imports it, and its definition is elsewhere"
    if found.by == "attribute" and not found.name:
        return WHOLE, "it is built from layers of torch, without a class of its own"
    count = known.get(f"dry.instances.{wanted}")
    named = {f"dry.instances.{found.name}": count} if count else {}
    return judged(found.name or wanted, module, code.graph, named)


def origin(code: Code, shipped: Code, names: Sequence[str]) -> str:
    """Return whether a part is segwright's own component, a changed one, or of this network.

    Args:
        code: the network.
        shipped: what segwright writes from the proposal's library components.
        names: the part's definition, "" where it has none, and its helpers.
    """
    if names[0] not in shipped.graph.defined:
        return OWN
    return SHIPPED if all(is_same(code, shipped, name) for name in names) else CHANGED


def is_same(code: Code, other: Code, name: str) -> bool:
    """Tell whether two texts define a name by the same syntax, docstrings and comments aside."""
    if name not in code.graph.defined or name not in other.graph.defined:
        return False
    own, theirs = (one.text(span_of(one.graph.defined[name])) for one in (code, other))
    return own == theirs or code_fingerprint(own) == code_fingerprint(theirs)


def brought(code: Code, name: str, aside: frozenset[str]) -> set[str]:
    """Return what a definition uses of the text, directly or not, but for what is set aside."""
    defined, names = code.graph.defined, frozenset(code.graph.defined)
    seen, queue = set[str](), [name] if name in defined else []
    while queue:
        for one in sorted(leads_to(defined[queue.pop()], names) - aside - seen - {name}):
            seen.add(one)
            queue.append(one)
    return seen


def _items(code: Code, names: set[str] | frozenset[str]) -> Iterator[Item]:
    """Yield definitions in the order of their lines; what the text lacks is left out."""
    for name, node in code.graph.defined.items():
        if name in names:
            yield Item(name, span_of(node), name == BUILDER or name in code.reached)
