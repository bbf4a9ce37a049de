"""Decisions of campaigns with a language model, made again from the store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.decision_state import RIVAL
from agent.replay import replayed
from agent.tree_view import tree, tree_lines
from agent.why_view import starting, why
from memory.records import Kind
from memory.store import Store
from sandbox.dry_run import Dry
from tests.llm_replies import BROKEN
from tests.llm_server import ScriptedServer
from tests.scripted import dry, new_campaign
from tests.scripted_model import model, new_classes, purpose_of
from tests.test_llm_campaign import NEW, Script, conclude, settings
from tests.test_why import FALLBACKS, readable

UNWRITTEN = ("EdgeGate", "NoiseFilter")
"""New modules that no coder writes."""


def second(body: dict[str, Any]) -> Any:
    """Answer as two coders whose networks differ."""
    made = model(body)
    if purpose_of(body) == "code" and body["model"] == "second":
        made["source"] += "\n\nSECOND = 2\n"
    return made


def lost_after(count: int) -> Script:
    """Answer so many requests, then none."""
    left = [count]

    def script(body: dict[str, Any]) -> Any:
        left[0] -= 1
        return model(body) if left[0] >= 0 else BROKEN

    return script


def some_code(body: dict[str, Any]) -> Any:
    """Answer, but write no network for some ideas."""
    is_asked = purpose_of(body) == "code" and set(UNWRITTEN) & set(new_classes(as_told(body)))
    return "not a word of JSON" if is_asked else model(body)


def as_told(body: dict[str, Any]) -> str:
    """Return what a request asks for first."""
    return str(body["messages"][1]["content"])


def fails_once() -> Callable[..., Dry]:
    """Return a dry run that each new network fails until it was changed."""

    def run(*args: Any, **more: Any) -> Dry:
        source = args[1].read_text() if len(args) > 1 and args[1] else ""
        if NEW in source and "CHANGE_" not in source:
            return Dry("shape_mismatch", "line 7: 24 and 23", None, None, None, None)
        return dry()

    return run


def two_coders(url: str) -> dict[str, Any]:
    """Return settings with two endpoints, each a coder."""
    own = settings(url, coder={"rivals": 2}, explore={"drafts": 2})
    own["endpoints"]["other"] = {**own["endpoints"]["local"], "model": "second"}
    own["roles"] = {"coder": {"endpoints": ["local", "other"]}}
    return own


class Case(NamedTuple):
    """A campaign: what its model answers, its settings, its dry run, and what it must hold."""

    script: Callable[[], Script]
    kinds: set[str]
    settings: Callable[[str], dict[str, Any]] = settings
    dry_run: Callable[[], Callable[..., Dry]] = lambda: dry
    state: str = "done"
    trials: int = 6


def few_drafts(url: str) -> dict[str, Any]:
    """Return settings that soon leave new ideas for the refinement of old ones."""
    return settings(url, explore={"drafts": 2})


def nobody_else(url: str) -> dict[str, Any]:
    """Return settings under which the built-in planner never proposes."""
    return settings(url, llm={"patience_s": 0.0, "fallback": "end"})


CASES = {
    "rivals": Case(lambda: second, {RIVAL, "repair", "promote"}, two_coders, fails_once, trials=9),
    "lost": Case(lambda: lost_after(9), {"planner_lost", "fell_back", "no_proposal"}, few_drafts),
    "ended": Case(
        lambda: lost_after(5), {"planner_lost", "no_proposal"}, nobody_else, state="unplanned"
    ),
    "unwritten": Case(lambda: some_code, {"fell_back", "no_proposal", "improve"}, few_drafts),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def campaign(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with ScriptedServer(case.script()) as server:
        folder = new_campaign(tmp_path_factory.mktemp("llm"), **case.settings(server.url))
        assert conclude(folder, trials=case.trials, dry_run=case.dry_run()) == case.state
    return folder


def test_every_decision_is_made_again(case: Case, campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        found = list(replayed(store))
        assert case.kinds <= {event.kind for event in store.events()}
    assert found
    assert [(one.event.id, one.event.text, one.differs) for one in found if one.differs] == []
    # The words of a decision hold its figures, as how many ideas were opened before it.
    assert [one.made.text for one in found] == [one.event.text for one in found]


def test_every_event_is_explained_in_full(campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        told = [event for event in store.events() if event.kind != "dry_run"]  # scripted, and bare
        for event in told:
            lines = why(store, str(event.id))["lines"]
            readable(lines)
            assert not any(line.startswith(FALLBACKS) for line in lines), lines


def test_a_trial_leads_to_the_decision_that_began_it(campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        rivals = {event.id: event for event in store.events(kind=RIVAL)}
        for number, event in rivals.items():
            made = (store.effect(f"decision/{number}/trial") or {})["trial"]
            first = (store.effect(f"decision/{event.figures['decision']}/trial") or {})["trial"]
            assert starting(store, store.trial(made)) == number
            if made != first:  # two coders may write the same network
                assert starting(store, store.trial(first)) == event.figures["decision"]


def test_a_refinement_names_what_its_diagnosis_suggested(campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        for event in store.events(kind="improve"):
            known = store.effect(f"decision/{event.id}/trial")
            if known is None:
                continue
            proposal = store.proposal(store.trial(known["trial"]).proposal or "")
            said = proposal.detail.get("suggestion")
            line = why(store, str(event.id))["lines"][0]
            if said is None:
                assert "diagnosis" not in line
            else:
                assert f" by its diagnosis ({said['category']})" in line


def test_the_tree_shows_both_networks_of_one_idea(case: Case, campaign: Path) -> None:
    with Store.open(campaign / "campaign.db", read_only=True) as store:
        shown, lines = tree(store), tree_lines(store)
        kinds = {node["kind"] for node in shown["nodes"]}
        assert kinds <= {kind.value for kind in Kind}
        for event in store.events(kind=RIVAL):
            made = (store.effect(f"decision/{event.id}/trial") or {})["trial"]
            assert any(made in line for line in lines)
