"""Reading files: the values nnU-Net sees, and no damaged file taken for a whole one."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from memory.errors import DatasetError
from sandbox.images import hash_images, hash_label, read_volume, voxel_hash

RNG = np.random.default_rng(3)
VOXELS = RNG.integers(-500, 500, (4, 5, 6)).astype(np.int16)


def write(path: Path, voxels: np.ndarray, spacing: tuple[float, ...] = (0.5, 2.0, 3.0)) -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing[: image.GetDimension()])
    image.SetOrigin((10.0, 20.0, 30.0)[: image.GetDimension()])
    sitk.WriteImage(image, path)
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_volume(tmp_path: Path, ending: str) -> None:
    volume = read_volume(write(tmp_path / f"a{ending}", VOXELS))
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.voxels, VOXELS[None])
    assert volume.spacing_mm == (3.0, 2.0, 0.5)
    assert volume.origin_mm == (10.0, 20.0, 30.0)
    assert len(volume.direction) == 9


def test_flat_volume_has_one_slice(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path / "a.nii.gz", VOXELS[0]))
    assert volume.voxels.shape == (1, 1, 5, 6)
    assert volume.spacing_mm == (1.0, 2.0, 0.5)
    assert len(volume.origin_mm) == 2
    slab = read_volume(write(tmp_path / "b.nii.gz", VOXELS[:1]))
    assert slab.voxels.shape == (1, 1, 5, 6)
    assert slab.spacing_mm == (3.0, 2.0, 0.5)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_grey_picture(tmp_path: Path, ending: str) -> None:
    pixels = RNG.integers(0, 255, (5, 6)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a{ending}", dpi=(300, 300))
    volume = read_volume(tmp_path / f"a{ending}")
    assert np.array_equal(volume.voxels, pixels[None, None])
    assert volume.spacing_mm == (1.0, 1.0, 1.0)


def test_colour_picture_has_three_channels(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (5, 6, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_volume(tmp_path / "a.png").voxels[:, 0], pixels.transpose(2, 0, 1))


def test_one_bit_picture_holds_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "a.png")
    assert set(np.unique(read_volume(tmp_path / "a.png").voxels)) == {0.0, 1.0}


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8])
def test_truncated_file_is_refused(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"a{ending}"
    big = RNG.integers(0, 255, (8, 64, 64)).astype(np.uint8)
    write(path, big[0] if ending in (".png", ".tif", ".bmp") else big)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DatasetError) as refused:
        read_volume(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", RNG.integers(0, 255, (8, 64, 64)).astype(np.uint8))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_volume(path)
    with pytest.raises(DatasetError, match="no such file"):
        read_volume(tmp_path / "b.nii.gz")
    with pytest.raises(DatasetError, match="no such file"):
        read_volume(tmp_path / "b.png")


def test_files_not_covered_are_refused(tmp_path: Path) -> None:
    flat = [sitk.GetImageFromArray(VOXELS)] * 2
    sitk.WriteImage(sitk.JoinSeries(flat), tmp_path / "a.nii.gz")
    with pytest.raises(DatasetError, match="4 axes .* one file a channel"):
        read_volume(tmp_path / "a.nii.gz")
    sitk.WriteImage(sitk.Compose(flat), tmp_path / "a.nrrd")
    with pytest.raises(DatasetError, match="2 values a voxel"):
        read_volume(tmp_path / "a.nrrd")
    pages = [Image.fromarray(VOXELS[0].astype(np.uint8))] * 5
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DatasetError, match="not a 2D picture"):
        read_volume(tmp_path / "a.tif")


def test_hash_is_of_voxels_not_of_bytes(tmp_path: Path) -> None:
    a = read_volume(write(tmp_path / "a.nii.gz", VOXELS))
    b = read_volume(write(tmp_path / "b.mha", VOXELS.astype(np.float64), (9.0, 9.0, 9.0)))
    assert voxel_hash(a) == voxel_hash(b)
    turned = read_volume(write(tmp_path / "c.nii.gz", VOXELS.reshape(5, 4, 6)))
    assert voxel_hash(a) != voxel_hash(turned)
    changed = VOXELS.copy()
    changed[0, 0, 0] += 1
    assert voxel_hash(a) != voxel_hash(read_volume(write(tmp_path / "d.nii.gz", changed)))
    negative = a._replace(voxels=np.where(a.voxels == 0, np.float32(-0.0), a.voxels))
    assert voxel_hash(a) == voxel_hash(negative)


def test_case_hashes_know_geometry_and_channel_order(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.nii.gz", VOXELS), write(tmp_path / "b.nii.gz", VOXELS + 1)
    moved = write(tmp_path / "c.nii.gz", VOXELS, (0.5, 2.0, 3.5))
    assert hash_label(a) != hash_label(moved)
    assert hash_images([a, b]) != hash_images([b, a])
    assert hash_images([a]) != hash_label(a)
    assert hash_label(a) == hash_label(write(tmp_path / "d.mha", VOXELS))
