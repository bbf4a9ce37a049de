"""Why lessons hold, in a language model's words behind the rules' figures.

The model is told lessons with the trials that they cite, and says of each in two sentences at most
why it may be so. A sentence that cites no trial of its lesson is refused; one with a digit, or that
states a result, is struck: figures are ours alone. What is left is kept as an effect of the lesson
that it explains, so that the same lesson is explained once. Where the model is lost or says nothing
of use, an event tells so and the rules' text stays.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from agent import briefing
from agent.clue_text import scrubbed
from agent.ideas import without_results
from agent.lesson_text import sealed
from agent.llm import Model, ModelLost
from agent.prompts import LIMITS, Prompt, make_prompt
from agent.replies import ReplyError
from agent.reply_forms import ReflectReply, WhyReply
from agent.session import Session
from memory.records import Event, Figures, Lesson
from memory.store import Store

WHY, UNEXPLAINED = "why", "unexplained"
SAID = " Why, as a model reads it: "
SENTENCES, CHARACTERS = 2, 240
TRIALS = 12  # cited trials of a lesson that are told, the first and the last ones
DIGIT = re.compile(r"\d")


def explain(
    store: Store,
    session: Session,
    lessons: Sequence[Lesson],
    *,
    scope: str,
    model: Model | None,
    room: int = 0,
) -> None:
    """Ask why lessons hold, of those that were not explained yet, and keep what is of use.

    Args:
        store: of the campaign; no transaction is open, as the model may take its time.
        session: of the campaign.
        lessons: as the rules write them.
        scope: of the call: branch/ID or campaign.
        model: None: nothing is asked.
        room: tokens of the prompt; 0: no limit.
    """
    if model is None:
        return
    due = told([one for one in lessons if store.effect(key_of(one)) is None])
    if not due:
        return
    try:
        prompt = prompt_of(due, briefing.case_names(session), room=room)
        said = model.ask(prompt, ReflectReply, scope=scope)
        kept = of_use(due, said.value.topics, briefing.case_names(session))
        if not kept:
            raise ReplyError("no sentence cites a trial of its lesson and states no result")
    except (ReplyError, ModelLost) as error:
        text = f"the rules' lessons stay without a model's words for {scope}: {error}"
        figures = {"scope": scope, "error": str(error)[:2000]}
        store.add_event(Event(UNEXPLAINED, text[:2000], figures, at=session.now))
        return
    with store.transaction():
        for lesson, sentences in kept:
            store.set_effect(key_of(lesson), {"sentences": sentences, "by": said.endpoint})


def key_of(lesson: Lesson) -> str:
    """Return the key of the effect that holds a lesson's words."""
    return f"{WHY}/{lesson.id}"


def worded(store: Store, lesson: Lesson) -> Lesson:
    """Return a lesson with the words that were kept for it, under their own identifier."""
    known = store.effect(key_of(lesson))
    if known is None:
        return lesson
    words = " ".join(str(one["text"]) for one in known["sentences"])
    return sealed(replace(lesson, text=lesson.text + SAID + words))


def told(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Return the first lessons that together fit into their section of the prompt."""
    found, left = [], LIMITS["lessons"]
    for lesson in lessons:
        left -= len(entry(lesson)) + 2
        if left < 0:
            break
        found.append(lesson)
    return found


def prompt_of(lessons: Sequence[Lesson], names: Sequence[str], *, room: int = 0) -> Prompt:
    """Return what the model is told: each lesson with its topic and the trials that it may cite."""
    text = "\n\n".join(scrubbed_entry(one, names) for one in lessons)
    return make_prompt("reflect", {"lessons": text}, room=room)


def scrubbed_entry(lesson: Lesson, names: Sequence[str]) -> str:
    """Return a lesson for the prompt, without what it must not hold."""
    clean = scrubbed(lesson.text, names=names, most=len(lesson.text))
    return entry(replace(lesson, text=clean))


def entry(lesson: Lesson) -> str:
    """Return a lesson as a prompt holds it."""
    return f"### {lesson.topic}\n{lesson.text}\nTrials: {', '.join(cited(lesson))}"


def cited(lesson: Lesson) -> tuple[str, ...]:
    """Return the trials of a lesson that are told: the first and the last ones of many."""
    if len(lesson.evidence) <= TRIALS:
        return lesson.evidence
    return lesson.evidence[: TRIALS // 2] + lesson.evidence[-(TRIALS // 2) :]


def of_use(
    lessons: Sequence[Lesson], replies: Sequence[WhyReply], names: Sequence[str]
) -> list[tuple[Lesson, list[Figures]]]:
    """Return the lessons that a reply explains, each with what of its sentences may be kept."""
    known = {one.topic: one for one in lessons}
    found: dict[str, list[Figures]] = {}
    for reply in replies:
        topic = reply.topic.strip("# ")
        if topic in known and topic not in found:
            found[topic] = sentences_of(reply, set(cited(known[topic])), names)
    return [(known[topic], rows) for topic, rows in found.items() if rows]


def sentences_of(reply: WhyReply, trials: set[str], names: Sequence[str]) -> list[Figures]:
    """Return the sentences that cite a trial of their lesson and state nothing, with those trials."""
    found = []
    for one in reply.sentences[:SENTENCES]:
        rests = [key for key in dict.fromkeys(k.strip("[] ") for k in one.trials) if key in trials]
        text = scrubbed(without_results(one.text)[0], names=names, most=CHARACTERS)
        if rests and text and not DIGIT.search(text):
            found.append({"text": text, "trials": rests})
    return found
