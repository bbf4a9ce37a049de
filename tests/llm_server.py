"""A scripted language model behind a real OpenAI-compatible server on 127.0.0.1."""

import contextlib
import json
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.llm_replies import (
    BAD_KEY,
    Answer,
    Status,
    Wire,
    error,
    says,
    unsupported_format,
)

FORMATS = frozenset({"json_schema", "json_object", "text"})
Said = Answer | str | dict[str, Any]
Script = Callable[[dict[str, Any]], Said] | Iterable[Said]


@dataclass(frozen=True)
class Request:
    """A request as it came: header names in lower case; `body` is None where it is no JSON."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class ScriptedServer:
    """Serves GET /v1/models and POST /v1/chat/completions from a script while it is entered.

    The script is a function of the request's body, or answers in their order, one a chat. Text
    and dicts are good replies. A script that raises or has no answer left is answered with 500,
    and leaving the block raises AssertionError with what happened. Requests without `model` or
    `messages`, with a response_format that is not in `accepts`, or without `key` where one is
    given, are refused before the script is asked. Leaving ends every open connection and thread.
    """

    def __init__(
        self,
        script: Script,
        *,
        models: tuple[str, ...] = ("scripted",),
        accepts: Iterable[str] = FORMATS,
        key: str | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.models = models
        self._accepts = frozenset(accepts)
        self._key = key
        self._ask = script if callable(script) else _in_order(iter(script))
        self._lock = threading.Lock()
        self._problems: list[str] = []
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """The base URL that a client is given."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def chats(self) -> list[dict[str, Any]]:
        """The bodies of the chat requests so far, refused ones included, in order."""
        asked = [request for request in self.requests if request.path.endswith("/completions")]
        return [request.body for request in asked if isinstance(request.body, dict)]

    def __enter__(self) -> Self:
        """Start to serve."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to serve, and raise what went wrong in the script if nothing else was raised."""
        self._http.end()
        self._thread.join()
        if kind is None and self._problems:
            raise AssertionError("; ".join(self._problems))

    def answer(self, request: Request) -> Wire:
        """Record a request and return what is sent back."""
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            said = self._refusal(request) or self._said(request)
        answer = said if isinstance(said, Answer) else says(said)
        return answer.wire(request.body or {}, number)

    def _refusal(self, request: Request) -> Status | None:
        """Return why a request is not passed on to the script, if it is not."""
        if self._key is not None and request.headers.get("authorization") != f"Bearer {self._key}":
            return BAD_KEY
        if request.method == "GET":
            return None
        if request.path != "/v1/chat/completions":
            return Status(404, error(f"No such path: {request.path}", "not_found_error"))
        if not isinstance(request.body, dict) or not {"model", "messages"} <= request.body.keys():
            return Status(400, error("No JSON with model and messages", "invalid_request_error"))
        kind = (request.body.get("response_format") or {}).get("type", "text")
        return None if kind in self._accepts else unsupported_format(kind)

    def _said(self, request: Request) -> Said:
        if request.method == "GET":
            return self._listing(request.path)
        try:
            return self._ask(request.body)
        except Exception as reason:  # noqa: BLE001  a script is any function; its error is kept
            self._problems.append(f"the script failed: {reason!r}")
            return Status(500, error(f"The script failed: {reason!r}", "server_error"))

    def _listing(self, path: str) -> Status:
        if path != "/v1/models":
            return Status(404, error(f"No such path: {path}", "not_found_error"))
        data = [{"id": m, "object": "model", "created": 0, "owned_by": "us"} for m in self.models]
        return Status(200, {"object": "list", "data": data})

    def notice(self, problem: str) -> None:
        """Keep a problem of a handler, to be raised at the end."""
        self._problems.append(problem)


def _in_order(answers: Iterator[Said]) -> Callable[[dict[str, Any]], Said]:
    def ask(body: dict[str, Any]) -> Said:
        said = next(answers, None)
        if said is None:
            raise LookupError(f"no answer left for {str(body['messages'])[:200]}")
        return said

    return ask


class _Http(ThreadingHTTPServer):
    """Threads that are joined, and connections that can be closed from outside."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, script: ScriptedServer) -> None:
        self.script = script
        self.ending = threading.Event()
        self._open: set[Any] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the host's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep the error of a handler; a client that went away is none."""
        reason = sys.exc_info()[1]
        if not isinstance(reason, OSError):
            self.script.notice(f"the server failed: {reason!r}")

    def end(self) -> None:
        """Accept nothing more, wake and cut what is open, and wait for every thread."""
        self.ending.set()
        self.shutdown()
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client may have gone already
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests and writes what the script says."""

    server: _Http
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        sent = self.rfile.read(int(headers.get("content-length", 0)))
        try:
            body = json.loads(sent) if sent else None
        except ValueError:
            body = None
        self._send(self.server.script.answer(Request(self.command, self.path, headers, body)))

    def _send(self, wire: Wire) -> None:
        is_over = bool(wire.wait_s) and self.server.ending.wait(wire.wait_s)
        if is_over or not wire.is_answered:
            self.close_connection = True
            return
        self.send_response(wire.status)
        for name, value in wire.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(wire.body)))
        self.end_headers()
        self._write(wire)

    def _write(self, wire: Wire) -> None:
        body = wire.body[: wire.sent]
        self.close_connection = self.close_connection or wire.sent is not None
        if not wire.between_s:
            self.wfile.write(body)
            return
        for i in range(len(body)):
            if self.server.ending.wait(wire.between_s):
                self.close_connection = True
                return
            self.wfile.write(body[i : i + 1])
