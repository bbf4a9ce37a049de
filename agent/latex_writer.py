"""The manuscript as LaTeX source, for pdflatex, in the style of a publisher's class."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from markupsafe import Markup

from agent import latex
from agent.bibliography import Reference
from agent.latex_skin import ARTICLE, Skin
from agent.prose import LATEX, Layout
from agent.report import Picture, Writer, render
from agent.report_view import View
from memory.records import Fact


@dataclass
class LatexWriter(Writer):
    """Writes for manuscript.tex, in one of its styles."""

    skin: Skin = ARTICLE
    layout: ClassVar[Layout] = LATEX

    def calls(self) -> dict[str, Any]:
        """Return the functions of a template by name, and the style as `skin`."""
        return super().calls() | {"skin": self.skin}

    def fact(self, key: str) -> Markup:
        r"""Return a fact as \fact{key}{text}."""
        return Markup(rf"\fact{{{key}}}{{{latex.escaped(self.get(key).text)}}}")

    def code(self, key: str) -> Markup:
        """Return an identifier in typewriter letters."""
        return Markup(rf"\texttt{{{self.fact(key)}}}")

    def cite(self, *keys: str) -> Markup:
        r"""Return the citations as one \cite."""
        known = ",".join(r.key for r in self.known(keys))
        return Markup(rf"~\cite{{{known}}}") if known else Markup("")

    def term(self, name: str) -> Markup:
        r"""Return a name that holds a digit, as \term{name}."""
        return Markup(rf"\term{{{name}}}")

    def wording(self, text: object) -> Markup:
        """Return a text, escaped for LaTeX."""
        return self._with_terms(latex.escaped(str(text)))


def render_latex(
    view: View,
    facts: Mapping[str, Fact],
    references: Mapping[str, Reference],
    pictures: list[Picture],
    texts: Mapping[str, str] = MappingProxyType({}),
    skin: Skin = ARTICLE,
) -> str:
    """Return the manuscript as LaTeX source; `texts` are sections in a model's words, by name."""
    writer = LatexWriter(facts, references, texts=texts, skin=skin)

    def finalize(value: Any) -> Markup:
        return value if isinstance(value, Markup) else writer.wording(value)

    plain = [picture._replace(uri="") for picture in pictures]
    return render("manuscript.tex.j2", writer, view, plain, finalize)
