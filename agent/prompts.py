"""Prompts: a template, filled with named sections of bounded size.

The templates are templates/prompts/NAME.md.j2; beside each, NAME.md says what it must achieve.
A section is text that this program made, or material from outside (a log, a network, a paper),
which is marked as material and cannot end its own mark. Sections that stay the same between calls
come first, because servers keep what equal beginnings cost them. Tokens are estimated at four
characters each, as no two models count alike.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from memory.errors import PlannerError
from memory.records import Figures, digest
from sandbox.clean import clean_text

CHARACTERS_A_TOKEN = 4
CUT = "\n[... cut here: {left} characters are not shown]"
SYSTEM = "system"
FEWEST = 200
"""Characters that a section keeps, however little room there is."""

LIMITS: Mapping[str, int] = {
    **{"contract": 5000, "dataset": 3500, "challenge": 900, "challenges": 3000},
    **{"components": 9000, "methods": 6000, "papers": 3500, "tried": 6000, "lessons": 4000},
    **{"effects": 1800, "proposal": 5000, "proposals": 14000, "partner": 4000, "parent": 4000},
    **{"source": 40000, "scaffold": 24000, "failure": 1500, "repairs": 2500, "clues": 5000},
    **{"suggestion": 1500, "bent": 600, "refused": 1500, "form": 8000, "placement": 800},
    **{"fault": 1500, "section": 1500, "facts": 16000, "claims": 5000, "figures": 800},
    **{"citations": 14000},
}
"""Characters of each section at most."""

MATERIAL = frozenset(
    [
        *("papers", "failure", "source", "scaffold", "partner", "parent", "tried", "clues"),
        *("repairs", "lessons", "proposal", "proposals", "facts", "claims"),
    ]
)
"""Sections that hold text from outside, such as an excerpt of a log or a model's own proposal."""
_MARK = re.compile(r"<(?=[\s/\\]*material\b)", re.IGNORECASE)

PURPOSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "challenges": ("generator", ("dataset", "lessons")),
    "propose": (
        "generator",
        (
            *("dataset", "components", "placement", "methods", "effects", "lessons", "tried"),
            *("challenge", "papers", "bent", "refused"),
        ),
    ),
    "cross": ("generator", ("dataset", "components", "placement", "tried", "parent", "partner")),
    "assess": ("assessor", ("dataset", "lessons", "tried", "challenge", "proposals")),
    "code": ("coder", ("contract", "proposal", "scaffold", "fault")),
    "edit": ("coder", ("contract", "proposal", "suggestion", "source", "fault")),
    "repair": ("coder", ("contract", "proposal", "failure", "repairs", "source", "fault")),
    "diagnose": (
        "diagnostician",
        ("components", "placement", "lessons", "proposal", "clues", "source"),
    ),
    "audit": ("diagnostician", ("components", "placement", "proposal", "clues", "source")),
    "reflect": ("diagnostician", ("lessons",)),
    "write": ("writer", ("citations", "section", "facts", "claims", "figures", "refused")),
}
"""Each prompt: the role that reads it, and its sections in their order."""


class Size(NamedTuple):
    """Estimated tokens of one section."""

    section: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that is ready to send; `sections` are as they are in the text."""

    purpose: str
    system: str
    text: str
    sections: Mapping[str, str]

    @property
    def role(self) -> str:
        """The role that reads it."""
        return PURPOSES[self.purpose][0]

    @property
    def hash(self) -> str:
        """SHA-256 of all that is sent, 64 hex digits."""
        return digest([self.purpose, self.system, self.text])

    def sizes(self) -> list[Size]:
        """Return the estimated tokens of its parts, the whole last."""
        frame = len(self.text) - sum(map(len, self.sections.values()))
        parts = [Size("system", tokens(self.system)), Size("instructions", ceil(frame / 4))]
        parts += [Size(name, tokens(text)) for name, text in self.sections.items()]
        return [*parts, Size("all", tokens(self.system + self.text))]

    def messages(self, form: str) -> list[dict[str, str]]:
        """Return the messages of a request; `form` tells the form of the reply."""
        user = f"{self.text}\n\n{form}"
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]


def tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    return ceil(len(text) / CHARACTERS_A_TOKEN)


def make_prompt(purpose: str, sections: Mapping[str, str], *, room: int = 0) -> Prompt:
    """Return a prompt; sections that are missing are told to be empty.

    Args:
        purpose: of PURPOSES.
        sections: texts by name.
        room: tokens that system and text may have; the longest sections are cut to fit, none
            below FEWEST characters. 0: no limit beyond LIMITS.

    Raises:
        PlannerError: there is no such prompt, or it has no such section.
    """
    if purpose not in PURPOSES:
        raise PlannerError(f"no prompt {purpose!r}; known: {', '.join(PURPOSES)}")
    _, wanted = PURPOSES[purpose]
    if unknown := sorted(sections.keys() - set(wanted)):
        raise PlannerError(f"prompt {purpose!r} has no section {unknown[0]!r}")
    system = render(SYSTEM, {}).strip()
    bare = {name: bounded(name, sections.get(name, "")) for name in wanted}
    if room:
        frame = render(purpose, {name: marked(name, "") for name in wanted})
        most = level(map(len, bare.values()), room * CHARACTERS_A_TOKEN - len(system + frame))
        bare = {name: cut(text, max(most, FEWEST)) for name, text in bare.items()}
    made = {name: marked(name, text) for name, text in bare.items()}
    return Prompt(purpose, system, render(purpose, made).strip(), made)


def section(name: str, text: str) -> str:
    """Return a section: bounded, without control characters, marked where it is material."""
    return marked(name, bounded(name, text))


def bounded(name: str, text: str) -> str:
    """Return a section's text without control characters, no longer than its limit."""
    return cut(clean_text(text).strip(), LIMITS[name]) or "(none)"


def marked(name: str, text: str) -> str:
    """Return a section's text, between marks where it is material."""
    return material(name, text) if name in MATERIAL else text


def material(name: str, text: str) -> str:
    """Return a text from outside between marks that it cannot close.

    Where it holds such a mark, in any case and spacing, the mark's < becomes (; its length stays.
    """
    inside = _MARK.sub("(", text)
    return f'<material name="{name}">\n{inside}\n</material>'


def level(lengths: Iterable[int], room: int) -> int:
    """Return the length to which the longest are cut so that together they fit into the room."""
    ordered = sorted(lengths)
    left = max(0, room)
    for place, length in enumerate(ordered):
        share = left // (len(ordered) - place)
        if length > share:
            return share
        left -= length
    return ordered[-1] if ordered else left


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters that says how much of it is gone."""
    if len(text) <= limit:
        return text
    kept = text[: limit - len(CUT) - 8]
    return kept + CUT.format(left=len(text) - len(kept))


def render(name: str, values: Mapping[str, str]) -> str:
    """Return a template of templates/prompts, filled in."""
    return _environment().get_template(f"{name}.md.j2").render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("templates", "prompts"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )


def plain_sizes(prompt: Prompt) -> Figures:
    """Return the estimated tokens of a prompt's parts as plain values."""
    return {one.section: one.tokens for one in prompt.sizes()}
