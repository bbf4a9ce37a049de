"""The texts of the confirmed networks, from the repository beside a campaign's store."""

from collections.abc import Iterable
from pathlib import Path

from memory.errors import StoreError
from memory.networks import Networks
from memory.records import Kind, Trial


def read_sources(folder: Path, trials: Iterable[Trial]) -> dict[str, str]:
    """Return network.py of each commit that was trained for the locked test, by commit.

    Args:
        folder: the repository of networks.
        trials: those of the campaign.

    Returns:
        A commit that cannot be read is left out, and all are where there is no repository: the
        report says so, and `segwright check` names why.
    """
    confirmed = (t.commit for t in trials if t.kind is Kind.CONFIRM and t.commit)
    found = dict[str, str]()
    for commit in sorted(set(confirmed)):
        try:
            found[commit] = Networks.open(folder).source(commit)
        except StoreError:
            continue
    return found
