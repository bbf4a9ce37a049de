"""From a language model's reply to a proposal: what of it can be built, cited and said.

Pure. Components go where `sandbox/placement.py` lets them: a place that does not exist becomes the
nearest one that does, and the proposal says so. A citation that is in neither the library nor the
search result is dropped and listed, as is a sentence that states a result, for a model that has
measured nothing has none to state.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from agent.motivation import title as title_of
from agent.reply_forms import LibraryModule, ModuleReply, NewModule, ProposalReply
from memory.errors import PlannerError
from memory.records import Figures, Module, Proposal, short_id
from sandbox.clean import clean_text
from sandbox.components import COMPONENTS
from sandbox.placement import WITHOUT_STAGES, problems, stage_options, stage_range

SIZES = {
    "small": "below half a point of mean Dice",
    "medium": "half a point to two points of mean Dice",
    "large": "more than two points of mean Dice",
}
STEM = "isensee2021nnunet"
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_RESULT = re.compile(
    r"\d[\d.,]*\s*(?:%|percent|points?\b|dice\b|dsc\b|mm\b|times better)"
    r"|\b(?:dice|dsc|hd95|nsd|accuracy|p)\s*(?:score|value)?\s*(?:of|=|<|>|:|is|was|by)+\s*[\d.]"
    r"|\b(?:significant(?:ly)?|state[- ]of[- ]the[- ]art|outperforms?|proven|guarantees?)\b",
    re.IGNORECASE,
)


class Plan(NamedTuple):
    """The planned U-Net, as far as placement needs it: dimensions, and stages with the bottleneck."""

    dims: int
    n_stages: int


def proposal_of(
    reply: ProposalReply, plan: Plan, *, citable: Collection[str], detail: Figures
) -> Proposal:
    """Return the proposal that a reply makes.

    Args:
        reply: in its form already.
        plan: where modules may go.
        citable: keys that may be cited.
        detail: what the caller knows of the reply: challenge, bent, endpoint, model.

    Raises:
        PlannerError: its modules make no network; the text is fit for the model that wrote it.
    """
    modules, moved = placed(reply.modules, plan)
    motivation, struck = without_results(reply.motivation)
    integration, more = without_results(reply.integration)
    cited = [key.strip().strip("[]") for key in reply.citations]
    own: Figures = {
        **detail,
        "integration": integration,
        "expected_on": said(reply.expected_on),
        "expected_size": reply.expected_size,
        "cost": reply.cost,
        **new_parts(reply.modules),
        "moved": moved,
        "struck": [*struck, *more],
        "refused_citations": [clean_text(key) for key in cited if key not in citable],
    }
    return Proposal(
        id=short_id([listed(modules), said(reply.title), motivation, None]),
        title=headline(reply.title, modules),
        motivation=motivation or "The model gave no motivation that could be kept.",
        modules=modules,
        refutation=said(reply.refutation),
        citations=tuple(dict.fromkeys([STEM, *(key for key in cited if key in citable)])),
        planner="llm",
        detail=own,
    )


def headline(title: str, modules: Sequence[Module]) -> str:
    """Return a title in one line; the modules' own where it states a result."""
    kept, struck = without_results(" ".join(clean_text(title).split()))
    if not struck and kept:
        return kept
    return plain_title(modules)


def plain_title(modules: Sequence[Module]) -> str:
    """Return the title that modules give a network, library components before new classes."""
    library = [m for m in modules if m.component in COMPONENTS]
    new = [f"{m.component} ({m.position})" for m in modules if m.component not in COMPONENTS]
    return " + ".join([*([title_of(library)] if library or not new else []), *new])


def said(text: str) -> str:
    """Return a model's sentence in one line, without control characters."""
    return " ".join(clean_text(text).split())


def without_results(text: str) -> tuple[str, list[str]]:
    """Return a text without its sentences that state a result, and those sentences."""
    sentences = _SENTENCE.split(said(text))
    struck = [one for one in sentences if _RESULT.search(one)]
    return " ".join(one for one in sentences if one not in struck), struck


def listed(modules: Sequence[Module]) -> list[list[Any]]:
    """Return modules as plain values, in one order."""
    return sorted([m.component, m.position, list(m.stages)] for m in modules)


def new_parts(replies: Sequence[ModuleReply]) -> Figures:
    """Return ideas and equations of new modules by their class, and why library ones are there."""
    new = [one for one in replies if isinstance(one, NewModule)]
    old = [one for one in replies if isinstance(one, LibraryModule)]
    return {
        "ideas": {one.class_name: said(one.idea) for one in new},
        "equations": {one.class_name: clean_text(one.equations).strip() for one in new},
        "reasons": {one.component: without_results(one.reason)[0] for one in old},
    }


def placed(replies: Sequence[ModuleReply], plan: Plan) -> tuple[tuple[Module, ...], list[str]]:
    """Return the modules where they may go, and what was moved.

    Raises:
        PlannerError: together they make no network.
    """
    pairs = [place(one, plan) for one in replies]
    modules = tuple(module for module, _ in pairs)
    names = [module.component for module in modules]
    if len(set(names)) < len(names):
        raise PlannerError(f"a module is there twice: {', '.join(names)}; once is allowed")
    library = [m for m in modules if m.component in COMPONENTS]
    if found := problems(library, dims=plan.dims, n_stages=plan.n_stages):
        raise PlannerError("; ".join(found))
    return modules, [text for _, text in pairs if text]


def place(reply: ModuleReply, plan: Plan) -> tuple[Module, str]:
    """Return one module where it may go, and a sentence where that is elsewhere than asked."""
    asked = tuple(sorted(set(reply.stages)))
    if isinstance(reply, NewModule):
        return new_place(reply, asked, plan)
    card = COMPONENTS[reply.component]
    if plan.dims not in card.dims:
        raise PlannerError(f"{card.name} has no {plan.dims}D form")
    position = reply.position if reply.position in card.positions else card.positions[0]
    if position in WITHOUT_STAGES:
        stages: tuple[int, ...] = ()
    else:
        may = stage_range(card, position, plan.n_stages)
        stages = tuple(s for s in asked if s in may)
        stages = stages or stage_options(card, position, plan.n_stages)[0]
    return Module(card.name, position, stages), moved(
        card.name, reply.position, asked, position, stages
    )


def new_place(reply: NewModule, asked: tuple[int, ...], plan: Plan) -> tuple[Module, str]:
    """Return a new module's place: stages that the plan has; the bottleneck and heads have none."""
    if any(reply.class_name == card.class_name for card in COMPONENTS.values()):
        raise PlannerError(
            f"{reply.class_name} is a class of the library; name another, or use the component"
        )
    last = plan.n_stages if reply.position in ("encoder", "downsample") else plan.n_stages - 1
    bare = reply.position in WITHOUT_STAGES
    stages = () if bare else tuple(s for s in asked if s < last) or (last - 1,)
    text = moved(reply.class_name, reply.position, asked, reply.position, stages)
    return Module(reply.class_name, reply.position, stages), text


def moved(
    name: str, position: str, asked: tuple[int, ...], now: str, stages: tuple[int, ...]
) -> str:
    """Return a sentence on a module that went elsewhere than asked; empty where it did not."""
    if position == now and (asked == stages or not stages):
        return ""
    return f"{name} was asked for at {position} {list(asked)} and goes to {now} {list(stages)}"
