"""Where the text of a network defines, builds and keeps a part: lines of network.py. Pure.

The text is hostile: it is parsed and never run. A part is looked for by the name of its class or
function, first at the top level, then inside other definitions; then by a name that differs in
capitals and underscores alone, by the attribute or registered name that it is kept under, and by an
import. Lines count from 1, as git and editors count them.

Not covered: names that are made while the network is built, and a class that is handed on through
more than one other name.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.network_graph import Definition, Graph, graph_of, key_of, names_in, reached, reads
from sandbox.static_check import Finding, parsed

FILE = "network.py"
_LINE_END = re.compile(r"\r\n|\r|\n")
_REGISTERING = frozenset({"add_module", "register_module", "setattr"})


class Span(NamedTuple):
    """Lines from `first` to `last`, both counted from 1 and both meant."""

    first: int
    last: int

    @property
    def printed(self) -> str:
        """The lines as a reader finds them: network.py:12-48."""
        return f"{FILE}:{self.first}" + (f"-{self.last}" if self.last > self.first else "")

    @property
    def address(self) -> str:
        """The lines as a part of an address: network.py#L12-L48."""
        return f"{FILE}#L{self.first}" + (f"-L{self.last}" if self.last > self.first else "")


class Found(NamedTuple):
    """Where a part stands: the name that it has in the code, its lines, and how it was found.

    `by` is name, nested (inside another definition, `within`), spelling, attribute, import, or ""
    where nothing was found. `name` is empty where an attribute holds layers of torch alone.
    """

    name: str
    span: Span | None
    by: str
    within: str = ""


NOTHING = Found("", None, "")


@dataclass(frozen=True)
class Code:
    """A parsed network: its lines, its tree, what it defines and uses.

    `mentions` are the names in each definition; `reached` the definitions that a chain of mentions
    leads to from build_network, whether a forward uses them or not.
    """

    lines: tuple[str, ...]
    tree: ast.Module
    graph: Graph
    mentions: Mapping[str, set[str]]
    reached: frozenset[str]

    def text(self, span: Span) -> str:
        """Return the text of some lines, each ended by a newline."""
        return "".join(f"{line}\n" for line in self.lines[span.first - 1 : span.last])


def code_of(source: str) -> Code | None:
    """Return a parsed network; None where it is no Python, or no Python that can be followed."""
    tree = parsed(source)
    try:
        graph = graph_of(source)
    except RecursionError:
        return None
    if isinstance(tree, Finding) or graph is None:
        return None
    mentions = {name: names_in(node) for name, node in graph.defined.items()}
    ways = {name: found & graph.defined.keys() for name, found in mentions.items()}
    return Code(tuple(_LINE_END.split(source)), tree, graph, mentions, reached(ways))


def span_of(node: ast.stmt) -> Span:
    """Return the lines of a statement, its decorators included."""
    marks = node.decorator_list if isinstance(node, Definition) else []
    first = min([node.lineno, *(mark.lineno for mark in marks)])
    return Span(first, node.end_lineno or node.lineno)


def find(code: Code, names: Sequence[str]) -> Found:
    """Return where a part stands.

    Args:
        code: the network.
        names: what the part may be called, the class that was asked for first.
    """
    for name in names:
        if name in code.graph.defined:
            return Found(name, span_of(code.graph.defined[name]), "name")
    for search in (nested, alike, kept, imported):
        if found := search(code, names):
            return found
    return NOTHING


def nested(code: Code, names: Sequence[str]) -> Found | None:
    """Return a definition inside another one."""
    for within, outer in code.graph.defined.items():
        for node in ast.walk(outer):
            if isinstance(node, ast.ClassDef) and node is not outer and node.name in names:
                return Found(node.name, span_of(node), "nested", within)
    return None


def alike(code: Code, names: Sequence[str]) -> Found | None:
    """Return a definition whose name differs in capitals and underscores alone."""
    wanted = {plain(name) for name in names}
    for name, node in code.graph.defined.items():
        if plain(name) in wanted:
            return Found(name, span_of(node), "spelling")
    return None


def plain(name: str) -> str:
    """Return a name in small letters without underscores."""
    return name.replace("_", "").lower()


def kept(code: Code, names: Sequence[str]) -> Found | None:
    """Return what is kept under a name: an attribute of self, or a registered name.

    A value that builds a class of the text leads to it; one that builds none is its own definition,
    where a method besides `__init__` reads the attribute.
    """
    wanted = {plain(name) for name in names}
    for within, outer in code.graph.defined.items():
        for name, value in keepings(outer):
            if plain(name) not in wanted:
                continue
            for child in ast.walk(value):
                if isinstance(child, ast.Name) and child.id in code.graph.defined:
                    return Found(child.id, span_of(code.graph.defined[child.id]), "attribute")
            if is_read(outer, name) and within in code.graph.used:
                span = Span(value.lineno, value.end_lineno or value.lineno)
                return Found("", span, "attribute", within)
    return None


def keepings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names under which something is kept, each with its value."""
    for child in ast.walk(node):
        if isinstance(child, ast.Assign | ast.AnnAssign) and child.value is not None:
            for target in child.targets if isinstance(child, ast.Assign) else [child.target]:
                yield from ((name, child.value) for name in held_under(target))
        elif isinstance(child, ast.Call):
            name = called(child)
            given = child.args[1:] if name == "setattr" else child.args
            if name in _REGISTERING and len(given) > 1 and (text := written(given[0])):
                yield text, given[1]
        elif isinstance(child, ast.Dict):
            pairs = zip(child.keys, child.values, strict=True)
            yield from ((text, v) for k, v in pairs if k is not None and (text := written(k)))


def held_under(target: ast.expr) -> Iterator[str]:
    """Yield the attribute of self, and the written key, that an assignment keeps its value under."""
    key = key_of(target)
    if key.startswith("self."):
        yield key.removeprefix("self.")
    if isinstance(target, ast.Subscript) and (text := written(target.slice)):
        yield text


def written(node: ast.expr) -> str:
    """Return a text that is written out; "" for all else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def called(call: ast.Call) -> str:
    """Return the last name of what is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def is_read(outer: Definition, name: str) -> bool:
    """Tell whether a method of a class, `__init__` aside, reads an attribute."""
    methods = [one for one in outer.body if isinstance(one, ast.FunctionDef)]
    return name in reads([one for one in methods if one.name != "__init__"])


def imported(code: Code, names: Sequence[str]) -> Found | None:
    """Return the line that imports a part from elsewhere."""
    for node in code.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) in names:
                    return Found(alias.asname or alias.name, span_of(node), "import")
    return None


def built(code: Code, found: Found) -> Mapping[str, tuple[int, ...]]:
    """Return the lines that build a part, by the definition that they stand in.

    A class that is first given another name (kind = Gate) counts at that line and at each call of
    that name in the same definition.
    """
    if found.by == "attribute" and not found.name and found.span:
        return {found.within: (found.span.first,)}
    places = {
        within: tuple(sorted(set(uses(outer, found.name, is_inner=found.by == "nested"))))
        for within, outer in code.graph.defined.items()
        if within != found.name and found.name in code.mentions[within]
    }
    return {within: lines for within, lines in places.items() if lines}


def uses(node: ast.AST, name: str, *, is_inner: bool = False) -> Iterator[int]:
    """Yield the lines of a definition that build a class, or give it another name.

    Args:
        node: the definition.
        name: the class's.
        is_inner: it is called as an attribute too: Outer.Gate(channels).
    """
    aside = set(map(id, asides(node)))
    others = {key for key, value in named_anew(node) if is_bare(name, value)}
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
            if child.id == name and id(child) not in aside:
                yield child.lineno
        elif isinstance(child, ast.Call):
            if key_of(child.func) in others or (is_inner and called(child) == name):
                yield child.lineno


def is_bare(name: str, value: ast.expr) -> bool:
    """Tell whether a value names a class without calling it."""
    nodes = list(ast.walk(value))
    calls = {id(child.func) for child in nodes if isinstance(child, ast.Call)}
    return any(isinstance(c, ast.Name) and c.id == name and id(c) not in calls for c in nodes)


def named_anew(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that are given to something without a call of it, and what they name."""
    for child in ast.walk(node):
        if isinstance(child, ast.Assign | ast.AnnAssign) and child.value is not None:
            if not isinstance(child.value, ast.Call):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                yield from ((key, child.value) for one in targets if (key := key_of(one)))
        elif isinstance(child, ast.For) and (key := key_of(child.target)):
            yield key, child.iter


def asides(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes that name a class without building it: annotations, and tests of a type."""
    for child in ast.walk(node):
        if isinstance(child, ast.AnnAssign):
            yield from ast.walk(child.annotation)
        elif isinstance(child, ast.arg) and child.annotation:
            yield from ast.walk(child.annotation)
        elif isinstance(child, ast.FunctionDef) and child.returns:
            yield from ast.walk(child.returns)
        elif isinstance(child, ast.Call) and called(child) in ("isinstance", "issubclass"):
            yield from ast.walk(child)
