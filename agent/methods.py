"""The shipped library of published methods: one card a method, from templates/methods.toml.

A card says in a sentence or two what the method does, on what data it was shown, where it is
said to help and where it did not, and which of our components carry the idea. Planners are
grounded in it; without a network it is all the literature there is. Its text is ours and its
figures are the cited authors'. A card is cited by its key, and only where references.bib has it.

Pure, but for reading the shipped file once.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from agent.bibliography import load_references
from memory.errors import PlannerError
from sandbox.components import ANISOTROPIC, COMPONENTS, FEW, MANY, SMALL, THIN, VOLUMES

ROLES = ("component", "analysis", "regime", "baseline", "warning", "system")
TRAITS = frozenset({SMALL, THIN, ANISOTROPIC, MANY, FEW, VOLUMES})
CARD_LIMIT = 700
"""The most characters that a card may take in a prompt."""

_BOUNDS = {"name": 60, "idea": 220, "evidence": 120, "helped": 150, "not_helped": 200}
_KINDS = {"int": "a whole number", "list": "a list of strings", "str": "a string"}
_TRAIT_WEIGHT = 2
_MOST_WORDS = 5
_COMMON = 8  # a word in more than one card of so many tells nothing of a dataset
_TEXT_LIMIT = 8000
_ARXIV = re.compile(r"\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7}")
_DOI = re.compile(r"10\.\d{4,9}/\S+")


@dataclass(frozen=True, slots=True)
class Method:
    """One published method.

    `role` is one of ROLES. `modules` names components of sandbox/components.py that carry the
    idea; empty where we have none. `helped` and `not_helped` are empty where nothing is known.
    `doi` and `arxiv` are empty where no id was verified, and `id_note` then says why. `tags`
    holds traits of datasets (TRAITS), modalities and families of ideas.
    """

    key: str
    name: str
    role: str
    year: int
    idea: str
    evidence: str
    helped: str = ""
    not_helped: str = ""
    modules: tuple[str, ...] = ()
    doi: str = ""
    arxiv: str = ""
    code: str = ""
    id_note: str = ""
    tags: frozenset[str] = frozenset()


@cache
def methods() -> Mapping[str, Method]:
    """Return the shipped cards by key, in the order of the file.

    Raises:
        PlannerError: the shipped file is damaged.
    """
    text = (resources.files("templates") / "methods.toml").read_text(encoding="utf-8")
    return MappingProxyType(parse_methods(text))


def parse_methods(text: str) -> dict[str, Method]:
    """Return the cards of a TOML text by key: one table a card, named by its key.

    Raises:
        PlannerError: the text is no TOML, or a card lacks a field, has an unknown one, is too
            long, or names a role, a component or an id that cannot be; or two share an id.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlannerError(f"methods.toml is no TOML: {error}") from error
    cards = {key: _card(key, table) for key, table in tables.items()}
    owners: dict[str, str] = {}
    for card in cards.values():
        for identifier in filter(None, (card.doi, card.arxiv)):
            other = owners.setdefault(identifier, card.key)
            if other != card.key:
                raise PlannerError(
                    f"methods.toml: {other!r} and {card.key!r} share the id {identifier!r}"
                )
    return cards


def method(key: str) -> Method:
    """Return the card of a key.

    Raises:
        PlannerError: there is none; the message names near keys.
    """
    cards = methods()
    if key in cards:
        return cards[key]
    spoken = {name: card.key for card in cards.values() for name in (card.name.lower(), card.key)}
    near = dict.fromkeys(spoken[name] for name in get_close_matches(key[:80].lower(), spoken, n=5))
    hint = f"near keys: {', '.join(near)}" if near else f"{len(cards)} are shipped, none is near"
    raise PlannerError(f"no published method {key[:80]!r}; {hint}")


def relevant(traits: Set[str], *, limit: int, text: str = "") -> list[Method]:
    """Return the cards that fit a dataset best, best first; the same for the same arguments.

    A card scores two for each of `traits` among its tags, and one for each word, at most five,
    that its name, evidence or tags share with `text` and that few cards have. Ties go by key;
    cards that share nothing are left out.

    Args:
        traits: traits of the dataset (TRAITS); modalities such as "ultrasound" count too.
        limit: the most cards to return; none below one.
        text: the dataset's description. It is only split into words; its first 8000
            characters count.
    """
    wanted = _words(text[:_TEXT_LIMIT]) & _telling_words()
    scores = {
        card: _TRAIT_WEIGHT * len(card.tags & traits)
        + min(len(_card_words(card) & wanted), _MOST_WORDS)
        for card in methods().values()
    }
    ranked = sorted(
        (card for card in scores if scores[card]), key=lambda card: (-scores[card], card.key)
    )
    return ranked[: max(limit, 0)]


@cache
def known_citations() -> frozenset[str]:
    """Return the keys that may be cited: those of cards which the bibliography holds too."""
    return frozenset(methods()) & frozenset(load_references())


def card_text(method: Method) -> str:
    """Return a card as text for a prompt: its key first, at most CARD_LIMIT characters."""
    modules = ", ".join(method.modules)
    lines = (
        f"[{method.key}] {method.name} ({method.role}, {method.year})",
        method.idea,
        f"Shown on: {method.evidence}",
        f"Helped: {method.helped}" if method.helped else "",
        f"Limits: {method.not_helped}" if method.not_helped else "",
        f"Components: {modules}." if modules else "",
        f"Note: {method.id_note}" if method.id_note else "",
    )
    return "\n".join(filter(None, lines))


def _card(key: str, table: Any) -> Method:
    where = f"methods.toml: card {key!r}"
    if not isinstance(table, dict):
        raise PlannerError(f"{where} is {table!r}; a card is a table")
    _check_fields(where, table)
    card = Method(
        key=key,
        **{
            **table,
            "modules": tuple(table.get("modules", ())),
            "tags": frozenset(table.get("tags", ())),
        },
    )
    _check_values(where, card)
    if len(card_text(card)) > CARD_LIMIT:
        raise PlannerError(
            f"{where} takes {len(card_text(card))} characters in a prompt; at most {CARD_LIMIT}"
        )
    return card


def _check_fields(where: str, table: dict[str, Any]) -> None:
    known = {field.name for field in fields(Method)} - {"key"}
    if unknown := sorted(set(table) - known):
        raise PlannerError(f"{where} has unknown fields {unknown}; known: {sorted(known)}")
    needed = {"name", "role", "year", "idea", "evidence"}
    if missing := sorted(needed - set(table)):
        raise PlannerError(f"{where} lacks {missing}")
    for name, value in table.items():
        kind = {"year": "int", "modules": "list", "tags": "list"}.get(name, "str")
        if not _is_of(value, kind):
            raise PlannerError(f"{where}: {name} is {value!r}; it must be {_KINDS[kind]}")


def _is_of(value: Any, kind: str) -> bool:
    if kind == "list":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return type(value).__name__ == kind  # a bool is no int here


def _check_values(where: str, card: Method) -> None:
    for name, most in _BOUNDS.items():
        value = getattr(card, name)
        if len(value) > most:
            raise PlannerError(f"{where}: {name} has {len(value)} characters; at most {most}")
    if card.role not in ROLES:
        raise PlannerError(f"{where}: role {card.role!r}; one of {', '.join(ROLES)}")
    if unknown := [name for name in card.modules if name not in COMPONENTS]:
        raise PlannerError(f"{where}: no components {unknown}; known: {sorted(COMPONENTS)}")
    if card.arxiv and not _ARXIV.fullmatch(card.arxiv):
        raise PlannerError(f"{where}: {card.arxiv!r} is no arXiv id (NNNN.NNNNN)")
    if card.doi and not _DOI.fullmatch(card.doi):
        raise PlannerError(f"{where}: {card.doi!r} is no DOI (10.N/...)")
    if not (card.doi or card.arxiv or card.id_note):
        raise PlannerError(f"{where} has no id and no id_note that says why")


@cache
def _telling_words() -> frozenset[str]:
    """Return the words of the cards that are rare enough to tell one dataset from another."""
    cards = methods().values()
    counts = Counter(word for card in cards for word in _card_words(card))
    return frozenset(word for word, n in counts.items() if n * _COMMON <= len(cards))


@cache
def _card_words(card: Method) -> frozenset[str]:
    """Return the words that say what a card is about: its name, its data, its families."""
    spoken = (card.name, card.evidence, *sorted(card.tags - TRAITS))
    return _words(" ".join(spoken))


def _words(text: str) -> frozenset[str]:
    """Return the words of a text in lower case: names in capitals, and what has five letters."""
    found = re.findall(r"[A-Za-z][A-Za-z0-9]+", text)
    return frozenset(word.lower() for word in found if len(word) > 4 or word.isupper())
