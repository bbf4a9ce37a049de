"""Children of a proposal that carry out suggestions of a diagnosis. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.ideas import listed, plain_title, said
from agent.motivation import citations, described, refutation
from agent.suggestions import Diagnosis, Suggestion
from memory.errors import PlannerError
from memory.records import Figures, Module, Proposal, short_id
from sandbox.components import COMPONENTS


def next_child(
    parent: Proposal,
    found: Diagnosis,
    event: int,
    tried: Sequence[Proposal],
    *,
    planner: str,
) -> Proposal:
    """Return the parent after the first suggestion that was not carried out.

    The built-in planner (`grammar`) writes no code: it carries out those that name a set of
    library components, and none that was tried.

    Raises:
        PlannerError: none is left.
    """
    known = {one.id for one in tried}
    sets = {frozenset(one.modules) for one in (parent, *tried)}
    for number, suggestion in enumerate(found.suggestions):
        child = child_of(parent, found, suggestion, event=event, number=number, planner=planner)
        may = planner != "grammar" or (is_library(child) and frozenset(child.modules) not in sets)
        if may and child.id not in known:
            return child
    raise PlannerError(f"every suggestion for trial {found.trial} was tried")


def child_of(
    parent: Proposal,
    found: Diagnosis,
    suggestion: Suggestion,
    *,
    event: int,
    number: int,
    planner: str,
) -> Proposal:
    """Return the proposal that carries out a suggestion."""
    modules = parent.modules if suggestion.modules is None else suggestion.modules
    change = f"{suggestion.text} Expected: {suggestion.expected}"
    text = f"This child follows a suggestion ({suggestion.category}): {said(suggestion.text)}"
    names = {module.component for module in modules}
    kept: Figures = {
        key: {name: text for name, text in parent.detail.get(key, {}).items() if name in names}
        for key in ("ideas", "equations")
        if key in parent.detail
    }
    detail: Figures = {
        **{k: v for k, v in parent.detail.items() if k not in ("repair", "failure", "grades")},
        **kept,
        "suggestion": {"event": event, "number": number, "category": suggestion.category},
        "expected_on": suggestion.expected,
        "change": change,
        **({"endpoint": found.by} if planner == "llm" else {}),
    }
    base = parent.title.removesuffix(f" ({parent_category(parent)})")
    title = base if modules == parent.modules else plain_title(modules)
    return replace(
        parent,
        id=short_id([listed(modules), parent.id, suggestion.category, suggestion.text]),
        title=f"{title} ({suggestion.category})",
        modules=modules,
        **_words(parent, modules, text),
        planner=planner,
        parent=parent.id,
        detail=detail,
    )


def _words(parent: Proposal, modules: Sequence[Module], text: str) -> dict[str, Any]:
    """Return motivation, refutation and citations; the parent's tell of the parent's modules."""
    if tuple(modules) == parent.modules:
        return {"motivation": f"{text}\n\n{parent.motivation}"}
    if any(module.component not in COMPONENTS for module in modules):
        told = f"Of the network that it changes was said: {parent.motivation}"
        return {"motivation": f"{text}\n\n{told}"}
    return {
        "motivation": "\n\n".join([text, *map(described, modules)]),
        "refutation": refutation(modules, traits={}),
        "citations": citations(modules),
    }


def parent_category(parent: Proposal) -> str:
    """Return the category of the suggestion that a proposal followed; empty for none."""
    return str(parent.detail.get("suggestion", {}).get("category", ""))


def is_library(proposal: Proposal) -> bool:
    """Tell whether all modules of a proposal are components of the library."""
    return all(module.component in COMPONENTS for module in proposal.modules)
