"""How a tile or a raster is covered by windows, and what each counts where they overlap."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .errors import ConfigError

GRID = 32  # px: the deepest stride of our networks; moved by a multiple of it, they see the same
CONTEXT = 32  # px at a window's edge that smooth windows leave to their neighbours, at most


class Span(NamedTuple):
    """A window along one axis, and what its pixels count; the weights of all windows at a pixel sum to 1."""

    start: int
    stop: int
    weight: np.ndarray  # [stop - start] float32


@dataclass(frozen=True)
class Windows:
    """How a tile is covered.

    Args:
        side: Of a window, px; a smaller tile is one window.
        stride: From window to window, px.
        batch: Windows per forward.
        smooth: Windows fade into each other, and pixels near a window's edge, whose surroundings the network has
            not seen, count nothing where a neighbour has seen them; where side and stride are multiples of 32 px, the
            last window begins at one too. Otherwise all windows at a pixel count the same.

    Raises:
        ConfigError: A number is below 1, or windows leave gaps.
    """

    side: int = 512
    stride: int = 341
    batch: int = 4
    smooth: bool = False

    def __post_init__(self) -> None:
        if min(self.side, self.stride, self.batch) < 1 or self.stride > self.side:
            raise ConfigError(
                f"windows of {self.side} px every {self.stride} px, {self.batch} at a time, cover nothing whole; use "
                f"numbers of at least 1, and a stride of at most the side"
            )

    def spans(self, length: int) -> list[Span]:
        """The windows along an axis of so many px."""
        starts = self._starts(length)
        ends = [min(start + self.side, length) for start in starts]
        weights = [self._weight(start, end, length) for start, end in zip(starts, ends, strict=True)]
        total = np.zeros(length)
        for start, end, weight in zip(starts, ends, weights, strict=True):
            total[start:end] += weight
        return [
            Span(start, end, (weight / total[start:end]).astype(np.float32))
            for start, end, weight in zip(starts, ends, weights, strict=True)
        ]

    def _starts(self, length: int) -> list[int]:
        if length <= self.side:
            return [0]
        last = length - self.side
        if self.smooth and self.side % GRID == 0 and self.stride % GRID == 0:
            last = math.ceil(last / GRID) * GRID
        return [*range(0, last, self.stride), last]

    def _weight(self, start: int, stop: int, length: int) -> np.ndarray:  # [stop - start] float64
        """Before the weights of all windows at a pixel are made to sum to 1."""
        weight = np.ones(stop - start)
        if not self.smooth:
            return weight
        overlap = self.side - self.stride
        context = min(CONTEXT, overlap // 4)
        place = np.arange(stop - start) + 0.5
        for inner, distance in ((start > 0, place), (stop < length, place[::-1])):
            if inner:
                rise = ((distance - context) / max(overlap - 2 * context, 1)).clip(0, 1)
                weight = weight * np.sin(rise * math.pi / 2) ** 2
        return weight
