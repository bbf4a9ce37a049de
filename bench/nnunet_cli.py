"""nnU-Net's own command line on the data of a campaign: the other side of the comparison.

The commands are the installed ones, with nnU-Net's own numbers of processes. Two things are
added. Where torchvision does not fit the installed torch, importing nnU-Net's trainers dies;
there a copy of the command is run that declares the two missing operators first. And a trainer
of one iteration is named through nnUNet_extTrainer (`bench/nnunet_trainer.py`).
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.resources import Cost, measured
from memory.errors import SegwrightError
from sandbox.engine import Plan
from sandbox.processes import tail

TRAINER = "BenchTrainer"
PLANS = "nnUNetPlans"
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")
LEAN = {
    **dict.fromkeys(("nnUNet_def_n_proc", "nnUNet_n_proc_DA"), "1"),
    **dict.fromkeys(("nnUNet_npp", "nnUNet_nps"), "1"),
}
DECLARATION = """\
import torch
declared = torch.library.Library('torchvision', 'DEF')
declared.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
declared.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
"""


@dataclass(frozen=True, slots=True)
class NnUnet:
    """nnU-Net's three folders, one dataset and one configuration in them.

    `folder` holds raw, preprocessed and results; `dataset` is named DatasetNNN_Name. Both sides
    use `threads` threads a process, and mirroring at inference or not. A lean one has a single
    worker wherever nnU-Net takes several, which costs it the least.
    """

    folder: Path
    dataset: str
    configuration: str
    threads: int
    mirroring: bool = False
    is_lean: bool = False

    @property
    def number(self) -> str:
        """The dataset's number, as nnU-Net's options take it."""
        return str(int(self.dataset[len("Dataset") :].partition("_")[0]))

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        name = f"{TRAINER}__{PLANS}__{self.configuration}"
        return self.folder / "results" / self.dataset / name

    @property
    def validation_file(self) -> Path:
        """Where the trainer notes what its final validation cost."""
        return self.folder / "validation.json"

    def environment(self, iterations: int) -> dict[str, str]:
        """Return the variables of every command."""
        own = {k: os.environ[k] for k in KEPT if k in os.environ}
        own |= LEAN if self.is_lean else {}
        return own | {
            "nnUNet_raw": str(self.folder / "raw"),
            "nnUNet_preprocessed": str(self.folder / "preprocessed"),
            "nnUNet_results": str(self.folder / "results"),
            "nnUNet_extTrainer": str(self.folder / "trainers"),
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "BENCH_THREADS": str(self.threads),
            "BENCH_ITERATIONS": str(iterations),
            "BENCH_MIRRORING": str(int(self.mirroring)),
            "BENCH_VALIDATION": str(self.validation_file),
        }

    def run(self, command: str, *arguments: str, iterations: int = 1) -> Cost:
        """Run one of nnU-Net's commands to its end and return what it cost.

        Raises:
            SegwrightError: it failed; the end of its log is in the message.
        """
        line = [*launcher(command, self.folder), *arguments]
        log = self.folder / f"{command}.log"

        def work() -> None:
            with log.open("wb") as sink:
                code = subprocess.run(
                    line,
                    env=self.environment(iterations),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                ).returncode
            if code:
                raise SegwrightError(f"{command} ended with {code}; {log} ends: {tail(log, 600)}")

        return measured(work)

    def preprocess(self, *, verify: bool) -> Cost:
        """Fingerprint, plan and preprocess the dataset afresh, for the one configuration."""
        shutil.rmtree(self.folder / "preprocessed" / self.dataset, ignore_errors=True)
        more = ["--verify_dataset_integrity"] if verify else []
        return self.run(
            "nnUNetv2_plan_and_preprocess", "-d", self.number, "-c", self.configuration, *more
        )

    def train(self, *, iterations: int = 1, device: str = "cpu") -> tuple[Cost, Cost]:
        """Train on fold 0; return the cost of the command, and its final validation's share."""
        shutil.rmtree(self.model, ignore_errors=True)
        options = ["-tr", TRAINER, "-p", PLANS, "-device", device]
        whole = self.run(
            "nnUNetv2_train",
            *(self.number, self.configuration, "0", *options),
            iterations=iterations,
        )
        return whole, Cost(**json.loads(self.validation_file.read_text()))

    def predict(self, images: Path, target: Path, *, device: str = "cpu") -> Cost:
        """Predict every case of a folder of images with the weights of fold 0."""
        shutil.rmtree(target, ignore_errors=True)
        options = ["-i", str(images), "-o", str(target), "-d", self.number, "-f", "0"]
        options += ["-c", self.configuration, "-tr", TRAINER, "-p", PLANS, "-device", device]
        more = [] if self.mirroring else ["--disable_tta"]
        return self.run("nnUNetv2_predict", *options, *more)


@cache
def is_torchvision_broken() -> bool:
    """Tell whether importing torchvision dies, as it does beside a torch of another build."""
    code = [sys.executable, "-I", "-c", "import torchvision"]
    return bool(subprocess.run(code, capture_output=True, timeout=600).returncode)


def launcher(command: str, folder: Path) -> list[str]:
    """Return how to start one of nnU-Net's commands: as installed, or with the declaration.

    Raises:
        SegwrightError: nnU-Net's commands are not beside this Python.
    """
    installed = Path(sysconfig.get_path("scripts"), command)
    if not installed.is_file():
        raise SegwrightError(f"{installed} is missing; install nnunetv2 into this environment")
    if not is_torchvision_broken():
        return [str(installed)]
    own = folder / "bin" / command
    own.parent.mkdir(exist_ok=True)
    own.write_text(DECLARATION + installed.read_text())
    return [sys.executable, str(own)]


def lay_out(
    folder: Path, raw: Path, *, configuration: str, threads: int, mirroring: bool = False
) -> NnUnet:
    """Make nnU-Net's folders around a raw dataset, which is linked and not copied."""
    for name in ("raw", "preprocessed", "results", "trainers"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    link = folder / "raw" / raw.name
    if not link.exists():
        link.symlink_to(raw.resolve())
    source = Path(__file__).with_name("nnunet_trainer.py")
    shutil.copy(source, folder / "trainers" / "bench_trainer.py")
    return NnUnet(folder, raw.name, configuration, threads, mirroring)


def use_plan(own: NnUnet, plan: Plan, *, train: Sequence[str], val: Sequence[str]) -> None:
    """Give nnU-Net the campaign's plan and split beside the data that it preprocessed.

    Raises:
        SegwrightError: its data are not those of the plan.
    """
    base = own.folder / "preprocessed" / own.dataset
    theirs = json.loads((base / f"{PLANS}.json").read_text())["configurations"]
    if is_other_data(theirs[plan.configuration], plan.planned):
        raise SegwrightError(f"nnU-Net planned other data for {own.dataset} than the campaign")
    plans = {**plan.plans, "dataset_name": own.dataset, "plans_name": PLANS}
    (base / f"{PLANS}.json").write_text(json.dumps(plans))
    split = [{"train": list(train), "val": list(val)}]
    (base / "splits_final.json").write_text(json.dumps(split))


def is_other_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two plans of a configuration preprocess images differently.

    Target spacings may differ in the last digits, as each side's median is of other cases.
    """
    same = ("data_identifier", "normalization_schemes", "use_mask_for_norm", "preprocessor_name")
    return any(one[name] != other[name] for name in same)


def place_weights(own: NnUnet, plan: Plan, weights: Path) -> None:
    """Write a results folder of nnU-Net's from the weights of a trial of the default network.

    The trial saved them under our adapter, which prefixes each name with "network."; weights
    that two modules share are under one name as parameters, under the other as buffers.
    """
    import torch

    saved = torch.load(weights, map_location="cpu", weights_only=True)
    state = {**saved["parameters"], **saved["buffers"]}
    dims = plan.spec["dims"]
    checkpoint = {
        "network_weights": {name.removeprefix("network."): v for name, v in state.items()},
        "trainer_name": TRAINER,
        "init_args": {"configuration": plan.configuration},
        "inference_allowed_mirroring_axes": tuple(range(dims)) if own.mirroring else None,
    }
    shutil.rmtree(own.model, ignore_errors=True)
    (own.model / "fold_0").mkdir(parents=True)
    torch.save(checkpoint, own.model / "fold_0" / "checkpoint_final.pth")
    (own.model / "plans.json").write_text(json.dumps(plan.plans))
    (own.model / "dataset.json").write_text(json.dumps(plan.dataset_json))
