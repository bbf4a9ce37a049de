"""The manuscript in a model's words: asked for at the end, bound, signed, and left out when stale."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.ablation import RESULT
from agent.bibliography import load_references
from agent.binding import latex_problems
from agent.check import report_problems
from agent.export import export_report
from agent.facts import facts_of
from agent.latex_writer import render_latex
from agent.manuscript import write_manuscript
from agent.manuscript_sections import SECTIONS
from agent.prose_check import problems
from agent.report import write_report
from agent.report_rows import read_rows
from agent.report_view import build_view
from agent.writer import Written
from agent.written_facts import fault
from memory.store import Store
from tests.campaigns import build_campaign
from tests.llm_server import ScriptedServer
from tests.reflected import asking
from tests.test_mutation import change_rows
from tests.test_writer import INVENTED

MARKS = re.compile(
    r"0\.987|Ninety-eight|sets a new state|ghost2031|Ghost et al|miracle|Ignore all|etc/shadow"
    r"|config\.items|nine.?ty points|TODO"
)
TEXTS = {
    "introduction": "This text is about the architecture of a network for [[fact:dataset.name]].",
    "related": "The default network adapts itself to a dataset [@isensee2021nnunet].",
    "method": "What was kept of the default network is seen in [[fig:network]].",
    "experiments": "The locked test holds [[fact:split.locked-test.cases]] cases.",
    "search": "Scores of the search chose the finalists and are optimistic; see [[fig:tree]].",
    "results": "Each case stands in [[fig:paired]], for both sides.",
    "discussion": "Longer trainings would tell more about the question that was asked.",
    "limitations": "All data come from the same source.",
    "abstract": "Networks for [[fact:dataset.name]] were looked for without a person in between.",
}


def section_of(body: dict[str, Any]) -> str:
    """Return which section a request is about; "" for the probe."""
    text = body["messages"][-1]["content"]
    found = [name for name, one in SECTIONS.items() if f"{one.title}. {one.purpose}" in text]
    return found[0] if text.startswith("Write one section") else ""


def saying(texts: dict[str, str]) -> Any:
    def script(body: dict[str, Any]) -> Any:
        if name := section_of(body):
            return {"paragraphs": [texts[name]]}
        return {"modality": "MR", "letters": 2}

    return script


@contextmanager
def writing(tmp_path: Path, script: Any) -> Iterator[tuple[Path, Store, Any, Any, ScriptedServer]]:
    """Yield a finished campaign, its open store, a session of it, a model and its server."""
    folder = build_campaign(tmp_path / "told")
    with asking(tmp_path, script) as (other, model, server):
        with Store.open(folder / "campaign.db") as store:
            session = SimpleNamespace(
                folder=folder, split=store.split(), now=other.now, stopping=threading.Event()
            )
            yield folder, store, session, model, server


def asked(server: ScriptedServer) -> list[str]:
    return [name for name in map(section_of, server.chats) if name]


def by_model(written: list[Written]) -> list[str]:
    return [one.section for one in written if one.text]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign whose nine sections a model wrote, with its report."""
    with writing(tmp_path_factory.mktemp("manuscript"), saying(TEXTS)) as made:
        folder, store, session, model, server = made
        assert by_model(write_manuscript(store, session, model)) == list(SECTIONS)
        assert asked(server) == list(SECTIONS)
        assert by_model(write_manuscript(store, session, model)) == list(SECTIONS)
        assert asked(server) == list(SECTIONS)  # nothing is asked for twice
    write_report(folder)
    return folder


def test_each_section_is_printed_in_its_place_and_signed(written: Path) -> None:
    tex = (written / "report" / "manuscript.tex").read_text()
    typ = (written / "report" / "manuscript.typ").read_text()
    page = (written / "report" / "report.html").read_text()
    for text in (tex, typ, page):
        for words in ("were looked for without a person", "Longer trainings would tell more"):
            assert text.count(words) == 1
    heads = re.findall(r"\\section\{([^}]*)\}", tex)
    assert heads[:9] == [
        *("Introduction", "Related work", "Method", "Experiments", "The search", "Results"),
        *("Discussion", "Limitations", "Provenance"),
    ]
    parts = dict(re.findall(r"\\section\{([^}]*)\}(.*?)(?=\\section\{|\Z)", tex, re.DOTALL))
    assert r"holds \fact{split.locked-test.cases}{" in parts["Experiments"]
    assert r"\cite{isensee2021nnunet}" in parts["Related work"]
    assert r"Figure~\ref{fig:network}" in parts["Method"]
    assert r"\label{fig:network}" in tex
    assert '#ref(label("fig-paired"))' in typ
    assert "<fig-paired>" in typ
    assert '<a href="#fig-tree">' in page
    assert 'id="fig-tree"' in page
    assert "many claims" not in tex.lower()  # the fixed introduction makes room
    for text in (tex, typ, page):
        (own,) = [line for line in text.splitlines() if "are in the words of the language" in line]
        assert own.count("scripted") == len(SECTIONS)


def test_a_written_manuscript_passes_the_check_and_leaves_in_each_format(
    written: Path, tmp_path: Path
) -> None:
    assert report_problems(written) == []
    for kind in ("html", "latex", "pdf", "markdown"):
        assert export_report(written, kind, tmp_path / kind)
    assert "were looked for without a person" in (tmp_path / "markdown/manuscript.md").read_text()


def test_a_changed_word_of_a_model_is_found(written: Path, tmp_path: Path) -> None:
    page = written / "report" / "manuscript.tex"
    before = page.read_text()
    try:
        page.write_text(before.replace("Longer trainings would", "Shorter trainings would"))
        found = report_problems(written)
        assert len(found) == 1
        assert "manuscript.tex" in found[0]
        assert "Shorter" in found[0]
    finally:
        page.write_text(before)


def test_a_text_about_other_facts_is_not_printed(tmp_path: Path) -> None:
    with writing(tmp_path, saying(TEXTS)) as (folder, store, session, model, _):
        write_manuscript(store, session, model)
    change_rows(folder, "UPDATE campaign SET dataset = json_set(dataset, '$.name', 'Other')")
    write_report(folder)
    tex = (folder / "report" / "manuscript.tex").read_text()
    assert "were looked for without a person" not in tex
    assert "Many claims" in tex
    assert "No sentence and no number was written by a language model" in tex


def test_inventions_reach_no_export_and_the_report_says_so(tmp_path: Path) -> None:
    attacks = list(INVENTED.values())

    def script(body: dict[str, Any]) -> Any:
        if section_of(body):
            return {"paragraphs": [attacks[len(server.chats) % len(attacks)]]}
        return {"modality": "MR", "letters": 2}

    with writing(tmp_path, script) as (folder, store, session, model, server):
        assert by_model(write_manuscript(store, session, model)) == []
        assert len(asked(server)) == 2 * len(SECTIONS)
        assert len(store.events(kind="prose_refused")) == len(SECTIONS)
    write_report(folder)
    assert report_problems(folder) == []
    for kind in ("html", "latex", "markdown", "pdf"):
        files = export_report(folder, kind, tmp_path / kind)
        for path in (one for top in files for one in ([top] if top.is_file() else top.rglob("*"))):
            if path.suffix in (".html", ".tex", ".typ", ".md"):
                text = path.read_text()
                assert not MARKS.findall(text), (kind, path.name)
    tex = (folder / "report" / "manuscript.tex").read_text()
    assert tex.count("Fixed sentences stand there.") == len(SECTIONS)


def test_who_stops_is_not_kept_waiting(tmp_path: Path) -> None:
    def script(body: dict[str, Any]) -> Any:
        if section_of(body) == "related":
            session.stopping.set()
        return saying(TEXTS)(body)

    with writing(tmp_path, script) as (_, store, session, model, server):
        assert by_model(write_manuscript(store, session, model)) == ["introduction", "related"]
        assert asked(server) == ["introduction", "related"]
        session.stopping.clear()
        assert by_model(write_manuscript(store, session, model)) == list(SECTIONS)


def test_a_lost_model_leaves_fixed_sentences(tmp_path: Path) -> None:
    with asking(tmp_path, saying(TEXTS)) as (_, model, _):
        pass  # its server has gone
    folder = build_campaign(tmp_path / "told")
    with Store.open(folder / "campaign.db") as store:
        session: Any = SimpleNamespace(
            folder=folder, split=store.split(), now=1.0, stopping=threading.Event()
        )
        assert by_model(write_manuscript(store, session, model)) == []
        assert store.effects("prose/") == {}  # so that the next run asks again
    write_report(folder)
    assert report_problems(folder) == []


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("better_by_margin", "better than the default one by more than the margin"),
        ("better", "as large as the margin that had been declared was not shown"),
        ("better_below_margin", "is not called an improvement here"),
        ("not_worse_and_cheaper", "costs less"),
        ("not_distinguishable", "does not make them equal"),
        ("worse", "answered with no"),
        ("exploratory", "support no claim beyond it"),
        ("running", "nothing to discuss yet"),
        ("unsearched", "stands as it stood before"),
        ("unconfirmed", "nothing has been read of it"),
    ],
)
def test_the_discussion_says_what_the_outcome_means(outcome: str, said: str, written: Path) -> None:
    with Store.open(written / "campaign.db", read_only=True) as store:
        rows = read_rows(store)
    facts = {fact.key: fact for fact in facts_of(rows)}
    references = load_references()
    view = replace(build_view(rows, references), outcome=outcome)
    tex = render_latex(view, facts, references, [])
    (discussion,) = re.findall(r"\\section\{Discussion\}(.*?)\\section", tex, re.DOTALL)
    assert said in discussion
    assert "To learn more, one would need" in discussion
    assert latex_problems(tex, facts) == []


def test_an_ablation_that_compares_nothing_is_no_row_and_no_finding(written: Path) -> None:
    with Store.open(written / "campaign.db", read_only=True) as store:
        rows = read_rows(store)
    references = load_references()
    assert build_view(rows, references).rules.ablated
    undone = [
        replace(one, figures={**one.figures, "delta": None}) if one.kind == RESULT else one
        for one in rows.events
    ]
    bare = replace(rows, events=tuple(undone))
    facts = {fact.key: fact for fact in facts_of(bare)}
    view = build_view(bare, references)
    assert view.rules.ablated == ()
    tex = render_latex(view, facts, references, [])
    assert "none has enough trainings to compare" in tex
    assert "The ablation says" not in tex


FAULTS = {
    **dict.fromkeys(("number", "words", "hidden", "page"), "it had a number of its own"),
    **dict.fromkeys(("claim", "comparison"), "it made a claim of its own"),
    **dict.fromkeys(("citation", "typed citation"), "it cited what may not be cited"),
    **dict.fromkeys(("fact", "claim id", "case"), "it named what is not there"),
    **dict.fromkeys(("instruction", "latex", "template", "placeholder"), "its form is not allowed"),
}


@pytest.mark.parametrize("name", INVENTED)
def test_a_refused_text_is_told_by_its_fault(name: str, written: Path) -> None:
    with Store.open(written / "campaign.db", read_only=True) as store:
        facts = store.facts()
    found = problems(
        INVENTED[name],
        facts=facts,
        claims={},
        references=load_references(),
        figures=(),
        section="discussion",
        others=(),
    )
    assert fault(found[-1].reason) == FAULTS[name]


def test_a_reply_without_a_text_is_told_as_such() -> None:
    assert fault("the reply was cut off") == "the model gave no text that could be read"
