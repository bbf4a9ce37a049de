"""What the user asked for: one frozen tree of settings, read once from campaign.toml.

Each default is written once, here; unknown keys are errors that name the nearest known one.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from agent import model_settings
from agent.model_settings import (
    WORDS,
    CoderConfig,
    EndpointConfig,
    LlmConfig,
    RolesConfig,
    check_settings,
)
from memory.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """Where the data are; `patients` is a CSV with the columns case and patient."""

    path: str = ""
    patients: str = ""


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """How the dataset is divided, once."""

    seed: int = 20260101
    test_fraction: float = 0.3
    min_test: int = 60
    val_fraction: float = 0.25


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How nnU-Net plans and trains. 0 or empty means: as nnU-Net plans it.

    On a CPU the batch is cut to about `cpu_voxels` voxels: in the same time, many small steps
    learn more than few large ones.
    """

    configuration: str = "auto"
    device: str = "auto"
    batch_size: int = 0
    patch_size: tuple[int, ...] = ()
    base_features: int = 0
    cpu_voxels: int = 8192
    threads: int = 1
    slots: int = 0
    workers: int = 0
    mirroring: bool = False


@dataclass(frozen=True, slots=True)
class RungsConfig:
    """The ladder: `count` rungs, each `ratio` times the one below; 0 iterations: measured.

    A training of the last rung is looked at after the fraction `checkpoint` of it (0: never),
    where it has at least `checkpoint_from` iterations.
    """

    count: int = 2
    ratio: int = 4
    iterations: int = 0
    min_iterations: int = 40
    max_iterations: int = 4000
    checkpoint: float = 0.5
    checkpoint_from: int = 500


@dataclass(frozen=True, slots=True)
class BaselineConfig:
    """How often nnU-Net's default network is trained at each rung."""

    seeds: int = 3


@dataclass(frozen=True, slots=True)
class ExploreConfig:
    """Which branch gets the next trial; c and p are those of the published rule."""

    policy: str = "qwbe"
    c: float = 0.1
    p: float = 3.0
    drafts: int = 6
    cut_below: float = 0.05
    seed: int = 1


@dataclass(frozen=True, slots=True)
class ConfirmConfig:
    """What a claim needs; declared at `init`.

    `margin` is the gain in Dice that counts; 0 means half a point, or the smallest gain that the
    campaign can detect where that is larger. A network is no worse where it loses less than
    `noninferiority` in Dice, and cheaper where it saves the share `cost_gain` of the seconds.
    """

    finalists: int = 1
    seeds: int = 3
    alpha: float = 0.05
    margin: float = 0.0
    noninferiority: float = 0.005
    cost_gain: float = 0.1


@dataclass(frozen=True, slots=True)
class SelectionConfig:
    """The staged selection of finalists: the best `candidates` on `folds` further folds.

    0 candidates: a quarter of all networks, 8 to 20; 0 folds: no staged selection. The best few
    are trained with `seeds` fresh seeds. `share` is the part of a time budget that it may take.
    """

    candidates: int = 0
    folds: int = 3
    seeds: int = 2
    share: float = 0.15


@dataclass(frozen=True, slots=True)
class AblationConfig:
    """How often a confirmed network's ablations are trained; `early`: a leader's too, briefly."""

    seeds: int = 3
    early: bool = True


@dataclass(frozen=True, slots=True)
class ScoringConfig:
    """NSD tolerance in mm (in pixels for images without a spacing)."""

    tolerance_mm: float = 2.0


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What one trial may use, and how its processes start: warm or cold."""

    start: str = "warm"
    memory_mib: int = 8192
    disk_mib: int = 8192
    shm_mib: int = 1024


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """What carries over between campaigns, and how lessons are found.

    `library`: auto (the user's own), off, or a file. `embed`: auto finds lessons by meaning too
    where the extra `embed` is installed; off: by words alone.
    """

    library: str = "auto"
    embed: str = "auto"


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """Where a run ends; 0 means no limit of that kind. Flags of `run` replace these."""

    hours: float = 0.0
    gpu_hours: float = 0.0
    usd: float = 0.0
    trials: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a campaign."""

    name: str = "campaign"
    planner: str = "grammar"
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    rungs: RungsConfig = field(default_factory=RungsConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    confirm: ConfirmConfig = field(default_factory=ConfirmConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    endpoints: Mapping[str, EndpointConfig] = field(default_factory=dict)
    roles: RolesConfig = field(default_factory=RolesConfig)
    coder: CoderConfig = field(default_factory=CoderConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)


RANGES: dict[str, tuple[float, float]] = {
    **model_settings.RANGES,
    "split.test_fraction": (0.05, 0.8),
    "split.min_test": (1, 1e6),
    "split.val_fraction": (0.05, 0.8),
    "engine.batch_size": (0, 4096),
    "engine.base_features": (0, 512),
    "engine.cpu_voxels": (64, 1e9),
    "engine.threads": (1, 256),
    "engine.slots": (0, 256),
    "engine.workers": (0, 64),
    "rungs.count": (1, 6),
    "rungs.ratio": (2, 16),
    "rungs.iterations": (0, 1e8),
    "rungs.min_iterations": (1, 1e8),
    "rungs.max_iterations": (1, 1e8),
    "rungs.checkpoint": (0, 0.9),
    "rungs.checkpoint_from": (1, 1e8),
    "baseline.seeds": (2, 50),
    "explore.c": (0, 100),
    "explore.p": (0, 20),
    "explore.drafts": (1, 1000),
    "explore.cut_below": (0, 0.5),
    "selection.candidates": (0, 100),
    "selection.folds": (0, 9),
    "selection.seeds": (0, 20),
    "selection.share": (0, 0.5),
    "confirm.finalists": (1, 20),
    "confirm.seeds": (2, 50),
    "confirm.alpha": (0.0001, 0.2),
    "confirm.margin": (0, 0.5),
    "confirm.noninferiority": (0, 0.5),
    "confirm.cost_gain": (0.01, 0.9),
    "ablation.seeds": (0, 20),
    "scoring.tolerance_mm": (0.01, 100),
    "sandbox.memory_mib": (512, 4e6),
    "sandbox.disk_mib": (64, 4e7),
    "sandbox.shm_mib": (16, 4e6),
    "budget.hours": (0, 1e5),
    "budget.gpu_hours": (0, 1e6),
    "budget.usd": (0, 1e6),
    "budget.trials": (0, 1e6),
}
CHOICES: dict[str, tuple[str, ...]] = {
    **model_settings.CHOICES,
    "engine.configuration": ("auto", "2d", "3d_fullres", "3d_lowres"),
    "engine.device": ("auto", "cuda", "mps", "cpu"),
    "explore.policy": (
        "qwbe",
        "camyla",
        "camyla_released",
        "greedy",
        "best_first",
        "nested_thompson",
        "ab_mcts",
        "asha",
        "random",
    ),
    "sandbox.start": ("warm", "cold"),
    "memory.embed": ("auto", "off"),
}


def load_config(path: Path) -> Config:
    """Read campaign.toml.

    Raises:
        ConfigError: the file is missing, is not TOML, or says something impossible.
    """
    try:
        return parse_config(tomllib.loads(path.read_text()), path.name)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing; `segwright init` writes it") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def parse_config(values: dict[str, Any], where: str = "campaign.toml") -> Config:
    """Build the settings from nested values.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or range.
    """
    config = build(Config, values, prefix="", where=where)
    assert isinstance(config, Config)
    check_settings(config, where)
    return config


def build(kind: type[Any], values: dict[str, Any], *, prefix: str, where: str) -> Any:
    """Build one section, checking keys, types, choices and ranges."""
    known = {f.name: f for f in fields(kind)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"unknown setting {prefix + key!r} in {where}{hint} Valid: {', '.join(known)}"
            )
    default = kind()
    made = {}
    for key, value in values.items():
        standard = getattr(default, key)
        if isinstance(standard, Mapping):
            made[key] = named_tables(key, value, where)
        elif hasattr(standard, "__dataclass_fields__"):
            if not isinstance(value, dict):
                raise ConfigError(f"{key!r} in {where} is {value!r}; allowed: a [{key}] table")
            made[key] = build(type(standard), value, prefix=f"{prefix}{key}.", where=where)
            made[key] = kept_defaults(standard, made[key], value)
        else:
            made[key] = checked(prefix + key, value, standard=standard, where=where)
    return kind(**made)


def kept_defaults(standard: Any, made: Any, given: dict[str, Any]) -> Any:
    """Return a section whose settings that were not given are those of its place in the tree."""
    return replace(standard, **{name: getattr(made, name) for name in given})


def named_tables(key: str, value: Any, where: str) -> dict[str, EndpointConfig]:
    """Return the endpoints by name."""
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise ConfigError(f"{key!r} in {where} allows tables [{key}.NAME] only")
    return {
        name: build(EndpointConfig, own, prefix=f"{key}.{name}.", where=where)
        for name, own in value.items()
    }


def rule(name: str) -> str:
    """Return the name under which ranges and choices know a setting."""
    first, _, rest = name.partition(".")
    return f"endpoints.*.{rest.rpartition('.')[2]}" if first == "endpoints" else name


def checked(name: str, value: Any, *, standard: Any, where: str) -> Any:
    """Return one value in its own type, or refuse it."""
    wanted = type(standard)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if wanted is tuple and isinstance(value, list | tuple) and fits(name, value):
        return tuple(value)
    if type(value) is not wanted:
        raise ConfigError(f"{name!r} in {where} is {value!r}; allowed: a {wanted.__name__}")
    known = rule(name)
    if known in CHOICES and value not in CHOICES[known]:
        raise ConfigError(f"{name!r} in {where} is {value!r}; allowed: {', '.join(CHOICES[known])}")
    if known in RANGES:
        low, high = RANGES[known]
        if not low <= value <= high:
            raise ConfigError(f"{name!r} in {where} is {value!r}; allowed: {low:g} to {high:g}")
    return value


def fits(name: str, values: Sequence[Any]) -> bool:
    """Tell whether a list holds what its setting allows: words, or whole numbers above 0."""
    if name in WORDS:
        return all(isinstance(v, str) for v in values)
    return all(type(v) is int and v > 0 for v in values)


def as_dict(config: Config) -> dict[str, Any]:
    """Return the settings as nested plain values, as the store keeps them."""
    values = listed(asdict(config))
    assert isinstance(values, dict)
    return values


def listed(value: Any) -> Any:
    """Return a value with lists in the place of tuples, as JSON has them."""
    if isinstance(value, dict):
        return {key: listed(own) for key, own in value.items()}
    return [listed(own) for own in value] if isinstance(value, list | tuple) else value
