"""One simulated subject: the ICBM152 template, bent, cut into thick slices and spoilt.

The template (Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033; Fonov et al. 2009,
doi:10.1016/S1053-8119(09)70884-5) is read from the nilearn wheel, skull removed there. A subject
is an affine map and a smooth random displacement of it, sampled straight at the points of a few
thick slices; then its contrast and brightness change, and one artefact and Rician noise are put
on. Labels are the template's most probable tissue. The template is mirror-symmetric, so no label
tells left from right.
"""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter, map_coordinates

from memory.errors import DatasetError

Array = NDArray[np.float64]
Labels = NDArray[np.uint8]

LABELS = {"background": 0, "CSF": 1, "grey matter": 2, "white matter": 3}
TEMPLATE_FILES = {
    tissue: f"mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz"
    for tissue in ("t1", "gm", "wm")
}
# Template voxel (z, y, x), 1 mm: the middle of the brain's box, at the height of the ventricles.
CENTRE = (86.0, 117.0, 98.0)
# Template voxel in the middle of the lateral and third ventricles.
VENTRICLES = (84.0, 118.0, 98.0)
# World position (mm, left-posterior-superior) of template voxel 0 and the step along each axis.
ORIGIN_XYZ_MM = (98.0, 134.0, -72.0)
STEP_XYZ = (-1.0, -1.0, 1.0)
ARTEFACTS = ("none", "ghost", "motion", "blur")


@dataclass(frozen=True, slots=True)
class Simulation:
    """Size and difficulty of a simulated subject.

    Lengths are mm, angles degrees; intensities are fractions of the template's white maximum.
    `_sd` is the standard deviation of a normal draw, a pair the ends of a uniform one.
    """

    slices: int = 5
    rows: int = 64
    columns: int = 56
    pixel_mm: float = 3.0
    slice_mm: float = 5.0
    subslices: int = 5
    # The template is larger than most brains.
    scale: tuple[float, float] = (0.88, 1.0)
    anisotropy_sd: float = 0.03
    rotation_deg_sd: float = 4.0
    shift_mm_sd: float = 3.0
    knot_mm: float = 30.0
    displacement_mm_sd: float = 3.0
    # Share by which the middle of the brain is stretched: the ventricles of old age.
    ventricles: tuple[float, float] = (0.35, 0.7)
    ventricle_reach_mm: float = 28.0
    # At 1.5 CSF and grey are about 0.3 and 0.7 of white, as in T1 images of one person.
    gamma: float = 1.5
    log_gamma_sd: float = 0.1
    tissue_shift_sd: float = 0.03
    bias_sd: float = 0.15
    bias_knot_mm: float = 80.0
    ghost: tuple[float, float] = (0.05, 0.15)
    motion_px: tuple[float, float] = (0.5, 1.2)
    blur_px: tuple[float, float] = (0.4, 0.8)
    noise: tuple[float, float] = (0.04, 0.08)


class Template(NamedTuple):
    """The template on its 1 mm grid, axes (z, y, x).

    `intensity`, `grey`, `white`: float64 in [0, 1], smoothed within slices to the subject's
    pixel; `label`: uint8, 0 outside the brain, else the most probable of CSF, grey and white.
    """

    intensity: Array
    grey: Array
    white: Array
    label: Labels


class Subject(NamedTuple):
    """One simulated subject: image int16 and label uint8 (z, y, x), and what was drawn for it."""

    image: NDArray[np.int16]
    label: Labels
    origin_xyz_mm: tuple[float, float, float]
    artefact: str


def template_folder() -> Path:
    """Return the folder in which nilearn keeps the template, without importing nilearn.

    Raises:
        DatasetError: nilearn is not installed, or its wheel no longer holds the template.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise DatasetError("the demo's template is in the nilearn wheel: run 'pip install nilearn'")
    folder = Path(spec.origin).parent / "datasets" / "data"
    for file in TEMPLATE_FILES.values():
        if not (folder / file).is_file():
            raise DatasetError(
                f"no {file!r} in {str(folder)!r}: install a nilearn that holds it (0.14.1 does)"
            )
    return folder


def read_template(*, pixel_mm: float) -> Template:
    """Read the template and its tissue labels.

    Args:
        pixel_mm: the subject's pixel; intensities are smoothed to it (Gaussian, full width at
            half maximum of one pixel) within slices, so that a point sample stands for a pixel.

    Raises:
        DatasetError: see `template_folder`.
    """
    folder = template_folder()
    maps = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / file))).astype(np.float64) / 255.0
        for file in TEMPLATE_FILES.values()
    ]
    intensity, grey, white = maps
    tissues = np.stack([1.0 - grey - white, grey, white])
    label = np.where(intensity > 0.0, 1 + np.argmax(tissues, axis=0), 0).astype(np.uint8)
    sigma = pixel_mm / math.sqrt(8.0 * math.log(2.0))
    smooth = [gaussian_filter(one, (0.0, sigma, sigma), truncate=3.0) for one in maps]
    return Template(smooth[0], smooth[1], smooth[2], label)


def stack_axes(simulation: Simulation, *, subslices: int = 1) -> tuple[Array, Array, Array]:
    """Return the positions in mm of a stack's planes, rows and columns, 0 in their middle."""
    sizes = (simulation.slices * subslices, simulation.rows, simulation.columns)
    steps = (simulation.slice_mm / subslices, simulation.pixel_mm, simulation.pixel_mm)
    planes, rows, columns = (
        np.asarray((np.arange(size) - (size - 1) / 2.0) * step, dtype=np.float64)
        for size, step in zip(sizes, steps, strict=True)
    )
    return planes, rows, columns


def smooth_field(
    axes: tuple[Array, Array, Array], *, knot_mm: float, components: int, rng: np.random.Generator
) -> Array:
    """Return random smooth fields on a grid: uniform cubic B-splines with normal coefficients.

    Args:
        axes: positions in mm of the grid's planes, rows and columns.
        knot_mm: distance between knots; the field has no finer detail.
        components: number of independent fields.
        rng: source of the coefficients.

    Returns:
        float64 (components, Z, Y, X), zero mean, unit variance over draws in the middle of a span.
    """
    bases = []
    for positions in axes:
        spans = int(np.ceil((positions[-1] - positions[0]) / knot_mm)) + 1
        knots = (np.arange(spans + 7) - 3) * knot_mm - spans * knot_mm / 2.0
        bases.append(BSpline.design_matrix(positions, knots, 3).toarray())
    planes, rows, columns = bases
    shape = (components, planes.shape[1], rows.shape[1], columns.shape[1])
    field = np.einsum(
        "za,yb,xc,nabc->nzyx", planes, rows, columns, rng.normal(size=shape), optimize=True
    )
    # Sum of squares of the cubic B-spline's weights at mid-span, in each of three directions.
    middle = np.array([1.0, 23.0, 23.0, 1.0]) / 48.0
    return np.asarray(field / np.sqrt((middle**2).sum() ** 3))


def affine_zyx(simulation: Simulation, *, rng: np.random.Generator) -> Array:
    """Return the linear part (3, 3) that maps subject mm to template mm, axes (z, y, x)."""
    matrix = np.eye(3)
    for first, second in ((1, 2), (0, 2), (0, 1)):
        angle = np.deg2rad(rng.normal(0.0, simulation.rotation_deg_sd))
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    scale = rng.uniform(*simulation.scale) * np.exp(rng.normal(0.0, simulation.anisotropy_sd, 3))
    return np.asarray(matrix / scale)


def swell(points: Array, simulation: Simulation, *, rng: np.random.Generator) -> Array:
    """Return template points pulled towards the ventricles, which enlarges them in the subject.

    A point at distance r from their middle moves inwards by r * share * exp(-(r / reach)**2 / 2);
    the map stays one to one for shares below 1.
    """
    away = points - np.array(VENTRICLES)[:, None, None, None]
    near = np.exp(-0.5 * (away**2).sum(axis=0) / simulation.ventricle_reach_mm**2)
    return np.asarray(points - rng.uniform(*simulation.ventricles) * near * away)


def template_points(simulation: Simulation, *, centre: Array, rng: np.random.Generator) -> Array:
    """Return where each sub-slice pixel lies in the template: voxels (3, Z * subslices, Y, X)."""
    axes = stack_axes(simulation, subslices=simulation.subslices)
    mm = np.stack(np.meshgrid(*axes, indexing="ij"))
    moved = np.tensordot(affine_zyx(simulation, rng=rng), mm, axes=1) + centre[:, None, None, None]
    moved = swell(moved, simulation, rng=rng)
    bent = smooth_field(axes, knot_mm=simulation.knot_mm, components=3, rng=rng)
    return moved + simulation.displacement_mm_sd * bent


def thick(stack: Array, subslices: int) -> Array:
    """Return the mean of each run of `subslices` planes: (Z * subslices, Y, X) to (Z, Y, X)."""
    return np.asarray(stack.reshape(-1, subslices, *stack.shape[1:]).mean(axis=1))


def majority(labels: Labels, subslices: int) -> Labels:
    """Return each thick slice's most frequent label; of equals, the lower number."""
    runs = labels.reshape(-1, subslices, *labels.shape[1:])
    counts = np.stack([(runs == label).sum(axis=1) for label in LABELS.values()])
    most: Labels = np.argmax(counts, axis=0).astype(np.uint8)
    return most


def contrast(
    template: Template, points: Array, simulation: Simulation, *, rng: np.random.Generator
) -> Array:
    """Return the clean image float64 (Z, Y, X): gamma, tissue brightness, thick slices."""
    signal, grey, white = (
        map_coordinates(volume, points, order=1, mode="constant", prefilter=False)
        for volume in template[:3]
    )
    shifts = rng.normal(0.0, simulation.tissue_shift_sd, 2)
    gamma = simulation.gamma * np.exp(rng.normal(0.0, simulation.log_gamma_sd))
    bright = signal**gamma + shifts[0] * grey + shifts[1] * white
    return thick(np.clip(bright, 0.0, None), simulation.subslices)


def spoil(
    image: Array, artefact: str, simulation: Simulation, *, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Return the image with one artefact, made in the frequency plane of each slice.

    Args:
        image: float64 (Z, Y, X); Y is the phase-encoding direction.
        artefact: one of `ARTEFACTS`. ghost: every second line weaker, which shows a faint copy
            half a field of view away; motion: a band of lines taken after a shift; blur: a
            Gaussian in the image.
        simulation: the strengths, as ranges.
        rng: source of the strength drawn.
    """
    lines = np.fft.fft2(image)
    y, x = (np.fft.fftfreq(size) for size in image.shape[1:])
    if artefact == "ghost":
        lines[:, ::2] *= 1.0 - 2.0 * rng.uniform(*simulation.ghost)
    elif artefact == "motion":
        start = rng.uniform(0.02, 0.12)
        band = (np.abs(y) > start) & (np.abs(y) < start + 0.2)
        shift = rng.uniform(*simulation.motion_px) * rng.choice((-1.0, 1.0))
        lines[:, band] *= np.exp(-2j * np.pi * shift * y[band])[None, :, None]
    elif artefact == "blur":
        width = rng.uniform(*simulation.blur_px)
        lines *= np.exp(-2.0 * (np.pi * width) ** 2 * (y[:, None] ** 2 + x[None, :] ** 2))
    return np.asarray(np.fft.ifft2(lines))


def simulate(
    template: Template, *, seed: tuple[int, int], simulation: Simulation | None = None
) -> Subject:
    """Simulate one subject.

    Args:
        template: as `read_template` returns it.
        seed: dataset seed and subject number; the same pair gives the same voxels.
        simulation: size and difficulty.
    """
    simulation = simulation or Simulation()
    rng = np.random.default_rng(seed)
    centre = np.array(CENTRE) + rng.normal(0.0, simulation.shift_mm_sd, 3)
    points = template_points(simulation, centre=centre, rng=rng)
    nearest = map_coordinates(template.label, points, order=0, mode="constant", prefilter=False)
    image = contrast(template, points, simulation, rng=rng)
    axes = stack_axes(simulation)
    bias = smooth_field(axes, knot_mm=simulation.bias_knot_mm, components=1, rng=rng)[0]
    artefact = str(rng.choice(ARTEFACTS))
    signal = spoil(image * np.exp(simulation.bias_sd * bias), artefact, simulation, rng=rng)
    noise = rng.uniform(*simulation.noise) * rng.normal(size=(2, *signal.shape))
    # The magnitude of a complex signal with equal noise in both parts has Rician noise.
    seen = np.abs(signal + noise[0] + 1j * noise[1])
    first = [centre[0] + axes[0][0], CENTRE[1] + axes[1][0], CENTRE[2] + axes[2][0]]
    x, y, z = (o + s * v for o, s, v in zip(ORIGIN_XYZ_MM, STEP_XYZ, first[::-1], strict=True))
    label = majority(nearest, simulation.subslices)
    return Subject(np.rint(seen * 1000.0).astype(np.int16), label, (x, y, z), artefact)
