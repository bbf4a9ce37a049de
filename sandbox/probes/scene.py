"""What is planted on this machine around one attack, and how its success is seen from outside.

Covered: every attack is looked at for secrets that came out, listeners that heard something,
changed or new files, and processes that are left, whatever it was made for. Harmless by
construction: secrets are random words in temporary folders, addresses are this machine's own,
every bomb has an end, and what an attack leaves is removed.
"""

import contextlib
import json
import os
import secrets
import select
import signal
import site
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from sandbox.boundary import Isolation, Limits, Mount
from sandbox.usage import remove
from sandbox.watch import Ended

ESCAPED = "ESCAPED: "
OVER = "the attack is over"
SECRET = "segwright-secret-"
MARK = "segwright-mark-"
LOOKED_AT = 1 << 16
DEEPEST = 100
WHERE_LEFT = ("/", "/dev", "/dev/shm", "/etc", "/tmp", "/usr/bin", "/usr/lib", "/var/tmp")
QUICK = Limits(wall_s=20.0, memory_mib=4096, disk_mib=256, log_mib=4, shm_mib=64, tmp_mib=64)

PRELUDE = """
import ctypes, errno, json, os, signal, socket, stat, struct, sys, time
F = json.loads(sys.argv[1])
LIBC = ctypes.CDLL(None, use_errno=True)

def place(target):
    for name, real in json.loads(os.environ.get("SEGWRIGHT_PLACES", "{}")).items():
        if target == name or target.startswith(name + "/"):
            return real + target[len(name):]
    return target

def escaped(what):
    print("ESCAPED: " + str(what), flush=True)

def attempt(what, *args):
    try:
        return what(*args)
    except (OSError, ValueError):
        return None

def show(path):
    content = attempt(lambda: open(path, "rb").read(1 << 16))
    if content:
        print(content.decode(errors="replace"), flush=True)

def call(number, *args):
    ctypes.set_errno(0)
    kept = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return LIBC.syscall(ctypes.c_long(number), *kept), ctypes.get_errno()
"""
"""What each attack's program begins with; F holds what an attacker may know or guess."""

EPILOGUE = f"\nprint({OVER!r}, flush=True)\n"


class UnsuitableError(Exception):
    """This machine cannot show the threat; the text says why."""


@dataclass(slots=True)
class Scene:
    """A folder of a campaign's shape, in which a trial is given data, code and out.

    `labels` (never mounted), `home` and `others` hold the secret; `facts` is what the attack is
    told, which is never the secret itself. `heard`, `looks` and `ears` are who watches: each names
    what felt the attack.
    """

    root: Path
    isolation: Isolation
    warm: Path | None = None
    secret: str = field(default_factory=lambda: SECRET + secrets.token_hex(8))
    mark: str = field(default_factory=lambda: MARK + secrets.token_hex(6))
    facts: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    looks: list[Callable[[], str]] = field(default_factory=list)
    ears: list[tuple[str, socket.socket]] = field(default_factory=list)
    watched: list[Path] = field(default_factory=list)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def out(self) -> Path:
        """The folder that the trial may write."""
        return self.root / "out"

    @property
    def log(self) -> Path:
        """What the trial printed."""
        return self.root / "log.txt"

    @property
    def mounts(self) -> list[Mount]:
        """What a trial is given."""
        return [
            Mount(self.root / "data", "/data"),
            Mount(self.root / "code", "/code"),
            Mount(self.out, "/out", True),
        ]

    def listen(self, name: str, ear: socket.socket) -> socket.socket:
        """Watch a bound socket: a connection or a datagram is an escape."""
        self.stack.enter_context(ear)
        if ear.type == socket.SOCK_STREAM:
            ear.listen(8)
        self.ears.append((name, ear))
        return ear

    def argv(self, code: str) -> list[str]:
        """Return the command line of an attack."""
        program = PRELUDE + code + EPILOGUE
        return [sys.executable, "-I", "-c", program, json.dumps(self.facts)]


@contextlib.contextmanager
def scene(isolation: Isolation, warm: Path | None = None) -> Iterator[Scene]:
    """Build a scene for one attack and remove it, with all that the attack left behind."""
    folder = tempfile.mkdtemp(prefix="segwright-escape-")
    built = Scene(Path(folder), isolation, warm)
    try:
        furnish(built)
        with built.stack:
            yield built
    finally:
        for pid in left_alive(built):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for path in left_behind(built):
            path.unlink(missing_ok=True)
        remove(Path(folder))


def furnish(built: Scene) -> None:
    """Write the folders of a campaign, and a secret into each that no trial may read."""
    for name in ("data", "code", "out", "labels", "home/.ssh", "others/trial-1"):
        (built.root / name).mkdir(parents=True)
    (built.root / "data/case_1.npy").write_bytes(b"image" * 100)
    (built.root / "code/network.py").write_text("NETWORK = 1\n")
    for name in ("labels/case_1.npy", "home/.ssh/id_ed25519", "others/trial-1/result.json"):
        (built.root / name).write_text(built.secret)
    (built.root / "campaign.db").write_text(built.secret)
    built.log.touch()
    built.facts |= {"root": str(built.root), "mark": built.mark, "runner": os.getpid()}
    built.facts |= {"labels": str(built.root / "labels/case_1.npy")}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attack that was made: its scene, how it ended, and what was there before.

    `log_mode` is what it made of its log's mode before that was set right again.
    """

    scene: Scene
    ended: Ended
    before: Mapping[str, str]
    limits: Limits
    log_mode: int

    @property
    def said(self) -> str:
        """What it printed, of a long text the beginning."""
        with self.scene.log.open("rb") as file:
            return file.read(1 << 20).decode(errors="replace")


Judge = Callable[[Attempt], str]
"""Tells from outside how an attack got through; empty when it did not."""

Plant = Callable[[Scene], None]


def nothing(_: Scene) -> None:
    """Plant nothing more than every scene has."""


def only_what_all_show(_: Attempt) -> str:
    """Judge by what `seen` looks at for every attack."""
    return ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One attack: the program that runs inside, and how it is judged from outside.

    `ends` are the causes with which it may end; `is_whole` says that an attack which ended by
    itself has then printed its last line. `gets_out_uncontained`: with no boundary at all it
    succeeds for any user, and does no harm. `levels` are those of the boundaries that it fits.
    """

    name: str
    threat: str
    code: str
    judge: Judge = only_what_all_show
    plant: Plant = nothing
    limits: Limits = QUICK
    ends: frozenset[str] = frozenset({"exited"})
    is_whole: bool = True
    gets_out_uncontained: bool = False
    levels: str = "ABCD"


def fingerprint(built: Scene) -> dict[str, str]:
    """Return what every file outside of `out` is: mode, links, time and content, by path."""
    found = {}
    for base, folders, files in os.walk(built.root):
        if base == str(built.root):
            folders.remove("out")
        for name in [*folders, *files]:
            path = Path(base, name)
            if path != built.log:
                found[str(path.relative_to(built.root))] = described(path)
    return found


def described(path: Path) -> str:
    """Return what a change of a file would change."""
    status = path.lstat()
    content = sha256(path.read_bytes()).hexdigest()[:12] if stat.S_ISREG(status.st_mode) else ""
    attributes: list[str] = []
    with contextlib.suppress(OSError):
        attributes = os.listxattr(path, follow_symlinks=False)
    return f"{status.st_mode:o} {status.st_nlink} {status.st_mtime_ns} {content} {attributes}"


def seen(attempt: Attempt) -> str:
    """Return what an attack shows outside that it may not; empty for nothing."""
    looks = (told, came_out, listeners, changed, alive, behind, overran)
    return next((text for look in looks if (text := look(attempt))), "")


def told(attempt: Attempt) -> str:
    """Return what the attack itself says it reached."""
    lines = [line for line in attempt.said.splitlines() if line.startswith(ESCAPED)]
    return lines[0].removeprefix(ESCAPED)[:200] if lines else ""


def came_out(attempt: Attempt) -> str:
    """Look for the secret in what was printed and in what was written."""
    wanted = attempt.scene.secret.encode()
    if wanted in attempt.scene.log.read_bytes()[: 1 << 24]:
        return "a secret was printed"
    for path in files_of(attempt.scene.out):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if wanted in file.read(LOOKED_AT):
                return f"a secret is in {path.name}"
    return ""


def files_of(folder: Path, limit: int = 1000) -> list[Path]:
    """Return the regular files below a folder, at most `limit`."""
    found: list[Path] = []
    for base, _, names in os.walk(folder):
        for name in names[:limit]:
            path = Path(base, name)
            if stat.S_ISREG(path.lstat().st_mode):
                found.append(path)
        if len(found) >= limit or base.count("/") > DEEPEST:
            break
    return found


def listeners(attempt: Attempt) -> str:
    """Ask everybody who listened."""
    for name, ear in attempt.scene.ears:
        if select.select([ear], [], [], 0)[0]:
            return f"{name} felt the attack"
    heard = [*attempt.scene.heard, *(look() for look in attempt.scene.looks)]
    return next((f"{name} felt the attack" for name in heard if name), "")


def changed(attempt: Attempt) -> str:
    """Compare every file outside of `out` with what it was."""
    after = fingerprint(attempt.scene)
    differ = {p for p in {*after, *attempt.before} if after.get(p) != attempt.before.get(p)}
    return f"{min(differ)} was changed" if differ else ""


def alive(attempt: Attempt) -> str:
    """Look for processes of the attack that still run."""
    pids = left_alive(attempt.scene)
    return f"{len(pids)} processes are left" if pids else ""


def left_alive(built: Scene) -> list[int]:
    """Return the processes that carry the scene's mark or hold one of its files."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and is_of(entry, built):
            found.append(int(entry.name))
    return found


def is_of(process: Path, built: Scene) -> bool:
    """Return True when a process has the mark in its command line or a file of the scene open."""
    try:
        if built.mark.encode() in (process / "cmdline").read_bytes():
            return True
        held = [os.readlink(path) for path in (process / "fd").iterdir()]
    except OSError:
        return False
    return any(name.startswith(str(built.root)) for name in held)


def behind(attempt: Attempt) -> str:
    """Look for files with the mark where an attack would leave them."""
    found = left_behind(attempt.scene)
    return f"{found[0]} was left" if found else ""


def left_behind(built: Scene) -> list[Path]:
    """Return the files with the mark in the folders that a user or Python itself would read."""
    folders = [Path(tempfile.gettempdir()), *map(Path, WHERE_LEFT), Path.home()]
    folders += [*map(Path, site.getsitepackages()), *built.watched]
    return [path for folder in folders for path in folder.glob(f"*{built.mark}*")]


def overran(attempt: Attempt) -> str:
    """Tell a run that went on long after its deadline."""
    late = attempt.ended.seconds - attempt.limits.wall_s
    return f"it went on {late:.0f} s past its deadline" if late > 10 else ""
