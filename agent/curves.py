"""What trainings reported of their own loss, kept in the store so that a figure needs no file.

The curve decides nothing: the process of the trial wrote it. It is read as data, thinned to
block means and kept once, under `curve/TRIAL`, when a report is first written after a training.
"""

import math
from pathlib import Path

from agent.trial_view import curve
from memory.records import Status
from memory.store import Store

CURVE = "curve/"
"""How the keys of effects begin that hold curves."""
MOST_POINTS = 200
DIGITS = 6
Losses = tuple[float | None, ...]


def keep_curves(store: Store, folder: Path) -> int:
    """Keep the curves of all trainings that ended well, have one and had none kept.

    Args:
        store: of the campaign, open for writing.
        folder: the campaign folder; `trials/ID/curve.json` is read, and parsed as hostile.

    Returns:
        How many were kept now. A second call keeps none.
    """
    known = kept_curves(store)
    missing = [trial.id for trial in store.trials(status=Status.OK) if trial.id not in known]
    read = ((name, curve(folder / "trials" / name)) for name in missing)
    found = {name: thinned(losses) for name, losses in read if losses}
    with store.transaction():
        for name, losses in found.items():
            store.set_effect(CURVE + name, {"loss": losses})
    return len(found)


def kept_curves(store: Store) -> dict[str, Losses]:
    """Return {trial: losses} of the curves that were kept."""
    rows = store.effects(CURVE)
    return {key.removeprefix(CURVE): tuple(row["loss"]) for key, row in rows.items()}


def thinned(losses: list[float]) -> list[float | None]:
    """Return at most 200 means over equally long blocks, rounded; None where one is not finite."""
    length = math.ceil(len(losses) / MOST_POINTS)
    blocks = [losses[start : start + length] for start in range(0, len(losses), length)]
    means = [math.fsum(block) / len(block) if finite(block) else None for block in blocks]
    return [None if mean is None else float(f"{mean:.{DIGITS}g}") for mean in means]


def finite(block: list[float]) -> bool:
    """Tell whether every value of a block is a finite number that a figure can show."""
    return all(math.isfinite(value) and abs(value) < 1e12 for value in block)
