"""What a scripted language model answers: good replies, and every fault as bytes on the wire.

A `Reply` is a well-formed chat completion whose content may still be useless to a client. The
other classes are faults; each says what is wrong with it. `wire` turns either into bytes.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

CREATED = 1_700_000_000
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A reply as bytes. `sent` of them are sent, then the connection is closed; None sends all.

    `wait_s` passes before the first byte, `between_s` between two bytes of the body.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})
    sent: int | None = None
    wait_s: float = 0.0
    between_s: float = 0.0
    is_answered: bool = True


class Answer(ABC):
    """What a script may give: it knows its own bytes."""

    @abstractmethod
    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        """Return the bytes that answer a request body, the number-th of this server."""


@dataclass(frozen=True, kw_only=True)
class Reply(Answer):
    """A chat completion. `tokens_in` None leaves the usage out; `model` None is the one asked."""

    content: str | None
    tokens_in: int | None = 10
    tokens_out: int = 5
    cost: float | None = None
    finish_reason: str = "stop"
    refusal: str | None = None
    model: str | None = None

    def usage(self) -> dict[str, Any] | None:
        """Return the usage as an endpoint reports it, or None where it reports none."""
        if self.tokens_in is None:
            return None
        total = self.tokens_in + self.tokens_out
        counts = {"prompt_tokens": self.tokens_in, "completion_tokens": self.tokens_out}
        cost = {} if self.cost is None else {"cost": self.cost}
        return {**counts, "total_tokens": total, **cost}

    def envelope(self, request: Mapping[str, Any], number: int, kind: str) -> dict[str, Any]:
        """Return what a completion and each of its chunks have in common."""
        model = self.model or request.get("model", "")
        return {"id": f"chatcmpl-{number}", "object": kind, "created": CREATED, "model": model}

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        """Return the completion, or its chunks where the request asks for a stream."""
        if request.get("stream"):
            chunks = [f"data: {json.dumps(chunk)}\n\n" for chunk in self.chunks(request, number)]
            body = "".join([*chunks, "data: [DONE]\n\n"]).encode()
            return Wire(body=body, headers={"Content-Type": "text/event-stream"})
        message = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        whole = self.envelope(request, number, "chat.completion") | {"choices": [choice]}
        usage = self.usage()
        return Wire(body=json.dumps(whole if usage is None else whole | {"usage": usage}).encode())

    def chunks(self, request: Mapping[str, Any], number: int) -> Iterator[dict[str, Any]]:
        """Yield the completion in pieces of 16 characters, the usage last and only if asked."""
        envelope = self.envelope(request, number, "chat.completion.chunk")
        text = self.content or ""
        deltas: list[dict[str, Any]] = [{"role": "assistant"}]
        deltas += [{"content": text[i : i + 16]} for i in range(0, len(text), 16)]
        for delta in [*deltas, {}]:
            reason = None if delta else self.finish_reason
            yield envelope | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        if (request.get("stream_options") or {}).get("include_usage"):
            yield envelope | {"choices": [], "usage": self.usage()}


Content = str | dict[str, Any]


def text(content: Content) -> str:
    """Return content as a model would write it: text as it is, an object as JSON."""
    return content if isinstance(content, str) else json.dumps(content)


def says(
    content: Content, *, tokens_in: int = 10, tokens_out: int = 5, cost: float | None = None
) -> Reply:
    """Return a good reply with this text, or with this object as JSON; the cost is in USD."""
    return Reply(content=text(content), tokens_in=tokens_in, tokens_out=tokens_out, cost=cost)


def error(
    message: str, kind: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return the body of an error as OpenAI's API writes it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Fault(Answer, ABC):
    """An answer that a client must survive."""


@dataclass(frozen=True)
class Status(Fault):
    """An HTTP status with a body: a dict as JSON, text as plain text."""

    code: int
    body: Content = field(default_factory=lambda: error("It failed.", "server_error"))
    headers: Mapping[str, str] = field(default_factory=dict)

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        kind = JSON if isinstance(self.body, dict) else "text/plain"
        headers = {"Content-Type": kind, **self.headers}
        return Wire(status=self.code, body=text(self.body).encode(), headers=headers)


def rate_limited(retry_after: str | None = "1") -> Status:
    """Return a 429 that asks to wait: seconds or an HTTP date, None for no Retry-After."""
    body = error("Rate limit reached for requests", "requests", "rate_limit_exceeded")
    return Status(429, body, {} if retry_after is None else {"Retry-After": retry_after})


NO_QUOTA = Status(
    429, error("You exceeded your current quota.", "insufficient_quota", "insufficient_quota")
)
BAD_KEY = Status(
    401, error("Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
)
NO_MODEL = Status(
    404, error("The model does not exist.", "invalid_request_error", "model_not_found")
)
BROKEN = Status(500, error("The server had an error.", "server_error"))
OVERLOADED = Status(503, error("The engine is overloaded.", "service_unavailable_error"))
TOO_LONG = Status(
    400,
    error(
        "This model's maximum context length is 4096 tokens.",
        "invalid_request_error",
        "context_length_exceeded",
        param="messages",
    ),
)
# What llama.cpp's server says instead, and while it loads.
EXCEEDS_CONTEXT = Status(
    400,
    {
        "error": {
            "code": 400,
            "message": "request (6027 tokens) exceeds the available context size (4096 tokens), "
            "try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 6027,
            "n_ctx": 4096,
        }
    },
)
LOADING = Status(
    503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
)


def unsupported_format(kind: str) -> Status:
    """Return the 400 of an endpoint that does not take this type of response_format."""
    message = f"Invalid parameter: 'response_format' of type '{kind}' is not supported."
    return Status(400, error(message, "invalid_request_error", param="response_format"))


@dataclass(frozen=True)
class Raw(Fault):
    """Any bytes with status 200."""

    body: bytes
    content_type: str = JSON

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        return Wire(body=self.body, headers={"Content-Type": self.content_type})


@dataclass(frozen=True)
class ErrorIn200(Fault):
    """An error object with status 200, as gateways send it when the model behind them fails."""

    message: str = "Provider returned error"
    code: int = 502

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        body = {"error": {"message": self.message, "code": self.code}}
        return Wire(body=json.dumps(body).encode())


HTML_200 = Raw(b"<!DOCTYPE html><html><body>Sign in to go on</body></html>", "text/html")


@dataclass(frozen=True)
class Hang(Fault):
    """No byte for this long, then the connection is closed; the server's end ends it earlier."""

    seconds: float = 60.0

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        return Wire(wait_s=self.seconds, is_answered=False)


@dataclass(frozen=True)
class Drip(Fault):
    """A good reply, `seconds` between two bytes of its body."""

    seconds: float
    content: Content = "slow"

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        return replace(says(self.content).wire(request, number), between_s=self.seconds)


@dataclass(frozen=True)
class CutStream(Fault):
    """A good reply of which half the announced bytes come, then the connection is closed."""

    content: Content = "never read to its end"

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        whole = says(self.content).wire(request, number)
        return replace(whole, sent=len(whole.body) // 2)


@dataclass(frozen=True)
class Odd(Fault, ABC):
    """A well-formed completion around this content, odd in the way its class says."""

    content: Content = field(default_factory=lambda: {"answer": 1})

    @abstractmethod
    def reply(self) -> Reply:
        """Return the odd completion."""

    def wire(self, request: Mapping[str, Any], number: int) -> Wire:
        return self.reply().wire(request, number)


class Truncated(Odd):
    """The first half of the text, with finish_reason length."""

    def reply(self) -> Reply:
        whole = text(self.content)
        return Reply(content=whole[: len(whole) // 2], finish_reason="length")


class Fenced(Odd):
    """JSON in a Markdown fence, prose before and after it."""

    def reply(self) -> Reply:
        return says(f"Here it is {{as asked}}:\n```json\n{text(self.content)}\n```\nAnything else?")


class Think(Odd):
    """A block of reasoning with braces in it, then the JSON."""

    def reply(self) -> Reply:
        return says(f'<think>\nMaybe {{"answer": 0}}? No, {{x}}.\n</think>\n\n{text(self.content)}')


class Refusal(Odd):
    """The refusal field set and no content."""

    def reply(self) -> Reply:
        return Reply(content=None, refusal="I cannot help with that.")


class NullContent(Odd):
    """No content and no reason for it."""

    def reply(self) -> Reply:
        return Reply(content=None)


class OtherModel(Odd):
    """Another model answers than the one asked."""

    def reply(self) -> Reply:
        return replace(says(self.content), model="another-model")


class NegativeUsage(Odd):
    """Token counts below zero, and a cost below zero."""

    def reply(self) -> Reply:
        return says(self.content, tokens_in=-10, tokens_out=-5, cost=-1.0)


class MissingUsage(Odd):
    """No usage at all."""

    def reply(self) -> Reply:
        return replace(says(self.content), tokens_in=None)


@dataclass(frozen=True)
class Huge(Odd):
    """A string of this many MiB as the value of the one key `answer`."""

    mib: int = 10

    def reply(self) -> Reply:
        return says({"answer": "x" * (self.mib << 20)})


# Contents that Python's own reader of JSON accepts and a client should not.
NAN = says('{"answer": NaN, "low": -Infinity}')
DUPLICATE_KEYS = says('{"answer": 1, "answer": 2}')
