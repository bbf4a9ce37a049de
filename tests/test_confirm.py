"""Claims of a whole campaign with as many locked cases as a claim needs."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from agent.claim_rows import claims_of, paired_test
from agent.claims import Cost, minimal_detectable_effect, power_at
from agent.confirm import Arm, add_claims, by_role, compared, group, telling_slice
from agent.paired import components
from agent.session import Session
from agent.standings import SEARCH, Standings
from memory.records import Claim, Kind, Metric, SplitName, Status, Trial
from memory.store import Store
from sandbox.means import case_mean
from tests.ablations import run, store_of, trained, unused_campaign
from tests.scripted import ScriptedExecutor, session_of

LOCKED = SplitName.LOCKED_TEST
Pair = tuple[Sequence[Trial], Sequence[Trial]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("confirmed")
    folder = trained(unused_campaign(root, ablation={"seeds": 0}), root / "copy")
    run(folder)
    return folder


def claim_in(folder: Path) -> Claim:
    with store_of(folder) as store:
        [claim] = store.claims()
    return claim


def pairs(store: Store) -> list[Pair]:
    arms = group(store.trials(kind=Kind.CONFIRM, status=Status.OK))
    return [(own.trials, base.trials) for own, base in compared(arms)]


def session_in(folder: Path) -> Session:
    return session_of(folder, ScriptedExecutor(folder))


def test_a_gain_on_fifty_locked_cases_is_claimed(done: Path) -> None:
    claim = claim_in(done)
    assert claim.verdict in ("better", "better_by_margin")
    assert claim.figures["n_cases"] == 50
    assert claim.figures["low"] > 0
    assert claim.figures["p_holm"] < 0.05
    assert claim.figures["is_improvement"] == (claim.figures["delta"] >= claim.figures["margin"])
    json.dumps(claim.figures, allow_nan=False)


def test_a_claim_holds_the_figures_that_it_is_read_with(done: Path) -> None:
    figures = claim_in(done).figures
    assert figures["openings"] == 1
    assert figures["undefined"] == 0
    assert figures["bootstrap_low"] < figures["delta"] < figures["bootstrap_high"]
    assert 0 < figures["p_permutation"] <= 0.05
    assert 0 < figures["shrunken"] < figures["delta"]
    assert figures["selection_lost"] == pytest.approx(figures["selection_gain"] - figures["delta"])
    assert (figures["candidate_s"], figures["baseline_s"], figures["saved"]) == (1.0, 1.0, 0.0)
    with store_of(done) as store:
        tried = {t.commit for t in store.trials() if t.kind in SEARCH}
    assert figures["candidates"] == len(tried)


def test_power_at_the_margin_is_that_of_the_test_as_it_was_made(done: Path) -> None:
    figures, session = claim_in(done).figures, session_in(done)
    with session.store() as store:
        one = paired_test(session, store, pairs(store)[0])
    assert one is not None
    parts = components(one.result)
    found = power_at(parts, gain=figures["margin"], cases=50, seeds=3)
    assert figures["power_at_margin"] == found
    assert figures["mde"] == minimal_detectable_effect(parts, cases=50, seeds=3)


def test_the_selection_gain_is_what_the_search_read(done: Path) -> None:
    claim = claim_in(done)
    with store_of(done) as store:
        finalist = store.trial(str(store.trial(claim.trials[0]).parent))
        standings = Standings(store)
        same = [
            t
            for t in store.trials(status=Status.OK)
            if t.kind in SEARCH and (t.commit, t.rung) == (finalist.commit, finalist.rung)
        ]
        gains = [found.delta for t in same if (found := standings.evidence(t)) is not None]
    assert claim.figures["selection_gain"] == pytest.approx(fmean(gains))


def test_secondary_scores_of_each_class_go_with_it(done: Path) -> None:
    rows = claim_in(done).figures["secondary"]
    found = [(row["metric"], row["label"]) for row in rows]
    assert found == [
        ("dice", "block"),
        ("hd95", "mean"),
        ("hd95", "block"),
        ("nsd", "mean"),
        ("nsd", "block"),
    ]
    for row in rows:
        assert {"delta", "low", "high", "n_cases", "undefined", "candidate"} <= row.keys()
        assert (row["n_cases"], row["undefined"]) == (50, 0)
        assert row["delta"] >= 0


def test_patients_are_compared_and_not_their_cases(done: Path) -> None:
    session = session_in(done)
    shared = tuple(
        replace(case, patient=f"p{place // 2}") for place, case in enumerate(session.split)
    )
    cases = [c for c in shared if c.split is LOCKED]
    with session.store() as store:
        arms = pairs(store)[0]
        one = paired_test(replace(session, split=shared), store, arms)
        assert one is not None
        means = [[case_mean(store.case_scores(t.id), Metric.DICE) for t in arm] for arm in arms]
    assert one.result.n_cases == len({c.patient for c in cases}) < 50
    by_patient: dict[str, list[float]] = {}
    for case in cases:
        own, base = (fmean(m[case.case] for m in arm) for arm in means)
        by_patient.setdefault(case.patient, []).append(own - base)
    assert one.result.delta == pytest.approx(fmean(fmean(v) for v in by_patient.values()))


def test_too_few_patients_allow_no_statement(done: Path) -> None:
    session = session_in(done)
    few = tuple(replace(c, patient=c.case[-1]) for c in session.split)
    with session.store() as store:
        [claim] = claims_of(replace(session, split=few), store, pairs(store))
    assert (claim.verdict, claim.figures["n_cases"]) == ("exploratory", 10)


def test_a_cheaper_network_that_loses_nothing_is_called_so(done: Path) -> None:
    session = session_in(done)
    rules = replace(session.config.confirm, noninferiority=0.1, cost_gain=0.5)
    lenient = replace(session, config=replace(session.config, confirm=rules))
    with session.store() as store:
        [(own, base)] = pairs(store)
        cheap = [replace(t, seconds=0.25) for t in base]
        same = [replace(t, proposal=own[0].proposal, parent=own[0].parent) for t in cheap]
        [claim] = claims_of(lenient, store, [(same, base)])
    assert claim.verdict == "not_worse_and_cheaper"
    assert claim.figures["saved"] == Cost(0.25, 1.0).saved == 0.75
    assert claim.figures["p_noninferior_holm"] < 0.05
    assert not claim.figures["is_improvement"]


def test_several_finalists_share_alpha_and_are_stored_at_once(done: Path, tmp_path: Path) -> None:
    session = session_in(done)
    with session.store() as store:
        [(own, base)] = pairs(store)
        null = [replace(t, proposal="other", parent=own[0].parent) for t in base]
        alone = claims_of(session, store, [(own, base)])
        both = claims_of(session, store, [(own, base), (null, base)])
    assert [c.finalist for c in both] == [own[0].proposal, "other"]
    assert both[0].figures["p_holm"] == pytest.approx(2 * alone[0].figures["p"])
    assert both[1].verdict == "not_distinguishable"


def test_one_training_a_side_makes_no_claim(done: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "copy"))
    session = session_in(folder)
    with session.store() as store:
        arms = group(store.trials(kind=Kind.CONFIRM, status=Status.OK))
        short = {side: Arm(arm.proposal, arm.trials[:1]) for side, arm in arms.items()}
        add_claims(session, store, short)
        assert len(store.claims()) == 1
        [event] = store.events(kind="no_claim")
        assert event.figures == {"undefined": 0}


def test_cases_are_shown_by_rule() -> None:
    own, base = {"a": 0.5, "b": 0.9, "c": 0.7}, {"a": 0.4, "b": 0.95, "c": 0.4}
    assert by_role(own, base, ["a", "b", "c"]) == {
        "worst": "a",
        "most improved": "c",
        "most harmed": "b",
    }
    assert by_role(own, base, []) == {}


def test_the_slice_that_is_shown_is_where_the_two_differ_most() -> None:
    label = np.zeros((4, 3, 3), dtype=np.uint8)
    label[1] = 1
    same = label.copy()
    assert telling_slice(label, [same, same]) == 1
    other = same.copy()
    other[2, 0, 0], other[3, :2, 0] = 1, 1
    assert telling_slice(label, [same, other]) == 3
