"""The reporting checklists of the field, and what the facts of a campaign answer of them.

templates/checklists holds one file a checklist. An item has an id, a section, a question, and
`author`: what the author must answer where the facts do not. Besides, it may have

- `facts`: patterns of whole keys; each must be met by a fact that has a value. CHOSEN stands for the
  proposal that was confirmed;
- `answer`, in a few words, `show`, the keys of facts to print with it, and `where`, the section of
  the report that says it, by its anchor; all that has `facts` has `answer` and `where`;
- `adds`: the facts answer a part alone, and the author has the rest to add;
- `doubt`: a pattern of keys and one of texts; where a fact has both, the item is the author's;
- `unless`: a rule of `RULES`; where it holds, the item does not apply.

No item is answered without a fact, and a fact without a value, such as "none", is none. Pure, but for
reading the shipped files once.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from memory.errors import ReportError
from memory.records import Fact

NAMES = ("claim2024", "miccai")
ANSWERED, OPEN, NOT_APPLICABLE = "answered", "open", "not applicable"
STATES = (ANSWERED, OPEN, NOT_APPLICABLE)
CHOSEN = "CHOSEN"
NO_VALUE = frozenset(("", "none", "undefined", "unknown", "not recorded", "not set"))
_KINDS = {"list": "a list of strings", "bool": "true or false", "str": "a string"}


class Rule(NamedTuple):
    """When an item does not apply, and why, in a sentence for the reader."""

    holds: Callable[[Mapping[str, Fact]], bool]
    reason: str


def _is_simulated(facts: Mapping[str, Fact]) -> bool:
    found = facts.get("dataset.simulated")
    return found is not None and found.value == "yes"


RULES: Mapping[str, Rule] = {
    "simulated": Rule(_is_simulated, "simulated subjects"),
    "segmentation": Rule(
        lambda facts: "dataset.labels" in facts, "the task is segmentation; nobody is diagnosed"
    ),
    "unexplained": Rule(
        lambda facts: "campaign.id" in facts, "no explanation of single predictions was made"
    ),
}
"""Rules on facts, by the name that an item has them by."""


class Item(NamedTuple):
    """One item of a checklist; the fields are those of the file."""

    id: str
    section: str
    question: str
    author: str
    facts: tuple[str, ...] = ()
    answer: str = ""
    show: tuple[str, ...] = ()
    where: str = ""
    adds: bool = False
    doubt: tuple[str, ...] = ()
    unless: str = ""


class Checklist(NamedTuple):
    """One checklist: its name in keys, its title, the key of its source, its items in order."""

    name: str
    title: str
    citation: str
    items: tuple[Item, ...]


class Answer(NamedTuple):
    """What the facts say of an item.

    Attributes:
        item: the item.
        state: of STATES.
        keys: one fact for each pattern of the item, where all are met; they answer it, or a part
            of it where it is open.
    """

    item: Item
    state: str
    keys: tuple[str, ...]


def evaluate(
    checklist: Checklist, facts: Mapping[str, Fact], *, chosen: str = ""
) -> tuple[Answer, ...]:
    """Return what the facts of a campaign answer of a checklist, item by item.

    Args:
        checklist: one of `load_checklists`.
        facts: all facts, by key.
        chosen: the proposal that was confirmed; "" where none was.
    """
    return tuple(_answer(item, facts, chosen) for item in checklist.items)


def _answer(item: Item, facts: Mapping[str, Fact], chosen: str) -> Answer:
    if item.unless and RULES[item.unless].holds(facts):
        return Answer(item, NOT_APPLICABLE, ())
    keys = tuple(next(iter(evidence(one, facts, chosen)), "") for one in item.facts)
    if not keys or not all(keys):
        return Answer(item, OPEN, ())
    is_answered = not item.adds and not _is_doubted(item, facts)
    return Answer(item, ANSWERED if is_answered else OPEN, keys)


def evidence(pattern: str, facts: Mapping[str, Fact], chosen: str = "") -> list[str]:
    """Return the keys of the facts with a value that meet a pattern, sorted."""
    found = _compiled(named(pattern, re.escape(chosen or CHOSEN)))
    return [key for key in sorted(facts) if found.fullmatch(key) and has_value(facts[key])]


def named(text: str, chosen: str) -> str:
    """Return a pattern or a key with the confirmed proposal in it."""
    return text.replace(CHOSEN, chosen)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def has_value(fact: Fact) -> bool:
    """Tell whether a fact says anything."""
    return fact.value is not None and fact.text not in NO_VALUE


def _is_doubted(item: Item, facts: Mapping[str, Fact]) -> bool:
    if not item.doubt:
        return False
    key, text = item.doubt
    return any(re.search(text, facts[one].text) for one in evidence(key, facts))


@cache
def load_checklists() -> tuple[Checklist, ...]:
    """Return the shipped checklists.

    Raises:
        ReportError: a file is not of the form that this module says.
    """
    folder = resources.files("templates") / "checklists"
    return tuple(
        parse(name, (folder / f"{name}.toml").read_text(encoding="utf-8")) for name in NAMES
    )


def parse(name: str, text: str) -> Checklist:
    """Return a checklist from its file.

    Raises:
        ReportError: it is no TOML, a field is missing, unknown or of another kind, an id comes
            twice, a rule is unknown, or an item has facts and does not say what they answer.
    """
    try:
        told = tomllib.loads(text)
        items = tuple(_item(f"{name}.toml: item {n}", one) for n, one in enumerate(told["items"]))
        checklist = Checklist(name, told["title"], told["citation"], items)
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ReportError(f"{name}.toml is no checklist: {error!r}") from error
    ids = [item.id for item in items]
    if len(set(ids)) < len(ids):
        raise ReportError(f"{name}.toml: an id comes twice in {ids}")
    return checklist


def _item(place: str, told: Mapping[str, Any]) -> Item:
    unknown = sorted(set(told) - set(Item._fields))
    missing = [n for n in ("id", "section", "question", "author") if n not in told]
    if unknown or missing:
        raise ReportError(f"{place}: unknown {unknown}, missing {missing}")
    item = Item(**{key: _value(place, key, value) for key, value in told.items()})
    if item.unless and item.unless not in RULES:
        raise ReportError(f"{place}: unknown rule {item.unless!r}; known: {', '.join(RULES)}")
    beside = (item.answer, item.where)
    more = (*beside, item.show, item.adds, item.doubt)
    if not all(beside) if item.facts else any(more):
        raise ReportError(f"{place}: facts, answer and where belong together")
    if len(item.doubt) not in (0, 2):
        raise ReportError(f"{place}: doubt is a pattern of keys and one of texts")
    return item


def _value(place: str, key: str, value: object) -> Any:
    kind = "list" if key in ("facts", "show", "doubt") else "bool" if key == "adds" else "str"
    is_right = {
        "list": isinstance(value, list) and all(isinstance(one, str) for one in value),
        "bool": isinstance(value, bool),
        "str": isinstance(value, str) and value != "",
    }[kind]
    if not is_right:
        raise ReportError(f"{place}: {key} is {value!r}; wanted is {_KINDS[kind]}")
    return tuple(value) if isinstance(value, list) else value
