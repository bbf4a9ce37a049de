"""Vectors of texts: their shape and length, and what is told when the model is not there."""

import importlib.util
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from memory.embedder import WordLlama, installed, unit
from memory.errors import ConfigError

IS_THERE = importlib.util.find_spec("wordllama") is not None
needs_model = pytest.mark.skipif(not IS_THERE, reason="wordllama (extra embed) is not installed")


def test_rows_are_made_one_long_and_zeros_stay() -> None:
    made = unit(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 1e-3]]))
    assert made.dtype == np.float32
    assert made.tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0], [0.0, 1.0]]
    assert unit(np.zeros((0, 4))).shape == (0, 4)


def test_the_model_is_used_where_it_is_installed() -> None:
    assert (installed() is not None) is IS_THERE


@pytest.mark.parametrize(
    "problem", ["import no_such_package_at_all", "raise OSError('no weights')"]
)
def test_a_package_that_is_not_whole_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    (tmp_path / "wordllama").mkdir()
    text = f"import logging\nlogging.basicConfig(level=3, force=True)\n{problem}\n"
    (tmp_path / "wordllama" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wordllama", raising=False)
    with pytest.raises(ConfigError, match=r"wordllama cannot be used .* install it with pip"):
        WordLlama().embed(["a text"])
    assert (logging.getLogger().level, logging.getLogger().handlers) == before


@pytest.mark.skipif(IS_THERE, reason="wordllama is installed")
def test_without_the_package_the_extra_is_named() -> None:
    with pytest.raises(ConfigError, match=r"No module named 'wordllama'.*segwright\[embed\]"):
        WordLlama().embed(["a text"])


@needs_model
def test_the_model_gives_unit_vectors_of_any_text() -> None:
    texts = ["thin vessels are missed", "", "\udc80", "word " * 3000, "血管"]
    made = WordLlama().embed(texts)
    assert made.shape == (5, 256)
    assert made.dtype == np.float32
    lengths = np.linalg.norm(made, axis=1)
    assert lengths[1] == 0
    assert lengths[[0, 2, 3, 4]] == pytest.approx(1)
    assert WordLlama().embed([]).shape == (0, 256)


@needs_model
def test_the_same_text_gives_the_same_vector_among_any_others() -> None:
    model = WordLlama()
    alone = model.embed(["thin vessels are missed"])[0]
    among = model.embed(["liver", "word " * 500, "thin vessels are missed"])[2]
    assert np.array_equal(alone, among)


@needs_model
def test_texts_that_mean_the_same_are_nearer() -> None:
    question, same, other = WordLlama().embed(
        [
            "Heads that look at the boundary help when most voxels of a class are on its edge.",
            "Boundary-aware losses help where most of a class lies on its border.",
            "Training ran out of memory.",
        ]
    )
    assert question @ same > question @ other + 0.2


@needs_model
def test_the_import_leaves_logging_alone() -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    WordLlama().embed(["a"])
    assert (root.level, root.handlers) == before
