"""The user's own coding agent in the role of the coder: what it is told, and the row of its call.

The agent runs in the sandbox (`agent/own_agent.py`), once for each network, and its network is kept
as the reply of a call before anything is done with it. Where the settings let it, it reaches the
coder's endpoint through a relay that adds the key outside, and nothing else.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.llm import Model, ModelLost
from agent.model_settings import RoleConfig
from agent.own_agent import write_network
from agent.planner import Case
from agent.prices import Price
from agent.probe import key_of, make_prices
from agent.prompts import Prompt
from agent.replies import ReplyError
from agent.session import Session
from memory.errors import CollectError, PlannerError
from memory.records import LlmCall, short_id
from memory.store import Store
from sandbox.relay import Bounds, Relay

OWN = "own"
FREE = Price(0.0, 0.0, "local")
BRIEF = """\
{system}

{text}

Write the whole file network.py into this folder, over the one that is there, if any. Nothing else
that you leave is read. You may run Python with torch here to try it.
"""


class OwnCoder:
    """Runs the user's command; threads may share it."""

    def __init__(self, session: Session, model: Model) -> None:
        """Take the session, and the model, whose hours and replay hold for the command too."""
        self.session, self.model = session, model
        self.config = session.config.coder

    def write(self, store: Store, prompt: Prompt, source: str, case: Case) -> str:
        """Return the network that the command writes, from the store if it wrote it before.

        Raises:
            ReplyError: it left none that can be used.
            ModelLost: its hours or dollars are spent, or the campaign that is played again has
                no such run.
            SandboxError: the boundary could not be set up.
        """
        number = short_id([prompt.hash, case.scope, OWN])
        known = [call for call in store.llm_calls(scope=case.scope) if call.id == number]
        call = known[0] if known else self.made(store, prompt, source, case, number)
        if call.reply is None:
            raise ReplyError(f"{self.config.command[0]!r} wrote no network: {call.error}")
        return call.reply

    def made(self, store: Store, prompt: Prompt, source: str, case: Case, number: str) -> LlmCall:
        """Run the command, or find its run in the campaign that is played again; store the call."""
        if self.model.replay is not None:
            call = self.earlier(self.model.replay, prompt, case, number)
        else:
            self.require_means(store)
            told: list[dict[str, int]] = []
            start = self.session.now
            try:
                text, problem = self.run(prompt, source, number, told), None
            except (PlannerError, CollectError) as error:
                text, problem = None, str(error)
            call = self.call(prompt, case, number, text, problem, told, start)
        store.add_llm_call(call)
        return call

    def earlier(self, path: Path, prompt: Prompt, case: Case, number: str) -> LlmCall:
        """Return what the command wrote to the same brief in an earlier campaign.

        Raises:
            ModelLost: that campaign has no such run.
        """
        with Store.open(path, read_only=True) as before:
            found = [call for call in before.calls_with(prompt.hash) if call.endpoint == OWN]
        if not found:
            raise ModelLost(f"{path} holds no run of a coding agent on this brief of {case.scope}")
        free = replace(found[0], price_usd=0.0, seconds=0.0, at=self.session.now, is_cached=True)
        return replace(free, id=number, scope=case.scope)

    def require_means(self, store: Store) -> None:
        """Refuse a run once the hours of the search or the dollars are spent.

        What one run may cost is bounded by its minutes and requests alone, so it can pass a budget
        in dollars by that much.

        Raises:
            ModelLost: they are.
        """
        usd = self.session.config.budget.usd
        if self.session.now >= self.model.deadline:
            raise ModelLost("the hours of the budget are spent, but for what confirmation needs")
        if self.config.network and usd and store.usd_spent() >= usd:
            raise ModelLost(f"the budget of {usd:g} USD is spent")

    def run(self, prompt: Prompt, source: str, number: str, told: list[dict[str, int]]) -> str:
        """Run the command once in a folder of its own."""
        folder = self.session.folder / "coder" / number
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with self.relay(told) as relay:
            return write_network(
                self.config.command,
                BRIEF.format(system=prompt.system, text=prompt.text),
                folder=folder,
                isolation=self.session.isolation,
                limits=self.session.limits(60.0 * self.config.minutes),
                mounts=[Path(path).expanduser() for path in self.config.mounts],
                relay=relay,
                files={"network.py": source} if source else {},
                is_stopped=self.session.stopping.is_set,
            )

    @contextlib.contextmanager
    def relay(self, told: list[dict[str, int]]) -> Iterator[Relay | None]:
        """Open the way to the coder's endpoint, where the settings let it be."""
        if not self.config.network:
            yield None
            return
        endpoints, (name, _) = self.session.config.endpoints, self.endpoint()

        def note(status: int, bytes_in: int, bytes_out: int, tokens: Any) -> None:
            if tokens is not None:
                told.append({"in": tokens.tokens_in or 0, "out": tokens.tokens_out or 0})

        bounds = Bounds(seconds=60.0 * self.config.minutes)
        key = key_of(name, endpoints[name])
        with Relay(endpoints[name].url, key=key, on_request=note, bounds=bounds) as relay:
            yield relay

    def endpoint(self) -> tuple[str, str]:
        """Return the coder's first endpoint and its model."""
        role: RoleConfig = self.session.config.roles.coder
        endpoints = self.session.config.endpoints
        name = (role.endpoints or tuple(endpoints))[0]
        return name, role.model or endpoints[name].model

    def price(self) -> Price | None:
        """Return the price of the endpoint that the command reaches; None where nobody knows."""
        return make_prices(self.session.config).get("/".join(self.endpoint()))

    def call(
        self,
        prompt: Prompt,
        case: Case,
        number: str,
        text: str | None,
        problem: str | None,
        told: list[dict[str, int]],
        start: float,
    ) -> LlmCall:
        """Return the row of a run; its price is that of the tokens that the endpoint counted."""
        asked, written = sum(one["in"] for one in told), sum(one["out"] for one in told)
        price = self.price() if self.config.network else FREE
        now = self.session.now
        return LlmCall(
            id=number,
            role="coder",
            model=Path(self.config.command[0]).name,
            prompt_hash=prompt.hash,
            prompt=prompt.text,
            reply=text,
            tokens_in=asked or None,
            tokens_out=written or None,
            price_usd=price.of(asked, written) if price else None,
            seconds=max(0.0, now - start),
            at=now,
            endpoint=OWN,
            purpose=prompt.purpose,
            scope=case.scope,
            error=problem,
        )
