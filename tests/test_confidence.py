"""How sure a network is: computed beside the label map, taken back as hostile, never of locked cases."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

from agent.trials import asks_confidence
from bench.demo_data import build_demo
from bench.inference import site
from memory.errors import CollectError
from memory.records import Kind, SplitName, Trial
from sandbox.child.confidence import Confidence
from sandbox.confidence import collect_confidence, most_bytes, parse_means
from sandbox.engine import CHILD
from sandbox.executor import wait
from sandbox.job import Job
from sandbox.supervisor import predict, read_job, train_once
from tests.engines import baseline_trial, prepared
from tests.test_engine import volumes

CASES, CLASSES = ["a", "b"], ["organ", "lesion"]
HONEST: dict[str, Any] = {"a": {"organ": 0.9, "lesion": None}, "b": {"organ": 1.0, "lesion": 0}}


class Labels:
    """Decides as nnU-Net's label manager does, for labels 0 to 2 or for two regions."""

    def __init__(self, *, has_regions: bool) -> None:
        self.has_regions = has_regions
        self.all_labels = [0, 1, 2]
        self.foreground_labels = [1, 2]
        self.foreground_regions = [(1, 2), 2] if has_regions else None

    def convert_logits_to_segmentation(self, logits: Tensor) -> Tensor:
        if not self.has_regions:
            return torch.from_numpy(logits.numpy().argmax(0))
        found = torch.zeros(logits.shape[1:], dtype=torch.int16)
        for channel, label in enumerate((1, 2)):
            found[logits[channel] > 0] = label
        return found


def logits_of(*voxels: list[float]) -> Tensor:
    """Return logits (K, 2, 1, N / 2) with these values in the voxels."""
    return torch.tensor(voxels).T.reshape(len(voxels[0]), 2, 1, -1)


def softmax(*logits: float) -> list[float]:
    powers = [math.exp(one) for one in logits]
    return [one / sum(powers) for one in powers]


def test_labels_have_the_mean_of_their_softmax_where_they_are_predicted() -> None:
    watched = Confidence(Labels(has_regions=False), {"organ": 1, "lesion": 2})
    voxels = ([5.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 1.0], [2.0, 0.0, 1.0])
    found = watched.convert_logits_to_segmentation(logits_of(*voxels))
    assert found.flatten().tolist() == [0, 1, 1, 0]
    expected = (softmax(0, 1, 0)[1] + softmax(0, 3, 1)[1]) / 2
    assert watched.means == {"organ": pytest.approx(expected, abs=1e-6), "lesion": None}


def test_regions_have_the_mean_of_their_sigmoid_where_their_labels_are() -> None:
    watched = Confidence(Labels(has_regions=True), {"core": 2, "whole": [1, 2]})
    voxels = ([1.0, -1.0], [2.0, 3.0], [-4.0, -4.0], [-0.5, 1.0])
    found = watched.convert_logits_to_segmentation(logits_of(*voxels))
    assert found.flatten().tolist() == [1, 2, 0, 2]

    def sigmoid(*logits: float) -> float:
        return sum(1 / (1 + math.exp(-one)) for one in logits) / len(logits)

    assert watched.means["core"] == pytest.approx(sigmoid(3, 1), abs=1e-6)
    assert watched.means["whole"] == pytest.approx(sigmoid(1, 2, -0.5), abs=1e-6)


def test_many_voxels_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.randn((3, 4, 5, 6), generator=torch.Generator().manual_seed(1))
    means = []
    for most in (1 << 16, 4):
        monkeypatch.setattr("sandbox.child.confidence.VOXELS", most)
        watched = Confidence(Labels(has_regions=False), {"organ": 1, "lesion": 2})
        watched.convert_logits_to_segmentation(drawn.half())
        means.append(watched.means)
    for name, label in (("organ", 1), ("lesion", 2)):
        is_there = drawn.half().argmax(0) == label
        expected = float(torch.softmax(drawn.half().float(), 0)[label][is_there].mean())
        assert means[0][name] == means[1][name] == pytest.approx(expected, abs=2e-6)


def test_a_job_without_classes_takes_nothing_down() -> None:
    watched = Confidence(Labels(has_regions=False), {})
    watched.convert_logits_to_segmentation(logits_of([0.0, 1.0, 0.0], [1.0, 0.0, 0.0]))
    assert watched.means == {}
    assert watched.foreground_labels == [1, 2]


def left(out: Path, text: str) -> dict[str, Any]:
    """Return what is collected where a trial left this text."""
    (out / "confidence.json").write_text(text)
    return collect_confidence(out, CASES, CLASSES)


def test_an_honest_file_is_kept_in_order(tmp_path: Path) -> None:
    found = left(tmp_path, json.dumps(dict(reversed(HONEST.items()))))
    assert found == {"means": HONEST}
    assert list(found["means"]) == CASES
    long = {case: dict.fromkeys(CLASSES, 1 / 3) for case in CASES}
    assert left(tmp_path, json.dumps(long)) == {"means": long}


def with_value(value: str) -> str:
    return json.dumps(HONEST).replace("0.9", value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (with_value("NaN"), "not finite"),
        (with_value("Infinity"), "not finite"),
        (with_value("1e999"), "not finite"),
        (with_value("1.0000001"), "out of range"),
        (with_value("-0.1"), "out of range"),
        (with_value("9" * 60), "out of range"),
        (with_value("true"), "a bool; allowed"),
        (with_value('"0.9"'), "a str; allowed"),
        (with_value("{}"), "nested more than 2"),
        (with_value("[]"), "nested more than 2"),
        (with_value("[" * 40 + "]" * 40), "nested more than 2"),
        ("[]", "holds a list"),
        ("", "strict JSON"),
        ("{}", "the 2 cases asked for in 2"),
        (json.dumps({**HONEST, "secret": HONEST["a"]}), "the 2 cases asked for in 1"),
        (json.dumps({"a": HONEST["a"]}), "the 2 cases asked for in 1"),
        (json.dumps({**HONEST, "b": {"organ": 1.0}}), "the 2 classes asked for in 1"),
        (json.dumps({**HONEST, "b": {**HONEST["b"], "x": 1.0}}), "the 2 classes asked for in 1"),
        (json.dumps({**HONEST, "b": None}), "a NoneType for the classes"),
        (json.dumps({**HONEST, "b": 1.0}), "a float for the classes"),
        ('{"a": "\\ud800"}', "surrogates"),
        (json.dumps(HONEST) + " " * 1000, "bytes or more"),
        ("[" * 900_000, "bytes or more"),
    ],
)
def test_anything_else_is_not_known_with_a_reason(tmp_path: Path, text: str, fault: str) -> None:
    found = left(tmp_path, text)
    assert found.keys() == {"unknown"}
    assert fault in found["unknown"]
    assert "secret" not in found["unknown"]
    assert len(found["unknown"]) < 300


def linked(out: Path) -> None:
    (out / "real.json").write_text(json.dumps(HONEST))
    (out / "confidence.json").symlink_to(out / "real.json")


def linked_hard(out: Path) -> None:
    (out / "real.json").write_text(json.dumps(HONEST))
    os.link(out / "real.json", out / "confidence.json")


def sparse(out: Path) -> None:
    (out / "confidence.json").touch()
    os.truncate(out / "confidence.json", 1 << 40)


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (linked, "symbolic link"),
        (linked_hard, "2 hard links"),
        (lambda out: os.mkfifo(out / "confidence.json"), "no regular file"),
        (lambda out: (out / "confidence.json").mkdir(), "no regular file"),
        (sparse, "bytes or more"),
        (lambda out: (out / "confidence.json").write_bytes(b'{"\xff"}'), "strict JSON"),
        (lambda _: None, "is missing"),
    ],
    ids=["link", "hard link", "pipe", "folder", "sparse", "bytes", "nothing"],
)
def test_only_a_plain_file_is_read(
    tmp_path: Path, plant: Callable[[Path], None], fault: str
) -> None:
    plant(tmp_path)
    assert fault in collect_confidence(tmp_path, CASES, CLASSES)["unknown"]


def test_the_longest_honest_file_fits(tmp_path: Path) -> None:
    cases, classes = [f"case_{i}é" for i in range(40)], [f'class "{i}"' for i in range(30)]
    said = {case: dict.fromkeys(classes, 0.1234567890123456) for case in cases}
    text = json.dumps(said, indent=1)
    assert len(text) <= most_bytes(cases, classes)
    (tmp_path / "confidence.json").write_text(text)
    assert collect_confidence(tmp_path, cases, classes) == {"means": said}


def test_what_was_kept_is_parsed_as_strictly() -> None:
    assert parse_means(HONEST, CASES, CLASSES) == HONEST
    with pytest.raises(CollectError, match="out of range"):
        parse_means({**HONEST, "b": {"organ": 2, "lesion": 0}}, CASES, CLASSES)
    assert str(parse_means({"a": {"x": -0.0}}, ["a"], ["x"])["a"]["x"]) == "0.0"


VAL, LOCKED = SplitName.SEARCH_VAL, SplitName.LOCKED_TEST


@pytest.mark.parametrize(
    ("kind", "split", "fold", "is_asked"),
    [
        (Kind.DRAFT, VAL, 0, True),
        (Kind.IMPROVE, VAL, 0, True),
        (Kind.REPAIR, VAL, 0, True),
        (Kind.BASELINE, VAL, 0, True),
        (Kind.BASELINE, VAL, 1, False),
        (Kind.BASELINE, LOCKED, 0, False),
        (Kind.DRAFT, LOCKED, 0, False),
        (Kind.CONFIRM, LOCKED, 0, False),
        (Kind.ABLATE, LOCKED, 0, False),
        (Kind.ABLATE, VAL, 0, False),
        (Kind.SELECT, VAL, 0, False),
    ],
)
def test_only_the_search_and_its_baseline_are_asked(
    kind: Kind, split: SplitName, fold: int, is_asked: bool
) -> None:
    trial = Trial("t", None, None, None, None, kind, 0, 1, split, fold=fold)
    assert asks_confidence(trial) is is_asked


def job(**changes: Any) -> Job:
    made = Job(
        id="t",
        has_network=False,
        iterations=4,
        seed=1,
        device="cpu",
        threads=1,
        workers=0,
        mirroring=False,
        part="search-val",
        shapes={"a": [1, 2, 3]},
        train_cases=[],
        file_ending=".nii.gz",
        labels={"organ": 1},
        ignore_label=None,
        tolerance_mm=2.0,
        has_labels=True,
        wall_s=1.0,
        memory_mib=1,
        disk_mib=1,
        shm_mib=1,
        batch_size=1,
        iteration_limit_s=1.0,
        allow_checkpointing=False,
        start="cold",
        isolation_level="A",
        confidence=True,
    )
    return replace(made, **changes)


def test_a_job_of_any_other_part_asks_for_nothing_whatever_it_says() -> None:
    assert job().asked == {"organ": 1}
    assert job(confidence=False).asked == {}
    assert job(part="locked-test", has_labels=False).asked == {}
    assert job(part="locked-test").asked == {}
    assert job(part="search-train", fold=1).asked == {}
    assert job(has_labels=False).asked == {}


def demo(folder: Path) -> Path:
    return build_demo(folder, subjects=16)


def regions(folder: Path) -> Path:
    return volumes(folder, 14)


AGAIN = """
import json, sys
import numpy as np, torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape as convert,
)
from adapter import adapt
from places import place
from predict import build, read

job, out = json.loads(place("/job.json").read_text()), place("/out")
torch.set_num_threads(1)
state = torch.load(place("/weights/weights.pth"), weights_only=True)
network = adapt(None, job)
network.load_state_dict({**state["parameters"], **state["buffers"]})
predictor, managers = build(network, job)
for case in job["cases"]:
    image, properties = read(case)
    with torch.inference_mode():
        logits = predictor.predict_sliding_window_return_logits(image)
    np.save(out / f"{case}.npy", convert(logits, *managers, properties, True, 1)[1])
"""


def probabilities(campaign: Path, folder: Path, out: Path) -> dict[str, Any]:
    """Return nnU-Net's own probabilities (K, Z, Y, X) of each case, from the weights of a trial."""
    out.mkdir()
    places = {
        "/job.json": folder / "predict" / "job.json",
        "/weights": folder / "weights",
        "/images": campaign / "preprocessed" / "images" / "search-val",
        "/out": out,
    }
    env = {"PYTHONPATH": str(CHILD), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    env["SEGWRIGHT_PLACES"] = json.dumps({name: str(path) for name, path in places.items()})
    subprocess.run([sys.executable, "-c", AGAIN], env=env, check=True, capture_output=True)
    return {path.stem: np.load(path) for path in out.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "configuration", "outputs"),
    [
        (demo, "2d", {}),
        (regions, "3d_fullres", {"whole": 0, "core": 1}),
    ],
)
def test_a_real_prediction_is_as_sure_as_its_probabilities(
    tmp_path: Path,
    make: Callable[[Path], Path],
    configuration: str,
    outputs: dict[str, int],
) -> None:
    session = prepared(tmp_path / "c", make(tmp_path), configuration)
    labels = session.dataset["labels"]
    whole = wait(session.executor, baseline_trial(session, "asked"))
    assert whole["status"] == "ok", whole
    means = whole["confidence"]["means"]

    folder = baseline_trial(session, "unasked")
    own = site(folder)
    own = own._replace(job=replace(read_job(folder), confidence=False))
    setup = {"batch_size": session.plan.batch_size, "checkpointing": False}
    assert train_once(own, setup)["status"] == "ok"
    plain = predict(own)
    assert "confidence" not in plain
    assert not list(folder.rglob("confidence.json"))
    assert plain["predictions_hash"] == whole["predictions_hash"]

    found = probabilities(session.folder, folder, tmp_path / "again")
    assert found.keys() == means.keys() == set(session.cases(VAL))
    seen = 0
    for case, likely in found.items():
        path = folder / "predictions" / f"{case}{session.dataset['file_ending']}"
        label_map = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).reshape(likely.shape[1:])
        for name, values in labels.items():
            is_there = np.isin(label_map, values)
            if not is_there.any():
                assert means[case][name] is None
                continue
            sure = likely[outputs.get(name, values)][is_there]
            assert means[case][name] == pytest.approx(sure.astype(float).mean(), abs=2e-6)
            seen += 1
    assert seen > 0
