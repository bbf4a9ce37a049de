"""The user's own coding agent in the role of the coder: what it is told, and the row of its call.

The agent runs in the sandbox (`agent/own_agent.py`), once for each network, and its network is kept
as the reply of a call before anything is done with it. Where the settings let it, it reaches the
coder's endpoint through a relay that adds the key outside, and nothing else.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.model_settings import RoleConfig
from agent.own_agent import write_network
from agent.planner import Case
from agent.prices import Price
from agent.probe import key_of
from agent.prompts import Prompt
from agent.replies import ReplyError
from agent.session import Session
from memory.errors import CollectError, PlannerError, SandboxError
from memory.records import LlmCall, short_id
from memory.store import Store
from sandbox.relay import Bounds, Relay

OWN = "own"
BRIEF = """\
{system}

{text}

Write the whole file network.py into this folder, over the one that is there, if any. Nothing else
that you leave is read. You may run Python with torch here to try it.
"""


class OwnCoder:
    """Runs the user's command; threads may share it."""

    def __init__(self, session: Session, price: Price | None = None) -> None:
        """Take the session, and the price of the coder's endpoint where it is known."""
        self.session, self.price = session, price
        self.config = session.config.coder

    def write(self, store: Store, prompt: Prompt, source: str, case: Case) -> str:
        """Return the network that the command writes, from the store if it wrote it before.

        Raises:
            ReplyError: it left none that can be used.
            SandboxError: the boundary could not be set up.
        """
        number = short_id([prompt.hash, case.scope, OWN])
        known = [call for call in store.llm_calls(scope=case.scope) if call.id == number]
        if known and known[0].reply:
            return known[0].reply
        told: list[dict[str, int]] = []
        start = self.session.now
        try:
            text, problem = self.run(prompt, source, number, told), None
        except SandboxError:
            raise
        except (PlannerError, CollectError) as error:
            text, problem = None, str(error)
        store.add_llm_call(self.call(prompt, case, number, text, problem, told, start))
        if text is None:
            raise ReplyError(f"{self.config.command[0]!r} wrote no network: {problem}")
        return text

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
        role: RoleConfig = self.session.config.roles.coder
        endpoints = self.session.config.endpoints
        name = (role.endpoints or tuple(endpoints))[0]

        def note(status: int, bytes_in: int, bytes_out: int, tokens: Any) -> None:
            if tokens is not None:
                told.append({"in": tokens.tokens_in or 0, "out": tokens.tokens_out or 0})

        bounds = Bounds(seconds=60.0 * self.config.minutes)
        key = key_of(name, endpoints[name])
        with Relay(endpoints[name].url, key=key, on_request=note, bounds=bounds) as relay:
            yield relay

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
        free = 0.0 if not self.config.network else None
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
            price_usd=self.price.of(asked, written) if self.price and told else free,
            seconds=max(0.0, now - start),
            at=now,
            endpoint=OWN,
            purpose=prompt.purpose,
            scope=case.scope,
            error=problem,
        )
