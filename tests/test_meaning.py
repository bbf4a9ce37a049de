"""One model for all threads of a process, and none where the settings say so."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock

import numpy as np
import pytest

import agent.meaning
from agent.config import Config, MemoryConfig
from agent.meaning import Shared, embedder_of
from memory.embedder import Vectors, unit


class Single:
    """An embedder that fails when two ask at once."""

    name = "single"

    def __init__(self) -> None:
        self._turn = Lock()

    def embed(self, texts: Sequence[str]) -> Vectors:
        assert self._turn.acquire(blocking=False)
        made = unit(np.ones((len(texts), 4)))
        self._turn.release()
        return made


def test_threads_take_turns() -> None:
    shared = Shared(Single())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: shared.embed([str(i)]), range(200)))
    assert shared.name == "single"
    assert all(one.shape == (1, 4) for one in found)


def test_the_settings_can_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Shared(Single())
    monkeypatch.setattr(agent.meaning, "shared", lambda: own)
    assert embedder_of(Config()) is own
    assert embedder_of(replace(Config(), memory=MemoryConfig(embed="off"))) is None
