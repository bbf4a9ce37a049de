"""One sign changed anywhere in a campaign or in its report: `check` finds it and names it."""

import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.binding import PAGES
from agent.check import check_campaign
from agent.export import export_report
from agent.rebuilt import difference
from agent.report import write_report
from agent.run import drive
from memory.errors import CheckError
from tests.scripted import ScriptedExecutor, new_campaign, session_of
from tests.test_campaign import quiet


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign to its end, with its report; trainings are scripted."""
    folder = new_campaign(tmp_path_factory.mktemp("mutation"), ablation={"seeds": 1})
    session = session_of(folder, ScriptedExecutor(folder))
    assert drive(session, quiet) == "done"
    with session.store() as store:
        store.set_state("done")
    write_report(folder)
    assert check_campaign(folder) == []
    return folder


@pytest.fixture
def campaign(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "campaign"))


def change_rows(campaign: Path, statement: str, *values: object) -> None:
    """Change a row behind the store's back."""
    with closing(sqlite3.connect(campaign / "campaign.db", isolation_level=None)) as conn:
        sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        triggers = conn.execute(sql).fetchall()
        for name, _ in triggers:
            conn.execute(f'DROP TRIGGER "{name}"')
        assert conn.execute(statement, values).rowcount == 1
        for _, made in triggers:
            conn.execute(made)


def other_digit(digit: str) -> str:
    return str((int(digit) + 1) % 10)


def change_digit(text: str, place: int) -> str:
    return text[:place] + other_digit(text[place]) + text[place + 1 :]


ROWS = {
    "score": (
        'UPDATE case_score SET value = value + 0.001 WHERE (trial, "case", label, metric) = (SELECT'
        " trial, \"case\", label, metric FROM search_score WHERE metric = 'dice'"
        " AND value < 0.9 LIMIT 1)",
        r"fact trial\.\w+\.dice",
    ),
    "locked score": (
        'UPDATE case_score SET value = value - 0.001 WHERE (trial, "case", label, metric) = (SELECT'
        ' trial, "case", label, metric FROM case_score JOIN trial ON trial.id = trial'
        " WHERE split = 'locked-test' AND kind = 'confirm' AND metric = 'dice' AND value > 0.1"
        " LIMIT 1)",
        r"fact (case|confirm)\.",
    ),
    "fact": (
        "UPDATE fact SET text = text || '1' WHERE key = 'split.locked-test.cases'",
        r"fact split\.locked-test\.cases",
    ),
    "raw value": (
        "UPDATE fact SET value = value + 1 WHERE key = 'dataset.cases'",
        r"fact dataset\.cases",
    ),
    "split": (
        "UPDATE split SET split = 'search-val' WHERE rowid = (SELECT min(rowid) FROM split"
        " WHERE split = 'search-train')",
        r"^split: its rows give the hash",
    ),
    "patient": (
        "UPDATE split SET patient = patient || '1' WHERE rowid = (SELECT min(rowid) FROM split)",
        r"^split: its rows give the hash",
    ),
    "claim": (
        "UPDATE claim SET text = text || ' It is better.' WHERE rowid = (SELECT min(rowid) FROM"
        " claim)",
        r"fact claim\.\w+\.text",
    ),
    "claim's figure": (
        "UPDATE claim SET figures = json_set(figures, '$.delta', 0.123) WHERE rowid ="
        " (SELECT min(rowid) FROM claim)",
        r"claim",
    ),
    "citation": (
        "UPDATE proposal SET citations = replace(citations, 'isensee2021nnunet', 'isensee2022nnunet')"
        " WHERE citations LIKE '%isensee2021nnunet%' AND rowid = (SELECT min(rowid) FROM proposal"
        " WHERE citations LIKE '%isensee2021nnunet%')",
        r"fact proposal\.\w+\.citation",
    ),
    "module": (
        "UPDATE proposal SET modules = replace(modules, 'blur_pool', 'attention_gate') WHERE"
        " rowid = (SELECT min(rowid) FROM proposal WHERE modules LIKE '%blur_pool%')",
        r"fact proposal\.\w+\.module",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_changed_row_is_named(name: str, campaign: Path) -> None:
    statement, expected = ROWS[name]
    change_rows(campaign, statement)
    found = check_campaign(campaign)
    assert found
    assert any(re.search(expected, line) for line in found), found
    with pytest.raises(CheckError):
        export_report(campaign, "html", campaign / "out")
    assert not (campaign / "out").exists()


def first(pattern: str) -> Callable[[str], int]:
    def place(text: str) -> int:
        found = re.search(pattern, text)
        assert found, pattern
        return found.start(1)

    return place


WORDS = {
    "caption": ("Scores by class", "Scores by glass"),
    "sentence": ("The split was made once", "The split was made twice"),
    "limitation": ("One dataset from one source", "Ten datasets from one source"),
    "refusal": ("No improvement claimed", "An improvement claimed"),
}
PLACES = {
    "score in a table": first(
        r'confirm\.baseline\.[\w-]+\.dice\.mean(?:"[^>]*>|\}\{|"\)\[)0\\?\.(\d)'
    ),
    "sentence": first(r"split\.locked-test\.cases\D+?(\d)"),
    "reference": first(r"(?i)arxiv[^0-9]{1,9}(\d)"),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", PLACES)
def test_a_changed_digit_of_a_page_is_named(name: str, page: str, campaign: Path) -> None:
    path = campaign / "report" / page
    if name == "reference" and page == "manuscript.tex":
        path = campaign / "report" / "references.bib"
    text = path.read_text()
    path.write_text(change_digit(text, PLACES[name](text)))
    found = check_campaign(campaign)
    assert found
    assert all(line.startswith(f"report/{path.name}: ") for line in found), found


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", WORDS)
def test_a_changed_word_of_a_page_is_named(name: str, page: str, campaign: Path) -> None:
    old, new = WORDS[name]
    path = campaign / "report" / page
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    (line,) = check_campaign(campaign)
    assert line.startswith(f"report/{page}: line ")
    assert "the rows give" in line


@pytest.mark.parametrize("page", PAGES)
def test_a_citation_that_was_moved_to_another_source_is_named(page: str, campaign: Path) -> None:
    path = campaign / "report" / page
    text = path.read_text()
    old, new = "isensee2021nnunet", "isensee2024revisited"
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert any(line.startswith(f"report/{page}: ") for line in check_campaign(campaign))


@pytest.mark.parametrize("page", PAGES)
def test_any_digit_of_a_page_is_found(page: str, whole: Path) -> None:
    text = (whole / "report" / page).read_text()
    places = [match.start() for match in re.finditer(r"[0-9]", text)]
    for place in random.Random(8).sample(places, 200):
        assert difference(change_digit(text, place), text).startswith("line ")


@pytest.mark.parametrize("name", ["paired.json", "paired.svg", "tree.pdf", "cases.png"])
def test_a_changed_figure_is_named(name: str, campaign: Path) -> None:
    path = campaign / "report" / "figures" / name
    raw = bytearray(path.read_bytes())
    place = next(i for i in range(len(raw) // 2, len(raw)) if chr(raw[i]) in "0123456789")
    raw[place] = ord(other_digit(chr(raw[place])))
    path.write_bytes(raw)
    found = check_campaign(campaign)
    assert any(f"figures/{path.stem}" in line for line in found), found


def test_a_page_that_ends_early_is_named(campaign: Path) -> None:
    path = campaign / "report" / "manuscript.tex"
    path.write_text(path.read_text().replace("\\end{document}", ""))
    (line,) = check_campaign(campaign)
    assert line.startswith("report/manuscript.tex: it has no document environment")


def test_the_first_difference_is_shown_with_what_stands_around_it() -> None:
    assert difference("a\nbc\n", "a\nbc\n") == ""
    assert difference("a\nbc\n", "a\nbd\n") == "line 2 has 'bc', the rows give 'bd'"
    assert difference("a\n", "a\nb\n") == "line 2 has '', the rows give 'b'"
    assert difference("a", "a\n") == "it ends otherwise than the rows give"
    assert "x1y" in difference("w" * 500 + "x1y", "w" * 500 + "x2y")


def changed(value: float) -> float:
    """Return a score with another third decimal, in the bounds of every metric."""
    return value + 0.001 if value < 0.9 else value - 0.001


@pytest.mark.parametrize("metric", ["dice", "nsd", "hd95"])
@pytest.mark.parametrize("kind", ["baseline", "draft", "confirm"])
def test_any_score_is_named(kind: str, metric: str, campaign: Path) -> None:
    sql = (
        'SELECT trial, "case", label, value FROM case_score JOIN trial ON trial.id = trial'
        " WHERE kind = ? AND metric = ? AND value IS NOT NULL"
    )
    with closing(sqlite3.connect(campaign / "campaign.db")) as conn:
        trial, case, label, value = random.Random(4).choice(
            conn.execute(sql, (kind, metric)).fetchall()
        )
    change_rows(
        campaign,
        'UPDATE case_score SET value = ? WHERE (trial, "case", label, metric) = (?, ?, ?, ?)',
        *(changed(value), trial, case, label, metric),
    )
    assert any(trial in line for line in check_campaign(campaign))


@pytest.mark.parametrize("seed", range(8))
def test_any_fact_is_named(seed: int, campaign: Path) -> None:
    with closing(sqlite3.connect(campaign / "campaign.db")) as conn:
        rows = conn.execute("SELECT key, text FROM fact WHERE text GLOB '*[0-9]*'").fetchall()
    key, text = random.Random(seed).choice(sorted(rows))
    place = re.search("[0-9]", text)
    assert place is not None
    after = change_digit(text, place.start())
    change_rows(campaign, "UPDATE fact SET text = ? WHERE key = ?", after, key)
    assert any(line.startswith(f"fact {key}: text") for line in check_campaign(campaign))
