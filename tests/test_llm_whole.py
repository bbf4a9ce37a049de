"""A campaign with a language model for real: trained in the sandbox, its key found nowhere."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bench.demo_data import build_demo
from memory.records import Kind, Status
from memory.store import Store
from tests.llm_replies import Status as Refused
from tests.llm_server import ScriptedServer
from tests.scripted_model import model, purpose_of

pytestmark = pytest.mark.slow

KEY = "sk-planted-1b2c3d4e5f60718293a4b5c6d7e8f901"
VARIABLE = "SEGWRIGHT_TEST_KEY"
SETTINGS = (
    *("engine.base_features=4", "engine.batch_size=2", "engine.device=cpu"),
    *("engine.configuration=2d", "rungs.iterations=16", "rungs.count=1", "baseline.seeds=2"),
    *("explore.drafts=2", "confirm.seeds=2", "budget.trials=4", "ablation.seeds=0"),
    *("selection.folds=0", "planner=llm", "endpoints.far.model=scripted"),
    f"endpoints.far.key_env={VARIABLE}",
)
MAIN = [sys.executable, "-I", "-c", "from agent.cli import main; main()"]


class Watch(threading.Thread):
    """Looks through the processes of this machine for the key until it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.over, self.seen = threading.Event(), set[str]()
        self.allowed = {os.getpid()}
        self.looked = 0
        self.run_words: list[bytes] = []

    def run(self) -> None:
        while not self.over.wait(0.05):
            for place in Path("/proc").glob("[0-9]*"):
                self.look(place)

    def look(self, place: Path) -> None:
        for name in ("cmdline", "environ"):
            try:
                text = (place / name).read_bytes()
            except OSError:
                continue
            self.looked += 1
            if KEY.encode() in text and (name == "cmdline" or not self.is_own(place)):
                self.seen.add(f"{name} of {(place / 'cmdline').read_bytes()!r:.200}")

    def is_own(self, place: Path) -> bool:
        """Tell whether a process is the test or `run`, or a fork of `run` that is no program yet."""
        if int(place.name) in self.allowed:
            return True
        try:
            return (place / "cmdline").read_bytes().split(b"\0")[:-1] == self.run_words
        except OSError:
            return True


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    data = build_demo(folder, subjects=20)
    asked: list[str] = []

    def script(body: dict[str, Any]) -> Any:
        asked.append(purpose_of(body))
        if len(asked) == 3:
            return Refused(500, {"error": {"message": f"who sends {KEY}?"}}, {})
        return model(body)

    with ScriptedServer(script, key=KEY) as server:
        options = [f"--set={one}" for one in (*SETTINGS, f"endpoints.far.url={server.url}")]
        made = subprocess.run(
            [*MAIN, "init", str(folder / "c"), "--data", str(data), *options],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert made.returncode == 0, made.stderr
        watch, command = Watch(), [*MAIN, "run", str(folder / "c")]
        process = subprocess.Popen(
            command,
            env={**os.environ, VARIABLE: KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        watch.allowed.add(process.pid)
        watch.run_words = [word.encode() for word in command]
        watch.start()
        try:
            out, err = process.communicate(timeout=900)
        finally:
            process.kill()
            watch.over.set()
            watch.join()
    (folder / "output.txt").write_text(out + err)
    assert process.returncode == 0, err
    assert watch.looked > 100
    assert watch.seen == set()
    return folder / "c"


def test_networks_that_a_model_wrote_are_trained_and_tested(campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        written = {p.id for p in store.proposals() if p.detail.get("ideas")}
        trials, calls = store.trials(), store.llm_calls()
    assert any(t.proposal in written and t.status is Status.OK for t in trials)
    assert any(t.kind is Kind.CONFIRM and t.status is Status.OK for t in trials)
    assert {"challenges", "propose", "assess", "code"} <= {call.purpose for call in calls}


def test_the_key_is_in_no_file_and_no_output(campaign: Path) -> None:
    found = [
        str(path)
        for path in campaign.parent.rglob("*")
        if path.is_file() and KEY.encode() in path.read_bytes()
    ]
    assert found == []


def test_check_agrees_and_the_report_names_the_model(campaign: Path) -> None:
    checked = subprocess.run([*MAIN, "check", str(campaign)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "language model" in (campaign / "report" / "report.html").read_text().lower()
