"""What a planner is told of a dataset, computed by our own code.

The card rests on the labels of search-train and on the baseline's scores on search-val. Of the
locked test it knows the number of cases, and no more. It names no case, patient or file.

What the dataset says of itself (`Declared`, and the names of classes) was written by strangers:
it is cleaned, cut and kept in fields of its own, so that a prompt can mark it as data. Every
other field is a number, or a word of ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agent.baseline_errors import BaselineErrors, baseline_errors
from agent.label_figures import LabelFigures, Three, kept_labels, restored, rounded
from agent.motivation import MANY_CLASSES, Traits
from agent.session import Session
from memory.records import Figures, Kind, SplitName, Status, Trial
from memory.store import Store
from sandbox.clean import clean_text
from sandbox.components import ANISOTROPIC, FEW, MANY, SMALL, THIN, VOLUMES

# With fewer, one odd case is more than 2 % of what a network learns from.
FEW_CASES = 50
# Of the patch's edge: about a COCO "small" object (Lin et al. 2014, arXiv:1405.0312: 32 of some
# 554 px), and a quarter of a place in nnU-Net's smallest bottleneck, which has 4 places an axis.
SMALL_EDGE = 1 / 16
# The border then holds as much as all else: one voxel too few all round halves the class.
THIN_BORDER = 0.5
# nnU-Net's own threshold (ANISO_THRESHOLD in nnunetv2/configuration.py).
ANISOTROPY = 3.0

NAME, DESCRIPTION, REFERENCE, LICENCE, WORD = 80, 600, 240, 80, 40
MOST_CHANNELS = 16
MOST_READ = 8  # characters read for one that is kept: what is removed is not counted


@dataclass(frozen=True, slots=True)
class Declared:
    """The dataset's own words: one line each, without control characters, cut. Not to be trusted."""

    name: str
    description: str
    reference: str
    licence: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]


class PlanFigures(NamedTuple):
    """nnU-Net's plan, axes in its order; `stages` has the bottleneck.

    patch_size: voxels. spacing_mm: empty where the plan does not say it.
    """

    dims: int
    patch_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    stages: int
    features: tuple[int, ...]
    batch_size: int


class Trait(NamedTuple):
    """A trait that holds, in the words of `sandbox.components`, and the figures that made it so.

    `text` has numbers and words of ours alone; a class is named by its label value.
    """

    name: str
    text: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a planner knows of the dataset.

    n_channels, n_classes: also what the dataset has beyond the names kept in `declared`.
    values: the label values of each class, several for a region. cases, patients: by part.
    labels: None where the campaign kept no labels of search-train. errors: None before a
    baseline has scores. traits: those that hold, in the order of their names.
    """

    declared: Declared
    n_channels: int
    values: tuple[tuple[int, ...], ...]
    is_simulated: bool
    plan: PlanFigures
    cases: Mapping[str, int]
    patients: Mapping[str, int]
    labels: LabelFigures | None
    errors: BaselineErrors | None
    traits: tuple[Trait, ...]

    @property
    def n_classes(self) -> int:
        """Number of classes, without background."""
        return len(self.values)


def dataset_card(store: Store, session: Session) -> DatasetCard:
    """Return the card; the labels are measured at the first call of a campaign.

    Raises:
        DatasetError: a label file of search-train is missing or damaged.
    """
    facts, plan = session.dataset, plan_figures(session)
    labels = restored(kept_labels(store, session))
    values = tuple(_values(value) for value in facts["labels"].values())
    cases = _by_part(store, "case")
    return DatasetCard(
        declared=declared(facts),
        n_channels=len(facts["channels"]),
        values=values,
        is_simulated=facts.get("simulated") is True,
        plan=plan,
        cases=cases,
        patients=_by_part(store, "patient"),
        labels=labels,
        errors=errors_of(store, tuple(facts["labels"])),
        traits=find_traits(plan, cases[SplitName.SEARCH_TRAIN], values, labels),
    )


def traits_of(card: DatasetCard) -> Traits:
    """Return the card's traits as `agent.motivation.active_traits` and the planners take them."""
    held = {trait.name for trait in card.traits}
    counts = {"dims": card.plan.dims, "classes": card.n_classes}
    words = {name: name in held for name in (SMALL, THIN, ANISOTROPIC, FEW)}
    return {**counts, **words, "val_cases": card.cases[SplitName.SEARCH_VAL]}


def bounded(text: Any, limit: int) -> str:
    """Return foreign text on one line, without control characters, at most `limit` long."""
    read = str(text)[: MOST_READ * limit]
    line = " ".join(clean_text(read).split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def declared(facts: Figures) -> Declared:
    """Return what the dataset says of itself, from `Campaign.dataset`."""
    return Declared(
        name=bounded(facts["name"], NAME),
        description=bounded(facts.get("description", ""), DESCRIPTION),
        reference=bounded(facts.get("reference", ""), REFERENCE),
        licence=bounded(facts.get("licence", ""), LICENCE),
        channels=tuple(bounded(name, WORD) for name in facts["channels"][:MOST_CHANNELS]),
        classes=tuple(bounded(name, WORD) for name in facts["labels"]),
    )


def plan_figures(session: Session) -> PlanFigures:
    """Return the plan that every network of the campaign is built for."""
    spec, planned = session.plan.spec, session.plan.planned
    return PlanFigures(
        dims=int(spec["dims"]),
        patch_size=tuple(int(n) for n in spec["patch_size"]),
        spacing_mm=tuple(rounded(float(mm)) for mm in planned.get("spacing", ())),
        stages=len(spec["features"]),
        features=tuple(int(n) for n in spec["features"]),
        batch_size=session.plan.batch_size,
    )


def _values(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(int(one) for one in value)


def _by_part(store: Store, field: str) -> dict[str, int]:
    return {
        str(part): len({getattr(case, field) for case in store.split(part)}) for part in SplitName
    }


def errors_of(store: Store, labels: Sequence[str]) -> BaselineErrors | None:
    """Return the baseline's errors on search-val at the highest rung with scores, else None.

    Runs with a smaller batch, on further folds or on the locked test are not among them.
    """
    runs = [trial for trial in store.trials(kind=Kind.BASELINE) if _counts(trial)]
    if not runs:
        return None
    rung = max(trial.rung for trial in runs)
    scores = [s for trial in runs if trial.rung == rung for s in store.case_scores(trial.id)]
    volumes = {case.case: case.foreground_mm3 for case in store.split(SplitName.SEARCH_VAL)}
    return baseline_errors(scores, labels=labels, volumes=volumes, rung=rung)


def _counts(trial: Trial) -> bool:
    is_own = trial.split is SplitName.SEARCH_VAL and trial.fold == 0 and trial.batch_size is None
    return is_own and trial.status is Status.OK


def find_traits(
    plan: PlanFigures,
    train_cases: int,
    values: Sequence[tuple[int, ...]],
    labels: LabelFigures | None,
) -> tuple[Trait, ...]:
    """Return the traits that hold, by name. Without labels, three of them are not looked for."""
    found = [_few(train_cases), _many(len(values)), _volumes(plan)]
    if labels is not None:
        found += [_anisotropic(plan, labels), _small(plan, labels, values), _thin(labels, values)]
    return tuple(sorted(trait for trait in found if trait is not None))


def _few(count: int) -> Trait | None:
    if count >= FEW_CASES:
        return None
    text = f"{count} cases of search-train, fewer than {FEW_CASES}"
    return Trait(FEW, text, {"cases": count, "limit": FEW_CASES})


def _many(count: int) -> Trait | None:
    if count < MANY_CLASSES:
        return None
    text = f"{count} classes, at least {MANY_CLASSES}"
    return Trait(MANY, text, {"classes": count, "limit": MANY_CLASSES})


def _volumes(plan: PlanFigures) -> Trait | None:
    if plan.dims != 3:
        return None
    return Trait(VOLUMES, "the plan has three dimensions", {"dims": plan.dims})


def _anisotropic(plan: PlanFigures, labels: LabelFigures) -> Trait | None:
    """Look at the files' median spacing; a network of two dimensions never sees the coarse axis."""
    spacing = labels.spacing_mm[1]
    ratio = rounded(max(spacing) / min(spacing))
    if plan.dims != 3 or ratio < ANISOTROPY:
        return None
    text = f"voxels {ratio:.3g} times as long along one axis as another (at least {ANISOTROPY:g})"
    return Trait(ANISOTROPIC, text, {"ratio": ratio, "limit": ANISOTROPY})


def _small(
    plan: PlanFigures, labels: LabelFigures, values: Sequence[tuple[int, ...]]
) -> Trait | None:
    """Compare the class of the smallest typical object with the patch."""
    edges = [(c.object_mm, v) for c, v in zip(labels.classes, values, strict=True) if c.object_mm]
    if not edges:
        return None
    edge, value = min(edges)
    patch = patch_edge_mm(plan, labels.spacing_mm[1])
    share = rounded(edge / patch)
    if share >= SMALL_EDGE:
        return None
    text = (
        f"typical object of class {_shown(value)} as large as a cube of edge {edge:.3g}, "
        f"{100 * share:.2g} % of the patch's edge (below {100 * SMALL_EDGE:.3g} %)"
    )
    figures = {"class": list(value), "edge": edge, "patch_edge": patch, "limit": SMALL_EDGE}
    return Trait(SMALL, text, figures)


def patch_edge_mm(plan: PlanFigures, spacing_mm: Three) -> float:
    """Return the geometric mean of the patch's edges in mm, px where there is no physical size.

    Where the plan does not tell its spacing, the finest axes of the files' median stand for it.
    """
    spacing = plan.spacing_mm or sorted(spacing_mm)[: plan.dims]
    edges = [n * mm for n, mm in zip(plan.patch_size, spacing, strict=True)]
    product = 1.0
    for edge in edges:
        product *= edge
    return rounded(product ** (1 / len(edges)))


def _thin(labels: LabelFigures, values: Sequence[tuple[int, ...]]) -> Trait | None:
    """Look at the class with the largest share of voxels on its border."""
    shares = [(c.border, v) for c, v in zip(labels.classes, values, strict=True) if c.border]
    if not shares:
        return None
    share, value = max(shares)
    if share < THIN_BORDER:
        return None
    text = f"{100 * share:.3g} % of class {_shown(value)} on its border (at least {100 * THIN_BORDER:.3g} %)"
    return Trait(THIN, text, {"class": list(value), "border": share, "limit": THIN_BORDER})


def _shown(value: Sequence[int]) -> str:
    return "+".join(map(str, value))
