"""Random crops of decoded tiles, by (seed, step, stream)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4aug import AffineTransform

from ..errors import DataError, UnreadableError
from ..rng import stream_rng
from .cache import ArrayFile, Tile
from .palette import IGNORE
from .readable import none_readable


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops as they lie in the tiles: not yet normalised, flipped or moved.

    Args:
        images: [B, C, H, W] of the source's dtype: the crops, and `margin` px around them.
        valid: [B, 1, H, W] bool; None when every pixel is real.
        labels: [B, 1, H, W] uint8, 255 where unknown or not real; None for unlabelled crops.
        ids: The tiles they come from.
        margin: What lies around the crop's frame on each side, px.
        unread: Why each tile that others stand in for could not be read, by name.
    """

    images: Tensor  # [B, C, H, W]
    valid: Tensor | None  # [B, 1, H, W] bool
    labels: Tensor | None  # [B, 1, H, W] uint8
    ids: tuple[str, ...]
    margin: int = 0
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the crop's frame."""
        height, width = self.images.shape[-2:]
        return height - 2 * self.margin, width - 2 * self.margin

    def frame(self) -> AffineTransform:
        """From what is held to the crop's frame."""
        # Made where the images are: a copy from the host would wait for the device.
        corner = torch.full((len(self.ids),), self.margin, device=self.images.device)
        held = (self.images.shape[-2], self.images.shape[-1])
        return AffineTransform.crop(corner, corner, self.size, held)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Crops":
        """The same crops of changed tensors, as moved to a device."""
        valid, labels = (None if tensor is None else change(tensor) for tensor in (self.valid, self.labels))
        return replace(self, images=change(self.images), valid=valid, labels=labels)


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
        tiles: At least one; of arrays, or of tensors on one device, where the crops are then.
        crop: Side of a crop, px. Where a tile is smaller, the crop is filled up and not valid there.
        labelled: Whether crops carry labels.
        margin: What is cut around each crop too, where the tile has it, px.
        alike: All tiles count the same, and none is read to know its size.
        steady: Crops always carry `valid`, real or not, so that every batch has one form.
        skip: For a tile that cannot be read the next in the order stands in; else that is an error.
    """

    tiles: Sequence[Tile]
    crop: int
    labelled: bool
    margin: int = 0
    alike: bool = False
    steady: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        if not self.tiles:
            kind = "labelled" if self.labelled else "unlabelled"
            raise DataError(
                f"there is no {kind} tile to train on; change --labeled, --unlabeled or the split, or use "
                f"--method supervised"
            )
        if not self.alike:
            check_alike(self.tiles)

    @cached_property
    def resident(self) -> bool:
        """Whether tiles are tensors in memory."""
        return not self.alike and isinstance(self.tiles[0].image, Tensor)

    def crops(self, seed: int, step: int, stream: str, batch: int, *, part: int = 0, parts: int = 1) -> Crops:
        """The batch of a step: the same whenever and wherever it is asked for.

        Args:
            seed: The run's.
            step: Steps done before.
            stream: What the crops are for.
            batch: How many.
            part: Which part of the step's joint batch.
            parts: How many parts there are; together they show what one batch of all would.

        Raises:
            UnreadableError: A tile cannot be read.
            DataError: No tile can be read, under `skip`; or two differ in kind.
        """
        deck = self._deck
        shown = [(step * parts + part) * batch + i for i in range(batch)]
        epochs = {n // len(deck) for n in shown}
        orders = {epoch: stream_rng(seed, epoch, f"{stream}/order").permutation(deck) for epoch in epochs}
        unread: dict[str, str] = {}
        chosen = [self._read(orders[n // len(deck)], n % len(deck), unread) for n in shown]
        check_alike(chosen)
        corners = [
            self._corner(tile, stream_rng(seed, n, f"{stream}/window")) for n, tile in zip(shown, chosen, strict=True)
        ]
        return replace(self._cut(chosen, corners), unread=unread)

    def _read(self, order: np.ndarray, place: int, unread: dict[str, str]) -> Tile:
        """The tile at a place in the order; under `skip` the next that can be read, and those before it are noted."""
        for following in range(len(order)):
            try:
                tile = self.tiles[int(order[(place + following) % len(order)])]
                if self.skip:
                    self._probe(tile)
            except UnreadableError as error:
                if not self.skip:
                    raise
                unread[error.name] = error.why
            else:
                return tile
        raise none_readable(next(iter(unread.values())))

    def _probe(self, tile: Tile) -> None:
        """Map what will be cut, without reading it: what is wrong should come up while another tile can stand in."""
        for array in (tile.image, tile.valid, tile.labels if self.labelled else None):
            if isinstance(array, ArrayFile):
                array[...]

    def _corner(self, tile: Tile, rng: np.random.Generator) -> tuple[int, ...]:
        return tuple(int(rng.integers(0, max(side - self.crop, 0) + 1)) for side in tile.size)

    def _cut(self, tiles: Sequence[Tile], corners: Sequence[tuple[int, ...]]) -> Crops:
        side = self.crop + 2 * self.margin
        shape, first = (len(tiles), 1, side, side), tiles[0].image
        device = first.device if isinstance(first, Tensor) else torch.device("cpu")
        dtype = first.dtype if isinstance(first, Tensor) else _torch_dtype(first.dtype)
        images = torch.zeros(len(tiles), first.shape[0], side, side, dtype=dtype, device=device)
        labels = torch.full(shape, IGNORE, dtype=torch.uint8, device=device) if self.labelled else None
        whole = [self._is_whole(*each) for each in zip(tiles, corners, strict=True)]
        valid = None
        if self.steady or not all(whole):
            valid = torch.zeros(shape, dtype=torch.bool, device=device)
        for i, (tile, corner) in enumerate(zip(tiles, corners, strict=True)):
            there, source = _overlap(tile.size, corner, self.margin, self.crop)
            _copy(images[i][:, *there], tile.image[:, *source])
            if valid is not None:
                if tile.valid is None:
                    valid[i, 0][there].fill_(True)
                else:
                    _copy(valid[i, 0][there], tile.valid[source])
            if labels is not None and tile.labels is not None:
                _copy(labels[i, 0][there], tile.labels[source])
        if valid is not None and not self.steady and device.type == "cpu" and bool(valid.all()):
            valid = None
        if labels is not None and valid is not None:
            labels.masked_fill_(~valid, IGNORE)
        return Crops(images, valid, labels, tuple(tile.id for tile in tiles), self.margin)

    def _is_whole(self, tile: Tile, corner: Sequence[int]) -> bool:
        """Whether all that is cut is real."""
        inside = all(
            self.margin <= first <= side - self.crop - self.margin
            for first, side in zip(corner, tile.size, strict=True)
        )
        return inside and tile.valid is None

    @cached_property
    def _deck(self) -> np.ndarray:
        """Indices of tiles, each as often as its area holds that of the smallest (or of a crop)."""
        if self.alike:
            return np.arange(len(self.tiles))
        areas = np.array([tile.size[0] * tile.size[1] for tile in self.tiles], dtype=np.float64)
        unit = max(areas.min(), self.crop**2)
        repeats = np.maximum(1, np.round(areas / unit)).astype(int)
        return np.repeat(np.arange(len(self.tiles)), repeats)


Window = tuple[slice, slice]


def _overlap(size: tuple[int, int], corner: Sequence[int], margin: int, crop: int) -> tuple[Window, Window]:
    """Where a window of a tile, with what lies around it, is real: in what is cut, and in the tile."""
    there, source = [], []
    for side, first in zip(size, corner, strict=True):
        low, high = max(first - margin, 0), min(first + crop + margin, side)
        source.append(slice(low, high))
        there.append(slice(low - first + margin, high - first + margin))
    return (there[0], there[1]), (source[0], source[1])


def _copy(to: Tensor, part: Any) -> None:
    """From an array of the cache, or a tensor of the same device."""
    if isinstance(part, Tensor):
        to.copy_(part)
    else:
        np.copyto(to.numpy(), part)


def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
