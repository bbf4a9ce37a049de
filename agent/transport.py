"""One request to one server over HTTP, by the openai package: what is sent, and what may come back.

Nothing of this machine's environment goes along: no key, organisation, project or header that the
openai package takes from variables, and no description of the machine. Proxies of the environment
are used, but not to reach this machine itself. Redirects are not followed: they would take the
prompt elsewhere. A request has one limit on its whole time, and a body one on its size; packed
bodies are refused, for a small one can unpack to any size.

Not covered: the look-up of a host's name, which may outlast the limit by the system's own.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
import openai

from agent.model_settings import LOOPBACK

BODY_BYTES = 32 << 20
NO_KEY = "none"
KEPT = frozenset(
    # The last tells the openai package, which looks for it, to hand its reply over as it came.
    ["host", "content-type", "content-length", "accept", "connection", "x-stainless-raw-response"]
)
ADDED = {"User-Agent": "segwright", "Accept-Encoding": "identity"}
"""Headers of a request: those it keeps, those it gets; Authorization is sent where there is a key."""


class Body(NamedTuple):
    """What came back; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


class TooLarge(OSError):
    """A body is longer than `BODY_BYTES`, or packed."""


def post(url: str, key: str, body: Mapping[str, Any], timeout_s: float) -> Body:
    """Send a chat completion's request once and return whatever answers it.

    Raises:
        TimeoutError: no whole reply came within the time, in seconds.
        OSError: the server cannot be reached, or its reply not be read.
    """
    try:
        return asyncio.run(_post(url, key, body, timeout_s))
    except openai.APIStatusError as error:
        return _body(error.response)
    except openai.APITimeoutError:
        raise TimeoutError from None
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        cause = error.__cause__ or error
        raise OSError(f"{type(cause).__name__}: {cause}") from None


async def _post(url: str, key: str, body: Mapping[str, Any], timeout_s: float) -> Body:
    own = {"Authorization": f"Bearer {key or NO_KEY}"}
    client = openai.AsyncOpenAI(
        base_url=url,
        api_key=key or NO_KEY,
        max_retries=0,
        timeout=timeout_s,
        default_headers=own,
        http_client=_client(url, own if key else {}, timeout_s),
    )
    async with client, asyncio.timeout(timeout_s):
        raw = await client.chat.completions.with_raw_response.create(**body)
        return _body(raw.http_response)


def _client(url: str, own: Mapping[str, str], timeout_s: float) -> httpx2.AsyncClient:
    """Return a client that sends the headers of `KEPT` and its own ones, and nothing else."""

    async def strip(request: httpx2.Request) -> None:
        for name in set(request.headers) - KEPT:
            del request.headers[name]
        request.headers.update({**ADDED, **own})

    async def bound(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise TooLarge("the reply is packed, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream)

    parts = urlsplit(url)
    is_here = parts.hostname in LOOPBACK
    # Loading the certificates takes longer than a request to this machine, which needs none.
    no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.AsyncClient(
        timeout=timeout_s,
        follow_redirects=False,
        trust_env=not is_here,
        verify=no_certificates if is_here and parts.scheme == "http" else True,
        event_hooks={"request": [strip], "response": [bound]},
    )


class _Bounded(httpx2.AsyncByteStream):
    """A stream that ends with an error past `BODY_BYTES`."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self.stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self.stream:
            size += len(part)
            if size > BODY_BYTES:
                raise TooLarge(f"the reply has more than {BODY_BYTES >> 20} MiB")
            yield part

    async def aclose(self) -> None:
        await self.stream.aclose()


def _body(response: httpx2.Response) -> Body:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Body(response.status_code, headers, response.text)
