"""How a verb opens the store of the campaign that it was given; imports little."""

from pathlib import Path

from memory.errors import StoreError
from memory.store import Store


def open_store(folder: Path, *, read_only: bool = False) -> Store:
    """Open a campaign's store.

    Raises:
        StoreError: the folder holds no campaign.
    """
    if not (folder / "campaign.db").is_file():
        raise StoreError(f"{folder} holds no campaign; make one with `segwright init`")
    return Store.open(folder / "campaign.db", read_only=read_only)
