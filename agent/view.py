"""A campaign in the terminal and as JSON: where it stands and what it found.

Reads a store that another process may be writing; text from trials is cleaned before it is
shown, as a terminal would obey what it holds.
"""

import time
from pathlib import Path
from statistics import fmean
from typing import Any

from agent.amendments import amendments, low_power
from agent.budget import as_json, of_runs, spent
from agent.config import BudgetConfig
from agent.containment import unsafe_events
from agent.llm_view import spending, spending_lines
from agent.tree_view import leader, rows_of
from agent.wording import clip, one_line
from memory.errors import StoreError
from memory.records import Claim, Event, Status, Trial, plain
from memory.store import Store
from sandbox.clean import clean_text


def latest_budget(store: Store) -> BudgetConfig:
    """Return the budget of the last start, else that of campaign.toml at `init`."""
    starts = store.events(kind="started")
    if starts:
        return BudgetConfig(**starts[-1].figures["budget"])
    return BudgetConfig(**store.campaign().config["budget"])


def status(store: Store) -> dict[str, Any]:
    """Return where a campaign stands, as `status --json` prints it."""
    trials, campaign, events = store.trials(), store.campaign(), store.events()
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    own = of_runs(events)
    ended = time.time() if campaign.state == "running" else (own[-1].at if own else 0.0)
    calls, rows = store.llm_calls(), rows_of(store)
    used = spent(events, trials, calls, now=ended)
    lead = leader(store, rows)
    budget = as_json(latest_budget(store), used)
    costs = [t.seconds for t in trials if t.seconds]
    running = sum(t.status is Status.RUNNING for t in trials)
    reserved = fmean(costs) * running / 3600 if costs else 0.0
    for name, row in budget.items():
        row["reserved"] = reserved if name == "hours" else 0.0
    evidence = {row.trial.id: row.evidence for row in rows if row.evidence is not None}
    shown = {
        "campaign": campaign.name,
        "state": campaign.state,
        "trials": counts,
        "budget": budget,
        "incumbent": lead.id if lead else None,
        "claims": [plain(claim) for claim in store.claims()],
        "isolation": campaign.protocol.get("isolation"),
        "unsafe": [event.figures["reason"] for event in unsafe_events(events)],
        "amendments": [one._asdict() for one in amendments(events)],
        "low_power": [event.text for event in low_power(events)],
        "forecast": {"rung_iterations": campaign.protocol.get("rung_iterations")},
    }
    return shown | ({"llm": spending(store, calls, trials, evidence)} if calls else {})


def find_trial(store: Store, name: str) -> Trial:
    """Return the trial whose id begins with `name`.

    Raises:
        StoreError: none or several do.
    """
    found = [t for t in store.trials() if t.id.startswith(name)]
    if len(found) != 1:
        several = f"{len(found)} trials begin" if found else "no trial begins"
        raise StoreError(f"{several} with {name!r}; `segwright tree` lists them")
    return found[0]


def status_lines(shown: dict[str, Any], events: list[Event]) -> list[str]:
    """Return where a campaign stands as text."""
    lines = [f"{shown['campaign']}: {shown['state']}"]
    trials = ", ".join(f"{n} {s}" for s, n in sorted(shown["trials"].items())) or "none yet"
    lines.append(f"  trials: {trials}")
    for name, row in shown["budget"].items():
        limit = f" of {row['limit']:g}" if row["limit"] else ", no limit"
        lines.append(f"  {name}: {amount_spent(shown, name)} spent{limit}")
    lines += spending_lines(shown["llm"]) if "llm" in shown else []
    lines.append(f"  best so far: {shown['incumbent'] or 'none'}")
    lines += [
        f"  WARNING: generated code ran without isolation: {clean_text(reason)}"
        for reason in shown["unsafe"]
    ]
    lines += [
        f"  WARNING: {one['setting']} was changed from {one['before']!r} to {one['after']!r} after it "
        f"was declared: {clean_text(one['reason'])}"
        for one in shown["amendments"]
    ]
    lines += [f"  WARNING: {text}" for text in shown["low_power"]]
    lines += [f"  claim: {claim['verdict']} ({claim['finalist']})" for claim in shown["claims"]]
    if events:
        lines.append(f"  last: {clip(one_line(events[-1].text), 200)}")
    return lines


def amount_spent(shown: dict[str, Any], name: str) -> str:
    """Return what was spent of a budget; dollars that nobody knows are said to be unknown."""
    amount = f"{shown['budget'][name]['spent']:.2f}"
    if name != "usd" or "llm" not in shown or not shown["llm"]["total"]["unpriced"]:
        return amount
    return "an unknown amount" if shown["llm"]["total"]["usd"] is None else f"at least {amount}"


def verdict_lines(folder: Path) -> list[str]:
    """Return what a finished run says: each claim in a sentence, or that there is none."""
    with Store.open(folder / "campaign.db", read_only=True) as store:
        name, claims, facts = store.campaign().name, store.claims(), store.facts()
        lines = [f"{name}: {sentence(store, claim)}" for claim in claims]
        rungs = len(store.campaign().protocol.get("rung_iterations", ()))
    spread = facts.get(f"baseline.rung{rungs - 1}.seed_sd")
    if spread is not None and spread.value is not None:
        lines.append(f"{name}: SD over the baseline's seeds at the last rung: {spread.text} Dice")
    return lines or [f"{name}: no claim was tested; see the report"]


def sentence(store: Store, claim: Claim) -> str:
    """Return a claim's sentence with its numbers, Dice in points."""
    points = ("delta", "low", "high", "mde", "margin", "noninferiority")
    printed: dict[str, str] = {}
    for name, value in claim.figures["fields"].items():
        if name in points:
            printed[name] = f"{100 * value:.2f}"
        elif name in ("level", "saved"):
            printed[name] = f"{100 * value:.0f}"
        elif name in ("cost", "baseline_cost"):
            printed[name] = f"{value:.1f}"
        else:
            printed[name] = f"{value:.3f}" if name == "p" else str(value)
    names = {"candidate": store.proposal(claim.finalist).title, "baseline": "nnU-Net's default"}
    dataset = store.campaign().dataset["name"]
    text = claim.text.format(**printed, **names, dataset=dataset)
    return clean_text(f"{before(claim)}{text}")


def before(claim: Claim) -> str:
    """Return what is said before a claim's sentence, so that nobody takes it for more."""
    if not claim.verdict.startswith("better"):
        return "No improvement found. "
    is_small = not claim.figures.get("is_improvement", True)
    return "A gain below the margin. " if is_small else ""


def suite_lines(report: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Return the escape suite's report as text: what held, what got out, what was not tried."""
    lines = []
    for name, found in report["backends"].items():
        escaped = found["escaped"]
        said = f"{len(escaped)} got out: {', '.join(escaped)}" if escaped else "none got out"
        lines.append(f"{name}: {found['probes']} attacks made, {said}")
        lines += [
            f"  not held or not tried: {probe}: {why}" for probe, why in found["skipped"].items()
        ]
    return lines
