"""A small campaign by hand for the tests of diagnosis: label maps on disk, scored as they are.

Six cases of search-val. Each has an organ, a large lesion and a lesion of one voxel. The baseline
finds all, one voxel of the organ a seed excepted; what a trial finds is up to the test.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from memory.records import (
    Branch,
    Campaign,
    Kind,
    Module,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    Trial,
)
from memory.store import Store
from sandbox.scoring import score_cases

LABELS = {"organ": 1, "lesion": 2}
CASES = tuple(f"patient_{i}_scan" for i in range(6))
GATE = Module("attention_gate", "skip", (0, 1))
SMALL = (3, 1, 14)
Array = NDArray[np.uint8]
Drawn = Callable[[Array, int], Array]


def label_of(_: int) -> Array:
    """Return a case's reference, (z, y, x)."""
    array = np.zeros((4, 16, 16), np.uint8)
    array[:2, :6, :6] = 1
    array[2:, 9:12, 9:12] = 2
    array[SMALL] = 2
    return array


def write(path: Path, array: Array) -> None:
    """Write a label map of 1 x 1 x 2 mm voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(image, str(path))


def make(folder: Path) -> Store:
    """Make the campaign with three baselines at rung 0, and return its open store."""
    dataset = {"labels": LABELS, "file_ending": ".nii.gz", "ignore_label": None}
    store = Store.create(
        folder / "campaign.db", Campaign("c", "n", 1.0, "0", {}, dataset, "d", "s", {})
    )
    locked = [
        SplitCase(f"locked_{i}", f"q{i}", SplitName.LOCKED_TEST, 1.0, "", "") for i in range(4)
    ]
    own = [
        SplitCase(case, f"p{i}", SplitName.SEARCH_VAL, 10.0 + i, "", "")
        for i, case in enumerate(CASES)
    ]
    store.add_split([*own, *locked])
    for i, case in enumerate(CASES):
        write(folder / "labels" / "search-val" / f"{case}.nii.gz", label_of(i))
    store.add_proposal(Proposal("parent", "P", "m", (), "r", (), "grammar"))
    store.add_proposal(Proposal("child", "C", "m", (GATE,), "r", (), "grammar", "parent"))
    store.add_branch(Branch("b", "parent", "open", 1.0))
    for seed in range(3):
        add(store, folder, f"base{seed}", Kind.BASELINE, drawn=shaved(seed), seed=seed)
    return store


def shaved(count: int) -> Drawn:
    """Return what finds all but some voxels of the organ."""

    def drawn(label: Array, _: int) -> Array:
        label[0, 0, :count] = 0
        return label

    return drawn


def add(
    store: Store,
    folder: Path,
    name: str,
    kind: Kind = Kind.IMPROVE,
    *,
    drawn: Drawn = lambda label, _: label,
    **more: Any,
) -> Trial:
    """Add a trial with the predictions that `drawn` makes of each case, scored."""
    planned = plan(store, name, kind, **more)
    for i, case in enumerate(CASES):
        path = folder / "trials" / name / "predictions" / f"{case}.nii.gz"
        write(path, drawn(label_of(i), i))
    scores = score_cases(
        folder / "trials" / name / "predictions",
        folder / "labels" / "search-val",
        CASES,
        file_ending=".nii.gz",
        labels=LABELS,
        trial=name,
    )
    changes = {"status": Status.OK, "parameters": 1000, "flops": 2000, "peak_memory_mib": 100.0}
    if planned.kind is not Kind.BASELINE:
        changes |= {"parameters": 1500, "flops": 2000, "peak_memory_mib": 203.0}
    store.record_result(name, changes=changes, scores=scores)
    return store.trial(name)


def plan(store: Store, name: str, kind: Kind = Kind.IMPROVE, **more: Any) -> Trial:
    """Add a planned trial of rung 0 on search-val."""
    searched = kind is not Kind.BASELINE
    own = {"branch": "b", "proposal": "child", "commit": "c" * 40} if searched else {}
    given: dict[str, Any] = {
        "parent": None,
        "branch": None,
        "proposal": None,
        "commit": None,
        **own,
    }
    given |= {"rung": 0, "seed": 1, "split": SplitName.SEARCH_VAL, "title": "T", **more}
    made = Trial(id=name, kind=kind, **given)
    store.add_trial(made)
    return made


def write_curve(folder: Path, trial: str, losses: list[float]) -> None:
    """Leave a curve as a supervisor does."""
    path = folder / "trials" / trial / "curve.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"loss": losses}))


def write_code(folder: Path, trial: str, source: str) -> None:
    """Leave the network that a trial was given."""
    path = folder / "trials" / trial / "code" / "network.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
