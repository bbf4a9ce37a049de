"""The ledger of calls to language models: what one may cost, what it did cost, its row in the store.

A budget in dollars is held by the most that a call can cost: a token has a byte at least, and what
is on its way counts as spent. Not covered: a server that bills tries which gave no reply, or text
that it adds itself.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from agent.endpoint import Answer, EndpointError
from agent.prices import Price
from agent.prompts import Prompt, tokens
from agent.replies import Form
from memory.errors import PlannerError
from memory.records import LlmCall, digest, short_id
from memory.store import Store

FRAME_TOKENS = 16


class ModelLost(PlannerError):
    """No endpoint of a role answers, or the budget for them is spent."""


class Wish(NamedTuple):
    """One reply that is wanted: the prompt, its form, and the messages as they are sent."""

    prompt: Prompt
    form: type[Form]
    messages: Sequence[Mapping[str, str]]
    scope: str
    seed: int
    prefer: str

    @property
    def role(self) -> str:
        """The role that is asked."""
        return self.prompt.role

    @property
    def key(self) -> str:
        """SHA-256 of what is wanted, 64 hex digits: two coders of one idea differ in it."""
        chosen = [self.seed, self.prefer] if self.seed or self.prefer else []
        return digest([self.prompt.purpose, list(self.messages), *chosen])

    @property
    def tokens(self) -> int:
        """About how many tokens are sent."""
        return sum(tokens(message["content"]) for message in self.messages)

    @property
    def most_tokens(self) -> int:
        """How many tokens can be sent at most: each has a byte at least, each message a frame."""
        return sum(len(message["content"].encode()) + FRAME_TOKENS for message in self.messages)


class Ledger:
    """Holds the budget and writes every call down. Threads may share it, each with its own store."""

    def __init__(
        self,
        prices: Mapping[str, Price | None],
        *,
        usd: float,
        now: Callable[[], float],
    ) -> None:
        """Take the prices by "NAME/MODEL", the budget in US dollars (0: none) and the clock."""
        self.prices, self.usd, self.now = dict(prices), usd, now
        self._lock, self._awaited = threading.Lock(), list[float]()

    @contextmanager
    def afforded(self, store: Store, who: str, wish: Wish, room: int) -> Iterator[None]:
        """Refuse a call that could pass the budget in dollars; until its end it counts as spent.

        Raises:
            ModelLost: it could, or nobody knows its price.
        """
        if not self.usd:
            yield
            return
        price = self.prices.get(who)
        if price is None:
            raise ModelLost(f"nobody knows the price of {who}, and budget.usd is {self.usd:g}")
        most = price.of(wish.most_tokens, room)
        with self._lock:
            spent = store.usd_spent() + sum(self._awaited)
            if spent + most > self.usd:
                raise ModelLost(
                    f"the budget of {self.usd:g} USD is spent: {spent:.4f} are gone, and the next "
                    f"call may cost {most:.4f}"
                )
            self._awaited.append(most)
        try:
            yield
        finally:
            with self._lock:
                self._awaited.remove(most)

    def written(
        self,
        store: Store,
        who: str,
        wish: Wish,
        came: Answer | EndpointError,
        problem: str | None,
    ) -> LlmCall:
        """Store what came of a wish, be it a reply or none, and return the row.

        `problem` says why the reply is not one to read; None where it is.
        """
        row = self.filled(self.row(who, wish), who, wish.tokens, came)
        return self.kept(store, replace(row, error=problem))

    def filled(self, row: LlmCall, who: str, sent: int, came: Answer | EndpointError) -> LlmCall:
        """Return a row with what came back; `sent` is about how many tokens were sent."""
        if isinstance(came, EndpointError):
            return replace(row, error=str(came), price_usd=self.cost_of_failure(who, came))
        return replace(
            row,
            model=came.model,
            reply=came.text,
            tokens_in=came.tokens_in,
            tokens_out=came.tokens_out,
            price_usd=self.cost(who, sent, came),
            seconds=came.seconds,
        )

    def kept(self, store: Store, row: LlmCall) -> LlmCall:
        """Store a row under an id of its own, and return it."""
        with store.transaction():
            number = sum(c.scope == row.scope for c in store.calls_with(row.prompt_hash))
            own = short_id([row.prompt_hash, row.scope, row.endpoint, number])
            call = replace(row, id=own)
            store.add_llm_call(call)
        return call

    def row(self, who: str, wish: Wish) -> LlmCall:
        """Return the row of a call before anything is known of its reply."""
        name, _, model = who.partition("/")
        return LlmCall(
            id="",
            role=wish.role,
            model=model,
            prompt_hash=wish.key,
            prompt=json.dumps(list(wish.messages), ensure_ascii=False),
            reply=None,
            tokens_in=None,
            tokens_out=None,
            price_usd=None,
            seconds=None,
            at=self.now(),
            endpoint=name,
            purpose=wish.prompt.purpose,
            scope=wish.scope,
        )

    def cost_of_failure(self, who: str, error: EndpointError) -> float | None:
        """Return what a call without a reply cost: nothing, or None where it may have been billed."""
        price = self.prices.get(who)
        is_free = price is not None and not price.of(10**6, 10**6)
        return 0.0 if error.status or error.kind == "down" or is_free else None

    def cost(self, who: str, sent: int, answer: Answer) -> float | None:
        """Return what a call cost: as the server says, else by its tokens; None if unknown.

        Tokens that a server does not count are estimated, so that a budget holds; `sent` is the
        estimate of those that it read.
        """
        price = self.prices.get(who)
        if answer.usd is not None or price is None:
            return answer.usd
        asked = sent if answer.tokens_in is None else answer.tokens_in
        written = tokens(answer.text or "") if answer.tokens_out is None else answer.tokens_out
        return price.of(asked, written)
