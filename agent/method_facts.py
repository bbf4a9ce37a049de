"""Facts that tie what is said of the chosen network to its code, its dry run and its ablations.

Lines are those of network.py at the commit that was confirmed; `agent/method_rows.py` says when they
are told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.ablation import LEFT_OUT
from agent.diagram import component_title
from agent.fact_book import FactBook
from agent.method_code import MISSING as LACKING
from agent.method_code import WHOLE, Item, Link
from agent.method_rows import (
    COARSE,
    DIFFERENT,
    LINKED,
    MISSING,
    MOVED,
    PASSED,
    UNREADABLE,
    Matter,
    ablated,
    check_of,
    figure_of,
    impossible,
    matter_of,
    own_ablations,
)
from agent.report_rows import Rows
from memory.records import Proposal
from sandbox.components import COMPONENTS

MOST_ITEMS, MOST_PLACES, LONGEST = 12, 6, 400
STATES = {
    LINKED: "the text was read and has the recorded hash",
    MISSING: "the text could not be read from the repository of code",
    DIFFERENT: "the text has another hash than its training is recorded with",
    UNREADABLE: "the text is no Python that can be followed",
}


class PartView(NamedTuple):
    """A promised part: the prefix of its facts, and which sentences hold for it.

    `is_found` is set where the code has it, `is_whole` where nothing of it is lacking, `is_placed`
    where it is a module. `by` is how it was found, of `Found`; `origin` of `Link`. `check` is one
    of MOVED, COARSE, PASSED, WEIGHTS and UNCHECKED. `compared` and `uncompared` are prefixes of
    ablations' facts, `impossible` of those that could not be made.
    """

    key: str
    is_found: bool
    is_whole: bool
    is_placed: bool
    is_function: bool
    by: str
    origin: str
    check: str
    compared: tuple[str, ...]
    uncompared: tuple[str, ...]
    impossible: tuple[str, ...]


@dataclass(frozen=True)
class MethodView:
    """What the sentences on the chosen network's code walk over; `state` is of STATES or ""."""

    state: str = ""
    is_written: bool = False
    parts: tuple[PartView, ...] = ()
    planned: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def add_method_facts(book: FactBook, rows: Rows) -> None:
    """Add what ties the chosen network's description to its code; nothing where none was chosen."""
    matter = matter_of(rows)
    if matter is None:
        return
    whole = [*matter.commit(), f"trial:{matter.trial.id}"]
    book.words("method.state", STATES[matter.state], whole)
    book.identifier("method.commit", matter.trial.commit, whole, shown=12)
    code = matter.code
    if code is None:
        return
    book.identifier("method.digest", code.digest, whole, shown=16)
    book.count("method.lines", code.n_lines, whole)
    for place, link in enumerate(code.links):
        _part(book, f"method.{place}", matter, link)
    for name in ("planned", "changed", "others"):
        _items(book, f"method.{name}", matter, getattr(code, name))


def _part(book: FactBook, key: str, matter: Matter, link: Link) -> None:
    told = [f"proposal:{matter.proposal.id}"]
    span, lines = link.found.span, addresses(matter, link)
    book.words(f"{key}.module", title_of(link), told)
    if idea := idea_of(matter.proposal, link):
        book.words(f"{key}.idea", idea, told, longest=LONGEST)
    book.words(f"{key}.why", link.why, [*told, *(lines or matter.commit())])
    if span is not None:
        book.words(f"{key}.class", link.found.name or link.wanted, lines)
        book.words(f"{key}.lines", span.printed, lines)
        book.identifier(f"{key}.digest", link.digest, lines, shown=12)
        if link.helpers:
            book.words(f"{key}.helpers", listed(link.helpers), lines, longest=LONGEST)
        if link.places:
            at = matter.commit(*(f"network.py#L{line}" for line in link.places[:MOST_PLACES]))
            book.words(f"{key}.built", lines_text(link.places), at)
            book.words(f"{key}.inside", ", ".join(filter(None, link.inside)), at)
    _shown(book, key, matter, link)
    events, said = ablated(matter, link)
    book.words(f"{key}.ablation", said, [f"event:{event}" for event in events] or told)


def _shown(book: FactBook, key: str, matter: Matter, link: Link) -> None:
    """Add what the dry run showed of a part: how many were built, and how far the logits moved."""
    if matter.dry is None or check_of(matter, link) not in (MOVED, COARSE, PASSED):
        return
    sources = [f"event:{matter.dry.id}"]
    count = figure_of(matter.dry, "instances", link.wanted)
    if count is not None:
        book.count(f"{key}.instances", round(count), sources)
    if (effect := figure_of(matter.dry, "effect", link.wanted)) is not None:
        book.number(f"{key}.active", effect, sources)


def _items(book: FactBook, key: str, matter: Matter, items: Sequence[Item]) -> None:
    for place, item in enumerate(items[:MOST_ITEMS]):
        book.words(f"{key}.{place}", worded(item), matter.commit(item.span.address))
    if len(items) > MOST_ITEMS:
        book.count(f"{key}.more", len(items) - MOST_ITEMS, matter.commit())


def title_of(link: Link) -> str:
    """Return what a promised part is called."""
    return component_title(link.module) if link.module else link.wanted


def idea_of(proposal: Proposal, link: Link) -> str:
    """Return what the planner says that a part of its own computes; "" for a published one."""
    name, ideas = (
        link.module.component if link.module else link.wanted,
        proposal.detail.get("ideas"),
    )
    if name in COMPONENTS or not isinstance(ideas, dict):
        return ""
    return str(ideas.get(name) or "").strip()


def addresses(matter: Matter, link: Link) -> list[str]:
    """Return the addresses of a part's lines and its helpers'; empty where it was not found."""
    if link.found.span is None:
        return []
    spans = [link.found.span, *(item.span for item in link.helpers[:MOST_ITEMS])]
    return matter.commit(*(span.address for span in spans))


def worded(item: Item) -> str:
    """Return a definition with its lines."""
    return f"{item.name} ({item.span.printed}{'' if item.is_used else ', never used'})"


def listed(items: Sequence[Item]) -> str:
    """Return some definitions with their lines, as one text."""
    rest = len(items) - MOST_PLACES
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(map(worded, items[:MOST_PLACES])) + more


def lines_text(lines: Sequence[int]) -> str:
    """Return some lines as one text."""
    rest = len(lines) - MOST_PLACES
    more = f" and {rest} more" if rest > 0 else ""
    return f"network.py:{', '.join(map(str, lines[:MOST_PLACES]))}{more}"


def build_method_view(rows: Rows) -> MethodView:
    """Return what the sentences on the chosen network's code walk over."""
    matter = matter_of(rows)
    if matter is None:
        return MethodView()
    code = matter.code
    if code is None:
        return MethodView(matter.state)
    return MethodView(
        matter.state,
        code.is_written,
        tuple(_view(f"method.{n}", matter, link) for n, link in enumerate(code.links)),
        *(
            _keys(f"method.{name}", getattr(code, name))
            for name in ("planned", "changed", "others")
        ),
    )


def _keys(key: str, items: Sequence[Item]) -> tuple[str, ...]:
    return tuple(f"{key}.{place}" for place in range(len(items[:MOST_ITEMS])))


def _view(key: str, matter: Matter, link: Link) -> PartView:
    rows = list(own_ablations(matter, link.module))
    lost = impossible(matter, link.module)
    return PartView(
        key=key,
        is_found=link.state != LACKING,
        is_whole=link.state == WHOLE,
        is_placed=link.module is not None,
        is_function=link.is_function,
        by=link.found.by,
        origin=link.origin,
        check=check_of(matter, link),
        compared=tuple(f"ablation.{n}" for n, row in rows if row.get("delta") is not None),
        uncompared=tuple(f"ablation.{n}" for n, row in rows if row.get("delta") is None),
        impossible=tuple(f"{LEFT_OUT}.{n}" for n, _ in lost),
    )
