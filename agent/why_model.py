"""What the events of a language model mean: three sentences for each kind.

The first says what happened, the second why or what was said, the third what follows. Whatever a
model said is quoted and cut short, as its words and never as ours. A figure that is not stored
raises UntoldError, and `agent/why.py` says less. Pure.
"""

from agent.suggestions import CATEGORIES
from agent.told import Told, UntoldError
from agent.wording import counted, one_line
from memory.records import Figures

HELD = {
    "schema": "can be held to a JSON schema, so that each has the form that was asked for",
    "plain_schema": "can be held to a JSON schema without limits on texts; these are checked here",
    "object": "can be held to a JSON object, whose entries are checked here",
    "text": "are held to no form; what was asked for in words is checked here",
}
ENDED = {"loss": "which did not gain", "failure": "which failed", "best": "which leads"}
STANDS_IN, NOBODY = "the built-in planner proposes", "nobody proposes instead"
BEST_GRADE, LONGEST_NUMBER = 5, 11


def probe_what(told: Told) -> str:
    """Say which endpoint was asked, and whether it answers."""
    name = quoted(told, "endpoint")
    if told.event.figures.get("problem"):
        return f"asked the endpoint {name}, which does not answer."
    return f"asked the endpoint {name}, which answers as {quoted(told, 'model')}."


def probe_why(told: Told) -> str:
    """Say to what its replies can be held, or what went wrong."""
    if told.event.figures.get("problem"):
        return f"What went wrong: {quoted(told, 'problem')}."
    level = told.text("level")
    if level not in HELD:
        raise UntoldError("level")
    return f"Its replies {HELD[level]}."


def probe_next(told: Told) -> str:
    """Say when a run starts all the same, or what the question took."""
    if told.event.figures.get("problem"):
        return "A run starts only where each role has an endpoint that answers."
    return f"The answer took {told.number('seconds'):.1f} s; every start of a run asks again."


def challenges_what(told: Told) -> str:
    """Say how many challenges were named, and by whom."""
    count = counted(len(told.rows("challenges")), "open challenge")
    return f"the model at {quoted(told, 'endpoint')} named {count} of the dataset."


def challenges_why(told: Told) -> str:
    """Say which is the first."""
    return f"The first in its words: {quoted(told, 'title', told.rows('challenges')[0])}."


def challenges_next(told: Told) -> str:
    """Say what they are for."""
    told.rows("challenges")
    return "Rounds of proposals take them in turn; a challenge is an opinion, and decides nothing."


def round_what(told: Told) -> str:
    """Say what was asked for, and how many proposals can be used."""
    rows = told.rows("candidates")
    about = quoted(told, "title", told.part("challenge"))
    return f"asked for proposals on {about}: {len(usable(rows))} of {len(rows)} can be used."


def round_why(told: Told) -> str:
    """Say which proposal comes first, and by what grade."""
    rows = told.rows("candidates")
    good = usable(rows)
    if not good:
        return f"All were refused, one for this reason: {quoted(told, 'refused', rows[0])}."
    first = quoted(told, "title", good[0])
    if good[0].get("grade") is None:
        return f"None has a grade; {first} comes first."
    grade = told.number("grade", good[0])
    return f"The assessor graded {first} best, with a mean of {grade:.1f} of {BEST_GRADE}."


def round_next(told: Told) -> str:
    """Say what becomes of the proposals."""
    good = usable(told.rows("candidates"))
    if not good:
        return "A decision asks for two rounds at most; after that the model has no idea for it."
    if good[0].get("grade") is None:
        return "Without grades the order is drawn at random; a grade is an opinion, never a score."
    return "They are tried in the order of their grades; a grade is an opinion, never a score."


def usable(rows: list[Figures]) -> list[Figures]:
    """Return the proposals of a round that were not refused."""
    return [row for row in rows if not row.get("refused")]


def refused_what(told: Told) -> str:
    """Say which proposal was refused, and of which generator."""
    bent, title = told.text("bent"), told.text("title")
    whose = f"the generator {told.quoted(bent)}"
    if title == f"no proposal ({bent})":
        return f"{whose} sent no proposal that can be used."
    return f"refused {told.quoted(title)}, which {whose} proposed."


def refused_why(told: Told) -> str:
    """Say why."""
    return f"The reason: {quoted(told, 'why')}."


def refused_next(told: Told) -> str:
    """Say what becomes of it."""
    return "It is kept in the store and gets no training; other proposals of the round stay."


def not_assessed_what(told: Told) -> str:
    """Say that nothing was graded."""
    return "the assessor graded none of the proposals of a round."


def not_assessed_why(told: Told) -> str:
    """Say what went wrong."""
    return f"What went wrong: {quoted(told, 'error')}."


def unexplained_what(told: Told) -> str:
    """Say what the model did not do."""
    return "the lessons stay as the rules wrote them: the language model explained none of them."


def unexplained_next(told: Told) -> str:
    """Say what is missing."""
    return "The figures are the same; only the model's words are missing."


def section_what(told: Told) -> str:
    """Say whose sentences stand."""
    name = quoted(told, "section")
    return f"the report's own sentences stand for {name}: no text of the model could be printed."


def section_next(told: Told) -> str:
    """Say when the model is asked again."""
    return "Figures, claims and sources are the same; the model is asked again when records change."


def not_assessed_next(told: Told) -> str:
    """Say in which order they are tried."""
    return "They are tried in an order drawn at random; grades set that order and nothing else."


def diagnosis_what(told: Told) -> str:
    """Say which trial was diagnosed, and by whom."""
    by = told.text("by")
    whose = "by rules" if by == "rules" else f"by the model at {told.quoted(by)}"
    mode = told.text("mode")
    if mode not in ENDED:
        raise UntoldError("mode")
    return f"diagnosed {told.subject}{told.place()}, {ENDED[mode]}, {whose}."


def diagnosis_why(told: Told) -> str:
    """Say on how much evidence, and what the first suggestion rests on."""
    clues = told.rows("clues")
    seen = f"It rests on {counted(len(clues), 'piece')} of evidence"
    keys = told.rows("suggestions")[0].get("clues")
    wanted = keys[0] if isinstance(keys, list) and keys else None
    first = [clue for clue in clues if clue.get("key") == wanted]
    if not first:
        return f"{seen}."
    return f"{seen}; the first suggestion cites {quoted(told, 'text', first[0])}."


def diagnosis_next(told: Told) -> str:
    """Say what is suggested first."""
    rows = told.rows("suggestions")
    kind, text = told.text("category", rows[0]), quoted(told, "text", rows[0])
    if kind not in CATEGORIES:
        raise UntoldError("category")
    place = "Its suggestion" if len(rows) == 1 else f"The first of {len(rows)} suggestions"
    return f"{place} ({kind}): {text}."


def fell_back_what(told: Told) -> str:
    """Say what was done without the model."""
    if told.event.trial is not None:
        return f"the rules diagnosed {told.subject} instead of the language model."
    return f"the language model was of no use for {scope(told)}."


def fell_back_why(told: Told) -> str:
    """Say what went wrong."""
    return f"What went wrong: {quoted(told, 'error')}."


def fell_back_next(told: Told) -> str:
    """Say who stands in."""
    if told.event.trial is not None:
        return "The rules suggest from the same evidence; the model is asked again the next time."
    if stand_in(told) == NOBODY:
        return "By the settings nobody stands in: the decision leads to no network."
    return "The built-in planner stands in where it can; where it cannot, there is no network."


def lost_what(told: Told) -> str:
    """Say when the model was lost."""
    return f"the language model is lost: no use of it for {scope(told)}."


def lost_next(told: Told) -> str:
    """Say who proposes until it is back."""
    if stand_in(told) == NOBODY:
        return (
            "By the settings nobody proposes instead; after a few such decisions the search ends."
        )
    return "Each decision asks it again; until it answers, the built-in planner proposes."


def back_what(told: Told) -> str:
    """Say that the model is back."""
    return "the language model answers again."


def back_why(told: Told) -> str:
    """Say how that was found out."""
    return "It had been lost, and every decision since then asked it again."


def back_next(told: Told) -> str:
    """Say who proposes from here on."""
    return "It proposes from here on; what others proposed meanwhile stays in the tree."


def early_what(told: Told) -> str:
    """Say which network is trained without a module."""
    trial = told.called(told.text("trial"))
    return f"decided to train the leading network {trial}, at {told.rung()}."


def early_why(told: Told) -> str:
    """Say why."""
    return (
        "What each module brings is evidence for the network's diagnosis; one short training each."
    )


def early_next(told: Told) -> str:
    """Say what does not follow from it."""
    return "It promotes nothing, and no claim rests on it."


def rival_what(told: Told) -> str:
    """Say that a second coder writes an idea, and which trial that became."""
    became = f": {told.called(told.names.started)}" if told.names.started else ""
    idea = f"the idea of decision {told.count('decision')}"
    return f"decided to have a second coder write {idea}, at {told.rung()}{became}."


def rival_why(told: Told) -> str:
    """Say why an idea is written twice."""
    return "An idea can fail by how it was written, so two coders write it, each on its own."


def rival_next(told: Told) -> str:
    """Say how the two are compared."""
    return (
        "Where they differ, both networks are trained and kept in one branch; scores alone decide."
    )


def unplanned_what(told: Told) -> str:
    """Say that the search ended without anything to confirm."""
    return "the search ended, as nobody proposed a network any more."


def unplanned_why(told: Told) -> str:
    """Say when a search ends so."""
    return "It ends after a few decisions without a network; none was there to confirm."


def unplanned_next(told: Told) -> str:
    """Say how it goes on."""
    return "Nothing is claimed. `segwright run` goes on from here, once somebody proposes again."


def quoted(told: Told, name: str, of: Figures | None = None) -> str:
    """Return what somebody else said in quotes, without its full stop; UntoldError if nothing is."""
    said = told.text(name, of).rstrip(". ")
    if not said:
        raise UntoldError(name)
    return told.quoted(said)


def scope(told: Told) -> str:
    """Return what the model was asked for, e.g. 'decision 17'."""
    what, _, name = told.text("scope").partition("/")
    is_number = name.isascii() and name.isdigit() and len(name) <= LONGEST_NUMBER
    return f"decision {name}" if what == "decision" and is_number else "the campaign"


def stand_in(told: Told) -> str:
    """Return who proposes instead, as is said before the error; UntoldError if it is not."""
    said = one_line(told.event.text).partition(": ")[0]
    for who in (STANDS_IN, NOBODY):
        if said.endswith(who):
            return who
    raise UntoldError("text")
