"""Energy: by hand-calculated cases, with and without measured time, device and power limit."""

import math
from dataclasses import replace

import pytest

from agent.energy import GPU_LIMIT, Energy, Power, energy_of, groups, kwh, power_of, time_of
from agent.facts import facts_of
from agent.report_rows import Rows, read_rows
from memory.records import Fact, Kind, SplitName, Status, Trial
from memory.store import Store
from tests.campaigns import build_campaign

TRIAL = Trial("t", None, None, None, None, Kind.DRAFT, 0, 1, SplitName.SEARCH_VAL, Status.OK)


def trained(
    *,
    cpu: float | None,
    gpu: float | None,
    seconds: float | None = 100.0,
    status: Status = Status.OK,
) -> Trial:
    return replace(TRIAL, cpu_seconds=cpu, gpu_seconds=gpu, seconds=seconds, status=status)


def drawn(*trials: Trial, power: Power | None = None, threads: int = 1, device: str = "") -> Energy:
    return energy_of(trials, power or Power(), threads=threads, device=device)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = build_campaign(tmp_path_factory.mktemp("energy") / "campaign")
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return read_rows(store)


def facts(rows: Rows) -> dict[str, Fact]:
    return {fact.key: fact for fact in facts_of(rows) if fact.key.startswith("energy.")}


def test_one_core_for_an_hour_draws_twelve_watt_hours() -> None:
    assert drawn(trained(cpu=3600.0, gpu=0.0)).kwh == pytest.approx(0.012)


def test_a_card_and_its_cores_add_up() -> None:
    # 1 h of a core at 12 W and 2 h of a card at 200 W
    assert drawn(trained(cpu=3600.0, gpu=7200.0)).kwh == pytest.approx(0.012 + 0.4)


def test_the_limit_of_the_card_and_the_pue_count() -> None:
    power = Power(core_w=10.0, gpu_w=700.0, pue=1.5)
    found = drawn(trained(cpu=7200.0, gpu=3600.0), power=power)
    assert found.kwh == pytest.approx(1.5 * (0.02 + 0.7))


def test_trainings_add_up() -> None:
    one, other = trained(cpu=1000.0, gpu=0.0), trained(cpu=2000.0, gpu=500.0)
    both = drawn(one, other)
    assert both.trials == 2
    assert (both.core_s, both.gpu_s) == (3000.0, 500.0)
    assert both.kwh == pytest.approx(drawn(one).kwh + drawn(other).kwh)


def test_without_cpu_time_the_duration_times_the_threads_counts_and_is_told() -> None:
    found = drawn(trained(cpu=None, gpu=0.0, seconds=600.0), threads=4)
    assert (found.core_s, found.assumed) == (2400.0, 1)
    assert found.kwh == pytest.approx(2400 * 12 / 3.6e6)


@pytest.mark.parametrize(
    ("device", "gpu_s"), [("cuda", 600.0), ("cpu", 0.0), ("mps", 0.0), ("", 0.0)]
)
def test_without_gpu_time_the_device_says_whether_a_card_was_held(
    device: str, gpu_s: float
) -> None:
    found = time_of(trained(cpu=60.0, gpu=None, seconds=600.0), threads=1, device=device)
    assert found == (60.0, gpu_s, False)


def test_a_measured_gpu_time_needs_no_device() -> None:
    assert drawn(trained(cpu=0.0, gpu=3600.0), device="").kwh == pytest.approx(0.2)


def test_a_training_without_any_time_counts_nothing_and_is_told() -> None:
    found = drawn(trained(cpu=3600.0, gpu=0.0), trained(cpu=None, gpu=None, seconds=None))
    assert (found.trials, found.unmeasured) == (2, 1)
    assert found.kwh == pytest.approx(0.012)


def test_nothing_known_is_undefined_and_nothing_trained_is_nothing() -> None:
    assert math.isnan(drawn(trained(cpu=None, gpu=None, seconds=None)).kwh)
    assert drawn() == Energy(0, 0.0, 0.0, 0.0, 0, 0)


def test_a_rejected_network_was_never_trained() -> None:
    found = drawn(trained(cpu=None, gpu=None, seconds=None, status=Status.REJECTED))
    assert (found.kwh, found.unmeasured) == (0.0, 0)


def test_power_is_assumed_where_the_environment_has_no_limit() -> None:
    assert power_of({}) == Power()
    assert power_of({GPU_LIMIT: 700}) == Power(gpu_w=700.0, is_gpu_known=True)


@pytest.mark.parametrize("limit", [0, -5, True, "700", None, math.nan, math.inf])
def test_a_limit_that_is_none_is_not_taken(limit: object) -> None:
    assert power_of({GPU_LIMIT: limit}) == Power()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 kWh"),
        (0.0216, "0.022 kWh"),
        (0.5, "0.50 kWh"),
        (3.14, "3.1 kWh"),
        (1234.4, "1234 kWh"),
        (math.nan, "undefined"),
    ],
)
def test_energy_is_printed_with_two_digits(value: float, text: str) -> None:
    assert kwh(value) == text


def test_groups_hold_failed_and_cut_trainings_apart(rows: Rows) -> None:
    found = groups(rows)
    assert {t.status for t in found["failed"]} == {Status.FAILED}
    assert {t.branch for t in found["cut"]} == {"branch1"}
    both = {t.id for t in found["failed"]} & {t.id for t in found["cut"]}
    assert not both
    assert {t.id for t in found["cut"]} | {t.id for t in found["failed"]} < {
        t.id for t in found["all"]
    }


def test_facts_follow_from_the_trainings(rows: Rows) -> None:
    # The fixture measured no CPU time and has no threads: durations stand for it.
    total = math.fsum(t.seconds or 0.0 for t in groups(rows)["all"])
    found = facts(rows)
    assert found["energy.all.kwh"].value == pytest.approx(total * 12 / 3.6e6)
    assert found["energy.all.assumed"].value == found["energy.all.trials"].value
    assert found["energy.core_power"].text == "12 W"
    assert found["energy.gpu_power_by"].text == "assumed"
    assert found["energy.pue"].text == "1"


def test_facts_take_the_power_limit_of_the_environment(rows: Rows) -> None:
    known = replace(rows.campaign, environment={**rows.campaign.environment, GPU_LIMIT: 350.0})
    found = facts(replace(rows, campaign=known, _values={}))
    assert found["energy.gpu_power"].text == "350 W"
    assert found["energy.gpu_power_by"].text == "power limit of the card"


def test_a_campaign_that_never_came_to_a_device_has_its_facts(rows: Rows) -> None:
    bare = replace(rows.campaign, protocol={}, environment={})
    found = facts(
        replace(rows, campaign=bare, trials=(), scores={}, claims=(), events=(), _values={})
    )
    assert found["energy.all.kwh"].text == "0 kWh"
