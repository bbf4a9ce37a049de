"""Where the mount targets of a run really are.

A boundary that cannot mount (no namespaces) leaves files at their own paths and names them
in SEGWRIGHT_PLACES, JSON {target: path}; elsewhere a target is its own path.
"""

import json
import os
from pathlib import Path

VARIABLE = "SEGWRIGHT_PLACES"


def place(target: str) -> Path:
    """Return the real path of a mount target such as /out, or of a path below one."""
    known: dict[str, str] = json.loads(os.environ.get(VARIABLE, "{}"))
    for name, real in known.items():
        if target == name or target.startswith(f"{name}/"):
            return Path(real + target[len(name) :])
    return Path(target)
