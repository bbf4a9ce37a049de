"""Starting trials on this machine and asking how they stand; truth is on disk.

A trial folder holds job.json; its supervisor holds the folder's lock while it lives and
leaves result.json, and before it perhaps checkpoint.json, which may be answered. Threads may
share an executor: it keeps no state of its own.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from memory.errors import SandboxError, SegwrightError
from sandbox import checkpoint, warm

DETACH = "/usr/bin/setsid"


class Executor(Protocol):
    """Where trials run. `submit` may be called twice for one folder; it then runs once."""

    def submit(self, folder: Path) -> None:
        """Start the trial of a folder that holds job.json."""

    def state(self, folder: Path) -> str:
        """Return done, running or gone; gone is a hint that `submit` may be called again."""

    def cancel(self, folder: Path) -> None:
        """Ask the trial to end; it then leaves no result and may be run again."""


class LocalExecutor:
    """Supervisors as processes of this machine, in sessions of their own."""

    def submit(self, folder: Path) -> None:
        """Start a supervisor that outlives this process."""
        environment = {k: os.environ[k] for k in ("PATH", "LANG", "TZ") if k in os.environ}
        if wants_warm(folder) and warm.offered("warm"):
            warm.ensure()
        command = [sys.executable, "-I", "-m", "sandbox.supervisor", str(folder.resolve())]
        with (folder / "supervisor.log").open("ab") as log:
            subprocess.run(
                [DETACH, "--fork", *command],
                check=True,
                env=environment | {"OMP_NUM_THREADS": "1"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                close_fds=True,
            )

    def state(self, folder: Path) -> str:
        """Return done, running or gone, from the result and the lock."""
        if (folder / "result.json").exists():
            return "done"
        return "running" if is_locked(folder) else "gone"

    def cancel(self, folder: Path) -> None:
        """Send SIGTERM to the supervisor, if it still holds the lock."""
        if is_locked(folder):
            with contextlib.suppress(ProcessLookupError, ValueError, FileNotFoundError):
                os.kill(int((folder / "pid").read_text()), signal.SIGTERM)


def wants_warm(folder: Path) -> bool:
    """Return True when a trial's job asks for a warm start."""
    try:
        job = json.loads((folder / "job.json").read_text())
    except FileNotFoundError:
        return False
    return (job["start"], job["isolation_level"]) == ("warm", "A")


def is_locked(folder: Path) -> bool:
    """Return True while a supervisor holds the folder's lock."""
    if not (folder / "lock").exists():
        return False
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


START_S = 60.0
POLL_S = 0.1
Listener = Callable[[dict[str, Any]], str | None]
"""Takes what checkpoint.json says; a text that it returns is why the training must stop."""


class Stopped(SegwrightError):
    """The run was asked to stop while a trial was under way; the trial may be run again."""

    exit_code = 130


def wait(
    executor: Executor,
    folder: Path,
    *,
    attempts: int = 3,
    is_stopped: Callable[[], bool] = lambda: False,
    on_checkpoint: Listener | None = None,
) -> dict[str, Any]:
    """Start a trial, or find the one that runs, and return its result.

    `on_checkpoint` is called once for a training that was looked at: while it runs, or after
    its end where nobody waited before.

    Raises:
        SandboxError: the sandbox itself failed in every attempt.
        Stopped: `is_stopped` said so; the trial was asked to end.
    """
    reason = ""
    for _ in range(attempts):
        if executor.state(folder) == "gone":
            executor.submit(folder)
            await_start(executor, folder)
        while executor.state(folder) == "running":
            if is_stopped():
                executor.cancel(folder)
                raise Stopped(f"trial {folder.name} was stopped; `run` starts it again")
            on_checkpoint = told(executor, folder, on_checkpoint)
            time.sleep(POLL_S)
        if executor.state(folder) != "done":
            reason = "its supervisor died"
            continue
        on_checkpoint = told(executor, folder, on_checkpoint)
        result = read_result(folder)
        if result["status"] != "infrastructure":
            return result
        reason = str(result["failure_excerpt"])
        (folder / "result.json").unlink()
    raise SandboxError(f"trial {folder.name} could not be run in {attempts} attempts: {reason}")


def told(executor: Executor, folder: Path, listener: Listener | None) -> Listener | None:
    """Tell of a checkpoint that is there, and have its training stopped if the answer says so.

    Returns:
        Whom to tell of one that is not there yet.
    """
    said = checkpoint.read(folder) if listener else None
    if listener is None or said is None:
        return listener
    reason = listener(said)
    if reason is not None and executor.state(folder) != "done":
        checkpoint.tell_to_stop(folder, reason)
    return None


def await_start(executor: Executor, folder: Path) -> None:
    """Wait until the supervisor holds its lock or has left a result."""
    deadline = time.monotonic() + START_S
    while executor.state(folder) == "gone" and time.monotonic() < deadline:
        time.sleep(POLL_S)


def read_result(folder: Path) -> dict[str, Any]:
    """Read the result that a supervisor published."""
    result = json.loads((folder / "result.json").read_text())
    assert isinstance(result, dict)
    return result
