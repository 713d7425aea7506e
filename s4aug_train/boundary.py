"""How far pixels of a truth are from its boundaries."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data.palette import IGNORE

# The last px of each bin but the last. None is more than twice the one before: see `_spread`.
LIMITS_PX = (1, 2, 4, 8, 16)
LABELS = ("1", "2", "3-4", "5-8", "9-16", "over 16")
REACH_PX = LIMITS_PX[-1]


def distance_bins(
    labels: Any,  # [H, W] uint8, an array or what is indexed as one
    top: int,
    left: int,
    height: int,
    width: int,
) -> Tensor:  # [height, width] int64
    """The bin of the distance of each pixel of a window to the nearest pixel of another known class.

    Convention:
        Chebyshev distance, px: the larger of the offsets in rows and columns. Pixels that touch another class, by a
        side or a corner, are at 1. Unknown (255) is no class, and beyond the image there is none. Pixels without
        another class within 16 px are in the last bin, those of a truth of one class among them.

    Args:
        labels: Of the whole image; only the window and 16 px around it are read.
        top: Of the window, px, as are the others.
        left: As `top`.
        height: As `top`.
        width: As `top`.

    Returns:
        Numbers of `LABELS`; of no meaning where the truth is unknown.
    """
    rows = slice(max(top - REACH_PX, 0), top + height + REACH_PX)
    columns = slice(max(left - REACH_PX, 0), left + width + REACH_PX)
    known = labels[rows][:, columns]
    block = np.full((height + 2 * REACH_PX, width + 2 * REACH_PX), IGNORE, np.uint8)
    down, right = max(REACH_PX - top, 0), max(REACH_PX - left, 0)
    block[down : down + known.shape[0], right : right + known.shape[1]] = known
    # The least and the largest class around a pixel; unknown is never below, nor 0 above another.
    least = torch.from_numpy(block)
    largest = torch.where(least == IGNORE, 0, least)
    own, reached = _middle(least, REACH_PX), 0
    bins = torch.full((height, width), len(LIMITS_PX))
    for limit in LIMITS_PX:
        least = _spread(least, limit - reached, torch.minimum)
        largest = _spread(largest, limit - reached, torch.maximum)
        reached, around = limit, REACH_PX - limit
        bins -= ((_middle(least, around) < own) | (_middle(largest, around) > own)).long()
    return bins


def _spread(
    values: Tensor,  # [H, W]
    reach: int,
    chosen: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:  # [H - 2 reach, W - 2 reach]
    """A dilation: of values spread by at least `reach` px (or by none, for 1 px), those `reach` px further."""
    for axis in (0, 1):
        size = values.shape[axis] - 2 * reach
        before, here, after = (values.narrow(axis, start, size) for start in (0, reach, 2 * reach))
        values = chosen(chosen(before, after), here)
    return values


def _middle(values: Tensor, margin: int) -> Tensor:
    height, width = values.shape
    return values[margin : height - margin, margin : width - margin]
