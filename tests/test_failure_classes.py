"""Every class of failure, from a real network through a trial's graph into the store."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agent.graph import TrialGraph, replace_id
from agent.planners import make_planner
from agent.session import Session
from agent.trials import write_job
from bench.demo_data import build_demo
from memory.records import Kind, Module, Proposal, SplitName, Status, Trial
from sandbox.components import COMPONENTS
from sandbox.failures import CLASSES
from tests.engines import prepared

pytestmark = pytest.mark.slow

SEEDS = count(500)
HEAD = "import os, time\nimport torch\nfrom torch import nn\nfrom torch.nn import functional\n"
NETWORK = """
class AttentionGate(nn.Module):
    def forward(self, x):
        return x

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.conv = nn.Conv2d(i, k, 3, padding=1)
        self.gate = {gate}
        self.passes = 0

    def forward(self, x):
        y = {body}
        self.passes += self.training
        if self.passes > {late}:
            {inside}
        return y

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""
LARGER = """
import sys
Loader = sys.modules["nnunetv2.training.dataloading.data_loader"].nnUNetDataLoader
init = Loader.__init__
def larger(self, data, batch_size, *args, **kwargs):
    init(self, data, 2 * batch_size, *args, **kwargs)
Loader.__init__ = larger
"""
GREEDY = """
def poor():
    torch.from_numpy = lambda array: torch.zeros(10**13)
os.register_at_fork(after_in_child=poor)
"""
RESUMED = (
    "from types import SimpleNamespace\n"
    "            from nnunetv2.run.run_training import maybe_load_checkpoint\n"
    "            maybe_load_checkpoint(SimpleNamespace(output_folder='/tmp'), True, False)"
)
LATE = 8
"""More forward passes than a dry run makes with one object, so that what follows is training."""


@dataclass(frozen=True)
class Case:
    """A network, and what the store must say of its trial."""

    kind: str
    status: Status
    said: str
    source: str
    iterations: int = 12
    is_read: bool = False
    named: str = ""
    job: dict[str, Any] = field(default_factory=dict)


def network(inside: str = "pass", body: str = "self.conv(x)", gate: str = "None") -> str:
    """Return a network; `inside` runs once the dry run is over."""
    return HEAD + NETWORK.format(inside=inside, body=body, gate=gate, late=LATE)


WRAPPED = (
    "module = __import__('numpy').random\n"
    "            module.uniform = (lambda real: lambda *a, **k: real(*a, **k))(module.uniform)"
)
FLOOD = "[print('x' * 10**6) for _ in range(60)]; time.sleep(5)"
R, D, F = Status.REJECTED, Status.DIVERGED, Status.FAILED
SLEEP = "time.sleep(60)"
CASES = [
    Case("syntax", R, "line 2", "def (", is_read=True),
    Case("imports", R, "os", network(), is_read=True),
    Case("names", R, "open", "def build_network(in_channels, num_classes, spec):\n    open('/x')\n", is_read=True),
    Case("contract", R, "a head has shape", network(body="self.conv(x)[:, 1:]")),
    Case("not_finite", R, "not finite", network(body="self.conv(x) / 0")),
    Case("no_gradient", R, "detached", network(body="self.conv(x).detach()")),
    Case("constant", R, "same logits", network(body="self.conv(x * 0)")),
    Case("idle_module", R, "builds none", network(), named="attention_gate"),
    Case("output", R, "in the middle of this step", network(body="os._exit(0)")),
    Case("out_of_memory", Status.OUT_OF_MEMORY, "allocate", network("y = y + torch.zeros(10**13).sum()")),
    Case("timed_out", Status.TIMED_OUT, "after", network(SLEEP), job={"wall_s": 12.0}),
    Case("diverged", D, "nan", network("y = y * float('nan')")),
    Case(
        "collapsed", D, "one class in every voxel",
        network("y = torch.cat([y[:, :1].detach() + 50, y[:, 1:] * 1e-3], 1)"), iterations=220,
    ),
    Case("no_progress", D, "noise", network("y = y * 0"), iterations=72),
    Case("stalled", F, "no iteration ended", network(SLEEP), job={"iteration_limit_s": 3.0}),
    Case("batch", R, "nnUNetDataLoader.__init__", LARGER + network()),
    Case("data", R, "numpy.random", network(WRAPPED)),
    Case("out_of_disk", F, "after", network(FLOOD)),
    Case("exception", F, "IndexError", network("[][0]")),
    Case("worker_died", F, "worker", network(), job={"workers": 1, "train_cases": ["missing"]}),
    Case("worker_memory", F, "for lack of memory", network() + GREEDY, job={"workers": 1}),
    Case("restarted", F, "found no checkpoint", network(RESUMED)),
    Case(
        "worker_shared_memory", F, "/dev/shm is full", network(),
        job={"workers": 1, "shm_mib": 1, "batch_size": 64, "iteration_limit_s": 10.0},
    ),
    Case("file_access", R, "/etc/hostname", network("open('/etc/hostname').read()")),
    Case(
        "longer_training", R, "parameters",
        network("self.conv.weight.data.mul_(1.01)"),
    ),
    Case("optimiser", R, "SGD", network("torch.optim.SGD.step = print")),
    Case(
        "loss", R, "cross_entropy",
        network("functional.cross_entropy = functional.nll_loss"),
    ),
]  # fmt: skip
ELSEWHERE = {
    "admission": "test_admission_is_stored",
    "out_of_processes": "tests/escape: the fence ends a network that asks for one as file_access",
    "stopped": "tests/test_supervisor.py: such a trial has no result, and runs again",
}


def test_no_class_is_forgotten() -> None:
    assert {case.kind for case in CASES} | ELSEWHERE.keys() == CLASSES.keys()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> Session:
    folder = tmp_path_factory.mktemp("classes")
    return prepared(folder / "c", build_demo(folder, subjects=16))


def planned(session: Session, case: Case) -> Trial:
    """Return a planned trial of a case's network, committed and stored with its proposal."""
    modules = (Module(case.named, COMPONENTS[case.named].positions[0], (0,)),) if case.named else ()
    seed = next(SEEDS)
    proposal = Proposal(f"p{seed}", case.kind, "to see it fail", modules, "none", (), "test")
    source = f"# {case.kind}\n{case.source}"
    commit = session.networks().commit(source, branch="abcd", message="test", trailers={})
    trial = Trial(
        "", None, None, proposal.id, commit, Kind.DRAFT, 0, seed, SplitName.SEARCH_VAL,
        iterations=case.iterations,
    )  # fmt: skip
    with session.store() as store:
        store.add_proposal(proposal)
        store.add_trial(replace_id(trial))
    return replace_id(trial)


def carried_out(session: Session, trial: Trial) -> Trial:
    """Check a trial's network, and train it if it passed; return what the store then says."""
    nodes = TrialGraph(session, make_planner(session))
    state: Any = {"decision": trial.seed, "action": "open", "trial": trial.id, "rung": 0}
    state |= nodes.check(state)
    if state["status"] == Status.PLANNED:
        for step in (nodes.train, nodes.score):
            state |= step(state)
    nodes.close()
    with session.store() as store:
        return store.trial(trial.id)


def changing(job: dict[str, Any], write: Callable[..., Path]) -> Callable[..., Path]:
    """Return a writer of jobs that changes some of their keys."""

    def changed(*args: Any, **kwargs: Any) -> Path:
        folder = write(*args, **kwargs)
        made = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps({**made, **job}))
        return folder

    return changed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_a_class_is_stored(session: Session, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    if not case.is_read:
        # What the text shows is left aside, so that the layer below has to find it.
        monkeypatch.setattr("sandbox.dry_run.static_check", lambda *_, **__: [])
    monkeypatch.setattr("agent.graph.write_job", changing(case.job, write_job))
    found = carried_out(session, planned(session, case))
    assert (found.status, found.failure_class) == (case.status, case.kind), found
    assert found.failure_excerpt is not None
    assert case.said in found.failure_excerpt
    with session.store() as store:
        assert store.case_scores(found.id) == []
        verdicts = [e for e in store.events(kind="dry_run") if e.trial == found.id]
    assert len(verdicts) == 1


def test_admission_is_stored(session: Session) -> None:
    """The run itself fits, since imports are shared; a training's own memory would not."""
    tight = replace(session.config.sandbox, memory_mib=512)
    poor = replace(session, config=replace(session.config, sandbox=tight))
    case = Case("admission", Status.OUT_OF_MEMORY, "", network().replace("import os, time\n", ""))
    found = carried_out(poor, planned(session, case))
    assert (found.status, found.failure_class) == (Status.OUT_OF_MEMORY, "admission"), found
    assert "512 MiB are free" in (found.failure_excerpt or "")
