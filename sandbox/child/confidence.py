"""How sure a network is of what it predicts: a class's mean probability where it is predicted.

The confidence of a class in a case is the mean over the label map's voxels of that class of its
probability: softmax over the labels, or the sigmoid of its own output where regions are trained.
It is in [0, 1], and None where no voxel of the class is predicted. Voxels are those of the raw image;
nnU-Net predicts nothing outside of its crop.

The label map is nnU-Net's own, untouched. Probabilities are taken where something is predicted,
at most `VOXELS` at once, so that memory and time stay small beside the resampling of the logits.
Not covered: a network that changes these functions. What is written here is taken as hostile.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

VOXELS = 1 << 16
DIGITS = 6


class Confidence:
    """nnU-Net's label manager, which also takes down how sure the logits are.

    Args:
        labels: nnU-Net's own; all that is asked for is passed on to it.
        classes: name -> label, or the labels of a region; none to take nothing down.

    `means` has the confidence of each class in the case that was converted last.
    """

    def __init__(self, labels: Any, classes: Mapping[str, int | list[int]]) -> None:
        """Find the output of each class; nothing is computed yet."""
        self.labels, self.names = labels, list(classes)
        self.means: dict[str, float | None] = {}
        values = [values_of(one) for one in classes.values()]
        outputs = labels.foreground_regions if labels.has_regions else labels.all_labels
        known = [values_of(one) for one in outputs]
        self.outputs = [known.index(one) for one in values]
        most = max(int(one) for one in labels.all_labels)
        self.holds = torch.tensor([[n in one for n in range(most + 1)] for one in values])

    def __getattr__(self, name: str) -> Any:
        """Return what the label manager has under a name."""
        return getattr(self.labels, name)

    def convert_logits_to_segmentation(self, logits: Any) -> Any:
        """Return nnU-Net's label map (Z, Y, X) of logits (K, Z, Y, X); arrays or tensors."""
        found = self.labels.convert_logits_to_segmentation(logits)
        if self.names:
            self.means = self.measured(torch.as_tensor(logits), torch.as_tensor(found))
        return found

    def measured(self, logits: Tensor, labels: Tensor) -> dict[str, float | None]:
        """Return the confidence of each class; logits (K, Z, Y, X), label map (Z, Y, X)."""
        sums = torch.zeros(len(self.names), dtype=torch.float64)
        counts = torch.zeros(len(self.names), dtype=torch.int64)
        for scores, predicted in predicted_voxels(logits, labels):
            holds = self.holds[:, predicted]
            sure = torch.where(holds, self.probabilities(scores)[self.outputs], 0.0)
            sums += sure.sum(1, dtype=torch.float64)
            counts += holds.sum(1)
        pairs = zip(self.names, sums.tolist(), counts.tolist(), strict=True)
        return {
            name: round(total / count, DIGITS) if count else None for name, total, count in pairs
        }

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each output, float32 (K, N), from logits (K, N)."""
        logits = logits.float()
        return torch.sigmoid(logits) if self.labels.has_regions else torch.softmax(logits, 0)


def values_of(label: Any) -> set[int]:
    """Return the labels of a class: one, or those of a region."""
    return {int(one) for one in label} if isinstance(label, list | tuple) else {int(label)}


def predicted_voxels(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (K, N) and labels int64 (N,) of the voxels that are not background."""
    for scores, plane in zip(logits.unbind(1), labels, strict=True):
        values = plane.long()
        for places in torch.nonzero(values).split(VOXELS):
            rows, columns = places.unbind(1)
            yield scores[:, rows, columns], values[rows, columns]
