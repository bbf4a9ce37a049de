"""Mount targets for a boundary that cannot mount: the run is told where things really are."""

import json
from collections.abc import Sequence

from sandbox.boundary import Mount

VARIABLE = "SEGWRIGHT_PLACES"


def environment(mounts: Sequence[Mount]) -> dict[str, str]:
    """Return the variable from which `sandbox/child/places.py` reads where targets are."""
    return {VARIABLE: json.dumps({mount.target: str(mount.source) for mount in mounts})}


def translated(argv: Sequence[str], mounts: Sequence[Mount]) -> list[str]:
    """Return a command line in which arguments that are targets, or lie below one, are real."""
    return [_real(argument, mounts) for argument in argv]


def _real(argument: str, mounts: Sequence[Mount]) -> str:
    for source, target, _ in mounts:
        if argument == target or argument.startswith(f"{target}/"):
            return f"{source}{argument[len(target) :]}"
    return argument
