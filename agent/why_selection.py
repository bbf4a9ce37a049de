"""What the events of the staged selection mean: three sentences for each kind. Pure.

As in `agent/why_event.py`: what happened, why or what was seen, what follows.
"""

from agent.told import Told, UntoldError
from agent.why_event import seed
from agent.wording import beside_baseline, counted, points
from memory.records import Figures


def selecting_what(told: Told) -> str:
    """Say which training on a further fold begins."""
    trial = told.called(told.text("trial"))
    return f"decided to train {trial} on a further fold, at {told.rung()}{seed(told)}."


def selecting_why(told: Told) -> str:
    """Say why networks are trained on other cases."""
    return "The search looked at one set of cases many times; other cases show who was lucky there."


def selecting_next(told: Told) -> str:
    """Say what its scores are for."""
    return "Its scores help to choose who is confirmed; no claim rests on them."


def selection_what(told: Told) -> str:
    """Say which networks are looked at again."""
    count = len(names(told, "candidates"))
    if not count:
        return "decided to go straight to confirmation, without a look at further folds."
    folds = counted(told.count("folds"), "further fold")
    return f"decided to train the best {counted(count, 'network')} again, on {folds}."


def selection_why(told: Told) -> str:
    """Say what bounds it."""
    if not names(told, "candidates"):
        return "There was no time for it beside the confirmation, or no cases for another fold."
    scored = counted(told.count("networks"), "network")
    return f"{scored} had scores; what the time left holds beside the confirmation is looked at."


def selection_next(told: Told) -> str:
    """Say how it goes on."""
    if not names(told, "candidates"):
        return "The network that the search believes in most is confirmed."
    again, seeds = told.count("again"), told.count("seeds")
    if not again or not seeds:
        return "Search and folds together choose who is confirmed."
    return (
        f"Then the best {again} run again with {counted(seeds, 'fresh seed')}, and one is chosen."
    )


def finalists_what(told: Told) -> str:
    """Say who is confirmed."""
    chosen = [told.called(name) for name in names(told, "finalists")]
    return f"chose {' and '.join(chosen)} for the locked test."


def finalists_why(told: Told) -> str:
    """Say what was seen of the first of them."""
    first = names(told, "finalists")[0]
    row = next((one for one in scores(told) if one.get("trial") == first), None)
    if row is None:
        return "Nobody was looked at on further folds; the search believes in it most."
    mean, sd = told.number("mean", row), told.number("sd", row)
    return f"Search and folds together put it {beside_baseline(mean)}, give or take {points(sd)}."


def finalists_next(told: Told) -> str:
    """Say why that is no claim yet."""
    return "That number helped to choose it and is optimistic; only the locked test may claim."


def names(told: Told, name: str) -> list[str]:
    """Return a list of trials among the figures; UntoldError if it is none."""
    found = told.event.figures.get(name)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UntoldError(name)
    if name == "finalists" and not found:
        raise UntoldError(name)
    return found


def scores(told: Told) -> list[Figures]:
    """Return the selection scores; none where there was no selection."""
    return told.rows("scores") if told.event.figures.get("scores") else []
