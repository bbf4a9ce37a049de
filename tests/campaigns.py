"""A test fixture, not data: a whole campaign folder with invented scores, through the store.

Used by the tests of facts, figures and reports. No number in it comes from a training.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from memory.records import (
    Branch,
    Campaign,
    CaseScore,
    Claim,
    Event,
    Kind,
    Metric,
    Module,
    Proposal,
    SplitCase,
    SplitName,
    Status,
    TestAccess,
    Trial,
    trial_id,
)
from memory.store import Store
from sandbox.split import split_hash

START_S = 1_790_000_000.0
LABELS = ("inner", "outer")
PARTS = {SplitName.SEARCH_TRAIN: 12, SplitName.SEARCH_VAL: 10, SplitName.LOCKED_TEST: 54}
HOSTILE = (
    '<script>alert(1)</script> \\input{/etc/passwd} $x^2_{3}$ & 50% #1 ~ "q" \u202e 数 {candidate}'
)
TEMPLATE = (
    "{candidate} was not distinguishable from {baseline} on the locked test set of {dataset}: "
    "per-case Dice differed by {delta} points ({level} % CI {low} to {high}; Holm-adjusted "
    "p = {p}), higher in {cases_higher} of {n_cases} cases."
)
_MODULES = (
    (Module("residual_encoder", "encoder", (0, 1)), Module("attention_gate", "skip", (0, 1, 2))),
    (Module("linear_attention", "bottleneck", ()), Module("blur_pool", "downsample", (1, 2))),
    (Module("fine_supervision", "heads", ()), Module("squeeze_excitation", "decoder", (0,))),
)
_TITLES = ("Residual encoder and gated skips", "Linear attention", "Fine supervision and squeeze")


class _Builder:
    """Fills a store with trials whose scores come from a seeded generator."""

    def __init__(self, store: Store, *, hostile: bool) -> None:
        self.store, self.hostile = store, hostile
        self.random = np.random.default_rng(7)
        self.clock = START_S + 60.0

    def trial(
        self,
        kind: Kind,
        rung: int,
        seed: int,
        *,
        proposal: int | None = None,
        gain: float = 0.0,
        parent: str | None = None,
        status: Status = Status.OK,
    ) -> Trial:
        """Add a trial and its result, and return it."""
        self.clock += 30.0
        locked = kind is Kind.CONFIRM
        planned = Trial(
            id="",
            parent=parent,
            rung=rung,
            seed=seed,
            kind=kind,
            branch=None if proposal is None else f"branch{proposal}",
            proposal=None if proposal is None else f"proposal{proposal}",
            commit=None if proposal is None else f"{proposal + 1:040x}",
            split=SplitName.LOCKED_TEST if locked else SplitName.SEARCH_VAL,
            title="nnU-Net default" if proposal is None else self.title(proposal),
            iterations=(60, 240)[rung],
            planned_at=self.clock,
            started_at=self.clock,
        )
        planned = replace(planned, id=trial_id(planned))
        self.store.add_trial(planned)
        self.finish(planned, gain, status)
        return planned

    def finish(self, planned: Trial, gain: float, status: Status) -> None:
        """End a trial, with scores where it is ok."""
        rung = planned.rung
        self.clock += 45.0 * (1 + 3 * rung)
        changes = {
            "status": status,
            "ended_at": self.clock,
            "seconds": 45.0 * (1 + 3 * rung),
            "gpu_seconds": 0.0,
            "peak_memory_mib": 812.0,
            "isolation": "A bubblewrap",
            "parameters": 1_203_456 if planned.proposal is None else 1_310_720,
            "flops": 2_345_678_901,
        }
        scores: list[CaseScore] = []
        if status is Status.OK:
            scores = self.scores(planned, gain)
        else:
            excerpt = HOSTILE if self.hostile else "RuntimeError: sizes 24 and 23 do not match"
            changes |= {"failure_class": "shape_mismatch", "failure_excerpt": excerpt}
        self.store.record_result(planned.id, changes=changes, scores=scores)

    def title(self, proposal: int) -> str:
        """Return the title of a proposal, hostile where asked for."""
        return f"{HOSTILE} {proposal}" if self.hostile else _TITLES[proposal]

    def scores(self, trial: Trial, gain: float) -> list[CaseScore]:
        """Return invented scores: a difficulty for each case, noise for each trial."""
        found = []
        luck = self.random.normal(0.0, 0.004)
        for place in range(PARTS[trial.split]):
            hard = 0.06 * np.sin(place * 1.7) + 0.02 * trial.rung
            for label, level in zip(LABELS, (0.78, 0.70), strict=True):
                noise = self.random.normal(0.0, 0.015)
                dice = float(np.clip(level + hard + gain + luck + noise, 0.0, 1.0))
                values = (
                    (Metric.DICE, dice),
                    (Metric.NSD, min(1.0, dice + 0.1)),
                    (Metric.HD95, 12.0 * (1.0 - dice)),
                )
                empty = place == 3 and label == LABELS[1]
                name = case_name(trial.split, place)
                for metric, value in values:
                    kept, why = (None, "empty in both") if empty else (value, None)
                    found.append(CaseScore(trial.id, name, label, metric, kept, why))
        return found


def case_name(part: SplitName, place: int) -> str:
    """Return the name of a case of a part."""
    return f"{part.value.split('-')[1]}_{place:03d}"


def build_campaign(
    folder: Path,
    *,
    baselines: int = 3,
    searched: bool = True,
    confirmed: bool = True,
    simulated: bool = True,
    hostile: bool = False,
    verdict: str = "not_distinguishable",
    gain: float = 0.004,
) -> Path:
    """Build a campaign folder that looks as after a run, and return it.

    Args:
        folder: made here.
        baselines: how many seeds of the baseline were trained at the first rung.
        searched: False ends the campaign after the first baseline.
        confirmed: False ends it before the locked test.
        simulated: whether the subjects are said to be simulated.
        hostile: puts markup into every text that a planner or a trial may write.
        verdict: the verdict of the one claim.
        gain: what the first proposal adds to the Dice of every case.
    """
    (folder / "report" / "cases").mkdir(parents=True)
    row = _campaign(simulated=simulated, hostile=hostile)
    with Store.create(folder / "campaign.db", row) as store:
        store.add_split([c for part in PARTS for c in _split(part)])
        budget = {"hours": 0.75, "trials": 0}
        store.add_event(Event("started", "started", {"budget": budget}, at=START_S))
        builder = _Builder(store, hostile=hostile)
        _rules(builder)
        for seed in range(baselines):
            builder.trial(Kind.BASELINE, 0, seed)
        if searched:
            _protocol(store)
            _noise(builder)
            _search(builder, gain)
            _staged(builder)
            if confirmed:
                _confirm(builder, folder, verdict, gain)
                _ablation(builder)
        store.set_state("done")
        store.add_event(Event("done", "the campaign is done", {}, at=builder.clock + 5.0))
    return folder


def _campaign(*, simulated: bool, hostile: bool) -> Campaign:
    return Campaign(
        id="0123456789ab",
        name=HOSTILE if hostile else "fixture",
        created_at=START_S,
        version="0.1.0",
        config={
            "name": "fixture",
            "split": {"seed": 20260101},
            "explore": {"policy": "qwbe", "seed": 1},
            "confirm": {"seeds": 3, "finalists": 1, "alpha": 0.05, "margin": 0.005},
            "scoring": {"tolerance_mm": 2.0},
            "budget": {"hours": 0.5, "gpu_hours": 0.0, "usd": 0.0, "trials": 0},
        },
        dataset={
            "name": HOSTILE if hostile else "Dataset900_Fixture",
            "description": "Invented scores of a test fixture.",
            "licence": "CC0-1.0",
            "reference": "none",
            "origin": "{'package': 'none'}",
            "dataset_json": {"origin": {"package": "no package", "files": ["a"], "seed": 152}},
            "channels": ["T1"],
            "labels": {name: i + 1 for i, name in enumerate(LABELS)},
            "dims": 2,
            "simulated": simulated,
            "cases": 76,
            "patients": 76,
            "findings": [HOSTILE if hostile else "warning: case_007 has an empty label"],
        },
        dataset_hash="ab" * 32,
        split_hash=split_hash([case for part in PARTS for case in _split(part)]),
        environment={
            "python": "3.11.4",
            "platform": "Linux-6.1-x86_64",
            "cpu": "two cores",
            "segwright": "0.1.0",
            "nnunetv2": "2.8.1",
            "torch": "2.13.0",
        },
    )


def _split(part: SplitName) -> list[SplitCase]:
    return [
        SplitCase(name, f"p{name}", part, 1500.0 + 10.0 * i, f"{i:064x}", f"{i + 9:064x}")
        for i, name in ((i, case_name(part, i)) for i in range(PARTS[part]))
    ]


def _protocol(store: Store) -> None:
    store.set_protocol(
        {
            "rung_iterations": [60, 240],
            "batch_size": 8,
            "patch_size": [64, 64],
            "device": "cpu",
            "isolation": "A bubblewrap 0.8.0",
            "alpha": 0.05,
            "margin": 0.005,
            "metric": "dice",
            "plan": {"features": [16, 32, 64, 128], "strides": [[1, 1], [2, 2], [2, 2], [2, 2]]},
        }
    )


def _rules(builder: _Builder) -> None:
    """Declare a protocol, and change it for a reason."""
    record = {
        "primary": "mean over cases of the mean over classes of Dice",
        "secondaries": ["Dice of each class", "NSD", "HD95"],
        "margin": "confirm.margin in Dice, at least 0.005",
        "tests": ["t test with 2 factors", "signed-rank test"],
        "least": {"locked_patients": 50, "seeds": 3},
        "equal_budget": {"same": ["iterations", "loss"], "reported": ["seconds"]},
        "settings": {"confirm.alpha": 0.1},
    }
    declared = {"record": record, "hash": "ef" * 32}
    changed = {"setting": "confirm.alpha", "before": 0.1, "after": 0.05}
    reason = HOSTILE if builder.hostile else "a reviewer asked for 5 %"
    for kind, text, figures in (
        ("protocol", "declared the protocol", declared),
        ("amended", "amends the protocol", {**changed, "reason": reason}),
    ):
        builder.store.add_event(Event(kind, text, figures, at=builder.clock))


def _noise(builder: _Builder) -> None:
    figures = {"run_sd": 0.002, "resid_sd": 0.015, "case_sd": 0.015, "cases": 54, "seeds": 3}
    figures |= {"seen_cases": 10, "seen_seeds": 3, "detectable": 0.0109, "margin": 0.0109}
    event = Event("noise", "measured", {**figures, "power": 0.8}, at=builder.clock)
    builder.store.add_event(event)
    told = "confirm.margin is 0.50 points, and the test detects 1.09 points; goes on"
    builder.store.add_event(Event("low_power", told, figures, at=builder.clock))


def _staged(builder: _Builder) -> None:
    """Choose the finalist on two further folds; the trainings themselves are left out."""
    store = builder.store
    tops = [t.id for t in store.trials(rung=0) if t.proposal and t.status is Status.OK]
    fold = {"delta": 0.006, "se": 0.004, "n_cases": 10, "n_seeds": 3}
    scores = [
        {
            "trial": name,
            "prior": {"mean": 0.008, "sd": 0.01},
            "folds": [fold, fold],
            "mean": 0.0065,
            "sd": 0.0027,
            "cost_s": 180.0,
        }
        for name in tops
    ]
    plan = {"candidates": tops, "networks": 3, "folds": 2, "again": 1, "seeds": 2}
    store.add_event(Event("selection", "looks at the best", plan, at=builder.clock))
    chosen = {"finalists": tops[:1], "scores": scores}
    store.add_event(Event("finalists", "chooses", chosen, at=builder.clock))


def _ablation(builder: _Builder) -> None:
    """Tell two ablations, one of which could not be compared."""
    module = HOSTILE if builder.hostile else "attention gates (skip 0-2)"
    figures = {"module": module, "split": "locked-test", "trials": [], "n_seeds": 3}
    found = {"delta": 0.004, "low": -0.002, "high": 0.01, "n_cases": 53, "undefined": 1}
    nothing = {"delta": None, "low": None, "high": None, "n_cases": 0, "undefined": 54}
    for row in (found, nothing):
        builder.store.add_event(Event("ablation", "without", figures | row, at=builder.clock))
    own = Trial("let0be", None, None, None, None, Kind.ABLATE, 1, 2000, SplitName.LOCKED_TEST)
    builder.store.add_trial(own)
    ended = {"status": Status.CANCELLED, "ended_at": builder.clock}
    builder.store.record_result(own.id, changes=ended, scores=[])
    left = {"reason": "impossible", "trials": []}
    text = f"leaves out the ablation without {module}: nothing else is left"
    builder.store.add_event(Event("ablation_left_out", text, left, at=builder.clock))


def _search(builder: _Builder, gain: float) -> None:
    store = builder.store
    for seed in range(3):
        builder.trial(Kind.BASELINE, 1, seed)
    for place, modules in enumerate(_MODULES):
        text = HOSTILE if builder.hostile else "Small structures suffer from coarse features."
        cites = ("isensee2021nnunet", "he2016resnet", "nobody1999invented")
        store.add_proposal(
            Proposal(
                f"proposal{place}",
                builder.title(place),
                f"{text}\n\nA second paragraph with 3 reasons.",
                modules,
                f"No gain at rung {place}.",
                cites if place == 0 else (),
                "grammar",
            )
        )
        store.add_branch(Branch(f"branch{place}", f"proposal{place}", "open", builder.clock))
    first = builder.trial(Kind.DRAFT, 0, 1, proposal=0, gain=3 * gain)
    second = builder.trial(Kind.DRAFT, 0, 1, proposal=1, gain=-0.03)
    builder.trial(Kind.DRAFT, 0, 1, proposal=2, status=Status.FAILED)
    why = HOSTILE if builder.hostile else "7% likely to pass the baseline by the margin"
    text = f"cuts {second.id}: {why}"
    store.add_event(
        Event("cut", text, {"closes_branch": True}, second.id, "branch1", builder.clock)
    )
    store.set_branch_state("branch1", "cut")
    builder.trial(Kind.DRAFT, 1, 1, proposal=0, gain=3 * gain, parent=first.id)


def _confirm(builder: _Builder, folder: Path, verdict: str, gain: float) -> None:
    store = builder.store
    base = [builder.trial(Kind.CONFIRM, 1, 1000 + s) for s in range(3)]
    own = [builder.trial(Kind.CONFIRM, 1, 1000 + s, proposal=0, gain=gain) for s in range(3)]
    names = tuple(t.id for t in (*base, *own))
    store.add_test_access(
        TestAccess("segwright confirm", "scores the confirmation", names, builder.clock)
    )
    tested = {"delta": 0.004, "low": -0.003, "high": 0.011, "p": 0.25}
    fields = {**tested, "level": 0.95, "cases_higher": 30, "n_cases": 53}
    extra = {"se": 0.0035, "p_holm": 0.25, "mde": 0.0116, "margin": 0.005, "fields": fields}
    extra |= {"n_cases": 53, "cases_higher": 30, "bootstrap_low": -0.0031, "bootstrap_high": 0.0107}
    extra |= {"p_permutation": 0.262, "power_at_margin": 0.21, "shrunken": 0.0036}
    extra |= {"shrunken_weight": 0.89, "selection_gain": 0.012, "selection_lost": 0.008}
    row = {"label": "outer", "n_cases": 53, "undefined": 1, "is_flagged": False}
    extra["secondary"] = [
        {"metric": "hd95", "delta": 0.31, "low": -0.2, "high": 0.82, **row},
        {"metric": "nsd", "delta": -0.02, "low": -0.03, "high": -0.01, **row, "is_flagged": True},
        {"metric": "dice", "label": "inner", "n_cases": 0, "undefined": 54},
    ]
    store.add_claim(
        Claim(
            "claim0",
            "proposal0",
            Metric.DICE,
            verdict,
            TEMPLATE,
            tuple(t.id for t in own),
            tuple(t.id for t in base),
            {**tested, **extra},
        )
    )
    _slices(folder / "report" / "cases")


def _slices(folder: Path) -> None:
    """Write a slice of every locked case, so that the notable ones are among them."""
    y, x = np.mgrid[0:72, 0:80]
    entries = []
    for place in range(PARTS[SplitName.LOCKED_TEST]):
        case = case_name(SplitName.LOCKED_TEST, place)
        radius = np.hypot(y - 36 - place % 5, x - 40)
        label = (radius < 20).astype(int) + (radius < 11)
        shifted = np.roll(label, 2 + place % 3, axis=1)
        image = (20.0 - radius).clip(-8) + 2.0 * np.sin(x + place)
        np.savez_compressed(
            folder / f"{case}.npz",
            image=image,
            label=label,
            baseline=shifted,
            candidate=np.roll(label, 1, axis=0),
        )
        entries.append(
            {"case": case, "role": "worst", "finalist": "proposal0", "file": f"{case}.npz"}
        )
    (folder / "cases.json").write_text(json.dumps(entries))
