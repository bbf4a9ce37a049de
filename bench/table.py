"""`segwright bench table`: real trials of real networks, for policies to be replayed on.

Each network of `bench/table_networks.py` is trained at two rungs with three seeds, nnU-Net's
default network with five, all of them as a campaign does it: dry run, supervisor, sandboxes,
trusted scorer. The dataset is hippocampus in 2d: 122 cases of search-train, 30 of search-val, and
the smallest locked test that is allowed, for it is not read.

A table that is whole (`bench/table_rows.py` has its files) is not made again: remove both files
for that. Made in part, it goes on where it stood; trials under way are kept in a work folder, by
default segwright-table under TMPDIR. `python -I -m bench.table` takes other folders.
"""

import json
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from agent.config import parse_config
from agent.new_campaign import create
from agent.preparation import make_session
from agent.session import Session
from agent.trials import network_hash, read_scores, write_code, write_job, write_text
from bench.figures import Figure
from bench.table_figures import figures
from bench.table_networks import Network, networks
from bench.table_rows import (
    BASELINE,
    FOLDER,
    NETWORKS,
    TRIALS,
    Ladder,
    Listed,
    Row,
    Table,
    is_whole,
    key,
    mean,
    read_table,
    write_table,
)
from memory.records import Kind, Metric, SplitName, Status, Trial, short_id
from memory.store import Store
from sandbox.executor import wait
from sandbox.failures import status_of
from sandbox.means import case_mean

Say = Callable[[str], None]

DATA = Path("../shared/data/Dataset004_Hippocampus")
SETTINGS: Mapping[str, Any] = {
    # As few locked cases as may be: they are never read.
    "split": {"test_fraction": 0.05, "min_test": 1, "val_fraction": 0.2},
    # Small enough for two cores, wide enough to learn within the first rung.
    "engine": {
        **{"configuration": "2d", "device": "cpu", "slots": 2},
        **{"base_features": 16, "batch_size": 2},
    },
    "rungs": {"checkpoint": 0.0},
    "sandbox": {"memory_mib": 3072},
}
DRY_RUN_S = 300.0
# A busy machine must not look like a slow network.
PATIENCE = 3.0
STEP_S = 0.2
LADDER = Ladder()


@dataclass(frozen=True, slots=True)
class Task:
    """A trial to be made."""

    network: Network | None
    rung: int
    seed: int

    @property
    def id(self) -> str:
        """Id of its network."""
        return self.network.id if self.network else BASELINE


def run(*, is_quick: bool, data: Sequence[Path], say: Say) -> dict[str, Figure]:
    """Make what is missing of the table and return its figures.

    Args:
        is_quick: make nothing; figures of what is there.
        data: the dataset, where it is not beside the program.
        say: told what comes next.

    Raises:
        SegwrightError: there is no table and no dataset to make it from.
    """
    source = data[0] if data else FOLDER.parent / DATA
    if not is_quick:
        complete(source, say=say)
    return figures(read_table())


def complete(
    data: Path,
    *,
    say: Say,
    out: Path = FOLDER,
    work: Path | None = None,
    ladder: Ladder = LADDER,
    wanted: Sequence[Network] | None = None,
) -> None:
    """Make every trial that the table in `out` lacks; each is written as it ends.

    Raises:
        SegwrightError: the dataset is not there, or the sandbox failed.
    """
    before = read_table(out) if (out / TRIALS).exists() else None
    if before is not None and is_whole(before, ladder):
        say(f"{out / TRIALS} is whole; remove it, and {NETWORKS}, to make it again")
        return
    made = list(wanted or networks())
    folder = work or Path(tempfile.gettempdir(), "segwright-table")
    say(f"work is kept in {folder}")
    session = opened(folder, data.resolve(), ladder)
    Maker(session, out, made, say, before).make(tasks(made, ladder))


def tasks(made: Sequence[Network], ladder: Ladder) -> list[Task]:
    """Return all trials, a seed after the other, so that a part of the table is of use."""
    found = []
    for seed in sorted({*ladder.seeds, *ladder.baseline_seeds}):
        for rung in range(len(ladder.iterations)):
            found += [Task(None, rung, seed)] * (seed in ladder.baseline_seeds)
            found += [Task(network, rung, seed) for network in made if seed in ladder.seeds]
    return found


def opened(work: Path, data: Path, ladder: Ladder) -> Session:
    """Return the session of the campaign in a work folder, made and prepared where it is new."""
    values = {**SETTINGS, "dataset": {"path": str(data)}}
    config = parse_config(values)
    folder = work / short_id([values, ladder.iterations])
    if not folder.exists():
        create(folder, config)
    with Store.open(folder / "campaign.db") as store:
        # Its rungs are given: a campaign with a protocol is not measured for one.
        store.set_protocol({"rung_iterations": list(ladder.iterations), "device": "cpu"})
        return make_session(folder, config, store, lambda what, detail: None)


class Maker:
    """Makes trials side by side and writes each into the table as it ends."""

    def __init__(
        self, session: Session, out: Path, made: Sequence[Network], say: Say, before: Table | None
    ) -> None:
        """Take over what a table that was made in part holds of the same networks."""
        self.session, self.out, self.say = session, out, say
        self.listed = (Listed(BASELINE, "", "", "nnU-Net default", "", ""), *map(listed, made))
        self.cases = tuple(sorted(session.cases(SplitName.SEARCH_VAL)))
        self.rows: dict[tuple[str, int, int], Row] = {}
        self.planning = defaultdict[str, threading.Lock](threading.Lock)
        if before and before.cases == self.cases:
            same = {one.id for one in {*before.networks} & {*self.listed}}
            kept = (row for row in before.rows if row.network in same)
            self.rows = {
                key(row): row for row in kept if row.iterations == session.iterations[row.rung]
            }

    def make(self, wanted: Sequence[Task]) -> None:
        """Make what is missing.

        Raises:
            SegwrightError: the sandbox failed; what was made is kept.
        """
        missing = [task for task in wanted if (task.id, task.rung, task.seed) not in self.rows]
        self.write()
        with ThreadPoolExecutor(self.session.slots) as pool:
            running = [pool.submit(self.trial, task) for task in missing]
            try:
                for done, one in enumerate(as_completed(running), 1):
                    row = one.result()
                    self.rows[key(row)] = row
                    self.write()
                    self.say(f"{done} of {len(missing)}: {told(row)}")
            except BaseException:
                self.session.stopping.set()
                pool.shutdown(cancel_futures=True)
                raise

    def trial(self, task: Task) -> Row:
        """Make one trial, or find it made."""
        session, network = self.session, task.network
        trial = planned(session, task)
        dry: dict[str, Any] = self.dry_run(network) if network else {"step_s": STEP_S}
        if dry.get("failure"):
            return row_of(task, session, {**dry, "status": status_of(dry["failure"])}, self.cases)
        folder = session.trial_folder(trial.id)
        if not (folder / "job.json").exists():
            write_code(session, trial)
            write_job(session, trial, step_s=PATIENCE * dry["step_s"])
        result = wait(session.executor, folder, is_stopped=session.stopping.is_set)
        return row_of(task, session, {**result, "failure": result.get("failure_class")}, self.cases)

    def dry_run(self, network: Network) -> dict[str, Any]:
        """Run a network dry, once for all of its trials."""
        session = self.session
        folder = session.folder / "dry" / network_hash(network.source)[:12]
        with self.planning[network.id]:
            if not (folder / "dry.json").exists():
                code = folder / "code" / "network.py"
                write_text(code, network.source)
                found = session.dry_run(
                    session.plan,
                    code,
                    folder=folder,
                    device=session.device,
                    threads=session.config.engine.threads,
                    isolation=session.isolation,
                    limits=session.limits(DRY_RUN_S),
                    named_modules=network.named,
                    start=session.config.sandbox.start,
                )
                seconds = sum(verdict.seconds for verdict in found.verdicts)
                said = {
                    "failure": found.failure,
                    "text": found.text,
                    "seconds": seconds,
                    "parameters": found.parameters,
                    "step_s": found.step_seconds,
                }
                write_text(folder / "dry.json", json.dumps(said))
            known: dict[str, Any] = json.loads((folder / "dry.json").read_text())
        return known

    def write(self) -> None:
        """Write the table as far as it is made."""
        order = {one.id: place for place, one in enumerate(self.listed)}
        rows = sorted(self.rows.values(), key=lambda row: (order[row.network], *key(row)))
        write_table(self.out, Table(self.listed, self.cases, tuple(rows)))


def planned(session: Session, task: Task) -> Trial:
    """Return the trial of a task, its network committed; the same source has the same trial."""
    source = task.network.source if task.network else ""
    commit = None
    if task.network:
        commit = session.networks().commit(
            source, branch=network_hash(source), message=task.network.title, trailers={}
        )
    iterations = session.iterations[task.rung]
    return Trial(
        id=short_id([source, iterations, task.seed]),
        parent=None,
        branch=None,
        proposal=None,
        commit=commit,
        kind=Kind.DRAFT if task.network else Kind.BASELINE,
        rung=task.rung,
        seed=task.seed,
        split=SplitName.SEARCH_VAL,
        iterations=iterations,
    )


def row_of(task: Task, session: Session, result: Mapping[str, Any], cases: Sequence[str]) -> Row:
    """Return the row of a result, or of a dry run that failed."""
    dice = case_mean(read_scores("", result.get("scores", [])), Metric.DICE)
    status = Status(result["status"])
    return Row(
        task.id,
        task.rung,
        session.iterations[task.rung],
        task.seed,
        status,
        result["failure"] or "",
        round(result["seconds"], 1),
        round(result.get("cpu_seconds") or 0.0, 1),
        result.get("parameters") or 0,
        tuple(dice.get(case) for case in cases) if status == Status.OK else (),
    )


def told(row: Row) -> str:
    """Return one line on a trial that ended."""
    ending = f"Dice {mean(row):.3f}" if row.dice else f"{row.status} ({row.failure_class})"
    return f"{row.network}, rung {row.rung}, seed {row.seed}: {ending}, {row.seconds:.0f} s"


def listed(network: Network) -> Listed:
    """Return how the table lists a network."""
    modules = [
        f"{one.component}@{one.position}" + "".join(f":{stage}" for stage in one.stages)
        for one in network.modules
    ]
    parts = " ".join([*modules, *(f"edit:{name}" for name in network.edits)])
    own = network_hash(network.source)
    return Listed(network.id, network.branch, network.parent, network.title, parts, own)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=FOLDER.parent / DATA)
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER, help="For the two files.")
@click.option("--work", type=click.Path(path_type=Path), help="For trials under way.")
def main(data: Path, out: Path, work: Path | None) -> None:
    """Make the replayed table, or go on with it."""
    out.mkdir(parents=True, exist_ok=True)
    complete(
        data,
        out=out,
        work=work,
        say=lambda text: click.echo(f"{datetime.now(UTC):%H:%M:%S} {text}"),
    )


if __name__ == "__main__":
    main()
