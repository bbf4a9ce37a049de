"""The demo dataset: subjects simulated from one real brain template, in nnU-Net's raw layout.

Nobody was scanned for it (`bench/simulate.py` says how it is made): it shows the program at work
and supports no statement about patients. No two subjects share a random stream.

`python -I -m bench.demo_data FOLDER` builds it and writes the figures of the trivial baselines.
"""

import hashlib
import json
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from bench.simulate import (
    LABELS,
    STEP_XYZ,
    TEMPLATE_FILES,
    Labels,
    Simulation,
    read_template,
    simulate,
    template_folder,
)
from memory.errors import DatasetError
from sandbox.scoring import dice

NAME = "Dataset901_SimulatedBrain"
SUBJECTS = 110
SEED = 152
SMALLEST_GRID = 16
# The template's licence asks that this text stands in every copy.
ICBM_NOTICE = (
    "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological "
    "Institute, McGill University. Permission to use, copy, modify, and distribute this software "
    "and its documentation for any purpose and without fee is hereby granted, provided that the "
    "above copyright notice appear in all copies. The authors and McGill University make no "
    "representations about the suitability of this software for any purpose. It is provided "
    '"as is" without express or implied warranty. The authors are not responsible for any data '
    "loss, equipment damage, property loss, or injury to subjects or patients resulting from the "
    "use or misuse of this software package."
)


class TrivialDice(NamedTuple):
    """What needs no training: mean foreground Dice in [0, 1], higher is better.

    `intensity` clusters each image's intensities into as many groups as there are labels
    (k-means, darkest first); `copying` gives every case the most frequent label of its pixel in
    all other cases. Each is averaged over classes, then over cases.
    """

    intensity: float
    copying: float


def write_image(
    voxels: NDArray[Any], path: Path, *, origin_xyz_mm: tuple[float, ...], size: Simulation
) -> None:
    """Write a stack (z, y, x) as compressed NIfTI in world space."""
    image: Any = sitk.GetImageFromArray(voxels)
    image.SetSpacing((size.pixel_mm, size.pixel_mm, size.slice_mm))
    image.SetOrigin(origin_xyz_mm)
    image.SetDirection(tuple(np.diag(STEP_XYZ).ravel()))
    sitk.WriteImage(image, str(path), useCompression=True)


def describe(*, subjects: int, seed: int, simulation: Simulation) -> dict[str, Any]:
    """Return the content of dataset.json: nnU-Net's keys, and where the data come from."""
    folder = template_folder()
    return {
        "name": "SimulatedBrain",
        "description": (
            f"{subjects} simulated subjects: tissues of the brain in thick axial T1 slices, made "
            "from one template (ICBM152 2009a, nonlinear, symmetric) by random deformation, "
            "contrast, bias field, artefacts and noise. No person was scanned for them."
        ),
        "channel_names": {"0": "T1"},
        "labels": LABELS,
        "numTraining": subjects,
        "patients": {case_name(n): f"subject {n:03d}" for n in range(subjects)},
        "file_ending": ".nii.gz",
        "reference": (
            "Fonov et al., NeuroImage 54, 313-327 (2011), doi:10.1016/j.neuroimage.2010.07.033; "
            "Fonov et al., NeuroImage 47 Suppl. 1, S102 (2009), doi:10.1016/S1053-8119(09)70884-5"
        ),
        "licence": f"ICBM notice: {ICBM_NOTICE} The package that carries it: BSD-3-Clause.",
        "simulated": True,
        "origin": {
            "package": f"nilearn {version('nilearn')}",
            "files": {
                file: hashlib.sha256((folder / file).read_bytes()).hexdigest()
                for file in TEMPLATE_FILES.values()
            },
            "seed": seed,
            "simulation": json.loads(json.dumps(asdict(simulation))),
        },
    }


def case_name(number: int) -> str:
    """Return the case of a simulated subject; each has one."""
    return f"simulated_{number:03d}"


def refuse_small(*, subjects: int, simulation: Simulation) -> None:
    """Refuse a dataset that cannot be split or a stack that no U-Net fits.

    Raises:
        DatasetError: fewer than 2 subjects, no slice or sub-slice, or a side below 16 pixels.
    """
    if subjects < 2 or min(simulation.slices, simulation.subslices) < 1:
        raise DatasetError(
            f"cannot simulate {subjects!r} subjects of {simulation.slices!r} slices with "
            f"{simulation.subslices!r} sub-slices; at least 2, 1 and 1 are needed"
        )
    if min(simulation.rows, simulation.columns) < SMALLEST_GRID:
        raise DatasetError(
            f"cannot simulate slices of {simulation.rows!r} x {simulation.columns!r} pixels; "
            f"each side needs at least {SMALLEST_GRID}"
        )


def build_demo(
    path: Path, *, subjects: int = SUBJECTS, seed: int = SEED, simulation: Simulation | None = None
) -> Path:
    """Write the demo dataset in nnU-Net's raw layout and return its folder.

    The folder appears whole or not at all. One that is already there is returned as it stands
    when it was built with the same arguments from the same template.

    Args:
        path: folder in which the folder `Dataset901_SimulatedBrain` is made.
        subjects: number of cases, at least 2.
        seed: of the whole dataset; the same seed gives the same voxels.
        simulation: size and difficulty; the default is the one the demo was tuned for.

    Raises:
        DatasetError: no template, impossible sizes, or a different dataset stands there.
    """
    simulation = simulation or Simulation()
    refuse_small(subjects=subjects, simulation=simulation)
    info = describe(subjects=subjects, seed=seed, simulation=simulation)
    final = path / NAME
    if final.exists():
        refuse_different(final, info)
        return final
    part = path / f".{NAME}.part"
    shutil.rmtree(part, ignore_errors=True)
    for folder in ("imagesTr", "labelsTr"):
        (part / folder).mkdir(parents=True)
    template = read_template(pixel_mm=simulation.pixel_mm)
    for number in range(subjects):
        subject = simulate(template, seed=(seed, number), simulation=simulation)
        case = case_name(number)
        for voxels, file in (
            (subject.image, f"imagesTr/{case}_0000.nii.gz"),
            (subject.label, f"labelsTr/{case}.nii.gz"),
        ):
            origin = subject.origin_xyz_mm
            write_image(voxels, part / file, origin_xyz_mm=origin, size=simulation)
    (part / "dataset.json").write_text(json.dumps(info, indent=2) + "\n")
    part.rename(final)
    return final


def refuse_different(folder: Path, info: dict[str, Any]) -> None:
    """Refuse to take another dataset for the one asked for.

    Raises:
        DatasetError: `folder` was not built with these arguments.
    """
    file = folder / "dataset.json"
    if not file.is_file() or json.loads(file.read_text()) != info:
        raise DatasetError(
            f"{str(folder)!r} holds a different dataset than the one asked for: remove it, or "
            "name another folder"
        )


def mean_dice(predicted: Labels, reference: Labels) -> float:
    """Return Dice in [0, 1], averaged over the foreground labels that either map holds."""
    scores = [dice(predicted == label, reference == label) for label in range(1, len(LABELS))]
    return fmean(score for score in scores if score is not None)


def by_intensity(image: NDArray[Any]) -> Labels:
    """Return k-means groups of the intensities as labels, the darkest 0."""
    values = image.astype(np.float64).ravel()
    start = np.quantile(values, np.linspace(0.1, 0.9, len(LABELS)))
    centres, groups = kmeans2(values, start, minit="matrix", missing="raise")
    rank = np.argsort(np.argsort(centres)).astype(np.uint8)
    return np.asarray(rank[groups].reshape(image.shape), dtype=np.uint8)


def trivial_dice(dataset: Path) -> TrivialDice:
    """Score what needs no training on a dataset that `build_demo` made, all cases of it."""
    cases = sorted((dataset / "labelsTr").glob("*.nii.gz"))
    labels = np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(case))) for case in cases])
    votes = np.stack([(labels == label).sum(axis=0) for label in range(len(LABELS))])
    intensity, copying = [], []
    for case, label in zip(cases, labels, strict=True):
        image = dataset / "imagesTr" / case.name.replace(".nii.gz", "_0000.nii.gz")
        intensity.append(
            mean_dice(by_intensity(sitk.GetArrayFromImage(sitk.ReadImage(str(image)))), label)
        )
        others = votes - np.stack([label == one for one in range(len(LABELS))])
        copying.append(mean_dice(np.argmax(others, axis=0).astype(np.uint8), label))
    return TrivialDice(fmean(intensity), fmean(copying))


if __name__ == "__main__":
    dataset = build_demo(Path(sys.argv[1]))
    sys.stdout.write(
        json.dumps({"dataset": str(dataset), **trivial_dice(dataset)._asdict()}) + "\n"
    )
