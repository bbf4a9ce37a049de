"""What a choice was weighed against, in words: draws, scores, beliefs and the time left.

`arms` are the rows of `agent/explore.py` (with draws and scores) or of `agent/camyla.py` (scores
alone), `draws` and `fresh` those of `agent/nested_thompson.py`. Pure.
"""

from agent.told import Told, UntoldError
from agent.wording import (
    bare_points,
    beside_baseline,
    beside_it,
    duration,
    sentence,
)
from memory.records import Figures


def believed(told: Told) -> str:
    """Return what the network is believed to be worth."""
    mean, sd = told.number("posterior_mean"), told.number("posterior_sd")
    return f"it is believed to be {beside_baseline(mean)}, give or take {bare_points(sd)}"


def bar(told: Told) -> str:
    """Return what had to be passed."""
    level = told.number("bar")
    if level <= 0:
        return "the baseline is to be passed"
    return f"the best network is at {bare_points(level)}"


def goal(told: Told) -> str:
    """Return whom a network must pass, and by how many points of Dice."""
    return f"{told.called(told.text('against'))} by {bare_points(told.number('margin'))} points"


def chosen_row(told: Told) -> Figures:
    """Return the arm or draw that was chosen; UntoldError if the figures do not say which."""
    name = "draws" if told.has("draws") else "arms"
    for row in told.rows(name):
        if row.get("chosen") is True:
            return row
    named = [row for row in told.rows(name) if row.get("node") == told.event.trial]
    if not named:
        raise UntoldError(name)
    return named[0]


def rivals(told: Told) -> list[Figures]:
    """Return the arms or draws that were not chosen, in their order."""
    if told.has("fresh"):
        chosen = None if told.event.trial is None else chosen_row(told)
        rows = told.event.figures.get("draws")
    else:
        chosen, rows = chosen_row(told), told.rows("arms")
    known = rows if isinstance(rows, list) else []
    return [row for row in known if isinstance(row, dict) and row is not chosen]


def next_best(told: Told) -> Figures:
    """Return the arm with the highest score of those not chosen; UntoldError without any."""
    rows = rivals(told)
    if not rows:
        raise UntoldError("arms")
    return max(rows, key=lambda row: told.number("score", row))


def drawn(told: Told, what: str) -> str:
    """Say what a choice may reach by the draw of this decision, and the best of the others."""
    if told.has("fresh") and told.event.trial is None:
        reach = told.number("fresh")
    else:
        row = chosen_row(told)
        if "reach" not in row:
            return bonus_rule()
        reach = told.number("reach", row)
    rows = rivals(told)
    said = f"A random draw from what is known puts {what} {beside_baseline(reach)}"
    if not rows:
        return f"{said}."
    best = max(told.number("reach", row) for row in rows)
    others = f"the best of {len(rows)} others" if len(rows) > 1 else "the only other"
    return f"{said}; {others} is {beside_it(best)}."


def believed_and_drawn(told: Told) -> str:
    """Say what the chosen network is believed to be, and what the draw let it lead to."""
    row = chosen_row(told)
    if "reach" not in row:
        return bonus_rule()
    mean, sd, reach = (told.number(name, row) for name in ("mean", "sd", "reach"))
    return (
        f"It is believed to be {beside_baseline(mean)}, give or take {bare_points(sd)}; a random draw "
        f"puts what it leads to {beside_it(reach)}."
    )


def bonus_rule() -> str:
    """Say how rules without draws score a branch."""
    return "This rule adds, to what a branch's networks read, a bonus for few trials."


def weighed(told: Told) -> str:
    """Say what the choice was weighed against."""
    if told.has("fresh"):
        return weighed_draws(told)
    if not told.has("arms"):
        return left(told)
    own = told.number("score", chosen_row(told))
    if not rivals(told):
        return f"Nothing else could be chosen. {left(told)}"
    best = next_best(told)
    score, name = told.number("score", best), rival_name(told, best)
    if score > own:
        scores = f"{score:.2f} against {own:.2f}"
        return f"{sentence(name)[:-1]} scored higher, {scores}, but its trainings did not fit any more."
    return (
        f"With a bonus for what is tried less it scored {own:.2f}, next came {name} with "
        f"{score:.2f}{cost_so_far(told)}."
    )


def cost_so_far(told: Told) -> str:
    """Return what the branch has cost, ready to end a sentence; "" where it is not stored."""
    row = chosen_row(told)
    # Rows without a draw are of other rules, whose visits are trials.
    if "reach" not in row or "visits" not in row or row.get("node") is None:
        return ""
    return f"; its branch has had {told.number('visits', row):.1f} long trainings"


def weighed_draws(told: Told) -> str:
    """Say what the draw was weighed against, and what would have turned it."""
    rows, fresh = rivals(told), told.number("fresh")
    turned = "a higher draw would have turned it"
    if told.event.trial is not None and all(told.number("reach", row) < fresh for row in rows):
        return f"Next came a new idea, {beside_baseline(fresh)}; {turned}."
    if not rows:
        return f"No other branch could be refined. {left(told)}"
    best = max(rows, key=lambda row: told.number("reach", row))
    reach = beside_baseline(told.number("reach", best))
    return f"Next came {rival_name(told, best)}, {reach}; {turned}."


def rival_name(told: Told, row: Figures) -> str:
    """Return what another arm would have done."""
    node = row.get("node")
    return told.called(node) if isinstance(node, str) else "a new idea"


def failed(told: Told) -> str:
    """Return what a trial failed of, ready to end a sentence; "" where it is not known."""
    try:
        return f": {told.failure()}"
    except UntoldError:
        return ""


def by_rule(told: Told) -> str:
    """Say what the policy said, for one that stores no figures of its choice."""
    return f"The policy's own words: {told.stored_text()}."


def left(told: Told) -> str:
    """Say how much time the search has left."""
    if "seconds_left" not in told.event.figures:
        raise UntoldError("seconds_left")
    if told.event.figures["seconds_left"] is None:
        return "The search has no time limit."
    free = told.number("seconds_left") - told.number("confirm_s")
    return f"The search has {duration(max(0.0, free))} left."
