"""Copying a split dataset into the campaign folder, locked labels apart from all else.

`staging/DatasetNNN_Name/` is nnU-Net's raw layout with search-train alone; the images of the
other parts lie in `staging/images/`, their labels in `labels/search-val/` and, readable by
the owner only, in `locked/labels/`. Each folder is filled under another name and renamed, so
that it is there in full or not at all; a folder that is there is compared, never rewritten.

Covered: names and sizes of files already there. Not covered: their bytes, which `check`
compares through the hashes of the split.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from memory.errors import DatasetError
from memory.records import SplitCase, SplitName
from sandbox.dataset import Dataset, RawCase

_OWNER_ONLY = 0o700
_TRAIN_KEYS = (
    "labels",
    "regions_class_order",
    "file_ending",
    "overwrite_image_reader_writer",
    "name",
    "description",
    "reference",
    "release",
    "licence",
    "license",
)


class Staged(NamedTuple):
    """Where the parts of the dataset now lie, all inside the campaign folder.

    train: nnU-Net raw layout with search-train alone. val_images, test_images: image files
    CASE_0000 + ending. val_labels, test_labels: CASE + ending; test_labels is locked.
    """

    train: Path
    val_images: Path
    test_images: Path
    val_labels: Path
    test_labels: Path


class _Files(NamedTuple):
    """{relative name: source file} and {relative name: text} of one folder."""

    copies: dict[str, Path]
    texts: dict[str, str]


def stage(dataset: Dataset, split: Iterable[SplitCase], campaign_dir: Path) -> Staged:
    """Copy every case of a split; a second call with the same split changes nothing.

    The locked labels go first, so that no later step finds a campaign without them.

    Raises:
        DatasetError: a case of the split is not in the dataset, a file cannot be copied, or
            the folder holds another split.
    """
    parts = _by_part(dataset, split)
    train, val = parts[SplitName.SEARCH_TRAIN], parts[SplitName.SEARCH_VAL]
    test = parts[SplitName.LOCKED_TEST]
    staged = staged_paths(campaign_dir, dataset.folder)
    staged.test_labels.parent.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
    _fill(staged.test_labels, _labels(dataset, test))
    _fill(staged.val_labels, _labels(dataset, val))
    _fill(staged.test_images, _images(dataset, test))
    _fill(staged.val_images, _images(dataset, val))
    _fill(staged.train, _raw_layout(dataset, train))
    return staged


def staged_paths(campaign_dir: Path, folder: str) -> Staged:
    """Return the places that `stage` fills; `folder` is `Dataset.folder`."""
    staging = campaign_dir / "staging"
    return Staged(
        train=staging / folder,
        val_images=staging / "images" / SplitName.SEARCH_VAL,
        test_images=staging / "images" / SplitName.LOCKED_TEST,
        val_labels=campaign_dir / "labels" / SplitName.SEARCH_VAL,
        test_labels=campaign_dir / "locked" / "labels",
    )


def train_json(dataset: Dataset, count: int) -> str:
    """Return `dataset.json` for the training side: `count` cases, and nothing on the others.

    Patients, listed files and declared splits name held-out cases, so they are left out.
    """
    kept = {k: v for k, v in dataset.declared.items() if k in _TRAIN_KEYS}
    named = {"channel_names": {str(n): name for n, name in enumerate(dataset.channels)}}
    return json.dumps(kept | named | {"numTraining": count}, indent=2) + "\n"


def _by_part(dataset: Dataset, split: Iterable[SplitCase]) -> dict[SplitName, list[RawCase]]:
    known = {case.id: case for case in dataset.cases}
    parts: dict[SplitName, list[RawCase]] = {name: [] for name in SplitName}
    for case in split:
        if case.case not in known:
            text = f"case {case.case!r} of the split is not in {dataset.root}"
            raise DatasetError(f"{text}; stage with the dataset that was split")
        parts[case.split].append(known[case.case])
    return parts


def _raw_layout(dataset: Dataset, cases: list[RawCase]) -> _Files:
    images = _images(dataset, cases).copies
    labels = _labels(dataset, cases).copies
    copies = {f"imagesTr/{name}": source for name, source in images.items()}
    copies |= {f"labelsTr/{name}": source for name, source in labels.items()}
    return _Files(copies, {"dataset.json": train_json(dataset, len(cases))})


def _images(dataset: Dataset, cases: list[RawCase]) -> _Files:
    ending = dataset.file_ending
    named = {f"{c.id}_{n:04d}{ending}": f for c in cases for n, f in enumerate(c.images)}
    return _Files(named, {})


def _labels(dataset: Dataset, cases: list[RawCase]) -> _Files:
    return _Files({f"{case.id}{dataset.file_ending}": case.label for case in cases}, {})


def _fill(folder: Path, files: _Files) -> None:
    if folder.exists():
        _compare(folder, files)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = folder.parent / f".{folder.name}.half"
    if half.exists():
        shutil.rmtree(half)  # left by a run that was killed
    half.mkdir(mode=_OWNER_ONLY)
    for name, source in files.copies.items():
        target = half / name
        target.parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise DatasetError(f"{source}: cannot be copied to {target} ({error})") from error
    for name, text in files.texts.items():
        (half / name).write_text(text, encoding="utf-8")
    half.rename(folder)


def _compare(folder: Path, files: _Files) -> None:
    wanted = {name: source.stat().st_size for name, source in files.copies.items()}
    wanted |= {name: len(text.encode()) for name, text in files.texts.items()}
    found = {
        str(file.relative_to(folder)): file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file()
    }
    odd = sorted(set(wanted.items()) ^ set(found.items()))
    if odd:
        text = f"holds another split or dataset (first difference: {odd[0][0]!r})"
        raise DatasetError(f"{folder}: {text}; use a new campaign folder")
