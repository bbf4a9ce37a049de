"""The value types of a campaign: what the store keeps and everybody else passes on.

Plain, frozen, JSON-able; no I/O. Times are seconds since the epoch (UTC), durations
seconds, memory MiB, distances mm. Identifiers are the first 12 hex digits of a SHA-256
over canonical JSON, so that a step that runs twice writes the same rows.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

Figures = dict[str, Any]


class Kind(StrEnum):
    """Why a trial was run."""

    BASELINE = "baseline"
    DRAFT = "draft"
    IMPROVE = "improve"
    REPAIR = "repair"
    ABLATE = "ablate"
    SELECT = "select"
    CONFIRM = "confirm"


class Status(StrEnum):
    """Where a trial stands. A failed trial has no scores: never 0, never "worst"."""

    PLANNED = "planned"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True when the trial will not change any more."""
        return self not in (Status.PLANNED, Status.RUNNING)


class SplitName(StrEnum):
    """The three parts of a dataset; no case and no patient is in two of them."""

    SEARCH_TRAIN = "search-train"
    SEARCH_VAL = "search-val"
    LOCKED_TEST = "locked-test"


class Metric(StrEnum):
    """Per-case scores: Dice and NSD in [0, 1], higher is better; HD95 in mm, lower is better."""

    DICE = "dice"
    HD95 = "hd95"
    NSD = "nsd"


@dataclass(frozen=True, slots=True)
class SplitCase:
    """One case and the part of the dataset it belongs to, for good."""

    case: str
    patient: str
    split: SplitName
    foreground_mm3: float
    image_hash: str
    label_hash: str


@dataclass(frozen=True, slots=True)
class Module:
    """One component at one place of the planned U-Net.

    `component` is the name of a published one (`sandbox/components.py`), or the class in
    network.py of one that a language model wrote. `position` is encoder, skip, bottleneck,
    decoder, downsample or heads; `stages` are encoder stage numbers, 0 the finest.
    """

    component: str
    position: str
    stages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """An idea: modules, motivation, and what would refute it.

    `detail` is what a planner adds, each where it is known: challenge, integration, expected,
    cost, equations and ideas of new modules by their class, bent, scores of the assessor,
    suggestion (event, number, category), endpoint and model.
    """

    id: str
    title: str
    motivation: str
    modules: tuple[Module, ...]
    refutation: str
    citations: tuple[str, ...]
    planner: str
    parent: str | None = None
    detail: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Branch:
    """A proposal and all trials under it; `state` is open or cut."""

    id: str
    proposal: str
    state: str
    opened_at: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One network at one rung with one seed: one training.

    `batch_size` is None for the planned one; a smaller one is chosen for both sides of a
    comparison where a network does not fit into memory. `start` is cold or warm. `fold` is 0
    where the split's own search-val is scored; n is the n-th further fold, a part of
    search-train that this training does not see.
    """

    id: str
    parent: str | None
    branch: str | None
    proposal: str | None
    commit: str | None
    kind: Kind
    rung: int
    seed: int
    split: SplitName
    status: Status = Status.PLANNED
    title: str = ""
    iterations: int | None = None
    failure_class: str | None = None
    failure_excerpt: str | None = None
    planned_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    seconds: float | None = None
    gpu_seconds: float | None = None
    peak_memory_mib: float | None = None
    parameters: int | None = None
    flops: int | None = None
    isolation: str | None = None
    environment_hash: str | None = None
    network_hash: str | None = None
    predictions_hash: str | None = None
    scores_hash: str | None = None
    batch_size: int | None = None
    checkpointing: bool | None = None
    start: str | None = None
    cpu_seconds: float | None = None
    fold: int = 0


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One metric of one class in one case; a value of None has its reason."""

    trial: str
    case: str
    label: str
    metric: Metric
    value: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A decision with the figures it was made on. `id` is 0 before it is stored."""

    kind: str
    text: str
    figures: Figures
    trial: str | None = None
    branch: str | None = None
    at: float = 0.0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Lesson:
    """An entry of memory. `layer` is trial, branch, campaign or library.

    `evidence` holds ids of trials, never none. `kind` is finding, failure, effect, dead_end or
    question. `conditions` says on what it was seen, each where known: modality (text), dims (2 or
    3), classes and cases (counts), traits (list of words of `sandbox.components`), iterations. `support` and
    `contra` count the trials for and against it. `source` is the campaign that a lesson of the
    library was imported from, empty for the own one. `topic` says what it is about; a lesson with
    a topic takes the place of the one of the same topic, layer and source, which then has
    `is_replaced` and is told no more.
    """

    id: str
    layer: str
    text: str
    evidence: tuple[str, ...]
    effect: float | None = None
    effect_se: float | None = None
    components: tuple[str, ...] = ()
    at: float = 0.0
    kind: str = "finding"
    conditions: Figures = field(default_factory=dict)
    support: int = 1
    contra: int = 0
    source: str = ""
    topic: str = ""
    is_replaced: bool = False


@dataclass(frozen=True, slots=True)
class LlmCall:
    """One request to a language model, stored before its reply is parsed.

    `scope` is what it was made for: decision/N (event N), trial/ID, branch/ID or campaign;
    `purpose` names the prompt. `price_usd` is None where nobody knows it. A call without a reply
    has its `error`; `is_cached` marks a reply that was taken from an earlier campaign's store.
    """

    id: str
    role: str
    model: str
    prompt_hash: str
    prompt: str
    reply: str | None
    tokens_in: int | None
    tokens_out: int | None
    price_usd: float | None
    seconds: float | None
    at: float = 0.0
    endpoint: str = ""
    purpose: str = ""
    scope: str = ""
    is_cached: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What a report may print: `text` is the printed form of `value`, `sources` the rows.

    A source is a row's address: trial:ID, lesson:ID, case_score:TRIAL, split:NAME, claim:ID, event:ID,
    campaign, protocol or config.KEY.
    """

    key: str
    value: float | int | str | None
    text: str
    unit: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TestAccess:
    """One reading of the locked-test labels, written before it happens."""

    by: str
    why: str
    trials: tuple[str, ...]
    at: float = 0.0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A tested statement about one finalist on the locked test.

    `verdict` is better, better_by_margin, not_worse_and_cheaper, not_distinguishable, worse or
    exploratory; `figures` holds delta, se, low, high, p, p_holm, mde and the other numbers it rests on.
    """

    id: str
    finalist: str
    metric: Metric
    verdict: str
    text: str
    trials: tuple[str, ...]
    baseline_trials: tuple[str, ...]
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Campaign:
    """The one row that says what this campaign is. `state` is new, running, paused, stopped or done."""

    id: str
    name: str
    created_at: float
    version: str
    config: Figures
    dataset: Figures
    dataset_hash: str
    split_hash: str
    environment: Figures
    state: str = "new"
    protocol: Figures = field(default_factory=dict)


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: the value holds NaN or an infinity.
        TypeError: the value holds something JSON cannot say.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def short_id(value: Any) -> str:
    """Return the identifier of a value: the first 12 hex digits of its digest."""
    return digest(value)[:12]


def trial_id(trial: Trial) -> str:
    """Return the identifier that a trial's own choices give it, parent included.

    The planned batch size and fold 0 are no part of it, so that ids stay those of campaigns
    without a choice.
    """
    chosen = (trial.parent, trial.branch, trial.commit, trial.kind, trial.rung, trial.seed)
    smaller = [] if trial.batch_size is None else [trial.batch_size]
    further = [f"fold {trial.fold}"] if trial.fold else []
    return short_id([*chosen, trial.split, *smaller, *further])


def scores_hash(scores: list[CaseScore]) -> str:
    """Return the digest of a trial's scores, whatever their order."""
    return digest(sorted(([s.case, s.label, s.metric, s.value, s.reason] for s in scores), key=str))


def plain(record: Any) -> Figures:
    """Return a record as a dictionary of plain values, ready for JSON."""
    loaded = json.loads(json.dumps(asdict(record)))
    assert isinstance(loaded, dict)
    return loaded
