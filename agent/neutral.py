"""A network whose text was written by hand or by a model, with one class made to do nothing. Pure.

The class is defined again at the end of the file: it takes whatever arguments it was given, has no
parameters, and passes its first input on. Names are looked up when a network is built, so every use
of the class finds the substitute. Where the module changes the shape, the dry run says so.
"""

import ast

from sandbox.syntax import parse

SUBSTITUTE = '''

class {name}(nn.Module):
    """An ablation: this module passes its first input on."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take what the module takes, and use none of it."""
        super().__init__()

    def forward(self, first, *rest, **more):
        """Return the first input."""
        return first
'''


def neutral_source(source: str, name: str) -> str | None:
    """Return a network whose class `name` passes its first input on.

    None where the text is no Python, has no such class at its top level, or builds another class
    on it.
    """
    try:
        tree = parse(source)
    except (SyntaxError, ValueError):
        return None
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    if not any(node.name == name for node in classes):
        return None
    bases = {base.id for node in classes for base in node.bases if isinstance(base, ast.Name)}
    if name in bases:
        return None
    imported = "" if has_nn(tree) else "\n\nfrom torch import nn\n"
    return source.rstrip("\n") + "\n" + imported + SUBSTITUTE.format(name=name)


def has_nn(tree: ast.Module) -> bool:
    """Tell whether a file imports torch.nn as nn."""
    found = [
        alias
        for node in tree.body
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    ]
    return any((alias.asname or alias.name) == "nn" for alias in found)
