"""What an endpoint can do, found out before it is needed: does it answer, to what can it be held.

One small question in the strictest form first; where the server refuses the form, or takes it and
does not keep to it, the next weaker one. What was found is an event of the campaign, and each
question a call.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from agent.config import Config
from agent.endpoint import Answer, Endpoint, EndpointError, Message, Request
from agent.ledger import Ledger
from agent.llm import LADDER, Client, response_format, told
from agent.model_settings import ROLES, EndpointConfig, RoleConfig
from agent.prices import Price, price_of
from agent.prompts import tokens
from agent.replies import Form, ReplyError, read, without_thoughts
from memory.errors import ConfigError, SegwrightError
from memory.records import Event, Figures, LlmCall, digest
from memory.store import Store

PROBE = "probe"
ROOM, LONG_ROOM = 512, 8192
QUESTION = (
    "This is a test of the form of replies. The modality is MR. Reply with the modality, and with "
    "the number of letters in its name."
)
STARTS: Mapping[str, str] = {"auto": "schema", "schema": "schema", "object": "object"}


_TAKEN: dict[str, str] = {}
"""Keys by the variable that held them."""


class Probe(Form):
    """The form of the probe's reply."""

    modality: Literal["CT", "MR", "US"]
    letters: Literal[1, 2, 3]


Keep = Callable[[Sequence[Message], Answer | EndpointError], None]
"""Keeps what came of one question."""


class Found(NamedTuple):
    """What an endpoint can do: `level` of LADDER; `problem` is empty where it answers."""

    name: str
    level: str
    model: str
    seconds: float
    problem: str = ""


def make_endpoints(config: Config, pause: Callable[[float], bool]) -> dict[str, Endpoint]:
    """Return the endpoints of the settings with their keys from the environment.

    Raises:
        ConfigError: a variable that should hold a key is not set.
    """
    return {
        name: Endpoint(name, own, key_of(name, own), pause=pause)
        for name, own in config.endpoints.items()
    }


def key_of(name: str, endpoint: EndpointConfig) -> str:
    """Return the key of an endpoint; empty where it wants none.

    It is taken out of this process's environment, so that no process that is started later
    inherits it.

    Raises:
        ConfigError: its variable is not set, or holds what no header can carry.
    """
    if not endpoint.key_env:
        return ""
    variable = endpoint.key_env
    _TAKEN[variable] = key = os.environ.pop(variable, _TAKEN.get(variable, "")).strip()
    if not key:
        raise ConfigError(
            f"'endpoints.{name}.key_env' names {variable}, which is not set; "
            f"export {variable}=... and start again"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            f"'endpoints.{name}.key_env' names {variable}, which holds a space, a line end or a "
            "letter beyond ASCII; a key has none of these"
        )
    return key


def used(config: Config) -> list[tuple[str, str]]:
    """Return endpoint and model of every role, each pair once."""
    pairs = []
    for role in ROLES:
        own: RoleConfig = getattr(config.roles, role)
        for name in own.endpoints or list(config.endpoints)[:1]:
            pairs.append((name, own.model or config.endpoints[name].model))
    return list(dict.fromkeys(pairs))


def make_prices(config: Config) -> dict[str, Price | None]:
    """Return the price of each endpoint and model that a role uses.

    Raises:
        ConfigError: there is a budget in dollars, and one of them has no known price.
    """
    found = {}
    for name, model in used(config):
        own = config.endpoints[name]
        price = price_of(own, model, urlsplit(own.url).hostname or "")
        if price is None and config.budget.usd:
            raise ConfigError(
                f"budget.usd is {config.budget.usd:g}, and nobody knows the price of {model!r} at "
                f"endpoint {name!r}; set its usd_in and usd_out"
            )
        found[f"{name}/{model}"] = price
    return found


def probe(endpoint: Endpoint, model: str, keep: Keep | None = None) -> Found:
    """Return what an endpoint can do with a model; a few small requests are sent.

    Args:
        endpoint: which one.
        model: as the server names it.
        keep: is told what came of each question.
    """
    wanted = endpoint.config.json
    first = LADDER.index(start_of(endpoint.config))
    seconds, problem = 0.0, ""
    for level in LADDER[first:]:
        try:
            answer = asked(endpoint, model, level, keep)
        except EndpointError as error:
            problem = str(error)
            if error.kind != "unfit":
                break
            continue
        seconds, problem = answer.seconds, ""
        try:
            read(answer.text, Probe)
        except ReplyError:
            if wanted == "auto" and level != LADDER[-1]:
                continue
        return Found(endpoint.name, level, answer.model, seconds)
    return Found(endpoint.name, LADDER[-1], model, seconds, problem)


def start_of(config: EndpointConfig) -> str:
    """Return the strictest level of LADDER that an endpoint is asked at."""
    return STARTS.get(config.json, LADDER[-1])


def asked(endpoint: Endpoint, model: str, level: str, keep: Keep | None) -> Answer:
    """Return the answer to the probe's question; a model that only thought gets more room.

    Raises:
        EndpointError: there is none.
    """
    messages = [{"role": "user", "content": f"{QUESTION}\n\n{told(Probe)}"}]
    form = response_format(Probe, level)
    for room in (ROOM, LONG_ROOM):
        try:
            answer = endpoint.complete(Request(messages, model, 0.0, room, 0, form))
        except EndpointError as error:
            if keep:
                keep(messages, error)
            raise
        if keep:
            keep(messages, answer)
        if answer.finish != "length" or without_thoughts(answer.text or "").strip():
            break
    return answer


def make_client(
    config: Config,
    open_store: Callable[[], Store],
    *,
    pause: Callable[[float], bool],
    now: Callable[[], float],
) -> Client:
    """Return a client whose endpoints were asked once; what they can do is kept as events.

    With its budget in dollars spent, a campaign asks nothing, and the client will not either.

    Raises:
        ConfigError: a key or a price is missing.
        SegwrightError: no endpoint of some role answers.
    """
    endpoints, prices = make_endpoints(config, pause), make_prices(config)
    ledger = Ledger(prices, usd=config.budget.usd, now=now)
    found = {}
    with open_store() as store:
        if not config.budget.usd or store.usd_spent() < config.budget.usd:
            for name, model in used(config):
                keep = keeper(ledger, store, name, model)
                found[name, model] = one = probe(endpoints[name], model, keep)
                store.add_event(Event(PROBE, sentence(one), figures(one), at=now()))
            require(config, found)
    return Client(
        open_store,
        endpoints,
        config.roles,
        prices=prices,
        usd=config.budget.usd,
        levels=levels(config, found.values()),
        now=now,
    )


def keeper(ledger: Ledger, store: Store, name: str, model: str) -> Keep:
    """Return what stores the questions to an endpoint as calls of the campaign."""
    who = f"{name}/{model}"

    def keep(messages: Sequence[Message], came: Answer | EndpointError) -> None:
        row = LlmCall(
            id="",
            role=PROBE,
            model=model,
            prompt_hash=digest([PROBE, list(messages)]),
            prompt=json.dumps(list(messages), ensure_ascii=False),
            reply=None,
            tokens_in=None,
            tokens_out=None,
            price_usd=None,
            seconds=None,
            at=ledger.now(),
            endpoint=name,
            purpose=PROBE,
            scope="campaign",
        )
        ledger.kept(
            store, ledger.filled(row, who, sum(tokens(m["content"]) for m in messages), came)
        )

    return keep


def levels(config: Config, found: Iterable[Found]) -> dict[str, str]:
    """Return to what each endpoint is held: what the weakest of its models keeps to.

    One that did not answer is held to what its settings allow, and stepped down when it is back.
    """
    made: dict[str, str] = {}
    for one in found:
        own = start_of(config.endpoints[one.name]) if one.problem else one.level
        made[one.name] = max(own, made.get(one.name, own), key=LADDER.index)
    return made


def require(config: Config, found: Mapping[tuple[str, str], Found]) -> None:
    """Refuse to start where a role has no endpoint that answers.

    Raises:
        SegwrightError: which role, which endpoints, and what they said.
    """
    for role in ROLES:
        own: RoleConfig = getattr(config.roles, role)
        names = own.endpoints or list(config.endpoints)[:1]
        asked = [found[name, own.model or config.endpoints[name].model] for name in names]
        if all(one.problem for one in asked):
            raise SegwrightError(
                f"no endpoint of the {role} answers: {'; '.join(one.problem for one in asked)}. "
                "Nothing was started; mend it, or go on with --set planner=grammar"
            )


def sentence(found: Found) -> str:
    """Return what was found in one line."""
    if found.problem:
        return f"endpoint {found.name} does not answer: {found.problem}"
    held = {"schema": "a JSON schema", "plain_schema": "a JSON schema without limits on texts"}
    how = held.get(found.level, "a JSON object" if found.level == "object" else "nothing")
    return f"endpoint {found.name} answers as {found.model}; its replies can be held to {how}"


def figures(found: Found) -> Figures:
    """Return what was found as plain values."""
    return {"endpoint": found.name, **found._asdict()}
