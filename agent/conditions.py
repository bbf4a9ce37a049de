"""On what the lessons of a campaign were seen: numbers, and words of ours.

Of what a dataset says of itself only the names of its channels are looked at, against a fixed
table; none of its words is handed on.
"""

import re
from collections.abc import Sequence

from agent.dataset_card import MOST_CHANNELS, WORD, DatasetCard, dataset_card
from agent.session import Session
from memory.records import Figures, SplitName
from memory.store import Store

CONDITIONS = "conditions"
CT, MR, OTHER = "CT", "MR", "other"
MODALITIES = (CT, MR, OTHER)
_CT = ("ct", "cta", "cect", "ncct", "cbct")
_MR = (
    *("mr", "mri", "cmr", "cinemri", "cine", "flair", "adc", "dwi", "pd", "swi", "lge", "bssfp"),
    *("t1", "t1w", "t1c", "t1n", "t1ce", "t1gd", "t2", "t2w", "t2f"),
)
_NEITHER = ("pet", "spect", "us", "ultrasound")
WORDS = dict.fromkeys(_CT, CT) | dict.fromkeys(_MR, MR) | dict.fromkeys(_NEITHER, OTHER)
"""The modality that a word in the name of a channel tells of."""


def conditions_of(card: DatasetCard, facts: Figures, iterations: int) -> Figures:
    """Return the conditions of a campaign as `Lesson.conditions` holds them. Pure.

    Args:
        card: of its dataset.
        facts: `Campaign.dataset`, with the names of the channels.
        iterations: of a training of the last rung.

    Returns:
        modality (one of MODALITIES), dims (2 or 3), classes, cases (of search-train), traits
        (names, sorted) and iterations.
    """
    return {
        "modality": modality(facts["channels"]),
        "dims": card.plan.dims,
        "classes": card.n_classes,
        "cases": card.cases[SplitName.SEARCH_TRAIN],
        "traits": sorted(trait.name for trait in card.traits),
        "iterations": iterations,
    }


def conditions_now(store: Store, session: Session) -> Figures:
    """Return the conditions of the campaign's dataset; they are found once and kept.

    Raises:
        DatasetError: a label file of search-train is missing or damaged.
    """
    known = store.effect(CONDITIONS)
    if known is None:
        last = session.iterations[session.last_rung]
        made = conditions_of(dataset_card(store, session), session.dataset, last)
        known = store.set_effect(CONDITIONS, made)
    return known


def modality(channels: Sequence[str]) -> str:
    """Return the modality that all channels are of; `other` where they differ or do not tell."""
    found = {_of_channel(str(name)) for name in channels[:MOST_CHANNELS]}
    return found.pop() if len(found) == 1 else OTHER


def _of_channel(name: str) -> str:
    words = re.split(r"[^a-z0-9]+", name[:WORD].lower())
    found = {WORDS[word] for word in words if word in WORDS}
    return found.pop() if len(found) == 1 else OTHER
