"""What a prompt tells of a campaign: sections of text from the store and the shipped libraries.

Only rows of the search are read: scores on search-val, proposals, lessons of search trials; nothing
of a locked case, of a confirmation or of a further fold. No section holds a time, a path or a
case's name, so that the same rows give the same prompt.
"""

from collections.abc import Iterable, Sequence

from agent.card_text import card_text
from agent.clue_text import points, scrubbed
from agent.component_effects import ComponentEffects
from agent.conditions import conditions_now
from agent.dataset_card import DatasetCard, dataset_card
from agent.evidence import Evidence
from agent.library_entry import is_ours
from agent.meaning import embedder_of
from agent.methods import card_text as method_text
from agent.methods import methods, relevant
from agent.papers import Paper
from agent.prompts import LIMITS, render
from agent.session import Session
from agent.standings import SEARCH, Standings
from agent.suggestions import Clue
from memory.ranking import CHARACTERS_A_TOKEN
from memory.recall import recall
from memory.records import Lesson, Proposal, SplitCase, SplitName, Trial
from memory.store import Store
from sandbox.components import COMPONENTS
from sandbox.placement import placements
from sandbox.static_check import ALLOWED_IMPORTS

METHODS, LESSONS, TRIED = 8, 12, 30


def contract() -> str:
    """Return the network contract as the coder reads it."""
    return render("contract", {"imports": ", ".join(ALLOWED_IMPORTS)}).strip()


def dataset(store: Store, session: Session) -> tuple[DatasetCard, str]:
    """Return the dataset's card, and its text."""
    card = dataset_card(store, session)
    return card, card_text(card, limit=LIMITS["dataset"])


def components(dims: int, n_stages: int) -> str:
    """Return the library's components that a plan can have, a line each."""
    lines = []
    for name, card in COMPONENTS.items():
        places = placements(name, dims=dims, n_stages=n_stages)
        if places:
            where = ", ".join(dict.fromkeys(place.position for place in places))
            keys = ", ".join(card.citations)
            lines.append(f"- {name} ({where}): {card.idea}. {card.claim} [{keys}]")
    return "\n".join(lines)


def placement(dims: int, n_stages: int) -> str:
    """Return where modules may go in a plan."""
    last = n_stages - 1
    return (
        f"The plan has {dims} dimensions and {n_stages} stages, 0 the finest, {last} the bottleneck. "
        f"encoder and downsample: stages 0 to {last}; skip and decoder: 0 to {last - 1}; bottleneck "
        "and heads: no stages."
    )


def literature(traits: Sequence[str], text: str) -> str:
    """Return the shipped cards that fit a dataset or a challenge, and the warnings."""
    warnings = [one for one in methods().values() if one.role == "warning"]
    chosen = relevant(set(traits), limit=METHODS, text=text)
    both = dict.fromkeys([*warnings[:1], *chosen])
    return "\n".join(f"- {method_text(one)}" for one in both)


def papers(found: Sequence[Paper]) -> str:
    """Return papers of a search with their keys."""
    return "\n".join(
        f"- [{one.key}] {one.title} ({one.year or 'no year'}). {one.abstract[:400]}"
        for one in found
    )


def effects(known: ComponentEffects) -> str:
    """Return what components do with their standard errors, the largest means first."""
    parts = {"in this campaign": known.own, "in earlier campaigns": known.library}
    return "\n".join(
        f"- {row.component}: {points(row.mean)} points of Dice (SE {error(row.se)}, "
        f"networks: {row.n}) {where}"
        for where, knowledge in parts.items()
        for row in knowledge.table(known.traits)
        if knowledge is known.own or is_ours(row.component)
    )


def error(se: float) -> str:
    """Return a standard error in points, without a sign."""
    return points(se).lstrip("+")


def lessons(store: Store, session: Session, about: str) -> str:
    """Return what was learnt that bears on a text, best first; without one the best founded.

    From this campaign and from the library, each with its layer and what speaks for and against it.
    """
    found = recall(
        store,
        about,
        conditions=conditions_now(store, session),
        budget_tokens=LIMITS["lessons"] // CHARACTERS_A_TOKEN,
        limit=LESSONS,
        embedder=embedder_of(session.config),
    )
    names = case_names(session)
    return "\n".join(lesson_line(one.lesson, names) for one in found)


def lesson_line(lesson: Lesson, names: Sequence[str]) -> str:
    """Return a lesson as a prompt tells it."""
    against = f", {lesson.contra} against" if lesson.contra else ""
    head = f"({lesson.layer}, {lesson.kind.replace('_', ' ')}, {lesson.support} for{against})"
    return f"- {head} {scrubbed(lesson.text, names=names)}"


def tried(store: Store, names: Sequence[str]) -> str:
    """Return the proposals of the campaign and how each went, the latest first."""
    standings, latest = Standings(store), store.latest_proposals(TRIED)
    trials: dict[str, list[Trial]] = {}
    for trial in store.trials_of([one.id for one in latest]):
        if trial.proposal and is_open(trial):
            trials.setdefault(trial.proposal, []).append(trial)
    return "\n".join(
        f"- {scrubbed(one.title, names=names, most=160)} [{', '.join(map(place, one.modules))}]: "
        f"{outcome(trials.get(one.id, []), standings)}"
        for one in latest
    )


def is_open(trial: Trial) -> bool:
    """Tell whether a trial may be told of: one of the search, scored on search-val."""
    return trial.kind in SEARCH and trial.split is SplitName.SEARCH_VAL and not trial.fold


def outcome(trials: Sequence[Trial], standings: Standings) -> str:
    """Return how the trials of a proposal went, the highest rung first."""
    ended = [t for t in trials if t.status.is_final]
    known = [(t, e) for t in ended if (e := standings.evidence(t)) is not None]
    if known:
        trial, evidence = max(known, key=lambda pair: (pair[0].rung, pair[1].delta))
        return told(trial, evidence)
    failed = [t.failure_class for t in ended if t.failure_class]
    return f"failed ({failed[-1]})" if failed else "not trained yet"


def told(trial: Trial, evidence: Evidence) -> str:
    """Return an effect in words."""
    gain = points(evidence.delta)
    return f"{gain} points of Dice at rung {trial.rung} (SE {error(evidence.se)})"


def place(module: object) -> str:
    """Return a module and its place in a few characters."""
    name, position, stages = (getattr(module, n) for n in ("component", "position", "stages"))
    return f"{name}@{position}" + (f":{','.join(map(str, stages))}" if stages else "")


def proposal(idea: Proposal) -> str:
    """Return a proposal as text: what it promises, module by module."""
    detail = idea.detail
    lines = [f"Title: {idea.title}", f"Motivation: {idea.motivation}", "Modules:"]
    for one in idea.modules:
        card = COMPONENTS.get(one.component)
        text = card.idea if card else detail.get("ideas", {}).get(one.component, "")
        equations = detail.get("equations", {}).get(one.component, "")
        kind = f"library component, class {card.class_name}" if card else "new class"
        lines.append(f"- {place(one)} ({kind}): {text}")
        lines += [f"  Equations: {equations}"] if equations else []
    for name in ("integration", "expected_on"):
        if detail.get(name):
            lines.append(f"{name.capitalize().replace('_', ' ')}: {detail[name]}")
    lines.append(f"Refuted if: {idea.refutation}")
    return "\n".join(lines)


def clues(found: Sequence[Clue]) -> str:
    """Return clues with their keys, a line each."""
    return "\n".join(f"- {one.key}: {one.text}" for one in found)


def case_names(session: Session) -> list[str]:
    """Return what must not be told: names of cases and patients."""
    return names_in(session.split)


def names_in(split: Iterable[SplitCase]) -> list[str]:
    """Return the names of cases and patients in a split."""
    return sorted({n for case in split for n in (case.case, case.patient)})
