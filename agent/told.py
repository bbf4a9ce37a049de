"""An event as it is explained: its figures read with care, and trials called by their titles.

Figures come from any version of this program, and texts from trials and planners. What is
missing or of another kind raises Untold, and whoever explains says less instead. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from agent.wording import clip, one_line
from memory.records import Event, Figures

SHORT_ID = 6
WIDEST, LONGEST_TEXT = 120, 400
LARGEST = 1e12


class UntoldError(LookupError):
    """A figure that a sentence needs is not stored with the event."""


class Known(NamedTuple):
    """What an explanation may say of a trial; `failure` is its class or status, "" for none."""

    title: str
    failure: str = ""


class Names(NamedTuple):
    """What the store knows of whatever an event mentions.

    Attributes:
        trials: the trials that the event mentions, by id.
        branch: the title of the event's branch; "" where there is none.
        iterations: iterations of a training at each rung; may be empty.
        started: the trial that the decision started; "" for none.
        suggestion: the category of the suggestion that this trial carries out; "" for none.
    """

    trials: Mapping[str, Known] = {}
    branch: str = ""
    iterations: Sequence[int] = ()
    started: str = ""
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """An event with the names it needs; titles are shortened to `width` characters."""

    event: Event
    names: Names
    width: int = WIDEST

    def narrowed(self, width: int) -> "Told":
        """Return the same with shorter titles."""
        return replace(self, width=width)

    def has(self, *names: str) -> bool:
        """Tell whether all these figures are stored."""
        return all(self.event.figures.get(name) is not None for name in names)

    def number(self, name: str, of: Figures | None = None) -> float:
        """Return a number of a size that can be read, from the figures.

        Raises:
            UntoldError: there is none of that name.
        """
        value = (self.event.figures if of is None else of).get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UntoldError(name)
        if not abs(value) <= LARGEST:  # nor is NaN
            raise UntoldError(name)
        return value

    def count(self, name: str, of: Figures | None = None) -> int:
        """Return a whole number among the figures; UntoldError if there is none."""
        return int(self.number(name, of))

    def text(self, name: str, of: Figures | None = None) -> str:
        """Return a text among the figures on one clean line; UntoldError if there is none."""
        value = (self.event.figures if of is None else of).get(name)
        if not isinstance(value, str) or not (shown := one_line(value)):
            raise UntoldError(name)
        return clip(shown, LONGEST_TEXT)

    def rows(self, name: str) -> list[Figures]:
        """Return a list of figures among the figures; UntoldError if it is missing or empty."""
        value = self.event.figures.get(name)
        found = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        if not found:
            raise UntoldError(name)
        return found

    def part(self, name: str) -> Figures:
        """Return figures among the figures; UntoldError if there are none."""
        value = self.event.figures.get(name)
        if not isinstance(value, dict):
            raise UntoldError(name)
        return value

    @property
    def subject(self) -> str:
        """The trial that the event is about, by its title; UntoldError if it names none."""
        if self.event.trial is None:
            raise UntoldError("trial")
        return self.called(self.event.trial)

    def called(self, trial: str) -> str:
        """Return a trial's title and the start of its id; "the baseline" for that."""
        if trial == "baseline":
            return "the baseline"
        short = one_line(trial)[:SHORT_ID]
        known = self.names.trials.get(trial)
        title = self.quoted(known.title) if known else ""
        return f"{title} ({short})" if title else f"trial {short}"

    def quoted(self, title: str) -> str:
        """Return a title as it is shown, closed by our quotes alone; "" for one that shows nothing."""
        shown = clip(one_line(title).replace('"', "'"), self.width)
        return f'"{shown}"' if shown else ""

    def failure(self) -> str:
        """Return what the trial failed of, in words; UntoldError if that is not known."""
        known = self.names.trials.get(self.event.trial or "")
        if known is None or not known.failure:
            raise UntoldError("failure")
        return clip(one_line(known.failure).replace("_", " "), self.width)

    def place(self) -> str:
        """Return in which branch the trial is, ready to follow its title."""
        title = one_line(self.names.branch)
        known = self.names.trials.get(self.event.trial or "")
        if not title or (known and one_line(known.title) == title):
            return ""
        return f" of branch {self.quoted(title)}"

    def rung(self, number: int | None = None) -> str:
        """Return a rung and its iterations; without a number the event's own."""
        rung = self.count("rung") if number is None else number
        known = self.names.iterations
        return (
            f"rung {rung} ({known[rung]} iterations)" if 0 <= rung < len(known) else f"rung {rung}"
        )

    def stored_text(self) -> str:
        """Return the text of the event with trials by their titles; UntoldError if it is empty."""
        text = clip(one_line(self.event.text), LONGEST_TEXT)
        if not text:
            raise UntoldError("text")
        known = sorted(map(re.escape, self.names.trials), key=len, reverse=True)
        if not known:
            return text
        pattern = rf"(?<!\w)(?:{'|'.join(known)})(?!\w)"
        return re.sub(pattern, lambda found: self.called(found[0]), text)
