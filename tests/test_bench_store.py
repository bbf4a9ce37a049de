"""`segwright bench store`: every key, a decision that sees what it should, prompts and recalls."""

import json
import os
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from agent.growth import Growth
from agent.llm_planner import LlmPlanner
from agent.memory_view import Unasked, reading_session
from agent.prompts import LIMITS, PURPOSES, make_prompt
from bench import store as module
from bench.bench import bench
from bench.grown_campaign import build_campaign
from bench.grown_memory import SHARES
from bench.grown_store import BEGIN_S, CASES, Size, build, follower, result
from bench.memory_times import (
    BUDGET_TOKENS,
    ROLES,
    asked,
    check_size,
    context_figures,
    meaning_figures,
    prompt_of,
    recall_figures,
)
from bench.store import alone, decisions, run
from memory.embedder import installed
from memory.errors import SegwrightError
from memory.ranking import tokens
from memory.records import Event, Status, scores_hash
from memory.store import Store
from sandbox.processes import descendants

KEYS = {
    *("first_decision_s", "decision_ms.10000", "change_ms", "refresh_ms", "choice_ms"),
    *("tree_json_ms.300", "tree_process_ms", "store_mib", "peak_memory_mib", "trials"),
    *("case_scores", "recall_ms.1000", "recalled.1000"),
    *(f"context_{what}.{role}" for what in ("ms", "tokens", "room") for role in ROLES),
}
MEANING = {"recall_meaning_ms.{}", "recall_meaning_first_ms.{}"}
NOT_FILLED = {"papers", "refused", "fault"}
"""Sections that nobody fills before a search, a refusal or a fault."""
LESSONS = 400
PLANNING = ("generator", "assessor", "coder", "diagnostician")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path / "c", Size(200, 4))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_campaign(tmp_path_factory.mktemp("grown") / "c", Size(120, 4), LESSONS)


def test_a_tree_that_grows_is_the_tree_made_afresh(folder: Path) -> None:
    with Store.open(folder / "campaign.db") as store:
        growing = Growth(store)
        growing.refresh()
        before = dict(growing.branches)
        parent = next(t for t in growing.trials.values() if t.status is Status.OK and t.branch)
        one = follower(parent, 1)
        store.add_trial(one)
        store.add_event(Event("cut", "cut", {}, parent.id, parent.branch))
        growing.refresh()
        changed = {name for name, branch in growing.branches.items() if branch is not before[name]}
        assert changed == {parent.branch}
        fresh = Growth(store)
        fresh.refresh()
        assert fresh.branches.keys() == growing.branches.keys()
        assert all(b.nodes == fresh.branches[name].nodes for name, b in growing.branches.items())
        own = growing.branches[parent.branch or ""].by_id
        assert own[parent.id].is_cut
        assert own[one.id].is_pending


def test_a_trial_that_follows_ends_with_its_scores(folder: Path) -> None:
    with Store.open(folder / "campaign.db") as store:
        parent = store.trials(status=Status.OK)[-1]
        one = follower(parent, 1)
        store.add_trial(one)
        changes, scores = result(one, Random(1))
        assert store.record_result(one.id, changes=changes, scores=scores)
        ended = store.trial(one.id)
        assert (ended.status, ended.parent) == (Status.OK, parent.id)
        assert ended.scores_hash == scores_hash(store.case_scores(one.id))
        assert len(scores) == CASES


def test_each_decision_is_stored_and_timed(folder: Path) -> None:
    figures = decisions(folder, 3)
    assert figures["trials"].value == 200
    assert figures["case_scores"].value > 2000
    assert figures["decision_ms"].low > 0
    assert figures["decision_ms"].unit == "ms"
    assert figures["first_decision_s"].unit == "s"
    with Store.open(folder / "campaign.db") as store:
        made = [e for e in store.events() if e.at >= BEGIN_S + 10**8]
        chosen = [e for e in made if e.kind != "trial_result"]
        assert len(chosen) == 4
        assert all(e.figures for e in chosen)


def test_work_alone_leaves_no_process(folder: Path) -> None:
    assert alone(len, "four") == 4
    with pytest.raises(SegwrightError):
        alone(module.process_figures, folder, 1, 10**6)
    assert all("spawn_main" not in _command(pid) for pid in descendants(os.getpid()))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_lessons_of_every_layer_can_be_told(campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        told = store.lessons()
        shown = store._connection.select("SELECT count(*) FROM search_lesson")[1]
        rows = store._connection.select("SELECT count(*) FROM lesson")[1]
        names = {one.case for one in store.split()}
        trials = {one.id for one in store.trials()}
    assert shown == [(LESSONS,)]
    assert len(told) == LESSONS < rows[0][0]
    share = LESSONS // sum(SHARES.values())
    assert {layer: sum(o.layer == layer for o in told) for layer in SHARES} == {
        layer: share * parts for layer, parts in SHARES.items()
    }
    assert all(bool(one.source) == bool(one.conditions) == (one.layer == "library") for one in told)
    assert all(one.source or trials.issuperset(one.evidence) for one in told)
    assert not any(name in one.text for one in told for name in names)


def test_a_measured_recall_tells_lessons_that_share_words(campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        answers = asked(store, 5)
    assert len(answers) == 5
    for one in answers:
        assert {found.by for found in one.told} == {"words"}
        assert sum(tokens(found.lesson.text) for found in one.told) <= BUDGET_TOKENS
        assert one.ms > 0
    assert len({one.told[0].lesson.id for one in answers}) > 1


def test_the_figures_of_recalls_have_their_number_of_lessons(campaign: Path) -> None:
    found = recall_figures(campaign, 3, LESSONS)
    assert {key: one.unit for key, one in found.items()} == {
        f"recall_ms.{LESSONS}": "ms",
        f"recalled.{LESSONS}": "lessons",
    }
    assert found[f"recalled.{LESSONS}"].low >= 1
    by_meaning = meaning_figures(campaign, 3, LESSONS)
    assert set(by_meaning) == ({key.format(LESSONS) for key in MEANING} if installed() else set())


def test_a_recall_that_tells_nothing_is_refused(folder: Path) -> None:
    with (
        Store.open(folder / "campaign.db", read_only=True) as store,
        pytest.raises(SegwrightError, match="a recall told nothing for"),
    ):
        asked(store, 1)


def test_each_prompt_has_all_of_its_sections(campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        planner = LlmPlanner(reading_session(campaign, store), Unasked())
    for purpose in (name for name, (role, _) in PURPOSES.items() if role in PLANNING):
        prompt = prompt_of(campaign, planner, purpose)
        empty = {name for name, text in prompt.sections.items() if "(none)" in text[:60]}
        assert empty <= NOT_FILLED, purpose
        assert prompt_of(campaign, planner, purpose) == prompt


def test_the_figures_of_prompts_are_bounded_by_their_room(campaign: Path) -> None:
    found = context_figures(campaign, 1)
    assert set(PLANNING) <= set(ROLES)
    for role in ROLES:
        assert found[f"context_ms.{role}"].unit == "ms"
        assert found[f"context_ms.{role}"].low > 0
        size, room = found[f"context_tokens.{role}"], found[f"context_room.{role}"]
        assert (size.unit, room.unit) == ("tokens", "tokens")
        assert 0 < size.low <= size.value == size.high < room.value


def test_a_prompt_that_is_too_large_is_refused() -> None:
    prompt = make_prompt("audit", {"clues": "x" * LIMITS["clues"]})
    check_size(prompt, 10_000)
    with pytest.raises(SegwrightError, match="'audit' has about .* room for 100$"):
        check_size(prompt, 100)
    longer = replace(prompt, sections={**prompt.sections, "clues": "x" * 2 * LIMITS["clues"]})
    with pytest.raises(SegwrightError, match="'clues' of the prompt 'audit' has 10000 characters"):
        check_size(longer, 10_000)


def test_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegwrightError, match="leave out --data"):
        run(is_quick=True, data=[tmp_path], say=lambda _: None)


@pytest.mark.slow
def test_the_quick_bench_gives_every_key() -> None:
    ran = CliRunner().invoke(bench, ["store", "--quick"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["bench"] == "store"
    meaning = {key.format(1000) for key in MEANING} if installed() else set()
    assert set(found["figures"]) == KEYS | meaning
    assert (found["figures"]["recalled.1000"]["low"]) >= 1
    assert found["figures"]["trials"]["value"] == 10_000
    assert found["figures"]["case_scores"]["value"] > 100_000
