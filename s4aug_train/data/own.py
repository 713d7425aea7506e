"""Map-style datasets of the user's in place of a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
import torch

from ..errors import DataError, UnreadableError
from .cache import OnUnreadable, Tile
from .dataset import Dataset
from .normalization import Normalization, known_normalization, normalization_of
from .palette import IGNORE, ClassEntry, ClassTable, check_several
from .pool import check_alike
from .readable import first_readable, readable
from .split import PARTS, Split

MEASURED = 200  # tiles that statistics are measured on, where they must be


class MapStyle(Protocol):
    """What `torch.utils.data.Dataset` is by its users: items by number, and how many there are."""

    def __getitem__(self, index: int, /) -> Any:
        """A tile: (image, mask), a dictionary with "image" and "mask", or an image alone."""

    def __len__(self) -> int:
        """How many tiles there are."""


@dataclass(frozen=True, eq=False)
class OwnData:
    """Datasets to train on; each item is a tile of any size, from which crops are cut.

    An item is (image, mask), a dictionary with "image" and "mask", or an image alone where no mask is needed.
    Images are [C, H, W] of uint8, uint16 or float32, as arrays or tensors, not normalised; masks [H, W] hold class
    indices, 255 where unknown. An optional "valid" [H, W] bool says which pixels are real. Items are read in spawned
    processes, so datasets must be picklable; with `train.workers=0` they are read in the training loop.

    Args:
        classes: Names, in the order of the indices.
        labeled: Tiles with masks.
        val: Held-out tiles with masks.
        unlabeled: Tiles whose masks, if there are any, are not looked at.
        normalization: Mean and standard deviation by band, in the images' units; by default ImageNet's for 8-bit
            RGB, else measured on up to 200 tiles.
    """

    classes: Sequence[str]
    labeled: MapStyle
    val: MapStyle
    unlabeled: MapStyle | None = None
    normalization: tuple[Sequence[float], Sequence[float]] | None = None

    def dataset(self, *, include_labeled: bool = False, skip: bool = False) -> Dataset:
        """As the trainer reads it; nothing is read but the first tiles and what statistics need.

        Args:
            include_labeled: Labelled tiles are among the unlabelled ones too.
            skip: Items that cannot be read are left out, then and later; else they are errors.

        Raises:
            DataError: There is one class alone, no labelled or no validation tile, an item is none, or the parts are
                not alike.
        """
        left_out: dict[str, str] = {}
        on_unreadable = left_out.__setitem__ if skip else None
        table = ClassTable(tuple(ClassEntry(name, value=i, ignored=False) for i, name in enumerate(self.classes)))
        check_several(table)
        parts = {
            part: LazyTiles(getattr(self, part) or (), part, len(table.names), masks=part != "unlabeled")
            for part in PARTS
        }
        for part in ("labeled", "val"):
            if not parts[part]:
                raise DataError(f"dataset.{part} is empty; give at least one tile")
        check_alike([first_readable(tiles, on_unreadable) for tiles in parts.values() if tiles])
        ids = {part: tuple(parts[part].ids) for part in PARTS}
        split = Split(**ids, how="datasets given in Python")
        unlabeled = LazyJoined(parts["unlabeled"], parts["labeled"]) if include_labeled else parts["unlabeled"]
        statistics = self._statistics(parts, on_unreadable)
        tiles = parts["labeled"], unlabeled, parts["val"]
        return Dataset(table, split, *tiles, statistics, own=True, skip=skip, left_out=left_out)

    def _statistics(self, parts: Mapping[str, "LazyTiles"], on_unreadable: OnUnreadable | None) -> Normalization:
        if self.normalization is not None:
            mean, std = (tuple(float(number) for number in part) for part in self.normalization)
            return Normalization(mean, std, "given")
        known = known_normalization(first_readable(parts["labeled"], on_unreadable))
        if known:
            return known
        training = [parts["labeled"], parts["unlabeled"]]
        shares = [_sums(tile) for some in training for tile in readable(some, on_unreadable, _spread(len(some)))]
        if not shares:
            raise DataError("none of the tiles that statistics are measured on can be read; give normalization=")
        return normalization_of(shares)


def _spread(count: int) -> list[int]:
    """Up to so many numbers below `count`, evenly spread."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, MEASURED // 2))}) if count else []


@dataclass(frozen=True, eq=False)
class LazyTiles(Sequence[Tile]):
    """Tiles that are read when they are asked for.

    Args:
        source: The user's dataset.
        name: "labeled", "unlabeled" or "val".
        classes: Number of classes.
        masks: Whether items must have one.
    """

    source: MapStyle
    name: str
    classes: int
    masks: bool

    def __len__(self) -> int:
        return len(self.source)

    @property
    def ids(self) -> list[str]:
        """The names of the tiles."""
        return [f"{self.name}:{i}" for i in range(len(self))]

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tile]: ...
    def __getitem__(self, index: int | slice) -> Tile | Sequence[Tile]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self._read(index, f"{self.name}:{index}")

    def _read(self, index: int, name: str) -> Tile:
        try:
            return _tile(self.source[index], name, self.classes, self.masks)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # whatever the user's dataset raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            why = f"dataset item {name} cannot be read ({reason}); repair it or its dataset"
            raise UnreadableError(why, name) from error


@dataclass(frozen=True, eq=False)
class LazyJoined(Sequence[Tile]):
    """Tiles of two sequences, one after the other.

    Args:
        first: Comes first.
        second: Comes after it.
    """

    first: Sequence[Tile]
    second: Sequence[Tile]

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Any) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


def _tile(item: Any, name: str, classes: int, masked: bool) -> Tile:
    parts = item if isinstance(item, Mapping) else None
    if parts is None:
        pair = item if isinstance(item, tuple | list) else (item,)
        parts = dict(zip(("image", "mask", "valid"), pair, strict=False))
    if "image" not in parts or (masked and parts.get("mask") is None):
        raise DataError(f"dataset item {name} must be (image, mask) or have both by name, got {_described(item)}")
    image = _array(parts["image"], name)
    if image.ndim != 3 or image.dtype not in (np.uint8, np.uint16, np.float32):
        raise DataError(
            f"dataset item {name}: image must be [C, H, W] of uint8, uint16 or float32, got {list(image.shape)} of "
            f"{image.dtype}"
        )
    size = image.shape[1:]
    labels = _labels(parts["mask"], size, name, classes) if masked else None
    valid = None if parts.get("valid") is None else _valid(parts["valid"], size, name)
    return Tile(name, image, labels, valid, (), np.empty(0))


def _sums(tile: Tile) -> np.ndarray:  # [3, C]
    """The `band_sums` of a tile, which would cost too much whenever it is read."""
    image = np.asarray(tile.image)
    real = image.reshape(len(image), -1) if tile.valid is None else image[:, np.asarray(tile.valid)]
    wide = real.astype(np.float64)
    return np.stack([np.full(len(image), wide.shape[1]), wide.sum(1), (wide * wide).sum(1)])


def _labels(mask: Any, size: tuple[int, ...], name: str, classes: int) -> np.ndarray:
    labels = _array(mask, name)
    if labels.shape == (1, *size):
        labels = labels[0]
    if labels.shape != size or labels.dtype.kind not in "iu":
        raise DataError(
            f"dataset item {name}: mask must be {list(size)} of integers as its image, got {list(labels.shape)} of "
            f"{labels.dtype}"
        )
    wrong = labels[(labels != IGNORE) & ((labels < 0) | (labels >= classes))]
    if wrong.size:
        raise DataError(
            f"dataset item {name}: mask holds {wrong.flat[0]}, classes are 0 to {classes - 1} and {IGNORE} for unknown"
        )
    return labels.astype(np.uint8)


def _valid(value: Any, size: tuple[int, ...], name: str) -> np.ndarray:  # [H, W]
    valid = _array(value, name)
    if valid.shape not in (size, (1, *size)):
        raise DataError(f"dataset item {name}: valid must be {list(size)} as its image, got {list(valid.shape)}")
    return valid.astype(bool).reshape(size)


def _array(value: Any, name: str) -> np.ndarray:
    array = value.numpy(force=True) if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind not in "iufb":
        raise DataError(f"dataset item {name}: expected numbers, got {_described(value)}")
    return array


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dictionary of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    return type(value).__name__
