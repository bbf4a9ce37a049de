"""One endpoint: what is sent, what is tried again, what is given up, and what is never told."""

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import transport
from agent.endpoint import (
    BREAK_AFTER,
    EXCERPT,
    FIRST_BREAK_S,
    LONGEST_BREAK_S,
    REPLY_CHARACTERS,
    Answer,
    Breaker,
    Endpoint,
    EndpointError,
    Request,
    wished,
)
from agent.model_settings import EndpointConfig
from tests.llm_replies import (
    BAD_KEY,
    BROKEN,
    EXCEEDS_CONTEXT,
    HTML_200,
    LOADING,
    NO_MODEL,
    NO_QUOTA,
    OVERLOADED,
    TOO_LONG,
    CutStream,
    Drip,
    ErrorIn200,
    Fault,
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
    Truncated,
    Wire,
    error,
    rate_limited,
    says,
)
from tests.llm_server import Said, ScriptedServer

KEY = "sk-proj/Not+4Real-0123456789abcdef"
ASKED = Request([{"role": "user", "content": "hello"}], "m", 0.5, 100, 7)


class Clock:
    """Time that only pauses move on, and what was paused."""

    def __init__(self, *, stop_after: int = 1000) -> None:
        self.now, self.pauses, self.stop_after = 1000.0, list[float](), stop_after

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now += seconds
        return len(self.pauses) >= self.stop_after


def made(url: str, clock: Clock, *, key: str = "", **more: Any) -> Endpoint:
    config = EndpointConfig(url=url, model="m", **{"timeout_s": 20.0, **more})
    return Endpoint("far", config, key, pause=clock.pause, clock=clock, rng=Random(1))


def answered(*said: Said, **more: Any) -> tuple[Answer, Clock, ScriptedServer]:
    """Return the answer of an endpoint to one request, with the pauses and the server."""
    clock = Clock()
    with ScriptedServer(said) as server:
        return made(server.url, clock, **more).complete(ASKED), clock, server


def failed(*said: Said, **more: Any) -> tuple[EndpointError, Clock, ScriptedServer]:
    """Return the error of an endpoint after one request, with the pauses and the server."""
    clock = Clock()
    with ScriptedServer(said) as server, pytest.raises(EndpointError) as raised:
        made(server.url, clock, **more).complete(ASKED)
    return raised.value, clock, server


# What is sent, and what a good answer is


def test_a_request_and_its_answer() -> None:
    form = {"type": "json_object"}
    with ScriptedServer([says("hi", tokens_in=3, tokens_out=2, cost=0.25)]) as server:
        answer = made(server.url, Clock()).complete(ASKED._replace(response_format=form))
    assert server.chats == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0.5,
            "max_tokens": 100,
            "seed": 7,
            "response_format": form,
        }
    ]
    assert answer == Answer("hi", "m", "stop", 3, 2, 0.25, 0.0, "")


LEAKS = {
    "OPENAI_API_KEY": "sk-leaked-key-000001",
    "OPENAI_ADMIN_KEY": "sk-leaked-admin-0002",
    "OPENAI_ORG_ID": "org-leaked",
    "OPENAI_PROJECT_ID": "proj-leaked",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/leaked",
    "OPENAI_CUSTOM_HEADERS": "X-Leaked: leaked\nAuthorization: Bearer leaked\nUser-Agent: leaked",
    "OPENAI_WEBHOOK_SECRET": "leaked",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}


@pytest.mark.parametrize("key", ["", KEY])
def test_nothing_of_the_environment_goes_along(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEAKS.items():
        monkeypatch.setenv(name, value)
    _, _, server = answered("hi", key=key)
    [request] = server.requests
    assert "leaked" not in str(request)
    assert request.path == "/v1/chat/completions"
    own = {"authorization": f"Bearer {key}"} if key else {}
    assert {k: v for k, v in request.headers.items() if k not in ("host", "content-length")} == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "keep-alive",
        "content-type": "application/json",
        "user-agent": "segwright",
        "x-stainless-raw-response": "true",
        **own,
    }


def test_a_proxy_is_used_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(["never asked"]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(EndpointError, match="answered 404"):
            made("http://model.invalid/v1", Clock()).complete(ASKED)
        [request] = proxy.requests
    assert request.path == "http://model.invalid/v1/chat/completions"


def test_a_key_with_a_line_end_is_sent_without_it() -> None:
    with ScriptedServer(["hi"], key=KEY) as server:
        assert made(server.url, Clock(), key=f"{KEY}\n").complete(ASKED).text == "hi"


def test_a_redirect_is_not_followed() -> None:
    with ScriptedServer(["never asked"]) as other:
        away = Status(307, "", {"Location": f"{other.url}/chat/completions"})
        problem, clock, _ = failed(away, key=KEY)
        assert not other.requests
    assert (problem.kind, problem.status, clock.pauses) == ("refused", 307, [])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (NullContent(), {"text": None, "finish": "stop"}),
        (Refusal(), {"text": None, "refusal": "I cannot help with that."}),
        (OtherModel(), {"model": "another-model"}),
        (Truncated("0123456789"), {"text": "01234", "finish": "length"}),
        (NegativeUsage(), {"tokens_in": None, "tokens_out": None, "usd": None}),
        (MissingUsage(), {"tokens_in": None, "tokens_out": None, "usd": None}),
        (Reply(content="x", finish_reason="MAX_TOKENS"), {"finish": "length"}),
        (Reply(content="x", finish_reason="content_filter"), {"finish": "content_filter"}),
        (Reply(content="x", model="a\x1b[31m\nb" + "c" * 999), {"model": "a b" + "c" * 197}),
    ],
)
def test_odd_answers_are_told_as_they_are(said: Said, expected: dict[str, Any]) -> None:
    answer, _, _ = answered(said)
    assert answer._asdict() | expected == answer._asdict()


@pytest.mark.parametrize(
    "usage",
    [None, [], "3", {"prompt_tokens": "3"}, {"prompt_tokens": True}, {"prompt_tokens": 1.5},
     {"prompt_tokens": 10**13, "cost": "0.1"}, {"prompt_tokens": None, "cost": -0.1},
     {"completion_tokens": -1, "cost": True}],
)  # fmt: skip
def test_counts_that_cannot_be_are_none(usage: Any) -> None:
    body = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    answer, _, _ = answered(Raw(json.dumps(body).encode()))
    assert answer.tokens_in is answer.tokens_out is answer.usd is None
    assert answer.model == "m"


def test_a_price_that_is_no_number_is_none() -> None:
    body = b'{"choices": [{"message": {"content": "x"}}], "usage": {"cost": NaN}}'
    assert answered(Raw(body))[0].usd is None


def test_ten_megabytes_are_bounded() -> None:
    answer, _, _ = answered(Huge())
    assert answer.text is not None
    assert len(answer.text) == REPLY_CHARACTERS


def test_half_a_character_does_not_get_into_the_text() -> None:
    body = b'{"choices": [{"message": {"content": "a\\ud800b\\u0000"}}]}'
    assert answered(Raw(body))[0].text == "a?b\x00"


# What is tried again


@pytest.mark.parametrize(
    "said",
    [
        BROKEN,
        OVERLOADED,
        LOADING,
        Status(408),
        Status(409),
        rate_limited(None),
        rate_limited("soon"),
        rate_limited("nan"),
        rate_limited("-3"),
        rate_limited("Wed, 21 Oct 2015 07:28:00 GMT"),
        rate_limited("Wed, 99 Oct 99999 07:28:00 GMT"),
        HTML_200,
        ErrorIn200(),
        ErrorIn200(code=429),
        CutStream(),
        Raw(b""),
        Raw(b"null"),
        Raw(b"[]"),
        Raw(b"3"),
        Raw(b'"choices"'),
        Raw(b"{}"),
        Raw(b'{"choices": []}'),
        Raw(b'{"choices": null, "error": "overloaded"}'),
        Raw(b'{"choices": {"0": 1}}'),
        Raw(b'{"choices": [{}]}'),
        Raw(b'{"choices": [{"message": null}]}'),
        Raw(b'{"choices": [{"message": {"content": null}, "error": {"message": "lost"}}]}'),
        Raw(b"[" * 100_000),
        Raw(b'{"a": ' + b"9" * 5000 + b"}"),
        Raw(b"\xff\xfe\x00"),
    ],
)
def test_what_may_pass_is_tried_again(said: Said) -> None:
    answer, clock, server = answered(said, "at last")
    assert answer.text == "at last"
    assert len(server.chats) == 2
    [waited] = clock.pauses
    assert 0.5 <= waited < 1.5


def test_pauses_double_with_jitter_up_to_the_last_attempt() -> None:
    problem, clock, server = failed(*[BROKEN] * 4, attempts=4)
    assert (problem.kind, problem.status) == ("busy", 500)
    assert "'far' answered 500: The server had an error." in str(problem)
    assert len(server.chats) == 4
    assert [0.5 <= p / n < 1.5 for p, n in zip(clock.pauses, (1, 2, 4), strict=True)] == [True] * 3
    _, other, _ = failed(*[BROKEN] * 4, attempts=4)
    assert other.pauses == clock.pauses


def test_one_attempt_never_waits() -> None:
    problem, clock, _ = failed(BROKEN, attempts=1)
    assert (problem.kind, clock.pauses) == ("busy", [])


@pytest.mark.parametrize("wish", ["7", "7.5", "600"])
def test_the_wish_of_the_server_is_waited_for_exactly(wish: str) -> None:
    _, clock, _ = answered(rate_limited(wish), "hi")
    assert clock.pauses == [float(wish)]


@pytest.mark.parametrize("wish", ["601", "86400", "inf", "1e99"])
def test_too_long_a_wish_ends_the_request(wish: str) -> None:
    problem, clock, server = failed(rate_limited(wish))
    assert (problem.kind, problem.status, clock.pauses, len(server.chats)) == ("busy", 429, [], 1)
    assert problem.wish_s == float(wish)


def test_a_date_is_counted_from_the_date_of_the_server() -> None:
    later = {
        "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
        "date": "Wed, 21 Oct 2015 07:28:00 GMT",
    }
    assert wished(later) == 30.0
    assert wished({**later, "date": "Wed, 21 Oct 2015 07:29:00 GMT"}) == 0.0
    assert wished({"retry-after": later["retry-after"], "date": "never"}) == 0.0
    assert wished({}) == 0.0


def test_a_date_of_the_future_is_a_wish() -> None:
    problem, clock, _ = failed(rate_limited("Thu, 31 Dec 2099 23:59:59 GMT"))
    assert problem.wish_s > 1e6
    assert clock.pauses == []


@given(
    st.text(max_size=40) | st.text("0123456789 :,+-GMTOctWed", max_size=40), st.text(max_size=30)
)
def test_no_wish_can_do_harm(wish: str, date: str) -> None:
    assert wished({"retry-after": wish, "date": date}) >= 0.0


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("said", [Hang(), Drip(0.05, "x" * 200)], ids=["hang", "drip"])
def test_silence_and_drops_end_with_the_time(said: Said, attempts: int) -> None:
    problem, clock, server = failed(*[said] * attempts, timeout_s=0.3, attempts=attempts)
    assert str(problem) == "endpoint 'far' gave no whole reply in 0.3 s"
    assert problem.kind == "busy"
    assert (len(server.chats), len(clock.pauses)) == (attempts, attempts - 1)


def test_nobody_there_is_told_as_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        clock = Clock()
        with pytest.raises(EndpointError, match=f"'far' at {url} cannot be reached") as raised:
            made(url, clock, attempts=2).complete(ASKED)
    assert raised.value.kind == "down"
    assert len(clock.pauses) == 1


@pytest.mark.parametrize("host", ["\u2603" * 70 + ".invalid", "e\u0301\u200d.invalid"])
def test_a_host_that_cannot_be_is_told_as_down(host: str) -> None:
    with pytest.raises(EndpointError, match="cannot be reached") as raised:
        made(f"http://{host}/v1", Clock(), attempts=1).complete(ASKED)
    assert raised.value.kind == "down"


def test_an_interrupt_ends_at_once() -> None:
    clock = Clock(stop_after=2)
    with ScriptedServer([BROKEN] * 2) as server, pytest.raises(EndpointError) as raised:
        made(server.url, clock, attempts=10).complete(ASKED)
    assert raised.value.kind == "stopped"
    assert "answered 500" in str(raised.value)
    assert len(clock.pauses) == len(server.chats) == 2


@dataclass(frozen=True)
class Packed(Fault):
    """A good reply, packed though nobody asked for it."""

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        plain = says("x").wire(request, number)
        headers = {**plain.headers, "Content-Encoding": "gzip"}
        return Wire(body=gzip.compress(plain.body), headers=headers)


def test_a_packed_body_is_refused() -> None:
    problem, _, _ = failed(Packed(), attempts=1)
    assert problem.kind == "down"
    assert "packed" in str(problem)


@pytest.mark.parametrize("status", [200, 500])
def test_a_body_without_end_is_cut(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BODY_BYTES", 1 << 20)
    problem, _, _ = failed(Status(status, "x" * (3 << 20)), attempts=1)
    assert problem.kind == "down"
    assert "more than 1 MiB" in str(problem)


# What is given up


@pytest.mark.parametrize(
    ("said", "kind", "status"),
    [
        (BAD_KEY, "refused", 401),
        (Status(402), "refused", 402),
        (Status(403), "refused", 403),
        (NO_MODEL, "refused", 404),
        (NO_QUOTA, "refused", 429),
        (TOO_LONG, "unfit", 400),
        (EXCEEDS_CONTEXT, "unfit", 400),
        (Status(422), "unfit", 422),
        (Status(501), "unfit", 501),
        (Status(201, "made"), "unfit", 201),
        (ErrorIn200(code=401), "refused", 401),
        (Raw(b'{"error": {"code": "insufficient_quota", "message": "no"}}'), "refused", 502),
    ],
)
def test_what_will_not_pass_is_not_tried_again(said: Said, kind: str, status: int) -> None:
    problem, clock, server = failed(said)
    assert (problem.kind, problem.status) == (kind, status)
    assert (len(server.chats), clock.pauses) == (1, [])
    assert str(problem).startswith(f"endpoint 'far' answered {status}: ")


@pytest.mark.parametrize("body", ["<p>\n\n" + "x" * 5000, "\x1b[31mred\x1b[0m\r\n\u202eback", ""])
def test_what_a_server_says_is_told_bounded_and_on_one_line(body: str) -> None:
    problem, _, _ = failed(Status(400, body))
    assert len(str(problem)) < EXCERPT + 60
    assert not {"\n", "\r", "\x1b", "\u202e"} & set(str(problem))


def no_param(name: str, message: str) -> Status:
    return Status(400, error(message, "invalid_request_error", "unsupported_parameter", name))


NEWER = no_param(
    "max_tokens",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead.",
)
ONLY_ONE = no_param(
    "temperature",
    "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) "
    "value is supported.",
)
NO_SEED = [
    no_param("seed", "Unrecognized request argument supplied: seed"),
    Status(400, {"error": {"message": 'Unknown name "seed": Cannot find field.'}}),
    Status(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}),
    Status(400, "unknown field: seed"),
]


def test_parameters_that_a_model_refuses_are_left_out_from_then_on() -> None:
    with ScriptedServer([NEWER, ONLY_ONE, "one", "two"]) as server:
        clock = Clock()
        endpoint = made(server.url, clock)
        assert [endpoint.complete(ASKED).text for _ in range(2)] == ["one", "two"]
    assert clock.pauses == []
    sent = [sorted(chat.keys() - {"model", "messages"}) for chat in server.chats]
    assert sent == [
        ["max_tokens", "seed", "temperature"],
        ["max_completion_tokens", "seed", "temperature"],
        ["max_completion_tokens", "seed"],
        ["max_completion_tokens", "seed"],
    ]
    assert server.chats[-1]["max_completion_tokens"] == 100


@pytest.mark.parametrize("said", NO_SEED)
def test_a_seed_is_left_out_where_it_is_unknown(said: Said) -> None:
    _, _, server = answered(said, "hi")
    assert [("seed" in chat) for chat in server.chats] == [True, False]


@pytest.mark.parametrize(
    "message",
    [
        "'max_tokens' is too large: 100. This model takes at most 50 completion tokens.",
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context "
        "length is 4096 tokens and your request has 10 input tokens (5000 > 4096 - 10).",
        "temperature must be at most 1",
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported.",
        "Unsupported max_tokens_field",
    ],
)
def test_a_parameter_out_of_range_is_not_left_out(message: str) -> None:
    problem, _, server = failed(Status(400, error(message, "invalid_request_error")))
    assert problem.kind == "unfit"
    assert len(server.chats) == 1


def test_a_server_that_refuses_everything_is_not_asked_for_ever() -> None:
    text = " ".join(f"unknown parameter '{name}'" for name in ("max_tokens", "temperature", "seed"))
    problem, _, server = failed(*[Status(400, text)] * 4)
    assert problem.kind == "unfit"
    assert len(server.chats) == 4


def test_threads_that_are_refused_at_the_same_time_both_get_through() -> None:
    both = threading.Barrier(2)

    def script(body: dict[str, Any]) -> Said:
        return NEWER if "max_tokens" in body else "hi"

    with ScriptedServer(script) as server:
        endpoint = made(server.url, Clock())
        first = endpoint._post

        def post(body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], str]:
            found = first(body)
            if "max_tokens" in body:
                both.wait(20)
            return found

        endpoint._post = post  # type: ignore[method-assign]
        assert threaded(endpoint, 2) == ["hi", "hi"]


def threaded(endpoint: Endpoint, count: int) -> list[str]:
    """Return what several threads got that asked one endpoint at once, sorted."""
    got: list[str] = []

    def ask() -> None:
        try:
            got.append(str(endpoint.complete(ASKED).text))
        except EndpointError as problem:
            got.append(problem.kind)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(got)


# The breaker


def test_the_breaker_opens_doubles_and_closes() -> None:
    with ScriptedServer([BROKEN] * 7 + ["well", BROKEN, "well"]) as server:
        clock = Clock()
        endpoint = made(server.url, clock, attempts=1)

        def ask() -> str:
            try:
                return str(endpoint.complete(ASKED).text)
            except EndpointError as problem:
                return problem.kind

        assert [ask() for _ in range(BREAK_AFTER)] == ["busy"] * BREAK_AFTER
        assert [ask(), ask()] == ["down", "down"]
        assert len(server.chats) == BREAK_AFTER
        clock.now += FIRST_BREAK_S - 0.01
        assert ask() == "down"
        clock.now += 0.02
        assert [ask(), ask()] == ["busy", "down"]
        clock.now += 2 * FIRST_BREAK_S - 0.01
        assert ask() == "down"
        clock.now += 0.02
        assert [ask(), ask()] == ["busy", "down"]
        clock.now += 4 * FIRST_BREAK_S + 0.01
        assert [ask(), ask(), ask()] == ["well", "busy", "well"]
        assert len(server.chats) == 10


def test_an_open_breaker_says_why_and_for_how_long() -> None:
    with ScriptedServer([BAD_KEY] * BREAK_AFTER) as server:
        endpoint = made(server.url, Clock())
        for _ in range(BREAK_AFTER):
            with pytest.raises(EndpointError, match="answered 401"):
                endpoint.complete(ASKED)
        with pytest.raises(EndpointError, match="5 times in a row .* at last: .* 401") as raised:
            endpoint.complete(ASKED)
    assert raised.value.wish_s == FIRST_BREAK_S


def test_the_breaker_ends_a_request_that_is_tried_too_often() -> None:
    problem, clock, server = failed(*[BROKEN] * BREAK_AFTER, attempts=20)
    assert problem.kind == "down"
    assert len(server.chats) == BREAK_AFTER
    assert sum(clock.pauses) < 1.5 * 31


def test_a_request_that_does_not_fit_is_no_failure_of_the_server() -> None:
    with ScriptedServer([TOO_LONG] * 8 + ["hi"]) as server:
        endpoint = made(server.url, Clock())
        for _ in range(8):
            with pytest.raises(EndpointError, match="answered 400"):
                endpoint.complete(ASKED)
        assert endpoint.complete(ASKED).text == "hi"


def test_threads_share_a_breaker_and_open_it_once() -> None:
    with ScriptedServer(lambda body: BROKEN) as server:
        endpoint = made(server.url, Clock(), attempts=1)
        assert set(threaded(endpoint, 12)) <= {"busy", "down"}
        assert endpoint.breaker.failures >= BREAK_AFTER
        assert endpoint.breaker.closed_in(endpoint.clock()) == FIRST_BREAK_S
        assert threaded(endpoint, 4) == ["down"] * 4
        assert len(server.chats) == endpoint.breaker.failures


@given(st.lists(st.tuples(st.floats(0, 2000), st.booleans()), max_size=60))
def test_a_breaker_never_opens_early_nor_for_longer_than_its_longest(
    steps: list[tuple[float, bool]],
) -> None:
    breaker, now, row = Breaker(), 0.0, 0
    for seconds, is_failure in steps:
        now += seconds
        if is_failure:
            breaker.failed(now)
            row += 1
        else:
            breaker.worked()
            row = 0
        assert 0.0 <= breaker.closed_in(now) <= LONGEST_BREAK_S
        assert row >= BREAK_AFTER or breaker.closed_in(now) == 0.0


# The key


def echoed(answer: Callable[[str], Said], key: str = KEY) -> Iterator[str]:
    """Yield every text that comes out where the server gives the key back."""
    clock = Clock()
    with ScriptedServer([answer(key)] * 6) as server:
        endpoint = made(server.url, clock, key=key, attempts=1)
        for _ in range(BREAK_AFTER + 1):
            try:
                yield str(endpoint.complete(ASKED))
            except EndpointError as problem:
                yield f"{problem} {problem!r} {problem.__cause__!r} {problem.__context__!r}"


@pytest.mark.parametrize(
    "answer",
    [
        lambda key: Status(401, error(f"Incorrect API key provided: {key}.", "invalid_api_key")),
        lambda key: Status(401, json.dumps({"message": f"no {key}"}).replace("/", "\\/")),
        lambda key: Status(500, f"<p>Authorization: Bearer {key}</p>"),
        lambda key: Status(400, "x" * 290 + key),
        lambda key: ErrorIn200(f"key {key}"),
        lambda key: Raw(f"no JSON {key}".encode()),
        lambda key: says(f"your key is {key}"),
        lambda key: Raw(json.dumps(says(key).envelope({}, 1, key) | {"model": key, "choices": [
            {"message": {"content": f"a {key}", "refusal": key}}]}).replace("/", "\\/").encode()),
        lambda key: Reply(content=None, refusal=key, model=key),
        lambda key: Status(307, key, {"Location": f"http://127.0.0.1/{key}"}),
    ],
)  # fmt: skip
def test_the_key_is_in_no_text_even_where_the_server_gives_it_back(
    answer: Callable[[str], Said],
) -> None:
    texts = list(echoed(answer))
    assert len(texts) == BREAK_AFTER + 1
    for text in texts:
        assert KEY not in text
        assert KEY[3:12] not in text


@pytest.mark.parametrize("key", ["1", "EMPTY", "none"])
def test_a_placeholder_for_a_key_spoils_no_text(key: str) -> None:
    answer, _, server = answered(says('{"answer": 1, "word": "EMPTY none"}'), key=key)
    assert answer.text == '{"answer": 1, "word": "EMPTY none"}'
    assert server.requests[0].headers["authorization"] == f"Bearer {key}"


def test_a_key_that_no_header_can_carry_is_not_told() -> None:
    bad = "sk-secret\nvalue-é-0123456789"
    with ScriptedServer(["never asked"]) as server, pytest.raises(EndpointError) as raised:
        made(server.url, Clock(), key=bad, attempts=1).complete(ASKED)
    assert "secret" not in f"{raised.value!r} {raised.value.__context__!r}"
    assert not server.requests
