"""The replayed table as files: which networks there are, and what each of their trials scored.

`replay_networks.csv` lists the networks, parents before children. `replay_table.csv` holds one
trial a row: status, seconds, and each case's Dice, averaged over its classes (5 digits; empty where
a trial failed). Made by `bench/table.py`.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from agent.trials import write_text
from memory.errors import SegwrightError
from memory.records import Module, Status

FOLDER = Path(__file__).parent
TRIALS, NETWORKS = "replay_table.csv", "replay_networks.csv"
BASELINE = "baseline"
COLUMNS = (
    *("network", "rung", "iterations", "seed", "status", "failure_class"),
    *("seconds", "cpu_seconds", "parameters"),
)


class Ladder(NamedTuple):
    """Iterations of each rung, and the seeds of networks and baseline at each."""

    iterations: tuple[int, ...] = (512, 1536)
    seeds: tuple[int, ...] = (1, 2, 3)
    baseline_seeds: tuple[int, ...] = (1, 2, 3, 4, 5)


class Listed(NamedTuple):
    """A network as the table lists it; a draft has no parent, the baseline no branch."""

    id: str
    branch: str
    parent: str
    title: str
    modules: str
    hash: str


class Row(NamedTuple):
    """One trial; `dice` has a value for each case, None where undefined, nothing if it failed."""

    network: str
    rung: int
    iterations: int
    seed: int
    status: Status
    failure_class: str
    seconds: float
    cpu_seconds: float
    parameters: int
    dice: tuple[float | None, ...]


class Table(NamedTuple):
    """Networks, parents first; cases in the order of each row's scores; trials."""

    networks: tuple[Listed, ...]
    cases: tuple[str, ...]
    rows: tuple[Row, ...]


def key(row: Row) -> tuple[str, int, int]:
    """Return what there is one row of."""
    return row.network, row.rung, row.seed


def mean(row: Row) -> float:
    """Return a trial's Dice, averaged over the cases where it is defined."""
    return fmean(value for value in row.dice if value is not None)


def write_table(out: Path, table: Table) -> None:
    """Write both files, each whole or not at all."""
    write_text(out / NETWORKS, text_of([Listed._fields, *table.networks]))
    rows = [
        [*row[:-1], *("" if one is None else f"{one:.5f}" for one in row.dice)]
        for row in table.rows
    ]
    write_text(out / TRIALS, text_of([[*COLUMNS, *table.cases], *rows]))


def text_of(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as CSV; short ones are filled up with empty cells."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerows([*row, *[""] * (len(rows[0]) - len(row))] for row in rows)
    return sink.getvalue()


def read_table(folder: Path = FOLDER) -> Table:
    """Read the table.

    Raises:
        SegwrightError: it was not made.
    """
    if not (folder / TRIALS).exists():
        raise SegwrightError(f"{folder / TRIALS} is missing; `segwright bench table` makes it")
    lists = list(csv.reader(io.StringIO((folder / NETWORKS).read_text())))
    head, *rows = csv.reader(io.StringIO((folder / TRIALS).read_text()))
    cases = tuple(head[len(COLUMNS) :])
    return Table(tuple(Listed(*one) for one in lists[1:]), cases, tuple(map(read_row, rows)))


def read_row(cells: Sequence[str]) -> Row:
    """Return one trial from its cells."""
    network, rung, iterations, seed, status, failure, seconds, cpu, parameters = cells[
        : len(COLUMNS)
    ]
    values = tuple(float(cell) if cell else None for cell in cells[len(COLUMNS) :])
    return Row(
        network,
        int(rung),
        int(iterations),
        int(seed),
        Status(status),
        failure,
        float(seconds),
        float(cpu),
        int(parameters),
        values if status == Status.OK else (),
    )


def is_made(folder: Path = FOLDER) -> bool:
    """Return True when there is a table, and nothing of it is missing."""
    return (folder / TRIALS).exists() and is_whole(read_table(folder), Ladder())


def is_whole(table: Table, ladder: Ladder) -> bool:
    """Return True when every network has all of its trials."""
    made = {(row.network, row.iterations, row.seed) for row in table.rows}
    return all(
        (one.id, iterations, seed) in made
        for one in table.networks
        for iterations in ladder.iterations
        for seed in (ladder.seeds if one.branch else ladder.baseline_seeds)
    )


def modules_of(text: str) -> tuple[Module, ...]:
    """Return modules from the table's words for them, such as `mednext@decoder:0:1`."""
    found = []
    for word in text.split():
        component, _, place = word.partition("@")
        position, *stages = place.split(":")
        found.append(Module(component, position, tuple(map(int, stages))))
    return tuple(found)
