"""The campaign store: every record of a campaign, in one SQLite file.

Everything goes through `Store`, and comes back as the types of memory.records. Each method is
one transaction; several make one inside `with store.transaction():`. Rows are appended and
kept: a second writing of the same record changes nothing, a different one with the same id is
refused. Times are the caller's.

Threads and processes: one Store per thread (SQLite's own check raises ProgrammingError
otherwise), any number of Stores on one file. Writers wait for each other up to 30 s; readers
never wait. Do not keep a Store across a fork.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from memory.call_log import CallLog
from memory.change_log import ChangeLog
from memory.connection import Connection, create_file
from memory.errors import StoreError
from memory.lesson_log import LessonLog
from memory.records import (
    Branch,
    Campaign,
    CaseScore,
    Claim,
    Event,
    Fact,
    Figures,
    Kind,
    Metric,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    TestAccess,
    Trial,
    scores_hash,
)
from memory.results import changed_trial, check_result, result_event
from memory.rows import TABLES, Column, from_rows, to_column, to_row

R = TypeVar("R")
GIVEN = "(SELECT value FROM json_each(?))"  # a list of any length as one value
BY_TIME = "ORDER BY planned_at IS NULL, planned_at, id"
LAST = "\U0010ffff"  # a key with a prefix sorts before the prefix and this


class Store(ChangeLog, CallLog, LessonLog):
    """The records of one campaign. Use it as a context manager, or call `close()`."""

    def __init__(self, connection: Connection) -> None:
        """Take over a connection; use `Store.create` or `Store.open` instead."""
        self._connection = connection
        self.path = connection.path

    @classmethod
    def create(cls, path: Path, campaign: Campaign) -> "Store":
        """Make campaign.db, mode 0600, with its one campaign row, and open it.

        Raises:
            StoreError: the file exists, or cannot be written.
        """
        create_file(path, [campaign])
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> "Store":
        """Open an existing campaign.db; `read_only` works beside a running writer.

        Raises:
            StoreError: missing, foreign, damaged, or of a schema newer than this program.
        """
        return cls(Connection.open(path, read_only=read_only))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._connection.close()

    def __enter__(self) -> "Store":
        """Return the store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the calls of the block one transaction: all are kept, or none.

        The write lock is held from the start, so what is read inside stays true until the end.

        Raises:
            StoreError: opened for reading only, or the lock was not free within 30 s.
        """
        with self._connection.transaction():
            yield

    def _select(
        self, kind: type[R], tail: str = "ORDER BY rowid", values: Sequence[Column] = ()
    ) -> list[R]:
        columns, rows = self._connection.select(f'SELECT * FROM "{TABLES[kind]}" {tail}', values)
        return from_rows(kind, columns, rows)

    def _one(self, kind: type[R], key: str | int) -> R:
        found = self._select(kind, "WHERE id = ?", (key,))
        if not found:
            raise StoreError(f"{self.path} has no {TABLES[kind]} {key!r}")
        return found[0]

    def campaign(self) -> Campaign:
        """Return the one campaign row."""
        found = self._select(Campaign)
        if not found:
            raise StoreError(f"{self.path} holds no campaign; make one with segwright init")
        return found[0]

    def set_state(self, state: str) -> None:
        """Set the campaign's state: new, running, paused, stopped or done."""
        with self.transaction():
            self._connection.update("campaign", self.campaign().id, {"state": state})

    def set_protocol(self, figures: Figures) -> None:
        """Write down the confirmation protocol, once; the same again changes nothing.

        Raises:
            StoreError: another protocol is written down already.
        """
        wanted = to_column(figures, where="campaign.protocol")
        with self.transaction():
            campaign = self.campaign()
            stored = to_column(campaign.protocol, where="campaign.protocol")
            if campaign.protocol and stored != wanted:
                raise StoreError(f"{self.path}: a protocol is set already, and is never changed")
            if stored != wanted:
                self._connection.update("campaign", campaign.id, {"protocol": wanted})

    def add_split(self, cases: Sequence[SplitCase]) -> None:
        """Lock the split; the same again changes nothing.

        Raises:
            StoreError: another split is locked, or a case is named twice.
        """
        with self.transaction():
            stored = self.split()
            if not stored:
                self._connection.insert(cases)
            elif sorted(stored, key=lambda c: c.case) != sorted(cases, key=lambda c: c.case):
                raise StoreError(f"{self.path}: the split is locked already, and is never changed")

    def split(self, name: SplitName | None = None) -> list[SplitCase]:
        """Return the cases, or those of one part, ordered by case."""
        if name is None:
            return self._select(SplitCase, 'ORDER BY "case"')
        return self._select(SplitCase, 'WHERE split = ? ORDER BY "case"', (name,))

    def add_proposal(self, proposal: Proposal) -> None:
        """Keep a proposal; its parent must be stored. Idempotent."""
        self._connection.insert_once(proposal)

    def proposals(self) -> list[Proposal]:
        """Return the proposals in the order in which they were added."""
        return self._select(Proposal)

    def latest_proposals(self, count: int) -> list[Proposal]:
        """Return so many proposals, the one that was added last first."""
        return self._select(Proposal, "ORDER BY rowid DESC LIMIT ?", (count,))

    def proposal(self, proposal_id: str) -> Proposal:
        """Return one proposal; StoreError if there is none with that id."""
        return self._one(Proposal, proposal_id)

    def add_branch(self, branch: Branch) -> None:
        """Keep a branch; its proposal must be stored. Idempotent: its state is not reset."""
        self._connection.insert_once(branch)

    def branches(self) -> list[Branch]:
        """Return the branches in the order in which they were added."""
        return self._select(Branch)

    def set_branch_state(self, branch_id: str, state: str) -> None:
        """Set a branch open or cut."""
        self._connection.update("branch", branch_id, {"state": state})

    def add_trial(self, trial: Trial) -> None:
        """Keep a trial; parent, branch and proposal must be stored. Idempotent.

        Where a trial with the same id and choices is there, it stays as far as it has come.
        """
        self._connection.insert_once(trial)

    def trial(self, trial_id: str) -> Trial:
        """Return one trial; StoreError if there is none with that id."""
        return self._one(Trial, trial_id)

    def trials(
        self,
        *,
        kind: Kind | None = None,
        status: Status | None = None,
        rung: int | None = None,
        branch: str | None = None,
    ) -> list[Trial]:
        """Return the trials that fit every given choice, by planned_at (unknown last), then id."""
        wanted = {"kind": kind, "status": status, "rung": rung, "branch": branch}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in given) or "TRUE"
        return self._select(Trial, f"WHERE {where} {BY_TIME}", list(given.values()))

    def trials_by_id(self, ids: Collection[str]) -> list[Trial]:
        """Return the trials with those ids, in the order of `trials`; unknown ids are passed over."""
        return self._select(Trial, f"WHERE id IN {GIVEN} {BY_TIME}", (json.dumps(list(ids)),))

    def trials_of(self, proposals: Collection[str]) -> list[Trial]:
        """Return the trials of some proposals, in the order of `trials`."""
        given = (json.dumps(list(proposals)),)
        return self._select(Trial, f"WHERE proposal IN {GIVEN} {BY_TIME}", given)

    def update_trial(self, trial_id: str, **changes: Any) -> bool:
        """Fill in fields of a trial that is not final yet.

        Its choices are fixed, scores_hash is the store's, and a final status comes with its
        scores through `record_result`.

        Returns:
            False, and no change, if the trial is final already.

        Raises:
            StoreError: no such trial, or a field that may not be changed here.
        """
        with self.transaction():
            before = self.trial(trial_id)
            if before.status.is_final:
                return False
            after = changed_trial(before, changes)
            if after.status.is_final:
                raise StoreError(
                    f"trial {trial_id} cannot be set {after.status} by update_trial; "
                    "use record_result, which keeps its scores with it"
                )
            self._write_trial(before, after)
        return True

    def record_result(
        self, trial_id: str, *, changes: Figures, scores: Sequence[CaseScore]
    ) -> bool:
        """End a trial: its last fields, its scores, their hash and an event, all or nothing.

        Args:
            trial_id: a trial that is planned or running.
            changes: fields of Trial; `status` is final. `ended_at` is also the event's time.
            scores: every score of an ok trial; none for any other status.

        Returns:
            False, and no change, if the trial was final already.

        Raises:
            StoreError: no such trial, a status that is not final, scores that do not belong.
        """
        with self.transaction():
            before = self.trial(trial_id)
            if before.status.is_final:
                return False
            after = changed_trial(before, changes)
            check_result(after, scores)
            self._connection.insert(scores)
            # Hashed as stored: an int 1 given as a score is read back as 1.0.
            stored = self.case_scores(trial_id)
            after = replace(after, scores_hash=scores_hash(stored) if stored else None)
            self._write_trial(before, after)
            self.add_event(result_event(after, len(stored)))
        return True

    def _write_trial(self, before: Trial, after: Trial) -> None:
        old, new = to_row(before), to_row(after)
        changes = {name: value for name, value in new.items() if value != old[name]}
        self._connection.update("trial", before.id, changes)

    def case_scores(self, trial_id: str) -> list[CaseScore]:
        """Return the scores of a trial by case, class and metric; none for one without."""
        tail = 'WHERE trial = ? ORDER BY "case", label, metric'
        return self._select(CaseScore, tail, (trial_id,))

    def metric_values(
        self, trials: Collection[str], metric: Metric
    ) -> list[tuple[str, str, float | None]]:
        """Return trial, case and value of each class score of a metric, by trial and case."""
        where = f'trial IN {GIVEN} AND metric = ? ORDER BY trial, "case", label'
        sql = f'SELECT trial, "case", value FROM case_score WHERE {where}'
        return self._connection.select(sql, (json.dumps(list(trials)), metric))[1]

    def add_event(self, event: Event) -> int:
        """Append an event, whatever its `id` says, and return the id it got, from 1 upwards."""
        return self._connection.append(event)

    def events(self, *, kind: str | None = None, after: int = 0) -> list[Event]:
        """Return the events with an id above `after`, oldest first."""
        if kind is None:
            return self._select(Event, "WHERE id > ? ORDER BY id", (after,))
        return self._select(Event, "WHERE id > ? AND kind = ? ORDER BY id", (after, kind))

    def last_event(self, kinds: Collection[str]) -> Event | None:
        """Return the latest event of some kinds, or None."""
        tail = f"WHERE kind IN {GIVEN} ORDER BY id DESC LIMIT 1"
        return next(iter(self._select(Event, tail, (json.dumps(list(kinds)),))), None)

    def last_event_with(self, path: str) -> Event | None:
        """Return the latest event whose figures have something at a JSON path, or None."""
        tail = "WHERE json_extract(figures, ?) IS NOT NULL ORDER BY id DESC LIMIT 1"
        return next(iter(self._select(Event, tail, (path,))), None)

    def event_trials(self, kinds: Collection[str], *, after: int = 0) -> list[tuple[int, str, str]]:
        """Return id, kind and trial of the events of some kinds about a trial; parses no figures."""
        where = f"kind IN {GIVEN} AND id > ? AND trial IS NOT NULL ORDER BY id"
        sql = f"SELECT id, kind, trial FROM event WHERE {where}"
        return self._connection.select(sql, (json.dumps(list(kinds)), after))[1]

    def count_events(self, kinds: Collection[str]) -> int:
        """Return how many events of some kinds there are."""
        sql = f"SELECT count(*) FROM event WHERE kind IN {GIVEN}"
        return int(self._connection.select(sql, (json.dumps(list(kinds)),))[1][0][0])

    def event(self, event_id: int) -> Event:
        """Return one event; StoreError if there is none with that id."""
        return self._one(Event, event_id)

    def replace_facts(self, facts: Sequence[Fact]) -> None:
        """Put these facts in the place of all that were there."""
        with self.transaction():
            self._connection.database.execute("DELETE FROM fact")
            self._connection.insert(facts)

    def facts(self) -> dict[str, Fact]:
        """Return the facts by key, in the order in which they were given."""
        return {fact.key: fact for fact in self._select(Fact)}

    def add_test_access(self, access: TestAccess) -> int:
        """Append a reading of locked-test labels, whatever its `id` says; return its id."""
        return self._connection.append(access)

    def test_accesses(self) -> list[TestAccess]:
        """Return every reading of locked-test labels, oldest first."""
        return self._select(TestAccess, "ORDER BY id")

    def add_claim(self, claim: Claim) -> None:
        """Keep a claim. Idempotent; a claim is never changed."""
        self._connection.insert_once(claim)

    def claims(self) -> list[Claim]:
        """Return the claims in the order in which they were added."""
        return self._select(Claim)

    def effect(self, key: str) -> Figures | None:
        """Return what the step with that key did, or None if it was never done."""
        found = self._connection.rows("SELECT result FROM effect WHERE key = ?", (key,))
        return dict(json.loads(found[0]["result"])) if found else None

    def effects(self, prefix: str) -> dict[str, Figures]:
        """Return what all steps did whose keys begin with a prefix, in the order of the keys."""
        sql = "SELECT key, result FROM effect WHERE key >= ? AND key < ? ORDER BY key"
        found = self._connection.rows(sql, (prefix, prefix + LAST))
        return {row["key"]: dict(json.loads(row["result"])) for row in found}

    def set_effect(self, key: str, result: Figures) -> Figures:
        """Write down what a step did, unless it is written down already.

        Returns:
            The result that stands: the first writer's.
        """
        text = to_column(result, where=f"effect {key}")
        with self.transaction():
            sql = "INSERT INTO effect (key, result) VALUES (?, ?) ON CONFLICT DO NOTHING"
            self._connection.database.execute(sql, [key, text])
            stands = self.effect(key)
        assert stands is not None
        return stands
