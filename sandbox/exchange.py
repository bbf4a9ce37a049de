"""One HTTP exchange as it passes the relay: what is read of it, and what is refused. Pure.

The request comes from the sandbox and is hostile, the reply from the user's endpoint. A
connection carries one request, so that nothing can hide behind its end.
Covered: methods and paths outside a fixed list, other hosts, traversal, bodies without a stated
length, headers that carry credentials or name a way, an endpoint that repeats the key.
Not covered: what a body says; the key in another form than its own bytes.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from memory.errors import ConfigError

PREFIX = "/v1/"
ALLOWED = frozenset(
    {
        *(("POST", "chat/completions"), ("POST", "responses"), ("POST", "messages")),
        *(("POST", "embeddings"), ("GET", "models")),
    }
)
PASSED_ON = (
    *("accept", "content-type", "user-agent", "openai-beta"),
    *("anthropic-version", "anthropic-beta"),
)
"""Headers of a request that reach the endpoint; all others are dropped."""
RETURNED = ("content-type", "retry-after")
HEADERS = 100
BUFFERED_BYTES = 4 << 20
MASK = b"***"
END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) ([!-~]{1,2048}) HTTP/1\.([01])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*([\t -~]*)")
_QUERY = re.compile(r"[A-Za-z0-9_.=&-]{0,256}")
_NAMES = {
    "tokens_in": ("prompt_tokens", "input_tokens"),
    "tokens_out": ("completion_tokens", "output_tokens"),
}


def checked_url(url: str) -> str:
    """Return a base URL without a slash at its end.

    Raises:
        ConfigError: it is not https, nor http on this machine's loopback, or it carries a user,
            a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"endpoint {url!r} is no URL: {error}") from error
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not host or not is_safe or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"endpoint {parts.scheme}://{host}{parts.path} cannot be relayed; allowed: https, or "
            "http on 127.0.0.1, without a user, a query or a fragment"
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return True for localhost and loopback addresses."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Refused(Exception):
    """An exchange that the relay does not carry out; `status` is what the agent is told."""

    def __init__(self, status: int, text: str) -> None:
        """Name the status and say why."""
        super().__init__(text)
        self.status, self.text = status, text


class Request(NamedTuple):
    """A request that may pass: `path` is below the base, `length` the bytes of its body."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int
    is_old: bool
    """HTTP/1.0: it understands no chunks."""
    awaits_word: bool
    """It sends its body once it is told to (100-continue)."""


class Tokens(NamedTuple):
    """What an endpoint says that a request took; None where it does not say."""

    tokens_in: int | None
    tokens_out: int | None


def parse(head: bytes, *, most: int) -> Request:
    """Return the request that a head describes.

    Args:
        head: all bytes up to the empty line.
        most: largest body in bytes.

    Raises:
        Refused: 400 malformed, 403 a method, host or path that is not allowed, 411 a body
            without a length, 413 a body that is too large.
    """
    first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise Refused(400, "this is no HTTP/1 request")
    headers = parse_headers(rest)
    method, target, minor = line.groups()
    path, _, query = target.partition("?")
    name = path.removeprefix(PREFIX) if path.startswith(PREFIX) else ""
    if (method, name) not in ALLOWED or not _QUERY.fullmatch(query):
        known = ", ".join(sorted(f"{m} {PREFIX}{p}" for m, p in ALLOWED))
        raise Refused(403, f"{method} {target[:100]} is not allowed; allowed: {known}")
    length = body_length(headers, method=method, most=most)
    passed = {name: headers[name] for name in PASSED_ON if name in headers}
    awaits_word = headers.get("expect", "").lower() == "100-continue"
    return Request(method, name, query, passed, length, minor == "0", awaits_word)


def parse_headers(lines: list[str]) -> dict[str, str]:
    """Return headers by lower-case name.

    Raises:
        Refused: 400 malformed, too many, or a second length.
    """
    found: dict[str, str] = {}
    for text in lines:
        header = _HEADER.fullmatch(text)
        if header is None or len(lines) > HEADERS:
            raise Refused(400, "a header is malformed, or there are too many")
        name = header[1].lower()
        if name == "content-length" and name in found:
            raise Refused(400, "the length of the body is given twice")
        found[name] = header[2].strip()
    return found


def body_length(headers: Mapping[str, str], *, method: str, most: int) -> int:
    """Return the bytes of a request's body.

    Raises:
        Refused: see `parse`.
    """
    if "transfer-encoding" in headers:
        raise Refused(411, "a body needs a Content-Length; chunks are not passed on")
    text = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,18}", text) or (method == "GET" and int(text)):
        raise Refused(400, f"Content-Length {text[:40]!r} is not possible here")
    if int(text) > most:
        raise Refused(413, f"the request has {text} bytes; allowed are {most}")
    return int(text)


def head_of_reply(status: int, headers: Mapping[str, str], *, in_chunks: bool) -> bytes:
    """Return the head of a reply; its body ends with the connection, or with the last chunk."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Transfer-Encoding: chunked"] if in_chunks else []
    return "\r\n".join(lines).encode("latin-1", "replace") + END


def refusal(status: int, text: str) -> bytes:
    """Return a whole reply that refuses, in the form of an endpoint's own errors."""
    body = json.dumps({"error": {"message": text, "type": "relay", "code": status}}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return head_of_reply(status, headers, in_chunks=False) + body


def chunk(data: bytes, *, in_chunks: bool) -> bytes:
    """Return data as one chunk, or as they are."""
    return b"%x\r\n%b\r\n" % (len(data), data) if in_chunks else data


class Mask:
    """Replaces a secret in a stream of bytes, also where it is cut in two."""

    def __init__(self, secret: str) -> None:
        """Take the secret; an empty one is nowhere."""
        self.secret, self.kept = secret.encode(), b""

    def text(self, value: str) -> str:
        """Return one value without the secret."""
        secret = self.secret.decode()
        return value.replace(secret, MASK.decode()) if secret else value

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on now; what may begin the secret is kept back."""
        if not self.secret:
            return data
        data = (self.kept + data).replace(self.secret, MASK)
        longest = min(len(data), len(self.secret) - 1)
        begun = (n for n in range(longest, 0, -1) if data.endswith(self.secret[:n]))
        cut = len(data) - next(begun, 0)
        self.kept = data[cut:]
        return data[:cut]

    def rest(self) -> bytes:
        """Return what was kept back, at the end of the stream."""
        kept, self.kept = self.kept, b""
        return kept


class TokenReader:
    """Reads the tokens out of a reply while it passes: JSON, or server-sent events."""

    def __init__(self, content_type: str) -> None:
        """Take the reply's content type; of any other than those two nothing is read."""
        kind = content_type.partition(";")[0].strip().lower()
        self.is_json, self.is_stream = kind == "application/json", kind == "text/event-stream"
        self.buffer = b""
        self.found: dict[str, int] = {}

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body; a document or line beyond 4 MiB is not read."""
        if not (self.is_json or self.is_stream):
            return
        self.buffer += data
        if self.is_stream:
            *lines, self.buffer = self.buffer.split(b"\n")
            for line in lines:
                self.read_line(line)
        if len(self.buffer) > BUFFERED_BYTES:
            self.buffer, self.is_json, self.is_stream = b"", False, False

    def read_line(self, line: bytes) -> None:
        """Take the figures out of one line of a stream."""
        if line.startswith(b"data:") and b'"usage"' in line:
            self.read(line.removeprefix(b"data:"))

    def read(self, text: bytes) -> None:
        """Take the figures out of one JSON document; a later figure replaces an earlier one."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
        outer = value if isinstance(value, dict) else {}
        for holder in (outer, outer.get("message"), outer.get("response")):
            usage = holder.get("usage") if isinstance(holder, dict) else None
            self.found |= figures(usage) if isinstance(usage, dict) else {}

    def tokens(self) -> Tokens | None:
        """Return what was found, at the end of the reply; None where nothing was."""
        if self.is_json:
            self.read(self.buffer)
        elif self.is_stream:
            self.read_line(self.buffer)
        if not self.found:
            return None
        return Tokens(self.found.get("tokens_in"), self.found.get("tokens_out"))


def figures(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of a usage object by our names; what is no count is left out."""
    found = {}
    for ours, theirs in _NAMES.items():
        for name in theirs:
            value = usage.get(name)
            if type(value) is int and 0 <= value < 1 << 53:
                found[ours] = value
    return found
