"""What a training method is: from a batch to a loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..config import Config
from ..data.cache import Tile
from ..data.normalization import Normalization
from ..data.pool import Crops
from ..rng import sample_offsets


@dataclass(frozen=True)
class Setup:
    """What a method is made of.

    Args:
        config: All settings of the run.
        normalization: Of the images.
        classes: Number of classes K.
        class_weights: Of the cross entropy, one per class; None: all alike.
    """

    config: Config
    normalization: Normalization
    classes: int
    class_weights: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step trains on.

    Args:
        step: Steps done before this one.
        seed: The run's seed.
        key: [1] int64, of (seed, step): what is drawn on the device follows from it.
        weight: Scalar on the device: `Method.weight` at this step.
        labeled: Crops with labels.
        unlabeled: Crops without; None for methods that use none.
    """

    step: int
    seed: int
    key: Tensor  # [1] int64
    weight: Tensor  # scalar float32
    labeled: Crops
    unlabeled: Crops | None

    @property
    def unread(self) -> dict[str, str]:
        """Why tiles that others stand in for could not be read, by name."""
        return {**self.labeled.unread, **(self.unlabeled.unread if self.unlabeled else {})}

    def seeds(self, stream: str, count: int) -> Tensor:  # [count] int64
        """Seeds of random draws, one per sample: the same for this step whatever happened before.

        They are made where the key is, without asking the host.
        """
        return self.key + sample_offsets(stream, count, self.key.device)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same batch of changed tensors, as moved to a device."""
        unlabeled = None if self.unlabeled is None else self.unlabeled.map(change)
        key, weight = change(self.key), change(self.weight)
        return replace(self, key=key, weight=weight, labeled=self.labeled.map(change), unlabeled=unlabeled)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch where a GPU can fetch it by itself."""
        return self.map(Tensor.pin_memory)


@dataclass(frozen=True, eq=False)
class Losses:
    """What a method made of a batch; scalars.

    Args:
        total: What is minimised.
        supervised: Of the labelled pixels.
        unsupervised: Of the unlabelled ones, unweighted; 0 without.
        valid_fraction: Share of the unlabelled pixels that were compared.
        partner: What the method's partner minimises, of a graph of its own.
        extra: More to be logged, by name.
    """

    total: Tensor
    supervised: Tensor
    unsupervised: Tensor
    valid_fraction: Tensor
    partner: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)


class Partner(Protocol):
    """What a method keeps beside the network, as a teacher or a discriminator: a module that is saved with it."""

    def after_step(self, network: nn.Module, losses: Losses) -> None:
        """Follow a step of the network; the only place where a partner changes."""

    def state_dict(self) -> dict[str, Any]:
        """All that going on needs."""

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Put it back."""


@dataclass(frozen=True)
class Method(ABC):
    """A way to train. A new one is one file with a subclass; see docs/add-a-method.md.

    Args:
        setup: Settings, normalisation, classes.
    """

    setup: Setup
    uses_unlabeled: ClassVar[bool] = False

    @abstractmethod
    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """The loss of a batch; differentiable in the parameters of `network`.

        Args:
            network: Maps images [B, bands, h, w] to logits [B, K, h', w'], at the images' size or a stride of it.
            batch: Crops as they lie in the tiles.
            partner: What `partner` made, on the device of the batch.
        """

    def labelled_tiles(self, labeled: Sequence[Tile], unlabeled: Sequence[Tile]) -> Sequence[Tile]:
        """The tiles whose masks it may see."""
        return labeled

    def margins(self) -> tuple[int, int]:
        """How far labelled and unlabelled crops must reach beyond their frame, px."""
        return 0, 0

    def weight(self, step: int) -> float:
        """lambda: a sigmoid-shaped ramp exp(-5 (1 - x)^2), then constant (Sec. 4.2); 0 without unlabelled images."""
        if not self.uses_unlabeled:
            return 0.0
        config = self.setup.config
        ramp = config.method.ramp * config.train.steps
        done = min(step / ramp, 1.0) if ramp > 0 else 1.0
        return config.method.weight * math.exp(-5 * (1 - done) ** 2)

    def partner(self, network: nn.Module) -> nn.Module | None:
        """What is kept beside the network; it must be a `Partner` too."""
        return None
