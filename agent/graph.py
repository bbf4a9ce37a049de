"""One trial as a LangGraph graph: propose, write, check, train, score, reflect.

One thread a decision, ids and small scalars as state, a checkpoint after every node. Each
node may run twice: it first looks for what it left in the store. A network that fails its
dry run is kept as a rejected trial and repaired, at most three times in a row.
"""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from agent.beliefs import Link
from agent.checkpoints import listener
from agent.component_effects import ComponentEffects
from agent.decision_state import KEPT, RIVAL, State
from agent.knowledge import effects_now, effects_of
from agent.llm import Model
from agent.llm_planner import room_of
from agent.meaning import embedder_of
from agent.memory_ladder import ladder_events
from agent.planner import Case, Planner
from agent.readings import Scored
from agent.reflection import close_branches, reflect
from agent.session import Session
from agent.standings import Standings
from agent.trials import (
    dry_run_event,
    named_modules,
    network_hash,
    plan_of,
    take_result,
    write_code,
    write_job,
)
from memory.records import (
    Branch,
    Kind,
    Proposal,
    SplitName,
    Status,
    Trial,
    short_id,
    trial_id,
)
from sandbox.dry_run import Dry
from sandbox.executor import read_result, wait
from sandbox.failures import status_of

REPAIRS = 3
DRY_RUN_S = 300.0
NODES = ("propose", "write", "check", "train", "score", "reflect")


class TrialGraph:
    """The nodes of the graph; one object a thread, as it owns a store connection."""

    def __init__(
        self,
        session: Session,
        planner: Planner,
        scored: Sequence[Scored] | None = None,
        links: Sequence[Link] | None = None,
        model: Model | None = None,
    ) -> None:
        """Bind the nodes to a session.

        `scored` trials are those when the decision was made, read from the store if None; `links`
        are the decision's own. `model` says why lessons hold.
        """
        self.session, self.planner, self.scored, self.links = session, planner, scored, links
        self.model = model
        self.store = session.store()

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def propose(self, state: State) -> State:
        """Find or make the proposal of a decision, and its branch."""
        key = f"decision/{state['decision']}/proposal"
        known = self.store.effect(key)
        if known is None:
            with self.session.planning:
                proposal = self.new_proposal(state)
                self.store.add_proposal(proposal)
            known = self.store.set_effect(key, {"proposal": proposal.id})
        branch = state.get("branch") or self.open_branch(known["proposal"])
        return {"proposal": known["proposal"], "branch": branch}

    def new_proposal(self, state: State) -> Proposal:
        """Ask the planner; the seed of its generator follows from the decision."""
        rng = Random(f"{self.session.config.explore.seed}/{state['decision']}")
        tried, case = self.store.proposals(), self.case(state)
        dims = self.session.plan.spec["dims"]
        if state["action"] == RIVAL:
            return self.store.proposal(state["proposal"])
        if state["action"] == "open":
            effects = self.component_effects()
            return self.planner.propose(tried, effects, rng, dims=dims, case=case)
        trial = self.store.trial(state["source"])
        assert trial.proposal is not None
        parent = self.store.proposal(trial.proposal)
        if state["action"] in KEPT:
            return parent
        if "partner" in state:
            return self.crossed(parent, self.store.trial(state["partner"]), tried, rng, case)
        if state["action"] == "repair":
            kind = trial.failure_class or "exception"
            return self.planner.repair(parent, kind, rng, tried=tried, case=case)
        effects = self.component_effects()
        return self.planner.improve(parent, effects, rng, dims=dims, tried=tried, case=case)

    def case(self, state: State) -> Case:
        """Return for whom the planner works."""
        source = state.get("source")
        return Case(
            scope=f"decision/{state['decision']}",
            trial=self.store.trial(source) if source else None,
            rival=state.get("rival", False),
        )

    def component_effects(self) -> ComponentEffects:
        """Return what was known of components when the decision was made."""
        scored = Standings(self.store).scored() if self.scored is None else self.scored
        return effects_of(self.store, self.session, scored, self.links)

    def crossed(
        self, parent: Proposal, other: Trial, tried: Sequence[Proposal], rng: Random, case: Case
    ) -> Proposal:
        """Ask the planner for a crossover of two branches' modules."""
        assert other.proposal is not None
        partner = self.store.proposal(other.proposal)
        dims = self.session.plan.spec["dims"]
        return self.planner.cross(parent, partner, rng, dims=dims, tried=tried, case=case)

    def open_branch(self, proposal: str) -> str:
        """Open the branch of a new idea."""
        branch = short_id(["branch", proposal])
        self.store.add_branch(Branch(branch, proposal, "open", self.session.now))
        return branch

    def write(self, state: State) -> State:
        """Commit the network and plan its trial."""
        trial = self.plan_trial(state, self.store.proposal(state["proposal"]))
        key = f"decision/{state['decision']}"
        with self.store.transaction():
            self.store.add_trial(trial)
            self.store.set_effect(f"{key}/trial", {"trial": trial.id})
            # Repairs write further trials of the same decision: the first is kept.
            self.store.set_effect(f"{key}/written", {"mark": self.store.mark()})
        return {"trial": trial.id}

    def plan_trial(self, state: State, proposal: Proposal) -> Trial:
        """Return the planned trial of a proposal, its network committed.

        A network that climbs, or runs again with a smaller batch, keeps its commit and kind.
        """
        session, source = self.session, state.get("source")
        kept = self.store.trial(source) if source and state["action"] in KEPT else None
        commit = kept.commit if kept else self.commit(state, proposal)
        assert commit is not None
        trial = Trial(
            id="",
            parent=source,
            branch=state["branch"],
            proposal=proposal.id,
            commit=commit,
            kind=kept.kind if kept else Kind(state["kind"]),
            rung=state["rung"],
            seed=session.config.explore.seed + state.get("repeat", 0),
            split=SplitName.SEARCH_VAL,
            title=proposal.title,
            iterations=session.iterations[state["rung"]],
            planned_at=session.now,
            network_hash=network_hash(session.networks().source(commit)),
            batch_size=state.get("batch_size", kept.batch_size) if kept else None,
        )
        return replace_id(trial)

    def commit(self, state: State, proposal: Proposal) -> str:
        """Write a proposal's network and return its commit."""
        return self.session.networks().commit(
            self.planner.write(proposal, case=self.case(state)),
            branch=state["branch"],
            message=proposal.title,
            trailers={"Proposal-Id": proposal.id},
        )

    def check(self, state: State) -> State:
        """Run the network dry: its contract, size and cost; a failure ends the trial."""
        trial = self.store.trial(state["trial"])
        if trial.status.is_final:
            return {"status": trial.status.value}
        batch = f"/{trial.batch_size}" if trial.batch_size else ""
        key = f"dry/{trial.commit or 'baseline'}{batch}"
        known = self.store.effect(key)
        if known is None:
            dry = self.run_dry(trial)
            if dry.failure:
                return self.reject(trial, dry)
            figures = {"parameters": dry.parameters, "flops": dry.flops}
            with self.store.transaction():
                known = self.store.set_effect(key, {**figures, "step_s": dry.step_seconds})
                self.store.add_event(dry_run_event(trial, dry, at=self.session.now))
        self.store.update_trial(trial.id, parameters=known["parameters"], flops=known["flops"])
        return {"status": Status.PLANNED.value, "step_s": known["step_s"]}

    def run_dry(self, trial: Trial) -> Dry:
        """Run a trial's network once inside the sandbox."""
        return self.session.dry_run(
            plan_of(self.session, trial),
            write_code(self.session, trial),
            named_modules=named_modules(self.session, trial),
            folder=self.session.trial_folder(trial.id) / "dry",
            device=self.session.device,
            threads=self.session.config.engine.threads,
            isolation=self.session.isolation,
            limits=self.session.limits(DRY_RUN_S),
            start=self.session.config.sandbox.start,
        )

    def reject(self, trial: Trial, dry: Dry) -> State:
        """Keep a trial whose network failed its dry run, with the reason and all verdicts."""
        status, session = status_of(dry.failure), self.session
        events = [dry_run_event(trial, dry, at=session.now)]
        planned = session.plan.batch_size
        events += ladder_events(trial, {"status": status}, planned=planned, at=session.now)
        changes = {
            "status": status,
            "failure_class": dry.failure,
            "failure_excerpt": dry.text,
            "ended_at": session.now,
            "isolation": str(session.isolation),
        }
        with self.store.transaction():
            for event in events:
                self.store.add_event(event)
            self.store.record_result(trial.id, changes=changes, scores=[])
        return {"status": status.value}

    def repair(self, state: State) -> State:
        """Propose the same idea without what failed; the next write plans its trial."""
        rng = Random(f"{self.session.config.explore.seed}/{state['trial']}")
        trial = self.store.trial(state["trial"])
        with self.session.planning:
            failed = self.store.proposal(state["proposal"])
            proposal = self.planner.repair(
                failed,
                trial.failure_class or "exception",
                rng,
                tried=self.store.proposals(),
                case=replace(self.case(state), trial=trial),
            )
            self.store.add_proposal(proposal)
        repairs = state.get("repairs", 0) + 1
        return {
            "action": "repair",
            "kind": Kind.REPAIR.value,
            "source": trial.id,
            "proposal": proposal.id,
            "repairs": repairs,
        }

    def train(self, state: State) -> State:
        """Run the trial outside this process, or find the one that runs, and wait for it."""
        trial = self.store.trial(state["trial"])
        if trial.status.is_final:
            return {"status": trial.status.value}
        write_code(self.session, trial)
        folder = write_job(self.session, trial, step_s=state["step_s"])
        self.store.update_trial(trial.id, status=Status.RUNNING, started_at=self.session.now)
        result = wait(
            self.session.executor,
            folder,
            is_stopped=self.session.stopping.is_set,
            on_checkpoint=listener(self.session, self.store, trial),
        )
        return {"status": str(result["status"])}

    def score(self, state: State) -> State:
        """Take the result into the store; of the locked test only failures, until it is opened."""
        trial = self.store.trial(state["trial"])
        result = read_result(self.session.trial_folder(trial.id))
        if trial.split is SplitName.LOCKED_TEST and result["status"] == Status.OK:
            return {"status": Status.OK.value}
        take_result(self.store, trial, result, self.session.device)
        return {"status": str(result["status"])}

    def reflect(self, state: State) -> State:
        """Write down what the trial taught, and that its decision is carried out."""
        reflect(
            self.store,
            self.session,
            self.store.trial(state["trial"]),
            knowledge=lambda: effects_now(self.store, self.session).own,
            embedder=embedder_of(self.session.config),
        )
        if self.model is not None and not self.session.stopping.is_set():
            trial, room = self.store.trial(state["trial"]), room_of(self.session, "diagnostician")
            close_branches(self.store, self.session, trial, model=self.model, room=room)
        self.store.set_effect(f"decision/{state['decision']}/done", {"trial": state["trial"]})
        return {}

    def after_check(self, state: State) -> str:
        """Train what passed; repair what failed, a few times; else learn from it."""
        if state["status"] == Status.PLANNED:
            return "train"
        may_repair = state["status"] == Status.REJECTED and "proposal" in state
        return "repair" if may_repair and state.get("repairs", 0) < REPAIRS else "reflect"


def replace_id(trial: Trial) -> Trial:
    """Return a trial under the id that its choices give it."""
    return replace(trial, id=trial_id(trial))


def build(nodes: TrialGraph, checkpointer: Any) -> Any:
    """Return the compiled graph over its nodes."""
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(State)
    for name in (*NODES, "repair"):
        graph.add_node(name, getattr(nodes, name))
    graph.add_conditional_edges(
        START, lambda s: "check" if s.get("trial") else "propose", ["check", "propose"]
    )
    graph.add_edge("propose", "write")
    graph.add_edge("write", "check")
    graph.add_conditional_edges("check", nodes.after_check, ["train", "repair", "reflect"])
    graph.add_edge("repair", "write")
    graph.add_edge("train", "score")
    graph.add_edge("score", "reflect")
    graph.add_edge("reflect", END)
    return graph.compile(checkpointer=checkpointer)


def open_saver(path: Path) -> Any:
    """Return a checkpointer on its own connection; the caller closes `saver.conn`.

    The first one of a campaign must be opened by one thread alone: two that switch a new
    database to write-ahead logging at once lock each other out.
    """
    os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"
    os.environ["LANGSMITH_TRACING"] = "false"
    from langgraph.checkpoint.sqlite import SqliteSaver

    saver = SqliteSaver(sqlite3.connect(path, timeout=30, check_same_thread=False))
    saver.setup()
    return saver


def run_decision(nodes: TrialGraph, path: Path, state: State) -> str | None:
    """Carry out one decision, from wherever an earlier process left it; return its trial."""
    thread = f"decision-{state['decision']}"
    config = {"configurable": {"thread_id": thread}, "recursion_limit": 50}
    saver = open_saver(path)
    try:
        graph = build(nodes, saver)
        is_known = bool(graph.get_state(config).next)
        ended = graph.invoke(None if is_known else state, config, durability="sync")
        saver.delete_thread(thread)
    finally:
        saver.conn.close()
    return ended.get("trial") if ended else None
