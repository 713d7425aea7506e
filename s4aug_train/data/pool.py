"""Random crops of decoded tiles, by (seed, step, stream)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..rng import stream_rng
from .cache import Tile
from .palette import IGNORE


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops as they lie in the tiles: not yet normalised, flipped or moved.

    Args:
        images: [B, C, h, w] of the source's dtype.
        valid: [B, 1, h, w] bool; None when every pixel is real.
        labels: [B, 1, h, w] uint8, 255 where unknown or not real; None for unlabelled crops.
        ids: The tiles they come from.
    """

    images: Tensor  # [B, C, h, w]
    valid: Tensor | None  # [B, 1, h, w] bool
    labels: Tensor | None  # [B, 1, h, w] uint8
    ids: tuple[str, ...]

    def to(self, device: torch.device) -> "Crops":
        """The same crops on a device."""
        valid, labels = (None if t is None else t.to(device, non_blocking=True) for t in (self.valid, self.labels))
        return Crops(self.images.to(device, non_blocking=True), valid, labels, self.ids)


def check_alike(tiles: Sequence[Tile]) -> None:
    """Hold tiles to one number of bands and one dtype.

    Raises:
        DataError: Two differ; both are named.
    """
    first = tiles[0]
    for tile in tiles:
        if (tile.image.shape[0], tile.image.dtype) != (first.image.shape[0], first.image.dtype):
            raise DataError(
                f"tile {tile.id} has {tile.image.shape[0]} bands of {tile.image.dtype}, tile {first.id} "
                f"{first.image.shape[0]} of {first.image.dtype}; use tiles of one kind"
            )


@dataclass(frozen=True, eq=False)
class Pool:
    """Tiles to draw crops from.

    Tiles are shown in a random order, each once before the next round; a scene much larger than the others counts
    as the tiles that it could be cut into.

    Args:
        tiles: Of one band count and dtype.
        crop: Side of a crop, px. Tiles smaller than that are padded with pixels that are not real.
        labelled: Whether crops come with labels.

    Raises:
        DataError: No tile, or tiles of different bands or dtype.
    """

    tiles: Sequence[Tile]
    crop: int
    labelled: bool

    def __post_init__(self) -> None:
        if not self.tiles:
            kind = "labelled" if self.labelled else "unlabelled"
            raise DataError(
                f"there is no {kind} tile to train on; change --labeled, --unlabeled or the split, or use "
                f"--method supervised"
            )
        check_alike(self.tiles)

    def crops(self, seed: int, step: int, stream: str, batch: int) -> Crops:
        """The batch of a step: the same whenever and wherever it is asked for."""
        deck = self._deck
        shown = [step * batch + i for i in range(batch)]
        epochs = {n // len(deck) for n in shown}
        orders = {epoch: stream_rng(seed, epoch, f"{stream}/order").permutation(deck) for epoch in epochs}
        chosen = [self.tiles[int(orders[n // len(deck)][n % len(deck)])] for n in shown]
        rng = stream_rng(seed, step, f"{stream}/window")
        return _stacked([_cut(tile, self.crop, rng) for tile in chosen], [tile.id for tile in chosen], self.labelled)

    @cached_property
    def _deck(self) -> np.ndarray:
        """Indices of tiles, each as often as its area holds that of the smallest (or of a crop)."""
        areas = np.array([tile.size[0] * tile.size[1] for tile in self.tiles], dtype=np.float64)
        unit = max(areas.min(), self.crop**2)
        repeats = np.maximum(1, np.round(areas / unit)).astype(int)
        return np.repeat(np.arange(len(self.tiles)), repeats)


def _cut(tile: Tile, crop: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A window of image, labels and validity, all of crop x crop px."""
    height, width = tile.size
    top, left = (int(rng.integers(0, max(side - crop, 0) + 1)) for side in (height, width))
    window = slice(top, top + crop), slice(left, left + crop)
    image = np.asarray(tile.image[:, *window])
    shape = image.shape[1:]
    valid = np.ones(shape, bool) if tile.valid is None else np.asarray(tile.valid[window])
    labels = np.full(shape, IGNORE, np.uint8) if tile.labels is None else np.asarray(tile.labels[window])
    labels = np.where(valid, labels, np.uint8(IGNORE))
    missing = [(0, crop - side) for side in shape]
    return (
        np.pad(image, [(0, 0), *missing]),
        np.pad(labels, missing, constant_values=IGNORE),
        np.pad(valid, missing, constant_values=False),
    )


def _stacked(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], ids: list[str], labelled: bool) -> Crops:
    images, labels, valid = (np.stack(column) for column in zip(*parts, strict=True))
    return Crops(
        torch.from_numpy(images),
        None if valid.all() else torch.from_numpy(valid[:, None]),
        torch.from_numpy(labels[:, None]) if labelled else None,
        tuple(ids),
    )
