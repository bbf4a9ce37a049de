"""Ends a training early that can no longer come to anything.

Three signs, each of them conservative: a good network on a short rung shows none. `collapsed`:
the finest logits name one class in every voxel, look after look, while the labels hold more;
`no_progress`: the loss of the last third of the iterations is not below that of the first by
more than noise; `stalled`: no iteration ends for too long, with the stacks of all threads in
the log.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

COLLAPSE_FROM = 200
LOOKS = 30
LOOKS_A_TRAINING = 200
STEP = 4
PROGRESS_FROM = 60
NOISE_SE = 2.0
TICK_S = 0.2

Sign = tuple[str, str]


class EndedEarly(Exception):
    """A training was ended; `failure_class` is one of those that the host knows."""

    def __init__(self, failure_class: str, text: str) -> None:
        """Name the class and say what was seen."""
        super().__init__(text)
        self.failure_class = failure_class


class Signs:
    """Watches one training, iteration by iteration.

    Args:
        iterations: how many the training has.
        has_regions: True where each channel is a region of its own, and not a class.
        ignore_label: the label that no voxel is trained on.
    """

    def __init__(self, iterations: int, *, has_regions: bool, ignore_label: int | None) -> None:
        """Begin at iteration 0."""
        self.iterations = iterations
        self.has_regions = has_regions
        self.ignore_label = ignore_label
        self.losses: list[float] = []
        self.looks = 0

    def wants_look(self) -> bool:
        """Return True when the logits of the coming iteration are to be looked at."""
        done = len(self.losses)
        step = max(1, self.iterations // LOOKS_A_TRAINING)
        return self.iterations >= COLLAPSE_FROM and 2 * done >= self.iterations and done % step == 0

    def look(self, logits: Tensor, target: Tensor) -> None:
        """Count looks in a row at which one class was everywhere.

        Args:
            logits: finest head, float (B, K, *patch).
            target: its labels, (B, 1, *patch), or (B, K, *patch) for regions.

        Raises:
            EndedEarly: collapsed.
        """
        if is_varied(target, self.has_regions, self.ignore_label):
            self.looks = self.looks + 1 if is_collapsed(logits, self.has_regions) else 0
        step = max(1, self.iterations // LOOKS_A_TRAINING)
        needed = max(LOOKS, math.ceil(self.iterations / 4 / step))
        if self.looks >= needed:
            raise EndedEarly(
                "collapsed",
                f"one class in every voxel at {self.looks} looks in a row, up to iteration "
                f"{len(self.losses)} of {self.iterations}, while the labels hold more",
            )

    def add(self, loss: float) -> None:
        """Take the loss of an iteration that ended.

        Raises:
            FloatingPointError: it is not finite.
            EndedEarly: no_progress.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss is {loss} at iteration {len(self.losses)}")
        self.losses.append(loss)
        done = len(self.losses)
        at = (max(PROGRESS_FROM, math.ceil(0.75 * self.iterations)), self.iterations)
        if done in at and done >= PROGRESS_FROM:
            sign = progress(self.losses)
            if sign:
                raise EndedEarly("no_progress", sign)


def progress(losses: Sequence[float]) -> str:
    """Return what is wrong when the last third is not below the first by two standard errors."""
    third = len(losses) // 3
    first, last = np.asarray(losses[:third]), np.asarray(losses[-third:])
    noise = math.sqrt((first.var(ddof=1) + last.var(ddof=1)) / third)
    fall = float(first.mean() - last.mean())
    if fall > NOISE_SE * noise:
        return ""
    return (
        f"the mean loss fell by {fall:.4f} from the first third of {len(losses)} iterations to "
        f"the last; that is not more than noise ({NOISE_SE * noise:.4f})"
    )


def is_collapsed(logits: Tensor, has_regions: bool) -> bool:
    """Return True when every voxel gets the same answer; most networks are cleared by a sample."""
    grid = (slice(None), slice(None), *(slice(None, None, STEP) for _ in logits.shape[2:]))
    with torch.no_grad():
        return all(is_one_answer(part.detach(), has_regions) for part in (logits[grid], logits))


def is_one_answer(logits: Tensor, has_regions: bool) -> bool:
    """Return True when class, or the set of regions, is the same in all of the voxels."""
    if has_regions:
        answer = logits > 0
        flat = answer.movedim(1, 0).flatten(1)
        return bool((flat == flat[:, :1]).all())
    found = logits.argmax(1)
    return bool((found == found.flatten()[0]).all())


def is_varied(target: Tensor, has_regions: bool, ignore_label: int | None) -> bool:
    """Return True when the labels hold more than one class, or a region that is not all."""
    if has_regions:
        flat = target.movedim(1, 0).flatten(1) > 0
        return bool((flat != flat[:, :1]).any())
    known = target if ignore_label is None else target[target != ignore_label]
    return bool(known.numel() and (known != known.flatten()[0]).any())


class Watchdog:
    """A thread that ends the process when nothing ticks for too long.

    Not covered: native code that holds the interpreter's lock for ever; the time limit of the
    whole run ends that.
    """

    def __init__(self, limit_s: float | None, end: Callable[[str, str], Any]) -> None:
        """Start the thread, where there is a limit; `end` writes the stacks of all threads and must not return."""
        self.last = time.monotonic()
        self.limit_s = limit_s
        self.end = end
        self.ended = threading.Event()
        if limit_s:
            threading.Thread(target=self.watch, daemon=True).start()

    def tick(self) -> None:
        """An iteration has ended."""
        self.last = time.monotonic()

    def stop(self) -> None:
        """The training has ended."""
        self.ended.set()

    def watch(self) -> None:
        """Look at the clock until the training ends."""
        assert self.limit_s
        while not self.ended.wait(min(TICK_S, self.limit_s)):
            waited = time.monotonic() - self.last
            if waited > self.limit_s:
                self.end("stalled", f"no iteration ended for {waited:.0f} s")
