"""The trainer that `bench overhead` gives to nnU-Net's own command line: one iteration.

Copied into a folder that nnUNet_extTrainer names, and run by nnUNetv2_train as it stands. It is
nnU-Net's trainer with one epoch of one training and one validation iteration; besides, it notes
what the final validation costs, and sets threads and mirroring as they are on the other side.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# nnU-Net's commands take all cores on a CPU and have no option for it; the command has set
# that by the time it imports this file.
torch.set_num_threads(int(os.environ["BENCH_THREADS"]))


class BenchTrainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer for a trial of a few iterations in one epoch."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 -- nnU-Net's own signature
    ):
        """Set the length of the training; nnU-Net reads it when it initialises."""
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1
        self.num_iterations_per_epoch = int(os.environ["BENCH_ITERATIONS"])
        self.num_val_iterations_per_epoch = 1

    def initialize(self) -> None:
        """Initialise; without mirroring at inference where the other side has none."""
        super().initialize()
        if os.environ["BENCH_MIRRORING"] == "0":
            self.inference_allowed_mirroring_axes = None

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, and note seconds and CPU seconds of it."""
        before = os.times()
        super().perform_actual_validation(save_probabilities)
        after = os.times()
        cost = {"wall_s": after.elapsed - before.elapsed, "cpu_s": sum(after[:4]) - sum(before[:4])}
        Path(os.environ["BENCH_VALIDATION"]).write_text(json.dumps(cost))
