"""The campaign loop: baselines, then choose, run and learn until the budget ends, then confirm.

Plain Python over the store. One thread decides and writes events; a few worker threads each
carry out one decision (`agent/graph.py`). Killed at any instant, the next `run` carries out
what was decided and not finished, and goes on.
"""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

from agent.budget import Left, left, of_runs, spent
from agent.explore import Decision, Node, Settings, Tree, decide, trial_quality
from agent.graph import (
    Planner,
    TrialGraph,
    event_of,
    open_saver,
    replace_id,
    run_decision,
    state_of,
)
from agent.memory_ladder import is_hopeless, uncompared, without_baseline
from agent.reflect import lesson_of
from agent.rungs import SLOWER
from agent.session import Session
from agent.standings import FEWEST, SEARCH, Setup, Standings
from memory.errors import PlannerError, SegwrightError
from memory.records import Event, Kind, SplitName, Status, Trial
from memory.store import Store

CHOSEN = ("open", "improve", "promote", "repair", "smaller_batch")
STARTS = (*CHOSEN, "baseline", "confirming")
BASELINE_SEED = 100
REPORT_S = 20.0
TEST_SHARE = 0.5
GIVE_UP = 3

Notify = Callable[[str, dict[str, Any]], None]


class Campaign:
    """One run of the loop; the only writer of decisions."""

    def __init__(self, session: Session, planner: Planner, notify: Notify) -> None:
        """Open the store; nothing is started yet."""
        self.session, self.planner, self.notify = session, planner, notify
        self.without_proposal = 0
        self.store = session.store()
        open_saver(self.checkpoints).conn.close()
        self.running: dict[Future[str | None], Event] = {}
        self.pool = ThreadPoolExecutor(session.slots, thread_name_prefix="trial")

    @property
    def checkpoints(self) -> Path:
        """The file in which the graphs of running decisions keep their place."""
        return self.session.folder / "graph.db"

    def close(self) -> None:
        """Wait for the workers and close the store."""
        self.pool.shutdown(wait=True)
        self.store.close()

    def left(self) -> Left:
        """Return what is left of each budget now."""
        rows = self.store.events(), self.store.trials(), self.store.llm_calls()
        return left(self.session.config.budget, spent(*rows, now=self.session.now))

    def decision_done(self, event: Event) -> bool:
        """Tell whether a stored decision was carried out."""
        return self.store.effect(f"decision/{event.id}/done") is not None

    def resume(self) -> None:
        """Start again what an earlier process decided and did not finish."""
        for event in self.store.events():
            if event.kind in STARTS and not self.decision_done(event):
                self.notify("resumed", {"event": event.id, "text": event.text})
                self.start(event)

    def start(self, event: Event) -> None:
        """Give a stored decision to a worker; waits while all are busy."""
        while len(self.running) >= self.session.slots:
            self.collect()
        self.running[self.pool.submit(self.carry_out, event)] = event
        self.notify("started", {"event": event.id, "kind": event.kind, "text": event.text})

    def carry_out(self, event: Event) -> str | None:
        """Run one decision's graph in a worker thread."""
        nodes = TrialGraph(self.session, self.planner)
        try:
            return run_decision(nodes, self.checkpoints, state_of(event))
        finally:
            nodes.close()

    def collect(self, timeout_s: float | None = None) -> None:
        """Wait until one running decision ends; its error, if any, is raised here."""
        done, _ = wait(self.running, timeout=timeout_s, return_when=FIRST_COMPLETED)
        for future in done:
            event = self.running.pop(future)
            try:
                trial = future.result()
            except PlannerError as error:
                self.give_up(event, error)
                continue
            self.notify("ended", {"event": event.id, "kind": event.kind, "trial": trial})

    def give_up(self, event: Event, error: PlannerError) -> None:
        """Write down that a decision led to no proposal; it counts as carried out."""
        self.without_proposal += 1
        figures = {"decision": event.id, "error": str(error)}
        text = f"no proposal for decision {event.id}: {error}"
        self.store.add_event(Event("no_proposal", text, figures, at=self.session.now))
        self.store.set_effect(f"decision/{event.id}/done", {"trial": None})

    def drain(self) -> None:
        """Wait until nothing runs."""
        while self.running:
            self.collect()

    def baselines(self) -> None:
        """Train nnU-Net's default network at every rung with every seed that is missing."""
        setups = [Setup(rung) for rung in range(len(self.session.iterations))]
        for setup in setups:
            self.begin_baselines(setup)
        self.drain()
        for setup in setups:
            self.require_baselines(setup)

    def begin_baselines(self, setup: Setup) -> None:
        """Begin the baselines of a rung and batch size with every seed that is missing."""
        batch = f" with batches of {setup.batch_size}" if setup.batch_size else ""
        for i in range(self.session.config.baseline.seeds):
            trial = baseline_trial(
                self.session, rung=setup.rung, seed=BASELINE_SEED + i, batch_size=setup.batch_size
            )
            text = f"trains the baseline at rung {setup.rung}{batch}, seed {i + 1}"
            self.begin(trial, "baseline", text)

    def require_baselines(self, setup: Setup) -> None:
        """Refuse to go on where nothing can be compared.

        Raises:
            SegwrightError: fewer than two baselines of a rung and batch size have scores.
        """
        done = self.store.trials(kind=Kind.BASELINE, rung=setup.rung, status=Status.OK)
        count = sum(t.batch_size == setup.batch_size for t in done)
        if count < FEWEST:
            batch = f" with batches of {setup.batch_size}" if setup.batch_size else ""
            raise SegwrightError(
                f"only {count} baseline trainings finished at rung {setup.rung}{batch}; at least "
                f"{FEWEST} are needed, see the logs in {self.session.folder / 'trials'}"
            )

    def compare_smaller(self) -> None:
        """Train what trials with a smaller batch are compared with; then learn from them."""
        if self.session.stopping.is_set():
            return
        for setup in without_baseline(self.store):
            self.begin_baselines(setup)
            if is_hopeless(self.store, setup, self.session.config.baseline.seeds):
                self.require_baselines(setup)
        for trial in uncompared(self.store):
            lesson = lesson_of(self.store, trial, now=self.session.now)
            if lesson is not None:
                self.store.add_lesson(lesson)

    def begin(self, trial: Trial, kind: str, text: str) -> None:
        """Plan a trial that no policy chose, and start it, unless that was done before."""
        if self.store.effect(f"begun/{trial.id}") is not None:
            return
        figures = {"trial": trial.id, "rung": trial.rung, "seed": trial.seed}
        event = Event(kind, text, figures, None, trial.branch, self.session.now)
        with self.store.transaction():
            self.store.add_trial(trial)
            number = self.store.add_event(event)
            self.store.set_effect(f"begun/{trial.id}", {"event": number})
        self.start(self.store.event(number))

    def search(self) -> None:
        """Decide and start until the policy ends the search or the user asks to stop."""
        config = self.session.config.explore
        settings = Settings(c=config.c, p=config.p)
        while not self.session.stopping.is_set() and self.without_proposal < GIVE_UP:
            self.compare_smaller()
            decisions = len(of_runs(self.store.events()))
            rng = Random(f"{config.seed}/{decisions}")
            decision = decide(self.tree(), rng, policy=config.policy, settings=settings)
            if decision.action == "wait":
                self.collect()
            elif decision.action == "confirm":
                self.store.add_event(event_of(decision, self.session.now))
                return
            else:
                self.act(decision)

    def act(self, decision: Decision) -> None:
        """Store a decision, then carry it out."""
        number = self.store.add_event(event_of(decision, self.session.now))
        if decision.action == "cut":
            self.notify("cut", {"event": number, "text": decision.text})
            if decision.figures["closes_branch"] and decision.branch:
                self.store.set_branch_state(decision.branch, "cut")
        else:
            if decision.figures.get("returns") and decision.branch:
                self.store.set_branch_state(decision.branch, "open")
            self.start(self.store.event(number))

    def tree(self) -> Tree:
        """Return the tree as the policy sees it."""
        standings, session = Standings(self.store), self.session
        # One moment of the store: a trial that is written in between would be seen nowhere.
        with self.store.transaction():
            nodes, branches = tree_nodes(self.store, standings), self.branches()
            pending = self.unwritten()
        branches += [f"new-{event.id}" for event in pending if event.branch is None]
        nodes += [placeholder(event, event.branch or f"new-{event.id}") for event in pending]
        costs = self.costs()
        free = self.left()
        return Tree(
            nodes=tuple(nodes),
            branches=tuple(dict.fromkeys(branches)),
            baseline_mean=tuple(standings.baseline_mean(r) for r in range(len(session.iterations))),
            cost_s=costs,
            slots=session.slots,
            trials_left=int(min(max(0, free.trials - len(pending)), 1_000_000)),
            seconds_left=free.seconds if free.gpu_seconds else 0.0,
            confirm_s=self.confirm_s(),
            drafts=session.config.explore.drafts,
            margin=session.config.confirm.margin,
            cut_below=session.config.explore.cut_below,
            batch_size=session.plan.batch_size,
            baseline_seeds=session.config.baseline.seeds,
        )

    def unwritten(self) -> list[Event]:
        """Return the running decisions whose trial is not in the store yet."""
        return [
            event
            for event in self.running.values()
            if event.kind in CHOSEN and self.store.effect(f"decision/{event.id}/trial") is None
        ]

    def branches(self) -> list[str]:
        """Return the ids of all branches; those that a running decision opens are left to it."""
        opening = {
            known["proposal"]
            for event in self.running.values()
            if event.kind == "open" and self.store.effect(f"decision/{event.id}/trial") is None
            if (known := self.store.effect(f"decision/{event.id}/proposal")) is not None
        }
        return [b.id for b in self.store.branches() if b.proposal not in opening]

    def costs(self) -> tuple[float, ...]:
        """Return the expected wall seconds of a candidate's trial at each rung."""
        found = []
        for rung in range(len(self.session.iterations)):
            own = self.seconds(rung, *SEARCH)
            found.append(median(own) if len(own) >= 2 else SLOWER * self.baseline_s(rung))
        return tuple(found)

    def seconds(self, rung: int, *kinds: Kind) -> list[float]:
        """Return the wall seconds of the finished trials of some kinds at a rung."""
        done = self.store.trials(rung=rung, status=Status.OK)
        return [t.seconds for t in done if t.kind in kinds and t.seconds]

    def baseline_s(self, rung: int) -> float:
        """Return the mean wall seconds of the baseline's trials at a rung."""
        return fmean(self.seconds(rung, Kind.BASELINE))

    def confirm_s(self) -> float:
        """Return the wall seconds that confirmation and report need."""
        rules, last = self.session.config.confirm, self.session.last_rung
        arms = rules.finalists * self.costs()[last] + self.baseline_s(last)
        tests = len(self.session.cases(SplitName.LOCKED_TEST))
        ratio = tests / max(1, len(self.session.cases(SplitName.SEARCH_VAL)))
        slower = 1 + TEST_SHARE * min(1.0, ratio / 10)
        return rules.seeds * arms * slower / self.session.slots + REPORT_S


def baseline_trial(
    session: Session, *, rung: int, seed: int, batch_size: int | None = None
) -> Trial:
    """Return the planned trial of nnU-Net's default network at one rung with one seed."""
    trial = Trial(
        id="",
        parent=None,
        branch=None,
        proposal=None,
        commit=None,
        kind=Kind.BASELINE,
        rung=rung,
        seed=seed,
        split=SplitName.SEARCH_VAL,
        title="nnU-Net default",
        iterations=session.iterations[rung],
        planned_at=time.time(),
        batch_size=batch_size,
    )
    return replace_id(trial)


def tree_nodes(store: Store, standings: Standings) -> list[Node]:
    """Return the trials of the search as nodes."""
    trials = [t for t in store.trials() if t.kind in SEARCH]
    cut = cut_nodes(store)
    by_id = {t.id: t for t in trials}
    return [
        tree_node(trial, standings, is_cut=trial.id in cut, deep=depth(trial, by_id))
        for trial in trials
    ]


def tree_node(trial: Trial, standings: Standings, *, is_cut: bool, deep: int) -> Node:
    """Return a trial as a node; one with a smaller batch runs until its baselines have ended."""
    evidence = standings.evidence(trial)
    waits = trial.status is Status.OK and evidence is None
    quality = None
    if evidence is not None and trial.batch_size is not None:
        mean = standings.baseline_mean(trial.rung, trial.batch_size)
        quality = trial_quality(evidence.delta, mean)
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
        depth=deep,
        batch_size=trial.batch_size,
    )


def depth(trial: Trial, by_id: dict[str, Trial]) -> int:
    """Return the number of improvements between a branch's draft and a trial's network."""
    count = 0
    while trial.parent is not None:
        parent = by_id[trial.parent]
        count += trial.kind is Kind.IMPROVE and trial.commit != parent.commit
        trial = parent
    return count


def cut_nodes(store: Store) -> set[str]:
    """Return the trials whose last cut was not followed by their promotion."""
    cut: set[str] = set()
    for event in store.events():
        if event.kind == "cut" and event.trial:
            cut.add(event.trial)
        elif event.kind == "promote" and event.trial:
            cut.discard(event.trial)
    return cut


def placeholder(event: Event, branch: str) -> Node:
    """Return the node of a decision whose trial is not written down yet."""
    return Node(
        id=f"decision-{event.id}",
        parent=event.trial,
        branch=branch,
        rung=int(event.figures["rung"]),
        status=Status.PLANNED,
    )
