"""The steps before a training: each fault is found by its step, with its class and evidence."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.clue_runs import part_clues
from agent.planners import make_planner
from agent.session import Session
from bench.demo_data import build_demo
from memory.errors import CollectError
from memory.records import Module, Status
from sandbox.boundary import Limits
from sandbox.components import COMPONENTS, Component
from sandbox.dry_run import STEPS, Dry, admitted, dry_run, parse, summary
from sandbox.failures import status_of
from tests.effects import UNKNOWN
from tests.engines import prepared

GOOD: list[dict[str, Any]] = [
    {"step": "meta", "seconds": 0.1, "failure": "", "text": "", "evidence": {"parameters": 10, "flops": 20}},
    {"step": "small", "seconds": 0.1, "failure": "", "text": "", "evidence": {}},
    {"step": "parts", "seconds": 0.1, "failure": "", "text": "", "evidence": {}},
    {
        **{"step": "planned", "seconds": 0.1, "failure": "", "text": ""},
        "evidence": {"step_seconds": 0.1, "peak_memory_mib": 600.0, "base_memory_mib": 200.0},
    },
]  # fmt: skip


class TestReport:
    """What the child reports is hostile."""

    def test_a_good_one_is_read(self) -> None:
        found = parse({"steps": GOOD})
        assert [one.step for one in found] == list(STEPS)
        assert all(one.passed for one in found)

    def test_a_step_that_runs_is_not_finished(self) -> None:
        assert len(parse({"steps": [GOOD[0], {"step": "small", "is_running": True}]})) == 1

    @pytest.mark.parametrize(
        "change",
        [
            *[{"failure": "cheated"}, {"failure": None}, {"failure": 3}, {"text": 3}],
            *[{"seconds": "1"}, {"seconds": -1}, {"evidence": []}, {"step": "planned"}],
            *[{"evidence": {"parameters": 1e30, "flops": 1}}, {"evidence": {"parameters": 1}}],
            *[{"evidence": {"parameters": True, "flops": 1}}],
        ],
    )
    def test_anything_else_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(CollectError):
            parse({"steps": [{**GOOD[0], **change}]})

    @pytest.mark.parametrize("steps", [None, {}, GOOD + GOOD, [3], ["meta"]])
    def test_no_list_of_steps_is_refused(self, steps: Any) -> None:
        with pytest.raises(CollectError):
            parse({"steps": steps})

    def test_terminal_escapes_are_removed(self) -> None:
        row = {**GOOD[0], "failure": "contract", "text": "\x1b[2Jgone"}
        assert parse({"steps": [row]})[0].text == "gone"


class TestAdmission:
    def test_memory_beyond_what_was_held_before_counts_with_the_factor(self) -> None:
        measured = {"peak_memory_mib": 600.0, "base_memory_mib": 200.0}
        found = admitted(measured, Limits(memory_mib=828))
        assert found.passed
        assert found.evidence["needed_mib"] == 200 + 128 + 1.25 * 400
        found = admitted(measured, Limits(memory_mib=827))
        assert not found.passed
        assert (found.failure_class, status_of(found.failure_class)) == (
            "admission",
            Status.OUT_OF_MEMORY,
        )
        assert "828 MiB; 827 MiB are free" in found.text

    def test_a_card_is_asked_for_its_own_memory(self) -> None:
        measured = {"peak_memory_mib": 600.0, "base_memory_mib": 9000.0, "free_memory_mib": 750.0}
        assert admitted(measured, Limits(memory_mib=1)).passed
        assert not admitted({**measured, "free_memory_mib": 749.0}, Limits()).passed

    def test_a_summary_has_the_figures_of_what_passed(self) -> None:
        found = summary([*parse({"steps": GOOD}), admitted(GOOD[3]["evidence"], Limits())])
        assert found[:6] == ("", "", 10, 20, 0.1, 600.0)
        assert len(found.verdicts) == 5


HEAD = "import torch\nfrom torch import nn\n"
NET = """
class Part(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.conv = nn.Conv2d(k, k, 3, padding=1)
    def forward(self, x):
        return self.conv(x)

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.conv = nn.Conv2d(i, k, 3, padding=1)
        self.part = Part(k)
        {extra}
    def forward(self, x):
        {body}

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""


def source(body: str, extra: str = "pass") -> str:
    """Return a network with a named part."""
    return HEAD + NET.format(body=body, extra=extra)


PARTS = (
    HEAD
    + """
class Strong(nn.Module):
    def __init__(self, k, inner=True):
        super().__init__()
        self.conv = nn.Conv2d(k, k, 3, padding=1)
        self.inner = Strong(k, False) if inner else nn.Identity()
    def forward(self, x):
        return self.inner(self.conv(x))

class Weak(Strong):
    pass

class Plain(nn.Module):
    def forward(self, x):
        return torch.relu(x)

class Cut(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(k, 1, 1))
    def forward(self, x):
        return (self.gain * x).detach()

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.conv, self.strong = nn.Conv2d(i, k, 3, padding=1), Strong(k)
        self.weak, self.plain, self.cut = Weak(k, False), Plain(), Cut(k)
    def forward(self, x):
        x = self.conv(x)
        return self.strong(x) + 1e-3 * self.weak(x) + self.plain(x) + self.cut(x)

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""
)


@dataclass(frozen=True)
class Case:
    """A faulty network: which step finds it, of which class, in which words."""

    body: str
    step: str
    kind: str
    text: str
    extra: str = "pass"
    whole: str = ""


OOM = "return self.conv(x) + torch.zeros(10**13).sum() * (x.shape[-1] > 0)"
CASES = {
    "wrong classes": Case("return self.conv(x)[:, :-1]", "meta", "contract", "a head has shape"),
    "two heads": Case("return [self.conv(x)] * 2", "meta", "contract", "returned 2 heads"),
    "raises": Case("return 1 / 0", "meta", "contract", "ZeroDivisionError"),
    "not finite": Case("return self.conv(x) / 0", "small", "not_finite", "not finite"),
    "huge": Case("return self.conv(x) * 1e6", "small", "not_finite", "10,000"),
    "detached": Case("return self.conv(x).detach()", "small", "no_gradient", "detached"),
    "constant": Case(
        "return self.conv(torch.zeros_like(x)) + self.part(self.conv(x * 0))",
        "parts", "constant", "same logits",
    ),
    "idle": Case(
        "y = self.part(self.conv(x))\n        return self.conv(x) + 0 * y.detach()",
        "parts", "idle_module", "Part is built, and changing its output",
    ),
    "never called": Case("return self.conv(x)", "parts", "idle_module", "Part is built"),
    "no such part": Case(
        "return self.conv(x)", "parts", "idle_module", "the network builds none",
        extra="del self.part",
    ),
    "no memory": Case(OOM, "small", "out_of_memory", "DefaultCPUAllocator"),
    "no module": Case("return x", "meta", "contract", "returned int", extra="pass", whole="def build_network(*a):\n    return 3\n"),
    "no function": Case("", "meta", "contract", "defines no function build_network", whole="x = 1\n"),
    "leaves": Case("import os; os._exit(0)", "meta", "output", "in the middle of this step"),
}  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> Session:
    folder = tmp_path_factory.mktemp("dry")
    return prepared(folder / "c", build_demo(folder, subjects=16))


@pytest.mark.slow
class TestSteps:
    def run(self, session: Session, folder: Path, text: str, named: list[str]) -> Dry:
        folder.mkdir(exist_ok=True)
        (folder / "network.py").write_text(text)
        return dry_run(
            session.plan,
            folder / "network.py",
            folder=folder / "dry",
            device="cpu",
            threads=1,
            isolation=session.isolation,
            limits=session.limits(60),
            named_modules=named,
        )

    @pytest.mark.parametrize("name", CASES)
    def test_a_fault_is_found_by_its_step(
        self, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        # What the steps in the sandbox find, not what the text already shows.
        monkeypatch.setattr("sandbox.dry_run.static_check", lambda *_, **__: [])
        case = CASES[name]
        text = case.whole or source(case.body, case.extra)
        dry = self.run(session, tmp_path, text, ["Part"])
        assert (dry.verdicts[-1].step, dry.failure) == (case.step, case.kind), dry
        assert case.text in dry.text
        assert all(one.passed for one in dry.verdicts[:-1])

    @pytest.mark.parametrize("name", COMPONENTS)
    def test_a_component_of_the_planner_passes_and_matters(
        self, session: Session, tmp_path: Path, name: str
    ) -> None:
        plan, card = make_planner(session), COMPONENTS[name]
        module = Module(name, card.positions[0], places(card))
        proposal = replace(plan.propose([], UNKNOWN, Random(3), dims=2), modules=(module,))
        text = plan.write(proposal)
        named = [card.class_name] if f"class {card.class_name}(nn.Module)" in text else []
        dry = self.run(session, tmp_path, text, named)
        assert dry.failure == "", dry.text
        evidence = dry.verdicts[3].evidence
        assert evidence["instances"].keys() == evidence["effect"].keys() == set(named)
        assert all(value > 0 for value in evidence["effect"].values())
        assert all(0 < value <= 1 for value in evidence["gradient"].values())

    def test_a_static_fault_costs_no_sandbox(self, session: Session, tmp_path: Path) -> None:
        dry = self.run(session, tmp_path, "def (", [])
        assert (dry.failure, [v.step for v in dry.verdicts]) == ("syntax", ["static"])
        assert not (tmp_path / "dry").exists()

    def test_a_good_network_leaves_five_verdicts_and_its_figures(
        self, session: Session, tmp_path: Path
    ) -> None:
        dry = self.run(session, tmp_path, source("return self.part(self.conv(x))"), ["Part"])
        assert dry.failure == "", dry.text
        assert [v.step for v in dry.verdicts] == ["static", *STEPS, "admission"]
        assert dry.verdicts[1].evidence["device"] == "meta"
        assert dry.parameters == sum((1 * 4 * 9 + 4, 4 * 4 * 9 + 4))
        assert dry.flops is not None
        assert dry.flops > 0
        json.dumps([v._asdict() for v in dry.verdicts], allow_nan=False)

    def test_parts_tell_how_far_each_module_moves_the_logits_and_its_share_of_the_gradient(
        self, session: Session, tmp_path: Path
    ) -> None:
        dry = self.run(session, tmp_path, PARTS, ["Strong", "Weak", "Plain", "Cut"])
        assert dry.failure == "", dry.text
        found = dry.verdicts[3].evidence
        assert found["instances"] == {"Strong": 2, "Weak": 1, "Plain": 1, "Cut": 1}
        assert found["effect"].keys() == found["instances"].keys()
        assert 0 < 10 * found["effect"]["Weak"] < found["effect"]["Strong"]
        # Plain has no parameters; none of Cut's gets a gradient; Strong holds a second Strong.
        assert found["gradient"].keys() == {"Strong", "Weak", "Cut"}
        assert found["gradient"]["Cut"] == 0
        assert 0 < found["gradient"]["Weak"] < found["gradient"]["Strong"] <= 1
        told = {clue.key: clue for clue in part_clues(found)}
        assert told["dry.effect.Weak"].value == pytest.approx(found["effect"]["Weak"], rel=0.01)
        assert {f"dry.gradient.{name}" for name in found["gradient"]} <= told.keys()

    def test_what_is_beyond_all_numbers_is_left_out_of_the_report(
        self, session: Session, tmp_path: Path
    ) -> None:
        # Undisturbed the part returns zeros; disturbed, the logits overflow.
        body = "y = self.conv(x)\n        return y + torch.exp(self.part(0 * y) * 1e30) - 1"
        text = source(body).replace("padding=1)\n    def", "padding=1, bias=False)\n    def")
        dry = self.run(session, tmp_path, text, ["Part"])
        assert dry.failure == "", dry.text
        assert dry.verdicts[3].evidence["instances"] == {"Part": 1}
        assert dry.verdicts[3].evidence["effect"] == {}

    def test_a_network_that_needs_numbers_is_built_on_the_cpu(
        self, session: Session, tmp_path: Path
    ) -> None:
        body = "return self.part(self.conv(x * self.scale.item()))"
        dry = self.run(
            session, tmp_path, source(body, "self.register_buffer('scale', torch.ones(1))"), []
        )
        assert dry.failure == "", dry.text
        assert dry.verdicts[1].evidence["device"] == "cpu"


def places(card: Component) -> tuple[int, ...]:
    """Return one stage where a component fits; none where its place has no stages."""
    if card.positions[0] in ("bottleneck", "heads"):
        return ()
    return (max(card.first_stage, int(card.positions[0] == "downsample")),)
