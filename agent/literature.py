"""Search of published papers: kept in the store, rate-limited, bounded, and never in the way.

The sources (agent/literature_sources.py) are asked side by side. One that fails, is slow, or
answers rubbish, too much or "too many requests" is left out, and the result says so; nothing of
it is raised. Nothing goes out unless the campaign's settings allow it.

What leaves this machine: the words of the query (method and anatomy; letters, digits and
hyphens alone), the name and version of this program, an e-mail address and a key if the user
gave them. The caller never puts names of cases or patients into a query.

Not covered: a source that lies. A paper found here exists as far as the source says.
"""

import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import version
from math import inf
from typing import TYPE_CHECKING

from agent.literature_sources import SOURCES, Ask, ReplyError, Source, plain_query
from agent.papers import Paper, matches, merged, paper_of
from memory.errors import ConfigError
from memory.records import Figures, digest, plain
from memory.store import Store

if TYPE_CHECKING:
    import ssl

    import httpx2

__all__ = ["PACE", "SOURCES", "Found", "Literature", "Pace", "Paper", "matches"]

MOST_BYTES = 2 * 1024 * 1024  # of one reply
REDIRECTS = 3
HOLD_S = 60.0  # after a refusal that does not say how long
LONGEST_HOLD_S = 86400.0
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,120}")


class _LeftOutError(Exception):
    """Why a source gives nothing to this search; never leaves this module."""


class Pace:
    """When a source may be asked again. One object for a process, shared by its threads.

    One request at a time goes to a source; the next starts no sooner than its gap after the
    end of the last, or after the time that the source asked to be left alone.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take a clock that never goes back, and what waits, both in seconds."""
        self.clock = clock
        self._sleep = sleep
        self._turns: dict[str, threading.Lock] = {}
        self._free_at: dict[str, float] = {}

    @contextmanager
    def turn(self, source: Source, *, until: float) -> Iterator[None]:
        """Wait for this source's turn and hold it for the block; give up at `until`."""
        lock = self._turns.setdefault(source.name, threading.Lock())
        if not lock.acquire(timeout=max(0.0, until - self.clock())):
            raise _LeftOutError("an earlier request to it has not ended")
        try:
            wait_s = self._free_at.get(source.name, -inf) - self.clock()
            if wait_s > 0 and self.clock() + wait_s >= until:
                raise _LeftOutError("it may not be asked again yet")
            if wait_s > 0:
                self._sleep(wait_s)
            try:
                yield
            finally:
                self.hold(source, source.gap_s)
        finally:
            lock.release()

    def hold(self, source: Source, seconds: float) -> None:
        """Leave a source alone for so many seconds from now, or longer if it was said before."""
        free_at = self._free_at.get(source.name, -inf)
        self._free_at[source.name] = max(free_at, self.clock() + seconds)


PACE = Pace()


@dataclass(frozen=True)
class Found:
    """What a search gave.

    Attributes:
        papers: best first.
        answered: names of the sources that answered, with papers or with none.
        left_out: name of each other source -> why.
        is_cached: the store had it, and nothing was asked.
    """

    papers: tuple[Paper, ...]
    answered: tuple[str, ...]
    left_out: Mapping[str, str]
    is_cached: bool


class Literature:
    """Search of published papers for one campaign.

    Threading: use it in the thread of its store, and not inside a transaction. Idempotent: a
    query that was once answered by any source is answered from the store from then on.
    """

    def __init__(
        self,
        store: Store,
        *,
        allowed: bool,
        sources: Sequence[Source] = SOURCES,
        timeout_s: float = 10.0,
        total_s: float = 25.0,
        per_source: int = 8,
        mailto: str = "",
        key_env: str = "",
        pace: Pace = PACE,
    ) -> None:
        """Settle what may be asked, and for how long; nothing is asked yet.

        Args:
            store: of the campaign; keeps what was found, under "literature/...".
            allowed: the campaign's word that requests may leave this machine.
            sources: asked side by side; their order decides between equals.
            timeout_s: longest time for one request, in seconds.
            total_s: longest time for a search, in seconds, waiting for a turn included.
            per_source: papers taken from one source.
            mailto: e-mail address that sources may write to, or "".
            key_env: name of the environment variable that holds the key for the source that
                knows one (Semantic Scholar), or ""; read at each search, never kept.
            pace: shared by all searches of a process.

        Raises:
            ConfigError: `mailto` is no address.
        """
        if mailto and not _EMAIL.fullmatch(mailto):
            raise ConfigError(f"e-mail for the literature search is {mailto!r}; give NAME@HOST")
        self._store = store
        self._allowed = allowed
        self._sources = tuple(sources)
        self._timeout_s = timeout_s
        self._total_s = total_s
        self._per_source = per_source
        self._mailto = mailto
        self._key_env = key_env
        self._pace = pace

    def search(self, query: str, limit: int = 10) -> list[Paper]:
        """Return the papers of `find`."""
        return list(self.find(query, limit).papers)

    def find(self, query: str, limit: int = 10) -> Found:
        """Return papers on some words, from the store if it has them, else from the sources.

        Takes no longer than `total_s`. What was found is kept if any source answered.

        Args:
            query: words about method and anatomy; never names of cases or patients.
            limit: most papers.

        Raises:
            StoreError: the store cannot be read or written.
        """
        words = plain_query(query)
        if not (self._allowed and words):
            return Found((), (), {}, is_cached=False)
        key = f"literature/{digest([words, sorted(s.name for s in self._sources)])}"
        kept = self._store.effect(key)
        is_cached = kept is not None
        if kept is None:
            kept = self._ask_all(words)
            if kept["answered"]:
                kept = self._store.set_effect(key, kept)
        papers = tuple(paper_of(row) for row in kept["papers"][:limit])
        return Found(papers, tuple(kept["answered"]), kept["left_out"], is_cached)

    def _ask_all(self, words: str) -> Figures:
        import httpx2  # noqa: F401  once, before several threads want it

        until = self._pace.clock() + self._total_s
        replies: queue.SimpleQueue[tuple[str, list[Paper], str]] = queue.SimpleQueue()

        def ask(source: Source) -> None:
            replies.put((source.name, *self._ask_one(source, words, until)))

        for source in self._sources:
            # A daemon: one that hangs holds up neither the search nor the end of the program.
            threading.Thread(target=ask, args=(source,), daemon=True).start()
        came = self._collected(replies, until)
        late: tuple[list[Paper], str] = ([], f"no answer within {self._total_s:g} s")
        each = {s.name: came.get(s.name, late) for s in self._sources}
        answered = [name for name, (_, why) in each.items() if not why]
        return {
            "query": words,
            "papers": [plain(paper) for paper in merged([each[name][0] for name in answered])],
            "answered": answered,
            "left_out": {name: why for name, (_, why) in each.items() if why},
        }

    def _collected(
        self, replies: "queue.SimpleQueue[tuple[str, list[Paper], str]]", until: float
    ) -> dict[str, tuple[list[Paper], str]]:
        came: dict[str, tuple[list[Paper], str]] = {}
        while len(came) < len(self._sources):
            try:
                name, papers, why = replies.get(timeout=max(0.0, until - self._pace.clock()))
            except queue.Empty:
                break
            came[name] = (papers, why)
        return came

    def _ask_one(self, source: Source, words: str, until: float) -> tuple[list[Paper], str]:
        """Return a source's papers and "", or none and why it is left out."""
        import httpx2

        try:
            with self._client(source) as client:
                return self._talk(client, source, words, until), ""
        except _LeftOutError as error:
            return [], str(error)
        except ReplyError as error:
            return [], f"it could not be understood: {error}"
        except httpx2.TimeoutException:
            return [], "it was too slow"
        # Its message may hold a header or an address, so that only its name is told.
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            return [], f"it could not be reached ({type(error).__name__})"

    def _client(self, source: Source) -> "httpx2.Client":
        import httpx2

        contact = f" (mailto:{self._mailto})" if self._mailto else ""
        headers = {
            "User-Agent": f"segwright/{version('segwright')}{contact}",
            "Accept-Encoding": "identity",  # a small reply could unpack to any size
        }
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        if key and source.key_header:
            if not (key.isascii() and key.isprintable()):
                raise _LeftOutError(f"the key in {self._key_env} is no printable ASCII text")
            headers[source.key_header] = key
        # A proxy of the environment is for the world, not for this machine.
        trusts = not _is_loopback(httpx2.URL(source.base))
        return httpx2.Client(
            headers=headers, timeout=self._timeout_s, trust_env=trusts, verify=_tls()
        )

    def _talk(
        self, client: "httpx2.Client", source: Source, words: str, until: float
    ) -> list[Paper]:
        dialogue = source.dialogue(words, self._per_source, self._mailto)
        ask = next(dialogue)
        while True:
            with self._pace.turn(source, until=until):
                text = self._reply(client, source, ask, until)
            try:
                ask = dialogue.send(text)
            except StopIteration as end:
                papers: list[Paper] = end.value
                return papers[: self._per_source]

    def _reply(self, client: "httpx2.Client", source: Source, ask: Ask, until: float) -> str:
        import httpx2

        url = httpx2.URL(source.base + ask.path, params=ask.parameters)
        until = min(until, self._pace.clock() + self._timeout_s)
        for _ in range(REDIRECTS + 1):
            _check_scheme(url)
            with client.stream("GET", url) as reply:
                if reply.has_redirect_location:
                    url = _next_url(url, reply.headers["location"])
                    continue
                self._check_status(source, reply)
                return self._text(reply, until)
        raise _LeftOutError(f"it redirected more than {REDIRECTS} times")

    def _check_status(self, source: Source, reply: "httpx2.Response") -> None:
        if reply.status_code == 200:
            return
        if reply.status_code == 429 or "retry-after" in reply.headers:
            self._pace.hold(source, _retry_after_s(reply.headers))
        raise _LeftOutError(f"it answered with HTTP status {reply.status_code}")

    def _text(self, reply: "httpx2.Response", until: float) -> str:
        if reply.headers.get("content-encoding", "identity") != "identity":
            raise _LeftOutError("it sent a compressed reply, which was not asked for")
        body = bytearray()
        for part in reply.iter_raw():
            body += part
            if len(body) > MOST_BYTES:
                raise _LeftOutError(f"it sent more than {MOST_BYTES} bytes")
            if self._pace.clock() >= until:
                raise _LeftOutError("it was too slow")
        try:
            return body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ReplyError("the reply is no UTF-8 text") from error


@cache
def _tls() -> "ssl.SSLContext":
    """Return what this machine trusts; reading it takes a tenth of a second."""
    import httpx2

    return httpx2.create_ssl_context()


def _is_loopback(url: "httpx2.URL") -> bool:
    return url.host in ("127.0.0.1", "::1")


def _check_scheme(url: "httpx2.URL") -> None:
    if not (url.scheme == "https" or (url.scheme == "http" and _is_loopback(url))):
        raise _LeftOutError("its address is neither https nor on this machine")


def _next_url(url: "httpx2.URL", location: str) -> "httpx2.URL":
    target = url.join(location)
    if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
        raise _LeftOutError("it redirected to another host")
    return target


def _retry_after_s(headers: "httpx2.Headers") -> float:
    """Return the seconds that a Retry-After asks for, 0 to one day; a minute where unreadable.

    A date is compared with the reply's own Date, so that no clock need be right.
    """
    asked = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", asked):
        return min(float(asked), LONGEST_HOLD_S)
    try:
        then, now = (parsedate_to_datetime(text) for text in (asked, headers.get("date", "")))
        return min(max((then - now).total_seconds(), 0.0), LONGEST_HOLD_S)
    except (ValueError, TypeError):  # no date, or only one with a time zone
        return HOLD_S
