"""Words that a model's prose may not use of itself: numbers, vague quantities, claims. Pure data.

Patterns are matched against text in small letters without accents, in which underscores are
spaces; a space in a pattern stands for spaces or a hyphen. Numbers come from facts and claims from
claims, so the lists are strict: an author can say the same with a token, or say less. Phrases of
`ORDINARY` are taken out first.

Covered: English, number words of three neighbouring languages, the figures of speech below. Not
covered: a claim in words that no list has, and whether a fact is told of the right thing.
"""

import re
from typing import NamedTuple

ONES = "one two three four five six seven eight nine ten eleven twelve".split()
TENS = "twenty thirty forty fourty fifty sixty seventy eighty ninety ninty".split()
LARGE = "hundred thousand million billion trillion".split()
NUMBERS = frozenset(
    [
        *ONES,
        *"zero naught nought nil unity".split(),
        *"thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(),
        *TENS,
        *LARGE,
        *"first second third fourth fifth sixth seventh eighth ninth tenth eleventh".split(),
        *"twelfth twentieth thirtieth fortieth fiftieth hundredth hundredths nth umpteenth".split(),
        *"thirds fourths fifths sixths sevenths eighths ninths tenths".split(),
        *"tens teens dozen dozens twice thrice half halves halved halving".split(),
        *"quarter quarters quartered double doubled doubles doubling triple tripled".split(),
        *"treble trebled quadruple quadrupled quintuple tenfold umpteen".split(),
        # German, French, Spanish
        *"zwei drei vier funf sechs sieben acht neun zehn deux trois quatre cinq sept".split(),
        *"huit neuf dix dos tres cuatro cinco seis siete ocho nueve diez".split(),
    ]
)
STEMS = (*TENS, *LARGE)
"""Beginnings of further number words, such as ninetieth or hundredfold."""
FOLDS = frozenset([*ONES, "several", "many", "multi", *LARGE])
"""What makes a quantity with -fold."""

ORDINARY = (
    r"(?:no|this|that|which|each|every|any|the other|another|the same|a new) one",
    r"one another|one by one|one at a time|one hot|one to one|one of (?:the|these|those|its|their)",
    r"one (?:explanation|reason|reading|possibility) (?:is|may|might|could)",
    r"one (?:can|may|might|must|could|would|cannot|has to|should)",
    r"on (?:the )?one hand",
    r"(?:one|two) sided",
    r"the two (?:sides|arms|networks)",
    r"(?:from|between) zero (?:to|and) one|zero padd(?:ed|ing)",
    r"half precision",
    r"per second|(?:first|second) order|third part(?:y|ies)|at first|double blind",
    r"(?:before|until|after) the first (?:trial|proposal|training|network|rung|opening|iteration)",
    r"the (?:first|second|third) (?:is|was|concerns|holds|of these|stage|rung|row|column|panel|layer|part)",
    r"a second (?:sandbox|run)",
    r"(?<![^.!?\ue003] )(?<![^.!?\ue003 ])(?:first|second|third)(?=,)",
    r"(?:test|tests|testing) (?:of|for) (?:superiority|non inferiority)",
    r"(?:superiority|non inferiority) (?:test|tests|margin)",
    r"(?:higher|lower|more|less) is better|most (?:improved|harmed)",
    r"not comparable|\(i{1,3}\)|(?:rather|other) than|fewer than(?= [\ue001\ue002])",
    r"as well as|i\.e\.|e\.g\.",
    r"(?:higher|lower|highest|lowest) (?:stages?|resolutions?|rungs?|levels?|layers?|frequenc(?:y|ies))",
)


class Rule(NamedTuple):
    """What is refused, and why, in words that an author can act on."""

    reason: str
    pattern: re.Pattern[str]


def _rule(reason: str, *parts: str) -> Rule:
    return Rule(reason, spaced(rf"(?<![a-z])(?:{'|'.join(parts)})(?![a-z])"))


def spaced(pattern: str) -> re.Pattern[str]:
    """Return a pattern whose spaces stand for spaces or a hyphen."""
    maybe = pattern.replace(" ?", r"(?:\s|-)*")
    return re.compile(maybe.replace(" ", r"(?:\s|-)+"))


ORDINARY_PHRASES = tuple(
    re.compile(one) if "<![^" in one else spaced(rf"(?<![a-z])(?:{one})(?![a-z])")
    for one in ORDINARY
)
QUANTITY = r"(?:times|points?|cases|patients|subjects|classes|datasets)"
BIG = r"(?:large|wide|clear|comfortable|considerable|substantial|big|huge)"

VAGUE = _rule(
    "a vague quantity; use a fact or leave it out",
    r"(?:twent|thirt|fort|fift|sixt|sevent|eight|ninet)ies|teens",
    r"orders? of magnitude|handfuls?|couple of|(?:single|double|triple) digits?",
    rf"(?:several|many|multiple|numerous|countless) {QUANTITY}",
    r"(?:several|many|multi) ?fold|a few|lots of|a lot|plenty of|a number of|numerous|countless",
    r"(?:a|great|good) (?:deal|fraction|factor|multiple)(?: of)?|by a (?:factor|fraction|multiple)",
    r"(?:vast |overwhelming )?majority|minority|most (?:of|cases|patients|subjects|classes|datasets)",
    r"(?:nearly|almost|virtually|practically|hardly|barely) (?:all|every|any|none|no|always|never|perfect|identical)",
    r"as (?:many|few|high|low|good|accurate|strong|fast|reliable) as",
    rf"(?:{BIG}|narrow|small|slight) (?:margin|gap|lead)s?|{BIG} (?:gain|difference|effect)s?|by far|per ?cents?|percentages?|per mille",
    r"decades?|century|centuries|fortnights?",
    r"(?:in|for|across|on) (?:all|every|each|any) (?:case|patient|subject|class|dataset|metric|seed)(?:e?s)?",
)
_SURE = "a claim; claims are made by [[claim:ID]] alone"
CLAIM = _rule(
    _SURE,
    r"(?:non |in)?significan(?:t|tly|ce)|insignificance",
    r"out ?perform(?:s|ed|ing|ance)?|outclass(?:es|ed)?|surpass(?:es|ed|ing)?|beats?|beaten|beating",
    r"exceed(?:s|ed|ing)? (?:the |our |its )?(?:baseline|default|nnu net|u net|performance|state)",
    r"state of the art|sota|superior(?:ity)?|inferior(?:ity)?|best in class|cutting edge",
    r"novel(?:ty|ties)?|unprecedented|ground ?breaking|break ?through|pioneer(?:s|ed|ing)?",
    r"first to|for the first time|to (?:the best of )?our knowledge|leading|top performing",
    r"remarkabl[ey]|impressive(?:ly)?|dramatic(?:ally)?|drastic(?:ally)?|striking(?:ly)?|vast(?:ly)?",
    r"substantial(?:ly)?|considerabl[ey]|markedly|notabl[ey]|excellent|outstanding|exceptional(?:ly)?",
    r"clearly|obviously|undoubtedly|undeniabl[ey]|proven|proves?|proved|guarantee[sd]?",
    r"demonstrat(?:es?|ed|ing)|show(?:s|ed|n)? that|strong(?:er)? evidence|correlat(?:es?|ed)",
    r"clinical(?:ly)? (?:relevant|ready|useful|meaningful|safe|validated|use|practice|deployment)",
    r"generali[sz]es?(?: well)? (?:to|well)|robust(?:ly|ness)? (?:to|against)|is robust|consistently",
    r"on par|comparabl[ey]|competitive|equivalent|as good as|no worse|not worse|rivals|match(?:es|ed)? (?:the |our )?(?:baseline|default|nnu net|u net|performance|state)",
    r"improv(?:es|ed|ing)|improvements?|helps|helped|harms|harmed|hurts|benefits from",
    r"highly|effectiveness|groundbreaking|record breaking|perfect(?:ly)?|flawless(?:ly)?",
)
_MERIT = (
    r"better|best|worse|worst|strong(?:er|est)|weak(?:er|est)|high(?:er|est)|low(?:er|est)"
    r"|great(?:er|est)|fast(?:er|est)|slow(?:er|est)|cheap(?:er|est)|clean(?:er|est)|sharp(?:er|est)"
    r"|smooth(?:er|est)|(?:more|most|less|least) (?:accurate|precise|reliable|efficient|stable|powerful"
    r"|effective|robust|faithful|consistent|exact|sensitive|specific|confident|competitive|capable)"
)
_WORDS = r"(?: [\w\ue000-\ue005]+){0,5}"
COMPARATIVE = spaced(
    rf"(?<![a-z])(?:{_MERIT}|gained|advantage|edge over|ahead of"
    rf"|(?:larg|small|long|short|light|lean|few|wid|deep)er{_WORDS} than)(?![a-z])"
)
"""Comparatives, which with a method or a score in the same sentence are a claim."""
COMPARED = spaced(
    rf"(?<![a-z])(?:(?:{_MERIT}){_WORDS} than|(?:more|less|fewer){_WORDS} than"
    rf"|(?:{_MERIT}){_WORDS} (?:compared|relative) (?:with|to))(?![a-z])"
)
"""Comparatives that are a claim of themselves."""
METHOD = spaced(
    r"(?<![a-z])(?:nnu net|u net|unet|baselines?|default network|candidates?|competitors?"
    r"|(?:our|proposed|new|chosen|confirmed|this|the) (?:network|model|method|approach|architecture)"
    r"|(?:prior|previous|existing|other|competing|published|all other|earlier)"
    r" (?:work|works|methods?|networks?|approach(?:es)?|models?|systems?|architectures?)"
    r")(?![a-z])|\ue000"
)
MOVED = spaced(
    r"(?<![a-z])(?:rose|rises?|risen|raise[sd]?|fell|falls?|fallen|drop(?:s|ped)?|climb(?:s|ed)?"
    r"|increase[sd]?|decrease[sd]?|reduce[sd]?|lower(?:s|ed)|grew|grows?|boost(?:s|ed)?"
    r"|lift(?:s|ed)?)(?![a-z])"
)
MEASURED = spaced(
    r"(?<![a-z])(?:dice|nsd|hd95|accuracy|performance|scores?|errors?|quality|overlap|distances?)(?![a-z])|\ue002"
)
ADDRESS = _rule(
    "it speaks to a reader or a model, or of itself; a manuscript does neither",
    r"as an? (?:ai|a\.i\.|artificial|language|large|assistant|llm|chat ?bot)",
    r"(?:large )?language models?|llms?|chat ?gpt|gpt|openai|anthropic|claude|gemini|chat ?bots?",
    r"i|i'm|i've|i'll|my|mine|myself|you|your|yours|you're|you'll",
    r"(?:ignore|disregard|forget|override|bypass|obey) (?:all|any|every|the|these|those|previous|prior|earlier|above|what)",
    r"system prompt|prompts?|instructions?|(?:system|assistant|user|developer) ?:",
    r"dear \w+|(?:note|message) (?:to|for) (?:the )?(?:reader|reviewer|editor|author|model|assistant)s?",
    r"reviewers?|please|certainly|of course|as requested|apologi[sz]e|sorry",
    r"here (?:is|are|'s) (?:the|your|an?) (?:revised |rewritten |new )?(?:section|paragraph|text|draft)",
    r"accept this|recommend acceptance|positive review|do not (?:mention|report|tell|reveal|check|cite|print)",
)
PLACEHOLDER = _rule(
    "a placeholder; write the sentence or leave it out",
    r"to ?do|tbd|tba|fixme|x{2,}|lorem|ipsum|dolor sit|placeholders?|foo(?:bar)?|baz|blah|n/a",
    r"insert \w.{0,40}here|fill in|citation needed|section here",
    r"to be (?:added|completed|written|filled|determined|done|announced|inserted)",
)
RAW_CITATION = _rule(
    "a citation or an address typed as text; cite by [@key]",
    r"et al|ibid|arxiv|doi|pubmed|isbn|https?|ftp|www\.\S+",
    r"[\w-]{1,60}\.(?:com|org|net|io|ai|edu|gov|de|uk|fr|cn|eu)",
)
RULES = (VAGUE, CLAIM, ADDRESS, PLACEHOLDER, RAW_CITATION)
