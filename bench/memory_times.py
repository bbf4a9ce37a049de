"""How long a campaign's memory and prompts take, and how large the prompts are.

A recall is asked as a planner asks it, with a proposal's title and components, each time with
another one. A prompt is made by the code that sends it, on a store opened for it, in a process that
has made one before, as a campaign is. Seconds are wall seconds, and busy processes beside them
show. Not covered: what the clues about one trial cost, searches for papers, calls of models.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from agent import briefing
from agent.facts import derive_facts
from agent.llm_planner import LlmPlanner
from agent.memory_view import Unasked, Unkept, reading_session, shown
from agent.opening import open_store
from agent.prompt_choice import CHOICES, propose, write
from agent.prompts import CHARACTERS_A_TOKEN, LIMITS, PURPOSES, Prompt
from agent.standings import Standings
from bench.figures import Figure, figure
from bench.grown_memory import HERE, query
from memory.embedder import Embedder, installed
from memory.errors import SegwrightError
from memory.ranking import Recalled
from memory.recall import recall
from memory.records import Fact
from memory.store import Store
from memory.vectors import embed_lessons

BUDGET_TOKENS = LIMITS["lessons"] // CHARACTERS_A_TOKEN
ROLES = tuple(dict.fromkeys(role for role, _ in PURPOSES.values()))
WITHOUT = "the package of the optional extra 'embed' is not installed: no recall by meaning"


class Known(NamedTuple):
    """What a campaign has in memory when it asks: its standings, and its facts once it has ended."""

    standings: Standings | None = None
    facts: Mapping[str, Fact] | None = None


class Answer(NamedTuple):
    """What was told for one query, and the milliseconds that it took."""

    told: list[Recalled]
    ms: float


def recall_figures(folder: Path, count: int, lessons: int) -> dict[str, Figure]:
    """Return the figures of so many recalls by words alone; `lessons` is part of their keys.

    Raises:
        SegwrightError: a recall told nothing.
    """
    with open_store(folder, read_only=True) as store:
        answers = asked(store, count)
    counts = [float(len(one.told)) for one in answers]
    times = figure([one.ms for one in answers], "ms")
    return {f"recall_ms.{lessons}": times, f"recalled.{lessons}": figure(counts, "lessons")}


def meaning_figures(folder: Path, count: int, lessons: int) -> dict[str, Figure]:
    """Return the figures of so many recalls by words and meaning; none without the model.

    The vectors are in memory after the first recall of an open store, which has a key of its own.

    Raises:
        SegwrightError: a recall told nothing.
    """
    embedder = installed()
    if embedder is None:
        return {}
    with open_store(folder) as store:
        embed_lessons(store, embedder)
    with open_store(folder, read_only=True) as store:
        first, *answers = asked(store, 1 + count, embedder)
    times = figure([one.ms for one in answers], "ms")
    begun = figure([first.ms], "ms")
    return {f"recall_meaning_ms.{lessons}": times, f"recall_meaning_first_ms.{lessons}": begun}


def asked(store: Store, count: int, embedder: Embedder | None = None) -> list[Answer]:
    """Return the answers to so many different queries, each timed.

    Raises:
        SegwrightError: a recall told nothing.
    """
    rng, answers = Random(5), []
    for text in dict.fromkeys(query(rng) for _ in range(4 * count)):
        begin = time.monotonic()
        told = recall(
            store,
            text,
            conditions=HERE,
            budget_tokens=BUDGET_TOKENS,
            limit=briefing.LESSONS,
            embedder=embedder,
        )
        answers.append(Answer(told, 1000 * (time.monotonic() - begin)))
        if not told:
            raise SegwrightError(f"a recall told nothing for {text!r}")
        if len(answers) == count:
            break
    return answers


def context_figures(folder: Path, repeats: int) -> dict[str, Figure]:
    """Return, of each role, the figures of its slowest prompt and of the tokens of all of them.

    `context_tokens.<role>` is the largest prompt with its form, with the smallest and the largest;
    `context_room.<role>` what a prompt may have without its form.

    Raises:
        SegwrightError: a prompt is larger than it may be.
    """
    with Unkept.open(folder / "campaign.db", read_only=True) as store:
        planner = LlmPlanner(reading_session(folder, store), Unasked())
        known = Known(Standings(store), {fact.key: fact for fact in derive_facts(store)})
        return prompt_figures(folder, planner, known, repeats)


def prompt_figures(
    folder: Path, planner: LlmPlanner, known: Known, repeats: int
) -> dict[str, Figure]:
    """Return the figures of `context_figures`."""
    figures: dict[str, Figure] = {}
    for role in ROLES:
        purposes = [name for name, (own, _) in PURPOSES.items() if own == role]
        make = {name: partial(prompt_of, folder, planner, name, known) for name in purposes}
        made = {name: one() for name, one in make.items()}
        for one in made.values():
            check_size(one, planner.room[role])
        times = [timed(one, repeats) for one in make.values()]
        sizes = [float(shown(one)["tokens"]["all"]) for one in made.values()]
        figures |= {
            f"context_ms.{role}": max(figure(one, "ms") for one in times),
            f"context_tokens.{role}": Figure(max(sizes), min(sizes), max(sizes), "tokens"),
            f"context_room.{role}": figure([float(planner.room[role])], "tokens"),
        }
    return figures


def prompt_of(
    folder: Path, planner: LlmPlanner, purpose: str, known: Known | None = None
) -> Prompt:
    """Return the prompt of a purpose as it would be sent now, from a store opened for it.

    `known` is kept from prompt to prompt, as a campaign keeps it.
    """
    known = known or Known()
    with Unkept.open(folder / "campaign.db", read_only=True) as store:
        if purpose == "propose":
            return propose(store, planner, known.standings)
        if purpose == "write":
            return write(store, planner, known.facts)
        return CHOICES[purpose](store, planner)


def check_size(prompt: Prompt, room: int) -> None:
    """Refuse a prompt that is larger than its role's room, or that has a section above its limit.

    Raises:
        SegwrightError: it is.
    """
    tokens = next(one.tokens for one in prompt.sizes() if one.section == "all")
    if tokens > room:
        raise SegwrightError(
            f"the prompt {prompt.purpose!r} has about {tokens} tokens; its role has room for {room}"
        )
    mark = len('<material name=""></material>') + 2
    for name, text in prompt.sections.items():
        if len(text) > LIMITS[name] + mark + len(name):
            raise SegwrightError(
                f"section {name!r} of the prompt {prompt.purpose!r} has {len(text)} characters; "
                f"allowed: {LIMITS[name]}"
            )


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Do a piece of work so many times and return the milliseconds of each."""
    times = []
    for _ in range(repeats):
        begin = time.monotonic()
        work()
        times.append(1000 * (time.monotonic() - begin))
    return times
