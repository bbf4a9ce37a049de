"""Sees to it that the training is the one that was asked for, step by step.

Captured before the network's file is loaded: the functions that train, and what they are made
of. Looked at in each step: parameters change in our optimiser's step and nowhere else, the
optimiser and its settings are nnU-Net's with the learning rate of this epoch, the batch has the
planned shape, labels are not written to, the loss is the one that was built. A candidate that
trains longer, or touches optimiser, batch, loss or data is ended with that as the class.

Covered: functions, methods and hooks that were replaced or added; in-place updates; backward
passes inside of forward; modes and subclasses of tensors that change what an operation does.
Not covered: gradients that a network scales by hooks of its own, which is a part of many
networks; what it keeps and updates in buffers without a backward pass; functions other than
those of the step itself that are replaced and put back between two looks at all of them; random
numbers that it draws, which move nnU-Net's augmentation as they do in any network with dropout;
threads that end within one forward pass; native code that writes this process's memory. Labels
of held-out cases and the scorer are never in this process.
"""

import _thread
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module
from torch.optim import optimizer as nn_optimizer

SAMPLES = 8
SWEEP_EVERY = 50
LEARNING_RATE, DECAY, MOMENTUM, EXPONENT = 1e-2, 3e-5, 0.99, 0.9
End = Callable[[str, str], NoReturn]

# Modules whose functions make a training, by what a change of theirs would be called.
TRAINING = {
    "optimiser": ("torch.optim", "torch.autograd", "torch.nn.utils.clip_grad", "torch._tensor"),
    "loss": ("torch.nn.functional", "torch.nn.modules.module", "torch.nn.modules.loss"),
    "data": ("batchgenerators", "batchgeneratorsv2", "numpy.random", "random", "acvl_utils"),
    "longer_training": ("adapter", "builtins", "check", "early", "fence", "guard", "train"),
}
NNUNET = {
    "nnunetv2.training.loss": "loss",
    "nnunetv2.training.lr_scheduler": "optimiser",
    "nnunetv2.training.dataloading": "data",
    "nnunetv2.training.data_augmentation": "data",
    "nnunetv2.training": "longer_training",
    "nnunetv2.utilities": "loss",
}
BATCH = ("nnUNetDataLoader.__init__", "_set_batch_size_and_oversample", ".batch_size")
# What one step runs, looked at in each step; the others from time to time.
EACH_STEP = (
    *("torch.optim.sgd.SGD.step", "torch.optim.sgd.sgd", "torch._tensor.Tensor.backward"),
    *("torch.autograd.backward", "torch.autograd.grad", "torch.nn.modules.module.Module.__call__"),
    *("torch.nn.utils.clip_grad.clip_grad_norm_", "torch.nn.functional.cross_entropy"),
)
GLOBAL_HOOKS = [
    hooks
    for owner in (nn_module, nn_optimizer)
    for name, hooks in vars(owner).items()
    if name.startswith("_global_") and isinstance(hooks, dict)
]


class Original(NamedTuple):
    """A function or class as it was before a network was loaded."""

    kind: str
    name: str
    owner: Any
    attribute: str
    value: Any
    code: CodeType | None

    def is_intact(self) -> bool:
        """Return True when the same object, with the same code, is still in its place."""
        found = vars(self.owner).get(self.attribute)
        return found is self.value and code_of(found) is self.code


def code_of(value: Any) -> CodeType | None:
    """Return a function's code, also of a static or class method."""
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return function.__code__ if isinstance(function, FunctionType) else None


def originals() -> list[Original]:
    """Return every function and class of the modules that make a training.

    An optimiser class changes its own step when the first of its kind is made, so one is made.
    """
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    found = []
    for name, module in sorted(sys.modules.items()):
        kind = kind_of(name)
        if kind and module is not None:
            found += originals_in(kind, name, module)
    return found


def kind_of(module: str) -> str:
    """Return what a change in a module would be called; nothing for one that does not matter."""
    if module == "torch":
        return "loss"
    for kind, names in TRAINING.items():
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return kind
    for name, kind in NNUNET.items():
        if module == name or module.startswith(f"{name}."):
            return kind
    return ""


def originals_in(kind: str, name: str, module: Any) -> list[Original]:
    """Return a module's functions and classes, and the functions in its own classes."""
    found = []
    for attribute, value in list(vars(module).items()):
        where = f"{name}.{attribute}"
        if callable(value):
            found.append(original(kind, where, module, attribute))
        # The class of tensors says of itself that it is of torch.
        home = "torch._tensor" if value is Tensor else getattr(value, "__module__", "")
        if isinstance(value, type) and home == name and name not in ("torch", "builtins"):
            found += [
                original(kind, f"{where}.{inner}", value, inner)
                for inner, method in list(vars(value).items())
                if is_method(method)
            ]
    return found


def original(kind: str, name: str, owner: Any, attribute: str) -> Original:
    """Return what is now in a place."""
    value = vars(owner)[attribute]
    kind = "batch" if name.endswith(BATCH) else kind
    return Original(kind, name, owner, attribute, value, code_of(value))


def is_method(value: Any) -> bool:
    """Return True for what a class may hold as a function of its own."""
    return callable(value) or isinstance(value, staticmethod | classmethod | property)


class Guard:
    """Watches one training.

    Args:
        job: what the training is; read here, before a network is loaded.
        end: ends the process with a class and a text; it must not return.
    """

    def __init__(self, job: dict[str, Any], end: End) -> None:
        """Capture what must stay as it is."""
        self.end = end
        self.watch_backward()
        self.iterations = int(job["iterations"])
        self.batch = (job["batch_size"], job["in_channels"], *job["spec"]["patch_size"])
        self.originals = originals()
        step = {original.name: original for original in self.originals}
        self.each_step = [step[name] for name in EACH_STEP]
        self.each_step += [o for o in self.originals if is_of_step(o.name)]
        classes = {o.owner: o.kind for o in self.originals if isinstance(o.owner, type)}
        self.names = {owner: (kind, set(vars(owner))) for owner, kind in classes.items()}
        self.natives = natives()
        self.done = 0
        self.steps = 0
        self.forwards = 0
        self.is_forward = False
        self.learning_rate = LEARNING_RATE

    def watch_backward(self) -> None:
        """End a training in whose forward pass a backward pass begins."""
        names = vars(torch.autograd)
        engine = names["_engine_run_backward"]

        def run(*args: Any, **kwargs: Any) -> Any:
            if self.is_forward:
                self.end("longer_training", "a backward pass inside of the network's forward")
            return engine(*args, **kwargs)

        names["_engine_run_backward"] = run

    def attach(self, trainer: Any, adapter: nn.Module) -> None:
        """Take what was built around the network, and watch it from now on.

        The network has been loaded, so that nothing is believed: settings are compared with
        nnU-Net's own.
        """
        self.trainer, self.adapter = trainer, adapter
        self.optimizer, self.scheduler = trainer.optimizer, trainer.lr_scheduler
        self.loss = trainer.loss
        self.parameters = list(adapter.parameters())
        self.views = [view(p) for p in self.parameters]
        self.described = described(self.loss)
        self.own = {owner: dict(vars(owner)) for owner in (self.optimizer, self.scheduler)}
        self.sweep()
        self.check_optimizer(LEARNING_RATE)
        adapter.register_forward_pre_hook(self.before_forward)
        adapter.register_forward_hook(self.after_forward)
        self.optimizer.register_step_pre_hook(self.before_step)
        self.optimizer.register_step_post_hook(self.after_step)
        self.remember()

    def before(self, batch: dict[str, Any], learning_rate: float) -> None:
        """Look at what an iteration begins with."""
        self.learning_rate = learning_rate
        data, targets = batch["data"], as_list(batch["target"])
        if tuple(data.shape) != self.batch:
            self.end("batch", f"a batch has shape {tuple(data.shape)}, planned: {self.batch}")
        if any(len(target) != self.batch[0] for target in targets):
            self.end("batch", f"labels of {len(targets[0])} samples, planned: {self.batch[0]}")
        self.targets = [(target, target._version) for target in targets]

    def after(self) -> None:
        """Look at what an iteration has left."""
        self.done += 1
        if self.forwards != self.done:
            self.end("longer_training", f"{self.forwards} forward passes at {self.done} iterations")
        # A scaled loss that overflowed leaves out a step, on a GPU.
        is_scaled = self.trainer.grad_scaler is not None
        if self.steps > self.done or (self.steps < self.done and not is_scaled):
            self.end("optimiser", f"{self.steps} optimiser steps at {self.done} iterations")
        if self.steps < self.done:
            self.check_parameters("at step")
        self.steps = self.done
        if self.done % SWEEP_EVERY == 0:
            self.sweep()

    def finish(self) -> None:
        """Look at everything once more, at the end."""
        self.sweep()
        self.check_parameters("at the end, after step")
        if self.done != self.iterations:
            self.end("longer_training", f"{self.done} iterations, asked for: {self.iterations}")

    def before_forward(self, *_: Any) -> None:
        """The network runs from here on."""
        self.is_forward = True
        self.threads = _thread._count()

    def after_forward(self, _: nn.Module, __: Any, output: Any) -> None:
        """Look at what the loss is about to be computed with."""
        self.is_forward = False
        self.forwards += 1
        self.check_functions(self.each_step)
        self.check_parameters("in the forward pass of step")
        if _thread._count() > self.threads:  # fewer: the loader's own ends with its worker
            self.end("longer_training", "the network started a thread")
        if any(type(head) is not Tensor for head in as_list(output)):
            self.end("loss", "logits are of a subclass of a tensor, which may change the loss")
        if described(self.loss) != self.described or self.trainer.loss is not self.loss:
            self.end("loss", "the loss is not the one that was built")
        if any(target._version != version for target, version in self.targets):
            self.end("data", "labels of the batch were written to")
        self.check_state()

    def before_step(self, optimizer: Any, *_: Any) -> None:
        """Look at parameters and settings, right before they are used."""
        self.check_functions(self.each_step)
        if optimizer is not self.optimizer:
            self.end("optimiser", "another optimiser took a step")
        self.check_parameters("before step")
        self.check_optimizer(self.learning_rate)

    def after_step(self, *_: Any) -> None:
        """Remember the parameters as our step left them."""
        self.steps += 1
        self.remember()

    def remember(self) -> None:
        """Keep a sample of the values, and the number of writes to each parameter."""
        self.sample = torch.cat(self.views)
        self.versions = [(p._version, p.data_ptr()) for p in self.parameters]

    def check_parameters(self, when: str) -> None:
        """End a training in which something but our step wrote to a parameter."""
        versions = [(p._version, p.data_ptr()) for p in self.parameters]
        if versions != self.versions or not torch.equal(torch.cat(self.views), self.sample):
            if not bool(torch.isfinite(self.sample).all()) and versions == self.versions:
                return  # not a number is not itself; the loss is about to say so
            self.end(
                "longer_training",
                f"parameters changed outside of the optimiser, {when} {self.done + 1}",
            )

    def check_optimizer(self, learning_rate: float) -> None:
        """End a training whose optimiser is not nnU-Net's, as it must be in this epoch."""
        optimizer = self.optimizer
        groups = optimizer.param_groups
        if type(optimizer) is not torch.optim.SGD or len(groups) != 1:
            self.end("optimiser", f"{type(optimizer).__name__} with {len(groups)} groups")
        expected = {"lr": learning_rate, "momentum": MOMENTUM, "nesterov": True}
        expected |= {"weight_decay": DECAY, "dampening": 0, "maximize": False}
        for name, value in expected.items():
            if groups[0][name] != value:
                self.end("optimiser", f"{name} is {groups[0][name]!r}, nnU-Net's is {value!r}")
        found = groups[0]["params"]
        if len(found) != len(self.parameters) or not all(map(is_same, found, self.parameters)):
            self.end("optimiser", "its parameters are not those of the network")

    def check_functions(self, functions: Iterable[Original]) -> None:
        """End a training in which a function is not what it was before the network came."""
        for function in functions:
            if not function.is_intact():
                self.end(function.kind, f"{function.name} was replaced")

    def check_state(self) -> None:
        """End a training in which operations of torch may mean something else."""
        if any(GLOBAL_HOOKS):
            self.end("optimiser", "a hook was set on every module or every optimiser")
        if natives() != self.natives:
            self.end("loss", "the way in which torch carries out an operation was changed")
        if not torch.is_grad_enabled():
            self.end("optimiser", "gradients were switched off")

    def sweep(self) -> None:
        """Look at every function, and at what the objects of the training hold themselves."""
        self.check_functions(self.originals)
        self.check_state()
        for owner, (kind, names) in self.names.items():
            if len(vars(owner)) != len(names):
                added = sorted(set(vars(owner)) - names)
                self.end(kind, f"{owner.__name__} was given {added[:3]}")
        for owner, before in self.own.items():
            now = vars(owner)
            own = sorted(n for n, v in now.items() if callable(v) and before.get(n) is not v)
            if own:
                self.end("optimiser", f"{type(owner).__name__} has a {own[0]} of its own")
        if "train_step" in vars(self.trainer):
            self.end("longer_training", "the trainer has a train_step of its own")


def is_of_step(name: str) -> bool:
    """Return True for methods of nnU-Net's loss, trainer and loader that each step runs."""
    last = name.rpartition(".")[2]
    is_loss = name.startswith("nnunetv2.training.loss.") and last == "forward"
    is_trainer = name.endswith(("nnUNetTrainer.train_step", "PolyLRScheduler.step"))
    is_loader = name.endswith(("generate_train_batch", "Augmenter.__next__"))
    return is_loss or is_trainer or is_loader


def natives() -> tuple[Any, ...]:
    """Return what decides how an operation of torch is carried out."""
    return (
        torch._C._len_torch_function_stack(),
        torch._C._len_torch_dispatch_stack(),
        len(torch.library._impls),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
    )


def view(parameter: Tensor) -> Tensor:
    """Return a live view of a few values that are spread over a parameter."""
    flat = parameter.data
    stored = flat.untyped_storage().nbytes() // flat.element_size() - flat.storage_offset()
    held = min(flat.numel(), stored)
    count = min(SAMPLES, held)
    return flat.as_strided((count,), (held // max(1, count),))


def described(loss: nn.Module) -> list[tuple[Any, ...]]:
    """Return type, settings, parts and hooks of a loss and of all modules in it."""
    return [(module, type(module), values_of(module)) for module in loss.modules()]


def values_of(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    """Return what a module holds: plain values as they are, others by their identity."""
    plain = (int, float, str, tuple, type(None))
    return tuple(
        (name, value if isinstance(value, plain) else (id(value), len_of(value)))
        for name, value in vars(module).items()
    )


def len_of(value: Any) -> int:
    """Return the length of a dict of parts or hooks."""
    return len(value) if isinstance(value, dict) else 0


def as_list(value: Any) -> list[Tensor]:
    """Return one tensor or several as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def is_same(one: Any, other: Any) -> bool:
    """Return True for one object."""
    return one is other
