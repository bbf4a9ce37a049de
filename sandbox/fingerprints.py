"""Hashes of what lies in a trial's folder, so that a changed byte is noticed later.

Covered: any change of a file's bytes or name, a file added, removed or replaced by a link.
Not covered: times, modes and owners; somebody who can change the stored hash as well.
"""

import hashlib
import stat
from pathlib import Path

from memory.errors import SandboxError
from memory.records import digest


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hex digits.

    Raises:
        SandboxError: not a regular file (links are not followed), or it cannot be read.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise SandboxError(f"{path} is no regular file; only those can be hashed")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SandboxError(f"{path} cannot be hashed: {error.strerror}") from error


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes: `file_hash` of the file that holds it."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def predictions_hash(folder: Path) -> str:
    """Return the digest of the sorted (name, SHA-256 of the bytes) of a folder's files.

    Raises:
        SandboxError: no such folder, or it holds anything but regular files.
    """
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise SandboxError(f"{folder} cannot be hashed: {error.strerror}") from error
    return digest([[path.name, file_hash(path)] for path in paths])
