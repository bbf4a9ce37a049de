"""The relay passes on what it may, adds the key outside, and refuses everything else."""

import contextlib
import http.client
import json
import socket
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import ConfigError
from sandbox.exchange import Mask, Refused, TokenReader, Tokens, checked_url, figures, parse
from sandbox.relay import Bounds, Relay
from tests.endpoints import REPLY, Endpoint, endpoint, say

KEY = "sk-planted-0123456789"
CHAT = "/v1/chat/completions"
ASK = b'{"model": "m", "messages": []}'


class Told(NamedTuple):
    status: int
    bytes_in: int
    bytes_out: int
    tokens: Tokens | None


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def error(self) -> str:
        return str(json.loads(self.body)["error"]["message"])


class OverSocket(http.client.HTTPConnection):
    """An HTTP client over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("sandbox", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


@pytest.fixture
def there() -> Iterator[Endpoint]:
    with endpoint() as found:
        yield found


@pytest.fixture
def told() -> list[Told]:
    return []


def relay(there: Endpoint, told: list[Told], **changes: Any) -> Relay:
    bounds = changes.pop("bounds", None)
    tell = changes.pop("on_request", lambda *args: told.append(Told(*args)))
    return Relay(there.url, key=KEY, on_request=tell, bounds=bounds, **changes)


def ask(
    it: Relay,
    path: str = CHAT,
    *,
    method: str = "POST",
    body: bytes | None = ASK,
    headers: dict[str, str] | None = None,
) -> Answer:
    line = OverSocket(it.socket)
    try:
        line.request(method, path, body=body, headers=headers or {})
        with line.getresponse() as reply:
            return Answer(reply.status, dict(reply.getheaders()), reply.read())
    finally:
        line.close()


def raw(it: Relay, data: bytes) -> bytes:
    """Send bytes as they are; return all that comes back."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(str(it.socket))
        line.sendall(data)
        got = b""
        while piece := line.recv(1 << 16):
            got += piece
        return got


def test_a_request_reaches_the_endpoint_with_the_key(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told) as it:
        answer = ask(it)
    assert (answer.status, json.loads(answer.body)) == (200, REPLY)
    (asked,) = there.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/base/chat/completions", ASK)
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert told == [Told(200, len(ASK), len(answer.body), Tokens(7, 2))]


def test_models_may_be_listed_and_a_query_stays(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told) as it:
        assert ask(it, "/v1/models", method="GET", body=None).status == 200
        assert ask(it, "/v1/messages?beta=true").status == 200
    assert [a.path for a in there.asked] == ["/base/models", "/base/messages?beta=true"]


def test_another_header_takes_the_bare_key(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told, key_header="x-api-key") as it:
        ask(it)
    assert there.asked[0].headers["x-api-key"] == KEY
    assert "Authorization" not in there.asked[0].headers


def test_credentials_cookies_and_names_of_a_way_are_dropped(
    there: Endpoint, told: list[Told]
) -> None:
    there.answer = lambda h: say(h, 200, REPLY, {"Set-Cookie": "a=1", "Server-Name": "x"})
    sent = {
        **{"Authorization": "Bearer mine", "Cookie": "c=1", "X-Api-Key": "mine"},
        **{"Proxy-Authorization": "p", "X-Forwarded-For": "1.2.3.4", "Upgrade": "h2c"},
        **{"Host": "elsewhere.example", "Content-Type": "application/json"},
    }
    with relay(there, told) as it:
        ask(it, headers=sent)
        answer = ask(it)
    for asked in there.asked:
        names = {name.lower() for name in asked.headers}
        assert not names & {"cookie", "x-api-key", "proxy-authorization", "x-forwarded-for"}
        assert asked.headers["Authorization"] == f"Bearer {KEY}"
        assert asked.headers["Host"] == f"127.0.0.1:{there.port}"
    assert there.asked[0].headers["Content-Type"] == "application/json"
    assert not {"Set-Cookie", "Server-Name"} & set(answer.headers)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/files", "/v1/models/m", "/", "/v1/", "/chat/completions", "//v1/models"),
        *("/v1/../v1/chat/completions", "/v1/chat/../models", "/v1/%2e%2e/admin"),
        *("/v1/chat%2fcompletions", "http://elsewhere.example/v1/chat/completions"),
        *("/v1/chat/completions?to=http://elsewhere", "/v1/chat/completions#x"),
    ],
)
def test_other_paths_are_refused(there: Endpoint, told: list[Told], path: str) -> None:
    with relay(there, told) as it:
        assert ask(it, path).status == 403
    assert not there.asked
    assert told == [Told(403, 0, 0, None)]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "CONNECT", "OPTIONS", "HEAD"])
def test_other_methods_are_refused(there: Endpoint, told: list[Told], method: str) -> None:
    with relay(there, told) as it:
        assert ask(it, method=method, body=None).status == 403
    assert not there.asked


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x00\r\n\r\n", 400),
        (b"POST /v1/responses HTTP/2\r\n\r\n", 400),
        (b"POST /v1/responses HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"POST /v1/responses HTTP/1.1\r\nA: b\nAuthorization: c\r\n\r\n", 400),
        (b"POST /v1/responses HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 400),
        (b"POST /v1/responses HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"POST /v1/responses HTTP/1.1\r\n" + b"Content-Length: 1\r\n" * 2 + b"\r\nx", 400),
        (b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /v1/responses HTTP/1.1\r\na: " + b"x" * (1 << 17) + b"\r\n\r\n", 413),
        (b"POST /v1/responses HTTP/1.1\r\nContent-Length: 4194305\r\n\r\n", 413),
    ],
)
def test_malformed_requests_are_refused(
    there: Endpoint, told: list[Told], data: bytes, status: int
) -> None:
    with relay(there, told) as it:
        assert raw(it, data).startswith(f"HTTP/1.1 {status} ".encode())
    assert not there.asked


def test_a_large_body_is_refused_and_the_agent_hears_it(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told, bounds=Bounds(request_bytes=100)) as it:
        answer = ask(it, body=b"x" * 200_000)
    assert answer.status == 413
    assert "allowed are 100" in answer.error()


def test_the_second_request_of_one_connection_is_not_read(
    there: Endpoint, told: list[Told]
) -> None:
    one = b"POST /v1/responses HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    with relay(there, told) as it:
        assert raw(it, one + one).count(b"HTTP/1.1 200") == 1
    assert len(there.asked) == 1


def test_a_body_that_awaits_a_word_gets_it(there: Endpoint, told: list[Told]) -> None:
    head = b"POST /v1/responses HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with relay(there, told) as it:
        got = raw(it, head + b"{}")
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_an_old_client_gets_no_chunks(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told) as it:
        got = raw(it, b"GET /v1/models HTTP/1.0\r\n\r\n")
    head, body = got.split(b"\r\n\r\n", 1)
    assert b"chunked" not in head
    assert json.loads(body) == REPLY


def test_requests_are_bounded(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told, bounds=Bounds(requests=2)) as it:
        assert [ask(it, path).status for path in (CHAT, "/v1/no", CHAT, CHAT)] == [
            *(200, 403, 429, 429)
        ]
    assert [one.status for one in told] == [200, 403]
    assert len(there.asked) == 1


def test_time_is_bounded(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told, bounds=Bounds(seconds=0)) as it:
        answer = ask(it)
    assert (answer.status, answer.error()) == (429, "the time for requests to the endpoint is over")
    assert not there.asked


def test_time_that_ends_while_the_endpoint_thinks(there: Endpoint, told: list[Told]) -> None:
    def think(handler: BaseHTTPRequestHandler) -> None:
        there.is_over.wait()

    there.answer = think
    with relay(there, told, bounds=Bounds(seconds=0.3)) as it:
        assert ask(it).status == 429
    assert [one.status for one in told] == [429]


def test_connections_are_bounded(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told, bounds=Bounds(at_once=1)) as it:
        with socket.socket(socket.AF_UNIX) as idle:
            idle.connect(str(it.socket))
            answer = ask(it)
            assert (answer.status, answer.error()) == (429, "too many connections at once")
    assert not there.asked


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(there: Endpoint, told: list[Told], status: int) -> None:
    there.answer = lambda h: say(h, status, {}, {"Location": f"{there.url}/elsewhere"})
    with relay(there, told) as it:
        answer = ask(it)
    assert answer.status == 502
    assert "redirects" in answer.error()
    assert "Location" not in answer.headers
    assert len(there.asked) == 1


def test_errors_of_the_endpoint_are_passed_on(there: Endpoint, told: list[Told]) -> None:
    there.answer = lambda h: say(h, 429, {"error": "slow"}, {"Retry-After": "7"})
    with relay(there, told) as it:
        answer = ask(it)
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert json.loads(answer.body) == {"error": "slow"}
    assert told[0].status == 429


def test_a_dead_endpoint_is_told_without_the_key(told: list[Told]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = Endpoint(server.getsockname()[1])
    with relay(gone, told) as it:
        answer = ask(it)
    assert (answer.status, answer.error()) == (502, "the endpoint did not answer: ConnectError")
    assert KEY.encode() not in answer.body
    assert told == [Told(502, len(ASK), 0, None)]


def test_a_stream_passes_as_it_comes(there: Endpoint, told: list[Told]) -> None:
    go_on = threading.Event()

    def stream(handler: BaseHTTPRequestHandler) -> None:
        start(handler, "text/event-stream")
        piece(handler, b'data: {"choices": [1]}\n\n')
        assert go_on.wait(30)  # the first event is there before the second is made
        piece(handler, b'data: {"usage": {"prompt_tokens": 5, "completion_tokens": 9}}\n\n')
        piece(handler, b"data: [DONE]\n\n")
        handler.wfile.write(b"0\r\n\r\n")

    there.answer = stream
    with relay(there, told) as it:
        line = OverSocket(it.socket)
        line.request("POST", CHAT, body=ASK)
        reply = line.getresponse()
        assert reply.readline() == b'data: {"choices": [1]}\n'
        go_on.set()
        assert reply.read().endswith(b"data: [DONE]\n\n")
        assert reply.headers["content-type"] == "text/event-stream"
        line.close()
    assert told[0].tokens == Tokens(5, 9)


def start(handler: BaseHTTPRequestHandler, kind: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


def piece(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
    handler.wfile.flush()


def test_a_reply_without_end_is_cut_and_seen_to_be(there: Endpoint, told: list[Told]) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        start(handler, "application/octet-stream")
        for _ in range(1000):
            piece(handler, b"x" * 10_000)

    there.answer = endless
    with relay(there, told, bounds=Bounds(reply_bytes=100_000)) as it:
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            ask(it)
    assert told[0].status == 502


def test_a_reply_that_says_it_is_large_is_refused(there: Endpoint, told: list[Told]) -> None:
    there.answer = lambda h: say(h, 200, "x" * 1000)
    with relay(there, told, bounds=Bounds(reply_bytes=100)) as it:
        assert ask(it).status == 502


def test_a_compressed_reply_is_refused(there: Endpoint, told: list[Told]) -> None:
    there.answer = lambda h: say(h, 200, REPLY, {"Content-Encoding": "gzip"})
    with relay(there, told) as it:
        assert ask(it).status == 502
    assert there.asked[0].headers["Accept-Encoding"] == "identity"


def test_half_a_reply_is_told(there: Endpoint, told: list[Told]) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        start(handler, "application/json")
        piece(handler, b"{")
        handler.close_connection = True

    there.answer = half
    with relay(there, told) as it, pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(it)
    assert (told[0].status, told[0].tokens) == (502, None)


def test_an_endpoint_that_repeats_the_key_is_masked(there: Endpoint, told: list[Told]) -> None:
    def echo(handler: BaseHTTPRequestHandler) -> None:
        start(handler, f"text/plain; key={KEY}")
        said = handler.headers["Authorization"].encode()
        piece(handler, said[:15])
        piece(handler, said[15:] + b" it was")
        handler.wfile.write(b"0\r\n\r\n")

    there.answer = echo
    with relay(there, told) as it:
        answer = ask(it)
    assert answer.body == b"Bearer *** it was"
    assert KEY not in str(answer.headers)


def test_the_end_tells_what_was_under_way(there: Endpoint, told: list[Told]) -> None:
    arrived = threading.Event()

    def think(handler: BaseHTTPRequestHandler) -> None:
        arrived.set()
        there.is_over.wait()

    there.answer = think
    with relay(there, told) as it:
        line = OverSocket(it.socket)
        line.request("POST", CHAT, body=ASK)
        assert arrived.wait(30)
    line.close()
    assert told == [Told(0, len(ASK), 0, None)]
    assert not it.folder.exists()


def test_only_this_user_may_enter_the_folder(there: Endpoint, told: list[Told]) -> None:
    with relay(there, told) as it:
        assert stat.S_IMODE(it.folder.stat().st_mode) == 0o700
        assert [p.name for p in it.folder.iterdir()] == ["relay.sock"]


def test_an_error_of_the_callback_is_raised_at_the_end(there: Endpoint, told: list[Told]) -> None:
    def tell(*args: object) -> None:
        raise OSError("the store is full")

    with pytest.raises(OSError, match="the store is full"):
        with relay(there, told, on_request=tell) as it:
            ask(it)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/v1", "ftp://127.0.0.1/v1", "example.org", "", "https://"),
        *("https://user:word@example.org/v1", "https://example.org/v1?x=1", "https://a/#b"),
        *("http://127.0.0.1.example.org/v1", "http://[::1/v1", "https://a:b/"),
    ],
)
def test_endpoints_that_may_not_be(url: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be relayed|is no URL"):
        Relay(url)


@pytest.mark.parametrize(
    "url",
    ["https://example.org/v1/", "http://127.0.0.1:8000/v1", "http://localhost", "http://[::1]:1"],
)
def test_endpoints_that_may_be(url: str) -> None:
    assert checked_url(url) == url.rstrip("/")


def test_an_error_does_not_show_a_password() -> None:
    with pytest.raises(ConfigError) as caught:
        Relay("https://user:word@example.org/v1")
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("key", ["a\r\nX: y", "kéy", " padded"])
def test_a_key_that_no_header_may_hold(key: str) -> None:
    with pytest.raises(ConfigError, match="characters that no header may hold") as caught:
        Relay("https://example.org", key=key)
    assert key not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with contextlib.suppress(Refused):
        parse(data, most=10)


@given(st.lists(st.sampled_from([b"ab", b"a", b"abc", b"abab", b"x", b"cab"]), max_size=12))
def test_a_secret_is_masked_wherever_it_is_cut(parts: list[bytes]) -> None:
    mask = Mask("ababc")
    shown = b"".join(mask.feed(part) for part in parts) + mask.rest()
    assert shown == b"".join(parts).replace(b"ababc", b"***")


def test_tokens_of_streams_with_nested_figures() -> None:
    reader = TokenReader("text/event-stream; charset=utf-8")
    first = b'data: {"message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}\n'
    for at in range(0, len(first), 7):
        reader.feed(first[at : at + 7])
    reader.feed(b'data: {"usage": broken}\ndata: {"usage": {"output_tokens": 8}}')
    assert reader.tokens() == Tokens(3, 8)
    reader = TokenReader("text/event-stream")
    reader.feed(b'data: {"response": {"usage": {"input_tokens": 2}}}\n')
    assert reader.tokens() == Tokens(2, None)


def test_figures_that_are_no_counts_are_left_out() -> None:
    usage = {"prompt_tokens": -1, "completion_tokens": True, "input_tokens": "3"}
    assert figures(usage | {"output_tokens": 1 << 60}) == {}
    assert figures({"prompt_tokens": 0, "output_tokens": 4}) == {"tokens_in": 0, "tokens_out": 4}


@pytest.mark.parametrize("body", [b"[1]", b'{"usage": 3}', b"no", b"[" * 100_000, b"\xff"])
def test_replies_without_figures(body: bytes) -> None:
    reader = TokenReader("application/json")
    reader.feed(body)
    assert reader.tokens() is None


def test_what_is_too_long_is_not_kept() -> None:
    reader = TokenReader("application/json")
    reader.feed(b"x" * (5 << 20))
    assert reader.buffer == b""
    assert reader.tokens() is None
