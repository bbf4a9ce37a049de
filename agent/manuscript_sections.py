"""The sections of a manuscript: what each is for, and which facts, claims and figures it may use.

A fact belongs to a group by its key. Scores of the locked test stand in the abstract and the results
alone, scores that selection saw in the section on the search alone; what no group names stands in
no section that a model writes. Where no model's text can be used, the report prints what its own
templates say under the headings in `stands_in`. Pure.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from memory.records import Fact

LOCKED, SELECTION = "a score of the locked test", "a score that selection saw"
_SCORE = r"(?:dice|nsd|hd95)"
_DELTA = r"delta(?:_low|_high)?"

GROUPS: Mapping[str, tuple[str, ...]] = {
    "data": (
        r"campaign\.name",
        r"dataset\.(?:name|dims|channels|labels|cases|patients|licence|origin|reference)",
        r"label\..+",
        r"split\.[^.]+\.(?:cases|patients|foreground_ml)",
    ),
    "rules": (
        r"declared\.(?:primary|secondaries|margin_rule|same|least\.[^.]+|test\.\d+)",
        r"report\.confidence",
        r"config\.confirm\.(?:alpha|margin|seeds|finalists)",
        r"noise\.(?:margin|detectable|power|cases|seeds)",
        r"amended\.\d+\.(?:setting|before|after|reason)",
    ),
    "noise": (r"noise\.(?:run_sd|resid_sd|seen_cases|seen_seeds)",),
    "setup": (
        r"protocol\.(?:rung_iterations|batch_size|patch_size|device|configuration|tolerance_mm)",
        r"baseline\.rung\d+(?:\.batch\d+)?\.(?:rung|batch_size|iterations|seeds)",
        r"budget\.[^.]+\.limit",
        r"containment\.\d+\.isolation",
    ),
    "network": (
        r"proposal\.[^.]+\.(?:title|module\.\d+\.(?:component|position|stages|idea))",
        r"method\.\d+\.(?:module|class|lines|built|inside|instances|active)",
    ),
    "costs": (
        r"confirm\.[^.]+\.(?:seeds|batch_size|parameters|flops|seconds|peak_memory)",
        r"confirm\.failed",
    ),
    "work": (
        r"search\.(?:branches|proposals|trials|cut)",
        r"compute\.trials\.(?:total|without_scores)",
        r"compute\.seconds\.total",
        r"compute\.failed\.seconds\.total",
        r"failure\.[^.]+\.(?:class|trials|meaning)",
    ),
    "selection": (
        rf"baseline\.rung\d+(?:\.batch\d+)?\.(?:{_SCORE}\.(?:mean|low|high)|seed_sd)",
        rf"branch\.[^.]+\.(?:best|trials|rung|{_DELTA})",
        rf"selection\.[^.]+\.(?:rung|{_DELTA})",
        r"staged\.(?:networks|candidates|folds|again|seeds)",
        r"staged\.\d+\.(?:title|folds|trainings|(?:prior|pooled)(?:_low|_high)?)",
        rf"ablation\.\d+\.(?:without|patients|seeds|{_DELTA})",
    ),
    "headline": (
        r"claim\.[^.]+\.(?:verdict|n_cases|cases_higher|(?:delta|low|high|mde|margin)_points)",
        rf"confirm\.[^.]+\.mean\.dice\.(?:mean|low|high|{_DELTA}|delta_higher)",
    ),
    "locked": (
        rf"confirm\.[^.]+\.mean\.(?:nsd|hd95)\.(?:mean|low|high|{_DELTA})",
        rf"confirm\.[^.]+\.class-[^.]+\.dice\.(?:mean|low|high|{_DELTA}|delta_higher)",
        r"confirm\.[^.]+\.seed_sd",
        r"claim\.[^.]+\.(?:p|p_holm|p_permutation|power_at_margin|bootstrap_low|bootstrap_high)",
        rf"ablation\.\d+\.(?:without|patients|seeds|{_DELTA})",
    ),
}
"""Groups of facts: each is patterns of whole keys."""
_KINDS = {"selection": SELECTION, "locked": LOCKED, "headline": LOCKED}
_GROUPS = {name: re.compile("|".join(patterns)) for name, patterns in GROUPS.items()}
_HEADS = {
    name: frozenset(pattern.split("\\.")[0].removesuffix(r"\d+") for pattern in patterns)
    for name, patterns in GROUPS.items()
}
_LOCKED = re.compile(
    rf"confirm\.[^.]+\.(?:[^.]+\.{_SCORE}\..+|seed_sd)|claim\..+|case\..+|selection\..+\.shrinkage"
)
_SELECTION = re.compile(
    rf"(?:baseline|trial)\.[^.]+\.(?:batch\d+\.)?(?:{_SCORE}\..+|seed_sd|delta.*)"
    r"|branch\..+|selection\..+|staged\..+|llm\.(?:endpoint|payoff)\..+"
)
_CONFIRMED = re.compile(r"confirm\.([^.]+)\.seeds")
_OF_PROPOSAL = re.compile(r"proposal\.([^.]+)\..+")
_OF_ABLATION = re.compile(r"(ablation\.\d+)\..+")
_CLAIM = re.compile(r"claim\.([^.]+)\.text")


class Section(NamedTuple):
    """One section of a manuscript.

    `groups` are of GROUPS; `figures` are names that it may point to; `stands_in` are the anchors
    of the report whose fixed sentences are printed where there is no model's text.
    """

    name: str
    title: str
    purpose: str
    groups: tuple[str, ...]
    figures: tuple[str, ...] = ()
    has_claims: bool = False
    stands_in: tuple[str, ...] = ()


_ALL = (
    Section(
        "introduction",
        "Introduction",
        "Say which task the dataset poses, why a change of architecture is worth a test there, "
        "what was asked, and how the text is laid out. State no result.",
        ("data",),
        stands_in=("dataset",),
    ),
    Section(
        "related",
        "Related work",
        "Set the confirmed network beside published work: where each of its modules comes from "
        "and how the comparison is kept fair. Cite; state no result of anybody.",
        ("data", "network"),
    ),
    Section(
        "method",
        "Method",
        "Describe the confirmed network: each module, its place, what it computes, and what was "
        "kept of the default network. State no result.",
        ("data", "network", "costs", "setup"),
        ("network",),
        stands_in=("network",),
    ),
    Section(
        "experiments",
        "Experiments",
        "Describe data and split, baseline, budget, rungs, the declared endpoint and tests, the "
        "noise that was measured first, and the isolation of trainings. State no result.",
        ("data", "rules", "noise", "setup", "costs", "work"),
        stands_in=("protocol", "dataset", "compute", "baselines"),
    ),
    Section(
        "search",
        "The search",
        "Tell how many ideas were opened, cut and failed, and how the finalists were chosen. "
        "Scores here are those of selection; say that they are optimistic.",
        ("data", "setup", "work", "selection"),
        ("tree", "budget"),
        stands_in=("search", "failures"),
    ),
    Section(
        "results",
        "Results",
        "Give what was found on the locked test: each claim by its own sentence, then scores with "
        "their intervals, classes, costs and ablations. Interpret nothing.",
        ("data", "rules", "network", "costs", "headline", "locked"),
        ("paired", "forest", "cases"),
        has_claims=True,
        stands_in=("results", "ablation", "cases"),
    ),
    Section(
        "discussion",
        "Discussion",
        "Say what the claims mean for the question that was asked, what may explain them and what "
        "would have to be done to learn more. Where nothing was shown, say what was ruled out.",
        ("data", "rules", "network", "work"),
        ("paired", "tree"),
        has_claims=True,
    ),
    Section(
        "limitations",
        "Limitations",
        "Say what this campaign cannot show: data, baseline, length of training, seeds, noise, "
        "what failed, what was changed after it was declared.",
        ("data", "rules", "noise", "setup", "costs", "work"),
        stands_in=("limitations",),
    ),
    Section(
        "abstract",
        "Abstract",
        "Give question, data, method, the claims by their own sentences, and what they do not "
        "show, in one paragraph.",
        ("data", "rules", "network", "work", "headline"),
        has_claims=True,
        stands_in=("verdict",),
    ),
)
SECTIONS: Mapping[str, Section] = {one.name: one for one in _ALL}
"""The sections by name, in the order in which they are written: the abstract last."""
ORDER = ("abstract", *(one.name for one in _ALL if one.name != "abstract"))
"""The names in the order in which they are printed."""


def kind_of(key: str, facts: Mapping[str, Fact]) -> str:
    """Return LOCKED or SELECTION for a score's key, "" for another."""
    if ablation := _OF_ABLATION.fullmatch(key):
        split = facts.get(f"{ablation[1]}.split")
        return LOCKED if split is None or split.text == "locked-test" else SELECTION
    if _LOCKED.fullmatch(key):
        return LOCKED
    return SELECTION if _SELECTION.fullmatch(key) else ""


def confirmed(facts: Mapping[str, Fact]) -> tuple[str, ...]:
    """Return the proposals that were confirmed, by the facts of the confirmation."""
    own = (key for key in facts if key.startswith("confirm."))
    found = (match[1] for match in map(_CONFIRMED.fullmatch, own) if match)
    return tuple(one for one in found if f"proposal.{one}.title" in facts)


def claims_of(section: Section, facts: Mapping[str, Fact]) -> dict[str, str]:
    """Return the sentences of the claims that a section may print, by the claims' ids."""
    if not section.has_claims:
        return {}
    own = (key for key in facts if key.startswith("claim."))
    found = ((match[1], facts[match[0]].text) for match in map(_CLAIM.fullmatch, own) if match)
    return dict(found)


def facts_for(section: Section, facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """Return the facts that a section may print, in the order of its groups, then by key."""
    heads = frozenset[str]().union(*(_HEADS[name] for name in section.groups))
    known = sorted(key for key in facts if key.partition(".")[0] in heads)
    proposals = frozenset(confirmed(facts))
    found: dict[str, Fact] = {}
    for name in section.groups:
        own = (key for key in known if _GROUPS[name].fullmatch(key))
        found |= {key: facts[key] for key in own if _may(facts, key, name, proposals)}
    return found


def _may(facts: Mapping[str, Fact], key: str, group: str, proposals: Collection[str]) -> bool:
    """Tell whether a key of a group may be printed: it has a value, and is of its kind.

    Of proposals, those that were confirmed.
    """
    fact = facts[key]
    if fact.value is None or fact.text in ("", "none"):
        return False
    if group in _KINDS:
        return kind_of(key, facts) == _KINDS[group]
    proposal = _OF_PROPOSAL.fullmatch(key)
    return proposal is None or proposal[1] in proposals


def why_not(section: Section, key: str, facts: Mapping[str, Fact]) -> str:
    """Return why a fact that exists may not be printed in a section."""
    if facts[key].value is None:
        return f"the fact {key} is undefined in this campaign"
    kind = kind_of(key, facts) or "not among its facts"
    return f"the fact {key} may not stand in the section {section.name}: it is {kind}"


def figures_of(facts: Mapping[str, Fact]) -> tuple[str, ...]:
    """Return the names of the figures that a campaign with these facts has, about."""
    more = ("network", "paired", "forest", "selection", "cases") if confirmed(facts) else ()
    return ("tree", *more)
