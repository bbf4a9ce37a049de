"""What the rows of a campaign say about the chosen network's code: its text, dry run, ablations. Pure.

The text is told of only where it could be read and has the hash that its training is recorded with.
The dry run's figures were reported by the process of the trial: they inform, and no score rests on
them.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.ablation import ablations
from agent.method_code import Link, MethodCode, method_code
from agent.report_rows import Rows
from agent.rule_facts import left_out
from agent.suggestions import Clue
from agent.trials import FUNCTION
from memory.records import Event, Figures, Module, Proposal, Trial
from sandbox.components import COMPONENTS

LINKED, MISSING, DIFFERENT, UNREADABLE = "linked", "missing", "different", "unreadable"
MOVED, COARSE, PASSED, WEIGHTS, UNCHECKED = "moved", "coarse", "passed", "weights", "unchecked"
COMPARED, UNCOMPARED, IMPOSSIBLE, NONE = (
    "compared",
    "not compared",
    "not possible",
    "not carried out",
)


@dataclass(frozen=True)
class Matter:
    """The chosen network: its trial, its proposal, its text against it, the rows about it."""

    rows: Rows
    trial: Trial
    proposal: Proposal
    state: str
    code: MethodCode | None
    dry: Event | None

    def commit(self, *items: str) -> list[str]:
        """Return the addresses of lines of the commit, or of all of it."""
        return [f"commit:{self.trial.commit}:{item}" for item in items or ("network.py",)]


def matter_of(rows: Rows) -> Matter | None:
    """Return what is known of the chosen network's code; None where no network was chosen."""
    arm = rows.finalists[0] if rows.finalists else None
    proposal = rows.proposals.get(arm.key) if arm else None
    if arm is None or proposal is None or arm.trials[0].commit is None:
        return None
    trial, dry = arm.trials[0], dry_run_of(rows, str(arm.trials[0].commit))
    source = rows.sources.get(str(trial.commit))
    state = source_state(source, trial)
    code = None
    if source is not None and state == LINKED:
        code = method_code(proposal, source, counted(dry))
        state = LINKED if code else UNREADABLE
    return Matter(rows, trial, proposal, state, code, dry)


def source_state(source: str | None, trial: Trial) -> str:
    """Return whether a text is there and is the one that was trained."""
    if source is None:
        return MISSING
    found = hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()
    return LINKED if trial.network_hash in (None, found) else DIFFERENT


def dry_run_of(rows: Rows, commit: str) -> Event | None:
    """Return the last dry run of a commit in which its parts were looked at."""
    found = (e for e in reversed(rows.events) if e.kind == "dry_run")
    own = (e for e in found if e.figures.get("commit") == commit)
    return next((event for event in own if parts_of(event)), None)


def parts_of(event: Event | None) -> Figures:
    """Return what a dry run showed of a network's parts; empty where it did not come to that."""
    said = event.figures.get("verdicts") if event else None
    for verdict in said if isinstance(said, list) else ():
        if isinstance(verdict, dict) and verdict.get("step") == "parts" and verdict.get("passed"):
            evidence = verdict.get("evidence")
            return evidence if isinstance(evidence, dict) else {}
    return {}


def figure_of(event: Event | None, name: str, part: str) -> float | None:
    """Return a reported figure of a part with three digits; None where there is none of sense."""
    said = parts_of(event).get(name)
    value: Any = said.get(part) if isinstance(said, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(f"{value:.3g}") if math.isfinite(value) and 0 <= value < 1e15 else None


def counted(event: Event | None) -> list[Clue]:
    """Return how many modules of each class a dry run counted."""
    said = parts_of(event).get("instances")
    names = [name for name in said if isinstance(name, str)] if isinstance(said, dict) else []
    found = ((name, figure_of(event, "instances", name)) for name in names)
    return [Clue(f"dry.instances.{n}", "", value, "places") for n, value in found if value]


def check_of(matter: Matter, link: Link) -> str:
    """Return what the dry run says of a part's effect on the logits."""
    card = COMPONENTS.get(link.module.component) if link.module else None
    if card is not None and card.form == FUNCTION:
        return WEIGHTS
    effect = figure_of(matter.dry, "effect", link.wanted)
    if effect is not None:
        return MOVED if effect else COARSE
    return PASSED if figure_of(matter.dry, "instances", link.wanted) else UNCHECKED


def ablated(matter: Matter, link: Link) -> tuple[list[int], str]:
    """Return the events of a part's ablations, and what came of them."""
    rows = [row for _, row in own_ablations(matter, link.module)]
    if found := [row for row in rows if row.get("delta") is not None]:
        return [row["event"] for row in found], COMPARED
    if rows:
        return [row["event"] for row in rows], UNCOMPARED
    if lost := [event.id for _, event in impossible(matter, link.module)]:
        return lost, IMPOSSIBLE
    return [], NONE


def own_ablations(matter: Matter, module: Module | None) -> Iterator[tuple[int, Figures]]:
    """Yield the chosen network's ablations of a module, each with its number among all."""
    for place, row in enumerate(ablations(matter.rows.events)):
        finalist = matter.rows.by_id.get(str(row.get("finalist")))
        if finalist and finalist.commit == matter.trial.commit and is_of(row, module):
            yield place, row


def impossible(matter: Matter, module: Module | None) -> Iterator[tuple[int, Event]]:
    """Yield the events that a module cannot be taken out, each with its number among all."""
    for place, event in enumerate(left_out(matter.rows)):
        finalist = matter.rows.by_id.get(str(event.trial))
        is_own = finalist is not None and finalist.commit == matter.trial.commit
        if is_own and event.figures.get("reason") == "impossible" and is_of(event.figures, module):
            yield place, event


def is_of(row: Figures, module: Module | None) -> bool:
    """Tell whether figures of an ablation are about a module at its place."""
    if module is None or row.get("component") != module.component:
        return False
    is_there = row.get("position") == module.position
    return is_there and list(row.get("stages", module.stages)) == list(module.stages)
