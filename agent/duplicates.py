"""Whether an idea was had before: by its modules, by its words, by its code. Pure.

Two ideas are near-duplicates where they have the same modules at the same places, or where their
words agree by `NEAR` or more and their modules by half. Words are compared by the cosine of their
counts, each weighed by how rare it is among all ideas compared (tf-idf; Salton and Buckley 1988,
doi:10.1016/0306-4573(88)90021-0). Networks are the same where their syntax trees are, whatever
their comments, docstrings and blank lines.
"""

import ast
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from memory.records import Proposal
from sandbox.syntax import parse

NEAR = 0.8
SHARED = 0.5
_WORD = re.compile(r"[a-z][a-z0-9]+")
_COMMON = frozenset(
    "the and for with that from this are its into which each not than one more where over only "
    "has have their can may will per was were been also such but both all any some".split()
)


class Near(NamedTuple):
    """The idea that another one repeats: its id, title, and how far words and modules agree."""

    id: str
    title: str
    words: float
    modules: float


def nearest(idea: Proposal, others: Sequence[Proposal]) -> Near | None:
    """Return the earlier idea that this one repeats; None where it is new.

    Args:
        idea: the new one.
        others: those before it.
    """
    counts = [words_of(one) for one in (idea, *others)]
    rare = rarity(counts)
    found = [
        Near(
            other.id,
            other.title,
            cosine(counts[0], own, rare),
            overlap(places(idea), places(other)),
        )
        for other, own in zip(others, counts[1:], strict=True)
    ]
    same = [one for one in found if is_near(one)]
    return max(same, key=lambda one: (one.modules, one.words, one.id), default=None)


def is_near(one: Near) -> bool:
    """Tell whether two ideas are the same in substance."""
    return one.modules == 1.0 or (one.words >= NEAR and one.modules >= SHARED)


def places(idea: Proposal) -> frozenset[tuple[str, str]]:
    """Return what an idea puts where; a position and a stage are one place."""
    return frozenset(
        (module.component, f"{module.position}{stage}")
        for module in idea.modules
        for stage in module.stages or ("",)
    )


def overlap(one: frozenset[tuple[str, str]], other: frozenset[tuple[str, str]]) -> float:
    """Return the share of both that is in both (Jaccard); two empty sets agree wholly."""
    return len(one & other) / len(one | other) if one | other else 1.0


def words_of(idea: Proposal) -> Counter[str]:
    """Return how often each word of an idea occurs."""
    ideas = idea.detail.get("ideas", {})
    text = " ".join([idea.title, idea.motivation, *map(str, ideas.values())]).lower()
    return Counter(word for word in _WORD.findall(text) if word not in _COMMON)


def rarity(counts: Iterable[Counter[str]]) -> Mapping[str, float]:
    """Return each word's weight: 1 + log of how many texts there are to one that has it."""
    own = list(counts)
    have = Counter(word for one in own for word in one)
    return {word: 1.0 + math.log(len(own) / many) for word, many in have.items()}


def cosine(one: Counter[str], other: Counter[str], weight: Mapping[str, float]) -> float:
    """Return the cosine of two weighed counts, 0 to 1; 0 where one has no words."""

    def norm(counts: Counter[str]) -> float:
        return math.sqrt(math.fsum((weight[w] * n) ** 2 for w, n in counts.items()))

    lengths = norm(one) * norm(other)
    shared = math.fsum(weight[w] ** 2 * n * other[w] for w, n in one.items() if w in other)
    return shared / lengths if lengths else 0.0


def code_fingerprint(source: str) -> str:
    """Return the SHA-256 of a network's syntax without docstrings; of its text if it is no Python."""
    try:
        tree = parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
