"""Trials of the default network as a campaign starts them: submitted, waited for, scored.

A trial is everything from its job to its published result: the supervisor, training,
weighing and prediction in a sandbox each, collection and scoring.
"""

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from agent.preparation import CALIBRATION, measure
from agent.rungs import iterations
from agent.session import Session
from agent.trials import baseline_trial, write_job
from bench.demo import HOURS
from bench.resources import Cost, measured
from memory.errors import SegwrightError
from memory.records import Status
from sandbox import warm
from sandbox.executor import wait
from sandbox.processes import TICKS_A_SECOND, descendants, stat_fields

STEP_S = 120.0
SEEDS = count(1)


def starting(session: Session, start: str) -> Session:
    """Return a session whose trials start warm or cold."""
    config = session.config
    return replace(session, config=replace(config, sandbox=replace(config.sandbox, start=start)))


def mirroring(session: Session) -> Session:
    """Return a session whose trials mirror at inference."""
    config = session.config
    return replace(session, config=replace(config, engine=replace(config.engine, mirroring=True)))


def new_job(session: Session) -> Path:
    """Write the job of a trial with a seed of its own and return its folder."""
    return write_job(session, baseline_trial(session, rung=0, seed=next(SEEDS)), step_s=STEP_S)


def run_trial(session: Session) -> dict[str, Any]:
    """Run one trial and return its result.

    Raises:
        SegwrightError: it failed, or it did not start as its session says.
    """
    folder = new_job(session)
    result = wait(session.executor, folder)
    if result["status"] != Status.OK or not result["scores"]:
        raise SegwrightError(f"trial {folder} failed: {result.get('failure_excerpt')}")
    wanted = session.config.sandbox.start
    if result["start"] != wanted:
        raise SegwrightError(f"trial {folder} had a {result['start']} start, not a {wanted} one")
    return result


def trial_cost(session: Session) -> Cost:
    """Return what one trial costs, warm parent included; the parent's own imports are not."""
    return measured(lambda: run_trial(session), *warm_parents())


def warm_parents() -> tuple[int, ...]:
    """Return the process number of the warm parent; nothing where none listens."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(warm.address()))
        except OSError:
            return ()
        content = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return (int(struct.unpack("3i", content)[0]),)


@contextlib.contextmanager
def warmed() -> Iterator[float]:
    """Hold a warm parent for the block; one that was not there before is ended after it.

    Yields the CPU seconds that the parent itself has used so far, nearly all of them imports.

    Raises:
        SegwrightError: it does not start.
    """
    address = warm.ensure()
    if not warm.await_ready(address):
        raise SegwrightError(f"the warm parent does not start; see {address}.log")
    (parent,) = warm_parents()
    is_ours = parent in descendants(os.getpid())
    try:
        yield sum(int(ticks) for ticks in stat_fields(parent)[11:13]) / TICKS_A_SECOND
    finally:
        if is_ours:
            os.kill(parent, signal.SIGTERM)


def first_rung(session: Session) -> int:
    """Return the iterations of the demo's first rung, measured and planned as the demo does."""
    costs = measure(replace(session, iterations=(CALIBRATION,)))
    seconds = HOURS * 3600
    return iterations(session.config, costs=costs, seconds=seconds, slots=session.slots)[0]


def hourly(session: Session, *, rung: int, rounds: int) -> list[float]:
    """Return the trials that an hour holds, for each round of one trial in every slot."""
    session, rates = replace(session, iterations=(rung,)), []
    for _ in range(rounds):
        begin = time.monotonic()
        with ThreadPoolExecutor(session.slots) as pool:
            done = list(pool.map(lambda _: run_trial(session), range(session.slots)))
        rates.append(len(done) / (time.monotonic() - begin) * 3600)
    return rates
