"""Policies on a table of trials made by hand, and the figures of the benchmark."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.ladder import Settings
from agent.policies import POLICIES
from agent.search_tree import Decision
from bench.bench import bench
from bench.figures import Figure
from bench.policies import mean_of, replay_figures, scenario_figures
from bench.policy_figure import draw
from bench.replay import Found, Replay, Trials, whole_s
from bench.table_rows import BASELINE, Listed, Row, Table
from bench.worlds import SCENARIOS, Outcome
from memory.records import Status

CASES = ("a", "b", "c", "d")
SECONDS = (10.0, 40.0)
# Network -> parent and effect in Dice at both rungs; the branch is the first letter.
NETWORKS = {
    "a0": ("", -0.02),
    "a1": ("a0", 0.01),
    "a2": ("a0", 0.05),
    "b0": ("", 0.0),
    "b1": ("b0", -0.03),
    "c0": ("", 0.02),
    "c1": ("c0", 0.03),
    "d0": ("", None),
}


def row(network: str, rung: int, seed: int, effect: float | None) -> Row:
    """Return a trial whose cases and seed move it a little; without an effect it failed."""
    base = (0.5, 0.7)[rung] + 0.001 * (seed - 2)
    dice = tuple(base + effect + 0.01 * i for i in range(4)) if effect is not None else ()
    status = Status.OK if dice else Status.DIVERGED
    return Row(network, rung, (10, 40)[rung], seed, status, "", SECONDS[rung], 1.0, 9, dice)


def table() -> Trials:
    """Return the table of `NETWORKS`, three seeds, a baseline with five."""
    listed = [Listed(BASELINE, "", "", "", "", "")]
    listed += [
        Listed(name, name[0], parent, name, "", "") for name, (parent, _) in NETWORKS.items()
    ]
    rows = [row(BASELINE, r, s, 0.0) for r in (0, 1) for s in range(1, 6)]
    rows += [row(n, r, s, e) for n, (_, e) in NETWORKS.items() for r in (0, 1) for s in (1, 2, 3)]
    return Trials(Table(tuple(listed), CASES, tuple(rows)))


def replay(policy: str, seed: int) -> Replay:
    """Return a replay that may train everything."""
    trials = table()
    return Replay(
        trials=trials, seed=seed, policy=policy, settings=Settings(), budget=whole_s(trials)
    )


def test_effects_are_those_of_the_table() -> None:
    trials = table()
    assert trials.effects["a2"] == pytest.approx(0.05 - 0.001)  # seeds 1 to 3 against 1 to 5
    assert "d0" not in trials.effects
    assert trials.seconds(1) == 40.0
    assert whole_s(trials) == 8 * 40.0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_replay_trains_what_the_table_holds(policy: str) -> None:
    for seed in range(4):
        one = replay(policy, seed)
        found = one.run()
        assert 0 < found.cost <= 8
        assert one.now <= one.budget
        taken = list(one.listed.values())
        assert len(taken) == len(set(taken))  # no network twice
        for name, node in ((n, v) for own in one.nodes.values() for n, v in own.items()):
            listed = one.trials.networks[one.listed[one.networks[name]]]
            if node.is_ok and node.evidence is not None:
                assert node.evidence.delta == pytest.approx(NETWORKS[listed.id][1], abs=0.003)
            assert node.is_failed == (listed.id == "d0")
        if found.was_found:
            assert found.regret >= 0.0


def test_the_seed_fixes_the_order_for_every_policy() -> None:
    first = {name: replay(name, 3) for name in ("greedy", "asha", "camyla")}
    drafts = set()
    for one in first.values():
        one.prepare()
        drafts.add(tuple(one.order[""]))
    assert len(drafts) == 1
    other = replay("greedy", 4)
    other.prepare()
    assert tuple(other.order[""]) not in drafts


def test_what_was_never_found_costs_everything() -> None:
    one = replay("qwbe", 1)
    tree = one.prepare()
    nothing = Decision(action="confirm", figures={}, text="ends")
    assert one.outcome(tree, nothing) == pytest.approx(Found(8.0, False, 0.049, 0.0))


def test_a_mean_has_a_normal_interval() -> None:
    one = mean_of([1.0, 2.0, 3.0, 6.0], "points")
    half = 1.96 * math.sqrt((4 + 1 + 0 + 9) / 3) / 2
    assert one[:3] == pytest.approx((3.0, 3.0 - half, 3.0 + half))


def test_figures_have_the_keys_that_are_promised(tmp_path: Path) -> None:
    rows = [Outcome(0.01 * i, 0.02, True, i == 0, 5.0, 99.0, 6, 50) for i in range(3)]
    figures: dict[str, Figure] = {}
    for scenario in SCENARIOS:
        figures |= scenario_figures(scenario, {policy: rows for policy in POLICIES})
    figures |= replay_figures("camyla", [Found(4.0, True, 0.0, 0.01), Found(8.0, False, 0.1, 0.0)])
    assert figures["regret.default.camyla"].value == pytest.approx(1.0)
    assert figures["bias.noisy.qwbe"].value == pytest.approx(2.0)
    assert figures["false_lead.no_effect.random"].value == pytest.approx(1 / 3)
    assert figures["gap.default.greedy"].value == 0.0
    assert figures["replay_cost.camyla"].value == 6.0
    drawn = draw(figures, tmp_path / "policies.svg").read_text()
    assert drawn.startswith("<?xml")
    assert draw(figures, tmp_path / "again.svg").read_text() == drawn


@pytest.mark.slow
def test_the_benchmark_prints_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.policies.QUICK", 2)
    monkeypatch.setattr("bench.policies.SCENARIOS", {"default": SCENARIOS["default"]})
    ran = CliRunner().invoke(bench, ["policies", "--quick"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["bench"] == "policies"
    assert {f"regret.default.{policy}" for policy in POLICIES} <= found["figures"].keys()
