"""What a training method is: from a batch to a loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from s4aug import View

from ..config import Config
from ..data.cache import Tile
from ..data.normalization import Normalization
from ..data.pool import Crops
from ..errors import ConfigError
from ..records import RESERVED
from ..rng import sample_offsets
from .joint import Joint, alone, divided


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
    """What a step trains on, or a part of it where several processes or passes share a step.

    Args:
        step: Steps done before this one.
        seed: The run's seed.
        key: [1] int64, of (seed, step): what is drawn on the device follows from it.
        weight: Scalar on the device: `Method.weight` at this step.
        labeled: Crops with labels.
        unlabeled: Crops without; None for methods that use none.
        part: Which part of the joint batch this is.
        parts: How many there are, all of the same number of crops.
        joint: From a value of this part to the mean over all parts.
    """

    step: int
    seed: int
    key: Tensor  # [1] int64
    weight: Tensor  # scalar float32
    labeled: Crops
    unlabeled: Crops | None
    part: int = 0
    parts: int = 1
    joint: Joint = alone

    @property
    def tiles(self) -> tuple[str, ...]:
        """Ids of the tiles that its crops are of."""
        return self.labeled.ids + (() if self.unlabeled is None else self.unlabeled.ids)

    def over(self, total: Tensor, count: Tensor) -> Tensor:
        """A sum over pixels by their number; 0 (with zero gradient) where there are none.

        The number is that of the joint batch, so that the means of all parts average to its mean, however unequal
        the parts are.
        """
        return divided(total, self.joint(count))

    @property
    def unread(self) -> dict[str, str]:
        """Why tiles that others stand in for could not be read, by name."""
        return {**self.labeled.unread, **(self.unlabeled.unread if self.unlabeled else {})}

    def seeds(self, stream: str, count: int) -> Tensor:  # [count] int64
        """Seeds of random draws, one per sample: the same for this step whatever happened before.

        They are made where the key is, without asking the host. A joint batch has the same ones in however many parts.
        """
        offsets = sample_offsets(stream, count * self.parts, self.key.device)
        return self.key + offsets[self.part * count : (self.part + 1) * count]

    def common_seeds(self, stream: str, count: int) -> Tensor:  # [count] int64
        """One seed for all samples of the joint batch."""
        return (self.key + sample_offsets(stream, 1, self.key.device)).expand(count).contiguous()

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
    """What a method made of a batch; scalars. Those of the joint batch are the means over its parts.

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

    def told(self) -> dict[str, Tensor]:
        """What is logged, detached and by its name in the records.

        Raises:
            ConfigError: A name of `extra` means something else there.
        """
        if taken := sorted(RESERVED & self.extra.keys()):
            raise ConfigError(f"the method's Losses.extra must not be called {', '.join(taken)}; choose another name")
        named = {
            "loss": self.total,
            "loss_supervised": self.supervised,
            "loss_consistency": self.unsupervised,
            "valid_fraction": self.valid_fraction,
            **self.extra,
        }
        return {name: value.detach().float() for name, value in named.items()}


class Partner(Protocol):
    """What a method keeps beside the network, as a teacher or a discriminator: a module that is saved with it.

    Its parameters have the gradient of `Losses.partner`, if a method gives one.
    """

    def after_step(self, network: nn.Module, skipped: Tensor) -> None:
        """Follow a step of the network; the only place where a partner changes.

        Args:
            network: After the step.
            skipped: Scalar bool on the device: the step was not taken, and the partner should stay as it is too.
        """

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
    # Whether `Losses.valid_fraction` follows from the views alone: then next to nothing is a sign of a mistake.
    valid_by_geometry: ClassVar[bool] = True

    @abstractmethod
    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """The loss of a batch; differentiable in the parameters of `network`.

        Args:
            network: Maps images [B, bands, h, w] to logits [B, K, h', w'], at the images' size or a stride of it.
            batch: Crops as they lie in the tiles.
            partner: What `partner` made, on the device of the batch.
        """

    def counts_ahead(self) -> bool:
        """Whether what it divides by follows from the crops alone: then it is known without predicting.

        Otherwise a step of several passes predicts everything twice.
        """
        return False

    def labelled_tiles(self, labeled: Sequence[Tile], unlabeled: Sequence[Tile]) -> Sequence[Tile]:
        """The tiles whose masks it may see."""
        return labeled

    def margins(self) -> tuple[int, int]:
        """How far labelled and unlabelled crops must reach beyond their frame, px."""
        return 0, 0

    def views(self, batch: Batch) -> tuple[View, View] | None:
        """The two views of the unlabelled crops whose predictions are compared, for pictures; None: no two are."""
        return None

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
