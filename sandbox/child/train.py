"""One training with nnU-Net's own data loading, augmentation, loss, optimiser and schedule.

The budget is iterations. The learning rate follows nnU-Net's polynomial decay over this
training alone, so that each rung is a complete training.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter import Adapter, adapt, has_deep_supervision, head_weights
from check import seed
from torch import Tensor

EPOCHS = 50


def main(job: dict[str, Any], out: Path) -> None:
    """Train, and write /out/weights.pth, /out/curve.json and /out/trained.json."""
    os.environ.update(nnUNet_raw="/tmp", nnUNet_preprocessed="/data", nnUNet_results="/tmp/results")
    os.environ.update(nnUNet_compile="f", nnUNet_n_proc_DA=str(job["workers"]))
    torch.set_num_threads(job["threads"])
    seed(job["seed"])
    trainer = build(job)
    start = time.perf_counter()
    curve = fit(trainer, job["iterations"], out)
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


def build(job: dict[str, Any]) -> Any:
    """Return nnU-Net's trainer, initialised around the job's network."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    path = Path("/code/network.py") if job["has_network"] else None
    adapter = adapt(path, job)

    class Trainer(nnUNetTrainer):  # type: ignore[misc]
        """nnU-Net's trainer with our network and our split."""

        @staticmethod
        def build_network_architecture(
            plans_manager: Any,
            configuration_manager: Any,
            num_input_channels: int,
            num_output_channels: int,
            enable_deep_supervision: bool = True,
        ) -> Adapter:
            """Return the adapter that was built from the job."""
            return adapter

        def do_split(self) -> tuple[list[str], list[str]]:
            """Train on every search-train case; validation is ours, outside."""
            return job["cases"], job["cases"][:1]

        def print_to_log_file(self, *args: Any, **kwargs: Any) -> None:
            """Keep nnU-Net's banner out of the log of every trial."""

    plans = {**job["plans"], "continue_training": False}
    name = next(iter(plans["configurations"]))
    trainer = Trainer(plans, name, 0, job["dataset_json"], torch.device(job["device"]))
    trainer.enable_deep_supervision = has_deep_supervision(
        adapter, job["in_channels"], job["spec"]["patch_size"]
    )
    trainer.num_iterations_per_epoch = max(1, round(job["iterations"] / EPOCHS))
    trainer.num_epochs = math.ceil(job["iterations"] / trainer.num_iterations_per_epoch)
    trainer.initialize()
    reweight(trainer, adapter)
    return trainer


def reweight(trainer: Any, adapter: Adapter) -> None:
    """Let a network's declared head weights replace nnU-Net's in the loss wrapper."""
    adapter.decoder.deep_supervision = trainer.enable_deep_supervision
    if trainer.enable_deep_supervision:
        trainer.loss.weight_factors = tuple(head_weights(adapter.network, len(adapter.scales)))


def fit(trainer: Any, iterations: int, out: Path) -> list[float]:
    """Run the iterations; return the mean loss of each epoch.

    Raises:
        FloatingPointError: the loss was not finite.
    """
    trainer.dataloader_train, _ = trainer.get_dataloaders()
    done, curve = 0, []
    for epoch in range(trainer.num_epochs):
        trainer.network.train()
        trainer.lr_scheduler.step(epoch)
        losses = []
        for _ in range(min(trainer.num_iterations_per_epoch, iterations - done)):
            loss = float(trainer.train_step(next(trainer.dataloader_train))["loss"])
            if not math.isfinite(loss):
                raise FloatingPointError(f"loss is {loss} at iteration {done}")
            losses.append(loss)
            done += 1
        curve.append(float(np.mean(losses)))
        progress(out, done, curve[-1])
    return curve


def progress(out: Path, iteration: int, loss: float) -> None:
    """Tell the supervisor how far the training is."""
    text = json.dumps({"iteration": iteration, "loss": loss})
    (out / "progress.tmp").write_text(text)
    (out / "progress.tmp").replace(out / "progress.json")
