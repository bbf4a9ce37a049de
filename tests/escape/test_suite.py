"""The escape suite itself: it sees what it looks for, reports it, and leaves nothing behind."""

import json
import os
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.errors import IsolationUnavailable
from sandbox import escape
from sandbox.boundary import Isolation
from sandbox.collect import collect_json, collect_log, copy_file, label_maps
from sandbox.escape import (
    BROKEN,
    ESCAPED,
    GROUPS,
    HELD,
    PROBES,
    SKIPPED,
    Finding,
    Target,
    attack,
    examine,
    quiet,
    run_suite,
    summary,
)
from sandbox.isolation import NONE, choose, unsafe
from sandbox.probes.planted import CASES, LABELS, WRITE
from sandbox.probes.resources import STAY
from sandbox.probes.scene import (
    EPILOGUE,
    MARK,
    PRELUDE,
    Probe,
    Scene,
    UnsuitableError,
    left_alive,
    scene,
)

HERE = Isolation("D", "none", Path("/"), "", "a test")


def free(built: Scene, code: str) -> None:
    """Run an attack's program with nothing around it, as its own session."""
    with built.log.open("ab") as log:
        subprocess.run(
            built.argv(code),
            env={"SEGWRIGHT_PLACES": json.dumps({"/out": str(built.out)})},
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=True,
        )


def test_names_are_unique_and_threats_are_told() -> None:
    assert len(PROBES) == sum(len(group) for group in GROUPS.values())
    assert len(PROBES) >= 45
    for name, probe in PROBES.items():
        assert name == name.lower()
        assert name.replace("_", "").isalnum()
        assert probe.threat
        assert "\n" not in probe.threat


@pytest.mark.parametrize("name", PROBES)
def test_programs_are_python_and_know_no_secret(name: str) -> None:
    program = PRELUDE + PROBES[name].code + EPILOGUE
    compile(program, name, "exec")
    assert "segwright-secret-" not in program
    assert len(program) < 1 << 16


def test_a_summary_hides_nothing() -> None:
    findings = [
        Finding("a", HELD, "", 0.1),
        Finding("b", ESCAPED, "a secret was printed", 0.1),
        Finding("c", SKIPPED, "known gap: because", 0.1),
        Finding("d", BROKEN, "exit 1", 0.1),
    ]
    assert summary(findings) == {
        "probes": 2,
        "escaped": ["b"],
        "skipped": {"c": "known gap: because", "d": "it did not run: exit 1"},
    }


def test_a_process_that_is_left_is_seen_and_ended() -> None:
    with scene(HERE) as built:
        free(built, STAY + "detach()")
        assert len(left_alive(built)) == 1
    assert not left_alive(built)
    assert not built.root.exists()


def test_what_an_honest_trial_hands_back_is_taken() -> None:
    """Else the collection could refuse everything, and every planted file with it."""
    code = WRITE + 'npy()\nwrite("trained.json", b\'{"seconds": 1}\')\nwrite("weights.pth", b"x")'
    with scene(HERE) as built:
        free(built, code)
        assert collect_json(built.out, "trained.json") == {"seconds": 1}
        found = dict(label_maps(built.out, CASES, allowed_values=LABELS))
        assert found["case_1"].shape == CASES["case_1"]
        copy_file(built.out, "weights.pth", built.root / "copy", max_bytes=10)
        assert "over" in collect_log(built.root, built.log.name)


def test_an_attack_that_breaks_shows_nothing(boundary: Isolation) -> None:
    broken = Probe("broken", "none", "raise SystemExit(3)")
    finding = attack(broken, Target(boundary))
    assert finding.verdict == BROKEN
    assert "exit 3" in finding.text


def test_an_attack_that_this_machine_cannot_show_is_skipped(boundary: Isolation) -> None:
    def plant(_: Scene) -> None:
        raise UnsuitableError("no such thing here")

    finding = attack(Probe("strange", "none", "", plant=plant), Target(boundary))
    assert (finding.verdict, finding.text) == (SKIPPED, "no such thing here")


def test_a_start_that_is_not_warm_does_not_pass_for_one(
    boundary: Isolation, tmp_path: Path
) -> None:
    target = Target(boundary, tmp_path / "nobody")
    assert target.name.endswith("(warm)")
    finding = attack(PROBES["home_secret"], target)
    assert finding.verdict == BROKEN
    assert "cold" in finding.text


def test_a_boundary_that_cannot_be_attacked_says_why(boundary: Isolation) -> None:
    target = Target(boundary, Path("/nobody"), "no warm parent")
    finding = examine(PROBES["home_secret"], target, quiet)
    assert (finding.verdict, finding.text) == (SKIPPED, "no warm parent")


@pytest.mark.parametrize("name", [n for n, p in PROBES.items() if not p.gets_out_uncontained])
def test_what_might_do_harm_is_not_made_where_nothing_holds_it(name: str) -> None:
    assert attack(PROBES[name], Target(unsafe("a test"))).verdict == SKIPPED


@pytest.fixture(scope="module")
def boundary() -> Isolation:
    return choose("A")


@pytest.mark.slow
def test_a_run_reports_every_boundary(parent: Path) -> None:
    told: list[tuple[str, str, str]] = []
    names = ("home_secret", "tcp_to_the_host", "json_not_a_number")
    suite = run_suite(lambda name, one: told.append((name, one.probe, one.verdict)), names=names)
    assert suite.exit_code == 0
    assert list(suite.report) == ["backends"]
    backends = suite.report["backends"]
    assert list(backends)[:2] == ["bubblewrap", "bubblewrap (warm)"]
    for one in backends.values():
        assert one == {"probes": 3, "escaped": [], "skipped": {}}
    assert [verdict for _, _, verdict in told] == [HELD] * 3 * len(backends)
    assert not list(Path(tempfile.gettempdir()).glob(f"*{MARK}*"))


def test_an_escape_from_the_strongest_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escape, "available", lambda: [unsafe("a test")])
    monkeypatch.setattr(NONE, "gaps", {})  # as if somebody took it for a boundary
    suite = run_suite(names=("planted_key", "mount"))
    assert suite.exit_code == 1
    expected = {"probes": 1, "escaped": ["planted_key"], "skipped": {}}
    assert suite.report == {"backends": {"none": expected}}


def test_no_boundary_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escape, "available", list)
    monkeypatch.setattr("sandbox.isolation.candidates", list)
    with pytest.raises(IsolationUnavailable):
        run_suite(names=("home_secret",))


TYPES = """
import fcntl, os
for name in ("/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"):
    try:
        fcntl.ioctl(os.open(name, os.O_RDWR), 0x5412, b"x")
    except OSError:
        pass
print("over")
"""
CONTAINED = """
import sys
from pathlib import Path
from sandbox.boundary import Limits
from sandbox.isolation import choose
from sandbox.watch import contain
contain(choose("A"), argv=[sys.executable, "-I", "-c", sys.argv[2]], mounts=[], env={},
        limits=Limits(wall_s=20), log=Path(sys.argv[1]))
"""


class Terminal:
    """A terminal that is the controlling one of what is run at it, as a shell's is."""

    def __init__(self) -> None:
        self.screen, self.keyboard = os.openpty()
        os.set_blocking(self.keyboard, False)
        settings = termios.tcgetattr(self.keyboard)
        settings[3] &= ~termios.ICANON
        termios.tcsetattr(self.keyboard, termios.TCSANOW, settings)

    def run(self, code: str, *arguments: str) -> None:
        taking = f"import fcntl, os\nos.setsid()\nfcntl.ioctl(0, {termios.TIOCSCTTY}, 0)\n"
        command = [sys.executable, "-I", "-c", taking + code, *arguments]
        subprocess.run(command, stdin=self.keyboard, stdout=subprocess.DEVNULL, check=True)

    def typed(self) -> bytes:
        try:
            return os.read(self.keyboard, 100)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self.screen)
        os.close(self.keyboard)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.mark.slow
def test_a_trial_cannot_type_into_the_terminal_that_started_it(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.run(TYPES)
    if not terminal.typed():
        pytest.skip("this kernel lets nobody type for others (dev.tty.legacy_tiocsti=0)")
    log = tmp_path / "log.txt"
    log.touch()
    terminal.run(CONTAINED, str(log), TYPES)
    assert log.read_text() == "over\n"
    assert terminal.typed() == b""
