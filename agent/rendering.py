"""Templates as Jinja's environment reads them; each is compiled once a process for each page."""

from collections.abc import Callable
from importlib import resources
from typing import Any

from jinja2 import BytecodeCache, Environment, FunctionLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

_COMPILED: dict[tuple[str, str], bytes] = {}


class Compiled(BytecodeCache):
    """Keeps compiled templates in memory; what they print is escaped for one page, so by page."""

    def __init__(self, page: str) -> None:
        """Keep for the page with that template."""
        self.page = page

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what was compiled from the same source."""
        if found := _COMPILED.get((self.page, bucket.key)):
            bucket.bytecode_from_string(found)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled."""
        _COMPILED[self.page, bucket.key] = bucket.bytecode_to_string()


def environment(page: str, finalize: Callable[[Any], Markup]) -> Environment:
    """Return the environment of a page: undefined names are errors, and all goes through `finalize`.

    Args:
        page: name of its template under templates/.
        finalize: makes text safe in the page's format; the same for the same page, but for what
            its writer has noted.
    """
    return Environment(
        loader=FunctionLoader(template),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=False,
        keep_trailing_newline=True,
        bytecode_cache=Compiled(page),
    )


def template(name: str) -> str:
    """Return the source of a template."""
    return (resources.files("templates") / name).read_text(encoding="utf-8")
