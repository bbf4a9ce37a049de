"""What the events of the memory mean: three sentences for each kind. Pure."""

from agent.told import Told
from agent.wording import counted


def library_what(told: Told) -> str:
    """Say what the campaign began with."""
    lessons = counted(told.count("lessons"), "lesson")
    earlier = counted(told.count("campaigns"), "earlier campaign")
    return f"began with {lessons} of {earlier}, from the library."


def library_why(told: Told) -> str:
    """Say when the library is read."""
    return "A campaign reads the library once, before its first proposal, and keeps what it took."


def library_next(told: Told) -> str:
    """Say what it is for."""
    return "It tilts which components are drawn first, less the more the datasets differ; it claims nothing."
