"""The scripted language model: what it puts on the wire, and what the openai client makes of it."""

import http.client
import json
import threading
from typing import Any

import openai
import pytest

from tests.llm_replies import (
    BAD_KEY,
    BROKEN,
    DUPLICATE_KEYS,
    EXCEEDS_CONTEXT,
    HTML_200,
    LOADING,
    NAN,
    NO_MODEL,
    NO_QUOTA,
    OVERLOADED,
    TOO_LONG,
    Answer,
    CutStream,
    Drip,
    ErrorIn200,
    Fenced,
    Hang,
    Huge,
    MissingUsage,
    NegativeUsage,
    NullContent,
    OtherModel,
    Raw,
    Refusal,
    Status,
    Think,
    Truncated,
    rate_limited,
    says,
    text,
)
from tests.llm_server import Said, ScriptedServer

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
ANSWER = {"answer": 1}


def connection(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(url.split("/")[2], timeout=30)


def post(url: str, body: Any, path: str = "/v1/chat/completions") -> tuple[int, Any, bytes]:
    """Return status, headers and bytes of a request that no client library touched."""
    plain = connection(url)
    try:
        plain.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
        reply = plain.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        plain.close()


def content(said: Said) -> Any:
    """Return the content of the answer to a plain request, as it is on the wire."""
    with ScriptedServer([said]) as server:
        status, _, body = post(server.url, HELLO)
    assert status == 200
    return json.loads(body)["choices"][0]["message"]["content"]


def asked(url: str, *, timeout: float = 30.0, **more: Any) -> Any:
    """Return what the openai client makes of the answer, without retries of its own."""
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0, timeout=timeout) as client:
        return client.chat.completions.create(**(HELLO | more))


def told(said: Said, **more: Any) -> Any:
    with ScriptedServer([said]) as server:
        return asked(server.url, **more)


def test_a_good_reply_has_all_that_a_client_reads() -> None:
    with ScriptedServer([says(ANSWER, tokens_in=7, tokens_out=3, cost=0.25)]) as server:
        status, headers, body = post(server.url, HELLO)
    reply = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": '{"answer": 1}', "refusal": None},
            "finish_reason": "stop",
        }
    ]
    assert reply["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "cost": 0.25,
    }
    assert (reply["id"], reply["model"]) == ("chatcmpl-1", "m")


def test_a_script_answers_by_what_is_asked_and_requests_are_kept() -> None:
    def script(body: dict[str, Any]) -> Said:
        return "to hello" if body["messages"][0]["content"] == "hello" else ANSWER

    with ScriptedServer(script) as server:
        first = asked(server.url)
        second = asked(server.url, messages=[{"role": "user", "content": "other"}])
    assert first.choices[0].message.content == "to hello"
    assert second.choices[0].message.content == '{"answer": 1}'
    assert [request.path for request in server.requests] == ["/v1/chat/completions"] * 2
    assert server.requests[0].headers["authorization"] == "Bearer k"
    assert server.requests[0].body == HELLO
    assert [chat["messages"][0]["content"] for chat in server.chats] == ["hello", "other"]


def test_models_are_listed_and_a_connection_serves_several_requests() -> None:
    with ScriptedServer(["a", "b"], models=("one", "two")) as server:
        with openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["one", "two"]
            replies = [client.chat.completions.create(**HELLO) for _ in range(2)]
    assert [reply.choices[0].message.content for reply in replies] == ["a", "b"]


def test_a_stream_comes_only_if_asked() -> None:
    words = "a stream of more than sixteen characters"
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    with (
        ScriptedServer([words]) as server,
        openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as client,
    ):
        chunks: list[Any] = list(client.chat.completions.create(**(HELLO | options)))
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(delta or "" for delta in deltas) == words
    assert len(deltas) > 3
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 15


@pytest.mark.parametrize("kind", ["json_schema", "json_object", "text"])
def test_a_response_format_that_is_not_accepted_is_refused(kind: str) -> None:
    wanted = {"type": kind, "json_schema": {"name": "reply", "schema": {"type": "object"}}}
    with ScriptedServer(["never"], accepts={"json_schema", "json_object", "text"} - {kind}) as s:
        with pytest.raises(openai.BadRequestError, match=f"'response_format' of type '{kind}'"):
            asked(s.url, response_format=wanted)
    with ScriptedServer(["taken"], accepts={kind}) as s:
        reply = asked(s.url, response_format=wanted)
    assert reply.choices[0].message.content == "taken"


def test_a_key_is_asked_for() -> None:
    with ScriptedServer(["in"], key="secret") as server:
        with pytest.raises(openai.AuthenticationError):
            asked(server.url)
        with openai.OpenAI(base_url=server.url, api_key="secret", max_retries=0) as client:
            assert client.chat.completions.create(**HELLO).choices[0].message.content == "in"


@pytest.mark.parametrize("body", [b"{no json", b"[1]", b"", {"model": "m"}, {"messages": []}])
def test_what_is_no_chat_is_refused(body: Any) -> None:
    with ScriptedServer([]) as server:
        assert post(server.url, body)[0] == 400


def test_an_unknown_path_is_not_found() -> None:
    with ScriptedServer([]) as server:
        assert post(server.url, HELLO, "/v1/responses")[0] == 404
        plain = connection(server.url)
        plain.request("GET", "/v1/engines")
        assert plain.getresponse().status == 404
        plain.close()


def test_a_script_that_ends_too_soon_fails_the_test() -> None:
    def exhaust() -> None:
        with ScriptedServer(["one"]) as server:
            asked(server.url)
            assert post(server.url, HELLO)[0] == 500

    with pytest.raises(AssertionError, match="no answer left for .*hello"):
        exhaust()


def test_a_script_that_raises_fails_the_test() -> None:
    def script(body: dict[str, Any]) -> Said:
        return str(body["none"])

    with pytest.raises(AssertionError, match=r"the script failed: KeyError\('none'\)"):
        with ScriptedServer(script) as server:
            assert post(server.url, HELLO)[0] == 500


def test_the_tests_own_failure_is_not_hidden() -> None:
    def fail() -> None:
        with ScriptedServer([]) as server:
            assert post(server.url, HELLO)[0] == 500
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


REFUSED: list[tuple[Status, int, type[openai.APIStatusError], str | None]] = [
    (rate_limited("7"), 429, openai.RateLimitError, "rate_limit_exceeded"),
    (NO_QUOTA, 429, openai.RateLimitError, "insufficient_quota"),
    (BAD_KEY, 401, openai.AuthenticationError, "invalid_api_key"),
    (NO_MODEL, 404, openai.NotFoundError, "model_not_found"),
    (BROKEN, 500, openai.InternalServerError, None),
    (OVERLOADED, 503, openai.InternalServerError, None),
    (TOO_LONG, 400, openai.BadRequestError, "context_length_exceeded"),
    # llama.cpp writes a number as the code; the client makes it text.
    (EXCEEDS_CONTEXT, 400, openai.BadRequestError, "400"),
    (LOADING, 503, openai.InternalServerError, "503"),
    (Status(502, "<html>Bad gateway</html>"), 502, openai.InternalServerError, None),
]


@pytest.mark.parametrize(("said", "code", "error", "name"), REFUSED)
def test_a_status_is_an_error_of_the_client(
    said: Status, code: int, error: type[openai.APIStatusError], name: str | None
) -> None:
    with pytest.raises(error) as raised:
        told(said)
    assert raised.value.status_code == code
    assert raised.value.code == name


def test_retry_after_is_a_header() -> None:
    with ScriptedServer([rate_limited("7"), rate_limited(None)]) as server:
        first, second = post(server.url, HELLO), post(server.url, HELLO)
    assert (first[0], first[1]["Retry-After"]) == (429, "7")
    assert (second[0], second[1]["Retry-After"]) == (429, None)


def test_a_hang_ends_when_the_client_gives_up_and_when_the_server_closes() -> None:
    with ScriptedServer([Hang(3600)]) as server:
        with pytest.raises(openai.APITimeoutError):
            asked(server.url, timeout=0.2)


def test_a_hang_ends_by_itself_without_an_answer() -> None:
    with ScriptedServer([Hang(0.01)]) as server:
        with pytest.raises(http.client.RemoteDisconnected):
            post(server.url, HELLO)
    with pytest.raises(openai.APIConnectionError):
        told(Hang(0.01))


def test_requests_at_once_are_answered_each_and_asked_of_the_script_one_by_one() -> None:
    inside: list[int] = []

    def script(body: dict[str, Any]) -> Said:
        inside.append(len(inside))
        return str(body["messages"][0]["content"])

    def ask(name: str) -> None:
        said[name] = asked(server.url, messages=[{"role": "user", "content": name}])

    said: dict[str, Any] = {}
    with ScriptedServer(script) as server:
        threads = [threading.Thread(target=ask, args=(f"t{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {name: reply.choices[0].message.content for name, reply in said.items()} == {
        f"t{i}": f"t{i}" for i in range(8)
    }
    assert inside == list(range(8))


def test_dripping_bytes_pass_a_timeout_that_counts_a_read() -> None:
    assert told(Drip(0.002), timeout=1.0).choices[0].message.content == "slow"


def test_dripping_ends_when_the_server_closes() -> None:
    with ScriptedServer([Drip(3600)]) as server:
        plain = connection(server.url)
        plain.request("POST", "/v1/chat/completions", json.dumps(HELLO))
        assert plain.getresponse().status == 200
    plain.close()


def test_a_cut_stream_has_half_of_the_announced_bytes() -> None:
    with ScriptedServer([CutStream()]) as server:
        with pytest.raises(http.client.IncompleteRead) as cut:
            post(server.url, HELLO)
    assert 0 <= (cut.value.expected or 0) - len(cut.value.partial) <= 1
    with pytest.raises(openai.APIConnectionError):
        told(CutStream())


def test_a_truncated_reply_says_so() -> None:
    choice = told(Truncated({"answer": "long enough"})).choices[0]
    assert choice.finish_reason == "length"
    assert text({"answer": "long enough"}).startswith(choice.message.content)
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(choice.message.content)


@pytest.mark.parametrize("said", [Fenced(ANSWER), Think(ANSWER)])
def test_json_is_hidden_between_braces_that_are_none(said: Answer) -> None:
    found = content(said)
    assert '{"answer": 1}' in found
    assert found.index("{") < found.index('{"answer": 1}')
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(found)


def test_a_refusal_and_an_empty_reply_have_no_content() -> None:
    refused, empty = told(Refusal()).choices[0].message, told(NullContent()).choices[0].message
    assert (refused.content, empty.content) == (None, None)
    assert "cannot" in refused.refusal
    assert empty.refusal is None


def test_usage_may_be_missing_or_below_zero() -> None:
    assert told(MissingUsage()).usage is None
    usage = told(NegativeUsage()).usage
    assert (usage.prompt_tokens, usage.total_tokens, usage.cost) == (-10, -15, -1.0)


def test_another_model_may_answer() -> None:
    reply = told(OtherModel(ANSWER))
    assert (reply.model, reply.choices[0].message.content) == ("another-model", '{"answer": 1}')


def test_a_huge_reply_is_huge() -> None:
    assert len(json.loads(content(Huge(mib=10)))["answer"]) == 10 << 20


def test_python_accepts_what_is_no_good_json() -> None:
    assert json.loads(content(NAN))["low"] == float("-inf")
    assert content(DUPLICATE_KEYS) == '{"answer": 1, "answer": 2}'


def test_an_error_with_status_200_is_a_reply_without_choices_to_the_client() -> None:
    reply = told(ErrorIn200())
    assert reply.choices is None
    assert reply.error["code"] == 502


def test_html_with_status_200_is_text_to_the_client() -> None:
    assert told(HTML_200).startswith("<!DOCTYPE html>")


def test_no_json_with_status_200_is_an_error_that_is_none_of_the_client() -> None:
    with pytest.raises(json.JSONDecodeError):
        told(Raw(b'{"id": '))


def test_nothing_is_left_when_the_block_is_left() -> None:
    before, arrived = threading.active_count(), threading.Event()

    def script(body: dict[str, Any]) -> Said:
        arrived.set()
        return Hang(3600)

    with ScriptedServer(script) as server:
        idle, asking = connection(server.url), connection(server.url)
        idle.request("GET", "/v1/models")
        idle.getresponse().read()
        asking.request("POST", "/v1/chat/completions", json.dumps(HELLO))
        assert arrived.wait(30)
    assert threading.active_count() == before
    with pytest.raises(http.client.RemoteDisconnected):
        asking.getresponse()
    idle.close()
    asking.close()
    with pytest.raises(ConnectionRefusedError):
        post(server.url, HELLO)
