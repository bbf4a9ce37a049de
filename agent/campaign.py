"""The campaign loop: baselines, then choose, run and learn until the budget ends, then confirm.

Plain Python over the store. One thread decides and writes events; a few worker threads each
carry out one decision (`agent/graph.py`). Killed at any instant, the next `run` carries out
what was decided and not finished, and goes on.
"""

import gc
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from random import Random
from typing import Any

from agent.branches import Branch, Node
from agent.budget import HOUR_S, Left, Spent, active_seconds, left, of_runs, reserve
from agent.component_effects import links_in
from agent.decision_state import KEPT, RIVAL, event_of, state_of
from agent.early_ablation import KIND as EARLY
from agent.early_ablation import begin_early
from agent.effects import Knowledge
from agent.graph import TrialGraph, open_saver, run_decision
from agent.growth import Growth
from agent.knowledge import effects_now
from agent.ladder import Settings
from agent.llm import Model
from agent.margins import search_margin
from agent.memory_ladder import is_hopeless, without_baseline
from agent.planner import Planner
from agent.policies import decide
from agent.readings import Scored
from agent.reflection import reflect
from agent.rungs import SLOWER
from agent.search_tree import DECISIONS, Decision, Tree
from agent.session import Session
from agent.standings import FEWEST, Setup
from agent.trials import baseline_trial
from memory.errors import PlannerError, SegwrightError
from memory.records import Event, Figures, Kind, SplitName, Status, Trial

CHOSEN = ("open", "improve", "crossover", "promote", "repeat", "repair", "smaller_batch")
WRITTEN = ("open", "improve", "crossover")
PROPOSED = ("open", "improve")
STARTS = (*CHOSEN, RIVAL, EARLY, "baseline", "selecting", "confirming", "ablating")
BASELINE_SEED = 100
REPORT_S = 20.0
TEST_SHARE = 0.5
# A confirmed network has about as many modules to take out.
MODULES, ABLATION_SHARE = 2, 0.1
GIVE_UP = 3

Notify = Callable[[str, dict[str, Any]], None]


class Campaign:
    """One run of the loop; the only writer of decisions."""

    def __init__(
        self, session: Session, planner: Planner, notify: Notify, model: Model | None = None
    ) -> None:
        """Open the store; nothing is started yet. `model` says why lessons hold."""
        self.session, self.planner, self.notify = session, planner, notify
        self.model = model
        self.without_proposal = self.looked = 0
        self.store = session.store()
        self.growth = Growth(self.store)
        self.began = session.now
        # Seconds of the runs before this one, and of this one until now.
        self.before_s = active_seconds(of_runs(self.store.events()), self.began)
        self.compared = {
            trial for lesson in self.store.lessons("trial") for trial in lesson.evidence
        }
        self.turn = self.store.count_events(DECISIONS)
        open_saver(self.checkpoints).conn.close()
        self.running: dict[Future[str | None], Event] = {}
        self.pool = ThreadPoolExecutor(session.slots, thread_name_prefix="trial")

    @property
    def has_given_up(self) -> bool:
        """True when so many decisions led to no new idea that the search ends."""
        return self.without_proposal >= GIVE_UP

    def known(self) -> Knowledge:
        """Return what components do by this campaign's own trials."""
        return effects_now(self.store, self.session, self.growth.standings).own

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
        growth = self.growth
        growth.refresh()
        seconds = self.before_s + max(0.0, self.session.now - self.began)
        used = Spent(seconds, growth.gpu_seconds, self.store.usd_spent(), growth.searched)
        return left(self.session.config.budget, used)

    def decision_done(self, event: Event) -> bool:
        """Tell whether a stored decision was carried out."""
        return self.store.effect(f"decision/{event.id}/done") is not None

    def resume(self) -> None:
        """Start again what an earlier process decided and did not finish."""
        for event in self.store.events():
            if event.kind in STARTS and not self.decision_done(event):
                self.notify("resumed", {"event": event.id, "text": event.text})
                self.start(event)
            elif event.kind in WRITTEN:
                self.second_coder(event)

    def start(self, event: Event) -> None:
        """Give a stored decision to a worker; waits while all are busy."""
        while len(self.running) >= self.session.slots:
            self.collect()
        scored = self.growth.standings.scored() if event.kind in PROPOSED else ()
        self.running[self.pool.submit(self.carry_out, event, scored)] = event
        self.notify("started", {"event": event.id, "kind": event.kind, "text": event.text})

    def carry_out(self, event: Event, scored: Sequence[Scored]) -> str | None:
        """Run one decision's graph in a worker thread."""
        nodes = TrialGraph(self.session, self.planner, scored, links_in(event.figures), self.model)
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
            if event.kind in WRITTEN:
                self.second_coder(event)

    def second_coder(self, event: Event) -> None:
        """Have the second of two coders write a new idea too; both networks are trained and kept."""
        scope, key = f"decision/{event.id}", f"{RIVAL}/{event.id}"
        if self.session.config.coder.rivals < 2 or self.store.effect(key) is not None:
            return
        made = self.store.effect(f"{scope}/trial")
        calls = self.store.llm_calls(scope=scope)
        if made is None or not any(call.role == "coder" for call in calls):
            return
        left_ = self.left()
        if min(left_.trials, left_.seconds, left_.gpu_seconds) < 1:
            return
        trial = self.store.trial(made["trial"])
        figures = {"decision": event.id, "proposal": trial.proposal, "kind": trial.kind.value}
        figures["rung"] = trial.rung
        text = f"a second coder writes the idea of {trial.id}: {trial.title}"
        rival = Event(RIVAL, text, figures, trial.parent, trial.branch, self.session.now)
        with self.store.transaction():
            number = self.store.add_event(rival)
            self.store.set_effect(key, {"event": number})
        self.start(self.store.event(number))

    def give_up(self, event: Event, error: PlannerError) -> None:
        """Write down that a decision led to no proposal; it counts as carried out."""
        # A second coder that wrote nothing says nothing against the idea, or its parent.
        is_rival = event.kind == RIVAL
        self.without_proposal += event.trial is None and not is_rival
        figures = {"decision": event.id, "error": str(error)}
        text = f"no proposal for decision {event.id}: {error}"
        self.store.add_event(
            Event(
                "no_proposal",
                text,
                figures,
                None if is_rival else event.trial,
                event.branch,
                self.session.now,
            )
        )
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
        self.growth.refresh()
        waiting = [t for t in self.growth.smaller.values() if t.id not in self.compared]
        if not waiting:
            return
        for setup in without_baseline(waiting, self.growth.standings):
            self.begin_baselines(setup)
            if is_hopeless(self.store, setup, self.session.config.baseline.seeds):
                self.require_baselines(setup)
        for trial in waiting:
            if reflect(self.store, self.session, trial, knowledge=self.known) is not None:
                self.compared.add(trial.id)

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
        self.growth.refresh()
        # What was read at the start stays: no collection need look through it again.
        gc.freeze()
        while not self.session.stopping.is_set() and not self.has_given_up:
            self.compare_smaller()
            begin_early(self)
            tree, seen = self.tree()
            rng = Random(f"{config.seed}/{self.turn}")
            decision = decide(tree, rng, policy=config.policy, settings=settings)
            decision.figures.update(seen)
            if decision.action == "wait":
                self.collect()
            elif decision.action == "confirm":
                self.store.add_event(event_of(decision, self.session.now))
                self.turn += 1
                return
            else:
                self.act(decision)

    def act(self, decision: Decision) -> None:
        """Store a decision, then carry it out."""
        number = self.store.add_event(event_of(decision, self.session.now))
        self.turn += 1
        if decision.action == "cut":
            self.notify("cut", {"event": number, "text": decision.text})
            if decision.figures["closes_branch"] and decision.branch:
                self.store.set_branch_state(decision.branch, "cut")
        else:
            if decision.figures.get("returns") and decision.branch:
                self.store.set_branch_state(decision.branch, "open")
            self.start(self.store.event(number))

    def tree(self) -> tuple[Tree, Figures]:
        """Return the tree as the policy sees it, and what makes it again from the store."""
        growth, session = self.growth, self.session
        planning_s = self.store.planning_seconds() if session.config.planner == "llm" else 0.0
        # One moment of the store: a trial that is written in between would be seen nowhere.
        with self.store.transaction():
            free = self.left()
            pending, names = self.unwritten(), self.branch_names()
            seen = growth.standings.mark
        unwritten = [placeholder(e, growth.trials.get(e.trial or "")) for e in pending]
        branches = growth.with_pending(names, unwritten)
        rungs = range(len(session.iterations))
        tree = Tree(
            branches=branches,
            baseline_mean=tuple(growth.standings.baseline_mean(rung) for rung in rungs),
            cost_s=tuple(cost + planning_s for cost in self.costs()),
            slots=session.slots,
            trials_left=int(min(max(0, free.trials - len(pending)), 1_000_000)),
            seconds_left=free.seconds if free.gpu_seconds else 0.0,
            confirm_s=self.reserve_s(free.seconds, branches.values()),
            drafts=session.config.explore.drafts,
            margin=search_margin(self.store, session.config),
            cut_below=session.config.explore.cut_below,
            baseline_sd=self.baseline_sd(),
            batch_size=session.plan.batch_size,
            baseline_seeds=session.config.baseline.seeds,
        )
        told = {name: getattr(tree, name) for name in ("baseline_sd", "batch_size", "margin")}
        return tree, {"turn": self.turn, "seen": seen, "cost_s": list(tree.cost_s), "tree": told}

    def baseline_sd(self) -> float:
        """Return the SD in Dice that the baseline's own seeds add to every effect."""
        standings, setup = self.growth.standings, Setup(self.session.last_rung)
        return standings.spread(setup).sd / math.sqrt(len(standings.baseline[setup]))

    def unwritten(self) -> list[Event]:
        """Return the running decisions whose trial is not in the store yet."""
        return [
            event
            for event in self.running.values()
            if event.kind in CHOSEN and self.store.effect(f"decision/{event.id}/trial") is None
        ]

    def branch_names(self) -> list[str]:
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
        growth, rungs = self.growth, range(len(self.session.iterations))
        return tuple(growth.cost_s(rung, slower=SLOWER) for rung in rungs)

    def reserve_s(self, left_s: float, branches: Iterable[Branch]) -> float:
        """Return the wall seconds of those left that the search leaves over (`budget.reserve`)."""
        is_bare = not any(node.is_ok for branch in branches for node in branch.nodes)
        later_s, network_s = self.selection_s() + self.ablation_s(), math.fsum(self.costs())
        return reserve(left_s, self.confirm_s(), later_s, network_s=network_s, is_bare=is_bare)

    def selection_s(self) -> float:
        """Return the wall seconds of a time budget that the staged selection is kept."""
        own = self.session.config
        return own.selection.share * own.budget.hours * HOUR_S if own.selection.folds else 0.0

    def ablation_s(self) -> float:
        """Return the wall seconds kept for ablations on the locked test: a tenth at most."""
        config, last = self.session.config, self.session.last_rung
        own = MODULES * config.ablation.seeds * self.costs()[last] / self.session.slots
        return min(own, ABLATION_SHARE * config.budget.hours * HOUR_S)

    def confirm_s(self) -> float:
        """Return the wall seconds that confirmation and report need."""
        rules, last = self.session.config.confirm, self.session.last_rung
        arms = rules.finalists * self.costs()[last] + self.growth.baseline_s(last)
        tests = len(self.session.cases(SplitName.LOCKED_TEST))
        ratio = tests / max(1, len(self.session.cases(SplitName.SEARCH_VAL)))
        slower = 1 + TEST_SHARE * min(1.0, ratio / 10)
        return rules.seeds * arms * slower / self.session.slots + REPORT_S


def placeholder(event: Event, source: Trial | None) -> Node:
    """Return the node of a decision whose trial is not written down yet; it acts on `source`."""
    is_again = source is not None and event.kind in KEPT
    return Node(
        id=f"decision-{event.id}",
        parent=event.trial,
        branch=event.branch or f"new-{event.id}",
        rung=int(event.figures["rung"]),
        status=Status.PLANNED,
        planned_at=event.at,
        commit=source.commit if source is not None and is_again else None,
    )
