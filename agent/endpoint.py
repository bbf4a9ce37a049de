"""One server that speaks OpenAI's chat completions: one request, tried again where that may help.

Every try has a limit on its whole time, not only on each read: a server that drips bytes holds
nobody. What may help is tried again after a pause that doubles, with jitter, or as long as the
server asks for; after several failures in a row the endpoint is left alone for a while (a circuit
breaker), so that a dead server costs no time. The key goes to the client and nowhere else: it is
taken out of every text that comes back.
"""

import email.utils
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from agent.model_settings import EndpointConfig
from memory.errors import PlannerError
from sandbox.clean import clean_text

FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_WISH_S = 1.0, 60.0, 600.0
BREAK_AFTER, FIRST_BREAK_S, LONGEST_BREAK_S = 5, 30.0, 600.0
AGAIN = frozenset({408, 409, 425, 429})
NEVER = frozenset({401, 402, 403, 404})
NOT_IMPLEMENTED = 501
EXCERPT = 300
STOPPED = "stopped"
OPTIONAL = ("max_tokens", "temperature", "seed")
"""Parameters that a model may refuse; each is named in the refusal, and left out from then on."""
NOT_KNOWN = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|extra_forbidden|not permitted|not allowed"
    r"|cannot find field|deprecated",
    re.IGNORECASE,
)
REPLY_CHARACTERS = 1_000_000
"""No more of a reply is kept; `agent.replies` reads less than that."""
SECRET_CHARACTERS = 8
"""A shorter key is a placeholder (none, EMPTY): taking it out would only spoil texts."""
Message = Mapping[str, str]


class EndpointError(PlannerError):
    """A request failed.

    `kind`: refused (it always will be), unfit (this one), busy, down, or stopped (by the run).
    """

    def __init__(self, kind: str, text: str, *, status: int = 0, wish_s: float = 0.0) -> None:
        """Name the kind and say what was seen; `wish_s` is how long the server asks to wait."""
        super().__init__(text)
        self.kind, self.status, self.wish_s = kind, status, wish_s


class Request(NamedTuple):
    """What is asked for; `response_format` is as the API has it, None for plain text."""

    messages: Sequence[Message]
    model: str
    temperature: float
    max_tokens: int
    seed: int
    response_format: Mapping[str, Any] | None = None


class Answer(NamedTuple):
    """What came back. `text` is None where there was no content.

    `finish` is as the server says: stop, length, content_filter. Tokens are None where the server
    gives none that can be; `usd` is its own price, where it tells one.
    """

    text: str | None
    model: str
    finish: str
    tokens_in: int | None
    tokens_out: int | None
    usd: float | None
    seconds: float
    refusal: str = ""


@dataclass
class Breaker:
    """Leaves an endpoint alone after failures in a row; threads share it under a lock."""

    failures: int = 0
    until: float = 0.0
    pause_s: float = FIRST_BREAK_S

    def closed_in(self, now: float) -> float:
        """Return the seconds until the endpoint may be asked again; 0 for now."""
        return max(0.0, self.until - now)

    def worked(self) -> None:
        """Forget all failures."""
        self.failures, self.until, self.pause_s = 0, 0.0, FIRST_BREAK_S

    def failed(self, now: float) -> None:
        """Count a failure; enough of them open the breaker, each time for twice as long.

        Requests that were on their way when it opened do not open it again.
        """
        self.failures += 1
        if self.failures >= BREAK_AFTER and now >= self.until:
            self.until = now + self.pause_s
            self.pause_s = min(LONGEST_BREAK_S, 2 * self.pause_s)


def doze(seconds: float) -> bool:
    """Wait; False, because nothing asked to stop."""
    time.sleep(seconds)
    return False


class Endpoint:
    """One endpoint of the settings, with its key and its breaker. Threads may share it."""

    def __init__(
        self,
        name: str,
        config: EndpointConfig,
        key: str = "",
        *,
        pause: Callable[[float], bool] = doze,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        """Take the settings; nothing is sent.

        Args:
            name: as in the settings.
            config: its settings.
            key: empty where the server wants none.
            pause: waits some seconds, and says whether the run is to stop.
            clock: seconds, never running back.
            rng: for the jitter of pauses.
        """
        self.name, self.config, self._key = name, config, key.strip()
        self.pause, self.clock, self.rng = pause, clock, rng or Random()
        self.breaker, self._lock = Breaker(), threading.Lock()
        self._without: frozenset[str] = frozenset()
        self._last = ""

    def complete(self, request: Request) -> Answer:
        """Return the answer to a request.

        Raises:
            EndpointError: it failed as often as it may.
        """
        pause_s = FIRST_PAUSE_S
        for left in reversed(range(self.config.attempts)):
            self._check_breaker()
            try:
                answer = self._once(request)
            except EndpointError as error:
                self._count(error)
                if error.kind in ("refused", "unfit") or not left:
                    raise
                wait_s = max(error.wish_s, pause_s * (0.5 + self.rng.random()))
                if wait_s > LONGEST_WISH_S:
                    raise
                if self.pause(wait_s):
                    raise EndpointError(STOPPED, str(error), status=error.status) from error
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                continue
            with self._lock:
                self.breaker.worked()
            return answer
        raise AssertionError("an endpoint has at least one attempt")

    def _check_breaker(self) -> None:
        with self._lock:
            wait_s = self.breaker.closed_in(self.clock())
        if wait_s:
            text = (
                f"endpoint {self.name!r} failed {self.breaker.failures} times in a row and is left "
                f"alone for now; at last: {self._last}"
            )
            raise EndpointError("down", text, wish_s=wait_s)

    def _count(self, error: EndpointError) -> None:
        """Count what speaks against the server; a request that it will not take does not."""
        if error.kind != "unfit":
            with self._lock:
                self.breaker.failed(self.clock())
                self._last = str(error)

    def _once(self, request: Request) -> Answer:
        start = self.clock()
        while True:
            without = self._without
            status, headers, body = self._post(_body(request, without))
            unknown = _unknown(body, without) if status in (400, 422) else None
            if unknown is None:
                break
            with self._lock:
                self._without |= {unknown}
        if status != 200:
            raise self._refused(status, headers, body)
        return self._answer(body, request, self.clock() - start)

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], str]:
        """Send a request once; return status, headers and body.

        Raises:
            EndpointError: no whole reply came within the time.
        """
        from agent import transport  # here, as it brings all of openai

        config = self.config
        try:
            found = transport.post(config.url, self._key, body, config.timeout_s)
        except TimeoutError:
            text = f"endpoint {self.name!r} gave no whole reply in {config.timeout_s:g} s"
            raise EndpointError("busy", text) from None
        except OSError as error:
            said = self._excerpt(str(error))
            text = f"endpoint {self.name!r} at {config.url} cannot be reached ({said})"
            raise EndpointError("down", text) from None
        return found.status, found.headers, self._safe(found.text)

    def _safe(self, text: str) -> str:
        """Return a text without the key."""
        is_secret = len(self._key) >= SECRET_CHARACTERS
        return text.replace(self._key, "[key]") if is_secret else text

    def _excerpt(self, text: str) -> str:
        """Return the beginning of a text on one line, without the key."""
        return " ".join(clean_text(self._safe(text)).split())[:EXCERPT]

    def _refused(self, status: int, headers: Mapping[str, str], body: str) -> EndpointError:
        """Return the error of a status."""
        text = f"endpoint {self.name!r} answered {status}: {self._excerpt(_message(body))}"
        if status in NEVER or 300 <= status < 400 or "insufficient_quota" in body:
            return EndpointError("refused", text, status=status)
        if status in AGAIN or (status >= 500 and status != NOT_IMPLEMENTED):
            return EndpointError("busy", text, status=status, wish_s=wished(headers))
        return EndpointError("unfit", text, status=status)

    def _answer(self, body: str, request: Request, seconds: float) -> Answer:
        """Return the answer that a body holds.

        Raises:
            EndpointError: it is no chat completion, or tells of an error.
        """
        try:
            said = json.loads(body)
            choices = said.get("choices")
            choice = choices[0] if choices else {}
            if problem := choice.get("error") or (not choices and said.get("error")):
                raise self._refused_inside(problem)
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            problem = f"endpoint {self.name!r} sent no chat completion: {self._excerpt(body)}"
            raise EndpointError("busy", problem) from None
        usage = said.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return Answer(
            text=self._kept(text) if isinstance(text, str) else None,
            model=self._excerpt(str(said.get("model") or request.model))[:200],
            finish=_finish(choice.get("finish_reason")),
            tokens_in=_count(usage.get("prompt_tokens")),
            tokens_out=_count(usage.get("completion_tokens")),
            usd=_dollars(usage.get("cost")),
            seconds=max(0.0, seconds),
            refusal=self._excerpt(refusal) if isinstance(refusal, str) else "",
        )

    def _kept(self, text: str) -> str:
        """Return a reply's text as a store can hold it: no half characters, bounded, no key."""
        return self._safe(text[:REPLY_CHARACTERS].encode("utf-8", "replace").decode())

    def _refused_inside(self, error: Any) -> EndpointError:
        """Return the error that a reply of status 200 tells of."""
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        return self._refused(status, {}, json.dumps(error))


def _body(request: Request, without: frozenset[str]) -> dict[str, Any]:
    """Return a request as it is sent; newer models take their limit under another name."""
    form = {"response_format": dict(request.response_format)} if request.response_format else {}
    newer = "max_tokens" in without
    body = {
        "model": request.model,
        "messages": [dict(message) for message in request.messages],
        "temperature": request.temperature,
        "max_completion_tokens" if newer else "max_tokens": request.max_tokens,
        "seed": request.seed,
        **form,
    }
    return {name: value for name, value in body.items() if name not in without}


def _unknown(body: str, without: frozenset[str]) -> str | None:
    """Return a parameter that a refusal names as unknown and that a model may do without."""
    if not NOT_KNOWN.search(body):
        return None
    return next((p for p in OPTIONAL if p not in without and _is_named(p, body)), None)


def _is_named(name: str, body: str) -> bool:
    """Tell whether a refusal names a parameter: in quotes, or after what it is."""
    quote = "[\"'`]"
    named = rf"{quote}{name}\\?{quote}|(?:argument|parameter|supplied|field)s?:? {name}\b"
    return re.search(named, body) is not None


def _message(body: str) -> str:
    """Return what an error's body says, decoded; the body itself where it is no known form."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        return body
    error = error.get("error", error) if isinstance(error, dict) else error
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else body


def _finish(value: Any) -> str:
    """Return why a reply ended, in OpenAI's words."""
    text = str(value or "")[:40].lower()
    return "length" if text in ("max_tokens", "model_length") else text


def wished(headers: Mapping[str, str]) -> float:
    """Return the seconds that a server asks to wait; 0 where it says nothing that can be read.

    Args:
        headers: names in lower case; Retry-After holds seconds, or a date that is counted from the
            server's own Date where it tells one.
    """
    text = headers.get("retry-after", "0")
    try:
        return max(0.0, float(text))
    except ValueError:
        until, now = _moment(text), _moment(headers.get("date", ""))
    if until is None:
        return 0.0
    return max(0.0, until - (time.time() if now is None else now))


def _moment(text: str) -> float | None:
    """Return the seconds since the epoch of an HTTP date; None for what is none."""
    try:
        parts = email.utils.parsedate_tz(text)
        return None if parts is None else float(email.utils.mktime_tz(parts))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _count(value: Any) -> int | None:
    """Return a number of tokens; None for what is none."""
    is_one = isinstance(value, int) and not isinstance(value, bool)
    return value if is_one and 0 <= value < 10**12 else None


def _dollars(value: Any) -> float | None:
    """Return a price; None for what is none."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_one and 0 <= value < 1e6 else None
