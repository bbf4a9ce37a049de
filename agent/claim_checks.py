"""Claims made again from scores: whether each still says what the locked test showed."""

import math
from collections.abc import Iterator
from typing import Any

from agent.claim_rows import scores_of
from agent.claims import NONINFERIORITY, compare, holm
from agent.score_table import columns, is_comparable, table
from memory.records import Claim, SplitName
from memory.store import Store

CLOSE = 1e-9


def problems(store: Store) -> Iterator[str]:
    """Yield what of the stored claims no longer follows from the stored scores."""
    claims = [claim for claim in store.claims() if "p" in claim.figures]
    adjusted = holm([claim.figures["p"] for claim in claims])
    for claim, p in zip(claims, adjusted, strict=True):
        derived = {**compared(store, claim), "p_holm": p}
        for name, value in derived.items():
            stored = claim.figures.get(name, value)
            if not math.isclose(stored, value, abs_tol=CLOSE):
                yield f"claim {claim.id}: {name} is {stored}, its scores give {value}"


def compared(store: Store, claim: Claim) -> dict[str, Any]:
    """Return the figures of a claim's comparison as its trainings' scores give them."""
    own, base = (
        scores_of(store, store.trials_by_id(names))
        for names in (claim.trials, claim.baseline_trials)
    )
    patients = {case.case: case.patient for case in store.split(SplitName.LOCKED_TEST)}
    found = table(own, base, cases=list(patients))
    if not is_comparable(found, patients) or "alpha" not in claim.figures:
        return {}
    result = compare(
        found.candidate,
        found.baseline,
        alpha=claim.figures["alpha"],
        margin=claim.figures["margin"],
        noninferiority=claim.figures.get("noninferiority", NONINFERIORITY),
        patients=columns(found, patients),
    )
    return result._asdict()
