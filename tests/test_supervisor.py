"""A trial's supervisor for real: killed at any moment, it leaves nothing, and is started again."""

import json
import os
import signal
import time
from pathlib import Path
from random import Random

import pytest
import torch

from agent.session import Session
from bench.demo_data import build_demo
from bench.inference import site
from sandbox.dry_run import dry_run
from sandbox.executor import is_locked, wait
from sandbox.isolation import available
from sandbox.processes import is_alive
from sandbox.supervisor import weigh
from tests.engines import baseline_trial, prepared

pytestmark = pytest.mark.slow
MOMENTS = 4


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> Session:
    folder = tmp_path_factory.mktemp("supervisor")
    return prepared(folder / "c", build_demo(folder, subjects=16))


def trial(session: Session, name: str, start: str, **changes: object) -> Path:
    """Return the folder of a baseline trial with a job of one's own."""
    folder = baseline_trial(session, name)
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "start": start, **changes}))
    return folder


def processes_of(folder: Path) -> set[int]:
    """Return the living processes that name a trial's folder, or hold its log open."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            said = [(entry / "cmdline").read_text(), *map(os.readlink, (entry / "fd").iterdir())]
        except OSError:
            continue
        if any(str(folder) in text for text in said):
            found.add(int(entry.name))
    return found - {os.getpid()}


@pytest.mark.parametrize("start", ["cold", "warm"])
def test_a_supervisor_killed_at_any_moment_leaves_nothing(session: Session, start: str) -> None:
    """Moments are drawn over the whole of a trial, from its first process to its result."""
    folder = trial(session, f"dry{start}", start)
    began = time.monotonic()
    wait(session.executor, folder)
    whole_s = time.monotonic() - began
    rng = Random(start)
    folder = trial(session, f"kill{start}", start)
    for number in range(MOMENTS):
        session.executor.submit(folder)
        time.sleep(whole_s * (number + rng.random()) / MOMENTS)
        known = processes_of(folder)
        if is_locked(folder):
            os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
        deadline = time.monotonic() + 5
        while any(is_alive(pid) for pid in known | processes_of(folder)):
            assert time.monotonic() < deadline, "a process of the trial outlived 5 s"
            time.sleep(0.05)
    assert wait(session.executor, folder)["status"] == "ok"


def test_a_cold_and_a_warm_start_give_the_same_bits(session: Session) -> None:
    cold, warm = (wait(session.executor, trial(session, f"{s}1", s)) for s in ("cold", "warm"))
    assert (cold["start"], warm["start"]) == ("cold", "warm")
    assert cold["predictions_hash"] == warm["predictions_hash"]
    assert cold["scores"] == warm["scores"]
    default = dry_run(
        session.plan,
        None,
        folder=session.folder / "dry",
        device="cpu",
        threads=1,
        isolation=session.isolation,
        limits=session.limits(60),
    )
    assert cold["parameters"] == warm["parameters"] == default.parameters
    assert default.parameters == by_hand(session)
    assert warm["cpu_seconds"] < cold["cpu_seconds"]


def by_hand(session: Session) -> int:
    """Return the parameters of nnU-Net's plain U-Net in 2D, from its plan alone."""
    spec, classes = session.plan.spec, session.plan.num_classes
    total, before = 0, session.plan.in_channels
    for width, kernel, depth in zip(
        spec["features"], spec["kernel_sizes"], spec["convs_encoder"], strict=True
    ):
        for _ in range(depth):
            total += (before * kernel[0] * kernel[1] + 1) * width + 2 * width
            before = width
    for stage in reversed(range(len(spec["features"]) - 1)):
        width, below = spec["features"][stage], spec["features"][stage + 1]
        step, kernel = spec["strides"][stage + 1], spec["kernel_sizes"][stage]
        total += (below * step[0] * step[1] + 1) * width
        before = 2 * width
        for _ in range(spec["convs_decoder"][len(spec["features"]) - 2 - stage]):
            total += (before * kernel[0] * kernel[1] + 1) * width + 2 * width
            before = width
        total += (width + 1) * classes
    return total


def test_every_level_gives_the_same_bits(session: Session) -> None:
    """Also without a boundary: what a run computes does not depend on what contains it."""
    found = {}
    for level in [one.level for one in available()]:
        folder = trial(session, f"level{level}", "cold", isolation_level=level)
        found[level] = wait(session.executor, folder)
    reason = {"unsafe_reason": "to compare the levels"}
    found["D"] = wait(session.executor, trial(session, "levelD", "cold", **reason))
    assert {"A", "D"} <= set(found)
    for level, result in found.items():
        assert result["status"] == "ok", result
        assert result["isolation"].startswith(f"level {level}")
        assert result["predictions_hash"] == found["A"]["predictions_hash"]


def test_a_cancelled_trial_leaves_no_result_and_runs_again(session: Session) -> None:
    folder = trial(session, "cancel", "cold")
    session.executor.submit(folder)
    deadline = time.monotonic() + 20
    while not (folder / "train").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    session.executor.cancel(folder)
    while session.executor.state(folder) == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert session.executor.state(folder) == "gone"
    assert not (folder / "train").exists()
    assert wait(session.executor, folder)["status"] == "ok"


def test_weights_with_a_program_are_refused_where_they_are_weighed(
    session: Session, tmp_path: Path
) -> None:
    folder, bombed = trial(session, "bomb", "warm"), tmp_path / "bombed"
    program = f"import os; os.system('touch {bombed} /out/bombed /tmp/bombed')"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (program,)

    (folder / "weights").mkdir()
    torch.save({"parameters": Bomb(), "buffers": {}}, folder / "weights" / "weights.pth")
    found = weigh(site(folder))
    assert (found["status"], found["failure_class"]) == ("rejected", "output")
    assert "the weights cannot be read" in found["failure_excerpt"]
    assert not bombed.exists()
    assert not (folder / "weigh" / "out" / "bombed").exists()
