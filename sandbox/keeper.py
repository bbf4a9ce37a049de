"""A trusted process that keeps one run: it adopts every process of it, and leaves none behind.

For boundaries other than bubblewrap, which has namespaces to end a run by. The supervisor starts
`python -I -m MODULE`, which calls `keep`; orders come on its standard input as one line of JSON,
what became of the run goes back on its standard output, and what the run prints goes to its
standard error. The end of its input means that the supervisor is dead, and ends the run. This
module itself, as MODULE, runs a command as it is.

Covered: children, grandchildren and those that left their session or ignore signals, for
orphans fall to the keeper (PR_SET_CHILD_SUBREAPER); the run's own scratch folder is removed.
Not covered: a run that may signal the keeper, as without any boundary.
"""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from memory.errors import SandboxError
from sandbox import places
from sandbox.boundary import ENVIRONMENT, Mount, Run
from sandbox.processes import adopt_orphans, descendants, is_alive, stat_fields, tail
from sandbox.usage import remove

GONE_S = 10.0
SETTLE_S = 0.002
SAY_S = 30.0
STARTED_AT = 19
TEMPORARY = "/tmp"
HERE = "sandbox.keeper"

FIRST = """
import ctypes, json, os, resource, struct, sys
order = json.loads(sys.argv[1])
log = os.open(order["log"], os.O_WRONLY) if order["log"] else 1
empty = os.open("/dev/null", os.O_RDONLY)
for number, target in ((empty, 0), (log, 1), (log, 2)):
    os.dup2(number, target)
os.closerange(3, 1 << 12)
for name, value in order["limits"].items():
    number = getattr(resource, "RLIMIT_" + name.upper())
    hard = resource.getrlimit(number)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(number, (value, value))
libc = ctypes.CDLL(None, use_errno=True)
for text in order["filters"]:
    program = bytes.fromhex(text)
    kept = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept))
    if libc.prctl(22, 2, header, 0, 0):
        sys.exit(f"the filter of system calls was refused: error {ctypes.get_errno()}")
os.execve(order["argv"][0], order["argv"], order["env"])
"""
"""What runs first inside: a few trusted lines that set what only the run itself can set."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a keeper is to run: everything at its real path; `scratch` is the run's own folder.

    `last` are commands that follow the end of the run, in any case; what they say is kept. Where
    `log_bytes` is set, the keeper writes the log itself, and no more than that.
    """

    argv: list[str]
    env: dict[str, str]
    scratch: str
    limits: dict[str, int] = field(default_factory=dict)
    processes: int = 0
    readable: list[str] = field(default_factory=list)
    writable: list[str] = field(default_factory=list)
    gpu: int | None = None
    last: list[list[str]] = field(default_factory=list)
    log_bytes: int = 0


def process_limits(run: Run) -> dict[str, int]:
    """Return the limits that each process carries, by the name that prlimit gives them.

    The count of processes is none of them: without a user namespace it is the whole account's.
    """
    chosen = {"core": 0, "nofile": run.limits.open_files, "fsize": run.limits.file_mib << 20}
    return chosen | ({"cpu": max(1, round(run.limits.cpu_s))} if run.limits.cpu_s else {})


def orders(run: Run, scratch: Path) -> Orders:
    """Return the orders for a run that sees real paths, with `scratch` in place of /tmp."""
    temporary = [Mount(scratch / "tmp", TEMPORARY, True)]
    names, values = list(ENVIRONMENT), list(ENVIRONMENT.values())
    env = dict(zip(names, places.translated(values, temporary), strict=True))
    env |= dict(zip(run.env, places.translated(list(run.env.values()), run.mounts), strict=True))
    env |= places.environment([*run.mounts, *parents(run, scratch), *temporary])
    if run.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = run.gpu.uuid
    return Orders(
        argv=places.translated(run.argv, run.mounts),
        env=env,
        limits=process_limits(run),
        processes=run.limits.processes,
        readable=[
            str(scratch / "parents"),
            *(str(m.source.resolve()) for m in run.mounts if not m.is_writable),
        ],
        writable=[str(m.source.resolve()) for m in run.mounts if m.is_writable],
        scratch=str(scratch),
        gpu=run.gpu.minor if run.gpu is not None else None,
    )


def parents(run: Run, scratch: Path) -> list[Mount]:
    """Return mounts for the folders in which targets lie, such as /data of /data/NAME.

    Each is a folder in which a link leads to what the target is.
    """
    found: dict[str, Mount] = {}
    for source, target, _ in run.mounts:
        above = str(Path(target).parent)
        if above != "/":
            folder = scratch / "parents" / above.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / Path(target).name).symlink_to(source.resolve())
            found[above] = Mount(folder, above)
    return list(found.values())


def first(
    argv: Sequence[str],
    env: Mapping[str, str],
    limits: Mapping[str, int],
    *,
    filters: Sequence[bytes],
    log: str = "",
) -> list[str]:
    """Return the command line that sets limits and filters, and then becomes `argv`.

    `log` is a path to open and print to; none leaves the standard output as it is.
    """
    order = {"argv": list(argv), "env": dict(env), "limits": dict(limits), "log": log}
    order["filters"] = [program.hex() for program in filters]
    return [sys.executable, "-I", "-S", "-c", FIRST, json.dumps(order)]


def make_scratch() -> Path:
    """Return a new folder of a run's own, with `tmp`, `shm` and `parents` in it."""
    folder = Path(tempfile.mkdtemp(prefix="segwright-run-")).resolve()
    for name in ("tmp", "shm", "parents"):
        (folder / name).mkdir(mode=0o700)
    return folder


def sweep(roots: Callable[[], Sequence[int]]) -> None:
    """Stop, then kill, all processes that `roots` returns, until it returns none that lives.

    Raises:
        SandboxError: one is still alive after ten seconds.
    """
    deadline = time.monotonic() + GONE_S
    while left := [pid for pid in roots() if is_alive(pid)]:
        if time.monotonic() > deadline:
            raise SandboxError(f"process {left[0]} of a run still lives after SIGKILL")
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(SETTLE_S)


class Kept:
    """A run below a keeper, seen from the supervisor."""

    start = "cold"

    def __init__(self, run: Run, scratch: Path, given: Orders, module: str = HERE) -> None:
        """Start `module` as a keeper, give it its orders and take over the scratch folder."""
        self.cpu_seconds, self.log, self.told = 0.0, run.log, b""
        self.code: int | None = None
        self.seen: dict[int, str] = {}
        self.scratch = scratch
        with run.log.open("ab") as sink:  # the run holds it as well, and can only append
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", module],
                env=dict(ENVIRONMENT),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                close_fds=True,
                start_new_session=True,
            )
        self.watched = os.pidfd_open(self.process.pid)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            line = json.dumps(asdict(given)).encode() + b"\n"
            self.process.stdin.write(line)
            self.process.stdin.flush()

    @property
    def folders(self) -> list[Path]:
        """The folders that the run may fill besides its writable mounts."""
        return [self.scratch]

    def poll(self, timeout_s: float) -> int | None:
        """Wait up to `timeout_s` for the end; return the exit status, negative for a signal."""
        if self.code is None and select.select([self.watched], [], [], timeout_s)[0]:
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_seconds = usage.ru_utime + usage.ru_stime
            assert self.process.stdout is not None
            self.told = self.process.stdout.read()
            self.close()
            self.code = self.outcome().get("code", self.process.returncode)
        return self.code

    def close(self) -> None:
        """Close what led to the keeper."""
        os.close(self.watched)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def outcome(self) -> dict[str, Any]:
        """Return what the keeper told; nothing when it was killed."""
        found: dict[str, Any] = json.loads(self.told) if self.told else {}
        return found

    def pids(self) -> list[int]:
        """Return the keeper and all processes below it."""
        if self.code is not None:
            return []
        found = descendants(self.process.pid)
        for pid in found[1:]:
            with contextlib.suppress(OSError, IndexError):
                self.seen.setdefault(pid, stat_fields(pid)[STARTED_AT])
        return found

    def left(self) -> list[int]:
        """Return the processes of the run: below the keeper, or below one that was seen there."""
        found = self.pids()[1:]
        for pid, started in list(self.seen.items()):
            with contextlib.suppress(OSError, IndexError):
                if stat_fields(pid)[STARTED_AT] == started:
                    found += descendants(pid)
        return found

    def end(self) -> None:
        """Kill the run and its keeper, and remove the scratch folder."""
        sweep(self.left)
        # Once its run is gone it ends by itself, and tells how; only then by force.
        if self.poll(GONE_S) is None:
            self.process.kill()
            self.poll(GONE_S)
        sweep(self.left)
        remove(self.scratch)

    def fault(self) -> str:
        """Return why the command never ran; a run that was killed did run."""
        if self.code is None or "code" in self.outcome() or self.process.returncode < 0:
            return ""
        why = self.outcome().get("error") or tail(self.log, 500)
        return f"the sandbox could not be set up: {why}"


def keep(carry_out: Callable[[Orders], int]) -> int:
    """Be a keeper: take orders, carry them out, leave no process behind, tell the exit status.

    `carry_out` starts the run, waits for it and returns its exit status, negative for a signal.
    """
    adopt_orphans()
    given = Orders(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=outlive_nobody, args=(given,), daemon=True).start()
    try:
        told: dict[str, Any] = {"code": carry_out(given)}
    except (SandboxError, OSError) as error:
        told = {"error": str(error)}
    sweep(below)
    reap()
    told["last"] = [say(command, given.env) for command in given.last]
    remove(Path(given.scratch))  # as well as the supervisor, which may be dead by now
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(told).encode())
    return int("error" in told)


def limit(limits: Mapping[str, int]) -> None:
    """Set limits of this process and of all that it starts, as far as its own allow."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def below() -> list[int]:
    """Return every process below this one."""
    return descendants(os.getpid())[1:]


def reap() -> None:
    """Collect the dead, so that the time that they took is told to whoever waits for us."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def say(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Return what a command prints; empty where it fails."""
    try:
        ran = subprocess.run(
            command, env=dict(env), capture_output=True, text=True, timeout=SAY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip()


def outlive_nobody(given: Orders) -> None:
    """Wait until the supervisor is dead; then end the run, and this process."""
    while os.read(0, 4096):
        pass
    sweep(below)
    for command in given.last:
        say(command, given.env)
    remove(Path(given.scratch))
    os._exit(1)


def carry_out(given: Orders) -> int:
    """Run a command as this user, within its limits, and wait for it."""
    limit(given.limits)
    child = subprocess.Popen(
        given.argv,
        env=given.env,
        cwd=f"{given.scratch}/tmp",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if given.log_bytes else sys.stderr,
        stderr=subprocess.STDOUT,
        close_fds=True,
        start_new_session=True,
    )
    if child.stdout is not None:
        copy_log(child.stdout.fileno(), given.log_bytes)
    return child.wait()


def copy_log(source: int, most: int) -> None:
    """Copy what comes to the log; what is more than `most` bytes is dropped."""
    while content := os.read(source, 1 << 16):
        kept = content[:most]
        most -= len(kept)
        while kept:
            kept = kept[os.write(sys.stderr.fileno(), kept) :]


if __name__ == "__main__":
    sys.exit(keep(carry_out))
