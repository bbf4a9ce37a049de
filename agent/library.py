"""The library: what campaigns of this user learnt, in one JSON file, for the campaigns to come.

A campaign takes from it once, when it is prepared, and keeps what it took in its store, so that a
replay needs no library. When it ends it gives its own entry, in the place of an earlier one, so
that nothing counts twice. What an entry may say is in `agent/library_entry.py`.

The file is {"version": 1, "campaigns": {ID: entry}}. It is written under another name, put on the
disk and renamed, by one process at a time; a file that cannot be read is never written over.
"""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from agent.effects import Knowledge
from agent.library_entry import Entry, parse_entry
from agent.library_lessons import lessons_of
from memory.errors import ConfigError, SegwrightError
from memory.ranking import closeness
from memory.records import Figures
from memory.store import Store

VERSION = 1
MOST_ENTRIES, MOST_BYTES = 1000, 32 << 20
MOST_TAKEN = 50  # campaigns, those whose datasets are closest
TAKEN = "library"
VARIABLE = "SEGWRIGHT_LIBRARY"
BUSY_S, LOOK_S = 30.0, 0.05


@dataclass(frozen=True)
class Library:
    """The entries of campaigns by their ids."""

    campaigns: Mapping[str, Entry] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> "Library":
        """Return the library of a file; an empty one where there is no file.

        Raises:
            ConfigError: it is damaged, too large, of a newer version, or says what no entry may.
        """
        try:
            with path.open("rb") as file:
                raw = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return Library()
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        try:
            return Library.parse(raw)
        except ConfigError as error:
            what = "move it away, or set memory.library to another file or off in campaign.toml"
            raise ConfigError(f"{path} is no library that can be used: {error}; {what}") from None

    @staticmethod
    def parse(raw: bytes) -> "Library":
        """Return what `text` made, from a source that is not to be trusted.

        Raises:
            ConfigError: as `read`.
        """
        if len(raw) > MOST_BYTES:
            raise ConfigError(f"it has more than {MOST_BYTES} bytes")
        found = _decoded(raw)
        if not isinstance(found, dict) or set(found) != {"version", "campaigns"}:
            raise ConfigError("allowed: an object of version and campaigns")
        version, entries = found["version"], found["campaigns"]
        if type(version) is int and version > VERSION:
            raise ConfigError(f"version {version}, this segwright knows {VERSION}; use a newer one")
        if version != VERSION or not isinstance(entries, dict) or len(entries) > MOST_ENTRIES:
            raise ConfigError(f"allowed: version {VERSION} and at most {MOST_ENTRIES} campaigns")
        return Library({key: parse_entry(key, entries[key]) for key in sorted(entries)})

    def text(self) -> bytes:
        """Return the library as its file holds it.

        Raises:
            ConfigError: no file may hold as much, or what an entry says.
        """
        plain = {key: self.campaigns[key].plain() for key in sorted(self.campaigns)}
        raw = json.dumps({"version": VERSION, "campaigns": plain}, sort_keys=True).encode()
        Library.parse(raw)
        return raw + b"\n"

    def merged(self, other: "Library") -> "Library":
        """Return this with the entries of another, which take the places of the same campaigns."""
        return Library({**self.campaigns, **other.campaigns})

    def without(self, campaign: str) -> "Library":
        """Return this without the entry of a campaign.

        Raises:
            ConfigError: it has none.
        """
        if campaign not in self.campaigns:
            known = "`segwright library list` names those that are there"
            raise ConfigError(f"the library has no campaign {campaign!r:.60}; {known}")
        return Library({k: entry for k, entry in self.campaigns.items() if k != campaign})

    def write(self, path: Path) -> None:
        """Write the file whole or not at all, mode 0600; a link to it stays a link.

        Raises:
            ConfigError: it cannot be written, or may not hold as much.
        """
        raw, path = self.text(), Path(os.path.realpath(path))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        except OSError as error:
            _unwritten(path, error)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(path)
        except OSError as error:
            Path(draft).unlink(missing_ok=True)
            _unwritten(path, error)


def library_path(setting: str = "auto") -> Path | None:
    """Return where the library of the setting `memory.library` is.

    Where the setting is auto, the environment's SEGWRIGHT_LIBRARY (off or a path) takes its place.
    None where there is to be none, and where the user has no home.

    Raises:
        ConfigError: a path that is not absolute.
    """
    if setting == "auto":
        setting = os.environ.get(VARIABLE, "") or "auto"
    if setting == "off":
        return None
    if setting == "auto":
        data = os.environ.get("XDG_DATA_HOME", "")
        base = Path(data) if os.path.isabs(data) else Path(os.path.expanduser("~/.local/share"))
        return base / "segwright" / "library.json" if base.is_absolute() else None
    path = Path(os.path.expanduser(setting))
    if not path.is_absolute():
        raise ConfigError(f"memory.library is {setting!r}; allowed: auto, off, or an absolute path")
    return path


def change(path: Path, to: Callable[[Library], Library]) -> Library:
    """Change the library of a file, whatever other processes do at the time; return the new one.

    Raises:
        ConfigError: it cannot be read or written, or another process holds it for 30 s.
    """
    path = Path(os.path.realpath(path))
    with _turn(path):
        changed = to(Library.read(path))
        changed.write(path)
    return changed


def give(path: Path | None, entry: Entry) -> str:
    """Keep what a campaign learnt, in the place of what it gave before.

    Returns:
        Why it was not kept, in one line; empty where it was, or where there is to be no library.
    """
    if path is None:
        return ""
    if not entry.findings and not entry.knowledge.networks:
        return "the library was given nothing: no network of the search has scores"
    try:
        change(path, lambda library: library.merged(Library({entry.campaign: entry})))
    except SegwrightError as error:
        return f"the library was given nothing: {error}"
    return ""


def take(store: Store, library: Library, conditions: Figures, now: float) -> tuple[str, ...]:
    """Keep in a campaign's store what the closest other campaigns learnt, once and for good.

    A second call changes nothing, whatever the library holds then.

    Args:
        store: of the campaign that is being prepared.
        library: may hold the campaign's own entry, which is left out.
        conditions: its dataset, as in `memory.records.Lesson.conditions`.
        now: seconds since the epoch.

    Returns:
        The campaigns that it took from, by id.

    Raises:
        StoreError: the store cannot be written.
    """
    with store.transaction():
        known = store.effect(TAKEN)
        if known is None:
            entries = closest(library, conditions, but=store.campaign().id)
            names = sorted(entry.campaign for entry in entries)
            merged = merged_knowledge(entries, conditions)
            known = store.set_effect(TAKEN, {"campaigns": names, "knowledge": merged.plain()})
            for lesson in lessons_of(entries, now=conditions, at=now):
                store.add_lesson(lesson)
    return tuple(known["campaigns"])


def prior(store: Store) -> Knowledge:
    """Return what a campaign took of the effects of components; nothing where it took nothing."""
    known = store.effect(TAKEN)
    return Knowledge.parse(known["knowledge"]) if known else Knowledge()


def forget(store: Store, campaign: str) -> int:
    """Delete a campaign's lessons that rest on another one; return how many there were.

    What it took of the effects of components stays, because decisions were made on it.

    Raises:
        StoreError: the store cannot be written.
    """
    where = (
        "source <> '' AND (source = ? OR EXISTS "
        "(SELECT 1 FROM json_each(lesson.evidence) WHERE substr(value, 1, ?) = ?))"
    )
    mark = f"{campaign}/"
    values = (campaign, len(mark), mark)
    with store.transaction():
        found = store._connection.select(f"SELECT id FROM lesson WHERE {where}", values)[1]
        store._connection.database.execute(f"DELETE FROM lesson WHERE {where}", list(values))
    return len(found)


def closest(library: Library, conditions: Figures, *, but: str = "") -> list[Entry]:
    """Return the entries that a campaign takes: those of the most similar datasets, by id."""
    others = [entry for key, entry in library.campaigns.items() if key != but]
    others.sort(key=lambda one: (-closeness(one.conditions, conditions), one.campaign))
    return sorted(others[:MOST_TAKEN], key=lambda one: one.campaign)


def merged_knowledge(entries: Sequence[Entry], conditions: Figures) -> Knowledge:
    """Return what campaigns know of components, each as far as its dataset is like this one."""
    return Knowledge().merged(
        entry.knowledge.discounted(closeness(entry.conditions, conditions)) for entry in entries
    )


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Hold the library for this process; the lock lies beside it and stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f"{path.name}.lock").open("a")
    except OSError as error:
        _unwritten(path, error)
    with file:
        until = time.monotonic() + BUSY_S
        while not _is_held(file.fileno()):
            if time.monotonic() > until:
                raise ConfigError(f"{path} is held by another process; try again")
            time.sleep(LOOK_S)
        yield


def _is_held(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unwritten(path: Path, error: OSError) -> NoReturn:
    raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _decoded(raw: bytes) -> Any:
    def refuse(text: str) -> NoReturn:
        raise ValueError(text)

    try:
        return json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ConfigError("it is no JSON, or not whole") from None
