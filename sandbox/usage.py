"""How much the writable folders of a run hold, whatever it does to hide it; and their removal.

Covered: folders and links count as files do; files deeper than a path can name, or in folders
that are closed to their owner; files that were removed and are still open or mapped.
Not covered: removed files whose descriptor is on its way through a socket.
"""

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from sandbox.boundary import Limits

DEEPEST = 64
OPENED, REMOVED = ("/bin/chmod", "-R", "u+rwX"), ("/bin/rm", "-rf")

Entry = tuple[tuple[int, int], int]
"""Device and inode of a file, and the bytes that it takes."""


class UncountableError(Exception):
    """A folder is too deep, or closed to its owner: nothing of ours makes one."""


def too_large(folders: Sequence[Path], limits: Limits, pids: Sequence[int] = ()) -> bool:
    """Return True when the folders, with what `pids` still hold of them, pass a limit."""
    devices = {folder.stat().st_dev for folder in folders if folder.exists()}
    found: dict[tuple[int, int], int] = {}
    size = 0
    named = chain.from_iterable(map(entries, folders))
    gone = chain.from_iterable(removed(pid, devices) for pid in pids)
    try:
        for key, used in chain(named, gone):
            size += used - found.get(key, 0)
            found[key] = used
            if size > limits.disk_mib << 20 or len(found) > limits.files:
                return True
    except UncountableError:
        return True
    return False


def entries(folder: Path) -> Iterator[Entry]:
    """Yield everything below a folder; reached by descriptors, as a path may be too long.

    Raises:
        UncountableError: a folder lies too deep, or may not be opened.
    """
    with contextlib.suppress(FileNotFoundError):  # the folder itself is gone
        for base, folders, files, number in os.fwalk(folder, onerror=refuse):
            if base.count("/") - str(folder).count("/") > DEEPEST:
                raise UncountableError(base[:200])
            for name in (*folders, *files):
                with contextlib.suppress(OSError):
                    status = os.stat(name, dir_fd=number, follow_symlinks=False)
                    yield (status.st_dev, status.st_ino), status.st_blocks * 512


def refuse(error: OSError) -> None:
    """Stop at a folder that may not be opened; one that is gone is no matter."""
    if not isinstance(error, FileNotFoundError):
        raise UncountableError(str(error)) from error


def removed(pid: int, devices: set[int]) -> Iterator[Entry]:
    """Yield the files without a name that a process has open or mapped."""
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{number}")
                if (
                    status.st_dev in devices
                    and stat.S_ISREG(status.st_mode)
                    and not status.st_nlink
                ):
                    yield (status.st_dev, status.st_ino), status.st_blocks * 512
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, _, _, device, inode, *name = line.split(maxsplit=5)
            major, minor = (int(n, 16) for n in device.split(":"))
            if name and name[0].endswith(" (deleted)") and os.makedev(major, minor) in devices:
                start, end = (int(n, 16) for n in where.split("-"))
                yield (os.makedev(major, minor), int(inode)), end - start


def remove(folder: Path) -> None:
    """Remove what a run may have written, however deep, and whatever its modes; nothing if gone.

    Raises:
        OSError: something is left.
    """
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if not folder.exists():
        return
    for command in (OPENED, REMOVED):
        subprocess.run([*command, "--", str(folder)], check=False, capture_output=True)
    if folder.exists():
        raise OSError(f"{folder} cannot be removed")
