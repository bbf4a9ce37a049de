"""What `segwright memory --prompt` shows: the prompts of a role as they would be sent now.

Prompts are made by the code that sends them, from the latest decision that would need one.
Nothing is asked, run or written, so that a finished campaign may lie on a read-only disk.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from agent.config import load_config
from agent.llm import told
from agent.llm_planner import LlmPlanner
from agent.model_settings import ROLES
from agent.prompt_choice import CHOICES, FORMS
from agent.prompts import PURPOSES, Prompt, plain_sizes, tokens
from agent.session import Session
from memory.errors import ConfigError, PlannerError
from memory.records import Figures
from memory.store import Store
from sandbox.engine import load_plan
from sandbox.executor import LocalExecutor
from sandbox.isolation import unsafe


class Unkept(Store):
    """A store opened for reading, in which a step that would keep what it measured goes on."""

    def set_effect(self, key: str, result: Figures) -> Figures:
        """Return the kept result of a step, or the one that would be kept."""
        known = self.effect(key)
        return result if known is None else known


class Unasked:
    """The model of a planner that writes prompts and sends none."""

    answers, deadline = 0, math.inf
    replay: Path | None = None

    def ask(self, prompt: Prompt, *_: Any, **__: Any) -> NoReturn:
        """Refuse.

        Raises:
            PlannerError: always.
        """
        raise PlannerError(f"the prompt {prompt.purpose!r} is shown and not sent")


def prompts(folder: Path, role: str) -> Figures:
    """Return the prompts of a role as they would be sent now, with their sizes in tokens.

    A section that nothing in the campaign fills yet says so.

    Raises:
        ConfigError: there is no such role, or it has no prompt.
        SegwrightError: the campaign was never prepared.
    """
    purposes = [name for name, (own, _) in PURPOSES.items() if own == role]
    if not purposes:
        known = ", ".join(dict.fromkeys(own for own, _ in PURPOSES.values()))
        what = "has no prompt" if role in ROLES else "is no role"
        raise ConfigError(f"--prompt {role!r} {what}; roles with prompts: {known}")
    with Unkept.open(folder / "campaign.db", read_only=True) as store:
        planner = LlmPlanner(reading_session(folder, store), Unasked())
        made = [CHOICES[name](store, planner) for name in purposes]
    return {"role": role, "room": planner.room[role], "prompts": [shown(one) for one in made]}


def reading_session(folder: Path, store: Store) -> Session:
    """Return a session on a prepared campaign that runs nothing, on whatever machine.

    Raises:
        SegwrightError: the campaign was never prepared.
    """
    campaign = store.campaign()
    return Session(
        folder=folder,
        config=load_config(folder / "campaign.toml"),
        plan=load_plan(folder),
        dataset=campaign.dataset,
        split=tuple(store.split()),
        iterations=tuple(campaign.protocol.get("rung_iterations", ())),
        device="cpu",
        slots=1,
        isolation=unsafe("nothing is run"),
        executor=LocalExecutor(),
    )


def shown(prompt: Prompt) -> Figures:
    """Return a prompt as plain values: its texts, and the estimated tokens of its parts."""
    form = told(FORMS[prompt.purpose])
    sizes = plain_sizes(prompt)
    whole = sizes.pop("all") + tokens(form)
    return {
        "purpose": prompt.purpose,
        "tokens": {**sizes, "form": tokens(form), "all": whole},
        "system": prompt.system,
        "text": prompt.text,
        "form": form,
    }


def prompt_lines(found: Figures) -> list[str]:
    """Return prompts as lines: what each has room for, its sizes by section, then its text."""
    made: Sequence[Figures] = found["prompts"]
    lines = [
        f"the {found['role']} reads {len(made)} prompts, of at most {found['room']} tokens with the "
        "system's words and without the form",
        *("", "=== system: before each prompt ===", made[0]["system"]),
    ]
    for one in made:
        lines += ["", f"=== {one['purpose']}: about {one['tokens']['all']} tokens ==="]
        lines += [*size_lines(one["tokens"]), "", one["text"], "", one["form"]]
    return lines


def size_lines(sizes: Mapping[str, int]) -> Iterator[str]:
    """Yield the size of each part as a row."""
    width = max(map(len, sizes))
    yield from (f"  {name:{width}}  {count:6}" for name, count in sizes.items())
