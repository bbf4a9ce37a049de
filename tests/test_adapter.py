"""The adapter between a network and nnU-Net: heads, their shapes and their weights."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agent.grammar import GrammarPlanner
from sandbox.child.adapter import (
    Adapter,
    ContractError,
    adapt,
    as_heads,
    checkpoint_stages,
    default_network,
    has_deep_supervision,
    head_scales,
    head_weights,
    load_network,
)
from tests.effects import UNKNOWN

SPEC: dict[str, Any] = {
    "dims": 2,
    "patch_size": [16, 8],
    "strides": [[1, 1], [2, 2], [2, 1], [2, 2]],
    "kernel_sizes": [[3, 3]] * 4,
    "features": [4, 8, 16, 16],
    "convs_encoder": [1, 1, 1, 1],
    "convs_decoder": [1, 1, 1],
    "deep_supervision": True,
}


class Heads(nn.Module):
    """Returns zeros of the given shapes."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


class Declaring(nn.Module):
    """Declares the weights of its heads."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.deep_supervision_weights = weights


def adapter(make: Callable[[Tensor], Any]) -> Adapter:
    return Adapter(Heads(make), num_classes=3, scales=head_scales(SPEC))


def all_heads(x: Tensor) -> list[Tensor]:
    return [torch.zeros(len(x), 3, *scale) for scale in head_scales(SPEC)]


def test_scales_follow_the_strides_and_leave_out_the_bottleneck() -> None:
    assert head_scales(SPEC) == [(16, 8), (8, 4), (4, 4)]


def test_one_head_means_no_deep_supervision() -> None:
    made = adapter(lambda x: torch.zeros(len(x), 3, 16, 8))
    assert not has_deep_supervision(made, 1, [16, 8])
    assert isinstance(made(torch.zeros(2, 1, 16, 8)), Tensor)


def test_all_heads_are_given_only_while_asked_for() -> None:
    made = adapter(all_heads)
    assert has_deep_supervision(made, 1, [16, 8])
    x = torch.zeros(2, 1, 16, 8)
    assert isinstance(made(x), Tensor)
    made.decoder.deep_supervision = True
    assert [tuple(h.shape[2:]) for h in made(x)] == head_scales(SPEC)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: all_heads(x)[:2], "returned 2 heads; allowed: 1 or 3"),
        (lambda x: all_heads(x)[::-1], "a head has shape"),
        (lambda x: torch.zeros(len(x), 2, 16, 8), "a head has shape"),
        (lambda x: {"logits": x}, "forward returned dict"),
        (lambda x: [], "forward returned list"),
    ],
)
def test_a_broken_contract_is_named(make: Callable[[Tensor], Any], said: str) -> None:
    with pytest.raises(ContractError, match=said):
        adapter(make).heads(torch.zeros(1, 1, 16, 8))


def test_a_head_lost_in_training_is_an_error_and_not_a_shorter_loss() -> None:
    made = adapter(lambda x: all_heads(x)[: 3 if len(x) == 1 else 2])
    assert has_deep_supervision(made, 1, [16, 8])
    made.decoder.deep_supervision = True
    with pytest.raises(ValueError, match="zip"):
        made(torch.zeros(2, 1, 16, 8))


def test_weights_are_those_of_nnunet_unless_declared() -> None:
    network = nn.Module()
    assert head_weights(network, 3) == [2 / 3, 1 / 3, 0]
    assert head_weights(network, 1) == [1]
    assert head_weights(Declaring([1, 1, 2]), 3) == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("declared", [[1, 2], [1, -1, 1], [float("nan")] * 3, [0, 0, 0]])
def test_impossible_weights_are_refused(declared: list[float]) -> None:
    with pytest.raises(ContractError, match="deep_supervision_weights"):
        head_weights(Declaring(declared), 3)


def test_without_a_file_it_is_the_default_network_of_the_plan() -> None:
    torch.manual_seed(0)
    network = load_network(None, in_channels=2, num_classes=3, spec=SPEC)
    assert type(network).__name__ == "PlainConvUNet"
    heads = as_heads(network(torch.zeros(1, 2, 16, 8)))
    assert [tuple(h.shape[2:]) for h in heads] == head_scales(SPEC)


def test_a_file_without_the_function_is_refused(tmp_path: Path) -> None:
    (tmp_path / "network.py").write_text("x = 1\n")
    with pytest.raises(ContractError, match="build_network"):
        load_network(tmp_path / "network.py", in_channels=1, num_classes=2, spec=SPEC)


class Stage(nn.Module):
    """Convolution, batch norm and dropout; may write to its own input."""

    def __init__(self, i: int, o: int, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        self.conv = nn.Conv2d(i, o, 3, padding=1)
        self.norm = nn.BatchNorm2d(o)
        self.drop = nn.Dropout2d(0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.leaky_relu_(x, 0.3) if self.inplace else x
        y: Tensor = self.drop(nn.functional.leaky_relu_(self.norm(self.conv(x))))
        return y


class Stacked(nn.Module):
    """Stages in attributes and in a list, as generated networks have them."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.first = Stage(1, 8)
        self.more = nn.ModuleList([Stage(8, 8, inplace), Stage(8, 8)])
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for stage in self.more:
            x = stage(x)
        y: Tensor = self.out(x)
        return y


def spec(dims: int) -> dict[str, Any]:
    """Return a specification in 2D or 3D."""
    strides = [[1, 1, 1], [2, 2, 2], [2, 1, 1], [2, 2, 2]]
    sizes = {"patch_size": [16, 8, 8][:dims], "strides": [s[:dims] for s in strides]}
    return {**SPEC, **sizes, "dims": dims, "kernel_sizes": [[3] * dims] * 4}


def planned(dims: int) -> nn.Module:
    """Return a network of the built-in planner, with modules of every kind it has drawn."""
    traits = {"dims": dims, "classes": 3, "few_cases": True, "val_cases": 4}
    plan = GrammarPlanner(4, traits)
    module = ModuleType("network")
    exec(plan.write(plan.propose([], UNKNOWN, Random(2), dims=dims)), vars(module))
    network: nn.Module = module.build_network(1, 3, spec(dims))
    return network


def built(name: str, dims: int) -> nn.Module:
    torch.manual_seed(0)
    if name == "default":
        return default_network(1, 3, spec(dims))
    if name == "planned":
        return planned(dims)
    return Stacked(inplace=name == "inplace")


def trained(network: nn.Module, dims: int) -> tuple[list[Tensor], int]:
    """Return outputs, gradients and buffers after a step, and how many values were kept for it."""
    x = torch.randn(2, 1, *spec(dims)["patch_size"], generator=torch.Generator().manual_seed(1))
    network.eval()
    with torch.no_grad():
        network(x)
    network.train()
    torch.manual_seed(2)
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        heads = as_heads(network(x))
    sum(head.square().mean() for head in heads).backward()  # type: ignore[union-attr]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return [*heads, *gradients, *network.buffers(), torch.rand(1)], kept


@pytest.mark.parametrize(
    ("name", "dims"),
    [("default", 2), ("default", 3), ("planned", 2), ("planned", 3), ("stacked", 2)],
)
def test_checkpointing_changes_no_number_and_keeps_less(name: str, dims: int) -> None:
    before, kept_before = trained(built(name, dims), dims)
    network = built(name, dims)
    assert len(checkpoint_stages(network)) >= 3
    after, kept_after = trained(network, dims)
    assert len(before) == len(after)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert kept_after < kept_before / 2


def test_a_stage_that_writes_to_its_input_is_run_once() -> None:
    before, _ = trained(built("inplace", 2), 2)
    network = built("inplace", 2)
    checkpoint_stages(network)
    after, _ = trained(network, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_input_that_was_written_to_is_an_error_and_not_another_gradient() -> None:
    network = Stacked()
    checkpoint_stages(network)
    x = torch.randn(2, 1, 16, 8)
    loss = network(x).mean()
    x.mul_(2)
    with pytest.raises((ContractError, RuntimeError), match="written to|modified by an inplace"):
        loss.backward()


def test_stages_are_no_leaves_and_not_within_one_another() -> None:
    network = built("default", 2)
    found = checkpoint_stages(network)
    assert len(found) == 4 + 3
    inner = [id(part) for stage in found for part in stage.modules()]
    assert len(inner) == len(set(inner))


def test_a_job_asks_for_checkpointing() -> None:
    job = {"spec": SPEC, "num_classes": 3, "in_channels": 1}
    assert not any("forward" in vars(m) for m in adapt(None, job).modules())
    made = adapt(None, {**job, "checkpointing": True})
    assert any("forward" in vars(m) for m in made.modules())
    assert set(made.state_dict()) == set(adapt(None, job).state_dict())
