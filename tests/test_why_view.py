"""`segwright why`: which event is explained, what is printed, and how a wrong one reads."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import main
from agent.opening import open_store
from agent.why_view import why
from memory.errors import StoreError
from memory.records import Event, Kind, SplitName, Trial, trial_id
from memory.store import Store
from sandbox.clean import clean_text
from tests.campaigns import HOSTILE, build_campaign
from tests.test_why import readable


def call(*args: object) -> Result:
    return CliRunner().invoke(main, ["why", *(str(a) for a in args)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_campaign(tmp_path / "c")


def cut_of(store: Store) -> Event:
    return store.events(kind="cut")[0]


def test_the_verb_prints_three_lines_and_json(folder: Path) -> None:
    with open_store(folder) as store:
        cut = cut_of(store)
    assert cut.trial is not None
    result = call(folder, cut.id)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == (
        f'Event {cut.id}: decided to cut "Linear attention" ({cut.trial[:6]}): it gets no more '
        "time; nothing is left of its branch."
    )
    said = json.loads(call(folder, cut.id, "--json").output)
    assert list(said) == ["event", "kind", "at", "lines", "figures"]
    assert said["lines"] == result.output.splitlines()
    assert (said["event"], said["kind"], said["at"]) == (cut.id, "cut", cut.at)
    assert said["figures"] == cut.figures


def test_without_an_event_it_is_the_last_decision(folder: Path) -> None:
    with open_store(folder) as store:
        cut = cut_of(store)
        assert store.events()[-1].kind == "done"
        assert why(store, None)["event"] == cut.id
        later = store.add_event(Event("open", "opens", {"rung": 0}, at=2.0))
        assert why(store, None)["event"] == later
        store.add_event(Event("trial_result", "ended", {}, at=3.0))
        assert why(store, None)["event"] == later


def test_a_trial_stands_for_the_last_decision_about_it(folder: Path) -> None:
    with open_store(folder) as store:
        cut = cut_of(store)
        assert cut.trial is not None
        assert why(store, cut.trial[:8])["event"] == cut.id
        draft = next(t for t in store.trials(kind=Kind.DRAFT) if t.branch == "branch0")
        with pytest.raises(StoreError, match=f"nothing was decided about trial {draft.id}"):
            why(store, draft.id)
        begun = store.add_event(Event("open", "opens", {"rung": 0}))
        store.set_effect(f"decision/{begun}/trial", {"trial": draft.id})
        assert why(store, draft.id)["event"] == begun
        assert f'"Residual encoder and gated skips" ({draft.id[:6]})' in why(store, str(begun))[
            "lines"
        ][0].replace("…", "")
        store.add_event(Event("dry_run", "passed", {}, draft.id))
        assert why(store, draft.id)["event"] == begun
        later = store.add_event(Event("promote", "up", {"rung": 1}, draft.id, draft.branch))
        assert why(store, draft.id)["event"] == later


def test_a_repair_within_a_decision_leads_to_that_decision(folder: Path) -> None:
    with open_store(folder) as store:
        begun = store.add_event(Event("open", "opens", {"rung": 0}))
        ids: list[str] = []
        for seed in (71, 72):
            above = ids[-1] if ids else None
            new = Trial("", above, None, None, None, Kind.REPAIR, 0, seed, SplitName.SEARCH_VAL)
            new = replace(new, id=trial_id(new))
            store.add_trial(new)
            store.record_result(new.id, changes={"status": "rejected"}, scores=[])
            ids.append(new.id)
        store.set_effect(f"decision/{begun}/trial", {"trial": ids[0]})
        assert why(store, ids[1])["event"] == begun


def test_a_baseline_leads_to_the_event_that_began_it(folder: Path) -> None:
    with open_store(folder) as store:
        base = store.trials(kind=Kind.BASELINE)[0]
        begun = store.add_event(Event("baseline", "trains", {"trial": base.id, "rung": 0}))
        store.set_effect(f"begun/{base.id}", {"event": begun})
        assert why(store, base.id)["event"] == begun


@pytest.mark.parametrize("wanted", ["0", "9999", "99999999999"])
def test_a_wrong_number_says_which_there_are(folder: Path, wanted: str) -> None:
    with open_store(folder) as store:
        last = store.events()[-1].id
    result = call(folder, wanted)
    assert result.exit_code == 1
    assert result.stderr == (
        f"segwright: no event {int(wanted)}; events are numbered from 1 to {last}\n"
    )


def test_a_wrong_trial_is_one_line(folder: Path) -> None:
    result = call(folder, "zz")
    assert result.exit_code == 1
    assert result.stderr == "segwright: no trial begins with 'zz'; `segwright tree` lists them\n"


def test_nothing_was_decided_yet(tmp_path: Path) -> None:
    with open_store(build_campaign(tmp_path / "c", searched=False)) as store:
        with pytest.raises(StoreError, match="nothing was decided yet"):
            why(store, None)


def test_every_event_of_a_hostile_campaign(tmp_path: Path) -> None:
    with open_store(build_campaign(tmp_path / "c", hostile=True)) as store:
        for event in store.events():
            found = why(store, str(event.id))
            readable(found["lines"])
        assert clean_text(HOSTILE)[:8] in why(store, str(cut_of(store).id))["lines"][0]


def test_the_verb_imports_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys\nfrom agent.cli import main\n"
        f"try: main(['why', {str(folder)!r}])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'langgraph', 'matplotlib', 'SimpleITK', 'scipy', 'numpy', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
