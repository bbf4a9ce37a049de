"""A look at a training while it runs, and the word to stop that may follow.

The training leaves its weights once, part of the way, and goes on (`sandbox/child/train.py`). A
thread of the supervisor takes them as hostile, has search-val predicted from them in a sandbox
of its own, scored, and published as checkpoint.json. Whoever started the trial may answer with
stop.json: the training is then ended, and its result says why.

Covered: a look that fails is told in checkpoint.json and harms nothing else; a training that
fails, or is stopped, ends its look; one that is done waits for it; nothing of it is left.
Not covered: the look takes processor, memory and card while the training runs, each within the
limits of one run; the training writes its weights twice, within one limit of disk.

Threads: bubblewrap dies with the thread that started it, so the look's thread lives until its
run is gone; signals are the main thread's, and are asked for through `is_stopped`.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from memory.errors import CollectError, SandboxError, ScoringError
from sandbox.collect import copy_file

FOLDER = "checkpoint"
PUBLISHED = "checkpoint.json"
STOP = "stop.json"
WEIGHTS = "weights.pth"
TICK_S = 0.25
TEXT_CHARS = 2000


def iteration_at(fraction: float, iterations: int) -> int:
    """Return the iteration after which a training is looked at; 0 where none is left then."""
    found = round(fraction * iterations)
    return found if found < iterations else 0


def left_by(folder: Path) -> Path:
    """Return where the training of a trial leaves its checkpoint, whether it is there or not."""
    return folder / "train" / "out" / FOLDER


def take(folder: Path, to: Path, *, max_bytes: int) -> None:
    """Copy the checkpoint of a trial's training, unparsed, into the folder `to`.

    Raises:
        CollectError: it is no plain file, or too large.
    """
    to.mkdir(parents=True, exist_ok=True)
    copy_file(left_by(folder), WEIGHTS, to / WEIGHTS, max_bytes=max_bytes)


class Look:
    """One look, in a thread, while the block runs; the block ends when the look has.

    Args:
        folder: the trial's folder.
        iteration: after which the training is looked at; 0 for no look.
        carry_out: takes the question whether it must end; returns the scores, or why it failed.
        is_stopped: True once the whole trial must end.

    A look that was published before is not repeated: the same trial gives the same.
    """

    def __init__(
        self,
        folder: Path,
        iteration: int,
        carry_out: Callable[[Callable[[], bool]], dict[str, Any]],
        is_stopped: Callable[[], bool],
    ) -> None:
        """Prepare; nothing is started yet."""
        self.folder, self.iteration = folder, iteration
        self.carry_out, self.is_stopped = carry_out, is_stopped
        self.is_cancelled = False
        self.trained = threading.Event()
        is_wanted = iteration > 0 and not (folder / PUBLISHED).exists()
        self.thread = threading.Thread(target=self.run, name="look") if is_wanted else None

    def __enter__(self) -> "Look":
        """Begin to wait for the checkpoint."""
        if self.thread is not None:
            self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the end of the look; an error ends it."""
        if kind is not None:
            self.cancel()
        self.trained.set()
        if self.thread is not None:
            self.thread.join()

    def cancel(self) -> None:
        """End the look: nobody needs it any more."""
        self.is_cancelled = True

    def must_end(self) -> bool:
        """Tell whether the look is to end before it is done."""
        return self.is_cancelled or self.is_stopped()

    def run(self) -> None:
        """Wait for the checkpoint, look at it and publish what was seen."""
        if not self.await_checkpoint():
            return
        start = time.monotonic()
        try:
            said = self.carry_out(self.must_end)
        except (CollectError, ScoringError, SandboxError, OSError) as error:
            said = {"failed": str(error)[:TEXT_CHARS]}
        if not self.must_end():
            said = {"iteration": self.iteration, **said, "seconds": time.monotonic() - start}
            write(self.folder / PUBLISHED, said)

    def await_checkpoint(self) -> bool:
        """Wait until the training has left its checkpoint; False where it ends without one."""
        while not self.must_end():
            is_last = self.trained.is_set()
            if os.path.lexists(left_by(self.folder)):
                return True
            if is_last:
                return False
            self.trained.wait(TICK_S)
        return False


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def read(folder: Path) -> dict[str, Any] | None:
    """Return what was seen at a trial's checkpoint; None where nothing was, so far.

    Keys: `iteration`, `seconds` of the look, and `scores` as in result.json, or `failed` with
    the reason.
    """
    with contextlib.suppress(FileNotFoundError):
        said: dict[str, Any] = json.loads((folder / PUBLISHED).read_text())
        return said
    return None


def tell_to_stop(folder: Path, reason: str) -> None:
    """Have the training of a trial ended; the reason becomes its result's excerpt."""
    write(folder / STOP, {"text": reason})


def is_told(folder: Path) -> bool:
    """Tell whether the training of a trial was told to stop."""
    return (folder / STOP).exists()


def told(folder: Path, otherwise: str) -> str:
    """Return why the training of a trial was told to stop, or `otherwise` where it was not."""
    with contextlib.suppress(FileNotFoundError):
        return str(json.loads((folder / STOP).read_text())["text"])
    return otherwise
