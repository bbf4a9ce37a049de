"""What the templates walk over about the rules: protocol, noise, staged selection, ablations."""

from dataclasses import dataclass

from agent.ablation import LEFT_OUT, ablations
from agent.amendments import amendments, low_power
from agent.margins import NOISE
from agent.protocol import declared
from agent.report_rows import Rows
from agent.rule_facts import last_event, left_out
from agent.selection_scores import CHOSEN, PLANNED
from memory.records import Claim


@dataclass(frozen=True)
class RuleView:
    """Keys of facts, in their order; each is empty where there is nothing.

    `ablated` are the ablations with a difference; `was_ablated` says that some were begun.
    """

    is_declared: bool
    has_noise: bool
    tests: tuple[str, ...]
    amended: tuple[str, ...]
    low_power: tuple[str, ...]
    is_staged: bool
    staged: tuple[str, ...]
    ablated: tuple[str, ...]
    was_ablated: bool
    not_ablated: tuple[str, ...]
    secondary: dict[str, tuple[str, ...]]


def build_rule_view(rows: Rows) -> RuleView:
    """Return what the templates walk over, from the rows."""
    protocol, chosen = declared(rows.events), last_event(rows, CHOSEN)
    tests = protocol.figures["record"]["tests"] if protocol else ()
    scores = chosen.figures["scores"] if chosen else ()
    found = enumerate(ablations(rows.events))
    compared = [place for place, row in found if isinstance(row["delta"], int | float)]
    return RuleView(
        is_declared=protocol is not None,
        has_noise=last_event(rows, NOISE) is not None,
        tests=numbered("declared.test", len(tests)),
        amended=numbered("amended", len(amendments(rows.events))),
        low_power=numbered("low_power", len(low_power(rows.events))),
        is_staged=last_event(rows, PLANNED) is not None,
        staged=numbered("staged", len(scores)),
        ablated=tuple(f"ablation.{place}" for place in compared),
        was_ablated=bool(ablations(rows.events)),
        not_ablated=numbered(LEFT_OUT, len(left_out(rows))),
        secondary={f"claim.{c.id}": secondaries(c) for c in rows.claims},
    )


def numbered(prefix: str, count: int) -> tuple[str, ...]:
    """Return the keys PREFIX.0, PREFIX.1 and so on."""
    return tuple(f"{prefix}.{place}" for place in range(count))


def secondaries(claim: Claim) -> tuple[str, ...]:
    """Return the keys of a claim's declared secondaries that could be compared."""
    found = claim.figures.get("secondary")
    rows = found if isinstance(found, list) else []
    return tuple(f"claim.{claim.id}.secondary.{place}" for place in range(len(rows)))


def outcome_of(claim: Claim) -> str:
    """Return the outcome that a report is headed by: a claim's verdict, with one case apart.

    A gain that was shown and is below the margin is no improvement of the size that was asked
    for.
    """
    delta, margin = (claim.figures.get(name) for name in ("delta", "margin"))
    is_small = isinstance(delta, float) and isinstance(margin, float) and delta < margin
    return "better_below_margin" if claim.verdict == "better" and is_small else claim.verdict
