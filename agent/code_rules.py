"""Rules from clues to faults in code, and to gaps between a proposal and its network. Pure.

The last rule of each category always applies and weighs least: an audit by reading.
"""

from collections.abc import Iterator

from agent.grounds import LEAST, SEEN, Candidate, Grounds, where
from agent.suggestions import FAILURE


def code(grounds: Grounds) -> Iterator[Candidate]:
    """Yield faults that the code may have."""
    unused = grounds.value("dry.unused") or 0.0
    if unused:
        yield grounds.candidate(
            2.5,
            "code",
            "Connect the parameters that get no gradient, or remove them: something is built and "
            "not called, or its result is not used.",
            keys=("dry.unused",),
            expected="Every parameter gets a gradient; a higher mean Dice if the part matters.",
        )
    if "gap.cut" in grounds.clues:
        yield grounds.candidate(
            2.0,
            "code",
            "Let gradients through where network.py cuts them, unless the proposal asks for it.",
            keys=("gap.cut",),
            expected="A lower training loss, and a higher mean Dice over all classes.",
        )
    yield from of_whole_misses(grounds)
    yield from of_bias(grounds)
    yield grounds.candidate(
        LEAST,
        "code",
        "Read the forward of each part for the alignment of resampled maps, the order of "
        "normalisation and activation, and initial values that a later initialisation overwrites.",
        keys=("overall.delta", FAILURE, "gap.parts"),
        expected="If one is wrong, a higher mean Dice over all classes after its repair.",
    )


def of_whole_misses(grounds: Grounds) -> Iterator[Candidate]:
    """A class is missed whole: its head may be wrong."""
    for key in grounds.of_classes("missed_whole"):
        more = grounds.value(key) or 0.0
        if more > 0:
            name = where(key.rsplit(".", 1)[0])
            yield grounds.candidate(
                min(3.0, more),
                "code",
                f"Check the heads: {name} is missed whole more often than by the baseline, as "
                "when logits are scaled, clipped or passed through a softmax in the network.",
                keys=(key,),
                expected=f"Fewer cases in which {name} is missed whole, and a higher Dice of it.",
            )


def of_bias(grounds: Grounds) -> Iterator[Candidate]:
    """Every class is too large, or too small: a shift or a scale of the logits."""
    keys = grounds.of_classes("volume_change")
    for sign, word in ((1, "larger"), (-1, "smaller")):
        weights = [grounds.weight(key, sign) for key in keys]
        if weights and min(weights) >= 2 * SEEN and grounds.weight("overall.delta", -1) >= SEEN:
            yield grounds.candidate(
                min(weights) / 4,
                "code",
                f"Check what scales or smooths the last maps: every class is predicted {word} than "
                "by the baseline.",
                keys=keys,
                expected="A volume bias nearer to zero in every class, and a higher Dice.",
            )


def gap(grounds: Grounds) -> Iterator[Candidate]:
    """Yield what the proposal names and the network lacks, or the audit that found nothing."""
    for part in grounds.parts:
        if part.state != "complete":
            verb = "Write" if part.state == "missing" else "Complete"
            text = f"{verb} {part.name} as the proposal describes it: {part.why}."
            yield grounds.candidate(
                5.0 if part.state == "missing" else 2.0,
                "gap",
                text,
                keys=(part.key,),
                expected="The audit finds the part complete; only then does Dice tell of the idea.",
            )
    keys = tuple(part.key for part in grounds.parts)
    yield grounds.candidate(
        LEAST,
        "gap",
        "Compare each part with its equation in the proposal, term by term: the text shows that "
        "all are there and used, not that they compute what was meant.",
        keys=("gap.parts", *keys),
        expected="If a term is missing, a higher mean Dice over all classes once it is there.",
    )
