"""Confirmation: the finalists and the baseline, trained afresh, tested once on locked cases.

Finalists are fixed before the first of these trainings. Seeds are new, the rung is the last
one, and a finalist that needed a smaller batch meets a baseline trained with it. Claims follow
`agent/claims.py` and are stored before anything else is scored; then come the ablations of what
was confirmed (`agent/ablation.py`). The cases shown in the report are chosen by rule.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.ablate import ablate
from agent.ablation import open_trials, plan
from agent.board import finalists
from agent.campaign import Campaign
from agent.claim_rows import claims_of, dice_table
from agent.locked import ended_well, locked_label, open_labels, score_locked
from agent.session import Session
from agent.stage import FINALISTS
from agent.trials import fresh, write_text
from memory.records import Event, Kind, Metric, SplitName, Status, Trial
from memory.store import Store
from sandbox.label_map import LabelMap, read_label_map
from sandbox.means import case_mean

CONFIRM_SEED = 1000
TESTED = "confirm/tested"
LOCKED = SplitName.LOCKED_TEST
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
    """Train, open the locked test, store the claims, ablate; False when there is no finalist."""
    store, session = campaign.store, campaign.session
    chosen = [store.trial(name) for name in fix_finalists(campaign)]
    if not chosen:
        return False
    train(campaign, chosen)
    if session.stopping.is_set():
        return False
    ablations = plan(campaign, chosen)
    arms = tested_arms(session, store, open_trials(store, ablations))
    if store.effect(TESTED) is None and not store.claims():
        add_claims(session, store, arms)
    choose_cases(session, store, arms)
    return ablate(campaign, ablations)


def train(campaign: Campaign, chosen: list[Trial]) -> None:
    """Train all arms that are not trained yet, and wait for them."""
    for trial in planned(campaign.session, chosen):
        who = trial.title if trial.proposal else "the baseline"
        batch = f" with batches of {trial.batch_size}" if trial.batch_size else ""
        text = f"trains {who} afresh{batch} for the locked test, seed {trial.seed}"
        campaign.begin(trial, "confirming", text)
    campaign.drain()


def tested_arms(session: Session, store: Store, later: Sequence[Trial]) -> Arms:
    """Open the locked test and return the arms with scores.

    `later` are the trials that may be scored after the claims: the one opening names them too.
    Where no training ended well the test stays shut.
    """
    trials = store.trials(kind=Kind.CONFIRM)
    ready = [t for t in trials if t.status is Status.OK or ended_well(session, t)]
    if ready:
        open_labels(session, store, [*ready, *later])
        score_locked(session, store, ready)
    return group(store.trials(kind=Kind.CONFIRM, status=Status.OK))


def fix_finalists(campaign: Campaign) -> list[str]:
    """Return the trials whose networks are confirmed; chosen once, then kept."""
    store, k = campaign.store, campaign.session.config.confirm.finalists
    known = store.effect(FINALISTS)
    if known is None:
        names = [one.network.top.id for one in finalists(campaign.tree()[0], k)]
        # A campaign that found nobody may go on searching with another budget.
        known = store.set_effect(FINALISTS, {"trials": names}) if names else {"trials": []}
    return list(known["trials"])


def planned(session: Session, chosen: list[Trial]) -> list[Trial]:
    """Return the planned trials of all arms, seed by seed, so that arms stay level."""
    batches = dict.fromkeys(trial.batch_size for trial in chosen)
    arms: list[tuple[Trial | None, int | None]] = [(None, batch) for batch in batches]
    arms += [(trial, trial.batch_size) for trial in chosen]
    seeds = range(CONFIRM_SEED, CONFIRM_SEED + session.config.confirm.seeds)
    return [
        fresh(session, source, kind=Kind.CONFIRM, split=LOCKED, seed=seed, batch_size=batch)
        for seed in seeds
        for source, batch in arms
    ]


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


def add_claims(session: Session, store: Store, arms: Arms) -> None:
    """Test each finalist against its baseline and store all claims at once, or that there is none."""
    pairs = [(arm.trials, base.trials) for arm, base in compared(arms)]
    claims = claims_of(session, store, pairs)
    with store.transaction():
        for claim in claims:
            store.add_claim(claim)
        if not claims:
            text = "no claim: fewer than two trainings of a side reached the locked test"
            without = [dice_table(session, store, pair).undefined for pair in pairs]
            figures = {"undefined": max(without, default=len(session.cases(LOCKED)))}
            store.add_event(Event("no_claim", text, figures, at=session.now))
        store.set_effect(TESTED, {"claims": [claim.id for claim in claims]})


def choose_cases(session: Session, store: Store, arms: Arms) -> None:
    """Write the overlays of the worst, most improved and most harmed case of each finalist."""
    path = session.folder / "report" / "cases" / "cases.json"
    if path.exists():
        return
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
    write_text(path, json.dumps(found, indent=1))


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

    The trials are the candidate's and the baseline's; of a volume it is `telling_slice`.
    """
    ending = session.dataset["file_ending"]
    maps = [
        read_label_map(session.trial_folder(t.id) / "predictions" / f"{case}{ending}").array
        for t in trials
    ]
    image = read_image(session.folder / "images" / LOCKED / f"{case}_0000{ending}")
    if label.ndim == 3:
        z = telling_slice(label, maps)
        label, image, maps = label[z], image[z], [m[z] for m in maps]
    path = session.folder / "report" / "cases" / f"{case}_{trials[0].proposal}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, image=image, label=label, candidate=maps[0], baseline=maps[1])
    return path.name


def telling_slice(label: LabelMap, maps: Sequence[LabelMap]) -> int:
    """Return the slice in which two predictions differ most, the first of several.

    Args:
        label: int (Z, Y, X).
        maps: two predictions of that shape; where they are the same, the slice with most labelled
            voxels is returned.
    """
    apart = maps[0] != maps[1]
    shown = apart if apart.any() else label > 0
    return int(shown.sum(axis=(1, 2)).argmax())


def read_image(path: Any) -> NDArray[np.float32]:
    """Read an image's first channel, float32 (Z, Y, X) or (Y, X)."""
    import SimpleITK as sitk

    array: NDArray[np.float32] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    array = array.astype(np.float32)
    return array[..., 0] if array.ndim > 2 and array.shape[-1] in (3, 4) else array
