"""campaign.db under kills, several processes, several threads, and from the wrong files."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from memory.errors import StoreError
from memory.integrity import database_problems
from memory.migrations import APPLICATION_ID, LATEST
from memory.records import Campaign, Event, Kind, SplitName, Status, Trial
from memory.store import Store

ROOT = Path(__file__).parent.parent
CAMPAIGN = Campaign("c", "demo", 1.5, "0.1", {}, {}, "dh", "sh", {})
TRIAL = Trial("t", None, None, None, None, Kind.BASELINE, 0, 1, SplitName.SEARCH_VAL)

START = """
import sys
from pathlib import Path
from memory.records import *
from memory.store import Store
store = Store.open(Path(sys.argv[1]))
trial = lambda id: Trial(id, None, None, None, None, Kind.BASELINE, 0, 1, SplitName.SEARCH_VAL)
"""
RECORD_FOR_EVER = """
for number in range(int(sys.argv[2]), 10**6):
    id = f"{number:06}"
    store.add_trial(trial(id))
    scores = [CaseScore(id, f"c{n}", "organ", Metric.DICE, n / 100) for n in range(100)]
    assert store.record_result(id, changes={"status": "ok"}, scores=scores)
    print(id, flush=True)
"""
STOP_HALF_WAY = """
import time
with store.transaction():
    store.add_trial(trial("half"))
    store.update_trial("t", iterations=99)
    store.add_event(Event("half", "half", {}))
    print("inside", flush=True)
    time.sleep(60)
"""
ADD_FIFTY = """
for _ in range(50):
    with store.transaction():
        store.update_trial("t", iterations=store.trial("t").iterations + 1)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaign #1 100%.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.create(path, CAMPAIGN) as made:
        made.add_trial(replace(TRIAL, iterations=0))
        yield made


def start(program: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START + program, str(path), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return said


def test_a_killed_writer_loses_nothing_that_it_acknowledged(store: Store, path: Path) -> None:
    store.close()
    acknowledged: list[str] = []
    for round_number in range(4):
        process = start(RECORD_FOR_EVER, path, str(round_number * 1000))
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(5 + 3 * round_number)]
        acknowledged += kill(process).split()
        assert database_problems(path) == []
    with Store.open(path) as again:
        recorded = again.trials(status=Status.OK)
        assert {t.id for t in recorded} >= set(acknowledged)
        assert all(len(again.case_scores(t.id)) == 100 and t.scores_hash for t in recorded)
        assert len(again.events(kind="trial_result")) == len(recorded)
        unfinished = [t for t in again.trials() if not t.status.is_final and t.id != "t"]
        assert all(again.case_scores(t.id) == [] for t in unfinished)


def test_a_writer_killed_inside_a_transaction_leaves_nothing(store: Store, path: Path) -> None:
    process = start(STOP_HALF_WAY, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    with Store.open(path, read_only=True) as reader:
        assert [t.id for t in reader.trials()] == ["t"]
    kill(process)
    assert [(t.id, t.iterations) for t in store.trials()] == [("t", 0)]
    assert store.events() == []
    store.update_trial("t", iterations=1)
    assert database_problems(path) == []


def test_four_processes_lose_no_update(store: Store, path: Path) -> None:
    processes = [start(ADD_FIFTY, path) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    for process in processes:
        process.communicate()
    assert store.trial("t").iterations == 200


def test_threads_with_a_store_each_lose_no_update(store: Store, path: Path) -> None:
    def add_twenty() -> None:
        with Store.open(path) as own:
            for _ in range(20):
                with own.transaction():
                    own.update_trial("t", iterations=(own.trial("t").iterations or 0) + 1)

    threads = [threading.Thread(target=add_twenty) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.trial("t").iterations == 80


def test_a_store_is_not_shared_between_threads(store: Store) -> None:
    raised: list[BaseException] = []

    def read() -> None:
        try:
            store.trials()
        except sqlite3.ProgrammingError as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    def run_and_fail(event: Event, error: type[Exception] | None = None) -> None:
        with store.transaction():
            store.set_state("running")
            store.add_event(event)
            if error is not None:
                raise error

    with pytest.raises(StoreError, match="FOREIGN KEY"):
        run_and_fail(Event("k", "t", {}, trial="nobody"))
    assert store.campaign().state == "new"
    with pytest.raises(KeyError):
        run_and_fail(Event("k", "t", {}), KeyError)
    assert store.campaign().state == "new"
    assert store.events() == []
    run_and_fail(Event("k", "t", {}))
    assert store.campaign().state == "running"


def test_an_inner_transaction_is_undone_alone(store: Store) -> None:
    def inner() -> None:
        with store.transaction():
            store.set_state("done")
            store.set_state("nonsense")

    with store.transaction():
        store.set_state("running")
        with pytest.raises(StoreError, match="state IN"):
            inner()
    assert store.campaign().state == "running"


def test_a_reader_works_beside_a_writer_and_writes_nothing(store: Store, path: Path) -> None:
    with Store.open(path, read_only=True) as reader, store.transaction():
        store.set_state("running")
        assert reader.campaign().state == "new"
        for write in (
            lambda: reader.set_state("done"),
            lambda: reader.add_trial(TRIAL),
            lambda: reader.add_event(Event("k", "t", {})),
            lambda: reader.replace_facts([]),
            lambda: reader.set_effect("k", {}),
            lambda: reader.record_result("t", changes={"status": "failed"}, scores=[]),
        ):
            with pytest.raises(StoreError, match="opened for reading only"):
                write()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.database.execute("DELETE FROM fact")
    with Store.open(path, read_only=True) as reader:
        assert reader.campaign().state == "running"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may only read")
def test_a_folder_that_cannot_be_written_can_be_read() -> None:
    program = START.replace("store =", "import os; os.setuid(65534); store =")
    program = program.replace("[1]))", "[1]), read_only=True)") + "print(store.campaign().id)"
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies where only root may enter
        path = Path(folder) / "campaign.db"
        Store.create(path, CAMPAIGN).close()
        os.chown(path, 65534, 65534)
        command = [sys.executable, "-c", program, str(path)]
        for mode, said in [(0o755, "c\n"), (0o700, "")]:
            os.chmod(folder, mode)
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.stdout == said, done.stderr
        assert "StoreError" in done.stderr
        assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_file_is_private_and_made_whole(store: Store, path: Path) -> None:
    assert {p.name for p in path.parent.iterdir()} == {path.name + t for t in ("", "-wal", "-shm")}
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(StoreError, match="exists already"):
        Store.create(path, CAMPAIGN)
    assert store.trial("t")
    store.close()
    store.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_settings_of_the_connection(store: Store) -> None:
    def pragma(name: str) -> object:
        return store._connection.rows(f"PRAGMA {name}")[0].popitem()[1]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 1
    assert pragma("foreign_keys") == 1
    assert pragma("busy_timeout") == 30_000
    assert pragma("recursive_triggers") == 1


def test_a_campaign_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be created: No such file"):
        Store.create(tmp_path / "missing" / "campaign.db", CAMPAIGN)
    with pytest.raises(StoreError, match="state IN"):
        Store.create(tmp_path / "campaign.db", replace(CAMPAIGN, state="odd"))
    assert list(tmp_path.iterdir()) == []


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE trial (id TEXT)")
    conn.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute(f"PRAGMA user_version = {LATEST + 1}")
    conn.close()


def torn(path: Path) -> None:
    Store.create(path, CAMPAIGN).close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * 8192 + content[12288:])


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "does not exist"),
        (lambda path: path.write_bytes(b""), "is no segwright campaign.db"),
        (lambda path: path.write_text("no database\n" * 500), "file is not a database"),
        (foreign, "is no segwright campaign.db"),
        (newer, f"has schema {LATEST + 1}, this program knows up to {LATEST}"),
        (torn, "malformed"),
    ],
    ids=["missing", "folder", "empty", "text", "foreign", "newer", "torn"],
)
def test_a_wrong_file_is_one_clear_line(
    path: Path, make: Callable[[Path], object], message: str, read_only: bool
) -> None:
    make(path)
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(path, read_only=read_only).campaign()
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
