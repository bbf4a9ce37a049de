"""The looks of a manuscript in LaTeX: document class, bibliography style and head for each publisher.

The text is the same in every style. `templates/latex/preamble.j2` serves all of them, and
`templates/latex/NAME.j2` has what differs: lengths, title, author, abstract, keywords. Class and
bibliography style come with TeX Live and with Overleaf; nothing of a publisher is shipped.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from memory.errors import ReportError

_INCLUDED = re.compile(r"\\includegraphics(?:\[[^\]]*\])?\{([^}]*)\}")


class Skin(NamedTuple):
    """One style: `document_class` and `bibliography` are names of LaTeX, without an ending.

    `is_two_column` is set where tables and pictures may run over both columns.
    """

    name: str
    document_class: str
    options: str
    bibliography: str
    is_two_column: bool = False


ARTICLE = Skin("article", "article", "11pt,a4paper", "plain")
SKINS: Mapping[str, Skin] = {
    skin.name: skin
    for skin in (
        ARTICLE,
        Skin("lncs", "llncs", "runningheads", "splncs04"),
        Skin("ieee", "IEEEtran", "journal", "IEEEtran", is_two_column=True),
        Skin("elsevier", "elsarticle", "preprint,11pt", "elsarticle-num"),
    )
}


def skin_of(style: str) -> Skin:
    """Return a style by its name.

    Raises:
        ReportError: there is none of that name.
    """
    if style not in SKINS:
        raise ReportError(f"no style {style!r}; styles: {', '.join(SKINS)}")
    return SKINS[style]


def files_of(text: str) -> list[str]:
    """Return the files that a manuscript in LaTeX reads, by their paths beside it, sorted."""
    names = set(_INCLUDED.findall(text))
    if r"\bibliography{references}" in text:
        names.add("references.bib")
    return sorted(names)
