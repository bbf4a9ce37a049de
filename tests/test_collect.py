"""What a hostile trial plants in its output folder is refused, by name, and never followed."""

import hashlib
import json
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import CollectError
from sandbox.clean import clean_text
from sandbox.collect import (
    collect_json,
    collect_label_maps,
    collect_log,
    collect_text,
    copy_file,
    label_maps,
    write_label_map,
)

SHAPE = (2, 3, 4)
READERS: dict[str, Callable[[Path], object]] = {
    "curve.json": lambda out: collect_json(out, "curve.json", max_bytes=1000),
    "log.txt": lambda out: collect_log(out, max_bytes=1000),
    "network.py": lambda out: collect_text(out, "network.py", max_bytes=1000),
    "weights.pth": lambda out: copy_file(out, "weights.pth", out / "copy", max_bytes=1000),
    "predictions/a.npy": lambda out: collect_label_maps(out, {"a": SHAPE}, allowed_values={0, 1}),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a trial's output folder in which everything is as it should be."""
    folder = tmp_path / "out"
    (folder / "predictions").mkdir(parents=True)
    (folder / "curve.json").write_text('{"loss": [0.5, 0.25]}')
    (folder / "log.txt").write_text("epoch 1\n")
    (folder / "network.py").write_text("import torch\n")
    (folder / "weights.pth").write_bytes(b"\x80weights")
    np.save(folder / "predictions" / "a.npy", label_map())
    return folder


def label_map() -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[1, 1, 1:3] = 1
    return array


def predictions(out: Path) -> dict[str, np.ndarray]:
    return collect_label_maps(out, {"a": SHAPE}, allowed_values={0, 1})


@pytest.mark.parametrize("name", READERS)
def test_an_honest_file_is_collected(out: Path, name: str) -> None:
    assert READERS[name](out)


@pytest.mark.parametrize("name", READERS)
def test_symbolic_link_is_not_followed(out: Path, tmp_path: Path, name: str) -> None:
    kept = tmp_path / "secret"
    (out / name).rename(kept)
    (out / name).symlink_to(kept)
    with pytest.raises(CollectError, match="symbolic link"):
        READERS[name](out)


@pytest.mark.parametrize("name", READERS)
def test_hard_link_is_refused(out: Path, tmp_path: Path, name: str) -> None:
    os.link(out / name, tmp_path / "second")
    with pytest.raises(CollectError, match="2 hard links"):
        READERS[name](out)


@pytest.mark.parametrize("name", READERS)
def test_fifo_does_not_block(out: Path, name: str) -> None:
    (out / name).unlink()
    os.mkfifo(out / name)
    with pytest.raises(CollectError, match="no regular file"):
        READERS[name](out)


@pytest.mark.parametrize("name", READERS)
def test_folder_in_place_of_a_file(out: Path, name: str) -> None:
    (out / name).unlink()
    (out / name).mkdir()
    with pytest.raises(CollectError, match="no regular file"):
        READERS[name](out)


@pytest.mark.parametrize("name", READERS)
def test_missing_file(out: Path, name: str) -> None:
    (out / name).unlink()
    with pytest.raises(CollectError, match="missing|predicted no case 'a'"):
        READERS[name](out)


@pytest.mark.parametrize("name", [n for n in READERS if n != "log.txt"])
def test_sparse_terabyte_is_refused_before_reading(out: Path, name: str) -> None:
    os.truncate(out / name, 1 << 40)
    with pytest.raises(CollectError, match=r"1099511627776 bytes or more; allowed are \d+$"):
        READERS[name](out)


def test_sparse_terabyte_of_log_is_cut(out: Path) -> None:
    os.truncate(out / "log.txt", 1 << 40)
    text = collect_log(out, max_bytes=1000)
    assert text == "epoch 1\n\n[... 1099511626776 of 1099511627776 bytes cut ...]\n"


def test_predictions_folder_may_not_be_a_link_or_a_file(out: Path, tmp_path: Path) -> None:
    (out / "predictions").rename(tmp_path / "elsewhere")
    (out / "predictions").symlink_to(tmp_path / "elsewhere")
    # Linux says ENOTDIR for a link that must be a folder.
    with pytest.raises(CollectError, match="predictions is (a symbolic link|not a folder)"):
        predictions(out)
    (out / "predictions").unlink()
    (out / "predictions").write_text("")
    with pytest.raises(CollectError, match="predictions is not a folder"):
        predictions(out)


def test_output_folder_may_not_be_a_link(out: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(CollectError, match="link is"):
        collect_json(tmp_path / "link", "curve.json")


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd", "predictions/../curve.json", ""])
def test_only_listed_names_are_opened(out: Path, name: str) -> None:
    (out.parent / "secret.json").write_text("{}")
    with pytest.raises(CollectError, match="not collected from a trial"):
        collect_json(out, name)
    with pytest.raises(CollectError, match="not collected from a trial"):
        collect_log(out, name)
    with pytest.raises(CollectError, match="not collected from a trial"):
        copy_file(out, name, out / "copy", max_bytes=10)


def test_case_name_cannot_leave_the_folder(out: Path) -> None:
    np.save(out / "b.npy", label_map())
    with pytest.raises(CollectError, match="predicted no case|holds? 'a.npy'"):
        collect_label_maps(out, {"../b": SHAPE}, allowed_values={0, 1})


def test_file_of_another_user(out: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(out / "curve.json", 12345, -1)
    with pytest.raises(CollectError, match="belongs to user 12345"):
        collect_json(out, "curve.json")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"loss": NaN}', "NaN is not finite"),
        ('{"loss": -Infinity}', "-Infinity is not finite"),
        ('{"loss": 1e999}', "1e999 is not finite"),
        ('{"loss": ' + "9" * 5000 + "}", "strict JSON"),
        ('{"loss": "\\ud800"}', "surrogates not allowed"),
        ('{"loss": 1', "strict JSON"),
        ("", "strict JSON"),
        ("[1, 2]", "holds a list; allowed: an object"),
        ('{"a": ' * 13 + "1" + "}" * 13, "nested more than 12 deep"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested more than 12 deep"),
        ("[" * 900_000, "nested more than 12 deep"),
    ],
)
def test_hostile_json(out: Path, text: str, fault: str) -> None:
    (out / "curve.json").write_text(text)
    with pytest.raises(CollectError, match=fault):
        collect_json(out, "curve.json")


def test_json_that_is_not_utf8(out: Path) -> None:
    (out / "curve.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(CollectError, match="strict JSON"):
        collect_json(out, "curve.json")


def test_json_at_its_limits(out: Path) -> None:
    nested = '{"a": ' * 12 + "1" + "}" * 12
    (out / "curve.json").write_text(nested)
    assert collect_json(out, "curve.json", max_bytes=len(nested)) == json.loads(nested)
    with pytest.raises(CollectError, match="bytes or more"):
        collect_json(out, "curve.json", max_bytes=len(nested) - 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_maps_are_read_only_copies(out: Path, dtype: type[np.generic]) -> None:
    np.save(out / "predictions" / "a.npy", label_map().astype(dtype))
    array = predictions(out)["a"]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, label_map())
    assert not array.flags.writeable


def test_label_maps_come_sorted_and_of_their_own_shapes(out: Path) -> None:
    np.save(out / "predictions" / "B.npy", np.ones((5, 1), dtype=np.uint8))
    cases = {"a": SHAPE, "B": (5, 1)}
    assert [case for case, _ in label_maps(out, cases, allowed_values={0, 1})] == ["B", "a"]


@pytest.mark.parametrize(
    "array",
    [
        label_map().astype(np.float32),
        label_map().astype(np.int16),
        label_map().astype(">u2"),
        label_map().astype(bool),
        np.asfortranarray(label_map()),
        np.zeros(SHAPE, dtype=[("v", "u1")]),
        np.array(1, dtype=np.uint8),
    ],
    ids=["float32", "int16", "big-endian", "bool", "fortran", "record", "scalar"],
)
def test_other_types_and_layouts(out: Path, array: np.ndarray) -> None:
    np.save(out / "predictions" / "a.npy", array)
    with pytest.raises(CollectError, match="prediction of case 'a' is no .npy of uint8 or uint16"):
        predictions(out)


@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 3, 5), (24,), (1, 2, 3, 4), (2, 3, 0)])
def test_wrong_shape(out: Path, shape: tuple[int, ...]) -> None:
    np.save(out / "predictions" / "a.npy", np.zeros(shape, dtype=np.uint8))
    with pytest.raises(CollectError, match=r"case 'a' has shape .*; it must be \(2, 3, 4\)"):
        predictions(out)


def test_value_outside_the_label_set(out: Path) -> None:
    np.save(out / "predictions" / "a.npy", np.full(SHAPE, 1000, dtype=np.uint16))
    with pytest.raises(CollectError, match=r"case 'a' holds the values \[1000\]"):
        predictions(out)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Aim at a path."""
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Return the call that pickle makes when it loads this."""
        return os.mkdir, (str(self.path),)


def test_pickled_array_is_not_loaded(out: Path, tmp_path: Path) -> None:
    file = out / "predictions" / "a.npy"
    np.save(file, np.array([Bomb(tmp_path / "boom")], dtype=object), allow_pickle=True)
    with pytest.raises(CollectError, match="no .npy of uint8"):
        predictions(out)
    file.write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(CollectError, match="no .npy of uint8"):
        predictions(out)
    assert not (tmp_path / "boom").exists()


def npy(header: bytes, body: bytes = bytes(24)) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4), }\n", bytes(23)),
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4), }\n", bytes(25)),
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, -4), }\n"),
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4+0), }\n"),
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999), }\n"),
        npy(b"[" * 1000),
    ],
)
def test_broken_npy(out: Path, content: bytes) -> None:
    (out / "predictions" / "a.npy").write_bytes(content)
    with pytest.raises(CollectError, match="prediction of case 'a'"):
        predictions(out)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_npy_parser(tmp_path_factory: pytest.TempPathFactory, b: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "predictions").mkdir()
    (folder / "predictions" / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + b)
    with pytest.raises(CollectError):
        predictions(folder)


@pytest.mark.parametrize("name", ["c.npy", "a.npy.bak", ".hidden", "sub", "\x1b[31mred.npy"])
def test_extra_entry(out: Path, name: str) -> None:
    (out / "predictions" / name).mkdir()
    with pytest.raises(CollectError, match="which is no case of the split") as caught:
        predictions(out)
    assert ascii(name) in str(caught.value)


def test_missing_case_is_named(out: Path) -> None:
    with pytest.raises(CollectError, match=r"predicted no case 'b' \(1 of 2 missing\)"):
        collect_label_maps(out, {"a": SHAPE, "b": SHAPE}, allowed_values={0, 1})


def test_copy_is_ours_private_and_fresh(out: Path, tmp_path: Path) -> None:
    to = tmp_path / "weights.pth"
    to.write_text("older")
    (out / "weights.pth").chmod(0o4755)
    digest = copy_file(out, "weights.pth", to, max_bytes=100)
    assert to.read_bytes() == b"\x80weights"
    assert digest == hashlib.sha256(b"\x80weights").hexdigest()
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    assert to.stat().st_nlink == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "weights.pth"]


def test_refused_copy_leaves_the_old_file(out: Path, tmp_path: Path) -> None:
    to = tmp_path / "weights.pth"
    to.write_text("older")
    with pytest.raises(CollectError, match="8 bytes or more; allowed are 7"):
        copy_file(out, "weights.pth", to, max_bytes=7)
    assert to.read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "weights.pth"]


def test_a_text_is_read_whole_and_as_it_is(out: Path) -> None:
    (out / "network.py").write_bytes(b"# \x1b[2J\r\nx = '\xc3\xa9'")
    assert collect_text(out, "network.py", max_bytes=16) == "# \x1b[2J\r\nx = 'é'"
    with pytest.raises(CollectError, match="16 bytes or more; allowed are 15"):
        collect_text(out, "network.py", max_bytes=15)


def test_a_text_that_is_not_utf8_is_refused(out: Path) -> None:
    (out / "network.py").write_bytes(b"# \xff")
    with pytest.raises(CollectError, match=r"network\.py is not UTF-8: byte 2 of 3"):
        collect_text(out, "network.py", max_bytes=1000)


@pytest.mark.parametrize("name", ["../curve.json", "agent.py", "/etc/passwd"])
def test_a_text_of_another_name_is_refused(out: Path, name: str) -> None:
    with pytest.raises(CollectError, match="is not collected from a trial"):
        collect_text(out, name, max_bytes=1000)


def test_long_log_keeps_head_and_tail(out: Path) -> None:
    (out / "log.txt").write_text("first\n" + "x" * 10_000 + "\nlast\n")
    lines = collect_log(out, max_bytes=400).split("\n")
    assert lines[0] == "first"
    assert lines[2] == "[... 9612 of 10012 bytes cut ...]"
    assert lines[-2:] == ["last", ""]


@pytest.mark.parametrize(
    ("hostile", "clean"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2Jgone", "gone"),
        ("\x1b]52;c;c2VjcmV0\x07after", "after"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1bP+q544e\x1b\\after", "after"),
        ("\x90data\x9cafter", "after"),
        ("\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\after", "after"),
        ("\x1b]52;unterminated\nkept", "\nkept"),
        ("\x1bcreset", "reset"),
        ("\x1b(0line", "line"),
        ("loss 0.1\rloss 9.9", "loss 0.1\nloss 9.9"),
        ("dos\r\nline", "dos\nline"),
        ("a\u2028b\x0bc\x0cd\x85e", "a\nb\nc\nd\ne"),
        ("user\u202egnp.exe\u2066\u200b", "usergnp.exe"),
        ("tag\U000e0041\ufeff", "tag"),
        ("bell\x07\x08\x7f\x00", "bell"),
        ("\x1b\x1b[[31m31m", "31m31m"),
        ("tab\tkept é 你", "tab\tkept é 你"),
        ("\x1b", ""),
    ],
)
def test_terminal_escapes_are_stripped(hostile: str, clean: str) -> None:
    assert clean_text(hostile) == clean


@given(st.text(st.characters() | st.sampled_from("\x1b\x9b\x9d\x9c\x07\r\n[];m0\\")))
def test_cleaned_text_is_harmless_and_stays(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert all(c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") for c in cleaned)
    cleaned.encode()


def test_log_of_broken_bytes_is_clean(out: Path) -> None:
    (out / "log.txt").write_bytes(b"ok \xff\x1b[1mbold\xe2\x80\xae\n")
    assert collect_log(out) == "ok �bold\n"


def image(path: Path, *, size: tuple[int, ...]) -> Path:
    picture = sitk.Image(list(size), sitk.sitkUInt8)
    if path.suffix != ".png":
        picture.SetSpacing([0.5, 0.75, 3.0][: len(size)])
        picture.SetOrigin([10.0, -20.0, 30.5][: len(size)])
        picture.SetDirection([0, 1, 0, -1, 0, 0, 0, 0, 1] if len(size) == 3 else [0, 1, -1, 0])
    sitk.WriteImage(picture, str(path))
    return path


@pytest.mark.parametrize(
    ("ending", "size"), [(".nii.gz", (4, 3, 2)), (".nii.gz", (4, 3)), (".png", (4, 3))]
)
def test_label_map_takes_the_image_geometry(
    tmp_path: Path, ending: str, size: tuple[int, ...]
) -> None:
    reference = image(tmp_path / f"image{ending}", size=size)
    shape = tuple(reversed(size))
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    to = tmp_path / f"label{ending}"
    write_label_map(array, reference, to)
    back, there = sitk.ReadImage(str(to)), sitk.ReadImage(str(reference))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), array)
    np.testing.assert_allclose(back.GetSpacing(), there.GetSpacing())
    np.testing.assert_allclose(back.GetOrigin(), there.GetOrigin())
    np.testing.assert_allclose(back.GetDirection(), there.GetDirection(), atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"image{ending}", f"label{ending}"]


def test_label_map_of_a_slice_fits_its_2d_image(tmp_path: Path) -> None:
    reference = image(tmp_path / "image.png", size=(4, 3))
    write_label_map(np.ones((1, 3, 4), dtype=np.uint8), reference, tmp_path / "label.png")
    assert sitk.ReadImage(str(tmp_path / "label.png")).GetSize() == (4, 3)


def test_label_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    reference = image(tmp_path / "image.nii.gz", size=(4, 3, 2))
    with pytest.raises(CollectError, match=r"shape \(4, 3, 2\) does not fit"):
        write_label_map(np.ones((4, 3, 2), dtype=np.uint8), reference, tmp_path / "l.nii.gz")
    assert not (tmp_path / "l.nii.gz").exists()


def test_unreadable_reference_image(tmp_path: Path) -> None:
    (tmp_path / "image.nii.gz").write_text("not an image")
    with pytest.raises(CollectError, match="cannot read the geometry"):
        write_label_map(label_map(), tmp_path / "image.nii.gz", tmp_path / "l.nii.gz")
