"""How a training fails, for real: each class of failure from a network that provokes it."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agent.session import Session
from bench.demo_data import build_demo
from sandbox.child.early import (
    COLLAPSE_FROM,
    LOOKS,
    EndedEarly,
    Signs,
    is_collapsed,
    is_varied,
    progress,
)
from sandbox.executor import wait
from sandbox.processes import descendants, stat_fields
from tests.engines import baseline_trial, network_trial, prepared, written


def signs(iterations: int, has_regions: bool = False) -> Signs:
    return Signs(iterations, has_regions=has_regions, ignore_label=None)


def one_class(shape: tuple[int, ...] = (2, 3, 8, 8), answer: int = 1) -> Tensor:
    """Return logits that name one class in every voxel."""
    logits = torch.zeros(shape)
    logits[:, answer] = 5
    return logits


LABELS = torch.arange(128).reshape(2, 1, 8, 8) % 3


def test_one_other_voxel_is_no_collapse() -> None:
    logits = one_class()
    assert is_collapsed(logits, has_regions=False)
    logits[0, 2, 3, 5] = 9
    assert not is_collapsed(logits, has_regions=False)


def test_regions_collapse_one_by_one() -> None:
    logits = torch.full((2, 2, 8, 8), -1.0)
    assert is_collapsed(logits, has_regions=True)
    logits[0, 1, 3, 5] = 1
    assert not is_collapsed(logits, has_regions=True)


def test_labels_of_one_class_say_nothing() -> None:
    assert is_varied(LABELS, False, None)
    assert not is_varied(torch.zeros_like(LABELS), False, None)
    ignored = torch.zeros_like(LABELS)
    ignored[0, 0, 0, 0] = 3
    assert not is_varied(ignored, False, 3)
    assert is_varied(ignored > 0, True, None)


def run_signs(watched: Signs, looks: Tensor, target: Tensor, losses: np.ndarray[Any, Any]) -> int:
    """Return the iteration at which a training is ended, or its length."""
    for done, loss in enumerate(losses):
        try:
            if watched.wants_look():
                watched.look(looks, target)
            watched.add(float(loss))
        except EndedEarly:
            return done
    return len(losses)


def falling(iterations: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return the losses of a slow training: they fall by a quarter, and are noisy."""
    noise = np.random.default_rng(seed).normal(0, 0.2, iterations)
    fall: np.ndarray[Any, Any] = np.linspace(1.0, 0.5, iterations) + noise
    return fall


@pytest.mark.parametrize("iterations", [200, 1000, 12345])
def test_a_collapse_ends_a_training_in_its_last_half(iterations: int) -> None:
    at = run_signs(signs(iterations), one_class(), LABELS, falling(iterations))
    assert 0.7 * iterations < at < 0.8 * iterations


@pytest.mark.parametrize("iterations", [4, 59, COLLAPSE_FROM - 1])
def test_a_short_rung_is_never_a_collapse(iterations: int) -> None:
    """A good network may still name one class when a short rung ends."""
    at = run_signs(signs(iterations), one_class(), LABELS, falling(iterations))
    assert at == iterations


def test_a_collapse_that_ends_is_forgotten() -> None:
    watched = signs(200)
    watched.losses = [1.0] * 150
    for number in range(3 * LOOKS):
        watched.look(one_class(), LABELS)
        if number % (LOOKS - 1) == 0:
            watched.look(torch.randn(2, 3, 8, 8), LABELS)
    assert watched.looks < LOOKS


def test_looks_are_few() -> None:
    watched = signs(10_000)
    wanted = 0
    for _ in range(10_000):
        wanted += watched.wants_look()
        watched.losses.append(1.0)
    assert LOOKS < wanted <= 101


@pytest.mark.parametrize("seed", range(20))
def test_a_slow_training_is_progress(seed: int) -> None:
    assert progress(falling(60, seed).tolist()) == ""


def test_a_flat_or_rising_loss_is_none() -> None:
    assert "not more than noise" in progress([1.0] * 60)
    assert "fell by -" in progress(falling(60)[::-1].tolist())
    assert run_signs(signs(60), one_class(), LABELS, np.ones(60)) == 59
    assert run_signs(signs(59), one_class(), LABELS, np.ones(59)) == 59


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="loss is inf at iteration 0"):
        signs(4).add(float("inf"))


NETWORK = """
import time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.conv = nn.Conv2d(i, k, 3, padding=1)
        self.passes = 0

    def forward(self, x):
        y = self.conv(x)
        self.passes += self.training
        if self.passes > 1:
            {inside}
        return y

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""
CASES: dict[str, tuple[str, dict[str, Any], str, str, str]] = {
    "nan": ("y = y * float('nan')", {}, "diverged", "diverged", "loss is nan at iteration 1"),
    "infinite": ("y = y * 1e38 * 1e38", {}, "diverged", "diverged", "loss is"),
    "one class": (
        "y = torch.cat([y[:, :1].detach() + 50, y[:, 1:] * 1e-3], 1)",
        {"iterations": COLLAPSE_FROM},
        *("diverged", "collapsed", "one class in every voxel at 50 looks in a row"),
    ),
    "no progress": (
        "y = y * 0",
        {"iterations": 60},
        *("diverged", "no_progress", "not more than noise"),
    ),
    "asleep": (
        "time.sleep(60)",
        {"iteration_limit_s": 3.0},
        *("failed", "stalled", "no iteration ended for 3 s"),
    ),
    "busy": (
        "while True: pass",
        {"iteration_limit_s": 3.0},
        *("failed", "stalled", "no iteration ended for 3 s"),
    ),
    "memory": (
        "y = y + torch.zeros(10**13).sum()",
        {"allow_checkpointing": False},
        *("out_of_memory", "out_of_memory", "allocate"),
    ),
    "raises": ("[][0]", {}, "failed", "exception", "IndexError"),
    "heads": ("y = y[..., ::2]", {}, "rejected", "contract", "a head has shape"),
    "time": ("time.sleep(60)", {"wall_s": 15.0}, "timed_out", "timed_out", "after 1"),
}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> Session:
    folder = tmp_path_factory.mktemp("training")
    return prepared(folder / "c", build_demo(folder, subjects=16))


def run(session: Session, folder: Path, **changes: Any) -> dict[str, Any]:
    """Run a trial with a job of one's own in a sandbox of this machine."""
    change(folder, **changes)
    return wait(session.executor, folder)


def change(folder: Path, **changes: Any) -> None:
    """Give a trial a job of one's own."""
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "start": "warm", **changes}))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_failure_has_its_class(session: Session, name: str) -> None:
    inside, changes, status, kind, said = CASES[name]
    folder = network_trial(session, NETWORK.format(inside=inside))
    result = run(session, folder, **changes)
    assert (result["status"], result["failure_class"]) == (status, kind), result
    assert said in result["failure_excerpt"]
    assert result["scores"] == []


@pytest.mark.slow
def test_a_stalled_training_leaves_its_stacks_in_the_log(session: Session) -> None:
    folder = network_trial(session, NETWORK.format(inside="time.sleep(61)"))
    run(session, folder, iteration_limit_s=3.0)
    log = (folder / "log.txt").read_text()
    assert "network.py" in log
    assert "in forward" in log
    assert "in train_step" in log


@pytest.mark.slow
def test_a_dead_worker_is_named(session: Session) -> None:
    """A case that is missing ends the worker that would have read it."""
    folder = baseline_trial(session, "worker")
    cases = json.loads((folder / "job.json").read_text())["train_cases"]
    result = run(session, folder, workers=1, train_cases=[*cases[:1], "missing"])
    assert (result["status"], result["failure_class"]) == ("failed", "worker_died"), result


@pytest.mark.slow
def test_a_worker_that_the_system_ends_died_of_memory(session: Session) -> None:
    folder = baseline_trial(session, "shot")
    change(folder, workers=1, iterations=4000, start="cold")
    session.executor.submit(folder)
    deadline = time.monotonic() + 60
    while not (folder / "train" / "out" / "progress.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The youngest process of the trial is the worker: a fork of the training.
    supervisor = int((folder / "pid").read_text())
    worker = max(descendants(supervisor), key=lambda pid: int(stat_fields(pid)[19]))
    os.kill(worker, signal.SIGKILL)
    result = wait(session.executor, folder)
    assert (result["status"], result["failure_class"]) == ("failed", "worker_memory"), result
    assert "ended with exit code -9" in result["failure_excerpt"]


@pytest.mark.slow
def test_good_networks_show_no_sign(session: Session) -> None:
    """Long enough for every sign, and with the fewest channels."""
    result = run(session, baseline_trial(session, "good"), iterations=COLLAPSE_FROM)
    assert result["status"] == "ok", result
    result = run(session, network_trial(session, written(session)), iterations=60)
    assert result["status"] == "ok", result


STAGED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(i, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.2))
        self.out = nn.Conv2d(8, k, 1)

    def forward(self, x):
        if self.training and {short} and 'forward' not in vars(self.stage):
            torch.zeros(10**13)
        return self.out(self.stage(x))

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""


@pytest.mark.slow
def test_a_training_that_was_out_of_memory_gives_the_same_bits_with_checkpointing(
    session: Session,
) -> None:
    plain = run(session, network_trial(session, STAGED.format(short=False)))
    retried = run(session, network_trial(session, STAGED.format(short=True)))
    assert plain["status"] == retried["status"] == "ok", retried
    assert not plain["setup"]["checkpointing"]
    assert retried["setup"]["checkpointing"]
    assert plain["predictions_hash"] == retried["predictions_hash"]
