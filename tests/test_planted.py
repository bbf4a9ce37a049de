"""Planted networks: what is changed of their trainings, and what the bench makes of claims."""

import json
from pathlib import Path

import pytest

from bench import planted
from bench.demo_data import build_demo
from bench.planted import BETTER, EQUAL, FACTOR, OTHER, Planter, figures
from memory.records import Branch, Claim, Kind, Metric, Proposal, SplitName, Trial
from memory.store import Store
from sandbox.executor import LocalExecutor
from tests.scripted import new_campaign


def claim(name: str, *, delta: float, is_improvement: bool) -> Claim:
    told = {"delta": delta, "low": delta - 0.01, "high": delta + 0.01, "n_cases": 60}
    own = {**told, "is_improvement": is_improvement}
    return Claim(name, name, Metric.DICE, "better", "text", (), (), own)


def test_figures_are_those_of_the_claims() -> None:
    claims = {
        BETTER: claim(BETTER, delta=0.2, is_improvement=True),
        EQUAL: claim(EQUAL, delta=0.001, is_improvement=False),
    }
    found = figures(claims)
    assert found["confirmed.better"].value == 1.0
    assert found["confirmed.equal"].value == 0.0
    assert found["planted.better"][:3] == pytest.approx((20.0, 19.0, 21.0))
    assert found["locked_cases"].value == 60.0


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        (None, {}),
        (BETTER, {"iterations": FACTOR * 10, "wall_s": FACTOR * 60.0}),
        (EQUAL, {"seed": OTHER + 1}),
    ],
)
def test_a_job_is_changed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, changed: dict[str, float]
) -> None:
    started = list[Path]()
    monkeypatch.setattr(LocalExecutor, "submit", lambda _, folder: started.append(folder))
    campaign = new_campaign(tmp_path)
    with Store.open(campaign / "campaign.db") as store:
        if name:
            store.add_proposal(Proposal(name, name, "", (), "", (), "planted"))
            store.add_branch(Branch("b", name, "open", 0.0))
        kind = Kind.DRAFT if name else Kind.BASELINE
        branch = "b" if name else None
        store.add_trial(Trial("t", None, branch, name, None, kind, 0, 1, SplitName.SEARCH_VAL))
    folder = campaign / "trials" / "t"
    folder.mkdir()
    job = {"iterations": 10, "wall_s": 60.0, "seed": 1}
    (folder / "job.json").write_text(json.dumps(job))
    for _ in range(2):
        Planter().submit(folder)
        found = json.loads((folder / "job.json").read_text())
        assert {key: found[key] for key in job} == job | changed
    assert started == [folder, folder]


@pytest.mark.slow
def test_both_networks_reach_a_claim(
    tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = build_demo(tmp_path / "demo", subjects=20)
    monkeypatch.setattr(planted, "QUICK_ITERATIONS", 4)
    found = planted.run(is_quick=True, data=[data], say=lambda text: None)
    assert set(found) == {
        *("confirmed.better", "confirmed.equal", "planted.better", "planted.equal"),
        "locked_cases",
    }
    assert found["planted.better"].low <= found["planted.better"].value
    # As few cases as these allow no claim.
    assert found["locked_cases"].value < 50
    assert found["confirmed.better"].value == found["confirmed.equal"].value == 0.0
