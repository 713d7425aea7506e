"""What a training method is: from a batch to a loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ..data.cache import Tile
from ..data.pool import Crops
from ..rng import sample_offsets


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step trains on.

    Args:
        step: Steps done before this one.
        key: [1] int64, of (seed, step): all that is random in the step follows from it.
        labeled: Crops with labels.
        unlabeled: Crops without; None for methods that use none.
    """

    step: int
    key: Tensor  # [1] int64
    labeled: Crops
    unlabeled: Crops | None

    def seeds(self, stream: str, count: int) -> Tensor:  # [count] int64
        """Seeds of random draws, one per sample: the same for this step whatever happened before.

        They are made where the key is, without asking the host.
        """
        return self.key + sample_offsets(stream, count, self.key.device)


@dataclass(frozen=True, eq=False)
class Losses:
    """What a method made of a batch; scalars.

    Args:
        total: What is minimised.
        supervised: Mean cross entropy over labelled pixels.
        consistency: Unweighted.
        weight: lambda at this step.
        valid_fraction: Share of the unlabelled pixels that both views show.
    """

    total: Tensor
    supervised: Tensor
    consistency: Tensor
    weight: float
    valid_fraction: Tensor


class Method(Protocol):
    """A way to train. A new one is one file with such a class."""

    uses_unlabeled: bool

    def labelled_tiles(self, labeled: Sequence[Tile], unlabeled: Sequence[Tile]) -> list[Tile]:
        """The tiles whose masks it may see."""

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """The loss of a batch; differentiable in the parameters of `network`."""
