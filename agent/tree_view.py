"""The tree of a campaign, as JSON and in the terminal.

Reads a store that another process may be writing; titles are cleaned before they are shown, as a
terminal would obey what they hold. Imports little, so that the answer comes at once.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from agent.cuts import cut_trials, is_cut
from agent.evidence import Evidence
from agent.search_tree import DECISIONS
from agent.standings import SEARCH, Standings
from memory.errors import ExploreError
from memory.records import Kind, Status, Trial
from memory.store import Store
from sandbox.clean import clean_text

MARKS = {
    Status.OK: "●",
    Status.RUNNING: "▶",
    Status.PLANNED: "○",
}

LATER = {
    Kind.SELECT: "selection on further folds",
    Kind.CONFIRM: "confirmation on the locked test",
    Kind.ABLATE: "ablation",
}

Shown = dict[str, Any]


class Row(NamedTuple):
    """A trial with its evidence, None where there is nothing to compare it with."""

    trial: Trial
    evidence: Evidence | None


def evidence_of(standings: Standings, trial: Trial) -> Evidence | None:
    """Return a trial's evidence, or None where there is nothing to compare it with."""
    try:
        return standings.evidence(trial)
    except ExploreError:
        return None


def rows_of(store: Store) -> list[Row]:
    """Return all trials with their evidence, in the order of `Store.trials`."""
    standings = Standings(store)
    return [Row(trial, evidence_of(standings, trial)) for trial in standings.refresh()]


def leader(store: Store, rows: Iterable[Row]) -> Trial | None:
    """Return the network that leads: as the last decision believed, from all of its evidence.

    Before any decision has named one: the best finished trial at the highest rung reached.
    """
    last = store.last_event(DECISIONS)
    known = last.figures.get("incumbent") if last else None
    if known is not None:
        return store.trial(known)
    done = [(t.rung, e.delta, t.id, t) for t, e in rows if e is not None]
    return max(done)[-1] if done else None


def incumbent(store: Store) -> Trial | None:
    """Return the network that leads; see `leader`."""
    return leader(store, rows_of(store))


def tree(store: Store) -> Shown:
    """Return the tree as `tree --json` prints it."""
    rows, cut = rows_of(store), cut_trials(store)
    lead = leader(store, rows)
    return {
        "campaign": store.campaign().name,
        "incumbent": lead.id if lead else None,
        "nodes": [shown(row, is_cut=is_cut(row.trial, cut)) for row in rows],
    }


def shown(row: Row, *, is_cut: bool) -> Shown:
    """Return one trial as a node of the JSON."""
    trial, found = row
    return {
        "id": trial.id,
        "parent": trial.parent,
        "branch": trial.branch,
        "kind": trial.kind.value,
        "rung": trial.rung,
        "seed": trial.seed,
        "status": trial.status.value,
        "is_cut": is_cut,
        "delta": found.delta if found else None,
        "delta_se": found.se if found else None,
        "p_better": found.p_better if found else None,
        "seconds": trial.seconds,
        "commit": trial.commit,
        "title": clean_text(trial.title),
    }


def tree_json(store: Store) -> str:
    """Return the tree as JSON, a line for each trial."""
    found = tree(store)
    head = json.dumps({name: found[name] for name in ("campaign", "incumbent")})
    nodes = ",\n".join(json.dumps(node) for node in found["nodes"])
    return f'{head[:-1]}, "nodes": [\n{nodes}\n]}}'


def tree_lines(store: Store) -> list[str]:
    """Return the tree as text: branches, and under each its trials by parent."""
    found = tree(store)
    nodes = found["nodes"]
    search = [n for n in nodes if n["kind"] in SEARCH]
    lines = [f"{found['campaign']}: {len(search)} trials in the search"]
    lines.append(f"baseline: {counted(n for n in nodes if n['kind'] == Kind.BASELINE)}")
    lines += [node_line(n, found["incumbent"], indent=deep) for n, deep in by_descent(search)]
    for kind, what in LATER.items():
        if own := [n for n in nodes if n["kind"] == kind]:
            lines.append(f"{what}: {counted(own)}")
    return lines


def by_descent(nodes: list[Shown]) -> list[tuple[Shown, int]]:
    """Return the nodes with each parent before its children, and how deep each one lies."""
    known = {n["id"] for n in nodes}
    children: dict[str | None, list[Shown]] = {}
    for node in nodes:
        above = node["parent"] if node["parent"] in known else None
        children.setdefault(above, []).append(node)
    found, rest = [], [(node, 0) for node in reversed(children.get(None, []))]
    while rest:
        node, deep = rest.pop()
        found.append((node, deep))
        rest += [(child, deep + 1) for child in reversed(children.get(node["id"], []))]
    return found


def counted(nodes: Iterable[Shown]) -> str:
    """Return how many trials there are of each status, in words."""
    counts = Counter(n["status"] for n in nodes)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"


def node_line(node: Shown, lead: str | None, *, indent: int) -> str:
    """Return one trial's line."""
    mark = "✂" if node["is_cut"] else MARKS.get(node["status"], "✕")
    effect = "" if node["delta"] is None else f"  {node['delta']:+.4f} ± {node['delta_se']:.4f}"
    best = "  (best so far)" if node["id"] == lead else ""
    what = f"{node['title']}  {node['kind']} rung {node['rung']} {node['status']}"
    return f"{'  ' * indent}{mark} {node['id']}  {what}{effect}{best}"
