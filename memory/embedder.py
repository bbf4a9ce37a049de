"""Texts as vectors, so that lessons are found by what they mean and not by their words alone.

The one model used here has its weights in its package, and is an optional extra. Without it a
lesson is found by its words; nothing is ever downloaded.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.errors import ConfigError

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """A model that turns texts into vectors: the same text always into the same one.

    Not for several threads at once. `name` tells vectors of one model from those of another.
    """

    @property
    def name(self) -> str:
        """The model and its version of weights."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 (n, d): a unit vector for each text, zeros for one without words."""


class WordLlama:
    """Mean of static word vectors of a language model, 256 numbers (package wordllama, MIT).

    The weights are read at the first use: about 0.7 s, 33 MB.
    """

    name = "wordllama l2_supercat 256"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 (n, 256) unit vectors; zeros for a text without a known word.

        Raises:
            ConfigError: the package, or one that it needs, is not there or not whole.
        """
        told = [text.encode("utf-8", "replace").decode() for text in texts]  # no lone surrogates
        return unit(self._model.embed(told))

    @cached_property
    def _model(self) -> Any:
        try:
            with _own_logging():
                package = import_module("wordllama")
            folder = Path(str(package.__file__)).parent
            return package.WordLlama.load(cache_dir=folder, disable_download=True)
        except (ImportError, OSError) as error:
            raise ConfigError(
                f"wordllama cannot be used ({error}); install it with pip install segwright[embed]"
            ) from error


def installed() -> Embedder | None:
    """Return the model where its package is installed, else None: words alone."""
    return WordLlama() if find_spec("wordllama") is not None else None


def unit(vectors: NDArray[Any]) -> Vectors:
    """Return float32 (n, d): each row at length 1, rows of zeros as they are."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    made: Vectors = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return made


@contextmanager
def _own_logging() -> Iterator[None]:
    """Undo what the import of a package does to the root logger: this one gives it a handler."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
