"""What was learnt, in a report: sentences from facts of lessons, each with exactly its trials."""

import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.bibliography import load_references
from agent.binding import html_problems, latex_problems
from agent.campaign_lessons import EFFECT
from agent.check import check_campaign
from agent.facts import facts_of
from agent.latex_writer import render_latex
from agent.lesson_section import GROUPS, MOST, Told, known, reading, told
from agent.lesson_text import sealed
from agent.lesson_words import SAID, key_of
from agent.reflection import conclude
from agent.report import render_html, write_report
from agent.report_rows import Rows, read_rows
from agent.report_view import build_view
from agent.session import Session
from memory.ranking import weight
from memory.records import Event, Fact, Kind, Lesson, Module, SplitName
from memory.store import Store
from tests.campaigns import build_campaign
from tests.reflected import (
    BLUR,
    CONTEXT,
    DEEP_GATE,
    GATE,
    fail,
    finish,
    idea,
    learn,
    make,
    own,
    plan,
    score,
    topics,
)

OWN = Module("EdgeGate2", "decoder", (0,))
WHY = "The gates leave out background <b>that</b> the decoder does not need."
STARTED = {"campaigns": 2, "ids": ["a", "b"], "lessons": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign that learnt something of every kind, with its report."""
    session = make(tmp_path_factory.mktemp("learnt"))
    with session.store() as store:
        store.add_event(Event("library", "starts", STARTED, at=1.0))
        gains = [(GATE, 0.05), (DEEP_GATE, 0.06), (GATE, 0.04), (DEEP_GATE, -0.01)]
        gains += [(CONTEXT, -0.1), (CONTEXT, -0.09), (CONTEXT, -0.11), (OWN, 0.004)]
        trials = [
            score(session, store, idea(store, f"n{i}", module), gain, rung=1, at=float(i))
            for i, (module, gain) in enumerate(gains)
        ]
        broken = idea(store, "broken", BLUR)
        trials += [fail(store, broken, "diverged", seed=n, at=20.0 + n) for n in (1, 2)]
        learn(session, store, *trials)
        conclude(store, session, knowledge=lambda: own(session, store))
        gates = topics(store, "campaign")[f"{EFFECT}attention_gate"]
        store.set_effect(key_of(gates), {"sentences": [{"text": WHY, "trials": []}], "by": "x"})
        conclude(store, session, knowledge=lambda: own(session, store))
        plant(session, store)
        store.set_state("done")
    write_report(session.folder)
    return session.folder


def plant(session: Session, store: Store) -> None:
    """Keep lessons on trials that the section must not tell, each with the largest effect of all."""
    proposal = store.proposal("n0")
    hidden = [
        plan(store, proposal, split=SplitName.LOCKED_TEST, kind=Kind.CONFIRM, rung=1, seed=90),
        plan(store, proposal, kind=Kind.CONFIRM, rung=1, seed=91),
        plan(store, proposal, kind=Kind.SELECT, rung=1, seed=92, fold=1),
    ]
    open_ = store.trials(kind=Kind.DRAFT)[0]
    for place, trial in enumerate(hidden):
        finish(session, store, trial, 0.95)
        for cites in ((trial.id,), (open_.id, trial.id)):
            store.add_lesson(lesson(f"Planted{place}", cites, 0.77, support=99))


def lesson(
    name: str, trials: tuple[str, ...], effect: float | None, kind: str = "effect", **more: object
) -> Lesson:
    """Return a hand-made lesson on a component."""
    topic = f"{EFFECT}{name}/{len(trials)}"
    made = Lesson("", "campaign", name, trials, effect, 0.01, (name,), 1.0, kind, topic=topic)
    return sealed(replace(made, **more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return read_rows(store)


@pytest.fixture(scope="module")
def facts(rows: Rows) -> dict[str, Fact]:
    return {fact.key: fact for fact in facts_of(rows)}


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def pages(rows: Rows) -> tuple[str, str]:
    """Return the section in HTML and in LaTeX, every number of the pages being bound."""
    known_facts, references = {fact.key: fact for fact in facts_of(rows)}, load_references()
    view = build_view(rows, references)
    html = render_html(view, known_facts, references, [])
    tex = render_latex(view, known_facts, references, [])
    assert html_problems(html, known_facts) == []
    assert latex_problems(tex, known_facts) == []
    return section(html), tex_section(tex)


def section(html: str) -> str:
    return re.split(r'<h2 id="(?:language|baselines)"', html.split('<h2 id="learnt">')[1])[0]


def tex_section(tex: str) -> str:
    return re.split(r"\\(?:sub)?section", tex.split(r"\subsection{What was learnt}")[1])[0]


def words(text: str) -> str:
    """Return what is read of a section: without its markup."""
    bare = re.sub(r"<table>.*?</table>|\\footnote{.*?\.}", "", text, flags=re.DOTALL)
    bare = re.sub(r"\\fact{[^}]*}{((?:[^{}]|{})*)}", r"\1", bare)
    return " ".join(re.sub(r"<[^>]+>", "", bare).replace(r"\(-\)", "\N{MINUS SIGN}").split())


def by_form(rows: Rows) -> dict[str, Told]:
    return {one.form: one for one in told(rows)}


def test_the_section_tells_effects_dead_ends_and_questions(rows: Rows) -> None:
    said = [words(text) for text in pages(rows)]
    minus = "\N{MINUS SIGN}"
    for text in said:
        assert "The campaign began with 7 lessons of the library, from 2 earlier campaigns." in text
        assert "support no claim" in text
        places = [
            text.index(title)
            for title in ("What raised Dice", "What lowered Dice", "Dead ends", "Open questions")
        ]
        assert places == sorted(places)
        for pattern in (
            r"Networks with attention gates score higher: \+2\.\d\d points of Dice \(SE 1\.\d\d\) over "
            r"4 networks; 3 trials ended above the baseline, 1 did not\.",
            rf"Networks with linear attention score lower: {minus}7\.\d\d points .* over 3 networks; "
            r"0 trials ended above the baseline, 3 did not\.",
            rf"Networks with linear attention \(bottleneck\) are a dead end: {minus}10\.\d\d points of "
            r"Dice \(SE 0\.\d\d\) at rung 1 \(3 trials in all\); their chance to gain 0\.50 points is "
            r"under 1 in 1000\.",
            r"Networks with anti-aliased downsampling \(downsample\) are a dead end: 2 trials ended as "
            r"diverged \(the loss, a weight or a logit became NaN or infinite\), and none with scores\.",
            r"Do networks with EdgeGate2 score higher\? So far \+0\.\d\d points of Dice \(SE 1\.\d\d\) "
            r"over 1 network; a gain of 0\.50 points is still possible; 1 trial ended above",
        ):
            assert re.search(pattern, text), (pattern, text)


def test_facts_are_the_figures_of_the_lesson_and_of_its_trials(
    rows: Rows, facts: dict[str, Fact]
) -> None:
    for one in told(rows):
        own = one.lesson
        if own.effect is not None:
            assert facts[f"{one.key}.effect"].value == pytest.approx(100 * own.effect)
            assert facts[f"{one.key}.effect"].sources == (f"lesson:{own.id}",)
        if one.form in ("raised", "lowered"):
            above, below = (facts[f"{one.key}.{name}"].value for name in ("above", "below"))
            for_it, against = (above, below) if one.form == "raised" else (below, above)
            assert (for_it, against) == (own.support, own.contra)
            assert f" {facts[f'{one.key}.networks'].text} networks" in own.text
            scores = {f"case_score:{trial}" for trial in own.evidence}
            assert scores < set(facts[f"{one.key}.above"].sources)
    known_rows = {f"lesson:{one.id}" for one in rows.lessons}
    named = {s for fact in facts.values() for s in fact.sources if s.startswith("lesson:")}
    assert named
    assert named <= known_rows
    assert facts["learnt.library.campaigns"].sources[0].startswith("event:")


def test_each_sentence_opens_exactly_its_trials(folder: Path, rows: Rows) -> None:
    html = (folder / "report" / "report.html").read_text(encoding="utf-8")
    tex = tex_section((folder / "report" / "manuscript.tex").read_text(encoding="utf-8"))
    opened = re.findall(r'<details class="learnt">(.*?)</details>', html, flags=re.DOTALL)
    notes = re.split(r"\\footnote", tex)[1:]
    assert len(opened) == len(notes) == len(told(rows)) == 5
    for one, details, note in zip(told(rows), opened, notes, strict=True):
        summary, _, table = details.partition("</summary>")
        assert f'data-fact="{one.key}.about"' in summary
        evidence = [f"trial.{trial}" for trial in one.lesson.evidence]
        assert re.findall(r'<a href="#([^"]+)">', table) == evidence
        assert re.findall(r"trial\.\w+(?=\.id})", note) == evidence
        assert [html.count(f'<tr id="{key}">') for key in evidence] == [1] * len(evidence)
        assert table.count("<tr>") == len(evidence) + 1


def test_what_rests_on_a_hidden_trial_or_was_replaced_is_not_told(
    folder: Path, rows: Rows, facts: dict[str, Fact]
) -> None:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        assert sum("Planted" in one.text for one in store.lessons("campaign")) == 6
    assert not any(one.is_replaced for one in rows.lessons)
    assert not any("Planted" in str(one.components) for one in known(rows))
    both = "".join(pages(rows))
    assert "Planted" not in both
    assert "+77" not in both
    gates = [one for one in told(rows) if one.lesson.components == ("attention_gate",)]
    assert len(gates) == 1
    assert not any("Planted" in fact.text for fact in facts.values())


def test_a_models_words_are_quoted_and_marked(folder: Path, rows: Rows) -> None:
    html, tex = pages(rows)
    assert "A language model reads it so: <q>" in html
    assert "&lt;b&gt;that&lt;/b&gt;" in html
    assert re.search(r"A language model reads it so: ``\\fact{lesson\.\w+\.reading}", tex)
    assert html.count("A language model reads it so") == 1
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "Readings that are marked as a language model" in page
    assert "No other sentence and no number was written by a language model." in page
    ours = next(one for one in rows.lessons if SAID in one.text)
    assert reading(replace(ours, text=f"figures.{SAID}It gains ½ a point.")) == ""
    assert reading(replace(ours, text="figures.")) == ""


def test_a_campaign_without_such_lessons_says_so(tmp_path: Path) -> None:
    old = build_campaign(tmp_path / "campaign", confirmed=False)
    with Store.open(old / "campaign.db", read_only=True) as store:
        before = read_rows(store)
    for text in pages(before):
        assert "No lesson on the search as a whole was written." in text
        assert "opens the trials" not in text
    keys = [fact.key for fact in facts_of(before)]
    assert not [key for key in keys if key.startswith(("lesson.", "learnt."))]


def test_where_no_effect_was_clear_the_section_says_so(rows: Rows) -> None:
    question = by_form(rows)["question"].lesson
    nothing = "No component that two networks or more had showed an effect as large as its standard"
    for lessons, is_said in (((question,), True), (rows.lessons, False)):
        for text in pages(replace(rows, lessons=lessons)):
            assert (nothing in text) is is_said
            assert "Do networks with" in text


def test_the_best_founded_come_first_and_no_group_takes_all_places(rows: Rows) -> None:
    (trial,) = by_form(rows)["question"].lesson.evidence
    dead = [lesson(f"D{i}", (trial,), -0.1, "dead_end", support=9 + i) for i in range(9)]
    weak = lesson("Weak", (trial,), 0.01, support=3, contra=2)
    clear = lesson("Clear", (trial,), 0.05, support=3, contra=2)
    sure = lesson("Sure", (trial,), 0.02, support=3, contra=0)
    down = lesson("Down", (trial,), -0.02, support=1, contra=1)
    changed = replace(rows, lessons=(*dead, weak, down, sure, clear))
    found = [one.lesson for one in told(changed)]
    assert found[:4] == [sure, clear, weak, down]
    assert found[4:] == dead[:4:-1][:4]
    assert len(found) == MOST
    assert [weight(one) for one in found[:3]] == [0.8, 4 / 7, 4 / 7]
    assert told(replace(changed, lessons=changed.lessons[::-1])) == told(changed)
    for text in pages(changed):
        assert "5 further lessons are left out here" in words(text)
    many = [lesson(f"E{i}", (trial,), 0.1, support=i) for i in range(12)]
    assert [one.lesson for one in told(replace(rows, lessons=tuple(many)))] == many[:3:-1]
    assert len(GROUPS) == 4


def test_what_is_undecided_or_open_again_is_told(rows: Rows) -> None:
    dead = by_form(rows)["poor"].lesson
    (trial,) = by_form(rows)["question"].lesson.evidence
    again = replace(dead, id="a", kind="finding", effect=0.02, effect_se=0.01)
    vain = replace(by_form(rows)["failed"].lesson, id="b", kind="finding", effect_se=None)
    undecided = replace(lesson("Maybe", (trial,), 0.001, "finding"), id="c", effect_se=0.02)
    for text in map(words, pages(replace(rows, lessons=(again, vain, undecided)))):
        assert (
            "linear attention (bottleneck) are no dead end any more: their best trial gave" in text
        )
        assert "+2.00 points of Dice (SE 1.00) at rung 1." in text
        assert "anti-aliased downsampling (downsample) are no dead end any more." in text
        assert re.search(
            r"It is not decided whether networks with Maybe score higher: \+0\.10 points of Dice \(SE "
            r"2\.00\) over 1 network, 95 \\?% interval (±|\\\(\\pm\\\)) 3\.92 points; 1 trial ended",
            text,
        )


def test_lessons_without_a_sentence_are_passed_over(rows: Rows) -> None:
    (trial,) = by_form(rows)["question"].lesson.evidence
    odd = (
        lesson("Level", (trial,), 0.0),
        lesson("Unknown", (trial,), None),
        lesson("Other", (trial,), 0.1, "finding", topic="weather"),
        lesson("Broken", (trial,), 0.1, "failure"),
        lesson("Nameless", (trial,), 0.1, components=()),
    )
    assert told(replace(rows, lessons=odd)) == []


def problems(folder: Path) -> list[str]:
    """Return what a check finds in facts and pages; the folder has no files of trials."""
    return [line for line in check_campaign(folder) if line.startswith(("fact ", "report/"))]


def test_a_check_derives_the_same_facts(folder: Path) -> None:
    assert problems(folder) == []


@pytest.mark.parametrize("name", ["report.html", "manuscript.tex"])
def test_a_check_finds_an_edited_number(copy: Path, rows: Rows, name: str) -> None:
    key = f"{by_form(rows)['raised'].key}.effect"
    path = copy / "report" / name
    raw = path.read_text(encoding="utf-8")
    place = raw.index("+2.", raw.index(key))
    path.write_text(f"{raw[:place]}+9.{raw[place + 3 :]}", encoding="utf-8")
    assert any(key in line and name in line for line in problems(copy))


def test_a_check_finds_an_edited_lesson(copy: Path, rows: Rows) -> None:
    one = by_form(rows)["raised"]
    with closing(sqlite3.connect(copy / "campaign.db", isolation_level=None)) as database:
        database.execute("DROP TRIGGER lesson_forbids_update")
        database.execute("UPDATE lesson SET effect = 0.09 WHERE id = ?", [one.lesson.id])
    found = problems(copy)
    assert any(line.startswith(f"fact {one.key}.effect: value is stored as 2.6") for line in found)
