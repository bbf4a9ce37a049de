"""Two campaigns and a library on a table made by hand: who starts ahead, and what is read twice."""

import math
from random import Random

import pytest

import bench.memory as memory
from agent.effects import Knowledge, fit
from bench.bench import BENCHES
from bench.memory import (
    FIRST,
    NAMES,
    Ended,
    carried,
    dealt,
    figures_of,
    networks,
    play,
    share,
    two_datasets,
)
from bench.replay import Trials
from bench.table_rows import BASELINE, Listed, Row, Table, modules_of
from memory.records import Module, Status

CASES = tuple("abcdefgh")
# Component -> effect in Dice; a network with several has their sum. One fails.
EFFECTS = {"attention_gate": 0.06, "blur_pool": 0.02, "mednext": -0.03, "graph_aggregation": -0.05}
PLACES = {
    "attention_gate": "skip:0",
    "blur_pool": "downsample:1",
    "mednext": "decoder:0",
    "graph_aggregation": "bottleneck",
}
SETS = [
    *([one] for one in EFFECTS),
    *([one, other] for one in EFFECTS for other in EFFECTS if one < other),
    ["attention_gate", "blur_pool", "mednext"],
    ["blur_pool", "mednext", "graph_aggregation"],
]


def dice(effect: float, seed: int) -> tuple[float, ...]:
    rng = Random(f"{effect}/{seed}")
    luck = rng.gauss(0, 0.005)
    return tuple(0.7 + effect + luck + 0.01 * i + rng.gauss(0, 0.01) for i in range(len(CASES)))


def table() -> Trials:
    """Return networks of published components, one of new code and one that fails."""
    listed = [Listed(BASELINE, "", "", "", "", "")]
    rows = [
        Row(BASELINE, 0, 40, seed, Status.OK, "", 1.0, 1.0, 9, dice(0.0, seed))
        for seed in range(1, 6)
    ]
    for number, names in enumerate(SETS):
        text = " ".join(f"{name}@{PLACES[name]}" for name in names)
        listed.append(Listed(f"n{number}", "b", "", text, text, ""))
        effect = sum(EFFECTS[name] for name in names)
        rows += [
            Row(f"n{number}", 0, 40, seed, Status.OK, "", 1.0, 1.0, 9, dice(effect, seed))
            for seed in (1, 2, 3)
        ]
    listed.append(Listed("new", "b", "", "no skips", "edit:no_skips", ""))
    listed.append(Listed("bad", "b", "", "fails", "linear_attention@bottleneck", ""))
    for name in ("new", "bad"):
        rows += [
            Row(name, 0, 40, seed, Status.DIVERGED, "not_finite", 1.0, 1.0, 9, ())
            for seed in (1, 2, 3)
        ]
    return Trials(Table(tuple(listed), CASES, tuple(rows)))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Trials:
    """Have the benchmark play on the table made by hand."""
    trials = table()
    monkeypatch.setattr(memory, "the_table", lambda: trials)
    return trials


def test_modules_are_those_of_the_words() -> None:
    found = modules_of("mednext@decoder:0:1 graph_aggregation@bottleneck edit:no_skips")
    assert found[0] == Module("mednext", "decoder", (0, 1))
    assert found[1] == Module("graph_aggregation", "bottleneck", ())
    assert found[2].component == "edit:no_skips"


def test_networks_of_published_components_alone_are_played(made: Trials) -> None:
    assert networks(made).keys() == {*(f"n{i}" for i in range(len(SETS))), "bad"}


def test_the_two_data_sets_share_no_case_and_no_training(made: Trials) -> None:
    for seed in range(20):
        first, second = two_datasets(made, Random(seed))
        assert {*first.cases, *second.cases} == set(CASES)
        assert not set(first.cases) & set(second.cases)
        assert first.seed != second.seed
        assert not set(first.baselines) & set(second.baselines)
        assert first.base.keys() == set(first.baselines)


def test_a_network_that_failed_says_nothing_and_is_no_goal(made: Trials) -> None:
    first, _ = two_datasets(made, Random(0))
    assert first.read("bad") is None
    assert first.truth("bad") == -math.inf
    found = first.read("n0")
    assert found is not None
    assert found.effect == pytest.approx(EFFECTS["attention_gate"], abs=0.03)


def test_what_was_learnt_comes_through_the_library_whole(made: Trials) -> None:
    first, _ = two_datasets(made, Random(0))
    own = fit(one for name in networks(made) if (one := first.read(name)))
    there = carried(own)
    assert {row.component: row.n for row in there.table(())} == {
        row.component: row.n for row in own.table(())
    }
    for was, now in zip(own.table(()), there.table(()), strict=True):
        assert now.component == was.component
        assert now.mean == pytest.approx(was.mean)
    assert own.networks.keys() != there.networks.keys()  # their names told of a machine


def test_memory_pays_and_a_wrong_one_does_not(made: Trials) -> None:
    rows = [play(order) for order in range(24)]
    assert all(1 <= count <= len(networks(made)) for row in rows for count in row)
    assert rows == [play(order) for order in range(24)]
    figures = figures_of(rows)
    assert figures.keys() == {*NAMES, "trials_share"}
    assert figures["trials_share"].value < 0.8
    assert figures["trials_with"].value < figures["trials_without"].value
    assert figures["trials_with"].value < figures["trials_misled"].value
    low, high = figures["trials_share"][1:3]
    assert low < figures["trials_share"].value < high


def test_the_share_is_that_of_all_orders_together() -> None:
    assert share([Ended(1, 2, 1, 1), Ended(3, 6, 1, 1)]) == 0.5


def test_effects_are_dealt_among_the_networks_that_had_one(made: Trials) -> None:
    first, _ = two_datasets(made, Random(0))
    told = [one for name in networks(made) if (one := first.read(name))]
    mixed = dealt(told, Random(1))
    assert sorted(one.effect for one in mixed) == sorted(one.effect for one in told)
    assert [one.network for one in mixed] == [one.network for one in told]
    assert [one.effect for one in mixed] != [one.effect for one in told]


def test_the_benchmark_is_known_by_its_name() -> None:
    assert BENCHES["memory"] == "bench.memory"
    assert FIRST >= 10
    assert carried(Knowledge()).networks == {}
