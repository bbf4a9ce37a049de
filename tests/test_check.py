"""`segwright check`: silent on a sound campaign, and after any change it names the place."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.check import check_campaign
from memory import records
from memory.errors import StoreError
from memory.networks import Networks
from memory.records import (
    Branch,
    Campaign,
    CaseScore,
    Fact,
    Kind,
    Metric,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    Trial,
)
from memory.store import Store
from sandbox.fingerprints import predictions_hash, text_hash
from sandbox.split import split_hash

CASES = [
    SplitCase("c1", "p1", SplitName.SEARCH_TRAIN, 1.0, "i1", "l1"),
    SplitCase("c2", "p2", SplitName.SEARCH_VAL, 1.0, "i2", "l2"),
    SplitCase("c3", "p3", SplitName.LOCKED_TEST, 1.0, "i3", "l3"),
]
CAMPAIGN = Campaign("c", "demo", 1.5, "0.1", {}, {}, "dh", split_hash(CASES), {})
SOURCE = "def build_network(in_channels, num_classes, spec):\n    ...\n"
BASE = Trial("", None, None, None, None, Kind.BASELINE, 0, 1, SplitName.SEARCH_VAL)


def derive(store: Store) -> list[Fact]:
    trials = [t for t in store.trials() if t.status is Status.OK]
    best = max((s.value or 0.0 for t in trials for s in store.case_scores(t.id)), default=0.0)
    return [
        Fact("best", best, f"{best:.3f}", "", tuple(f"case_score:{t.id}" for t in trials)),
        Fact("trials", len(trials), str(len(trials)), "", ("campaign",)),
    ]


def unbound(folder: Path, facts: Mapping[str, Fact]) -> list[str]:
    page = (folder / "report" / "report.html").read_text()
    return [f"report/report.html: no fact {word}" for word in page.split() if word not in facts]


def check(folder: Path) -> list[str]:
    problems = check_campaign(folder, derive=derive, unbound=unbound)
    assert all("\n" not in line for line in problems)
    return problems


def rows(trial: Trial, case: str) -> list[CaseScore]:
    return [
        CaseScore(trial.id, case, "organ", Metric.DICE, 0.8125),
        CaseScore(trial.id, case, "organ", Metric.HD95, None, "the prediction is empty"),
    ]


def finish(folder: Path, store: Store, trial: Trial, case: str) -> None:
    place = folder / "trials" / trial.id
    (place / "predictions").mkdir(parents=True)
    (place / "predictions" / f"{case}.nii.gz").write_bytes(b"label map")
    known = predictions_hash(place / "predictions")
    scores = rows(trial, case)
    written = [[s.case, s.label, s.metric, s.value, s.reason] for s in scores]
    locked = trial.kind is Kind.CONFIRM
    result = {"status": "ok", "predictions_hash": known, "scores": [] if locked else written}
    (place / "result.json").write_text(json.dumps(result))
    if locked:
        (place / "locked_scores.json").write_text(json.dumps({"scores": written}))
    if trial.commit:
        (place / "code").mkdir()
        (place / "code" / "network.py").write_text(SOURCE)
    store.record_result(
        trial.id, changes={"status": "ok", "predictions_hash": known}, scores=scores
    )


def named(trial: Trial) -> Trial:
    return replace(trial, id=records.trial_id(trial))


class Made:
    """A small campaign: a baseline, a draft, its confirmation, a rejected trial."""

    def __init__(self, folder: Path) -> None:
        """Make the campaign in an empty folder."""
        self.folder = folder
        self.networks = Networks.create(folder / "networks")
        self.commit = self.networks.commit(
            SOURCE, branch="b00b", message="m", trailers={"Proposal-Id": "p"}
        )
        own: dict[str, Any] = {"branch": "b00b", "proposal": "p", "commit": self.commit}
        own |= {"network_hash": text_hash(SOURCE)}
        self.baseline = named(BASE)
        self.draft = named(replace(BASE, kind=Kind.DRAFT, **own))
        confirm = replace(self.draft, kind=Kind.CONFIRM, split=SplitName.LOCKED_TEST, seed=1000)
        self.confirm = named(replace(confirm, parent=self.draft.id))
        self.rejected = named(replace(BASE, kind=Kind.DRAFT, seed=2))
        self.running = named(replace(BASE, seed=3, status=Status.RUNNING))
        (folder / "report").mkdir()
        with Store.create(folder / "campaign.db", CAMPAIGN) as store:
            self.fill(store)

    def fill(self, store: Store) -> None:
        """Write every row and file that a finished campaign has."""
        store.add_split(CASES)
        store.add_proposal(Proposal("p", "t", "m", (), "r", (), "grammar"))
        store.add_branch(Branch("b00b", "p", "open", 1.0))
        for trial in (self.baseline, self.draft, self.confirm, self.rejected, self.running):
            store.add_trial(trial)
        finish(self.folder, store, self.baseline, "c2")
        finish(self.folder, store, self.draft, "c2")
        store.record_result(self.rejected.id, changes={"status": "rejected"}, scores=[])
        store.add_test_access(records.TestAccess("confirmation", "scores", (self.confirm.id,)))
        finish(self.folder, store, self.confirm, "c3")
        store.set_state("done")
        store.replace_facts(derive(store))
        (self.folder / "report" / "report.html").write_text("best trials")

    def place(self, trial: Trial, name: str) -> Path:
        """Return a path in a trial's folder."""
        return self.folder / "trials" / trial.id / name

    def sql(self, *statements: str) -> None:
        """Change rows behind the store's back, its triggers dropped and made again."""
        with closing(sqlite3.connect(self.folder / "campaign.db", isolation_level=None)) as conn:
            sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
            triggers = conn.execute(sql).fetchall()
            for name, _ in triggers:
                conn.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                assert conn.execute(statement).rowcount != 0
            for _, sql in triggers:
                conn.execute(sql)

    def edit(self, path: Path, old: str, new: str) -> None:
        """Replace the first of some words in a file."""
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_a_sound_campaign_has_no_problem(made: Made) -> None:
    assert check(made.folder) == []


def test_a_check_writes_nothing(made: Made) -> None:
    def state() -> dict[str, bytes]:
        files = [p for p in made.folder.rglob("*") if p.is_file()]
        return {str(p): p.read_bytes() for p in files if not p.name.endswith(("-shm", "-wal"))}

    before = state()
    check(made.folder)
    assert state() == before


def score_and_file(m: Made) -> None:
    m.sql(f"UPDATE case_score SET value = 0.5 WHERE trial = '{m.draft.id}'")
    m.edit(m.place(m.draft, "result.json"), "0.8125", "0.5")


def link_network(m: Made) -> None:
    (m.folder / "copy.py").write_text(SOURCE)
    m.place(m.draft, "code/network.py").unlink()
    m.place(m.draft, "code/network.py").symlink_to(m.folder / "copy.py")


Change = Callable[[Made], object]

CHANGES: dict[str, tuple[Change, str]] = {
    "score": (
        lambda m: m.sql(
            f"UPDATE case_score SET value = 0.8126 WHERE trial = '{m.draft.id}' AND metric = 'dice'"
        ),
        "trial {draft}, case c2, class organ, metric dice: case_score has 0.8126, "
        "result.json has 0.8125",
    ),
    "reason": (
        lambda m: m.sql(
            f"UPDATE case_score SET reason = 'x' WHERE trial = '{m.draft.id}' AND metric = 'hd95'"
        ),
        "trial {draft}, case c2, class organ, metric hd95: case_score has None (x)",
    ),
    "score and file": (
        score_and_file,
        "trial {draft}: its scores give the hash",
    ),
    "score removed": (
        lambda m: m.sql(f"DELETE FROM case_score WHERE trial = '{m.draft.id}' AND metric = 'hd95'"),
        "metric hd95: case_score has no such score, result.json has None (the prediction is empty)",
    ),
    "result file": (
        lambda m: m.edit(m.place(m.baseline, "result.json"), "0.8125", "0.8135"),
        "trial {baseline}, case c2, class organ, metric dice: case_score has 0.8125, "
        "result.json has 0.8135",
    ),
    "result status": (
        lambda m: m.edit(m.place(m.baseline, "result.json"), '"ok"', '"failed"'),
        "trial {baseline}: its status is ok, result.json has 'failed'",
    ),
    "result missing": (
        lambda m: m.place(m.baseline, "result.json").unlink(),
        "result.json cannot be read: No such file",
    ),
    "result no json": (
        lambda m: m.place(m.baseline, "result.json").write_text("{"),
        "result.json is no JSON",
    ),
    "result a list": (
        lambda m: m.place(m.baseline, "result.json").write_text("[]"),
        "result.json is no JSON object",
    ),
    "result odd scores": (
        lambda m: m.place(m.baseline, "result.json").write_text('{"status":"ok","scores":[[1]]}'),
        "result.json has no list of [case, class, metric, value, reason]",
    ),
    "result doubled": (
        lambda m: m.edit(
            m.place(m.baseline, "result.json"),
            '"scores": [',
            '"scores": [["c2", "organ", "dice", 0.8125, null], ',
        ),
        "trial {baseline}: result.json has a score twice",
    ),
    "locked score": (
        lambda m: m.edit(m.place(m.confirm, "locked_scores.json"), "0.8125", "0.9125"),
        "trial {confirm}, case c3, class organ, metric dice: case_score has 0.8125, "
        "locked_scores.json has 0.9125",
    ),
    "locked file": (
        lambda m: m.place(m.confirm, "locked_scores.json").unlink(),
        "locked_scores.json cannot be read",
    ),
    "access": (
        lambda m: m.sql("DELETE FROM test_access"),
        "test_access: trial {confirm} has locked-test scores, and no row names it",
    ),
    "seed": (
        lambda m: m.sql(f"UPDATE trial SET seed = 77 WHERE id = '{m.rejected.id}'"),
        "trial {rejected}: its choices give the id",
    ),
    "status": (
        lambda m: m.sql(f"UPDATE trial SET status = 'ok' WHERE id = '{m.rejected.id}'"),
        "trial {rejected}: it is ok, with 0 scores",
    ),
    "split": (
        lambda m: m.sql("UPDATE split SET foreground_mm3 = 2.0 WHERE \"case\" = 'c1'"),
        "split: its rows give the hash",
    ),
    "patient": (
        lambda m: m.sql("UPDATE split SET patient = 'p1' WHERE \"case\" = 'c3'"),
        "split: patient p1 is in search-train and, by case c3, in locked-test",
    ),
    "network row": (
        lambda m: m.sql(f"UPDATE trial SET network_hash = 'f00' WHERE id = '{m.draft.id}'"),
        "trial {draft}: network.py at commit",
    ),
    "network row gone": (
        lambda m: m.sql(f"UPDATE trial SET network_hash = NULL WHERE id = '{m.draft.id}'"),
        "trial {draft}: it has a commit and no network_hash",
    ),
    "network file": (
        lambda m: m.edit(m.place(m.draft, "code/network.py"), "...", "pass"),
        "code/network.py has the hash",
    ),
    "network link": (
        link_network,
        "code/network.py is no regular file",
    ),
    "prediction": (
        lambda m: m.place(m.baseline, "predictions/c2.nii.gz").write_bytes(b"label mop"),
        "trial {baseline}: the files in",
    ),
    "prediction added": (
        lambda m: m.place(m.confirm, "predictions/c9.nii.gz").write_bytes(b""),
        "trial {confirm}: the files in",
    ),
    "prediction row": (
        lambda m: m.sql(f"UPDATE trial SET predictions_hash = NULL WHERE id = '{m.draft.id}'"),
        "trial {draft}: it is ok and has no predictions_hash",
    ),
    "fact value": (
        lambda m: m.sql("UPDATE fact SET value = 4 WHERE key = 'trials'"),
        "fact trials: value is stored as 4, the rows give 3",
    ),
    "fact text": (
        lambda m: m.sql("UPDATE fact SET text = '0.813' WHERE key = 'best'"),
        "fact best: text is stored as '0.813', the rows give '0.812'",
    ),
    "fact sources": (
        lambda m: m.sql("UPDATE fact SET sources = '[]' WHERE key = 'best'"),
        "fact best: sources is stored as ()",
    ),
    "fact removed": (
        lambda m: m.sql("DELETE FROM fact WHERE key = 'best'"),
        "fact best: is given by rows, and not stored",
    ),
    "fact added": (
        lambda m: m.sql("INSERT INTO fact VALUES ('more', 1, '1', '', '[]')"),
        "fact more: is stored, and no row gives it",
    ),
    "report": (
        lambda m: (m.folder / "report" / "report.html").write_text("best trials 0.9"),
        "report/report.html: no fact 0.9",
    ),
    "schema": (
        lambda m: m.sql("DROP VIEW search_score"),
        "campaign.db: the view search_score is missing",
    ),
    "infinite": (
        lambda m: m.sql(f"UPDATE case_score SET value = 9e999 WHERE trial = '{m.draft.id}'"
                        " AND metric = 'hd95'"),
        "trial {draft}: case_score.value is inf",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_found_and_named(made: Made, change: Change, expected: str) -> None:
    change(made)
    expected = expected.format(**{name: t.id for name, t in vars(made).items() if hasattr(t, "id")})
    problems = check(made.folder)
    assert [line for line in problems if expected in line], problems


def test_a_damaged_network_is_found_by_git_and_by_hash(made: Made) -> None:
    objects = [p for p in (made.folder / "networks" / "objects").rglob("*") if p.is_file()]
    for path in objects:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-2] + b"\0\0")
    problems = check(made.folder)
    assert any(line.startswith("networks: ") for line in problems)
    assert any(line.startswith(f"trial {made.draft.id}: ") for line in problems)


def test_missing_networks_are_found(made: Made) -> None:
    (made.folder / "networks").rename(made.folder / "moved")
    problems = check(made.folder)
    assert any(line.startswith("networks: ") and "is missing" in line for line in problems)


def test_one_damage_hides_no_other(made: Made) -> None:
    made.place(made.baseline, "result.json").write_text("{")
    made.sql("UPDATE fact SET value = 4 WHERE key = 'trials'")
    problems = check(made.folder)
    assert len(problems) == 2
    assert problems[1].startswith("fact trials")


def test_an_unfinished_campaign_is_checked_for_what_exists(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.sql("UPDATE campaign SET state = 'running'", "UPDATE fact SET value = 4, text = '4'")
    (tmp_path / "report" / "report.html").unlink()
    (tmp_path / "report" / "cases").mkdir()
    assert check(tmp_path) == []
    made.place(made.running, "predictions").mkdir(parents=True)
    made.place(made.running, "result.json").write_text("{}")
    assert check(tmp_path) == []
    made.edit(made.place(made.draft, "result.json"), "0.8125", "0.8126")
    assert len(check(tmp_path)) == 1


def test_a_new_campaign_has_no_problem(tmp_path: Path) -> None:
    Store.create(tmp_path / "campaign.db", CAMPAIGN).close()
    assert check(tmp_path) == []


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_no_campaign_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "campaign.db").write_bytes(content)
    [line] = check(tmp_path)
    assert "campaign.db" in line


def test_a_colleague_that_cannot_go_on_is_a_problem(made: Made) -> None:
    def broken(store: Store) -> list[Fact]:
        raise StoreError("claim c has no trials")

    assert check_campaign(made.folder, derive=broken, unbound=unbound) == ["claim c has no trials"]
