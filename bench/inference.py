"""Final inference here and through nnUNetv2_predict: the same weights, cases and mirroring.

One iteration of training here gives the weights: hardly learnt, they give label maps of all
labels with near ties everywhere, in which the least difference of arithmetic shows. nnU-Net
gets them as a results folder of its own. `python -I -m bench.inference TRIAL` predicts with the weights in a
trial's folder, as the supervisor does, in a process of its own.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from bench.nnunet_cli import place_weights
from bench.sides import Costs, Say, Sides, ran
from bench.trials import mirroring, new_job, warm_parents
from memory.errors import SegwrightError
from memory.records import Status
from sandbox.engine import load_plan
from sandbox.isolation import choose
from sandbox.supervisor import Site, predict, read_job, train_once


class Agreement(NamedTuple):
    """How two sets of label maps compare: voxels that differ, of how many, labels seen."""

    differing: int
    voxels: int
    labels: int

    @property
    def is_same(self) -> bool:
        """Tell whether all voxels agree; maps of one label alone say nothing."""
        return self.differing == 0 and self.labels > 1


def site(folder: Path) -> Site:
    """Return what the runs of a trial share, for the trial of a folder."""
    job, log = read_job(folder), folder / "raw" / "log.txt"
    log.parent.mkdir(exist_ok=True)
    log.touch()
    plan, isolation = load_plan(folder.parent.parent), choose()
    return Site(folder, job, plan, isolation, None, log, lambda: False)


def main(folder: Path) -> None:
    """Predict and collect with the weights that are in a trial's folder.

    Raises:
        SegwrightError: the prediction failed.
    """
    result = predict(site(folder))
    if "failure_class" in result:
        raise SegwrightError(f"prediction failed: {result['failure_excerpt']}")


def train(sides: Sides) -> Path:
    """Train the default network for one iteration; return the trial's folder, weights in it.

    Raises:
        SegwrightError: the training failed.
    """
    session = mirroring(sides.session)
    folder = new_job(session)
    setup = {"batch_size": session.plan.batch_size, "checkpointing": False}
    result = train_once(site(folder), setup)
    if result["status"] != Status.OK:
        raise SegwrightError(f"training failed: {result['failure_excerpt']}")
    return folder


def compare(sides: Sides, costs: Costs, *, repeats: int, say: Say) -> Agreement:
    """Predict search-val on both sides, measure both, and return how the label maps compare."""
    name = sides.source.data.name
    folder = train(sides)
    own = replace(sides.nnunet, mirroring=True)
    place_weights(own, sides.session.plan, folder / "weights" / "weights.pth")
    images, theirs = sides.session.folder / "images" / "search-val", own.folder / "predicted"
    for number in range(repeats):
        say(f"{name}: final inference on both sides ({number + 1} of {repeats})")
        command = [sys.executable, "-I", "-m", "bench.inference", str(folder)]
        costs["predict"].append(ran(command, folder / "predict.log", *warm_parents()))
        costs["nnunet_predict"].append(own.predict(images, theirs))
    found = agreement(folder / "predictions", theirs, ending=sides.session.dataset["file_ending"])
    shutil.rmtree(own.model)
    return found


def agreement(ours: Path, theirs: Path, *, ending: str) -> Agreement:
    """Compare two folders of label maps voxel by voxel.

    Raises:
        SegwrightError: they do not hold the same cases, or an image has another shape.
    """
    names = sorted(path.name for path in ours.glob(f"*{ending}"))
    if not names or names != sorted(path.name for path in theirs.glob(f"*{ending}")):
        raise SegwrightError(f"{ours} and {theirs} hold different cases")
    differing = voxels = 0
    labels: set[int] = set()
    for name in names:
        one, other = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name))) for folder in (ours, theirs)
        )
        if one.shape != other.shape:
            raise SegwrightError(f"{name} has shape {one.shape} here and {other.shape} there")
        differing += int(np.count_nonzero(one != other))
        voxels += one.size
        labels |= {int(label) for label in np.unique(one)}
    return Agreement(differing, voxels, len(labels))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
