"""What is done once, before the first trial: preprocessing, measuring, fixing the protocol.

All of it is kept in the campaign folder, so that a second start finds it done.
"""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from agent.budget import left, spent
from agent.campaign import Notify
from agent.config import Config
from agent.containment import contain_campaign, unsafe_events
from agent.fold_data import keep_raw
from agent.rungs import Costs, iterations
from agent.session import Session, slots_of
from agent.trials import baseline_trial, write_job
from memory.errors import SandboxError
from memory.records import Event, Figures, SplitName, Status
from memory.store import Store
from sandbox import warm
from sandbox.engine import find_device, load_plan, prepare
from sandbox.executor import LocalExecutor, wait
from sandbox.isolation import Isolation, Limits, Mount

PREPARE_S = 6 * 3600.0
CALIBRATION = 20
CALIBRATION_STEP_S = 60.0
CALIBRATION_SEED = 10_000
WARM_S = 60.0
PARTS = (SplitName.SEARCH_VAL, SplitName.LOCKED_TEST)


def make_session(
    folder: Path,
    config: Config,
    store: Store,
    notify: Notify,
    *,
    unsafe_reason: str = "",
    may_weaken: bool = False,
) -> Session:
    """Return the session of a campaign, prepared and with its protocol fixed.

    `unsafe_reason` and `may_weaken` are as in `agent.run.run`.

    Raises:
        IsolationUnavailable: no isolation, or a weaker one than before.
    """
    isolation = contain_campaign(store, unsafe_reason=unsafe_reason, may_weaken=may_weaken)
    if isolation.reason:
        notify("unsafe", {"text": unsafe_events(store.events())[-1].text})
    is_warm = isolation.level == "A" and warm.offered(config.sandbox.start) is not None
    if is_warm:
        warm.ensure()  # it imports while the dataset is prepared
    campaign = store.campaign()
    device = campaign.protocol.get("device") or find_device(config.engine.device)
    if not (folder / "preprocessed" / "plan.json").exists():
        notify("preparing", {})
        prepare_data(folder, config, store, device=device, isolation=isolation)
    session = Session(
        folder=folder,
        config=config,
        plan=load_plan(folder),
        dataset=campaign.dataset,
        split=tuple(store.split()),
        iterations=tuple(campaign.protocol.get("rung_iterations", (CALIBRATION,))),
        device=device,
        slots=slots_of(config, device),
        isolation=isolation,
        executor=LocalExecutor(),
        unsafe_reason=isolation.reason,
    )
    if is_warm:
        warm.await_ready(warm.address(), WARM_S)
    return session if campaign.protocol else fix_protocol(session, store, notify)


def fix_protocol(session: Session, store: Store, notify: Notify) -> Session:
    """Measure the machine, fix the ladder and all else that both sides share; for good."""
    notify("measuring", {})
    costs = measure(session)
    config = session.config
    used = spent(store.events(), store.trials(), store.llm_calls(), now=time.time())
    seconds = left(config.budget, used).seconds
    ladder = iterations(config, costs=costs, seconds=seconds, slots=session.slots)
    session = replace(session, iterations=tuple(ladder))
    store.set_protocol(protocol(session))
    text = "rungs of " + ", ".join(str(n) for n in ladder) + " iterations"
    figures = {"iterations": ladder, **costs._asdict(), "slots": session.slots}
    store.add_event(Event("rungs", text, figures, at=time.time()))
    return session


def protocol(session: Session) -> Figures:
    """Return what both sides of every comparison have in common."""
    config, plan = session.config, session.plan
    return {
        "rung_iterations": list(session.iterations),
        "device": session.device,
        "slots": session.slots,
        "threads": config.engine.threads,
        "isolation": str(session.isolation),
        "start": config.sandbox.start,
        "configuration": plan.configuration,
        "batch_size": plan.batch_size,
        "patch_size": plan.spec["patch_size"],
        "plan": plan.spec,
        "mirroring": config.engine.mirroring,
        "baseline_seeds": config.baseline.seeds,
        "confirm_seeds": config.confirm.seeds,
        "finalists": config.confirm.finalists,
        "alpha": config.confirm.alpha,
        "margin": config.confirm.margin or None,  # None: resolved after the baselines
        "tolerance_mm": config.scoring.tolerance_mm,
        "metric": "dice",
    }


def prepare_data(
    folder: Path, config: Config, store: Store, *, device: str, isolation: Isolation
) -> None:
    """Run nnU-Net's fingerprint, plan and preprocessing; what was staged stays for folds."""
    for leftover in ("preprocessed", "preparing"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    name = store.campaign().dataset["folder"]
    mounts = [Mount(folder / "staging" / name, f"/raw/{name}")]
    mounts += [Mount(folder / "images" / part, f"/images/{part}") for part in PARTS]
    own = config.sandbox
    limits = Limits(wall_s=PREPARE_S, memory_mib=own.memory_mib, disk_mib=1 << 30)
    job = prepare_job(folder, config, store, device)
    prepare(folder, job, mounts=mounts, isolation=isolation, limits=limits)
    keep_raw(folder)


def prepare_job(folder: Path, config: Config, store: Store, device: str) -> Figures:
    """Return the job of the preprocessing, with paths as they are inside the sandbox."""
    facts, engine = store.campaign().dataset, config.engine
    name, ending = facts["folder"], facts["file_ending"]
    declared = json.loads((folder / "staging" / name / "dataset.json").read_text())

    def images(root: str, case: str) -> list[str]:
        channels = range(len(facts["channels"]))
        return [f"{root}/{case}_{channel:04d}{ending}" for channel in channels]

    def files(case: str) -> Figures:
        label = f"/raw/{name}/labelsTr/{case}{ending}"
        return {"images": images(f"/raw/{name}/imagesTr", case), "label": label}

    return {
        "dataset": name,
        "configuration": engine.configuration,
        "batch_size": engine.batch_size,
        "patch_size": list(engine.patch_size),
        "base_features": engine.base_features,
        "cpu_voxels": engine.cpu_voxels,
        "device": device,
        "threads": engine.threads,
        "dataset_json": declared,
        "train": {c.case: files(c.case) for c in store.split(SplitName.SEARCH_TRAIN)},
        "images": {
            str(part): {c.case: images(f"/images/{part}", c.case) for c in store.split(part)}
            for part in PARTS
        },
    }


def measure(session: Session) -> Costs:
    """Train nnU-Net's default network for a few iterations in every slot; return the costs.

    All slots at once, as in the campaign: alone, one would look faster than it will be.

    Raises:
        SandboxError: one of these trainings failed.
    """
    with ThreadPoolExecutor(session.slots) as pool:
        results = list(pool.map(lambda i: calibrate(session, i), range(session.slots)))
    steps = [float(r["claimed_loop_seconds"]) / CALIBRATION for r in results]
    fixed = [float(r["seconds"]) - float(r["claimed_loop_seconds"]) for r in results]
    return Costs(max(steps), max(fixed))


def calibrate(session: Session, number: int) -> Figures:
    """Run one short training of the baseline and return its result; no trial is recorded."""
    trial = baseline_trial(session, rung=0, seed=CALIBRATION_SEED + number)
    folder = write_job(session, trial, step_s=CALIBRATION_STEP_S)
    result = wait(session.executor, folder)
    if result["status"] != Status.OK:
        raise SandboxError(
            f"nnU-Net's default network could not be trained ({result.get('failure_class')}: "
            f"{result.get('failure_excerpt')}); the log is {folder / 'log.txt'}"
        )
    shutil.rmtree(folder)
    return result
