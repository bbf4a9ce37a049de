"""A look at a training: its thread, its files, and real ones under every boundary."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.session import Session
from bench.demo_data import build_demo
from memory.errors import CollectError
from sandbox import checkpoint
from sandbox.checkpoint import Look, iteration_at, left_by
from sandbox.executor import wait
from sandbox.isolation import available
from sandbox.processes import is_alive
from tests.engines import network_trial, prepared
from tests.test_supervisor import processes_of, trial


@pytest.mark.parametrize(
    ("fraction", "iterations", "at"),
    [(0.5, 1000, 500), (0.0, 1000, 0), (0.9, 4, 0), (0.5, 3, 2), (0.1, 4, 0), (0.9, 1000, 900)],
)
def test_a_look_lies_inside_of_its_training(fraction: float, iterations: int, at: int) -> None:
    assert iteration_at(fraction, iterations) == at


def looked(
    folder: Path,
    carry_out: Callable[[Callable[[], bool]], dict[str, Any]],
    during: Callable[[Look], None] = lambda look: None,
    *,
    is_left: bool = True,
) -> dict[str, Any] | None:
    """Return what a look publishes at a training that does `during`."""
    with Look(folder, 7, carry_out, lambda: False) as look:
        if is_left:
            left_by(folder).mkdir(parents=True)
        during(look)
    assert threading.active_count() == 1
    return checkpoint.read(folder)


def test_a_checkpoint_left_a_moment_before_the_end_is_looked_at(tmp_path: Path) -> None:
    said = looked(tmp_path, lambda _: {"scores": [1]})
    assert said is not None
    assert (said["iteration"], said["scores"]) == (7, [1])
    assert said["seconds"] >= 0


def test_a_look_that_fails_says_why(tmp_path: Path) -> None:
    def fail(_: object) -> dict[str, Any]:
        raise CollectError("no plain file")

    said = looked(tmp_path, fail)
    assert said is not None
    assert said["failed"] == "no plain file"


def test_a_training_without_a_checkpoint_is_not_looked_at(tmp_path: Path) -> None:
    assert looked(tmp_path, lambda _: {"scores": []}, is_left=False) is None


def until_told(must_end: Callable[[], bool]) -> dict[str, Any]:
    while not must_end():
        time.sleep(0.005)
    return {"failed": "stopped"}


def test_a_look_is_ended_with_a_training_that_failed(tmp_path: Path) -> None:
    assert looked(tmp_path, until_told, Look.cancel) is None


def test_a_look_is_ended_with_a_supervisor_that_fails(tmp_path: Path) -> None:
    def fail(_: Look) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        looked(tmp_path, until_told, fail)
    assert threading.active_count() == 1
    assert checkpoint.read(tmp_path) is None


def test_a_published_look_is_not_repeated(tmp_path: Path) -> None:
    first = looked(tmp_path, lambda _: {"scores": [1]})
    left_by(tmp_path).rmdir()
    assert looked(tmp_path, lambda _: {"scores": [2]}) == first


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "weights.pth").write_text("secret")
    left_by(tmp_path).parent.mkdir(parents=True)
    left_by(tmp_path).symlink_to(tmp_path / "secret")
    with pytest.raises(CollectError, match="symbolic link|not a folder"):
        checkpoint.take(tmp_path, tmp_path / "taken", max_bytes=100)


class Polled:
    """Runs for some polls; the checkpoint is there at the second, the result after the last."""

    def __init__(self, polls: int) -> None:
        self.polls = polls

    def submit(self, folder: Path) -> None:
        """Never needed."""

    def state(self, folder: Path) -> str:
        self.polls -= 1
        if self.polls == 1:
            checkpoint.write(folder / "checkpoint.json", {"iteration": 7, "scores": []})
        if self.polls < 0:
            (folder / "result.json").write_text(json.dumps({"status": "ok"}))
        return "running" if self.polls >= 0 else "done"

    def cancel(self, folder: Path) -> None:
        """Never needed."""


@pytest.mark.parametrize("answer", ["it is hopeless", None])
def test_a_checkpoint_is_told_once_and_answered(tmp_path: Path, answer: str | None) -> None:
    heard = list[dict[str, Any]]()

    def listen(said: dict[str, Any]) -> str | None:
        heard.append(said)
        return answer

    assert wait(Polled(5), tmp_path, on_checkpoint=listen) == {"status": "ok"}
    assert heard == [{"iteration": 7, "scores": []}]
    assert checkpoint.is_told(tmp_path) == (answer is not None)
    assert checkpoint.told(tmp_path, "nothing") == (answer or "nothing")


def test_a_trial_that_ended_unheard_is_told_of_and_not_stopped(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "checkpoint.json", {"iteration": 7})
    heard = list[dict[str, Any]]()

    def listen(said: dict[str, Any]) -> str:
        heard.append(said)
        return "it is hopeless"

    assert wait(Polled(0), tmp_path, on_checkpoint=listen) == {"status": "ok"}
    assert heard == [{"iteration": 7}]
    assert not checkpoint.is_told(tmp_path)


RANDOM = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(i, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.2))
        self.out = nn.Conv2d(8, k, 1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += self.training
        if {fails} and not self.training and 0 < self.seen < 12:
            raise RuntimeError("not yet")
        return self.out(self.stage(x))

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> Session:
    folder = tmp_path_factory.mktemp("checkpoint")
    return prepared(folder / "c", build_demo(folder, subjects=16))


def random_trial(session: Session, seed: int, *, fails: bool = False, **changes: Any) -> Path:
    """Return the folder of a trial whose network draws random numbers, 12 iterations long."""
    folder = network_trial(session, RANDOM.format(fails=fails), seed=seed)
    job = json.loads((folder / "job.json").read_text()) | {"seed": 1, "iterations": 12, **changes}
    (folder / "job.json").write_text(json.dumps(job))
    return folder


KEPT = {
    *("code", "curve.json", "job.json", "lock", "log.txt", "pid", "predictions", "result.json"),
    "supervisor.log",
}


@pytest.mark.slow
def test_a_look_changes_no_bit_of_the_training(session: Session) -> None:
    without = wait(session.executor, random_trial(session, 1))
    folder = random_trial(session, 2, checkpoint=0.5)
    with_look = wait(session.executor, folder)
    assert with_look["status"] == without["status"] == "ok", with_look
    assert with_look["predictions_hash"] == without["predictions_hash"]
    assert with_look["scores"] == without["scores"]
    said = checkpoint.read(folder)
    assert said is not None
    assert said["iteration"] == 6
    assert [row[:3] for row in said["scores"]] == [row[:3] for row in with_look["scores"]]
    assert said["scores"] != with_look["scores"]
    assert {path.name for path in folder.iterdir()} == KEPT | {"checkpoint.json"}


@pytest.mark.slow
def test_a_look_that_fails_leaves_the_trial_alone(session: Session) -> None:
    folder = random_trial(session, 5, fails=True, checkpoint=0.5)
    result = wait(session.executor, folder)
    assert result["status"] == "ok", result
    said = checkpoint.read(folder)
    assert said is not None
    assert "RuntimeError: not yet" in said["failed"]
    assert "scores" not in said


@pytest.mark.slow
def test_a_trial_without_labels_is_never_looked_at(session: Session) -> None:
    folder = random_trial(session, 6, checkpoint=0.5, has_labels=False)
    assert wait(session.executor, folder)["status"] == "ok"
    assert checkpoint.read(folder) is None


@pytest.mark.slow
def test_a_boundary_without_namespaces_sees_the_same(session: Session) -> None:
    """There the look's run dies by its keeper, and finds its files at their own paths."""
    others = [{"isolation_level": one.level} for one in available() if one.level != "A"]
    other = others[0] if others else {"unsafe_reason": "to compare the levels"}
    jobs: list[dict[str, Any]] = [{"start": "warm"}, {"start": "cold", **other}]
    found = []
    for seed, job in enumerate(jobs, start=16):
        folder = random_trial(session, seed, checkpoint=0.5, **job)
        assert wait(session.executor, folder)["status"] == "ok"
        said = checkpoint.read(folder)
        assert said is not None
        found.append(said["scores"])
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_supervisor_that_ends_during_a_look_leaves_nothing(
    session: Session, start: str, number: signal.Signals
) -> None:
    name = f"look{start}{number.value}"
    folder = trial(session, name, start, iterations=4000, checkpoint=0.001)
    session.executor.submit(folder)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint" / "predict" / "out").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    known = processes_of(folder)
    os.kill(int((folder / "pid").read_text()), number)
    while any(is_alive(pid) for pid in known | processes_of(folder)):
        assert time.monotonic() < deadline, "a process of the trial lives on"
        time.sleep(0.05)
    assert session.executor.state(folder) == "gone"
    if number is signal.SIGTERM:
        left = {path.name for path in folder.iterdir()} - {"checkpoint.json"}
        assert left == {"job.json", "lock", "log.txt", "pid", "supervisor.log"}
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(job | {"iterations": 4, "checkpoint": 0.5}))
    assert wait(session.executor, folder)["status"] == "ok"
    assert checkpoint.read(folder) is not None


@pytest.mark.slow
def test_a_training_that_is_told_stops_and_says_why(session: Session) -> None:
    folder = trial(session, "told", "warm", iterations=100_000, checkpoint=0.0001)
    result = wait(session.executor, folder, on_checkpoint=lambda _: "it is hopeless")
    assert (result["status"], result["failure_class"]) == ("cancelled", "stopped")
    assert result["failure_excerpt"] == "it is hopeless"
    assert result["scores"] == []
    assert 0 < result["train_seconds"] <= result["seconds"]
    expected = KEPT - {"code", "curve.json", "predictions"}
    assert {p.name for p in folder.iterdir()} == expected | {"checkpoint.json", "stop.json"}
    deadline = time.monotonic() + 60
    while processes_of(folder):
        assert time.monotonic() < deadline, "a process of the trial lives on"
        time.sleep(0.05)
