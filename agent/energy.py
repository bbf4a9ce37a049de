"""What the trainings of a campaign drew: an estimate from measured time and a stated power. Pure.

    E = PUE * (t_core * P_core + t_gpu * P_gpu) / 3.6e6 J/kWh

E in kWh, t in seconds, P in W: the sum over parts times the PUE as Henderson et al. 2020
(arXiv:2002.05651), with power taken from tables as Lannelongue et al. 2021
(doi:10.1002/advs.202100707) do where no meter is read. `t_core` is CPU time: one busy core for one
second counts one. `t_gpu` is the time that a training held a card.

A core has the 12 W, a card the 200 W that the tables of Lannelongue et al. give for any CPU and any
GPU; a card has its power limit instead where the environment holds it. The PUE is one: the machine
alone, without the cooling of a building. No CO2 is derived, because nobody said how the
electricity was made.

Covered: trainings and predictions, whatever became of them. Not covered: memory, disks, idle cores,
the preparation of data, scoring, the graphics part of an Apple processor, and calls to language
models, which run elsewhere.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from agent.fact_book import FactBook
from agent.formats import UNDEFINED, number
from agent.report_rows import SEARCH_KINDS, Rows
from agent.run_facts import ended, is_failed
from memory.records import Status, Trial

CORE_W = 12.0
GPU_W = 200.0
PUE = 1.0
J_PER_KWH = 3.6e6
GPU_LIMIT = "gpu_power_limit_w"
"""Name in the environment of a card's power limit in W."""


class Power(NamedTuple):
    """What is assumed: W of a busy core and of a card in use, and the PUE, at least one.

    `is_gpu_known` says that `gpu_w` is the card's own limit.
    """

    core_w: float = CORE_W
    gpu_w: float = GPU_W
    pue: float = PUE
    is_gpu_known: bool = False


class Energy(NamedTuple):
    """What some trainings drew.

    Attributes:
        trials: how many there are.
        core_s: CPU time in s.
        gpu_s: time on cards in s.
        kwh: energy in kWh; NaN where there are trainings and the time of none is known.
        assumed: trainings whose CPU time is their duration times the threads.
        unmeasured: trainings without any time, which count nothing.
    """

    trials: int
    core_s: float
    gpu_s: float
    kwh: float
    assumed: int
    unmeasured: int


class Spent(NamedTuple):
    """The time of one training: CPU and GPU in s, and whether the former was assumed."""

    core_s: float
    gpu_s: float
    is_assumed: bool


def power_of(environment: Mapping[str, Any]) -> Power:
    """Return the power to reckon with on a machine."""
    limit = environment.get(GPU_LIMIT)
    if isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit < math.inf:
        return Power(gpu_w=float(limit), is_gpu_known=True)
    return Power()


def time_of(trial: Trial, *, threads: int, device: str) -> Spent | None:
    """Return what a training spent; None where no time of it is known.

    A network that was rejected was never trained and spent nothing.

    Args:
        trial: one that ended.
        threads: that each training computes with, 1 or more.
        device: of the campaign; "" where it never came to that.
    """
    gpu_s = trial.gpu_seconds
    if gpu_s is None:
        gpu_s = trial.seconds or 0.0 if device == "cuda" else 0.0
    if trial.cpu_seconds is not None:
        return Spent(trial.cpu_seconds, gpu_s, is_assumed=False)
    if trial.seconds is not None:
        return Spent(trial.seconds * threads, gpu_s, is_assumed=True)
    return Spent(0.0, 0.0, is_assumed=False) if trial.status is Status.REJECTED else None


def energy_of(trials: Iterable[Trial], power: Power, *, threads: int, device: str) -> Energy:
    """Return what trainings drew; see the formula of this module."""
    found = [time_of(trial, threads=threads, device=device) for trial in trials]
    known = [spent for spent in found if spent is not None]
    core_s = math.fsum(spent.core_s for spent in known)
    gpu_s = math.fsum(spent.gpu_s for spent in known)
    joules = power.pue * (core_s * power.core_w + gpu_s * power.gpu_w)
    return Energy(
        trials=len(found),
        core_s=core_s,
        gpu_s=gpu_s,
        kwh=joules / J_PER_KWH if known or not found else math.nan,
        assumed=sum(spent.is_assumed for spent in known),
        unmeasured=len(found) - len(known),
    )


def kwh(value: float) -> str:
    """Return an energy with two significant digits, or more where it is large: "0.022 kWh"."""
    if math.isnan(value):
        return UNDEFINED
    decimals = 0 if value == 0 else max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{number(value, decimals)} kWh"


def groups(rows: Rows) -> dict[str, list[Trial]]:
    """Return the trainings that ended: all, those without scores, those of ideas that were cut.

    A training without scores is not among those of cut ideas as well.
    """
    final = ended(rows)
    cut = {branch.id for branch in rows.branches if branch.state == "cut"}
    of_cut = [t for t in final if t.kind in SEARCH_KINDS and t.branch in cut and not is_failed(t)]
    return {"all": final, "failed": [t for t in final if is_failed(t)], "cut": of_cut}


def add_energy_facts(book: FactBook, rows: Rows) -> None:
    """Add what each group of trainings drew, and what that rests on."""
    campaign = rows.campaign
    power = power_of(campaign.environment)
    threads = int(campaign.protocol.get("threads") or 1)
    device = str(campaign.protocol.get("device", ""))
    for name, trials in groups(rows).items():
        found = energy_of(trials, power, threads=threads, device=device)
        sources = [f"trial:{t.id}" for t in trials]
        book.count(f"energy.{name}.trials", found.trials, sources)
        book.seconds(f"energy.{name}.core_time", found.core_s, sources)
        book.seconds(f"energy.{name}.gpu_time", found.gpu_s, sources)
        book.measure(f"energy.{name}.kwh", found.kwh, kwh(found.kwh), [*sources, "campaign"])
        book.count(f"energy.{name}.assumed", found.assumed, [*sources, "protocol"])
        book.count(f"energy.{name}.unmeasured", found.unmeasured, sources)
    book.measure("energy.core_power", power.core_w, f"{power.core_w:g} W", ["campaign"])
    book.measure("energy.gpu_power", power.gpu_w, f"{power.gpu_w:g} W", ["campaign"])
    book.measure("energy.pue", power.pue, f"{power.pue:g}", ["campaign"])
    known = "power limit of the card" if power.is_gpu_known else "assumed"
    book.words("energy.gpu_power_by", known, ["campaign"])
