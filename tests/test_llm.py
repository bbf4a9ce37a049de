"""What asks the language model: every call stored, one re-ask, ladder, turns, budget, replay."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.endpoint import Endpoint
from agent.llm import (
    CUT_OFF,
    CUT_TWICE,
    LADDER,
    Client,
    ModelLost,
    again,
    response_format,
    told,
)
from agent.model_settings import EndpointConfig, RoleConfig, RolesConfig
from agent.prices import Price
from agent.prompts import Prompt, make_prompt
from agent.replies import Form, ReplyError, schema
from memory.records import Campaign, LlmCall
from memory.store import Store
from tests.llm_replies import (
    BAD_KEY,
    BROKEN,
    NO_QUOTA,
    TOO_LONG,
    Fenced,
    Hang,
    Huge,
    MissingUsage,
    NegativeUsage,
    NullContent,
    OtherModel,
    Raw,
    Refusal,
    Reply,
    Status,
    Think,
    Truncated,
    error,
    says,
)
from tests.llm_server import Said as Answered
from tests.llm_server import ScriptedServer

CAMPAIGN = Campaign("c", "demo", 1.5, "0.1", {"a": [1]}, {"n": "d"}, "dh", "sh", {"torch": "2"})
KEY = "sk-planted-Not4Real-0123456789abcdef"
GOOD = {"answer": 1}
SCOPE = "decision/3"
HALF = Raw(b'{"choices": [{"message": {"content": "half a character \\ud800"}}]}')


class One(Form):
    answer: int


class Two(Form):
    first: int
    second: str


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return created(tmp_path / "campaign.db")


def created(path: Path) -> Path:
    Store.create(path, CAMPAIGN).close()
    return path


def prompt(text: str = "organs", purpose: str = "challenges") -> Prompt:
    return make_prompt(purpose, {"dataset": text})


def client(path: Path, *servers: ScriptedServer, **more: Any) -> Client:
    """Return a client of servers called a, b, c; prices are 1 and 2 USD a million tokens."""
    names = "abc"[: len(servers)]
    own = {k: more.pop(k) for k in ("attempts", "timeout_s") if k in more}
    role = RoleConfig(endpoints=tuple(names), temperature=0.5, max_tokens=100)
    endpoints = {
        name: Endpoint(
            name,
            EndpointConfig(url=one.url, model=f"m{name}", **{"attempts": 1, **own}),
            KEY,
            pause=lambda seconds: False,
            rng=Random(1),
        )
        for name, one in zip(names, servers, strict=True)
    }
    values: dict[str, Any] = {
        "prices": {f"{n}/m{n}": Price(1.0, 2.0, "user") for n in names},
        "levels": dict.fromkeys(names, "schema"),
        "now": lambda: 5.0,
    }
    roles = RolesConfig(generator=role)
    return Client(lambda: Store.open(path), endpoints, roles, **values | more)


@contextmanager
def asked(path: Path, *said: Answered, **more: Any) -> Iterator[tuple[Client, ScriptedServer]]:
    with ScriptedServer(said) as server:
        yield client(path, server, **more), server


def stored(path: Path) -> list[LlmCall]:
    with Store.open(path, read_only=True) as store:
        return store.llm_calls()


def bytes_of(path: Path) -> bytes:
    """Return all that is on the disk of a store."""
    return b"".join(one.read_bytes() for one in sorted(path.parent.glob(f"{path.name}*")))


# One call


def test_a_reply_and_its_row(path: Path) -> None:
    with asked(path, says(GOOD, tokens_in=1000, tokens_out=500)) as (own, server):
        said = own.ask(prompt(), One, scope=SCOPE, seed=2**40 + 3)
    assert said == (One(answer=1), "a", "ma")
    [chat] = server.chats
    assert [chat[k] for k in ("model", "temperature", "max_tokens")] == ["ma", 0.5, 100]
    assert 0 <= chat["seed"] < 2**31
    assert chat["response_format"]["json_schema"] == {
        "name": "one",
        "strict": True,
        "schema": schema(One),
    }
    [call] = stored(path)
    assert json.loads(call.prompt) == chat["messages"]
    assert (call.role, call.purpose, call.scope, call.endpoint, call.model) == (
        *("generator", "challenges", SCOPE, "a", "ma"),
    )
    assert (call.reply, call.tokens_in, call.tokens_out) == (json.dumps(GOOD), 1000, 500)
    assert call.price_usd == pytest.approx(0.002)
    assert (call.at, call.error, call.is_cached) == (5.0, None, False)


def test_the_form_is_told_in_words_too(path: Path) -> None:
    with asked(path, json.dumps(GOOD)) as (own, server):
        own.ask(prompt("organs"), One, scope=SCOPE)
    system, user = server.chats[0]["messages"]
    assert system == {"role": "system", "content": prompt().system}
    assert user["content"] == f"{prompt().text}\n\n{told(One)}"
    assert json.dumps(schema(One), separators=(",", ":")) in user["content"]


@pytest.mark.parametrize("said", [Fenced(GOOD), Think(GOOD), OtherModel(GOOD)])
def test_odd_but_whole_replies_are_read(said: Answered, path: Path) -> None:
    with asked(path, said) as (own, server):
        assert own.ask(prompt(), One, scope=SCOPE).value == One(answer=1)
        assert len(server.chats) == 1
    assert stored(path)[0].model == ("another-model" if isinstance(said, OtherModel) else "ma")


@pytest.mark.parametrize("said", [NegativeUsage(GOOD), MissingUsage(GOOD)])
def test_tokens_that_nobody_counted_are_estimated_for_the_price_alone(
    said: Answered, path: Path
) -> None:
    with asked(path, said) as (own, _):
        own.ask(prompt(), One, scope=SCOPE)
    [call] = stored(path)
    assert call.tokens_in is call.tokens_out is None
    assert call.price_usd is not None
    assert call.price_usd > len(call.prompt) / 8 / 1e6


# A reply that does not fit


def test_a_reply_that_fits_nothing_is_stored_and_asked_for_once_more(path: Path) -> None:
    bad = json.dumps({"answer": "\x1b[31mone", "why": "x" * 9000})
    with asked(path, bad, json.dumps(GOOD)) as (own, server):
        assert own.ask(prompt(), One, scope=SCOPE).value.answer == 1
    first, second = stored(path)
    assert (first.reply, first.error) == (bad, None)
    assert second.reply == json.dumps(GOOD)
    messages = server.chats[1]["messages"]
    assert messages[:2] == server.chats[0]["messages"]
    assert messages[2]["role"] == "assistant"
    assert messages[2]["content"] == bad[:6000]
    assert "answer: Input should be a valid integer" in messages[3]["content"]
    assert "why: Extra inputs are not permitted" in messages[3]["content"]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("I would rather not.", "no whole JSON object"),
        ('{"answer": 1', "broken or cut off"),
        ('{"answer": NaN}', "NaN, which is no number"),
        ('{"answer": 1, "answer": 2}', "comes twice"),
        ("", "the reply is empty"),
        (NullContent(), "the reply is empty"),
        (Huge(), "at most 400000 are read"),
        (Refusal(), "the model refused: I cannot help with that."),
        (Reply(content='{"answer": 1}', finish_reason="content_filter"), "filtered by the server"),
        (Reply(content='{"answer": 1}', refusal="no"), "the model refused: no"),
        (HALF, "no whole JSON object"),
    ],
)
def test_two_bad_replies_are_an_error_of_their_own(said: Answered, fault: str, path: Path) -> None:
    with asked(path, said, said) as (own, server):
        with pytest.raises(ReplyError, match="the generator sent no valid reply for 'challenges'"):
            own.ask(prompt(), One, scope=SCOPE)
        assert len(server.chats) == 2
    assert fault in server.chats[1]["messages"][3]["content"]
    calls = stored(path)
    assert len({call.id for call in calls}) == 2
    assert all(call.reply is None or len(call.reply) <= 1_000_000 for call in calls)


def test_a_refusal_is_known_when_the_step_runs_again(path: Path) -> None:
    with asked(path, Refusal(), Refusal()) as (own, server):
        for _ in range(2):
            with pytest.raises(ReplyError, match="the model refused"):
                own.ask(prompt(), One, scope=SCOPE)
        assert len(server.chats) == 2


# A reply that was cut off


def test_a_cut_reply_is_never_parsed_and_asked_for_with_twice_the_room(path: Path) -> None:
    whole = Reply(content='{"answer": 1}', finish_reason="length")
    with asked(path, whole, says({"answer": 2})) as (own, server):
        assert own.ask(prompt(), One, scope=SCOPE).value.answer == 2
    assert [chat["max_tokens"] for chat in server.chats] == [100, 200]
    assert server.chats[0]["messages"] == server.chats[1]["messages"]
    assert [(c.reply, c.error) for c in stored(path)] == [
        ('{"answer": 1}', CUT_OFF),
        ('{"answer": 2}', None),
    ]


@pytest.mark.parametrize("second", [Truncated(GOOD), TOO_LONG])
def test_a_reply_cut_twice_is_an_error_and_is_not_paid_for_again(
    second: Answered, path: Path, tmp_path: Path
) -> None:
    # After a refusal the ladder is tried to its end.
    said = [Truncated(GOOD), *[second] * (len(LADDER) if second is TOO_LONG else 1)]
    with asked(path, *said) as (own, server):
        for _ in range(2):
            with pytest.raises(ReplyError, match="and with twice the room"):
                own.ask(prompt(), One, scope=SCOPE)
        assert len(server.chats) == len(said)
        assert own.levels == {"a": "schema"}
    assert [call.error for call in stored(path)] == [CUT_OFF, CUT_TWICE]
    copy = created(tmp_path / "again.db")
    with pytest.raises(ReplyError, match="and with twice the room"):
        client(copy, replay=path).ask(prompt(), One, scope=SCOPE)


# The ladder


def strictest(kinds: Sequence[str]) -> Callable[[dict[str, Any]], Answered]:
    """Return a server that answers only to these ways of being held to a form."""

    def script(body: dict[str, Any]) -> Answered:
        form = body.get("response_format") or {"type": "text"}
        limits = "maxLength" in json.dumps(form) or "pattern" in json.dumps(form)
        kind = {"json_schema": "schema" if limits else "plain_schema"}.get(
            form["type"], form["type"]
        )
        if kind not in kinds:
            return Status(400, error(f"Invalid parameter: {kind}", "invalid_request_error"))
        return says(GOOD)

    return script


@pytest.mark.parametrize(("status", "kinds", "level", "asks"), [
    (400, {"json_schema", "json_object", "text"}, "schema", 1),
    (400, {"json_object", "text"}, "object", 3),
    (400, {"text"}, "text", 4),
])  # fmt: skip
def test_a_refused_form_steps_down_and_the_step_is_remembered(
    status: int, kinds: set[str], level: str, asks: int, path: Path
) -> None:
    with ScriptedServer([says(GOOD)] * 2, accepts=kinds) as server:
        own = client(path, server)
        own.ask(prompt(), One, scope=SCOPE)
        assert own.levels == {"a": level}
        assert len(server.chats) == asks
        own.ask(prompt(), One, scope="decision/4")
        assert len(server.chats) == asks + 1
        assert server.chats[-1].get("response_format") == response_format(One, level)
    assert len(stored(path)) == 2


@pytest.mark.parametrize("status", [400, 422, 501])
def test_each_refusal_of_a_form_counts(status: int, path: Path) -> None:
    with asked(path, Status(status), json.dumps(GOOD)) as (own, _):
        own.ask(prompt(), One, scope=SCOPE)
        assert own.levels == {"a": "plain_schema"}


def test_a_prompt_that_is_too_long_lowers_no_step(path: Path) -> None:
    with asked(path, *[TOO_LONG] * len(LADDER), json.dumps(GOOD)) as (own, server):
        with pytest.raises(ModelLost, match="maximum context length is 4096"):
            own.ask(prompt(), One, scope=SCOPE)
        assert own.levels == {"a": "schema"}
        assert own.ask(prompt(), One, scope=SCOPE).value.answer == 1
        assert len(server.chats) == len(LADDER) + 1
    failed, whole = stored(path)
    assert failed.reply is None
    assert "answered 400" in str(failed.error)
    assert whole.error is None


def test_the_strictest_form_has_limits_on_texts_and_the_next_has_none(path: Path) -> None:
    assert [response_format(Two, level) is None for level in LADDER] == [False] * 3 + [True]
    with ScriptedServer(strictest(["plain_schema"])) as server:
        own = client(path, server)
        assert own.ask(prompt(), One, scope=SCOPE).value.answer == 1


# Several endpoints


def test_endpoints_take_turns_and_the_turn_is_the_same_each_time(
    path: Path, tmp_path: Path
) -> None:
    def script(body: dict[str, Any]) -> Answered:
        return says(GOOD)

    with ScriptedServer(script) as a, ScriptedServer(script) as b:
        names = [
            client(path, a, b).ask(prompt(f"set {n}"), One, scope=SCOPE).endpoint for n in range(12)
        ]
        again_ = created(tmp_path / "again.db")
        others = client(again_, a, b)
        assert [
            others.ask(prompt(f"set {n}"), One, scope=SCOPE).endpoint for n in range(12)
        ] == names
        assert 2 <= names.count("a") <= 10
        assert len(a.chats) == 2 * names.count("a")


def test_the_next_endpoint_is_asked_when_one_is_down(path: Path) -> None:
    with ScriptedServer(lambda body: BROKEN) as a, ScriptedServer(lambda body: says(GOOD)) as b:
        own = client(path, a, b)
        for n in range(8):
            assert own.ask(prompt(f"set {n}"), One, scope=SCOPE).endpoint == "b"
        assert a.chats
    errors = [call for call in stored(path) if call.error]
    assert {call.endpoint for call in errors} == {"a"}
    assert all(call.reply is None and call.price_usd == 0.0 for call in errors)


def test_a_preferred_endpoint_is_asked_first(path: Path) -> None:
    with ScriptedServer(lambda body: says(GOOD)) as a, ScriptedServer(lambda body: BROKEN) as b:
        own = client(path, a, b)
        for name in ("a", "b", "nobody"):
            own.ask(prompt(), One, scope=SCOPE, prefer=name)
        assert len(b.chats) >= 1


def test_two_coders_of_one_idea_are_two_calls(path: Path) -> None:
    with ScriptedServer([says({"answer": 1})]) as a, ScriptedServer([says({"answer": 2})]) as b:
        own = client(path, a, b)
        for _ in range(2):
            said = [own.ask(prompt(), One, scope=SCOPE, prefer=name) for name in ("a", "b")]
            assert [(one.endpoint, one.value.answer) for one in said] == [("a", 1), ("b", 2)]


def test_two_seeds_are_two_calls(path: Path) -> None:
    with asked(path, says({"answer": 1}), says({"answer": 2})) as (own, server):
        for _ in range(2):
            said = [own.ask(prompt(), One, scope=SCOPE, seed=seed) for seed in (0, 1)]
            assert [one.value.answer for one in said] == [1, 2]
        assert len(server.chats) == 2


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_reply_is_mended_by_the_endpoint_that_gave_it(name: str, path: Path) -> None:
    def script(body: dict[str, Any]) -> Answered:
        return says(GOOD) if len(body["messages"]) > 2 else "no object"

    with ScriptedServer(script) as a, ScriptedServer(script) as b:
        own = client(path, a, b)
        for n in range(6):
            own.ask(prompt(f"set {n}"), One, scope=SCOPE, prefer=name)
        assert len({"a": b, "b": a}[name].chats) == 0


def test_nobody_there_is_a_model_lost_and_each_failure_is_kept(path: Path) -> None:
    with ScriptedServer([BAD_KEY]) as a, ScriptedServer([NO_QUOTA]) as b:
        with pytest.raises(ModelLost, match="no endpoint of the generator answered") as raised:
            client(path, a, b).ask(prompt(), One, scope=SCOPE)
    assert "'a' answered 401" in str(raised.value)
    assert "'b' answered 429" in str(raised.value)
    assert sorted(call.endpoint for call in stored(path)) == ["a", "b"]


def test_no_endpoint_at_all_is_a_model_lost(path: Path) -> None:
    with pytest.raises(ModelLost, match="none is set"):
        client(path).ask(prompt(), One, scope=SCOPE)


def test_a_run_that_is_to_stop_asks_no_other_endpoint(path: Path) -> None:
    with ScriptedServer(lambda body: BROKEN) as a, ScriptedServer(lambda body: BROKEN) as b:
        own = client(path, a, b, attempts=3)
        for endpoint in own.endpoints.values():
            endpoint.pause = lambda seconds: True
        with pytest.raises(ModelLost):
            own.ask(prompt(), One, scope=SCOPE)
        assert len(a.chats) + len(b.chats) == 1


def test_a_call_without_an_answer_in_time_has_no_known_price(path: Path) -> None:
    with asked(path, Hang(), timeout_s=0.3) as (own, _), pytest.raises(ModelLost, match="0.3 s"):
        own.ask(prompt(), One, scope=SCOPE)
    [call] = stored(path)
    assert (call.reply, call.price_usd) == (None, None)


# The budget


def test_the_budget_is_refused_before_it_could_be_passed(path: Path) -> None:
    with ScriptedServer(lambda body: says(GOOD, tokens_in=900, tokens_out=100)) as server:
        own = client(path, server, usd=0.01)
        lost = [""]
        while not any(lost):
            scope = f"decision/{len(server.chats)}"
            lost = concurrently(partial(asks, own, scope), 1)
        assert lost == ["ModelLost"]
        assert 3 <= len(server.chats) <= 9
        with pytest.raises(ModelLost, match="the budget of 0.01 USD is spent"):
            own.ask(prompt(), One, scope="decision/99")
    assert sum(call.price_usd or 0.0 for call in stored(path)) <= 0.01


@pytest.mark.parametrize("text", ["organs " * 40, "臓器" * 300, "a1" * 200])
def test_what_one_call_may_cost_is_more_than_any_tokenizer_makes_of_it(
    text: str, path: Path
) -> None:
    with asked(path, json.dumps(GOOD)) as (own, server):
        size = sum(len(m["content"].encode()) for m in prompt(text).messages(told(One)))
        own.ledger.usd = (size + 2 * 100) / 1e6
        with pytest.raises(ModelLost, match="the next call may cost"):
            own.ask(prompt(text), One, scope=SCOPE)
        own.ledger.usd *= 1.2
        own.ask(prompt(text), One, scope=SCOPE)
        assert len(server.chats) == 1


def test_threads_together_do_not_pass_the_budget(path: Path) -> None:
    with ScriptedServer(lambda body: says(GOOD, tokens_in=900, tokens_out=100)) as server:
        own = client(path, server, usd=0.004)
        lost = concurrently(partial(asks, own, "decision/{n}"), 8)
        assert lost.count("ModelLost") >= 5
        assert lost.count("") == len(server.chats)
    assert sum(call.price_usd or 0.0 for call in stored(path)) <= 0.004


def test_an_unknown_price_is_refused_under_a_budget_only(path: Path) -> None:
    with asked(path, says(GOOD), prices={"a/ma": None}) as (own, server):
        own.ledger.usd = 1.0
        with pytest.raises(ModelLost, match="nobody knows the price of a/ma"):
            own.ask(prompt(), One, scope=SCOPE)
        assert not server.chats
        own.ledger.usd = 0.0
        own.ask(prompt(), One, scope=SCOPE)
    assert [call.price_usd for call in stored(path)] == [None]


@pytest.mark.parametrize("price", [None, Price(1.0, 2.0, "user")])
def test_the_price_of_the_server_is_preferred(price: Price | None, path: Path) -> None:
    with asked(path, says(GOOD, cost=0.125), prices={"a/ma": price}) as (own, _):
        own.ask(prompt(), One, scope=SCOPE)
    assert [call.price_usd for call in stored(path)] == [0.125]


def test_where_one_endpoint_costs_too_much_the_free_one_is_asked(path: Path) -> None:
    prices = {"a/ma": Price(1e6, 1e6, "user"), "b/mb": Price(0.0, 0.0, "local")}
    with ScriptedServer([]) as a, ScriptedServer([says(GOOD)] * 6) as b:
        own = client(path, a, b, prices=prices, usd=1.0)
        for n in range(6):
            assert own.ask(prompt(f"set {n}"), One, scope=SCOPE).endpoint == "b"


def test_a_budget_counts_what_earlier_runs_spent(path: Path) -> None:
    with asked(path, says(GOOD, cost=0.9), usd=1.0) as (own, _):
        own.ask(prompt(), One, scope=SCOPE)
    prices = {"a/ma": Price(1000.0, 1000.0, "user")}
    with asked(path, usd=1.0, prices=prices) as (own, server):
        with pytest.raises(ModelLost, match="0.9000 are gone"):
            own.ask(prompt(), One, scope="decision/4")
        assert not server.chats


# Resuming and replaying


def test_the_same_scope_asks_once_and_another_asks_again(path: Path) -> None:
    with asked(path, says({"answer": 1}), says({"answer": 2})) as (own, server):
        first = own.ask(prompt(), One, scope=SCOPE)
        with Store.open(path) as store:
            assert store.usd_spent() > 0
        assert client(path, server).ask(prompt(), One, scope=SCOPE) == first
        assert len(server.chats) == 1
        assert own.ask(prompt(), One, scope="trial/abc").value.answer == 2
        assert len(server.chats) == 2
    assert len(stored(path)) == 2


def test_a_step_that_was_ended_after_its_first_reply_goes_on_with_the_second(path: Path) -> None:
    with asked(path, "no object", BROKEN, json.dumps(GOOD)) as (own, server):
        with pytest.raises(ModelLost):
            own.ask(prompt(), One, scope=SCOPE)
        assert own.ask(prompt(), One, scope=SCOPE).value.answer == 1
        assert len(server.chats) == 3


def play(own: Client) -> list[str]:
    """Ask what a campaign might, and return what came of it."""
    told_: list[str] = []
    for scope in ("decision/1", "decision/2", "decision/3", "trial/x"):
        for text, prefer in (("organs", ""), ("organs", "b"), (f"own {scope}", "")):
            try:
                said = own.ask(prompt(text), One, scope=scope, prefer=prefer)
                told_.append(f"{said.value.answer} {said.endpoint} {said.model}")
            except ReplyError as problem:
                told_.append(str(problem))
    return told_


def numbered() -> Callable[[dict[str, Any]], Answered]:
    """Return a server that counts, and sometimes refuses, babbles or breaks off."""
    said = iter(range(1000))

    def script(body: dict[str, Any]) -> Answered:
        n = next(said)
        odd: list[Answered] = ["no object", Refusal(), Truncated(GOOD)]
        return odd[n // 2 % 3] if n % 4 == 1 else says({"answer": n})

    return script


def test_a_replay_asks_nobody_and_gives_the_replies_in_their_order(
    path: Path, tmp_path: Path
) -> None:
    with ScriptedServer(numbered()) as a, ScriptedServer(numbered()) as b:
        before = play(client(path, a, b))
    assert len(set(before)) > 4
    copy = created(tmp_path / "copy.db")
    roles = RolesConfig(generator=RoleConfig(endpoints=("a", "b")))
    for _ in range(2):  # the second time it finds its own store
        replayed = Client(
            lambda: Store.open(copy), {}, roles, prices={}, replay=path, now=lambda: 9.0
        )
        assert play(replayed) == before
    whole = {(c.reply, c.error) for c in stored(path) if c.error != CUT_OFF}
    assert {(c.reply, c.error) for c in stored(copy)} == whole
    for call in stored(copy):
        assert (call.is_cached, call.price_usd, call.seconds, call.at) == (True, 0.0, 0.0, 9.0)


def test_a_replay_goes_on_in_order_after_an_interruption(path: Path, tmp_path: Path) -> None:
    with asked(path, *[says({"answer": n}) for n in range(3)]) as (own, _):
        for n in range(3):
            own.ask(prompt(), One, scope=f"decision/{n}")
    copy = created(tmp_path / "copy.db")
    for n in range(3):
        new = client(copy, replay=path)
        assert new.ask(prompt(), One, scope=f"decision/{n + 10}").value.answer == n
        assert new.ask(prompt(), One, scope=f"decision/{n + 10}").value.answer == n
    with pytest.raises(ModelLost, match="holds no further reply to the prompt 'challenges'"):
        client(copy, replay=path).ask(prompt(), One, scope="decision/13")
    with pytest.raises(ModelLost, match="of decision/14"):
        client(copy, replay=path).ask(prompt("another"), One, scope="decision/14")


def test_a_call_that_failed_is_no_reply_to_replay(path: Path, tmp_path: Path) -> None:
    with asked(path, BROKEN) as (own, _), pytest.raises(ModelLost):
        own.ask(prompt(), One, scope=SCOPE)
    with pytest.raises(ModelLost, match="holds no further reply"):
        client(created(tmp_path / "copy.db"), replay=path).ask(prompt(), One, scope=SCOPE)


# Threads, ids, keys


def asks(own: Client, scope: str, n: int = 0) -> None:
    own.ask(prompt(), One, scope=scope.format(n=n))


def concurrently(work: Callable[[int], object], count: int) -> list[str]:
    """Run work in threads at once; return the names of what they raised, "" for nothing."""
    start, raised = threading.Barrier(count), [""] * count

    def run(n: int) -> None:
        start.wait(20)
        try:
            work(n)
        except (ModelLost, ReplyError) as problem:
            raised[n] = type(problem).__name__

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.parametrize("scope", ["decision/{n}", SCOPE])
def test_threads_ask_at_once_and_every_call_is_kept(scope: str, path: Path) -> None:
    said = iter(range(1000))
    with ScriptedServer(lambda body: says({"answer": next(said)})) as server:
        own = client(path, server)
        assert concurrently(partial(asks, own, scope), 6) == [""] * 6
        calls = stored(path)
        assert len(calls) == len(server.chats)
        assert len({call.id for call in calls}) == len(calls)
        assert sorted(json.loads(str(c.reply))["answer"] for c in calls) == list(range(len(calls)))


def test_the_key_is_in_no_row_of_the_store(path: Path) -> None:
    texts: list[Answered] = [
        says(f'{{"answer": "{KEY}"}}'),
        says({"answer": 1}),
        Status(401, error(f"Incorrect API key provided: {KEY}", "invalid_api_key")),
        Status(500, f"Authorization: Bearer {KEY}"),
        Reply(content=None, refusal=f"no {KEY}", model=KEY),
        Reply(content=f"{KEY} {KEY}", model=f"m-{KEY}"),
    ]
    with asked(path, *texts) as (own, server):
        own.ask(prompt(), One, scope="decision/1")
        for n in (2, 3):
            with pytest.raises(ModelLost) as lost:
                own.ask(prompt(), One, scope=f"decision/{n}")
            assert KEY not in str(lost.value)
        with pytest.raises(ReplyError) as refused:
            own.ask(prompt(), One, scope="decision/4")
        assert KEY not in str(refused.value)
        assert all(r.headers["authorization"] == f"Bearer {KEY}" for r in server.requests)
    assert len(stored(path)) == 6
    assert KEY.encode() not in bytes_of(path)
    assert b"[key]" in bytes_of(path)


def test_what_is_shown_of_a_bad_reply_is_clean_and_bounded() -> None:
    shown, asks = again("\x1b[31m" + "x" * 20_000 + "\u202e", "it is red")
    assert shown == {"role": "assistant", "content": "x" * 6000}
    assert "it is red" in asks["content"]
    assert again(None, "f")[0]["content"] == again(" \x00 ", "f")[0]["content"] == "(empty)"
