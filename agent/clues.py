"""The clues about one trial of the search: all that our own code can compute on why it ended so.

From the rows of search-val, the baseline's repeats at the same rung and batch size, and files that
the host has. Never read: a score or a label of the locked test. What cannot be computed is left
out; where it is calibration, one clue says so and why.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.clue_calibration import NO_PREDICTION, NOT_KEPT, calibration_clues, unknown
from agent.clue_images import image_clues, maps_of
from agent.clue_runs import run_clues
from agent.clue_scores import baselines, read_table, score_clues, worst_labels
from agent.clue_text import slugs
from agent.standings import SEARCH, Standings, is_scored, setup_of
from agent.suggestions import MOST_CLUES, Clue
from memory.errors import ClaimError
from memory.records import SplitName, Trial
from memory.store import Store

CALIBRATION = unknown(NOT_KEPT)
ROOM = 39
"""How many clues the audit and the model may add, beside those of calibration."""


def gather(
    store: Store, folder: Path, trial: Trial, *, standings: Standings | None = None
) -> tuple[Clue, ...]:
    """Return the clues about a finished trial of the search, in a fixed order.

    Args:
        store: the campaign's.
        folder: the campaign's; label maps, curves and code are read there.
        trial: final, scored on search-val.
        standings: of the same store, where the caller has one.

    The same rows and files give the same clues.

    Raises:
        ClaimError: the trial is not one of the search, or has not ended.
    """
    is_search = trial.kind in SEARCH and trial.split is SplitName.SEARCH_VAL and not trial.fold
    if not is_search or not trial.status.is_final:
        raise ClaimError(
            f"trial {trial.id} is {trial.kind} on {trial.split}, {trial.status}; clues are of "
            "finished trials of the search, from search-val alone"
        )
    standings = standings or Standings(store)
    names = [name for case in store.split() for name in (case.case, case.patient)]
    base = baselines(store)
    found = list(run_clues(store, folder, trial, baselines=base, names=names, standings=standings))
    told: tuple[Clue, ...] = (unknown(NO_PREDICTION),)
    if is_scored(trial):
        table = read_table(store, trial)
        keys = slugs(sorted({label for _, label in table.own.series if label}))
        found += score_clues(store, trial, table, standings, keys)
        looked = {label: keys[label] for label in worst_labels(table, list(keys))}
        found += _image_clues(store, folder, trial, standings, looked)
        told = calibration_clues(store, folder, trial, table.own, keys=looked, names=names)
    most = MOST_CLUES - ROOM - len(told)
    return (*{clue.key: clue for clue in found[:most]}.values(), *told)


def _image_clues(
    store: Store, folder: Path, trial: Trial, standings: Standings, looked: Mapping[str, str]
) -> Iterator[Clue]:
    maps = maps_of(folder, store.campaign().dataset, standings.cases)
    if maps is None:
        return
    peers = [one.id for one in baselines(store) if setup_of(one) == setup_of(trial)]
    known = {label: key for label, key in looked.items() if label in maps.labels}
    yield from image_clues(maps, trial.id, peers, known)
