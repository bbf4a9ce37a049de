"""The protocol of a campaign as a record: what decides over its claims, declared at `init`. Pure.

The record is plain JSON values and is hashed whole. Its settings are kept by their names in
campaign.toml, so that another value is found by name. Budgets, slots, threads and the search's
own settings are no part of it: they change how much is found, not what a claim needs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from agent.config import Config, as_dict
from memory.records import Event, Figures, SplitCase, SplitName, digest

PROTOCOL = "protocol"
AT_INIT = ("split.seed", "split.test_fraction", "split.min_test", "split.val_fraction")
AT_FIRST_RUN = (
    *("engine.configuration", "engine.batch_size", "engine.patch_size", "engine.base_features"),
    *("engine.cpu_voxels", "engine.mirroring"),
    *("rungs.count", "rungs.ratio", "rungs.iterations"),
    *("rungs.min_iterations", "rungs.max_iterations"),
)
LATER = (
    *("rungs.checkpoint", "rungs.checkpoint_from", "baseline.seeds"),
    *("selection.candidates", "selection.folds", "selection.seeds"),
    *("confirm.finalists", "confirm.seeds", "confirm.alpha", "confirm.margin"),
    *("confirm.noninferiority", "confirm.cost_gain", "ablation.seeds", "scoring.tolerance_mm"),
)
SETTINGS = (*AT_INIT, *AT_FIRST_RUN, *LATER)
PRIMARY = "mean over cases of the mean over classes of Dice"
SECONDARIES = ("Dice of each class", "NSD at the tolerance scoring.tolerance_mm", "HD95")
MARGIN_RULE = (
    "confirm.margin in Dice; where that is 0, the larger of 0.005 and the smallest gain that the "
    "locked test detects with 80 % power under the noise of the baseline's repeats, fixed before "
    "the first proposal"
)
TESTS = (
    "t test with patients and trainings as crossed random factors, Satterthwaite's degrees of freedom",
    "Wilcoxon signed-rank test on differences averaged over seeds",
    "Holm's adjustment over finalists",
    "where no gain is shown: the same two tests on differences plus confirm.noninferiority, with the "
    "share of alpha that is left, and a saving of confirm.cost_gain of the seconds",
)
SAME = (
    *("iterations", "training cases", "augmentation", "loss", "optimiser", "batch size"),
    *("patch size", "test-time mirroring", "hardware"),
)
REPORTED = ("parameters", "FLOPs", "seconds")


class Difference(NamedTuple):
    """A setting whose value is not the declared one."""

    setting: str
    declared: Any
    now: Any


class Hashes(NamedTuple):
    """SHA-256 of the split's rows and of the dataset as it was audited, 64 hex digits each."""

    split: str
    dataset: str


def declare(config: Config, split: Sequence[SplitCase], hashes: Hashes, *, version: str) -> Figures:
    """Return the protocol of a new campaign.

    Args:
        config: the settings at `init`.
        split: all cases with their parts.
        hashes: of both.
        version: of segwright.
    """
    from agent.claims import MIN_CASES, MIN_SEEDS  # scipy, which readers of a record need not

    values = flat(config)
    return {
        "version": version,
        "dataset_hash": hashes.dataset,
        "split": split_figures(split, hashes.split),
        "primary": PRIMARY,
        "secondaries": list(SECONDARIES),
        "margin": MARGIN_RULE,
        "tests": list(TESTS),
        "least": {"locked_patients": MIN_CASES, "seeds": MIN_SEEDS},
        "equal_budget": {"same": list(SAME), "reported": list(REPORTED)},
        "settings": {name: values[name] for name in SETTINGS},
    }


def split_figures(split: Sequence[SplitCase], split_hash: str) -> Figures:
    """Return the hash of a split, and the number of cases and patients of each part."""
    parts = {name: [case for case in split if case.split == name] for name in SplitName}
    return {
        "hash": split_hash,
        "cases": {name.value: len(own) for name, own in parts.items()},
        "patients": {name.value: len({c.patient for c in own}) for name, own in parts.items()},
    }


def protocol_hash(record: Figures) -> str:
    """Return the SHA-256 of a record's canonical JSON, 64 hex digits."""
    return digest(record)


def flat(config: Config) -> Figures:
    """Return all settings by their names, such as `confirm.alpha`, as plain values."""
    sections = {name: own for name, own in as_dict(config).items() if isinstance(own, dict)}
    return {f"{name}.{key}": value for name, own in sections.items() for key, value in own.items()}


def differences(record: Figures, config: Config) -> list[Difference]:
    """Return the settings that are not as declared, in the order of the record.

    A setting that this version does not know is left out.
    """
    values = flat(config)
    return [
        Difference(name, declared, values[name])
        for name, declared in record.get("settings", {}).items()
        if name in values and values[name] != declared
    ]


def declared(events: Sequence[Event]) -> Event | None:
    """Return the event with the protocol as it was declared; None for a campaign from before."""
    return next((event for event in events if event.kind == PROTOCOL), None)


def problems(event: Event, split: Sequence[SplitCase], hashes: Hashes, config: Config) -> list[str]:
    """Return what does not agree between a declared protocol and what else was kept of `init`.

    Args:
        event: as `declared` gives it.
        split: all cases with their parts, from the store.
        hashes: of those rows, and of the dataset from the campaign's row.
        config: the settings of the campaign's row, which are those at `init`.
    """
    record, known = event.figures.get("record", {}), event.figures.get("hash")
    found = []
    if (own := protocol_hash(record)) != known:
        found.append(f"its record gives the hash {own}, stored is {known}")
    if (own := record.get("dataset_hash")) != hashes.dataset:
        found.append(f"dataset_hash is {own}, campaign has {hashes.dataset}")
    parts = record.get("split", {})
    for name, value in split_figures(split, hashes.split).items():
        if parts.get(name) != value:
            found.append(f"split.{name} is {parts.get(name)}, the split's rows give {value}")
    for name, before, now in differences(record, config):
        found.append(f"{name} is {before!r}, campaign has {now!r}")
    return found
