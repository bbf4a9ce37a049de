"""Progress of a run: a live table in a terminal, nothing elsewhere.

What a trial says of its progress is hostile: it is read through `sandbox.collect`, and used
for nothing but the bar. Titles may be a language model's: one line each, bounded.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from agent.budget import left, spent
from agent.session import Session
from agent.tree_view import evidence_of, incumbent
from agent.view import latest_budget
from agent.wording import clip, one_line
from memory.errors import CollectError
from memory.records import Status, Trial
from memory.store import Store
from sandbox.clean import clean_text
from sandbox.collect import collect_json

EVERY_S = 1.0
LONGEST = 200
TRAINING = "training"


class Display:
    """Follows a run in the terminal; `notify` is called by the loop."""

    def __init__(self, console: Console) -> None:
        """Show nothing yet."""
        self.console = console
        self.session: Session | None = None
        self.headline = "starting"
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self.tasks: dict[str, Any] = {}

    def notify(self, what: str, detail: dict[str, Any]) -> None:
        """Take what the loop tells."""
        if what == "ready":
            self.session = detail["session"]
            self.headline = TRAINING
        elif what in ("preparing", "measuring", "confirming"):
            self.headline = {
                "preparing": "preprocessing with nnU-Net",
                "measuring": "measuring this machine",
                "confirming": "confirming on the locked test",
            }[what]
        elif what == "unsafe":
            text = clean_text(detail["text"])
            self.console.print(text, style="bold red", markup=False, highlight=False)
        elif what == "note":
            text = clean_text(detail["text"])
            self.console.print(text, style="yellow", markup=False, highlight=False)
        elif what in ("cut", "started") and self.console.is_terminal:
            text = clip(one_line(detail["text"]), LONGEST)
            self.console.print(text, style="dim", markup=False)

    def render(self) -> Group:
        """Return the table as it stands."""
        if self.session is None:
            return Group(Text(self.headline))
        with Store.open(self.session.folder / "campaign.db", read_only=True) as store:
            running = store.trials(status=Status.RUNNING)
            self.update(running)
            return Group(Text(self.line(store)), self.bars)

    def doing(self, store: Store) -> str:
        """Return what the run does now, and that the language model is lost where it is."""
        assert self.session is not None
        is_idle = self.headline == TRAINING and not self.tasks
        now = "planning the next training" if is_idle else self.headline
        if self.session.config.planner != "llm":
            return now
        from agent.fallback import BACK, LOST

        last = store.last_event((LOST, BACK))
        is_lost = last is not None and last.kind == LOST
        return f"{now} | the language model is lost" if is_lost else now

    def line(self, store: Store) -> str:
        """Return the line above the bars: best so far, time left."""
        lead = incumbent(store)
        from agent.standings import Standings

        found = evidence_of(Standings(store), lead) if lead else None
        best = f"best {found.delta:+.4f} Dice (rung {lead.rung})" if lead and found else "best: -"
        used = spent(store.events(), store.trials(), store.llm_calls(), now=time.time())
        free = left(latest_budget(store), used).seconds
        ends = f"{free / 60:.0f} min left" if free != float("inf") else "no time limit"
        return f"{self.doing(store)} | {best} | {used.trials} trials | {ends}"

    def update(self, running: list[Trial]) -> None:
        """Add, move and remove bars."""
        for trial in running:
            if trial.id not in self.tasks:
                title = clip(one_line(trial.title), 40)
                name = f"{trial.id[:6]} {trial.kind} rung {trial.rung} {title}"
                total = trial.iterations or 1
                self.tasks[trial.id] = self.bars.add_task(name, total=total, state="")
            done = self.iteration(trial)
            state = "predicting" if done == trial.iterations else f"{done}/{trial.iterations}"
            self.bars.update(self.tasks[trial.id], completed=done, state=state)
        for gone in set(self.tasks) - {t.id for t in running}:
            self.bars.remove_task(self.tasks.pop(gone))

    def iteration(self, trial: Trial) -> int:
        """Return how far a training says it is."""
        assert self.session is not None
        try:
            out = self.session.trial_folder(trial.id) / "train" / "out"
            said = collect_json(out, "progress.json", max_bytes=4096).get("iteration")
        except CollectError:
            return 0
        return said if isinstance(said, int) and 0 <= said <= (trial.iterations or 0) else 0

    def __rich__(self) -> Group:
        """Return the table for the live display."""
        return self.render()


@contextmanager
def following(display: Display) -> Iterator[None]:
    """Show the display while the block runs; only where the output is a terminal."""
    if not display.console.is_terminal:
        yield
        return
    refresh = 1 / EVERY_S
    with Live(display, console=display.console, refresh_per_second=refresh, transient=True):
        yield
