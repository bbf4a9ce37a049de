"""Python text to its syntax tree, one text at a time.

Threads of Python 3.11 share the counter that guards the parser against deep nesting (CPython issue
106905), so that two that parse at once can fail with a SystemError about a "recursion depth
mismatch". Whoever parses takes a turn here; where code that is not ours was parsing meanwhile, the
text is parsed again. Settings of warnings are shared as well, and belong to whose turn it is.
"""

import ast
import threading
import warnings

ATTEMPTS = 5
_TURN = threading.Lock()


def parse(source: str) -> ast.Module:
    """Return the syntax tree of a text; what Python warns of in it is not printed.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as `ast.parse` does.
        SystemError: the parser was disturbed by other threads each time.
    """
    with _TURN, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(ATTEMPTS - 1):
            try:
                return ast.parse(source)
            except SystemError:
                continue
        return ast.parse(source)
