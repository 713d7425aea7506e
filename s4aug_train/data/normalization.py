"""Mean and standard deviation by band: ImageNet's for 8-bit RGB, else measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .cache import Tile

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from each band and what it is divided by, in units of the source.

    Args:
        mean: By band.
        std: By band.
        source: "imagenet", "measured" or "given".

    Raises:
        DataError: They are no finite numbers of as many bands, or something is divided by 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        real = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        if not real or not all(self.std) or len(self.mean) != len(self.std) or not isinstance(self.source, str):
            raise DataError(f"images cannot be normalised by the means {self.mean} and deviations {self.std}")

    def apply(self, images: Tensor, valid: Tensor | None) -> Tensor:
        """Normalise images that are not warped on the way.

        Args:
            images: [B, C, H, W] of the source's dtype.
            valid: [B, 1, H, W] bool, or None.

        Returns:
            [B, C, H, W] float32, 0 where not real.
        """
        mean, std = (torch.tensor(part, device=images.device)[:, None, None] for part in (self.mean, self.std))
        normalized = (images.to(torch.float32) - mean) / std
        return normalized if valid is None else torch.where(valid, normalized, 0)


def choose_normalization(tiles: Sequence[Tile]) -> Normalization:
    """ImageNet's statistics for 8-bit RGB; those of the real pixels of `tiles` for all else."""
    return known_normalization(tiles[0]) or normalization_of([tile.band_sums for tile in tiles])


def known_normalization(tile: Tile) -> Normalization | None:
    """ImageNet's statistics for 8-bit RGB; None for all else."""
    if str(tile.image.dtype) != "uint8" or tile.image.shape[0] != 3:
        return None
    mean, std = (tuple(255 * value for value in part) for part in (IMAGENET_MEAN, IMAGENET_STD))
    return Normalization(mean, std, "imagenet")


def normalization_of(sums: Sequence[np.ndarray]) -> Normalization:
    """Statistics of real pixels, from the `band_sums` of tiles."""
    count, total, squares = np.sum(sums, axis=0)  # each [C]
    means = total / np.maximum(count, 1)
    deviations = np.sqrt(np.maximum(squares / np.maximum(count, 1) - means**2, 0))
    # A constant band carries nothing; dividing by 0, or by what rounding leaves of it, would make it NaN or huge.
    deviations = np.where(deviations > 1e-5 * np.abs(means), deviations, 1.0)
    return Normalization(tuple(means.tolist()), tuple(deviations.tolist()), "measured")
