"""Checklists: each item has a question and a part for facts or author, and no answer lacks facts."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agent.bibliography import load_references
from agent.binding import has_digit, html_problems, latex_problems, typst_problems
from agent.checklist_facts import build_statement_view, chapter_of
from agent.checklists import (
    ANSWERED,
    CHOSEN,
    NOT_APPLICABLE,
    OPEN,
    RULES,
    Checklist,
    Item,
    evaluate,
    evidence,
    load_checklists,
    parse,
)
from agent.facts import facts_of
from agent.latex_writer import render_latex
from agent.manuscript_sections import SECTIONS
from agent.markdown_report import markdown_problems, render_markdown
from agent.report import render_html
from agent.report_rows import Rows, read_rows
from agent.report_view import build_view
from agent.typst_writer import render_typst
from memory.errors import ReportError
from memory.records import Fact
from memory.store import Store
from tests.campaigns import build_campaign

CLAIM, MICCAI = load_checklists()
ITEMS = [(one, item) for one in (CLAIM, MICCAI) for item in one.items]
# Sections of fixed sentences, which say what the facts are without printing them.
WITHOUT_FACTS = {"limitations", "reproduce"}
HEAD = 'title = "T"\ncitation = "k"\n'
ITEM = HEAD + '[[items]]\nid = "1"\nsection = "S"\nquestion = "Q?"\nauthor = "Say it."\n'
WITH_FACTS = "facts = ['a']\nanswer = 'b'\nwhere = 'dataset'\n"


def rows_of(folder: Path) -> Rows:
    with Store.open(folder / "campaign.db", read_only=True) as store:
        return read_rows(store)


def facts_by_key(rows: Rows) -> dict[str, Fact]:
    return {fact.key: fact for fact in facts_of(rows)}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("checklists")
    return rows_of(build_campaign(folder / "campaign", simulated=False))


@pytest.fixture(scope="module")
def facts(rows: Rows) -> dict[str, Fact]:
    return facts_by_key(rows)


@pytest.fixture(scope="module")
def unsearched(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("unsearched")
    return rows_of(build_campaign(folder / "campaign", searched=False, baselines=1))


@pytest.fixture(scope="module")
def page(rows: Rows, facts: dict[str, Fact]) -> str:
    return render_html(build_view(rows, load_references()), facts, load_references(), [])


def answer(checklist: Checklist, number: str, facts: dict[str, Fact], chosen: str = "") -> str:
    found = evaluate(checklist, facts, chosen=chosen)
    return next(one.state for one in found if one.item.id == number)


def test_both_lists_are_whole_and_numbered_as_published() -> None:
    assert [item.id for item in CLAIM.items] == [str(n) for n in range(1, 45)]
    assert Counter(item.section for item in MICCAI.items) == {
        "Models and algorithms": 3,
        "Data sets": 6,
        "Code": 6,
        "Experimental results": 13,
    }
    assert [item.id for item in MICCAI.items] == [str(n) for n in range(1, 29)]


@pytest.mark.parametrize("one", [CLAIM, MICCAI], ids=lambda one: one.name)
def test_a_list_cites_a_source_that_the_bibliography_has(one: Checklist) -> None:
    assert one.citation in load_references()


@pytest.mark.parametrize(
    ("checklist", "item"), ITEMS, ids=[f"{one.name}-{item.id}" for one, item in ITEMS]
)
def test_an_item_has_a_question_and_evidence_or_the_authors_part(
    checklist: Checklist, item: Item, facts: dict[str, Fact]
) -> None:
    assert item.question.endswith("?")
    assert item.author.endswith(".")
    texts = (item.section, item.question, item.author, item.answer)
    assert not any(has_digit(text) for text in texts)
    assert not any(re.search(r"[%&_#{}$\\^~]", text) for text in texts)
    # On a full campaign each pattern is met, so that none is a slip.
    for pattern in item.facts:
        assert evidence(pattern, facts, "proposal0"), pattern
    if item.where not in ("", "verdict", *WITHOUT_FACTS):
        assert any(item.where in one.stands_in for one in SECTIONS.values()) or (
            item.where == "provenance"
        )


@pytest.mark.parametrize(
    ("checklist", "item"), ITEMS, ids=[f"{one.name}-{item.id}" for one, item in ITEMS]
)
def test_the_section_that_is_named_prints_the_evidence(
    checklist: Checklist, item: Item, facts: dict[str, Fact], page: str
) -> None:
    if not item.facts:
        return
    printed = sections_of(page)
    assert item.where in printed
    if item.where not in WITHOUT_FACTS:
        keys = {key for pattern in item.facts for key in evidence(pattern, facts, "proposal0")}
        assert keys & printed[item.where], f"{item.where} prints none of {sorted(keys)[:5]}"


class Sections(HTMLParser):
    """Collects the facts that each section of a page prints, by the section's anchor."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, set[str]] = {}
        self.here = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "h2":
            self.here = given.get("id", "")
            self.found.setdefault(self.here, set())
        if "data-fact" in given:
            self.found.setdefault(self.here, set()).add(given["data-fact"])


def sections_of(page: str) -> dict[str, set[str]]:
    parser = Sections()
    parser.feed(page)
    return parser.found


def test_no_item_is_answered_without_facts(facts: dict[str, Fact]) -> None:
    for checklist in (CLAIM, MICCAI):
        for found in evaluate(checklist, facts, chosen="proposal0"):
            if found.state == ANSWERED:
                assert found.keys
                assert all(facts[key].value is not None for key in found.keys)
        assert {one.state for one in evaluate(checklist, {})} == {OPEN}


def test_a_fact_without_a_value_answers_nothing(facts: dict[str, Fact]) -> None:
    assert answer(CLAIM, "23", facts) == ANSWERED
    for text, value in (("none", "none"), ("undefined", None), ("unknown", "unknown")):
        empty = replace(facts["environment.torch"], text=text, value=value)
        assert answer(CLAIM, "23", facts | {"environment.torch": empty}) == OPEN


def test_one_missing_fact_of_several_leaves_an_item_open(facts: dict[str, Fact]) -> None:
    less = {key: fact for key, fact in facts.items() if key != "environment.nnunetv2"}
    assert answer(CLAIM, "23", less) == OPEN
    found = next(one for one in evaluate(CLAIM, less) if one.item.id == "23")
    assert found.keys == ()


def test_what_the_author_adds_stays_open_with_what_is_known(facts: dict[str, Fact]) -> None:
    found = next(one for one in evaluate(CLAIM, facts) if one.item.id == "25")
    assert found.state == OPEN
    assert "protocol.batch_size" in found.keys


def test_the_chosen_network_is_no_other(facts: dict[str, Fact]) -> None:
    assert answer(CLAIM, "22", facts, "proposal0") == ANSWERED
    assert answer(CLAIM, "22", facts, "proposal1") == OPEN
    assert answer(CLAIM, "22", facts) == OPEN
    assert evidence(rf"proposal\.{CHOSEN}\.title", facts) == []


def test_simulated_subjects_need_no_answers_about_persons(
    rows: Rows, facts: dict[str, Fact]
) -> None:
    assert answer(CLAIM, "11", facts) == OPEN
    assert answer(MICCAI, "9", facts) == OPEN
    dataset = {**rows.campaign.dataset, "simulated": True}
    simulated = replace(rows, campaign=replace(rows.campaign, dataset=dataset), _values={})
    told = facts_by_key(simulated)
    assert told["dataset.simulated"].text == "yes"
    for number in ("5", "8", "11", "13", "16", "17", "18", "34", "36"):
        assert told[f"checklist.claim2024.{number}.state"].text == NOT_APPLICABLE
    assert told["checklist.miccai.9.state"].text == NOT_APPLICABLE


def test_cases_without_a_patient_table_leave_the_level_of_the_split_open(
    facts: dict[str, Fact],
) -> None:
    assert answer(CLAIM, "20", facts) == ANSWERED
    key = "dataset.finding.0"
    told = "warning: dataset.json: no patient table [patients_not_given]"
    assert answer(CLAIM, "20", facts | {key: replace(facts[key], text=told)}) == OPEN


def test_the_numbers_add_up(facts: dict[str, Fact]) -> None:
    for one in (CLAIM, MICCAI):
        key = f"checklist.{one.name}"
        states = Counter(facts[f"{key}.{item.id}.state"].text for item in one.items)
        assert facts[f"{key}.items"].value == len(one.items) == sum(states.values())
        for name in ("answered", "open", "not_applicable"):
            assert facts[f"{key}.{name}"].value == states[name.replace("_", " ")]


def test_a_campaign_that_found_nothing_leaves_more_open(
    facts: dict[str, Fact], unsearched: Rows
) -> None:
    bare = facts_by_key(unsearched)
    assert bare["checklist.claim2024.37.state"].text == OPEN
    assert bare["checklist.claim2024.40.state"].text == ANSWERED
    fewer = bare["checklist.claim2024.answered"].value
    assert isinstance(fewer, int)
    assert fewer < int(facts["checklist.claim2024.answered"].value or 0)


def test_every_seed_of_every_kind_is_a_fact(rows: Rows, facts: dict[str, Fact]) -> None:
    assert facts["seeds.confirm.1.seeds"].text == "1000, 1001, 1002"
    assert facts["seeds.confirm.1.trials"].value == 6
    view = build_statement_view(rows)
    assert {f"{key}.seeds" for key in view.seeds} == {
        key for key in facts if re.fullmatch(r"seeds\..+\.seeds", key)
    }


@pytest.mark.parametrize("which", ["rows", "unsearched"])
def test_every_page_binds_every_number(which: str, request: pytest.FixtureRequest) -> None:
    rows = request.getfixturevalue(which)
    facts, references = facts_by_key(rows), load_references()
    view = build_view(rows, references)
    assert html_problems(render_html(view, facts, references, []), facts) == []
    assert latex_problems(render_latex(view, facts, references, []), facts) == []
    assert typst_problems(render_typst(view, facts, references, []), facts) == []
    assert markdown_problems(render_markdown(view, facts, references, []), facts) == []


def test_what_a_dataset_does_not_say_is_marked_as_the_authors(rows: Rows) -> None:
    dataset = {
        key: value
        for key, value in rows.campaign.dataset.items()
        if key not in ("licence", "reference", "origin", "dataset_json")
    }
    silent = replace(rows, campaign=replace(rows.campaign, dataset=dataset), _values={})
    facts, references = facts_by_key(silent), load_references()
    assert facts["checklist.miccai.6.state"].text == OPEN
    view = build_view(silent, references)
    text = render_markdown(view, facts, references, [])
    for name in ("Licence", "Origin", "Reference"):
        assert f"{name}: not stated by the dataset. **Author**:" in text


def test_the_answer_names_the_section_and_prints_its_facts(rows: Rows, page: str) -> None:
    assert '<a href="#dataset">Dataset and split</a>' in page
    assert 'data-fact="checklist.claim2024.44.id"' in page
    assert "<strong>Author</strong>: Name the funding" in page
    assert chapter_of("dataset") == "Experiments"
    assert chapter_of("provenance") == "Provenance"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "is no checklist"),
        (HEAD, "items"),
        (ITEM + 'colour = "red"\n', "colour"),
        (ITEM.replace('author = "Say it."\n', ""), "author"),
        (ITEM + 'unless = "tired"\n', "tired"),
        (ITEM + "facts = ['a']\n", "belong together"),
        (ITEM + 'where = "dataset"\n', "belong together"),
        (ITEM + "facts = 'a'\n", "a list of strings"),
        (ITEM + "adds = 1\n", "true or false"),
        (ITEM + WITH_FACTS + 'doubt = ["a"]\n', "a pattern of keys and one of texts"),
        (ITEM.replace('"Q?"', '""'), "a string"),
        (ITEM + ITEM.removeprefix(HEAD), "twice"),
    ],
)
def test_a_file_that_is_no_checklist_is_refused(text: str, said: str) -> None:
    with pytest.raises(ReportError, match=said):
        parse("mine", text)


def test_rules_say_why() -> None:
    assert all(rule.reason and not has_digit(rule.reason) for rule in RULES.values())
