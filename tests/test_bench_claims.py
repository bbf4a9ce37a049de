"""`segwright bench claims`: the world it simulates, what it counts, and the replayed table."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent import stage
from agent.claims import components
from agent.evidence import seed_spread
from agent.paired import compare
from bench import claims, null_table
from bench.bench import bench
from bench.claims import SIZES, found, null_campaigns, null_figures, over_networks, real_figures
from bench.claims import share as share_of
from bench.figures import Figure
from bench.null_campaigns import (
    CLAIMS,
    FOLD_BASELINE_SEEDS,
    by_seed,
    confirmed,
    entered,
    play,
    searched,
    stage_of,
)
from bench.null_table import cut, draw, groups
from bench.null_worlds import FOLD_CASES, LOCKED, LOCKED_CASES, POINT, Cohort, World, slice_of
from bench.table_rows import BASELINE, Listed, Row, Table, write_table
from memory.errors import SegwrightError
from memory.records import Status

KEYS = {
    *(f"{kind}.{size}" for kind in ("false_claim", "naive", "naive_test") for size in SIZES),
    *(f"false_claim_noisy.{size}" for size in SIZES),
    *("power.0.5", "power.1", "power.2", "false_not_worse"),
    *("winner_effect.staged", "winner_effect.argmax"),
}


def cohort(seed: int, *effects: float, world: World | None = None) -> Cohort:
    """Return networks with these effects in points."""
    return Cohort(world or World(), np.array(effects), np.random.default_rng(seed))


def silent(text: str) -> None:
    """Say nothing."""


def test_parts_are_disjoint_and_as_large_as_said() -> None:
    sizes = [slice_of(part).stop - slice_of(part).start for part in range(LOCKED + 1)]
    assert sizes == [FOLD_CASES] * 5 + [LOCKED_CASES]
    assert [slice_of(part).start for part in range(1, LOCKED + 1)] == [20, 40, 60, 80, 100]


def test_the_world_has_the_variances_it_says() -> None:
    found_ = [
        components(compare(made.candidate(0, LOCKED, seeds=3), made.baseline(LOCKED, seeds=3)))
        for made in (cohort(seed, 0.0) for seed in range(200))
    ]
    case, run, resid = (np.mean([one[i] for one in found_]) / POINT**2 for i in range(3))
    assert case == pytest.approx(4, rel=0.1)
    assert resid == pytest.approx(4, rel=0.1)
    assert 0.05 < run < 0.2  # 0.09, and what cutting negative estimates at 0 adds


def test_a_score_is_cut_so_seldom_that_an_effect_is_what_it_says() -> None:
    gains, cut = [], 0
    for seed in range(200):
        made = cohort(seed, 1.0, world=World(run=0.0))
        a, b = made.candidate(0, LOCKED, seeds=20), made.baseline(LOCKED, seeds=20)
        gains.append(a.mean() - b.mean() - POINT * made.network[0, slice_of(LOCKED)].mean())
        cut += int((a == 1).sum() + (b == 1).sum())
    assert np.mean(gains) / POINT == pytest.approx(1.0, abs=0.02)
    assert cut < 0.01 * 200 * 2 * 20 * LOCKED_CASES


def test_a_networks_cases_stay_and_its_trainings_differ() -> None:
    made = cohort(3, 0.0, world=World(run=0.0, noise=1e-6))
    first, again = made.candidate(0, 2, seeds=2), made.candidate(0, 2, seeds=2)
    assert first == pytest.approx(again, abs=1e-6)
    assert first[0] == pytest.approx(first[1], abs=1e-6)
    other = cohort(3, 0.0, world=World(run=0.0)).candidate(0, 2, seeds=2)
    assert abs(other[0] - other[1]).mean() > 0.01


def test_the_same_seed_is_the_same_campaign() -> None:
    assert play(cohort(5, *[0.0] * 20)) == play(cohort(5, *[0.0] * 20))
    ended = {play(cohort(seed, *np.arange(20.0))).argmax for seed in range(4)}
    assert ended <= set(np.arange(20.0))


def test_a_large_effect_is_found_chosen_and_claimed() -> None:
    effects = [0.0] * 19 + [8.0]
    ended = [play(cohort(seed, *effects)) for seed in range(5)]
    assert {(one.staged, one.argmax, one.is_claim) for one in ended} == {(8.0, 8.0, True)}


def test_the_selection_is_that_of_a_campaign() -> None:
    assert FOLD_BASELINE_SEEDS == stage.BASELINE_SEEDS
    assert stage_of(20)[:4] == (8, 3, 4, 2)
    assert stage_of(500)[:4] == (20, 3, 4, 2)
    made = cohort(4, *[0.0] * 40)
    base = made.baseline(0, seeds=3)
    evidence = searched(made.candidates(0), base, seed_spread([by_seed(base)]))
    deltas = [one.delta for one in evidence]
    leaders = entered(evidence, 10)
    assert sorted(deltas, reverse=True)[:10] == [deltas[int(one.id)] for one in leaders]


def test_a_cheaper_network_may_be_called_so_and_an_equally_dear_one_not() -> None:
    quiet = World(run=0.01, network=0.1, noise=0.1)
    made = cohort(6, 0.0, 0.0, world=quiet)
    assert set(confirmed(made, (0, 1))) == {"not_distinguishable"}
    assert set(confirmed(made, (0, 1), cost_s=0.5)) == {"not_worse_and_cheaper"}
    assert confirmed(cohort(6, 2.0, world=quiet), (0,), cost_s=0.5)[0] in CLAIMS


def test_null_campaigns_win_naively_and_claim_rarely() -> None:
    figures = null_figures(20, null_campaigns(20, World(), 60))
    assert figures["naive.20"].value > 0.9
    assert figures["naive_test.20"].value > 0.2
    assert figures["false_claim.20"].value <= 0.08


def test_power_rises_with_the_gain() -> None:
    power = [np.mean(found(gain, 40)) for gain in (0.0, 1.0, 3.0)]
    assert power[0] < 0.15 < power[1] < power[2]


def test_the_interval_of_a_share_by_hand() -> None:
    # No hit in 10: the upper end is 1 - 0.025^(1/10).
    assert share_of([False] * 10) == pytest.approx(Figure(0.0, 0.0, 1 - 0.025**0.1, "1"))
    half = share_of([True, False])
    assert half.value == 0.5
    assert 0 < half.low < 0.5 < half.high < 1


@pytest.fixture(scope="module")
def quick() -> dict[str, Figure]:
    """Return the figures of a quick run."""
    return claims.run(is_quick=True, data=(), say=silent)


def test_a_quick_run_has_every_key(quick: dict[str, Figure]) -> None:
    assert set(quick) == KEYS
    for key, one in quick.items():
        assert one.low <= one.value <= one.high, key
        assert one.unit == ("points" if key.startswith("winner") else "1")


def table(folder: Path, *, seeds: int, cases: int = 40, missing: bool = False) -> None:
    """Write a table of one network that is trained with as many seeds, and of some failures."""
    rng = np.random.default_rng(1)
    level = rng.uniform(0.6, 0.8, cases)
    rows = [
        Row(BASELINE, 1, 40, seed, Status.OK, "", 1.0, 1.0, 9, tuple(level + noise))
        for seed, noise in enumerate(rng.normal(0, 0.02, (seeds, cases)))
    ]
    rows += [Row(BASELINE, 0, 10, s, Status.DIVERGED, "", 1.0, 1.0, 9, ()) for s in range(seeds)]
    if missing:
        rows[0] = rows[0]._replace(dice=(None, *rows[0].dice[1:]))
    listed = Listed(BASELINE, "", "", "", "", "")
    names = tuple(f"case{i:02}" for i in range(cases))
    write_table(folder, Table((listed,), names, tuple(rows)))


def test_real_trainings_that_differ_by_seed_alone(tmp_path: Path) -> None:
    table(tmp_path, seeds=9)
    figures = real_figures(60, say=silent, folder=tmp_path)
    assert figures["networks.real"].value == 1
    assert figures["refused.real"].value == 1  # 20 cases a half allow no claim
    assert figures["false_claim.real"].value == 0
    assert figures["false_test.real"].value < 0.2 < figures["naive.real"].value


def test_real_trainings_on_enough_cases_may_be_claimed(tmp_path: Path) -> None:
    table(tmp_path, seeds=9, cases=120)
    figures = real_figures(20, say=silent, folder=tmp_path)
    assert figures["refused.real"].value == 0
    assert figures["false_claim.real"] == figures["false_test.real"]


@pytest.mark.parametrize(("seeds", "arm"), [(5, 2), (8, 2), (9, 3), (20, 3)])
def test_a_draw_shares_neither_trainings_nor_cases(seeds: int, arm: int) -> None:
    scores = np.arange(seeds * 41.0).reshape(seeds, 41) / 1000
    for seed in range(10):
        candidates, base, first, second = cut(scores, np.random.default_rng(seed))
        assert (len(base), len(candidates)) == (arm, seeds - arm)
        assert not set(base[:, 0]) & set(candidates[:, 0])
        assert sorted([*first, *second]) == list(range(41))


def test_trainings_without_any_difference_win_nothing() -> None:
    drawn = draw(np.tile(np.linspace(0.5, 0.8, 40), (6, 1)), np.random.default_rng(1))
    assert drawn[:4] == (False, False, False, False)


def test_a_case_that_is_undefined_once_is_left_out(tmp_path: Path) -> None:
    table(tmp_path, seeds=6, missing=True)
    (scores,) = groups(tmp_path).values()
    assert scores.shape == (6, 39)


@pytest.mark.parametrize(("seeds", "cases"), [(4, 40), (9, 19)])
def test_too_little_of_a_table_is_said_in_one_line(tmp_path: Path, seeds: int, cases: int) -> None:
    table(tmp_path, seeds=seeds, cases=cases)
    with pytest.raises(SegwrightError, match=f"{cases} cases and at most {seeds} trainings") as hit:
        groups(tmp_path)
    assert "\n" not in str(hit.value)


def test_a_missing_table_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SegwrightError, match="is missing; `segwright bench table` makes it"):
        real_figures(2, say=silent, folder=tmp_path)


def test_shares_over_networks() -> None:
    assert over_networks([[True, True], [False, True]]) == Figure(0.75, 0.5, 1.0, "1")


def test_the_command_prints_real_figures_under_their_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, seeds=6)
    monkeypatch.setattr(null_table.groups, "__defaults__", (tmp_path,))
    monkeypatch.setattr(claims.real_figures, "__kwdefaults__", {"folder": tmp_path})
    ran = CliRunner().invoke(bench, ["claims", "--real", "--quick"], catch_exceptions=False)
    assert ran.exit_code == 0
    printed = json.loads(ran.stdout)
    assert printed["bench"] == "claims_real"
    assert set(printed["figures"]) >= {"naive.real", "false_claim.real", "refused.real"}


def test_real_is_an_option_of_claims_alone() -> None:
    ran = CliRunner().invoke(bench, ["store", "--real"])
    assert ran.exit_code == 2
    assert "--real is an option of 'claims' alone" in ran.output
