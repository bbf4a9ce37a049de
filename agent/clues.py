"""The clues about one trial of the search: all that our own code can compute on why it ended so.

From the rows of search-val, the baseline's repeats at the same rung and batch size, and files that
the host has. Never read: a score or a label of the locked test. What cannot be computed is left
out; calibration never can, and one clue says so.
"""

from collections.abc import Iterator
from pathlib import Path

from agent.clue_images import image_clues, maps_of
from agent.clue_runs import run_clues
from agent.clue_scores import baselines, read_table, score_clues, worst_labels
from agent.clue_text import slugs
from agent.standings import SEARCH, Standings, is_scored, setup_of
from agent.suggestions import MOST_CLUES, Clue
from memory.errors import ClaimError
from memory.records import SplitName, Trial
from memory.store import Store

CALIBRATION = Clue(
    "calibration", "calibration is not known: only label maps leave the sandbox", None, ""
)


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
    found = list(_clues(store, folder, trial, standings or Standings(store)))
    return (*{clue.key: clue for clue in found[: MOST_CLUES - 40]}.values(), CALIBRATION)


def _clues(store: Store, folder: Path, trial: Trial, standings: Standings) -> Iterator[Clue]:
    base = baselines(store)
    split = store.split()
    yield from run_clues(
        store,
        folder,
        trial,
        baselines=base,
        names=[case.case for case in split] + [case.patient for case in split],
        standings=standings,
    )
    if is_scored(trial):
        yield from _scored_clues(store, folder, trial, standings)


def _scored_clues(store: Store, folder: Path, trial: Trial, standings: Standings) -> Iterator[Clue]:
    table = read_table(store, trial)
    keys = slugs(sorted({label for _, label in table.own.series if label}))
    yield from score_clues(store, trial, table, standings, keys)
    dataset = store.campaign().dataset
    maps = maps_of(folder, dataset, standings.cases)
    if maps is None:
        return
    looked = {
        label: keys[label] for label in worst_labels(table, list(keys)) if label in maps.labels
    }
    peers = [one.id for one in baselines(store) if setup_of(one) == setup_of(trial)]
    yield from image_clues(maps, trial.id, peers, looked)
