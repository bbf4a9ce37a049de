"""`segwright why`: any event of a campaign in three lines, for readers without statistics.

The first line says what was decided, the second why, with the figures that mattered, the third
what it was weighed against, what it costs, or when it may change. Always three, each under 160
characters, whatever the event holds: where a figure is missing, a line falls back to the stored
text. Pure.
"""

from collections.abc import Callable

from agent import weighing
from agent import why_decision as decision
from agent import why_event as other
from agent import why_locked as locked
from agent import why_memory as memory
from agent import why_model as model
from agent import why_protocol as rules
from agent import why_selection as select
from agent.told import WIDEST, Names, Told, UntoldError
from agent.wording import clip, one_line, sentence
from memory.records import Event

LONGEST = 159
WIDTHS = (WIDEST, 90, 70, 56, 44, 36, 28, 20, 14, 8)

Line = Callable[[Told], str]
Three = tuple[Line, Line, Line]

DECISIONS: dict[str, Three] = {
    "open": (decision.open_what, decision.open_why, decision.open_else),
    "improve": (decision.improve_what, decision.improve_why, decision.improve_else),
    "crossover": (decision.crossover_what, decision.improve_why, decision.crossover_else),
    "promote": (decision.promote_what, decision.promote_why, decision.promote_else),
    "repeat": (decision.repeat_what, decision.repeat_why, decision.repeat_else),
    "cut": (decision.cut_what, decision.cut_why, decision.cut_else),
    "repair": (decision.repair_what, decision.repair_why, decision.repair_else),
    "smaller_batch": (decision.smaller_what, decision.smaller_why, decision.smaller_else),
    "confirm": (decision.confirm_what, decision.confirm_why, decision.confirm_else),
    "wait": (decision.wait_what, decision.wait_why, weighing.left),
    "baseline": (other.baseline_what, other.baseline_why, other.baseline_next),
    "confirming": (other.confirming_what, other.confirming_why, other.confirming_next),
    "selecting": (select.selecting_what, select.selecting_why, select.selecting_next),
    "early_ablation": (model.early_what, model.early_why, model.early_next),
    "rival": (model.rival_what, model.rival_why, model.rival_next),
    "ablating": (locked.ablating_what, locked.ablating_why, locked.ablating_next),
}
OTHERS: dict[str, Three] = {
    "split": (other.split_what, other.split_why, other.split_next),
    "protocol": (rules.protocol_what, rules.protocol_why, rules.protocol_next),
    "amended": (rules.amended_what, rules.amended_why, rules.amended_next),
    "noise": (rules.noise_what, rules.noise_why, rules.noise_next),
    "low_power": (rules.low_power_what, rules.low_power_why, rules.low_power_next),
    "selection": (select.selection_what, select.selection_why, select.selection_next),
    "finalists": (select.finalists_what, select.finalists_why, select.finalists_next),
    "rungs": (other.rungs_what, other.rungs_why, other.rungs_next),
    "dry_run": (other.dry_run_what, other.dry_run_why, other.dry_run_next),
    "trial_result": (other.result_what, other.result_why, other.result_next),
    "checkpoint": (other.checkpoint_what, other.checkpoint_why, other.checkpoint_next),
    "memory_ladder": (other.memory_what, other.memory_why, other.memory_next),
    "started": (other.started_what, other.started_why, other.started_next),
    "done": (other.done_what, other.done_why, other.done_next),
    "spent": (other.spent_what, other.spent_why, other.spent_next),
    "stopped": (other.stopped_what, other.stopped_why, other.stopped_next),
    "unsafe": (other.unsafe_what, other.unsafe_why, other.unsafe_next),
    "weaker_isolation": (other.weaker_what, other.weaker_why, other.weaker_next),
    "no_proposal": (other.no_proposal_what, other.no_proposal_why, other.no_proposal_next),
    "probe": (model.probe_what, model.probe_why, model.probe_next),
    "challenges": (model.challenges_what, model.challenges_why, model.challenges_next),
    "round": (model.round_what, model.round_why, model.round_next),
    "refused_idea": (model.refused_what, model.refused_why, model.refused_next),
    "not_assessed": (model.not_assessed_what, model.not_assessed_why, model.not_assessed_next),
    "unexplained": (model.unexplained_what, model.fell_back_why, model.unexplained_next),
    "prose_refused": (model.section_what, model.fell_back_why, model.section_next),
    "library": (memory.library_what, memory.library_why, memory.library_next),
    "diagnosis": (model.diagnosis_what, model.diagnosis_why, model.diagnosis_next),
    "fell_back": (model.fell_back_what, model.fell_back_why, model.fell_back_next),
    "planner_lost": (model.lost_what, model.fell_back_why, model.lost_next),
    "planner_back": (model.back_what, model.back_why, model.back_next),
    "unplanned": (model.unplanned_what, model.unplanned_why, model.unplanned_next),
    "ablation": (locked.ablation_what, locked.ablation_why, locked.ablation_next),
    "ablation_left_out": (locked.left_out_what, locked.left_out_why, locked.left_out_next),
    "refused": (locked.refused_what, locked.refused_why, locked.refused_next),
    "no_claim": (other.no_claim_what, other.no_claim_why, other.no_claim_next),
    "reproduced": (other.reproduced_what, other.reproduced_why, other.reproduced_next),
}


def explain(event: Event, names: Names) -> tuple[str, str, str]:
    """Return three lines that explain an event, none empty, each under 160 characters."""
    known = DECISIONS.get(event.kind) or OTHERS.get(event.kind) or (unknown, unknown, unknown)
    told = Told(event, names)
    what, why, rest = known
    number = f"Event {event.id}: " if event.id else ""
    return (
        fitted(what, told, else_=kind_of, before=number),
        fitted(why, told, else_=stored),
        fitted(rest, told, else_=figures_left),
    )


def fitted(line: Line, told: Told, *, else_: Line, before: str = "") -> str:
    """Return a line with titles as long as it can hold, else what can be said without figures."""
    for width in WIDTHS:
        one = told.narrowed(width)
        try:
            text = sentence(before + one_line(line(one)))
        except UntoldError:
            text = sentence(before + one_line(else_(one)))
        if len(text) <= LONGEST:
            return text
    return clip(text, LONGEST)


def unknown(told: Told) -> str:
    """Say nothing of a kind of event that this version does not know."""
    raise UntoldError(told.event.kind)


def kind_of(told: Told) -> str:
    """Return what kind of event it is, and which trial it is about."""
    kind = clip(one_line(told.event.kind), told.width).replace("_", " ") or "event"
    about = f" about {told.subject}{told.place()}" if told.event.trial else ""
    return f"{kind}{about}"


def stored(told: Told) -> str:
    """Return the text that was stored with the event."""
    try:
        return f"Stored with it: {told.stored_text()}"
    except UntoldError:
        return "Nothing more was stored with it in words."


def figures_left(told: Told) -> str:
    """Say where all figures are."""
    count = len(told.event.figures)
    if not count:
        return "No figures were stored with it."
    return f"This version knows no more of it; --json prints all that is stored ({count} entries)."
