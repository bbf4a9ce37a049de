"""The user's own coding agent in the coder's role: a command that reads a brief and leaves a file.

It runs inside the campaign's boundary, in a working folder that holds BRIEF.md, the parent's
network.py where there is one, and copies of further files; network.py is taken back as hostile.
Inside it sees besides that folder the operating system, this Python and the folders that the
user lists, read-only; no home, no key, no other trial.

Network: none. With a relay (`sandbox/relay.py`) the boundary still has none, but its own loopback
leads to one endpoint, and the key stays outside. This needs a network namespace of the run's own:
levels A and C. At level B nothing may listen or connect, and at level D everybody on the machine
could use the way to the endpoint; both refuse a relay.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from memory.errors import ConfigError, PlannerError, SandboxError
from sandbox.boundary import Isolation, Limits, Mount
from sandbox.bubblewrap import SYSTEM_LINKS
from sandbox.clean import clean_text
from sandbox.collect import collect_text
from sandbox.engine import CHILD
from sandbox.relay import SOCKET, Relay
from sandbox.static_check import SOURCE_BYTES
from sandbox.usage import remove
from sandbox.watch import Ended, contain

BRIEF = "BRIEF.md"
NETWORK = "network.py"
LOG = "agent.log"
WORK, STARTER, WAY = "/out", "/child/forward.py", "/relay"
PORT = 8317
NO_RELAY = "-"
RELAYED_LEVELS = ("A", "C")
SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
OWN_TARGETS = ("/tmp", WORK, str(Path(STARTER).parent), WAY)
KERNEL = ("/proc", "/dev", "/sys", "/run", "/var/run")
NOT_FOUND = (126, 127)
LOG_BYTES, LOG_LINES, LINE_CHARACTERS = 1 << 16, 20, 200
ENDED = {
    "timed_out": "used up its time",
    "out_of_memory": "used too much memory",
    "out_of_disk": "wrote too much",
    "out_of_processes": "started too many processes",
    "stopped": "was stopped",
}

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def write_network(
    command: Sequence[str],
    brief: str,
    *,
    folder: Path,
    isolation: Isolation,
    limits: Limits,
    mounts: Sequence[Path] = (),
    relay: Relay | None = None,
    files: Mapping[str, str] | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> str:
    """Run the user's command on a brief; return the text of the network.py that it left.

    Args:
        command: the words of the command; a program without a slash is looked for in `bin` of
            each mount, in the mounts themselves, then in the system's folders.
        brief: what BRIEF.md says.
        folder: of the attempt; holds the working folder, which is removed, and `agent.log`.
        isolation: the campaign's boundary.
        limits: what the command may use.
        mounts: what it sees of this machine besides the system, read-only, at its own path.
        relay: one that is entered; the command finds it by OPENAI_BASE_URL.
        files: name to text, further files of the working folder; network.py is the parent's.
        is_stopped: asked now and then; True ends the command.

    Raises:
        ConfigError: the command or a mount is not possible.
        SandboxError: the boundary could not be set up, it cannot hold a relay, or a program of
            the command is not found inside.
        PlannerError: the command failed, or left no new network.py; its last lines are given.
        CollectError: what it left is no plain text file of at most 256 KiB.
    """
    given = dict(files or {})
    check_command(command, mounts, folder=folder)
    if relay is not None and isolation.level not in RELAYED_LEVELS:
        raise SandboxError(no_way(isolation))
    work, log = folder / "work", folder / LOG
    try:
        lay_out(work, {BRIEF: brief, **given})
        log.write_bytes(b"")
        ended = contain(
            isolation,
            argv=starter(command, has_relay=relay is not None),
            mounts=all_mounts(work, mounts, relay),
            env=environment(mounts, has_relay=relay is not None),
            limits=limits,
            log=log,
            is_stopped=is_stopped,
        )
        check_end(ended, command[0], log)
        return network_of(work, command[0], log, parent=given.get(NETWORK))
    finally:
        remove(work)


def no_way(isolation: Isolation) -> str:
    """Return why a boundary cannot hold a relay, and what to do."""
    return (
        f"a coding agent has no way to its endpoint in {isolation}: that needs a network of the "
        "run's own, as level A (bubblewrap) has; run the agent without an endpoint, or on a "
        "machine with bubblewrap"
    )


def lay_out(work: Path, files: Mapping[str, str]) -> None:
    """Make the working folder; copies in it may be changed, and are not taken back."""
    remove(work)
    work.mkdir(parents=True)
    for name, text in files.items():
        assert _FILE_NAME.fullmatch(name), name
        (work / name).write_text(text, encoding="utf-8")


def starter(command: Sequence[str], *, has_relay: bool) -> list[str]:
    """Return the command line that starts the agent in its folder."""
    way = f"{WAY}/{SOCKET}" if has_relay else NO_RELAY
    return [sys.executable, "-I", STARTER, WORK, way, str(PORT), *command]


def all_mounts(work: Path, mounts: Sequence[Path], relay: Relay | None) -> list[Mount]:
    """Return what the boundary shows besides the system."""
    own = [Mount(CHILD / Path(STARTER).name, STARTER), Mount(work, WORK, is_writable=True)]
    theirs = [Mount(path, str(path)) for path in mounts]
    return [*theirs, *own, *([Mount(relay.folder, WAY)] if relay is not None else [])]


def search_path(mounts: Sequence[Path]) -> str:
    """Return the variable PATH inside."""
    theirs = [folder for path in mounts for folder in (path / "bin", path) if folder.is_dir()]
    return ":".join([*(str(folder) for folder in theirs), *SYSTEM_PATH])


def environment(mounts: Sequence[Path], *, has_relay: bool) -> dict[str, str]:
    """Return the agent's variables besides those of every run; none of them is a secret."""
    found = {"PATH": search_path(mounts)}
    if has_relay:
        base = f"http://127.0.0.1:{PORT}"
        found |= {"OPENAI_BASE_URL": f"{base}/v1", "OPENAI_API_KEY": "none"}
        found |= {"ANTHROPIC_BASE_URL": base, "ANTHROPIC_API_KEY": "none"}
    return found


def check_command(command: Sequence[str], mounts: Sequence[Path], *, folder: Path) -> None:
    """Check that a command can be found inside, before anything is started.

    Raises:
        ConfigError: there is no command, a mount is refused, or the program is not inside.
    """
    if not command or not command[0] or any("\0" in word for word in command):
        raise ConfigError(f"{list(command)!r} is no command of a coding agent; give its words")
    for path in mounts:
        check_mount(path, folder=folder)
    if "/" in command[0] and not command[0].startswith("/"):
        raise ConfigError(f"{command[0]!r} is relative; give the coding agent's whole path")
    found = shutil.which(command[0], path=search_path(mounts))
    if found is None:
        raise ConfigError(
            f"the coding agent's program {command[0]!r} is no program in {search_path(mounts)}; "
            "list the folder that holds it under mounts"
        )
    for place in (Path(found), Path(found).resolve()):
        if not any(place.is_relative_to(root) for root in roots(mounts)):
            raise ConfigError(
                f"the coding agent's program {command[0]!r} lies at {place}, which is not inside "
                "the sandbox; list a folder that holds it under mounts"
            )


def check_mount(path: Path, *, folder: Path) -> None:
    """Refuse what may not be shown inside.

    Raises:
        ConfigError: it is not there, holds the home or the campaign, or hides what is inside.
    """
    fault = ""
    real = path.resolve()
    if not path.is_absolute() or ".." in path.parts or not path.exists():
        fault = "is no absolute path of a file or folder that exists"
    elif any(inner.resolve().is_relative_to(real) for inner in (Path.home(), folder)):
        fault = "holds your home or the campaign"
    elif any(p.is_relative_to(kernel) for p in (path, real) for kernel in KERNEL):
        fault = "belongs to the kernel and to services of this machine"
    elif str(path) in OWN_TARGETS:
        fault = "is a folder of the sandbox's own"
    if fault:
        raise ConfigError(
            f"mount {str(path)!r} {fault}; allowed are the folders of the coding agent's program"
        )


def roots(mounts: Sequence[Path]) -> list[Path]:
    """Return all folders of this machine that are seen inside, also by their real paths."""
    system = ["/usr", *(f"/{name}" for name in SYSTEM_LINKS), sys.prefix, sys.base_prefix]
    named = [*mounts, *(Path(name) for name in system)]
    return [*named, *(path.resolve() for path in named)]


def check_end(ended: Ended, program: str, log: Path) -> None:
    """Check that the agent came to its end, and well.

    Raises:
        SandboxError: a program was not found inside.
        PlannerError: it failed, or was ended.
    """
    if ended.cause != "exited":
        raise PlannerError(account(program, ENDED[ended.cause], log))
    if ended.code in NOT_FOUND:
        fault = f"ended with exit status {ended.code}: a program is not found inside the sandbox"
        raise SandboxError(account(program, f"{fault}; list its folder under mounts", log))
    if ended.code:
        raise PlannerError(account(program, f"ended with exit status {ended.code}", log))


def network_of(work: Path, program: str, log: Path, *, parent: str | None) -> str:
    """Return the text of network.py, read as hostile; all else in the folder is left.

    Raises:
        PlannerError: there is none, or it is the parent's.
        CollectError: it is no plain file, too large, or not UTF-8.
    """
    if not os.path.lexists(work / NETWORK):
        raise PlannerError(account(program, f"left no {NETWORK}", log))
    text = collect_text(work, NETWORK, max_bytes=SOURCE_BYTES)
    if text == parent:
        raise PlannerError(account(program, f"left the parent's {NETWORK} as it was", log))
    return text


def account(program: str, fault: str, log: Path) -> str:
    """Return what happened, and the last lines of the output."""
    said = last_lines(log)
    end = f"; its output ends:\n{said}" if said else "; it printed nothing"
    return f"the coding agent {Path(program).name!r} {fault}{end}"


def last_lines(log: Path) -> str:
    """Return the last lines of a log, cleaned; at most 20 of at most 200 characters."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        text = clean_text(file.read(LOG_BYTES).decode(errors="replace"))
    lines = [line.rstrip()[:LINE_CHARACTERS] for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-LOG_LINES:])
