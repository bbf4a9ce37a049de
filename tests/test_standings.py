"""Evidence for every trial, read once, and what a change in the store makes of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.comparison import Comparison
from agent.evidence import Evidence, SeedSpread, measure
from agent.readings import Scored
from agent.standings import Setup, Standings
from memory.errors import ExploreError, StoreError
from memory.records import (
    Branch,
    Campaign,
    CaseScore,
    Kind,
    Metric,
    Module,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    Trial,
)
from memory.store import Store
from sandbox.means import case_mean

CASES = ("c1", "c2", "c3")
PLAN = [SplitCase(c, c, SplitName.SEARCH_VAL, 1.0, "i", "l") for c in CASES]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaign.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.create(path, Campaign("c", "n", 1.0, "0", {}, {}, "d", "s", {})) as made:
        made.add_split(PLAN)
        for name, components in (("p", ("gate", "mixer")), ("q", ("gate", "gate"))):
            modules = tuple(Module(c, "skip", (0,)) for c in components)
            made.add_proposal(Proposal(name, "t", "m", modules, "r", (), "g"))
        made.add_branch(Branch("b", "p", "open", 1.0))
        yield made


def trial(name: str, kind: Kind = Kind.DRAFT, **more: object) -> Trial:
    search = kind is not Kind.BASELINE
    own = {"branch": "b", "proposal": "p"} if search else {"branch": None, "proposal": None}
    return Trial(
        **{"id": name, "parent": None, "commit": None, "rung": 0, "seed": 1, **own, **more},  # type: ignore[arg-type]
        kind=kind,
        split=SplitName.SEARCH_VAL,
    )


def end(store: Store, one: Trial, *means: float | None, status: Status = Status.OK) -> Trial:
    """Plan a trial and end it with a Dice for each case, in two classes around it."""
    store.add_trial(one)
    scores = []
    for case, mean in zip(CASES, means, strict=False):
        for label, shift in (("a", 0.125), ("b", -0.125)):
            value = None if mean is None else mean + shift
            scores.append(CaseScore(one.id, case, label, Metric.DICE, value, "both empty"))
        scores.append(CaseScore(one.id, case, "a", Metric.HD95, 4.0))
    store.record_result(one.id, changes={"status": status}, scores=scores)
    return store.trial(one.id)


def baselines(store: Store, count: int = 3, **more: object) -> list[Trial]:
    made = [
        trial(f"base{i}{''.join(map(str, more.values()))}", Kind.BASELINE, seed=100 + i, **more)
        for i in range(count)
    ]
    return [end(store, one, 0.5 + 0.01 * i, 0.6, 0.7) for i, one in enumerate(made)]


def ids(trials: list[Trial]) -> list[str]:
    return sorted(one.id for one in trials)


def test_the_first_refresh_returns_everything_and_the_next_what_changed(store: Store) -> None:
    base = baselines(store)
    first = end(store, trial("t1"), 0.6, 0.7, 0.8)
    standings = Standings(store)
    assert ids(standings.refresh()) == ids([*base, first])
    assert standings.refresh() == []
    store.add_trial(trial("t2", seed=2))
    store.update_trial("t2", status=Status.RUNNING)
    [running] = standings.refresh()
    assert (running.id, running.status) == ("t2", Status.RUNNING)
    store.record_result("t2", changes={"status": Status.FAILED}, scores=[])
    [failed] = standings.refresh()
    assert failed == store.trial("t2")
    assert standings.evidence(failed) is None


def test_it_is_the_evidence_of_the_hand_made_comparison(store: Store) -> None:
    base = baselines(store)
    one = end(store, trial("t1"), 0.6, 0.7, 0.75)
    standings = Standings(store)
    standings.refresh()
    runs = {t.seed: case_mean(store.case_scores(t.id), Metric.DICE) for t in base}
    own = case_mean(store.case_scores("t1"), Metric.DICE)
    by_hand = measure({1: own}, runs, spread=standings.spread(Setup(0)))
    assert standings.evidence(one) == pytest.approx(by_hand, rel=1e-12)
    assert Standings(store).evidence(one) == standings.evidence(one)
    assert by_hand.delta == pytest.approx((0.09 + 0.1 + 0.05) / 3)


def test_each_score_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    baselines(store)
    asked: list[str] = []
    read = Store.metric_values

    def counted(self: Store, trials: list[str], metric: Metric) -> object:
        asked.extend(trials)
        return read(self, trials, metric)

    monkeypatch.setattr(Store, "metric_values", counted)
    done = [end(store, trial(f"t{i}", seed=i), 0.6, 0.7, 0.8) for i in range(5)]
    standings = Standings(store)
    for one in (*done, *done):
        standings.refresh()
        standings.evidence(one)
    done.append(end(store, trial("t9", seed=9), 0.6, 0.7, 0.8))
    standings.refresh()
    assert standings.evidence(done[-1])
    assert sorted(asked) == sorted({"base0", "base1", "base2", *ids(done)})


def test_a_new_baseline_changes_the_trials_of_its_setup(store: Store) -> None:
    baselines(store, rung=0)
    baselines(store, rung=1)
    low = end(store, trial("low"), 0.6, 0.7, 0.8)
    high = end(store, trial("high", rung=1), 0.6, 0.7, 0.8)
    standings = Standings(store)
    standings.refresh()
    before = standings.evidence(low), standings.evidence(high)
    extra = end(store, trial("extra", Kind.BASELINE, seed=200), 0.4, 0.5, 0.8)
    assert ids(standings.refresh()) == ["extra", "low"]
    after = standings.evidence(low), standings.evidence(high)
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert after == (Standings(store).evidence(low), Standings(store).evidence(high))
    assert standings.baseline[Setup(0)][extra.seed]


def test_a_pooled_spread_changes_every_rung_that_uses_it(store: Store) -> None:
    baselines(store, 2, rung=0)
    baselines(store, 2, rung=1)
    high = end(store, trial("high", rung=1), 0.6, 0.7, 0.8)
    standings = Standings(store)
    standings.refresh()
    before = standings.evidence(high)
    end(store, trial("extra", Kind.BASELINE, seed=200), 0.4, 0.5, 0.8)
    assert ids(standings.refresh()) == ["extra", "high"]
    assert standings.evidence(high) != before
    assert standings.evidence(high) == Standings(store).evidence(high)


def test_a_smaller_batch_waits_for_all_its_baselines(store: Store) -> None:
    baselines(store)
    small = end(store, trial("small", batch_size=4), 0.6, 0.7, 0.8)
    planned = [trial(f"b{i}", Kind.BASELINE, seed=i, batch_size=4) for i in range(3)]
    for one in planned:
        store.add_trial(one)
    standings = Standings(store)
    standings.refresh()
    for one in planned[:2]:
        assert standings.evidence(small) is None
        end(store, one, 0.5, 0.6, 0.7)
        assert ids(standings.refresh()) == [one.id]
    end(store, planned[2], status=Status.FAILED)
    assert ids(standings.refresh()) == ["b2", "small"]
    assert standings.evidence(small) is not None
    assert standings.refresh() == []


def test_a_trial_that_cannot_be_compared_keeps_nobody_up(store: Store) -> None:
    baselines(store)
    odd = end(store, trial("odd"), 0.6, None, None)
    plain = end(store, trial("plain", seed=2), 0.6, None, 0.8)
    standings = Standings(store)
    standings.refresh()
    found = standings.evidence(plain)
    assert found is not None
    assert (found.n_cases, found.n_dropped) == (2, 1)
    with pytest.raises(ExploreError, match="1 of 3 cases"):
        standings.evidence(odd)
    assert [one.trial for one in standings.scored()] == [plain]


def test_without_a_baseline_nothing_is_compared(store: Store) -> None:
    one = end(store, trial("t1"), 0.6, 0.7, 0.8)
    standings = Standings(store)
    assert ids(standings.refresh()) == ["t1"]
    assert standings.evidence(one) is None
    assert standings.scored() == ()
    with pytest.raises(ExploreError, match="no baseline has finished"):
        standings.baseline_mean(0)
    base = baselines(store)
    assert ids(standings.refresh()) == ids([*base, one])
    assert standings.evidence(one) == Standings(store).evidence(one)


def scored_by_hand(store: Store) -> list[Scored]:
    standings = Standings(store)
    found = [(one, standings.evidence(one)) for one in store.trials(status=Status.OK)]
    return sorted(
        (
            Scored(one, store.proposal(one.proposal).modules, evidence)
            for one, evidence in found
            if one.proposal and evidence is not None
        ),
        key=lambda one: one.trial.id,
    )


def test_scored_trials_follow_trials_and_baselines(store: Store) -> None:
    baselines(store, 2)
    standings = Standings(store)
    assert standings.scored() == ()
    end(store, trial("t1"), 0.6, 0.7, 0.8)
    end(store, trial("t2", proposal="q"), 0.4, 0.5, 0.6)
    first = standings.scored()
    assert list(first) == scored_by_hand(store)
    assert {m.component for one in first for m in one.modules} == {"gate", "mixer"}
    assert ids(standings.refresh()) == ids(store.trials())
    end(store, trial("base9", Kind.BASELINE, seed=9), 0.3, 0.3, 0.3)
    after = standings.scored()
    assert list(after) == scored_by_hand(store)
    assert after != first
    assert after == Standings(store).scored()


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 4))
def test_a_prepared_comparison_measures_as_measure_does(seed: int, cases: int, runs: int) -> None:
    rng = Random(seed)

    def run() -> dict[str, float | None]:
        return {f"c{i}": None if rng.random() < 0.05 else rng.random() for i in range(cases)}

    baseline, own = {i: run() for i in range(runs)}, run()
    spread = SeedSpread(0.01, 3)

    def tried(compare: object) -> Evidence | str:
        try:
            return compare()  # type: ignore[operator, no-any-return]
        except ExploreError as error:
            return str(error)

    theirs = tried(lambda: measure({7: own}, baseline, spread=spread))
    ours = tried(lambda: Comparison(baseline, spread).evidence(7, own))
    assert ours == (theirs if isinstance(theirs, str) else pytest.approx(theirs, rel=1e-12))


def test_cases_that_do_not_pair_are_refused() -> None:
    baseline = {i: dict.fromkeys(CASES, 0.5) for i in range(2)}
    with pytest.raises(ExploreError, match="cannot pair cases"):
        Comparison(baseline, SeedSpread(0.01, 1)).evidence(1, dict.fromkeys(("c1", "c2"), 0.5))


def test_changes_are_told_once_by_mark(store: Store) -> None:
    assert store.changes(0) == ([], 0)
    store.add_trial(trial("t1"))
    store.add_trial(trial("t2", seed=2))
    store.add_trial(trial("t1"))
    names, mark = store.changes(0)
    assert names == ["t1", "t2"]
    assert store.changes(mark) == ([], mark)
    store.update_trial("t2", status=Status.RUNNING)
    store.update_trial("t2", iterations=5)
    store.update_trial("t2", iterations=5)
    names, later = store.changes(mark)
    assert (names, later) == (["t2"], mark + 2)
    assert ids(store.trials_by_id(["t2", "t1", "nobody", "t2"])) == ["t1", "t2"]
    assert store.trials_by_id([]) == []


def test_a_change_that_was_undone_is_none(store: Store) -> None:
    def half() -> None:
        with store.transaction():
            store.add_trial(trial("t1"))
            raise StoreError("no")

    with pytest.raises(StoreError, match="no"):
        half()
    assert store.changes(0) == ([], 0)


def test_readers_see_the_changes_of_others(store: Store, path: Path) -> None:
    with Store.open(path, read_only=True) as reader:
        standings = Standings(reader)
        assert standings.refresh() == []
        base = baselines(store)
        assert ids(standings.refresh()) == ids(base)


def test_the_log_of_changes_is_kept(store: Store, path: Path) -> None:
    store.add_trial(trial("t1"))
    with closing(sqlite3.connect(path)) as conn:
        for sql in ("UPDATE trial_change SET trial = trial", "DELETE FROM trial_change"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                conn.execute(sql)


def test_a_planned_trial_keeps_its_order(store: Store) -> None:
    for name, at in (("late", 3.0), ("soon", 1.0), ("never", None)):
        store.add_trial(replace(trial(name, seed=len(name)), planned_at=at))
    found = store.trials_by_id(["never", "late", "soon"])
    assert [t.id for t in found] == ["soon", "late", "never"] == [t.id for t in store.trials()]
