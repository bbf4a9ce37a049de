"""What a network's code may reach while it runs beside ours in one process.

An audit hook sees what Python itself is about to open, start or look into. From the moment the
network's file is loaded, `/data` and `/out` are open only in windows that our own code holds,
and in none of them while a function of the network is on the stack. What is refused ends the
process at once, so that the network cannot catch it.

Covered: opening, listing, making, removing and renaming files outside the contract; processes,
sockets, threads and signals; ctypes; frames, closures and objects of others through
`sys._getframe`, tracebacks, `gc`, trace functions; code objects, `exec`; further audit hooks;
`torch.from_file`.
Not covered: files that native code opens by itself (other than those named above), native code
that reads or writes this process's memory, and code of the network that runs under a name of
the standard library. None of it leaves the boundary around the process: labels of held-out
cases, the scorer, and the network are never inside of it.
"""

import faulthandler
import functools
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import torch
from places import VARIABLE, place

ENDED = 3
TEXT_CHARS = 2000

READABLE = ("/usr", "/lib", "/lib64", "/bin", "/sys", "/code")
READABLE_FILES = (
    *("/etc/ld.so.cache", "/etc/localtime", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat"),
    *("/proc/self/status", "/proc/self/maps", "/proc/self/stat", "/proc/self/statm"),
    *("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero"),
)
PROTECTED = ("/data", "/out", "/job.json", "/images", "/weights", "/raw")
READS = {"os.listdir", "os.scandir", "os.chdir", "os.getxattr", "os.listxattr", "os.walk"}
WRITES = {
    *("os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod"),
    *("os.chown", "os.truncate", "os.utime", "os.setxattr", "os.removexattr", "sqlite3.connect"),
}
TWO_PATHS = {"os.rename", "os.link", "os.symlink"}
PROCESSES = {
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork"),
    *("os.forkpty", "pty.spawn", "os.startfile"),
}
NOT_FOR_NETWORKS = {
    *("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames"),
    *("sys._current_exceptions", "sys.settrace", "sys.setprofile", "sys.addaudithook"),
    *("sys.monitoring.register_callback", "code.__new__", "os.kill"),
    *("os.killpg", "signal.pthread_kill", "resource.setrlimit"),
    *("resource.prlimit", "_thread.start_new_thread", "_thread.start_joinable_thread"),
    *("cpython.run_command", "cpython.run_file", "cpython.run_string", "pdb.Pdb"),
}
# Attributes that lead from a value to the frames and variables of other code.
LEADING = {"__closure__", "tb_frame", "gi_frame", "cr_frame", "ag_frame"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
WRITTEN = {"__code__", "__defaults__", "__kwdefaults__", "__bases__"}
# The library's own users of exec and frames, below which a network's code may stand.
ORDINARY = ("dataclasses.py", "typing.py", "enum.py", "warnings.py", "collections/__init__.py")
ORDINARY_PACKAGES = ("logging", "importlib", "site-packages/torch", "site-packages/numpy")
PASSED_ON = ("inspect.py", "traceback.py")
WATCHED = (
    {"open", "import", "exec", "compile", "sys._getframe"}
    | {"object.__getattr__", "object.__setattr__"}
    | READS
    | WRITES
    | PROCESSES
    | NOT_FOR_NETWORKS
)


class Fence(NamedTuple):
    """What our own code holds of a fence; a network never gets it.

    `allow` opens places for the block, by name: data, out, process; with no name it closes all.
    `end` writes /out/outcome.json and ends the process.
    """

    allow: Callable[..., AbstractContextManager[None]]
    end: Callable[[str, str], NoReturn]


def raise_fence() -> Fence:
    """Put up the fence around the code that the caller will run; all is open until it closes.

    Frames from the caller's downwards are trusted. It cannot be taken down.
    """
    opened: dict[int, list[frozenset[str]]] = {}
    busy: set[int] = set()
    ident = threading.get_ident
    end = ending(busy)
    judge = judging(sys._getframe(1), opened)
    # A file of compiled code beside an import would be a write outside of the contract.
    sys.dont_write_bytecode = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "object.__getattr__" and args[1] not in LEADING:
            return
        if event not in WATCHED and not event.startswith(("ctypes.", "socket.")):
            return
        me = ident()
        if me in busy:
            return
        busy.add(me)
        try:
            reason = judge(event, args, me)
            if reason:
                end("file_access", reason)
        finally:
            busy.discard(me)

    @contextmanager
    def allow(*names: str) -> Iterator[None]:
        stack = opened.setdefault(ident(), [])
        stack.append(frozenset(names))
        try:
            yield
        finally:
            stack.pop()

    opened[ident()] = [frozenset({"data", "out", "process", "all"})]
    raise_for_native_files()
    sys.addaudithook(hook)
    return Fence(allow, end)


def ending(busy: set[int]) -> Callable[[str, str], NoReturn]:
    """Return the function that ends the process; it uses nothing that can be replaced later.

    A thread in `busy` is not watched: what ends the process must write in any case.
    """
    path = str(place("/out") / "outcome.json")
    dumps, leave, write, file = json.dumps, os._exit, os.write, open
    ident, stacks = threading.get_ident, faulthandler.dump_traceback

    def end(kind: str, text: str) -> NoReturn:
        busy.add(ident())
        try:
            stacks(file=2)
            write(2, f"{kind}: {text}\n".encode(errors="replace"))
            with file(path, "w") as sink:
                sink.write(dumps({"failure": kind, "text": text[:TEXT_CHARS]}))
        finally:
            leave(ENDED)

    return end


def judging(
    anchor: FrameType, opened: dict[int, list[frozenset[str]]]
) -> Callable[[str, tuple[Any, ...], int], str]:
    """Return a function that says why an event is refused, or nothing."""
    look = stack_reader(anchor)
    path_reason = path_rule()

    def judge(event: str, args: tuple[Any, ...], me: int) -> str:
        foreign, importing = look()
        stack = opened.get(me)
        allowed = stack[-1] if stack and not foreign else frozenset()
        if "all" in allowed:
            return ""
        if event in PROCESSES:
            return "" if "process" in allowed else f"{event} {args[:1]}: no process may be started"
        paths = paths_of(event, args)
        for path, is_write in paths:
            reason = path_reason(path, is_write, allowed)
            if reason:
                return f"{event} {reason}"
        return foreign_reason(event, args) if foreign and not importing else ""

    return judge


def stack_reader(anchor: FrameType) -> Callable[[], tuple[bool, bool]]:
    """Return a function that looks at the stack, as far as the frames that were there before.

    It says whether code that is neither ours nor installed is on it, and whether that code is
    importing an installed module, whose own way of being made is then not the network's.
    """
    # A name in brackets is of code that installed code has made from text; exec and compile
    # are not for a network itself.
    roots = (*trusted_folders(), "<")
    known: dict[str, bool] = {}
    frame_at = sys._getframe
    stops: dict[int, FrameType] = {}
    below: FrameType | None = anchor
    while below is not None:
        stops[id(below)] = below
        below = below.f_back

    def look() -> tuple[bool, bool]:
        frame: FrameType | None = frame_at(3)
        importing = False
        while frame is not None and id(frame) not in stops:
            name = frame.f_code.co_filename
            trusted = known.get(name)
            if trusted is None:
                trusted = known[name] = name.startswith(roots)
            if not trusted:
                return True, importing
            importing = importing or name.startswith("<frozen importlib")
            frame = frame.f_back
        return False, False

    return look


def trusted_folders() -> tuple[str, ...]:
    """Return where installed code and this folder are, each with a separator at its end."""
    own = os.path.dirname(os.path.abspath(__file__))
    folders = {sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix), own}
    return tuple(f"{folder}{os.sep}" for folder in folders)


def path_rule() -> Callable[[Any, bool, frozenset[str]], str]:
    """Return a function that says why a path is refused, given the places that are open."""
    real, number = os.path.realpath, os.getpid
    # A mount may lie deeper than the target that it belongs to, as /data/DATASET does.
    mounted = json.loads(os.environ.get(VARIABLE, "{}"))
    places = {target: real(place(target)) for target in (*mounted, *PROTECTED)}
    places = {target: folder for target, folder in places.items() if root_of(target)}
    readable = [real(place(folder)) for folder in READABLE]
    readable += [real(folder) for folder in trusted_folders()]
    readable += READABLE_FILES
    private = real(tempfile.gettempdir())
    needs = {"/data": "data", "/raw": "data", "/images": "data", "/weights": "data", "/out": "out"}

    def is_below(path: str, folder: str) -> bool:
        return path == folder or path.startswith(f"{folder}{os.sep}")

    def reason(path: Any, is_write: bool, allowed: frozenset[str]) -> str:
        if isinstance(path, int):
            return "" if path >= 0 else f"of descriptor {path}"
        name = os.fsdecode(path)
        full = real(name).replace(f"/proc/{number()}/", "/proc/self/")
        for target, folder in places.items():
            if is_below(full, folder):
                root = root_of(target)
                is_open = needs.get(root) in allowed and not (is_write and root != "/out")
                return "" if is_open else f"{name!r}: {target} is not open to a network"
        if is_below(full, private):
            return ""
        if full.startswith("/dev/shm/") and allowed:
            return ""
        is_readable = any(is_below(full, folder) for folder in readable)
        is_readable = is_readable or full.startswith("/dev/nvidia")
        if is_readable and (not is_write or full.startswith("/dev/")):
            return ""
        return f"{name!r}: outside of what a network may {'write' if is_write else 'read'}"

    return reason


def root_of(target: str) -> str:
    """Return which of the protected targets a mount target is, or lies below."""
    return next((p for p in PROTECTED if target == p or target.startswith(f"{p}/")), "")


def paths_of(event: str, args: tuple[Any, ...]) -> list[tuple[Any, bool]]:
    """Return the paths of an event, each with whether it is to be written."""
    if event == "open":
        path, mode, flags = args
        is_write = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & WRITING)
        return [(path, is_write)]
    if event == "import":
        return [(args[1], False)] if args[1] else []
    if event in WRITES:
        return [(path, True) for path in args[: 2 if event in TWO_PATHS else 1]]
    if event in READS:
        return [("." if args[0] is None else args[0], False)]
    return []


def foreign_reason(event: str, args: tuple[Any, ...]) -> str:
    """Return why an event is refused while a network's function is on the stack."""
    if event in NOT_FOR_NETWORKS or event.startswith(("ctypes.", "socket.")):
        return f"{event}: not for a network's code"
    leads = event == "object.__getattr__" and args[1] in LEADING
    writes = event == "object.__setattr__" and args[1] in WRITTEN
    if leads or writes or event in ("exec", "compile", "sys._getframe"):
        what = f"{event} {args[1]}" if leads or writes else event
        caller = sys._getframe(3)
        text = f"{what} in {caller.f_code.co_filename}: not for a network's code"
        return "" if is_ordinary(caller) else text
    return ""


def is_ordinary(frame: FrameType | None) -> bool:
    """Return True below the library files that use frames and exec for what a network may ask."""
    while frame is not None and frame.f_code.co_filename.endswith(PASSED_ON):
        frame = frame.f_back
    name = frame.f_code.co_filename if frame else ""
    if name.startswith("<frozen "):
        return True
    is_installed = name.startswith(trusted_folders()) or name.startswith(sys.base_prefix)
    is_package = any(f"/{package}/" in name for package in ORDINARY_PACKAGES)
    return is_installed and (is_package or name.endswith(ORDINARY))


def raise_for_native_files() -> None:
    """Let functions that open files natively raise the event that Python's own would."""

    def told(native: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(native)
        def from_file(filename: Any, *args: Any, **kwargs: Any) -> Any:
            sys.audit("open", filename, "r+", 0)
            return native(filename, *args, **kwargs)

        return from_file

    torch.from_file = told(torch.from_file)
