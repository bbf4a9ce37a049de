"""Which classes and functions of a network's text are there, built, and used. Pure; nothing is run.

A class is used when a chain leads from build_network to it: built in an `__init__`, kept in an
attribute that another method reads (or held by a container that runs what it holds), or built
where it is called. Text decides alone, in favour of use: what is set or read by a made-up name
counts as used.

Covered: top-level classes and functions; values that go through locals, lists, comprehensions and
attributes of self. Not covered: a call that is never reached, a result that is thrown away; the
dry run disturbs each part and sees those.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sandbox.static_check import Finding, parsed

BUILDER = "build_network"
ADAPTERS = frozenset({"deep_supervision_weights"})
"""Attributes that our adapter reads, and not the network itself."""
DYNAMIC = frozenset(
    "getattr children modules named_children named_modules _modules __dict__".split()
)
REGISTERING = frozenset({"add_module", "register_module", "setattr"})
FILLING = frozenset({"append", "extend", "insert", "add", "update", "setdefault"})
DETACHING = frozenset({"detach", "no_grad", "inference_mode"})
EVERYTHING = "*"
Definition = ast.ClassDef | ast.FunctionDef


class Graph(NamedTuple):
    """What a text defines, what is mentioned outside of itself, what build_network leads to."""

    defined: Mapping[str, Definition]
    built: frozenset[str]
    used: frozenset[str]


def graph_of(source: str) -> Graph | None:
    """Return what a text defines and uses; None where it is no Python."""
    tree = parsed(source)
    if isinstance(tree, Finding):
        return None
    defined: dict[str, Definition] = {
        node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    names = frozenset(defined)
    edges = {name: leads_to(node, names) - {name} for name, node in defined.items()}
    built = {n for name, node in defined.items() for n in names_in(node) & names if n != name}
    return Graph(defined, frozenset(built), reached(edges))


def reached(edges: Mapping[str, set[str]]) -> frozenset[str]:
    """Return what the builder leads to, itself excepted."""
    seen, queue = set[str](), [BUILDER]
    while queue:
        for name in edges.get(queue.pop(), set()) - seen:
            seen.add(name)
            queue.append(name)
    return frozenset(seen)


def leads_to(node: Definition, names: frozenset[str]) -> set[str]:
    """Return the definitions that a definition uses."""
    if isinstance(node, ast.FunctionDef):
        return names_in(node) & names
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    others = [one for one in methods if one.name != "__init__"]
    direct = {name for one in node.body if one not in methods for name in names_in(one)}
    direct |= {name for base in node.bases for name in names_in(base)}
    direct |= {name for one in others for name in names_in(one)}
    kept = held(methods, names)
    is_run = any(one.name in ("forward", "__call__") for one in others)
    read = reads(others) | ADAPTERS | {EVERYTHING}
    is_open = not is_run or any(names_in(one) & DYNAMIC for one in others)
    chosen = kept if is_open else kept.keys() & read
    return (direct & names).union(*(kept[attribute] for attribute in chosen))


def names_in(node: ast.AST) -> set[str]:
    """Return the names and attributes that a part of a text mentions."""
    found = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return found | {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}


def reads(methods: list[ast.FunctionDef]) -> set[str]:
    """Return the attributes of self that methods read or write."""
    nodes = (child for one in methods for child in ast.walk(one))
    return {key[5:] for child in nodes if (key := key_of(child)).startswith("self.")}


def held(methods: list[ast.FunctionDef], names: frozenset[str]) -> dict[str, set[str]]:
    """Return what each attribute of self may hold after `__init__`, of the definitions."""
    init = next((one for one in methods if one.name == "__init__"), None)
    known: dict[str, set[str]] = {}
    size = -1
    while init is not None and size != (size := sum(map(len, known.values()))):
        for target, value in flows(init):
            if target:
                known.setdefault(target, set()).update(carried(value, known, names))
    return {key[5:]: found for key, found in known.items() if key.startswith("self.")}


def carried(value: ast.AST, known: Mapping[str, set[str]], names: frozenset[str]) -> set[str]:
    """Return the definitions that a value mentions, or that something it mentions holds."""
    keys = {key_of(child) for child in ast.walk(value)}
    return (keys & names).union(*(known[key] for key in keys & known.keys()))


def flows(init: ast.FunctionDef) -> Iterator[tuple[str, ast.AST]]:
    """Yield target and value of each step that keeps something."""
    for node in ast.walk(init):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value is not None:
                yield from ((key, node.value) for one in targets for key in keys_of(one))
        elif isinstance(node, ast.For):
            yield from ((key, node.iter) for key in keys_of(node.target))
        elif isinstance(node, ast.Call):
            yield from ((keeper(node.func), value) for value in arguments(node))


def arguments(call: ast.Call) -> list[ast.expr]:
    """Return all values that a call is given."""
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def keeper(called: ast.expr) -> str:
    """Return what may keep the arguments of a call: the object that they are put into, else ""."""
    if isinstance(called, ast.Name):
        return f"self.{EVERYTHING}" if called.id in REGISTERING else ""
    if not isinstance(called, ast.Attribute):
        return ""
    is_super = isinstance(called.value, ast.Call) and names_in(called.value) == {"super"}
    if is_super or (key_of(called.value) == "self" and called.attr in REGISTERING):
        return f"self.{EVERYTHING}"
    return key_of(called.value) if called.attr in FILLING else ""


def keys_of(target: ast.expr) -> list[str]:
    """Return the names under which an assignment keeps its value."""
    if isinstance(target, ast.Tuple | ast.List):
        return [key for one in target.elts for key in keys_of(one)]
    return [key_of(target)]


def key_of(node: ast.AST) -> str:
    """Return a local name, or self.NAME for an attribute of self; empty for all else."""
    if isinstance(node, ast.Subscript | ast.Starred):
        return key_of(node.value)
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"self.{node.attr}" if node.value.id == "self" else ""
    return ""


def is_passing(node: Definition) -> bool:
    """Tell whether a class's forward gives back what it was given."""
    forward = next(
        (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "forward"), None
    )
    if not isinstance(node, ast.ClassDef) or forward is None:
        return False
    steps = [n for n in forward.body if not is_text(n)]
    given = {one.arg for one in forward.args.args[1:]}
    last = steps[-1] if steps else None
    is_given = isinstance(last, ast.Return) and isinstance(last.value, ast.Name)
    return len(steps) == 1 and is_given and last.value.id in given  # type: ignore[union-attr]


def is_text(node: ast.stmt) -> bool:
    """Tell whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def steps_of(graph: Graph, name: str) -> int:
    """Return how many calls a definition makes, with those of the definitions it uses."""
    seen, queue, names = set[str](), [name], frozenset(graph.defined)
    while queue:
        if (current := queue.pop()) not in seen:
            seen.add(current)
            queue += sorted(leads_to(graph.defined[current], names))
    nodes = (child for one in seen for child in ast.walk(graph.defined[one]))
    return sum(isinstance(child, ast.Call) for child in nodes)


def detached(graph: Graph) -> list[int]:
    """Return the lines that cut gradients: detach, no_grad, inference_mode."""
    nodes = (child for node in graph.defined.values() for child in ast.walk(node))
    return sorted(
        {
            child.lineno
            for child in nodes
            if isinstance(child, ast.Attribute) and child.attr in DETACHING
        }
    )
