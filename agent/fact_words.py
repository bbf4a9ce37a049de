"""What a fact is, in words, by its key: told beside it to whoever may use it. Pure.

Names of networks and classes are those of the facts; what no pattern knows is told by its key.
"""

import re
from collections.abc import Mapping

from memory.records import Fact

_METRICS = {"dice": "Dice", "nsd": "NSD", "hd95": "HD95 in mm"}
_ENDS = {
    "mean": "mean over cases",
    "low": "lower end of the mean's interval",
    "high": "upper end of the mean's interval",
    "delta": "mean difference from the baseline",
    "delta_low": "lower end of the difference's interval",
    "delta_high": "upper end of the difference's interval",
    "delta_higher": "cases with a higher value than the baseline's",
    "undefined": "cases without a value",
    "prior": "gain that the search believed in",
    "prior_low": "lower end of the gain that the search believed in",
    "prior_high": "upper end of the gain that the search believed in",
    "pooled": "gain with further folds",
    "pooled_low": "lower end of the gain with further folds",
    "pooled_high": "upper end of the gain with further folds",
}
_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"campaign\.name", "name of the campaign"),
    (r"dataset\.reference", "where the dataset is described"),
    (r"dataset\.(.+)", "the dataset: {0}"),
    (r"label\..+", "name of a class"),
    (r"split\.([^.]+)\.foreground_ml", "mean foreground of {0}, in ml"),
    (r"split\.([^.]+)\.(.+)", "{1} of {0}"),
    (r"declared\.least\.(.+)", "least {0} that a claim needs"),
    (r"declared\.test\.\d+", "a declared test"),
    (r"declared\.(.+)", "declared beforehand: {0}"),
    (r"report\.confidence", "level of all intervals"),
    (r"config\.confirm\.(.+)", "setting of the confirmation: {0}"),
    (r"noise\.margin", "margin, in points of Dice"),
    (r"noise\.detectable", "smallest gain that the test is likely to find, in points of Dice"),
    (r"noise\.power", "probability of finding that gain"),
    (r"noise\.run_sd", "SD of the baseline over seeds, in points of Dice"),
    (r"noise\.resid_sd", "further SD of the baseline over cases, in points of Dice"),
    (r"noise\.seen_(.+)", "{0} that the noise was measured on"),
    (r"noise\.(.+)", "{0} of the locked test that the noise was scaled to"),
    (r"amended\.\d+\.(.+)", "a change of the protocol: {0}"),
    (r"protocol\.rung_iterations", "iterations of the rungs"),
    (r"protocol\.tolerance_mm", "tolerance of NSD, in mm"),
    (r"protocol\.(.+)", "{0} of every training"),
    (r"budget\.([^.]+)\.limit", "limit of the budget, in {0}"),
    (r"containment\.\d+\.isolation", "isolation that trainings ran in"),
    (r"proposal\.[^.]+\.title", "title of the confirmed network"),
    (r"proposal\.[^.]+\.module\.(\d+)\.(.+)", "{1} of a module of the confirmed network"),
    (r"confirm\.failed", "trainings of the confirmation without scores"),
    (r"confirm\.([^.]+)\.seed_sd", "SD of Dice over the seeds of {0}, locked test"),
    (r"confirm\.([^.]+)\.(seeds|batch_size|parameters|flops)", "{1} of {0}, confirmation"),
    (r"confirm\.([^.]+)\.(seconds|peak_memory)", "{1} of a training of {0}, confirmation"),
    (r"confirm\.([^.]+)\.mean\.([^.]+)\.(.+)", "{1} of {0} over all classes, locked test: {2}"),
    (r"confirm\.([^.]+)\.([^.]+)\.([^.]+)\.(.+)", "{2} of {0}, {1}, locked test: {3}"),
    (r"claim\.[^.]+\.secondary\..+", "a declared secondary of a claim"),
    (r"claim\.([^.]+)\.(.+)_points", "{1} of the claim {0}, in points of Dice"),
    (r"claim\.([^.]+)\.p_holm", "p of the claim {0}, adjusted by Holm"),
    (r"claim\.([^.]+)\.(.+)", "{1} of the claim {0}"),
    (r"ablation\.(\d+)\.without", "module that the ablation {0} leaves out"),
    (r"ablation\.(\d+)\.delta", "ablation {0}: the whole network's Dice minus that without it"),
    (r"ablation\.(\d+)\.(.+)", "ablation {0}: {1}"),
    (r"search\.cut", "branches that were cut"),
    (r"search\.(.+)", "{0} of the search"),
    (r"compute\.trials\.total", "trainings that ended"),
    (r"compute\.trials\.without_scores", "trainings that ended without scores"),
    (r"compute\.seconds\.total", "time of all trainings"),
    (r"compute\.failed\.seconds\.total", "time of trainings without scores"),
    (r"failure\.[^.]+\.(.+)", "a class of failure: {0}"),
    (r"method\.\d+\.active", "change of the logits when the part is disturbed, in their SD"),
    (r"method\.\d+\.(.+)", "{0} of a named part in the code"),
    (r"baseline\.rung(\d+)[^.]*(?:\.batch\d+)?\.seed_sd", "SD of Dice over seeds, rung {0}"),
    (
        r"baseline\.rung(\d+)(?:\.batch\d+)?\.(dice|nsd|hd95)\.(.+)",
        "{1} of the baseline on search-val, rung {0}: {2}",
    ),
    (r"baseline\.rung(\d+)(?:\.batch\d+)?\.(.+)", "{1} of the baseline, rung {0}"),
    (r"branch\.([^.]+)\.best", "title of the best network of the branch {0}"),
    (r"branch\.([^.]+)\.(.+)", "the branch {0}, selection score in Dice: {1}"),
    (r"selection\.([^.]+)\.(.+)", "{0} as selection saw it, in Dice: {1}"),
    (r"staged\.\d+\.title", "title of a network of the staged selection"),
    (r"staged\.(\d+)\.(.+)", "network {0} of the staged selection: {1}"),
    (r"staged\.(.+)", "staged selection: {0}"),
)
_MEANINGS = tuple((re.compile(pattern), words) for pattern, words in _PATTERNS)


def meaning(key: str, facts: Mapping[str, Fact]) -> str:
    """Return what the fact of a key is."""
    for pattern, words in _MEANINGS:
        if match := pattern.fullmatch(key):
            return words.format(*(_named(part, facts) for part in match.groups()))
    return _plain(key)


def _named(part: str, facts: Mapping[str, Fact]) -> str:
    """Return a part of a key in words: a network's title, a class, a metric, an end."""
    title = facts.get(f"proposal.{part}.title")
    if title is not None:
        return f'"{title.text}"'
    if part in _METRICS or part in _ENDS:
        return _METRICS.get(part) or _ENDS[part]
    if part.startswith("class-"):
        label = facts.get(f"label.{part.removeprefix('class-')}")
        return f"class {label.text if label else part.removeprefix('class-')}"
    return "the baseline" if part == "baseline" else _plain(part)


def _plain(part: str) -> str:
    return part if re.fullmatch(r"(?:search|locked)-\w+", part) else re.sub(r"[._]", " ", part)


def printed(fact: Fact) -> str:
    """Return a fact as it is printed, with its unit where the text has none."""
    has_unit = not fact.unit or re.search(r"[A-Za-z]", fact.text)
    return fact.text if has_unit else f"{fact.text} {fact.unit}"
