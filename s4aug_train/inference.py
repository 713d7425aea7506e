"""Prediction of tiles and rasters of any size by windows, a strip of rows at a time."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from .ahead import ahead
from .data.cache import Tile
from .data.raster import Window
from .segmenter import Segmenter
from .tta import Averaging
from .windows import Span, Windows

PANEL_PX = 32768  # columns that are predicted together; wider rasters are cut


class Pixels(Protocol):
    """What is predicted."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in px."""

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels [C, h, w] of a window inside, and which are real, [h, w] bool, or None where all are."""


@dataclass(frozen=True, eq=False)
class TilePixels:
    """Those of a decoded tile."""

    tile: Tile

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in px."""
        return self.tile.size

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """As in `Pixels`."""
        top, left, height, width = window
        rows, columns = slice(top, top + height), slice(left, left + width)
        valid = None if self.tile.valid is None else np.asarray(self.tile.valid[rows, columns])
        return np.asarray(self.tile.image[:, rows, columns]), valid


class Piece(NamedTuple):
    """What was predicted for some rows, as far as they are final."""

    top: int
    left: int
    probabilities: Tensor  # [K, h, w] float32, on the segmenter's device
    valid: np.ndarray | None  # [h, w] bool: which pixels are real; None where all are

    def labels(self) -> Tensor:  # [h, w] uint8
        """The most probable class of each pixel, on the CPU."""
        return self.probabilities.argmax(0).to(torch.uint8).cpu()

    def entropy(self) -> Tensor:  # [h, w] float32
        """Of each pixel's probabilities, as a share of the largest there can be, log K; on the segmenter's device."""
        return torch.special.entr(self.probabilities).sum(0) / math.log(max(len(self.probabilities), 2))


def predict_pieces(
    segmenter: Segmenter, pixels: Pixels, windows: Windows, *, tta: Averaging | None = None
) -> Generator[Piece, None, None]:
    """Probabilities of the classes at each pixel, from the top down.

    Overlapping windows are averaged by their weights. What is held are the probabilities under one row of windows and
    an overlap, at most `PANEL_PX` columns of them, and the pixels of that strip and of the next one.

    Args:
        segmenter: The network, and what it takes.
        pixels: What to predict, of the segmenter's bands.
        windows: How it is covered.
        tta: Views that each window is predicted in besides.

    Yields:
        Pieces without gap or overlap.
    """
    height, width = pixels.size
    rows = windows.spans(height)
    for left in range(0, width, PANEL_PX):
        right = min(left + PANEL_PX, width)
        columns = [span for span in windows.spans(width) if span.start < right and span.stop > left]
        yield from _panel(segmenter, pixels, rows, columns, (left, right), windows.batch, tta)


def _panel(
    segmenter: Segmenter,
    pixels: Pixels,
    rows: list[Span],
    columns: list[Span],
    bounds: tuple[int, int],
    batch: int,
    tta: Averaging | None,
) -> Iterator[Piece]:
    """The pieces of some columns."""
    following = [*(span.start for span in rows[1:]), pixels.size[0]]
    carried: Tensor | None = None  # [K, h, w]: what earlier windows add to the rows from `row.start` on
    for row, end, strip in zip(rows, following, ahead(_strips(pixels, rows, columns)), strict=True):
        total = _window_row(segmenter, strip, row, columns, bounds, batch, tta)
        if carried is not None:
            total[:, : carried.shape[1]] += carried
        # Later windows add nothing above `end`.
        done = end - row.start
        shown = slice(bounds[0] - columns[0].start, bounds[1] - columns[0].start)
        valid = None if strip.valid is None else strip.valid[:done, shown]
        carried = total[:, done:].clone()
        piece = Piece(row.start, bounds[0], total[:, :done], valid)
        # What was handed over must not outlive its use there.
        del total
        yield piece
        del piece


class Strip(NamedTuple):
    """The pixels under one row of windows."""

    image: np.ndarray  # [C, h, w]
    valid: np.ndarray | None  # [h, w] bool

    def is_real(self, left: int, right: int) -> bool:
        """Whether any pixel of some columns is."""
        return self.valid is None or bool(self.valid[:, left:right].any())


def _strips(pixels: Pixels, rows: list[Span], columns: list[Span]) -> Iterator[Strip]:
    """The pixels under each row of windows; each is read once."""
    left, width = columns[0].start, columns[-1].stop - columns[0].start
    image, valid, read = np.empty(0), np.empty(0), 0
    for row in rows:
        new, real = pixels.read((max(read, row.start), left, row.stop - max(read, row.start), width))
        real = np.ones(new.shape[1:], bool) if real is None else real
        kept = read - row.start
        if kept > 0:
            new, real = np.concatenate([image[:, -kept:], new], 1), np.concatenate([valid[-kept:], real])
        image, valid, read = new, real, row.stop
        yield Strip(image, None if valid.all() else valid)


def _window_row(
    segmenter: Segmenter,
    strip: Strip,
    row: Span,
    columns: list[Span],
    bounds: tuple[int, int],
    batch: int,
    tta: Averaging | None,
) -> Tensor:  # [K, h, w]
    """The share of one row of windows in the probabilities."""
    height, (left, right) = row.stop - row.start, bounds
    total = torch.zeros(len(segmenter.classes.names), height, right - left, device=segmenter.device)
    down = torch.from_numpy(row.weight).to(segmenter.device)[:, None]
    start = columns[0].start
    # No window without a real pixel has a say in one.
    seen = [span for span in columns if strip.is_real(span.start - start, span.stop - start)]
    for some in _batches(seen, batch):
        probabilities = _probabilities(segmenter, strip, row.start, start, some, tta)
        for span, part in zip(some, probabilities, strict=True):
            first, last = max(span.start, left), min(span.stop, right)
            inside = slice(first - span.start, last - span.start)
            across = torch.from_numpy(span.weight[inside]).to(segmenter.device)
            total[:, :, first - left : last - left] += part[..., inside] * (down * across)
    return total


def _batches(columns: list[Span], batch: int) -> Iterator[list[Span]]:
    """Up to so many windows of one width at a time."""
    some: list[Span] = []
    for span in columns:
        if some and (len(some) == batch or span.stop - span.start != some[0].stop - some[0].start):
            yield some
            some = []
        some.append(span)
    if some:
        yield some


def _probabilities(
    segmenter: Segmenter, strip: Strip, top: int, left: int, some: list[Span], tta: Averaging | None
) -> Tensor:  # [B, K, h, w]
    cut = [slice(span.start - left, span.stop - left) for span in some]
    images = torch.from_numpy(np.stack([strip.image[..., columns] for columns in cut]))
    valid = None
    if strip.valid is not None:
        valid = torch.from_numpy(np.stack([strip.valid[None, :, columns] for columns in cut]))
    inputs = segmenter.inputs(images, valid)
    if tta is None:
        return segmenter.probabilities(inputs)
    # By the place alone, so that a window is seen the same however it is batched.
    seeds = torch.tensor([(top << 31) + span.start for span in some])
    return tta.probabilities(segmenter, inputs, valid, seeds)
