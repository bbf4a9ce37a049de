"""Settings of the language-model planner: what they may say, and that no key gets into them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.config import as_dict, load_config, parse_config
from agent.model_settings import ROLES
from agent.new_campaign import write_config
from agent.settings_text import parse_settings
from memory.errors import ConfigError

LOCAL = {"url": "http://127.0.0.1:8080/v1", "model": "m"}
SECRET = "sk-proj-Not4Real-0123456789abcdef"


def full() -> dict[str, Any]:
    return {
        "planner": "llm",
        "endpoints": {"local": LOCAL, "far": {**LOCAL, "key_env": "FAR_KEY", "usd_in": 2.5}},
        "roles": {"coder": {"endpoints": ["far", "local"], "temperature": 0.0}},
        "coder": {"rivals": 2, "command": ["claude", "-p", 'a "b"'], "network": True},
        "llm": {"fallback": "end", "patience_s": 3.0},
    }


def test_the_written_file_reads_back_as_it_was(tmp_path: Path) -> None:
    config = parse_config(full())
    write_config(tmp_path / "campaign.toml", config)
    assert load_config(tmp_path / "campaign.toml") == config
    assert parse_config(as_dict(config)) == config
    written = tomllib.loads((tmp_path / "campaign.toml").read_text())
    assert set(written["endpoints"]["far"]) == set(as_dict(config)["endpoints"]["far"])


def test_a_role_keeps_what_was_not_set() -> None:
    config = parse_config({**full(), "roles": {"coder": {"temperature": 0.5}}})
    assert config.roles.coder.max_tokens == 12288
    assert config.roles.coder.temperature == 0.5
    assert config.roles.generator.temperature == 0.9


def test_settings_may_be_given_one_by_one() -> None:
    values = parse_settings(
        ["planner=llm", "endpoints.local.url=http://localhost:1/v1", "endpoints.local.model=m"]
    )
    config = parse_config(values)
    assert config.planner == "llm"
    assert config.endpoints["local"].model == "m"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"endpoints": {}}, "no endpoint is set"),
        ({"endpoints": {"Local": LOCAL}}, "endpoint 'Local' in campaign.toml: a name has"),
        ({"endpoints": {"local": {**LOCAL, "model": ""}}}, "'endpoints.local.model'"),
        ({"endpoints": {"local": {**LOCAL, "url": "ftp://a/v1"}}}, "an http or https address"),
        ({"endpoints": {"local": {**LOCAL, "url": "http://a:99999/v1"}}}, "allowed: an http"),
        ({"endpoints": {"local": {**LOCAL, "json": "xml"}}}, "allowed: auto, schema, object, text"),
        ({"endpoints": {"local": {**LOCAL, "attempts": 0}}}, "allowed: 1 to 20"),
        ({"endpoints": {"local": 3}}, "tables .endpoints.NAME. only"),
        ({"roles": {"coder": {"endpoints": ["nowhere"]}}}, "names 'nowhere'; set are: far, local"),
        ({"roles": {"poet": {}}}, "unknown setting 'roles.poet'"),
        ({"roles": {"coder": {"endpoints": [3]}}}, "'roles.coder.endpoints'"),
        ({"coder": {"rivals": 3}}, "allowed: 1 to 2"),
        ({"planner": "oracle"}, "allowed: grammar, llm"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, Any], message: str) -> None:
    base = {k: v for k, v in full().items() if k != "roles"}
    with pytest.raises(ConfigError, match=message):
        parse_config({**base, "endpoints": dict(sorted(full()["endpoints"].items())), **change})


@pytest.mark.parametrize(
    "own",
    [
        {"api_key": SECRET},
        {"key_env": SECRET},
        {"url": f"https://user:{SECRET}@host/v1"},
        {"url": f"https://host/v1?key={SECRET}"},
        {"url": f"https://host/v1#{SECRET}"},
    ],
)
def test_a_key_in_the_settings_is_refused_and_not_repeated(own: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config({"endpoints": {"far": {**LOCAL, **own}}})
    assert SECRET not in str(raised.value)


def test_every_role_of_the_work_is_there() -> None:
    assert ROLES == ("generator", "assessor", "coder", "diagnostician", "writer")
