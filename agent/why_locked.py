"""What the events around the locked test mean: three sentences for each kind. Pure.

As in `agent/why_event.py`: what happened, why or what was seen, what follows.
"""

from agent.told import Told
from agent.why_event import seed
from agent.wording import bare_points, clip, counted, duration, points
from memory.records import SplitName

REASONS = {
    "unconfirmed": "The locked test did not show it to be better, and only what is better is taken apart.",
    "impossible": "Without that module the others make no network that could be set beside it",
}


def ablating_what(told: Told) -> str:
    """Say which training of an ablation begins."""
    trial = told.called(told.text("trial"))
    return f"decided to train the confirmed network {trial}, at {told.rung()}{seed(told)}."


def ablating_why(told: Told) -> str:
    """Say what an ablation is for."""
    return "A network that was confirmed is trained without each module, to see what each is worth."


def ablating_next(told: Told) -> str:
    """Say what it may change."""
    return "What comes of it is reported beside the claim, and changes neither claim nor network."


def ablation_what(told: Told) -> str:
    """Say what was set beside what, and on which cases."""
    module = clip(told.text("module"), told.width)
    split = told.text("split")
    where = "the locked test" if split == SplitName.LOCKED_TEST else split
    return f"set {told.subject} beside itself without {module}, on {where}."


def ablation_why(told: Told) -> str:
    """Say by how much the module helped or harmed, as far as this shows."""
    if not told.has("delta"):
        return "Nothing was compared: fewer than two trainings of a side have scores."
    delta, low, high = (told.number(name) for name in ("delta", "low", "high"))
    side = "higher" if delta >= 0 else "lower"
    return f"With it the network is {points(delta)} {side}; {spread(low, high)}."


def spread(low: float, high: float) -> str:
    """Return an interval of a difference in words."""
    first, last = (f"{bare_points(end)} {'higher' if end >= 0 else 'lower'}" for end in (low, high))
    return f"the truth may lie anywhere between {first} and {last}"


def ablation_next(told: Told) -> str:
    """Say on how much it rests, and that nothing follows."""
    cases, seeds = told.count("n_cases"), told.count("n_seeds")
    basis = f"{counted(seeds, 'training')} a side, {counted(cases, 'patient')}"
    if told.event.figures.get("is_higher_without") is True:
        return f"It is higher without; that is reported and never promoted ({basis})."
    return f"This describes, and claims nothing ({basis})."


def left_out_what(told: Told) -> str:
    """Say which ablations are not trained."""
    if told.event.figures.get("reason") == "impossible":
        module = clip(told.text("module"), told.width)
        return f"left out the ablation of {told.subject} without {module}."
    count = len(told.event.figures.get("trials") or ())
    return f"left out {counted(count, 'training')} for the ablation of {told.subject}."


def left_out_why(told: Told) -> str:
    """Say why not."""
    reason = told.text("reason")
    if reason == "budget":
        each = duration(told.number("expected_s"))
        left = duration(told.number("seconds_left")) if told.has("seconds_left") else "enough time"
        return f"One may take {each}, {told.count('slots')} run side by side; left is {left}."
    if reason == "impossible":
        return f"{REASONS[reason]}: {clip(told.text('why'), told.width)}."
    return REASONS.get(reason) or told.stored_text()


def left_out_next(told: Told) -> str:
    """Say what is missing for it."""
    return "The report says so; the claim does not rest on ablations."


def refused_what(told: Told) -> str:
    """Say who was refused."""
    return f"refused a reading of the locked test to {clip(told.text('asked_by'), told.width)}."


def refused_why(told: Told) -> str:
    """Say what was asked for."""
    if told.has("case"):
        what = f"the label of {clip(told.text('case'), told.width)}"
    else:
        what = counted(len(told.event.figures.get("trials") or ()), "trial")
    return f"It asked for {what}: {clip(told.text('why'), told.width)}."


def refused_next(told: Told) -> str:
    """Say what alone may read it."""
    return "No label was read. The test is opened once, for the trials that were named before."
