"""The adapter between a network and nnU-Net: heads, their shapes and their weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sandbox.child.adapter import (
    Adapter,
    ContractError,
    as_heads,
    has_deep_supervision,
    head_scales,
    head_weights,
    load_network,
)

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
