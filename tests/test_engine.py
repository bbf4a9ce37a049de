"""nnU-Net inside the sandbox, for real: every kind of dataset, and every kind of bad network."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from agent.config import parse_config
from agent.new_campaign import create
from agent.planners import make_planner
from agent.preparation import make_session
from agent.session import Session
from agent.trials import read_scores
from bench.demo_data import build_demo
from memory.records import SplitName
from memory.store import Store
from sandbox.executor import wait
from tests.effects import UNKNOWN
from tests.engines import TINY, baseline_trial, network_trial, prepared, quiet, written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("engine")
    return prepared(folder / "c", build_demo(folder, subjects=16))


def test_the_plan_is_made_of_search_train_alone(session: Session) -> None:
    base = session.folder / "preprocessed" / session.plan.dataset
    folder = base / session.plan.planned["data_identifier"]
    cases = {path.name.split(".")[0].removesuffix("_seg") for path in folder.iterdir()}
    assert cases == set(session.cases(SplitName.SEARCH_TRAIN))
    images = session.folder / "preprocessed" / "images" / "locked-test"
    assert {p.stem for p in images.iterdir()} == set(session.cases(SplitName.LOCKED_TEST))
    assert not (session.folder / "staging").exists()


def test_the_protocol_is_kept(session: Session) -> None:
    with session.store() as store:
        protocol = store.campaign().protocol
    assert protocol["rung_iterations"] == [2, 4]
    assert protocol["device"] == "cpu"
    assert protocol["plan"]["features"][0] == 4
    assert "bubblewrap" in protocol["isolation"]


def test_a_baseline_is_trained_predicted_and_scored(session: Session) -> None:
    folder = baseline_trial(session, "base1")
    result = wait(session.executor, folder)
    assert result["status"] == "ok", result
    scores = read_scores("base1", result["scores"])
    assert {s.case for s in scores} == set(session.cases(SplitName.SEARCH_VAL))
    assert {s.label for s in scores} == set(session.dataset["labels"])
    reference = sitk.ReadImage(str(next((session.folder / "labels/search-val").iterdir())))
    prediction = sitk.ReadImage(str(next((folder / "predictions").iterdir())))
    assert prediction.GetSpacing() == reference.GetSpacing()
    left = {p.name for p in folder.iterdir()}
    assert not left & {"train", "predict", "weights", "raw"}
    assert len(json.loads((folder / "curve.json").read_text())["loss"]) == 4


def test_the_same_seed_gives_the_same_predictions(session: Session) -> None:
    hashes = [
        wait(session.executor, baseline_trial(session, name, seed=seed))["predictions_hash"]
        for name, seed in (("same1", 5), ("same2", 5), ("other", 6))
    ]
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_a_written_network_is_trained(session: Session) -> None:
    result = wait(session.executor, network_trial(session, written(session)))
    assert result["status"] == "ok", result
    assert result["scores"]


@pytest.mark.gpu
def test_a_baseline_is_trained_on_a_gpu(tmp_path: Path) -> None:
    data = build_demo(tmp_path, subjects=16)
    settings = {**TINY, "engine": {**TINY["engine"], "configuration": "2d", "device": "cuda"}}
    config = parse_config({**settings, "dataset": {"path": str(data)}})
    create(tmp_path / "c", config)
    with Store.open(tmp_path / "c" / "campaign.db") as store:
        session = make_session(tmp_path / "c", config, store, quiet)
    result = wait(session.executor, baseline_trial(session, "gpu"))
    assert result["status"] == "ok", result
    assert result["scores"]


HEAD = "import torch\nfrom torch import nn\n"
PLAIN = (
    "class Net(nn.Module):\n"
    "    def __init__(self, i, k):\n"
    "        super().__init__()\n"
    "        self.conv = nn.Conv2d(i, k, 3, padding=1)\n"
    "    def forward(self, x):\n"
    "        return {body}\n"
    "def build_network(in_channels, num_classes, spec):\n"
    "    return Net(in_channels, num_classes)\n"
)
AT_TRAINING = "self.conv(x) if not self.training or x.shape[0] == 1 else {body}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("self.conv(x) * float('nan')", "diverged"),
        ("torch.zeros(10**13) + self.conv(x).sum()", "out_of_memory"),
        ("[][0]", "failed"),
    ],
)
def test_a_failed_training_is_data(session: Session, body: str, status: str) -> None:
    source = HEAD + PLAIN.format(body=AT_TRAINING.format(body=body))
    folder = network_trial(session, source)
    result = wait(session.executor, folder)
    assert result["status"] == status, result
    assert result["scores"] == []
    assert result["failure_excerpt"]


def test_a_training_that_never_ends_is_ended(session: Session) -> None:
    body = AT_TRAINING.format(body="__import__('time').sleep(3600)")
    folder = network_trial(session, HEAD + PLAIN.format(body=body), seed=7)
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "wall_s": 20}))
    result = wait(session.executor, folder)
    assert result["status"] == "timed_out"


def test_predictions_that_are_links_are_refused(session: Session) -> None:
    source = HEAD + (
        "import os\n"
        "try:\n"
        "    os.makedirs('/out/predictions', exist_ok=False)\n"
        "except OSError:\n"
        "    pass\n"
    )
    plain = PLAIN.format(body="self.conv(x)")
    folder = network_trial(session, source + plain, seed=8)
    result = wait(session.executor, folder)
    assert result["status"] in ("failed", "rejected"), result
    assert result["scores"] == []


def volumes(root: Path, cases: int) -> Path:
    """Write 3D cases of two channels with overlapping regions and an ignore label."""
    root = root / "Dataset011_Regions"
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for i in range(cases):
        rng = np.random.default_rng(i)
        label = np.zeros((20, 24, 28), np.uint8)
        label[4:14, 5 : 15 + i % 4, 6:20] = 1
        label[7:11, 8:13, 9:15] = 2
        label[:2] = 3
        for channel in (0, 1):
            image = (label * (channel + 1) + rng.normal(0, 0.2, label.shape)).astype(np.float32)
            write(image, root / "imagesTr" / f"v_{i:02d}_{channel:04d}.nii.gz")
        write(label, root / "labelsTr" / f"v_{i:02d}.nii.gz")
    declared = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "regions_class_order": [1, 2],
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(declared))
    return root


def write(array: Any, path: Path) -> None:
    """Write a volume with anisotropic spacing."""
    image: Any = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.2, 2.0))
    sitk.WriteImage(image, str(path))


def pictures(root: Path, cases: int) -> Path:
    """Write 2D pictures of one grey channel."""
    root = root / "Dataset012_Pictures"
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for i in range(cases):
        rng = np.random.default_rng(i)
        label = np.zeros((48, 40), np.uint8)
        label[10 : 25 + i % 5, 8:30] = 1
        image = (label * 120 + rng.integers(0, 60, label.shape)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(image), str(root / f"imagesTr/p{i:02d}_0000.png"))
        sitk.WriteImage(sitk.GetImageFromArray(label), str(root / f"labelsTr/p{i:02d}.png"))
    declared = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "thing": 1},
        "numTraining": cases,
        "file_ending": ".png",
    }
    (root / "dataset.json").write_text(json.dumps(declared))
    return root


@pytest.mark.parametrize(
    ("make", "configuration"), [(volumes, "3d_fullres"), (volumes, "2d"), (pictures, "2d")]
)
def test_other_kinds_of_dataset_go_through(
    tmp_path: Path, make: Callable[[Path, int], Path], configuration: str
) -> None:
    session = prepared(tmp_path / "c", make(tmp_path, 14), configuration)
    assert session.plan.configuration == configuration
    result = wait(session.executor, baseline_trial(session, "base"))
    assert result["status"] == "ok", result
    scores = read_scores("base", result["scores"])
    assert {s.label for s in scores} == set(session.dataset["labels"])
    plan = make_planner(session)
    dims = session.plan.spec["dims"]
    source = plan.write(plan.propose([], UNKNOWN, Random(1), dims=dims))
    result = wait(session.executor, network_trial(session, source))
    assert result["status"] == "ok", result
    shutil.rmtree(tmp_path / "c")
