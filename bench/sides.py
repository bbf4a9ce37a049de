"""Both sides of a comparison on one dataset: a campaign of ours, and nnU-Net's own folders.

Both see the same cases, the same configuration, plan, batch and split. Preprocessing is
measured while they are made. `python -I -m bench.sides CAMPAIGN` prepares a campaign's data in
a process of its own, so that what it costs to start is counted.
"""

import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.config import load_config
from agent.preparation import make_session, prepare_data
from agent.session import Session
from bench.nnunet_cli import NnUnet, lay_out, use_plan
from bench.resources import Cost, measured
from memory.errors import SegwrightError
from memory.records import SplitName
from memory.store import Store
from sandbox.isolation import choose
from sandbox.processes import tail

Say = Callable[[str], None]


class Costs(defaultdict[str, list[Cost]]):
    """What was measured, by name; the n-th entries of all names were measured side by side."""

    def __init__(self) -> None:
        """Start with nothing."""
        super().__init__(list)


class Source(NamedTuple):
    """A dataset to compare on: raw data, settings of its campaign, ending of its keys."""

    data: Path
    settings: Mapping[str, Any]
    suffix: str


class Sides(NamedTuple):
    """One dataset, prepared on both sides."""

    source: Source
    session: Session
    nnunet: NnUnet


def on_device(settings: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return a campaign's settings for the device that both sides use, without its name."""
    own = {key: value for key, value in settings.items() if key != "name"}
    return own | {"engine": {**settings.get("engine", {}), "device": device}}


def ran(command: list[str], log: Path, *others: int) -> Cost:
    """Run a command of ours to its end and return what it cost, with trees that serve it.

    Raises:
        SegwrightError: it failed; the end of its log is in the message.
    """

    def work() -> None:
        with log.open("wb") as sink:
            code = subprocess.run(command, stdout=sink, stderr=sink).returncode
        if code:
            raise SegwrightError(f"{command[-1]} failed; {log} ends: {tail(log, 600)}")

    return measured(work, *others)


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return nested settings as the options --set of `segwright init`."""
    options: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            options += flat(value, f"{prefix}{key}.")
        else:
            options += ["--set", f"{prefix}{key}={value}"]
    return options


def init(campaign: Path, source: Source) -> Cost:
    """Audit the dataset, lock its split and stage its files: `segwright init`."""
    program = str(Path(sysconfig.get_path("scripts"), "segwright"))
    options = ["--data", str(source.data), *flat(source.settings)]
    return ran([program, "init", str(campaign), *options], campaign.with_suffix(".init.log"))


def prepare(campaign: Path) -> Cost:
    """Fingerprint, plan and preprocess in one sandbox, as the first `segwright run` does."""
    command = [sys.executable, "-I", "-m", "bench.sides", str(campaign)]
    return ran(command, campaign.with_suffix(".prepare.log"))


def main(campaign: Path) -> None:
    """Prepare the data of a campaign that `segwright init` made."""
    config = load_config(campaign / "campaign.toml")
    with Store.open(campaign / "campaign.db") as store:
        device = config.engine.device
        prepare_data(campaign, config, store, device=device, isolation=choose())


def open_session(campaign: Path) -> Session:
    """Return the session of a prepared campaign; its one rung has one iteration."""
    config = load_config(campaign / "campaign.toml")
    with Store.open(campaign / "campaign.db") as store:
        # A campaign with a protocol is not measured for one.
        store.set_protocol({"rung_iterations": [1], "device": config.engine.device})
        return make_session(campaign, config, store, lambda what, detail: None)


def make_sides(source: Source, work: Path, costs: Costs, *, repeats: int, say: Say) -> Sides:
    """Prepare a dataset on both sides, as often as asked; the last ones are kept."""
    folder = work / source.data.name
    folder.mkdir()
    for number in range(repeats):
        campaign = folder / f"campaign{number}"
        say(f"{source.data.name}: preprocessing here ({number + 1} of {repeats})")
        costs["init"].append(init(campaign, source))
        costs["prepare"].append(prepare(campaign))
        session = open_session(campaign)
        own = lay_out(
            folder / "nnunet",
            source.data,
            configuration=session.plan.configuration,
            threads=session.config.engine.threads,
        )
        say(f"{source.data.name}: preprocessing with nnU-Net ({number + 1} of {repeats})")
        costs["nnunet_preprocess_unverified"].append(own.preprocess(verify=False))
        costs["nnunet_preprocess"].append(own.preprocess(verify=True))
    train, val = (session.cases(part) for part in (SplitName.SEARCH_TRAIN, SplitName.SEARCH_VAL))
    use_plan(own, session.plan, train=train, val=val)
    return Sides(source, session, own)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
