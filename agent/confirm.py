"""Confirmation: the finalists and the baseline, trained afresh, tested once on locked cases.

Finalists are fixed before the first of these trainings. Seeds are new, the rung is the last
one, and a finalist that needed a smaller batch meets a baseline trained with it. Claims follow `agent/claims.py`; the cases shown in the report are chosen by rule.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.board import finalists
from agent.campaign import Campaign
from agent.claims import (
    Comparison,
    claim_text,
    compare,
    components,
    holm,
    judge,
    minimal_detectable_effect,
)
from agent.config import ConfirmConfig
from agent.graph import replace_id
from agent.locked import locked_label, score_locked
from agent.session import Session
from agent.trials import write_text
from memory.records import Claim, Event, Kind, Metric, SplitName, Trial, short_id
from memory.store import Store
from sandbox.label_map import LabelMap, read_label_map
from sandbox.means import case_mean

CONFIRM_SEED = 1000
ROLES = ("worst", "most improved", "most harmed")

Means = dict[str, float]


class Side(NamedTuple):
    """Which network was trained, None for the baseline, with which batch, None as planned."""

    proposal: str | None
    batch_size: int | None = None

    @property
    def baseline(self) -> "Side":
        """The baseline that this side is compared with."""
        return Side(None, self.batch_size)


class Arm(NamedTuple):
    """The trainings of one side of the confirmation on the locked test."""

    proposal: str | None
    trials: list[Trial]


Arms = Mapping[Side, Arm]


def confirm(campaign: Campaign) -> bool:
    """Train, open the locked test, and store the claims; False when there is no finalist."""
    store, session = campaign.store, campaign.session
    chosen = fix_finalists(campaign)
    if not chosen:
        return False
    for trial in planned(session, [store.trial(t) for t in chosen]):
        who = trial.title if trial.proposal else "the baseline"
        batch = f" with batches of {trial.batch_size}" if trial.batch_size else ""
        text = f"trains {who} afresh{batch} for the locked test, seed {trial.seed}"
        campaign.begin(trial, "confirming", text)
    campaign.drain()
    if session.stopping.is_set():
        return False
    scored = score_locked(session, store)
    arms = group(scored)
    if compared(arms) and not store.claims():
        add_claims(session, store, arms)
    choose_cases(session, store, arms)
    return True


def fix_finalists(campaign: Campaign) -> list[str]:
    """Return the trials whose networks are confirmed; chosen once, then kept."""
    store, k = campaign.store, campaign.session.config.confirm.finalists
    known = store.effect("confirm/finalists")
    if known is None:
        names = [one.network.top.id for one in finalists(campaign.tree()[0], k)]
        known = store.set_effect("confirm/finalists", {"trials": names})
    return list(known["trials"])


def planned(session: Session, chosen: list[Trial]) -> list[Trial]:
    """Return the planned trials of all arms, seed by seed, so that arms stay level."""
    batches = dict.fromkeys(trial.batch_size for trial in chosen)
    arms: list[tuple[Trial | None, int | None]] = [(None, batch) for batch in batches]
    arms += [(trial, trial.batch_size) for trial in chosen]
    seeds = range(CONFIRM_SEED, CONFIRM_SEED + session.config.confirm.seeds)
    return [fresh(session, source, seed, batch) for seed in seeds for source, batch in arms]


def fresh(session: Session, source: Trial | None, seed: int, batch_size: int | None) -> Trial:
    """Return one planned training for the locked test; no source is the baseline."""
    trial = Trial(
        id="",
        parent=source.id if source else None,
        branch=source.branch if source else None,
        proposal=source.proposal if source else None,
        commit=source.commit if source else None,
        kind=Kind.CONFIRM,
        rung=session.last_rung,
        seed=seed,
        split=SplitName.LOCKED_TEST,
        title=source.title if source else "nnU-Net default",
        iterations=session.iterations[-1],
        planned_at=session.now,
        network_hash=source.network_hash if source else None,
        batch_size=batch_size,
    )
    return replace_id(trial)


def group(trials: list[Trial]) -> dict[Side, Arm]:
    """Return the scored trials by network and batch size."""
    arms: dict[Side, Arm] = {}
    for trial in trials:
        side = Side(trial.proposal, trial.batch_size)
        arms.setdefault(side, Arm(trial.proposal, [])).trials.append(trial)
    return arms


def compared(arms: Arms) -> list[tuple[Arm, Arm]]:
    """Return each finalist's arm with the baseline's of the same batch, where both have scores."""
    return [
        (arm, arms[side.baseline])
        for side, arm in arms.items()
        if side.proposal is not None and side.baseline in arms
    ]


def matrix(means: Mapping[str, Means], arm: Arm, cases: list[str]) -> NDArray[np.float64]:
    """Return an arm's Dice, float64 (seeds, cases)."""
    return np.array([[means[t.id][case] for case in cases] for t in arm.trials])


def add_claims(session: Session, store: Store, arms: Arms) -> None:
    """Compare each finalist with the baseline, adjust over finalists, store the claims."""
    rules = session.config.confirm
    means = {
        t.id: case_mean(store.case_scores(t.id), Metric.DICE)
        for arm in arms.values()
        for t in arm.trials
    }
    cases = sorted(set.intersection(*(set(m) for m in means.values())))
    undefined = len(session.cases(SplitName.LOCKED_TEST)) - len(cases)
    tested = [pair for pair in compared(arms) if min(len(arm.trials) for arm in pair) > 1]
    if len(cases) < 2 or not tested:
        text = "no claim: fewer than two trainings of a side reached the locked test"
        store.add_event(Event("no_claim", text, {"undefined": undefined}, at=session.now))
        return
    results = [
        compare(
            matrix(means, arm, cases),
            matrix(means, base, cases),
            alpha=rules.alpha,
            margin=rules.margin,
        )
        for arm, base in tested
    ]
    adjusted = holm([result.p for result in results])
    for pair, result, p_holm in zip(tested, results, adjusted, strict=True):
        claim = claim_of(rules, pair, result, p_holm=p_holm, cases=len(cases))
        store.add_claim(replace(claim, figures=claim.figures | {"undefined": undefined}))


def claim_of(
    rules: ConfirmConfig, pair: tuple[Arm, Arm], result: Comparison, *, p_holm: float, cases: int
) -> Claim:
    """Return the claim about a finalist's arm against its baseline's, on that many cases."""
    arm, base = pair
    seeds = min(len(arm.trials), len(base.trials))
    verdict = judge(result, p_holm, margin=rules.margin, n_locked=cases, seeds=seeds)
    mde = minimal_detectable_effect(components(result), cases=cases, seeds=seeds, alpha=rules.alpha)
    wording = claim_text(verdict, result, p_holm=p_holm, margin=rules.margin, mde=mde)
    extra = {"p_holm": p_holm, "mde": mde, "margin": rules.margin, "fields": wording.fields}
    return Claim(
        id=short_id(["claim", arm.proposal]),
        finalist=str(arm.proposal),
        metric=Metric.DICE,
        verdict=verdict,
        text=wording.template,
        trials=tuple(t.id for t in arm.trials),
        baseline_trials=tuple(t.id for t in base.trials),
        figures={**result._asdict(), **extra},
    )


def choose_cases(session: Session, store: Store, arms: Arms) -> None:
    """Write the overlays of the worst, most improved and most harmed case of each finalist."""
    folder = session.folder / "report" / "cases"
    found: list[dict[str, Any]] = []
    for arm, baseline in compared(arms):
        own, base = seed_mean(store, arm), seed_mean(store, baseline)
        common = sorted(set(own) & set(base))
        for role, case in by_role(own, base, common).items():
            values = {"candidate": own[case], "baseline": base[case]}
            label = locked_label(session, store, case)
            name = write_overlay(session, case, label, (arm.trials[0], baseline.trials[0]))
            row = {"case": case, "role": role, "finalist": arm.proposal, "file": name}
            found.append(row | values | {"delta": own[case] - base[case]})
    write_text(folder / "cases.json", json.dumps(found, indent=1))


def seed_mean(store: Store, arm: Arm) -> Means:
    """Return each case's Dice averaged over an arm's trainings; cases defined in all of them."""
    each = [case_mean(store.case_scores(t.id), Metric.DICE) for t in arm.trials]
    common = set.intersection(*(set(m) for m in each))
    return {case: sum(m[case] for m in each) / len(each) for case in sorted(common)}


def by_role(own: Means, base: Means, cases: list[str]) -> dict[str, str]:
    """Return the case of each role; ties go to the first by name."""
    if not cases:
        return {}
    ordered = sorted(cases, key=lambda c: (own[c] - base[c], c))
    return {
        "worst": min(cases, key=lambda c: (own[c], c)),
        "most improved": ordered[-1],
        "most harmed": ordered[0],
    }


def write_overlay(session: Session, case: str, label: LabelMap, trials: tuple[Trial, Trial]) -> str:
    """Write one slice of a case: image, label and both predictions; return the file's name.

    The trials are the candidate's and the baseline's; the slice is the one with most labelled
    voxels along the first axis.
    """
    ending = session.dataset["file_ending"]
    maps = [
        read_label_map(session.trial_folder(t.id) / "predictions" / f"{case}{ending}").array
        for t in trials
    ]
    image = read_image(session.folder / "images" / SplitName.LOCKED_TEST / f"{case}_0000{ending}")
    if label.ndim == 3:
        z = int((label > 0).sum(axis=(1, 2)).argmax())
        label, image, maps = label[z], image[z], [m[z] for m in maps]
    path = session.folder / "report" / "cases" / f"{case}_{trials[0].proposal}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, image=image, label=label, candidate=maps[0], baseline=maps[1])
    return path.name


def read_image(path: Any) -> NDArray[np.float32]:
    """Read an image's first channel, float32 (Z, Y, X) or (Y, X)."""
    import SimpleITK as sitk

    array: NDArray[np.float32] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    array = array.astype(np.float32)
    return array[..., 0] if array.ndim > 2 and array.shape[-1] in (3, 4) else array
