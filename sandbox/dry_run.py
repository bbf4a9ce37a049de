"""The steps before a network may take a trial's time; each leaves a verdict with its evidence.

Static check (here, on the text), then `sandbox/child/check.py` in the sandbox (meta, small,
parts, planned), then admission (here, on what was measured). What the child reports is
hostile: it may stop a network and inform a reader, and no score rests on it.

Typical cost on one core, nnU-Net's default 2D network of 2 million parameters, batches of
two 64 x 56 patches, warm start; about a minute of training beside it:

| step | seconds | grows with |
| --- | --- | --- |
| static | 0.02 | lines of code |
| meta | 0.2 (3 after a cold start) | layers |
| small | 0.4 | parameters |
| parts | 0.4 | parameters, named modules |
| planned | 0.9 | three iterations |
| admission | 0 | |
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memory.errors import CollectError
from sandbox import warm
from sandbox.boundary import Isolation, Limits, Mount
from sandbox.clean import clean_text
from sandbox.collect import collect_json
from sandbox.engine import Plan, run_child
from sandbox.failures import CLASSES, failure
from sandbox.gpus import granted_gpus
from sandbox.processes import tail
from sandbox.static_check import static_check

STEPS = ("meta", "small", "parts", "planned")
REPORT_BYTES = 65536
ENDED_EARLY = (
    "the process ended in the middle of this step, and said in check.json that it still ran"
)
TRAINING = 1.25
ENGINE_MIB = 128.0
"""A training needs this factor more than a dry run beyond what it began with (augmentation, a
batch in flight), and nnU-Net's own modules and data (measured: 94 MiB)."""


class Verdict(NamedTuple):
    """What one step found: `failure_class` and `text` are empty when it passed."""

    step: str
    passed: bool
    evidence: dict[str, Any]
    seconds: float
    failure_class: str = ""
    text: str = ""


class Dry(NamedTuple):
    """What a dry run found; `failure` is empty when the network may be trained.

    `flops` are those of one forward pass of one planned patch; `step_seconds` is the time of
    one iteration at the planned batch; `peak_memory_mib` that of the process, or of the card.
    """

    failure: str
    text: str
    parameters: int | None
    flops: int | None
    step_seconds: float | None
    peak_memory_mib: float | None
    verdicts: tuple[Verdict, ...] = ()


def dry_run(
    plan: Plan,
    network: Path | None,
    *,
    folder: Path,
    device: str,
    threads: int,
    isolation: Isolation,
    limits: Limits,
    named_modules: Sequence[str] = (),
    start: str = "warm",
) -> Dry:
    """Check a network against the contract and measure its size and cost; None is the baseline.

    Args:
        plan: what the network is built for; its batch size is the one that is measured.
        network: the file network.py, or None for nnU-Net's default network.
        folder: where the run's files go; emptied by the next dry run there.
        device: cpu, cuda or mps.
        threads: CPU threads.
        isolation: the campaign's boundary.
        limits: of the run; its memory is what admission allows on a CPU.
        named_modules: classes of network.py that the proposal names; each must matter.
        start: warm or cold.
    """
    verdicts = [examined(network, named_modules)] if network else []
    if not verdicts or verdicts[-1].passed:
        verdicts += contained(
            plan,
            network,
            folder=folder,
            fields={"device": device, "threads": threads, "named_modules": list(named_modules)},
            isolation=isolation,
            limits=limits,
            socket=warm.offered(start),
        )
    if verdicts[-1].passed:
        verdicts.append(admitted(verdicts[-1].evidence, limits))
    return summary(verdicts)


def examined(network: Path, named: Sequence[str]) -> Verdict:
    """Return the verdict of the static check."""
    start = time.perf_counter()
    source = network.read_text(errors="replace")
    found = static_check(source, named=named)
    seconds = time.perf_counter() - start
    evidence: dict[str, Any] = {"findings": len(found), "characters": len(source)}
    if not found:
        return Verdict("static", True, evidence, seconds)
    text = "; ".join(f"line {one.line}: {one.text}" for one in found[:5])
    return Verdict("static", False, evidence, seconds, found[0].kind, clean_text(text)[:2000])


def contained(
    plan: Plan,
    network: Path | None,
    *,
    folder: Path,
    fields: dict[str, Any],
    isolation: Isolation,
    limits: Limits,
    socket: Path | None,
) -> list[Verdict]:
    """Run the child's steps in the sandbox and return their verdicts, the failed one last."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    log.write_bytes(b"")
    device, threads = fields["device"], fields["threads"]
    job = plan.job(device=device, threads=threads, seed=0, has_network=network is not None)
    cards = granted_gpus() if device == "cuda" else []
    ended, out = run_child(
        "check",
        {**job, **fields},
        folder=folder,
        mounts=[Mount(network.parent, "/code")] if network else [],
        isolation=isolation,
        limits=limits,
        log=log,
        gpu=cards[0] if cards else None,
        warm=socket,
    )
    kind, text = failure(ended, out, log)
    try:
        found = parse(collect_json(out, "check.json", max_bytes=REPORT_BYTES))
    except CollectError as error:
        return [Verdict("meta", False, {}, ended.seconds, kind or "output", text or str(error))]
    is_whole = len(found) == len(STEPS) or any(not one.passed for one in found)
    if is_whole and not kind:
        return found
    step = STEPS[min(len(found), len(STEPS) - 1)]
    text = text or tail(log, 500) if kind else ENDED_EARLY
    return [
        *found[: len(STEPS) - 1],
        Verdict(step, False, {}, ended.seconds, kind or "output", text),
    ]


def parse(said: dict[str, Any]) -> list[Verdict]:
    """Return the finished steps that a child reports.

    Raises:
        CollectError: it is not what our own code writes.
    """
    rows = said.get("steps")
    if not isinstance(rows, list) or len(rows) > len(STEPS):
        raise CollectError("the trial's check.json holds no list of at most four steps")
    found = []
    for name, row in zip(STEPS, rows, strict=False):
        if not isinstance(row, dict) or row.get("step") != name:
            raise CollectError(f"the trial's check.json does not tell of the step {name}")
        if not row.get("is_running"):
            found.append(verdict(row))
    return found


def verdict(row: dict[str, Any]) -> Verdict:
    """Return one step's verdict from its row.

    Raises:
        CollectError: a field has another type or range than our own code writes.
    """
    kind, text, evidence = row.get("failure"), row.get("text"), row.get("evidence")
    seconds = row.get("seconds")
    if not (isinstance(text, str) and isinstance(evidence, dict) and is_number(seconds)):
        raise CollectError("a step in the trial's check.json lacks its text, evidence or seconds")
    if kind != "" and kind not in CLASSES:
        raise CollectError(f"the trial's check.json names {kind!r:.60}, which is no failure class")
    if row["step"] in FIGURES and not kind:
        for name in FIGURES[row["step"]]:
            if not is_number(evidence.get(name)):
                raise CollectError(f"the dry run reported {name} as {evidence.get(name)!r:.60}")
    assert isinstance(kind, str)
    assert isinstance(seconds, int | float)
    return Verdict(row["step"], not kind, evidence, seconds, kind, clean_text(text)[:2000])


FIGURES = {
    "meta": ("parameters", "flops"),
    "planned": ("step_seconds", "peak_memory_mib", "base_memory_mib"),
}


def is_number(value: Any) -> bool:
    """Return True for a finite number from 0 below 1e18."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and math.isfinite(value) and 0 <= value < 1e18


def admitted(measured: dict[str, Any], limits: Limits) -> Verdict:
    """Compare what a training will need with what there is: the card's, or the run's share."""
    on_card = "free_memory_mib" in measured
    free = measured["free_memory_mib"] if on_card else float(limits.memory_mib)
    held = 0.0 if on_card else measured["base_memory_mib"]
    engine = 0.0 if on_card else ENGINE_MIB
    needed = held + engine + TRAINING * max(0.0, measured["peak_memory_mib"] - held)
    evidence = {"needed_mib": round(needed, 1), "free_mib": free, "factor": TRAINING}
    if is_number(free) and needed <= free:
        return Verdict("admission", True, evidence, 0.0)
    text = f"a training needs about {needed:.0f} MiB; {free:.0f} MiB are free"
    return Verdict("admission", False, evidence, 0.0, "admission", text)


def summary(verdicts: list[Verdict]) -> Dry:
    """Return the figures of all steps, and the failure of the last."""
    last, figures = verdicts[-1], dict[str, Any]()
    for one in verdicts:
        names = FIGURES.get(one.step, ()) if one.passed else ()
        figures |= {name: one.evidence[name] for name in names}
    return Dry(
        last.failure_class,
        last.text,
        int(figures["parameters"]) if "parameters" in figures else None,
        int(figures["flops"]) if "flops" in figures else None,
        figures.get("step_seconds"),
        figures.get("peak_memory_mib"),
        tuple(verdicts),
    )
