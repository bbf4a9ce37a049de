"""What an endpoint is found to be, what its calls cost, and what is missing before a start."""

import json
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.config import Config, parse_config
from agent.endpoint import Endpoint
from agent.llm import LADDER, ModelLost
from agent.model_settings import EndpointConfig
from agent.prices import Price, price_of, published
from agent.probe import (
    LONG_ROOM,
    ROOM,
    Found,
    Probe,
    key_of,
    make_client,
    make_endpoints,
    make_prices,
    probe,
    sentence,
    used,
)
from agent.prompts import make_prompt
from agent.replies import Form, schema
from memory.errors import ConfigError, SegwrightError
from memory.records import Campaign, Event, LlmCall
from memory.store import Store
from tests.llm_replies import (
    BAD_KEY,
    BROKEN,
    Reply,
    Status,
    Truncated,
    error,
    says,
)
from tests.llm_server import FORMATS, Said, ScriptedServer

CAMPAIGN = Campaign("c", "demo", 1.5, "0.1", {"a": [1]}, {"n": "d"}, "dh", "sh", {"torch": "2"})
GOOD = {"modality": "MR", "letters": 2}
KEY = "sk-planted-Not4Real-0123456789abcdef"


class One(Form):
    answer: int


def one(url: str, *, json: str = "auto", **more: Any) -> Endpoint:
    config = EndpointConfig(url=url, model="m", json=json, **{"attempts": 2, **more})
    return Endpoint("far", config, pause=lambda seconds: False, rng=Random(1))


def held(
    script: Callable[[dict[str, Any]], Said] | Iterable[Said],
    *,
    accepts: Iterable[str] = FORMATS,
    json: str = "auto",
) -> tuple[Found, list[str]]:
    """Return what a server is found to be, and in which ways it was asked."""
    with ScriptedServer(script, accepts=accepts) as server:
        found = probe(one(server.url, json=json), "m")
        return found, [(c.get("response_format") or {}).get("type", "text") for c in server.chats]


SCHEMAS = ["json_schema", "json_schema"]


@pytest.mark.parametrize(
    ("accepts", "level", "asked"),
    [
        (FORMATS, "schema", SCHEMAS[:1]),
        ({"json_object", "text"}, "object", [*SCHEMAS, "json_object"]),
        ({"text"}, "text", [*SCHEMAS, "json_object", "text"]),
    ],
)
def test_each_kind_of_server_is_found_to_be_what_it_is(
    accepts: Iterable[str], level: str, asked: list[str]
) -> None:
    found, ways = held(lambda body: says(GOOD), accepts=accepts)
    assert (found.name, found.level, found.model, found.problem) == ("far", level, "m", "")
    assert ways == asked


def test_a_server_that_refuses_limits_on_texts_is_held_to_the_plain_schema() -> None:
    asked = iter([Status(400, error("schema: unsupported keyword", "invalid_request_error"))])
    found, ways = held(lambda body: next(asked, says(GOOD)))
    assert (found.level, ways) == ("plain_schema", SCHEMAS)


def keeps_to(*kinds: str) -> Callable[[dict[str, Any]], Said]:
    """Return a server that takes every form and keeps to some of them alone."""

    def script(body: dict[str, Any]) -> Said:
        kind = (body.get("response_format") or {}).get("type", "text")
        return says(GOOD if kind in kinds else "The modality is MR, two letters.")

    return script


@pytest.mark.parametrize(
    ("kinds", "level"),
    [(["json_object", "text"], "object"), (["text"], "text"), ([], "text")],
)
def test_a_form_that_is_taken_and_not_kept_to_does_not_count(kinds: list[str], level: str) -> None:
    found, _ = held(keeps_to(*kinds))
    assert (found.level, found.problem) == (level, "")


@pytest.mark.parametrize(
    ("wanted", "level", "first"),
    [
        ("schema", "schema", "json_schema"),
        ("object", "object", "json_object"),
        ("text", "text", "text"),
    ],
)
def test_what_the_settings_say_is_not_doubted(wanted: str, level: str, first: str) -> None:
    found, ways = held(keeps_to(), json=wanted)
    assert (found.level, ways) == (level, [first])


def test_a_model_that_only_thought_gets_more_room() -> None:
    thought = Reply(content="<think>MR has two", finish_reason="length")
    empty = Reply(content=None, finish_reason="length")
    for first in (thought, empty):
        with ScriptedServer([first, says(GOOD)]) as server:
            assert probe(one(server.url), "m").level == "schema"
            assert [chat["max_tokens"] for chat in server.chats] == [ROOM, LONG_ROOM]


def test_a_model_that_babbles_gets_no_more_room() -> None:
    found, ways = held([Truncated("so many words")] * len(LADDER))
    assert (found.level, len(ways)) == ("text", len(LADDER))


def test_the_question_is_small_and_fits_its_own_form() -> None:
    assert set(schema(Probe)["properties"]) == set(GOOD)
    with ScriptedServer([says(GOOD)]) as server:
        probe(one(server.url), "m")
    assert len(json.dumps(server.chats[0])) < 2000


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([BAD_KEY], "endpoint 'far' answered 401: Incorrect API key provided."),
        ([BROKEN] * 2, "endpoint 'far' answered 500: The server had an error."),
        ([Status(404, "<html>\n<p>none\n")], "endpoint 'far' answered 404: <html> <p>none"),
        ([Status(400, "no")] * 4, "endpoint 'far' answered 400: no"),
    ],
)
def test_an_endpoint_that_fails_has_its_problem_on_one_line(said: list[Said], text: str) -> None:
    found, _ = held(said)
    assert found.problem == text
    assert found.level == "text"
    assert sentence(found) == f"endpoint far does not answer: {text}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# The client of a campaign


def settings(url: str, **more: Any) -> Config:
    local = {"url": url, "model": "m", "attempts": 1}
    return parse_config({"planner": "llm", "endpoints": {"local": local}, **more})


def both(a: str, b: str, **more: Any) -> Config:
    own = {"model": "m", "attempts": 1}
    endpoints = {"a": {**own, "url": a}, "b": {**own, "url": b}}
    return parse_config({"planner": "llm", "endpoints": endpoints, **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Store.create(tmp_path / "campaign.db", CAMPAIGN).close()
    return tmp_path / "campaign.db"


def kept(path: Path) -> tuple[list[Event], list[LlmCall]]:
    with Store.open(path, read_only=True) as store:
        return store.events(), store.llm_calls()


def make(config: Config, path: Path) -> Any:
    return make_client(
        config, lambda: Store.open(path), pause=lambda seconds: False, now=lambda: 4.0
    )


def test_a_client_knows_what_was_found_and_the_store_has_it(path: Path) -> None:
    with ScriptedServer([says(GOOD), says({"answer": 3})], accepts={"text"}) as server:
        own = make(settings(server.url), path)
        assert own.levels == {"local": "text"}
        said = own.ask(make_prompt("challenges", {}), One, scope="campaign")
    assert said.value.answer == 3
    [event], calls = kept(path)
    assert event.kind == "probe"
    assert event.text == "endpoint local answers as m; its replies can be held to nothing"
    assert event.figures["level"] == "text"
    assert event.figures["endpoint"] == "local"
    # Each question is a call, with its price, and so are those that were refused.
    assert [(c.role, c.purpose, c.scope, c.error is None) for c in calls] == [
        *[("probe", "probe", "campaign", False)] * 3,
        ("probe", "probe", "campaign", True),
        ("generator", "challenges", "campaign", True),
    ]
    assert json.loads(str(calls[3].reply)) == GOOD
    assert len({call.id for call in calls}) == 5
    assert all(call.price_usd == 0.0 for call in calls)


def test_the_probe_counts_against_the_budget(path: Path) -> None:
    with ScriptedServer([says(GOOD, cost=0.25)]) as server:
        make(settings(server.url, budget={"usd": 10.0}), path)
    with Store.open(path) as store:
        assert store.usd_spent() == 0.25


def test_a_spent_budget_is_not_spent_on_probes(path: Path) -> None:
    with ScriptedServer([says(GOOD, cost=10.5)]) as server:
        config = settings(server.url, budget={"usd": 10.0})
        make(config, path)
        own = make(config, path)
        with pytest.raises(ModelLost, match="the budget of 10 USD is spent"):
            own.ask(make_prompt("challenges", {}), One, scope="campaign")
        assert len(server.chats) == 1


def test_a_start_that_is_repeated_keeps_each_probe(path: Path) -> None:
    with ScriptedServer([says(GOOD)] * 2) as server:
        for _ in range(2):
            make(settings(server.url), path)
    events, calls = kept(path)
    assert len(events) == len(calls) == 2


def test_a_dead_endpoint_ends_the_start_with_one_line(path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(SegwrightError, match="no endpoint of the generator answers") as raised:
        make(settings(url), path)
    text = str(raised.value)
    assert "\n" not in text
    assert f"'local' at {url} cannot be reached" in text
    assert "--set planner=grammar" in text
    [event], [call] = kept(path)
    assert event.text.startswith("endpoint local does not answer: ")
    assert (call.reply, call.price_usd) == (None, 0.0)


def test_one_endpoint_of_a_role_is_enough(path: Path) -> None:
    roles = {"generator": {"endpoints": ["a", "b"]}, "coder": {"endpoints": ["b"]}}
    others = {name: {"endpoints": ["b"]} for name in ("assessor", "diagnostician", "writer")}
    with ScriptedServer([says(GOOD), says({"answer": 1})]) as server:
        dead = f"http://127.0.0.1:{free_port()}/v1"
        own = make(both(dead, server.url, roles={**roles, **others}), path)
        assert own.levels == {"a": "schema", "b": "schema"}
        said = own.ask(make_prompt("challenges", {}), One, scope="campaign")
    assert said.endpoint == "b"


def test_two_models_of_one_endpoint_are_held_to_what_both_keep(path: Path) -> None:
    def script(body: dict[str, Any]) -> Said:
        is_held = body["model"] == "m" or "response_format" not in body
        return says(GOOD if is_held else "prose")

    for weak in ("generator", "writer"):
        with ScriptedServer(script) as server:
            own = make(settings(server.url, roles={weak: {"model": "weak"}}), path)
            assert own.levels == {"local": "text"}


def test_each_endpoint_and_model_is_asked_once() -> None:
    roles = {"coder": {"endpoints": ["b", "a"]}, "writer": {"model": "big"}}
    config = both("http://localhost:1/v1", "http://localhost:2/v1", roles=roles)
    assert used(config) == [("a", "m"), ("b", "m"), ("a", "big")]


# Keys


def keyed(url: str = "http://127.0.0.1:1/v1", **more: Any) -> Config:
    own = {"url": url, "model": "m", "attempts": 1, "key_env": "OWN_TEST_KEY", **more}
    return parse_config({"planner": "llm", "endpoints": {"far": own}})


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWN_TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match="names OWN_TEST_KEY, which is not set") as raised:
        make_endpoints(keyed(), lambda seconds: False)
    assert "'endpoints.far.key_env'" in str(raised.value)
    monkeypatch.setenv("OWN_TEST_KEY", " \n")
    with pytest.raises(ConfigError, match="is not set"):
        make_endpoints(keyed(), lambda seconds: False)


@pytest.mark.parametrize("key", [f"{KEY}\nX: y", f"{KEY} {KEY}", f"{KEY}\u00e9", f"{KEY}\x7f"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_told(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_TEST_KEY", key)
    with pytest.raises(ConfigError, match="names OWN_TEST_KEY, which holds a space") as raised:
        make_endpoints(keyed(), lambda seconds: False)
    assert "Not4Real" not in str(raised.value)


def test_a_key_is_read_without_the_line_end_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_TEST_KEY", f"{KEY}\n")
    assert key_of("far", keyed().endpoints["far"]) == KEY
    assert key_of("far", EndpointConfig(url="http://localhost/v1", model="m")) == ""


def test_the_key_is_sent_and_kept_nowhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_TEST_KEY", KEY)
    with ScriptedServer([says({**GOOD, "key": KEY})] * 4, key=KEY) as server:
        make(keyed(server.url), path)
    with ScriptedServer([Status(401, f"bad key {KEY}")]) as server:
        with pytest.raises(SegwrightError) as raised:
            make(keyed(server.url), path)
    assert KEY not in str(raised.value)
    files = [one.read_bytes() for one in path.parent.iterdir()]
    assert not any(KEY.encode() in one for one in files)


# Prices


def endpoint_of(**more: Any) -> EndpointConfig:
    return EndpointConfig(**{"url": "https://api.example/v1", "model": "m", **more})


@pytest.mark.parametrize(
    ("own", "model", "host", "price"),
    [
        ({}, "m", "localhost", Price(0.0, 0.0, "local")),
        ({}, "gpt-4o-mini", "127.0.0.1", Price(0.0, 0.0, "local")),
        ({"usd_in": 2.0, "usd_out": 8.0}, "m", "localhost", Price(2.0, 8.0, "user")),
        ({"usd_in": 2.0, "usd_out": 8.0}, "gpt-4o-mini", "api.example", Price(2.0, 8.0, "user")),
        ({"usd_in": 0.0, "usd_out": 0.0}, "m", "api.example", Price(0.0, 0.0, "user")),
        ({"usd_in": 2.0}, "m", "::1", Price(2.0, 0.0, "user")),
        ({"usd_in": 2.0}, "m", "api.example", None),
        ({"usd_out": 8.0}, "m", "api.example", None),
        ({}, "m", "api.example", None),
        ({}, "", "api.example", None),
    ],
)
def test_the_price_of_a_model(
    own: Mapping[str, float], model: str, host: str, price: Price | None
) -> None:
    assert price_of(endpoint_of(**own), model, host) == price


def test_a_call_costs_its_tokens() -> None:
    assert Price(2.0, 8.0, "user").of(1_000_000, 500_000) == 6.0
    assert Price(2.0, 8.0, "user").of(0, 0) == 0.0


def test_published_prices_are_known_for_known_models() -> None:
    pytest.importorskip("genai_prices")
    price = published("gpt-4o-mini")
    assert price is not None
    assert price.source == "published"
    assert 0 < price.usd_in < price.usd_out < 10
    assert published("no-such-model-of-anybody") is None
    own = price_of(endpoint_of(usd_out=50.0), "gpt-4o-mini", "api.example")
    assert own == Price(price.usd_in, 50.0, "user")


def test_a_price_that_grows_with_the_length_counts_at_its_lowest_step() -> None:
    pytest.importorskip("genai_prices")
    from genai_prices import Usage, calc_price

    price = published("claude-sonnet-4-5")
    few = calc_price(Usage(input_tokens=1000), "claude-sonnet-4-5").total_price
    assert price is not None
    assert price.usd_in == pytest.approx(float(few) * 1000)


def test_a_gateway_has_its_own_names_for_models() -> None:
    pytest.importorskip("genai_prices")
    assert published("openai/gpt-4o-mini") is None
    assert published("openai/gpt-4o-mini", "https://openrouter.ai/api/v1") is not None


def test_a_budget_in_dollars_needs_every_price() -> None:
    far = {"url": "https://api.example/v1", "model": "no-such-model-of-anybody"}
    config = {"planner": "llm", "endpoints": {"far": far}}
    with_budget = parse_config({**config, "budget": {"usd": 5.0}})
    with pytest.raises(ConfigError, match="budget.usd is 5, and nobody knows the price") as raised:
        make_prices(with_budget)
    assert "usd_in and usd_out" in str(raised.value)
    assert make_prices(parse_config(config)) == {"far/no-such-model-of-anybody": None}
    far |= {"usd_in": 1.0, "usd_out": 2.0}  # type: ignore[dict-item]
    priced = make_prices(parse_config({**config, "budget": {"usd": 5.0}}))
    assert priced == {"far/no-such-model-of-anybody": Price(1.0, 2.0, "user")}
