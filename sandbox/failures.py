"""How a run failed: its class, the status of its trial, and the lines that explain it.

Every class is listed in `CLASSES`. A class that a trial claims for itself is taken only from
`CLAIMED`: limits are ours to find. nnU-Net reports some failures far from their cause (a dead
background worker, a restart in place of a resume); `recognise` names those by the texts that
nnU-Net, batchgenerators and torch print.

Covered: exceptions, signals, limits, and the texts of `SIGNS` and `WORKER_SIGNS`. Not covered: a
network that prints such a text itself is believed; a class starts no more than another try with
less memory, and no score rests on it.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from memory.errors import CollectError
from memory.records import Status
from sandbox.clean import clean_text
from sandbox.collect import collect_json
from sandbox.watch import Ended

TEXT_CHARACTERS = 2000
LOG_BYTES = 1 << 17
OUTCOME_BYTES = 1 << 15


_BY_STATUS: dict[Status, dict[str, str]] = {
    Status.REJECTED: {
        "syntax": "network.py is no Python",
        "imports": "network.py imports what is not on the list",
        "names": "network.py uses a name outside the contract, or lacks one of it",
        "contract": "the network cannot be built or run, or its heads have other shapes",
        "not_finite": "logits, loss or gradients are not finite, or logits are huge",
        "no_gradient": "no parameter receives a gradient",
        "constant": "the output does not depend on the input",
        "idle_module": "the output does not depend on a module that the proposal names",
        "longer_training": "parameters were trained outside our iterations",
        "optimiser": "the optimiser, its settings or its parameters were changed",
        "batch": "the batch or the patch had another size",
        "data": "the data loading or the labels were changed",
        "loss": "the loss was changed",
        "file_access": "a file, process, socket or library outside the contract was touched",
        "output": "what was handed back breaks the contract",
    },
    Status.OUT_OF_MEMORY: {
        "admission": "a training would need more memory than is free",
        "out_of_memory": "memory ran out, of the run or of the card",
    },
    Status.TIMED_OUT: {"timed_out": "the limit of wall or CPU time was passed"},
    Status.DIVERGED: {
        "diverged": "the loss, a weight or a logit became NaN or infinite",
        "collapsed": "one class everywhere, while the labels held more",
        "no_progress": "the loss did not move",
    },
    Status.FAILED: {
        "stalled": "no iteration ended for too long",
        "worker_memory": "a data worker died for lack of memory",
        "worker_shared_memory": "a data worker ran out of shared memory or open files",
        "worker_died": "a data worker died, of neither memory nor shared memory",
        "restarted": "a training that was to be resumed began anew",
        "out_of_disk": "the disk quota or the limit on a file or the log was passed",
        "out_of_processes": "the limit on processes or threads was passed",
        "exception": "an exception or a signal ended the run",
    },
    Status.CANCELLED: {"stopped": "the trial was told to stop"},
}

CLASSES = {kind: meaning for kinds in _BY_STATUS.values() for kind, meaning in kinds.items()}
"""Every class of failure, with what it means in one line."""

_STATUS = {kind: status for status, kinds in _BY_STATUS.items() for kind in kinds}

CLAIMED = frozenset(CLASSES) - {
    *("syntax", "imports", "names", "admission"),
    *("timed_out", "out_of_disk", "out_of_processes", "output", "stopped"),
}
"""What the process of a trial may say of itself."""


class Sign(NamedTuple):
    """A text that names a failure, its class, and what to tell."""

    pattern: str
    kind: str
    text: str


WORKER_DEAD = (
    r"background workers are no longer alive|background worker is 6 feet under"
    r"|Background workers died|Segmentation export worker died"
    r"|DataLoader worker \(pid(\(s\))? [\d, ]+\) (is killed by signal|exited unexpectedly)"
)
WORKER_SIGNS = (
    Sign(
        r"[Bb]us error|insufficient shared memory \(shm\)|exit code -7\b"
        r"|No space left on device[^\n]{0,200}/(dev/shm|torch_)"
        r"|/dev/shm[^\n]{0,200}No space left on device|out of shared memory"
        r"|unable to (mmap|open|resize|write|allocate)[^\n]{0,40}(shm|shared memory|/torch_)",
        "worker_shared_memory",
        "a data worker died: /dev/shm is full; use fewer workers or raise sandbox.shm_mib",
    ),
    Sign(
        r"received 0 items of ancdata|Too many open files",
        "worker_shared_memory",
        "a data worker died: it ran out of open files, through which tensors are shared; use "
        "fewer workers",
    ),
    Sign(
        r"\bMemoryError|DefaultCPUAllocator|Cannot allocate memory|killed by signal: Killed"
        r"|exit code -9\b|[Oo]ut of memory",
        "worker_memory",
        "a data worker died for lack of memory; use fewer workers or raise sandbox.memory_mib",
    ),
    Sign(
        r"No space left on device|File too large",
        "out_of_disk",
        "a data worker died: the disk, /tmp or the limit on a file is full; raise sandbox.disk_mib",
    ),
    Sign(
        r"can't start new thread|Resource temporarily unavailable|pthread_create",
        "out_of_processes",
        "a data worker died: no process or thread was left for it; use fewer workers or threads",
    ),
    Sign(
        r"Exception in background worker",
        "worker_died",
        "a data worker died of an exception, which the log shows further up",
    ),
    Sign(
        r"",
        "worker_died",
        "a data worker died and left no reason; most often memory is short: use fewer workers",
    ),
)
SIGNS = (
    Sign(
        r"Cannot continue training because there seems to be no checkpoint",
        "restarted",
        "nnU-Net found no checkpoint to resume from, and began anew without an error; start the "
        "trial again from its beginning",
    ),
    Sign(
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
        r"|torch\.OutOfMemoryError|CUDNN_STATUS_ALLOC_FAILED|MPS backend out of memory",
        "out_of_memory",
        "the GPU has no memory left; use a smaller network or batch, or checkpointing",
    ),
    Sign(
        r"DefaultCPUAllocator: (can't|not enough) (allocate )?memory",
        "out_of_memory",
        "memory ran out for a tensor; use a smaller network or batch, or raise sandbox.memory_mib",
    ),
    Sign(
        r"CUDA error: device-side assert triggered",
        "exception",
        "an index was out of range on the GPU, most often a label beyond the logits' channels; a "
        "run on the CPU names the line",
    ),
    Sign(
        r"Encountered inf in predicted array",
        "diverged",
        "logits overflowed in half precision while tiles were added up: they grew too large, as "
        "after a training that diverges; a normalisation or a smaller initialisation helps",
    ),
    Sign(
        r"operator torchvision::nms does not exist",
        "exception",
        "torch and torchvision are of different builds; install both from one index",
    ),
    Sign(
        r"^Timeout \(\d+:\d\d:\d\d(\.\d+)?\)!$",
        "stalled",
        "no iteration ended for too long; the log shows where each thread stood",
    ),
    Sign(
        r"\[Errno 28\] No space left on device",
        "out_of_disk",
        "the disk or /tmp is full; write less, or raise sandbox.disk_mib",
    ),
    Sign(
        r"\[Errno 27\] File too large",
        "out_of_disk",
        "a file grew beyond the limit on files; write less, or raise sandbox.disk_mib",
    ),
    Sign(
        r"can't start new thread|BlockingIOError: \[Errno 11\]|pthread_create failed",
        "out_of_processes",
        "no process or thread is left; use fewer workers or threads",
    ),
)  # fmt: skip

SIGNALS = {
    4: ("exception", "an illegal instruction ended the run"),
    6: ("exception", "the run was aborted by a library"),
    7: ("worker_shared_memory", "bus error: /dev/shm is full, most likely"),
    9: ("out_of_memory", "killed by the system, most likely for memory"),
    11: ("exception", "segmentation fault"),
    24: ("timed_out", "the limit of CPU time was passed"),
    25: ("out_of_disk", "a file grew beyond the limit on files"),
    31: ("exception", "a system call was refused, and ended the run"),
}

_TRACEBACK = "Traceback (most recent call last):"
_DUMP = "(most recent call first):"
_FRAME = re.compile(
    r'^[ \t]*File "[^"\n]*\bnetwork\.py", line (\d+),? in (\S+)(?:\n[ \t]+(?!File ")(\S.*))?',
    re.MULTILINE,
)
_CHAINED = re.compile(
    r"\n(During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):\s*$"
)
_ERROR = re.compile(r"^([A-Za-z_][\w.]*(?:: .*)?)$", re.MULTILINE)


def status_of(kind: str) -> Status:
    """Return the status of a trial that failed with a class; a class unknown to us is failed."""
    return _STATUS.get(kind, Status.FAILED)


def recognise(log_text: str) -> tuple[str, str] | None:
    """Return class and cause of a failure that is reported far from its cause; None for others."""
    if re.search(WORKER_DEAD, log_text):
        sign = next(s for s in WORKER_SIGNS if re.search(s.pattern, log_text))
        return sign.kind, sign.text
    for sign in SIGNS:
        if re.search(sign.pattern, log_text, re.MULTILINE):
            return sign.kind, sign.text
    return None


def behind_a_stall(log_text: str) -> Sign | None:
    """Return why data workers deliver nothing, where their own errors say so; None otherwise.

    A worker that cannot hand on a batch prints an error and lives on: the training then waits.
    """
    named = [sign for sign in WORKER_SIGNS if sign.kind != "worker_died"]
    return next((sign for sign in named if re.search(sign.pattern, log_text)), None)


def excerpt(log_text: str) -> str:
    """Return the last exception of a log and the innermost line of network.py that led to it.

    Empty where the log holds no exception.
    """
    at = log_text.rfind(_TRACEBACK)
    errors = _ERROR.findall(log_text[at:]) if at >= 0 else []
    said = [errors[-1][:600]] if errors else []
    return "\n".join([*said, *network_line(log_text)])


def network_line(log_text: str) -> list[str]:
    """Return, in a list, the innermost line of network.py in the last traceback; else none."""
    start = log_text.rfind(_TRACEBACK)
    if log_text.rfind(_DUMP) > start:
        # A dump of faulthandler begins with the innermost frame; a traceback ends with it.
        found = _FRAME.findall(log_text, log_text.find(_DUMP, max(start, 0)))[:1]
    else:
        while start > 0 and _CHAINED.search(log_text, max(0, start - 200), start):
            start = log_text.rfind(_TRACEBACK, 0, start)
        found = _FRAME.findall(log_text, max(start, 0))[-1:]
    return [
        f"network.py line {line}, in {function}" + (f": {code}" if code else "")
        for line, function, code in found
    ]


def failure(ended: Ended, out: Path, log: Path | None = None, *, after: int = 0) -> tuple[str, str]:
    """Return class and text of a failed run; empty strings for a run that ended well.

    Args:
        ended: how the run ended.
        out: its output folder; an outcome.json there is hostile.
        log: what it printed; with it, opaque failures are named and lines of network.py shown.
        after: how many bytes of the log earlier runs had written.
    """
    text = read_end(log, after) if log else ""
    if ended.cause != "exited":
        return ended.cause, by_supervisor(ended)
    if ended.code == 0:
        found = recognise(text)
        return found if found and found[0] == "restarted" else ("", "")
    kind, said = claimed(out) or ended_by(ended.code, text)
    if kind in ("exception", "worker_died"):
        found = recognise(f"{text}\n{said}")
        if found:
            kind, said = found[0], f"{found[1]}\n{said}" if said else found[1]
    if kind == "stalled" and (cause := behind_a_stall(text)):
        kind, said = cause.kind, f"{cause.text}\n{said}"
    lines = [line for line in network_line(text) if line not in said]
    return kind, "\n".join([said[: TEXT_CHARACTERS - 300], *(line[:298] for line in lines)])


def by_supervisor(ended: Ended) -> str:
    """Return the text of a run that passed a limit or was told to stop."""
    text = f"ended by the supervisor after {ended.seconds:.0f} s"
    if ended.cause == "out_of_memory":
        text += f", at {ended.peak_memory_mib:.0f} MiB"
    return text


def claimed(out: Path) -> tuple[str, str] | None:
    """Return what a run says about its failure, parsed as hostile; None where it says nothing."""
    if not os.path.lexists(out / "outcome.json"):
        return None
    try:
        said = collect_json(out, "outcome.json", max_bytes=OUTCOME_BYTES)
    except CollectError as error:
        return "exception", f"the run failed, and its reason cannot be read: {error}"
    kind, text = str(said.get("failure")), clean_text(str(said.get("text", "")))
    if kind not in CLAIMED:
        return "exception", f"{clean_text(kind)[:40]}: {text}"
    return kind, text


def ended_by(code: int, log_text: str) -> tuple[str, str]:
    """Return class and text of a run that ended without a word."""
    number = code - 128 if code > 128 else -code
    kind, text = SIGNALS.get(number, ("exception", f"exit status {code}"))
    return kind, "\n".join(part for part in (text, excerpt(log_text)) if part)


def read_end(log: Path, after: int = 0) -> str:
    """Return the end of a log beyond some bytes, cleaned; empty where there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(after, log.stat().st_size - LOG_BYTES))
        return clean_text(file.read(LOG_BYTES).decode(errors="replace"))
