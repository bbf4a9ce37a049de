"""One training with nnU-Net's own data loading, augmentation, loss, optimiser and schedule.

The budget is iterations. The learning rate follows nnU-Net's polynomial decay over this
training alone, so that each rung is a complete training. The network runs beside our code:
`fence.py` keeps it from files and processes, `guard.py` from the training itself, `early.py`
ends what cannot come to anything.
"""

import copy
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from adapter import Adapter, adapt, has_deep_supervision, head_weights
from check import seed
from early import Signs, Watchdog
from fence import Fence, raise_fence
from guard import EXPONENT, LEARNING_RATE, Guard
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from places import place
from torch import Tensor, nn

EPOCHS = 50


class Watch(NamedTuple):
    """Who watches a training; all of them are ours, and out of the network's reach."""

    fence: Fence
    guard: Guard
    signs: Signs
    dog: Watchdog


def main(job: dict[str, Any], out: Path) -> None:
    """Train, and write /out/weights.pth, /out/curve.json and /out/trained.json.

    A job with a `checkpoint` also gets /out/checkpoint/weights.pth after that iteration.
    """
    data = str(place(f"/data/{job['plans']['dataset_name']}").parent)
    empty = tempfile.gettempdir()
    os.environ.update(nnUNet_raw=empty, nnUNet_preprocessed=data, nnUNet_results=empty)
    os.environ.update(nnUNet_compile="f", nnUNet_n_proc_DA=str(job["workers"]))
    torch.set_num_threads(job["threads"])
    seed(job["seed"])
    fence = raise_fence()
    # The first tensor that is saved leaves a mark on its class; the guard must know it.
    torch.save(torch.zeros(1), io.BytesIO())
    guard = Guard(job, fence.end)
    with fence.allow():
        trainer = build(job, fence, guard)
        dog = Watchdog(job.get("iteration_limit_s"), fence.end)
        watch = Watch(fence, guard, signs_of(trainer, job["iterations"]), dog)
        start = time.perf_counter()
        curve = fit(trainer, out, watch, look_at=job.get("checkpoint", 0))
        seconds = time.perf_counter() - start
    torch.save(kept(trainer.network), out / "weights.pth")
    (out / "curve.json").write_text(json.dumps({"loss": curve}))
    (out / "trained.json").write_text(json.dumps({"seconds": seconds, "loss": curve[-1]}))


def kept(adapter: Adapter) -> dict[str, dict[str, Tensor]]:
    """Return what a training hands back: parameters and buffers, by their names."""
    state, named = adapter.state_dict(), {name for name, _ in adapter.named_parameters()}
    parameters = {name: state[name] for name in state if name in named}
    buffers = {name: state[name] for name in state if name not in named}
    return {"parameters": parameters, "buffers": buffers}


class Trainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer with our network and our split."""

    cases: list[str]

    def do_split(self) -> tuple[list[str], list[str]]:
        """Train on every search-train case; validation is ours, outside."""
        return self.cases, self.cases[:1]

    def print_to_log_file(self, *args: Any, **kwargs: Any) -> None:
        """Keep nnU-Net's banner out of the log of every trial."""


def build(job: dict[str, Any], fence: Fence, guard: Guard) -> Any:
    """Return nnU-Net's trainer, initialised around the job's network."""
    path = place("/code/network.py") if job["has_network"] else None
    adapter = adapt(path, job)
    is_deep = has_deep_supervision(adapter, job["in_channels"], job["spec"]["patch_size"])
    with fence.allow("data", "process"):
        trainer = around(adapter, job)
        trainer.enable_deep_supervision = is_deep
        trainer.initialize()
    reweight(trainer, adapter)
    guard.attach(trainer, adapter)
    return trainer


def around(adapter: Adapter, job: dict[str, Any]) -> Any:
    """Return nnU-Net's trainer with the job's plan, cases and length, and this network."""
    plans = {**copy.deepcopy(job["plans"]), "continue_training": False}
    name = next(iter(plans["configurations"]))
    trainer = Trainer(plans, name, 0, job["dataset_json"], torch.device(job["device"]))
    trainer.cases = job["cases"]
    trainer.build_network_architecture = given(adapter)
    trainer.num_iterations_per_epoch = max(1, round(job["iterations"] / EPOCHS))
    trainer.num_epochs = math.ceil(job["iterations"] / trainer.num_iterations_per_epoch)
    return trainer


def given(adapter: Adapter) -> Callable[..., Adapter]:
    """Return nnU-Net's function that builds a network; its arguments' names are looked at."""

    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> Adapter:
        return adapter

    return build_network_architecture


def reweight(trainer: Any, adapter: Adapter) -> None:
    """Let a network's declared head weights replace nnU-Net's in the loss wrapper."""
    adapter.decoder.deep_supervision = trainer.enable_deep_supervision
    if trainer.enable_deep_supervision:
        trainer.loss.weight_factors = tuple(head_weights(adapter.network, len(adapter.scales)))


def signs_of(trainer: Any, iterations: int) -> Signs:
    """Return what watches for a training that comes to nothing."""
    labels = trainer.label_manager
    return Signs(iterations, has_regions=labels.has_regions, ignore_label=labels.ignore_label)


def fit(trainer: Any, out: Path, watch: Watch, *, look_at: int = 0) -> list[float]:
    """Run the iterations; return the mean loss of each epoch.

    After iteration `look_at` the weights so far are left for a look from outside; 0 for none.

    Raises:
        FloatingPointError: the loss was not finite.
        EndedEarly: the training cannot come to anything.
    """
    fence, signs = watch.fence, watch.signs
    with fence.allow("data", "process"):
        trainer.dataloader_train, _ = trainer.get_dataloaders()
    last = Last(trainer.network)
    curve = []
    for epoch in range(trainer.num_epochs):
        trainer.network.train()
        trainer.lr_scheduler.step(epoch)
        rate = LEARNING_RATE * (1 - epoch / trainer.num_epochs) ** EXPONENT
        before = len(signs.losses)
        for _ in range(min(trainer.num_iterations_per_epoch, signs.iterations - before)):
            iterate(trainer, rate, watch, last)
            if len(signs.losses) == look_at:
                with fence.allow("out"):
                    checkpoint(trainer.network, out)
        curve.append(float(np.mean(signs.losses[before:])))
        with fence.allow("out"):
            progress(out, len(signs.losses), curve[-1])
    watch.dog.stop()
    watch.guard.finish()
    return curve


def iterate(trainer: Any, rate: float, watch: Watch, last: "Last") -> None:
    """Run one iteration under watch."""
    with watch.fence.allow("data"):
        batch = next_batch(trainer.dataloader_train)
    last.is_kept = watch.signs.wants_look()
    watch.guard.before(batch, rate)
    loss = float(trainer.train_step(batch)["loss"])
    watch.guard.after()
    if last.is_kept:
        target = batch["target"]
        watch.signs.look(last.logits, target[0] if isinstance(target, list) else target)
    watch.signs.add(loss)
    watch.dog.tick()


def next_batch(loader: Any) -> dict[str, Any]:
    """Return the next batch; where a data worker died, the exit status of each is told.

    Raises:
        RuntimeError: a data worker died.
    """
    workers = getattr(loader, "_processes", [])
    try:
        return next(loader)
    except RuntimeError as error:
        codes = [worker.exitcode for worker in workers]
        said = "".join(f"; a data worker ended with exit code {code}" for code in codes if code)
        raise RuntimeError(f"{error}{said}") from error


class Last:
    """Keeps the finest logits of an iteration that is to be looked at."""

    def __init__(self, adapter: nn.Module) -> None:
        """Look at what the network hands to the loss."""
        self.is_kept = False
        self.logits = torch.empty(0)
        adapter.register_forward_hook(self.keep)

    def keep(self, _: nn.Module, __: Any, output: Any) -> None:
        """Keep the finest head."""
        if self.is_kept:
            self.logits = (output[0] if isinstance(output, list) else output).detach()


def checkpoint(adapter: Adapter, out: Path) -> None:
    """Leave /out/checkpoint/weights.pth; the folder is there only when it is whole."""
    draft = out / "checkpoint.tmp"
    draft.mkdir()
    torch.save(kept(adapter), draft / "weights.pth")
    draft.rename(out / "checkpoint")


def progress(out: Path, iteration: int, loss: float) -> None:
    """Tell the supervisor how far the training is."""
    text = json.dumps({"iteration": iteration, "loss": loss})
    (out / "progress.tmp").write_text(text)
    (out / "progress.tmp").replace(out / "progress.json")
