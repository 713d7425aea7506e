"""Sums over a joint batch, whose parts are shown to the network by several processes or in several passes."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

# From a part's value to the mean over all parts. A gradient reaches the own part, unscaled.
Joint = Callable[[Tensor], Tensor]


def alone(value: Tensor) -> Tensor:
    """The mean over the one part there is."""
    return value


def by(mean: Callable[[Tensor], Tensor]) -> Joint:
    """The mean that a function gives, with the gradient of the part's own value."""
    return lambda value: _with_gradient_of(value, mean(value))


class Noted:
    """Notes the values of a part, in the order in which they are asked for; answers with the part's own."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def __call__(self, value: Tensor) -> Tensor:
        """The value itself."""
        self.values.append(value.detach().double())
        return value


def known(means: Sequence[Tensor]) -> Joint:
    """Means that were counted before, in the order in which they were asked for."""
    following: Iterator[Tensor] = iter(means)
    return lambda value: _with_gradient_of(value, next(following))


def divided(total: Tensor, count: Tensor) -> Tensor:
    """A total by its count; 0 (with zero gradient) where nothing was counted."""
    return total / torch.where(count > 0, count, 1)


def _with_gradient_of(value: Tensor, mean: Tensor) -> Tensor:
    return mean + (value - value.detach()) if value.requires_grad else mean
