"""The forms of a language model's replies: what each role may say, and in which bounds.

A form bounds lengths and choices; what it cannot say (does a component exist, a citation, a place)
is checked where the reply is used. No form has a field for a score, a p value or a winner.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from agent.replies import Form
from sandbox.components import COMPONENTS

Category = Literal["architecture", "capacity", "optimisation", "code", "gap"]
Position = Literal["encoder", "skip", "bottleneck", "decoder", "downsample", "heads"]
Grade = Annotated[int, Field(ge=1, le=5)]
Place = Annotated[int, Field(ge=0, le=9)]
Line = Annotated[str, StringConstraints(min_length=3, max_length=160)]
Sentence = Annotated[str, StringConstraints(min_length=3, max_length=500)]
Paragraph = Annotated[str, StringConstraints(min_length=3, max_length=2000)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=60)]
Equations = Annotated[str, StringConstraints(max_length=800)]


class ChallengeReply(Form):
    """One open challenge of a dataset."""

    title: Line
    why: Sentence
    evidence: Annotated[list[Key], Field(max_length=8)]


class ChallengesReply(Form):
    """The open challenges, the most promising first."""

    challenges: Annotated[list[ChallengeReply], Field(min_length=2, max_length=5)]


def known_component(name: str) -> str:
    """Return a name that the library has.

    Raises:
        ValueError: it has none of that name.
    """
    if name not in COMPONENTS:
        raise ValueError(f"the library has no component {name[:40]!r}")
    return name


Component = Annotated[
    str, AfterValidator(known_component), Field(json_schema_extra={"enum": list(COMPONENTS)})
]
ClassName = Annotated[
    str, StringConstraints(min_length=3, max_length=40, pattern=r"^[A-Z][A-Za-z0-9]*$")
]


class LibraryModule(Form):
    """A component of the library at some stages of the planned U-Net."""

    component: Component
    position: Position
    stages: Annotated[list[Place], Field(max_length=8)]
    reason: Sentence


class NewModule(Form):
    """A module that is to be written: its class, and what it computes."""

    class_name: ClassName
    position: Position
    stages: Annotated[list[Place], Field(max_length=8)]
    idea: Sentence
    equations: Equations


ModuleReply = LibraryModule | NewModule


class ProposalReply(Form):
    """One proposal."""

    title: Line
    motivation: Paragraph
    modules: Annotated[list[ModuleReply], Field(min_length=1, max_length=3)]
    integration: Paragraph
    expected_on: Sentence
    expected_size: Literal["small", "medium", "large"]
    refutation: Sentence
    cost: Literal["less", "same", "more", "much more"]
    citations: Annotated[list[Key], Field(max_length=8)]


class GradeReply(Form):
    """The assessor's view of one proposal, by its number."""

    proposal: Annotated[int, Field(ge=1, le=9)]
    coherence: Grade
    credibility: Grade
    testability: Grade
    novelty: Grade
    fit: Grade
    modularity: Grade
    remark: Sentence


class AssessReply(Form):
    """The assessor's view of all proposals of a round."""

    grades: Annotated[list[GradeReply], Field(min_length=1, max_length=9)]


class SourceReply(Form):
    """A whole network.py, and what its author wants known."""

    note: Sentence
    source: Annotated[str, StringConstraints(min_length=40, max_length=60_000)]


class EditReply(Form):
    """One passage of a file and what stands in its place."""

    find: Annotated[str, StringConstraints(min_length=1, max_length=8000)]
    replace: Annotated[str, StringConstraints(max_length=16_000)]


class ChangeReply(Form):
    """Edits of network.py, or the whole file where `source` is not empty."""

    note: Sentence
    edits: Annotated[list[EditReply], Field(max_length=16)]
    source: Annotated[str, StringConstraints(max_length=60_000)]


class SuggestionReply(Form):
    """One suggestion after a loss; `modules` is empty where their set stays."""

    category: Category
    text: Sentence
    evidence: Annotated[list[Key], Field(max_length=8)]
    expected: Sentence
    modules: Annotated[list[ModuleReply], Field(max_length=4)]


class DiagnosisReply(Form):
    """Five suggestions, one of each category."""

    suggestions: Annotated[list[SuggestionReply], Field(min_length=5, max_length=5)]


class PartReply(Form):
    """One part that a proposal promises, and whether the code has it."""

    part: Line
    state: Literal["complete", "simplified", "missing"]
    evidence: Sentence


class AuditReply(Form):
    """What the code has of a proposal, and what to add next."""

    parts: Annotated[list[PartReply], Field(min_length=1, max_length=10)]
    next: SuggestionReply


class WhySentence(Form):
    """One sentence on why a lesson holds, and the trials that it rests on."""

    text: Annotated[str, StringConstraints(min_length=3, max_length=240)]
    trials: Annotated[list[Key], Field(min_length=1, max_length=12)]


class WhyReply(Form):
    """Why one lesson holds, by its topic."""

    topic: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    sentences: Annotated[list[WhySentence], Field(min_length=1, max_length=2)]


class WriteReply(Form):
    """One section of a manuscript, in the restricted text of `agent/prose.py`."""

    paragraphs: Annotated[list[Paragraph], Field(min_length=1, max_length=8)]


class ReflectReply(Form):
    """Why lessons hold, those that evidence explains."""

    topics: Annotated[list[WhyReply], Field(min_length=1, max_length=12)]
