"""Each module of a leading network taken out once at the lowest rung, as evidence for its diagnosis."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent import why_view
from agent.check import check_campaign
from agent.clues import gather
from agent.config import BudgetConfig
from agent.early_ablation import KIND
from agent.report import write_report
from agent.run import drive
from memory.networks import Networks
from memory.records import Kind, SplitName, Status, Trial
from memory.store import Store
from tests.scripted import ScriptedExecutor, new_campaign, session_of
from tests.test_campaign import quiet


def gain(source: str) -> float:
    """Let every network that is not the planned U-Net do better."""
    return 0.08 if source.count("class ") > 4 else 0.04


def campaign(folder: Path, *, late: float = 0.0, **budget: float) -> Path:
    made = new_campaign(folder, ablation={"early": True, "seeds": 0})
    own = BudgetConfig(**({"trials": 8} | budget))  # type: ignore[arg-type]
    session = session_of(made, ScriptedExecutor(made, gain=gain, late=late), budget=own)
    assert drive(replace(session, slots=1), quiet) in ("done", "spent")
    with session.store() as store:
        store.set_state("done")
    return made


def early(folder: Path) -> list[Trial]:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return [t for t in store.trials(kind=Kind.ABLATE, rung=0)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return campaign(tmp_path_factory.mktemp("early"))


def test_a_leader_is_trained_without_each_module_once(done: Path) -> None:
    trials = early(done)
    assert trials
    assert {(t.split, t.status) for t in trials} == {(SplitName.SEARCH_VAL, Status.OK)}
    with Store.open(done / "campaign.db", read_only=True) as store:
        leaders = {t.parent for t in trials if t.parent}
        for leader in map(store.trial, leaders):
            modules = store.proposal(leader.proposal or "").modules
            own = [t for t in trials if t.parent == leader.id]
            gone = [store.effect(f"ablated/{t.commit}") for t in own]
            assert len(modules) > 1
            assert {one["component"] for one in gone if one} == {m.component for m in modules}
            assert leader.rung == 1
            networks = Networks.open(done / "networks")
            assert all(
                networks.source(t.commit or "") != networks.source(leader.commit or "") for t in own
            )
        kinds = [event.kind for event in store.events()]
    assert kinds.count(KIND) == len(trials)


def test_it_is_a_clue_of_the_leader(done: Path) -> None:
    leader = early(done)[0].parent
    with Store.open(done / "campaign.db", read_only=True) as store:
        trial = store.trial(leader or "")
        clues = {clue.key for clue in gather(store, done, trial)}
    assert any(key.startswith("ablation.") for key in clues)


def test_nothing_is_promoted_and_the_report_holds(done: Path) -> None:
    names = {t.id for t in early(done)}
    with Store.open(done / "campaign.db", read_only=True) as store:
        assert not names & {t.parent for t in store.trials()}
    write_report(done)
    assert check_campaign(done) == []


def test_a_short_budget_holds_none(tmp_path: Path) -> None:
    assert early(campaign(tmp_path, hours=0.001)) == []


def test_where_the_baseline_has_learnt_too_little_nobody_is_trained(tmp_path: Path) -> None:
    made = campaign(tmp_path, late=0.5)
    assert early(made) == []
    with Store.open(made / "campaign.db", read_only=True) as store:
        tried = [one for one in store.trials() if one.kind in (Kind.DRAFT, Kind.IMPROVE)]
        assert {one.rung for one in tried} == {1}
        assert {one.rung for one in store.trials(kind=Kind.BASELINE)} == {0, 1}
        first = store.events(kind="open")[0]
        why = why_view.why(store, str(first.id))["lines"]
    assert "at rung 0 the baseline reaches" in first.text
    assert why[1].startswith("In a shorter training the baseline itself reaches")
    said = f"{100 * first.figures['learnt']:.0f} % of its Dice at the last rung"
    write_report(made)
    assert check_campaign(made) == []
    page = " ".join(re.sub("<[^>]+>", "", (made / "report" / "report.html").read_text()).split())
    assert "The search began at rung 1: after the shorter training" in page
    assert said in page
