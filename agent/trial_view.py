"""One trial in the terminal and as JSON: idea, evidence, how it was run, what it was told.

Text from trials is cleaned before it is shown, as a terminal would obey what it holds.
"""

from pathlib import Path
from typing import Any

from agent.llm_costs import Usage
from agent.llm_view import trial_spending, usage_line
from agent.memory_ladder import setup_figures
from agent.standings import Standings
from memory.errors import CollectError, ExploreError
from memory.records import Event, Figures, Trial, plain
from memory.store import Store
from sandbox.clean import clean_text
from sandbox.collect import collect_json
from sandbox.executor import read_result

CURVE_BYTES = 1 << 20


def show(store: Store, folder: Path, trial: Trial) -> dict[str, Any]:
    """Return everything about one trial, as `show --json` prints it."""
    events = [e for e in store.events() if e.trial == trial.id]
    proposal = store.proposal(trial.proposal) if trial.proposal else None
    try:
        evidence = Standings(store).evidence(trial)
    except ExploreError:
        evidence = None
    place, used = folder / "trials" / trial.id, trial_spending(store, trial.id)
    shown = {
        "trial": plain(trial),
        "batch_size": trial.batch_size or store.campaign().protocol.get("batch_size"),
        "proposal": plain(proposal) if proposal else None,
        "evidence": evidence._asdict() if evidence else None,
        "events": [{"id": e.id, "kind": e.kind, "text": e.text} for e in events],
        "verdicts": verdicts(store, trial),
        "attempts": attempts(place),
        "curve_reported_by_the_trial": curve(place),
        "files": str(place),
        "scores": len(store.case_scores(trial.id)),
    }
    return shown | ({"llm": used._asdict()} if used else {})


def verdicts(store: Store, trial: Trial) -> list[Figures]:
    """Return the verdicts of the dry run of a trial's network with its batch size."""
    found = [e for e in store.events(kind="dry_run") if _is_about(e, trial)]
    return list(found[-1].figures["verdicts"]) if found else []


def _is_about(event: Event, trial: Trial) -> bool:
    if event.trial == trial.id:
        return True
    same = (event.figures["commit"], event.figures["batch_size"])
    return same == (trial.commit, trial.batch_size) and trial.commit is not None


def attempts(place: Path) -> list[Figures]:
    """Return the attempts that a supervisor made before the last one."""
    if not (place / "result.json").is_file():
        return []
    return list(setup_figures(read_result(place)).get("attempts", []))


def curve(place: Path) -> list[float] | None:
    """Return the losses that a trial reported of itself, or None."""
    try:
        said = collect_json(place, "curve.json", max_bytes=CURVE_BYTES)
    except CollectError:
        return None
    losses = said.get("loss") if isinstance(said, dict) else None
    if not isinstance(losses, list):
        return None
    return [float(loss) for loss in losses if isinstance(loss, int | float)]


def show_lines(shown: dict[str, Any]) -> list[str]:
    """Return one trial as text."""
    trial, proposal, evidence = shown["trial"], shown["proposal"], shown["evidence"]
    lines = [f"trial {trial['id']}: {clean_text(trial['title'])}"]
    lines.append(
        f"  {trial['kind']} at rung {trial['rung']} (seed {trial['seed']}, "
        f"{trial['iterations']} iterations, batch {shown['batch_size']}), {trial['status']}"
    )
    if trial["seconds"] is not None:
        lines.append(f"  {trial['seconds']:.0f} s, {trial['parameters']} parameters")
    if trial["isolation"]:
        lines.append(f"  {_run_line(trial)}")
    if "llm" in shown:
        lines.append(f"  language model: {usage_line(Usage(**shown['llm']))}")
    if evidence:
        lines.append(
            f"  Dice {evidence['delta']:+.4f} ± {evidence['se']:.4f} against the baseline on "
            f"{evidence['n_cases']} cases, better with probability {evidence['p_better']:.2f}"
        )
    if trial["failure_class"]:
        reason = clean_text(trial["failure_excerpt"] or "")
        lines.append(f"  failed ({trial['failure_class']}): {reason}")
    lines += [f"  {_attempt_line(attempt)}" for attempt in shown["attempts"]]
    lines += [f"  {_verdict_line(verdict)}" for verdict in shown["verdicts"]]
    if losses := shown["curve_reported_by_the_trial"]:
        ends = f"{losses[0]:.4f} to {losses[-1]:.4f}"
        lines.append(f"  loss as reported by the trial, which decides nothing: {ends}")
    if proposal:
        lines.append(f"  idea: {clean_text(proposal['motivation'])}")
        lines.append(f"  refuted by: {clean_text(proposal['refutation'])}")
    lines += [f"  {e['kind']}: {clean_text(e['text'])}" for e in shown["events"]]
    return [*lines, f"  files: {shown['files']}"]


def _run_line(trial: Figures) -> str:
    start = f", {trial['start']} start" if trial["start"] else ""
    checkpoints = ", activation checkpointing" if trial["checkpointing"] else ""
    return f"contained by {clean_text(trial['isolation'])}{start}{checkpoints}"


def _attempt_line(attempt: Figures) -> str:
    how = "with checkpointing" if attempt.get("checkpointing") else "as it is"
    why = clean_text(f"{attempt.get('failure_class')}: {attempt.get('failure_excerpt')}")
    return f"tried {how}: {why}"


def _verdict_line(verdict: Figures) -> str:
    mark = "passed" if verdict["passed"] else f"failed ({verdict['failure_class']})"
    seconds = f" in {verdict['seconds']:.2f} s" if verdict["seconds"] is not None else ""
    evidence = verdict["evidence"]
    if isinstance(evidence, dict):
        evidence = ", ".join(f"{name} {value}" for name, value in evidence.items())
    told = clean_text(" ".join(str(part) for part in (evidence, verdict["text"]) if part))
    return f"check {verdict['step']}: {mark}{seconds}" + (f"; {told}" if told else "")
