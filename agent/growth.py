"""The tree of a campaign, kept up to date from what changed in its store.

A branch is made again only when one of its trials, its cuts or the baselines of its trials
changed; what the beliefs keep with the others stays. The sums that a decision needs (seconds of
each rung, GPU seconds, trials) are kept beside it, so that a decision costs the same after ten
trials and after a hundred thousand.
"""

from bisect import insort
from collections.abc import Iterable
from statistics import fmean, median

from agent.branches import Branch, Node
from agent.camyla import trial_quality
from agent.cuts import Cuts, is_cut
from agent.evidence import Evidence
from agent.standings import SEARCH, Standings
from memory.records import Kind, Status, Trial
from memory.store import Store


class Growth:
    """The branches of a campaign; for the thread of its store alone."""

    def __init__(self, store: Store) -> None:
        """Know nothing yet; `refresh` reads."""
        self.standings, self.cuts = Standings(store), Cuts(store)
        self.branches: dict[str, Branch] = {}
        self.trials: dict[str, Trial] = {}
        self.gpu_seconds = 0.0
        self.searched = 0
        self.smaller: dict[str, Trial] = {}
        self.scored: dict[int, list[Trial]] = {}
        self.of_rung: dict[int, list[float]] = {}
        self.of_baseline: dict[int, list[float]] = {}
        self._nodes: dict[str, dict[str, Node]] = {}

    def refresh(self) -> None:
        """Take in what the store has learnt since the last call."""
        changed = {trial.id: trial for trial in self.standings.refresh()}
        for trial in changed.values():
            self._count(trial)
        about = self.cuts.refresh()
        changed |= {name: self.trials[name] for name in about if name in self.trials}
        stale = [trial for trial in changed.values() if trial.kind in SEARCH]
        for branch in {self._put(trial) for trial in stale}:
            self.branches[branch] = Branch(branch, self._nodes[branch].values())

    def with_pending(self, names: Iterable[str], placeholders: Iterable[Node]) -> dict[str, Branch]:
        """Return the branches with those that are still empty and trials not written yet."""
        found = {name: self.branches.get(name) or Branch(name) for name in names}
        for node in placeholders:
            before = found.get(node.branch) or Branch(node.branch)
            found[node.branch] = Branch(node.branch, [*before.nodes, node])
        return dict(sorted(found.items()))

    def _count(self, trial: Trial) -> None:
        """Add a trial to the sums, once for each thing that is final about it."""
        before = self.trials.get(trial.id)
        self.trials[trial.id] = trial
        self.searched += before is None and trial.kind in SEARCH
        was_final = before is not None and before.status.is_final
        if was_final or not trial.status.is_final:
            return
        self.gpu_seconds += trial.gpu_seconds or 0.0
        if trial.status is Status.OK and trial.kind in SEARCH:
            self.scored.setdefault(trial.rung, []).append(trial)
        if trial.status is Status.OK and trial.kind in SEARCH and trial.batch_size is not None:
            self.smaller[trial.id] = trial
        kept = self.of_baseline if trial.kind is Kind.BASELINE else self.of_rung
        if trial.status is Status.OK and trial.seconds and trial.kind in (*SEARCH, Kind.BASELINE):
            insort(kept.setdefault(trial.rung, []), trial.seconds)

    def _put(self, trial: Trial) -> str:
        """Make a trial's node; return its branch."""
        branch = trial.branch or ""
        parent = self.trials.get(trial.parent or "")
        own = self._nodes.setdefault(branch, {})
        above = own[parent.id].depth if parent is not None and parent.id in own else 0
        is_deeper = parent is not None and trial.kind is Kind.IMPROVE
        is_deeper = is_deeper and parent is not None and trial.commit != parent.commit
        evidence = self.standings.evidence(trial)
        own[trial.id] = node_of(
            trial,
            evidence,
            is_cut=is_cut(trial, self.cuts.trials),
            is_spent=trial.id in self.cuts.spent,
            depth=above + is_deeper,
            quality=self._quality(trial, evidence),
        )
        return branch

    def _quality(self, trial: Trial, evidence: Evidence | None) -> float | None:
        """Return the published quality of a trial with a smaller batch: it has other baselines."""
        if evidence is None or trial.batch_size is None:
            return None
        mean = self.standings.baseline_mean(trial.rung, trial.batch_size)
        return trial_quality(evidence.delta, mean)

    def baseline_s(self, rung: int) -> float:
        """Return the mean wall seconds of the baseline's trials at a rung."""
        return fmean(self.of_baseline[rung])

    def cost_s(self, rung: int, *, slower: float) -> float:
        """Return the median wall seconds of the search's trials at a rung.

        With fewer than two, the baseline's mean times `slower`.
        """
        own = self.of_rung.get(rung, [])
        if len(own) < 2:
            return slower * self.baseline_s(rung)
        return median(own)


def node_of(
    trial: Trial,
    evidence: Evidence | None,
    *,
    is_cut: bool,
    is_spent: bool = False,
    depth: int = 0,
    quality: float | None = None,
) -> Node:
    """Return a trial as a node; one with a smaller batch runs until its baselines have ended."""
    waits = trial.status is Status.OK and evidence is None
    return Node(
        id=trial.id,
        parent=trial.parent,
        branch=trial.branch or "",
        rung=trial.rung,
        status=Status.RUNNING if waits else trial.status,
        evidence=evidence,
        quality=quality,
        cost_s=trial.seconds or 0.0,
        is_cut=is_cut,
        commit=trial.commit,
        kind=trial.kind,
        depth=depth,
        batch_size=trial.batch_size,
        planned_at=trial.planned_at or 0.0,
        is_spent=is_spent,
    )
