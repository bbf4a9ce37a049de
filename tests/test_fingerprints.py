"""Hashes of files: every change of a byte or a name is seen."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from memory.errors import SandboxError
from memory.records import digest
from sandbox.fingerprints import file_hash, predictions_hash, text_hash


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "predictions"
    made.mkdir()
    (made / "b.nii.gz").write_bytes(b"second")
    (made / "a.nii.gz").write_bytes(b"first")
    return made


def test_the_hash_is_that_of_sorted_names_and_bytes(folder: Path) -> None:
    first, second = (hashlib.sha256(text).hexdigest() for text in (b"first", b"second"))
    assert predictions_hash(folder) == digest([["a.nii.gz", first], ["b.nii.gz", second]])


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "a.nii.gz").write_bytes(b"First"),
        lambda f: (f / "a.nii.gz").rename(f / "c.nii.gz"),
        lambda f: (f / "a.nii.gz").unlink(),
        lambda f: (f / "c.nii.gz").write_bytes(b""),
    ],
    ids=["byte", "name", "removed", "added"],
)
def test_any_change_is_seen(folder: Path, change: Callable[[Path], object]) -> None:
    before = predictions_hash(folder)
    change(folder)
    assert predictions_hash(folder) != before


def test_only_regular_files_are_hashed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"first")
    (folder / "a.nii.gz").unlink()
    (folder / "a.nii.gz").symlink_to(tmp_path / "outside")
    with pytest.raises(SandboxError, match="no regular file"):
        predictions_hash(folder)
    for missing in (tmp_path / "missing", tmp_path / "outside"):
        with pytest.raises(SandboxError, match="cannot be hashed"):
            predictions_hash(missing)
    with pytest.raises(SandboxError, match="cannot be hashed"):
        file_hash(tmp_path / "missing")


@pytest.mark.parametrize("text", ["", "a = 1\r\n", "é\0"])
def test_a_text_has_the_hash_of_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "network.py").write_bytes(text.encode())
    assert file_hash(tmp_path / "network.py") == text_hash(text)
