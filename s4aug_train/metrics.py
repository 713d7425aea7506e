"""Segmentation metrics from one confusion matrix over the whole dataset."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pixels counted by true class (rows) and predicted class (columns).

    Args:
        counts: [K, K] int64.
    """

    counts: Tensor  # [K, K] int64

    @classmethod
    def empty(cls, classes: int) -> "Confusion":
        """Nothing counted yet."""
        return cls(torch.zeros(classes, classes, dtype=torch.int64))

    def added(self, truth: Tensor, predicted: Tensor) -> "Confusion":
        """With more pixels; truth outside 0..K-1 (255, unknown) is ignored.

        Args:
            truth: Labels, any shape, any integer type.
            predicted: Labels in 0..K-1 of the same shape.
        """
        classes = self.counts.shape[0]
        known = (truth >= 0) & (truth < classes)
        pairs = truth[known].long() * classes + predicted[known].long()
        counts = torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
        return Confusion(self.counts + counts.to(self.counts.device))

    def iou(self) -> list[float | None]:
        """Intersection over union by class, Eq. 5; None for a class that the truth does not hold."""
        hits = self.counts.diagonal().double()
        truth = self.counts.sum(1).double()
        union = truth + self.counts.sum(0).double() - hits
        return [float(hit / whole) if held else None for hit, whole, held in zip(hits, union, truth, strict=True)]

    def precision(self) -> list[float | None]:
        """Right among the pixels predicted as a class, the user's accuracy of maps; None for one never predicted."""
        return _shares(self.counts.diagonal(), self.counts.sum(0))

    def recall(self) -> list[float | None]:
        """Right among the pixels of a class, the producer's accuracy of maps; None where the truth holds none."""
        return _shares(self.counts.diagonal(), self.counts.sum(1))

    def miou(self) -> float | None:
        """Mean over the classes that the truth holds; None where it holds none."""
        present = [value for value in self.iou() if value is not None]
        return sum(present) / len(present) if present else None


def _shares(parts: Tensor, wholes: Tensor) -> list[float | None]:  # [K], [K]
    return [part / whole if whole else None for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)]
