"""A campaign's trials as runs of MLflow, for those who keep their runs there.

One run for the campaign and, below it, one for each trial of the search and each baseline that
ended; below its parent where a trial has one. What was trained for the locked test is a run only
where the recorded opening names it. The tag `segwright.score` says whether the metrics of a run are
selection scores or locked scores; their values are those of the report's facts.

A run is found again by its tags, so that logging twice, or after a crash, makes no run twice and
adds only what is missing. Needs the extra `mlflow`; nothing is sent but to the given address.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from agent.crate import privacy_of
from agent.crate_graph import LOCKED, SELECTION, is_told
from agent.facts import facts_of, trial_title
from agent.formats import plain_text
from agent.locked import TESTED
from agent.privacy import Privacy
from agent.report_rows import SEARCH_KINDS, Rows, read_rows, trial_batch
from memory.errors import ReportError
from memory.records import Fact, Kind, Metric, SplitName, Status, Trial
from memory.store import Store

CAMPAIGN, TRIAL, SCORE = "segwright.campaign", "segwright.trial", "segwright.score"
PARENT, TOP = "mlflow.parentRunId", "campaign"
MISSING = "MLflow is not installed; add it with: pip install 'segwright[mlflow]'"
LONGEST_NAME, LONGEST_TAG, LONGEST_REASON = 200, 2000, 600
_PAGE = 1000
_COSTS = ("seconds", "gpu_seconds", "peak_memory_mib", "parameters", "flops")
_STATUSES = {Status.OK: "FINISHED", Status.CANCELLED: "KILLED"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is to be logged.

    Attributes:
        trial: its id; TOP for the run of the campaign.
        parent: the trial whose run is above it, or TOP; empty for the campaign's own.
        name: one line.
        tags, params: texts by name.
        metrics: finite numbers by name.
        status: of MLflow: RUNNING, FINISHED, FAILED or KILLED.
        start_ms, end_ms: since the epoch; the end is None for a campaign that goes on.
    """

    trial: str
    parent: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    status: str
    start_ms: int
    end_ms: int | None


class Logged(NamedTuple):
    """How many runs were made, how many got what they lacked, and how many were complete."""

    made: int
    mended: int
    kept: int


def log_runs(store: Store, uri: str, experiment: str) -> Logged:
    """Log a campaign into MLflow.

    Args:
        store: of the campaign; only read.
        uri: of the tracking server or store, as MLflow writes it: http://HOST:PORT,
            sqlite:///FILE, or a folder.
        experiment: its name; made if missing.

    Raises:
        ReportError: the extra `mlflow` is missing, or MLflow refused or could not be reached.
    """
    mlflow = _mlflow()
    rows = read_rows(store)
    facts = {fact.key: fact for fact in facts_of(rows)}
    runs = runs_of(rows, facts, privacy_of(rows, store.path.parent))
    try:
        return _Book(mlflow, uri, experiment).log(runs)
    except (mlflow.exceptions.MlflowException, ImportError, OSError) as error:
        said = re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))
        raise ReportError(f"MLflow could not take the runs: {said[:LONGEST_REASON]}") from error


def _mlflow() -> ModuleType:
    # MLflow tells its makers of its use unless this is set before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        for name in ("entities", "exceptions", "tracking"):
            import_module(f"mlflow.{name}")
        return import_module("mlflow")
    except ImportError as error:
        raise ReportError(MISSING) from error


def runs_of(rows: Rows, facts: Mapping[str, Fact], privacy: Privacy) -> list[Run]:
    """Return the runs of a campaign, a run's parent before it. Pure."""
    trials = [trial for trial in rows.trials if trial.status.is_final and _is_logged(rows, trial)]
    known = {trial.id for trial in trials}
    found = {trial.id: _run(rows, facts, privacy, trial, known) for trial in trials}
    order: dict[str, Run] = {}
    for name in found:
        for one in reversed(list(_line(found, name))):
            order.setdefault(one.trial, one)
    return [_campaign(rows, privacy), *order.values()]


def _line(found: Mapping[str, Run], name: str) -> Iterator[Run]:
    """Yield a run, its parent, and so on."""
    while name in found:
        yield found[name]
        name = found[name].parent


def _is_logged(rows: Rows, trial: Trial) -> bool:
    if trial.split is SplitName.LOCKED_TEST:
        named = {name for access in rows.accesses for name in access.trials}
        return trial.kind in TESTED and trial.id in named
    return trial.kind is Kind.BASELINE or trial.kind in SEARCH_KINDS


def _campaign(rows: Rows, privacy: Privacy) -> Run:
    campaign = rows.campaign
    last = max((event.at for event in rows.events), default=campaign.created_at)
    is_ended = campaign.state in ("stopped", "done")
    tags = {CAMPAIGN: campaign.id, TRIAL: TOP, "segwright.version": campaign.version}
    if rows.simulated:
        tags["segwright.subjects"] = "simulated"
    params = {"split_hash": campaign.split_hash, "dataset_hash": campaign.dataset_hash}
    return Run(
        trial=TOP,
        parent="",
        name=plain_text(privacy.text(campaign.name), longest=LONGEST_NAME),
        tags=tags,
        params=params,
        metrics={},
        status="FINISHED" if is_ended else "RUNNING",
        start_ms=_ms(campaign.created_at),
        end_ms=_ms(last) if is_ended else None,
    )


def _run(
    rows: Rows, facts: Mapping[str, Fact], privacy: Privacy, trial: Trial, known: set[str]
) -> Run:
    ended = trial.ended_at or trial.started_at or rows.campaign.created_at
    return Run(
        trial=trial.id,
        parent=trial.parent if trial.parent and trial.parent in known else TOP,
        name=plain_text(privacy.text(trial_title(rows, trial)), longest=LONGEST_NAME),
        tags=_tags(rows, privacy, trial),
        params=_params(rows, trial),
        metrics=_metrics(rows, facts, trial),
        status=_STATUSES.get(trial.status, "FAILED"),
        start_ms=_ms(trial.started_at or ended),
        end_ms=_ms(ended),
    )


def _tags(rows: Rows, privacy: Privacy, trial: Trial) -> dict[str, str]:
    is_locked = trial.split is SplitName.LOCKED_TEST
    kind = LOCKED if is_locked else SELECTION
    tags = {
        CAMPAIGN: rows.campaign.id,
        TRIAL: trial.id,
        SCORE: kind if is_told(rows, trial) else "none",
        "segwright.kind": str(trial.kind),
        "segwright.status": str(trial.status),
        "segwright.split": str(trial.split),
    }
    if rows.simulated:
        tags["segwright.subjects"] = "simulated"
    if trial.commit:
        tags["segwright.commit"] = trial.commit
    if trial.status is not Status.OK:
        said = f"{trial.failure_class or trial.status}: {trial.failure_excerpt or ''}"
        tags["segwright.failure"] = plain_text(privacy.text(said), longest=LONGEST_TAG)
    return tags


def _params(rows: Rows, trial: Trial) -> dict[str, str]:
    values = {
        "rung": trial.rung,
        "seed": trial.seed,
        "iterations": trial.iterations,
        "batch_size": trial_batch(rows, trial) or None,
        "branch": trial.branch,
        "proposal": trial.proposal,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _metrics(rows: Rows, facts: Mapping[str, Fact], trial: Trial) -> dict[str, float]:
    found = {name: getattr(trial, name) for name in _COSTS}
    if is_told(rows, trial):
        side = "locked" if trial.split is SplitName.LOCKED_TEST else "selection"
        keys = {f"{side}.{metric}": f"trial.{trial.id}.{metric}.mean" for metric in Metric}
        if trial.kind in SEARCH_KINDS:
            keys[f"{side}.dice_delta"] = f"trial.{trial.id}.delta"
        found |= {name: facts[key].value for name, key in keys.items() if key in facts}
    return {name: float(value) for name, value in found.items() if value is not None}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


@dataclass
class _Book:
    """The runs of one experiment, as MLflow holds them."""

    mlflow: ModuleType
    uri: str
    experiment: str
    ids: dict[str, str] = field(default_factory=dict)
    """{trial: id of its run}."""

    def __post_init__(self) -> None:
        """Reach the store."""
        self.client: Any = self.mlflow.tracking.MlflowClient(tracking_uri=self.uri)

    def log(self, runs: list[Run]) -> Logged:
        """Bring the experiment up to date with the runs."""
        place = self._place()
        held = self._held(place, runs[0].tags[CAMPAIGN])
        counts = {"made": 0, "mended": 0, "kept": 0}
        for run in runs:
            counts[self._log(place, run, held.get(run.trial))] += 1
        logger.info("MLflow experiment %s: %s", self.experiment, counts)
        return Logged(**counts)

    def _place(self) -> str:
        """Return the id of the experiment, made if missing."""
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            return str(self.client.create_experiment(self.experiment))
        if found.lifecycle_stage != "active":
            raise ReportError(
                f"the experiment {self.experiment!r} is deleted in MLflow; restore it there or "
                "name another"
            )
        return str(found.experiment_id)

    def _held(self, place: str, campaign: str) -> dict[str, Any]:
        """Return the runs of a campaign that are there already, by trial."""
        held: dict[str, Any] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [place], f"tags.`{CAMPAIGN}` = '{campaign}'", max_results=_PAGE, page_token=token
            )
            for run in page:
                held.setdefault(run.data.tags[TRIAL], run)
            token = page.token
            if not token:
                return held

    def _log(self, place: str, run: Run, held: Any) -> str:
        """Make or complete a run; return which: made, mended or kept."""
        above = {PARENT: self.ids[run.parent]} if run.parent else {}
        tags = {**run.tags, **above}
        made = held is None
        if made:
            held = self.client.create_run(
                place, start_time=run.start_ms, tags=tags, run_name=run.name
            )
        self.ids[run.trial] = held.info.run_id
        changed = self._complete(run, tags, held)
        return "made" if made else "mended" if changed else "kept"

    def _complete(self, run: Run, tags: Mapping[str, str], held: Any) -> bool:
        """Add what a run lacks, and end it; return whether anything was missing."""
        entities, data, name = self.mlflow.entities, held.data, held.info.run_id
        at = run.end_ms if run.end_ms is not None else run.start_ms
        metrics = [
            entities.Metric(key, value, at, 0)
            for key, value in run.metrics.items()
            if data.metrics.get(key) != value
        ]
        params = [entities.Param(k, v) for k, v in run.params.items() if k not in data.params]
        changed = [entities.RunTag(k, v) for k, v in tags.items() if data.tags.get(k) != v]
        is_open = run.end_ms is not None and held.info.status != run.status
        if metrics or params or changed:
            self.client.log_batch(name, metrics=metrics, params=params, tags=changed)
        if is_open:
            self.client.set_terminated(name, status=run.status, end_time=run.end_ms)
        return bool(metrics or params or changed or is_open)
