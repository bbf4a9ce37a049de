"""The margin of a campaign, in the store: resolved once the baselines show what can be detected.

The event `noise` holds what was measured and the margin that follows; it is written before the
first proposal, and again only where an amendment changed what it rests on. `margin` is the one
place where the margin is read. A margin of the user's own below what can be detected is refused,
unless the command line says otherwise; then an event `low_power` is kept. Campaigns from before
protocols were declared are not measured, and keep the margin of their settings.
"""

import math
import time

import numpy as np

from agent.amendments import LOW_POWER
from agent.config import Config
from agent.noise import (
    Noise,
    is_low,
    margin_of,
    measured,
    planned,
    remembered,
    with_more_seeds,
)
from agent.paired import by_patient
from agent.protocol import MARGIN_RULE, PROTOCOL
from agent.standings import Setup, Standings
from agent.wording import bare_points, counted
from memory.errors import ConfigError
from memory.records import Event, Figures, SplitName
from memory.store import Store

NOISE = "noise"
MOST_SOUGHT = 0.02
COARSE = (
    "that is more than published networks gain: a longer budget, more confirm.seeds or more locked "
    "cases find less"
)


def margin(store: Store, config: Config) -> float:
    """Return the gain in Dice that counts.

    Before the baselines have shown what can be detected, a margin that is left to the campaign
    is half a point.
    """
    wanted = config.confirm.margin
    found = None if wanted > 0 else store.last_event((NOISE,))
    return margin_of(wanted, found.figures["detectable"] if found else 0.0)


def search_margin(store: Store, config: Config) -> float:
    """Return the gain in Dice that the search looks for: the margin, two points at most.

    With few locked patients the margin may be more than any network gains. A search that cut
    whatever cannot reach it would find nothing, not even what the report calls a lead.
    """
    return min(margin(store, config), MOST_SOUGHT)


def warning(store: Store, config: Config) -> list[str]:
    """Return what is to be said before the baselines of a margin that is likely too small."""
    if not store.events(kind=PROTOCOL) or known(store, config) is not None:
        return []
    noise = planned(**plan(store, config))
    if not is_low(config.confirm.margin, noise):
        return []
    return [
        f"{too_small(config.confirm.margin, noise)} if noise is as usual; it is measured on the "
        f"baseline, and `run` stops there unless it can detect as little: {ways_out(noise)}"
    ]


def settle(store: Store, config: Config, rung: int, *, accepts: bool = False) -> list[str]:
    """Measure the noise of the baselines at the last rung, and fix the margin; once for a plan.

    Args:
        store: of the campaign; its baselines have ended.
        config: the settings of the run.
        rung: number of the last one.
        accepts: the user goes on with a margin below what can be detected.

    Returns:
        The texts of the events that were stored now.

    Raises:
        ConfigError: the user's margin is below what can be detected.
    """
    if not store.events(kind=PROTOCOL):
        return []
    texts, noise = [], known(store, config)
    if noise is None:
        noise = of_baseline(store, config, rung)
        texts.append(worded(noise, config))
        store.add_event(Event(NOISE, texts[0], noise_figures(noise, config), at=time.time()))
    if is_low(config.confirm.margin, noise) and not is_accepted(store, config):
        texts.append(low_text(noise, config, accepts=accepts))
        store.add_event(Event(LOW_POWER, texts[-1], low_figures(noise, config), at=time.time()))
    return texts


def low_text(noise: Noise, config: Config, *, accepts: bool) -> str:
    """Return what is kept of a margin below what can be detected, where the user accepts it.

    Raises:
        ConfigError: the user does not.
    """
    small = too_small(config.confirm.margin, noise)
    if not accepts:
        raise ConfigError(f"{small}; {ways_out(noise)}")
    return f"{small}; goes on, as the user said"


def plan(store: Store, config: Config) -> Figures:
    """Return the locked test that is planned: patients, seeds of each side, alpha."""
    patients = {case.patient for case in store.split(SplitName.LOCKED_TEST)}
    return {
        "cases": len(patients),
        "seeds": config.confirm.seeds,
        "alpha": config.confirm.alpha,
    }


def is_planned(store: Store, config: Config, figures: Figures) -> bool:
    """Tell whether an event's figures are those of the test that is planned now."""
    now = plan(store, config) | {"wanted": config.confirm.margin}
    return all(figures[name] == value for name, value in now.items())


def known(store: Store, config: Config) -> Noise | None:
    """Return what was measured, where it still holds; else None."""
    event = store.last_event((NOISE,))
    is_same = event is not None and is_planned(store, config, event.figures)
    return remembered(event.figures) if event is not None and is_same else None


def is_accepted(store: Store, config: Config) -> bool:
    """Tell whether the user has accepted this margin for the test that is planned."""
    return any(is_planned(store, config, e.figures) for e in store.events(kind=LOW_POWER))


def of_baseline(store: Store, config: Config, rung: int) -> Noise:
    """Return the noise of the baseline's repeats at a rung; as usual where they are too few."""
    runs = Standings(store).baseline.get(Setup(rung), {}).values()
    each = [{case: value for case, value in run.items() if value is not None} for run in runs]
    shared = set.intersection(*map(set, each)) if each else set()
    known = {c.case: c.patient for c in store.split(SplitName.SEARCH_VAL) if c.case in shared}
    if len(each) < 2 or len(set(known.values())) < 2:
        return planned(**plan(store, config))
    scores = np.array([[run[case] for case in known] for run in each])
    return measured(by_patient(scores, list(known.values())), **plan(store, config))


def noise_figures(noise: Noise, config: Config) -> Figures:
    """Return what the event `noise` holds: the noise, the margin as wanted and as it is, the rule."""
    wanted = config.confirm.margin
    own = {"wanted": wanted, "margin": margin_of(wanted, noise.detectable), "rule": MARGIN_RULE}
    return {**noise.figures, **own}


def low_figures(noise: Noise, config: Config) -> Figures:
    """Return what the event `low_power` holds: the margin, the planned test, what it detects."""
    wanted = config.confirm.margin
    names = ("cases", "seeds", "alpha", "detectable", "power")
    return {"wanted": wanted, "margin": wanted, **{name: noise.figures[name] for name in names}}


def worded(noise: Noise, config: Config) -> str:
    """Return what was measured and what follows, in points of Dice."""
    own = noise.figures
    run, resid = bare_points(own["run_sd"]), bare_points(own["resid_sd"])
    seen = f"{counted(noise.seen_seeds, 'repeat')} of the baseline on {counted(noise.seen_cases, 'subject')}"
    basis = seen if noise.seen_seeds else "too few scores of the baseline, noise as usual"
    found = bare_points(margin_of(config.confirm.margin, noise.detectable))
    hint = f"; {COARSE}" if noise.detectable > MOST_SOUGHT else ""
    return (
        f"{basis}: SD {run} points over seeds, {resid} over subjects beyond; {test_of(noise)} "
        f"{bare_points(noise.detectable)} points or more; the margin is {found} points{hint}"
    )


def test_of(noise: Noise) -> str:
    """Return the planned test as the beginning of a sentence about what it detects."""
    return f"{counted(noise.cases, 'locked subject')} and {counted(noise.seeds, 'seed')} detect"


def too_small(wanted: float, noise: Noise) -> str:
    """Return that a margin is below what can be detected."""
    least = f"{bare_points(noise.detectable)} points or more"
    return f"confirm.margin is {bare_points(wanted)} points, and {test_of(noise)} {least}"


def ways_out(noise: Noise) -> str:
    """Return what the user can do about too small a margin."""
    more = [f"{seeds} ({bare_points(found)} points)" for seeds, found in with_more_seeds(noise)]
    seeds = f"confirm.seeds to {' or '.join(more)}, or " if more else ""
    enough = math.ceil(1000 * noise.detectable) / 1000
    return (
        f"set {seeds}confirm.margin to {enough:g} or more (0: as much as needed) with "
        "`--amend-protocol REASON`, or go on with `run --accept-low-power`"
    )
