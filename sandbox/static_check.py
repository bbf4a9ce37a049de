"""What a network's text shows before anything is run: the first and cheapest step.

Fast feedback for whoever writes networks, and tidiness; NOT the boundary. A text that passes is
as untrusted as before: `sandbox/boundary.py` contains it, and `sandbox/child/fence.py` watches it.
Pure: the text is parsed, and neither imported nor run; no torch.

Covered: text that is no Python or too long; imports beyond `ALLOWED_IMPORTS`; what of a module
loads or runs something, sets what others use, or leads to other modules, by whatever alias;
modules as values; changes of what was imported; builtins that run code, open files or print;
dunder and frame attributes; code that runs on import; a `build_network` with other parameters;
missing classes of the proposal.
Not covered: detours through values (a class of torch that a variable holds is changed, a name is
made at run time, a string is formatted), native code, and names that do not exist.
"""

import ast
import builtins
import collections.abc
import math
import typing
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeGuard

from sandbox.syntax import parse

SOURCE_BYTES = 1 << 18
Nodes = Sequence[ast.AST]
ARGUMENTS = ("in_channels", "num_classes", "spec")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LISTED: Mapping[str, frozenset[str]] = {
    "torch.nn.init": _words(
        "calculate_gain constant_ dirac_ eye_ kaiming_normal_ kaiming_uniform_ normal_ ones_ "
        "orthogonal_ sparse_ trunc_normal_ uniform_ xavier_normal_ xavier_uniform_ zeros_"
    ),
    "torch.nn.parameter": _words("Buffer Parameter"),
    "torch.nn.utils": _words("spectral_norm weight_norm"),
    "torch.nn.utils.parametrizations": _words("orthogonal spectral_norm weight_norm"),
    "torch.amp": _words("autocast custom_bwd custom_fwd"),
    "torch.autograd": _words("Function"),
    "torch.utils": frozenset(),
    "torch.utils.checkpoint": _words("checkpoint checkpoint_sequential"),
    "math": frozenset(dir(math)),
    "typing": frozenset(typing.__all__) - {"ForwardRef", "get_type_hints"},
    "collections": _words("ChainMap Counter OrderedDict defaultdict deque namedtuple"),
    "collections.abc": frozenset(collections.abc.__all__),
    "functools": _words("cache cached_property lru_cache partial reduce wraps"),
    "itertools": _words("accumulate chain combinations count cycle islice pairwise product repeat"),
    "dataclasses": _words("KW_ONLY InitVar asdict astuple dataclass field fields replace"),
    "enum": _words("Enum Flag IntEnum IntFlag StrEnum auto unique"),
    "abc": _words("ABC ABCMeta abstractmethod"),
    "copy": _words("copy deepcopy"),
    "contextlib": _words("contextmanager nullcontext"),
    "__future__": _words("annotations"),
}
"""Modules of which network.py may use what is written here."""

ALLOWED_IMPORTS = (
    *("torch", "torch.nn", "torch.nn.functional", "torch.fft", "torch.linalg", "torch.special"),
    *LISTED,
)
"""All that network.py may import, for a planner to see; `is_allowed` says what of it."""

REFUSED_OF_TORCH = _words(
    """
    accelerator ao backends builtins classes compile compiler cpp cpu ctypes cuda dataclasses
    default_generator distributed distributions export fork from_dlpack from_file from_numpy
    frombuffer func functional functools futures fx get_device_module glob grad hub importlib
    inspect jit library load manual_seed masked math monitor mps mtia multiprocessing nested np onnx
    ops optim os overrides package platform profiler quantization quasirandom random return_types
    save seed serialization signal sparse storage sys testing textwrap threading to_dlpack torch
    torch_version types version wait warnings windows xpu
    """
)
REFUSED_STARTS = ("_", "autocast_", "clear_", "import_", "init_", "parse_", "set_", "use_")
TORCH_CLASSES = _words("BoolTensor FloatTensor Generator IntTensor LongTensor Size Tensor")
"""Of torch itself; its other classes read and write files, compile, or set what others use."""

ALLOWED_BUILTINS = _words(
    """
    abs all any bool bytes callable chr classmethod complex dict divmod enumerate filter float
    format frozenset getattr hasattr hash int isinstance issubclass iter len list map max min next
    object ord pow property range repr reversed round set setattr slice sorted staticmethod str sum
    super tuple type zip Exception NotImplemented Ellipsis __name__ __doc__ __class__
    """
) | {name for name in dir(builtins) if name.endswith(("Error", "Iteration", "Warning"))}
NEVER = _words("__import__ breakpoint compile delattr eval exec globals locals open vars")
ACCESS = _words("getattr hasattr setattr")
READABLE = (
    "needs a written name, or an f-string that begins with one: f'layer{i}' of self, "
    "f'Conv{dims}d' of torch.nn; setattr sets attributes of self only"
)
DUNDERS = _words(
    """
    __init__ __post_init__ __call__ __class__ __name__ __qualname__ __doc__ __len__ __getitem__
    __iter__ __next__ __contains__ __repr__ __str__ __eq__ __hash__ __enter__ __exit__ __add__
    __sub__ __mul__ __truediv__ __matmul__ __neg__ __all__ __constants__ __slots__ __version__
    """
)
REFUSED_ATTRIBUTES = _words(
    """
    os sys subprocess importlib builtins ctypes socket numpy tofile dump dumps fromfile backward
    mro f_back f_builtins f_globals f_locals gi_frame gi_code cr_frame tb_frame co_code func_globals
    """
)
DEFINING = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Pass
SETTLED = _words("bool dict float frozenset int len list max min range set str sum tuple")
SETTLED_MODULES = _words("collections dataclasses enum functools math typing")


class Finding(NamedTuple):
    """One fault: its line (0 for the file), its class (syntax, imports or names), and a sentence."""

    line: int
    kind: str
    text: str


class Known(NamedTuple):
    """What names stand for: the dotted paths of modules and of what was imported from them.

    `aliases` are the nodes of assignments that only name a module anew: F = nn.functional.
    """

    paths: dict[str, str]
    aliases: set[int]

    def path(self, node: ast.AST) -> str:
        """Return the dotted path of an imported name with its attributes; empty for others."""
        root, names = dotted(node)
        start = self.paths.get(root.id) if isinstance(root, ast.Name) else None
        return ".".join([start, *names]) if start else ""


def static_check(source: str, *, named: Sequence[str] = ()) -> list[Finding]:
    """Return the faults of a network's text: imports first, then by line; empty if none.

    Args:
        source: the text of network.py.
        named: classes or functions that the proposal names; each must be defined.
    """
    tree = parsed(source)
    if isinstance(tree, Finding):
        return [tree]
    nodes = list(ast.walk(tree))
    known = known_names(nodes)
    found = set(of_definitions(tree, named))
    found.update(of_imports(nodes), of_names(nodes), of_attributes(nodes))
    for check in (of_modules, of_changes, of_access, of_statements):
        found.update(check(nodes, known))
    return sorted(found, key=lambda one: (one.kind != "imports", *one))


def parsed(source: str) -> ast.Module | Finding:
    """Return the tree of a text, or why it has none."""
    size = len(source.encode(errors="replace"))
    if size > SOURCE_BYTES:
        return Finding(0, "syntax", f"the file has {size} bytes; allowed: {SOURCE_BYTES}")
    try:
        return parse(source)
    except SyntaxError as error:
        return Finding(error.lineno or 0, "syntax", f"SyntaxError: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Finding(0, "syntax", f"{type(error).__name__}: {error}; write plainer Python")


def known_names(nodes: Nodes) -> Known:
    """Return what imports, and assignments such as F = nn.functional, give names to."""
    known = Known({}, set())
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                known.paths[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                known.paths[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            path = known.path(node.value)
            if path in ALLOWED_IMPORTS and len(node.targets) == 1:
                known.paths.setdefault(node.targets[0].id, path)
                known.aliases.update({id(node.value), id(node.targets[0])})
    return known


def dotted(node: ast.AST) -> tuple[ast.AST, list[str]]:
    """Return the root of a chain of attributes and their names; getattr(x, "y") is x.y."""
    names: list[str] = []
    while True:
        if isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Call) and (name := written_name(node)) is not None:
            names.append(name)
            node = node.args[0]
        else:
            return node, names[::-1]


def written_name(node: ast.AST) -> str | None:
    """Return the attribute that a getattr, hasattr or setattr names by a literal."""
    if isinstance(node, ast.Call) and is_name(node.func, ACCESS) and len(node.args) > 1:
        if isinstance(node.args[1], ast.Constant):
            return str(node.args[1].value)
    return None


def is_name(node: ast.AST, names: Container[str]) -> TypeGuard[ast.Name]:
    """Return True for one of some names."""
    return isinstance(node, ast.Name) and node.id in names


def is_stored(node: ast.AST) -> bool:
    """Return True where a name, attribute or item is set or deleted."""
    return isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)


def is_allowed(module: str, name: str) -> bool:
    """Return True for what a network may use of an allowed module."""
    if module in LISTED or f"{module}.{name}" in ALLOWED_IMPORTS:
        return f"{module}.{name}" in ALLOWED_IMPORTS or name in LISTED[module]
    if module == "torch.nn":
        return name[:1].isupper() and name != "DataParallel"
    if module == "torch" and name[:1].isupper():
        return name in TORCH_CLASSES
    return name not in REFUSED_OF_TORCH and not name.startswith(REFUSED_STARTS)


def of_imports(nodes: Nodes) -> Iterator[Finding]:
    """Yield imports that are not on the list."""
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module, names = "." * node.level + (node.module or ""), [a.name for a in node.names]
            wrong = [n for n in names if n == "*" or not is_allowed(module, n)]
            names = [f"{module}.{n}" for n in wrong] if module in ALLOWED_IMPORTS else [module]
        else:
            continue
        for name in names:
            if name not in ALLOWED_IMPORTS:
                text = f"{name!r} may not be imported; allowed: {', '.join(ALLOWED_IMPORTS)}"
                yield Finding(node.lineno, "imports", text)


def of_modules(nodes: Nodes, known: Known) -> Iterator[Finding]:
    """Yield what may not be used of a module, and modules that are used as values."""
    inner = set(known.aliases)
    for node in nodes:
        if isinstance(node, ast.Attribute):
            inner.add(id(node.value))
        elif isinstance(node, ast.Call) and is_name(node.func, ACCESS) and node.args:
            inner.add(id(node.args[0]))
    for outer in (node for node in nodes if id(node) not in inner):
        root, names = dotted(outer)
        if isinstance(root, ast.Name) and not is_stored(root):
            if text := module_fault(known.paths.get(root.id), names):
                yield Finding(root.lineno, "names", text)


def module_fault(module: str | None, names: Sequence[str]) -> str:
    """Return why a chain of names of a module is refused; empty when it is not."""
    if module not in ALLOWED_IMPORTS:
        return ""
    for name in names:
        if f"{module}.{name}" in ALLOWED_IMPORTS:
            module = f"{module}.{name}"
        elif is_allowed(module, name):
            return ""
        else:
            allowed = ", ".join(sorted(LISTED.get(module, ()))) or "layers and operations"
            return f"{module}.{name} is no part of a network; allowed: {allowed[:300]}"
    return f"the module {module} is used as a value; write {module}.NAME where it is needed"


def of_changes(nodes: Nodes, known: Known) -> Iterator[Finding]:
    """Yield what changes an import, a class, or the meaning of a module's name."""
    for node in nodes:
        name = node.arg if isinstance(node, ast.arg) else ""
        name = node.id if isinstance(node, ast.Name) and is_stored(node) else name or ""
        if known.paths.get(name) in ALLOWED_IMPORTS and id(node) not in known.aliases:
            text = f"{name} is the module {known.paths[name]} here; choose another name"
            yield Finding(getattr(node, "lineno", 0), "names", text)
        elif isinstance(node, ast.Attribute | ast.Subscript) and is_stored(node):
            if is_foreign(node, known.paths):
                text = "only objects of the network may be changed, not classes or imports"
                yield Finding(node.lineno, "names", text)


def is_foreign(node: ast.AST, imported: Container[str]) -> bool:
    """Return True where an attribute or item belongs to an import, or to an object's class."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute) and node.attr.startswith("__"):
            return True
        node = node.value
    return is_name(node, imported) or (isinstance(node, ast.Call) and is_name(node.func, {"type"}))


def is_odd(name: str) -> bool:
    """Return True for a dunder name that no network needs."""
    return name.startswith("__") and name.endswith("__") and name not in DUNDERS


def of_names(nodes: Nodes) -> Iterator[Finding]:
    """Yield builtins that run code, open files, print or look into the interpreter."""
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {n.id for n in nodes if isinstance(n, ast.Name) and is_stored(n)}
    refused = (set(dir(builtins)) - ALLOWED_BUILTINS - own) | NEVER
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if is_name(node, refused) or (isinstance(node, ast.Name) and is_odd(node.id)):
            text = f"{node.id} is outside the contract; a network needs torch and plain Python"
            yield Finding(node.lineno, "names", text)
        elif is_name(node, ACCESS) and id(node) not in called:
            yield Finding(node.lineno, "names", f"{node.id} may only be called, by its own name")


def of_attributes(nodes: Nodes) -> Iterator[Finding]:
    """Yield attributes and methods that lead into the interpreter, out of torch, or train."""
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.MatchClass):
            names = node.kwd_attrs
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_odd(node.name):
            names = [node.name]
        elif (name := written_name(node)) is not None:
            names = [name]
        for name in names:
            if name in REFUSED_ATTRIBUTES or is_odd(name):
                text = f"the attribute {name} is outside the contract"
                yield Finding(getattr(node, "lineno", 0), "names", text)


def of_access(nodes: Nodes, known: Known) -> Iterator[Finding]:
    """Yield getattr and setattr that no reader can follow."""
    for node in nodes:
        if isinstance(node, ast.Call) and is_name(node.func, ACCESS):
            if not is_clear(node, node.func.id, known):
                yield Finding(node.lineno, "names", f"{node.func.id} {READABLE}")


def is_clear(node: ast.Call, call: str, known: Known) -> bool:
    """Return True where it can be read which attributes a getattr or setattr may mean."""
    if len(node.args) < 2:
        return False
    owner, name = node.args[:2]
    is_own = is_name(owner, {"self"})
    if (written := written_name(node)) is not None:
        return call != "setattr" or (is_own and not written.startswith("__"))
    first = name.values[0] if isinstance(name, ast.JoinedStr) and name.values else None
    start = str(first.value)[:1] if isinstance(first, ast.Constant) else ""
    is_layer = call != "setattr" and known.path(owner) == "torch.nn" and start.isupper()
    return is_layer or (is_own and start.isalpha())


def of_statements(nodes: Nodes, known: Known) -> Iterator[Finding]:
    """Yield what would run on import, beside definitions and settled values."""
    bodies = [node.body for node in nodes if isinstance(node, ast.Module | ast.ClassDef)]
    for node in chain.from_iterable(bodies):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            is_fine = node.value is None or is_settled(node.value, known)
        elif isinstance(node, ast.Expr):
            is_fine = isinstance(node.value, ast.Constant)
        else:
            is_fine = isinstance(node, DEFINING)
        if not is_fine:
            text = "this would run on import; allowed: imports, constants, functions and classes"
            yield Finding(node.lineno, "names", text)


def is_settled(value: ast.expr, known: Known) -> bool:
    """Return True for a value that calls nothing, or only what builds constants and types."""
    called = [node.func for node in ast.walk(value) if isinstance(node, ast.Call)]
    paths = [known.path(one) for one in called if not is_name(one, SETTLED)]
    return all(path.rpartition(".")[0] in SETTLED_MODULES for path in paths)


def of_definitions(tree: ast.Module, named: Sequence[str]) -> Iterator[Finding]:
    """Yield what the contract or the proposal demands and the file does not define."""
    defined = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    build, wanted = defined.get("build_network"), f"build_network({', '.join(ARGUMENTS)})"
    if not isinstance(build, ast.FunctionDef):
        yield Finding(0, "names", f"network.py defines no function {wanted}")
    else:
        args = build.args
        names = [one.arg for one in (*args.posonlyargs, *args.args)]
        if names != list(ARGUMENTS) or args.vararg or args.kwonlyargs or args.kwarg:
            yield Finding(build.lineno, "names", f"build_network must read {wanted}")
    for name in set(named) - defined.keys():
        yield Finding(0, "names", f"the proposal names {name}; network.py defines no such class")
