"""An endpoint of the tests on this machine's loopback: it records what it is asked."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

REPLY = {"model": "m", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


class Asked(NamedTuple):
    method: str
    path: str
    headers: Message
    body: bytes


class Endpoint:
    """What was asked, and how to answer: `answer(handler)` writes the whole reply."""

    def __init__(self, port: int) -> None:
        self.port, self.asked = port, list[Asked]()
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda h: say(h, 200, REPLY)
        self.is_over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/base"


def say(
    handler: BaseHTTPRequestHandler,
    status: int,
    value: object,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with one JSON document."""
    body = json.dumps(value).encode()
    handler.send_response(status)
    for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
        handler.send_header(name, text)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Run an endpoint while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.asked.append(Asked(self.command, self.path, self.headers, body))
            found.answer(self)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                pass  # the relay was ended while it was answered

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Endpoint(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found
        finally:
            found.is_over.set()
            server.shutdown()
            thread.join()
