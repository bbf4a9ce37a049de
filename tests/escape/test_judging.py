"""A trial cannot judge itself: what it claims, plants or pickles changes no figure of ours."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.session import Session
from bench.demo_data import build_demo
from memory.records import Status
from sandbox.executor import wait
from sandbox.supervisor import tidy
from sandbox.usage import remove
from tests.engines import network_trial, prepared

pytestmark = pytest.mark.slow

NETWORK = """
class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.conv = nn.Conv2d(i, k, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""
HEAD = "import json\nimport os\nimport pathlib\n\nimport torch\nfrom torch import nn\n"
CLAIMS = """
LIES = {
    "trained.json": {"seconds": 1e-9, "loss": -5.0, "parameters": 1, "scores": [1.0]},
    "curve.json": {"loss": [-1.0, -2.0]},
    "outcome.json": {},
}
REAL = pathlib.Path.write_text


def write_text(path, text, *args, **kwargs):
    for name in ("result.json", "scores.json", "locked_scores.json"):
        if str(path).endswith("trained.json"):
            REAL(path.with_name(name), json.dumps({"status": "ok", "dice": 1.0}))
    return REAL(path, json.dumps(LIES.get(path.name, json.loads(text))), *args, **kwargs)


pathlib.Path.write_text = write_text
"""
SMALL = """
SAVE = torch.save


def save(content, path):
    SAVE({"parameters": {}, "buffers": {**content["buffers"], **content["parameters"]}}, path)


torch.save = save
"""
BOMB = """
class Bomb:
    def __reduce__(self):
        return os.mkdir, (BOMBED,)


def save(content, path):
    import pickle

    pathlib.Path(path).write_bytes(pickle.dumps(Bomb()))


torch.save = save
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> Session:
    folder = tmp_path_factory.mktemp("judging")
    return prepared(folder / "c", build_demo(folder, subjects=16))


@pytest.fixture(scope="module")
def honest(session: Session) -> dict[str, Any]:
    result: dict[str, Any] = wait(session.executor, network_trial(session, HEAD + NETWORK))
    assert result["status"] == Status.OK, result
    assert result["scores"]
    return result


def test_claims_change_no_score_no_seconds_and_no_size(
    session: Session, honest: dict[str, Any]
) -> None:
    folder = network_trial(session, HEAD + CLAIMS + NETWORK)
    result = wait(session.executor, folder)
    left = {path.name for path in folder.rglob("*")}
    assert not left & {"scores.json", "locked_scores.json"}
    if result["status"] != Status.OK:  # recognised while it trained
        assert result["status"] == Status.REJECTED, result
        assert result["scores"] == []
        return
    assert result["scores"] == honest["scores"]
    assert result["predictions_hash"] == honest["predictions_hash"]
    assert result["parameters"] == honest["parameters"]
    assert result["train_seconds"] > 0.1 > result["claimed_loop_seconds"]


def test_a_size_that_is_hidden_is_not_believed(session: Session, honest: dict[str, Any]) -> None:
    result = wait(session.executor, network_trial(session, HEAD + SMALL + NETWORK))
    if result["status"] == Status.OK:
        assert result["parameters"] == honest["parameters"]
    else:
        assert result["status"] == Status.REJECTED, result
        assert result["scores"] == []


def test_weights_that_are_a_pickle_bomb_are_obeyed_nowhere(
    session: Session, tmp_path: Path
) -> None:
    bombed = tmp_path / "bombed"
    source = HEAD + BOMB.replace("BOMBED", repr(str(bombed))) + NETWORK
    result = wait(session.executor, network_trial(session, source))
    assert not bombed.exists()
    assert result["status"] in (Status.REJECTED, Status.FAILED), result
    assert result["scores"] == []
    # The guard names the function that was replaced; the weights would not be loaded either.
    assert "torch.save was replaced" in result["failure_excerpt"]


DEEP = "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\n"


def test_what_a_trial_wrote_can_be_removed(tmp_path: Path) -> None:
    """Folders deeper than Python's stack and longer than a path, and closed to their owner."""
    out = tmp_path / "train" / "out"
    out.mkdir(parents=True)
    try:
        subprocess.run([sys.executable, "-I", "-c", DEEP], cwd=out, check=True)
        (out / "closed").mkdir()
        (out / "closed" / "file").write_text("x")
        (out / "closed").chmod(0)
        tidy(tmp_path)
        assert not (tmp_path / "train").exists()
    finally:
        remove(tmp_path / "train")
