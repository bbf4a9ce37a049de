"""A whole campaign for real: trained by nnU-Net in the sandbox, killed, gone on with, checked."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.demo_data import build_demo
from memory.records import Kind, Status
from memory.store import Store
from sandbox.executor import is_locked

pytestmark = pytest.mark.slow

SETTINGS = (
    *("engine.base_features=4", "engine.batch_size=2", "engine.device=cpu"),
    *("engine.configuration=2d", "rungs.iterations=16", "baseline.seeds=2"),
    *("explore.drafts=3", "confirm.seeds=2", "budget.trials=6"),
)


def segwright(*args: object) -> subprocess.CompletedProcess[str]:
    """Run a verb as a user does."""
    command = [sys.executable, "-I", "-c", "from agent.cli import main; main()"]
    return subprocess.run([*command, *map(str, args)], capture_output=True, text=True, timeout=900)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start `run` and return at once."""
    command = [sys.executable, "-I", "-c", "from agent.cli import main; main()", "run", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trainings(folder: Path) -> dict[str, Status]:
    """Return the status of every trial."""
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return {t.id: t.status for t in store.trials()}


def supervisors(folder: Path) -> dict[Path, str]:
    """Return the folders and process ids of the supervisors that are at work; there is one."""
    places = [folder / "trials" / t for t, s in trainings(folder).items() if s is Status.RUNNING]
    begun = {place: (place / "pid").read_text() for place in places if (place / "pid").exists()}
    assert begun
    assert all(is_locked(place) or (place / "result.json").exists() for place in begun)
    return begun


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a campaign that is killed once in mid-training; return its folder."""
    folder = tmp_path_factory.mktemp("whole")
    data = build_demo(folder, subjects=20)
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    made = segwright("init", folder / "c", "--data", data, *options)
    assert made.returncode == 0, made.stderr
    process = start(folder / "c")
    deadline = time.monotonic() + 600
    while True:
        states = trainings(folder / "c")
        running = [folder / "c" / "trials" / t for t, s in states.items() if s is Status.RUNNING]
        if Status.OK in states.values() and any((place / "pid").exists() for place in running):
            break
        assert time.monotonic() < deadline
        assert process.poll() is None, "run ended before it was killed"
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    at_work = supervisors(folder / "c")
    finished = {t for t, s in trainings(folder / "c").items() if s is Status.OK}
    results = {t: (folder / "c" / "trials" / t / "result.json").stat().st_mtime for t in finished}
    ended = segwright("run", folder / "c")
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    for place, pid in at_work.items():
        assert (place / "pid").read_text() == pid, "a trial that was at work was started again"
    for trial, written in results.items():
        assert (folder / "c" / "trials" / trial / "result.json").stat().st_mtime == written
    return folder / "c"


def test_it_ends_with_a_report(campaign: Path) -> None:
    assert (campaign / "report" / "report.html").stat().st_size > 10_000
    assert (campaign / "report" / "manuscript.tex").stat().st_size > 10_000
    page = (campaign / "report" / "report.html").read_text()
    assert "simulated subjects" in page
    assert "http-equiv" in page


def test_every_station_was_passed(campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        assert len(store.trials(kind=Kind.BASELINE, status=Status.OK)) == 4
        assert len(store.trials(kind=Kind.CONFIRM, status=Status.OK)) == 4
        rungs = {t.rung for t in store.trials() if t.kind in (Kind.DRAFT, Kind.IMPROVE)}
        assert rungs == {0, 1}
        assert len(store.test_accesses()) == 1
        assert store.campaign().state == "done"
        assert all(t.status.is_final for t in store.trials())


def test_check_agrees(campaign: Path) -> None:
    ran = segwright("check", campaign)
    assert ran.returncode == 0, ran.stdout


def change(folder: Path, statement: str) -> None:
    """Change a row behind the store's back, and leave no other trace."""
    with sqlite3.connect(folder / "campaign.db") as connection:
        query = "select name, sql from sqlite_master where type = 'trigger'"
        triggers = connection.execute(query).fetchall()
        for name, _ in triggers:
            connection.execute(f'drop trigger "{name}"')
        assert connection.execute(statement).rowcount == 1
        for _, made in triggers:
            connection.execute(made)
    connection.close()


@pytest.mark.parametrize("what", ["score", "fact", "network", "prediction"])
def test_check_names_a_changed(campaign: Path, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(campaign, folder)
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        trial = store.trials(kind=Kind.BASELINE)[0].id
        draft = next(t.id for t in store.trials(kind=Kind.DRAFT) if t.status is Status.OK)
        score = next(s for s in store.case_scores(trial) if s.metric == "dice" and s.value)
    if what == "score":
        place = f"trial = '{trial}' and \"case\" = '{score.case}' and label = '{score.label}'"
        change(
            folder, f"update case_score set value = value - 0.001 where {place} and metric='dice'"
        )
        expected = score.case
    elif what == "fact":
        change(folder, "update fact set text = '61' where key = 'dataset.cases'")
        expected = "dataset.cases"
    elif what == "network":
        path = folder / "trials" / draft / "code" / "network.py"
        path.write_text(path.read_text().replace("kernel", "Kernel", 1))
        expected = draft
    else:
        path = next((folder / "trials" / trial / "predictions").iterdir())
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        expected = trial
    ran = segwright("check", folder)
    assert ran.returncode == 1
    assert expected in ran.stdout


def test_the_campaign_is_one_folder(campaign: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(campaign, folder)
    assert segwright("check", folder).returncode == 0
    shown = json.loads(segwright("tree", folder, "--json").stdout)
    assert shown["incumbent"]
    to = tmp_path / "paper"
    assert segwright("export", folder, "--format", "latex", "--to", to).returncode == 0
    assert "simulated subjects" in (to / "manuscript.tex").read_text()
