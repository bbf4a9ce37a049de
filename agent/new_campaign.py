"""The first step of a campaign: audit the dataset, lock the split, make the folder.

Nothing is written before the audit has passed, and the folder appears whole: it is built
beside its place under another name and renamed at the end.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agent.config import Config, as_dict
from agent.protocol import PROTOCOL, Hashes, declare, protocol_hash
from agent.wording import bare_points
from memory.errors import SegwrightError
from memory.networks import Networks
from memory.records import Campaign, Event, SplitCase, SplitName, short_id
from memory.store import Store
from sandbox.audit import Audit, audit, dataset_hash
from sandbox.dataset import Dataset, read_dataset
from sandbox.split import Split, make_split, split_hash
from sandbox.staging import stage

PACKAGES = ("torch", "nnunetv2", "langgraph", "numpy", "scipy", "SimpleITK", "sqlite-utils")
CARD_S = 20.0
"""How long the driver of a card is waited for."""


class Opened(NamedTuple):
    """A new campaign, what its audit and its split had to say, and its protocol's hash."""

    folder: Path
    audit: Audit
    split: Split
    protocol: str


def examine(config: Config) -> tuple[Dataset, Audit]:
    """Read and audit the dataset.

    Raises:
        DatasetError: a finding is blocking.
    """
    dataset = read_dataset(Path(config.dataset.path).expanduser())
    patients = Path(config.dataset.patients).expanduser() if config.dataset.patients else None
    found = audit(dataset, patients_csv=patients)
    found.require_passed()
    return dataset, found


def create(folder: Path, config: Config) -> Opened:
    """Make a campaign folder for a dataset.

    Raises:
        SegwrightError: the folder is already there.
        DatasetError: the dataset cannot be used; nothing was written.
    """
    if folder.exists():
        raise SegwrightError(f"{folder} exists; choose another folder, or go on with `run`")
    dataset, found = examine(config)
    split = make_split(
        found.cases,
        seed=config.split.seed,
        test_fraction=config.split.test_fraction,
        min_test=config.split.min_test,
        val_fraction=config.split.val_fraction,
    )
    with assembled(folder) as draft:
        stage(dataset, split.cases, draft)
        (draft / "staging" / "images").rename(draft / "images")
        write_config(draft / "campaign.toml", config)
        for name in ("networks", "trials", "report"):
            (draft / name).mkdir()
        Networks.create(draft / "networks")
        declared = fill(draft, config, dataset, found, split)
    return Opened(folder, found, split, declared)


@contextmanager
def assembled(folder: Path) -> Iterator[Path]:
    """Yield a folder that becomes `folder` at the end, and is removed if anything fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{os.getpid()}"
    draft.mkdir()
    try:
        yield draft
        draft.rename(folder)
    finally:
        if draft.exists():
            shutil.rmtree(draft)


def fill(draft: Path, config: Config, dataset: Dataset, found: Audit, split: Split) -> str:
    """Write the first rows of the store: the campaign, its split, its protocol; return its hash."""
    values, facts = as_dict(config), dataset_facts(dataset, found)
    now = time.time()
    campaign = Campaign(
        id=short_id([config.name, split_hash(split.cases), now]),
        name=config.name,
        created_at=now,
        version=importlib.metadata.version("segwright"),
        config=values,
        dataset=facts,
        dataset_hash=dataset_hash(dataset, found.cases),
        split_hash=split_hash(split.cases),
        environment=environment(),
    )
    protocol = declaration(config, campaign, split)
    with Store.create(draft / "campaign.db", campaign) as store:
        store.add_split(split.cases)
        counts = {name.value: counted(split.cases, name) for name in SplitName}
        figures = {"cases": counts, "notes": list(split.notes), "seed": config.split.seed}
        text = ", ".join(f"{n} {name}" for name, n in counts.items())
        store.add_event(Event("split", f"locked the split: {text}", figures, at=now))
        store.add_event(protocol)
    return str(protocol.figures["hash"])


def declaration(config: Config, campaign: Campaign, split: Split) -> Event:
    """Return the event that declares a new campaign's protocol."""
    hashes = Hashes(campaign.split_hash, campaign.dataset_hash)
    record = declare(config, split.cases, hashes, version=campaign.version)
    known = protocol_hash(record)
    text = f"declared the protocol {known}"
    return Event(PROTOCOL, text, {"record": record, "hash": known}, at=campaign.created_at)


def counted(cases: Sequence[SplitCase], name: SplitName) -> int:
    """Return how many cases a part has."""
    return sum(case.split == name for case in cases)


def dataset_facts(dataset: Dataset, found: Audit) -> dict[str, Any]:
    """Return what the store keeps of the dataset; no path outside the campaign."""
    declared = dataset.declared
    return {
        "name": dataset.name,
        "folder": dataset.folder,
        "channels": list(dataset.channels),
        "labels": {k: list(v) if isinstance(v, tuple) else v for k, v in dataset.labels.items()},
        "ignore_label": dataset.ignore_label,
        "file_ending": dataset.file_ending,
        "description": dataset.info.get("description", ""),
        "licence": dataset.info.get("licence", ""),
        "reference": dataset.info.get("reference", ""),
        "origin": str(declared.get("origin", "")),
        "simulated": declared.get("simulated") is True,
        "cases": len(found.cases),
        "patients": len({case.patient for case in found.cases}),
        "dims": len(found.cases[0].shape),
        "findings": [str(f) for f in found.findings],
        "shapes": {case.id: list(case.shape) for case in found.cases},
        "dataset_json": json.loads(json.dumps(declared)),
    }


def environment() -> dict[str, Any]:
    """Return the versions and the machine that a result depends on."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        **card(),
        "segwright": importlib.metadata.version("segwright"),
        **versions,
    }


def cpu_name() -> str:
    """Return the processor's model where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def card() -> dict[str, Any]:
    """Return the first GPU's model and power limit in W; nothing where the driver tells of none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    asked = [program, "--query-gpu=name,power.limit", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=CARD_S, check=True)
        name, limit = said.stdout.splitlines()[0].rsplit(",", 1)
        return {"gpu": name.strip(), "gpu_power_limit_w": float(limit)}
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}


def write_config(path: Path, config: Config) -> None:
    """Write campaign.toml with a comment on every setting."""
    import jinja2

    loader = jinja2.PackageLoader("templates", "")
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["toml"] = toml
    path.write_text(environment.get_template("campaign.toml.j2").render(c=config))


def toml(value: str | bool | tuple[int, ...]) -> str:
    """Return a text, a truth value or a list of integers as TOML writes it."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def opened_json(opened: Opened, config: Config) -> dict[str, Any]:
    """Return what `init --json` prints."""
    from agent.noise import exploratory, planned

    rules = config.confirm
    locked = len({c.patient for c in opened.split.cases if c.split == SplitName.LOCKED_TEST})
    return {
        "campaign": str(opened.folder),
        "cases": {name.value: counted(opened.split.cases, name) for name in SplitName},
        "findings": [str(f) for f in opened.audit.findings],
        "notes": list(opened.split.notes),
        "protocol": opened.protocol,
        "planned": planned(cases=locked, seeds=rules.seeds, alpha=rules.alpha).figures,
        "exploratory": exploratory(cases=locked, seeds=rules.seeds) or None,
    }


def detects(said: dict[str, Any]) -> list[str]:
    """Return what the planned locked test can find, and whether it can carry a claim."""
    own = said["planned"]
    lines = [
        f"with {own['cases']} locked subjects and {own['seeds']} seeds a gain of about "
        f"{bare_points(own['detectable'])} points of Dice or more will be found (80 % power) if "
        "noise is as usual; it is measured on the baseline when `run` starts"
    ]
    if said["exploratory"]:
        lines.append(f"exploratory: {said['exploratory']}: nothing will be claimed")
    return lines


def forecast(config: Config) -> str:
    """Return how much a campaign will train at least, before anything is measured."""
    baselines = config.baseline.seeds * config.rungs.count
    tests = config.confirm.seeds * (1 + config.confirm.finalists)
    return (
        f"at least {baselines} trainings of the baseline, {config.explore.drafts} drafts and "
        f"{tests} trainings for the locked test; their length is measured when `run` starts"
    )


def opened_lines(opened: Opened, config: Config) -> list[str]:
    """Return what `init` prints."""
    said = opened_json(opened, config)
    parts = ", ".join(f"{n} {name}" for name, n in said["cases"].items())
    return [
        *said["findings"],
        *said["notes"],
        f"{opened.folder}: {parts}; the split is locked",
        f"declared the protocol {said['protocol']}",
        *detects(said),
        forecast(config),
        f"next: segwright run {opened.folder} --hours 24",
    ]
