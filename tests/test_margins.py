"""The margin: resolved after the baselines, refused where it is too small, read in one place."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.amendments import low_power
from agent.config import BudgetConfig, Config, parse_config
from agent.margins import COARSE, MOST_SOUGHT, margin, settle, warning, worded
from agent.noise import measured, planned
from agent.replay import replayed
from agent.run import drive
from agent.view import status, status_lines
from memory.errors import ConfigError
from memory.records import Event, Kind, SplitName
from memory.store import Store
from tests.scripted import ScriptedExecutor, new_campaign, session_of
from tests.test_protocol import sql

# No stage that these tests say nothing of.
SHORT: dict[str, Any] = {"selection": {"folds": 0}, "ablation": {"seeds": 0}}


def quiet(what: str, detail: dict[str, Any]) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_campaign(tmp_path_factory.mktemp("unused"), **SHORT)


@pytest.fixture(scope="module")
def done(unused: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a campaign that was left to find its margin, at its end."""
    folder = Path(shutil.copytree(unused, tmp_path_factory.mktemp("done") / "campaign"))
    assert goes(folder) == "done"
    return folder


@pytest.fixture
def new(unused: Path, tmp_path: Path) -> Path:
    """Return a campaign of the test's own that has not begun."""
    return Path(shutil.copytree(unused, tmp_path / "campaign"))


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a campaign whose user wants to find half a point."""
    return new_campaign(tmp_path_factory.mktemp("wanted"), **SHORT, confirm={"margin": 0.005})


@pytest.fixture
def low(wanted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(wanted, tmp_path / "campaign"))


def store_of(folder: Path) -> Store:
    return Store.open(folder / "campaign.db", read_only=True)


def config_of(folder: Path) -> Config:
    with store_of(folder) as store:
        return parse_config(store.campaign().config)


def goes(folder: Path, *, config: Config | None = None, accepts: bool = False) -> str:
    """Drive a scripted campaign to its end."""
    budget = BudgetConfig(trials=6)
    session = session_of(folder, ScriptedExecutor(folder), config=config, budget=budget)
    return drive(session, quiet, accepts_low_power=accepts)


def kinds(folder: Path) -> list[str]:
    with store_of(folder) as store:
        return [event.kind for event in store.events()]


def test_before_the_baselines_it_is_as_wanted_or_half_a_point(new: Path) -> None:
    with store_of(new) as store:
        assert margin(store, parse_config({})) == 0.005
        assert margin(store, parse_config({"confirm": {"margin": 0.03}})) == 0.03
        assert warning(store, parse_config({})) == []


def test_it_is_resolved_after_the_baselines_and_before_the_first_proposal(done: Path) -> None:
    found = kinds(done)
    assert found.count("noise") == 1
    first = min(found.index(kind) for kind in ("open", "improve") if kind in found)
    assert max(i for i, kind in enumerate(found) if kind == "baseline") < found.index("noise")
    assert found.index("noise") < first
    assert "low_power" not in found
    with store_of(done) as store:
        [event] = store.events(kind="noise")
        own, config = event.figures, config_of(done)
        assert (own["seen_seeds"], own["seen_cases"]) == (3, len(store.split(SplitName.SEARCH_VAL)))
        assert (own["cases"], own["seeds"]) == (len(store.split(SplitName.LOCKED_TEST)), 3)
        assert own["wanted"] == 0.0
        assert own["margin"] == max(0.005, own["detectable"]) > 0.005
        assert margin(store, config) == own["margin"]
        decided = [e.figures["tree"]["margin"] for e in store.events() if "tree" in e.figures]
        assert set(decided) == {min(own["margin"], MOST_SOUGHT)}
        assert all(claim.figures["margin"] == own["margin"] for claim in store.claims())
        assert [one.differs for one in replayed(store) if one.differs] == []


def test_the_noise_is_that_of_the_baselines_scores(done: Path) -> None:
    with store_of(done) as store:
        [event] = store.events(kind="noise")
        rows = {
            t.id: {s.case: s.value for s in store.case_scores(t.id) if s.metric == "dice"}
            for t in store.trials(kind=Kind.BASELINE, rung=1)
        }
    cases = sorted(next(iter(rows.values())))
    scores = [[own[case] for case in cases] for own in rows.values()]
    own = measured(scores, cases=event.figures["cases"], seeds=3, alpha=0.05)  # type: ignore[arg-type]
    assert event.figures["detectable"] == pytest.approx(own.detectable)
    assert event.figures["resid_sd"] == pytest.approx(own.figures["resid_sd"])


def test_a_replay_without_the_margin_in_its_figures_finds_it_in_the_events(
    done: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "campaign"))
    sql(
        folder,
        "UPDATE event SET figures = json_remove(figures, '$.tree.margin') "
        "WHERE json_extract(figures, '$.tree.margin') IS NOT NULL",
    )
    with store_of(folder) as store:
        found = list(replayed(store))
    assert len(found) > 5
    assert [one.differs for one in found if one.differs] == []


def test_too_small_a_margin_is_refused_after_the_baselines(low: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        goes(low)
    line = str(caught.value)
    assert "\n" not in line
    assert "confirm.margin is 0.5 points, and 7 locked subjects and 3 seeds detect " in line
    assert "set confirm.seeds to 5 (" in line
    assert "confirm.margin to 0.0" in line
    assert "`run --accept-low-power`" in line
    found = kinds(low)
    assert found[-1] == "noise"
    assert not {"open", "low_power"} & set(found)
    with pytest.raises(ConfigError, match="confirm.margin is 0.5 points"):
        goes(low)
    assert kinds(low).count("noise") == 1


def test_accepted_it_goes_on_and_says_so_for_good(low: Path) -> None:
    assert goes(low, accepts=True) == "done"
    with store_of(low) as store:
        [event] = low_power(store.events())
        assert event.figures["margin"] == 0.005 < event.figures["detectable"]
        assert (event.figures["cases"], event.figures["seeds"]) == (7, 3)
        assert margin(store, config_of(low)) == 0.005
        shown = status(store)
        assert shown["low_power"] == [event.text]
        assert f"WARNING: {event.text}" in "\n".join(status_lines(shown, store.events()))
    before = kinds(low)
    assert goes(low) == "done"  # the word was given
    assert [kind for kind in kinds(low)[len(before) :] if kind != "started"] == []


@pytest.mark.parametrize("change", [{"seeds": 5}, {"margin": 0.0}, {"margin": 0.3}])
def test_another_plan_is_judged_anew(low: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        goes(low)
    config = config_of(low)
    other = replace(config, confirm=replace(config.confirm, **change))
    session = session_of(low, ScriptedExecutor(low), config=other)
    with session.store() as store:
        if "seeds" in change:
            with pytest.raises(ConfigError, match="and 5 seeds detect"):
                settle(store, other, 1)
        else:
            settle(store, other, 1)
        first, second = (event.figures for event in store.events(kind="noise"))
        assert (second["run_sd"], second["resid_sd"]) == (first["run_sd"], first["resid_sd"])
        if "seeds" in change:
            assert second["detectable"] < first["detectable"]
        else:
            assert margin(store, other) == (change["margin"] or first["detectable"])


class Killed(BaseException):
    """Stands for the death of the process at this instant."""


def test_killed_between_baselines_and_noise_it_measures_once(
    new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> list[str]:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("agent.run.settle", die)
        with pytest.raises(Killed):
            goes(new)
    assert not {"noise", "open"} & set(kinds(new))
    assert goes(new) == "done"
    assert goes(new) == "done"
    found = kinds(new)
    assert found.count("noise") == 1
    assert found.index("noise") < found.index("open")


def test_too_few_scores_leave_the_usual_noise(new: Path) -> None:
    with Store.open(new / "campaign.db") as store:
        [text] = settle(store, config_of(new), 1)
        [event] = store.events(kind="noise")
    assert text.startswith("too few scores of the baseline, noise as usual")
    assert event.figures["seen_seeds"] == 0
    assert event.figures["run_sd"] == pytest.approx(0.003)


def test_a_margin_that_is_likely_too_small_is_said_before_the_baselines(low: Path) -> None:
    config = config_of(low)
    with Store.open(low / "campaign.db") as store:
        [text] = warning(store, config)
        assert "confirm.margin is 0.5 points" in text
        assert "if noise is as usual" in text
        enough = replace(config, confirm=replace(config.confirm, margin=0.2))
        assert warning(store, enough) == []
        with pytest.raises(ConfigError):
            settle(store, config, 1)
        assert warning(store, config) == []  # it was measured


def test_a_campaign_from_before_keeps_its_margin(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path, confirm={"margin": 0.005})
    with Store.open(folder / "campaign.db") as store:
        campaign = store.campaign()
    old = tmp_path / "old"
    old.mkdir()
    with Store.create(old / "campaign.db", campaign) as store:
        store.add_event(Event("split", "locked", {}))
        config = parse_config(campaign.config)
        assert settle(store, config, 1) == []
        assert warning(store, config) == []
        assert margin(store, config) == 0.005
        assert [event.kind for event in store.events()] == ["split"]


@pytest.mark.parametrize(("cases", "is_told"), [(60, False), (8, True)])
def test_a_noise_that_hides_what_networks_gain_is_told(cases: int, is_told: bool) -> None:
    text = worded(planned(cases=cases, seeds=3, alpha=0.05), parse_config({}))
    assert (COARSE in text) == is_told
