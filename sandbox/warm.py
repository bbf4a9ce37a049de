"""A parent that holds torch and nnU-Net in memory, and forks a child for each run.

One a user and machine, started when a trial needs it, gone when idle. It holds trusted
imports alone: no campaign's data, no key, no network ever. What it forks takes the request,
joins the boundary that bubblewrap built (`sandbox/enter.py`) and forks once more into it;
that process, and it alone, runs what was asked for. `python -I -m sandbox.warm` in a folder
that only its owner may enter.

Covered: a child has the environment, descriptors, limits, privileges and filter of a cold
start. Not covered: see `sandbox/enter.py`.
"""

import array
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from memory.errors import SandboxError
from sandbox import enter, seccomp
from sandbox.boundary import ENVIRONMENT

# Not TMPDIR: a supervisor is started without it, and must find the same place.
RUNTIME = Path("/tmp")
IDLE_S = 900.0
TICK_S = 5.0
ANSWER_S = 30.0
BORN_S = 10.0
BACKLOG = 64
DETACH = "/usr/bin/setsid"
MESSAGE_BYTES = 1 << 20
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_MAX_THREADS": "1"}
PRELOADED = (
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.inference.export_prediction",
    "torch._dynamo",  # imported in the first training
    "torch.utils.flop_counter",
)


class End(NamedTuple):
    """How a child ended: its exit status, negative for a signal, and its CPU seconds."""

    code: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Request:
    """What a child is to run: a Python command line, its variables and its limits."""

    argv: list[str]
    env: dict[str, str]
    limits: dict[str, int]
    has_gpu: bool = False


class Connection:
    """One run's line to its child, seen from the supervisor."""

    def __init__(self, line: socket.socket) -> None:
        """Take a connected socket."""
        self.line = line
        self.rest = b""

    def send(self, request: Request, namespaces: Sequence[int], log: Path) -> int:
        """Have the child join the namespaces and run; return its process number.

        Raises:
            SandboxError: it could not join, or did not answer.
        """
        with log.open("ab") as sink:
            passed = array.array("i", [sink.fileno(), *namespaces])
            content = json.dumps(asdict(request)).encode()
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.tobytes())]
            try:
                self.line.sendmsg([struct.pack("=I", len(content))], control)
                self.line.sendall(content)
            except OSError as error:
                raise SandboxError(f"the warm parent cannot be reached: {error}") from error
        said = self.receive(ANSWER_S)
        if said is None or "pid" not in said:
            raise SandboxError(f"a warm start failed: {(said or {}).get('error', 'no answer')}")
        return int(said["pid"])

    def ended(self, timeout_s: float) -> End | None:
        """Wait for the child's end; a line that breaks means that it was killed."""
        said = self.receive(timeout_s)
        if said is None:
            return None
        return End(int(said.get("code", -signal.SIGKILL)), float(said.get("cpu_seconds", 0.0)))

    def receive(self, timeout_s: float) -> dict[str, float | str] | None:
        """Return the next message; an empty one when the line broke, None when none came."""
        while b"\n" not in self.rest:
            if not select.select([self.line], [], [], timeout_s)[0]:
                return None
            try:
                read = self.line.recv(4096)
            except OSError:
                read = b""
            if not read:
                return {}
            self.rest += read
        line, _, self.rest = self.rest.partition(b"\n")
        said: dict[str, float | str] = json.loads(line)
        return said

    def close(self) -> None:
        """Hang up."""
        self.line.close()


def home() -> Path:
    """Return this user's folder for the socket; made if it is missing.

    Raises:
        SandboxError: somebody else owns it or may enter it.
    """
    folder = RUNTIME / f"segwright-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise SandboxError(f"{folder} must be a folder of yours with mode 700; remove it")
    return folder


def address() -> Path:
    """Return the socket of the warm parent of this installation, whether it is there or not."""
    parts = [sys.prefix, sys.version]
    for module in (__file__, enter.__file__, seccomp.__file__):
        parts.append(Path(module).read_text())
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return home() / f"warm-{name}"


def offered(start: str) -> Path | None:
    """Return the socket for a job that asks for a warm start; None where a cold one is left."""
    with contextlib.suppress(SandboxError):
        return address() if start == "warm" else None
    return None


def connect(path: Path) -> Connection | None:
    """Return a line to a new child of the warm parent; None where no parent listens."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(str(path))
    except OSError:
        line.close()
        return None
    return Connection(line)


def ensure() -> Path:
    """Start the warm parent unless it is there; return its socket at once."""
    path = address()
    if is_listening(path) or is_held(path):
        return path
    with path.with_suffix(".log").open("wb") as log:
        subprocess.run(
            [DETACH, "--fork", sys.executable, "-I", "-m", "sandbox.warm"],
            check=True,
            env={**ENVIRONMENT, **ONE_THREAD, "MPLCONFIGDIR": f"{path.parent}/matplotlib"},
            cwd=path.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            close_fds=True,
        )
    return path


def await_ready(path: Path, timeout_s: float = 120.0) -> bool:
    """Wait until the warm parent listens; False when it does not in time, or has ended."""
    start = time.monotonic()
    while not is_listening(path):
        waited = time.monotonic() - start
        if waited > timeout_s or (waited > BORN_S and not is_held(path)):
            return False
        time.sleep(0.05)
    return True


def is_listening(path: Path) -> bool:
    """Return True while a warm parent takes requests."""
    connection = connect(path)
    if connection is None:
        return False
    connection.close()
    return True


def is_held(path: Path) -> bool:
    """Return True while a warm parent lives, be it still at its imports."""
    with path.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def main() -> int:
    """Import, listen, fork; return when nobody asked for long enough."""
    path = address()
    with path.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        preload()
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
            server.listen(BACKLOG)
            serve(server, path)
        path.unlink(missing_ok=True)
    return 0


def preload() -> None:
    """Import what every run needs.

    numexpr, which blosc2 imports, keeps an idle thread and makes it anew in a fork; any other
    thread would be lost there, with the locks that it holds.

    Raises:
        SandboxError: an import started a thread.
    """
    if importlib.util.find_spec("numexpr"):
        importlib.import_module("numexpr")
    before = threads()
    for name in PRELOADED:
        importlib.import_module(name)
    if threads() > before:
        raise SandboxError(f"the imports left {threads()} threads; allowed for a fork: {before}")


def threads() -> int:
    """Return the number of threads of this process."""
    return len(os.listdir("/proc/self/task"))


def serve(server: socket.socket, path: Path) -> None:
    """Fork a child for each connection until idle, or until the socket's file is gone."""
    children: set[int] = set()
    last = time.monotonic()
    while path.exists() and (children or time.monotonic() - last < IDLE_S):
        if select.select([server], [], [], TICK_S)[0]:
            line, _ = server.accept()
            last = time.monotonic()
            if is_ours(line):
                children.add(fork(server, line))
            line.close()
        children = {pid for pid in children if os.waitpid(pid, os.WNOHANG) == (0, 0)}


def is_ours(line: socket.socket) -> bool:
    """Return True when this user is at the other end."""
    content = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", content)[1] == os.getuid())


def fork(server: socket.socket, line: socket.socket) -> int:
    """Fork the process that carries out one connection's request; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        server.close()
        code = carry_out(line)
    finally:
        os._exit(code)


def carry_out(line: socket.socket) -> int:
    """Join a boundary, fork into it, and tell how that process ended."""
    line.settimeout(ANSWER_S)
    received = receive(line)
    if received is None:
        return 0  # somebody only asked whether we listen
    request, (log, *namespaces) = received
    try:
        enter.join(namespaces)
        child = os.fork()
    except OSError as error:
        tell(line, {"error": str(error)})
        return 1
    if not child:
        inside(request, log)
    os.close(log)
    tell(line, {"pid": child})
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    tell(line, {"code": code, "cpu_seconds": usage.ru_utime + usage.ru_stime})
    return 0


def receive(line: socket.socket) -> tuple[Request, list[int]] | None:
    """Read a request and its descriptors: the log, then the namespaces."""
    size, control, _, _ = line.recvmsg(4, socket.CMSG_SPACE(16 * array.array("i").itemsize))
    if len(size) < 4:
        return None
    passed = array.array("i")
    for _, kind, content in control:
        if kind == socket.SCM_RIGHTS:
            passed.frombytes(content[: len(content) - len(content) % passed.itemsize])
    (length,) = struct.unpack("=I", size)
    content = b""
    while len(content) < min(length, MESSAGE_BYTES):
        read = line.recv(65536)
        if not read:
            return None
        content += read
    return Request(**json.loads(content)), list(passed)


def tell(line: socket.socket, message: dict[str, float | str]) -> None:
    """Send one message; a supervisor that is gone needs none."""
    with contextlib.suppress(OSError):
        line.sendall(json.dumps(message).encode() + b"\n")


def inside(request: Request, log: int) -> None:
    """Become what was asked for: confined, with three descriptors; never returns."""
    code = 1
    try:
        settle(log)
        os.environ.clear()
        os.environ.update(request.env)
        enter.confine(request.limits, seccomp.program(has_gpu=request.has_gpu))
        code = execute(request.argv)
    except BaseException:  # noqa: BLE001 -- nothing may return into the parent's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def settle(log: int) -> None:
    """Take a session, a folder and descriptors of one's own; all others are closed."""
    os.setsid()
    os.chdir("/tmp")
    os.umask(0o022)
    os.dup2(log, 1)
    os.dup2(log, 2)
    empty = os.open("/dev/null", os.O_RDONLY)
    os.dup2(empty, 0)
    os.closerange(3, 1 << 16)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def execute(argv: Sequence[str]) -> int:
    """Run a Python command line in this process: `PYTHON -I PATH ...` or `PYTHON -I -c CODE`."""
    _, _, what, *rest = argv
    try:
        if what == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = [what, *rest]
            runpy.run_path(what, run_name="__main__")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
