"""Why a policy decided as it did: three sentences for each kind of decision.

The first says what was decided, the second why, the third what it was weighed against, what it
costs, or when it may change. The figures are those of `agent/explore.py`, `agent/ladder.py` and
the rivals; where a policy stores fewer, a sentence raises UntoldError and `agent/why.py` says
less. Pure.
"""

from agent.board import RETURNS, SURE
from agent.explore import CERTAIN
from agent.told import Told, UntoldError
from agent.weighing import (
    bar,
    believed,
    believed_and_drawn,
    by_rule,
    chosen_row,
    drawn,
    failed,
    goal,
    left,
    next_best,
    rival_name,
    weighed,
)
from agent.wording import (
    beside_baseline,
    beside_it,
    chance,
    chance_below,
    counted,
    duration,
    more_than,
    ordinal,
    sentence,
)


def open_what(told: Told) -> str:
    """Say that a new idea is tried, and which one it became."""
    became = f", {told.called(told.names.started)}," if told.names.started else ""
    place = ""
    if told.has("drafts_opened", "drafts_wanted"):
        place = f", draft {told.count('drafts_opened') + 1} of {told.count('drafts_wanted')},"
    return f"decided to try a new idea{became}{place} at {told.rung()}.".replace(",,", ",")


def open_why(told: Told) -> str:
    """Say that drafts are screened, or what a new idea was thought to reach."""
    if told.has("drafts_opened"):
        begun = told.count("drafts_opened")
        place = f"{begun} came before this one" if begun else "this is the first"
        if told.has("learnt"):
            reached = 100 * told.number("learnt")
            return (
                f"In a shorter training the baseline itself reaches {reached:.0f} % of its Dice, too "
                f"little to tell ideas apart; {place}."
            )
        if told.event.figures.get("screens") is False:
            return (
                f"Many ideas are tried before any is refined, as one result may be luck; {place}."
            )
        return f"Many ideas get a short training first, as one result may be luck; {place}."
    if told.has("arms") or told.has("fresh"):
        return drawn(told, "a new idea")
    return by_rule(told)


def open_else(told: Told) -> str:
    """Say what comes after the drafts, or what a new idea was weighed against."""
    if told.has("drafts_wanted"):
        wanted = told.count("drafts_wanted")
        if told.event.figures.get("screens") is False:
            return f"After {wanted} the search refines the best, or tries more. {left(told)}"
        return f"The best of {wanted} get longer trainings once all have been tried. {left(told)}"
    return weighed(told)


def improve_what(told: Told) -> str:
    """Say which network is refined, by what suggestion, and where the refinement begins."""
    rule = f" by its diagnosis ({told.names.suggestion})" if told.names.suggestion else ""
    if told.event.figures.get("returns") is True:
        return (
            f"decided to take {told.subject}{told.place()} back after its cut and to refine it"
            f"{rule}, at {told.rung()}."
        )
    again = ""
    if told.has("siblings"):
        again = f" for the {ordinal(told.count('siblings') + 1)} time"
    return f"decided to refine {told.subject}{told.place()}{again}{rule}, at {told.rung()}."


def improve_why(told: Told) -> str:
    """Say what the network is believed to be, and what its refinement may reach."""
    if told.has("reading"):
        read = beside_baseline(told.number("reading"))
        return f"One of its trainings read {read}; from then on this rule refines only the best."
    if told.has("siblings"):
        before = counted(told.count("siblings"), "other")
        return (
            f"One change may fail by bad luck, so several are tried briefly; this follows {before}."
        )
    if told.has("draws"):
        return drawn(told, "its next refinement")
    if told.has("arms"):
        return believed_and_drawn(told)
    return by_rule(told)


def improve_else(told: Told) -> str:
    """Say what the refinement was weighed against, or what follows it."""
    if told.has("reading"):
        return "No chance was computed: one training is partly luck, and this rule believes it."
    if told.has("siblings"):
        return (
            "Only the best of them is trained longer, and only if it may pass the best network. "
            f"{left(told)}"
        )
    return weighed(told)


def crossover_what(told: Told) -> str:
    """Say which two networks are crossed."""
    partner = told.event.figures.get("partner")
    other = told.called(partner) if isinstance(partner, str) else "a network of another branch"
    return f"decided to cross {told.subject} with {other}, at {told.rung()}."


def crossover_else(told: Told) -> str:
    """Say when networks are crossed, and what this one was weighed against."""
    row, best = chosen_row(told), next_best(told)
    own, score = told.number("score", row), told.number("score", best)
    return (
        "One refinement in seven or so is a cross, once two branches look good; it scored "
        f"{own:.2f}, {rival_name(told, best)} {score:.2f}."
    )


def promote_what(told: Told) -> str:
    """Say which network gets a longer training."""
    back = " back after its cut and train it" if told.event.figures.get("returns") is True else ""
    verb = "take" if back else "train"
    return f"decided to {verb} {told.subject}{told.place()}{back} longer, at {told.rung()}."


def promote_why(told: Told) -> str:
    """Say how the network stands among its like."""
    if told.has("hope"):
        return (
            f"The best of {counted(told.count('siblings'), 'refinement')}: with some luck it is "
            f"{beside_baseline(told.number('hope'))}; {bar(told)}."
        )
    if told.has("arms"):
        return believed_and_drawn(told)
    rank = ordinal(told.count("rank"))
    said = f"It is {rank} of {told.count('ranked')}, and {goes_on(told.count('places'))}"
    return f"{said}; {believed(told)}." if told.has("posterior_mean") else f"{said}."


def goes_on(places: int) -> str:
    """Return how many networks climb."""
    return f"{places} {'goes' if places == 1 else 'go'} on"


def promote_else(told: Told) -> str:
    """Say what the training costs, and when the network would have been cut instead."""
    if told.has("arms"):
        return weighed(told)
    if not told.has("p_ever"):
        return left(told)
    took = duration(told.number("expected_s"))
    hope, level = chance(told.number("p_ever")), chance(told.number("cut_below"))
    return (
        f"That takes {took}. Its chance to pass {goal(told)} is {hope}; below {level} it would "
        "be cut."
    )


def repeat_what(told: Told) -> str:
    """Say which network is trained again."""
    if not told.has("seeds"):
        return f"decided to train {told.subject} again with a new random seed, at {told.rung()}."
    time = ordinal(told.count("seeds") + 1)
    return f"decided to train {told.subject} a {time} time, with a new seed, at {told.rung()}."


def repeat_why(told: Told) -> str:
    """Say how sure the leader is."""
    if not told.has("p_leader"):
        return by_rule(told)
    sure = chance(told.number("p_leader"))
    return (
        "One training is partly luck: the first of the finalists is truly better than the second "
        f"with a chance of {sure}."
    )


def repeat_else(told: Told) -> str:
    """Say which finalists are compared, and what would have settled it."""
    rows = told.rows("finalists") if told.has("finalists") else []
    if len(rows) < 2:
        return left(told)
    first, second = (told.called(told.text("node", row)) for row in rows[:2])
    mean, next_mean = (told.number("mean", row) for row in rows[:2])
    return (
        f"{chance(CERTAIN)} would settle it: {first} is believed to be {beside_baseline(mean)}, "
        f"{second} {beside_it(next_mean)}."
    )


def cut_what(told: Told) -> str:
    """Say which network gets no more time."""
    if told.event.figures.get("reason") == "checkpoint":
        at, end = told.count("iteration"), told.count("iterations")
        return f"decided to stop {told.subject}{told.place()} at iteration {at} of {end}."
    closes = told.event.figures.get("closes_branch") is True
    branch = "; nothing is left of its branch" if closes else ""
    return f"decided to cut {told.subject}{told.place()}: it gets no more time{branch}."


def cut_why(told: Told) -> str:
    """Say how small the chance of the network was, or that it failed too often."""
    reason = told.event.figures.get("reason")
    if reason == "repairs_spent":
        done = counted(told.count("repairs_done"), "repair")
        allowed = told.count("repairs_allowed")
        return f"It failed after {done} in a row, and {allowed} are allowed; it has no scores."
    if reason == "failed":
        return "It failed, and it is one of several refinements of a network that works."
    if reason == "checkpoint":
        read = beside_baseline(told.number("delta"))
        low = chance_below(told.number("p_passes"), told.number("cut_below"))
        goal_there = more_than(told.number("level"))
        return f"There it was {read}; its chance to end {goal_there} was {low}."
    low = chance_below(told.number("p_ever"), told.number("cut_below"))
    belief = sentence(believed(told))[:-1]
    return f"{belief}; its chance to pass {goal(told)} was {low}."


def cut_else(told: Told) -> str:
    """Say when a network is cut, and when it comes back."""
    reason = told.event.figures.get("reason")
    if reason in ("repairs_spent", "failed"):
        return "A failure says nothing of how good an idea is; it counts as no score, never as 0."
    level = chance(told.number("cut_below"))
    if reason != "checkpoint" and not told.has("p_ever"):
        raise UntoldError("p_ever")
    if reason == "checkpoint":
        saved = 100 * (1 - told.count("iteration") / max(1, told.count("iterations")))
        return f"Trainings stop below {level}; this one saved {saved:.0f} % of its time."
    back = chance(min(1.0, RETURNS * told.number("cut_below")))
    return (
        f"Networks are cut when that chance, all refinements included, is below {level}; it may "
        f"come back from {back} on."
    )


def repair_what(told: Told) -> str:
    """Say which network is repaired."""
    return f"decided to repair {told.subject}{told.place()}, at {told.rung()}."


def repair_why(told: Told) -> str:
    """Say what it failed of, and how often it was repaired."""
    number = told.count("repairs_done") + 1
    allowed = told.count("repairs_allowed")
    return f"It ended without scores{failed(told)}. This is repair {number} of {allowed} in a row."


def repair_else(told: Told) -> str:
    """Say what is kept, and what follows if it fails again."""
    return f"The idea stays, without what made it fail; it is given up if all repairs fail. {left(told)}"


def smaller_what(told: Told) -> str:
    """Say which network is trained with a smaller batch."""
    size, before = told.count("batch_size"), told.count("batch_before")
    return (
        f"decided to train {told.subject}{told.place()} again with batches of {size} instead of "
        f"{before}, at {told.rung()}."
    )


def smaller_why(told: Told) -> str:
    """Say that there was no room in memory."""
    before, planned = told.count("batch_before"), told.count("batch_planned")
    return f"It found no room in memory with batches of {before}; {planned} were planned."


def smaller_else(told: Told) -> str:
    """Say what the baseline gets, and what both cost."""
    return (
        "The baseline is trained with the same batches, to keep the comparison fair; that takes "
        f"up to {duration(told.number('expected_s'))}."
    )


def confirm_what(told: Told) -> str:
    """Say that the search ends, and who leads."""
    if told.event.trial is None:
        return "decided to end the search: no network has scores."
    return f"decided to end the search: {told.subject}{told.place()} leads at {told.rung()}."


def confirm_why(told: Told) -> str:
    """Say how good the leader is believed to be."""
    if told.event.trial is None:
        return f"No more training fits. {left(told)}"
    estimate = beside_baseline(told.number("estimate"))
    if not told.has("p_better"):
        return f"It reads {estimate}; the best of many readings is partly luck, so likely less."
    better = chance(told.number("p_better"))
    return (
        f"No more training fits; it is believed to be {estimate} on new cases, and truly better with a "
        f"chance of {better}."
    )


def confirm_else(told: Told) -> str:
    """Say whether that is a lead, and what alone may show an improvement."""
    if told.event.trial is None:
        return "There is nothing to test: the locked test stays closed."
    if not told.has("p_better"):
        return "Only fresh trainings on the locked test may show an improvement."
    lead = "is a lead" if told.event.figures.get("is_lead") is True else "is too little for a lead"
    return (
        f"That {lead}, which takes {chance(SURE)}; only fresh trainings on the locked test may "
        "show an improvement."
    )


def wait_what(told: Told) -> str:
    """Say that nothing is started."""
    return "decided to wait: nothing new is started."


def wait_why(told: Told) -> str:
    """Say what is waited for."""
    return sentence(told.stored_text().removeprefix("waits: "))
