"""The demo campaign with a real language model behind a real server, from packages alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from memory.records import Kind, Status
from memory.store import Store
from tests.real_llm import RealServer

pytestmark = pytest.mark.slow

MAIN = [sys.executable, "-I", "-c", "from agent.cli import main; main()"]
HOURS = 0.3
SETTINGS = (
    *("planner=llm", "endpoints.local.model=smollm2-135m", "endpoints.local.context=2000"),
    *(
        "llm.generators=1",
        "llm.manuscript=false",
        "roles.generator.max_tokens=400",
        "roles.coder.max_tokens=500",
    ),
    *("roles.diagnostician.max_tokens=500", "roles.assessor.max_tokens=400"),
    *("baseline.seeds=2", "confirm.seeds=2", "rungs.count=1", "rungs.iterations=40"),
    *("explore.drafts=2", "selection.folds=0", "ablation.seeds=0", "budget.trials=2"),
    *("engine.base_features=4", "split.min_test=20", "split.test_fraction=0.2"),
)


@pytest.fixture(scope="module")
def demo(real_llm: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    options = [f"--set={one}" for one in (*SETTINGS, f"endpoints.local.url={real_llm.url}")]
    ended = subprocess.run(
        [*MAIN, "demo", "--out", str(out / "d"), f"--hours={HOURS}", *options],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    (out / "said.txt").write_text(ended.stdout + ended.stderr)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return out / "d" / "campaign"


def test_the_demo_ends_with_a_report(demo: Path) -> None:
    assert (demo / "report" / "report.html").stat().st_size > 10_000
    assert "language model" in (demo / "report" / "report.html").read_text().lower()


def test_the_model_was_asked_and_what_it_said_is_kept(demo: Path) -> None:
    with Store.open(demo / "campaign.db", read_only=True) as store:
        calls, events, trials = store.llm_calls(), store.events(), store.trials()
    assert {"probe", "challenges"} <= {call.purpose for call in calls}
    assert all(call.tokens_in and call.tokens_out for call in calls if call.error is None)
    probe = next(event for event in events if event.kind == "probe")
    assert probe.figures["level"] == "schema"
    assert any(t.kind is Kind.DRAFT and t.status is Status.OK for t in trials)


def test_check_agrees(demo: Path) -> None:
    checked = subprocess.run([*MAIN, "check", str(demo)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
