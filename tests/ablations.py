"""Scripted campaigns whose finalist is confirmed, and how they are killed and gone on with."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import confirm as confirmation
from agent.config import BudgetConfig
from agent.run import drive
from memory.records import Kind, SplitName, Trial
from memory.store import Store
from sandbox.components import COMPONENTS
from tests.scripted import ScriptedExecutor, new_campaign, session_of

ENOUGH = 90  # cases, of which fifty are locked: the fewest that a claim may rest on
WITHOUT = ", without "
CLASSES = {card.class_name for card in COMPONENTS.values()}


class Killed(BaseException):
    """Stands for the death of the process at this instant."""


def quiet(what: str, detail: dict[str, Any]) -> None:
    """Show nothing."""


def better(source: str) -> float:
    """Make each module of a network add to it."""
    return 0.04 * sum(f"class {name}(" in source for name in CLASSES)


def luckier(source: str) -> float:
    """Make every ablated network better than the whole one."""
    return 0.2 if WITHOUT in source.split("\n\n")[0].replace("\n", " ") else better(source)


def worse(source: str) -> float:
    """Make every network worse than the baseline."""
    return -0.05


def store_of(folder: Path) -> Store:
    """Open a campaign's store for reading."""
    return Store.open(folder / "campaign.db", read_only=True)


def unused_campaign(root: Path, *, cases: int = ENOUGH, **settings: Any) -> Path:
    """Make a campaign that goes straight from its search to the confirmation."""
    return new_campaign(
        root, cases=cases, selection={"folds": 0}, **{"ablation": {"early": False}, **settings}
    )


def run(
    folder: Path,
    gain: Callable[[str], float] = better,
    *,
    executor: ScriptedExecutor | None = None,
    budget: BudgetConfig | None = None,
) -> ScriptedExecutor:
    """Run a campaign to its end; return what ran its trials."""
    made = executor or ScriptedExecutor(folder, gain=gain)
    session = session_of(folder, made, budget=budget or BudgetConfig(trials=8))
    assert drive(session, quiet) == "done"
    return made


def trained(unused: Path, folder: Path, gain: Callable[[str], float] = better) -> Path:
    """Return a campaign that was killed when all was trained for the locked test, still shut."""
    shutil.copytree(unused, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirmation, "plan", killing)
        with pytest.raises(Killed):
            run(folder, gain)
    return folder


def killing(*_: Any, **__: Any) -> Any:
    """Die."""
    raise Killed


def ablated(store: Store, part: SplitName | None = None) -> list[Trial]:
    """Return the ablations of a part, or of all."""
    return [t for t in store.trials(kind=Kind.ABLATE) if part in (None, t.split)]
