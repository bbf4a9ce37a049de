"""The schema: old files become new ones, and rows that are kept stay as they are."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from memory import records
from memory.errors import StoreError
from memory.integrity import database_problems
from memory.migrations import LATEST, MIGRATIONS, migrate, schema_version
from memory.recall import LAYERS, matching
from memory.records import CaseScore, Kind, Lesson, Metric, SplitName, Trial
from memory.rows import enumerations, to_row
from memory.store import Store

CAMPAIGN = records.Campaign("c", "demo", 1.5, "0.1", {}, {}, "dh", "sh", {})
TRIAL = Trial("t", None, None, None, None, Kind.BASELINE, 0, 1, SplitName.SEARCH_VAL)
LESSON = Lesson("l", "trial", "axial attention helps", ("t",))
KEPT = {
    "split": records.SplitCase("c1", "p1", SplitName.SEARCH_TRAIN, 1.0, "i", "l"),
    "proposal": records.Proposal("p", "t", "m", (), "r", (), "g"),
    "case_score": CaseScore("t", "c1", "organ", Metric.DICE, 0.5),
    "event": records.Event("k", "t", {}, id=1),
    "lesson": LESSON,
    "llm_call": records.LlmCall("c", "r", "m", "h", "p", None, None, None, None, None),
    "test_access": records.TestAccess("b", "w", (), id=1),
    "claim": records.Claim("cl", "b", Metric.DICE, "worse", "t", (), ()),
}


def insert(conn: sqlite3.Connection, table: str, record: object) -> None:
    """Insert a record's row, as far as this schema has its columns."""
    known = {one[1] for one in conn.execute(f'PRAGMA table_info("{table}")')}
    row = {k: value for k, value in to_row(record).items() if value is not None and k in known}
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join("?" * len(row))
    conn.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', list(row.values()))


def old_file(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        migrate(conn, upto=version)
        insert(conn, "campaign", CAMPAIGN)
        insert(conn, "trial", TRIAL)
        insert(conn, "lesson", LESSON)


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "campaign.db"
    Store.create(path, CAMPAIGN).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        made.execute("PRAGMA foreign_keys = ON")
        made.execute("PRAGMA recursive_triggers = ON")
        insert(made, "trial", TRIAL)
        for table, record in KEPT.items():
            insert(made, table, record)
        yield made


@pytest.mark.parametrize("version", range(1, LATEST))
def test_an_old_file_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path = tmp_path / "campaign.db"
    old_file(path, version)
    with pytest.raises(StoreError, match=f"has schema {version}, this program reads {LATEST}"):
        Store.open(path, read_only=True)
    with Store.open(path) as store:
        assert store.campaign() == CAMPAIGN
        assert store.trials() == [TRIAL]
        assert store.changes(0) == (["t"], 1)
        assert [key for key, _ in matching(store, "attention", LAYERS, 8)] == [LESSON.id]
        with pytest.raises(StoreError, match="append-only"):
            store._connection.update("lesson", "l", {"text": "else"})
    with Store.open(path, read_only=True) as store:
        assert store.lessons() == [LESSON]
    assert database_problems(path) == []


def test_a_trial_of_an_old_file_has_the_planned_batch_and_its_old_id(tmp_path: Path) -> None:
    path = tmp_path / "campaign.db"
    old_file(path, 3)
    with Store.open(path) as store:
        [trial] = store.trials()
        assert (trial.batch_size, trial.checkpointing, trial.start) == (None, None, None)
        assert records.trial_id(trial) == "213576b637a4"
        store.update_trial("t", start="warm", checkpointing=True, cpu_seconds=1.5)
        [trial] = store.trials()
        assert trial.checkpointing is True
        with pytest.raises(StoreError, match="'batch_size' cannot be changed"):
            store.update_trial("t", batch_size=4)
        with pytest.raises(StoreError, match="CHECK constraint failed"):
            store.update_trial("t", start="tepid")


def test_an_old_file_takes_trials_of_the_staged_selection(tmp_path: Path) -> None:
    path = tmp_path / "campaign.db"
    old_file(path, 5)
    chosen = replace(TRIAL, id="s", kind=Kind.SELECT, split=SplitName.SEARCH_TRAIN, fold=2)
    with Store.open(path) as store:
        store.add_trial(chosen)
        with pytest.raises(StoreError, match="never changed"):
            store._connection.update("trial", "s", {"fold": 1})
        claim = records.Claim("c", "b", Metric.DICE, "not_worse_and_cheaper", "t", (), ())
        store.add_claim(claim)
        with pytest.raises(StoreError, match="CHECK constraint failed"):
            store.add_claim(replace(claim, id="d", verdict="splendid"))
    with Store.open(path) as store:
        assert store.trials(kind=Kind.SELECT) == [chosen]
        assert store.trial("t") == TRIAL
    assert database_problems(path) == []


def test_a_fold_gives_a_trial_another_id() -> None:
    assert records.trial_id(replace(TRIAL, fold=1)) != records.trial_id(TRIAL)


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "campaign.db"
    old_file(path, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE search_score (id TEXT)")  # in the way of migration 3
        migrate(conn, upto=2)
        before = conn.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="search_score"):
            migrate(conn)
        assert schema_version(conn) == 2
        assert conn.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall() == before
    with pytest.raises(StoreError, match="search_score already exists"):
        Store.open(path)


def test_every_migration_says_its_number() -> None:
    for number, migration in enumerate(MIGRATIONS, start=1):
        assert (migration.__doc__ or "").startswith(f"Migration {number}: ")


def test_every_table_is_strict(conn: sqlite3.Connection) -> None:
    tables = conn.execute("SELECT name, type, strict FROM pragma_table_list WHERE schema = 'main'")
    plain = {name: strict for name, kind, strict in tables if kind == "table"}
    assert {name for name, strict in plain.items() if not strict} == {"sqlite_schema"}
    assert set(KEPT) | {"campaign", "trial", "branch", "fact", "effect", "trial_change"} <= set(
        plain
    )


def test_the_schema_allows_the_values_of_the_records_and_no_other(conn: sqlite3.Connection) -> None:
    found = enumerations()
    assert len(found) == 6
    for place, kind in found.items():
        table, column = place.split(".")
        [sql] = conn.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        allowed = re.search(rf"CHECK \(\s*{column} IN \(([^)]*)\)", sql)
        assert allowed is not None
        assert set(re.findall(r"'([^']*)'", allowed[1])) == {value.value for value in kind}


@pytest.mark.parametrize("table", KEPT)
def test_kept_rows_cannot_be_changed(conn: sqlite3.Connection, table: str) -> None:
    column = next(iter(to_row(KEPT[table])))
    before = conn.execute(f"SELECT * FROM {table}").fetchall()
    assert len(before) == 1
    for sql in (
        f'UPDATE {table} SET "{column}" = "{column}"',
        f"DELETE FROM {table}",
        f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
    ):
        with pytest.raises(sqlite3.IntegrityError, match=f"{table} rows are append-only"):
            conn.execute(sql)
    assert conn.execute(f"SELECT * FROM {table}").fetchall() == before


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM trial", "never deleted"),
        ("DELETE FROM branch", "never deleted"),
        ("UPDATE trial SET seed = 7", "chosen to be is never changed"),
        ("UPDATE trial SET parent = NULL", "chosen to be is never changed"),
        ("UPDATE trial SET batch_size = 4", "chosen to be is never changed"),
        ("UPDATE final SET seconds = 7", "final trial is never changed"),
        ("UPDATE final SET status = 'planned'", "final trial is never changed"),
        ("INSERT INTO case_score VALUES ('t', 'd', 'o', 'dice', 1.0, NULL)", "no more scores"),
        ("UPDATE campaign SET split_hash = 'x'", "never changed"),
        ("UPDATE campaign SET protocol = '{\"a\":2}'", "written once"),
        ("INSERT INTO campaign SELECT 'd', name, 0.0, '', '', '', '', '', '', state, '' FROM campaign", "UNIQUE"),
    ],
)  # fmt: skip
def test_the_schema_itself_guards(conn: sqlite3.Connection, sql: str, message: str) -> None:
    insert(conn, "branch", records.Branch("b", "p", "open", 0.0))
    conn.execute("UPDATE campaign SET protocol = '{\"a\":1}'")
    if "final" in sql or "case_score" in sql:
        conn.execute("UPDATE trial SET status = 'ok'")
    with pytest.raises(sqlite3.IntegrityError, match=message):
        conn.execute(sql.replace("UPDATE final", "UPDATE trial"))


@pytest.mark.parametrize(
    "row",
    [
        "('t', 'd', 'organ', 'dice', NULL, NULL)",
        "('t', 'd', 'organ', 'dice', NULL, '')",
        "('t', 'd', 'organ', 'dice', -0.1, NULL)",
        "('t', 'd', 'organ', 'dice', 1.1, NULL)",
        "('t', 'd', 'organ', 'iou', 0.5, NULL)",
        "('t', 'd', 'organ', 'dice', 'high', NULL)",
        "('u', 'd', 'organ', 'dice', 0.5, NULL)",
        "('t', 'c1', 'organ', 'dice', 0.5, NULL)",
    ],
)
def test_a_score_that_cannot_be_is_refused(conn: sqlite3.Connection, row: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute(f"INSERT INTO case_score VALUES {row}")
    conn.execute("INSERT INTO case_score VALUES ('t', 'd', 'organ', 'hd95', 12.5, NULL)")
    conn.execute("INSERT INTO case_score VALUES ('t', 'd', 'organ', 'dice', NULL, 'empty')")


def test_the_search_views_hold_nothing_of_the_locked_test(conn: sqlite3.Connection) -> None:
    for name, kind, split in [
        ("search", "draft", "search-val"),
        ("locked", "draft", "locked-test"),
        ("confirm", "confirm", "search-val"),
    ]:
        sql = "INSERT INTO trial (id, kind, rung, seed, split, status, title)"
        conn.execute(f"{sql} VALUES (?, ?, 0, 1, ?, 'planned', '')", (name, kind, split))
        conn.execute(f"INSERT INTO case_score VALUES ('{name}', 'c', 'o', 'dice', 1.0, NULL)")
    seen = conn.execute("SELECT id FROM search_trial ORDER BY id").fetchall()
    assert seen == [("search",), ("t",)]
    scored = conn.execute("SELECT DISTINCT trial FROM search_score ORDER BY trial").fetchall()
    assert scored == [("search",), ("t",)]
    columns = [row[1] for row in conn.execute("PRAGMA table_info(search_trial)")]
    assert columns == [row[1] for row in conn.execute("PRAGMA table_info(trial)")]


def test_a_lesson_of_an_old_file_is_a_finding_of_its_own_trial(tmp_path: Path) -> None:
    path = tmp_path / "campaign.db"
    old_file(path, 7)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(
            "INSERT INTO lesson (id, layer, text, evidence, components, at) "
            "VALUES ('bare', 'trial', 'axial', '[]', '[]', 0.0)"
        )
    with Store.open(path) as store:
        first, bare = store.lessons()
        assert (first.kind, first.conditions, first.source) == ("finding", {}, "")
        assert (first.support, first.contra) == (1, 0)
        assert bare.evidence == ()
        told = store._connection.select("SELECT id FROM search_lesson")[1]
        assert told == [("l",)]
        store.add_lesson(replace(LESSON, id="m", kind="dead_end", conditions={"dims": 2}))
        assert store.lessons()[-1].conditions == {"dims": 2}
    assert database_problems(path) == []


OTHER = replace(LESSON, id="o", layer="library", evidence=("far",), source="another")


@pytest.mark.parametrize(
    ("lesson", "message"),
    [
        (replace(LESSON, evidence=()), "a lesson cites the trials that it rests on"),
        (replace(OTHER, evidence=()), "a lesson cites the trials that it rests on"),
        (replace(LESSON, evidence=("t", "made up")), "cites a trial that is not there"),
        (replace(OTHER, source=""), "cites a trial that is not there"),
        (replace(OTHER, layer="campaign"), "a lesson of another campaign is of the library"),
        (replace(OTHER, source="c"), "a campaign imports no lesson of its own"),
        (replace(LESSON, kind="rumour"), "CHECK constraint failed"),
        (replace(LESSON, support=-1), "CHECK constraint failed"),
        (replace(LESSON, contra=-1), "CHECK constraint failed"),
    ],
)
def test_a_lesson_that_cannot_be_is_refused(tmp_path: Path, lesson: Lesson, message: str) -> None:
    with Store.create(tmp_path / "campaign.db", CAMPAIGN) as store:
        store.add_trial(TRIAL)
        with pytest.raises(StoreError, match=message):
            store.add_lesson(lesson)
        store.add_lesson(OTHER)
        assert store.lessons() == [OTHER]


def test_the_counts_of_a_lesson_may_change_and_nothing_else(conn: sqlite3.Connection) -> None:
    conn.execute("UPDATE lesson SET support = 2, contra = 3")
    assert conn.execute("SELECT support, contra FROM lesson").fetchall() == [(2, 3)]
    columns = {row[1] for row in conn.execute("PRAGMA table_info(lesson)")}
    for column in sorted(columns - {"support", "contra", "is_replaced"}):
        with pytest.raises(sqlite3.IntegrityError, match="lesson rows are append-only"):
            conn.execute(f"UPDATE lesson SET {column} = {column}")


def test_a_lesson_of_another_campaign_can_go_with_all_that_was_made_of_it(
    conn: sqlite3.Connection,
) -> None:
    insert(conn, "lesson", OTHER)
    conn.execute("INSERT INTO lesson_vector (lesson, model, vector) VALUES ('o', 'm', x'00')")
    conn.execute("INSERT INTO lesson_vector (lesson, model, vector) VALUES ('l', 'm', x'00')")
    conn.execute("DELETE FROM lesson WHERE source = 'another'")
    assert conn.execute("SELECT id FROM lesson").fetchall() == [("l",)]
    assert conn.execute("SELECT lesson FROM lesson_vector").fetchall() == [("l",)]
    found = "SELECT id FROM lesson_words WHERE lesson_words MATCH 'attention'"
    assert conn.execute(found).fetchall() == [("l",)]


def test_lessons_of_the_search_cite_nothing_of_the_locked_test(conn: sqlite3.Connection) -> None:
    for name, kind, split in [
        ("locked", "draft", "locked-test"),
        ("confirm", "confirm", "search-val"),
    ]:
        insert(conn, "trial", replace(TRIAL, id=name, kind=Kind(kind), split=SplitName(split)))
    cited = [("locked",), ("confirm",), ("t", "locked"), ("confirm", "t"), ("t", "t")]
    for number, evidence in enumerate(cited):
        insert(conn, "lesson", replace(LESSON, id=str(number), evidence=evidence))
    insert(conn, "lesson", OTHER)
    insert(conn, "lesson", replace(OTHER, id="borrowed", evidence=("far", "locked")))
    told = conn.execute("SELECT id FROM search_lesson ORDER BY id").fetchall()
    assert told == [("4",), ("l",), ("o",)]
    columns = [row[1] for row in conn.execute("PRAGMA table_info(search_lesson)")]
    assert columns == [row[1] for row in conn.execute("PRAGMA table_info(lesson)")]


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("DROP TRIGGER event_forbids_delete", "the trigger event_forbids_delete is missing"),
        ("CREATE TABLE extra (a TEXT)", "the table extra is not one of segwright's"),
        ("DROP VIEW search_trial; CREATE VIEW search_trial AS SELECT 1", "search_trial is not as"),
        (
            "PRAGMA foreign_keys = OFF; INSERT INTO branch VALUES ('b', 'nobody', 'open', 0.0)",
            "branch row 1 refers to a proposal that is not there",
        ),
        (
            "PRAGMA ignore_check_constraints = ON; UPDATE trial SET status = 'odd'",
            "CHECK constraint failed in trial",
        ),
    ],
)
def test_a_changed_file_is_noticed(
    conn: sqlite3.Connection, tmp_path: Path, sql: str, problem: str
) -> None:
    assert database_problems(tmp_path / "campaign.db") == []
    conn.executescript(sql)
    [line] = database_problems(tmp_path / "campaign.db")
    assert line.startswith("campaign.db: ")
    assert problem in line
