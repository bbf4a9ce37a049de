"""The manuscript as Typst source, of which the wheel `typst` makes a PDF by itself."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from markupsafe import Markup

from agent.bibliography import Reference
from agent.prose import TYPST, Layout
from agent.report import Picture, Writer, render
from agent.report_view import View
from agent.typst_text import escaped, quoted
from memory.records import Fact


class TypstWriter(Writer):
    """Writes for manuscript.typ.

    A call ends with a semicolon, so that Typst takes nothing of what follows for a part of it.
    """

    layout: ClassVar[Layout] = TYPST

    def calls(self) -> dict[str, Callable[..., Any]]:
        """Return the functions of a template by name, `listed` and `quote` among them."""
        return super().calls() | {"listed": self.listed, "quote": self.quote}

    def fact(self, key: str) -> Markup:
        """Return a fact as #fact("key")[text]; ."""
        return Markup(f"#fact({quoted(key)})[{escaped(self.get(key).text)}];")

    def code(self, key: str) -> Markup:
        """Return an identifier in letters of one width."""
        return Markup(f"#code[{self.fact(key)}];")

    def cite(self, *keys: str) -> Markup:
        """Return the citations as one #cited; their numbers come from the list of references."""
        known = ", ".join(quoted(r.key) for r in self.known(keys))
        return Markup(f"~#cited({known});") if known else Markup("")

    def term(self, name: str) -> Markup:
        """Return a name that holds a digit, as #term("name"); ."""
        return Markup(f"#term({quoted(name)});")

    def wording(self, text: object) -> Markup:
        """Return a text, escaped for Typst."""
        return self._with_terms(escaped(str(text)))

    def listed(self, reference: Reference) -> Markup:
        """Return an entry of the list of references: its key, its link and its text."""
        key, link = quoted(reference.key), quoted(reference.link)
        return Markup(f"#reference({key}, {link})[{escaped(reference.text)}];")

    def quote(self, text: object) -> Markup:
        """Return a text as a string in Typst's quotation marks."""
        return Markup(quoted(str(text)))


def render_typst(
    view: View,
    facts: Mapping[str, Fact],
    references: Mapping[str, Reference],
    pictures: list[Picture],
    texts: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the manuscript as Typst source; it names figures by their files under figures/.

    `texts` are sections in a model's words, by name.
    """
    writer = TypstWriter(facts, references, texts=texts)

    def finalize(value: Any) -> Markup:
        return value if isinstance(value, Markup) else writer.wording(value)

    plain = [picture._replace(uri="") for picture in pictures]
    return render("manuscript.typ.j2", writer, view, plain, finalize)
