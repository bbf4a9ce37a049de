"""The benchmarks: what they count, how they divide, what they print, and one run for real."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from click.testing import CliRunner

from agent.config import parse_config
from agent.settings_text import parse_settings
from bench import gpu, overhead
from bench.bench import bench
from bench.demo import SETTINGS
from bench.figures import HEADER, Figure, document, figure, replaced, section, write
from bench.gpu import Sample, collect, slope, utilisation_figures
from bench.inference import Agreement, agreement
from bench.nnunet_cli import LEAN, NnUnet, is_other_data, lay_out, place_weights
from bench.resources import Cost, measured, reap
from bench.sides import Source, flat, on_device
from memory.errors import SegwrightError
from sandbox.engine import Plan
from sandbox.processes import SET_CHILD_SUBREAPER, adopt_orphans

BURN = "import time; end = time.process_time() + {s}\nwhile time.process_time() < end: pass"


@pytest.fixture
def adopting() -> Iterator[None]:
    """Have this process adopt orphans for the test, and wait for them at its end."""
    adopt_orphans()
    yield
    reap()
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def burn(seconds: float) -> list[str]:
    """Return the command line of a process that computes for so many CPU seconds."""
    return [sys.executable, "-I", "-c", BURN.format(s=seconds)]


def test_cpu_seconds_of_grandchildren_count(adopting: None) -> None:
    nested = f"import subprocess; subprocess.run({burn(0.4)!r})"
    cost = measured(lambda: subprocess.run([sys.executable, "-I", "-c", nested], check=True))
    assert 0.4 <= cost.cpu_s < 1.2
    assert cost.wall_s >= 0.4


def test_cpu_seconds_of_a_process_that_detached_count(adopting: None, tmp_path: Path) -> None:
    done = tmp_path / "done"
    code = BURN.format(s=0.4) + f"\nopen({str(done)!r}, 'w').close()"

    def work() -> None:
        subprocess.run(["/usr/bin/setsid", "--fork", sys.executable, "-I", "-c", code], check=True)
        while not done.exists():
            time.sleep(0.02)

    assert 0.38 <= measured(work).cpu_s < 1.2


def test_a_living_child_is_counted_for_what_it_did_meanwhile(adopting: None) -> None:
    with subprocess.Popen(burn(60.0)) as child:
        time.sleep(0.3)
        first = measured(lambda: time.sleep(0.5)).cpu_s
        assert measured(lambda: None).cpu_s < 0.3
        os.kill(child.pid, signal.SIGKILL)
    assert 0.1 <= first < 1.0


def test_a_tree_that_is_named_and_ours_counts_once(adopting: None) -> None:
    with subprocess.Popen(burn(60.0)) as child:
        time.sleep(0.3)
        cost = measured(lambda: time.sleep(0.5), child.pid)
        os.kill(child.pid, signal.SIGKILL)
    assert 0.1 <= cost.cpu_s <= cost.wall_s + 0.1


def test_ratios_are_ours_over_theirs_repeat_by_repeat() -> None:
    costs = {
        "warm_trial": [Cost(2.0, 1.0), Cost(4.0, 3.0), Cost(2.0, 1.0)],
        "nnunet_train": [Cost(10.0, 15.0)] * 3,
        "nnunet_trial_predict": [Cost(10.0, 5.0)] * 3,
    }
    found = overhead.ratio_figures(costs)
    assert found["warm_cpu_ratio"] == Figure(0.05, 0.05, 0.15, "1")
    assert found["warm_wall_ratio"] == Figure(0.1, 0.1, 0.2, "1")
    assert found["warm_cpu_ratio_train_alone"].value == pytest.approx(1 / 15)
    assert set(found) == {
        *("warm_cpu_ratio", "warm_wall_ratio"),
        *("warm_cpu_ratio_train_alone", "warm_wall_ratio_train_alone"),
    }


def test_repeats_that_do_not_pair_are_refused() -> None:
    costs = {"predict": [Cost(1.0, 1.0)] * 2, "nnunet_predict": [Cost(1.0, 1.0)]}
    with pytest.raises(ValueError, match="zip"):
        overhead.ratio_figures(costs)


def test_a_part_is_taken_out_of_a_cost() -> None:
    assert overhead.less(Cost(10.0, 20.0), Cost(4.0, 15.0)) == Cost(6.0, 5.0)


def test_a_document_has_the_promised_shape() -> None:
    found = json.loads(json.dumps(document("some", {"key": figure([3.0, 1.0, 2.00009], "s")})))
    assert set(found) == {"bench", "commit", "figures"}
    assert found["bench"] == "some"
    assert found["figures"] == {"key": {"value": 2.0, "low": 1.0, "high": 3.0, "unit": "s"}}


def test_results_are_drawn_from_the_document(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    found = {"bench": "a", "commit": "abc", "figures": {"k": figure([1.0], "s")._asdict()}}
    write(found, command="segwright bench a", date="2026-01-02", path=path)
    write({**found, "bench": "b"}, command="segwright bench b", date="2026-01-02", path=path)
    write({**found, "commit": "def"}, command="segwright bench a", date="2026-02-02", path=path)
    text = path.read_text()
    assert text.startswith(HEADER)
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## a", "## b"]
    assert "| `k` | 1 | 1 | 1 | s |" in text
    assert text.count("`abc`") == 1
    assert "`def`" in text


def test_a_part_is_replaced_whole() -> None:
    one = section(
        {"bench": "a", "commit": "1", "figures": {}}, command="segwright bench a", date="d"
    )
    text = replaced(replaced("", "a", one), "b", one.replace("## a", "## b"))
    assert replaced(text, "a", one) == text


def test_settings_become_options() -> None:
    settings = on_device(SETTINGS, "cpu")
    options = flat(settings)
    assert "name" not in settings
    assert options[::2] == ["--set"] * (len(options) // 2)
    assert parse_config(parse_settings(options[1::2])) == parse_config(settings)


def nnunet(folder: Path, **more: Any) -> NnUnet:
    """Return nnU-Net's folders around a raw dataset that is empty."""
    raw = folder / "Dataset007_Some"
    raw.mkdir()
    made = lay_out(folder / "n", raw, configuration="2d", threads=1)
    return NnUnet(made.folder, made.dataset, "2d", 1, **more)


def test_a_lean_side_has_single_workers(tmp_path: Path) -> None:
    own = nnunet(tmp_path, is_lean=True)
    assert own.environment(1).items() >= LEAN.items()
    assert own.number == "7"
    assert (own.folder / "raw" / own.dataset).is_symlink()


def test_by_default_nnunet_chooses_its_workers(tmp_path: Path) -> None:
    environment = nnunet(tmp_path).environment(3)
    assert not environment.keys() & LEAN.keys()
    assert environment["BENCH_ITERATIONS"] == "3"


def test_other_preprocessing_is_found() -> None:
    plan: dict[str, Any] = {
        "data_identifier": "x",
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "preprocessor_name": "DefaultPreprocessor",
    }
    assert not is_other_data(plan, {**plan, "batch_size": 2})
    assert is_other_data(plan, {**plan, "normalization_schemes": ["CTNormalization"]})


def test_weights_get_the_names_that_nnunet_knows(tmp_path: Path) -> None:
    own = nnunet(tmp_path, mirroring=True)
    kwargs = {
        "strides": [1],
        "kernel_sizes": [3],
        "features_per_stage": [4],
        "n_conv_per_stage": [2],
        "n_conv_per_stage_decoder": [],
    }
    planned = {"patch_size": [8, 8], "architecture": {"arch_kwargs": kwargs}}
    saved = {"parameters": {"network.a.weight": torch.ones(1)}, "buffers": {"network.b": 1}}
    torch.save(saved, tmp_path / "w.pth")
    place_weights(own, Plan("d", {"configurations": {"2d": planned}}, {}), tmp_path / "w.pth")
    file = own.model / "fold_0" / "checkpoint_final.pth"
    saved = torch.load(file, weights_only=True)
    assert list(saved["network_weights"]) == ["a.weight", "b"]
    assert saved["inference_allowed_mirroring_axes"] == (0, 1)


def label_map(path: Path, values: list[list[int]]) -> None:
    """Write a label map of one slice."""
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.array([values], dtype=np.uint8)), str(path))


def test_differing_voxels_are_counted(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    label_map(ours / "a.nii.gz", [[0, 1], [2, 2]])
    label_map(theirs / "a.nii.gz", [[0, 1], [1, 2]])
    assert agreement(ours, theirs, ending=".nii.gz") == (1, 4, 3)


def test_maps_of_one_label_prove_nothing() -> None:
    assert Agreement(0, 4, 2).is_same
    assert not Agreement(0, 4, 1).is_same
    assert not Agreement(1, 4, 2).is_same


def test_a_missing_prediction_is_no_agreement(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    label_map(ours / "a.nii.gz", [[0]])
    theirs.mkdir()
    with pytest.raises(SegwrightError, match="different cases"):
        agreement(ours, theirs, ending=".nii.gz")


def test_another_shape_is_no_agreement(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    label_map(ours / "a.nii.gz", [[0]])
    label_map(theirs / "a.nii.gz", [[0, 0]])
    with pytest.raises(SegwrightError, match="shape"):
        agreement(ours, theirs, ending=".nii.gz")


def test_a_real_dataset_is_skipped_with_a_word_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overhead, "build_demo", lambda path: path)
    monkeypatch.setattr(overhead, "REAL", Path("nothing/here"))
    said: list[str] = []
    found = overhead.sources(tmp_path, is_quick=False, data=[], say=said.append)
    assert [source.suffix for source in found] == [""]
    assert said[-1] == "skipped: no nothing/here beside the program"


def test_a_given_dataset_names_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "build_demo", lambda path: path)
    raw = tmp_path / "Dataset004_Hippocampus"
    raw.mkdir()
    (raw / "dataset.json").write_text("{}")
    found = overhead.sources(tmp_path, is_quick=True, data=[raw], say=lambda _: None)
    assert found[1] == Source(raw, {"engine": {"device": "cpu"}}, "_hippocampus")
    with pytest.raises(SegwrightError, match="--data takes a raw dataset"):
        overhead.sources(tmp_path, is_quick=True, data=[tmp_path], say=lambda _: None)


def test_seconds_an_iteration_are_a_slope() -> None:
    assert slope({150: 25.0, 50: 15.0}) == pytest.approx(0.1)


def test_readings_of_a_card_are_taken_line_by_line() -> None:
    samples: list[Sample] = []
    collect(["90, 2000\n", "[N/A], 10\n", "0, 1000\n", "\n"], samples)
    assert samples == [Sample(90.0, 2000.0), Sample(0.0, 1000.0)]
    found = utilisation_figures(samples)
    assert found["gpu_utilisation"] == Figure(45.0, 0.0, 90.0, "%")
    assert found["gpu_idle_share"].value == 0.5
    assert found["gpu_memory_mib"].value == 2000.0


def test_no_reading_is_an_error() -> None:
    with pytest.raises(SegwrightError, match="no reading"):
        utilisation_figures([])


def test_without_a_card_the_gpu_benchmark_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_device", lambda wanted: "cpu")
    with pytest.raises(SegwrightError, match="needs a CUDA device; torch finds only cpu here"):
        gpu.run(is_quick=True, data=[], say=lambda _: None)


def test_an_unknown_benchmark_is_wrong_usage() -> None:
    ran = CliRunner().invoke(bench, ["speed"])
    assert ran.exit_code == 2
    assert "overhead" in ran.output


def benchmark(name: str) -> dict[str, Any]:
    """Run a benchmark as a user does, once and quickly; return its figures."""
    code = "from bench.bench import bench; bench()"
    command = [sys.executable, "-I", "-c", code, name, "--quick"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert found["bench"] == name
    figures: dict[str, Any] = found["figures"]
    return figures


@pytest.mark.slow
def test_the_overhead_is_what_was_promised() -> None:
    found = {key: one["value"] for key, one in benchmark("overhead").items()}
    assert found["same_predictions"] == 1.0
    assert found["predicted_labels"] > 1.0
    assert found["warm_cpu_ratio"] <= 1 / 10
    assert found["cold_cpu_ratio"] <= 1 / 3
    assert found["preprocess_cpu_ratio"] <= 1 / 3
    assert found["trials_per_hour"] > 0.0
    assert 0.0 < found["sandbox_start_ms"] < 5000.0


@pytest.mark.gpu
@pytest.mark.slow
def test_the_gpu_is_measured() -> None:
    found = benchmark("gpu")
    assert 0.0 < found["gpu_utilisation"]["value"] <= 100.0
    assert found["iteration_s"]["value"] > 0.0
