"""What a real model says goes the whole way: form, proposal, network, repair; each call is stored.

135 million parameters write words without sense. What is held here is the path that they take.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent import briefing
from agent.coder import Coder, library_part
from agent.endpoint import doze
from agent.ideas import Plan, proposal_of
from agent.ledger import ModelLost
from agent.llm import CUT_OFF, CUT_TWICE, Client
from agent.network_source import network_source
from agent.planner import Case
from agent.planners import make_model
from agent.prompts import make_prompt
from agent.replies import ReplyError, read
from agent.reply_forms import ProposalReply
from agent.session import Session
from memory.errors import PlannerError
from memory.records import Kind, LlmCall, Module, Proposal, SplitName, Status, Trial
from memory.store import Store
from sandbox.components import COMPONENTS
from sandbox.dry_run import examined
from tests.real_llm import RealServer
from tests.scripted import ScriptedExecutor, new_campaign, session_of

pytestmark = pytest.mark.slow
ROOM = 700
PLAN = Plan(2, 3)
SEEDS = range(1, 13)
"""Half of the proposals make no network: two modules want one place, or one comes twice."""
IDEA = Proposal(
    id="a" * 12,
    title="A gain per channel",
    motivation="Channels differ in their noise.",
    modules=(Module("ChannelGain", "bottleneck", ()),),
    refutation="No gain at the first rung.",
    citations=(),
    planner="llm",
    detail={"ideas": {"ChannelGain": "a learnt gain per channel"}},
)
FAULTY = "import os\n\n\ndef build_network(in_channels, num_classes, spec):\n    return os\n"


@dataclass(frozen=True)
class Asked:
    """A campaign whose roles are all played by the real model."""

    session: Session
    client: Client

    def calls(self, purpose: str) -> list[LlmCall]:
        with self.session.store() as store:
            return [call for call in store.llm_calls() if call.purpose == purpose]


@pytest.fixture(scope="module")
def asked(real_llm: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    small = {"url": real_llm.url, "model": real_llm.model, "context": real_llm.context}
    folder = new_campaign(
        tmp_path_factory.mktemp("real"),
        planner="llm",
        endpoints={"small": {**small, "attempts": 1}},
        roles={
            "generator": {"temperature": 1.3, "max_tokens": 300},
            "coder": {"temperature": 1.0, "max_tokens": 64},
        },
    )
    session = session_of(folder, ScriptedExecutor(folder))
    client = make_model(session.config, session.store, pause=doze, now=time.time)
    assert isinstance(client, Client)
    return Asked(session, client)


def check_stored(calls: list[LlmCall], *, role: str, scope: str) -> None:
    """Check what each call of one purpose says of itself."""
    assert calls
    for call in calls:
        assert (call.role, call.scope, call.endpoint) == (role, scope, "small")
        assert call.model == "smollm2-135m"
        assert call.tokens_in
        assert call.tokens_out
        assert call.reply
        assert call.seconds
        assert call.error in (None, CUT_OFF, CUT_TWICE)


def test_the_probe_finds_that_replies_can_be_held_to_a_schema(asked: Asked) -> None:
    with asked.session.store() as store:
        (event,) = store.events(kind="probe")
    assert (event.figures["level"], event.figures["problem"]) == ("schema", "")
    check_stored(asked.calls("probe"), role="probe", scope="campaign")


def sections(session: Session) -> dict[str, str]:
    """Return what the generator is told."""
    with session.store() as store:
        _, text = briefing.dataset(store, session)
    return {
        "bent": "Write one module, and at most eight words in each text.",
        "dataset": text,
        "challenge": "Small blocks are missed.",
        "components": briefing.components(*PLAN),
        "placement": briefing.placement(*PLAN),
    }


def proposals(asked: Asked) -> Iterator[Proposal]:
    """Yield what the model proposes, seed by seed; a reply that is none has its own error."""
    prompt = make_prompt("propose", sections(asked.session), room=ROOM)
    for seed in SEEDS:
        try:
            said = asked.client.ask(prompt, ProposalReply, scope="decision/1", seed=seed)
            yield proposal_of(said.value, PLAN, citable=(), detail={"endpoint": said.endpoint})
        except ModelLost:
            raise
        except PlannerError:  # a form that is not kept to, or modules that make no network
            continue


def test_a_proposal_comes_back_in_its_form_and_makes_a_network(
    asked: Asked, tmp_path: Path
) -> None:
    idea = next(proposals(asked), None)
    assert idea is not None, [call.reply for call in asked.calls("propose")]
    assert 1 <= len(idea.modules) <= 3
    new = idea.detail["ideas"].keys()
    for one in idea.modules:
        assert one.component in COMPONENTS or one.component in new
    calls = asked.calls("propose")
    check_stored(calls, role="generator", scope="decision/1")
    assert read(calls[-1].reply, ProposalReply)
    (tmp_path / "network.py").write_text(network_source(library_part(idea)))
    assert examined(tmp_path / "network.py", []).passed


def written(asked: Asked, proposal: Proposal, scope: str) -> str | None:
    """Return the network that the model writes for a proposal; None where it is none."""
    coder = Coder(asked.session, asked.client, room={"coder": ROOM})
    with asked.session.store() as store:
        try:
            return coder.write(store, proposal, Case(scope))
        except ReplyError:
            return None


def refuse(source: str, folder: Path) -> None:
    """Check that a file which a model of this size wrote in so few tokens is refused."""
    (folder / "network.py").write_text(source)
    verdict = examined(folder / "network.py", ["ChannelGain"])
    assert not verdict.passed
    assert verdict.failure_class


def test_a_network_is_written_and_judged(asked: Asked, tmp_path: Path) -> None:
    source = written(asked, IDEA, "decision/2")
    check_stored(asked.calls("code"), role="coder", scope="decision/2")
    if source is not None:
        refuse(source, tmp_path)


def failed_trial(store: Store, session: Session) -> Trial:
    """Store a trial whose network the static check refused."""
    commit = session.networks().commit(FAULTY, branch="abcd", message="faulty", trailers={})
    trial = Trial(
        id="b" * 12,
        parent=None,
        branch=None,
        proposal=IDEA.id,
        commit=commit,
        kind=Kind.DRAFT,
        rung=0,
        seed=1,
        split=SplitName.SEARCH_VAL,
        status=Status.REJECTED,
        failure_class="imports",
        failure_excerpt="line 1: os may not be imported",
    )
    store.add_proposal(IDEA)
    store.add_trial(trial)
    return trial


def test_a_repair_is_asked_for_and_judged(asked: Asked, tmp_path: Path) -> None:
    with asked.session.store() as store:
        trial = failed_trial(store, asked.session)
    repair = replace(IDEA, id="c" * 12, parent=IDEA.id, detail={**IDEA.detail, "repair": trial.id})
    source = written(asked, repair, "decision/3")
    check_stored(asked.calls("repair"), role="coder", scope="decision/3")
    assert all(FAULTY.splitlines()[-1] in call.prompt for call in asked.calls("repair"))
    if source is not None:
        refuse(source, tmp_path)
