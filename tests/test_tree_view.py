"""The tree as JSON and as text, on a store that was grown in bulk, and what it costs to start."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import main
from agent.cuts import Cuts, cut_trials
from agent.opening import open_store
from agent.standings import SEARCH, Standings
from agent.tree_view import incumbent, tree, tree_json, tree_lines
from bench.grown_store import CASES, Size, build
from memory.errors import StoreError
from memory.integrity import database_problems
from memory.records import CaseScore, Event, Kind, Metric, SplitName, Status, Trial
from memory.store import Store
from sandbox.clean import clean_text

SIZE = Size(trials=300, branches=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("grown") / "c", SIZE)


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with open_store(folder, read_only=True) as opened:
        yield opened


def test_a_grown_store_is_a_whole_and_lively_one(folder: Path, store: Store) -> None:
    assert database_problems(folder / "campaign.db") == []
    search = [t for t in store.trials() if t.kind in SEARCH]
    assert len(search) == SIZE.trials
    assert len({t.branch for t in search}) == len(store.branches()) == SIZE.branches
    assert {t.rung for t in search} == {0, 1}
    assert set(Counter(t.status for t in search)) >= {Status.OK, Status.FAILED}
    assert {t.kind for t in search} == set(SEARCH)
    assert {t.batch_size for t in search} == {None, 4}
    by_id = {t.id: t for t in search}
    assert all(t.parent is None or by_id[t.parent].branch == t.branch for t in search)
    for one in search[:50]:
        assert len(store.case_scores(one.id)) == CASES * (one.status is Status.OK)
    assert cut_trials(store)


def test_the_same_seed_grows_the_same_store(folder: Path, tmp_path: Path) -> None:
    with open_store(folder) as one, open_store(build(tmp_path / "d", SIZE)) as two:
        assert one.trials() == two.trials()
        assert one.events() == two.events()


def test_the_json_shows_every_trial_with_its_evidence(store: Store) -> None:
    shown = json.loads(tree_json(store))
    assert shown == tree(store)
    assert [n["id"] for n in shown["nodes"]] == [t.id for t in store.trials()]
    standings = Standings(store)
    for node in shown["nodes"][::10]:
        one = store.trial(node["id"])
        found = standings.evidence(one)
        told = node["delta"], node["delta_se"], node["p_better"]
        assert told == ((found.delta, found.se, found.p_better) if found else (None, None, None))
        assert (node["kind"], node["status"], node["rung"]) == (one.kind, one.status, one.rung)
    best = max(
        (n for n in shown["nodes"] if n["delta"] is not None),
        key=lambda n: (n["rung"], n["delta"], n["id"]),
    )
    lead = incumbent(store)
    assert lead is not None
    assert shown["incumbent"] == best["id"] == lead.id
    assert {n["id"] for n in shown["nodes"] if n["is_cut"]} == cut_trials(store)


def test_the_incumbent_is_the_one_that_the_last_decision_believed_in(tmp_path: Path) -> None:
    """One lucky reading leads nothing: the decision weighed all evidence."""
    with open_store(build(tmp_path / "c", SIZE)) as store:
        lucky = incumbent(store)
        other = next(t for t in store.trials(status=Status.OK) if t != lucky)
        assert lucky is not None
        figures = {"incumbent": other.id}
        store.add_event(Event("improve", "improves", figures, lucky.id, lucky.branch, 1.0))
        found = incumbent(store)
        assert found is not None
        assert found.id == tree(store)["incumbent"] == other.id


def test_the_text_shows_every_trial_of_the_search_under_its_parent(store: Store) -> None:
    lines = tree_lines(store)
    assert lines[:2] == ["grown: 300 trials in the search", "baseline: 9 ok"]
    indent = {line.split()[1]: len(line) - len(line.lstrip()) for line in lines[2:]}
    for one in store.trials():
        if one.kind in SEARCH:
            assert indent[one.id] == (indent[one.parent] + 2 if one.parent else 0)
    assert sum("(best so far)" in line for line in lines) == 1


def test_the_verb_prints_both(folder: Path) -> None:
    runner = CliRunner()
    said = runner.invoke(main, ["tree", str(folder), "--json"])
    assert len(json.loads(said.output)["nodes"]) == SIZE.trials + 9
    assert "trials in the search" in runner.invoke(main, ["tree", str(folder)]).output
    missing = runner.invoke(main, ["tree", str(folder / "nothing")])
    assert missing.exit_code == 1
    assert "holds no campaign" in missing.output


def test_an_empty_campaign_has_an_empty_tree(tmp_path: Path) -> None:
    with open_store(build(tmp_path / "c", Size(0, 0))) as empty:
        shown = json.loads(tree_json(empty))
        assert (shown["incumbent"], len(shown["nodes"])) == (None, 9)
        assert tree_lines(empty) == ["grown: 0 trials in the search", "baseline: 9 ok"]


def test_a_hostile_title_is_cleaned(tmp_path: Path) -> None:
    with open_store(build(tmp_path / "c", Size(0, 0))) as own:
        title = "\x1b[2Jnice\u202e title"
        bad = Trial(
            *("bad", None, None, None, None, Kind.DRAFT, 0, 1, SplitName.SEARCH_VAL), title=title
        )
        own.add_trial(bad)
        assert tree(own)["nodes"][-1]["title"] == clean_text(title) == "nice title"


def test_the_last_word_about_a_trial_decides_whether_it_is_cut(folder: Path) -> None:
    with open_store(folder) as own:
        cuts = Cuts(own)
        cuts.refresh()
        one = sorted(cuts.trials)[0]
        assert cuts.refresh() == set()
        own.add_event(Event("promote", "up", {}, one))
        own.add_event(Event("open", "new", {}, one))
        assert cuts.refresh() == {one}
        assert one not in cuts.trials
        own.add_event(Event("cut", "down", {}, one))
        assert cuts.refresh() == {one}
        assert one in cuts.trials
        assert cut_trials(own) == cuts.trials


def test_a_store_is_read_beside_its_writer(tmp_path: Path) -> None:
    with open_store(build(tmp_path / "c", Size(20, 1))) as own:
        new = Trial("new", None, None, None, None, Kind.DRAFT, 0, 9, SplitName.SEARCH_VAL)
        own.add_trial(new)
        with open_store(tmp_path / "c", read_only=True) as reader, own.transaction():
            own.record_result("new", changes={"status": "failed"}, scores=[])
            assert tree(reader)["nodes"][-1]["status"] == "planned"
            with pytest.raises(StoreError, match="reading only"):
                reader.add_event(Event("cut", "", {}))
        assert tree(own)["nodes"][-1]["status"] == "failed"


def test_the_verb_imports_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys\nfrom agent.cli import main\n"
        f"try: main(['tree', {str(folder)!r}, '--json'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'langgraph', 'matplotlib', 'SimpleITK', 'scipy', 'numpy', 'pandas',\n"
        "         'sqlite_utils', 'rich', 'jinja2', 'importlib.metadata', 'tempfile'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def test_values_come_by_trial_case_and_class(tmp_path: Path) -> None:
    with open_store(build(tmp_path / "c", Size(0, 0))) as own:
        new = Trial("new", None, None, None, None, Kind.DRAFT, 0, 9, SplitName.SEARCH_VAL)
        own.add_trial(new)
        rows = [("d", "y", 0.25), ("c", "y", None), ("c", "x", 0.5)]
        scores = [CaseScore("new", c, x, Metric.DICE, v, "both empty") for c, x, v in rows]
        own.record_result("new", changes={"status": "ok"}, scores=scores)
        found = own.metric_values(["new", "nobody"], Metric.DICE)
        assert found == [("new", "c", 0.5), ("new", "c", None), ("new", "d", 0.25)]
        assert own.metric_values(["new"], Metric.NSD) == []
