"""What the events of a campaign's protocol mean: three sentences for each kind. Pure.

As in `agent/why_event.py`: what happened, why or what was seen, what follows.
"""

from agent.told import Told, UntoldError
from agent.why_event import quote
from agent.wording import bare_points, clip, counted, one_line, points

HASH = 12
VALUE = 20


def protocol_what(told: Told) -> str:
    """Say which protocol was declared."""
    return f"declared the protocol {told.text('hash')[:HASH]}: what a claim will need."


def protocol_why(told: Told) -> str:
    """Say what it fixes, by its settings of the locked test."""
    own = told.part("record").get("settings")
    if not isinstance(own, dict):
        raise UntoldError("settings")
    finalists, seeds = told.count("confirm.finalists", own), told.count("confirm.seeds", own)
    return (
        f"It says beforehand what is tested: up to {counted(finalists, 'finalist')}, "
        f"{counted(seeds, 'fresh training')} each, at level {told.number('confirm.alpha', own):g}."
    )


def protocol_next(told: Told) -> str:
    """Say what a change needs."""
    return "Another rule needs a reason, which every report repeats; after the test, none will do."


def amended_what(told: Told) -> str:
    """Say which setting was changed."""
    setting = clip(told.text("setting"), told.width)
    return f"the user changed {setting} from {value(told, 'before')} to {value(told, 'after')}."


def amended_why(told: Told) -> str:
    """Say why."""
    return f"The reason given: {quote(told, 'reason')}"


def amended_next(told: Told) -> str:
    """Say that reports repeat it."""
    return "It was declared otherwise at the start; every report repeats this."


def noise_what(told: Told) -> str:
    """Say what counts as a gain from now on."""
    return f"fixed the gain that counts: {points(told.number('margin'))} or more."


def noise_why(told: Told) -> str:
    """Say what can be found."""
    cases = counted(told.count("cases"), "locked subject")
    return (
        f"With {cases} and {counted(told.count('seeds'), 'training')} a side, a true gain of "
        f"{points(told.number('detectable'))} is found four times in five."
    )


def noise_next(told: Told) -> str:
    """Say how large luck was seen to be."""
    run, resid = bare_points(told.number("run_sd")), bare_points(told.number("resid_sd"))
    if not told.count("seen_seeds"):
        return (
            f"The baseline has too few scores to show luck; {run} points between seeds are usual."
        )
    return (
        f"Luck was seen on {counted(told.count('seen_seeds'), 'repeat')} of the baseline: {run} "
        f"points between seeds, and {resid} more in a single subject."
    )


def low_power_what(told: Told) -> str:
    """Say that less is looked for than can be found."""
    return f"the user looks for a gain of {points(told.number('margin'))}, which may go unseen."


def low_power_why(told: Told) -> str:
    """Say what can be found."""
    return noise_why(told)


def low_power_next(told: Told) -> str:
    """Say who allowed it."""
    return "The user allowed it with --accept-low-power; every report repeats this."


def value(told: Told, name: str) -> str:
    """Return a setting's value as it is written, cut to what a line holds."""
    if name not in told.event.figures:
        raise UntoldError(name)
    return clip(one_line(repr(told.event.figures[name])), VALUE)
