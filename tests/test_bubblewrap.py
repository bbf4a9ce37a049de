"""The command line of level A: what is mounted, and which card a run is given."""

from pathlib import Path

import pytest

from memory.errors import SandboxError
from sandbox.boundary import ENVIRONMENT, Isolation, Limits, Mount, Run
from sandbox.bubblewrap import command, process_limits, program_file
from sandbox.gpus import Gpu

HERE = Isolation("A", "bubblewrap", Path("/usr/bin/bwrap"), "0")


def line(run: Run) -> list[str]:
    """Return the command line of a run."""
    return command(HERE, run, ["true"], status=8, program=9)


def pairs(words: list[str], option: str) -> list[tuple[str, str]]:
    """Return the two words after each use of an option."""
    at = [n for n, word in enumerate(words) if word == option]
    return [(words[n + 1], words[n + 2]) for n in at]


def run(**changes: object) -> Run:
    """Return a run that writes in one place."""
    mounts = [Mount(Path("/a"), "/data"), Mount(Path("/b"), "/out", True)]
    return Run(["true"], mounts, Path("/log"), **changes)  # type: ignore[arg-type]


def test_only_out_is_writable() -> None:
    words = line(run())
    assert pairs(words, "--bind") == [("/b", "/out")]
    assert ("/a", "/data") in pairs(words, "--ro-bind")
    assert words[-3:] == ["/tmp", "--", "true"]


def test_variables_are_those_that_are_named() -> None:
    words = line(run(env={"WANTED": "yes"}))
    assert dict(pairs(words, "--setenv")) == {**ENVIRONMENT, "WANTED": "yes"}
    assert "--clearenv" in words


def test_without_a_card_there_is_no_device_and_proc_is_read_only() -> None:
    words = line(run())
    assert not [word for word in words if "nvidia" in word or word == "/sys"]
    assert words[words.index("--remount-ro") + 1] == "/proc"


def test_a_card_brings_its_own_node_and_no_other() -> None:
    words = line(run(gpu=Gpu("GPU-aa", 3)))
    numbered = [w for w in words if w.startswith("/dev/nvidia") and w[-1].isdigit()]
    assert set(numbered) == {"/dev/nvidia3"}
    assert ("CUDA_VISIBLE_DEVICES", "GPU-aa") in pairs(words, "--setenv")
    assert ("/proc/sys", "/proc/sys") in pairs(words, "--ro-bind-try")
    assert ("/proc/sysrq-trigger",) * 2 in pairs(words, "--ro-bind-try")


def test_limits_of_each_process() -> None:
    found = process_limits(Limits(processes=7, file_mib=2, cpu_s=0.2, open_files=9))
    assert found == {"nproc": 7, "core": 0, "nofile": 9, "fsize": 2 << 20, "cpu": 1}
    assert "cpu" not in process_limits(Limits())


def test_a_processor_without_a_filter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with (
        pytest.raises(SandboxError, match="no filter of system calls for riscv64"),
        program_file(has_gpu=False),
    ):
        pass
