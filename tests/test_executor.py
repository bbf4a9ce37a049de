"""Every executor: one contract; and the supervisor behind the local one."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memory.errors import SandboxError
from sandbox import supervisor
from sandbox.executor import Executor, LocalExecutor, Stopped, is_locked, read_result, wait


class InstantExecutor:
    """Ends each trial when asked; stands for a scheduler that does as it is told."""

    def __init__(self, results: list[dict[str, object] | None]) -> None:
        self.results, self.submitted = results, 0

    def submit(self, folder: Path) -> None:
        result = self.results[self.submitted]
        self.submitted += 1
        if result is not None:
            (folder / "result.json").write_text(json.dumps(result))

    def state(self, folder: Path) -> str:
        return "done" if (folder / "result.json").exists() else "gone"

    def cancel(self, folder: Path) -> None:
        (folder / "cancelled").touch()


@pytest.mark.parametrize("make", [lambda: LocalExecutor(), lambda: InstantExecutor([])])
class TestContract:
    def test_an_empty_folder_is_gone(self, make: Callable[[], Executor], tmp_path: Path) -> None:
        assert make().state(tmp_path) == "gone"

    def test_a_result_means_done(self, make: Callable[[], Executor], tmp_path: Path) -> None:
        (tmp_path / "result.json").write_text("{}")
        assert make().state(tmp_path) == "done"

    def test_a_cancel_of_nothing_is_harmless(
        self, make: Callable[[], Executor], tmp_path: Path
    ) -> None:
        make().cancel(tmp_path)
        assert make().state(tmp_path) == "gone"


def test_a_held_lock_means_running(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_locked(tmp_path)
        assert LocalExecutor().state(tmp_path) == "running"
    assert not is_locked(tmp_path)


def test_broken_infrastructure_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.executor.START_S", 0.1)
    broken: dict[str, object] = {"status": "infrastructure", "failure_excerpt": "disk full"}
    executor = InstantExecutor([broken, None, {"status": "ok"}])
    assert wait(executor, tmp_path) == {"status": "ok"}
    assert executor.submitted == 3


def test_infrastructure_that_stays_broken_is_an_error(tmp_path: Path) -> None:
    broken: dict[str, object] = {"status": "infrastructure", "failure_excerpt": "disk full"}
    with pytest.raises(SandboxError, match="3 attempts: disk full"):
        wait(InstantExecutor([broken] * 3), tmp_path)


def test_a_stop_cancels_and_raises(tmp_path: Path) -> None:
    executor = InstantExecutor([None])
    executor.state = lambda folder: "running"  # type: ignore[method-assign]
    with pytest.raises(Stopped, match="starts it again"):
        wait(executor, tmp_path, is_stopped=lambda: True)
    assert (tmp_path / "cancelled").exists()


def test_a_supervisor_without_a_job_leaves_no_result(tmp_path: Path) -> None:
    LocalExecutor().submit(tmp_path)
    deadline = time.monotonic() + 20
    while "job.json" not in (tmp_path / "supervisor.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert LocalExecutor().state(tmp_path) == "gone"


def test_a_second_supervisor_leaves_at_once(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        try:
            assert supervisor.main(tmp_path) == supervisor.BUSY
        finally:
            signal.signal(signal.SIGTERM, handlers[0])
            signal.signal(signal.SIGINT, handlers[1])


def test_a_result_is_published_once(tmp_path: Path) -> None:
    supervisor.publish(tmp_path, {"status": "ok", "by": 1})
    supervisor.publish(tmp_path, {"status": "failed", "by": 2})
    assert read_result(tmp_path) == {"status": "ok", "by": 1}
    assert sorted(os.listdir(tmp_path)) == ["result.json"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("timed_out", "timed_out"),
        ("out_of_memory", "out_of_memory"),
        ("diverged", "diverged"),
        ("contract", "rejected"),
        ("exception", "failed"),
        ("anything", "failed"),
    ],
)
def test_a_failure_becomes_a_status(kind: str, status: str) -> None:
    assert supervisor.failed(kind, "why")["status"] == status
