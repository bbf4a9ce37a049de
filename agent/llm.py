"""What asks a language model: one form in, one checked reply out, every call stored first.

A call is stored before its reply is parsed, with what it cost. A reply that does not fit its form
is asked for once more, with the reason; a second one that does not fit is an error of its own
type. One that was cut off is asked for again with twice the room, never parsed. What a server can
hold a reply to is stepped down: a JSON schema, one without limits on texts, a JSON object, plain
text; the form is always told in words as well, for a server may take a schema and not keep to it.

A step that runs again finds its calls in the store and sends nothing; with the store of an earlier
campaign behind it, a campaign is played again without any endpoint.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from agent.endpoint import STOPPED, Answer, Endpoint, EndpointError, Request
from agent.ledger import Ledger, ModelLost, Wish
from agent.model_settings import RoleConfig, RolesConfig
from agent.prices import Price
from agent.prompts import Prompt
from agent.replies import Form, ReplyError, plain_schema, read, schema
from agent.reply_room import fitted
from memory.records import LlmCall, digest, short_id
from memory.store import Store
from sandbox.clean import clean_text

__all__ = ["Client", "Model", "ModelLost", "Said"]

F = TypeVar("F", bound=Form)
LADDER = ("schema", "plain_schema", "object", "text")
REASKS = 1
LITTLE_ROOM, CHARACTERS = 2048, 3
"""Tokens of a reply below which its texts are held shorter, at so many characters a token."""
LONGER = 2
CUT_OFF = "the reply was cut off at its limit of tokens"
CUT_TWICE = "the reply was cut off at its limit of tokens, and with twice the room as well"
REFUSED = "the model refused"
REFUSALS = (400, 422, 501)
"""Statuses with which a server refuses the form of a reply."""
SEEDS = 2**31 - 1


class Said(NamedTuple, Generic[F]):
    """A reply in its form, and which endpoint and model gave it."""

    value: F
    endpoint: str
    model: str


class Model(Protocol):
    """What a planner asks; threads may share one.

    `answers` counts the replies that were sent; from `deadline` on, in seconds since the epoch,
    nobody is asked. `replay` is the campaign.db of a campaign whose replies are used instead.
    """

    answers: int
    deadline: float
    replay: Path | None

    def ask(
        self, prompt: Prompt, form: type[F], *, scope: str, seed: int = 0, prefer: str = ""
    ) -> Said[F]:
        """Return the reply to a prompt in its form, and who gave it.

        Args:
            prompt: names its role.
            form: what the reply must look like.
            scope: what it is asked for: decision/N, trial/ID or campaign.
            seed: of the model's draws.
            prefer: an endpoint of the role that is asked first; empty: they take turns.

        Raises:
            ReplyError: no reply fitted, or the model refused, or had too little room.
            ModelLost: no endpoint answered, or the budget is spent.
        """


class Client:
    """Asks the endpoints of the settings. Threads may share it; each call opens the store."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        endpoints: Mapping[str, Endpoint],
        roles: RolesConfig,
        *,
        prices: Mapping[str, Price | None],
        usd: float = 0.0,
        levels: Mapping[str, str] | None = None,
        replay: Path | None = None,
        now: Callable[[], float],
    ) -> None:
        """Take what is set.

        Args:
            open_store: opens the campaign's store for the calling thread.
            endpoints: by name, in the order of the settings.
            roles: who is asked for what.
            prices: of each endpoint and model, by "NAME/MODEL"; None where nobody knows.
            usd: budget in US dollars over the whole campaign; 0: none.
            levels: what each endpoint can be held to, of LADDER; text where it is not given.
            replay: campaign.db of a campaign whose replies are used, and no endpoint.
            now: seconds since the epoch.
        """
        self.open_store, self.endpoints, self.roles = open_store, dict(endpoints), roles
        self.levels, self.replay, self.now = dict(levels or {}), replay, now
        self.ledger = Ledger(prices, usd=usd, now=now)
        self.answers, self.deadline = 0, math.inf

    def ask(
        self, prompt: Prompt, form: type[F], *, scope: str, seed: int = 0, prefer: str = ""
    ) -> Said[F]:
        """Return the reply to a prompt in its form, and who gave it; see `Model`."""
        wish = Wish(prompt, form, prompt.messages(told(form)), scope, seed, prefer)
        with self.open_store() as store:
            for left in reversed(range(REASKS + 1)):
                call = self.reply(store, wish)
                try:
                    return Said(read_call(call, form), call.endpoint, call.model)
                except ReplyError as error:
                    if not left or call.error == CUT_TWICE:
                        raise ReplyError(
                            f"the {prompt.role} sent no valid reply for {prompt.purpose!r}: {error}"
                        ) from error
                    messages = [*wish.messages, *again(call.reply, str(error))]
                    wish = wish._replace(messages=messages, prefer=call.endpoint)
        raise AssertionError("one reply is asked for at least")

    def reply(self, store: Store, wish: Wish) -> LlmCall:
        """Return one call with its reply, from the store if it is there, else from an endpoint of the role."""
        known = [c for c in store.calls_with(wish.key) if c.scope == wish.scope and is_whole(c)]
        if known:
            return known[0]
        if self.replay is not None:
            return self.earlier(store, wish)
        errors = []
        for name in self.order(wish):
            try:
                return self.sent(store, name, wish)
            except ModelLost as error:  # this one costs too much; the next may be free
                errors.append(str(error))
            except EndpointError as error:
                errors.append(str(error))
                if error.kind == STOPPED:
                    break
        seen = "; ".join(errors) or "none is set"
        raise ModelLost(f"no endpoint of the {wish.role} answered: {seen}")

    def order(self, wish: Wish) -> list[str]:
        """Return the endpoints of a role, the one whose turn it is first; no state is kept."""
        role: RoleConfig = getattr(self.roles, wish.role)
        names = list(role.endpoints) or list(self.endpoints)[:1]
        if wish.prefer in names:
            return [wish.prefer, *(n for n in names if n != wish.prefer)]
        turn = int(digest([wish.key, wish.scope])[:8], 16) % max(1, len(names))
        return names[turn:] + names[:turn]

    def sent(self, store: Store, name: str, wish: Wish) -> LlmCall:
        """Ask one endpoint and store the call; a reply that was cut off is asked for again.

        Raises:
            EndpointError: the endpoint failed; that is stored too.
            ModelLost: the next call could pass the budget.
        """
        role: RoleConfig = getattr(self.roles, wish.role)
        model = role.model or self.endpoints[name].config.model
        who, room = f"{name}/{model}", role.max_tokens
        request = Request(wish.messages, model, role.temperature, room, wish.seed % SEEDS)
        call = self.stored(store, who, wish, request, CUT_OFF)
        if call.error == CUT_OFF:
            longer = request._replace(max_tokens=LONGER * room)
            call = self.stored(store, who, wish, longer, CUT_TWICE)
        return call

    def stored(self, store: Store, who: str, wish: Wish, request: Request, cut_off: str) -> LlmCall:
        """Send one request, and return the call as it is stored.

        Raises:
            EndpointError: the endpoint failed; a second try that is refused counts as cut off.
            ModelLost: the call could pass the budget, or its hours are over.
        """
        name, _, _ = who.partition("/")
        if self.ledger.now() >= self.deadline:
            raise ModelLost("the hours of the budget are spent, but for what confirmation needs")
        with self.ledger.afforded(store, who, wish, request.max_tokens):
            try:
                answer = self.complete(name, request, wish.form)
            except EndpointError as error:
                if cut_off != CUT_TWICE or error.kind != "unfit":
                    self.ledger.written(store, who, wish, error, str(error))
                    raise
                return self.ledger.written(store, who, wish, error, CUT_TWICE)
            self.answers += 1
            problem = cut_off if answer.finish == "length" else refused(answer)
            return self.ledger.written(store, who, wish, answer, problem)

    def complete(self, name: str, request: Request, form: type[Form]) -> Answer:
        """Ask for a form in the strictest way that the endpoint takes; a refusal steps down.

        The step is remembered once the request was answered: where none helps, it was not the form.
        """
        endpoint = self.endpoints[name]
        first = LADDER.index(self.levels.get(name, LADDER[-1]))
        for level in LADDER[first:]:
            held = response_format(form, level, room=request.max_tokens)
            own = request._replace(response_format=held)
            try:
                answer = endpoint.complete(own)
            except EndpointError as error:
                if level == LADDER[-1] or error.kind != "unfit" or error.status not in REFUSALS:
                    raise
                continue
            if level != LADDER[first]:
                self.levels[name] = level
            return answer
        raise AssertionError("the ladder has a last step")

    def earlier(self, store: Store, wish: Wish) -> LlmCall:
        """Return the call with the reply that an earlier campaign got to the same prompt, its uses in turn.

        Raises:
            ModelLost: that campaign has no further reply to this prompt.
        """
        assert self.replay is not None
        with Store.open(self.replay, read_only=True) as before:
            calls = [call for call in before.calls_with(wish.key) if is_whole(call)]
        with store.transaction():
            used = sum(call.is_cached for call in store.calls_with(wish.key))
            if used >= len(calls):
                raise ModelLost(
                    f"{self.replay} holds no further reply to the prompt {wish.prompt.purpose!r} "
                    f"of {wish.scope}"
                )
            call = replace(
                calls[used],
                id=short_id([wish.key, wish.scope, "replay", used]),
                price_usd=0.0,
                seconds=0.0,
                at=self.now(),
                scope=wish.scope,
                is_cached=True,
            )
            store.add_llm_call(call)
        return call


def is_whole(call: LlmCall) -> bool:
    """Tell whether a stored call is over: with its reply, a refusal, or cut off for good."""
    return call.error is None or call.error == CUT_TWICE or call.error.startswith(REFUSED)


def read_call(call: LlmCall, form: type[F]) -> F:
    """Return the reply of a call as its form; one that was refused or cut off is not read.

    Raises:
        ReplyError: it is no valid one.
    """
    if call.error is not None:
        raise ReplyError(call.error)
    return read(call.reply, form)


def refused(answer: Answer) -> str | None:
    """Return why a reply is none, as far as the server says."""
    if answer.refusal:
        return f"{REFUSED}: {answer.refusal}"
    return f"{REFUSED}: filtered by the server" if answer.finish == "content_filter" else None


def told(form: type[Form]) -> str:
    """Return a form in words and as its schema, as every prompt ends with it."""
    text = json.dumps(schema(form), separators=(",", ":"))
    return (
        "Reply with one JSON object and nothing else: no explanation, no code fence. It must fit "
        f"this JSON schema:\n{text}"
    )


def again(text: str | None, fault: str) -> list[dict[str, str]]:
    """Return the messages that show a reply's fault and ask once more."""
    shown = clean_text(text or "").strip()[:6000] or "(empty)"
    ask = f"That reply cannot be used: {fault}. Send the whole corrected JSON object, nothing else."
    return [{"role": "assistant", "content": shown}, {"role": "user", "content": ask}]


def response_format(form: type[Form], level: str, *, room: int = 0) -> dict[str, Any] | None:
    """Return what a request says of the form at a level of the ladder; None for plain text.

    Where the reply has little `room`, in tokens, texts are held shorter, so that it is not cut off.
    """
    if level in ("schema", "plain_schema"):
        own = schema(form) if level == "schema" else plain_schema(form)
        if level == "schema" and 0 < room < LITTLE_ROOM:
            own = fitted(own, CHARACTERS * room)
        named = {"name": form.__name__.lower(), "strict": True, "schema": own}
        return {"type": "json_schema", "json_schema": named}
    return {"type": "json_object"} if level == "object" else None
