"""The model that finds lessons by what they mean: one for the process, one caller at a time."""

from collections.abc import Sequence
from functools import cache
from threading import Lock

from agent.config import Config
from memory.embedder import Embedder, Vectors, installed


class Shared:
    """An embedder that several threads may use."""

    def __init__(self, own: Embedder) -> None:
        """Take the model."""
        self._own, self._turn = own, Lock()

    @property
    def name(self) -> str:
        """The model and its version of weights."""
        return self._own.name

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 (n, d) unit vectors, as the model does."""
        with self._turn:
            return self._own.embed(texts)


@cache
def shared() -> Embedder | None:
    """Return the process's model; None where the extra is not installed."""
    own = installed()
    return None if own is None else Shared(own)


def embedder_of(config: Config) -> Embedder | None:
    """Return the model that the settings ask for; None: lessons are found by their words."""
    return None if config.memory.embed == "off" else shared()
