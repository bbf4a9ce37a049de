"""Which boundary contains generated code on this machine: the strongest that works, or none.

A boundary is chosen once a campaign and never exchanged for a weaker one silently. Whether it
works is found out by running a short program in it, not by reading its version.
"""

import sys
import tempfile
from pathlib import Path

from memory.errors import IsolationUnavailable, SandboxError
from sandbox.boundary import LEVELS, Backend, Isolation, Limits, Mount, Run
from sandbox.bubblewrap import Bubblewrap
from sandbox.containers import Containers
from sandbox.landlock import Landlock
from sandbox.processes import tail
from sandbox.uncontained import Uncontained

BACKENDS: tuple[Backend, ...] = (Bubblewrap(), Landlock(), Containers())
NONE = Uncontained()
PROBE = (
    "import os, socket, sys\n"
    "try:\n"
    "    sys.exit(f'a folder that was not given can be read: {os.listdir(sys.argv[1])}')\n"
    "except OSError:\n"
    "    pass\n"
    "socket.socket().close()\n"
    "print('contained')\n"
)
PROBE_S = 60.0


def backend_of(isolation: Isolation) -> Backend:
    """Return the backend that an isolation belongs to."""
    found = [b for b in (*BACKENDS, NONE) if b.level == isolation.level]
    assert found, isolation
    return found[0]


def candidates() -> list[Isolation]:
    """Return what is installed here, the strongest first, whether it works or not."""
    return [isolation for backend in BACKENDS for isolation in backend.find()]


def probe(isolation: Isolation) -> str:
    """Return why an isolation does not contain a run here; empty when it does."""
    with tempfile.TemporaryDirectory(prefix="segwright-probe-") as name:
        hidden, log = Path(name, "hidden"), Path(name, "log")
        hidden.mkdir()
        log.touch()
        argv = [sys.executable, "-I", "-c", PROBE, str(hidden)]
        run = Run(argv, [], log, limits=Limits(wall_s=PROBE_S))
        try:
            contained = backend_of(isolation).start(isolation, run)
        except (SandboxError, OSError) as error:
            return str(error)
        code = contained.poll(PROBE_S)
        contained.end()
        if code == 0 and "contained" in log.read_text():
            return ""
        return contained.fault() or tail(log, 300) or f"exit {code}"


def available() -> list[Isolation]:
    """Return what works on this machine, the strongest first; at most one of each backend."""
    found: list[Isolation] = []
    for isolation in candidates():
        if isolation.name not in {one.name for one in found} and not probe(isolation):
            found.append(isolation)
    return found


def choose(level: str | None = None) -> Isolation:
    """Return the strongest isolation that works on this machine, or the one of a level.

    Raises:
        IsolationUnavailable: none does; the message names each reason and a fix.
    """
    reasons = []
    for isolation in candidates():
        if level in (None, isolation.level):
            reason = probe(isolation)
            if not reason:
                return isolation
            reasons.append(f"{isolation.path}: {reason.splitlines()[0]}")
    wanted = f" of level {level} ({LEVELS[level]})" if level else ""
    found = "; ".join(reasons) or "bwrap is not installed"
    raise IsolationUnavailable(
        f"no isolation{wanted} for generated code on this machine ({found}); install bubblewrap "
        "(apt install bubblewrap) or allow user namespaces, then run `segwright doctor`"
    )


def unsafe(reason: str) -> Isolation:
    """Return the absence of any isolation, by the user's own word.

    Raises:
        IsolationUnavailable: no reason is given; one is kept with every result.
    """
    if not reason.strip():
        raise IsolationUnavailable("--unsafe-no-sandbox needs a reason, which every report carries")
    return Isolation("D", NONE.name, Path("/"), "", reason.strip())


__all__ = ["BACKENDS", "Isolation", "Limits", "Mount", "available", "backend_of", "candidates"]
__all__ += ["choose", "probe", "unsafe"]
