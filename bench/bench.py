"""`segwright bench NAME`: one benchmark, one JSON object on stdout, progress on stderr."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime
from pathlib import Path

import click

# Name -> module with run(is_quick, data, say), which returns {key: Figure}; that of REAL takes is_real.
REAL = "claims"
BENCHES = {
    "claims": "bench.claims",
    "policies": "bench.policies",
    "gpu": "bench.gpu",
    "memory": "bench.memory",
    "overhead": "bench.overhead",
    "planted": "bench.planted",
    "store": "bench.store",
    "table": "bench.table",
}


@click.command()
@click.argument("name", type=click.Choice(sorted(BENCHES)))
@click.option("--quick", "is_quick", is_flag=True, help="The least that gives every key, once.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Another dataset in nnU-Net's raw layout; may be repeated.",
)
@click.option("--real", "is_real", is_flag=True, help="claims: on real trainings of one network.")
@click.option("--write", "is_written", is_flag=True, help="Put the figures into RESULTS.md.")
def bench(
    name: str, is_quick: bool, data: tuple[Path, ...], is_real: bool, is_written: bool
) -> None:
    """Run a benchmark; print its figures as one JSON object.

    Example: segwright bench overhead --quick
    """
    from bench.figures import document, write

    if is_real and name != REAL:
        raise click.UsageError(f"--real is an option of {REAL!r} alone, not of {name!r}")

    def say(text: str) -> None:
        click.echo(f"{datetime.now(UTC):%H:%M:%S} {text}", err=True)

    real = {"is_real": True} if is_real else {}
    module = importlib.import_module(BENCHES[name])
    figures = module.run(is_quick=is_quick, data=data, say=say, **real)
    found = document(f"{name}_real" if is_real else name, figures)
    if is_written:
        options = ["--quick"] * is_quick + ["--real"] * is_real
        options += [f"--data {path}" for path in data]
        command = " ".join(["segwright bench", name, *options, "--write"])
        write(found, command=command, date=f"{datetime.now(UTC):%Y-%m-%d}")
    click.echo(json.dumps(found, indent=1))
