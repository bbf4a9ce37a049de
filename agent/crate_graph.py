"""The JSON-LD of an RO-Crate: what its files are, and one action for each trial. Pure.

Follows RO-Crate 1.3 (https://w3id.org/ro/crate/1.3) and Process Run Crate 0.6
(https://w3id.org/ro/wfrun/process/0.6): a trial is a CreateAction whose instrument is segwright,
whose objects are the network, the network that it came from and the parts of the split, and whose
results are scores and the log. A score is a PropertyValue, which says whether it is a selection
score or a locked score; `identifier` is the key of its fact in facts.json.

A score of the locked test is told where the recorded opening names its trial, and nowhere else.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from agent.facts import trial_title
from agent.formats import plain_text, slug
from agent.new_campaign import PACKAGES
from agent.privacy import Privacy
from agent.report_rows import SEARCH_KINDS, Rows
from memory.networks import NETWORK_FILE
from memory.records import Fact, Metric, SplitName, Status, Trial

METADATA = "ro-crate-metadata.json"
CRATE, PROCESS = "https://w3id.org/ro/crate/1.3", "https://w3id.org/ro/wfrun/process/0.6"
CONTEXT = [f"{CRATE}/context", {"sha256": "http://schema.org/sha256"}]
SELECTION, LOCKED = "selection score", "locked score"
NAMES = {Metric.DICE: "Dice", Metric.NSD: "NSD", Metric.HD95: "HD95"}
SCHEMA = "http://schema.org/"
TOOL, BASELINE, DATASET, LICENCE = "#segwright", "#baseline", "#dataset", "#licence"
LANGUAGE, ENGINE = "https://www.python.org/", "nnunetv2"
FORMATS = {
    ".html": "text/html",
    ".tex": "application/x-tex",
    ".typ": "text/plain",
    ".md": "text/markdown",
    ".bib": "application/x-bibtex",
    ".json": "application/json",
    ".py": "text/x-python",
    ".txt": "text/plain",
    ".pdf": "application/pdf",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
LONGEST_ERROR = 2000

Entity = dict[str, Any]


class Packed(NamedTuple):
    """A file of a crate: its path in it, its bytes, and what it is; `commit` is a network's."""

    path: str
    raw: bytes
    name: str
    about: str
    commit: str = ""


@dataclass(frozen=True)
class Matter:
    """What a crate is told from.

    Attributes:
        rows: of the campaign.
        facts: by key, as the report prints them.
        files: every file but the metadata.
        logs: {trial: path of its log in the crate}.
        privacy: what is hidden in texts of others.
    """

    rows: Rows
    facts: Mapping[str, Fact]
    files: tuple[Packed, ...]
    privacy: Privacy
    logs: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def sources(self) -> dict[str, str]:
        """{commit: path of its network.py in the crate}."""
        own = (one for one in self.files if one.path.endswith(f"/{NETWORK_FILE}"))
        return {one.commit: one.path for one in own if one.commit}

    @cached_property
    def parents(self) -> dict[str, set[str]]:
        """{commit: commits of the networks that its trials came from}, each where there is one."""
        found: dict[str, set[str]] = {}
        for trial in self.rows.trials:
            source = self.rows.by_id.get(trial.parent or "")
            if trial.commit and source and source.commit not in (None, trial.commit):
                found.setdefault(trial.commit, set()).add(str(source.commit))
        return found

    def network(self, commit: str | None) -> str:
        """Return the identifier of a trial's network: its file, or the one that nnU-Net plans."""
        if not commit:
            return BASELINE
        return self.sources.get(commit, f"#network-{slug(commit)}")

    def plain(self, text: object, longest: int = 600) -> str:
        """Return a text of others on one line, without what is private."""
        return plain_text(self.privacy.text(text), longest=longest)

    def printed(self, key: str, missing: str) -> str:
        """Return a fact as the report prints it, but for folders of this machine."""
        fact = self.facts.get(key)
        return self.privacy.shown(fact.text) if fact else missing


def metadata(matter: Matter) -> Entity:
    """Return the whole of ro-crate-metadata.json."""
    graph = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": CRATE},
        },
        _root(matter),
        *_about(matter),
        *_software(matter),
        *(_file(matter, packed) for packed in matter.files),
        *_absent(matter),
    ]
    for trial in ended(matter.rows):
        graph += _action(matter, trial)
    return {"@context": CONTEXT, "@graph": graph}


def ended(rows: Rows) -> list[Trial]:
    """Return the trials that have an action: those that ended, in the order of the store."""
    return [trial for trial in rows.trials if trial.status.is_final]


def is_told(rows: Rows, trial: Trial) -> bool:
    """Return whether the scores of a trial may be told: the opening names those that are locked."""
    if trial.status is not Status.OK:
        return False
    named = {name for access in rows.accesses for name in access.trials}
    return trial.split is not SplitName.LOCKED_TEST or trial.id in named


def _root(matter: Matter) -> Entity:
    rows = matter.rows
    last = max((event.at for event in rows.events), default=rows.campaign.created_at)
    said = "Records of a campaign of segwright: an unattended search for network architectures."
    if rows.simulated:
        said += " The subjects of the dataset are simulated subjects, not patients."
    claims = [matter.printed(f"claim.{r.claim.id}.text", "") for r in rows.ranked_claims]
    actions = [{"@id": _trial(trial.id)} for trial in ended(rows)]
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": matter.printed("campaign.name", "campaign"),
        "description": f"{said} {claims[0] if claims else 'No claim was tested.'}",
        "identifier": rows.campaign.id,
        "datePublished": _time(last)[:10],
        "license": {"@id": LICENCE},
        "conformsTo": {"@id": PROCESS},
        "about": {"@id": DATASET},
        "hasPart": [{"@id": packed.path} for packed in matter.files],
        "mentions": [{"@id": _split(name)} for name in SplitName] + actions,
    }


def _about(matter: Matter) -> list[Entity]:
    rows = matter.rows
    dataset: Entity = {
        "@id": DATASET,
        "@type": "Dataset",
        "name": matter.printed("dataset.name", "dataset"),
        "description": matter.printed("dataset.description", "The dataset has no description.")
        + " No image and no label of it is in this crate.",
        "identifier": f"sha256:{rows.campaign.dataset_hash}",
        "license": matter.printed("dataset.licence", "The dataset states no licence."),
        "citation": matter.printed("dataset.reference", "The dataset states no citation."),
        "creditText": matter.printed("dataset.origin", "The dataset states no origin."),
    }
    chosen = "The author of the campaign decides under which licence this crate is shared."
    return [
        {"@id": LICENCE, "@type": "CreativeWork", "name": "Not chosen yet", "description": chosen},
        {"@id": PROCESS, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.6"},
        dataset,
        *(_part(matter, name) for name in SplitName),
    ]


def _part(matter: Matter, name: SplitName) -> Entity:
    cases = matter.rows.cases(name)
    return {
        "@id": _split(name),
        "@type": "Dataset",
        "name": str(name),
        "description": f"{len(cases)} cases of the dataset, which are not in this crate.",
        "identifier": f"sha256:{matter.rows.campaign.split_hash}",
        "isPartOf": {"@id": DATASET},
    }


def _software(matter: Matter) -> list[Entity]:
    environment = matter.rows.campaign.environment
    versions = {n: matter.plain(environment[n]) for n in (*PACKAGES, "python") if n in environment}
    packages: list[Entity] = [
        {
            "@id": _package(name),
            "@type": "SoftwareApplication",
            "name": name,
            "url": _package(name),
            "softwareVersion": versions[name],
        }
        for name in PACKAGES
        if name in versions
    ]
    python: Entity = {"@id": LANGUAGE, "@type": "ComputerLanguage", "name": "Python"}
    python |= {"url": LANGUAGE, "version": versions.get("python", "unknown")}
    tool: Entity = {
        "@id": TOOL,
        "@type": "SoftwareApplication",
        "name": "segwright",
        "description": "Searches for network architectures for medical-image segmentation.",
        "softwareVersion": matter.plain(matter.rows.campaign.version),
        "license": "Apache-2.0",
        "softwareRequirements": [{"@id": one["@id"]} for one in (python, *packages)],
    }
    return [tool, python, *packages, _baseline(ENGINE in versions)]


def _baseline(has_engine: bool) -> Entity:
    baseline: Entity = {
        "@id": BASELINE,
        "@type": "CreativeWork",
        "name": "nnU-Net's default network",
        "description": "The baseline, as nnU-Net plans it; environment.json holds the plan.",
    }
    return baseline | ({"isBasedOn": {"@id": _package(ENGINE)}} if has_engine else {})


def _file(matter: Matter, packed: Packed) -> Entity:
    entity: Entity = {
        "@id": packed.path,
        "@type": "File",
        "name": packed.name,
        "description": packed.about,
        "encodingFormat": FORMATS.get(PurePosixPath(packed.path).suffix, "text/plain"),
        "contentSize": str(len(packed.raw)),
        "sha256": hashlib.sha256(packed.raw).hexdigest(),
    }
    is_source = matter.sources.get(packed.commit) == packed.path
    return entity | _source(matter, packed.commit) if is_source else entity


def _source(matter: Matter, commit: str) -> Entity:
    """Return what a network has besides."""
    based = sorted(matter.network(one) for one in matter.parents.get(commit, ()))
    source: Entity = {
        "@type": ["File", "SoftwareSourceCode"],
        "version": commit,
        "programmingLanguage": {"@id": LANGUAGE},
    }
    return source | ({"isBasedOn": _refer(based)} if based else {})


def _absent(matter: Matter) -> list[Entity]:
    """Return the networks that a trial names and that are left out of the crate."""
    named = {trial.commit for trial in ended(matter.rows) if trial.commit}
    named |= {one for commit in named for one in matter.parents.get(commit, ())}
    return [
        {
            "@id": matter.network(commit),
            "name": f"network {commit[:12]}",
            "description": "Its source is left out here; the campaign's folder networks has it.",
        }
        | (_source(matter, commit) | {"@type": "SoftwareSourceCode"})
        for commit in sorted(named - matter.sources.keys())
    ]


def _action(matter: Matter, trial: Trial) -> list[Entity]:
    """Return the action of a trial, followed by its scores."""
    scores = _scores(matter, trial)
    log = [matter.logs[trial.id]] if trial.id in matter.logs else []
    results = [score["@id"] for score in scores] + log
    is_ok = trial.status is Status.OK
    times = {"startTime": trial.started_at, "endTime": trial.ended_at}
    action: Entity = {
        "@id": _trial(trial.id),
        "@type": "CreateAction",
        "name": f"{trial.kind} {trial.id}: {matter.plain(trial_title(matter.rows, trial), 200)}",
        "description": f"rung {trial.rung}, seed {trial.seed}, {trial.iterations or 'unknown'} "
        f"iterations, scored on {trial.split}, ended as {trial.status}",
        "instrument": {"@id": TOOL},
        "object": _refer(_objects(matter, trial)),
        "actionStatus": f"{SCHEMA}{'Completed' if is_ok else 'Failed'}ActionStatus",
        **{name: _time(at) for name, at in times.items() if at is not None},
        **({"result": _refer(results)} if results else {}),
    }
    if not is_ok:
        why = f"{trial.failure_class or trial.status}: {trial.failure_excerpt or 'no reason kept'}"
        action["error"] = matter.plain(why, LONGEST_ERROR)
    return [action, *scores]


def _objects(matter: Matter, trial: Trial) -> list[str]:
    parent = matter.rows.by_id.get(trial.parent or "")
    networks = [matter.network(trial.commit)]
    if parent is not None and parent.commit:
        networks.append(matter.network(parent.commit))
    parts = [_split(SplitName.SEARCH_TRAIN), _split(trial.split)]
    return list(dict.fromkeys([*networks, *parts]))


def _scores(matter: Matter, trial: Trial) -> list[Entity]:
    if not is_told(matter.rows, trial):
        return []
    kind = LOCKED if trial.split is SplitName.LOCKED_TEST else SELECTION
    wanted = {str(m): (f"{m}.mean", NAMES[m]) for m in Metric}
    if trial.kind in SEARCH_KINDS:
        wanted["delta"] = ("delta", "Dice minus that of the baseline")
    about = f"{kind}, mean over cases of {trial.split}"
    scores = []
    for name, (end, told) in wanted.items():
        fact = matter.facts.get(f"trial.{trial.id}.{end}")
        if fact is not None and fact.value is not None:
            scores.append(_score(f"{_trial(trial.id)}-{name}", told, fact, about))
    return scores


def _score(name: str, told: str, fact: Fact, about: str) -> Entity:
    score: Entity = {
        "@id": name,
        "@type": "PropertyValue",
        "name": told,
        "description": about,
        "identifier": fact.key,
        "value": fact.value,
    }
    return score | ({"unitText": fact.unit} if fact.unit else {})


def _trial(name: str) -> str:
    return f"#trial-{slug(name)}"


def _split(name: SplitName) -> str:
    return f"#split-{name}"


def _package(name: str) -> str:
    return f"https://pypi.org/project/{name}/"


def _refer(names: Sequence[str]) -> Any:
    """Return references to entities: one alone, or a list."""
    found = [{"@id": name} for name in names]
    return found[0] if len(found) == 1 else found


def _time(seconds: float) -> str:
    """Return a time in UTC as ISO 8601 has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
