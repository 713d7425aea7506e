"""Prediction of whole tiles by a sliding window, a strip of rows at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .data.cache import Tile
from .data.normalization import Normalization
from .model import at_size


@dataclass(frozen=True)
class Windows:
    """How a tile is covered.

    Args:
        side: Of a window, px; a smaller tile is one window.
        stride: From window to window, px.
        batch: Windows per forward.
    """

    side: int = 512
    stride: int = 341
    batch: int = 4


def predict_rows(
    network: nn.Module,
    tile: Tile,
    normalization: Normalization,
    windows: Windows,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Labels of a tile, strip by strip from the top.

    Probabilities of overlapping windows are averaged. No more than the rows under one row of windows is held.

    Args:
        network: Maps [B, bands, H, W] to logits [B, K, H, W], or at a stride; in evaluation mode.
        tile: What to predict.
        normalization: As in training.
        windows: How the tile is covered.
        device: Where the network is.
        autocast: Lower precision of the forward; None for the parameters' own.

    Yields:
        (first row, labels [h, W] uint8), without gap or overlap.
    """
    height = tile.size[0]
    rows = starts(height, windows.side, windows.stride)
    carried: Tensor | None = None  # [K, h, W]: what earlier windows add to the rows from `top` on
    for top, following in zip(rows, [*rows[1:], height], strict=True):
        total = _window_row(network, tile, normalization, windows, top, device, autocast)
        if carried is not None:
            total[:, : carried.shape[1]] += carried
        # Later windows add nothing above `following`. Sums serve as well as means: their argmax is the same.
        done = following - top
        yield top, total[:, :done].argmax(0).to(torch.uint8).cpu().numpy()
        carried = total[:, done:]


def starts(length: int, side: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis; the last window ends at the edge."""
    if length <= side:
        return [0]
    return [*range(0, length - side, stride), length - side]


def _window_row(
    network: nn.Module,
    tile: Tile,
    normalization: Normalization,
    windows: Windows,
    top: int,
    device: torch.device,
    autocast: torch.dtype | None,
) -> Tensor:  # [K, h, W]
    """Probabilities of the windows that begin at one row, summed where they overlap."""
    lefts = starts(tile.size[1], windows.side, windows.stride)
    total: Tensor | None = None
    for first in range(0, len(lefts), windows.batch):
        some = lefts[first : first + windows.batch]
        probabilities = _probabilities(network, tile, normalization, top, some, windows.side, device, autocast)
        if total is None:
            total = probabilities.new_zeros(*probabilities.shape[1:3], tile.size[1])
        for left, part in zip(some, probabilities, strict=True):
            total[:, :, left : left + part.shape[2]] += part
    assert total is not None
    return total


@torch.inference_mode()
def _probabilities(
    network: nn.Module,
    tile: Tile,
    normalization: Normalization,
    top: int,
    lefts: list[int],
    side: int,
    device: torch.device,
    autocast: torch.dtype | None,
) -> Tensor:  # [B, K, h, w]
    cut = [(slice(top, top + side), slice(left, left + side)) for left in lefts]
    images = torch.from_numpy(np.stack([tile.image[:, *window] for window in cut]))
    valid = None if tile.valid is None else torch.from_numpy(np.stack([tile.valid[window] for window in cut])[:, None])
    inputs = normalization.apply(images.to(device), None if valid is None else valid.to(device))
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        logits = network(inputs)
    probabilities: Tensor = at_size(logits.float(), (inputs.shape[-2], inputs.shape[-1])).softmax(1)
    return probabilities
