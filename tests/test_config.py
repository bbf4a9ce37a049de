"""campaign.toml: what it may say, and how it says that it may not."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import (
    RANGES,
    Config,
    as_dict,
    load_config,
    parse_config,
)
from agent.model_settings import EndpointConfig
from agent.new_campaign import write_config
from agent.settings_text import parse_settings
from memory.errors import ConfigError


def test_defaults_are_within_their_ranges() -> None:
    values = as_dict(Config())
    for name, (low, high) in RANGES.items():
        *sections, key = name.split(".")
        if sections[0] == "endpoints":
            assert low <= getattr(EndpointConfig(), key) <= high, name
            continue
        place = values
        for section in sections:
            place = place[section]
        assert low <= place[key] <= high, name


def test_the_written_file_reads_back_as_it_was(tmp_path: Path) -> None:
    config = parse_config(
        {"name": 'a "name"\n', "engine": {"patch_size": [32, 40], "mirroring": True}}
    )
    write_config(tmp_path / "campaign.toml", config)
    assert load_config(tmp_path / "campaign.toml") == config


def test_the_written_file_names_every_setting(tmp_path: Path) -> None:
    write_config(tmp_path / "campaign.toml", Config())
    written = tomllib.loads((tmp_path / "campaign.toml").read_text())
    expected = {k: v for k, v in as_dict(Config()).items() if k != "endpoints"}
    assert {k: set(v) for k, v in written.items() if isinstance(v, dict)} == {
        k: set(v) for k, v in expected.items() if isinstance(v, dict)
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"explore": {"c_punct": 1}}, "unknown setting 'explore.c_punct'"),
        ({"rung": {}}, "did you mean 'rungs'"),
        ({"engine": {"threads": 0}}, "'engine.threads' in campaign.toml is 0; allowed: 1 to 256"),
        ({"engine": {"threads": "2"}}, "allowed: a int"),
        ({"engine": {"device": "gpu"}}, "allowed: auto, cuda, mps, cpu"),
        ({"engine": 3}, "allowed: a [engine] table"),
        ({"engine": {"patch_size": [0, 3]}}, "'engine.patch_size'"),
        ({"confirm": {"seeds": 1}}, "allowed: 2 to 50"),
        ({"engine": {"mirroring": 1}}, "allowed: a bool"),
        ({"budget": {"hours": float("nan")}}, "'budget.hours'"),
        ({"confirm": {"margin": -0.1}}, "allowed: 0 to 0.5"),
        ({"confirm": {"noninferiority": -0.1}}, "allowed: 0 to 0.5"),
        ({"confirm": {"cost_gain": 0}}, "allowed: 0.01 to 0.9"),
        ({"selection": {"folds": 10}}, "allowed: 0 to 9"),
        ({"selection": {"fold": 3}}, "did you mean 'folds'?"),
        ({"selection": {"share": 0.6}}, "allowed: 0 to 0.5"),
        ({"selection": {"candidates": 2.5}}, "allowed: a int"),
        ({"ablation": {"seeds": -1}}, "allowed: 0 to 20"),
    ],
)
def test_bad_settings_are_refused_in_one_line(values: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(values)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_broken_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="segwright init"):
        load_config(tmp_path / "campaign.toml")
    (tmp_path / "campaign.toml").write_text("engine = [")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(tmp_path / "campaign.toml")


def test_settings_of_the_command_line() -> None:
    values = parse_settings(["engine.threads=2", "engine.device=cpu", "name=liver"])
    assert values == {"engine": {"threads": 2, "device": "cpu"}, "name": "liver"}
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_settings(["engine.threads"])


@given(st.integers(), st.floats(allow_nan=False))
def test_any_number_is_taken_or_refused(threads: int, hours: float) -> None:
    try:
        config = parse_config({"engine": {"threads": threads}, "budget": {"hours": hours}})
    except ConfigError:
        assert not (1 <= threads <= 256 and 0 <= hours <= 1e5)
    else:
        assert config.engine.threads == threads
