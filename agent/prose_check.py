"""Whether a model's prose may be printed: no number, claim, citation or command of its own. Pure.

A text is read as its tree (`agent/prose.py`); each token becomes one sign, and what is left is held
against the lists of `agent/prose_words.py`. What is refused is told with its place and a reason that
an author can act on.

Covered: digits and numerals of any script, numbers in words, vague quantities, words that claim,
comparisons of methods, tokens that do not exist or may not stand in the section, raw citations,
addresses, HTML, LaTeX and Markdown, invisible characters, speech to a reader or a model, repeated
sentences, placeholders, and facts that stand together so that they read as another number. Not
covered: whether a sentence is true, and whether a fact is told of the right thing.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from agent.binding import TERMS
from agent.latex import escaped
from agent.manuscript_sections import SECTIONS, Section, facts_for, kind_of, why_not
from agent.prose import (
    Citation,
    ClaimToken,
    Code,
    FactToken,
    Inline,
    Paragraph,
    Shown,
    Text,
    parse,
    source,
    walk,
)
from agent.prose_words import (
    COMPARATIVE,
    COMPARED,
    FOLDS,
    MEASURED,
    METHOD,
    MOVED,
    NUMBERS,
    ORDINARY_PHRASES,
    RULES,
    STEMS,
)
from memory.records import Fact

MOST = 30
_TITLE, _NUMBER, _SCORE, _CLAIM, _WORD, _OTHER = map(chr, range(0xE000, 0xE006))
_SIGNS = _TITLE + _NUMBER + _SCORE + _CLAIM + _WORD + _OTHER
_FACTS = _TITLE + _NUMBER + _SCORE + _WORD
_SENTENCE = re.compile(rf"(?<=[.!?{_CLAIM}])\s+")
_WORDS = re.compile(r"[a-z]+(?:[-'][a-z]+)*")
_APART = re.compile(r"(?<![a-z])(?:[a-z][ .\-]){3,}[a-z](?![a-z])")
_ROMAN = re.compile(
    r"(?<![A-Za-z])(?=[IVX]{2,}(?![A-Za-z])|XC(?![A-Za-z])|[MDCLXVI]{4,}(?![A-Za-z])|X[CL][IVX])"
    r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?![A-Za-z])"
    r"|(?<![A-Za-z(])x{0,3}(?:ix|iv|vi{1,3}|i{2,3}|(?<=x)i{1,3})(?![A-Za-z)])"
)
_ALIKE = {"_": " ", "’": "'", "‐": "-", "‑": "-"} | dict(zip("øØłŁđĐð", "oollddd", strict=True))
_TERM = re.compile(rf"(?<!\w)(?:{'|'.join(TERMS)})(?!\w)")
_LOOKALIKE = re.compile(r"(?<!\w)[OolI]+[.,][OolI]+(?!\w)")
_MARKUP = re.compile(r"[\\$<>{}\[\]*`~^|#=]|&\w*;|&#|!\[|(?<!\S)@\S|\S@\S")
_LINE = re.compile(
    r"^(?: {4,}\S|\t| {0,3}(?:#|[-*+] |>|\||```|~~~|-{3,}|={3,}|(?:\d{1,3}|[A-Za-z])[.)] ))", re.M
)
_UNFINISHED = re.compile(r"\.(?: ?\.)+|…|\?{2,}|_{2,}")
_ENDED = re.compile(rf"(?:[.!?][)”’\"']*|{_CLAIM})\Z")
_BESIDE = re.compile(
    rf"(?<![ (“‘\"'])(?<!\A)[{_FACTS}]|[{_FACTS}](?![,.;:!?)”’\"']*(?: |\Z))|[{_FACTS}][ ]+[{_FACTS}]"
)
_JUDGED = re.compile(
    r"(?<![a-z])(?:minus|plus|negative|times|over|under|above|below|beyond|nearly|almost|about|roughly"
    rf"|around|approximately|some|only|merely|just|fully|mere|whopping|not|no)\s+[{_NUMBER}{_SCORE}]"
    rf"|[{_NUMBER}{_SCORE}]\s+(?:times|fold|x)(?![a-z])"
)
_LOOSE_CLAIM = re.compile(rf"(?<![.!?{_CLAIM}] )(?<!\A){_CLAIM}|{_CLAIM}(?! |\Z)")


class Problem(NamedTuple):
    """What is wrong with a text: where, and why."""

    place: str
    reason: str


class _Bare(NamedTuple):
    """A paragraph with a sign in the place of each token, and the tokens in their order.

    `folded` is the text in small letters without accents, of the same length, ordinary phrases out.
    """

    number: int
    text: str
    folded: str
    tokens: tuple[str, ...]

    def around(self, start: int, end: int | None = None) -> str:
        """Return the words around a place, with tokens as they are written."""
        left, right = max(0, start - 25), (start + 1 if end is None else end) + 25
        kept = iter(self.tokens[sum(c in _SIGNS for c in self.text[:left]) :])
        shown = "".join(next(kept) if c in _SIGNS else c for c in self.text[left:right])
        return f"paragraph {self.number}: {' '.join(shown.split())!r}"

    def problem(self, found: re.Match[str], reason: str) -> Problem:
        """Return a problem at a place."""
        return Problem(self.around(*found.span()), reason)


def problems(
    text: str,
    *,
    facts: Mapping[str, Fact],
    claims: Collection[str],
    references: Collection[str],
    figures: Collection[str],
    section: str,
    others: Sequence[str] = (),
) -> list[Problem]:
    """Return why a text may not be printed, at most MOST reasons; none where it may.

    Args:
        text: restricted text, as `agent/prose.py` reads it.
        facts: all facts of the campaign, by key.
        claims: ids of the claims that may be printed.
        references: keys that may be cited.
        figures: names of the figures and tables that exist.
        section: of `manuscript_sections.SECTIONS`.
        others: texts of other sections, whose sentences may not come again.
    """
    prose = parse(text)
    own = SECTIONS[section]
    found = [*islice(_letters(text), MOST), *islice(_blocks(text), MOST)]
    if not prose:
        found.append(Problem("the text", "it is empty"))
    known = _Known(facts, facts_for(own, facts), claims, references, figures, own)
    for number, parts in enumerate(prose, 1):
        found += islice(_tokens(number, parts, known), MOST)
        bare = _bare(number, parts, facts)
        for rule in _CHECKS:
            found += islice(rule(bare), MOST)
    found += islice(_repeated(text, others), MOST)
    return list(dict.fromkeys(found))[:MOST]


class _Known(NamedTuple):
    """What tokens may name."""

    facts: Mapping[str, Fact]
    allowed: Mapping[str, Fact]
    claims: Collection[str]
    references: Collection[str]
    figures: Collection[str]
    section: Section


def _tokens(number: int, parts: Paragraph, known: _Known) -> Iterator[Problem]:
    """Yield tokens that name nothing, or nothing that may stand in the section."""
    for part in walk(parts):
        for reason in _token(part, known):
            yield Problem(f"paragraph {number}: {source(part)!r}", reason)


def _token(part: Inline, known: _Known) -> Iterator[str]:
    match part:
        case FactToken(key) if key not in known.facts:
            yield f"there is no fact {key}"
        case FactToken(key) if key not in known.allowed:
            yield why_not(known.section, key, known.facts)
        case ClaimToken(claim) if not known.section.has_claims:
            yield f"no claim may stand in the section {known.section.name}"
        case ClaimToken(claim) if claim not in known.claims or part.key not in known.facts:
            yield f"there is no claim {claim}"
        case Shown(_, name) if name not in known.figures:
            yield f"there is no figure or table {name}"
        case Shown("fig", name) if name not in known.section.figures:
            yield f"the figure {name} is not of the section {known.section.name}"
        case Citation(keys):
            yield from (
                f"{k} is not among the citations" for k in keys if k not in known.references
            )


def _bare(number: int, parts: Paragraph, facts: Mapping[str, Fact]) -> _Bare:
    shown, tokens = [], []
    for part in walk(parts):
        if isinstance(part, Text | Code):
            shown.append("".join(" " if c in _SIGNS else c for c in part.text))
        else:
            shown.append(_sign(part, facts))
            tokens.append(source(part))
    text = "".join(shown)
    return _Bare(number, text, _without_phrases(text), tuple(tokens))


def _without_phrases(text: str) -> str:
    """Return a text in small letters without accents, commas in the place of ordinary phrases."""
    folded = "".join(map(_folded, text))
    for phrase in ORDINARY_PHRASES:
        folded = phrase.sub(lambda found: "," * len(found[0]), folded)
    return folded


def _sign(part: Inline, facts: Mapping[str, Fact]) -> str:
    """Return the sign of a token: what kind of thing it prints; a citation takes its space."""
    if isinstance(part, ClaimToken):
        return _CLAIM
    if not isinstance(part, FactToken):
        return f" {_OTHER}" if isinstance(part, Citation) else _OTHER
    if re.fullmatch(r"proposal\.[^.]+\.title|staged\.\d+\.title|branch\..+\.best", part.key):
        return _TITLE
    fact = facts.get(part.key)
    if fact is not None and isinstance(fact.value, str):
        return _WORD
    return _SCORE if kind_of(part.key, facts) else _NUMBER


def _folded(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character)[:1].lower()
    return _ALIKE.get(character, plain or character)


def _letters(text: str) -> Iterator[Problem]:
    """Yield characters that cannot be seen, or that the manuscript's fonts lack."""
    for number, line in enumerate(text.split("\n"), 1):
        for character in dict.fromkeys(line):
            name = f"U+{ord(character):04X}"
            if unicodedata.category(character).startswith("C") and character != "\t":
                yield Problem(f"line {number}", f"an invisible or private character {name}")
            elif name in escaped(character) and not character.isnumeric():
                yield Problem(f"line {number}", f"a letter of another script {character} ({name})")


def _blocks(text: str) -> Iterator[Problem]:
    for found in _LINE.finditer(text):
        place = f"line {text.count(chr(10), 0, found.start()) + 1}: {found[0].strip()!r}"
        yield Problem(place, "markup of a block; write paragraphs alone")


def _digits(bare: _Bare) -> Iterator[Problem]:
    """Yield digits and numerals of any script, Roman ones, and letters that pass for digits."""
    reason = "a number; use [[fact:KEY]]"
    text = _TERM.sub(lambda found: "," * len(found[0]), bare.text)
    place = next((i for i, character in enumerate(text) if character.isnumeric()), None)
    if place is not None:
        yield Problem(bare.around(place), reason)
    for pattern in (_ROMAN, _LOOKALIKE):
        for found in pattern.finditer(bare.text):
            yield bare.problem(found, reason)


def _numbers(bare: _Bare) -> Iterator[Problem]:
    """Yield numbers in words, whole, compound, or with their letters set apart."""
    for found in _WORDS.finditer(bare.folded):
        word = found[0]
        parts = {*re.split(r"[-']", word), re.sub(r"[-']", "", word)}
        if any(map(_is_number, parts)):
            reason = f"a number or a rank in words, {word!r}; use a fact or leave it out"
            yield bare.problem(found, reason)
    for found in _APART.finditer(bare.folded):
        yield bare.problem(found, "letters set apart, as numbers are hidden")


def _is_number(word: str) -> bool:
    is_fold = word.endswith("fold") and word.removesuffix("fold") in FOLDS
    return word in NUMBERS or word.startswith(STEMS) or is_fold


def _words(bare: _Bare) -> Iterator[Problem]:
    """Yield what the lists of words refuse."""
    for rule in RULES:
        for found in rule.pattern.finditer(bare.folded):
            yield bare.problem(found, f"{found[0].strip()!r} is {rule.reason}")


def _signs(bare: _Bare) -> Iterator[Problem]:
    """Yield markup of other languages, signs of quantities, and sentences that have no end."""
    for found in _MARKUP.finditer(bare.text):
        reason = "markup, a formula, HTML, LaTeX or a token that is no token; write words"
        yield bare.problem(found, f"{found[0]!r} is {reason}")
    for place, character in enumerate(bare.text):
        if character in "%‰°±÷+→←€£№" or unicodedata.category(character) in ("Sm", "Sc"):
            yield Problem(bare.around(place), f"{character!r} is a sign of a quantity; use a fact")
    for found in _UNFINISHED.finditer(bare.text):
        yield bare.problem(found, "a placeholder; write the sentence or leave it out")
    if not _ENDED.search(bare.text):
        yield Problem(bare.around(max(0, len(bare.text) - 1)), "the paragraph has no end")


def _comparisons(bare: _Bare) -> Iterator[Problem]:
    """Yield sentences that compare methods or scores, which is what claims are for."""
    reason = "it compares methods or scores; that is a claim, and claims are made by [[claim:ID]]"
    text, start = bare.folded, 0
    for sentence in _SENTENCE.split(text):
        place = text.index(sentence, start)
        start = place + len(sentence)
        if found := _compared(sentence):
            yield Problem(bare.around(place + found.start(), place + found.end()), reason)


def _compared(sentence: str) -> re.Match[str] | None:
    if found := COMPARED.search(sentence):
        return found
    has_method = METHOD.search(sentence) or _SCORE in sentence
    if has_method and (found := COMPARATIVE.search(sentence)):
        return found
    found = MOVED.search(sentence)
    return found if found and MEASURED.search(sentence) else None


def _places(bare: _Bare) -> Iterator[Problem]:
    """Yield facts that their neighbours would change, and claims that are no own sentence."""
    for found in _BESIDE.finditer(bare.text):
        yield bare.problem(found, "a fact stands apart, with a word between it and the next")
    for found in _JUDGED.finditer(bare.folded):
        yield bare.problem(found, "a word beside a fact changes or judges it")
    for found in _LOOSE_CLAIM.finditer(bare.text):
        yield bare.problem(
            found, "a claim is a sentence of its own; put nothing before or after it"
        )


_CHECKS = (_digits, _numbers, _words, _signs, _comparisons, _places)


def _repeated(text: str, others: Sequence[str]) -> Iterator[Problem]:
    seen = {one for other in others for one, _ in _sentences(other)}
    for one, written in _sentences(text):
        if one in seen:
            yield Problem(repr(written[:60]), "the sentence stands twice")
        seen.add(one)


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield the sentences of a text: as they are compared, and as they are written."""
    for parts in parse(text):
        line = "".join(map(source, parts))
        for one in re.split(r"(?<=[.!?\]])\s+", line):
            plain = " ".join(re.findall(r"[\w:.]+", one.lower())).strip(".")
            if len(plain.split()) > 3 or one.startswith("[[claim:"):
                yield plain, one
