"""A network that touches the training or reaches for files is ended, and the reason says which."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from agent.session import Session
from bench.demo_data import build_demo
from sandbox.child.guard import DECAY, LEARNING_RATE, MOMENTUM, Guard
from sandbox.executor import wait
from sandbox.isolation import available
from tests.engines import network_trial, prepared, written


class Ended(Exception):
    """In place of the end of the process."""


def end(kind: str, text: str) -> Any:
    raise Ended(f"{kind}: {text}")


class Small(nn.Module):
    """A network that may do something in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.does: Any = lambda y: y

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.does(self.conv(x))
        return y


class Training:
    """Three iterations under a guard, as nnU-Net's trainer runs them."""

    def __init__(self) -> None:
        job = {"iterations": 3, "batch_size": 2, "in_channels": 1, "spec": {"patch_size": [4, 4]}}
        self.guard = Guard(job, end)
        self.network = Small()
        settings: dict[str, Any] = {"momentum": MOMENTUM, "nesterov": True, "weight_decay": DECAY}
        optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE, **settings)
        self.trainer = SimpleNamespace(
            optimizer=optimizer,
            lr_scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0),
            loss=nn.CrossEntropyLoss(),
            grad_scaler=None,
        )
        self.guard.attach(self.trainer, self.network)

    def iterate(self, samples: int = 2) -> None:
        """Run one iteration."""
        trainer = self.trainer
        batch = {"data": torch.randn(samples, 1, 4, 4), "target": torch.zeros(samples, 4, 4).long()}
        self.target = batch["target"]
        self.guard.before(batch, LEARNING_RATE)
        trainer.optimizer.zero_grad(set_to_none=True)
        loss = trainer.loss(self.network(batch["data"]), batch["target"])
        loss.backward()
        trainer.optimizer.step()
        self.guard.after()


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    names = vars(torch.autograd)
    monkeypatch.setitem(names, "_engine_run_backward", names["_engine_run_backward"])
    return Training()


def test_an_honest_training_is_not_disturbed(training: Training) -> None:
    before = [p.clone() for p in training.network.parameters()]
    for _ in range(3):
        training.iterate()
    training.guard.finish()
    assert not torch.equal(before[0], next(training.network.parameters()))


def scale_weights(training: Training) -> None:
    with torch.no_grad():
        training.network.conv.weight.mul_(1.1)


def replace_weights(training: Training) -> None:
    training.network.conv.weight.data = training.network.conv.weight.data * 1.0


def train_inside(y: Tensor) -> Tensor:
    y.mean().backward()
    return y


def in_forward(act: Any) -> Any:
    """Return a change of the network whose forward pass acts on the training."""

    def change(training: Training) -> None:
        def does(y: Tensor) -> Tensor:
            act(training)
            return y

        training.network.does = does

    return change


def setting(name: str, value: Any) -> Any:
    """Return a change of one of the optimiser's settings."""
    return lambda t: t.trainer.optimizer.param_groups[0].update({name: value})


def give_loss(name: str, value: Any) -> Any:
    """Return a change of an attribute of the loss."""
    return lambda t: setattr(t.trainer.loss, name, value)


CHANGES: dict[str, tuple[Any, str]] = {
    "weights written to": (scale_weights, "longer_training: parameters changed"),
    "weights replaced": (replace_weights, "longer_training: parameters changed"),
    "weights written to in forward": (in_forward(scale_weights), "in the forward pass of step 2"),
    "weights written to by data": (
        lambda t: t.network.conv.weight.data.mul_(2),
        "longer_training: parameters changed",
    ),
    "backward in forward": (
        lambda t: setattr(t.network, "does", train_inside),
        "longer_training: a backward pass inside",
    ),
    "forward twice": (
        lambda t: t.network(torch.zeros(1, 1, 4, 4)),
        "longer_training: 3 forward passes at 2 iterations",
    ),
    "a step more": (lambda t: t.trainer.optimizer.step(), "optimiser: 3 optimiser steps at 2"),
    "lr": (setting("lr", 1.0), "optimiser: lr is 1.0"),
    "lr in forward": (in_forward(setting("lr", 1.0)), "optimiser: lr is 1.0"),
    "momentum": (setting("momentum", 0.9), "optimiser: momentum is 0.9"),
    "decay": (setting("weight_decay", 0.0), "optimiser: weight_decay is 0.0"),
    "parameters of the optimiser": (setting("params", []), "optimiser: its parameters"),
    "label smoothing": (give_loss("label_smoothing", 0.5), "loss: the loss is not the one"),
    "the loss's own forward": (give_loss("forward", lambda *_: 0), "loss: the loss is not"),
    "labels": (in_forward(lambda t: t.target.fill_(1)), "data: labels of the batch were written"),
    "a subclass": (
        lambda t: setattr(t.network, "does", lambda y: y.as_subclass(nn.Buffer)),
        "loss: logits are of a subclass",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_ends_the_training(training: Training, name: str) -> None:
    change, said = CHANGES[name]
    training.iterate()
    change(training)
    with pytest.raises(Ended, match=said):
        training.iterate()


def test_a_batch_of_another_size_ends_the_training(training: Training) -> None:
    with pytest.raises(Ended, match="batch: a batch has shape"):
        training.iterate(samples=4)


def test_too_few_iterations_are_seen(training: Training) -> None:
    training.iterate()
    with pytest.raises(Ended, match="1 iterations, asked for: 3"):
        training.guard.finish()


@pytest.mark.parametrize(
    ("owner", "name", "kind"),
    [
        (torch.optim.SGD, "step", "optimiser"),
        (torch.nn.functional, "cross_entropy", "loss"),
        (torch.Tensor, "backward", "optimiser"),
        (torch, "softmax", "loss"),
    ],
)
def test_a_replaced_function_ends_the_training(
    training: Training, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, kind: str
) -> None:
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: real(*args, **kwargs))
    with pytest.raises(Ended, match=f"{kind}: .*{name} was replaced"):
        training.guard.sweep()


def test_an_added_method_ends_the_training(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "sum", Tensor.mean, raising=False)
    with pytest.raises(Ended, match=r"Tensor was given \['sum'\]"):
        training.guard.sweep()


def test_a_hook_on_every_optimiser_ends_the_training(training: Training) -> None:
    hook = register_optimizer_step_pre_hook(lambda *_: None)
    try:
        with pytest.raises(Ended, match="optimiser: a hook was set"):
            training.iterate()
    finally:
        hook.remove()


# What follows runs in the sandbox, without the static check that would refuse most of it.

NETWORK = """
import sys
import torch
from torch import nn
{before}

class Net(nn.Module):
    def __init__(self, i, k):
        super().__init__()
        self.conv = nn.Conv2d(i, k, 3, padding=1)
        self.passes = 0

    def forward(self, x):
        y = self.conv(x)
        self.passes += self.training
        if self.passes > 1:
            {inside}
        return y

def build_network(in_channels, num_classes, spec):
    return Net(in_channels, num_classes)
"""
STEP = """
original = torch.optim.SGD.step
def step(self, *args, **kwargs):
    self.param_groups[0]['lr'] *= 3
    return original(self, *args, **kwargs)
torch.optim.SGD.step = step
"""
HOOK = """
from torch.optim.optimizer import register_optimizer_step_pre_hook
def faster(optimizer, *args):
    optimizer.param_groups[0]['lr'] = 1.0
register_optimizer_step_pre_hook(faster)
"""
TWICE = """
Trainer = sys.modules['nnunetv2.training.nnUNetTrainer.nnUNetTrainer'].nnUNetTrainer
once = Trainer.train_step
def twice(self, batch):
    once(self, batch)
    return once(self, batch)
Trainer.train_step = twice
"""
LOSS = """
losses = sys.modules['nnunetv2.training.loss.compound_losses']
losses.DC_and_CE_loss.forward = lambda self, output, target: output.mean()
"""
BATCH = """
Loader = sys.modules['nnunetv2.training.dataloading.data_loader'].nnUNetDataLoader
init = Loader.__init__
def larger(self, data, batch_size, *args, **kwargs):
    init(self, data, 2 * batch_size, *args, **kwargs)
Loader.__init__ = larger
"""
LOADER = """
import numpy
uniform = numpy.random.uniform
def reading(*args, **kwargs):
    import os
    os.listdir('/data')
    return uniform(*args, **kwargs)
"""
ALL_OBJECTS = "import gc; [vars(o) for o in gc.get_objects() if isinstance(o, torch.optim.SGD)]"
OWN_LOOP = "y.mean().backward(); [p.data.sub_(p.grad) for p in self.parameters()]"
CAUGHT = """try: open("/etc/passwd")
            except BaseException: pass"""
THREAD = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
ATTACKS: dict[str, tuple[str, str, str]] = {
    "replaces SGD.step": (STEP, "pass", "optimiser"),
    "hooks every optimiser": (HOOK, "pass", "optimiser"),
    "looks at all objects": ("", ALL_OBJECTS, "file_access"),
    "writes to its weights": ("", "self.conv.weight.data.mul_(1.01)", "longer_training"),
    "trains itself": ("", OWN_LOOP, "longer_training"),
    "trains each batch twice": (TWICE, "pass", "longer_training"),
    "starts a thread": ("import threading", THREAD, "longer_training"),
    "replaces the loss": (LOSS, "pass", "loss"),
    "enlarges the batch": (BATCH, "pass", "batch"),
    "reads the data": ("", "open('/data/plans.json')", "file_access"),
    "lists the data": ("import os", "os.listdir('/data')", "file_access"),
    "reads in our window": (LOADER, "numpy.random.uniform = reading", "file_access"),
    "reads a file natively": ("", "torch.from_file('/data/x', size=1)", "file_access"),
    "reads an account": ("", CAUGHT, "file_access"),
    "reads when imported": ("open('/job.json')", "pass", "file_access"),
    "writes predictions": ("import os", "os.mkdir('/out/predictions')", "file_access"),
    "starts a process": ("import subprocess", "subprocess.run(['/bin/true'])", "file_access"),
    "forks": ("import os", "os.fork()", "file_access"),
    "opens a socket": ("import socket", "socket.socket()", "file_access"),
    "loads a library": ("import ctypes", "ctypes.CDLL(None)", "file_access"),
    "looks at frames": ("", "sys._getframe(1)", "file_access"),
    "runs text": ("", "exec('1')", "file_access"),
}
HONEST = """
import collections, dataclasses, enum, logging, math, tempfile, typing, warnings
Pair = collections.namedtuple('Pair', 'a b', defaults=(1,))
@dataclasses.dataclass
class Data:
    a: int = 0
Kind = enum.Enum('Kind', 'a b')
T = typing.TypeVar('T')
"""
USES = "warnings.warn('x'); logging.warning('x'); tempfile.TemporaryFile().close()"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> Session:
    folder = tmp_path_factory.mktemp("guard")
    return prepared(folder / "c", build_demo(folder, subjects=16))


def run(session: Session, source: str, **changes: Any) -> dict[str, Any]:
    """Train a network in a sandbox of this machine; return the trial's result."""
    folder = network_trial(session, source)
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "start": "warm", **changes}))
    return wait(session.executor, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_rejected_and_named(session: Session, name: str) -> None:
    before, inside, kind = ATTACKS[name]
    result = run(session, NETWORK.format(before=before, inside=inside))
    assert result["status"] == "rejected", result
    assert result["failure_class"] == kind, result
    assert result["failure_excerpt"]
    assert result["scores"] == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_honest_network_passes(session: Session, workers: int) -> None:
    source = NETWORK.format(before=HONEST, inside=USES)
    assert run(session, source, workers=workers)["status"] == "ok"
    assert run(session, written(session), workers=workers)["status"] == "ok"


@pytest.mark.slow
def test_the_fence_stands_in_every_boundary(session: Session) -> None:
    """Where nothing can be mounted, data and /out lie at their own paths."""
    honest = NETWORK.format(before=HONEST, inside=USES)
    inside = "open(json.loads(os.environ['SEGWRIGHT_PLACES'])['/out'] + '/x', 'w')"
    curious = NETWORK.format(before="import json, os", inside=inside)
    for isolation in available():
        site = {"isolation_level": isolation.level, "start": "cold"}
        result = run(session, honest, **site)
        assert result["status"] == "ok", (str(isolation), result["failure_excerpt"])
        if isolation.level == "B":
            result = run(session, curious, **site)
            assert result["failure_class"] == "file_access", result
