"""The one way from a coding agent in the sandbox to its model: one endpoint, a fixed list of paths.

The relay runs on the host, in a thread of its own, and listens on a unix socket in a folder that
only this user may enter; that folder is mounted into the sandbox, which itself has no network
(`sandbox/child/forward.py` leads there from the sandbox's own loopback). The relay adds the key,
so that the key is in no file, variable or command line of the sandbox.

Covered: other hosts, paths and methods, redirects, credentials and cookies of the agent, the
number of requests and of connections, their size, the total time, replies without end, slow or
silent agents, a reply that repeats the key, see `sandbox/exchange.py`.
Not covered: what the agent tells the endpoint, which the user has chosen and allowed; tokens that
the endpoint takes without saying so.
"""

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from memory.errors import ConfigError, SandboxError
from sandbox import exchange
from sandbox.exchange import Refused, Request, TokenReader, Tokens

if TYPE_CHECKING:
    import httpx2

SOCKET = "relay.sock"
HEAD_BYTES = 1 << 15
AGENT_S = 60.0
LINGER_S = 2.0
CONNECT_S = 30.0
SILENT_S = 600.0
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
TIME_IS_OVER = "the time for requests to the endpoint is over"

OnRequest = Callable[[int, int, int, Tokens | None], None]
"""Told of each request: status, bytes of its body, bytes of the reply, tokens.

The status is the one that the agent was told, 0 where it was ended before. Called by the relay's
thread, one call at a time; an error of it is raised where the relay ends.
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one relay carries; `seconds` count from its start."""

    requests: int = 500
    request_bytes: int = 4 << 20
    reply_bytes: int = 32 << 20
    seconds: float = 3600.0
    at_once: int = 32


def tell_nobody(status: int, bytes_in: int, bytes_out: int, tokens: Tokens | None) -> None:
    """Take what a relay tells, and keep nothing."""


@dataclass(slots=True)
class Passing:
    """One request on its way: what is told of it."""

    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    tokens: TokenReader | None = None
    is_counted: bool = False
    has_begun: bool = False


class Relay:
    """Passes requests on while its block runs; one thread enters and leaves it, once.

    `folder`, known inside the block, holds the socket and nothing else.
    """

    folder: Path

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        key_header: str = "Authorization",
        on_request: OnRequest = tell_nobody,
        bounds: Bounds | None = None,
    ) -> None:
        """Take the endpoint's base URL (such as https://HOST/v1) and its key.

        Args:
            url: where all requests go, see `sandbox.exchange.checked_url`.
            key: empty where the endpoint needs none.
            key_header: Authorization sends the key as a bearer token; any other name, such as
                x-api-key or api-key, sends the key as it is.
            on_request: told of each request that counts.
            bounds: how much is carried.

        Raises:
            ConfigError: the URL is not allowed, or the key cannot stand in a header.
        """
        if not (key.isascii() and key.isprintable()) or key != key.strip():
            raise ConfigError("the key of the endpoint holds characters that no header may hold")
        self.url, self.bounds, self.on_request = (
            exchange.checked_url(url),
            bounds or Bounds(),
            on_request,
        )
        value = f"Bearer {key}" if key_header.lower() == "authorization" else key
        self.key, self.own_headers = key, {key_header: value} if key else {}
        self.asked, self.deadline = 0, 0.0
        self.tasks: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None
        self.listens = threading.Event()

    def __enter__(self) -> Self:
        """Start to listen.

        Raises:
            SandboxError: the socket could not be made.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="segwright-relay-"))
        self.loop = asyncio.new_event_loop()
        self.ends = asyncio.Event()
        self.thread = threading.Thread(target=self.run, name="relay", daemon=True)
        self.thread.start()
        self.listens.wait()
        if self.error is not None:
            self.close()
            raise SandboxError(f"the relay did not start: {self.error}") from self.error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all requests, tell of them, and remove the socket."""
        self.close()
        if error is None and self.error is not None:
            raise self.error

    def close(self) -> None:
        """End the thread; return when it is gone."""
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self.loop.call_soon_threadsafe(self.ends.set)
        self.thread.join()
        shutil.rmtree(self.folder)

    @property
    def socket(self) -> Path:
        """Where the relay listens."""
        return self.folder / SOCKET

    def run(self) -> None:
        """Serve until the end; the thread's own function."""
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self.serve())
        except (OSError, ValueError, ImportError) as error:
            self.error = self.error or error
        finally:
            self.listens.set()

    async def serve(self) -> None:
        """Listen, and end what still runs at the end."""
        self.deadline = self.loop.time() + self.bounds.seconds
        async with self.client() as self.endpoint:
            server = await asyncio.start_unix_server(self.accept, self.socket, limit=HEAD_BYTES)
            self.listens.set()
            await self.ends.wait()
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def client(self) -> "httpx2.AsyncClient":
        """Return the client; the environment's proxy is used for https, never on loopback."""
        import httpx2

        return httpx2.AsyncClient(
            follow_redirects=False,
            trust_env=self.url.startswith("https:"),
            timeout=httpx2.Timeout(SILENT_S, connect=CONNECT_S),
        )

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection, unless there are too many."""
        if len(self.tasks) >= 2 * self.bounds.at_once:
            writer.transport.abort()
            return
        is_one_too_many = len(self.tasks) >= self.bounds.at_once
        serve = self.turn_away if is_one_too_many else self.converse
        task = self.loop.create_task(serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(lambda ended: self.forget(ended, writer))

    def forget(self, task: "asyncio.Task[None]", writer: asyncio.StreamWriter) -> None:
        """Close a connection; keep what went wrong with the callback."""
        writer.transport.abort()
        self.tasks.discard(task)
        if not task.cancelled():
            self.error = self.error or task.exception()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, one reply, and what is told of them."""
        passing = Passing()
        writer.transport.set_write_buffer_limits(high=0)  # what was sent has left this process
        try:
            await self.answer(reader, writer, passing)
            await linger(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the agent is gone, or reads too slowly
        finally:
            if passing.is_counted:
                tokens = passing.tokens.tokens() if passing.tokens else None
                self.on_request(passing.status, passing.bytes_in, passing.bytes_out, tokens)

    async def turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse a connection, so that the agent hears it."""
        with contextlib.suppress(OSError):
            await send(writer, exchange.refusal(429, "too many connections at once"))
            await linger(reader, writer)

    async def answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: Passing
    ) -> None:
        """Pass one request on, or say why not."""
        try:
            try:
                async with asyncio.timeout_at(self.deadline) as total:
                    await self.carry(reader, writer, passing)
            except TimeoutError:
                if not total.expired():
                    raise
                raise Refused(429, TIME_IS_OVER) from None
        except Refused as error:
            passing.status = error.status
            if passing.has_begun:
                raise ConnectionAbortedError from error  # a reply cut short is seen as one
            await send(writer, exchange.refusal(error.status, error.text))

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: Passing
    ) -> None:
        """Read a request, ask the endpoint and pass the reply on as it comes.

        Raises:
            Refused: it may not pass, or the endpoint did not answer as it should.
        """
        head = await read_head(reader)
        self.asked += 1
        if self.asked > self.bounds.requests:
            raise Refused(429, f"all {self.bounds.requests} requests are used")
        passing.is_counted = True
        request = exchange.parse(head, most=self.bounds.request_bytes)
        if request.awaits_word:
            await send(writer, GO_ON)
        async with asyncio.timeout(AGENT_S):
            body = await reader.readexactly(request.length)
        passing.bytes_in = len(body)
        async with self.asked_endpoint(request, body) as reply:
            await self.pass_back(reply, request, writer, passing)

    @contextlib.asynccontextmanager
    async def asked_endpoint(
        self, request: Request, body: bytes
    ) -> "AsyncIterator[httpx2.Response]":
        """Give the endpoint's reply, its body still to come.

        Raises:
            Refused: 502; the endpoint cannot be reached, or redirects.
        """
        import httpx2

        url = f"{self.url}/{request.path}" + (f"?{request.query}" if request.query else "")
        headers = {**request.headers, "accept-encoding": "identity", **self.own_headers}
        try:
            async with self.endpoint.stream(
                request.method,
                url,
                content=body if request.method == "POST" else None,
                headers=headers,
            ) as reply:
                self.endpoint.cookies.clear()
                yield reply
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Refused(502, f"the endpoint did not answer: {type(error).__name__}") from None

    async def pass_back(
        self,
        reply: "httpx2.Response",
        request: Request,
        writer: asyncio.StreamWriter,
        passing: Passing,
    ) -> None:
        """Pass a reply on as it comes, without the key.

        Raises:
            Refused: 502; it is no reply to pass on, or too large.
        """
        check_reply(reply.status_code, reply.headers, most=self.bounds.reply_bytes)
        mask, in_chunks = exchange.Mask(self.key), not request.is_old
        kept = {n: mask.text(reply.headers[n]) for n in exchange.RETURNED if n in reply.headers}
        passing.status = reply.status_code
        passing.tokens = TokenReader(kept.get("content-type", ""))
        passing.has_begun = True
        await send(writer, exchange.head_of_reply(reply.status_code, kept, in_chunks=in_chunks))
        async for data in reply.aiter_raw():
            passing.bytes_out += len(data)
            if passing.bytes_out > self.bounds.reply_bytes:
                raise Refused(502, "the reply is too large")
            passing.tokens.feed(data)
            if shown := mask.feed(data):
                await send(writer, exchange.chunk(shown, in_chunks=in_chunks))
        if rest := mask.rest():
            await send(writer, exchange.chunk(rest, in_chunks=in_chunks))
        if in_chunks:
            await send(writer, exchange.LAST_CHUNK)


def check_reply(status: int, headers: Mapping[str, str], *, most: int) -> None:
    """Refuse a reply that cannot be passed on.

    Raises:
        Refused: 502; a redirect, a compressed body, or one that is too large.
    """
    if 300 <= status < 400:
        raise Refused(502, f"the endpoint redirects ({status}); redirects are not followed")
    if headers.get("content-encoding", "identity") != "identity":
        raise Refused(502, "the endpoint compresses its reply, though it was asked not to")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        raise Refused(502, f"the reply has {length} bytes; allowed are {most}")


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Return the bytes of a request up to the empty line.

    Raises:
        Refused: 413; there are too many.
        OSError: none came for a minute (a TimeoutError).
        asyncio.IncompleteReadError: the agent closed the connection.
    """
    try:
        async with asyncio.timeout(AGENT_S):
            return await reader.readuntil(exchange.END)
    except asyncio.LimitOverrunError:
        raise Refused(413, f"the head of the request has over {HEAD_BYTES} bytes") from None


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write to the agent, and wait until it takes what came before.

    Raises:
        OSError: it is gone, or takes nothing for a minute.
    """
    writer.write(data)
    async with asyncio.timeout(AGENT_S):
        await writer.drain()


async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the agent read the reply to its end: a socket closed on unread bytes drops it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            writer.write_eof()
            while await reader.read(1 << 16):
                pass
