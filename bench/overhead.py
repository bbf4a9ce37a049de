"""`segwright bench overhead`: what a trial costs beside its training, here and with nnU-Net.

Both sides run in turn in one go, on the same data, plan, batch, split and threads, without a
GPU. All costs are of whole processes, see `bench/resources.py`. A trial is one iteration of
training, the prediction of search-val, and scores.

| name | what is counted |
| --- | --- |
| cold_trial, warm_trial | from the job to the published result: supervisor, sandboxes for training, weighing and prediction, collection, scoring (Dice, HD95, NSD) |
| nnunet_train | nnUNetv2_train: one training and one validation iteration, and its final validation, which predicts and scores search-val |
| nnunet_validation | the share of that final validation, noted by the trainer file |
| nnunet_trial_predict | nnUNetv2_predict of search-val |
| nnunet_lean_... | the same two with one worker wherever nnU-Net takes several |
| init, prepare | `segwright init` (audit, split, staging); fingerprint, plan, preprocessing |
| nnunet_preprocess | nnUNetv2_plan_and_preprocess --verify_dataset_integrity; ..._unverified without |
| predict, nnunet_predict | final inference with the same weights, mirroring on |

Of each ratio there are several, so that nobody need take our word for what is fair. Not
suffixed: all that nnU-Net's two commands do. `_without_validation`: less its final validation.
`_train_alone`: nnUNetv2_train alone, whose final validation is then the prediction. `_lean`:
with single workers. The warm parent's imports are paid once a machine and are a figure of their
own (`warm_parent_cpu_s`).
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.demo import SETTINGS
from bench.demo_data import build_demo
from bench.figures import Figure, figure
from bench.inference import Agreement, compare
from bench.resources import Cost, reap, total
from bench.sides import Costs, Say, Sides, Source, make_sides, on_device
from bench.starts import start_figures
from bench.trials import first_rung, hourly, starting, trial_cost, warmed
from memory.errors import SegwrightError
from sandbox.processes import adopt_orphans

# The real dataset takes far longer than the demo's: its figures have no spread.
REPEATS, REPEATS_MORE = 3, 1
REAL = Path("../shared/data/Dataset004_Hippocampus")
TRAIN, PREDICT = "nnunet_train", "nnunet_trial_predict"
LEAN_TRAIN, LEAN_PREDICT = "nnunet_lean_train", "nnunet_lean_trial_predict"
WHOLE = "nnunet_trial"

# Ending of the key -> what stands below the line of a trial's ratio.
AGAINST = {
    "": (TRAIN, PREDICT),
    "_without_validation": ("nnunet_train_only", PREDICT),
    "_train_alone": (TRAIN,),
    "_lean": (LEAN_TRAIN, LEAN_PREDICT),
}
RATIOS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    **{f"warm{end}": (("warm_trial",), below) for end, below in AGAINST.items()},
    **{f"cold{end}": (("cold_trial",), below) for end, below in AGAINST.items()},
    "preprocess": (("init", "prepare"), ("nnunet_preprocess",)),
    "preprocess_unverified": (("prepare",), ("nnunet_preprocess_unverified",)),
    "predict": (("predict",), ("nnunet_predict",)),
}


def run(*, is_quick: bool, data: Sequence[Path], say: Say) -> dict[str, Figure]:
    """Measure all and return the figures.

    Args:
        is_quick: the demo dataset alone, everything once.
        data: raw datasets beside the demo; where empty, the real one, if it is there.
        say: told what comes next.
    """
    adopt_orphans()
    repeats = 1 if is_quick else REPEATS
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="segwright-bench-") as name, warmed() as imports_s:
        work = Path(name)
        found = sources(work, is_quick=is_quick, data=data, say=say)
        say("sandbox starts")
        figures["warm_parent_cpu_s"] = figure([imports_s], "s")
        figures |= start_figures(work, repeats=4 * repeats)
        for source in found:
            repeats = min(repeats, REPEATS_MORE) if source.suffix else repeats
            figures |= compared(source, work, repeats=repeats, is_quick=is_quick, say=say)
        reap()
    return figures


def sources(work: Path, *, is_quick: bool, data: Sequence[Path], say: Say) -> list[Source]:
    """Return the datasets to compare on, the demo's first."""
    say("building the demo dataset")
    found = [Source(build_demo(work / "demo"), on_device(SETTINGS, "cpu"), "")]
    wanted = list(data) or ([] if is_quick else [Path(__file__).parents[1] / REAL])
    for path in wanted:
        if (path / "dataset.json").is_file():
            ending = path.resolve().name.partition("_")[2].lower()
            found.append(Source(path.resolve(), on_device({}, "cpu"), f"_{ending}"))
        elif data:
            raise SegwrightError(f"{path} holds no dataset.json; --data takes a raw dataset")
        else:
            say(f"skipped: no {REAL} beside the program")
    return found


def compared(
    source: Source, work: Path, *, repeats: int, is_quick: bool, say: Say
) -> dict[str, Figure]:
    """Measure one dataset on both sides and return its figures."""
    costs = Costs()
    sides = make_sides(source, work, costs, repeats=repeats, say=say)
    for number in range(repeats):
        say(f"{source.data.name}: one-iteration trials on both sides ({number + 1} of {repeats})")
        trials(sides, costs, with_lean=not is_quick)
    found = compare(sides, costs, repeats=repeats, say=say)
    figures = {**ratio_figures(costs), **agreement_figures(found), **cost_figures(costs)}
    if not source.suffix:
        say("trials per hour at the demo's first rung")
        figures |= hourly_figures(sides, rounds=repeats)
    return {key + source.suffix: one for key, one in figures.items()}


def trials(sides: Sides, costs: Costs, *, with_lean: bool) -> None:
    """Run the one-iteration trial once in each way."""
    images = sides.session.folder / "images" / "search-val"
    for start in ("warm", "cold"):
        costs[f"{start}_trial"].append(trial_cost(starting(sides.session, start)))
    train, validation = sides.nnunet.train()
    costs[TRAIN].append(train)
    costs["nnunet_validation"].append(validation)
    costs["nnunet_train_only"].append(less(train, validation))
    costs[PREDICT].append(sides.nnunet.predict(images, sides.nnunet.folder / "predicted"))
    costs[WHOLE].append(total(costs[TRAIN][-1], costs[PREDICT][-1]))
    if with_lean:
        lean = replace(sides.nnunet, is_lean=True)
        costs[LEAN_TRAIN].append(lean.train()[0])
        costs[LEAN_PREDICT].append(lean.predict(images, lean.folder / "predicted"))


def less(whole: Cost, part: Cost) -> Cost:
    """Return a cost without a part of it."""
    return Cost(whole.wall_s - part.wall_s, whole.cpu_s - part.cpu_s)


def ratio_figures(costs: Mapping[str, Sequence[Cost]]) -> dict[str, Figure]:
    """Return every ratio that was measured, of CPU and of wall seconds, ours over nnU-Net's."""
    figures = {}
    for key, (above, below) in RATIOS.items():
        if all(name in costs for name in (*above, *below)):
            base, _, end = key.partition("_")
            pairs = list(zip(sums(costs, above), sums(costs, below), strict=True))
            for kind, field in (("cpu", "cpu_s"), ("wall", "wall_s")):
                values = [getattr(one, field) / getattr(other, field) for one, other in pairs]
                name = f"{base}_{kind}_ratio" + (f"_{end}" if end else "")
                figures[name] = figure(values, "1")
    return figures


def sums(costs: Mapping[str, Sequence[Cost]], names: Sequence[str]) -> list[Cost]:
    """Return the sum over several names for each repeat."""
    return [total(*row) for row in zip(*(costs[name] for name in names), strict=True)]


def cost_figures(costs: Mapping[str, Sequence[Cost]]) -> dict[str, Figure]:
    """Return the seconds that the ratios are made of."""
    figures = {}
    for name, rows in costs.items():
        figures[f"{name}_cpu_s"] = figure([row.cpu_s for row in rows], "s")
        figures[f"{name}_wall_s"] = figure([row.wall_s for row in rows], "s")
    return figures


def agreement_figures(found: Agreement) -> dict[str, Figure]:
    """Return whether both ways predicted the same; labels tell how much there was to differ in."""
    return {
        "same_predictions": figure([float(found.is_same)], "1"),
        "differing_voxels": figure([found.differing], "voxels"),
        "compared_voxels": figure([found.voxels], "voxels"),
        "predicted_labels": figure([found.labels], "labels"),
    }


def hourly_figures(sides: Sides, *, rounds: int) -> dict[str, Figure]:
    """Return trials an hour, all slots at work, and the iterations of each."""
    session = starting(sides.session, "warm")
    rung = first_rung(session)
    return {
        "trials_per_hour": figure(hourly(session, rung=rung, rounds=rounds), "1/h"),
        "trial_iterations": figure([rung], "iterations"),
        "trial_slots": figure([session.slots], "slots"),
    }
