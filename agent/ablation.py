"""Ablations, planned: a finalist without one of its modules, in the place of each.

Where the module was comes what the planned U-Net has there: the network is written again from
the proposal's other modules, or, where a language model wrote it, the module's class passes its
input on. It is committed on the finalist's own. All are planned, as trials of
the store, before the locked test is opened, which names them. On the locked test an ablated
network is set beside the confirmation's trainings; on search-val the finalist is trained again as
often, for its own readings there chose it, by luck as well. `agent/ablate.py` carries it out.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.children import is_library
from agent.graph import replace_id
from agent.motivation import title as title_of
from agent.network_source import network_source
from agent.neutral import neutral_source
from agent.session import Session
from agent.trials import ABLATED, network_hash
from memory.errors import PlannerError
from memory.records import Event, Figures, Kind, Module, Proposal, SplitName, Trial, short_id
from memory.store import Store
from sandbox.components import COMPONENTS
from sandbox.placement import problems

if TYPE_CHECKING:
    from agent.campaign import Campaign

RESULT = "ablation"
LEFT_OUT = "ablation_left_out"
PLAN = "ablation/plan"
ABLATION_SEED = 2000
PARTS = (SplitName.LOCKED_TEST, SplitName.SEARCH_VAL)
WHOLE = "with all its modules"


class Ablation(NamedTuple):
    """One network of an ablation, and its trials of each part in the order of their seeds.

    `finalist` is a trial. `module` is what was taken out; None is the finalist's own network,
    which has trials on search-val alone.
    """

    finalist: str
    commit: str
    title: str
    module: Module | None
    trials: dict[str, tuple[str, ...]]


class Draft(NamedTuple):
    """A network that an ablation needs, before it is committed; no source is the finalist's own."""

    module: Module | None
    title: str
    source: str | None


class Impossible(NamedTuple):
    """A module of a proposal that cannot be taken out, and why."""

    module: Module
    why: str


def plan(campaign: "Campaign", finalists: Sequence[Trial]) -> list[Ablation]:
    """Return the ablations of the finalists: planned once, as trials of the store, then kept.

    A campaign whose locked test was opened before it had any has none.
    """
    store = campaign.store
    known = store.effect(PLAN)
    if known is None:
        wanted = bool(campaign.session.config.ablation.seeds) and not store.test_accesses()
        known = write_plan(campaign, finalists if wanted else [])
    return [read(row) for row in known["ablations"]]


def write_plan(campaign: "Campaign", finalists: Sequence[Trial]) -> Figures:
    """Commit the ablated networks and store their trials as planned; return the plan."""
    session, store = campaign.session, campaign.store
    found, trials, events = list[Ablation](), list[Trial](), list[Event]()
    for finalist in finalists:
        drafts, lost = drafted(campaign, finalist)
        events += [impossible_event(finalist, one, at=session.now) for one in lost]
        for draft in drafts:
            own = trials_of(session, finalist, draft, commit=committed(session, finalist, draft))
            found.append(ablation_of(finalist, draft, own))
            trials += own
    with store.transaction():
        for trial in trials:
            store.add_trial(trial)
        for event in events:
            store.add_event(event)
        for one in found:
            if one.module is not None:
                store.set_effect(f"{ABLATED}/{one.commit}", {"component": one.module.component})
        return store.set_effect(PLAN, {"ablations": [row(one) for one in found]})


def drafted(campaign: "Campaign", finalist: Trial) -> tuple[list[Draft], list[Impossible]]:
    """Return the networks of a finalist's ablation, and the modules that cannot be taken out."""
    store, session = campaign.store, campaign.session
    assert finalist.proposal is not None
    assert finalist.commit is not None
    proposal = store.proposal(finalist.proposal)
    whole = session.networks().source(finalist.commit)
    is_written_so = writes(proposal) == whole
    drafts, lost = list[Draft](), list[Impossible]()
    for module in proposal.modules:
        why = obstacles(session, proposal, module) if is_library(proposal) else ""
        source = None if why else ablated(proposal, module, whole, is_written_so=is_written_so)
        if source is None:
            lost.append(Impossible(module, why or "its class was not found in the network"))
        else:
            drafts.append(Draft(module, f"without {named(module)}", source))
    return ([*drafts, Draft(None, WHOLE, None)] if drafts else []), lost


def writes(proposal: Proposal) -> str | None:
    """Return the network that a proposal's modules give; None where they give none."""
    try:
        return network_source(proposal)
    except PlannerError:
        return None


def ablated(proposal: Proposal, module: Module, whole: str, *, is_written_so: bool) -> str | None:
    """Return the network without a module: written again, or with a substitute that does nothing.

    A network that a language model wrote keeps its text; the module's class passes its input on.
    None where the text has no such class.
    """
    if is_written_so:
        return network_source(without(proposal, module))
    card = COMPONENTS.get(module.component)
    return neutral_source(whole, card.class_name if card else module.component)


def obstacles(session: Session, proposal: Proposal, module: Module) -> str:
    """Return why a proposal's other modules make no network; "" where they do."""
    rest = without(proposal, module).modules
    spec = session.plan.spec
    return "; ".join(problems(rest, dims=spec["dims"], n_stages=len(spec["features"])))


def without(proposal: Proposal, module: Module) -> Proposal:
    """Return a proposal without one of its modules, as the words of the ablated network have it."""
    title = f"{proposal.title}, without {named(module)}"
    return Proposal(
        id=proposal.id,
        title=title,
        motivation="An ablation: in the place of what was taken out is what nnU-Net planned.",
        modules=tuple(one for one in proposal.modules if one != module),
        refutation="That module is idle if this network scores as high as the whole one.",
        citations=proposal.citations,
        planner=proposal.planner,
        parent=proposal.parent,
    )


def named(module: Module) -> str:
    """Return a module as part of a title, e.g. 'nested skips (skip 1)'."""
    card = COMPONENTS.get(module.component)
    if card is None:
        return f"{module.component} ({module.position})"
    return card.title[:1] + title_of((module,))[1:]


def committed(session: Session, finalist: Trial, draft: Draft) -> str:
    """Keep an ablated network on the finalist's own commit; return its commit."""
    assert finalist.commit is not None
    if draft.source is None or draft.module is None:
        return finalist.commit
    return session.networks().commit(
        draft.source,
        branch=short_id(["ablation", finalist.commit, draft.module.component]),
        message=draft.title,
        trailers={"Proposal-Id": str(finalist.proposal), "Without": draft.module.component},
        parent=finalist.commit,
    )


def trials_of(session: Session, finalist: Trial, draft: Draft, *, commit: str) -> list[Trial]:
    """Return the planned trials of a network, part by part and seed by seed."""
    source = draft.source or session.networks().source(commit)
    parts = PARTS if draft.module is not None else (SplitName.SEARCH_VAL,)
    seeds = range(ABLATION_SEED, ABLATION_SEED + session.config.ablation.seeds)
    return [
        replace_id(
            Trial(
                id="",
                parent=finalist.id,
                branch=finalist.branch,
                proposal=finalist.proposal,
                commit=commit,
                kind=Kind.ABLATE,
                rung=session.last_rung,
                seed=seed,
                split=part,
                title=draft.title,
                iterations=session.iterations[-1],
                planned_at=session.now,
                network_hash=network_hash(source),
                batch_size=finalist.batch_size,
            )
        )
        for part in parts
        for seed in seeds
    ]


def ablation_of(finalist: Trial, draft: Draft, trials: Sequence[Trial]) -> Ablation:
    """Return a network of an ablation with its trials."""
    parts = {str(part): tuple(t.id for t in trials if t.split is part) for part in PARTS}
    return Ablation(finalist.id, str(trials[0].commit), draft.title, draft.module, parts)


def row(one: Ablation) -> Figures:
    """Return a network of an ablation as the plan keeps it."""
    module = None
    if one.module is not None:
        module = {**module_figures(one.module), "stages": list(one.module.stages)}
    trials = {part: list(names) for part, names in one.trials.items()}
    return {**one._asdict(), "module": module, "trials": trials}


def module_figures(module: Module) -> Figures:
    """Return a module's component and position."""
    return {"component": module.component, "position": module.position}


def read(found: Figures) -> Ablation:
    """Return a network of an ablation from the plan."""
    kept = found["module"]
    module = kept and Module(kept["component"], kept["position"], tuple(kept["stages"]))
    trials = {part: tuple(names) for part, names in found["trials"].items()}
    return Ablation(found["finalist"], found["commit"], found["title"], module, trials)


def impossible_event(finalist: Trial, one: Impossible, *, at: float) -> Event:
    """Return the event of a module that is not taken out."""
    text = f"leaves out the ablation without {named(one.module)}: {one.why}"
    figures: Figures = {"reason": "impossible", "why": one.why, "module": named(one.module)}
    figures |= {**module_figures(one.module), "trials": []}
    return Event(LEFT_OUT, text, figures, finalist.id, finalist.branch, at)


def open_trials(store: Store, ablations: Iterable[Ablation]) -> list[Trial]:
    """Return the trials that the opening of the locked test must name beside the confirmation's."""
    names = [name for one in ablations for name in one.trials[SplitName.LOCKED_TEST]]
    return store.trials_by_id(names)


def ablations(events: Iterable[Event]) -> list[Figures]:
    """Return what was found without each module, in the order in which it was told.

    Each row holds the figures of its event and, under "event", its number: module, component,
    position, stages, split, trials, whole_trials, commit, delta, low and high in Dice (the whole
    network minus that without the module), n_cases (patients), n_seeds, undefined (cases),
    is_higher_without.
    """
    return [{**e.figures, "event": e.id} for e in events if e.kind == RESULT]
