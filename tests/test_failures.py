"""Failure classes: what a run says, how it ended, and the texts of nnU-Net that hide a cause."""

import importlib.util
import json
import mmap
import subprocess
import sys
import time
from multiprocessing import reduction
from pathlib import Path

import pytest

from memory.records import Status
from sandbox.failures import (
    CLAIMED,
    CLASSES,
    SIGNS,
    TEXT_CHARACTERS,
    WORKER_SIGNS,
    excerpt,
    failure,
    recognise,
    status_of,
)
from sandbox.watch import Ended

DEAD = "RuntimeError: One or more background workers are no longer alive. Exiting."
TEXTS = {
    "worker killed": (f"{DEAD}\nworker exit code -9", "worker_memory"),
    "worker out of memory": (f"MemoryError\n{DEAD}", "worker_memory"),
    "worker bus error": (
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient "
        f"shared memory (shm).\n{DEAD}",
        "worker_shared_memory",
    ),
    "worker signal 7": (f"{DEAD}\nworker exit code -7", "worker_shared_memory"),
    "descriptors": (f"RuntimeError: received 0 items of ancdata\n{DEAD}", "worker_shared_memory"),
    "open files": (f"OSError: [Errno 24] Too many open files\n{DEAD}", "worker_shared_memory"),
    "threads": (f"RuntimeError: can't start new thread\n{DEAD}", "out_of_processes"),
    "worker disk": (f"OSError: [Errno 28] No space left on device: '/tmp/x'\n{DEAD}", "out_of_disk"),
    "worker shm": (
        f"OSError: [Errno 28] No space left on device: '/dev/shm/x'\n{DEAD}", "worker_shared_memory",
    ),
    "worker mmap": (
        f"RuntimeError: unable to mmap 512 bytes from file </torch_31_7>: x\n{DEAD}",
        "worker_shared_memory",
    ),
    "worker allocation": (f"OSError: [Errno 12] Cannot allocate memory\n{DEAD}", "worker_memory"),
    "worker exception": (f"Exception in background worker 1:\n no such key\n{DEAD}", "worker_died"),
    "preprocessing": ("RuntimeError: Some background worker is 6 feet under. Yuck.", "worker_died"),
    "no reason": (DEAD, "worker_died"),
    "torch worker": (
        "RuntimeError: DataLoader worker (pid 31) is killed by signal: Killed. ",
        "worker_memory",
    ),
    "torch workers": ("RuntimeError: DataLoader worker (pid(s) 3, 4) exited unexpectedly", "worker_died"),
    "cuda": ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "out_of_memory"),
    "cpu": (
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to",
        "out_of_memory",
    ),
    "cpu of other builds": (
        "RuntimeError: [enforce fail] DefaultCPUAllocator: not enough memory: you tried to",
        "out_of_memory",
    ),
    "assert": ("RuntimeError: CUDA error: device-side assert triggered", "exception"),
    "restart": (
        "WARNING: Cannot continue training because there seems to be no checkpoint available to",
        "restarted",
    ),
    "inf": ("RuntimeError: Encountered inf in predicted array. Aborting...", "diverged"),
    "torch worker bus": (
        "RuntimeError: DataLoader worker (pid 31) is killed by signal: Bus error. It is possible",
        "worker_shared_memory",
    ),
    "torchvision": ("RuntimeError: operator torchvision::nms does not exist", "exception"),
    "disk": ("OSError: [Errno 28] No space left on device: '/out/x'", "out_of_disk"),
    "file": ("OSError: [Errno 27] File too large", "out_of_disk"),
    "processes": ("RuntimeError: can't start new thread", "out_of_processes"),
    "frozen": ("Timeout (0:00:05)!\nThread 0x1 (most recent call first):", "stalled"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_an_opaque_failure_is_named(name: str) -> None:
    text, kind = TEXTS[name]
    found = recognise(f"some lines before\n{text}\nsome after")
    assert found is not None
    assert found[0] == kind
    assert len(found[1]) > 10


def test_an_ordinary_error_is_not_renamed() -> None:
    assert recognise("Traceback...\nIndexError: list index out of range") is None


def place_of(module: str) -> Path:
    """Return where a module's text is; nothing but the packages around it is imported."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("batchgenerators.dataloading.nondet_multi_threaded_augmenter", "no longer alive"),
        ("batchgenerators.dataloading.multi_threaded_augmenter", "no longer alive"),
        ("nnunetv2.utilities.file_path_utilities", "no longer alive"),
        ("nnunetv2.preprocessing.preprocessors.default_preprocessor", "6 feet under"),
        ("nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor", "6 feet under"),
        ("nnunetv2.inference.data_iterators", "Background workers died"),
        ("nnunetv2.inference.predict_from_raw_data", "export worker died"),
        ("nnunetv2.run.run_training", "Cannot continue training because there seems to be no check"),
        ("nnunetv2.inference.predict_from_raw_data", "Encountered inf in predicted array"),
        ("torch.utils.data.dataloader", "{pids_str}) exited unexpectedly"),
    ],
)  # fmt: skip
def test_the_installed_libraries_still_say_so(module: str, text: str) -> None:
    lines = place_of(module).read_text().splitlines()
    said = [line for line in lines if text in line and "#" not in line]
    assert said
    for line in said:
        assert recognise(line.replace("(pid(s) {pids_str})", "(pid(s) 7)")) is not None


@pytest.mark.parametrize(
    ("library", "text", "kind"),
    [
        ("torch_python", "DataLoader worker (pid {}) is killed by signal: {}. ", "worker_died"),
        ("torch_python", "insufficient shared memory (shm)", "worker_shared_memory"),
        ("torch_python", "workers are out of shared memory", "worker_shared_memory"),
        ("torch_cpu", "unable to allocate shared memory(shm) for file <", "worker_shared_memory"),
        ("torch_cpu", "unable to open shared memory object <", "worker_shared_memory"),
        ("c10", "DefaultCPUAllocator: can't allocate memory", "out_of_memory"),
    ],
)
def test_the_installed_binaries_still_say_so(library: str, text: str, kind: str) -> None:
    path = place_of("torch").parent / "lib" / f"lib{library}.so"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert content.find(text.encode()) >= 0, f"{path.name} no longer says {text!r}"
    said = text.replace("{}", "7", 1).replace("{}", "Aborted")
    named = recognise(f"{said}\n{DEAD}" if kind == "worker_shared_memory" else said)
    assert named is not None
    assert named[0] == kind


def test_python_still_says_that_descriptors_ran_out() -> None:
    source = Path(reduction.__file__).read_text()
    assert "received %d items of ancdata" in source


def test_every_sign_says_what_it_means_and_is_a_class() -> None:
    for sign in (*SIGNS, *WORKER_SIGNS):
        assert sign.kind in CLASSES
        assert len(sign.text.split()) > 6


def test_every_class_has_a_status_and_a_meaning() -> None:
    for kind, meaning in CLASSES.items():
        assert status_of(kind).is_final
        assert status_of(kind) is not Status.OK
        assert len(meaning) > 10
    assert status_of("never heard of") is Status.FAILED
    assert set(CLASSES) > CLAIMED


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        (Status.REJECTED, "syntax imports names contract not_finite no_gradient constant"),
        (Status.REJECTED, "idle_module longer_training optimiser batch data loss file_access"),
        (Status.REJECTED, "output"),
        (Status.OUT_OF_MEMORY, "admission out_of_memory"),
        (Status.TIMED_OUT, "timed_out"),
        (Status.DIVERGED, "diverged collapsed no_progress"),
        (Status.FAILED, "stalled worker_memory worker_shared_memory worker_died restarted"),
        (Status.FAILED, "out_of_disk out_of_processes exception"),
    ],
)
def test_the_status_of_each_class_is_the_contracts(status: Status, kinds: str) -> None:
    assert {status_of(kind) for kind in kinds.split()} == {status}
    assert set(kinds.split()) <= set(CLASSES)


def ended(cause: str = "exited", code: int = 3) -> Ended:
    fields = {"cause": cause, "code": code, "seconds": 2.0, "peak_memory_mib": 1.0}
    fields |= {"cpu_seconds": 1.0, "start": "cold"}
    return Ended(**{name: fields[name] for name in Ended._fields})  # type: ignore[arg-type]


class TestFailure:
    def say(self, out: Path, kind: object, text: object = "text") -> None:
        (out / "outcome.json").write_text(json.dumps({"failure": kind, "text": text}))

    def test_a_run_that_ended_well_did_not_fail(self, tmp_path: Path) -> None:
        assert failure(ended(code=0), tmp_path) == ("", "")

    def test_our_own_limits_come_first(self, tmp_path: Path) -> None:
        self.say(tmp_path, "exception")
        assert failure(ended("timed_out"), tmp_path)[0] == "timed_out"

    @pytest.mark.parametrize("kind", sorted(CLAIMED))
    def test_what_a_run_may_say_is_taken(self, tmp_path: Path, kind: str) -> None:
        self.say(tmp_path, kind, "said so")
        assert failure(ended(), tmp_path) == (kind, "said so")

    @pytest.mark.parametrize("kind", ["timed_out", "output", "ok", "", None, {"a": 1}, "x" * 999])
    def test_anything_else_is_an_exception(self, tmp_path: Path, kind: object) -> None:
        self.say(tmp_path, kind)
        assert failure(ended(), tmp_path)[0] == "exception"

    @pytest.mark.parametrize("content", ["", "[]", '{"failure": NaN}', "\xff" * 9, "{" * 9000])
    def test_a_broken_outcome_is_an_exception(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "outcome.json").write_bytes(content.encode("latin-1"))
        kind, text = failure(ended(), tmp_path)
        assert kind == "exception"
        assert "cannot be read" in text

    def test_a_text_is_cleaned_and_cut(self, tmp_path: Path) -> None:
        self.say(tmp_path, "contract", "\x1b[2J" + "a" * 5000)
        text = failure(ended(), tmp_path)[1]
        assert set(text) == {"a"}
        assert 1000 < len(text) <= TEXT_CHARACTERS

    def test_a_text_is_cut_but_the_line_of_the_network_stays(self, tmp_path: Path) -> None:
        self.say(tmp_path, "exception", "a" * 5000)
        (tmp_path / "log.txt").write_text(
            f'{TRACEBACK}\n  File "/code/network.py", line 7, in forward\n    {"b" * 5000}\nE: x\n'
        )
        _, text = failure(ended(), tmp_path, tmp_path / "log.txt")
        assert "\nnetwork.py line 7, in forward: bbb" in text
        assert len(text) <= TEXT_CHARACTERS

    def test_a_link_in_place_of_the_outcome_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "outcome.json").symlink_to(tmp_path / "nowhere")
        kind, text = failure(ended(), tmp_path)
        assert kind == "exception"
        assert "symbolic link" in text

    def test_a_text_of_two_thousand_wide_characters_is_read(self, tmp_path: Path) -> None:
        self.say(tmp_path, "contract", "\U0001d54f" * 2000)
        assert failure(ended(), tmp_path)[0] == "contract"

    def test_what_earlier_runs_printed_explains_nothing(self, tmp_path: Path) -> None:
        log = tmp_path / "log.txt"
        log.write_text("torch.OutOfMemoryError: CUDA out of memory\n")
        assert failure(ended(code=1), tmp_path, log)[0] == "out_of_memory"
        found = failure(ended(code=1), tmp_path, log, after=log.stat().st_size)
        assert found == ("exception", "exit status 1")

    def test_a_limit_of_memory_says_how_much_there_was(self, tmp_path: Path) -> None:
        kind, text = failure(ended("out_of_memory"), tmp_path)
        assert (kind, text) == ("out_of_memory", "ended by the supervisor after 2 s, at 1 MiB")

    def test_the_log_names_what_the_exception_hides(self, tmp_path: Path) -> None:
        self.say(tmp_path, "exception", DEAD)
        log = tmp_path / "log.txt"
        log.write_text("insufficient shared memory (shm)\n")
        kind, text = failure(ended(), tmp_path, log)
        assert kind == "worker_shared_memory"
        assert "/dev/shm is full" in text
        assert DEAD in text

    @pytest.mark.parametrize("code", [137, -9])
    def test_killed_without_a_word_is_memory(self, tmp_path: Path, code: int) -> None:
        kind, text = failure(ended(code=code), tmp_path)
        assert (kind, status_of(kind)) == ("out_of_memory", Status.OUT_OF_MEMORY)
        assert "memory" in text

    @pytest.mark.parametrize(
        ("code", "kind"), [(152, "timed_out"), (-25, "out_of_disk"), (135, "worker_shared_memory")]
    )
    def test_a_limit_that_came_as_a_signal(self, tmp_path: Path, code: int, kind: str) -> None:
        assert failure(ended(code=code), tmp_path)[0] == kind

    def test_a_silent_restart_is_a_failure_although_it_ends_well(self, tmp_path: Path) -> None:
        text = place_of("nnunetv2.run.run_training").read_text()
        log = tmp_path / "log.txt"
        log.write_text(next(line for line in text.splitlines() if "Cannot continue" in line))
        kind, _ = failure(ended(code=0), tmp_path, log)
        assert (kind, status_of(kind)) == ("restarted", Status.FAILED)


NETWORK = """\
import ctypes

def deeper(x):
    return x["missing"]

def build_network(*a):
    return deeper({})

def crash():
    ctypes.string_at(0)

def chained():
    try:
        deeper({})
    except KeyError as error:
        raise ValueError("wrapped") from error
"""
TRACEBACK = "Traceback (most recent call last):"


def logged(folder: Path, line: str) -> tuple[int, Path]:
    """Run a line of Python after network.py was loaded; return its end and what it printed."""
    (folder / "network.py").write_text(NETWORK)
    code = (
        "import faulthandler, sys; faulthandler.enable(); "
        f"sys.path.insert(0, {str(folder)!r}); import network\n{line}"
    )
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run([sys.executable, "-c", code], stderr=log)
    return done.returncode, folder / "log.txt"


def test_an_excerpt_is_the_exception_and_the_innermost_line_of_the_network(tmp_path: Path) -> None:
    code, log = logged(tmp_path, "network.build_network()")
    expected = "KeyError: 'missing'\nnetwork.py line 4, in deeper: return x[\"missing\"]"
    assert excerpt(log.read_text()) == expected
    kind, text = failure(ended(code=code), tmp_path, log)
    assert kind == "exception"
    assert text == f"exit status 1\n{expected}"


def test_a_crash_of_the_interpreter_is_found_in_its_dump(tmp_path: Path) -> None:
    code, log = logged(tmp_path, "network.crash()")
    assert code < 0
    kind, text = failure(ended(code=code), tmp_path, log)
    assert kind == "exception"
    assert text == "segmentation fault\nnetwork.py line 10, in crash"


def test_an_outcome_is_joined_by_the_line_of_the_network(tmp_path: Path) -> None:
    code, log = logged(tmp_path, "network.build_network()")
    outcome = {"failure": "contract", "text": "KeyError: 'missing'"}
    (tmp_path / "outcome.json").write_text(json.dumps(outcome))
    expected = "KeyError: 'missing'\nnetwork.py line 4, in deeper: return x[\"missing\"]"
    assert failure(ended(code=code), tmp_path, log) == ("contract", expected)


def test_an_exception_of_ours_about_one_of_the_network_leads_to_its_line(tmp_path: Path) -> None:
    code = "\ntry: network.deeper({})\nexcept KeyError as e: raise OSError('ours') from e"
    _, log = logged(tmp_path, code.replace("\n", chr(10)))
    assert excerpt(log.read_text()).splitlines() == [
        "OSError: ours",
        'network.py line 4, in deeper: return x["missing"]',
    ]
    _, log = logged(tmp_path, "network.chained()")
    assert excerpt(log.read_text()).startswith("ValueError: wrapped\nnetwork.py line ")


def test_a_dump_after_an_exception_that_was_survived_is_the_later_word(tmp_path: Path) -> None:
    survived = "import traceback\ntry: 1 / 0\nexcept Exception: traceback.print_exc()\n"
    _, log = logged(tmp_path, f"{survived}network.crash()")
    assert "network.py line 10, in crash" in excerpt(log.read_text())


@pytest.mark.parametrize(
    "line",
    [
        *("\n", "No space left on device ", "/dev/shm ", "unable to open ", f"{TRACEBACK}\n"),
        *('  File "', '  File "network.py', "a.", "Timeout (0:", "DataLoader worker (pid 1, "),
        "\nDuring handling of the above exception, another exception occurred:\n\n" + TRACEBACK,
    ],
)
def test_a_log_that_is_made_to_take_long_does_not(tmp_path: Path, line: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text(line * (200_000 // len(line)))
    before = time.perf_counter()
    failure(ended(code=1), tmp_path, log)
    assert time.perf_counter() - before < 5


def test_an_empty_log_has_no_excerpt() -> None:
    assert excerpt("") == ""
    assert excerpt("epoch 1\nepoch 2\n") == ""
