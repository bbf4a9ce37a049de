"""Texts are parsed from many threads at once, and none fails for the others."""

import ast
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sandbox.static_check
from sandbox.syntax import ATTEMPTS, parse

TEXT = Path(sandbox.static_check.__file__).read_text(encoding="utf-8")


class Cycle:
    """Garbage that gives other threads a turn when it is collected, as in any large program."""

    def __init__(self) -> None:
        """Refer to itself, so that only the collector frees it."""
        self.itself = self

    def __del__(self) -> None:
        """Run long enough for a switch."""
        for _ in range(50):
            pass


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads change as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_depth(depth: int) -> int:
    """Parse from so deep a call; return how often it was done."""
    if depth:
        return at_depth(depth - 1)
    for _ in range(25):
        for _ in range(20):
            Cycle()
        assert parse(TEXT).body
    return 25


@pytest.mark.usefixtures("switching")
def test_threads_at_different_depths_parse_together() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(at_depth, (0, 20, 40, 60))) == 100


def disturb(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the parser fail as it does while other code parses."""
    left, plain = [times], ast.parse

    def disturbed(source: str) -> ast.Module:
        left[0] -= 1
        if left[0] >= 0:
            raise SystemError("AST constructor recursion depth mismatch (before=69, after=60)")
        return plain(source)

    monkeypatch.setattr("sandbox.syntax.ast.parse", disturbed)


def test_a_text_is_parsed_again_where_other_code_disturbed_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disturb(monkeypatch, ATTEMPTS - 1)
    assert ast.dump(parse("x = 1")) == ast.dump(compile("x = 1", "", "exec", ast.PyCF_ONLY_AST))
    disturb(monkeypatch, ATTEMPTS)
    with pytest.raises(SystemError, match="depth mismatch"):
        parse("x = 1")


@pytest.mark.parametrize("text", ["x =", "x = '\0'", "(" * 5000])
def test_a_text_that_is_no_python_fails_as_before(text: str) -> None:
    with pytest.raises((SyntaxError, ValueError, RecursionError, MemoryError)):
        parse(text)


def test_what_python_warns_of_is_not_printed() -> None:
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        parse("x = '\\d'")
    assert not seen
    assert warnings.filters == before
