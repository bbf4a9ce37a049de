"""Trusted copies of what a trial handed back: a fixed list of files, all of them hostile.

Call these after the trial's last process is gone (`progress.json` may be read before: all caps
hold while a file grows). Each file is opened relative to a descriptor of
the output folder, by a name of ours, without following links and without blocking; it must be a
regular file, linked once, of the folder's own owner, and within its size cap before a byte is
read. No name, path, mode or number from the trial reaches a path of ours. Nothing is unpickled.

Covered: symbolic and hard links, FIFOs, sockets and devices, sparse and oversized files, folders
in place of files and the other way round, foreign names, JSON with NaN, infinities, deep nesting
or broken Unicode, arrays of another type, layout, shape or label set, pickled arrays, endless
logs, terminal escapes, bidirectional and invisible characters.
Not covered: whether a prediction is good (`sandbox.scoring`), what a checkpoint holds (bytes
only: load it in a sandbox, never here), markup in text (whoever displays it escapes it).
"""

import errno
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from memory.errors import CollectError
from sandbox.clean import clean_text

LabelArray = NDArray[np.uint8] | NDArray[np.uint16]

PREDICTIONS = "predictions"
HANDED_BACK = frozenset(
    {
        *("check.json", "confidence.json", "curve.json", "outcome.json", "predicted.json"),
        *("prepared.json", "progress.json", "trained.json", "weighed.json"),
        *("log.txt", "weights.pth", "network.py"),
    }
)
LOG_BYTES = 1 << 20
JSON_BYTES = 1 << 20
JSON_DEPTH = 12

_HEADER_BYTES = 4096
_CHUNK_BYTES = 1 << 20
_NPY_START = re.compile(rb"\x93NUMPY(?:\x01\x00(?P<short>..)|[\x02\x03]\x00(?P<long>....))", re.S)
_NPY_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>\|u1|<u2)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,9}(?:, \d{1,9}){0,3}),?\), \} *\n"
)
_OPEN_ERRORS = {
    errno.ENOENT: "is missing",
    errno.ELOOP: "is a symbolic link",
    errno.ENOTDIR: "is not a folder",
    errno.ENXIO: "is a socket or a device",
}
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def collect_json(
    out_dir: Path, name: str, *, max_bytes: int = JSON_BYTES, max_depth: int = JSON_DEPTH
) -> dict[str, Any]:
    """Read one JSON object that a trial wrote.

    Args:
        out_dir: the trial's output folder.
        name: one of `HANDED_BACK`.
        max_bytes: largest size that is read.
        max_depth: deepest nesting, 1 for an object without containers.

    Raises:
        CollectError: no such plain file, too large, not UTF-8, not JSON, nested too deeply, no
            object, or with a number that is not finite.
    """
    with _folder(out_dir) as folder:
        content = _read(folder, _allowed(name), max_bytes=max_bytes)
    try:
        value = json.loads(content.decode(), parse_constant=_finite, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise CollectError(_too_deep(name, max_depth)) from None
    except ValueError as error:
        raise CollectError(
            f"the trial's {name} is not strict JSON: {clean_text(str(error))[:200]}"
        ) from error
    if not isinstance(value, dict):
        raise CollectError(f"the trial's {name} holds a {type(value).__name__}; allowed: an object")
    if _depth(value) > max_depth:
        raise CollectError(_too_deep(name, max_depth))
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number {text[:40]} is not finite")
    return number


def _too_deep(name: str, max_depth: int) -> str:
    return f"the trial's {name} is nested more than {max_depth} deep; write flatter JSON"


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [c for v in level for c in (v.values() if isinstance(v, dict) else v)]
    return depth


def label_maps(
    out_dir: Path, cases: Mapping[str, tuple[int, ...]], *, allowed_values: set[int]
) -> Iterator[tuple[str, LabelArray]]:
    """Yield a trial's predictions one by one, cases sorted, so that one at a time is in memory.

    Reads `predictions/<case>.npy`. The set of names is checked before the first case is yielded.

    Args:
        out_dir: the trial's output folder.
        cases: case to the exact shape of its prediction, (z, y, x) or (y, x).
        allowed_values: what a voxel may hold, 0 to 65535.

    Yields:
        Case and its label map: read-only, uint8 or uint16 as written, C order.

    Raises:
        CollectError: a case is missing, a file is none of the cases', or one is not a plain .npy
            of exactly that shape, type and label set; the case is named.
    """
    with _folder(out_dir) as out, _folder(PREDICTIONS, at=out) as folder:
        _check_names(folder, cases)
        for case in sorted(cases):
            yield case, _label_map(folder, case, shape=cases[case], allowed=allowed_values)


def collect_label_maps(
    out_dir: Path, cases: Mapping[str, tuple[int, ...]], *, allowed_values: set[int]
) -> dict[str, LabelArray]:
    """Return all of a trial's predictions; see `label_maps` for the rules and errors."""
    return dict(label_maps(out_dir, cases, allowed_values=allowed_values))


def _check_names(folder: int, cases: Mapping[str, tuple[int, ...]]) -> None:
    expected = {f"{case}.npy" for case in cases}
    found = set()
    with os.scandir(folder) as entries:
        # Stops at the first foreign name: there may be millions.
        for entry in entries:
            if entry.name not in expected:
                raise CollectError(
                    f"the trial's {PREDICTIONS} hold {ascii(entry.name[:80])}, which is no case "
                    f"of the split; allowed: <case>.npy for each of the {len(cases)} cases"
                )
            found.add(entry.name)
    if missing := sorted(expected - found):
        raise CollectError(
            f"the trial predicted no case {missing[0].removesuffix('.npy')!r} "
            f"({len(missing)} of {len(cases)} missing); every case must be predicted"
        )


def _label_map(folder: int, case: str, *, shape: tuple[int, ...], allowed: set[int]) -> LabelArray:
    voxels = math.prod(shape)
    content = _read(folder, f"{case}.npy", max_bytes=_HEADER_BYTES + 2 * voxels)
    array = _parse_npy(content, what=f"prediction of case {case!r}")
    if array.shape != shape:
        raise CollectError(
            f"the trial's prediction of case {case!r} has shape {array.shape}; it must be {shape}"
        )
    accepted = np.zeros(1 << 16, dtype=bool)
    accepted[sorted(allowed)] = True
    if not (fits := accepted[array]).all():
        found = [int(v) for v in np.unique(array[~fits])[:5]]
        raise CollectError(
            f"the trial's prediction of case {case!r} holds the values {found}; "
            f"allowed are {sorted(allowed)}"
        )
    return array


def _parse_npy(content: bytes, *, what: str) -> LabelArray:
    # Only what numpy.save writes for such an array: no header of the trial's is ever evaluated.
    start = _NPY_START.match(content)
    length = int.from_bytes((start["short"] or start["long"]) if start else b"", "little")
    body = start.end() + length if start else 0
    header = _NPY_HEADER.fullmatch(content[start.end() : body]) if start and length < 4000 else None
    if header is None:
        raise CollectError(f"the trial's {what} is no .npy of uint8 or uint16 in C order")
    shape = tuple(int(n) for n in header["shape"].split(b", "))
    dtype = np.dtype(header["dtype"].decode())
    if len(content) - body != math.prod(shape) * dtype.itemsize:
        raise CollectError(
            f"the trial's {what} has {len(content) - body} bytes of voxels; its header says "
            f"{shape} of {dtype}"
        )
    return np.frombuffer(content, dtype=dtype, offset=body).reshape(shape)


def collect_log(out_dir: Path, name: str = "log.txt", *, max_bytes: int = LOG_BYTES) -> str:
    """Read a log that a trial wrote, cleaned; of a long one the head and the tail.

    Args:
        out_dir: the trial's output folder.
        name: one of `HANDED_BACK`.
        max_bytes: how much of the file to keep; a quarter of it is the head. What lies between
            is replaced by a line that says how much was cut.

    Raises:
        CollectError: no such plain file.
    """
    with _folder(out_dir) as folder, _file(folder, _allowed(name)) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= max_bytes:
            return clean_text(file.read(max_bytes).decode(errors="replace"))
        head = file.read(max_bytes // 4)
        tail_bytes = max_bytes - len(head)
        file.seek(size - tail_bytes)
        tail = file.read(tail_bytes)
    parts = (clean_text(part.decode(errors="replace")) for part in (head, tail))
    return f"\n[... {size - max_bytes} of {size} bytes cut ...]\n".join(parts)


def collect_text(out_dir: Path, name: str, *, max_bytes: int) -> str:
    """Read a text that was written inside, whole and as it is: control characters stay.

    Args:
        out_dir: the output folder.
        name: one of `HANDED_BACK`.
        max_bytes: largest size that is read.

    Raises:
        CollectError: no such plain file, too large, or not UTF-8.
    """
    with _folder(out_dir) as folder:
        content = _read(folder, _allowed(name), max_bytes=max_bytes)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CollectError(
            f"the trial's {name} is not UTF-8: byte {error.start} of {len(content)}"
        ) from error


def copy_file(out_dir: Path, name: str, to: Path, *, max_bytes: int) -> str:
    """Copy the content of a trial's file into a fresh file of ours, mode 0600, unparsed.

    Args:
        out_dir: the trial's output folder.
        name: one of `HANDED_BACK`.
        to: where to, a path of ours; replaced in one step if it exists.
        max_bytes: largest size that is copied.

    Returns:
        The SHA-256 of what was copied, 64 hex digits.

    Raises:
        CollectError: no such plain file, or too large.
    """
    digest, copied = hashlib.sha256(), 0
    with (
        _folder(out_dir) as folder,
        _file(folder, _allowed(name), max_bytes=max_bytes) as source,
        _replacing(to) as fresh,
    ):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(fresh, flags, 0o600), "wb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                copied += len(chunk)
                if copied > max_bytes:
                    raise CollectError(_too_large(name, copied, max_bytes))
                digest.update(chunk)
                target.write(chunk)
    return digest.hexdigest()


def write_label_map(array: LabelArray, reference_image: Path, to: Path) -> None:
    """Write a collected label map with the geometry of the image it was predicted from.

    Args:
        array: label map, (z, y, x) or (y, x); a 2D image also takes (1, y, x).
        reference_image: the image whose spacing, origin and direction to use; a file of ours.
        to: where to, a path of ours whose ending chooses the format; replaced in one step.

    Raises:
        CollectError: the image cannot be read, its shape is another, or `to` cannot be written.
    """
    reader: Any = sitk.ImageFileReader()
    reader.SetFileName(str(reference_image))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise CollectError(f"cannot read the geometry of image {reference_image}") from error
    shape = tuple(reversed(reader.GetSize()))
    if len(shape) == 2 and array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.shape != shape:
        raise CollectError(
            f"a label map of shape {array.shape} does not fit {reference_image} of shape {shape}"
        )
    image: Any = sitk.GetImageFromArray(array)
    image.SetSpacing(reader.GetSpacing())
    image.SetOrigin(reader.GetOrigin())
    image.SetDirection(reader.GetDirection())
    with _replacing(to) as fresh:
        try:
            sitk.WriteImage(image, str(fresh), useCompression=True)
        except RuntimeError as error:
            raise CollectError(f"cannot write label map {to}; is there space?") from error


@contextmanager
def _replacing(to: Path) -> Iterator[Path]:
    """Give a hidden path beside `to` that takes its place if the block ends well."""
    fresh = to.with_name(f".{os.getpid()}-{to.name}")
    fresh.unlink(missing_ok=True)
    try:
        yield fresh
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(to)
    finally:
        fresh.unlink(missing_ok=True)


def _allowed(name: str) -> str:
    if name not in HANDED_BACK:
        raise CollectError(
            f"{ascii(name[:80])} is not collected from a trial; allowed: {sorted(HANDED_BACK)}"
        )
    return name


@contextmanager
def _folder(path: Path | str, *, at: int | None = None) -> Iterator[int]:
    try:
        descriptor = os.open(path, _FOLDER_FLAGS, dir_fd=at)
    except OSError as error:
        raise CollectError(_cannot_open(str(path), error)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _file(folder: int, name: str, *, max_bytes: int | None = None) -> Iterator[BinaryIO]:
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except OSError as error:
        raise CollectError(_cannot_open(name, error)) from error
    try:
        found = os.fstat(descriptor)
        _check_plain(found, os.fstat(folder), name=name)
        if max_bytes is not None and found.st_size > max_bytes:
            raise CollectError(_too_large(name, found.st_size, max_bytes))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _check_plain(found: os.stat_result, folder: os.stat_result, *, name: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        fault = f"is no regular file (mode {stat.filemode(found.st_mode)})"
    elif found.st_nlink != 1:
        fault = f"has {found.st_nlink} hard links"
    elif found.st_uid != folder.st_uid:
        fault = f"belongs to user {found.st_uid}, its folder to {folder.st_uid}"
    else:
        return
    raise CollectError(f"the trial's {name} {fault}; allowed: a plain file of its own")


def _read(folder: int, name: str, *, max_bytes: int) -> bytes:
    with _file(folder, name, max_bytes=max_bytes) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise CollectError(_too_large(name, len(content), max_bytes))
    return content


def _cannot_open(name: str, error: OSError) -> str:
    fault = _OPEN_ERRORS.get(error.errno or 0, f"cannot be opened ({error.strerror})")
    return f"the trial's {name} {fault}; allowed: a plain file or folder of its own"


def _too_large(name: str, size: int, max_bytes: int) -> str:
    return f"the trial's {name} has {size} bytes or more; allowed are {max_bytes}"
